//! One claim at a time.

use super::*;
use crate::error::ErrorKind;
use crate::ids::Offset;
use crate::recorder::RecorderOptions;
use crate::recorder::tests::{A, B, Fault, author, log_name, take_over};
use crate::{Error, Fsm};

#[test]
fn rename_over_an_open_file_keeps_what_its_handle_writes_out_of_the_log() {
    let bed = Bed::new();
    let old = bed.create("a", b"old");
    bed.create("b", b"new");
    let b = bed.fnode("b");
    bed.fs.rename(&db("b"), &db("a")).unwrap();
    let before = bed.ops();
    old.write_all_at(b"unlinked", 0).unwrap();
    assert_eq!(bed.ops_since(before), 0);
    assert_eq!((bed.fnode("a"), bed.fnode("b")), (b, None));
    bed.check();
}

#[test]
fn rename_over_an_open_file_with_another_link_keeps_recording_it() {
    let bed = Bed::new();
    let old = bed.create("a", b"old");
    bed.fs.hard_link(&db("a"), &db("a2")).unwrap();
    bed.create("b", b"new");
    bed.fs.rename(&db("b"), &db("a")).unwrap();
    old.write_all_at(b"still linked", 0).unwrap();
    bed.check();
}

#[test]
fn rename_onto_itself_or_between_links_of_one_file_records_nothing() {
    let bed = Bed::new();
    bed.create("a", b"content");
    bed.fs.hard_link(&db("a"), &db("a2")).unwrap();
    let before = bed.ops();
    bed.fs.rename(&db("a"), &db("a")).unwrap();
    bed.fs.rename(&db("a"), &db("a2")).unwrap();
    assert_eq!(bed.ops_since(before), 0);
    bed.check();
}

#[test]
fn a_hard_link_is_written_through_every_handle() {
    let bed = Bed::new();
    let a = bed.create("a", b"content");
    bed.fs.hard_link(&db("a"), &db("a2")).unwrap();
    let a2 = bed.fs.open(&db("a2"), OpenMode::ReadWrite).unwrap();
    a2.write_all_at(b"by a2", 0).unwrap();
    bed.fs.remove_file(&db("a")).unwrap();
    a.write_all_at(b"by a", 5).unwrap();
    bed.check();
}

#[test]
fn writes_through_an_unlinked_handle_are_not_recorded() {
    let bed = Bed::new();
    let a = bed.create("a", b"content");
    bed.fs.remove_file(&db("a")).unwrap();
    let before = bed.ops();
    a.write_all_at(b"gone", 0).unwrap();
    a.set_len(2).unwrap();
    a.set_len(9).unwrap();
    assert_eq!(bed.ops_since(before), 0);
    assert!(bed.create("a", b"again").append(b"!").is_ok());
    bed.check();
}

#[test]
fn appends_of_several_handles_follow_each_other() {
    let bed = Bed::new();
    let one = bed.create("a", b"");
    let two = bed.fs.open_recorded(&db("a"), OpenMode::ReadWrite).unwrap();
    assert_eq!(one.append(b"one").unwrap(), 0);
    assert_eq!(two.append(b"two").unwrap(), 3);
    one.set_len(4).unwrap();
    assert_eq!(two.append(b"end").unwrap(), 4);
    assert_eq!(one.append(b"").unwrap(), 7);
    bed.check();
}

#[test]
fn truncation_makes_a_new_file_at_every_link_and_growth_is_a_write() {
    let bed = Bed::new();
    let a = bed.create("a", b"0123456789");
    bed.fs.hard_link(&db("a"), &db("a2")).unwrap();
    let before = bed.fnode("a");
    a.set_len(4).unwrap();
    bed.check();
    let cut = bed.fnode("a");
    assert!(cut != before && cut == bed.fnode("a2"));
    a.set_len(20).unwrap();
    a.allocate(10, 30).unwrap();
    a.allocate(0, 5).unwrap();
    bed.check();
    assert_eq!(bed.fnode("a"), cut);
    a.set_len(0).unwrap();
    bed.fs.open(&db("a2"), OpenMode::Truncate).unwrap().write_all_at(b"new", 1).unwrap();
    bed.check();
}

#[test]
fn a_large_rest_is_built_aside_and_swapped_in_by_one_append() {
    let bed = Bed::new();
    let content = (0..6 << 20).map(|index: u32| (index >> 11) as u8).collect::<Vec<_>>();
    let a = bed.create("a", &content);
    bed.fs.hard_link(&db("a"), &db("a2")).unwrap();
    a.set_len((5 << 20) + 17).unwrap();
    bed.check();
    let building = |op: &OpBody| match op {
        OpBody::Create { path } => path.as_bytes().starts_with(b"/.recoverylog/tmp-"),
        _ => false,
    };
    let (_, ops) = accepted(&bed.journal.inner);
    assert_eq!(ops.iter().filter(|(op, _)| building(&op.body)).count(), 1);
    // A file that becomes recorded is built the same way.
    bed.create("LOG", &content);
    bed.fs.rename(&db("LOG"), &db("was-log")).unwrap();
    bed.check();
}

#[test]
fn lock_and_log_files_are_left_out() {
    let bed = Bed::new();
    let before = bed.ops();
    bed.create("LOCK", b"pid").sync_data().unwrap();
    bed.create("LOG", b"text");
    bed.fs.rename(&db("LOG"), &db("LOG.old")).unwrap();
    bed.fs.hard_link(&db("LOG.old"), &db("LOG.older")).unwrap();
    bed.fs.open(&db("LOG.old"), OpenMode::Truncate).unwrap().set_len(10).unwrap();
    bed.fs.remove_file(&db("LOG.old")).unwrap();
    assert_eq!(bed.ops_since(before), 0);
    bed.check();
}

#[test]
fn a_file_that_becomes_recorded_is_recorded_whole() {
    let bed = Bed::new();
    let file = bed.create("LOG.tmp", b"MANIFEST-1\n");
    bed.create("CURRENT", b"MANIFEST-0\n");
    bed.fs.rename(&db("LOG.tmp"), &db("CURRENT")).unwrap();
    bed.check();
    file.append(b"more").unwrap();
    bed.check();
    let linked = bed.create("LOG.linked", b"by link");
    bed.fs.hard_link(&db("LOG.linked"), &db("linked")).unwrap();
    linked.append(b" and on").unwrap();
    bed.check();
}

#[test]
fn a_file_that_is_no_longer_recorded_is_unlinked_and_can_come_back() {
    let bed = Bed::new();
    let a = bed.create("a", b"content");
    bed.fs.rename(&db("a"), &db("LOG.a")).unwrap();
    assert_eq!(bed.fnode("a"), None);
    a.append(b" unseen").unwrap();
    bed.check();
    bed.fs.rename(&db("LOG.a"), &db("a")).unwrap();
    a.append(b" seen").unwrap();
    bed.check();
}

#[test]
fn a_recorded_file_is_known_by_a_link_that_is_left_out() {
    let bed = Bed::new();
    drop(bed.create("a", b"content"));
    bed.fs.hard_link(&db("a"), &db("LOG.a")).unwrap();
    bed.fs.open(&db("LOG.a"), OpenMode::ReadWrite).unwrap().write_all_at(b"by LOG", 0).unwrap();
    bed.check();
    bed.create("b", b"content of b");
    bed.fs.hard_link(&db("b"), &db("b2")).unwrap();
    bed.fs.rename(&db("b"), &db("LOG.b")).unwrap();
    bed.fs.open(&db("LOG.b"), OpenMode::Truncate).unwrap().write_all_at(b"cut", 0).unwrap();
    bed.check();
    bed.fs.rename(&db("LOG.b"), &db("b3")).unwrap();
    bed.check();
}

#[test]
fn a_file_that_appeared_behind_our_back_is_adopted_when_it_is_opened_for_writing() {
    let bed = Bed::new();
    for name in ["a", "b"] {
        bed.disk.open(&db(name), OpenMode::Create).unwrap().write_all_at(b"from outside", 0).unwrap();
    }
    bed.disk.hard_link(&db("a"), &db("a2")).unwrap();
    bed.fs.open(&db("a"), OpenMode::Read).unwrap();
    assert_eq!(bed.fnode("a"), None);
    let held = bed.fs.open(&db("a"), OpenMode::ReadWrite).unwrap();
    bed.fs.open(&db("a2"), OpenMode::Create).unwrap().write_all_at(b"by us", 3).unwrap();
    assert_eq!(bed.fnode("a"), bed.fnode("a2"));
    bed.fs.open(&db("b"), OpenMode::Truncate).unwrap();
    drop(held);
    bed.check();
}

#[test]
fn directories_are_renamed_and_removed_file_by_file() {
    let bed = Bed::new();
    for name in ["d", "d/e", "x"] {
        bed.fs.create_dir(&db(name)).unwrap();
    }
    let held = bed.create("d/e/one", b"1");
    bed.create("d/two", b"2");
    bed.create("d/LOG", b"3");
    bed.create("x/three", b"3");
    bed.fs.hard_link(&db("d/two"), &db("d/e/link")).unwrap();
    let sent = bed.journal.sent.lock().unwrap().len();
    bed.fs.rename(&db("d"), &db("moved")).unwrap();
    assert_eq!(bed.journal.sent.lock().unwrap().len(), sent + 1);
    held.append(b"one").unwrap();
    bed.check();
    assert!(bed.fnode("moved/e/one").is_some() && bed.fnode("d/e/one").is_none());
    bed.fs.remove_dir_all(&db("moved")).unwrap();
    bed.check();
    assert_eq!(played(&bed.journal).len(), 1);
}

#[test]
fn a_directory_whose_files_change_sides_is_recorded_as_it_then_is() {
    let (journal, disk) = (Flaky::new([]), MemoryFs::new());
    disk.create_dir(Path::new("/db")).unwrap();
    let filter = Filter::new(|path| !path.as_bytes().starts_with(b"/scratch/"));
    let options = RecordedFsOptions::default().filter(filter);
    let fs = RecordedFs::new(disk, Path::new("/db"), record(&journal), options);
    fs.create_dir(&db("scratch")).unwrap();
    let file = fs.open_recorded(&db("scratch/a"), OpenMode::Create).unwrap();
    file.append(b"built aside").unwrap();
    fs.rename(&db("scratch"), &db("ready")).unwrap();
    file.append(b", then recorded").unwrap();
    assert_eq!(played(&journal)[&path("ready/a")].0, b"built aside, then recorded");
    fs.rename(&db("ready"), &db("scratch")).unwrap();
    file.append(b", and not any more").unwrap();
    assert!(played(&journal).is_empty());
}

#[test]
fn a_file_system_beneath_a_directory_records_where_the_directory_is() {
    let bed = Bed::new();
    bed.fs.create_dir(&db("d")).unwrap();
    let beneath = bed.fs.beneath(&db("d")).unwrap();
    beneath.open(Path::new("a"), OpenMode::Create).unwrap().write_all_at(b"1", 0).unwrap();
    bed.fs.rename(&db("d"), &db("moved")).unwrap();
    beneath.open(Path::new("b"), OpenMode::Create).unwrap().write_all_at(b"2", 0).unwrap();
    assert!(bed.fnode("moved/a").is_some() && bed.fnode("moved/b").is_some());
    bed.check();
}

#[test]
fn a_property_is_only_replaced_whole_by_rename() {
    let (journal, disk) = (Flaky::new([]), MemoryFs::new());
    disk.create_dir(Path::new("/db")).unwrap();
    let options = RecorderOptions::default().property_paths(vec![path("/IDENTITY")]);
    let journals = Arc::clone(&journal);
    let recorder = Recorder::new(journals, Fsm::new(log_name()), Offset::ZERO, author(A), options).unwrap();
    let fs = RecordedFs::new(disk.clone(), Path::new("/db"), recorder, RecordedFsOptions::default());
    for content in [&b"first"[..], b"second"] {
        fs.open(&db("tmp"), OpenMode::Create).unwrap().write_all_at(content, 0).unwrap();
        fs.rename(&db("tmp"), &db("IDENTITY")).unwrap();
    }
    for outcome in [
        fs.remove_file(&db("IDENTITY")),
        fs.rename(&db("IDENTITY"), &db("other")),
        fs.hard_link(&db("IDENTITY"), &db("other")),
        fs.open(&db("IDENTITY"), OpenMode::ReadWrite).map(drop),
    ] {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("/IDENTITY"), "{error}");
    }
    assert_eq!(played(&journal), local(&disk, Path::new("/db")));
}

#[test]
fn what_cannot_be_recorded_is_refused_before_the_local_file_changes() {
    let bed = Bed::new();
    bed.create("a", b"content");
    bed.fs.inner().create_dir(Path::new("/other")).unwrap();
    let outside = Path::new("/other/file");
    for outcome in [
        bed.fs.open(outside, OpenMode::Create).map(drop),
        bed.fs.open(&db(".recoverylog/x"), OpenMode::Create).map(drop),
        bed.fs.open(&db("../db/x"), OpenMode::Create).map(drop),
        bed.fs.rename(&db("a"), outside),
        bed.fs.hard_link(&db("a"), outside),
    ] {
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
    assert_eq!(bed.disk.read_dir(Path::new("/other")).unwrap(), []);
    bed.check();
}

#[test]
fn nothing_takes_the_name_of_the_folder_that_readers_hide() {
    let bed = Bed::new();
    bed.create("file", b"kept");
    bed.disk.create_dir(&db("folder")).unwrap();
    bed.create("folder/below", b"kept too");
    let ops = bed.ops();
    for refused in [
        bed.fs.open(&db(".recoverylog"), OpenMode::Create).map(drop),
        bed.fs.rename(&db("file"), &db(".recoverylog")),
        bed.fs.rename(&db("folder"), &db(".recoverylog")),
        bed.fs.hard_link(&db("file"), &db(".recoverylog")),
    ] {
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
    assert_eq!(bed.ops_since(ops), 0);
    bed.check();
    let recorder = bed.fs.recorder();
    let (reserved, fnode) = (path("/.recoverylog"), bed.fnode("/file").unwrap());
    for path in [reserved.clone(), path("/.recoverylog/x")] {
        assert_eq!(recorder.create(&path).unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(recorder.link(fnode, &path).unwrap_err().kind(), ErrorKind::Invalid);
        let renamed = recorder.rename(&LogPath::from_bytes(b"/file"), &path);
        assert_eq!(renamed.unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!(bed.ops_since(ops), 0);
    bed.create(".recoverylogs", b"another name");
    bed.check();
}

#[test]
fn a_path_through_a_symbolic_link_is_refused() {
    let bed = Bed::new();
    bed.fs.create_dir(&db("d")).unwrap();
    bed.fs.create_dir(&db("d/sub")).unwrap();
    bed.disk.plant_symlink(Path::new("d"), &db("symlink")).unwrap();
    bed.create("d/a", b"content");
    let through = db("symlink/a");
    for outcome in [
        bed.fs.open(&through, OpenMode::Create).map(drop),
        bed.fs.open(&db("symlink"), OpenMode::Create).map(drop),
        bed.fs.remove_file(&through),
        bed.fs.rename(&through, &db("b")),
        bed.fs.rename(&db("d/a"), &db("symlink/b")),
        bed.fs.hard_link(&db("d/a"), &db("symlink/b")),
        bed.fs.beneath(&db("symlink/sub")).map(drop),
    ] {
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
    bed.check();
}

#[test]
fn after_the_recorder_has_failed_nothing_changes_any_more() {
    let bed = Bed::new();
    let file = bed.create("a", b"content");
    bed.fs.create_dir(&db("d")).unwrap();
    let before = local(&bed.disk, Path::new("/db"));
    bed.fs.recorder().fail(Error::new(ErrorKind::Fenced, "another author took over"));
    let outcomes = [
        bed.fs.open(&db("b"), OpenMode::Create).map(drop),
        bed.fs.open(&db("a"), OpenMode::Truncate).map(drop),
        bed.fs.create_dir(&db("e")),
        bed.fs.remove_dir(&db("d")),
        bed.fs.remove_file(&db("a")),
        bed.fs.rename(&db("a"), &db("b")),
        bed.fs.rename_no_replace(&db("a"), &db("b")),
        bed.fs.hard_link(&db("a"), &db("b")),
        bed.fs.sync_dir(&db("d")),
        file.write_all_at(b"x", 0),
        file.append(b"x").map(drop),
        file.set_len(0),
        file.allocate(0, 100),
        file.sync_data(),
        file.sync_all(),
    ];
    for (index, outcome) in outcomes.into_iter().enumerate() {
        let error = outcome.expect_err(&index.to_string());
        let error = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).unwrap();
        assert_eq!(error.kind(), ErrorKind::Fenced, "{index}");
    }
    assert_eq!(local(&bed.disk, Path::new("/db")), before);
    assert!(bed.fs.open(&db("a"), OpenMode::Read).is_ok());
}

#[test]
fn a_sync_that_is_not_acknowledged_in_time_fails_and_claims_nothing() {
    let (journal, disk) = (Flaky::new([Fault::Hold]), MemoryFs::new());
    disk.create_dir(Path::new("/db")).unwrap();
    let options = RecordedFsOptions::default().sync_max(Duration::from_millis(5));
    let fs = RecordedFs::new(disk, Path::new("/db"), record(&journal), options);
    let file = fs.open(&db("a"), OpenMode::Create).unwrap();
    assert_eq!(file.sync_data().unwrap_err().kind(), io::ErrorKind::TimedOut);
    journal.release();
    file.sync_data().unwrap();
}

#[test]
fn an_adopted_directory_is_in_the_log_whole() {
    let bed = Bed::new();
    bed.disk.create_dir(&db("d")).unwrap();
    for (name, len) in [("empty", 0), ("small", 10), ("d/large", 5 << 20), ("LOCK", 3)] {
        let file = bed.disk.open(&db(name), OpenMode::Create).unwrap();
        file.write_all_at(&vec![name.len() as u8; len], 0).unwrap();
    }
    bed.disk.hard_link(&db("small"), &db("d/link")).unwrap();
    let adopted = bed.fs.tracker().adopt().unwrap();
    assert_eq!((adopted.files, adopted.links, adopted.bytes), (3, 4, 10 + (5 << 20)));
    bed.check();
    assert_eq!(bed.fs.tracker().adopt().unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_directory_with_a_symbolic_link_is_not_adopted() {
    let bed = Bed::new();
    bed.disk.create_dir(&db("d")).unwrap();
    bed.disk.open(&db("a"), OpenMode::Create).unwrap();
    bed.disk.plant_symlink(Path::new("a"), &db("d/symlink")).unwrap();
    let error = bed.fs.tracker().adopt().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("/db/d/symlink"), "{error}");
    assert_eq!(bed.ops(), 0);
}

#[test]
fn a_successor_tracks_what_its_predecessor_recorded() {
    let bed = Bed::new();
    bed.create("a", b"content");
    bed.fs.hard_link(&db("a"), &db("a2")).unwrap();
    bed.fs.sync_dir(Path::new("/db")).unwrap();
    let next = take_over(&bed.journal, B);
    let fs = RecordedFs::new(bed.disk.clone(), Path::new("/db"), next, RecordedFsOptions::default());
    let file = fs.open_recorded(&db("a2"), OpenMode::ReadWrite).unwrap();
    assert_eq!(file.append(b" and more").unwrap(), 7);
    file.set_len(12).unwrap();
    fs.sync_dir(Path::new("/db")).unwrap();
    assert_eq!(played(&bed.journal), local(&bed.disk, Path::new("/db")));
}

#[test]
fn an_engine_that_does_its_own_io_is_tracked() {
    let bed = Bed::new();
    let tracker = bed.fs.tracker();
    let open = || bed.disk.open(&db("a"), OpenMode::Create);
    let (file, handle) = tracker.open(&db("a"), OpenMode::Create, open).unwrap();
    let mut guard = tracker.begin_write(&handle, 7).unwrap();
    let end = guard.end();
    file.write_all_at(b"content", end).unwrap();
    guard.record(end, b"content").unwrap();
    drop(guard);
    tracker.hard_link(&db("a"), &db("b"), || bed.disk.hard_link(&db("a"), &db("b"))).unwrap();
    tracker.rename(&db("b"), &db("c"), || bed.disk.rename(&db("b"), &db("c"))).unwrap();
    tracker.set_len(&handle, &*file, 3, || file.set_len(3)).unwrap();
    tracker.remove_file(&db("a"), || bed.disk.remove_file(&db("a"))).unwrap();
    assert_eq!(handle.fnode(), bed.fnode("c"));
    bed.check();
}

#[test]
fn a_write_larger_than_one_operation_is_short() {
    let bed = Bed::new();
    let file = bed.create("a", b"");
    assert_eq!(file.write_at(&vec![1; OP_BYTES_MAX + 1], 5).unwrap(), OP_BYTES_MAX);
    file.append(&vec![2; 2 * OP_BYTES_MAX + 9]).unwrap();
    bed.check();
}
