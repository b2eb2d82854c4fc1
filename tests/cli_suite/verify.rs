//! `recoverylog verify`.

use recoverylog::hints::HintedFile;
use recoverylog::{Author, Checksum, Fnode, FsmHints, JournalName, Offset, Segment, SeqNo};
use serde_json::Value;

use super::place::{LOG, Place, Ran, Writer, text};

fn faults(ran: &Ran) -> Vec<Value> {
    ran.object()["faults"].as_array().unwrap().clone()
}

#[test]
fn a_flipped_bit_anywhere_in_a_fragment_is_found_and_the_fragment_named() {
    let log = Writer::two_files();
    for at in (0..log.content.len()).step_by(7) {
        let place = Place::new();
        let files = place.store_log(LOG, &log.content, 100);
        let file = &files[at / 100];
        let mut content = std::fs::read(file).unwrap();
        content[at % 100] ^= 1 << (at % 8);
        std::fs::write(file, content).unwrap();
        let ran = place.run(["verify", "--json"]);
        assert_eq!((ran.code, ran.kind().as_str()), (3, "corrupt"), "byte {at}: {ran:?}");
        let name = file.file_name().unwrap().to_str().unwrap();
        let names = |fault: &&Value| fault["what"].as_str().unwrap().contains(name);
        let found = faults(&ran);
        let named = found.iter().find(names).unwrap_or_else(|| panic!("byte {at}: {ran:?}"));
        // Where it is, and what was expected and found, are members of their own, and not in the text again.
        assert!(named["expected"].is_string() && named["actual"].is_string(), "{named}");
        assert_eq!((named["log"].as_str(), named["offset"].is_u64()), (Some(LOG), true), "{named}");
        assert!(!named["what"].as_str().unwrap().contains("expected"), "{named}");
        assert_eq!(
            named["what"].as_str().unwrap().matches(LOG).count(),
            1,
            "as a part of the file's path only"
        );
    }
}

#[test]
fn people_are_not_told_of_1_fragments() {
    let (place, mut log) = (Place::new(), Writer::new());
    log.create("/alone");
    log.content.extend_from_slice(b"?");
    place.store_log(LOG, &log.content, 1000);
    let verified = place.run(["verify"]).stdout;
    assert!(verified.contains(": 1 fragment, ") && verified.contains(" 1 operation ("), "{verified}");
    assert!(verified.contains(" 1 byte of junk, 0 frames "), "{verified}");
    assert!(place.run(["log", "--log", LOG]).stdout.contains(" no frame: 1 byte\n"));
    let target = place.beside("target");
    let restored = place.run(["restore", "--log", LOG, "--dir", text(&target)]);
    assert!(restored.stdout.starts_with("restored 1 file, "), "{restored:?}");
    let plan = place.run(["restore", "--log", LOG, "--dir", text(&place.beside("other")), "--dry-run"]);
    assert!(plan.stdout.contains("0 hinted files in 0 segments"), "{plan:?}");
}

#[test]
fn a_bit_that_flipped_before_a_fragment_was_stored_is_found_by_the_chain_or_the_payload() {
    let log = Writer::two_files();
    // Nothing follows the last operation that could tell it from another.
    let last = *log.begins.last().unwrap();
    for at in (0..last).step_by(3) {
        let place = Place::new();
        let mut content = log.content.clone();
        content[at] ^= 1 << (at % 8);
        place.store_log(LOG, &content, 100);
        let ran = place.run(["verify", "--json", "--log", LOG]);
        assert_eq!(ran.code, 3, "byte {at}: {ran:?}");
        assert!(!faults(&ran).is_empty(), "byte {at}: {ran:?}");
    }
}

#[test]
fn every_fault_is_reported_with_the_files_that_it_touches() {
    let (place, log) = (Place::new(), Writer::two_files());
    let mut content = log.content.clone();
    // The last byte of each payload: of the kept file, of the lost one, of the kept one again.
    for index in [1, 3, 4] {
        content[log.begins[index + 1] - 1] ^= 0x20;
    }
    place.store_log(LOG, &content, 1000);
    let ran = place.run(["verify", "--json", "--log", LOG]);
    let faults = faults(&ran);
    let files: Vec<_> =
        faults.iter().map(|fault| (&fault["files"][0]["fnode"], &fault["files"][0]["live"])).collect();
    let (one, three) = (Value::from(1), Value::from(3));
    assert_eq!(files, [(&one, &true.into()), (&three, &false.into()), (&one, &true.into())], "{ran:?}");
    assert_eq!(faults[0]["files"][0]["paths"][0]["path"], "/kept");
    assert_eq!(faults[1]["files"][0]["paths"][0]["path"], "/lost");
    let people = place.run(["verify", "--log", LOG]);
    assert_eq!((people.code, people.stdout.matches("fault: ").count()), (3, 3), "{people:?}");
}

/// Returns hints for the kept file that leave out what lies between its operations.
pub(crate) fn gapped_hints(log: &Writer) -> FsmHints {
    let offset = |index: usize| Offset::new(log.begins[index] as u64).unwrap();
    let checksum = |index: usize| {
        let message = &log.content[log.begins[index] + 8..];
        Checksum::new(u32::from_le_bytes(message[3..7].try_into().unwrap()))
    };
    let segment = |first: usize, last: usize| Segment {
        author: Author::new(1234).unwrap(),
        first_seq_no: SeqNo::new(first as i64 + 1),
        first_offset: offset(first),
        first_checksum: if first == 0 { Checksum::ZERO } else { checksum(first) },
        last_seq_no: SeqNo::new(last as i64 + 1),
        end_offset: Some(offset(last + 1)),
        end_checksum: None,
        log: None,
    };
    let fnode = Fnode::new(SeqNo::FIRST);
    let files = vec![HintedFile { fnode, segments: vec![segment(0, 1), segment(4, 4)] }];
    FsmHints { log: Some(JournalName::new(LOG).unwrap()), files, ..FsmHints::default() }
}

#[test]
fn hints_tell_which_holes_matter() {
    let log = Writer::two_files();
    // The hints name the first two operations and the fifth; what follows that is read to the head.
    for (dropped, code) in [(0, 3), (1, 3), (2, 0), (3, 0), (4, 3), (5, 3)] {
        let place = Place::new();
        let hints = place.beside("hints.json");
        let mut files = Vec::new();
        for (index, begin) in log.begins.iter().enumerate() {
            let end = log.begins.get(index + 1).copied().unwrap_or(log.content.len());
            files.push(place.store(LOG, *begin, &log.content[*begin..end]));
        }
        std::fs::write(&hints, gapped_hints(&log).encode_json()).unwrap();
        let args = ["verify", "--json", "--hints", text(&hints)];
        assert_eq!(place.run(args).code, 0);
        std::fs::remove_file(&files[dropped]).unwrap();
        let ran = place.run(args);
        assert_eq!(ran.code, code, "without operation {dropped}: {ran:?}");
        assert_eq!(ran.object()["logs"][0]["missing"].as_array().unwrap().len(), 1);
        if code == 3 {
            let fault = &faults(&ran)[0];
            assert_eq!(fault["kind"], "data_loss", "{fault}");
            let hinted = fault["files"].as_array().unwrap().iter().any(|file| file["hinted"] == true);
            assert_eq!(hinted, dropped < 5, "{fault}");
        }
        let missing = &ran.object()["logs"][0]["missing"][0][0];
        assert_eq!(missing, &Value::from(log.begins[dropped]), "{ran:?}");
        let target = place.beside("target");
        let restored = place.run(["restore", "--json", "--hints", text(&hints), "--dir", text(&target)]);
        assert_eq!(restored.code, code, "without operation {dropped}: {restored:?}");
        if code == 3 {
            let error = restored.error();
            assert_eq!((&error["kind"], &error["offset"]), (&"data_loss".into(), missing), "{error}");
        }
        // Without hints a log is needed from its first byte on.
        assert_eq!(place.run(["verify", "--json"]).code, 3);
    }
}
