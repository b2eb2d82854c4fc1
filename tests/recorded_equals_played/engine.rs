//! An engine that does anything a program may do to its files.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use recoverylog::journal::FaultyJournal;
use recoverylog::recorded_fs::RecordedFile;
use recoverylog::recorder::PendingHints;
use recoverylog::vfs::{FaultyFs, File, FileSystem, MemoryFs, OpenMode};
use recoverylog::{Deadline, ErrorKind, FsmHints, RecordedFs};

const NAMES: [&str; 8] = ["a", "b", "c", "d/a", "d/b", "d/e/a", "LOG", "d/LOG.old"];
const DIRS: [&str; 3] = ["d", "d/e", "f"];

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }
}

/// How often things came up.
#[derive(Default)]
pub(crate) struct Counts {
    ops: BTreeMap<&'static str, u64>,
    faults: BTreeMap<String, u64>,
    local: BTreeMap<String, u64>,
    pub(crate) durable_terms: u64,
    pub(crate) failed_terms: u64,
}

impl Counts {
    fn op(&mut self, name: &'static str) {
        *self.ops.entry(name).or_default() += 1;
    }

    pub(crate) fn fault(&mut self, name: &str, times: u64) {
        *self.faults.entry(name.to_owned()).or_default() += times;
    }

    pub(crate) fn local(&mut self, name: &str, times: u64) {
        if times > 0 {
            *self.local.entry(name.to_owned()).or_default() += times;
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (name, times) in other.ops {
            *self.ops.entry(name).or_default() += times;
        }
        for (name, times) in other.faults {
            self.fault(&name, times);
        }
        for (name, times) in other.local {
            self.local(&name, times);
        }
        self.durable_terms += other.durable_terms;
        self.failed_terms += other.failed_terms;
    }

    pub(crate) fn kinds(&self) -> [(&'static str, BTreeMap<String, u64>); 2] {
        let ops = self.ops.iter().map(|(name, times)| ((*name).to_owned(), *times)).collect();
        [("operations", ops), ("faults of the journal", self.faults.clone())]
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "terms: {} durable, {} failed", self.durable_terms, self.failed_terms)?;
        for (kind, counts) in self.kinds().into_iter().chain([("faults of the disk", self.local.clone())]) {
            let all: u64 = counts.values().sum();
            writeln!(f, "{kind}: {all}")?;
            for (name, times) in counts {
                writeln!(f, "  {times:>8} {:5.1}%  {name}", times as f64 * 100.0 / all as f64)?;
            }
        }
        Ok(())
    }
}

/// One thread of an engine.
pub(crate) struct Engine<'a> {
    fs: &'a RecordedFs<FaultyFs<MemoryFs>>,
    journal: &'a FaultyJournal,
    random: Random,
    handles: Vec<Arc<RecordedFile>>,
    hints: Vec<PendingHints>,
    counts: Counts,
}

impl<'a> Engine<'a> {
    pub(crate) fn new(
        fs: &'a RecordedFs<FaultyFs<MemoryFs>>,
        journal: &'a FaultyJournal,
        random: Random,
    ) -> Self {
        Self { fs, journal, random, handles: Vec::new(), hints: Vec::new(), counts: Counts::default() }
    }

    /// Does `steps` operations; each succeeds or fails as it may.
    pub(crate) fn run(&mut self, steps: u64) {
        for dir in DIRS {
            drop(self.fs.create_dir(&Path::new("/db").join(dir)));
        }
        for _ in 0..steps {
            let (name, outcome) = match self.random.below(24) {
                0..=6 => self.open(),
                7..=13 => self.write(),
                14..=20 => self.name(),
                21..=22 => self.directory(),
                _ => self.wait(),
            };
            self.counts.op(name);
            drop(outcome);
        }
    }

    /// Returns what came up, and the newest hints that became durable.
    pub(crate) fn finish(self) -> (Counts, Option<FsmHints>) {
        let Self { hints, counts, fs, journal, .. } = self;
        settle(fs, journal);
        let taken = hints.into_iter().filter_map(|mut hints| hints.wait(Deadline::passed()).ok());
        (counts, taken.last())
    }

    fn path(&mut self) -> PathBuf {
        let name = self.random.pick(&NAMES);
        let root = Path::new("/db");
        if self.random.below(8) == 0 { root.join("f").join(name) } else { root.join(name) }
    }

    fn open(&mut self) -> (&'static str, io::Result<()>) {
        let path = self.path();
        let (name, mode) = match self.random.below(5) {
            0 => ("create new", OpenMode::CreateNew),
            1 => ("open", OpenMode::ReadWrite),
            2 => ("truncate on open", OpenMode::Truncate),
            _ => ("create", OpenMode::Create),
        };
        let opened = self.fs.open_recorded(&path, mode);
        if self.handles.len() > 6 {
            self.handles.swap_remove(0);
        }
        (name, opened.map(|file| self.handles.push(file)))
    }

    fn write(&mut self) -> (&'static str, io::Result<()>) {
        let count = self.handles.len().max(1) as u64;
        let Some(file) = self.handles.get(self.random.below(count) as usize).cloned() else {
            return self.open();
        };
        let bytes = vec![self.random.next() as u8; self.random.below(300) as usize];
        let offset = self.random.below(500);
        let unlinked = file.metadata().is_ok_and(|metadata| metadata.links == 0);
        match self.random.below(8) {
            _ if unlinked => ("write to an unlinked file", file.write_all_at(&bytes, offset)),
            0..=2 => ("write", file.write_all_at(&bytes, offset)),
            3..=4 => ("append", file.append(&bytes).map(drop)),
            5..=6 => {
                let grows = file.metadata().is_ok_and(|metadata| metadata.len <= offset);
                (if grows { "grow" } else { "cut" }, file.set_len(offset))
            }
            _ => ("reserve space", file.allocate(offset, 100)),
        }
    }

    fn name(&mut self) -> (&'static str, io::Result<()>) {
        let (from, to) = (self.path(), self.path());
        match self.random.below(6) {
            0 => ("remove", self.fs.remove_file(&from)),
            1 => ("hard link", self.fs.hard_link(&from, &to)),
            2 => ("rename without replacing", self.fs.rename_no_replace(&from, &to)),
            3 => ("rename onto itself", self.fs.rename(&from, &from)),
            4 => {
                let held = self.fs.open_recorded(&to, OpenMode::ReadWrite);
                let renamed = self.fs.rename(&from, &to);
                self.handles.extend(held.ok());
                ("rename over an open file", renamed)
            }
            _ => ("rename", self.fs.rename(&from, &to)),
        }
    }

    fn directory(&mut self) -> (&'static str, io::Result<()>) {
        let root = Path::new("/db");
        let (from, to) = (root.join(self.random.pick(&DIRS)), root.join(self.random.pick(&DIRS)));
        match self.random.below(3) {
            0 => ("remove a directory with all in it", self.fs.remove_dir_all(&from)),
            _ => ("rename a directory", self.fs.rename(&from, &to.join("d"))),
        }
    }

    fn wait(&mut self) -> (&'static str, io::Result<()>) {
        if self.random.below(2) == 0 {
            settle(self.fs, self.journal);
            return ("barrier", Ok(()));
        }
        self.hints.extend(self.fs.recorder().take_hints().ok());
        ("take hints", Ok(()))
    }
}

/// Waits until everything recorded is durable, or the recorder has failed; returns which.
///
/// The journal holds some answers back: they are released while this waits.
pub(crate) fn settle(fs: &RecordedFs<FaultyFs<MemoryFs>>, journal: &FaultyJournal) -> bool {
    let last = Deadline::after(Duration::from_secs(30));
    let Ok(mut barrier) = fs.recorder().barrier() else { return false };
    loop {
        journal.release_answers();
        match barrier.wait(Deadline::after(Duration::from_millis(2))) {
            Ok(_) => return true,
            Err(_) if fs.recorder().failure().is_some() => return false,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable);
                assert!(!last.has_passed(), "neither durable nor failed");
            }
        }
    }
}
