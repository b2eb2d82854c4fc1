//! Logs that the reference recorded from a RocksDB of its own: taken over, written on, and handed off again.

use std::path::PathBuf;

use recoverylog::engine::rocksdb::RocksdbOptions;
use recoverylog::journal::{Append, Journals, MemoryJournals};
use recoverylog::player::{PlayOptions, Player};
use recoverylog::vfs::OsFs;
use recoverylog::{FsmHints, JournalName};
use rocksdb::{DB, IteratorMode};

use crate::bed::{Recorded, assert_same_tree, soon};

fn golden(case: &str, file: &str) -> Vec<u8> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/golden", case, file].iter().collect();
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn count(db: &DB) -> usize {
    db.iterator(IteratorMode::Start).map(Result::unwrap).count()
}

/// Takes the log of `case` over, with its hints and without, and returns the number of keys that were in it.
fn taken_over(case: &str) -> usize {
    let described: serde_json::Value = serde_json::from_slice(&golden(case, "case.json")).unwrap();
    let log = JournalName::new(described["logs"][0]["name"].as_str().unwrap()).unwrap();
    let mut found = Vec::new();
    for hints in [FsmHints::decode(&golden(case, "hints.json")).unwrap(), FsmHints::empty(log.clone())] {
        let (journals, directory) = (MemoryJournals::new(), tempfile::tempdir().unwrap());
        let content = golden(case, described["logs"][0]["file"].as_str().unwrap());
        journals.open(&log).unwrap().append(Append::new(content), soon()).unwrap();

        let first = directory.path().join("first");
        let recorded =
            Recorded::with(&journals, &first, &hints, |journal| journal, RocksdbOptions::default());
        let mut options = recorded.options();
        options.create_if_missing(false);
        let db = DB::open(&options, &first).unwrap();
        let keys = count(&db);
        crate::sums::verify(&db);
        db.put("written by the port", "value").unwrap();
        db.flush().unwrap();
        db.compact_range(None::<&[u8]>, None::<&[u8]>);
        db.put("and not flushed", "value").unwrap();
        drop(db);
        recorded.settle();

        // By hints of ours, which a player of the reference reads too, and without any.
        let ours = recorded.env.recorder().take_hints().unwrap().wait(soon()).unwrap();
        for (name, hints) in [("by hints", ours), ("whole", FsmHints::empty(log.clone()))] {
            let again = directory.path().join(name);
            let options = PlayOptions { parallelism: 1, sync: false, ..PlayOptions::default() };
            let fs = std::sync::Arc::new(OsFs::new());
            let played = Player::new(&journals, &hints, fs, &again, options).unwrap().restore().unwrap();
            assert_eq!(played.warnings, []);
            assert_same_tree(&first, &again);
        }
        let hints = FsmHints::empty(log.clone());
        let second = directory.path().join("second");
        let recorded =
            Recorded::with(&journals, &second, &hints, |journal| journal, RocksdbOptions::default());
        let db = DB::open(&recorded.options(), &second).unwrap();
        assert_eq!(count(&db), keys + 2);
        assert_eq!(db.get("and not flushed").unwrap().unwrap(), b"value");
        found.push(keys);
    }
    assert_eq!(found[0], found[1]);
    found[0]
}

#[test]
fn a_log_that_the_reference_recorded_is_taken_over_and_handed_off_again() {
    let expected: Vec<usize> = ["l0-rocksdb-first", "l0-rocksdb-second"].map(taken_over).to_vec();
    let keys: serde_json::Value = serde_json::from_slice(&golden("l0-rocksdb-second", "keys.json")).unwrap();
    assert_eq!(keys["keys"].as_u64().unwrap() as usize, expected[1]);
    assert!(expected[0] > 0);
}
