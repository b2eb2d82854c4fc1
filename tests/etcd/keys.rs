//! What others leave in the keys, and who may write them.
//!
//! *Invariants.* A key that cannot be read does not hide the others, and does not stand in the way.
//!
//! *Does not* try what decoding hints is tested with: see `tests/golden_suite`.

use std::sync::Arc;

use recoverylog::hint_store::{Etcd, HintStore};
use recoverylog::{ErrorKind, FsmHints};

use crate::{KEY, LOG, hints_at, log, points, quick, set, soon, with_etcd};

#[test]
fn a_key_that_cannot_be_read_is_told_and_the_others_serve() {
    with_etcd(|server| {
        let hints = hints_at(&server.address());
        let long = vec![b'['; 100_000];
        let backup = format!("{KEY}.backup.1");
        for bad in [&b""[..], b"{", b"null", b"\xff\xfe", b"{\"log\":5}", b"{\"log\":\"..\"}", &long] {
            server.put(&format!("{KEY}.primary"), bad);
            server.put(&backup, &set(5, 1).encode_json());
            let candidates = hints.candidates(&log(), soon()).unwrap();
            assert_eq!(candidates.len(), 2, "{bad:?}");
            assert_eq!(candidates[0].name, format!("etcd key {backup}"));
            assert_eq!(candidates[0].hints.as_ref().unwrap(), &set(5, 1));
            let error = candidates[1].hints.as_ref().unwrap_err();
            assert!(error.to_string().contains(&format!("{KEY}.primary")), "{error}");
            assert_ne!(error.kind(), ErrorKind::Unavailable, "{error}");
        }
        // It is replaced by the next set, and moved on where it is a backup.
        server.put(&format!("{KEY}.backup.0"), b"{");
        hints.store(&set(6, 1), soon()).unwrap();
        assert_eq!(points(&hints), [6, 5]);
        assert_eq!(server.get(&backup).unwrap().0, b"{");
    });
}

#[test]
fn what_a_consumer_of_the_reference_writes_is_read() {
    with_etcd(|server| {
        let hints = hints_at(&server.address());
        server.put(
            &format!("{KEY}.primary"),
            format!("{{\"log\":\"{LOG}\",\"live_nodes\":null,\"properties\":null,\"later\":[1]}}").as_bytes(),
        );
        let many: Vec<_> = (1..2_000)
            .map(|n| {
                format!(
                    "{{\"author\":7,\"first_seq_no\":{0},\"first_offset\":{0},\"last_seq_no\":{0}}}",
                    n * 2
                )
            })
            .collect();
        let many = format!(
            "{{\"log\":\"{LOG}\",\"live_nodes\":[{{\"fnode\":2,\"segments\":[{}]}}],\"properties\":null}}",
            many.join(",")
        );
        server.put(&format!("{KEY}.backup.0"), many.as_bytes());
        server.put(&format!("{KEY}.backup.1"), &set(9_000, 3).encode_proto());
        let candidates = hints.candidates(&log(), soon()).unwrap();
        let read: Vec<_> = candidates.into_iter().map(|candidate| candidate.hints.unwrap()).collect();
        assert_eq!(read[0], set(9_000, 3));
        assert_eq!(read[1].files[0].segments.len(), 1_999);
        assert_eq!(read[2], FsmHints::empty(log()));
    });
}

#[test]
fn whoever_is_not_assigned_the_shard_any_more_stores_nothing() {
    with_etcd(|server| {
        let key = "/gazette/consumers/assign/shard-A#zone#one#0";
        server.put(key, b"");
        let created = server.get(key).unwrap().1;
        let hints = hints_at(&server.address()).assigned(key, created);
        hints.store(&set(1, 1), soon()).unwrap();
        // What the assignment says may change; whose it is does not.
        server.put(key, b"changed");
        hints.store(&set(2, 1), soon()).unwrap();
        server.delete(key);
        let lost = || {
            for error in [
                hints.store(&set(3, 1), soon()).unwrap_err(),
                hints.store_recovered(&set(3, 1), soon()).unwrap_err(),
                hints.store_recorded(&set(3, 1), soon()).unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
                assert!(error.to_string().contains(key), "{error}");
            }
            assert_eq!(points(&hints), [2, 1]);
        };
        lost();
        server.put(key, b"");
        lost();
    });
}

#[test]
fn of_writers_at_the_same_time_the_newest_set_is_the_primarys_and_none_is_lost_unseen() {
    with_etcd(|server| {
        let etcd = Etcd::new([server.address()], quick()).unwrap();
        let hints = Arc::new(etcd.hints(KEY).unwrap());
        let (writers, each) = (6, 10);
        let stored: Vec<i64> = std::thread::scope(|scope| {
            let write = |author: u32| {
                let hints = Arc::clone(&hints);
                scope.spawn(move || {
                    let mut stored = Vec::new();
                    for round in 0..each {
                        let seq_no = i64::from(author) + i64::from(writers) * round;
                        match hints.store(&set(seq_no, author), soon()) {
                            Ok(()) => stored.push(seq_no),
                            Err(error) => assert_eq!(error.kind(), ErrorKind::Fenced, "{error}"),
                        }
                    }
                    stored
                })
            };
            let threads: Vec<_> = (1..=writers).map(write).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let newest = stored.iter().copied().max().unwrap();
        assert_eq!(points(&*hints)[0], newest, "of {stored:?}");
        let primary = FsmHints::decode(&server.get(&format!("{KEY}.primary")).unwrap().0).unwrap();
        assert_eq!(primary.last_seq_no().unwrap().get(), newest);
    });
}

#[test]
fn shards_whose_names_begin_alike_do_not_see_each_other() {
    with_etcd(|server| {
        let etcd = Etcd::new([server.address()], quick()).unwrap();
        let names = ["/hints/a", "/hints/a.backup.0", "/hints/a.backup", "/hints/aa"];
        for (name, seq_no) in names.iter().zip(1..) {
            etcd.hints(*name).unwrap().store(&set(seq_no, 1), soon()).unwrap();
        }
        for (name, seq_no) in names.iter().zip(1..) {
            assert_eq!(points(&etcd.hints(*name).unwrap()), [seq_no], "{name}");
        }
    });
}
