//! Goal: who only reads is told what is there, whatever else lies in the folders, and changes nothing.
//! Method: folders with strangers in them, heads that cannot be mapped, and a writer that goes on beside the reader.

use super::*;
use crate::journal::Capabilities;
use crate::vfs::{Effect, Fault, FaultPlan, FaultyFs};

fn state() -> PathBuf {
    Path::new(ROOT).join(STATE_FOLDER).join("journals")
}

fn names(fs: &MemoryFs) -> Vec<String> {
    read_only(fs).list().unwrap().iter().map(ToString::to_string).collect()
}

#[test]
fn strangers_among_the_folders_hide_no_journal() {
    let fs = MemoryFs::new();
    vfs::create_dir_all_synced(&fs, Path::new(ROOT)).unwrap();
    assert_eq!(names(&fs), [""; 0]);
    drop(open_on(&fs, 4096));
    for stranger in ["notes", "notes.txt", "acme/notes", "acme/notes.txt", "acme/.open"] {
        fs.open(&state().join(stranger), OpenMode::Create).unwrap();
    }
    fs.create_dir(&state().join("acme/empty")).unwrap();
    assert_eq!(names(&fs), ["acme/orders"]);
}

#[test]
fn a_journal_is_listed_by_its_head_alone_or_by_its_open_file_alone() {
    for gone in [open_path(1), state().join(name().as_str()).join("head")] {
        let fs = MemoryFs::new();
        drop(open_on(&fs, 4096));
        fs.remove_file(&gone).unwrap();
        assert_eq!(names(&fs), ["acme/orders"], "without {}", gone.display());
    }
}

#[test]
fn a_folder_that_cannot_be_listed_is_an_error_and_not_an_empty_one() {
    let fs = MemoryFs::new();
    vfs::create_dir_all_synced(&fs, state().parent().unwrap()).unwrap();
    fs.open(&state(), OpenMode::Create).unwrap();
    assert_eq!(read_only(&fs).list().unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn a_reader_that_may_not_map_the_head_looks_at_it_again_and_again() {
    let fs = MemoryFs::new();
    let writer = open_on(&fs, 4096);
    append(&writer, b"one").unwrap();
    let faulty = Arc::new(FaultyFs::new(fs));
    for (kind, opens) in [
        (io::ErrorKind::PermissionDenied, true),
        (io::ErrorKind::ReadOnlyFilesystem, true),
        (io::ErrorKind::Other, false),
    ] {
        let journals = read_only(&faulty);
        faulty.inject(FaultPlan::Nth { effect: Effect::Open, number: 0, fault: Fault::Fail(kind) });
        let opened = journals.open_file(&name());
        faulty.heal();
        if !opens {
            assert!(matches!(opened, Err(JournalError::Io { .. })), "{kind:?}");
            continue;
        }
        let before = content(&writer).unwrap();
        assert_eq!(content(opened.as_ref().unwrap()).unwrap(), before, "{kind:?}");
        append(&writer, b" more").unwrap();
        assert_eq!(content(opened.as_ref().unwrap()).unwrap(), [&before[..], b" more"].concat(), "{kind:?}");
    }
    // Who is to append needs the mapping.
    let journals = writing(&faulty);
    let fault = Fault::Fail(io::ErrorKind::PermissionDenied);
    faulty.inject(FaultPlan::Nth { effect: Effect::Open, number: 0, fault });
    assert!(matches!(journals.open_file(&name()), Err(JournalError::Io { .. })));
}

#[test]
fn a_reader_of_this_boot_follows_from_the_start() {
    let fs = MemoryFs::new();
    let writer = open_on(&fs, 4096);
    append(&writer, b"one").unwrap();
    let reading = read_only(&fs).open_file(&name()).unwrap();
    assert_eq!(reading.capabilities(), Capabilities { follow: true, ..Capabilities::READ_ONLY });
    for round in 0..12_u8 {
        append(&writer, &[round; 1000]).unwrap();
        assert_eq!(reading.head(soon()).unwrap(), writer.head(soon()).unwrap());
    }
    assert_eq!(content(&reading).unwrap(), content(&writer).unwrap());
}

#[test]
fn a_head_that_was_never_started_is_left_as_it_is() {
    let whole = (HEAD_WORDS * size_of::<u64>()) as u64;
    for len in [0, 8, whole - 1] {
        let fs = MemoryFs::new();
        append(&open_on(&fs, 4096), b"there").unwrap();
        let image = fs.crash_image(CrashPlan::KeepAll);
        let head = state().join(name().as_str()).join("head");
        image.open(&head, OpenMode::ReadWrite).unwrap().set_len(len).unwrap();
        let before = tree(&image);
        assert_eq!(content(&read_only(&image).open_file(&name()).unwrap()).unwrap(), b"there", "{len}");
        assert_eq!(tree(&image), before, "{len}");
        assert_eq!(content(&open_on(&image, 4096)).unwrap(), b"there", "{len}");
    }
}

#[test]
fn a_file_or_folder_that_cannot_be_opened_is_an_io_error_and_not_one_that_is_gone() {
    let fs = MemoryFs::new();
    let writer = open_on(&fs, 4096);
    append(&writer, b"there").unwrap();
    let faulty = Arc::new(FaultyFs::new(fs.clone()));
    let journals = read_only(&faulty);
    // The first to be opened is the head, the second the open file.
    let fault = Fault::Fail(io::ErrorKind::PermissionDenied);
    faulty.inject(FaultPlan::Nth { effect: Effect::Open, number: 1, fault });
    let opened = journals.open_file(&name()).and_then(|journal| content(&journal));
    assert!(matches!(opened, Err(JournalError::Io { .. })), "{opened:?}");
    faulty.heal();

    let folder = Path::new(ROOT).join(name().as_str());
    fs.remove_dir(&folder).unwrap();
    fs.open(&folder, OpenMode::Create).unwrap();
    let listed = journals.open_file(&name()).and_then(|journal| journal.fragments(soon()));
    assert!(matches!(listed, Err(JournalError::Io { .. })), "{listed:?}");
}

#[test]
fn fragments_that_cannot_be_listed_are_an_error_and_not_left_out() {
    let fs = MemoryFs::new();
    let writer = open_on(&fs, 4096);
    for round in 0..6 {
        append(&writer, &[round; 1000]).unwrap();
    }
    drop(writer);
    // As if the last sealing had not come to its end.
    let sealed = sealed_files(&fs);
    let named = Path::new(ROOT).join(name().as_str()).join(&sealed[0]);
    let sealing = Path::new(&sealed[0]).with_extension("sealing");
    fs.rename(&named, &state().join(name().as_str()).join(sealing)).unwrap();

    let faulty = Arc::new(FaultyFs::new(fs));
    let reading = read_only(&faulty).open_file(&name()).unwrap();
    let whole = reading.fragments(soon()).unwrap();
    let faults = || faulty.counts().values().map(|count| count.faults).sum::<u64>();
    let mut failed = 0;
    loop {
        let before = faults();
        let fault = Fault::Fail(io::ErrorKind::PermissionDenied);
        faulty.inject(FaultPlan::Nth { effect: Effect::Look, number: failed, fault });
        let listed = reading.fragments(soon());
        faulty.heal();
        if faults() == before {
            assert_eq!(listed.unwrap(), whole);
            break;
        }
        assert!(matches!(listed, Err(JournalError::Io { .. })), "{failed}: {listed:?}");
        failed += 1;
    }
    assert!(failed >= 3, "{failed}");
}
