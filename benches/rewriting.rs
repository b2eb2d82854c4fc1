//! Goal: how long the log of a page store is, by how much is written again in the background, and what that costs.
//! Method: a file of 64 MiB is written page by page, and then overwritten in pages of 4 KiB at random, through a recorded
//! file system in memory, into a journal that discards. For the curve, the same thread takes a step of the rewriter after
//! every 64 pages, so that nothing depends on the machine. Over the second half of the load hints are taken 32 times: what
//! they name is what a recovery reads, and the fragments of 4 MiB of which they name a byte are the log that is kept. Both
//! are shown in times of 64 MiB, beside the theory of cleaning at the oldest end: the share c of cleaning in all writes
//! solves c = exp(-(1 - c) log / live). For the time, another thread takes the steps, as that of a primary does, the
//! journal answers from a third, and loads with and without rewriting take turns. Nothing here makes a system call but for
//! memory and threads.
//!
//! `cargo bench --bench rewriting [-- MIB]`: written to the file for each point of the curve, 10240 where none is said.

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a bench")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the real clock, and starts threads")]

#[path = "shared/discard.rs"]
mod discard;
#[path = "shared/figure.rs"]
mod figure;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use recoverylog::journal::Journal;
use recoverylog::recorded_fs::{RecordedFile, RecordedFsOptions};
use recoverylog::tracker::{RewriteOptions, Rewriter};
use recoverylog::vfs::{File, MemoryFs, OpenMode};
use recoverylog::{Author, Deadline, Fsm, Offset, RecordedFs, Recorder, RecorderOptions};

use self::discard::{Discard, name};
use self::figure::figure;

const PAGE: u64 = 4096;
const PAGES: u64 = (64 << 20) / PAGE;
const FRAGMENT: u64 = 4 << 20;
const ROUNDS: usize = 7;

fn main() {
    let mib = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(10_240);
    let pages = mib << 20 >> 12;
    println!("64 MiB in pages of 4 KiB, {mib} MiB of them written at random; in times of 64 MiB:");
    for percent in [2, 5, 10, 20, 50] {
        curve(percent, pages);
    }
    foreground(pages / 10);
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(600))
}

/// A page store.
struct Store {
    fs: Arc<RecordedFs<MemoryFs>>,
    file: Arc<RecordedFile>,
    random: u64,
    page: Vec<u8>,
}

impl Store {
    fn new(journal: Arc<dyn Journal>) -> Self {
        let (fs, author) = (MemoryFs::new(), Author::new(7).unwrap());
        let options = RecorderOptions::default();
        let recorder = Recorder::new(journal, Fsm::new(name()), Offset::ZERO, author, options).unwrap();
        let fs = RecordedFs::new(fs, Path::new("/"), recorder, RecordedFsOptions::default());
        let file = fs.open_recorded(Path::new("/pages"), OpenMode::CreateNew).unwrap();
        let store = Self { fs: Arc::new(fs), file, random: 0x5eed, page: vec![7; PAGE as usize] };
        (0..PAGES).for_each(|page| store.write(page));
        store
    }

    fn write(&self, page: u64) {
        self.file.write_all_at(&self.page, page * PAGE).unwrap();
    }

    fn overwrite(&mut self) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.write(self.random % PAGES);
    }

    /// Returns the bytes that a recovery reads, and those of the fragments that it needs.
    fn needed(&self) -> (u64, u64) {
        let hints = self.fs.recorder().take_hints().unwrap().wait(soon()).unwrap();
        let (mut read, mut fragments) = (0, BTreeSet::new());
        for segment in hints.flatten().unwrap().segments.as_slice() {
            let (begin, end) = (segment.first_offset.get(), segment.end_offset.unwrap().get());
            read += end - begin;
            fragments.extend(begin / FRAGMENT..=(end - 1) / FRAGMENT);
        }
        // The last one has not been written to its end.
        let begin = fragments.last().map_or(0, |last| last * FRAGMENT);
        let at_head = hints.as_of.map_or(0, |as_of| as_of.offset.get() - begin);
        (read, (fragments.len() as u64 - 1) * FRAGMENT + at_head)
    }
}

fn rewriter(percent: u32) -> Rewriter {
    Rewriter::new(RewriteOptions { percent, window_bytes: FRAGMENT })
}

fn curve(percent: u32, pages: u64) {
    let (mut store, mut rewriter) = (Store::new(Discard::at_once()), rewriter(percent));
    let recorded = |store: &Store| store.fs.recorder().counters().bytes_recorded;
    let (mut reads, mut kept, mut begun) = (Vec::new(), Vec::new(), (0, 0));
    for index in 0..pages {
        store.overwrite();
        if index % 64 == 0 {
            while rewriter.step(store.fs.tracker()).unwrap() > 0 {}
        }
        if index == pages / 2 {
            begun = (recorded(&store), rewriter.rewritten_bytes());
        }
        if index > pages / 2 && index % (pages / 64).max(1) == 0 {
            let (read, fragments) = store.needed();
            reads.push(read as f64 / (PAGES * PAGE) as f64);
            kept.push(fragments as f64 / (PAGES * PAGE) as f64);
        }
    }
    let own = rewriter.rewritten_bytes() - begun.1;
    let extra = own as f64 / (recorded(&store) - begun.0 - own) as f64;
    let share = extra / (1.0 + extra);
    let theory = -share.ln() / (1.0 - share);
    let target = if percent == 10 { ", target 2.8" } else { "" };
    println!(
        "  knob {percent:>2}%: {:.1}% written again; recovery reads {}, log kept {}{target}; theory {theory:.2}",
        extra * 100.0,
        figure(&reads, 2),
        figure(&kept, 2)
    );
}

fn foreground(pages: u64) {
    let (mut rates, mut extra) = ([Vec::new(), Vec::new()], Vec::new());
    for round in 0..ROUNDS {
        for turn in [round % 2, (round + 1) % 2] {
            let (mut store, mut rewriter) =
                (Store::new(Discard::later()), rewriter(if turn == 0 { 10 } else { 0 }));
            let (stop, fs) = (AtomicBool::new(false), Arc::clone(&store.fs));
            let rate = std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        if rewriter.step(fs.tracker()).unwrap() == 0 {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    }
                });
                let begin = Instant::now();
                (0..pages).for_each(|_| store.overwrite());
                let rate = pages as f64 / 1e3 / begin.elapsed().as_secs_f64();
                stop.store(true, Ordering::Relaxed);
                rate
            });
            rates[turn].push(rate);
            if turn == 0 {
                let recorded = fs.recorder().counters().bytes_recorded;
                let own = rewriter.rewritten_bytes();
                extra.push(own as f64 / (recorded - own) as f64 * 100.0);
            }
        }
    }
    let ratios: Vec<_> = rates[0].iter().zip(&rates[1]).map(|(on, off)| on / off).collect();
    println!(
        "overwriting beside a thread that writes {}% again: {} of the rate without, target 0.85; {} thousand pages/s, \
         without {}",
        figure(&extra, 1),
        figure(&ratios, 3),
        figure(&rates[0], 0),
        figure(&rates[1], 0)
    );
}
