//! Goal: the bytes of the reference, read as it reads them and written as it writes them.
//! Method: every log, hint set and vector under `tests/golden` (or the folder named by `RECOVERYLOG_GOLDEN`)
//! is decoded, held against what the reference made of it, and encoded again.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

use std::path::{Path, PathBuf};

use recoverylog::hints::HintsError;
use recoverylog::segment::SegmentRule;
use recoverylog::wire::{HEADER_BYTES, Step, decode_frame, decode_op, encode_op};
use recoverylog::{Author, Checksum, FsmHints, LogPath, OpBody, RecordedOp};
use serde_json::Value;

fn golden() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    std::env::var_os("RECOVERYLOG_GOLDEN").map_or_else(default, PathBuf::from)
}

/// Returns the folders of all cases, and fails where there is none.
fn cases() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = entries.filter(|path| path.join("case.json").exists()).collect();
    cases.sort();
    assert!(!cases.is_empty(), "no case in {}", golden().display());
    cases
}

fn rows(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn vectors(name: &str) -> Vec<Value> {
    let rows = rows(&golden().join("vectors").join(name));
    assert!(!rows.is_empty(), "{name} is empty");
    rows
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Walks frames without raw bytes between them, as the vectors have them.
fn assert_frames_agree(vector: &Value) {
    let input = unhex(vector["input"].as_str().unwrap());
    let mut expected_frames = Vec::new();
    let mut expected_junk = Vec::new();
    let mut error = "";
    let mut consumed = 0;
    for step in vector["steps"].as_array().unwrap() {
        let field = |name: &str| step[name].as_str();
        consumed += field("frame").or(field("desync")).unwrap_or_default().len() / 2;
        expected_frames.extend(field("frame").map(unhex));
        expected_junk.extend(field("desync").map(unhex).unwrap_or_default());
        error = field("error").unwrap_or_default();
    }

    let (mut frames, mut junk, mut at) = (Vec::new(), Vec::new(), 0);
    loop {
        match decode_frame(&input[at..], true) {
            Step::Frame { message } => {
                frames.push(input[at..at + message.end].to_vec());
                at += message.end;
            }
            Step::Desync { oversize: Some(promised), .. } => {
                // The reference waits for the promised bytes; we step over such a header.
                let size = u64::from(promised) + HEADER_BYTES as u64;
                assert_eq!(error, format!("reading frame (size {size}): unexpected EOF"));
                break;
            }
            Step::Desync { skip, .. } => {
                junk.extend_from_slice(&input[at..at + skip]);
                at += skip;
            }
            Step::Torn { promised: Some(size), present } => {
                assert_eq!(error, format!("reading frame (size {size}): unexpected EOF"));
                assert_eq!(present, input.len() - at);
                break;
            }
            Step::Torn { promised: None, .. } => {
                assert_eq!(error, "Peek(FixedFrameHeaderLength): unexpected EOF");
                expected_junk.extend_from_slice(&input[consumed..at]);
                break;
            }
            Step::End if error == "eof" => break,
            Step::End => {
                // The reference leaves less than a header at the end unjudged; for us it is junk.
                assert_eq!(error, "Peek(FixedFrameHeaderLength): unexpected EOF");
                expected_junk.extend_from_slice(&input[consumed..at]);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(frames, expected_frames);
    assert_eq!(junk, expected_junk);
}

#[test]
fn frames_and_junk_are_those_of_the_reference() {
    for vector in vectors("frames.jsonl") {
        assert_frames_agree(&vector);
    }
}

/// Checks one operation against its row, and returns the length of its raw bytes.
fn assert_op_agrees(row: &Value, op: &RecordedOp, message: &[u8]) {
    let number = |name: &str| row[name].as_i64().unwrap_or_default();
    let word = |name: &str| u32::try_from(number(name)).unwrap();
    assert_eq!(op.seq_no.get(), number("seq_no"));
    assert_eq!(op.checksum, Checksum::new(word("checksum")));
    assert_eq!(op.author, Author::new(word("author")));
    assert_eq!(op.checksum.extend(message), Checksum::new(word("next_checksum")));
    assert_eq!(op.kind_name(), row["kind"].as_str().unwrap());
    let path = match row["path_hex"].as_str() {
        Some(hex) => unhex(hex),
        None => row["path"].as_str().unwrap_or_default().into(),
    };
    let path = LogPath::from_bytes(&path);
    match &op.body {
        OpBody::NoOp => {}
        OpBody::Create { path: actual } => assert_eq!(*actual, path),
        OpBody::Link { fnode, path: actual } | OpBody::Unlink { fnode, path: actual } => {
            assert_eq!((fnode.get(), actual), (number("fnode"), &path));
        }
        OpBody::Write { fnode, offset } => {
            assert_eq!((fnode.get(), *offset as i64), (number("fnode"), number("offset")));
        }
        OpBody::Property { path: actual, content } => {
            assert_eq!((actual, &content[..]), (&path, row["content"].as_str().unwrap().as_bytes()));
        }
    }
    assert_eq!(op.payload_len() as i64, number("length"));
}

/// Walks one log along its rows, and returns the number of operations.
fn assert_log_agrees(log: &[u8], rows: &[Value], has_unknown_fields: bool) -> usize {
    let mut rows = rows.iter();
    let (mut at, mut ops) = (0, 0);
    loop {
        match decode_frame(&log[at..], true) {
            Step::Frame { message } => {
                let row = rows.next().expect("a row");
                let bytes = &log[at..][message.clone()];
                let op = decode_op(bytes).unwrap();
                assert_op_agrees(row, &op, bytes);
                assert_eq!(row["first_offset"].as_u64(), Some(at as u64));
                assert_eq!(row["frame_len"].as_u64(), Some(message.end as u64));
                let mut encoded = Vec::new();
                encode_op(&op, &mut encoded).unwrap();
                if !has_unknown_fields {
                    assert_eq!(encoded, log[at..at + message.end]);
                }
                at += message.end + usize::try_from(op.payload_len()).unwrap();
                ops += 1;
                assert_eq!(row["last_offset"].as_u64(), Some(at as u64));
            }
            Step::Desync { oversize: None, .. } => {
                let begin = at;
                while let Step::Desync { skip, .. } = decode_frame(&log[at..], true) {
                    at += skip;
                }
                // The reference does not judge the last bytes of a log where they are less than a header.
                let mut row = rows.next().expect("a row");
                if row["desync"] == true {
                    assert_eq!(row["first_offset"].as_u64(), Some(begin as u64));
                    if at < log.len() {
                        assert_eq!(row["last_offset"].as_u64(), Some(at as u64));
                        continue;
                    }
                    row = rows.next().expect("a row");
                }
                assert_eq!(row["error"], "Peek(FixedFrameHeaderLength): unexpected EOF");
                assert!(log.len() as u64 - row["first_offset"].as_u64().unwrap() < HEADER_BYTES as u64);
            }
            Step::Torn { promised: Some(promised), .. } => {
                let error = rows.next().expect("a row")["error"].as_str().unwrap();
                assert_eq!(error, format!("reading frame (size {promised}): unexpected EOF"));
                break;
            }
            Step::End => break,
            other => panic!("{other:?} at {at}"),
        }
    }
    assert_eq!(rows.next(), None);
    ops
}

#[test]
fn every_operation_is_that_of_the_reference_and_keeps_its_bytes() {
    let mut ops = 0;
    for case in cases().into_iter().filter(|case| case.join("ops.jsonl").exists()) {
        let description: Value =
            serde_json::from_slice(&std::fs::read(case.join("case.json")).unwrap()).unwrap();
        let rows = rows(&case.join("ops.jsonl"));
        for log in description["logs"].as_array().unwrap() {
            let bytes = std::fs::read(case.join(log["file"].as_str().unwrap())).unwrap();
            let rows: Vec<_> = rows.iter().filter(|row| row["log"] == log["name"]).cloned().collect();
            println!("{} {}", case.display(), log["name"]);
            ops += assert_log_agrees(&bytes, &rows, case.ends_with("x-extension-fields"));
        }
    }
    println!("{ops} operations");
    assert!(ops > 0);
}

#[test]
fn every_operation_of_the_state_machine_vectors_decodes() {
    let mut ops = 0;
    for vector in vectors("fsm.jsonl") {
        for row in vector["ops"].as_array().into_iter().flatten() {
            let message = unhex(row["payload"].as_str().unwrap());
            decode_op(&message).unwrap();
            ops += 1;
        }
    }
    println!("{ops} operations");
    assert!(ops > 0);
}

#[test]
fn every_hint_set_keeps_its_bytes_in_both_encodings() {
    let mut sets = 0;
    for case in cases() {
        let json = std::fs::read(case.join("hints.json")).unwrap();
        let proto = std::fs::read(case.join("hints.pb")).unwrap();
        let hints = FsmHints::decode(&json);
        assert_eq!(hints, FsmHints::decode(&proto), "{}", case.display());
        if let Ok(hints) = hints {
            assert_eq!(hints.encode_json(), json, "{}", case.display());
            assert_eq!(hints.encode_proto(), proto, "{}", case.display());
            sets += 1;
        } else {
            let description = std::fs::read_to_string(case.join("case.json")).unwrap();
            assert!(description.contains("invalid_hints"), "{}: {hints:?}", case.display());
        }
        if let Ok(json) = std::fs::read(case.join("hints_after.json")) {
            assert_eq!(FsmHints::decode(&json).unwrap().encode_json(), json, "{}", case.display());
            sets += 1;
        }
    }
    println!("{sets} hint sets");
}

fn kind(error: &HintsError) -> &'static str {
    match error {
        HintsError::FnodeMatch { .. } => "fnode_match",
        HintsError::MonotonicFnode { .. } => "monotonic_fnode",
        HintsError::Log { .. } => "hints_log",
        HintsError::LogName { .. } => "log",
        HintsError::Segment(error) => match error.rule {
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
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn hints_are_refused_for_the_reason_of_the_reference() {
    let mut refused = 0;
    for vector in vectors("hints_flatten.jsonl") {
        let json = serde_json::to_vec(&vector["hints"]).unwrap();
        let decoded = FsmHints::decode(&json);
        let proto = unhex(vector["proto"].as_str().unwrap());
        if !proto.is_empty() {
            assert_eq!(FsmHints::decode(&proto), decoded);
        }
        let kind = decoded.as_ref().map_or_else(kind, |_| "ok");
        assert_eq!(kind, vector["flatten"].as_str().unwrap(), "{vector}");
        refused += usize::from(decoded.is_err());
    }
    println!("{refused} refused");
    assert!(refused > 0);
}
