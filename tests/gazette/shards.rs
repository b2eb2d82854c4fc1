//! Whole shards over the double: what is recorded while brokers fail is what is played, and who has lost its role is fenced.
//!
//! *Invariants.* What was acknowledged is played. A fault that passes is not seen by who records.
//!
//! *Does not* run an engine: files are written to as one would.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use recoverylog::ErrorKind;
use recoverylog::hint_store::MemoryHints;
use recoverylog::journal::{GazetteOptions, random_author};
use recoverylog::replica::Replica;
use recoverylog::vfs::{FileSystem, MemoryFs, OpenMode};
use tonic::Code;

use crate::double::{Call, Double, Fault, Options};
use crate::protocol::{LabelSet, Status};
use crate::{ONE, client, name, noise, quick, soon, within};

fn minute(test: impl FnOnce() + Send + 'static) {
    within(Duration::from_secs(60), test);
}

fn shard(double: &Double, hints: &Arc<MemoryHints>, fs: &Arc<MemoryFs>, options: GazetteOptions) -> Replica {
    let journals = Arc::new(client(double, &[0], options));
    Replica::new(journals, name(ONE), Arc::clone(hints) as _, Arc::clone(fs) as _)
}

fn content(fs: &dyn FileSystem, path: &str) -> Vec<u8> {
    let file = fs.open(Path::new(path), OpenMode::Read).unwrap();
    let mut content = vec![0; file.metadata().unwrap().len as usize];
    file.read_exact_at(&mut content, 0).unwrap();
    content
}

#[test]
fn what_is_recorded_while_brokers_fail_is_what_is_played() {
    minute(|| {
        let double = Double::start(Options::default());
        let (hints, fs) = (Arc::new(MemoryHints::new()), Arc::new(MemoryFs::new()));
        let shard = shard(&double, &hints, &fs, quick());
        let first = shard.standby(Path::new("/first")).unwrap();
        let first = first.promote(random_author().unwrap(), soon()).unwrap();
        let file = first.fs().open(Path::new("/first/file"), OpenMode::CreateNew).unwrap();
        let faults = [
            Fault::Lose,
            Fault::after(1, Fault::Lose),
            Fault::committed(Fault::Lose),
            Fault::Code(Code::Unavailable),
            Fault::Code(Code::Unknown),
            Fault::committed(Fault::Code(Code::Unknown)),
            Fault::committed(Fault::Code(Code::DeadlineExceeded)),
            Fault::Status(Status::NoJournalPrimaryBroker),
            Fault::Status(Status::WrongRoute),
            Fault::committed(Fault::Status(Status::ProposalMismatch)),
            Fault::Stall(Duration::from_millis(100)),
        ];
        for (index, fault) in faults.iter().cycle().take(66).enumerate() {
            double.next(Call::Append, fault.clone());
            file.write_all_at(&noise(index, 1_000), 1_000 * index as u64).unwrap();
            file.sync_data().unwrap_or_else(|error| panic!("{fault:?}: {error}"));
            assert_eq!(double.planned(), 0, "{fault:?}");
        }
        let expected = content(&*fs, "/first/file");
        assert_eq!(expected.len(), 66_000);

        for fault in
            [Fault::after(3, Fault::Lose), Fault::after(5, Fault::Code(Code::Unavailable)), Fault::End]
        {
            double.next(Call::Read, fault);
        }
        let second = shard.standby(Path::new("/second")).unwrap();
        let second = second.promote(random_author().unwrap(), soon()).unwrap();
        assert_eq!(double.planned(), 0);
        assert!(content(&*fs, "/second/file") == expected);
        drop(second);
    });
}

#[test]
fn a_writer_that_has_lost_its_role_is_fenced_though_registers_are_lost() {
    for loses in [false, true] {
        minute(move || {
            let double = Double::start(Options::default());
            let (hints, fs) = (Arc::new(MemoryHints::new()), Arc::new(MemoryFs::new()));
            let shard = shard(&double, &hints, &fs, quick());
            let promote = |directory: &str| {
                let standby = shard.standby(Path::new(directory)).unwrap();
                standby.promote(random_author().unwrap(), soon()).unwrap()
            };
            let first = promote("/first");
            let zombie = first.fs().open(Path::new("/first/file"), OpenMode::CreateNew).unwrap();
            zombie.write_all_at(b"hello", 0).unwrap();
            zombie.sync_data().unwrap();
            let second = promote("/second");
            let file = second.fs().open(Path::new("/second/file"), OpenMode::ReadWrite).unwrap();
            file.write_all_at(b"HE", 0).unwrap();
            file.sync_data().unwrap();
            if loses {
                double.change(ONE, |log| log.registers = LabelSet::default());
            }
            let before = double.content(ONE);
            zombie.write_all_at(b"zombie", 0).unwrap();
            let refused = first.barrier().and_then(|mut barrier| barrier.wait(soon())).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Fenced, "registers are lost: {loses}: {refused}");
            assert!(double.content(ONE) == before, "nothing of it has committed");
            file.write_all_at(b"Y", 0).unwrap();
            file.sync_data().unwrap();
            let third = promote("/third");
            assert_eq!(content(&*fs, "/third/file"), b"YEllo");
            drop(third);
        });
    }
}

#[test]
fn a_standby_follows_while_its_brokers_come_and_go() {
    minute(|| {
        let double = Double::start(Options::default());
        let (hints, fs) = (Arc::new(MemoryHints::new()), Arc::new(MemoryFs::new()));
        let mut options = quick();
        options.append_max = Duration::from_secs(20);
        options.read_max = Duration::from_secs(20);
        let shard = shard(&double, &hints, &fs, options);
        let first = shard.standby(Path::new("/first")).unwrap();
        let first = first.promote(random_author().unwrap(), soon()).unwrap();
        let file = first.fs().open(Path::new("/first/file"), OpenMode::CreateNew).unwrap();
        file.sync_data().unwrap();
        let standby = shard.standby(Path::new("/second")).unwrap();
        for round in 0..6 {
            file.write_all_at(&noise(round, 5_000), 5_000 * round as u64).unwrap();
            match round % 3 {
                0 => double.cut(),
                1 => {
                    double.down(0);
                    double.up(0);
                }
                _ => {}
            }
            file.sync_data().unwrap();
            standby.wait_until(first.recorder().committed(), soon()).unwrap();
        }
        let second = standby.promote(random_author().unwrap(), soon()).unwrap();
        assert!(content(&*fs, "/second/file") == content(&*fs, "/first/file"));
        drop(second);
    });
}
