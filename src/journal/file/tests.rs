//! Goal: the contract of the journal over file systems in memory and of the operating system, and what only a file
//! journal promises short of crashes: names, folders, several handles, takeover, retirement, reading only.
//! Method: the conformance suite, then one case per claim.

mod crash;
mod damage;
#[cfg(recoverylog_planted)]
mod planted;
mod reading;
#[cfg(recoverylog_shuttle)]
mod schedules;
mod stopped;

use std::sync::mpsc;

use bytes::Bytes;

use super::layout::Geometry;
use super::*;
use crate::ids::Offset;
use crate::journal::{
    Append, Appended, Chunk, Fragment, ReadRange, ReadStep, Register, RegisterSelector, RegisterSet,
    conformance,
};
use crate::vfs::{CrashPlan, MemoryFs};

pub(super) const ROOT: &str = "/journals";

pub(super) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

pub(super) fn name() -> JournalName {
    JournalName::new("acme/orders").unwrap()
}

pub(super) fn options(fragment_bytes: u64, inline: bool) -> FileJournalOptions {
    // Long enough for a test to see the lock respected, short enough for thousands of takeovers.
    FileJournalOptions { fragment_bytes, inline, patience: Duration::from_millis(2) }
}

/// Opens a place for reading.
fn read_only<F: FileSystem + Clone + 'static>(fs: &F) -> FileJournals {
    FileJournals::read_only_on(Arc::new(fs.clone()), ROOT).unwrap()
}

/// Opens a place whose journals seal within the append.
fn writing<F: FileSystem + Clone + 'static>(fs: &F) -> FileJournals {
    FileJournals::open_on(Arc::new(fs.clone()), ROOT, options(4096, true)).unwrap()
}

pub(super) fn open_on(fs: &MemoryFs, fragment_bytes: u64) -> FileJournal {
    try_open_on(fs, fragment_bytes).unwrap()
}

pub(super) fn try_open_on(fs: &MemoryFs, fragment_bytes: u64) -> Result<FileJournal, JournalError> {
    let fs: Arc<dyn FileSystem> = Arc::new(fs.clone());
    FileJournals::open_on(fs, ROOT, options(fragment_bytes, true)).unwrap().open_file(&name())
}

pub(super) fn append(journal: &FileJournal, content: &[u8]) -> Result<Appended, JournalError> {
    journal.append(Append::new(Bytes::copy_from_slice(content)), soon())
}

/// Reads everything up to the head.
pub(super) fn content(journal: &FileJournal) -> Result<Vec<u8>, JournalError> {
    let mut reader = journal.read(ReadRange::follow(Offset::ZERO))?;
    let mut found = Vec::new();
    loop {
        match reader.next(Deadline::passed())? {
            ReadStep::Chunk(chunk) => {
                assert_eq!(chunk.offset().get(), found.len() as u64);
                found.extend(bytes_of(&chunk));
            }
            ReadStep::AtHead { .. } => return Ok(found),
            other => panic!("{other:?}"),
        }
    }
}

fn bytes_of(chunk: &Chunk) -> Vec<u8> {
    let mut bytes = vec![0; chunk.len() as usize];
    chunk.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn registers(value: &str) -> RegisterSet {
    RegisterSet::from_iter([Register::new("author", value)])
}

#[test]
fn the_contract_holds_in_memory() {
    for inline in [true, false] {
        let make = || {
            let fs: Arc<dyn FileSystem> = Arc::new(MemoryFs::new());
            let open = move || -> Arc<dyn Journals> {
                Arc::new(FileJournals::open_on(Arc::clone(&fs), ROOT, options(4096, inline)).unwrap())
            };
            conformance::Place::empty(open(), 4096).reopened_by(open)
        };
        let report = conformance::run(&make).unwrap_or_else(|failures| panic!("{failures}"));
        assert_eq!(report.declined, [""; 0]);
    }
}

#[cfg(unix)]
#[test]
fn the_contract_holds_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let count = std::cell::Cell::new(0);
    let make = || {
        count.set(count.get() + 1);
        let root = folder.path().join(count.get().to_string());
        let open = move || -> Arc<dyn Journals> {
            Arc::new(FileJournals::open_on(Arc::new(OsFs::new()), &root, options(4096, false)).unwrap())
        };
        conformance::Place::empty(open(), 4096).reopened_by(open)
    };
    let report = conformance::run(&make).unwrap_or_else(|failures| panic!("{failures}"));
    assert_eq!(report.declined, [""; 0]);
}

/// Every file and folder beneath the root, with the length of files.
fn tree(fs: &MemoryFs) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(ROOT)];
    while let Some(folder) = folders.pop() {
        for entry in fs.read_dir(&folder).unwrap() {
            let path = folder.join(&entry.name);
            if entry.kind == FileKind::Directory {
                folders.push(path.clone());
            }
            found.push((path.clone(), fs.metadata(&path).unwrap().len));
        }
    }
    found.sort();
    found
}

fn state_files(fs: &MemoryFs) -> Vec<String> {
    let folder = Path::new(ROOT).join(STATE_FOLDER).join("journals").join(name().as_str());
    let entries = fs.read_dir(&folder).unwrap();
    entries.iter().map(|entry| entry.name.to_str().unwrap().to_owned()).collect()
}

fn sealed_files(fs: &MemoryFs) -> Vec<String> {
    let entries = fs.read_dir(&Path::new(ROOT).join(name().as_str())).unwrap();
    entries.iter().map(|entry| entry.name.to_str().unwrap().to_owned()).collect()
}

fn open_path(id: u64) -> PathBuf {
    Path::new(ROOT).join(STATE_FOLDER).join("journals").join(name().as_str()).join(format!("{id:016x}.open"))
}

fn ranges(fragments: &[Fragment]) -> Vec<(u64, u64, bool)> {
    fragments.iter().map(|found| (found.begin.get(), found.end.get(), found.sum.is_some())).collect()
}

#[test]
fn handles_take_turns_and_see_what_the_others_commit() {
    let fs = MemoryFs::new();
    let handles = [open_on(&fs, 4096), open_on(&fs, 4096), open_on(&fs, 4096)];
    let mut expected = Vec::new();
    for round in 0..60_u64 {
        let journal = &handles[(round % 3) as usize];
        let piece = vec![round as u8; 1 + (round * 37 % 300) as usize];
        let mut next = Append::new(piece.clone()).at(Offset::new(expected.len() as u64).unwrap());
        next.check = Some(RegisterSelector { exclude: registers("nobody"), ..RegisterSelector::default() });
        next.union = registers(&round.to_string());
        expected.extend(piece);
        assert_eq!(journal.append(next, soon()).unwrap().end.get(), expected.len() as u64);
        for other in &handles {
            assert_eq!(other.head(soon()).unwrap().registers, registers(&round.to_string()));
        }
    }
    for journal in &handles {
        assert_eq!(content(journal).unwrap(), expected);
    }
    let late = handles[0].append(Append::new("x").at(Offset::ZERO), soon());
    assert!(matches!(late, Err(JournalError::WrongOffset { .. })));
}

#[test]
fn a_holder_of_the_lock_that_stands_still_is_superseded_and_what_it_writes_later_is_never_seen() {
    let fs = MemoryFs::new();
    let journal = open_on(&fs, 4096);
    append(&journal, b"before").unwrap();
    // The lock of a stopped process, as others see it, and its handle.
    let stopped = fs.open(&open_path(1), OpenMode::ReadWrite).unwrap();
    assert!(stopped.try_lock(LockMode::Exclusive).unwrap());
    assert_eq!(append(&journal, b" after").unwrap().begin.get(), 6);
    assert_eq!(state_files(&fs), ["0000000000000002.open", "head", "lock"]);
    stopped.write_all_at(b"zombie", 6).unwrap();
    stopped.write_all_at(b"zombie", 0).unwrap();
    stopped.sync_all().unwrap();
    assert_eq!(content(&journal).unwrap(), b"before after");
    assert_eq!(ranges(&journal.fragments(soon()).unwrap()), [(0, 6, true), (6, 12, false)]);
    let image = fs.crash_image(CrashPlan::KeepAll);
    assert_eq!(content(&open_on(&image, 4096)).unwrap(), b"before after");
}

#[test]
fn a_holder_of_the_lock_that_is_not_late_is_waited_for() {
    let fs = MemoryFs::new();
    let mut patient = options(4096, false);
    patient.patience = Duration::from_secs(20);
    let place: Arc<dyn FileSystem> = Arc::new(fs.clone());
    let journal = FileJournals::open_on(place, ROOT, patient).unwrap().open_file(&name()).unwrap();
    let holder = fs.open(&open_path(1), OpenMode::ReadWrite).unwrap();
    assert!(holder.try_lock(LockMode::Exclusive).unwrap());
    let mut waiting = journal.submit(Append::new("after"));
    assert!(waiting.wait(Deadline::after(Duration::from_millis(50))).is_none());
    holder.unlock().unwrap();
    assert_eq!(waiting.wait(soon()).unwrap().unwrap().begin, Offset::ZERO);
    assert_eq!(state_files(&fs), ["0000000000000001.open", "head", "lock"]);
}

#[test]
fn a_reader_of_a_superseded_file_goes_on_in_the_next_one() {
    let fs = MemoryFs::new();
    let journal = open_on(&fs, 4096);
    let mut reader = journal.read(ReadRange::follow(Offset::ZERO)).unwrap();
    let mut expected = Vec::new();
    let mut found = Vec::new();
    for round in 0..40_u8 {
        append(&journal, &[round; 700]).unwrap();
        expected.extend([round; 700]);
        if round % 3 == 0 {
            while let ReadStep::Chunk(chunk) = reader.next(Deadline::passed()).unwrap() {
                found.extend(bytes_of(&chunk));
            }
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn sealed_fragments_are_named_as_gazette_names_them_and_hold_the_raw_content() {
    let fs = MemoryFs::new();
    let journal = open_on(&fs, 4096);
    append(&journal, &[b'a'; 4000]).unwrap();
    append(&journal, &[b'b'; 4000]).unwrap();
    let names = sealed_files(&fs);
    // head -c 4000 /dev/zero | tr '\0' a | sha1sum
    assert_eq!(names, ["0000000000000000-0000000000000fa0-38e4f3c0c14b64b1e112b7f4dc370fd962ad31de.raw"]);
    let file = fs.open(&Path::new(ROOT).join(name().as_str()).join(&names[0]), OpenMode::Read).unwrap();
    assert_eq!(file.metadata().unwrap().len, 4000);
}

#[test]
fn a_file_rolls_when_its_records_are_used_up_and_a_large_append_gets_a_file_of_its_size() {
    let fs = MemoryFs::new();
    let journal = open_on(&fs, 4096);
    for _ in 0..=Geometry::for_content(4096).slots {
        append(&journal, b"x").unwrap();
    }
    append(&journal, &vec![7; 100_000]).unwrap();
    append(&journal, b"y").unwrap();
    // The file of the large append is a whole number of pages, which leaves room for the last.
    let expected = [(0, 64, true), (64, 65, true), (65, 100_066, false)];
    assert_eq!(ranges(&journal.fragments(soon()).unwrap()), expected);
    assert_eq!(content(&journal).unwrap().len(), 100_066);
}

#[test]
fn registers_that_find_no_place_in_a_record_are_refused_and_large_ones_survive_a_crash() {
    let fs = MemoryFs::new();
    let journal = open_on(&fs, 4096);
    let with = |bytes| {
        let mut append = Append::new("x");
        append.union = registers(&"v".repeat(bytes));
        append
    };
    assert!(matches!(journal.append(with(4000), soon()), Err(JournalError::Invalid { .. })));
    for bytes in [3900, 3901, 10] {
        journal.append(with(bytes), soon()).unwrap();
        let image = fs.crash_image(CrashPlan::DropUnsynced);
        assert_eq!(open_on(&image, 4096).head(soon()).unwrap().registers, registers(&"v".repeat(bytes)));
    }
    // A file holds 64 slots; each of the large sets takes 63.
    assert_eq!(content(&journal).unwrap(), b"xxx");
}

#[test]
fn a_retired_journal_is_sealed_whole_and_takes_no_appends_from_anybody() {
    let fs = MemoryFs::new();
    let (first, second) = (open_on(&fs, 4096), open_on(&fs, 4096));
    append(&first, b"all of it").unwrap();
    append(&second, b", sealed").unwrap();
    first.retire().unwrap();
    assert_eq!(ranges(&first.fragments(soon()).unwrap()), [(0, 17, true)]);
    for journal in [&first, &second] {
        assert!(matches!(append(journal, b"more"), Err(JournalError::NotAllowed { .. })));
        assert_eq!(content(journal).unwrap(), b"all of it, sealed");
    }
    assert!(matches!(try_open_on(&fs, 4096), Err(JournalError::NotAllowed { .. })));
    let image = fs.crash_image(CrashPlan::DropUnsynced);
    assert!(matches!(try_open_on(&image, 4096), Err(JournalError::NotAllowed { .. })));
    for fs in [fs.clone(), image] {
        let reading = read_only(&fs).open_file(&name()).unwrap();
        assert_eq!(content(&reading).unwrap(), b"all of it, sealed");
    }
}

#[test]
fn names_that_are_path_prefixes_of_each_other_are_refused() {
    let fs: Arc<dyn FileSystem> = Arc::new(MemoryFs::new());
    let journals = FileJournals::open_on(fs, ROOT, options(4096, true)).unwrap();
    let open = |name: &str| journals.open_file(&JournalName::new(name).unwrap());
    open("acme/orders/007").unwrap();
    for refused in ["acme", "acme/orders", "acme/orders/007/x", ".recoverylog/journals/x"] {
        assert!(matches!(open(refused), Err(JournalError::Invalid { .. })), "{refused}");
    }
    for fine in ["acme/orders/0071", "acme/order", "lock", "head/lock", "acme/head/x"] {
        open(fine).unwrap();
    }
    // A folder of the state is called as one of its files.
    for refused in ["acme", "acme/head"] {
        assert!(matches!(open(refused), Err(JournalError::Invalid { .. })), "{refused}");
    }
    let names = journals.list().unwrap();
    let names = names.iter().map(JournalName::as_str).collect::<Vec<_>>();
    assert_eq!(
        names,
        ["acme/head/x", "acme/order", "acme/orders/007", "acme/orders/0071", "head/lock", "lock"]
    );
}

#[test]
fn reading_only_changes_nothing_in_this_boot_and_in_the_next() {
    let fs = MemoryFs::new();
    let journal = open_on(&fs, 4096);
    for round in 0..12_u8 {
        append(&journal, &[round; 1000]).unwrap();
    }
    let expected = content(&journal).unwrap();
    drop(journal);
    for fs in [fs.clone(), fs.crash_image(CrashPlan::DropUnsynced)] {
        let before = tree(&fs);
        let journals = read_only(&fs);
        let reading = journals.open_file(&name()).unwrap();
        assert_eq!(content(&reading).unwrap(), expected);
        assert_eq!(reading.fragments(soon()).unwrap().len(), 3);
        assert_eq!(journals.list().unwrap(), [name()]);
        assert!(matches!(append(&reading, b"x"), Err(JournalError::NotAllowed { .. })));
        let other = JournalName::new("acme/other").unwrap();
        assert!(matches!(journals.open_file(&other), Err(JournalError::NotFound { .. })));
        drop(reading);
        assert_eq!(tree(&fs), before);
    }
}

#[test]
fn a_follower_that_only_reads_sees_appends_of_a_handle_that_came_later() {
    let fs = MemoryFs::new();
    append(&open_on(&fs, 4096), b"old").unwrap();
    let fs = fs.crash_image(CrashPlan::DropUnsynced);
    let journals = read_only(&fs);
    let reading = journals.open_file(&name()).unwrap();
    let mut reader = reading.read(ReadRange::follow(Offset::ZERO)).unwrap();
    assert!(matches!(reader.next(soon()).unwrap(), ReadStep::Chunk(_)));
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::Builder::new().spawn(move || {
        sender.send(reader.next(soon())).unwrap();
    });
    append(&open_on(&fs, 4096), b"new").unwrap();
    let step = receiver.recv_timeout(soon().remaining()).unwrap().unwrap();
    assert!(matches!(step, ReadStep::Chunk(chunk) if bytes_of(&chunk) == b"new"));
    thread.unwrap().join().unwrap();
}

#[test]
fn a_fragment_that_somebody_else_stored_past_the_head_is_diverged() {
    let fs = MemoryFs::new();
    append(&open_on(&fs, 4096), b"ours").unwrap();
    let folder = Path::new(ROOT).join(name().as_str());
    for (begin, end) in [(4, 9), (0, 9), (2, 3)] {
        let foreign = format!("{begin:016x}-{end:016x}-{}.raw", "ab".repeat(20));
        let images = [fs.crash_image(CrashPlan::DropUnsynced), fs.crash_image(CrashPlan::KeepAll)];
        for fs in &images {
            fs.open(&folder.join(&foreign), OpenMode::Create).unwrap();
            let before = tree(fs);
            assert!(matches!(try_open_on(fs, 4096), Err(JournalError::Diverged { .. })), "{foreign}");
            assert_eq!(tree(fs), before);
        }
    }
    fs.open(&folder.join(format!("{:016x}-{:016x}-{}.raw", 4, 9, "ab".repeat(20))), OpenMode::Create)
        .unwrap();
    assert!(matches!(try_open_on(&fs, 4096), Err(JournalError::Diverged { .. })));
}

#[cfg(feature = "zstd")]
#[test]
fn a_fragment_that_was_stored_by_a_broker_in_another_codec_is_read_as_well() {
    use crate::journal::Codec;

    let fs = MemoryFs::new();
    let journal = open_on(&fs, 4096);
    for round in 0..12_u8 {
        append(&journal, &[round; 1000]).unwrap();
    }
    let expected = content(&journal).unwrap();
    let folder = Path::new(ROOT).join(name().as_str());
    let raw = folder.join(&sealed_files(&fs)[1]);
    let file = fs.open(&raw.with_extension("zst"), OpenMode::CreateNew).unwrap();
    file.write_all_at(&zstd::encode_all(&expected[4000..8000], 1).unwrap(), 0).unwrap();
    fs.remove_file(&raw).unwrap();
    assert_eq!(content(&journal).unwrap(), expected);
    let codecs = journal.fragments(soon()).unwrap().into_iter().map(|found| found.codec);
    assert_eq!(codecs.collect::<Vec<_>>(), [Codec::None, Codec::Zstandard, Codec::None]);
    assert_eq!(content(&open_on(&fs, 4096)).unwrap(), expected);
    let offset = |value| Offset::new(value).unwrap();
    let mut reader = journal.read(ReadRange::bounded(offset(4500), offset(8500))).unwrap();
    let mut found = Vec::new();
    while let ReadStep::Chunk(chunk) = reader.next(soon()).unwrap() {
        found.extend(bytes_of(&chunk));
    }
    assert!(found == expected[4500..8500]);
}
