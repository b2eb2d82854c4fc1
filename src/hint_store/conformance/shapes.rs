//! Cases about what hints can hold: all of it comes back as it was stored.
//!
//! *Invariants.* Each set has a log of its own, so that none is older than another.
//!
//! *Does not* store what no player would take, nor hints without a log.

use bytes::Bytes;

use super::{Cases, Place, name, set, soon, store, stored};
use crate::conformance::{OrFail, Outcome, fail};
use crate::error::ErrorKind;
use crate::hints::{AsOf, FsmHints, HintedFile, Property};
use crate::ids::{Author, Checksum, Fnode, JournalName, LogPath, Offset, SeqNo};
use crate::segment::Segment;

pub(super) const CASES: Cases = &[
    ("an_empty_set_comes_back", an_empty_set_comes_back),
    ("a_log_name_of_any_length_comes_back", a_log_name_of_any_length_comes_back),
    ("extreme_numbers_come_back", extreme_numbers_come_back),
    ("what_is_unknown_comes_back_unknown", what_is_unknown_comes_back_unknown),
    ("segments_of_several_logs_and_authors_come_back", segments_of_several_logs_come_back),
    ("properties_of_any_bytes_come_back", properties_of_any_bytes_come_back),
    ("many_files_come_back", many_files_come_back),
    ("a_set_as_large_as_may_be_comes_back_and_a_larger_one_is_refused", the_limit_is_kept),
];

/// Stores a set, and checks that it is what the store then names first; or that it is refused, where it is too large.
#[track_caller]
fn comes_back(place: &Place, hints: &FsmHints) {
    hints.flatten().or_fail("hints that can be played");
    let log = hints.log.as_ref().or_fail("a log");
    if let Some(bytes_max) = place.store.bytes_max().filter(|bytes_max| hints.json_bytes() > *bytes_max) {
        let before = stored(&*place.store, log);
        let told = match place.store.store(hints, soon()) {
            Ok(()) => {
                fail(format_args!("{} bytes were taken, at most {bytes_max} may be", hints.json_bytes()))
            }
            Err(error) => error,
        };
        assert_eq!(told.kind(), ErrorKind::Invalid, "{told}");
        for size in [bytes_max, hints.json_bytes()] {
            assert!(told.to_string().contains(&size.to_string()), "it names the {size} bytes: {told}");
        }
        assert!(stored(&*place.store, log) == before, "what was refused has left something: {told}");
        return;
    }
    store(&*place.store, hints);
    let found = stored(&*place.store, log);
    assert!(found.first() == Some(hints), "stored {hints:?}\nfound {:?}", found.first());
}

fn an_empty_set_comes_back(place: &Place) -> Outcome {
    comes_back(place, &FsmHints::empty(name("conformance/empty")));
    Outcome::Held
}

fn a_log_name_of_any_length_comes_back(place: &Place) -> Outcome {
    comes_back(place, &set(&name("abcd"), 1, 1));
    comes_back(place, &set(&name(&("deep/".repeat(102) + "xy")), 1, 1));
    comes_back(place, &set(&name("a-b/c_d+e/.f/g=h/i%20j"), 1, 1));
    Outcome::Held
}

fn segment(author: u32, first: i64, last: i64, begin: u64, log: Option<&JournalName>) -> Segment {
    Segment {
        author: Author::new(author).or_fail("an author"),
        first_seq_no: SeqNo::new(first),
        first_offset: Offset::new(begin).or_fail("an offset"),
        first_checksum: Checksum::new(first as u32),
        last_seq_no: SeqNo::new(last),
        end_offset: None,
        end_checksum: None,
        log: log.cloned(),
    }
}

fn file(segments: Vec<Segment>) -> HintedFile {
    let first = segments.first().or_fail("a segment").first_seq_no;
    HintedFile { fnode: Fnode::new(first), segments }
}

fn extreme_numbers_come_back(place: &Place) -> Outcome {
    let log = name("conformance/extreme");
    let mut last = segment(u32::MAX, i64::MAX, i64::MAX, Offset::MAX.get() - 1, None);
    last.first_checksum = Checksum::new(u32::MAX);
    last.end_offset = Some(Offset::MAX);
    last.end_checksum = Some(Checksum::new(u32::MAX));
    let as_of = AsOf {
        offset: Offset::MAX,
        seq_no: SeqNo::new(i64::MAX),
        checksum: Checksum::new(u32::MAX),
        author: Author::new(u32::MAX),
        unix_nanos: i64::MIN,
    };
    comes_back(
        place,
        &FsmHints { files: vec![file(vec![last])], as_of: Some(as_of), ..FsmHints::empty(log) },
    );
    Outcome::Held
}

fn what_is_unknown_comes_back_unknown(place: &Place) -> Outcome {
    // As the reference writes hints: neither the end of a segment nor the point of history is told.
    let known = FsmHints {
        files: vec![file(vec![segment(1, 1, 1, 0, None)])],
        ..set(&name("conformance/author"), 1, 1)
    };
    let mut author = known.clone();
    author.as_of.as_mut().or_fail("a point of history").author = None;
    comes_back(place, &author);
    let log = Some(name("conformance/point"));
    comes_back(place, &FsmHints { as_of: None, log, ..known.clone() });
    // A checksum of zero is known.
    let mut zero = FsmHints { log: Some(name("conformance/zero")), ..known };
    let first = zero.files.first_mut().and_then(|file| file.segments.first_mut()).or_fail("a segment");
    (first.end_offset, first.end_checksum) = (Offset::new(10), Some(Checksum::ZERO));
    comes_back(place, &zero);
    Outcome::Held
}

fn segments_of_several_logs_come_back(place: &Place) -> Outcome {
    let (log, origin) = (name("conformance/fork"), name("conformance/origin"));
    let mut first = segment(1, 1, 5, 0, Some(&origin));
    (first.end_offset, first.end_checksum) = (Offset::new(400), Some(Checksum::new(7)));
    let mut second = segment(2, 6, 8, 400, Some(&origin));
    second.end_offset = Offset::new(600);
    let files = vec![
        file(vec![first.clone(), second.clone(), segment(3, 20, 22, 90, None)]),
        file(vec![Segment { first_seq_no: SeqNo::new(6), ..second }]),
    ];
    comes_back(place, &FsmHints { files, ..set(&log, 22, 3) });
    Outcome::Held
}

fn properties_of_any_bytes_come_back(place: &Place) -> Outcome {
    let every_byte: Vec<u8> = (0..=255).collect();
    let text = "\"quoted\" \\ </script> & \u{2028}\u{2029}\u{7f}\u{fffd}\u{10ffff}\r\n\t\u{8}\u{1}";
    let contents: [(&str, &[u8], Bytes); 6] = [
        ("nothing", b"/IDENTITY", Bytes::new()),
        ("text", text.as_bytes(), Bytes::from(text)),
        ("bytes", b"/IDENTITY", Bytes::from(every_byte)),
        ("path", b"/\xff\xfe/\xe2\x82", Bytes::from_static(b"v")),
        ("brace", b"{", Bytes::from_static(b"{\"log\":1}")),
        ("large", b"/large", Bytes::from(vec![b'x'; 1 << 20])),
    ];
    for (index, (log, path, content)) in contents.into_iter().enumerate() {
        let mut hints = set(&name(&format!("conformance/{log}")), index as i64 + 1, 1);
        let property = |path: &[u8]| Property { path: LogPath::from_bytes(path), content: content.clone() };
        hints.properties = vec![property(b"/"), property(path)];
        comes_back(place, &hints);
    }
    Outcome::Held
}

fn many_files_come_back(place: &Place) -> Outcome {
    // More than the reference can keep in Etcd.
    let one =
        |index: i64| file(vec![segment(1, 1 + index * 3, 2 + index * 3, 100 * index.unsigned_abs(), None)]);
    let files = (0..20_000).map(one).collect();
    comes_back(place, &FsmHints { files, ..set(&name("conformance/many"), 60_000, 1) });
    Outcome::Held
}

/// A set of exactly so many bytes, where that is enough for one.
fn set_of_bytes(log: &JournalName, bytes: usize) -> FsmHints {
    let of_len = |len: usize| {
        let content = Bytes::from(vec![b'x'; len]);
        let properties = vec![Property { path: LogPath::from_bytes(b"/padding"), content }];
        // Without a point of history it has no digest, whose length differs.
        FsmHints { properties, ..FsmHints::empty(log.clone()) }
    };
    // An empty value is left out, with its key.
    let least = of_len(1).json_bytes();
    of_len(
        (bytes + 1).checked_sub(least).filter(|len| *len > 0).or_fail("a limit that leaves room for a set"),
    )
}

fn the_limit_is_kept(place: &Place) -> Outcome {
    // Without a limit, more than Etcd takes.
    let bytes_max = place.store.bytes_max().unwrap_or(4 << 20);
    for (index, bytes) in [bytes_max - 1, bytes_max, bytes_max + 1].into_iter().enumerate() {
        let hints = set_of_bytes(&name(&format!("conformance/limit{index}")), bytes);
        assert_eq!(hints.json_bytes(), bytes, "the suite itself");
        comes_back(place, &hints);
    }
    Outcome::Held
}
