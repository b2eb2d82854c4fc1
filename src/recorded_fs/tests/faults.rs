//! A local disk that says no, writes half, or dies.

use super::*;
use crate::error::ErrorKind;
use crate::prng::SplitMix64;
use crate::vfs::{Effect, Fault, FaultPlan, FaultyFs};

struct Faulty {
    journal: Arc<Flaky>,
    disk: MemoryFs,
    fs: RecordedFs<FaultyFs<MemoryFs>>,
}

impl Faulty {
    fn new() -> Self {
        let (journal, disk) = (Flaky::new([]), MemoryFs::new());
        disk.create_dir(Path::new("/db")).unwrap();
        let faulty = FaultyFs::new(disk.clone());
        let fs = RecordedFs::new(faulty, Path::new("/db"), record(&journal), RecordedFsOptions::default());
        Self { journal, disk, fs }
    }

    #[track_caller]
    fn check(&self) {
        self.fs.sync_dir(Path::new("/db")).unwrap();
        assert_eq!(played(&self.journal), local(&self.disk, Path::new("/db")));
    }
}

#[test]
fn a_torn_or_short_write_is_recorded_as_found() {
    for fault in
        [Fault::Short, Fault::Torn(io::ErrorKind::StorageFull), Fault::Fail(io::ErrorKind::StorageFull)]
    {
        let bed = Faulty::new();
        let file = bed.fs.open_recorded(&db("a"), OpenMode::Create).unwrap();
        file.write_all_at(&[7; 100], 0).unwrap();
        bed.fs.inner().inject(FaultPlan::Nth { effect: Effect::Write, number: 0, fault });
        let outcome = file.write_at(&[8; 100], 50);
        assert_eq!(outcome.is_err(), fault != Fault::Short);
        bed.check();
        bed.fs.inner().heal();
        file.append(&[9; 10]).unwrap();
        bed.check();
    }
}

#[test]
fn a_write_that_cannot_be_read_back_fails_the_recorder() {
    let bed = Faulty::new();
    let file = bed.fs.open_recorded(&db("a"), OpenMode::Create).unwrap();
    bed.fs.inner().inject(FaultPlan::Nth { effect: Effect::Write, number: 0, fault: Fault::Crash });
    assert!(file.write_at(&[8; 100], 50).is_err());
    bed.fs.inner().heal();
    assert_eq!(bed.fs.recorder().failure().unwrap().kind(), ErrorKind::Io);
    assert!(file.write_at(b"x", 0).is_err() && file.sync_data().is_err());
}

#[test]
fn local_calls_that_fail_leave_the_log_as_it_was() {
    let bed = Faulty::new();
    let file = bed.fs.open_recorded(&db("a"), OpenMode::Create).unwrap();
    file.write_all_at(&[7; 100], 0).unwrap();
    bed.fs.create_dir(&db("d")).unwrap();
    let before = bed.fs.recorder().counters();
    let number = 0;
    let fault = Fault::Fail(io::ErrorKind::PermissionDenied);
    for effect in [Effect::Rename, Effect::RemoveFile, Effect::Link, Effect::SetLen, Effect::Create] {
        bed.fs.inner().inject(FaultPlan::Nth { effect, number, fault });
        let outcome = match effect {
            Effect::Rename => bed.fs.rename(&db("a"), &db("b")),
            Effect::RemoveFile => bed.fs.remove_file(&db("a")),
            Effect::Link => bed.fs.hard_link(&db("a"), &db("b")),
            Effect::SetLen => file.set_len(10),
            _ => bed.fs.open(&db("new"), OpenMode::Create).map(drop),
        };
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::PermissionDenied, "{effect:?}");
    }
    assert_eq!(bed.fs.recorder().counters(), before);
    bed.check();
}

#[test]
fn the_log_holds_the_local_tree_whatever_fails_at_random() {
    for seed in 0..200 {
        let bed = Faulty::new();
        let mut random = SplitMix64::new(seed);
        bed.fs.inner().inject(FaultPlan::Random { seed, one_in: 6 });
        for _ in 0..60 {
            let names = ["a", "b", "LOG"];
            let name = db(names[random.below(3) as usize]);
            let other = db(names[random.below(3) as usize]);
            let outcome = match random.below(9) {
                0 => bed.fs.rename(&name, &other),
                1 => bed.fs.hard_link(&name, &other),
                2 => bed.fs.remove_file(&name),
                3 => bed.fs.open(&name, OpenMode::Truncate).map(drop),
                kind => bed.fs.open_recorded(&name, OpenMode::Create).and_then(|file| match kind {
                    4 => file.set_len(random.below(50)),
                    5 => file.allocate(random.below(50), 20),
                    6 => file.append(&[random.next_u64() as u8; 30]).map(drop),
                    _ => file.write_at(&[random.next_u64() as u8; 40], random.below(60)).map(drop),
                }),
            };
            drop(outcome);
        }
        bed.fs.inner().heal();
        assert!(bed.fs.recorder().failure().is_none(), "seed {seed}");
        assert_eq!(played(&bed.journal), local(&bed.disk, Path::new("/db")), "seed {seed}");
    }
}
