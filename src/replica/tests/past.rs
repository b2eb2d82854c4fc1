//! Going back in time, and on from there.

use std::sync::mpsc::{Sender, channel};

use bytes::Bytes;

use super::hinting::exact;
use super::*;
use crate::player::Bound;

fn mark(name: &str) -> Bound {
    Bound::Mark(Bytes::copy_from_slice(name.as_bytes()))
}

fn options_of_play() -> PlayOptions {
    PlayOptions { parallelism: 1, ..PlayOptions::default() }
}

/// Deletes every fragment below the head of the newest hints of which neither they nor `more` name a byte.
fn prune(world: &World, more: &[FsmHints]) {
    let newest = world.hints.candidates(&log(), soon()).unwrap().swap_remove(0).hints.unwrap();
    let head = newest.as_of.unwrap().offset;
    let sets: Vec<_> = more.iter().chain([&newest]).map(|set| set.flatten().unwrap()).collect();
    let journal = world.journals.open(&log()).unwrap();
    let mut fragments = journal.fragments(soon()).unwrap();
    fragments.retain(|f| {
        let mut segments = sets.iter().flat_map(|set| set.segments.as_slice());
        f.end <= head && !segments.any(|s| s.first_offset < f.end && s.end_offset > Some(f.begin))
    });
    assert!(fragments.len() > 5, "{fragments:?}");
    journal.prune(&fragments, soon()).unwrap();
}

#[test]
fn a_fork_goes_on_from_a_mark_and_the_old_log_as_it_was() {
    let world = World::new();
    let old = world.primary("/old", 1);
    write(&old, "file", b"as it was");
    let marked = old.recorder().mark("before").unwrap();
    write(&old, "file", b"overwritten");
    write(&old, "other", b"later");

    let shard = world.shard();
    let then =
        shard.past().unwrap().restore(&mark("before"), Path::new("/then"), &options_of_play()).unwrap();
    assert_eq!((then.point.seq_no, then.set), (marked, None));
    assert_eq!(world.content("/then/file"), b"as it was");
    assert!(world.fs.metadata(Path::new("/then/other")).is_err());

    let own = Arc::new(MemoryHints::new());
    let fork = JournalName::new("acme/fork").unwrap();
    let again = Replica::new(world.journals.clone(), fork, own, Arc::new(world.fs.clone()));
    let forked = again.fork(then.played, author(7), soon()).unwrap();
    write(&forked, "file", b"on another way");
    forked.close(soon()).unwrap();
    let recovered = again.standby(Path::new("/fork")).unwrap().promote(author(8), soon()).unwrap();
    write(&recovered, "more", b"more");
    assert_eq!(world.content("/fork/file"), b"on another way");

    // The old writer never noticed.
    write(&old, "last", b"last");
    drop(world.primary("/new", 2));
    let (file, other) = (world.content("/new/file"), world.content("/new/other"));
    assert_eq!((&file[..], &other[..]), (&b"overwritten"[..], &b"later"[..]));

    let taken =
        shard.past().unwrap().restore(&mark("before"), Path::new("/again"), &options_of_play()).unwrap();
    let refused = again.fork(taken.played, author(9), soon()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "the log has begun: {refused}");
}

#[test]
fn a_snapshot_leads_back_to_where_hints_do_not_lead_any_more() {
    let (world, snapshots) = (World::new(), Arc::new(MemoryHints::new()));
    let shard = world.shard().options(exact()).snapshots(snapshots.clone(), SnapshotOptions::default());
    let primary = shard.standby(Path::new("/one")).unwrap().promote(author(1), soon()).unwrap();
    (0..2).for_each(|round| write(&primary, "file", &[round; 900]));
    write(&primary, "file", &[1; 900]);
    primary.snapshot(soon()).unwrap();
    let snapshot = snapshots.candidates(&log(), soon()).unwrap().swap_remove(0).hints.unwrap();
    let then = Bound::Seq(snapshot.as_of.unwrap().seq_no);
    for round in 2..12 {
        write(&primary, "file", &[round; 900]);
        primary.publish_hints(soon()).unwrap();
    }
    assert_eq!(primary.status().snapshots_stored, 1);
    prune(&world, std::slice::from_ref(&snapshot));

    let past = shard.past().unwrap();
    let restored = past.restore(&then, Path::new("/then"), &options_of_play()).unwrap();
    assert!(restored.passed_over.is_empty(), "{:?}", restored.passed_over);
    assert_eq!(world.content("/then/file"), [1; 900]);

    // Between the snapshot and the newest hints bytes are gone, and before it all of them.
    let next = Bound::Seq(snapshot.as_of.unwrap().seq_no.next().next());
    let lost = past.plan(&next, Path::new("/lost"), &options_of_play()).unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::DataLoss, "{lost}");
}

#[test]
fn a_point_that_nothing_leads_back_to_names_the_earliest_one() {
    let world = World::new();
    let shard = world.shard().options(exact());
    let primary = shard.standby(Path::new("/one")).unwrap().promote(author(1), soon()).unwrap();
    for round in 0..10 {
        write(&primary, "file", &[round; 900]);
    }
    primary.publish_hints(soon()).unwrap();
    prune(&world, &[]);
    let past = shard.past().unwrap();
    let hints = world.hints.candidates(&log(), soon()).unwrap().swap_remove(0).hints.unwrap();
    let earliest = hints.as_of.unwrap();
    let before = Bound::Seq(crate::ids::SeqNo::new(earliest.seq_no.get() - 1));
    let error = past.restore(&before, Path::new("/then"), &options_of_play()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataLoss, "{error}");
    assert!(error.to_string().contains(&format!("at earliest seq-no {}", earliest.seq_no)), "{error}");
    past.restore(&Bound::Seq(earliest.seq_no), Path::new("/then"), &options_of_play()).unwrap();
    assert_eq!(world.content("/then/file"), [9; 900]);
}

#[test]
fn where_a_set_cannot_be_played_an_older_one_or_the_log_leads_to_the_same_point() {
    let world = World::new();
    let primary = world.primary("/one", 1);
    write(&primary, "file", b"content");
    primary.publish_hints(soon()).unwrap();
    let marked = primary.recorder().mark("here").unwrap();
    write(&primary, "other", b"later");
    let mut broken = world.hints.candidates(&log(), soon()).unwrap().swap_remove(0).hints.unwrap();
    broken.as_of = broken.as_of.map(|as_of| crate::hints::AsOf { seq_no: as_of.seq_no.next(), ..as_of });
    let stored = world.hints.candidates(&log(), soon()).unwrap();
    let unreadable = Candidate::new("unreadable", Err(Error::new(ErrorKind::Corrupt, "unreadable")));
    let mut sets = vec![unreadable, Candidate::new("broken", Ok(broken))];
    for (more, set, name) in [(stored, true, "/by-an-older-set"), (Vec::new(), false, "/by-none")] {
        sets.extend(more);
        let past = Past::new(&*world.journals, log(), sets.clone(), Arc::new(world.fs.clone()));
        let restored = past.restore(&Bound::Seq(marked), Path::new(name), &options_of_play()).unwrap();
        assert_eq!((restored.point.seq_no, restored.set.is_some()), (marked, set));
        assert_eq!(restored.passed_over.len(), 1 + usize::from(!set), "{:?}", restored.passed_over);
        sets.pop();
    }
}

#[test]
fn a_snapshot_needs_a_store() {
    let world = World::new();
    let refused = world.primary("/one", 1).snapshot(soon()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}

/// A store that tells of each set that it takes.
#[derive(Debug)]
struct Telling {
    inner: MemoryHints,
    stored: Mutex<Sender<FsmHints>>,
}

impl HintStore for Telling {
    fn candidates(&self, log: &JournalName, deadline: Deadline) -> Result<Vec<Candidate>> {
        self.inner.candidates(log, deadline)
    }

    fn store(&self, hints: &FsmHints, deadline: Deadline) -> Result<()> {
        self.inner.store(hints, deadline)?;
        // A test that has ended asks for no more.
        drop(self.stored.lock().unwrap().send(hints.clone()));
        Ok(())
    }
}

#[test]
fn a_primary_marks_its_log_and_takes_snapshots_by_itself() {
    let (world, (stored, told)) = (World::new(), channel());
    let store = Arc::new(Telling { inner: MemoryHints::new(), stored: Mutex::new(stored) });
    let moment = Duration::from_nanos(1);
    let options = ReplicaOptions { mark_every: moment, ..ReplicaOptions::default() };
    let snapshots = SnapshotOptions { every: Duration::MAX, bytes: 4_000 };
    let shard = world.shard().options(options).snapshots(store, snapshots);
    let primary = shard.standby(Path::new("/one")).unwrap().promote(author(1), soon()).unwrap();
    let standby = shard.standby(Path::new("/two")).unwrap();
    standby.wait_for_tail(soon()).unwrap();
    write(&primary, "file", b"a little");
    let mut marked = primary.recorder().committed();
    marked.next_seq_no = marked.next_seq_no.next();
    standby.wait_until(marked, soon()).unwrap();

    write(&primary, "file", &[1; 4_000]);
    let snapshot = told.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(snapshot.as_of.unwrap().offset.get() > 4_000);
    let past = shard.past().unwrap();
    let time = Bound::Time(snapshot.as_of.unwrap().unix_nanos);
    let restored = past.restore(&time, Path::new("/then"), &options_of_play()).unwrap();
    assert_eq!(world.content("/then/file"), [1; 4_000]);
    assert!(restored.set.is_some() && restored.point.unix_nanos.is_some());
}

#[test]
fn a_snapshot_is_a_hint_set_too_so_that_an_idle_shard_rests() {
    let (world, snapshots) = (World::new(), Arc::new(MemoryHints::new()));
    let shard = world.shard().snapshots(snapshots.clone(), SnapshotOptions::default());
    let primary = shard.standby(Path::new("/one")).unwrap().promote(author(1), soon()).unwrap();
    write(&primary, "file", b"content");
    primary.publish_hints(soon()).unwrap();
    assert!(primary.status().bytes_since_hints == 0 && primary.status().bytes_since_snapshot > 0);
    primary.snapshot(soon()).unwrap();
    assert!(primary.status().bytes_since_hints == 0 && primary.status().bytes_since_snapshot == 0);
    // Hints that anchor themselves are marks: there is nothing to be marked either.
    primary.recorder().mark_time().unwrap();
    assert_eq!(primary.status().bytes_since_hints, 0);
    let newest =
        |store: &MemoryHints| store.candidates(&log(), soon()).unwrap().swap_remove(0).hints.unwrap();
    assert_eq!(newest(&snapshots), newest(&world.hints));
}
