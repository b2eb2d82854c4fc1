//! How fast operations are recorded, into a journal that discards them.
//!
//! Each figure is the median of its rounds, with the least and the greatest, and its ratio to a baseline that
//! does the least the recorder must: one CRC-32C and one copy of the bytes into a buffer. Neither makes a system
//! call. `eager` sends a batch whenever the journal is idle, which this journal always is: every operation is an
//! append of its own. `64 KiB` holds batches back until then. `later` is a journal that answers from a thread of
//! its own, as those do that wait for a disk.
//!
//! Run with `cargo bench --bench recorder`.

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a benchmark")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

#[path = "shared/discard.rs"]
mod discard;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use recoverylog::{Author, Deadline, Fsm, LogPath, Offset, Recorder, RecorderOptions};

use self::discard::{Discard, name};

const ROUNDS: usize = 9;

#[derive(Clone, Copy)]
struct Load {
    threads: usize,
    write_bytes: usize,
    writes: usize,
}

/// Records; returns seconds until everything is durable.
fn record(load: Load, journal: Arc<Discard>, send_bytes_min: usize) -> f64 {
    let options = RecorderOptions::default().send_bytes_min(send_bytes_min);
    let author = Author::new(7).unwrap();
    let recorder = Recorder::new(journal, Fsm::new(name()), Offset::ZERO, author, options).unwrap();
    let bytes = vec![7; load.write_bytes];
    let fnodes = (0..load.threads)
        .map(|thread| recorder.create(&LogPath::from_bytes(format!("/{thread}").as_bytes())).unwrap())
        .collect::<Vec<_>>();
    // The first batches find their buffers cold.
    recorder.write(fnodes[0], 0, &vec![7; 4 << 20]).unwrap();
    wait(&recorder);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for fnode in fnodes {
            let (recorder, bytes) = (&recorder, &bytes);
            scope.spawn(move || {
                for index in 0..load.writes / load.threads {
                    recorder.write(fnode, (index * bytes.len()) as u64, black_box(bytes)).unwrap();
                }
            });
        }
    });
    wait(&recorder);
    begin.elapsed().as_secs_f64()
}

fn wait(recorder: &Recorder) {
    recorder.barrier().unwrap().wait(Deadline::after(Duration::from_secs(60))).unwrap();
}

/// Checks and copies the same bytes into a buffer of 1 MiB, over and over.
fn copy(load: Load) -> f64 {
    let bytes = vec![7; load.write_bytes];
    let mut buffer: Vec<u8> = Vec::with_capacity(1 << 20);
    let begin = Instant::now();
    for _ in 0..load.writes {
        if buffer.len() + bytes.len() > 1 << 20 {
            buffer.clear();
        }
        black_box(crc32c::crc32c(black_box(&bytes)));
        buffer.extend_from_slice(&bytes);
        black_box(&mut buffer);
    }
    begin.elapsed().as_secs_f64()
}

fn report(what: &str, load: Load, baseline: f64, run: impl Fn() -> f64) -> f64 {
    let mut seconds = (0..ROUNDS).map(|_| run()).collect::<Vec<_>>();
    seconds.sort_by(f64::total_cmp);
    let (unit, scale) = if load.write_bytes >= 4096 {
        ("GB/s", (load.writes * load.write_bytes) as f64 / 1e9)
    } else {
        ("M ops/s", load.writes as f64 / 1e6)
    };
    let rate = |index: usize| scale / seconds[index];
    let median = rate(ROUNDS / 2);
    let ratio = if baseline > 0.0 { format!("{:6.2}", median / baseline) } else { "  base".into() };
    println!("{what:<44} {median:8.2} {unit:<8} {:8.2} .. {:<8.2} {ratio}", rate(ROUNDS - 1), rate(0));
    median
}

/// Runs the figures whose name holds the first argument, or all.
fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let is_wanted = |what: &str| wanted.as_ref().is_none_or(|wanted| what.contains(wanted.as_str()));
    println!("{:<44} {:>8} {:<8} {:>8} .. {:<8} ratio", "recording", "median", "", "least", "most");
    let loads = [(1, 65536, 16_000, "64 KiB"), (1, 100, 1_000_000, "100 B"), (4, 100, 1_000_000, "100 B")];
    for (threads, write_bytes, writes, size) in loads {
        let load = Load { threads, write_bytes, writes };
        let of = format!("{size} writes, {threads} thread{}", if threads > 1 { "s" } else { "" });
        let base = report(&format!("{size} writes, CRC-32C + copy, 1 thread"), load, 0.0, || copy(load));
        let ways = [
            ("eager", Discard::at_once as fn() -> Arc<Discard>, 1),
            ("from 64 KiB on", Discard::at_once, 65536),
            ("journal answers later", Discard::later, 1),
        ];
        for (way, make, send_bytes_min) in ways {
            let what = format!("{of}, {way}");
            if is_wanted(&what) {
                report(&what, load, base, || record(load, make(), send_bytes_min));
            }
        }
    }
}
