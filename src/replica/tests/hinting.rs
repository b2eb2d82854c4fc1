//! What a primary publishes beside what is stored already, by itself or by others.

use super::*;
use crate::live::HintBudget;
use crate::sync::atomic::AtomicUsize;

/// A store of which whoever looks first sees the oldest set only.
#[derive(Debug)]
struct Late {
    inner: Arc<MemoryHints>,
    looks: AtomicUsize,
}

impl HintStore for Late {
    fn candidates(&self, log: &JournalName, deadline: Deadline) -> Result<Vec<Candidate>> {
        let mut candidates = self.inner.candidates(log, deadline)?;
        if self.looks.fetch_add(1, Ordering::Relaxed) == 0 {
            candidates.drain(..candidates.len() - 1);
        }
        Ok(candidates)
    }

    fn store(&self, hints: &FsmHints, deadline: Deadline) -> Result<()> {
        self.inner.store(hints, deadline)
    }
}

pub(super) fn exact() -> ReplicaOptions {
    let budget = HintBudget { seek_bytes: 0, ..HintBudget::default() };
    let recorder = RecorderOptions::default().hint_budget(budget);
    ReplicaOptions { recorder, ..ReplicaOptions::default() }
}

/// Returns the sequence numbers that the newest stored set names.
fn named(world: &World) -> Vec<i64> {
    let newest = world.hints.candidates(&log(), soon()).unwrap().swap_remove(0).hints.unwrap();
    let flat = newest.flatten().unwrap();
    flat.segments.as_slice().iter().flat_map(|s| s.first_seq_no.get()..=s.last_seq_no.get()).collect()
}

fn page(primary: &Primary, number: u64) {
    let path = primary.directory().join("pages");
    let file = primary.fs().open(&path, OpenMode::ReadWrite).unwrap();
    file.write_all_at(&[number as u8; 100], number * 100).unwrap();
}

#[test]
fn what_a_newer_set_leaves_out_a_primary_that_played_an_older_one_leaves_out_too() {
    let world = World::new();
    let standby = world.shard().options(exact()).standby(Path::new("/one")).unwrap();
    let one = standby.promote(author(1), soon()).unwrap();
    write(&one, "pages", b"");
    (0..4).for_each(|number| page(&one, number));
    one.publish_hints(soon()).unwrap();
    page(&one, 1);
    one.publish_hints(soon()).unwrap();
    let left_out = 4;
    assert!(!named(&world).contains(&left_out), "{:?}", named(&world));
    drop(one);

    // With room to spare for every gap.
    let late = Arc::new(Late { inner: world.hints.clone(), looks: AtomicUsize::new(0) });
    let shard = Replica::new(world.journals.clone(), log(), late, Arc::new(world.fs.clone()));
    let two = shard.standby(Path::new("/two")).unwrap().promote(author(2), soon()).unwrap();
    two.publish_hints(soon()).unwrap();
    assert!(named(&world).len() > 5 && !named(&world).contains(&left_out), "{:?}", named(&world));
    two.publish_hints(soon()).unwrap();
    assert!(!named(&world).contains(&left_out), "{:?}", named(&world));
}

#[test]
fn a_set_that_names_what_is_not_stored_is_not_published() {
    let world = World::new();
    let primary = world.primary("/one", 1);
    write(&primary, "file", &[7; 3000]);
    primary.publish_hints(soon()).unwrap();
    let before = named(&world);
    write(&primary, "other", &[7; 3000]);
    let head = world.journals.open(&log()).unwrap().head(soon()).unwrap().offset;
    assert!(world.journals.journal(&log()).drop_fragment(Offset::new(head.get() - 1_000).unwrap()));
    write(&primary, "last", &[7; 3000]);
    let error = primary.publish_hints(soon()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataLoss, "{error}");
    assert_eq!(named(&world), before, "the set that can be played stays the best");
}

#[test]
fn a_snapshot_that_comes_late_is_left_out_from_once_what_it_leaves_out_is_gone() {
    let journals = Arc::new(MemoryJournals::new().fragment_bytes(1));
    let world = World { journals, ..World::new() };
    let standby = world.shard().options(exact()).standby(Path::new("/one")).unwrap();
    let one = standby.promote(author(1), soon()).unwrap();
    write(&one, "pages", b"");
    (0..4).for_each(|number| page(&one, number));
    one.publish_hints(soon()).unwrap();
    page(&one, 1);
    let mut pending = one.recorder().take_hints().unwrap();
    one.barrier().unwrap().wait(soon()).unwrap();
    let late = pending.wait(soon()).unwrap();
    drop(one);

    let snapshots = Arc::new(MemoryHints::new());
    // With room to spare for every gap.
    let shard = world.shard().snapshots(snapshots.clone(), SnapshotOptions::default());
    let two = shard.standby(Path::new("/two")).unwrap().promote(author(2), soon()).unwrap();
    two.publish_hints(soon()).unwrap();
    let left_out = 4;
    assert!(named(&world).contains(&left_out), "{:?}", named(&world));

    snapshots.store(&late, soon()).unwrap();
    let before = crate::player::Bound::Seq(crate::ids::SeqNo::new(left_out - 1));
    let gone = world.shard().past().unwrap().plan(&before, Path::new("/x"), &PlayOptions::default()).unwrap();
    let begin = gone.player.point().unwrap().offset;
    assert!(world.journals.journal(&log()).drop_fragment(begin));
    assert_eq!(two.publish_hints(soon()).unwrap_err().kind(), ErrorKind::DataLoss);
    two.publish_hints(soon()).unwrap();
    assert!(!named(&world).contains(&left_out), "{:?}", named(&world));
    drop(shard.standby(Path::new("/three")).unwrap().promote(author(3), soon()).unwrap());
}

#[test]
fn hints_fit_a_store_that_limits_them_as_long_as_that_can_be_and_then_it_is_told() {
    const BYTES_MAX: usize = 64 << 10;
    let world = World { hints: Arc::new(MemoryHints::new().bytes_max(BYTES_MAX)), ..World::new() };
    let standby = world.shard().options(exact()).standby(Path::new("/one")).unwrap();
    let one = standby.promote(author(1), soon()).unwrap();
    assert_eq!((one.status().hints_bytes, one.status().hints_bytes_max), (0, Some(BYTES_MAX as u64)));
    write(&one, "pages", b"");
    let scatter = || {
        (0..800).for_each(|number| page(&one, number));
        (0..800).step_by(2).for_each(|number| page(&one, number));
    };
    scatter();
    for round in 0..8 {
        (0..20).for_each(|file| write(&one, &format!("file-{round}-{file}"), b"content"));
        scatter();
        one.publish_hints(soon()).unwrap();
        let status = one.status();
        assert!((10_000..=BYTES_MAX as u64).contains(&status.hints_bytes), "{status:?}");
        let best = world.hints.candidates(&log(), soon()).unwrap().swap_remove(0).hints.unwrap();
        assert_eq!(best.encode_json().len() as u64, status.hints_bytes);
    }
    // More files than fit with one segment each.
    let more = |call: &dyn Fn(&str)| (0..200).for_each(|file| call(&format!("more-{file}")));
    more(&|name| write(&one, name, b"more"));
    let (before, status) = (named(&world), one.status());
    let error = one.publish_hints(soon()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let told = error.to_string();
    assert!(told.contains("the hints of 361 live files do not fit"), "{told}");
    assert!(
        told.contains(&format!("at most {BYTES_MAX} bytes")) && told.contains("DirectoryHints"),
        "{told}"
    );
    assert_eq!(one.status().hints_failure.map(|error| error.to_string()), Some(told));
    assert_eq!(one.status().hints_bytes, status.hints_bytes);
    assert_eq!(named(&world), before, "what was stored is still the best");
    more(&|name| one.fs().remove_file(&one.directory().join(name)).unwrap());
    one.publish_hints(soon()).unwrap();
    assert!(one.status().hints_failure.is_none());
    one.close(soon()).unwrap();
    drop(world.primary("/two", 2));
    for name in ["pages", "file-0-0", "file-7-19"] {
        let (one, two) = (world.content(&format!("/one/{name}")), world.content(&format!("/two/{name}")));
        assert!(one == two && !one.is_empty(), "{name}");
    }
}
