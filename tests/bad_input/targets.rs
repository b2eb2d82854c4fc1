//! Targets that are not there, in use, elsewhere, full, or closed; limits of the system.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use recoverylog::ErrorKind::{self, Invalid, Io};
use recoverylog::hint_store::DirectoryHints;
use recoverylog::journal::{Append, FileJournals, FragmentJournals, JournalError, Journals};
use recoverylog::player::{PlayOptions, Player};
use recoverylog::vfs::OsFs;
use recoverylog::{Deadline, Error, FsmHints, Offset, Result};

use super::place::{Place, files, log_name, scratch, tree};
use super::raw::{RawLog, create, write};

fn place() -> Place {
    Place::of(&RawLog::with_a_file().content)
}

/// Restores into a directory, durably, as the tool does.
fn restore(place: &Place, target: &Path) -> Result<()> {
    let fs = Arc::new(OsFs::new());
    let journals = FragmentJournals::open(Arc::clone(&fs) as _, place.root())?;
    Player::new(&journals, &FsmHints::empty(log_name()), fs, target, PlayOptions::default())?
        .restore()
        .map(drop)
}

/// Restores by the library and by the tool into a target that refuses; `watched` must be as before.
#[track_caller]
fn refused(place: &Place, target: &Path, watched: &Path, kind: ErrorKind) -> Error {
    let before = tree(watched);
    let error = restore(place, target).unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    assert_eq!(tree(watched), before, "{error}");
    #[cfg(feature = "cli")]
    {
        place.run(tool(target)).check_failed(kind);
        assert_eq!(tree(watched), before);
    }
    error
}

/// Restores by the library and by the tool; what was made at `found` is removed each time.
#[track_caller]
fn restored(place: &Place, target: &Path, found: &Path, clear: &dyn Fn()) {
    let check = || {
        assert_eq!(files(&tree(found)), [("kept".to_owned(), "kept".to_owned())], "{}", target.display());
        clear();
    };
    restore(place, target).unwrap();
    check();
    #[cfg(feature = "cli")]
    {
        let ran = place.run(tool(target));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        check();
    }
}

#[cfg(feature = "cli")]
fn tool(target: &Path) -> Vec<&OsStr> {
    let words = ["restore", "--json", "--log", super::place::LOG, "--dir"];
    words.into_iter().map(OsStr::new).chain([target.as_os_str()]).collect()
}

#[test]
fn a_target_in_use_or_of_another_kind_is_refused_and_left_alone() {
    let place = place();
    let at = |name: &str| place.beside(name);
    std::fs::create_dir(at("full")).unwrap();
    std::fs::write(at("full/mine"), b"precious").unwrap();
    std::fs::create_dir(at("of-links")).unwrap();
    symlink("/etc", at("of-links/kept")).unwrap();
    std::fs::write(at("file"), b"precious").unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    symlink(at("loop"), at("loop")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let watched = place.folder.path();
    for name in ["full", "of-links", "file", "dangling", "loop", "pipe", "file/below", "full/..", "journals"]
    {
        refused(&place, &at(name), watched, Invalid);
    }
    refused(&place, Path::new(""), watched, Invalid);
    refused(&place, Path::new("/"), watched, Invalid);
    refused(&place, Path::new("."), watched, Invalid);
    for name in ["missing/target", "loop/target"] {
        refused(&place, &at(name), watched, Io);
    }
    let too_long = OsStr::from_bytes(&[b'n'; 256]).to_owned();
    refused(&place, &place.folder.path().join(too_long), watched, Io);
}

#[test]
fn a_target_that_a_person_names_is_found_through_links_and_under_any_name() {
    let place = place();
    let at = |name: &str| place.beside(name);
    std::fs::create_dir_all(at("real/empty")).unwrap();
    symlink(at("real/empty"), at("to-empty")).unwrap();
    symlink(at("real"), at("to-real")).unwrap();
    let empty = at("real/empty");
    restored(&place, &at("to-empty"), &empty, &|| {
        std::fs::remove_file(empty.join("kept")).unwrap();
    });
    assert!(std::fs::symlink_metadata(at("to-empty")).unwrap().is_symlink());
    let below = at("real/new");
    restored(&place, &at("to-real/new"), &below, &|| std::fs::remove_dir_all(&below).unwrap());
    for name in [&[b'n'; 255][..], b"\xff\xfe", b".hidden", b"-dash", b" ", b"a\nb"] {
        let target = place.folder.path().join(OsStr::from_bytes(name));
        restored(&place, &target, &target, &|| std::fs::remove_dir_all(&target).unwrap());
    }
}

/// A file system in memory, mounted for as long as this lives.
struct Mount {
    folder: tempfile::TempDir,
}

impl Mount {
    /// Mounts; `None`, and says so, where that is not allowed.
    fn new(options: &str) -> Option<Self> {
        let mount = Self { folder: tempfile::tempdir().unwrap() };
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "recoverylog-test"]).arg(mount.path());
        match command.output() {
            Ok(output) if output.status.success() => Some(mount),
            other => {
                eprintln!("SKIPPED, mounting takes a superuser: {other:?}");
                std::mem::forget(mount);
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(Command::new("mount").args(["-o", &options]).arg(self.path()).status().unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg("-l").arg(self.path()).status().unwrap().success());
    }
}

#[test]
fn a_mount_point_is_filled_in_place_and_another_file_system_is_as_good() {
    let clear = |path: PathBuf| move || std::fs::remove_file(path.join("kept")).unwrap();
    if let Some(mount) = Mount::new("size=1m") {
        let place = place();
        restored(&place, mount.path(), mount.path(), &clear(mount.path().to_owned()));
        let below = mount.path().join("below");
        restored(&place, &below, &below, &|| std::fs::remove_dir_all(&below).unwrap());
        // Journals there, the target here.
        let moved = mount.path().join("journals");
        assert!(Command::new("cp").arg("-r").arg(place.root()).arg(&moved).status().unwrap().success());
        std::fs::rename(place.root(), place.beside("aside")).unwrap();
        symlink(&moved, place.root()).unwrap();
        let target = place.beside("target");
        restored(&place, &target, &target, &|| std::fs::remove_dir_all(&target).unwrap());
    }
    // Places lie in memory where they can.
    let elsewhere = tempfile::tempdir().unwrap();
    restored(&place(), elsewhere.path(), elsewhere.path(), &clear(elsewhere.path().to_owned()));
}

/// A log of much more than a small disk holds.
fn large() -> Place {
    let mut log = RawLog::with_a_file();
    for index in 0..8 {
        let file = log.op(&create(format!("/d/{index}").as_bytes()), b"");
        log.op(&write(file, 0, 100_000), &vec![index; 100_000]);
    }
    Place::of(&log.content)
}

#[test]
fn a_full_disk_ends_a_restore_and_is_as_empty_as_before() {
    let Some(mount) = Mount::new("size=256k") else { return };
    let place = large();
    for target in [mount.path().to_owned(), mount.path().join("new")] {
        let error = refused(&place, &target, mount.path(), Io);
        assert!(error.offset().is_some() && error.seq_no().is_some(), "{error}");
    }
    // Not even room for the marker.
    drop(mount);
    let Some(mount) = Mount::new("size=64k,nr_inodes=2") else { return };
    for target in [mount.path().to_owned(), mount.path().join("new")] {
        refused(&place, &target, mount.path(), Io);
    }
}

#[test]
fn a_journal_on_a_full_disk_refuses_for_good_and_keeps_what_it_acknowledged() {
    let Some(mount) = Mount::new("size=512k") else { return };
    let soon = || Deadline::after(Duration::from_secs(20));
    let root = mount.path().join("journals");
    let mut acknowledged = Offset::ZERO;
    let mut ended = None;
    if let Ok(journals) = FileJournals::open(&root)
        && let Ok(journal) = journals.open(&log_name())
    {
        for _ in 0..100 {
            match journal.append(Append::new(vec![7; 10_000]), soon()) {
                Ok(appended) => acknowledged = appended.end,
                Err(error) => {
                    ended = Some(error);
                    break;
                }
            }
        }
        let again = journal.append(Append::new("more than fits"), soon()).unwrap_err();
        assert!(matches!(again, JournalError::Wedged { .. } | JournalError::Io { .. }), "{again:?}");
    }
    assert!(ended.is_some() || acknowledged == Offset::ZERO, "{ended:?}");
    mount.remount("size=300m");
    let journal = FileJournals::open(&root).unwrap().open(&log_name()).unwrap();
    let head = journal.head(soon()).unwrap().offset;
    assert!(head >= acknowledged, "{head} {acknowledged}");
    journal.append(Append::new("goes on"), soon()).unwrap();
}

#[test]
fn a_directory_that_is_read_only_is_an_io_error_and_is_read_all_the_same() {
    let Some(mount) = Mount::new("size=1m") else { return };
    let place = place();
    std::fs::create_dir(mount.path().join("empty")).unwrap();
    assert!(Command::new("cp").arg("-r").arg(place.root()).arg(mount.path()).status().unwrap().success());
    mount.remount("ro");
    for name in ["empty", "new"] {
        refused(&place, &mount.path().join(name), mount.path(), Io);
    }
    let new = mount.path().join("other");
    assert_eq!(FileJournals::open(&new).unwrap_err().kind(), Io);
    let fs = Arc::new(OsFs::new());
    assert_eq!(DirectoryHints::open(fs, &new).unwrap_err().kind(), Io);
    let closed = Place { folder: scratch() };
    symlink(mount.path().join("journals"), closed.root()).unwrap();
    let target = closed.beside("target");
    restored(&closed, &target, &target, &|| std::fs::remove_dir_all(&target).unwrap());
}

/// What the process does that has no descriptors left; as a test of its own it does nothing.
#[test]
fn child() {
    let Some(folder) = std::env::var_os("RECOVERYLOG_TEST_FOLDER") else { return };
    let folder = Path::new(&folder);
    let soon = || Deadline::after(Duration::from_secs(20));
    let journals = match FileJournals::open(folder.join("journals")) {
        Ok(journals) => journals,
        Err(error) => {
            assert_eq!(error.kind(), Io);
            return;
        }
    };
    let is_typed = |error: &JournalError| matches!(Error::from(error.clone()).kind(), Io | ErrorKind::Wedged);
    match journals.open(&log_name()) {
        Ok(journal) => {
            let appended = journal.append(Append::new("appended"), soon());
            assert!(appended.as_ref().err().is_none_or(is_typed), "{appended:?}");
            if let Ok(appended) = appended {
                std::fs::write(folder.join("acknowledged"), appended.end.to_string()).unwrap();
            }
        }
        Err(error) => assert!(is_typed(&error), "{error:?}"),
    }
}

#[test]
fn without_descriptors_a_journal_fails_by_type_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut worked, mut failed) = (0, 0);
    for limit in 4..24 {
        let acknowledged = folder.path().join("acknowledged");
        let status = Command::new("sh")
            .args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "targets::child", "--test-threads=1", "-q"])
            .env("RECOVERYLOG_TEST_FOLDER", folder.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        // With fewer the process itself cannot be started, or cannot write its note.
        if acknowledged.exists() {
            worked += 1;
            std::fs::remove_file(&acknowledged).unwrap();
        } else {
            failed += 1;
        }
        assert!(status.success() || limit < 6, "{limit} descriptors: {status}");
    }
    assert!(worked > 3 && failed > 0, "{worked} {failed}");
    let journal = FileJournals::open(folder.path().join("journals")).unwrap().open(&log_name()).unwrap();
    let head = journal.head(Deadline::after(Duration::from_secs(20))).unwrap().offset.get();
    assert!(head >= worked * 8 && head.is_multiple_of(8), "{head} {worked}");
}

#[cfg(feature = "cli")]
#[test]
fn without_descriptors_the_tool_restores_or_fails_and_leaves_nothing() {
    let place = large();
    let before = tree(place.folder.path());
    let (mut worked, mut failed) = (0, 0);
    for limit in 4..40 {
        let target = place.beside("target");
        let limits = format!("ulimit -n {limit}");
        let ran = super::place::run_limited(&limits, tool(&target).into_iter(), &place.root());
        match ran.code {
            Some(0) => {
                worked += 1;
                assert_eq!(tree(&target).len(), 10);
                std::fs::remove_dir_all(&target).unwrap();
            }
            // With very few, the system cannot start a process.
            Some(126 | 127) if limit < 6 => {}
            _ => {
                failed += 1;
                ran.check_failed(Io);
            }
        }
        assert_eq!(tree(place.folder.path()), before, "{limit} descriptors: {ran:?}");
    }
    assert!(worked > 3 && failed > 3, "{worked} {failed}");
}
