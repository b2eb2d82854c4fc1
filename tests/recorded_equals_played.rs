//! Goal: the tree that is played is the tree that was recorded, whatever happened in between.
//!
//! Method: operations drawn at random, from several threads, on a recorded directory whose local disk and whose
//! journal fail at random; then the role is handed over, and the next author goes on from what was played. After
//! each term the log is played from its first byte and from the hints that were taken last, and compared with the
//! directory that the writer worked on; a writer that lost its role must not get anything in. One seed makes a
//! case, but for the interleaving of its threads. How often each operation and each fault came up is printed; in a
//! long run each must be at least one in a hundred of its kind. `RECOVERYLOG_CASES` sets the number of cases.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

#[path = "recorded_equals_played/engine.rs"]
mod engine;
#[path = "recorded_equals_played/tree.rs"]
mod tree;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use recoverylog::journal::{FaultyJournals, Journals, MemoryJournals};
use recoverylog::player::{PlayOptions, Played, Player};
use recoverylog::recorded_fs::RecordedFsOptions;
use recoverylog::vfs::{FaultPlan, FaultyFs, FileSystem, MemoryFs};
use recoverylog::{
    Author, Deadline, ErrorKind, Fsm, FsmHints, JournalName, Offset, RecordedFs, Recorder, RecorderOptions,
};

use self::engine::{Counts, Engine, Random};
use self::tree::{Tree, tree_of};

const ROOT: &str = "/db";

fn log() -> JournalName {
    JournalName::new("test/recorded").unwrap()
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

/// One writer and its directory.
struct Term {
    disk: MemoryFs,
    fs: RecordedFs<FaultyFs<MemoryFs>>,
}

struct Case {
    seed: u64,
    random: Random,
    journals: FaultyJournals,
    hints: FsmHints,
    counts: Counts,
}

impl Case {
    fn new(seed: u64) -> Self {
        let journals = FaultyJournals::new(MemoryJournals::new().fragment_bytes(4096));
        let counts = Counts::default();
        Self { seed, random: Random::new(seed), journals, hints: FsmHints::empty(log()), counts }
    }

    /// Gives `disk` to a recorder that continues `fsm`.
    fn term(&self, disk: MemoryFs, fsm: Fsm, head: Offset, author: u32) -> Term {
        let options = RecorderOptions::default().resolve_max(Duration::from_secs(30));
        let journal = self.journals.open(&log()).unwrap();
        let author = Author::new(author).unwrap();
        let recorder = Recorder::new(journal, fsm, head, author, options).unwrap();
        let faulty = FaultyFs::new(disk.clone());
        let fs = RecordedFs::new(faulty, Path::new(ROOT), recorder, RecordedFsOptions::default());
        Term { disk, fs }
    }

    /// Works on a term with several threads; returns whether everything became durable.
    fn work(&mut self, term: &Term, faults: bool) -> bool {
        let journal = self.journals.journal(&log());
        if faults {
            journal.fail_randomly(self.random.next(), 8, 16);
            term.fs.inner().inject(FaultPlan::Random { seed: self.random.next(), one_in: 20 });
        }
        let threads = 1 + self.random.below(3);
        let mut engines = (0..threads)
            .map(|_| Engine::new(&term.fs, &journal, Random::new(self.random.next())))
            .collect::<Vec<_>>();
        std::thread::scope(|scope| {
            for engine in &mut engines {
                scope.spawn(move || engine.run(40));
            }
        });
        for engine in engines {
            let (counts, hints) = engine.finish();
            self.counts.add(counts);
            if let Some(hints) = hints {
                self.keep(hints);
            }
        }
        term.fs.inner().heal();
        let durable = engine::settle(&term.fs, &journal);
        for (fault, times) in journal.counts() {
            self.counts.fault(fault, times);
        }
        for (effect, count) in term.fs.inner().counts() {
            self.counts.local(&format!("{effect:?}"), count.faults);
        }
        journal.heal();
        durable
    }

    /// Keeps the newer of two hint sets.
    fn keep(&mut self, hints: FsmHints) {
        if hints.last_seq_no() > self.hints.last_seq_no() {
            self.hints = hints;
        }
    }

    fn player(&self, hints: &FsmHints, to: &MemoryFs) -> Player {
        let options = PlayOptions { parallelism: 1, sync: false, ..PlayOptions::default() };
        let fs: Arc<dyn FileSystem> = Arc::new(to.clone());
        Player::new(self.journals.inner(), hints, fs, Path::new(ROOT), options)
            .unwrap_or_else(|error| panic!("seed {}: {error}", self.seed))
    }

    /// Plays the log from its first byte, and from the last hints: both give one tree.
    fn played(&self) -> Tree {
        let trees = [&FsmHints::empty(log()), &self.hints].map(|hints| {
            let disk = MemoryFs::new();
            let played = self.player(hints, &disk).restore();
            played.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
            tree_of(&disk, Path::new(ROOT))
        });
        let [whole, hinted] = trees;
        assert_eq!(whole, hinted, "seed {}: hints lead to another tree", self.seed);
        whole
    }

    /// Hands the log over to `author`, who plays the last hints into a directory of its own.
    fn promote(&mut self, author: u32) -> (Term, Tree) {
        let disk = MemoryFs::new();
        let standby = self.player(&self.hints, &disk).standby().unwrap();
        let promoted = standby.promote(Author::new(author).unwrap(), soon());
        let Played { fsm, position, .. } =
            promoted.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
        let tree = tree_of(&disk, Path::new(ROOT));
        (self.term(disk, fsm, position, author), tree)
    }

    /// Lets a writer that lost its role write on: it must learn of it, and change nothing.
    fn zombie(&mut self, term: &Term) {
        let before = self.played();
        let journal = self.journals.journal(&log());
        if self.random.below(3) == 0 {
            self.journals.inner().journal(&log()).lose_registers();
        }
        let mut engine = Engine::new(&term.fs, &journal, Random::new(self.random.next()));
        engine.run(5);
        // What it had recorded before was durable or it had failed, so that only a new operation can tell.
        drop(term.fs.recorder().no_op());
        assert!(!engine::settle(&term.fs, &journal), "seed {}: a fenced writer got through", self.seed);
        let failure = term.fs.recorder().failure().expect("a writer that lost its role fails");
        let expected = [ErrorKind::Fenced, ErrorKind::Io, ErrorKind::Unavailable];
        assert!(expected.contains(&failure.kind()), "seed {}: {failure}", self.seed);
        assert_eq!(self.played(), before, "seed {}: a fenced writer changed the tree", self.seed);
    }

    fn run(mut self) -> Counts {
        let disk = MemoryFs::new();
        disk.create_dir(Path::new(ROOT)).unwrap();
        let faults = self.random.below(4) > 0;
        let mut term = self.term(disk, Fsm::new(log()), Offset::ZERO, 1);
        for author in 2..2 + 1 + self.random.below(2) as u32 {
            let durable = self.work(&term, faults);
            let recorded = tree_of(&term.disk, Path::new(ROOT));
            if durable {
                assert_eq!(self.played(), recorded, "seed {}, before author {author}", self.seed);
                self.counts.durable_terms += 1;
            } else {
                let failure = term.fs.recorder().failure();
                self.counts.failed_terms += 1;
                assert!(failure.is_some(), "seed {}: neither durable nor failed", self.seed);
            }
            let (next, tree) = self.promote(author);
            if durable {
                assert_eq!(tree, recorded, "seed {}, promoted {author}", self.seed);
            }
            self.zombie(&term);
            term = next;
        }
        if self.work(&term, faults) {
            assert_eq!(self.played(), tree_of(&term.disk, Path::new(ROOT)), "seed {}, at the end", self.seed);
            self.counts.durable_terms += 1;
        }
        self.counts
    }
}

#[test]
fn the_played_tree_is_the_recorded_tree() {
    let cases = std::env::var("RECOVERYLOG_CASES").ok().map_or(150, |cases| cases.parse().unwrap());
    let first = std::env::var("RECOVERYLOG_SEED").ok().map_or(0, |seed| seed.parse().unwrap());
    let mut total = Counts::default();
    for seed in first..first + cases {
        total.add(Case::new(seed).run());
    }
    println!("{cases} cases from seed {first} on\n{total}");
    assert!(total.durable_terms > 0);
    if cases >= 1000 {
        for (kind, counts) in total.kinds() {
            let all: u64 = counts.values().sum();
            let rare = counts.iter().filter(|(_, times)| **times * 100 < all).collect::<BTreeMap<_, _>>();
            assert!(rare.is_empty(), "{kind} that came up too rarely, of {all}: {rare:?}");
        }
    }
}
