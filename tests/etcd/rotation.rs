//! What consumers of the reference leave in etcd, key by key.
//!
//! *Invariants.* The scripts were run by the reference against an etcd; so are they here.
//!
//! *Does not* ask which set the reference would pick: ours is the newest.

use recoverylog::hint_store::{Etcd, HintStore};
use recoverylog::hints::HintedFile;
use recoverylog::segment::Segment;
use recoverylog::{Author, Checksum, Fnode, FsmHints, JournalName, Offset, SeqNo};
use serde_json::Value;

use crate::{points, quick, set, soon, with_etcd};

/// Hints as the scripts mean them by a number.
fn numbered(log: &str, id: i64) -> FsmHints {
    let segment = Segment {
        author: Author::new(4660).unwrap(),
        first_seq_no: SeqNo::new(id),
        first_offset: Offset::ZERO,
        first_checksum: Checksum::ZERO,
        last_seq_no: SeqNo::new(id),
        end_offset: None,
        end_checksum: None,
        log: None,
    };
    let file = HintedFile { fnode: Fnode::new(SeqNo::new(id)), segments: vec![segment] };
    FsmHints { files: vec![file], ..FsmHints::empty(JournalName::new(log).unwrap()) }
}

#[test]
fn keys_hold_after_each_step_what_the_reference_leaves_in_them() {
    with_etcd(|server| {
        let golden = std::fs::read("tests/golden/hints-rotation.json").unwrap();
        let golden: Value = serde_json::from_slice(&golden).unwrap();
        let etcd = Etcd::new([server.address()], quick()).unwrap();
        let (mut steps, mut bytes) = (0, 0);
        for script in golden["scripts"].as_array().unwrap() {
            let keys: Vec<_> =
                script["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
            let log = script["log"].as_str().unwrap();
            for key in &keys {
                server.delete(key);
            }
            let shard = keys[0].strip_suffix(".primary").unwrap();
            let hints = etcd.hints(shard).unwrap().backups(keys.len() as u32 - 1);
            for step in script["steps"].as_array().unwrap() {
                let id = step["id"].as_i64();
                match step["op"].as_str().unwrap() {
                    "recovered" => hints.store_recovered(&numbered(log, id.unwrap()), soon()).unwrap(),
                    "recorded" => hints.store_recorded(&numbered(log, id.unwrap()), soon()).unwrap(),
                    "delete" => server.delete(keys[step["slot"].as_u64().unwrap() as usize]),
                    other => panic!("{other}"),
                }
                for (key, id) in keys.iter().zip(step["slots"].as_array().unwrap()) {
                    let expected = match id.as_i64().unwrap() {
                        0 => None,
                        id => Some(numbered(log, id)),
                    };
                    let found = server.get(key).map(|(value, _)| value);
                    let decoded = found.as_ref().map(|value| FsmHints::decode(value).unwrap());
                    assert_eq!(decoded, expected, "{key} after {step}");
                    if let Some(value) = step["etcd"].get(*key) {
                        assert_eq!(String::from_utf8(found.unwrap()).unwrap(), value.as_str().unwrap());
                        bytes += 1;
                    }
                }
                let mut expected: Vec<_> =
                    step["slots"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
                expected.retain(|id| *id != 0);
                expected.sort_by(|a, b| b.cmp(a));
                assert_eq!(points(&hints), expected, "after {step}");
                steps += 1;
            }
        }
        assert!(steps >= 100 && bytes >= 10, "{steps} steps, {bytes} values");
    });
}

#[test]
fn an_author_that_stores_for_the_first_time_leaves_its_set_in_the_first_backup() {
    with_etcd(|server| {
        let etcd = Etcd::new([server.address()], quick()).unwrap();
        let hints = etcd.hints("/hints/terms").unwrap().backups(2);
        let slots = || {
            ["primary", "backup.0", "backup.1", "backup.2"].map(|slot| {
                let (value, _) = server.get(&format!("/hints/terms.{slot}"))?;
                Some(FsmHints::decode(&value).unwrap().last_seq_no().unwrap().get())
            })
        };
        for (seq_no, author, expected) in [
            (10, 1, [Some(10), Some(10), None, None]),
            (20, 1, [Some(20), Some(10), None, None]),
            (30, 2, [Some(30), Some(30), Some(10), None]),
            (40, 2, [Some(40), Some(30), Some(10), None]),
            (50, 3, [Some(50), Some(50), Some(30), None]),
            (60, 1, [Some(60), Some(60), Some(50), None]),
        ] {
            hints.store(&set(seq_no, author), soon()).unwrap();
            assert_eq!(slots(), expected, "{seq_no} by {author}");
        }
    });
}

#[test]
fn more_backups_than_one_was_told_of_are_read_and_left_alone() {
    with_etcd(|server| {
        let etcd = Etcd::new([server.address()], quick()).unwrap();
        let all = etcd.hints("/hints/one").unwrap().backups(4);
        for (seq_no, author) in [(1, 1), (2, 2), (3, 3), (4, 4)] {
            all.store(&set(seq_no, author), soon()).unwrap();
        }
        let few = etcd.hints("/hints/one").unwrap().backups(1);
        few.store(&set(5, 5), soon()).unwrap();
        assert_eq!(points(&few), [5, 3, 2, 1]);
        let none = etcd.hints("/hints/one").unwrap().backups(0);
        none.store(&set(6, 6), soon()).unwrap();
        assert_eq!(points(&none), [6, 5, 3, 2, 1]);
    });
}
