//! A recorded directory, its log, and what is made of it.
//!
//! *Invariants.* Whatever is looked at is at rest: nothing of it is on its way to the journal.
//!
//! *Does not* choose the load.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use recoverylog::engine::rocksdb::{RocksdbEnv, RocksdbOptions};
use recoverylog::hint_store::{Candidate, HintStore};
use recoverylog::journal::{Fragment, Journal, Journals as _, MemoryJournals};
use recoverylog::player::{PlayOptions, Player};
use recoverylog::prune::{Pruner, Source};
use recoverylog::recorded_fs::RecordedFsOptions;
use recoverylog::scan::{Found, LogScan, ScanOptions};
use recoverylog::tracker::{RewriteOptions, Rewriter};
use recoverylog::vfs::OsFs;
use recoverylog::{
    Author, Deadline, Fsm, FsmHints, JournalName, Offset, RecordedFs, Recorder, RecorderOptions, Result,
};
use rocksdb::{DB, WaitForCompactOptions};

use crate::counted::Counted;
use crate::reference::Reference;
use crate::{FRAGMENT_BYTES, Needs, Sample};

/// Keeps the newest set.
#[derive(Debug, Default)]
struct Newest(Mutex<Option<FsmHints>>);

impl HintStore for Newest {
    fn candidates(&self, _log: &JournalName, _deadline: Deadline) -> Result<Vec<Candidate>> {
        let set = self.0.lock().expect("a lock").clone();
        Ok(set.map(|set| Candidate::new("the newest", Ok(set))).into_iter().collect())
    }

    fn store(&self, hints: &FsmHints, _deadline: Deadline) -> Result<()> {
        *self.0.lock().expect("a lock") = Some(hints.clone());
        Ok(())
    }
}

pub(crate) struct Shard {
    pub(crate) root: PathBuf,
    pub(crate) env: RocksdbEnv,
    journals: Arc<Counted>,
    journal: Arc<dyn Journal>,
    rewriter: Rewriter,
    store: Arc<Newest>,
    pruner: Pruner,
    reference: Reference,
    /// The operations before this were given to `reference`.
    taken: Offset,
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(600))
}

impl Shard {
    pub(crate) fn begin(place: &Path) -> Self {
        let log = JournalName::new("bench/history").expect("a name");
        let mut journals = Counted::default();
        journals.journals = MemoryJournals::new().fragment_bytes(FRAGMENT_BYTES);
        let journals = Arc::new(journals);
        let journal = journals.journals.open(&log).expect("a journal");
        let options = RecorderOptions::default().send_bytes_min(64 << 10);
        let author = Author::new(7).expect("an author");
        let recorder =
            Recorder::new(Arc::clone(&journal), Fsm::new(log.clone()), Offset::ZERO, author, options);
        let root = place.join("recorded");
        fs::create_dir(&root).expect("creating a directory");
        let options = RecordedFsOptions::default();
        let recorded = RecordedFs::new(OsFs::new(), &root, recorder.expect("a recorder"), options);
        let env = RocksdbEnv::new(&recorded, RocksdbOptions::default()).expect("an environment");
        let store = Arc::new(Newest::default());
        let source = Source::recovery("bench", Arc::clone(&store) as _);
        let pruner = Pruner::new(Arc::clone(&journals) as _, log.clone()).source(source);
        let options = RewriteOptions { window_bytes: FRAGMENT_BYTES, ..RewriteOptions::default() };
        let (rewriter, reference) = (Rewriter::new(options), Reference::new(log));
        Self { root, env, journals, journal, rewriter, store, pruner, reference, taken: Offset::ZERO }
    }

    /// Lets RocksDB finish what it has begun, and then the rewriter.
    pub(crate) fn rest(&mut self, db: &DB) {
        db.wait_for_compact(&WaitForCompactOptions::default()).expect("compactions");
        self.take(Reference::take);

        let recorder = self.env.recorder();
        let (recorded, rewritten) = (recorder.counters().bytes_recorded, self.rewriter.rewritten_bytes());
        while self.rewriter.step(self.env.tracker()).expect("a step") > 0 {}
        let recorded = recorder.counters().bytes_recorded - recorded;
        let rewritten = self.rewriter.rewritten_bytes() - rewritten;
        assert_eq!(recorded, rewritten, "RocksDB recorded something while it was at rest");
        self.take(Reference::leave_out);
    }

    /// Gives the operations that were recorded since the last time.
    fn take(&mut self, give: impl Fn(&mut Reference, recoverylog::RecordedOp)) {
        self.env.recorder().barrier().expect("a barrier").wait(soon()).expect("durable");
        let mut options = ScanOptions::default();
        (options.begin, options.check_payloads) = (self.taken, false);
        let mut scan = LogScan::open(Arc::clone(&self.journal), options).expect("a scan");
        for found in scan.by_ref() {
            match found.expect("a journal") {
                Found::Op(found) => give(&mut self.reference, found.op),
                other => panic!("the log holds {other:?}"),
            }
        }
        self.taken = scan.head();
    }

    /// Takes hints in the place of those before, and removes what nobody needs by them.
    pub(crate) fn prune(&self) -> FsmHints {
        let hints = self.env.recorder().take_hints().expect("hints").wait(soon()).expect("hints");
        self.store.store(&hints, soon()).expect("stored hints");
        let survey = self.pruner.survey(soon()).expect("a survey");
        self.pruner.remove(&survey, &mut |_| Ok(()), soon()).expect("a prune");
        hints
    }

    /// Looks at the log that was pruned by `hints`.
    pub(crate) fn sample(&self, hints: &FsmHints, overwritten: f64) -> Sample {
        let fragments = self.journal.fragments(soon()).expect("fragments");
        let ours = Needs {
            read: self.player(hints, &self.root.join("nowhere")).plan().bytes(),
            kept: fragments.iter().map(Fragment::content_bytes).sum(),
        };
        let reference = self.reference.needs(FRAGMENT_BYTES);
        let live =
            files(&self.root).into_values().map(|path| fs::metadata(path).expect("a file").len()).sum();
        let (recorded, rewritten) = (self.reference.log_bytes(), self.rewriter.rewritten_bytes());
        Sample { overwritten, live, ours, reference, recorded, rewritten }
    }

    fn player(&self, hints: &FsmHints, target: &Path) -> Player {
        let options = PlayOptions { sync: false, ..PlayOptions::default() };
        Player::new(&*self.journals, hints, Arc::new(OsFs::new()), target, options).expect("a player")
    }

    /// Restores the directory, and compares it; returns how many files there are, and the bytes that were read.
    pub(crate) fn restore(&self, hints: &FsmHints, target: &Path) -> (usize, u64) {
        self.journals.take_read();
        let played = self.player(hints, target).restore().expect("a play");
        assert!(played.warnings.is_empty(), "{:?}", played.warnings);
        let read = self.journals.take_read();
        let (recorded, played) = (files(&self.root), files(target));
        assert!(recorded.keys().eq(played.keys()), "other files were restored than recorded");
        for (name, path) in &recorded {
            let same = fs::read(path).expect("a file") == fs::read(&played[name]).expect("a file");
            assert!(same, "{} was restored differently", name.display());
        }
        (recorded.len(), read)
    }
}

/// Returns the files below `root` that are recorded, by their names there.
fn files(root: &Path) -> BTreeMap<PathBuf, PathBuf> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name != "LOCK" && !name.starts_with("LOG") {
                files.insert(path.strip_prefix(root).expect("a path below").to_owned(), path);
            }
        }
    }
    files
}
