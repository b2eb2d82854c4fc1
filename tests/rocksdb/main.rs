//! Goal: a RocksDB whose files are recorded loses nothing that was acknowledged, acknowledges nothing that could be lost,
//! and never notices but for that.
//!
//! Method: random work of every kind beside a model, under options that change how files are written. The log is played
//! elsewhere and must give the same files, in which RocksDB must find the model. Then whatever it depends on fails: the
//! role, the journal, time. Processes that are killed, stopped and starved are in `crashes`; logs that the reference
//! wrote in `reference`.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test stops at the first surprise, looks at files by itself, and reports from a process"
)]

mod bed;
mod crashes;
mod failures;
mod reference;
mod sums;
mod work;

use std::fs;
use std::path::Path;

use bed::{Recorded, assert_same_tree, log, plain, play};
use recoverylog::engine::rocksdb::{RocksdbEnv, RocksdbOptions};
use recoverylog::journal::MemoryJournals;
use recoverylog::{ErrorKind, FsmHints};
use rocksdb::backup::{BackupEngine, BackupEngineOptions, RestoreOptions};
use rocksdb::{
    DBPath, Env, IngestExternalFileOptions, OptimisticTransactionDB, Options, SstFileWriter, TransactionDB,
    TransactionDBOptions,
};
use work::{Database, Model, Story};

/// Changes how a database below `root` writes files.
type Variant = fn(&mut Options, root: &Path);

fn unchanged(_: &mut Options, _: &Path) {}

fn direct(options: &mut Options, _: &Path) {
    options.set_use_direct_io_for_flush_and_compaction(true);
    options.set_use_direct_reads(true);
}

fn recycled(options: &mut Options, _: &Path) {
    options.set_recycle_log_file_num(2);
}

fn blobs(options: &mut Options, _: &Path) {
    options.set_enable_blob_files(true);
    options.set_min_blob_size(200);
    options.set_enable_blob_gc(true);
}

fn spread(options: &mut Options, root: &Path) {
    options.set_wal_dir(root.join("wal"));
    let paths = [("fast", 100_000), ("slow", 1 << 30)];
    let paths = paths.map(|(name, bytes)| DBPath::new(root.join(name), bytes).unwrap());
    options.set_db_paths(&paths);
}

fn mapped_and_synced(options: &mut Options, _: &Path) {
    options.set_allow_mmap_reads(true);
    options.set_allow_mmap_writes(true);
    options.set_bytes_per_sync(4096);
    options.set_wal_bytes_per_sync(4096);
    options.set_wal_ttl_seconds(3600);
    options.set_use_fsync(true);
}

/// Works for so many steps, plays the log elsewhere, and compares files and content.
fn work_and_compare(seed: u64, steps: u64, variant: Variant) {
    let (journals, directory) = (MemoryJournals::new(), tempfile::tempdir().unwrap());
    let recorded = Recorded::take_over(&journals, &directory.path().join("recorded"));
    let mut options = recorded.options();
    variant(&mut options, &recorded.root);
    let mut database = Database::open(&recorded.root, options).unwrap();
    let mut story = Story::new(seed, 0, Model::new());
    for _ in 0..steps {
        let step = story.next();
        let done = database.step(&step, &*recorded.fs);
        database = done.unwrap_or_else(|(error, _)| panic!("seed {seed}: step {}: {error}", story.steps));
    }
    assert_eq!(database.read_all().unwrap(), story.model, "seed {seed}");
    drop(database);
    recorded.settle();

    let elsewhere = directory.path().join("played");
    play(&journals, &elsewhere);
    assert_same_tree(&recorded.root, &elsewhere);
    let mut options = plain();
    variant(&mut options, &elsewhere);
    let played = Database::open(&elsewhere, options).unwrap();
    assert_eq!(played.read_all().unwrap(), story.model, "seed {seed}");
}

#[test]
fn a_played_directory_is_the_recorded_one_file_by_file_whatever_rocksdb_does() {
    for variant in [unchanged, direct, recycled, blobs, spread, mapped_and_synced] {
        for seed in 1..=3 {
            work_and_compare(seed, 250, variant);
        }
    }
}

#[test]
fn a_checkpoint_is_a_database_of_its_own_in_the_played_directory_too() {
    let (journals, directory) = (MemoryJournals::new(), tempfile::tempdir().unwrap());
    let recorded = Recorded::take_over(&journals, &directory.path().join("recorded"));
    let database = Database::open(&recorded.root, recorded.options()).unwrap();
    database.db.put("key", "value").unwrap();
    database.db.flush().unwrap();
    database.db.put("key", "later").unwrap();
    let checkpoint = rocksdb::checkpoint::Checkpoint::new(&database.db).unwrap();
    checkpoint.create_checkpoint(recorded.root.join("checkpoint")).unwrap();
    drop(checkpoint);
    database.db.put("key", "latest").unwrap();
    drop(database);
    recorded.settle();
    let elsewhere = directory.path().join("played");
    play(&journals, &elsewhere);
    assert_same_tree(&recorded.root, &elsewhere);
    for (name, value) in [("checkpoint", "later"), ("db", "latest")] {
        let db = rocksdb::DB::open(&plain(), elsewhere.join(name)).unwrap();
        assert_eq!(db.get("key").unwrap().unwrap(), value.as_bytes());
    }
}

#[test]
fn transactions_of_both_kinds_commit_into_the_log() {
    let (journals, directory) = (MemoryJournals::new(), tempfile::tempdir().unwrap());
    let recorded = Recorded::take_over(&journals, &directory.path().join("recorded"));
    {
        let path = recorded.root.join("pessimistic");
        let db: TransactionDB =
            TransactionDB::open(&recorded.options(), &TransactionDBOptions::default(), path).unwrap();
        for number in 0..200 {
            let transaction = db.transaction();
            transaction.put(format!("{number}"), vec![7; 1000]).unwrap();
            if number % 2 == 0 { transaction.commit().unwrap() } else { transaction.rollback().unwrap() }
        }
        let db: OptimisticTransactionDB =
            OptimisticTransactionDB::open(&recorded.options(), recorded.root.join("optimistic")).unwrap();
        let (one, other) = (db.transaction(), db.transaction());
        one.put("key", "one").unwrap();
        other.put("key", "other").unwrap();
        one.commit().unwrap();
        assert!(other.commit().is_err());
    }
    recorded.settle();
    let elsewhere = directory.path().join("played");
    play(&journals, &elsewhere);
    assert_same_tree(&recorded.root, &elsewhere);
    let db = rocksdb::DB::open(&plain(), elsewhere.join("pessimistic")).unwrap();
    assert_eq!(db.iterator(rocksdb::IteratorMode::Start).count(), 100);
    let db = rocksdb::DB::open(&plain(), elsewhere.join("optimistic")).unwrap();
    assert_eq!(db.get("key").unwrap().unwrap(), b"one");
}

#[test]
fn backups_go_to_a_directory_that_was_named_and_come_back_from_it() {
    let (journals, directory) = (MemoryJournals::new(), tempfile::tempdir().unwrap());
    let (root, backups) = (directory.path().join("recorded"), directory.path().join("backups"));
    let options = RocksdbOptions::default().unrecorded(&backups);
    let recorded = Recorded::with(&journals, &root, &FsmHints::empty(log()), |journal| journal, options);
    let database = Database::open(&root, recorded.options()).unwrap();
    (0..500).for_each(|number| database.db.put(format!("{number}"), [7; 500]).unwrap());
    let mut engine =
        BackupEngine::open(&BackupEngineOptions::new(&backups).unwrap(), recorded.env.env()).unwrap();
    engine.create_new_backup_flush(&database.db, true).unwrap();
    drop(database);
    let restored = root.join("restored");
    engine.restore_from_latest_backup(&restored, &restored, &RestoreOptions::default()).unwrap();
    drop(engine);
    recorded.settle();

    let elsewhere = directory.path().join("played");
    play(&journals, &elsewhere);
    assert_same_tree(&root, &elsewhere);
    let db = rocksdb::DB::open(&plain(), elsewhere.join("restored")).unwrap();
    assert_eq!(db.iterator(rocksdb::IteratorMode::Start).count(), 500);
}

#[test]
fn what_lies_outside_of_the_recorded_directory_is_refused_by_name() {
    let (journals, directory) = (MemoryJournals::new(), tempfile::tempdir().unwrap());
    let recorded = Recorded::take_over(&journals, &directory.path().join("recorded"));
    let outside = directory.path().join("outside");
    let refused = |opened: Result<Database, rocksdb::Error>| {
        let error = opened.err().unwrap();
        assert_eq!(error.kind(), rocksdb::ErrorKind::NotSupported, "{error}");
        assert!(error.to_string().contains("RocksdbOptions::unrecorded"), "{error}");
    };
    refused(Database::open(&outside, recorded.options()));
    let mut options = recorded.options();
    options.set_wal_dir(&outside);
    refused(Database::open(&recorded.root, options));
    assert!(bed::tree(&outside).is_empty(), "{:?}", bed::tree(&outside).keys());

    let database = Database::open(&recorded.root, recorded.options()).unwrap();
    let checkpoint = rocksdb::checkpoint::Checkpoint::new(&database.db).unwrap();
    let error = checkpoint.create_checkpoint(directory.path().join("checkpoint")).unwrap_err();
    assert_eq!(error.kind(), rocksdb::ErrorKind::NotSupported, "{error}");
    // None of this ended the database.
    database.db.put("key", "value").unwrap();
    assert!(recorded.env.failure().is_none());
}

#[test]
fn no_way_through_a_directory_that_is_not_recorded_leads_back_into_the_one_that_is() {
    let (journals, directory) = (MemoryJournals::new(), tempfile::tempdir().unwrap());
    let (root, aside) = (directory.path().join("recorded"), directory.path().join("aside"));
    fs::create_dir(&aside).unwrap();
    let options = RocksdbOptions::default().unrecorded(&aside);
    let recorded = Recorded::with(&journals, &root, &FsmHints::empty(log()), |journal| journal, options);
    std::os::unix::fs::symlink(&root, aside.join("alias")).unwrap();
    let before = recorded.env.recorder().counters().ops_recorded;
    for way in ["aside/alias/db", "aside/../recorded/db", "aside/alias"] {
        let opened = rocksdb::DB::open(&recorded.options(), directory.path().join(way));
        assert_eq!(opened.unwrap_err().kind(), rocksdb::ErrorKind::NotSupported, "{way}");
    }
    assert_eq!(recorded.env.recorder().counters().ops_recorded, before);
    for wrong in [root.join("below"), aside.join("alias"), aside.join("../aside"), "".into(), "aside".into()]
    {
        let options = RocksdbOptions::default().unrecorded(&wrong);
        let error = RocksdbEnv::new(&recorded.fs, options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{}", wrong.display());
    }
}

#[test]
fn tables_made_elsewhere_are_ingested_by_copy_and_by_move() {
    let (journals, directory) = (MemoryJournals::new(), tempfile::tempdir().unwrap());
    let recorded = Recorded::take_over(&journals, &directory.path().join("recorded"));
    let database = Database::open(&recorded.root, recorded.options()).unwrap();
    for moves in [false, true] {
        let path = directory.path().join(format!("{moves}.sst"));
        let mut options = plain();
        options.set_env(&Env::new().unwrap());
        let mut writer = SstFileWriter::create(&options);
        writer.open(&path).unwrap();
        writer.put("key", format!("{moves}")).unwrap();
        writer.finish().unwrap();
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(moves);
        database.db.ingest_external_file_opts(&options, vec![&path]).unwrap();
        assert_eq!(database.db.get("key").unwrap().unwrap(), format!("{moves}").as_bytes());
    }
    drop(database);
    recorded.settle();
    let elsewhere = directory.path().join("played");
    play(&journals, &elsewhere);
    assert_same_tree(&recorded.root, &elsewhere);
}
