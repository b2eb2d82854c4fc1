//! Sets as large as etcd takes them.
//!
//! *Invariants.* The etcd has the limit that it comes with.
//!
//! *Does not* try other limits than those of the default, but for one that is said too large.

use bytes::Bytes;
use recoverylog::hint_store::HintStore;
use recoverylog::hints::Property;
use recoverylog::{ErrorKind, FsmHints, LogPath};

use crate::{hints_at, points, set, soon, with_etcd};

/// A set of exactly so many bytes of JSON.
fn sized(seq_no: i64, author: u32, bytes: usize) -> FsmHints {
    let make = |content: usize, text: u8| {
        let path = LogPath::from_bytes(b"/large");
        let properties = vec![Property { path, content: Bytes::from(vec![text; content]) }];
        FsmHints { properties, ..set(seq_no, author) }
    };
    let without = make(1, b'a').json_bytes() - 1;
    // The digest at the end has a few digits more or less, by the content.
    let near = (bytes - without - 2)..(bytes - without + 3);
    let of_len = |content: usize| (b'a'..=b'z').map(move |text| (content, text));
    let mut made = near.flat_map(of_len).map(|(content, text)| make(content, text));
    made.find(|made| made.json_bytes() == bytes).unwrap()
}

#[test]
fn sets_of_the_largest_size_are_stored_and_moved_from_key_to_key() {
    with_etcd(|server| {
        let hints = hints_at(&server.address());
        let bytes_max = HintStore::bytes_max(&hints).unwrap();
        for author in 1..=5 {
            let largest = sized(i64::from(author), author, bytes_max);
            hints.store(&largest, soon()).unwrap();
            assert_eq!(hints.candidates(&crate::log(), soon()).unwrap()[0].hints.as_ref().unwrap(), &largest);
        }
        assert_eq!(points(&hints), [5, 4, 3]);
    });
}

#[test]
fn a_set_that_is_too_large_is_refused_with_both_sizes_and_one_for_the_etcd_too() {
    with_etcd(|server| {
        let hints = hints_at(&server.address());
        hints.store(&set(1, 1), soon()).unwrap();
        let bytes = HintStore::bytes_max(&hints).unwrap() + 1;
        let error = hints.store(&sized(2, 1, bytes), soon()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains("1500001 bytes"), "{error}");
        let told_wrong = hints.clone().bytes_max(8 << 20);
        for bytes in [1_600_000, 3_000_000] {
            let error = told_wrong.store(&sized(2, 1, bytes), soon()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        }
        assert_eq!(points(&hints), [1]);
    });
}
