//! The vector files: what the reference's own functions gave for many inputs.

use recoverylog::fsm::{Rejection, Span, Transition};
use recoverylog::hints::HintsError;
use recoverylog::segment::SegmentRule;
use recoverylog::wire::{FRAME_BYTES_MAX, Step, decode_frame, decode_op};
use recoverylog::{
    Author, Checksum, Fsm, FsmHints, FsmOptions, JournalName, Offset, Segment, SegmentSet, SeqNo,
};
use serde_json::{Value, json};

use super::cases::{hex, root, unhex};

/// Loads a vector file; it must have a line.
fn lines(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(root().join("vectors").join(name)).unwrap();
    let lines: Vec<_> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!lines.is_empty(), "{name} is empty");
    lines
}

fn decode_hints(hints: &Value) -> Result<FsmHints, HintsError> {
    FsmHints::decode(hints.to_string().as_bytes())
}

fn segment_kind(rule: SegmentRule) -> &'static str {
    match rule {
        SegmentRule::AuthorZero => "author_zero",
        SegmentRule::FirstSeqNo => "first_seq_no",
        SegmentRule::FirstOffset => "first_offset",
        SegmentRule::LastSeqNo => "last_seq_no",
        SegmentRule::EndOffset => "last_offset",
        SegmentRule::Log => "log",
        SegmentRule::MonotonicFirstOffset => "monotonic_first_offset",
        SegmentRule::PrecedingEndOffset => "preceding_last_offset",
        SegmentRule::DifferentLog => "different_log",
        SegmentRule::MonotonicEndOffset => "monotonic_last_offset",
        SegmentRule::FirstChecksum => "first_checksum",
        SegmentRule::Author => "author_equality",
        SegmentRule::SameLog => "log_equality",
        other => panic!("the reference has no rule {other:?}"),
    }
}

fn hints_kind(result: Result<(), HintsError>) -> &'static str {
    match result {
        Ok(()) => "ok",
        Err(HintsError::NoLog) => "no_log",
        Err(HintsError::FnodeMatch { .. }) => "fnode_match",
        Err(HintsError::MonotonicFnode { .. }) => "monotonic_fnode",
        Err(HintsError::Log { .. }) => "hints_log",
        Err(HintsError::Segment(error)) => segment_kind(error.rule),
        Err(other) => panic!("{other}"),
    }
}

/// Decodes one segment the way hints are decoded: as the only one of a file that it creates.
fn segment(value: &Value) -> Result<Segment, SegmentRule> {
    let hints = json!({
        "log": value.get("log").cloned().unwrap_or_else(|| "".into()),
        "live_nodes": [{"fnode": value.get("first_seq_no").cloned().unwrap_or_else(|| 0.into()), "segments": [value]}],
    });
    match decode_hints(&hints) {
        Ok(mut hints) => Ok(hints.files.remove(0).segments.remove(0)),
        Err(HintsError::Segment(error)) => Err(error.rule),
        // Where the segment's log has no valid name, the hints that are made of it have none either. The
        // reference looks at the log last.
        Err(HintsError::LogName { .. } | HintsError::NoLog) => {
            let mut named = value.clone();
            named["log"] = "a/log".into();
            segment(&named).and(Err(SegmentRule::Log))
        }
        Err(other) => panic!("{value}: {other}"),
    }
}

#[test]
fn frames_and_junk_are_told_apart_as_by_the_reference() {
    for line in lines("frames.jsonl") {
        let input = unhex(line["input"].as_str().unwrap());
        let (mut frames, mut junk) = (Vec::new(), Vec::new());
        let mut rest = &input[..];
        let torn = loop {
            match decode_frame(rest, true) {
                Step::Frame { message } => {
                    frames.push(hex(&rest[..message.end]));
                    rest = &rest[message.end..];
                }
                Step::Desync { skip, .. } => {
                    junk.extend_from_slice(&rest[..skip]);
                    rest = &rest[skip..];
                }
                Step::Torn { .. } => break true,
                Step::End => break false,
                other => panic!("{other:?}"),
            }
        };
        let steps = line["steps"].as_array().unwrap();
        let text =
            |key: &str| -> Vec<&str> { steps.iter().filter_map(|step| step.get(key)?.as_str()).collect() };
        let error = text("error").concat();
        // The reference waits for, and allocates, whatever a header promises; here too long a promise is junk,
        // and frames behind it are found.
        let promised =
            error.split_once("(size ").and_then(|(_, rest)| rest.split_once(')')?.0.parse::<usize>().ok());
        if promised.is_some_and(|bytes| bytes > FRAME_BYTES_MAX) {
            assert!(
                frames.iter().map(String::as_str).collect::<Vec<_>>().starts_with(&text("frame")),
                "{line}"
            );
            continue;
        }
        assert_eq!(frames, text("frame"), "{line}");
        let expected_junk = text("desync").concat();
        assert!(hex(&junk).starts_with(&expected_junk), "{line}: {}", hex(&junk));
        // The reference reports less than a header at the end as an error; here what cannot be part of a frame
        // is junk.
        let rest_is_junk = hex(&junk).len() > expected_junk.len();
        assert_eq!(torn || rest_is_junk, error.contains("unexpected EOF"), "{line}");
    }
}

#[test]
fn segments_form_the_sets_of_the_reference() {
    for line in lines("segments.jsonl") {
        let mut set = SegmentSet::default();
        let adds = line["add"].as_array().unwrap();
        for (add, expected) in adds.iter().zip(line["results"].as_array().unwrap()) {
            let added = segment(add).and_then(|segment| set.add(segment).map_err(|error| error.rule));
            let kind = added.map_or_else(segment_kind, |()| "ok");
            assert_eq!(kind, expected.as_str().unwrap(), "{add} of {line}");
        }
        let expected = line["set"].as_array().into_iter().flatten().map(|value| segment(value).unwrap());
        assert_eq!(set.into_vec(), expected.collect::<Vec<_>>(), "{line}");
    }
}

#[test]
fn hints_flatten_as_those_of_the_reference() {
    for line in lines("hints_flatten.jsonl") {
        let from_json = decode_hints(&line["hints"]);
        // Empty hints are no bytes at all in protobuf, which as a stored value are damage.
        let proto = unhex(line["proto"].as_str().unwrap());
        assert!(proto.is_empty() || from_json == FsmHints::decode(&proto), "{line}");
        let flat = from_json.clone().and_then(|hints| hints.flatten());
        assert_eq!(hints_kind(flat.clone().map(drop)), line["flatten"].as_str().unwrap(), "{line}");
        let expected = line["new_fsm"].as_str().unwrap();
        // Hints that do not decode never reach the state machine, which would miss their log first.
        let fsm = match from_json {
            Err(_) if expected == "no_log" => continue,
            hints => hints.and_then(|hints| Fsm::from_hints(&hints, FsmOptions::default())),
        };
        assert_eq!(hints_kind(fsm.as_ref().map(|_| ()).map_err(Clone::clone)), expected, "{line}");
        if let Ok(flat) = flat {
            let fnodes: Vec<_> = flat.fnodes.iter().map(|fnode| fnode.get()).collect();
            let expected = line["fnodes"].as_array().into_iter().flatten().map(|n| n.as_i64().unwrap());
            assert_eq!(fnodes, expected.collect::<Vec<_>>(), "{line}");
            let expected =
                line["segments"].as_array().into_iter().flatten().map(|value| segment(value).unwrap());
            assert_eq!(flat.segments.into_vec(), expected.collect::<Vec<_>>(), "{line}");
        }
        if let Ok(fsm) = fsm {
            assert_eq!(fsm.next_seq_no().get(), line["next_seq"].as_i64().unwrap(), "{line}");
            assert_eq!(
                u64::from(fsm.next_checksum().get()),
                line["next_checksum"].as_u64().unwrap_or(0),
                "{line}"
            );
        }
    }
}

#[test]
fn the_state_machine_decides_as_that_of_the_reference() {
    for line in lines("fsm.jsonl") {
        let hints = decode_hints(&line["hints"]);
        let fsm = hints.and_then(|hints| Fsm::from_hints(&hints, FsmOptions::REFERENCE));
        if let Some(expected) =
            line.get("new_fsm_error").and_then(Value::as_str).filter(|kind| !kind.is_empty())
        {
            assert_eq!(hints_kind(fsm.map(drop)), expected, "{line}");
            continue;
        }
        let mut fsm = fsm.unwrap();
        for op in line["ops"].as_array().unwrap() {
            let message = unhex(op["payload"].as_str().unwrap());
            let decoded = decode_op(&message).unwrap();
            let log = JournalName::new(op["log"].as_str().unwrap()).unwrap();
            let offset =
                |key: &str| Offset::from_wire(op.get(key).map_or(0, |n| n.as_i64().unwrap())).unwrap();
            let span = Span { log: &log, begin: offset("first_offset"), end: Some(offset("last_offset")) };
            let result = match fsm.apply(&decoded, &message, span) {
                Ok(Transition::Untracked) => "fnode_not_tracked",
                Ok(_) => "ok",
                Err(rejection) => rejection_kind(rejection),
            };
            assert_eq!(result, op["result"].as_str().unwrap(), "{op}");
        }
        check_final(&fsm, &line["final"]);
    }
}

fn rejection_kind(rejection: Rejection) -> &'static str {
    match rejection {
        Rejection::NotHintedAuthor { .. } => "not_hinted_author",
        Rejection::WrongSeqNo { .. } => "wrong_seq_no",
        Rejection::ChecksumMismatch { .. } => "checksum_mismatch",
        Rejection::LinkExists { .. } => "link_exists",
        Rejection::PropertyExists => "property_exists",
        Rejection::NoSuchLink { .. } => "no_such_link",
        Rejection::ExpectedHintedFnode { .. } => "expected_hinted_fnode",
        other => panic!("the reference does not reject so: {other}"),
    }
}

fn check_final(fsm: &Fsm, expected: &Value) {
    assert_eq!(fsm.next_seq_no().get(), expected["next_seq"].as_i64().unwrap());
    assert_eq!(u64::from(fsm.next_checksum().get()), expected["next_checksum"].as_u64().unwrap_or(0));
    assert_eq!(fsm.last_log().as_str(), expected["last_log"].as_str().unwrap());
    let links: Value = fsm
        .links()
        .map(|(path, fnode)| (path.to_string(), json!(fnode.get())))
        .collect::<serde_json::Map<_, _>>()
        .into();
    assert_eq!(
        links,
        expected.get("links").filter(|links| !links.is_null()).cloned().unwrap_or_else(|| json!({}))
    );
    let remaining = |key: &str| expected.get(key).cloned().unwrap_or(Value::Null);
    let count = |value: &Value| {
        value.as_u64().unwrap_or_else(|| value.as_array().map_or(0, |list| list.len() as u64))
    };
    assert_eq!(fsm.hinted_segments().count() as u64, count(&remaining("remaining_segments")));
    assert_eq!(fsm.hinted_fnodes().count() as u64, count(&remaining("remaining_fnodes")));
    let mut hints = fsm.hints(&JournalName::new("log/main").unwrap());
    for segment in hints.files.iter_mut().flat_map(|file| &mut file.segments) {
        segment.end_checksum = None;
    }
    // Hints of a state that no play ends in need not flatten, so they are compared in their encoded form.
    let encoded: Value = serde_json::from_slice(&hints.encode_json()).unwrap();
    assert_eq!(encoded, expected["hints"]);
}

#[test]
fn traps_of_gapped_hints_end_in_the_true_tree_or_a_typed_error() {
    for line in lines("traps.jsonl") {
        let name = line["name"].as_str().unwrap();
        let log = JournalName::new(line["log_name"].as_str().unwrap()).unwrap();
        let bytes = unhex(line["log"].as_str().unwrap());
        let hints = decode_hints(&line["hints"]).unwrap();
        let mut fsm = Fsm::from_hints(&hints, FsmOptions::default()).unwrap();
        let mut diverged = None;
        let mut at = 0;
        while at < bytes.len() {
            let Step::Frame { message } = decode_frame(&bytes[at..], true) else {
                panic!("{name} has only frames")
            };
            let (message, end) = (&bytes[at..][message.clone()], at + message.end);
            let begin = Offset::new(at as u64).unwrap();
            at = end;
            // As a player does: what lies before the next hinted segment is not read.
            if fsm.hinted_segment().is_some_and(|segment| begin < segment.first_offset) {
                continue;
            }
            let span = Span { log: &log, begin, end: Offset::new(end as u64) };
            match fsm.apply(&decode_op(message).unwrap(), message, span) {
                Err(rejection) if rejection.is_divergence() => diverged = diverged.or(Some(rejection)),
                _ => {}
            }
        }
        let truth = (line["true_next_seq"].as_i64().unwrap(), line["true_links"].clone());
        let links: Value = fsm
            .links()
            .map(|(path, fnode)| (path.to_string(), json!(fnode.get())))
            .collect::<serde_json::Map<_, _>>()
            .into();
        match diverged {
            // Only these hints are themselves at fault: they leave out a live file's unlink.
            Some(rejection) => {
                assert_eq!(name, "unlink-of-live-file-left-out", "{rejection}");
            }
            None => {
                assert_eq!((fsm.next_seq_no().get(), links), truth, "{name}");
            }
        }
    }
}

#[test]
fn author_zero_and_negative_numbers_are_refused_where_they_are_decoded() {
    let valid = json!({"author": 1, "first_seq_no": 5, "first_offset": 0, "last_seq_no": 5, "log": "a/log"});
    let decoded = segment(&valid).unwrap();
    assert_eq!((decoded.author, decoded.first_seq_no), (Author::new(1).unwrap(), SeqNo::new(5)));
    assert_eq!(decoded.first_checksum, Checksum::ZERO);
    for (key, value, rule) in [
        ("author", 0, SegmentRule::AuthorZero),
        ("first_offset", -1, SegmentRule::FirstOffset),
        ("last_seq_no", 4, SegmentRule::LastSeqNo),
        ("last_offset", -9, SegmentRule::EndOffset),
    ] {
        let mut broken = valid.clone();
        broken[key] = value.into();
        assert_eq!(segment(&broken).unwrap_err(), rule, "{broken}");
    }
}
