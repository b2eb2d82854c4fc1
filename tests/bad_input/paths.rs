//! Paths that lead out, clash, or are at the edge of what a file system takes.

use recoverylog::ErrorKind::{Corrupt, Diverged, Invalid, InvalidHints};
use recoverylog::hints::Property;
use recoverylog::journal::{Journals, MemoryJournals};
use recoverylog::{Author, Fsm, FsmHints, LogPath, Offset, Recorder, RecorderOptions};

use super::place::{Place, log_name};
use super::raw::{Message, RawLog, create, link, property};

/// Paths that no log may name.
fn refused() -> Vec<Vec<u8>> {
    let long_name = [b"/".as_slice(), &[b'n'; 256]].concat();
    let long_path = b"/0123456".repeat(513);
    let texts = ["", "/", "//", "rel", "../up", "/..", "/../up", "/a/../../up", "/a/..", "/.", "/./a", "/a/"];
    let more = ["/a//b", "/a\0b", "\0", "/a/\0", "./a", "..", "/../../../../../../../../../../tmp/out"];
    let texts = texts.iter().chain(&more).map(|text| text.as_bytes().to_vec());
    texts.chain([long_name, long_path]).collect()
}

#[test]
fn a_path_that_leads_out_or_names_no_file_is_refused_in_every_operation() {
    for path in refused() {
        let members: [Message; 3] = [create(&path), link(1, &path), property(&path, b"out")];
        for member in members {
            let mut log = RawLog::with_a_file();
            log.op(&member, b"");
            let error = Place::of(&log.content).restore().error(Corrupt);
            let shown = LogPath::from_bytes(&path);
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.contains(&format!("{shown:?}")), "{shown}: {error}: {cause}");
            assert!(error.offset().is_some() && error.seq_no().is_some(), "{error}");
        }
    }
}

#[test]
fn a_property_of_hints_is_held_to_the_same_rules() {
    let place = Place::of(&RawLog::with_a_file().content);
    for path in refused() {
        let content = bytes::Bytes::from_static(b"out");
        let properties = vec![Property { path: LogPath::from_bytes(&path), content }];
        let hints = FsmHints { properties, ..FsmHints::empty(log_name()) };
        let error = place.restore_by(Some(&hints.encode_proto())).error(InvalidHints);
        assert_eq!(error.log(), Some(&log_name()));
    }
}

#[test]
fn a_recorder_refuses_what_a_player_would_and_goes_on() {
    let journal = MemoryJournals::new().open(&log_name()).unwrap();
    let (author, options) = (Author::new(1).unwrap(), RecorderOptions::default());
    let recorder = Recorder::new(journal, Fsm::new(log_name()), Offset::ZERO, author, options).unwrap();
    let kept = recorder.create(&LogPath::from_bytes(b"/kept")).unwrap();
    let offset = recorder.committed().offset;
    for path in refused() {
        let path = LogPath::from_bytes(&path);
        let kept_path = LogPath::from_bytes(b"/kept");
        for refused in [
            recorder.create(&path).map(drop),
            recorder.link(kept, &path),
            recorder.rename(&kept_path, &path),
            recorder.rename_to_property(&kept_path, &path, bytes::Bytes::new()),
        ] {
            assert_eq!(refused.unwrap_err().kind(), Invalid, "{path}");
        }
    }
    assert!(recorder.failure().is_none() && recorder.committed().offset >= offset);
    recorder.write(kept, 0, b"goes on").unwrap();
}

#[test]
fn odd_deep_and_long_paths_are_kept_byte_for_byte() {
    let odd: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
    let deep = [b"/d".repeat(60), b"/file".to_vec()].concat();
    let deepest = b"/d".repeat(400);
    let long = [b"/".as_slice(), &[b'n'; 255]].concat().repeat(16);
    assert_eq!(long.len(), 4096);
    for path in [[b"/".as_slice(), &odd[..250]].concat(), b"/\xff\xfe/\xc3".to_vec(), deep, deepest, long] {
        let mut log = RawLog::with_a_file();
        log.op(&create(&path), b"");
        let (_, files) = Place::of(&log.content).restore().tree();
        let name = path[1..].escape_ascii().to_string();
        assert!(files.contains(&(name, String::new())), "{files:?}");
    }
}

#[test]
fn a_file_where_a_directory_is_needed_cannot_have_happened() {
    for [first, second] in [
        [&b"/d"[..], b"/d/file"],
        [b"/d/file", b"/d"],
        [b"/d", b"/d/e/f"],
        [b"/d/e/f", b"/d/e"],
        [b"/x", b"/.recoverylog"],
        [b"/x", b"/.recoverylog/INCOMPLETE"],
        [b"/x", b"/.recoverylog/INCOMPLETE/y"],
    ] {
        for member in [create(second), link(1, second), property(second, b"v")] {
            let mut log = RawLog::with_a_file();
            log.op(&create(first), b"");
            log.op(&member, b"");
            let error = Place::of(&log.content).restore().error(Diverged);
            let is_property = member.0 == property(second, b"v").0;
            assert_eq!(error.seq_no().is_none(), is_property, "{error}");
            assert_eq!(error.offset().is_none(), is_property, "{error}");
            assert!(error.what().contains('('), "the path is named: {error}");
        }
    }
}
