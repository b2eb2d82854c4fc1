//! Claims about directories that are gone on from.

use super::*;
use crate::journal::Journal;
use crate::player::Warning;

impl World {
    fn resuming(&self) -> Replica {
        let mut options = ReplicaOptions::default();
        options.play.resume = true;
        self.shard().options(options)
    }

    fn resume(&self, directory: &str, number: u32) -> Primary {
        self.resuming().standby(Path::new(directory)).unwrap().promote(author(number), soon()).unwrap()
    }

    fn is_state_kept(&self, directory: &str) -> bool {
        self.fs.metadata(&Path::new(directory).join(".recoverylog/STATE")).is_ok()
    }
}

#[test]
fn a_directory_that_was_closed_is_gone_on_from_and_only_what_it_lacks_is_read() {
    let world = World::new();
    let first = world.resume("/one", 1);
    assert_eq!(first.resumed(), None);
    for number in 0..20 {
        write(&first, &format!("file-{number}"), &[number; 2_000]);
    }
    first.fs().rename(Path::new("/one/file-3"), Path::new("/one/renamed")).unwrap();
    first.close(soon()).unwrap();
    let closed_at = world.journals.journal(&log()).head(soon()).unwrap().offset;

    // Elsewhere somebody goes on.
    let second = world.primary("/two", 2);
    write(&second, "file-0", b"changed");
    write(&second, "new", b"new");
    second.fs().remove_file(Path::new("/two/file-1")).unwrap();
    second.close(soon()).unwrap();

    let third = world.resume("/one", 3);
    let resumed = third.resumed().unwrap();
    assert!(resumed.position.offset <= closed_at);
    assert_eq!((resumed.kept_files, resumed.rebuilt_files), (19, 0));
    assert!(third.warnings().is_empty(), "{:?}", third.warnings());
    assert!(!world.is_state_kept("/one"), "it is about to be changed");
    assert_eq!(world.content("/one/new"), b"new");
    assert_eq!(&world.content("/one/file-0")[..8], b"changed\0");
    assert_eq!(world.content("/one/renamed"), [3; 2_000]);
    assert!(world.fs.metadata(Path::new("/one/file-1")).is_err());
    third.close(soon()).unwrap();
}

#[test]
fn what_a_primary_left_that_was_not_closed_is_never_gone_on_from() {
    let world = World::new();
    let first = world.resume("/one", 1);
    write(&first, "file", b"acknowledged");
    let file = first.fs().open(Path::new("/one/file"), OpenMode::ReadWrite).unwrap();
    drop(first);
    // The engine goes on for a while, and nobody records it.
    drop(file.write_all_at(b"never", 0));
    let error = world.resuming().standby(Path::new("/one")).unwrap().promote(author(2), soon()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("not empty"), "{error}");
}

#[test]
fn nothing_is_recorded_once_a_directory_was_closed_to_be_gone_on_from() {
    let world = World::new();
    let first = world.resume("/one", 1);
    write(&first, "file", b"before");
    let fs = Arc::clone(first.fs());
    first.close(soon()).unwrap();
    let late =
        fs.open(Path::new("/one/file"), OpenMode::ReadWrite).and_then(|file| file.write_at(b"after", 0));
    assert!(late.is_err());
    let second = world.resume("/one", 2);
    assert_eq!(world.content("/one/file"), b"before");
    drop(second);
}

#[test]
fn a_standby_that_is_closed_or_stops_is_gone_on_from() {
    let world = World::new();
    let primary = world.primary("/one", 1);
    for number in 0..10 {
        write(&primary, &format!("file-{number}"), &[number; 1_000]);
    }
    for round in 0_u8..4 {
        let standby = world.resuming().standby(Path::new("/two")).unwrap();
        standby.wait_for_tail(soon()).unwrap();
        write(&primary, "file-0", &[round; 1_000]);
        standby.wait_until(primary.recorder().committed(), soon()).unwrap();
        if round % 2 == 0 {
            standby.close().unwrap();
        } else {
            drop(standby);
        }
        assert!(world.is_state_kept("/two"));
    }
    drop(primary);
    let second = world.resume("/two", 2);
    assert_eq!(second.resumed().unwrap().kept_files, 10);
    assert_eq!(world.content("/two/file-0"), [3; 1_000]);
    assert_eq!(world.content("/two/file-9"), [9; 1_000]);
}

#[test]
fn a_file_of_several_names_that_is_built_again_leaves_nothing_behind() {
    let world = World::new();
    let primary = world.primary("/one", 1);
    write(&primary, "a", b"content");
    primary.fs().create_dir(Path::new("/one/kept")).unwrap();
    primary.fs().hard_link(Path::new("/one/a"), Path::new("/one/kept/a")).unwrap();
    write(&primary, "b", b"other");
    let standby = world.resuming().standby(Path::new("/two")).unwrap();
    standby.wait_until(primary.recorder().committed(), soon()).unwrap();
    standby.close().unwrap();
    drop(primary);
    world.fs.open(Path::new("/two/a"), OpenMode::ReadWrite).unwrap().write_all_at(b"spoiled", 0).unwrap();

    let second = world.resume("/two", 2);
    let resumed = second.resumed().unwrap();
    assert_eq!((resumed.kept_files, resumed.rebuilt_files), (1, 1));
    assert_eq!(world.content("/two/kept/a"), b"content");
    assert!(world.fs.metadata(Path::new("/two/.recoverylog")).is_err());
    let inode = |path| world.fs.metadata(Path::new(path)).unwrap().inode;
    assert_eq!(inode("/two/a"), inode("/two/kept/a"));
}

#[test]
fn a_directory_that_others_have_put_files_into_is_played_anew_and_theirs_are_kept() {
    let world = World::new();
    let first = world.resume("/one", 1);
    write(&first, "file", b"content");
    // What an engine does not record is there when it is closed.
    write(&first, "LOCK", b"");
    first.close(soon()).unwrap();
    let second = world.resume("/one", 2);
    assert!(second.resumed().is_some(), "{:?}", second.warnings());
    second.close(soon()).unwrap();
    // A log that nobody recorded would be read by the engine.
    world.fs.open(Path::new("/one/000009.log"), OpenMode::CreateNew).unwrap();
    let third = world.resume("/one", 3);
    assert_eq!(third.resumed(), None);
    assert!(world.fs.metadata(Path::new("/one/000009.log")).is_err());
    let aside = third.warnings().iter().find_map(|warning| match warning {
        Warning::LeftAside { directory } => Some(directory.clone()),
        _ => None,
    });
    let aside = aside.unwrap();
    assert!(world.fs.metadata(&aside.join("000009.log")).is_ok());
    assert!(world.fs.metadata(&aside.join("file")).is_err());
}

#[test]
fn a_directory_that_has_names_elsewhere_is_not_written_to() {
    let world = World::new();
    let first = world.resume("/one", 1);
    write(&first, "file", b"content");
    first.close(soon()).unwrap();
    world.fs.hard_link(Path::new("/one/file"), Path::new("/backup")).unwrap();
    let second = world.resume("/one", 2);
    assert_eq!(second.resumed().unwrap().rebuilt_files, 1);
    write(&second, "file", b"changed");
    assert_eq!(world.content("/backup"), b"content");
}

#[test]
fn what_a_standby_replaces_is_gone_once_it_is_whole() {
    let world = World::new();
    let first = world.resume("/one", 1);
    write(&first, "file", b"content");
    first.close(soon()).unwrap();
    let World { journals, hints, fs } = world;
    let fs = fs.crash_image(crate::vfs::CrashPlan::KeepAll);
    let world = World { journals, hints, fs };
    let standby = world.resuming().standby(Path::new("/one")).unwrap();
    standby.wait_for_tail(soon()).unwrap();
    assert_eq!(world.fs.read_dir(Path::new("/")).unwrap().len(), 1);
    let second = standby.promote(author(2), soon()).unwrap();
    assert!(second.warnings().iter().any(|warning| matches!(warning, Warning::NotResumed { .. })));
}

#[test]
fn a_directory_that_cannot_be_gone_on_from_is_played_anew_and_that_is_said() {
    let world = World::new();
    let first = world.resume("/one", 1);
    write(&first, "file", b"content");
    first.close(soon()).unwrap();
    // As a part of the disk that went bad.
    let state = world.fs.open(Path::new("/one/.recoverylog/STATE"), OpenMode::ReadWrite).unwrap();
    state.write_all_at(b"?", 20).unwrap();
    let second = world.resume("/one", 2);
    assert_eq!(second.resumed(), None);
    let told = second.warnings().iter().any(|warning| matches!(warning, Warning::NotResumed { .. }));
    assert!(told, "{:?}", second.warnings());
    assert_eq!(world.content("/one/file"), b"content");
    // Nobody knows what is in the other one: it is left.
    let left = second.warnings().iter().find_map(|warning| match warning {
        Warning::LeftAside { directory } => Some(directory.join("file")),
        _ => None,
    });
    assert_eq!(world.content(left.unwrap().to_str().unwrap()), b"content");
}

#[test]
fn a_machine_that_was_started_anew_goes_on_only_from_what_was_made_durable() {
    for is_durable in [false, true] {
        let world = World::new();
        let mut options = ReplicaOptions::default();
        (options.play.resume, options.play.sync) = (true, is_durable);
        let shard = world.shard().options(options.clone());
        let first = shard.standby(Path::new("/one")).unwrap().promote(author(1), soon()).unwrap();
        write(&first, "file", b"content");
        first.close(soon()).unwrap();

        let plan =
            if is_durable { crate::vfs::CrashPlan::DropUnsynced } else { crate::vfs::CrashPlan::KeepAll };
        let World { journals, hints, fs } = world;
        let world = World { journals, hints, fs: fs.crash_image(plan) };
        let shard = world.shard().options(options);
        let second = shard.standby(Path::new("/one")).unwrap().promote(author(2), soon()).unwrap();
        assert_eq!(second.resumed().is_some(), is_durable);
        assert_eq!(second.warnings().is_empty(), is_durable, "{:?}", second.warnings());
        assert_eq!(world.content("/one/file"), b"content");
        let names = world.fs.read_dir(Path::new("/")).unwrap();
        assert_eq!(names.len(), 1, "what was replaced is gone: {names:?}");
    }
}

#[test]
fn a_log_that_is_another_one_by_now_is_played_anew() {
    let world = World::new();
    let first = world.resume("/one", 1);
    write(&first, "file", b"of the first log");
    first.close(soon()).unwrap();
    // A log of the same name that somebody began again.
    let World { fs, .. } = world;
    let world = World { fs, ..World::new() };
    let other = world.primary("/two", 7);
    for number in 0..9 {
        write(&other, &format!("file-{number}"), b"of the other log");
    }
    other.close(soon()).unwrap();
    let second = world.resume("/one", 8);
    assert_eq!(second.resumed(), None);
    assert!(second.warnings().iter().any(|warning| matches!(warning, Warning::NotResumed { .. })));
    assert!(world.fs.metadata(Path::new("/one/file")).is_err());
    assert_eq!(world.content("/one/file-8"), b"of the other log");
}

#[test]
fn a_file_with_a_name_that_is_not_recorded_is_built_again_and_the_name_is_of_another_file() {
    let world = World::new();
    let first = world.resume("/one", 1);
    write(&first, "file", b"before");
    write(&first, "other", b"other");
    first.fs().hard_link(Path::new("/one/file"), Path::new("/one/LOG.old")).unwrap();
    first.close(soon()).unwrap();

    let second = world.resume("/one", 2);
    let resumed = second.resumed().unwrap();
    assert_eq!((resumed.kept_files, resumed.rebuilt_files), (1, 1));
    second.fs().rename(Path::new("/one/LOG.old"), Path::new("/one/recorded")).unwrap();
    let file = second.fs().open(Path::new("/one/file"), OpenMode::ReadWrite).unwrap();
    file.write_all_at(b"after!", 0).unwrap();
    second.close(soon()).unwrap();
    let elsewhere = world.primary("/two", 3);
    for directory in ["/one", "/two"] {
        assert_eq!(world.content(&format!("{directory}/file")), b"after!");
        assert_eq!(world.content(&format!("{directory}/recorded")), b"before");
    }
    drop(elsewhere);
}
