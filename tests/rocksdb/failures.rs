//! What RocksDB says when the role, the journal or time is lost, and that it says so for good.

use std::sync::Arc;
use std::time::Duration;

use recoverylog::completion::{Completer, Completion, completion};
use recoverylog::engine::rocksdb::RocksdbOptions;
use recoverylog::journal::{AppendFault, FaultyJournals, Journal, JournalError, MemoryJournals};
use recoverylog::{ErrorKind, FsmHints};
use rocksdb::{DB, WriteOptions};

use crate::bed::{Recorded, log, plain, play};
use crate::work::place;

fn durable() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

/// Checks that nothing is acknowledged any more, whichever way one asks.
#[track_caller]
fn acknowledges_nothing(db: &mut DB, said: &str) {
    for _ in 0..3 {
        let error = db.put_opt("late", "value", &durable()).unwrap_err();
        assert_eq!(error.kind(), rocksdb::ErrorKind::IOError, "{error}");
        assert!(error.to_string().contains(said), "{error}");
        assert!(db.put("late", "value").is_err());
        assert!(db.flush_wal(true).is_err());
        assert!(db.flush().is_err());
        assert!(db.create_cf("late", &plain()).is_err());
    }
}

fn open(recorded: &Recorded) -> DB {
    DB::open(&recorded.options(), place(&recorded.root)).unwrap()
}

#[test]
fn a_database_that_was_superseded_fails_as_fenced_and_acknowledges_nothing_more() {
    let (journals, directory) = (MemoryJournals::new(), tempfile::tempdir().unwrap());
    let first = Recorded::take_over(&journals, &directory.path().join("first"));
    let mut db = open(&first);
    db.put_opt("key", "first", &durable()).unwrap();
    let second = Recorded::take_over(&journals, &directory.path().join("second"));
    let successor = open(&second);
    successor.put_opt("key", "second", &durable()).unwrap();

    let error = db.put_opt("key", "zombie", &durable()).unwrap_err();
    assert_eq!(error.kind(), rocksdb::ErrorKind::IOError, "{error}");
    assert!(error.to_string().contains("fenced"), "{error}");
    assert_eq!(first.env.failure().unwrap().kind(), ErrorKind::Fenced);
    acknowledges_nothing(&mut db, "fenced");
    drop(db);
    successor.put_opt("more", "second", &durable()).unwrap();
    drop(successor);
    second.settle();

    let elsewhere = directory.path().join("played");
    play(&journals, &elsewhere);
    let db = DB::open(&plain(), place(&elsewhere)).unwrap();
    assert_eq!(db.get("key").unwrap().unwrap(), b"second");
    assert!(db.get("late").unwrap().is_none());
}

#[test]
fn a_journal_that_fails_at_any_append_ends_the_database_and_loses_nothing_acknowledged() {
    for number in 0..25 {
        let (faulty, directory) = (FaultyJournals::new(MemoryJournals::new()), tempfile::tempdir().unwrap());
        let (journals, journal) = (faulty.inner(), faulty.journal(&log()));
        let recorded = Recorded::with(
            journals,
            &directory.path().join("recorded"),
            &FsmHints::empty(log()),
            |_| Arc::clone(&journal) as Arc<dyn Journal>,
            RocksdbOptions::default(),
        );
        journal.fail_append(number, AppendFault::UnknownLost);
        (number + 1..number + 10_000).for_each(|later| journal.fail_append(later, AppendFault::UnknownLost));
        let mut acknowledged = None;
        if let Ok(mut db) = DB::open(&recorded.options(), place(&recorded.root)) {
            for value in 0..50_u32 {
                if db.put_opt("key", value.to_string(), &durable()).is_err() {
                    acknowledges_nothing(&mut db, "IO error");
                    break;
                }
                acknowledged = Some(value);
            }
        }
        assert!(recorded.env.failure().is_some(), "append {number}");

        let elsewhere = directory.path().join("played");
        play(journals, &elsewhere);
        if let Some(acknowledged) = acknowledged {
            let db = DB::open(&plain(), place(&elsewhere)).unwrap();
            let value: u32 = std::str::from_utf8(&db.get("key").unwrap().unwrap()).unwrap().parse().unwrap();
            assert!(value == acknowledged || value == acknowledged + 1, "append {number}: {value}");
        }
    }
}

#[test]
fn a_recorder_that_failed_says_io_error_whatever_it_failed_with() {
    let (journals, directory) = (MemoryJournals::new(), tempfile::tempdir().unwrap());
    let recorded = Recorded::take_over(&journals, &directory.path().join("recorded"));
    let mut db = open(&recorded);
    // Taken already: the recorder fails as `Invalid`, which elsewhere is `NotSupported`.
    let mut condition = Completion::<(), JournalError>::resolved(Ok(()));
    condition.wait(recoverylog::Deadline::passed()).unwrap().unwrap();
    recorded.env.recorder().hold_until(condition).unwrap();
    assert_eq!(recorded.env.failure().unwrap().kind(), ErrorKind::Invalid);
    acknowledges_nothing(&mut db, "never be known");
}

type Condition = (Completer<(), JournalError>, Completion<(), JournalError>);

#[test]
fn a_sync_that_is_not_durable_in_time_is_not_acknowledged() {
    let (journals, directory) = (MemoryJournals::new(), tempfile::tempdir().unwrap());
    let recorded = Recorded::take_over(&journals, &directory.path().join("recorded"));
    let mut db = open(&recorded);
    let (_met, condition): Condition = completion();
    recorded.env.recorder().hold_until(condition).unwrap();
    let error = db.put_opt("key", "value", &durable()).unwrap_err();
    assert_eq!(error.kind(), rocksdb::ErrorKind::IOError, "{error}");
    acknowledges_nothing(&mut db, "deadline");
    assert!(recorded.env.failure().is_none(), "the recorder may yet come through");
}

#[test]
fn a_commit_comes_after_what_it_was_to_wait_for() {
    let (journals, directory) = (MemoryJournals::new(), tempfile::tempdir().unwrap());
    let recorded = Recorded::take_over(&journals, &directory.path().join("recorded"));
    let db = open(&recorded);
    db.put_opt("checkpoint", "0", &durable()).unwrap();
    let (met, condition): Condition = completion();
    recorded.env.recorder().hold_until(condition).unwrap();
    db.put("checkpoint", "1").unwrap();
    let mut commit = recorded.env.recorder().barrier().unwrap();
    let held = |name: &str| {
        let elsewhere = directory.path().join(name);
        play(&journals, &elsewhere);
        let db = DB::open(&plain(), place(&elsewhere)).unwrap();
        db.get("checkpoint").unwrap().unwrap()
    };
    assert_eq!(held("before"), b"0");
    met.resolve(Ok(()));
    commit.wait(recoverylog::Deadline::after(Duration::from_secs(20))).unwrap();
    assert_eq!(held("after"), b"1");
}
