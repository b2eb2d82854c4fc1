//! `recoverylog restore`, and the options that all commands share.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use recoverylog::hint_store::{DirectoryHints, HintStore};
use recoverylog::journal::{Append, FileJournals, Journals};
use recoverylog::vfs::OsFs;
use recoverylog::{Deadline, FsmHints, JournalName};

use super::place::{LOG, Place, Ran, Writer, run, text};
use super::verify::gapped_hints;

fn place() -> (Place, Writer) {
    let (place, log) = (Place::new(), Writer::two_files());
    place.store_log(LOG, &log.content, 100);
    (place, log)
}

fn restore(place: &Place, target: &Path, more: &[&str]) -> Ran {
    place.run(["restore", "--json", "--log", LOG, "--dir", text(target)].iter().chain(more))
}

#[test]
fn a_directory_that_is_not_empty_is_refused_and_left_as_it_is() {
    let (place, _) = place();
    let target = place.beside("target");
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("mine"), b"precious").unwrap();
    let before = place.files();
    for more in [&[][..], &["--dry-run"]] {
        let ran = restore(&place, &target, more);
        assert_eq!((ran.code, ran.kind().as_str()), (2, "invalid"), "{ran:?}");
    }
    let kept = restore(&place, &target, &["--if-missing"]);
    assert_eq!((kept.code, &kept.object()["done"]), (0, &false.into()));
    assert_eq!(place.files(), before);
}

#[test]
fn an_empty_or_missing_directory_is_filled_also_with_if_missing() {
    for (make, more) in [(false, &["--if-missing"][..]), (true, &["--if-missing"]), (true, &[]), (false, &[])]
    {
        let (place, _) = place();
        let target = place.beside("target");
        if make {
            std::fs::create_dir(&target).unwrap();
        }
        let ran = restore(&place, &target, more);
        assert_eq!((ran.code, &ran.object()["done"]), (0, &true.into()), "{ran:?}");
        assert_eq!(std::fs::read(target.join("kept")).unwrap(), b"what is kept, and more");
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), 1);
    }
}

#[test]
fn what_an_interrupted_restore_left_is_not_taken_for_a_tree() {
    let (place, _) = place();
    let target = place.beside("target");
    std::fs::create_dir_all(target.join(".recoverylog")).unwrap();
    std::fs::write(target.join(".recoverylog/INCOMPLETE"), b"").unwrap();
    let ran = restore(&place, &target, &["--if-missing"]);
    assert_eq!((ran.code, ran.kind().as_str()), (2, "invalid"), "{ran:?}");
}

#[test]
fn a_dry_run_prints_the_plan_and_writes_nothing() {
    let (place, log) = place();
    let (target, before) = (place.beside("target"), place.files());
    let ran = restore(&place, &target, &["--dry-run"]);
    let plan = ran.object();
    assert_eq!((ran.code, plan["bytes"].as_u64()), (0, Some(log.content.len() as u64)), "{ran:?}");
    assert_eq!(plan["ranges"][0]["begin"], 0);
    assert_eq!(place.files(), before);
}

#[test]
fn a_damaged_fragment_is_named_and_nothing_is_left_behind() {
    for parallelism in ["1", "4"] {
        let (place, log) = (Place::new(), Writer::two_files());
        let file = place.store_log(LOG, &log.content, 100).swap_remove(1);
        let mut content = std::fs::read(&file).unwrap();
        content[60] ^= 4;
        std::fs::write(&file, content).unwrap();
        let before = place.files();
        let ran = restore(&place, &place.beside("target"), &["--parallelism", parallelism]);
        assert_eq!((ran.code, ran.kind().as_str()), (3, "corrupt"), "{ran:?}");
        assert!(ran.stderr.contains(file.file_name().unwrap().to_str().unwrap()), "{ran:?}");
        assert_eq!(place.files(), before);
    }
}

#[test]
fn a_fragment_that_is_read_in_part_is_checked_whole_where_that_is_asked_for() {
    for parallelism in ["1", "4"] {
        let (place, log) = (Place::new(), Writer::two_files_unchecked());
        // The hints leave out the middle of the only fragment.
        let file = place.store_log(LOG, &log.content, 1000).swap_remove(0);
        let hints = place.beside("hints.json");
        std::fs::write(&hints, gapped_hints(&log).encode_json()).unwrap();
        let restore = |name: &str, verify: &str| {
            let target = place.beside(name);
            let named = ["restore", "--json", "--hints", text(&hints), "--dir", text(&target)];
            place.run(named.iter().chain(&["--parallelism", parallelism, "--verify", verify]))
        };
        assert_eq!(restore("whole", "full").code, 0);
        let mut content = log.content.clone();
        content[log.begins[2] - 1] ^= 0x20;
        std::fs::write(&file, content).unwrap();
        // Nothing that is read vouches for a payload without a checksum.
        assert_eq!(restore("unchecked", "read").code, 0);
        let before = place.files();
        let ran = restore("checked", "full");
        assert_eq!((ran.code, ran.kind().as_str()), (3, "corrupt"), "{ran:?}");
        assert!(ran.stderr.contains(file.file_name().unwrap().to_str().unwrap()), "{ran:?}");
        assert_eq!(place.files(), before);
    }
}

#[test]
fn a_missing_fragment_is_data_loss_before_anything_is_written() {
    for index in [0, 1] {
        let (place, log) = (Place::new(), Writer::two_files());
        let files = place.store_log(LOG, &log.content, 100);
        assert!(files.len() > 2);
        std::fs::remove_file(&files[index]).unwrap();
        let before = place.files();
        let ran = restore(&place, &place.beside("target"), &[]);
        assert_eq!((ran.code, ran.kind().as_str()), (3, "data_loss"), "{ran:?}");
        assert_eq!(ran.error()["offset"], index * 100);
        assert_eq!(place.files(), before);
    }
}

#[test]
fn journals_are_read_where_nothing_can_be_written() {
    let (place, _) = place();
    let folders = [place.root(), place.root().join("acme"), place.root().join(LOG)];
    let set_mode = |mode| {
        for folder in &folders {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    set_mode(0o555);
    // A superuser may write all the same, so that what is there afterwards is looked at too.
    let before = place.files();
    for command in [&["log", "--log", LOG][..], &["verify"], &["restore", "--log", LOG, "--dir"]] {
        let target = (command.len() == 4).then(|| place.beside("target"));
        let ran = place.run(command.iter().copied().chain(target.as_deref().map(text)));
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(ran.stderr, "", "nothing but results, where standard error is no terminal");
    }
    std::fs::remove_dir_all(place.beside("target")).unwrap();
    assert_eq!(place.files(), before);
    set_mode(0o755);
}

#[test]
fn a_call_that_cannot_be_understood_ends_with_2() {
    let (place, _) = place();
    let hints = place.beside("hints.json");
    std::fs::write(&hints, br#"{"log":"acme/other","live_nodes":null,"properties":null}"#).unwrap();
    let (root, target) = (place.root(), place.beside("target"));
    let (root, target, hints) = (text(&root), text(&target), text(&hints));
    let file_url = format!("file://{root}");
    let restore = ["restore", "--dir", target];
    for args in [
        &["--json"][..],
        &["--json", "fly"],
        &["--json", "restore"],
        &["--json", "restore", "--dir", target, "--journals", root, "--log", "x"],
        &["--json", "log", "--journals", root],
        &["--json", "log", "--log", LOG],
        &["--json", "log", "--log", "acme/nothing", "--journals", root],
        &["--json", "log", "--log", LOG, "--journals", "s3://bucket/prefix"],
        &["--json", "log", "--log", LOG, "--journals", "file://host/dir"],
        &["--json", "log", "--log", LOG, "--journals", "./is-not-there"],
        &["--json", "log", "--log", LOG, "--journals", &file_url, "--from", "-1"],
        &["--json", "hints", "--journals", root],
        &["--json", "hints", "--hints", "./is-not-there"],
        &[&restore[..], &["--json", "--journals", root]].concat(),
        &[&restore[..], &["--json", "--journals", root, "--log", LOG, "--hints", hints]].concat(),
        &[&restore[..], &["--json", "--journals", root, "--log", LOG, "--parallelism", "0"]].concat(),
    ] {
        let ran = run(args);
        assert_eq!((ran.code, ran.kind().as_str()), (2, "invalid"), "{args:?}: {ran:?}");
        assert_eq!(ran.stdout, "", "{args:?}");
        let people: Vec<_> = args.iter().filter(|arg| **arg != "--json").collect();
        let ran = run(people);
        assert_eq!(ran.code, 2, "{args:?}: {ran:?}");
        assert!(!ran.stderr.is_empty() && !ran.stderr.contains("panicked"), "{ran:?}");
    }
    let unknown = run(["log", "--log", LOG, "--journals", "s3://bucket/prefix"]);
    assert!(unknown.stderr.contains("file:///dir"), "{unknown:?}");
    assert_eq!(run(["log", "--log", LOG, "--journals", &file_url]).code, 0);
}

#[test]
fn hints_that_do_not_decode_end_with_3() {
    let (place, _) = place();
    let hints = place.beside("hints");
    for bytes in [&b""[..], b"{", b"\xff\xff", br#"{"log":"acme/x","live_nodes":[{"fnode":1}]}"#] {
        std::fs::write(&hints, bytes).unwrap();
        let ran = place.run(["hints", "--json", "--hints", text(&hints)]);
        assert_eq!((ran.code, ran.kind().as_str()), (3, "invalid_hints"), "{ran:?}");
    }
}

#[test]
fn help_and_version_end_with_0() {
    for args in [&["--help"][..], &["--version"], &["restore", "--help"], &["verify", "--help"]] {
        let ran = run(args);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
        assert!(!ran.stdout.is_empty());
    }
}

#[test]
fn a_file_journal_is_read_up_to_its_head_and_hints_come_from_a_directory() {
    let (place, log) = (Place::new(), Writer::two_files());
    let (name, soon) = (JournalName::new(LOG).unwrap(), || Deadline::after(Duration::from_secs(10)));
    let journals = FileJournals::open(place.root()).unwrap();
    journals.open(&name).unwrap().append(Append::new(log.content.clone()), soon()).unwrap();
    let hints = place.beside("hints");
    let store = DirectoryHints::open(Arc::new(OsFs::new()), &hints).unwrap();
    store.store(&FsmHints::empty(name), soon()).unwrap();
    for args in [["--log", LOG], ["--hints", text(&hints)]] {
        let target = place.beside(&format!("by{}", args[0]));
        let ran = place.run(["restore", "--json", "--dir", text(&target)].into_iter().chain(args));
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(ran.object()["offset"], log.content.len());
        assert_eq!(std::fs::read(target.join("kept")).unwrap(), b"what is kept, and more");
    }
    assert_eq!(place.run(["verify", "--hints", text(&hints)]).code, 0);
    let other =
        place.run(["restore", "--json", "--dir", "./x", "--log", "acme/other", "--hints", text(&hints)]);
    assert_eq!((other.code, other.kind().as_str()), (2, "invalid"), "{other:?}");

    let set = std::fs::read_dir(&hints).unwrap().next().unwrap().unwrap().path();
    std::fs::write(set, b"{}").unwrap();
    let ran = place.run(["hints", "--json", "--hints", text(&hints)]);
    assert_eq!((ran.code, ran.kind().as_str()), (3, "corrupt"), "{ran:?}");
}

#[test]
fn exported_hints_and_logs_are_those_that_were_stored() {
    let (place, log) = place();
    let (hints, folder) = (place.beside("hints.json"), place.beside("exported"));
    std::fs::write(&hints, gapped_hints(&log).encode_json()).unwrap();
    let export = || place.run(["hints", "--json", "--hints", text(&hints), "--export", text(&folder)]);
    assert_eq!(export().code, 0);
    let exported = super::cases::Case::load(&folder);
    assert_eq!(exported.logs, [(JournalName::new(LOG).unwrap(), log.content.clone())]);
    let (json, proto) = (&exported.hints_json, &exported.hints_proto);
    assert_eq!(FsmHints::decode(json).unwrap(), gapped_hints(&log));
    assert_eq!(FsmHints::decode(proto).unwrap(), gapped_hints(&log));
    assert!(exported.next_seq_no > 1 && exported.last_log == LOG);
    let again = export();
    assert_eq!((again.code, again.kind().as_str()), (2, "invalid"), "{again:?}");
}

#[test]
fn what_is_not_stored_is_a_hole_in_what_is_exported_and_named() {
    let (place, log) = (Place::new(), Writer::two_files());
    let (hints, folder) = (place.beside("hints.json"), place.beside("exported"));
    std::fs::write(&hints, gapped_hints(&log).encode_json()).unwrap();
    // The third operation lies in a gap of the hints.
    let (begin, end) = (log.begins[2], log.begins[3]);
    place.store(LOG, 0, &log.content[..begin]);
    place.store(LOG, end, &log.content[end..]);
    let ran = place.run(["hints", "--json", "--hints", text(&hints), "--export", text(&folder)]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let case = std::fs::read(folder.join("case.json")).unwrap();
    let case: serde_json::Value = serde_json::from_slice(&case).unwrap();
    assert_eq!(case["logs"][0]["missing"], serde_json::json!([[begin, end]]));
    let mut expected = log.content.clone();
    expected[begin..end].fill(0);
    assert_eq!(std::fs::read(folder.join("log.bin")).unwrap(), expected);
}
