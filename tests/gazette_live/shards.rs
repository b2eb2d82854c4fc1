//! Whole shards over real brokers, and hints in a real etcd: hand-offs, fencing, and brokers that are lost.
//!
//! *Invariants.* What was acknowledged is restored, byte for byte. A writer that has lost its role is told, and changes nothing.
//!
//! *Does not* run an engine: see `examples/handoff.rs`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use recoverylog::hint_store::{EtcdHints, EtcdOptions, HintStore, MemoryHints};
use recoverylog::journal::{
    Codec, FileJournals, GazetteOptions, Journal, JournalError, Journals, random_author,
};
use recoverylog::replica::{Primary, Replica};
use recoverylog::vfs::{File, FileSystem, MemoryFs, OpenMode};
use recoverylog::{Deadline, ErrorKind, JournalName};

use crate::own::Own;
use crate::world::cluster;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

fn log() -> JournalName {
    JournalName::new("live/shard").unwrap()
}

fn promote(shard: &Replica, directory: &str) -> Primary {
    let standby = shard.standby(Path::new(directory)).unwrap();
    standby.wait_for_tail(soon()).unwrap();
    standby.promote(random_author().unwrap(), soon()).unwrap()
}

fn create(primary: &Primary, name: &str) -> Arc<dyn File> {
    primary.fs().open(&primary.directory().join(name), OpenMode::CreateNew).unwrap()
}

fn content(fs: &dyn FileSystem, path: &str) -> Vec<u8> {
    let file = fs.open(Path::new(path), OpenMode::Read).unwrap();
    let mut content = vec![0; file.metadata().unwrap().len as usize];
    file.read_exact_at(&mut content, 0).unwrap();
    content
}

/// Bytes that tell their place.
fn bytes(from: u64, len: usize) -> Vec<u8> {
    (from..from + len as u64).map(|at| (at * 31 + at / 251) as u8).collect()
}

/// Returns a store of hints of its own: in the etcd that is named, or else in memory.
fn hints() -> Arc<dyn HintStore> {
    let Ok(endpoint) = std::env::var("ETCD_ENDPOINT") else { return Arc::new(MemoryHints::new()) };
    let key = random_author().unwrap().register_value();
    let url = format!("{endpoint}/live/{key}").replacen("http", "etcd", 1);
    Arc::new(EtcdHints::at(&url, EtcdOptions::default()).unwrap())
}

#[test]
fn a_shard_is_handed_off_again_and_again_and_each_old_writer_is_fenced() {
    let Some(below) = cluster(GazetteOptions::default(), Codec::Snappy) else { return };
    let (journals, fs, hints) = (Arc::new(below), Arc::new(MemoryFs::new()), hints());
    let shard = Replica::new(journals, log(), Arc::clone(&hints), Arc::clone(&fs) as _);
    let mut old: Option<(Primary, Arc<dyn File>)> = None;
    for term in 0..6_u64 {
        let primary = promote(&shard, &format!("/{term}"));
        if let Some((zombie, file)) = old.take() {
            for before in 0..term {
                let name = format!("/{term}/file-{before}");
                assert!(content(&*fs, &name) == bytes(before, 50_000), "{name}");
            }
            // The first write may only be too late for an answer; the barrier says what came of it.
            drop(file.write_all_at(b"late", 0));
            let told = zombie.barrier().and_then(|mut barrier| barrier.wait(soon())).unwrap_err();
            assert_eq!(told.kind(), ErrorKind::Fenced, "{told}");
            assert_eq!(zombie.publish_hints(soon()).unwrap_err().kind(), ErrorKind::Fenced);
        }
        let file = create(&primary, &format!("file-{term}"));
        for (index, piece) in bytes(term, 50_000).chunks(5_000).enumerate() {
            file.write_all_at(piece, index as u64 * 5_000).unwrap();
            file.sync_data().unwrap();
        }
        primary.publish_hints(soon()).unwrap();
        old = Some((primary, file));
    }
    assert!(hints.candidates(&log(), soon()).unwrap().len() >= 3);
}

/// Writes until it is told to stop, or cannot; returns how much was acknowledged, and what it failed with.
fn write_on(
    primary: &Primary,
    name: &str,
    stop: &AtomicBool,
    acknowledged: &AtomicU64,
) -> Option<std::io::Error> {
    let file = create(primary, name);
    let mut at = 0;
    while !stop.load(Ordering::Relaxed) {
        if let Err(error) = file.write_all_at(&bytes(at, 3_000), at).and_then(|()| file.sync_data()) {
            return Some(error);
        }
        at += 3_000;
        acknowledged.store(at, Ordering::Relaxed);
    }
    None
}

/// Waits until this much more is acknowledged.
fn until_more(acknowledged: &AtomicU64, bytes: u64) {
    let (begun, from) = (Instant::now(), acknowledged.load(Ordering::Relaxed));
    while acknowledged.load(Ordering::Relaxed) < from + bytes {
        assert!(
            begun.elapsed() < Duration::from_secs(90),
            "nothing is acknowledged any more, {from} bytes were"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn brokers_that_are_killed_or_sent_away_amid_appends_are_not_noticed_while_others_hold_the_log() {
    let Some(own) = Own::start(3) else { return };
    let (fs, key) = (Arc::new(MemoryFs::new()), format!("{}/live/shard", own.etcd()));
    let hints = Arc::new(EtcdHints::at(&key, EtcdOptions::default()).unwrap());
    let shard = Replica::new(Arc::new(own.journals(2)), log(), hints, Arc::clone(&fs) as _);
    let primary = promote(&shard, "/first");
    let standby = shard.standby(Path::new("/second")).unwrap();
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let failed = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_on(&primary, "file", &stop, &acknowledged));
        for round in 0..6 {
            until_more(&acknowledged, 60_000);
            let broker = round % 3;
            if round % 2 == 0 {
                own.kill(broker);
            } else {
                own.term(broker);
            }
            until_more(&acknowledged, 30_000);
            own.go(broker);
            primary.publish_hints(soon()).unwrap();
            let followed = standby.status();
            assert!(followed.failure.is_none(), "{followed:?}");
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    assert!(failed.is_none(), "{failed:?}");
    let written = acknowledged.load(Ordering::Relaxed);
    standby.wait_for_tail(soon()).unwrap();
    let second = standby.promote(random_author().unwrap(), soon()).unwrap();
    assert!(content(&*fs, "/second/file") == bytes(0, written as usize));
    drop(second);
    let third = promote(&shard, "/third");
    assert!(content(&*fs, "/third/file") == bytes(0, written as usize));
    drop(third);
}

#[test]
fn a_zombie_stays_out_when_all_brokers_and_their_registers_are_lost() {
    let Some(own) = Own::start(1) else { return };
    let (fs, hints) = (Arc::new(MemoryFs::new()), Arc::new(MemoryHints::new()));
    let journals = Arc::new(own.journals(1));
    let shard = Replica::new(Arc::clone(&journals) as _, log(), hints, Arc::clone(&fs) as _);
    let first = promote(&shard, "/first");
    let early = create(&first, "early");
    early.write_all_at(&bytes(0, 20_000), 0).unwrap();
    early.sync_data().unwrap();
    let second = promote(&shard, "/second");
    let late = create(&second, "late");
    // Each fragment is stored when the next append comes, but for the last one.
    for index in 0..4 {
        late.write_all_at(&bytes(index * 10_000, 10_000), index * 10_000).unwrap();
        late.sync_data().unwrap();
    }
    std::thread::sleep(Duration::from_secs(2));
    own.kill(0);
    own.go(0);

    // The one that was fenced before has no register against it now, only the offset.
    drop(early.write_all_at(b"late", 0));
    let told = first.barrier().and_then(|mut barrier| barrier.wait(soon())).unwrap_err();
    assert!(matches!(told.kind(), ErrorKind::Fenced | ErrorKind::Diverged), "{told}");
    // The owner is told where what it was promised is gone, or goes on.
    let written = late.write_all_at(b"more", 0).and_then(|()| late.sync_data());
    let head = journals.open(&log()).and_then(|journal| journal.head(soon()));
    println!("the owner: {written:?}; the head: {head:?}");
    if written.is_ok() {
        let third = promote(&shard, "/third");
        let mut expected = bytes(0, 40_000);
        expected[..4].copy_from_slice(b"more");
        assert!(content(&*fs, "/third/late") == expected);
        drop(third);
    } else {
        let told = second.barrier().and_then(|mut barrier| barrier.wait(soon())).unwrap_err();
        assert!(matches!(told.kind(), ErrorKind::Diverged | ErrorKind::DataLoss), "{told}");
    }
}

#[test]
fn a_log_that_is_retired_goes_on_in_a_cluster_whose_store_is_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (fs, hints) = (Arc::new(MemoryFs::new()), hints());
    let files = FileJournals::open(folder.path().join("root")).unwrap();
    let shard = Replica::new(Arc::new(files.clone()), log(), Arc::clone(&hints), Arc::clone(&fs) as _);
    let first = promote(&shard, "/first");
    let file = create(&first, "file");
    file.write_all_at(&bytes(0, 200_000), 0).unwrap();
    file.sync_data().unwrap();
    first.publish_hints(soon()).unwrap();
    first.close(soon()).unwrap();
    let retired = files.open_file(&log()).unwrap();
    retired.retire().unwrap();
    let head = retired.head(soon()).unwrap().offset;
    drop((file, shard, retired, files));

    let Some(own) = Own::start_over(1, folder) else { return };
    let journals = Arc::new(own.journals(1));
    // A broker that finds more than it has written says so, until it is told that this is meant.
    let told = journals.open(&log()).and_then(|journal| journal.head(soon())).unwrap_err();
    assert!(matches!(told, JournalError::Diverged { .. }), "{told}");
    assert_eq!(journals.reset_head(&log(), soon()).unwrap(), head);
    assert_eq!(journals.open(&log()).unwrap().head(soon()).unwrap().offset, head);
    let shard = Replica::new(Arc::clone(&journals) as _, log(), hints, Arc::clone(&fs) as _);
    let second = promote(&shard, "/second");
    assert!(content(&*fs, "/second/file") == bytes(0, 200_000));
    let file = create(&second, "more");
    file.write_all_at(&bytes(7, 100_000), 0).unwrap();
    file.sync_data().unwrap();
    second.publish_hints(soon()).unwrap();
    second.close(soon()).unwrap();
    let third = promote(&shard, "/third");
    assert!(content(&*fs, "/third/file") == bytes(0, 200_000));
    assert!(content(&*fs, "/third/more") == bytes(7, 100_000));
    drop(third);
}
