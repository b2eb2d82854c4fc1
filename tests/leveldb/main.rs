//! Goal: a LevelDB whose files are recorded loses nothing that was acknowledged, and acknowledges nothing that could be
//! lost.
//!
//! Method: random batches and compactions with small tables, beside a model of what the database was told. The log
//! is played into other directories, where LevelDB must open and hold the model: all of it after an
//! acknowledgement, and after a loss a state that it was told of, no older than the last one acknowledged. Then
//! whatever the engine depends on fails: the journal, the role, the disk, a single read. Keys are read by a scan: the
//! engine's `get` is wrong now and then in any environment, its own in memory included.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod bed;

use std::path::Path;
use std::sync::Arc;

use bed::{DIR, History, Random, Writer, existing, log, options, play, play_in_memory, soon};
use recoverylog::engine::leveldb::LeveldbEnv;
use recoverylog::journal::{MemoryJournals, random_author};
use recoverylog::vfs::{Effect, Fault, FaultPlan, FileSystem, MemoryFs};
use recoverylog::{ErrorKind, Fsm, Recorder, RecorderOptions};
use rusty_leveldb::{DB, StatusCode};

/// Prints the seed of a case that fails.
fn each_seed(seeds: u64, case: impl Fn(&mut Random)) {
    for seed in 1..=seeds {
        let run = std::panic::AssertUnwindSafe(|| case(&mut Random::new(seed)));
        assert!(std::panic::catch_unwind(run).is_ok(), "seed {seed} failed");
    }
}

fn tables(fs: &dyn FileSystem, dir: &Path) -> Vec<u64> {
    let names = fs.read_dir(dir).unwrap().into_iter().filter_map(|entry| entry.name.into_string().ok());
    names.filter_map(|name| name.strip_suffix(".ldb")?.parse().ok()).collect()
}

/// A log with one writer, whose database is there and acknowledged.
struct Begun {
    journals: MemoryJournals,
    writer: Writer,
    db: DB,
    history: History,
}

impl Begun {
    fn new() -> Self {
        let journals = MemoryJournals::new();
        let writer = Writer::take_over(&journals);
        let mut db = DB::open(DIR, options(&writer.env)).unwrap();
        let mut history = History::default();
        history.acknowledge(&mut db).unwrap();
        Self { journals, writer, db, history }
    }
}

/// Nothing is acknowledged, whichever way one asks.
fn acknowledges_nothing(db: &mut DB, late: &mut u64) {
    for _ in 0..20 {
        // The engine panics where a write that failed is made again: never the same key.
        *late += 1;
        let mut batch = rusty_leveldb::WriteBatch::default();
        batch.put(format!("late {late}").as_bytes(), b"value");
        assert!(db.write(batch, true).is_err());
        assert!(db.flush().is_err());
    }
    assert!(db.compact_range(b"a", b"z").is_err());
}

#[test]
fn what_is_acknowledged_is_in_every_directory_that_is_played() {
    each_seed(3, |random| {
        let journals = MemoryJournals::new();
        let writer = Writer::take_over(&journals);
        let mut db = DB::open(DIR, options(&writer.env)).unwrap();
        let mut history = History::default();
        for _ in 0..25 {
            for _ in 0..random.below(80) {
                history.work(&mut db, random).unwrap();
            }
            history.acknowledge(&mut db).unwrap();
            history.check_whole(&mut play_in_memory(&journals));
        }
        history.check_whole(&mut db);
        // Tables were written, and compacted away again.
        let tables = tables(&*writer.fs, Path::new(DIR));
        assert!(tables.len() > 1 && tables.iter().max().unwrap() > &(4 * tables.len() as u64), "{tables:?}");
        assert!(writer.env.failure().is_none());
    });
}

#[test]
fn a_lost_writer_leaves_what_was_acknowledged_and_a_prefix_of_the_rest() {
    each_seed(25, |random| {
        let journals = MemoryJournals::new();
        let mut history = History::default();
        for generation in 0..4 {
            let writer = Writer::take_over(&journals);
            let options = if generation == 0 { options(&writer.env) } else { existing(&writer.env) };
            // The first must get far enough that there is a database.
            if generation > 0 {
                writer.wire.cut_after(random.below(300));
            }
            if let Ok(mut db) = DB::open(DIR, options) {
                if generation == 0 {
                    history.acknowledge(&mut db).unwrap();
                    writer.wire.cut_after(random.below(300));
                }
                while history.work(&mut db, random).is_ok() {}
                assert!(history.acknowledge(&mut db).is_err());
            }
            assert!(writer.env.failure().is_some());
            history.check_prefix(&mut play_in_memory(&journals));
        }
        assert!(history.acknowledged() > 0);
    });
}

#[test]
fn a_journal_that_refuses_ends_acknowledgement_for_good() {
    each_seed(20, |random| {
        let Begun { journals, writer, mut db, mut history } = Begun::new();
        writer.wire.refuse_after(random.below(300));
        while history.work(&mut db, random).is_ok() {}
        acknowledges_nothing(&mut db, &mut 0);
        assert_eq!(writer.env.failure().unwrap().kind(), ErrorKind::Wedged);
        // Not even once the journal would accept again.
        writer.wire.mend();
        acknowledges_nothing(&mut db, &mut 100);
        history.check_prefix(&mut play_in_memory(&journals));
    });
}

#[test]
fn a_writer_that_lost_its_role_is_told_so_and_acknowledges_nothing() {
    let journals = MemoryJournals::new();
    let (old, mut random) = (Writer::take_over(&journals), Random::new(1));
    let mut old_db = DB::open(DIR, options(&old.env)).unwrap();
    let mut history = History::default();
    for _ in 0..300 {
        history.work(&mut old_db, &mut random).unwrap();
    }
    history.acknowledge(&mut old_db).unwrap();

    let new = Writer::take_over(&journals);
    let mut new_db = DB::open(DIR, existing(&new.env)).unwrap();
    assert!(old_db.put(b"too late", b"value").and_then(|()| old_db.flush()).is_err());
    assert_eq!(old.env.failure().unwrap().kind(), ErrorKind::Fenced);
    acknowledges_nothing(&mut old_db, &mut 0);

    history.check_whole(&mut new_db);
    for _ in 0..300 {
        history.work(&mut new_db, &mut random).unwrap();
    }
    history.acknowledge(&mut new_db).unwrap();
    history.check_whole(&mut play_in_memory(&journals));
}

#[test]
fn a_full_disk_ends_acknowledgement_for_good_although_the_recorder_could_go_on() {
    each_seed(20, |random| {
        let Begun { journals, writer, mut db, mut history } = Begun::new();
        writer.disk.set_capacity(writer.disk.used_bytes() + random.below(300_000));
        while history.work(&mut db, random).is_ok() {}
        writer.disk.set_capacity(0);
        acknowledges_nothing(&mut db, &mut 0);
        assert_eq!(writer.env.failure().unwrap().kind(), ErrorKind::Io);
        assert!(writer.fs.recorder().failure().is_none());
        history.check_prefix(&mut play_in_memory(&journals));
    });
}

#[test]
fn any_call_that_fails_once_ends_acknowledgement_for_good() {
    use Effect::{Create, Open, Read, RemoveFile, Rename, Write};
    each_seed(40, |random| {
        let Begun { journals, writer, mut db, mut history } = Begun::new();
        let effect = [Create, Open, Read, RemoveFile, Rename, Write][random.below(6) as usize];
        let fault = Fault::Fail(std::io::ErrorKind::Other);
        writer.fs.inner().inject(FaultPlan::Nth { effect, number: random.below(20), fault });
        // What the engine hides, the environment tells.
        while writer.env.failure().is_none() {
            drop(history.work(&mut db, random));
        }
        acknowledges_nothing(&mut db, &mut 0);
        history.check_prefix(&mut play_in_memory(&journals));
    });
}

#[test]
fn short_reads_and_writes_are_made_whole() {
    each_seed(3, |random| {
        let journals = MemoryJournals::new();
        let writer = Writer::take_over(&journals);
        for effect in [Effect::Read, Effect::Write] {
            writer.fs.inner().inject(FaultPlan::Every { effect, fault: Fault::Short });
        }
        let mut history = History::default();
        let mut create = true;
        for _ in 0..3 {
            let options = if create { options(&writer.env) } else { existing(&writer.env) };
            let mut db = DB::open(DIR, options).unwrap();
            history.check_whole(&mut db);
            for _ in 0..200 {
                history.work(&mut db, random).unwrap();
            }
            history.acknowledge(&mut db).unwrap();
            create = false;
        }
        history.check_whole(&mut play_in_memory(&journals));
    });
}

#[test]
fn a_database_that_must_be_there_is_not_made() {
    let disk = MemoryFs::new();
    let env = LeveldbEnv::new(Arc::new(disk.clone()), DIR);
    let error = DB::open(DIR, existing(&env)).err().unwrap();
    assert_eq!(error.code, StatusCode::InvalidArgument);
    assert!(disk.metadata(&Path::new(DIR).join("CURRENT")).is_err());
    // That was an answer, and no failure.
    drop(DB::open(DIR, options(&env)).unwrap());
    drop(DB::open(DIR, existing(&env)).unwrap());
    let refused = rusty_leveldb::Options { error_if_exists: true, ..options(&env) };
    assert_eq!(DB::open(DIR, refused).err().unwrap().code, StatusCode::AlreadyExists);
}

#[test]
fn a_second_database_in_one_directory_is_refused_until_the_first_is_gone() {
    let disk: Arc<dyn FileSystem> = Arc::new(MemoryFs::new());
    let (one, other) = (LeveldbEnv::new(Arc::clone(&disk), DIR), LeveldbEnv::new(disk, DIR));
    let db = DB::open(DIR, options(&one)).unwrap();
    for env in [&one, &other] {
        assert_eq!(DB::open(DIR, options(env)).err().unwrap().code, StatusCode::LockError);
    }
    drop(db);
    drop(DB::open(DIR, existing(&one)).unwrap());
    drop(DB::open(DIR, existing(&other)).unwrap());
}

#[test]
fn logs_and_locks_of_the_engine_are_not_recorded() {
    let journals = MemoryJournals::new();
    let writer = Writer::take_over(&journals);
    for _ in 0..2 {
        DB::open(DIR, options(&writer.env)).unwrap().flush().unwrap();
    }
    let names = |fs: &dyn FileSystem, dir: &str| -> Vec<_> {
        fs.read_dir(Path::new(dir)).unwrap().into_iter().map(|entry| entry.name).collect()
    };
    let local = names(&writer.disk, DIR);
    assert!(["LOCK", "LOG", "LOG.old"].iter().all(|name| local.contains(&(*name).into())), "{local:?}");
    let recorded = writer.fs.recorder().with_fsm(Fsm::live_files);
    assert_eq!(recorded, local.len() - 3);
}

#[cfg(unix)]
#[test]
fn files_of_the_operating_system_are_recorded_under_whatever_name_the_engine_uses() {
    use recoverylog::RecordedFs;
    use recoverylog::journal::{FileJournals, Journals};
    use recoverylog::recorded_fs::RecordedFsOptions;
    use recoverylog::vfs::OsFs;

    let (temp, mut random) = (tempfile::tempdir().unwrap(), Random::new(1));
    let dir = |name: &str| temp.path().join(name);
    // The engine is given this name, and also uses the one that it resolves to.
    std::os::unix::fs::symlink(dir("db"), dir("link")).unwrap();
    OsFs::new().create_dir(&dir("db")).unwrap();
    let journals = FileJournals::open(dir("journals")).unwrap();
    let (log, author) = (log(), random_author().unwrap());
    let fsm = Fsm::new(log.clone());
    let journal = journals.open(&log).unwrap();
    let head = journal.head(soon()).unwrap().offset;
    let recorder = Recorder::new(journal, fsm, head, author, RecorderOptions::default()).unwrap();
    let fs = RecordedFs::new(OsFs::new(), &dir("db"), recorder, RecordedFsOptions::default());
    let env = LeveldbEnv::new(Arc::new(fs), dir("db"));

    let mut history = History::default();
    let mut db = DB::open(dir("link"), options(&env)).unwrap();
    for round in 0..3 {
        for _ in 0..150 {
            history.work(&mut db, &mut random).unwrap();
        }
        history.acknowledge(&mut db).unwrap();
        let elsewhere = dir(&format!("elsewhere {round}"));
        history.check_whole(&mut play(&journals, Arc::new(OsFs::new()), &elsewhere));
    }
    assert!(env.failure().is_none());
}

#[cfg(unix)]
#[test]
fn over_a_plain_file_system_the_engine_works_and_syncs_each_flush() {
    use recoverylog::vfs::{FaultyFs, OsFs};

    let (temp, mut random) = (tempfile::tempdir().unwrap(), Random::new(1));
    let dir = temp.path().join("db");
    let fs = Arc::new(FaultyFs::new(OsFs::new()));
    let env = LeveldbEnv::new(fs.clone(), &dir);
    let syncs = || fs.counts().get(&Effect::SyncData).map_or(0, |count| count.calls);
    let mut history = History::default();
    for create in [true, false, false] {
        let options = if create { options(&env) } else { existing(&env) };
        let mut db = DB::open(&dir, options).unwrap();
        history.check_whole(&mut db);
        for _ in 0..150 {
            history.work(&mut db, &mut random).unwrap();
        }
        let before = syncs();
        history.acknowledge(&mut db).unwrap();
        assert_eq!(syncs(), before + 1);
    }
}
