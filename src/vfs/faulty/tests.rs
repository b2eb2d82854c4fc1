//! Faults happen where they are asked for, and a crash is the end.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::{Effect, Fault, FaultPlan, FaultyFs, Injected};
use crate::clock::Deadline;
use crate::prng::SplitMix64;
use crate::vfs::{CrashPlan, File, FileSystem, LockMode, MemoryFs, OpenMode};

fn faulty() -> FaultyFs<MemoryFs> {
    FaultyFs::new(MemoryFs::new())
}

fn put(fs: &dyn FileSystem, path: &str, bytes: &[u8]) -> std::io::Result<Arc<dyn File>> {
    let file = fs.open(Path::new(path), OpenMode::Truncate)?;
    file.write_all_at(bytes, 0)?;
    Ok(file)
}

fn get(fs: &dyn FileSystem, path: &str) -> Option<Vec<u8>> {
    let file = fs.open(Path::new(path), OpenMode::Read).ok()?;
    let mut bytes = vec![0; file.metadata().ok()?.len as usize];
    file.read_exact_at(&mut bytes, 0).ok()?;
    Some(bytes)
}

#[test]
fn a_fault_at_a_change_happens_once_and_does_nothing() {
    let fs = faulty();
    fs.inject(FaultPlan::At { number: 1, fault: Fault::Fail(ErrorKind::StorageFull) });
    let file = fs.open(Path::new("/file"), OpenMode::CreateNew).unwrap();
    let error = file.write_at(b"lost", 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    let injected = Injected::of(&error).unwrap();
    assert_eq!((injected.effect, injected.number), (Effect::Write, 1));
    file.write_all_at(b"kept", 0).unwrap();
    assert_eq!(get(&fs, "/file").unwrap(), b"kept");
    assert_eq!(fs.changes(), 3);
    let counts = fs.counts();
    assert_eq!((counts[&Effect::Write].calls, counts[&Effect::Write].faults), (2, 1));
    assert_eq!((counts[&Effect::Create].calls, counts[&Effect::Create].faults), (1, 0));
}

#[test]
fn faults_reach_files_and_directories_beneath() {
    let fs = faulty();
    fs.create_dir(Path::new("/dir")).unwrap();
    let inside = fs.beneath(Path::new("/dir")).unwrap();
    let file = put(&*inside, "file", b"content").unwrap();
    fs.inject(FaultPlan::Every { effect: Effect::Read, fault: Fault::Fail(ErrorKind::Other) });
    fs.inject(FaultPlan::Every { effect: Effect::Open, fault: Fault::Fail(ErrorKind::Other) });
    assert!(file.read_at(&mut [0], 0).is_err());
    assert!(inside.open(Path::new("file"), OpenMode::Read).is_err());
    assert!(fs.open(Path::new("/dir/file"), OpenMode::ReadWrite).is_err());
    fs.inject(FaultPlan::Every { effect: Effect::Look, fault: Fault::Fail(ErrorKind::Other) });
    assert!(file.metadata().is_err() && inside.read_dir(Path::new("")).is_err());
    assert!(fs.metadata(Path::new("/dir/file")).is_err());
    fs.heal();
    assert_eq!(get(&*inside, "file").unwrap(), b"content");
}

#[test]
fn short_calls_move_half_and_torn_writes_fail_after_half() {
    let fs = faulty();
    let file = put(&fs, "/file", b"").unwrap();
    fs.inject(FaultPlan::Nth { effect: Effect::Write, number: 0, fault: Fault::Short });
    assert_eq!(file.write_at(b"01234567", 0).unwrap(), 4);
    assert_eq!(get(&fs, "/file").unwrap(), b"0123");
    fs.inject(FaultPlan::Every { effect: Effect::Write, fault: Fault::Short });
    fs.inject(FaultPlan::Every { effect: Effect::Read, fault: Fault::Short });
    file.write_all_at(b"abcdefg", 0).unwrap();
    assert_eq!(get(&fs, "/file").unwrap(), b"abcdefg");
    fs.heal();
    fs.inject(FaultPlan::Nth { effect: Effect::Write, number: 0, fault: Fault::Torn(ErrorKind::Other) });
    assert!(file.write_at(b"01234567", 0).is_err());
    assert_eq!(get(&fs, "/file").unwrap(), b"0123efg");
}

#[test]
fn after_a_crash_everything_fails_and_nothing_takes_effect() {
    let fs = faulty();
    let file = put(&fs, "/file", b"before").unwrap();
    let words = put(&fs, "/words", b"").unwrap().map_shared(2).unwrap();
    words.word(1).unwrap().store(5, SeqCst);
    assert!(file.try_lock(LockMode::Exclusive).unwrap());
    let inside = fs.beneath(Path::new("/")).unwrap();
    fs.inject(FaultPlan::At { number: 0, fault: Fault::Crash });
    let changes = fs.changes();
    let error = file.write_at(b"after", 0).unwrap_err();
    assert_eq!(Injected::of(&error).unwrap().fault, Fault::Crash);
    fs.heal();
    let root = Path::new("/");
    let other = Path::new("/other");
    let refusals = [
        file.write_at(b"after", 0).map(drop),
        file.read_at(&mut [0], 0).map(drop),
        file.metadata().map(drop),
        file.set_len(0),
        file.sync_data(),
        file.sync_all(),
        file.allocate(0, 100),
        file.try_lock(LockMode::Exclusive).map(drop),
        file.unlock(),
        file.map_shared(1).map(drop),
        fs.open(other, OpenMode::Create).map(drop),
        fs.metadata(root).map(drop),
        fs.read_dir(root).map(drop),
        fs.create_dir(other),
        fs.remove_dir(other),
        fs.remove_file(Path::new("/file")),
        fs.rename(Path::new("/file"), other),
        fs.rename_no_replace(Path::new("/file"), other),
        fs.hard_link(Path::new("/file"), other),
        fs.sync_dir(root),
        fs.beneath(root).map(drop),
        fs.boot_id().map(drop),
        fs.is_network(root).map(drop),
        inside.create_dir(Path::new("other")),
    ];
    for (index, refused) in refusals.into_iter().enumerate() {
        assert_eq!(Injected::of(&refused.unwrap_err()).unwrap().fault, Fault::Crash, "{index}");
    }
    words.word(1).unwrap().store(6, SeqCst);
    assert_eq!(words.word(1).unwrap().load(SeqCst), 6);
    assert!(words.word(2).is_none());
    words.wake(1);
    words.wait(1, 6, Deadline::after(Duration::from_millis(2)));
    assert_eq!(fs.changes(), changes);
    assert!(fs.has_crashed());

    let memory = fs.inner();
    assert_eq!(get(memory, "/file").unwrap(), b"before");
    let inside = memory.open(Path::new("/words"), OpenMode::ReadWrite).unwrap().map_shared(2).unwrap();
    assert_eq!(inside.word(1).unwrap().load(SeqCst), 5);
    assert_eq!(memory.read_dir(root).unwrap().len(), 2);
    // The process is gone once its handles are, and so are its locks.
    let again = memory.open(Path::new("/file"), OpenMode::ReadWrite).unwrap();
    assert!(!again.try_lock(LockMode::Shared).unwrap());
    drop(file);
    assert!(again.try_lock(LockMode::Exclusive).unwrap());
}

#[test]
fn a_crash_amid_a_write_leaves_half_of_it() {
    let fs = faulty();
    let file = put(&fs, "/file", b"01234567").unwrap();
    fs.inject(FaultPlan::Nth { effect: Effect::Write, number: 1, fault: Fault::CrashTorn });
    file.write_all_at(b"ABCDEFGH", 0).unwrap();
    assert!(file.write_all_at(b"abcdefgh", 0).is_err() && fs.has_crashed());
    assert!(file.read_at(&mut [0], 0).is_err());
    assert_eq!(get(fs.inner(), "/file").unwrap(), b"abcdEFGH");
}

#[test]
fn a_failed_sync_gives_up_what_a_later_sync_does_not_bring_back() {
    for effect in [Effect::SyncData, Effect::SyncAll] {
        let fs = faulty();
        let file = put(&fs, "/file", &[1; 2000]).unwrap();
        fs.sync_dir(Path::new("/")).unwrap();
        fs.inject(FaultPlan::Nth { effect, number: 0, fault: Fault::Fail(ErrorKind::Other) });
        assert!(if effect == Effect::SyncData { file.sync_data() } else { file.sync_all() }.is_err());
        file.sync_all().unwrap();
        file.sync_data().unwrap();
        assert_eq!(get(&fs, "/file").unwrap(), [1; 2000]);
        let image = fs.inner().crash_image(CrashPlan::DropUnsynced);
        assert_eq!(get(&image, "/file").unwrap(), [0; 2000]);
        assert_eq!(get(&fs.inner().crash_image(CrashPlan::KeepAll), "/file").unwrap(), [1; 2000]);

        // Written again, a sector is durable; the others are not.
        file.write_all_at(&[2; 10], 600).unwrap();
        file.sync_data().unwrap();
        let mut expected = vec![0; 2000];
        expected[512..1024].fill(1);
        expected[600..610].fill(2);
        let image = fs.inner().crash_image(CrashPlan::DropUnsynced);
        assert_eq!(get(&image, "/file").unwrap(), expected);
    }
}

#[test]
fn after_a_failed_sync_of_names_no_later_one_is_durable() {
    let fs = faulty();
    drop(put(&fs, "/before", b"").unwrap());
    fs.sync_dir(Path::new("/")).unwrap();
    drop(put(&fs, "/lost", b"").unwrap());
    fs.inject(FaultPlan::Nth { effect: Effect::SyncDir, number: 0, fault: Fault::Fail(ErrorKind::Other) });
    assert!(fs.sync_dir(Path::new("/")).is_err());
    fs.sync_dir(Path::new("/")).unwrap();
    let image = fs.inner().crash_image(CrashPlan::DropUnsynced);
    assert!(get(&image, "/before").is_some() && get(&image, "/lost").is_none());
}

#[test]
fn random_faults_follow_their_seed() {
    let run = |seed| {
        let fs = faulty();
        fs.inject(FaultPlan::Random { seed, one_in: 5 });
        let failed = (0..200).map(|i| put(&fs, &format!("/{i}"), b"content").is_err());
        let failed = failed.collect::<Vec<_>>();
        (failed, fs.counts())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    let (failed, counts) = run(3);
    let faults = counts.values().map(|count| count.faults).sum::<u64>();
    assert!((40..140).contains(&faults), "{faults}");
    assert!(failed.iter().any(|failed| *failed) && failed.iter().any(|failed| !*failed));
}

/// Replaces the content of a file as a careful program does.
fn replace(fs: &dyn FileSystem, bytes: &[u8]) -> std::io::Result<()> {
    let file = put(fs, "/dir/file.tmp", bytes)?;
    file.sync_data()?;
    fs.rename(Path::new("/dir/file.tmp"), Path::new("/dir/file"))?;
    fs.sync_dir(Path::new("/dir"))
}

/// Cuts `replace` at every change, takes images, and returns how many hold neither the old nor the new content, or
/// the old one after an acknowledgement.
fn sweep(replace: fn(&dyn FileSystem, &[u8]) -> std::io::Result<()>) -> usize {
    let (old, new) = (vec![1; 3000], vec![2; 9000]);
    let mut wrong = 0;
    // Each change is cut before it begins, and amid it.
    for (crash_at, fault) in (0..).flat_map(|number| [(number, Fault::Crash), (number, Fault::CrashTorn)]) {
        let memory = MemoryFs::new();
        memory.create_dir(Path::new("/dir")).unwrap();
        memory.sync_dir(Path::new("/")).unwrap();
        self::replace(&memory, &old).unwrap();
        let fs = FaultyFs::new(memory);
        fs.inject(FaultPlan::At { number: crash_at, fault });
        let done = replace(&fs, &new).is_ok();
        assert_eq!(done, !fs.has_crashed());
        let plans = (0..50).map(CrashPlan::Seeded);
        for plan in plans.chain([CrashPlan::DropUnsynced, CrashPlan::KeepAll]) {
            let left = get(&fs.inner().crash_image(plan), "/dir/file");
            let holds = left.as_ref() == Some(&new) || (!done && left.as_ref() == Some(&old));
            wrong += usize::from(!holds);
        }
        if done {
            return wrong;
        }
    }
    unreachable!()
}

#[test]
fn a_sweep_finds_nothing_in_a_careful_replacement_and_something_in_careless_ones() {
    assert_eq!(sweep(replace), 0);
    let without_sync_of_content = |fs: &dyn FileSystem, bytes: &[u8]| {
        drop(put(fs, "/dir/file.tmp", bytes)?);
        fs.rename(Path::new("/dir/file.tmp"), Path::new("/dir/file"))?;
        fs.sync_dir(Path::new("/dir"))
    };
    assert!(sweep(without_sync_of_content) > 0);
    let without_sync_of_names = |fs: &dyn FileSystem, bytes: &[u8]| {
        put(fs, "/dir/file.tmp", bytes)?.sync_data()?;
        fs.rename(Path::new("/dir/file.tmp"), Path::new("/dir/file"))
    };
    assert!(sweep(without_sync_of_names) > 0);
    let in_place = |fs: &dyn FileSystem, bytes: &[u8]| put(fs, "/dir/file", bytes)?.sync_data();
    assert!(sweep(in_place) > 0);
}

#[test]
fn through_failed_and_good_syncs_exactly_the_sectors_written_since_are_durable() {
    #[derive(Clone, Copy, PartialEq)]
    enum Sector {
        Clean,
        Dirty,
        GivenUp,
    }
    for seed in 0..60 {
        let mut random = SplitMix64::new(seed);
        let fs = faulty();
        let file = put(&fs, "/file", &[0; 8192]).unwrap();
        file.sync_data().unwrap();
        fs.sync_dir(Path::new("/")).unwrap();
        let (mut content, mut durable) = (vec![0; 8192], vec![0; 8192]);
        let mut sectors = [Sector::Clean; 16];
        for step in 1..=80 {
            if random.one_in(4) {
                let fails = random.one_in(2);
                if fails {
                    let fault = Fault::Fail(ErrorKind::Other);
                    fs.inject(FaultPlan::Nth { effect: Effect::SyncData, number: 0, fault });
                }
                assert_eq!(file.sync_data().is_err(), fails);
                for (index, sector) in sectors.iter_mut().enumerate().filter(|(_, s)| **s == Sector::Dirty) {
                    let range = index * 512..(index + 1) * 512;
                    if !fails {
                        durable[range.clone()].copy_from_slice(&content[range]);
                    }
                    *sector = if fails { Sector::GivenUp } else { Sector::Clean };
                }
            } else {
                let offset = random.below(8192) as usize;
                let end = (offset + 1 + random.below(1500) as usize).min(8192);
                file.write_all_at(&vec![step; end - offset], offset as u64).unwrap();
                content[offset..end].fill(step);
                sectors[offset / 512..end.div_ceil(512)].fill(Sector::Dirty);
            }
            let left = get(&fs.inner().crash_image(CrashPlan::DropUnsynced), "/file").unwrap();
            assert!(left == durable, "seed {seed}, step {step}");
            assert!(get(&fs, "/file").unwrap() == content, "seed {seed}, step {step}");
        }
    }
}
