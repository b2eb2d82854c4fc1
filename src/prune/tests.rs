//! Goal: what is removed, nobody misses; and nothing is removed where that is not certain.
//!
//! Method: primaries in memory with small fragments; each stored set is played after a prune, and what refuses one is
//! planted.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::hint_store::{DirectoryHints, MemoryHints};
use crate::hints::FsmHints;
use crate::ids::Author;
use crate::journal::MemoryJournals;
use crate::live::HintBudget;
use crate::player::{PlayOptions, Player};
use crate::recorder::RecorderOptions;
use crate::replica::{Primary, Replica, ReplicaOptions};
use crate::vfs::{FileSystem, MemoryFs, OpenMode};

mod races;

struct World {
    journals: Arc<MemoryJournals>,
    hints: Arc<DirectoryHints>,
    fs: MemoryFs,
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

fn name(log: &str) -> JournalName {
    JournalName::new(log).unwrap()
}

impl World {
    fn new() -> Self {
        let fs = MemoryFs::new();
        Self {
            journals: Arc::new(MemoryJournals::new().fragment_bytes(512)),
            hints: Self::store(&fs, "/hints"),
            fs,
        }
    }

    fn store(fs: &MemoryFs, directory: &str) -> Arc<DirectoryHints> {
        Arc::new(DirectoryHints::open(Arc::new(fs.clone()), Path::new(directory)).unwrap())
    }

    /// A shard whose hints name nothing that they need not.
    fn shard(&self, log: &str, hints: &Arc<DirectoryHints>) -> Replica {
        let budget = HintBudget { seek_bytes: 0, ..HintBudget::default() };
        let recorder = RecorderOptions::default().hint_budget(budget);
        let options = ReplicaOptions { recorder, ..ReplicaOptions::default() };
        let (journals, fs) = (self.journals.clone(), Arc::new(self.fs.clone()));
        Replica::new(journals, name(log), hints.clone(), fs).options(options)
    }

    fn primary(&self, directory: &str, author: u32) -> Primary {
        let standby = self.shard("acme/orders", &self.hints).standby(Path::new(directory)).unwrap();
        standby.promote(Author::new(author).unwrap(), soon()).unwrap()
    }

    fn pruner(&self) -> Pruner {
        let source = Source::recovery("orders", self.hints.clone());
        Pruner::new(self.journals.clone(), name("acme/orders")).source(source)
    }

    fn sets(&self) -> Vec<FsmHints> {
        let candidates = self.hints.candidates(&name("acme/orders"), soon()).unwrap();
        candidates.into_iter().map(|candidate| candidate.hints.unwrap()).collect()
    }

    /// Plays a set into a directory of its own; returns the content of `file` there.
    fn played(&self, hints: &FsmHints, directory: &str, file: &str) -> Result<Vec<u8>> {
        let fs: Arc<dyn FileSystem> = Arc::new(self.fs.clone());
        let options = PlayOptions { parallelism: 1, ..PlayOptions::default() };
        Player::new(&*self.journals, hints, fs, Path::new(directory), options)?.restore()?;
        let file = self.fs.open(&Path::new(directory).join(file), OpenMode::Read).unwrap();
        let mut content = vec![0; file.metadata().unwrap().len as usize];
        file.read_exact_at(&mut content, 0).unwrap();
        Ok(content)
    }
}

fn write(primary: &Primary, file: &str, at: u64, content: &[u8]) {
    let path = primary.directory().join(file);
    primary.fs().open(&path, OpenMode::Create).unwrap().write_all_at(content, at).unwrap();
}

/// Writes `rounds` files that die, and a page of one that lives.
fn work(primary: &Primary, rounds: u8) {
    for round in 0..rounds {
        write(primary, "scratch", 0, &[round; 700]);
        primary.fs().remove_file(&primary.directory().join("scratch")).unwrap();
        write(primary, "pages", u64::from(round % 4) * 100, &[round; 100]);
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as an audit")]
fn no_audit(_: &Verdict) -> Result<()> {
    Ok(())
}

fn refused(pruner: &Pruner) -> Error {
    let survey = pruner.survey(soon()).unwrap();
    pruner.remove(&survey, &mut |_| panic!("something is removed"), soon()).unwrap_err()
}

#[test]
fn what_is_dead_is_removed_and_every_stored_set_still_plays() {
    let world = World::new();
    let primary = world.primary("/one", 1);
    for _ in 0..8 {
        work(&primary, 9);
        primary.publish_hints(soon()).unwrap();
    }
    work(&primary, 5);
    primary.barrier().unwrap().wait(soon()).unwrap();
    let expected = world.played(&world.sets()[0], "/before", "pages").unwrap();

    let pruner = world.pruner();
    let survey = pruner.survey(soon()).unwrap();
    assert_eq!((survey.first_byte(), survey.whole_from()), (Some(Offset::ZERO), Offset::ZERO));
    assert_eq!(survey.author, Author::new(1));
    let mut told = Vec::new();
    let mut audit = |verdict: &Verdict| {
        told.push(verdict.fragment.clone());
        Ok(())
    };
    let removed = pruner.remove(&survey, &mut audit, soon()).unwrap();
    assert_eq!(removed.bytes, survey.dead_bytes());
    assert!(removed.bytes > survey.held_bytes() / 3, "{removed:?} of {}", survey.held_bytes());
    assert_eq!(removed.fragments, told.len() as u64);

    let after = pruner.survey(soon()).unwrap();
    assert!(after.problems.is_empty(), "{:?}", after.problems);
    assert_eq!((after.dead().count(), after.held_bytes()), (0, survey.held_bytes() - removed.bytes));
    assert!(after.whole_from() > Offset::ZERO);
    assert!(after.fragments.iter().all(|verdict| !told.contains(&verdict.fragment)));
    for (number, set) in world.sets().iter().enumerate() {
        assert_eq!(world.played(set, &format!("/after-{number}"), "pages").unwrap(), expected, "{number}");
    }
    assert!(world.sets().len() >= 3);
}

#[test]
fn each_fragment_that_is_kept_has_its_reason_and_a_set_that_needs_it() {
    let pruned = || {
        let world = World::new();
        let primary = world.primary("/one", 1);
        write(&primary, "cold", 0, &[7; 600]);
        for _ in 0..3 {
            work(&primary, 9);
            primary.publish_hints(soon()).unwrap();
        }
        let survey = world.pruner().survey(soon()).unwrap();
        world.pruner().remove(&survey, &mut no_audit, soon()).unwrap();
        let survey = world.pruner().survey(soon()).unwrap();
        (world, survey)
    };
    let (_, survey) = pruned();
    assert_eq!(survey.best().unwrap().name, survey.sets[0].name);
    let pinned: u64 = survey.sets.iter().map(|set| set.pins_bytes).sum();
    assert!(pinned > 0 && pinned <= survey.held_bytes());
    let (mut named, mut past_head) = (0, 0);
    for lost in 0..survey.fragments.len() - 1 {
        let (world, survey) = pruned();
        let verdict = &survey.fragments[lost];
        let set = match &verdict.why {
            Why::Named { set, .. } => {
                named += 1;
                set
            }
            Why::PastHead { set } => {
                past_head += 1;
                set
            }
            other => panic!("{other:?}"),
        };
        // Without it that very set says so.
        assert!(world.journals.journal(&name("acme/orders")).drop_fragment(verdict.fragment.begin));
        let damaged = world.pruner().survey(soon()).unwrap();
        let problem = damaged.problems.iter().find(|problem| problem.set.as_ref() == Some(set));
        let error = &problem.unwrap_or_else(|| panic!("{verdict}: {:?}", damaged.problems)).error;
        let at = error.offset().unwrap();
        assert!(verdict.fragment.begin <= at && at < verdict.fragment.end, "{error}");
        assert_eq!(
            (error.kind(), refused(&world.pruner()).kind()),
            (ErrorKind::DataLoss, ErrorKind::DataLoss)
        );
    }
    assert!(named > 1 && past_head > 1, "{named} named, {past_head} past the head");
}

#[test]
fn spans_of_live_files_are_kept_for_the_reference_and_freed_otherwise() {
    let world = World::new();
    let primary = world.primary("/one", 1);
    work(&primary, 40);
    primary.publish_hints(soon()).unwrap();
    let exact = world.pruner().survey(soon()).unwrap();
    let spans = world.pruner().options(PruneOptions { keep: Keep::Spans, ..PruneOptions::default() });
    let spans = spans.survey(soon()).unwrap();
    assert!(exact.dead_bytes() > exact.held_bytes() / 2, "{} dead", exact.dead_bytes());
    // `pages` is written from the first round to the last, only the first file before it is not.
    assert_eq!(spans.dead().map(|verdict| verdict.fragment.begin).collect::<Vec<_>>(), [Offset::ZERO]);
    assert!(spans.fragments.iter().any(|verdict| matches!(verdict.why, Why::Spanned { .. })));
    assert_eq!(spans.sets[0].needs_bytes, exact.sets[0].needs_bytes, "a play reads no more");
}

#[test]
fn sets_of_the_reference_demand_that_spans_are_kept() {
    let world = World::new();
    let primary = world.primary("/one", 1);
    work(&primary, 9);
    primary.publish_hints(soon()).unwrap();
    let store = Arc::new(MemoryHints::new());
    let set = FsmHints { as_of: None, ..world.sets()[0].clone() };
    store.store(&set, soon()).unwrap();
    let of_reference = || world.pruner().source(Source::recovery("go", store.clone()));
    assert_eq!(refused(&of_reference()).kind(), ErrorKind::Invalid);
    let spans = of_reference().options(PruneOptions { keep: Keep::Spans, ..PruneOptions::default() });
    assert!(spans.survey(soon()).unwrap().problems.is_empty());
}

#[test]
fn nothing_is_removed_unless_every_store_and_set_was_read() {
    #[derive(Debug)]
    struct Away;
    impl HintStore for Away {
        fn candidates(&self, _: &JournalName, _: Deadline) -> Result<Vec<Candidate>> {
            Err(Error::new(ErrorKind::Unavailable, "the store is away"))
        }

        fn store(&self, _: &FsmHints, _: Deadline) -> Result<()> {
            Err(Error::new(ErrorKind::Unavailable, "the store is away"))
        }
    }
    let world = World::new();
    let primary = world.primary("/one", 1);
    work(&primary, 9);
    primary.publish_hints(soon()).unwrap();
    assert!(world.pruner().survey(soon()).unwrap().dead().count() > 3, "there would be something to remove");

    let none = Pruner::new(world.journals.clone(), name("acme/orders"));
    assert_eq!(refused(&none).kind(), ErrorKind::Invalid);
    let away = Source::recovery("other", Arc::new(Away));
    assert_eq!(refused(&world.pruner().source(away)).kind(), ErrorKind::Unavailable);
    let away = Source::snapshots("other", Arc::new(Away));
    assert_eq!(refused(&world.pruner().source(away)).kind(), ErrorKind::Unavailable);
    let empty = Source::recovery("other", Arc::new(MemoryHints::new()));
    let error = refused(&world.pruner().source(empty));
    assert_eq!(error.to_string().matches("other").count(), 1, "{error}");
    let snapshots = Source::snapshots("none yet", Arc::new(MemoryHints::new()));
    assert!(world.pruner().source(snapshots).survey(soon()).unwrap().problems.is_empty());

    // A set that is damaged in its store.
    let path = world.fs.read_dir(Path::new("/hints")).unwrap().remove(0).name;
    let set = world.fs.open(&Path::new("/hints").join(path), OpenMode::ReadWrite).unwrap();
    set.write_all_at(b"x", 9).unwrap();
    assert_eq!(refused(&world.pruner()).kind(), ErrorKind::Corrupt);
}

#[test]
fn hints_past_the_head_are_of_another_log_and_refuse_a_prune() {
    let world = World::new();
    let primary = world.primary("/one", 1);
    work(&primary, 9);
    primary.publish_hints(soon()).unwrap();
    let mut beyond = world.sets()[0].clone();
    beyond.shift_offsets(&name("acme/orders"), Offset::ZERO, 1 << 20);
    let store = Arc::new(MemoryHints::new());
    store.store(&beyond, soon()).unwrap();
    let error = refused(&world.pruner().source(Source::recovery("beyond", store)));
    assert_eq!(error.kind(), ErrorKind::DataLoss, "{error}");
}

#[test]
fn a_snapshot_keeps_what_it_names_and_the_log_is_kept_whole_on_demand() {
    let world = World::new();
    let primary = world.primary("/one", 1);
    work(&primary, 9);
    primary.publish_hints(soon()).unwrap();
    let snapshots = Arc::new(MemoryHints::new());
    let snapshot = world.sets().remove(0);
    snapshots.store(&snapshot, soon()).unwrap();
    let reached = snapshot.as_of.unwrap();
    for _ in 0..6 {
        work(&primary, 9);
        primary.publish_hints(soon()).unwrap();
    }
    assert!(world.sets().iter().all(|set| set.as_of.unwrap().offset > reached.offset));

    let pruner = || world.pruner().source(Source::snapshots("daily", snapshots.clone()));
    let plain = world.pruner().survey(soon()).unwrap();
    let with_snapshot = pruner().survey(soon()).unwrap();
    assert!(with_snapshot.dead_bytes() < plain.dead_bytes());
    let pins = with_snapshot.sets.iter().find(|set| set.kind == SourceKind::Snapshots).unwrap().pins_bytes;
    assert_eq!(pins, plain.dead_bytes() - with_snapshot.dead_bytes());
    assert!(with_snapshot.dead().any(|verdict| verdict.fragment.begin > reached.offset));

    let since = PruneOptions { whole_since: Some(reached.unix_nanos), ..PruneOptions::default() };
    let whole = pruner().options(since).survey(soon()).unwrap();
    assert!(whole.dead().all(|verdict| verdict.fragment.end <= reached.offset));
    let before_all = PruneOptions { whole_since: Some(0), ..PruneOptions::default() };
    assert_eq!(pruner().options(before_all).survey(soon()).unwrap().dead_bytes(), whole.dead_bytes());

    let pruner = pruner();
    pruner.remove(&with_snapshot, &mut no_audit, soon()).unwrap();
    assert!(pruner.survey(soon()).unwrap().problems.is_empty());
}

#[test]
fn a_fork_keeps_what_it_needs_of_the_log_that_it_was_forked_off() {
    let world = World::new();
    let primary = world.primary("/one", 1);
    write(&primary, "kept", 0, &[7; 5000]);
    primary.publish_hints(soon()).unwrap();
    let forks = World::store(&world.fs, "/forks");
    forks.store(&world.sets()[0], soon()).unwrap();
    let fork = world.shard("acme/fork", &forks).standby(Path::new("/fork")).unwrap();
    let fork = fork.promote(Author::new(9).unwrap(), soon()).unwrap();
    fork.close(soon()).unwrap();

    // The promotion of the fork has taken the first log over: somebody takes it back.
    let primary = world.primary("/two", 2);
    primary.fs().remove_file(Path::new("/two/kept")).unwrap();
    for _ in 0..6 {
        work(&primary, 9);
        primary.publish_hints(soon()).unwrap();
    }
    let alone = world.pruner().survey(soon()).unwrap();
    let pruner = world.pruner().source(Source::recovery("fork", forks.clone()));
    let survey = pruner.survey(soon()).unwrap();
    assert!(survey.problems.is_empty(), "{:?}", survey.problems);
    assert!(alone.dead_bytes() > survey.dead_bytes() + 5000);
    pruner.remove(&survey, &mut no_audit, soon()).unwrap();
    let set = forks.candidates(&name("acme/fork"), soon()).unwrap().remove(0).hints.unwrap();
    assert_eq!(world.played(&set, "/of-fork", "kept").unwrap(), [7; 5000]);

    // The log of the fork itself is not that of the others.
    let only_others = Pruner::new(world.journals.clone(), name("acme/fork"));
    let only_others = only_others.source(Source::recovery("orders", world.hints.clone()));
    assert_eq!(refused(&only_others).kind(), ErrorKind::Invalid);
}

#[test]
fn a_set_that_is_stored_after_the_survey_keeps_what_it_needs() {
    let world = World::new();
    let primary = world.primary("/one", 1);
    work(&primary, 9);
    primary.publish_hints(soon()).unwrap();
    let (older, pruner) = (world.sets().remove(0), world.pruner());
    for _ in 0..6 {
        work(&primary, 9);
        primary.publish_hints(soon()).unwrap();
    }
    let store = Arc::new(MemoryHints::new());
    store.store(&world.sets()[0], soon()).unwrap();
    let pruner = pruner.source(Source::snapshots("late", store.clone()));
    let survey = pruner.survey(soon()).unwrap();
    let store_late = Arc::new(MemoryHints::new());
    store_late.store(&older, soon()).unwrap();
    let pruner = pruner.source(Source::snapshots("later", store_late));
    let removed = pruner.remove(&survey, &mut no_audit, soon()).unwrap();
    assert!(removed.needed_since > 0 && removed.fragments > 0, "{removed:?}");
    assert!(pruner.survey(soon()).unwrap().problems.is_empty());
}

#[test]
fn an_audit_that_fails_stops_the_removal() {
    let world = World::new();
    let primary = world.primary("/one", 1);
    work(&primary, 40);
    primary.publish_hints(soon()).unwrap();
    let pruner = world.pruner();
    let survey = pruner.survey(soon()).unwrap();
    let mut told = 0;
    let mut audit = |_: &Verdict| {
        told += 1;
        if told == 3 { Err(Error::new(ErrorKind::Io, "the disk is full")) } else { Ok(()) }
    };
    assert_eq!(pruner.remove(&survey, &mut audit, soon()).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(pruner.survey(soon()).unwrap().held_bytes(), survey.held_bytes());
}

#[test]
fn a_head_that_no_register_names_belongs_to_nobody() {
    let journals = Arc::new(MemoryJournals::new());
    let survey = Pruner::new(journals, name("acme/new")).survey(soon()).unwrap();
    assert_eq!((survey.author, survey.first_byte(), survey.held_bytes()), (None, None, 0));
    assert_eq!((survey.whole_from(), survey.best().is_none()), (Offset::ZERO, true));
    assert_eq!(survey.refusal().unwrap_err().kind(), ErrorKind::Invalid);
}
