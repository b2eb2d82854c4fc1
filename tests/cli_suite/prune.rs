//! `recoverylog status` and `recoverylog prune`, on journals that a primary has written.

use std::sync::Arc;
use std::time::Duration;

use recoverylog::hint_store::DirectoryHints;
use recoverylog::journal::{FileJournalOptions, FileJournals};
use recoverylog::live::HintBudget;
use recoverylog::replica::{Primary, Replica, ReplicaOptions};
use recoverylog::vfs::{FileSystem, OpenMode, OsFs};
use recoverylog::{Author, Deadline, JournalName, RecorderOptions};
use serde_json::Value;

use super::place::{LOG, Place, Writer, text};

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

/// Begins to record a directory of `place` into small fragments.
fn primary(place: &Place, author: u32) -> Primary {
    let fs = Arc::new(OsFs::new());
    let mut options = FileJournalOptions::default();
    options.fragment_bytes = 4096;
    let journals = FileJournals::open_on(fs.clone(), place.root(), options).unwrap();
    let hints = DirectoryHints::open(fs.clone(), &place.beside("hints")).unwrap();
    let budget = HintBudget { seek_bytes: 0, ..HintBudget::default() };
    let recorder = RecorderOptions::default().hint_budget(budget);
    let options = ReplicaOptions { recorder, ..ReplicaOptions::default() };
    let log = JournalName::new(LOG).unwrap();
    let shard = Replica::new(Arc::new(journals), log, Arc::new(hints), fs).options(options);
    let standby = shard.standby(&place.beside(&format!("by-{author}"))).unwrap();
    standby.promote(Author::new(author).unwrap(), soon()).unwrap()
}

/// Writes files that die, and pages that live, and publishes hints now and then.
fn work(primary: &Primary, times: usize) {
    let open = |name: &str| primary.fs().open(&primary.directory().join(name), OpenMode::Create).unwrap();
    for _ in 0..times {
        for round in 0..10_u8 {
            open("scratch").write_all_at(&[round; 3000], 0).unwrap();
            primary.fs().remove_file(&primary.directory().join("scratch")).unwrap();
            open("pages").write_all_at(&[round; 500], u64::from(round % 4) * 500).unwrap();
        }
        primary.barrier().unwrap().wait(soon()).unwrap();
        primary.publish_hints(soon()).unwrap();
    }
}

fn args<'a>(place: &Place, hints: &'a str, more: &[&'a str]) -> Vec<String> {
    let hints = place.beside(hints);
    let common = ["--log", LOG, "--hints", text(&hints)];
    more.iter().copied().chain(common).map(str::to_owned).collect()
}

#[test]
fn prune_says_what_it_would_remove_removes_it_and_keeps_a_record() {
    let place = Place::new();
    let primary = primary(&place, 7);
    work(&primary, 10);

    let before = place.run(args(&place, "hints", &["status", "--json"])).object();
    assert_eq!(
        (&before["author"], &before["first_byte"], &before["whole_from"]),
        (&7.into(), &0.into(), &0.into())
    );
    assert_eq!((&before["earliest_point"], &before["problems"]), (&0.into(), &Value::Array(vec![])));
    let (held, prunable) =
        (before["held_bytes"].as_u64().unwrap(), before["prunable_bytes"].as_u64().unwrap());
    assert!(prunable > held / 4, "{before}");
    assert!(before["recovery"]["read_bytes"].as_u64().unwrap() < 3 * 4096, "{before}");
    assert_eq!(before["sets"].as_array().unwrap().len(), 4);

    let dry = place.run(args(&place, "hints", &["prune", "--dry-run", "--json"]));
    let (fragments, summary) = (dry.objects(), dry.objects().pop().unwrap());
    assert_eq!((summary["done"].as_bool(), summary["bytes"].as_u64()), (Some(false), Some(prunable)));
    let whys: Vec<_> = fragments.iter().filter_map(|fragment| fragment["why"].as_str()).collect();
    assert!(whys.iter().any(|why| why.contains("nobody needs it")), "{whys:?}");
    assert!(whys.iter().any(|why| why.contains("plays on over it")), "{whys:?}");
    let shown = place.run(args(&place, "hints", &["prune", "--dry-run"])).stdout;
    assert_eq!(
        shown.lines().filter(|line| line.starts_with("remove [")).count() as u64,
        summary["fragments"]
    );
    assert_eq!(place.run(args(&place, "hints", &["status", "--json"])).object()["held_bytes"], held);

    let pruned = place.run(args(&place, "hints", &["prune"]));
    assert_eq!((pruned.code, pruned.stderr.as_str()), (0, ""), "{pruned:?}");
    assert!(pruned.stdout.starts_with("removed "), "{pruned:?}");
    let audit = std::fs::read_to_string(place.root().join(".recoverylog/pruned.jsonl")).unwrap();
    let lines: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["sets"].as_array().unwrap().len(), 4);
    assert_eq!(lines.len() as u64, summary["fragments"].as_u64().unwrap() + 2);
    assert_eq!(lines.last().unwrap()["done"], true);
    let after = place.run(args(&place, "hints", &["status", "--json"])).object();
    assert_eq!((&after["held_bytes"], &after["prunable_bytes"]), (&(held - prunable).into(), &0.into()));
    assert!(after["every_point_from"].as_u64().unwrap() >= after["earliest_point"].as_u64().unwrap());
    let shown = place.run(args(&place, "hints", &["status"])).stdout;
    assert!(shown.contains("recovery: reads") && shown.contains("to prune: 0 B"), "{shown}");

    // The primary goes on, and whoever takes over finds everything.
    work(&primary, 1);
    primary.close(soon()).unwrap();
    for (number, set) in std::fs::read_dir(place.beside("hints")).unwrap().enumerate() {
        let (set, directory) = (set.unwrap().path(), place.beside(&format!("restored-{number}")));
        let restored = place.run(["restore", "--hints", text(&set), "--dir", text(&directory)]);
        assert_eq!(restored.code, 0, "{restored:?}");
        let pages = std::fs::read(directory.join("pages")).unwrap();
        assert_eq!(pages, [8, 9, 6, 7].map(|round| [round; 500]).concat());
    }
    let verified = place.run(args(&place, "hints", &["verify"]));
    assert_eq!(verified.code, 0, "{verified:?}");
}

#[test]
fn prune_refuses_and_changes_nothing_where_a_set_is_damaged_or_a_shard_is_not_named() {
    let place = Place::new();
    let primary = primary(&place, 7);
    work(&primary, 5);
    primary.close(soon()).unwrap();
    let refused = |more: &[&str], hints: &str, code: i32| {
        let before = place.files();
        let ran = place.run(args(&place, hints, more));
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(place.files() == before, "something was changed: {ran:?}");
        ran.stderr
    };
    refused(&["prune"], "no-hints", 2);

    std::fs::create_dir(place.beside("empty")).unwrap();
    let empty = place.beside("empty");
    assert!(refused(&["prune", "--also", text(&empty)], "hints", 2).contains("publish hints first"));
    assert_eq!(place.run(["prune", "--log", LOG]).code, 2, "no hints are named");

    let set = std::fs::read_dir(place.beside("hints")).unwrap().next().unwrap().unwrap().path();
    let content = std::fs::read(&set).unwrap();
    std::fs::write(&set, &content[1..]).unwrap();
    assert!(refused(&["prune"], "hints", 3).contains(text(&set)));
    refused(&["prune", "--dry-run"], "hints", 3);
    let status = place.run(args(&place, "hints", &["status", "--json"]));
    assert_eq!((status.code, status.object()["problems"][0]["error"]["kind"].as_str()), (0, Some("corrupt")));
    std::fs::write(&set, &content).unwrap();
    assert_eq!(place.run(args(&place, "hints", &["prune"])).code, 0);

    // A fragment that a set needs.
    let (_, kept) = std::fs::read_dir(place.root().join(LOG))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_owned(), path))
        .max()
        .unwrap();
    std::fs::rename(&kept, place.beside("lost")).unwrap();
    let error = place.run(args(&place, "hints", &["prune", "--json"]));
    assert_eq!((error.code, error.kind().as_str()), (3, "data_loss"), "{error:?}");
}

#[test]
fn an_audit_that_cannot_be_kept_stops_a_prune_and_a_torn_line_does_not() {
    let place = Place::new();
    let primary = primary(&place, 7);
    work(&primary, 5);
    primary.close(soon()).unwrap();
    let nowhere = place.beside("missing/audit");
    let before = place.files();
    assert_eq!(place.run(args(&place, "hints", &["prune", "--audit", text(&nowhere)])).code, 1);
    let full = place.run(args(&place, "hints", &["prune", "--audit", "/dev/full"]));
    assert_ne!(full.code, 0, "{full:?}");
    let same = |files: &[(std::path::PathBuf, Vec<u8>)]| {
        files.iter().filter(|(path, _)| path.starts_with(place.root().join(LOG))).count()
    };
    assert_eq!(same(&place.files()), same(&before));

    let audit = place.beside("audit");
    std::fs::write(&audit, "{\"pruning\":").unwrap();
    assert_eq!(place.run(args(&place, "hints", &["prune", "--audit", text(&audit)])).code, 0);
    let lines = std::fs::read_to_string(&audit).unwrap();
    assert!(lines.lines().skip(1).all(|line| serde_json::from_str::<Value>(line).is_ok()), "{lines}");
}

#[test]
fn a_folder_of_fragments_has_a_status_and_is_not_pruned() {
    let place = Place::new();
    let log = Writer::two_files();
    place.store_log(LOG, &log.content, 100);
    std::fs::create_dir(place.beside("hints")).unwrap();
    let status = place.run(args(&place, "hints", &["status", "--json"]));
    assert_eq!((status.code, status.object()["recovery"].is_null()), (0, true), "{status:?}");
    assert_eq!(place.run(args(&place, "hints", &["prune"])).code, 2);
    let hints = place.beside("hints/0000000000000001-x.json");
    assert!(!hints.exists());
}
