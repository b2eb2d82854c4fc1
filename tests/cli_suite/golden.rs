//! The golden cases, through the tool.

use recoverylog::FsmHints;
use serde_json::Value;

use super::cases::{Case, Tree, all};
use super::place::{Place, Ran, text};

/// Stores the logs of a case, cut into `pieces` fragments each, and its hints.
fn place_of(case: &Case, pieces: usize) -> Place {
    let place = Place::new();
    for (log, content) in &case.logs {
        place.store_log(log.as_str(), content, content.len().div_ceil(pieces));
    }
    std::fs::write(place.beside("hints.json"), &case.hints_json).unwrap();
    std::fs::write(place.beside("hints.pb"), &case.hints_proto).unwrap();
    place
}

/// Returns the file that holds the tree of a case, unless it is one that fails.
fn tree_of(case: &Case) -> Option<Tree> {
    if case.error_kind != "hang" {
        return case.tree();
    }
    let number = case.name.split('-').next().unwrap();
    let twin = case.folder.parent().unwrap().join(format!("{number}-garbage-early-hints/tree.json"));
    Some(Tree::load(&twin))
}

fn check(case: &Case, ran: &Ran, target: &std::path::Path) {
    let name = &case.name;
    let kind = match case.error_kind.as_str() {
        "" | "hang" => {
            assert_eq!(ran.code, 0, "{name}: {ran:?}");
            assert_eq!(Tree::read(target), tree_of(case).unwrap(), "{name}");
            let restored = ran.object();
            let warnings = restored["warnings"].as_array().unwrap().len();
            assert_eq!(warnings, usize::from(case.error_kind == "hang"), "{name}: {restored}");
            if case.error_kind.is_empty() {
                assert_eq!(restored["next_seq_no"], case.next_seq_no, "{name}");
                assert_eq!(restored["next_checksum"], case.next_checksum, "{name}");
            }
            return;
        }
        "hint_beyond_write_head" | "unused_hints" | "offset_jump_over_hint" => "data_loss",
        "decode_error" => "corrupt",
        "invalid_hints" => "invalid_hints",
        other => panic!("{name}: {other}"),
    };
    assert_eq!((ran.code, ran.kind().as_str()), (3, kind), "{name}: {ran:?}");
    assert!(!target.exists(), "{name}");
}

#[test]
fn every_case_is_restored_or_ends_with_its_exit_code() {
    // Both forms of hints are the library's golden tests' to compare; here they take turns.
    for (index, case) in all().iter().enumerate() {
        let (hints, pieces) = if index % 2 == 0 { ("hints.json", 1) } else { ("hints.pb", 3) };
        let place = place_of(case, pieces);
        let (target, hints) = (place.beside("target"), place.beside(hints));
        let ran = place.run(["restore", "--json", "--dir", text(&target), "--hints", text(&hints)]);
        check(case, &ran, &target);
    }
}

#[test]
fn a_log_alone_is_played_from_its_first_byte() {
    for case in all() {
        let no_files =
            FsmHints::decode(&case.hints_json).is_ok_and(|h| h.files.is_empty() && h.properties.is_empty());
        if no_files {
            let place = place_of(&case, 2);
            let target = place.beside("target");
            let log = case.logs[0].0.as_str();
            let ran = place.run(["restore", "--json", "--dir", text(&target), "--log", log]);
            check(&case, &ran, &target);
        }
    }
}

#[test]
fn the_log_command_lists_what_the_reference_decodes() {
    for case in all() {
        let place = place_of(&case, 2);
        let described: Value =
            serde_json::from_slice(&std::fs::read(case.folder.join("case.json")).unwrap()).unwrap();
        let ops = case.folder.join(described["ops_file"].as_str().unwrap_or("ops.jsonl"));
        let expected = std::fs::read_to_string(ops).unwrap();
        let expected: Vec<Value> = expected.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for (log, _) in &case.logs {
            let ran = place.run(["log", "--json", "--log", log.as_str()]);
            assert_eq!(ran.code, 0, "{}: {ran:?}", case.name);
            let is_op = |row: &&Value| row["type"] == "op" || row["type"] == "undecodable";
            let found: Vec<Value> = ran.objects().iter().filter(is_op).map(compared_of_row).collect();
            let is_op = |op: &&Value| op["log"] == log.as_str() && op.get("kind").is_some();
            let expected: Vec<Value> = expected.iter().filter(is_op).map(compared_of_golden).collect();
            assert_eq!(found, expected, "{}", case.name);
        }
    }
}

const COMPARED: [&str; 6] = ["seq_no", "checksum", "author", "kind", "path_hex", "fnode"];

/// Returns what both forms of an operation have, in a common form.
fn compared_of_row(row: &Value) -> Value {
    let mut common: Vec<Value> = COMPARED.iter().map(|key| row[key].clone()).collect();
    if row["kind"] == "create" {
        common[5] = Value::Null;
    }
    common.extend([row["offset"].clone(), row["end"].clone(), path_of(row)]);
    if row["kind"] == "write" {
        common.extend([row["file_offset"].clone(), row["length"].clone()]);
    }
    common.into()
}

/// Returns the path of an operation, if it is text.
fn path_of(op: &Value) -> Value {
    if op.get("path_hex").is_some() { Value::Null } else { op["path"].clone() }
}

fn compared_of_golden(op: &Value) -> Value {
    let mut common: Vec<Value> = COMPARED.iter().map(|key| op[key].clone()).collect();
    common.extend([op["first_offset"].clone(), op["last_offset"].clone(), path_of(op)]);
    if op["kind"] == "write" {
        common.extend([op["offset"].clone(), op["length"].clone()]);
    }
    common.into()
}

#[test]
fn what_the_reference_wrote_verifies_without_a_fault() {
    for case in all().iter().filter(|case| case.error_kind.is_empty()) {
        let place = place_of(case, 3);
        let hints = place.beside("hints.json");
        let by_hints = place.run(["verify", "--json", "--hints", text(&hints)]);
        assert_eq!(by_hints.code, 0, "{}: {by_hints:?}", case.name);
        let all_logs = place.run(["verify", "--json"]);
        assert_eq!(all_logs.code, 0, "{}: {all_logs:?}", case.name);
        let report = all_logs.object();
        let logs = report["logs"].as_array().unwrap();
        assert_eq!(logs.len(), case.logs.len(), "{}", case.name);
        assert!(logs.iter().all(|log| log["fragments"] == 3), "{report}");
    }
}

#[test]
fn hints_that_the_log_does_not_bear_out_are_a_fault() {
    let of_kind = |case: &Case| matches!(case.error_kind.as_str(), "unused_hints" | "hint_beyond_write_head");
    for case in all().iter().filter(|case| of_kind(case)) {
        let place = place_of(case, 1);
        let hints = place.beside("hints.json");
        let ran = place.run(["verify", "--json", "--hints", text(&hints)]);
        assert_eq!((ran.code, ran.kind().as_str()), (3, "data_loss"), "{}: {ran:?}", case.name);
    }
}

#[test]
fn the_hints_command_names_every_live_file_and_what_is_read() {
    for case in all().iter().filter(|case| case.error_kind.is_empty()) {
        let place = place_of(case, 2);
        let hints = place.beside("hints.json");
        let ran = place.run(["hints", "--json", "--hints", text(&hints)]);
        assert_eq!(ran.code, 0, "{}: {ran:?}", case.name);
        let shown = ran.object();
        let decoded = FsmHints::decode(&case.hints_json).unwrap();
        let files = shown["files"].as_array().unwrap();
        assert_eq!(files.len(), decoded.files.len(), "{}", case.name);
        let plan = &shown["plan"];
        let log_bytes: usize = case.logs.iter().map(|(_, content)| content.len()).sum();
        assert!(plan["bytes"].as_u64() <= Some(log_bytes as u64), "{}: {plan}", case.name);
        assert!(plan["log_bytes"].as_u64() <= Some(log_bytes as u64), "{}: {plan}", case.name);
        // Every path that is shown is one of the tree. (A hinted file may have died since.)
        let tree = std::fs::read(case.folder.join("tree.json")).unwrap();
        let tree: Vec<Value> = serde_json::from_slice(&tree).unwrap();
        for path in files.iter().flat_map(|file| file["paths"].as_array().unwrap()) {
            if path.get("path_hex").is_none() {
                let path = path["path"].as_str().unwrap().trim_start_matches('/');
                assert!(tree.iter().any(|file| file["path"] == path), "{}: {path}", case.name);
            }
        }
        let alone = super::place::run(["hints", "--json", "--hints", text(&hints)]).object();
        assert!(alone["plan"].is_null() && alone["segment_bytes"] == shown["segment_bytes"], "{alone}");
    }
}
