//! Goal: a shard changes hands without losing what was acknowledged.
//!
//! Method: replicas in memory, one log, one hint store; each test is one story.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use sha1::{Digest, Sha1};

use super::*;
use crate::fsm::Fsm;
use crate::hint_store::{Candidate, DirectoryHints, MemoryHints};
use crate::ids::{Author, Offset};
use crate::journal::{
    Codec, FaultyJournals, FileJournalOptions, FileJournals, FragmentJournals, FragmentName, MemoryJournals,
    ReadRange, ReadStep,
};
use crate::player::Tail;
use crate::recorder::{Recorder, RecorderOptions};
use crate::sync::Mutex;
use crate::vfs::{FileKind, MemoryFs, OpenMode, create_dir_all_synced};

mod hinting;
mod past;
mod resuming;
mod rewriting;

struct World {
    journals: Arc<MemoryJournals>,
    hints: Arc<MemoryHints>,
    fs: MemoryFs,
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

fn author(number: u32) -> Author {
    Author::new(number).unwrap()
}

fn log() -> JournalName {
    JournalName::new("acme/orders").unwrap()
}

impl World {
    fn new() -> Self {
        Self {
            journals: Arc::new(MemoryJournals::new().fragment_bytes(512)),
            hints: Arc::new(MemoryHints::new()),
            fs: MemoryFs::new(),
        }
    }

    fn shard(&self) -> Replica {
        let journals: Arc<dyn Journals> = self.journals.clone();
        Replica::new(journals, log(), self.hints.clone(), Arc::new(self.fs.clone()))
    }

    fn primary(&self, directory: &str, number: u32) -> Primary {
        self.shard().standby(Path::new(directory)).unwrap().promote(author(number), soon()).unwrap()
    }

    fn content(&self, path: &str) -> Vec<u8> {
        let file = self.fs.open(Path::new(path), OpenMode::Read).unwrap();
        let mut content = vec![0; file.metadata().unwrap().len as usize];
        file.read_exact_at(&mut content, 0).unwrap();
        content
    }
}

fn write(primary: &Primary, name: &str, content: &[u8]) {
    let path = primary.directory().join(name);
    primary.fs().open(&path, OpenMode::Create).unwrap().write_all_at(content, 0).unwrap();
    primary.barrier().unwrap().wait(soon()).unwrap();
}

#[test]
fn a_hot_standby_takes_over_and_the_old_primary_is_fenced() {
    let world = World::new();
    let old = world.primary("/one", 1);
    let standby = world.shard().standby(Path::new("/two")).unwrap();
    standby.wait_for_tail(soon()).unwrap();
    write(&old, "file", b"acknowledged");
    standby.wait_until(old.recorder().committed(), soon()).unwrap();

    let new = standby.promote(author(2), soon()).unwrap();
    assert_eq!(world.content("/two/file"), b"acknowledged");
    write(&new, "file", b"by the second");

    let file = old.fs().open(Path::new("/one/file"), OpenMode::ReadWrite).unwrap();
    drop(file.write_all_at(b"too late", 0));
    let fenced = old.barrier().and_then(|mut barrier| barrier.wait(soon())).unwrap_err();
    assert_eq!(fenced.kind(), ErrorKind::Fenced);
    assert_eq!(old.close(soon()).unwrap_err().kind(), ErrorKind::Fenced);
    new.close(soon()).unwrap();
    drop(world.primary("/three", 3));
    assert_eq!(world.content("/three/file"), b"by the second");
}

#[test]
fn closing_publishes_hints_that_skip_what_is_dead() {
    let world = World::new();
    let primary = world.primary("/one", 1);
    for round in 0..20 {
        write(&primary, "scratch", &[round; 300]);
        primary.fs().remove_file(Path::new("/one/scratch")).unwrap();
    }
    write(&primary, "kept", b"kept");
    primary.close(soon()).unwrap();

    let journal = world.journals.open(&log()).unwrap();
    let fragments = journal.fragments(soon()).unwrap();
    let dead: Vec<_> = fragments.iter().filter(|f| f.end.get() < 4_000).cloned().collect();
    assert!(dead.len() > 3);
    journal.prune(&dead, soon()).unwrap();
    drop(world.primary("/two", 2));
    assert_eq!(world.content("/two/kept"), b"kept");
}

#[test]
fn hints_that_follow_a_pruned_front_need_nothing_of_it() {
    let world = World::new();
    let primary = world.primary("/one", 1);
    let journal = world.journals.open(&log()).unwrap();
    let mut pruned = 0;
    for round in 0..30_u8 {
        let name = format!("file-{}", round % 4);
        drop(primary.fs().remove_file(&primary.directory().join(&name)));
        write(&primary, &name, &[round; 300]);
        primary.publish_hints(soon()).unwrap();
        let best = world.hints.candidates(&log(), soon()).unwrap().remove(0).hints.unwrap();
        let first = best.files.iter().flat_map(|file| &file.segments).map(|segment| segment.first_offset);
        let needed = first.min().unwrap();
        let front: Vec<_> = journal
            .fragments(soon())
            .unwrap()
            .into_iter()
            .filter(|fragment| fragment.end <= needed)
            .collect();
        journal.prune(&front, soon()).unwrap();
        pruned += front.len();
        let passed_over = world.shard().plan(Path::new("/two"), &[]).unwrap().passed_over;
        assert!(passed_over.is_empty(), "round {round}: {passed_over:?}");
    }
    assert!(pruned > 10, "{pruned} fragments were pruned");
    drop(world.primary("/two", 2));
    for round in 26..30_u8 {
        assert_eq!(world.content(&format!("/two/file-{}", round % 4)), [round; 300]);
    }
}

#[test]
fn a_pruned_log_without_hints_is_data_loss_and_not_an_empty_directory() {
    let world = World::new();
    let primary = world.primary("/one", 1);
    write(&primary, "file", &[7; 2_000]);
    write(&primary, "other", &[8; 2_000]);
    drop(primary);
    let journal = world.journals.open(&log()).unwrap();
    let first = journal.fragments(soon()).unwrap().remove(0);
    journal.prune(&[first], soon()).unwrap();

    let shard = Replica { hints: Arc::new(MemoryHints::new()), ..world.shard() };
    let standby = shard.standby(Path::new("/two")).unwrap();
    assert_eq!(standby.wait_for_tail(soon()).unwrap_err().kind(), ErrorKind::DataLoss);
    assert_eq!(standby.status().state, StandbyState::Failed);
    assert_eq!(standby.promote(author(2), soon()).unwrap_err().kind(), ErrorKind::DataLoss);
    assert!(world.fs.metadata(Path::new("/two")).is_err(), "nothing is left of a play that failed");
}

#[test]
fn hints_that_turn_out_to_be_wrong_are_passed_over_for_older_ones() {
    let world = World::new();
    let primary = world.primary("/one", 1);
    write(&primary, "file", b"content");
    primary.publish_hints(soon()).unwrap();
    let mut wrong = world.hints.candidates(&log(), soon()).unwrap().remove(0).hints.unwrap();
    primary.close(soon()).unwrap();
    // Only the last operation that they name tells that they are of another history.
    let end = wrong.files[0].segments.last_mut().unwrap();
    end.end_checksum = end.end_checksum.map(|sum| crate::ids::Checksum::new(!sum.get()));
    wrong.as_of.as_mut().unwrap().seq_no = crate::ids::SeqNo::new(1 << 30);
    world.hints.store(&wrong, soon()).unwrap();

    let standby = world.shard().standby(Path::new("/two")).unwrap();
    standby.wait_for_tail(soon()).unwrap();
    let passed_over = standby.status().passed_over;
    assert_eq!(passed_over.len(), 1, "{passed_over:?}");
    drop(standby.promote(author(2), soon()).unwrap());
    assert_eq!(world.content("/two/file"), b"content");
    // Promoted at once, it finishes that first.
    drop(world.primary("/three", 3));
    assert_eq!(world.content("/three/file"), b"content");
}

#[test]
fn hints_that_cannot_be_played_are_passed_over_for_older_ones() {
    let world = World::new();
    let primary = world.primary("/one", 1);
    write(&primary, "file", b"content");
    primary.publish_hints(soon()).unwrap();
    let mut beyond = world.hints.candidates(&log(), soon()).unwrap().remove(0).hints.unwrap();
    primary.close(soon()).unwrap();
    let segment = beyond.files[0].segments.last_mut().unwrap();
    segment.last_seq_no = segment.last_seq_no.next();
    segment.end_offset = Offset::new(1 << 40);
    let as_of = beyond.as_of.as_mut().unwrap();
    as_of.seq_no = crate::ids::SeqNo::new(1 << 30);
    world.hints.store(&beyond, soon()).unwrap();

    let standby = world.shard().standby(Path::new("/two")).unwrap();
    standby.wait_for_tail(soon()).unwrap();
    let status = standby.status();
    assert_eq!(status.passed_over.len(), 1);
    assert_eq!(status.passed_over[0].error.kind(), ErrorKind::DataLoss);
    drop(standby.promote(author(2), soon()).unwrap());
    assert_eq!(world.content("/two/file"), b"content");
}

#[test]
fn a_fork_goes_on_in_another_log_and_fences_the_writer_of_the_first() {
    let world = World::new();
    let old = world.primary("/one", 1);
    write(&old, "file", b"before the fork");
    old.publish_hints(soon()).unwrap();

    let other = JournalName::new("acme/orders-fork").unwrap();
    let shard = Replica { log: other.clone(), ..world.shard() };
    let forked = shard.standby(Path::new("/two")).unwrap().promote(author(2), soon()).unwrap();
    assert_eq!(world.content("/two/file"), b"before the fork");
    write(&forked, "file", b"after the fork ");
    forked.close(soon()).unwrap();
    let fenced = old.recorder().no_op().and_then(|()| old.barrier()?.wait(soon()).map(drop));
    assert_eq!(fenced.unwrap_err().kind(), ErrorKind::Fenced);

    drop(shard.standby(Path::new("/three")).unwrap().promote(author(3), soon()).unwrap());
    assert_eq!(world.content("/three/file"), b"after the fork ");
}

#[test]
fn a_standby_that_is_dropped_leaves_nothing() {
    let world = World::new();
    write(&world.primary("/one", 1), "file", b"content");
    let standby = world.shard().standby(Path::new("/two")).unwrap();
    standby.wait_for_tail(soon()).unwrap();
    standby.close().unwrap();
    assert_eq!(world.fs.read_dir(Path::new("/")).unwrap().len(), 1);
}

#[test]
fn a_standby_that_fails_while_it_follows_leaves_nothing() {
    let journals = Arc::new(FaultyJournals::new(MemoryJournals::new()));
    let world = World::new();
    let shard = Replica { journals: journals.clone(), ..world.shard() };
    let primary = shard.standby(Path::new("/one")).unwrap().promote(author(1), soon()).unwrap();
    write(&primary, "file", b"content");
    let standby = shard.standby(Path::new("/two")).unwrap();
    standby.wait_for_tail(soon()).unwrap();
    journals.journal(&log()).fail_randomly(1, 0, 1);
    write(&primary, "file", b"more");
    let mut beyond = primary.recorder().committed();
    beyond.next_seq_no = crate::ids::SeqNo::new(1 << 40);
    assert_eq!(standby.wait_until(beyond, soon()).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(standby.status().state, StandbyState::Failed);
    assert_eq!(standby.promote(author(2), soon()).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(world.fs.read_dir(Path::new("/")).unwrap().len(), 1);
}

#[test]
fn a_standby_follows_past_a_hand_off_between_others() {
    let world = World::new();
    let first = world.primary("/one", 1);
    write(&first, "file", b"1");
    let standby = world.shard().standby(Path::new("/three")).unwrap();
    standby.wait_for_tail(soon()).unwrap();
    let second = world.primary("/two", 2);
    write(&second, "file", b"2");
    standby.wait_until(second.recorder().committed(), soon()).unwrap();
    drop(standby.promote(author(3), soon()).unwrap());
    assert_eq!(world.content("/three/file"), b"2");
}

#[test]
fn following_tells_how_far_it_came_before_its_deadline() {
    let world = World::new();
    let primary = world.primary("/one", 1);
    let player = world.shard().plan(Path::new("/two"), &[]).unwrap().player;
    let mut follower = player.follow().unwrap();
    let mut applied = 0;
    for round in 0..3_u8 {
        for _ in 0..3 {
            write(&primary, "file", &vec![round; 700_000]);
        }
        while follower.position() != primary.recorder().committed() {
            assert_eq!(follower.advance(Deadline::after(Duration::from_secs(3600))).unwrap(), Tail::Advanced);
            applied += 1;
        }
        assert_eq!(follower.advance(Deadline::passed()).unwrap(), Tail::AtHead);
    }
    assert!(applied >= 6, "all of a round was applied at once");
    follower.interrupter().interrupt();
    assert_eq!(follower.advance(soon()).unwrap(), Tail::Interrupted);
    follower.abandon();
}

#[test]
fn what_a_lost_writer_was_building_is_unlinked_at_promotion() {
    let world = World::new();
    let journal = world.journals.open(&log()).unwrap();
    let recorder =
        Recorder::new(journal, Fsm::new(log()), Offset::ZERO, author(1), RecorderOptions::default()).unwrap();
    let leftover = crate::ids::LogPath::from_bytes(b"/.recoverylog/tmp-7");
    let reserved = recorder.reserve_ops(&[&leftover]).unwrap();
    recorder.transaction(reserved, |tx| tx.create(&leftover)).unwrap();
    recorder.barrier().unwrap().wait(soon()).unwrap();
    let primary = world.primary("/two", 2);
    primary.barrier().unwrap().wait(soon()).unwrap();
    assert_eq!(primary.recorder().with_fsm(|fsm| fsm.link(&leftover)), None);
    assert!(world.fs.read_dir(Path::new("/two")).unwrap().is_empty());
}

/// Copies what the log holds from `begin` on into a folder of fragments, as one; returns where it ends.
fn store_fragment(world: &World, begin: Offset) -> Offset {
    let journal = world.journals.open(&log()).unwrap();
    let end = journal.head(soon()).unwrap().offset;
    let mut reader = journal.read(ReadRange::bounded(begin, end)).unwrap();
    let mut content = Vec::new();
    while let ReadStep::Chunk(chunk) = reader.next(soon()).unwrap() {
        let had = content.len();
        content.resize(had + chunk.len() as usize, 0);
        chunk.read_exact_at(&mut content[had..], 0).unwrap();
    }
    let folder = Path::new("/stored").join(log().as_str());
    create_dir_all_synced(&world.fs, &folder).unwrap();
    let file = world.fs.open(&folder.join(".partial"), OpenMode::Truncate).unwrap();
    file.write_all_at(&content, 0).unwrap();
    let name = FragmentName { begin, end, sum: Sha1::digest(&content).into(), codec: Codec::None };
    world.fs.rename(&folder.join(".partial"), &folder.join(name.to_string())).unwrap();
    end
}

fn stored(world: &World) -> Arc<FragmentJournals> {
    Arc::new(FragmentJournals::open(Arc::new(world.fs.clone()), "/stored").unwrap())
}

#[test]
fn a_standby_sees_what_is_added_to_a_journal_that_cannot_be_followed() {
    let world = World::new();
    let primary = world.primary("/one", 1);
    write(&primary, "file", b"first");
    let end = store_fragment(&world, Offset::ZERO);

    let shard = Replica { journals: stored(&world), ..world.shard() };
    let standby = shard.standby(Path::new("/two")).unwrap();
    standby.wait_for_tail(soon()).unwrap();
    write(&primary, "file", b"later");
    store_fragment(&world, end);
    standby.wait_until(primary.recorder().committed(), soon()).unwrap();

    let refused = standby.promote(author(2), soon()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "what cannot be appended to cannot be taken over");
    assert!(world.fs.metadata(Path::new("/two")).is_err());
}

#[test]
fn waiting_at_the_head_of_a_journal_that_cannot_be_followed_takes_the_time_it_was_given() {
    let world = World::new();
    let primary = world.primary("/one", 1);
    write(&primary, "file", b"first");
    let end = store_fragment(&world, Offset::ZERO);
    let shard = Replica { journals: stored(&world), ..world.shard() };
    let player = shard.plan(Path::new("/two"), &[]).unwrap().player;
    let mut follower = player.follow().unwrap();

    let deadline = Deadline::after(Duration::from_millis(20));
    assert_eq!(follower.tail(deadline).unwrap(), Tail::AtHead);
    assert!(deadline.has_passed(), "it did not wait");

    write(&primary, "file", b"later");
    store_fragment(&world, end);
    assert_eq!(follower.tail(Deadline::passed()).unwrap(), Tail::AtHead);
    assert_eq!(follower.position(), primary.recorder().committed());

    // Whether an interrupt comes before the wait or during it, it ends the wait.
    let interrupter = follower.interrupter();
    let next_year = Deadline::after(Duration::from_secs(365 * 24 * 3600));
    interrupter.interrupt();
    assert_eq!(follower.tail(next_year).unwrap(), Tail::Interrupted);
    std::thread::scope(|scope| {
        let waiter = std::thread::Builder::new().name("waiter".into());
        let waiter = waiter.spawn_scoped(scope, || follower.tail(next_year)).unwrap();
        interrupter.interrupt();
        assert_eq!(waiter.join().unwrap().unwrap(), Tail::Interrupted);
    });
    follower.abandon();
}

/// Runs the life of a shard all of whose directories are named by way of `place/link`, a link to `place/real`.
fn live_behind_a_link(fs: &Arc<dyn FileSystem>, place: &Path) {
    let (link, real) = (place.join("link"), place.join("real"));
    let journals =
        FileJournals::open_on(Arc::clone(fs), link.join("journals"), FileJournalOptions::default());
    let hints = DirectoryHints::open(Arc::clone(fs), &link.join("hints")).unwrap();
    let shard = Replica::new(Arc::new(journals.unwrap()), log(), Arc::new(hints), Arc::clone(fs));
    // One directory is missing, and its parent is a link; the other one is there, and a link itself.
    fs.create_dir(&real.join("empty")).unwrap();
    for (index, named) in [link.join("missing"), place.join("empty")].into_iter().enumerate() {
        let primary = shard.standby(&named).unwrap().promote(author(index as u32 + 1), soon()).unwrap();
        let engine = primary.fs();
        assert_eq!(engine.metadata(&named).unwrap().kind, FileKind::Directory);
        engine.sync_dir(&named).unwrap();
        let resolved = engine.resolve_dir(&named).unwrap();
        assert_eq!(resolved.parent(), Some(&*fs.resolve_dir(&real).unwrap()));
        for (directory, name) in [(&named, "as-named"), (&resolved, "as-resolved")] {
            let file = engine.open(&directory.join(format!("{name}-{index}")), OpenMode::CreateNew).unwrap();
            file.write_all_at(name.as_bytes(), 0).unwrap();
        }
        let beneath = engine.beneath(&named).unwrap();
        beneath.open(Path::new(&format!("beneath-{index}")), OpenMode::CreateNew).unwrap();
        assert_eq!(engine.read_dir(&named).unwrap().len(), 3 * (index + 1));
        primary.close(soon()).unwrap();
    }
    let last = shard.standby(&place.join("last")).unwrap().promote(author(9), soon()).unwrap();
    let names = fs.read_dir(last.directory()).unwrap();
    let names: Vec<_> = names.iter().map(|entry| entry.name.to_str().unwrap()).collect();
    let expected = ["as-named-0", "as-named-1", "as-resolved-0", "as-resolved-1", "beneath-0", "beneath-1"];
    assert_eq!(names, expected);
    // Whoever only looks may name them so too.
    FragmentJournals::open(Arc::clone(fs), &link).unwrap();
    DirectoryHints::open_existing(Arc::clone(fs), &link.join("hints")).unwrap();
    FileJournals::read_only_on(Arc::clone(fs), link.join("journals")).unwrap();
}

#[test]
fn a_shards_directories_may_be_named_through_symbolic_links() {
    let memory = MemoryFs::new();
    memory.create_dir(Path::new("/real")).unwrap();
    memory.plant_symlink(Path::new("real"), Path::new("/link")).unwrap();
    memory.plant_symlink(Path::new("link/empty"), Path::new("/empty")).unwrap();
    live_behind_a_link(&(Arc::new(memory) as Arc<dyn FileSystem>), Path::new("/"));
}

#[cfg(unix)]
#[test]
fn a_shards_directories_may_be_named_through_symbolic_links_of_the_system() {
    let place = tempfile::tempdir().unwrap();
    let os: Arc<dyn FileSystem> = Arc::new(crate::vfs::OsFs::new());
    os.create_dir(&place.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", place.path().join("link")).unwrap();
    std::os::unix::fs::symlink("link/empty", place.path().join("empty")).unwrap();
    live_behind_a_link(&os, place.path());
}

/// Journals that count how often one is opened.
#[derive(Debug, Default)]
struct Counted {
    inner: MemoryJournals,
    opened: std::sync::atomic::AtomicU32,
}

impl Journals for Counted {
    fn open(
        &self,
        name: &JournalName,
    ) -> Result<Arc<dyn crate::journal::Journal>, crate::journal::JournalError> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.inner.open(name)
    }

    fn list(&self) -> Result<Vec<JournalName>> {
        self.inner.list()
    }
}

#[test]
fn a_primary_records_into_the_journal_that_its_standby_followed() {
    let (world, counted) = (World::new(), Arc::new(Counted::default()));
    let journals = Arc::<Counted>::clone(&counted);
    let shard = Replica::new(journals, log(), world.hints.clone(), Arc::new(world.fs.clone()));
    let primary = shard.standby(Path::new("/one")).unwrap().promote(author(1), soon()).unwrap();
    write(&primary, "file", b"acknowledged");
    assert_eq!(counted.opened.load(Ordering::Relaxed), 1);
}

/// A store that takes no set before it is told to.
#[derive(Debug)]
struct Held {
    entered: mpsc::Sender<()>,
    go_on: Mutex<mpsc::Receiver<()>>,
    stored: AtomicBool,
}

impl HintStore for Held {
    fn candidates(&self, _log: &JournalName, _deadline: Deadline) -> Result<Vec<Candidate>> {
        Ok(Vec::new())
    }

    fn store(&self, _hints: &FsmHints, _deadline: Deadline) -> Result<()> {
        self.entered.send(()).unwrap();
        // An error says that it may go on.
        self.go_on.lock().unwrap().recv().unwrap_or_default();
        self.stored.store(true, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn closing_waits_for_hints_that_are_being_stored_no_longer_than_its_deadline() {
    let world = World::new();
    let (entered, was_entered) = mpsc::channel();
    let (go, go_on) = mpsc::channel();
    let store = Arc::new(Held { entered, go_on: Mutex::new(go_on), stored: AtomicBool::new(false) });
    let options = ReplicaOptions { publish_bytes: 1, ..ReplicaOptions::default() };
    let shard = Replica { hints: Arc::clone(&store) as Arc<dyn HintStore>, ..world.shard() }.options(options);
    let primary = shard.standby(Path::new("/one")).unwrap().promote(author(1), soon()).unwrap();
    write(&primary, "file", b"content");
    was_entered.recv().unwrap();

    let refused = primary.close(Deadline::after(Duration::from_millis(10))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(!store.stored.load(Ordering::SeqCst), "it did not wait for the store");
    drop(go);
    drop(world.primary("/two", 2));
    assert_eq!(world.content("/two/file"), b"content", "everything is durable");
}
