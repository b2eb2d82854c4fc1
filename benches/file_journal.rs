//! Speed of the file journal against the same system calls without it.
//!
//! Each figure is the median of several blocks, each block of the journal next to one of its baseline, so that both
//! meet the same neighbours; the spread is the smallest and the largest block. `cargo bench --bench file_journal
//! [-- DIRECTORY]`; the directory must lie on the disk that is meant.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a bench prints what it measured, by the real clock, and stops at the first surprise"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use recoverylog::journal::{Append, FileJournals, Journal, Journals};
use recoverylog::vfs::{File, FileSystem, OpenMode, OsFs};
use recoverylog::{Author, Deadline, Fsm, JournalName, LogPath, Offset, Recorder, RecorderOptions};

const BLOCKS: usize = 9;
const THREADS: usize = 16;

fn main() {
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let folder = folder.map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(folder).unwrap();
    groups(folder.path(), 64 << 10, 200);
    groups(folder.path(), 1 << 20, 24);
    lone(folder.path());
    threads(folder.path());
}

fn journal(folder: &Path, name: &str) -> Arc<dyn Journal> {
    FileJournals::open(folder.join("journals")).unwrap().open(&JournalName::new(name).unwrap()).unwrap()
}

fn append(journal: &dyn Journal, content: &Bytes) {
    journal.append(Append::new(content.clone()), Deadline::after(Duration::from_secs(60))).unwrap();
}

fn raw_file(folder: &Path, name: &str) -> Arc<dyn File> {
    let fs = OsFs::new();
    let file = fs.open(&folder.join(name), OpenMode::Truncate).unwrap();
    fs.sync_dir(folder).unwrap();
    file
}

fn noise(bytes: usize) -> Bytes {
    (0..bytes).map(|at| (at * 31 % 251) as u8).collect::<Vec<_>>().into()
}

/// Runs blocks of both in turn; returns the seconds of each.
fn blocks(mut ours: impl FnMut(), mut baseline: impl FnMut()) -> (Vec<f64>, Vec<f64>) {
    let time = |work: &mut dyn FnMut()| {
        let started = Instant::now();
        work();
        started.elapsed().as_secs_f64()
    };
    // The first block of each is for warming up.
    time(&mut ours);
    time(&mut baseline);
    (0..BLOCKS).map(|_| (time(&mut ours), time(&mut baseline))).unzip()
}

/// Returns the smallest, the middle and the largest.
fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [values.first(), values.get(values.len() / 2), values.last()].map(|value| *value.unwrap())
}

fn ratios(ours: &[f64], baseline: &[f64]) -> [f64; 3] {
    spread(ours.iter().zip(baseline).map(|(ours, baseline)| ours / baseline).collect())
}

/// Appends that are waited for, one after the other.
fn groups(folder: &Path, bytes: usize, count: usize) {
    let content = noise(bytes);
    let journal = journal(folder, &format!("bench/groups-{bytes}"));
    let raw = raw_file(folder, "raw");
    let mut at = 0;
    let (ours, baseline) = blocks(
        || (0..count).for_each(|_| append(&*journal, &content)),
        || {
            for _ in 0..count {
                raw.write_all_at(&content, at).unwrap();
                raw.sync_data().unwrap();
                at += bytes as u64;
            }
        },
    );
    let megabytes =
        |seconds: Vec<f64>| spread(seconds.iter().map(|s| (bytes * count) as f64 / s / 1e6).collect());
    // Of throughput, so the other way round.
    let [low, middle, high] = ratios(&baseline, &ours);
    let [ours, baseline] = [megabytes(ours), megabytes(baseline)];
    println!(
        "groups of {:>4} KiB  journal {:.0} MB/s ({:.0} to {:.0}); pwrite + fdatasync of a growing file {:.0} MB/s \
         ({:.0} to {:.0}); {middle:.2} of it ({low:.2} to {high:.2}); target 0.85",
        bytes >> 10,
        ours[1],
        ours[0],
        ours[2],
        baseline[1],
        baseline[0],
        baseline[2],
    );
}

/// Appends of 100 bytes, each waited for.
fn lone(folder: &Path) {
    const COUNT: u64 = 300;
    let (small, page) = (noise(100), noise(4096));
    let journal = journal(folder, "bench/lone");
    let raw = raw_file(folder, "overwritten");
    raw.write_all_at(&vec![0; 4 << 20], 0).unwrap();
    raw.sync_all().unwrap();
    let (ours, baseline) = blocks(
        || (0..COUNT).for_each(|_| append(&*journal, &small)),
        || {
            for index in 0..COUNT {
                raw.write_all_at(&page, index * 4096).unwrap();
                raw.sync_data().unwrap();
            }
        },
    );
    let micros = |seconds: Vec<f64>| spread(seconds.iter().map(|s| s / COUNT as f64 * 1e6).collect());
    let [low, middle, high] = ratios(&ours, &baseline);
    let [ours, baseline] = [micros(ours), micros(baseline)];
    println!(
        "lone append of 100 B journal {:.0} us ({:.0} to {:.0}); 4 KiB pwrite over written blocks + fdatasync {:.0} us \
         ({:.0} to {:.0}); {middle:.2} times ({low:.2} to {high:.2}); target 1.5",
        ours[1], ours[0], ours[2], baseline[1], baseline[0], baseline[2],
    );
}

/// Threads that each wait for their own append, against one that does: straight to the journal, and through a
/// recorder.
fn threads(folder: &Path) {
    let content = noise(100);
    let journal = journal(folder, "bench/threads");
    many_against_one("appends", |_| append(&*journal, &content));

    let name = JournalName::new("bench/recorded").unwrap();
    let journal = FileJournals::open(folder.join("journals")).unwrap().open(&name).unwrap();
    let author = Author::new(7).unwrap();
    let fsm = Fsm::new(name);
    let recorder = Recorder::new(journal, fsm, Offset::ZERO, author, RecorderOptions::default()).unwrap();
    let create =
        |thread: usize| recorder.create(&LogPath::from_bytes(format!("/{thread}").as_bytes())).unwrap();
    let fnodes: Vec<_> = (0..THREADS).map(create).collect();
    many_against_one("writes recorded", |thread| {
        recorder.write(fnodes[thread], 0, &content).unwrap();
        recorder.barrier().unwrap().wait(Deadline::after(Duration::from_secs(60))).unwrap();
    });
}

fn many_against_one(what: &str, work: impl Fn(usize) + Sync) {
    const COUNT: usize = 200;
    let each = |thread| (0..COUNT).for_each(|_| work(thread));
    let (many, one) = blocks(
        || {
            std::thread::scope(|scope| {
                (0..THREADS).for_each(|thread| drop(scope.spawn(move || each(thread))));
            });
        },
        || each(0),
    );
    let rate = |seconds: &[f64], threads: usize| {
        spread(seconds.iter().map(|s| (threads * COUNT) as f64 / s).collect())
    };
    let (many_rate, one_rate) = (rate(&many, THREADS), rate(&one, 1));
    let [low, middle, high] = ratios(&one, &many).map(|ratio| ratio * THREADS as f64);
    println!(
        "16 waiting threads   {:.0} {what}/s ({:.0} to {:.0}); one thread {:.0}/s ({:.0} to {:.0}); {middle:.1} times \
         ({low:.1} to {high:.1}); target 8",
        many_rate[1], many_rate[0], many_rate[2], one_rate[1], one_rate[0], one_rate[2],
    );
}
