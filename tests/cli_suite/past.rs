//! `recoverylog restore --at` and `recoverylog fork`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use recoverylog::hint_store::{DirectoryHints, HintStore};
use recoverylog::journal::{FileJournals, Journals};
use recoverylog::vfs::OsFs;
use recoverylog::{Author, Clock, Deadline, Fsm, JournalName, LogPath, Offset, Recorder, RecorderOptions};

use super::place::{LOG, Place, Ran, Writer, text};

/// 2026-11-22T10:00:00Z.
const TEN: i64 = 1_795_341_600;

/// A clock that is a minute later each time.
#[derive(Debug)]
struct Minutes(AtomicI64);

impl Clock for Minutes {
    fn unix_nanos(&self) -> i64 {
        (TEN + 60 * self.0.fetch_add(1, Ordering::Relaxed)) * 1_000_000_000
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn path(name: &str) -> LogPath {
    LogPath::from_bytes(name.as_bytes())
}

/// Writes a log with marks at 10:00 (`empty`, seq-no 1), 10:01 (`one`, 4) and 10:04 (none, 10), and a hint set as of
/// seq-no 5, at 10:03.
fn history() -> (Place, PathBuf) {
    let (place, name) = (Place::new(), JournalName::new(LOG).unwrap());
    let journal = FileJournals::open(place.root()).unwrap().open(&name).unwrap();
    let options = RecorderOptions::default().clock(Arc::new(Minutes(AtomicI64::new(0))));
    let author = Author::new(7).unwrap();
    let recorder = Recorder::new(journal, Fsm::new(name), Offset::ZERO, author, options).unwrap();
    recorder.mark("empty").unwrap();
    let one = recorder.create(&path("/one")).unwrap();
    recorder.write(one, 0, b"first").unwrap();
    recorder.mark("one").unwrap();
    // The anchor at 10:02, and the time of the set.
    let mut pending = recorder.take_hints().unwrap();
    let two = recorder.create(&path("/two")).unwrap();
    recorder.write(two, 0, b"second").unwrap();
    recorder.write(one, 0, b"FIRST").unwrap();
    recorder.unlink(&path("/two")).unwrap();
    recorder.no_op().unwrap();
    recorder.create(&path("/last")).unwrap();
    recorder.barrier().unwrap().wait(soon()).unwrap();
    let hints = place.beside("hints");
    let store = DirectoryHints::open(Arc::new(OsFs::new()), &hints).unwrap();
    store.store(&pending.wait(soon()).unwrap(), soon()).unwrap();
    (place, hints)
}

fn restore(place: &Place, at: &str, target: &Path, more: &[&str]) -> Ran {
    place.run(["restore", "--json", "--log", LOG, "--at", at, "--dir", text(target)].iter().chain(more))
}

fn tree(target: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(target).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut files: Vec<_> =
        entries.map(|path| (name(&path), std::fs::read_to_string(&path).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn a_directory_is_restored_as_it_was_at_a_time_a_mark_an_operation_and_an_offset() {
    let (place, hints) = history();
    let hints = text(&hints);
    let one = |content: &str| vec![("one".to_owned(), content.to_owned())];
    let both = vec![("one".into(), "first".into()), ("two".into(), "second".into())];
    let overwritten = vec![("one".into(), "FIRST".into()), ("two".into(), "second".into())];
    let all = vec![("last".into(), String::new()), ("one".into(), "FIRST".into())];
    for (index, (at, seq_no, by_set, expected)) in [
        ("2026-11-22T10:00:30Z", 1, false, vec![]),
        ("2026-11-22T12:01:59.999+02:00", 4, false, one("first")),
        ("@1795341720", 5, false, one("first")),
        ("@1795341780", 5, true, one("first")),
        ("2026-11-22T23:00:00Z", 10, true, one("FIRST")),
        ("mark:empty", 1, false, vec![]),
        ("mark:one", 4, false, one("first")),
        ("seq:3", 3, false, one("first")),
        ("seq:7", 7, true, both),
        ("seq:8", 8, true, overwritten),
        ("seq:11", 11, true, all),
    ]
    .into_iter()
    .enumerate()
    {
        let target = place.beside(&format!("at-{index}"));
        let ran = restore(&place, at, &target, &["--snapshots", hints]);
        assert_eq!(ran.code, 0, "{at}: {ran:?}");
        let object = ran.object();
        assert_eq!((&object["point"]["seq_no"], &object["done"]), (&seq_no.into(), &true.into()), "{at}");
        assert_eq!(object["point"]["hints"].is_string(), by_set, "{at}: {object}");
        assert_eq!(tree(&target), expected, "{at}");
        // The same by its offset, by --hints, and shown to people.
        let (offset, again) = (object["offset"].as_u64().unwrap(), place.beside(&format!("again-{index}")));
        let (offset, hinted) = (format!("offset:{offset}"), ["--hints", hints]);
        let people = ["restore", "--at", &offset, "--dir", text(&again)];
        let ran = place.run(people.into_iter().chain(hinted));
        assert_eq!(ran.code, 0, "{at}: {ran:?}");
        assert!(ran.stdout.contains(&format!("as it was behind seq-no {seq_no}")), "{ran:?}");
        assert_eq!(tree(&again), expected, "{at}");
    }
    let marked = restore(&place, "mark:one", &place.beside("marked"), &[]).object();
    assert_eq!(marked["point"]["mark"], "one");
    assert_eq!(marked["point"]["unix_nanos"], (TEN + 60) * 1_000_000_000);
    let marks = place.run(["log", "--log", LOG]).stdout;
    assert!(marks.contains("mark of 2026-11-22 10:01:00 UTC \"one\""), "{marks}");
    let rows = place.run(["log", "--json", "--log", LOG]).objects();
    let named: Vec<_> = rows.iter().filter_map(|row| row["mark_name"].as_str()).collect();
    assert_eq!(named, ["empty", "one"]);
    let plan = restore(&place, "seq:7", &place.beside("planned"), &["--hints", hints, "--dry-run"]).object();
    assert_eq!(plan["until_seq_no"], 7);
    assert!(plan["bytes"].as_u64() < plan["log_bytes"].as_u64() && !place.beside("planned").exists());
}

#[test]
fn a_point_that_is_none_ends_with_2_and_one_that_was_lost_with_3() {
    let (place, hints) = history();
    let (target, before) = (place.beside("target"), place.files());
    let points =
        ["", "now", "seq:0", "seq:x", "offset:-1", "mark:", "@", "2026-11-22", "2026-02-30T00:00:00Z"];
    for at in points.into_iter().chain(["seq:12", "offset:99999", "mark:none", "2026-11-22T09:59:59Z"]) {
        for more in [&[][..], &["--dry-run"]] {
            let ran = restore(&place, at, &target, more);
            assert_eq!((ran.code, ran.kind().as_str()), (2, "invalid"), "{at}: {ran:?}");
        }
    }
    let nowhere = text(&target);
    let ran = restore(&place, "seq:3", &target, &["--snapshots", nowhere]);
    assert_eq!((ran.code, ran.kind().as_str()), (2, "invalid"), "{ran:?}");
    let alone = place.run(["restore", "--json", "--log", LOG, "--dir", nowhere, "--snapshots", text(&hints)]);
    assert_eq!((alone.code, alone.kind().as_str()), (2, "invalid"), "{alone:?}");
    assert_eq!(place.files(), before);

    // Of a log that was pruned up to its hints.
    let (place, log) = (Place::new(), Writer::two_files());
    place.store(LOG, log.begins[2], &log.content[log.begins[2]..]);
    let ran = restore(&place, "seq:1", &place.beside("target"), &[]);
    assert_eq!((ran.code, ran.kind().as_str()), (3, "data_loss"), "{ran:?}");
}

#[test]
fn a_fork_goes_on_in_a_new_log_and_the_old_one_stays_as_it_is() {
    let (place, hints) = history();
    let (forked_hints, directory) = (place.beside("fork-hints"), place.beside("fork"));
    let old = || place.run(["log", "--json", "--log", LOG]).stdout;
    let before = old();
    let fork = |at: &str, to: &str, directory: &Path| {
        let named = ["fork", "--json", "--log", LOG, "--at", at, "--to", to, "--snapshots", text(&hints)];
        place.run(named.into_iter().chain(["--to-hints", text(&forked_hints), "--dir", text(directory)]))
    };
    let refused = fork("seq:99", "acme/new", &directory);
    assert_eq!((refused.code, refused.kind().as_str()), (2, "invalid"), "{refused:?}");
    assert!(!directory.exists() && !place.root().join("acme/new").exists());
    let itself = fork("seq:7", LOG, &directory);
    assert_eq!((itself.code, itself.kind().as_str()), (2, "invalid"), "{itself:?}");

    let ran = fork("seq:7", "acme/new", &directory);
    assert_eq!((ran.code, &ran.object()["to"]), (0, &"acme/new".into()), "{ran:?}");
    let both = [("one".to_owned(), "first".to_owned()), ("two".to_owned(), "second".to_owned())];
    assert_eq!(tree(&directory), both);
    assert_eq!(old(), before);
    // What was forked can be played by its hints, and by them alone.
    let again = place.beside("again");
    let named = ["restore", "--json", "--log", "acme/new", "--dir", text(&again)];
    let ran = place.run(named.into_iter().chain(["--hints", text(&forked_hints)]));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(tree(&again), both);

    for (to, target) in [("acme/new", place.beside("third")), ("acme/newer", directory)] {
        let refused = fork("seq:7", to, &target);
        assert_eq!((refused.code, refused.kind().as_str()), (2, "invalid"), "{refused:?}");
    }
    // Fragments that a broker stored are for reading.
    let (place, log) = (Place::new(), Writer::two_files());
    place.store_log(LOG, &log.content, 100);
    let (target, hints) = (place.beside("target"), place.beside("hints"));
    let named = ["fork", "--json", "--log", LOG, "--at", "seq:3", "--to", "acme/new"];
    let ran = place.run(named.into_iter().chain(["--to-hints", text(&hints), "--dir", text(&target)]));
    assert_eq!((ran.code, ran.kind().as_str()), (2, "invalid"), "{ran:?}");
}
