//! Disks that say no, do half, or take the process or the machine with them, at every change in turn.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use recoverylog::ErrorKind::Io;
use recoverylog::hint_store::{DirectoryHints, HintStore};
use recoverylog::hints::AsOf;
use recoverylog::journal::{Append, FileJournalOptions, FileJournals, Journals, MemoryJournals};
use recoverylog::player::{PlayOptions, Played, Player, is_incomplete};
use recoverylog::vfs::{CrashPlan, Fault, FaultPlan, FaultyFs, FileKind, FileSystem, MemoryFs, OpenMode};
use recoverylog::{
    Author, Checksum, Deadline, ErrorKind, Fsm, FsmHints, LogPath, Offset, Recorder, RecorderOptions, Result,
    SeqNo,
};

use super::place::{Tree, log_name};
use super::raw::{Message, RawLog, create, link, property, write};

type Faulty = FaultyFs<MemoryFs>;

const FAULTS: [Fault; 4] = [
    Fault::Fail(io::ErrorKind::StorageFull),
    Fault::Fail(io::ErrorKind::Other),
    Fault::Torn(io::ErrorKind::StorageFull),
    Fault::Short,
];

const IMAGES: [CrashPlan; 5] = [
    CrashPlan::DropUnsynced,
    CrashPlan::KeepAll,
    CrashPlan::Seeded(1),
    CrashPlan::Seeded(2),
    CrashPlan::Seeded(3),
];

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// Reads everything below a directory in memory.
fn tree(fs: &dyn FileSystem, directory: &Path) -> Tree {
    let (mut found, mut folders) = (Tree::new(), vec![directory.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs.read_dir(&folder).unwrap() {
            let path = folder.join(entry.name);
            let name = path.strip_prefix(directory).unwrap().to_str().unwrap().as_bytes().to_vec();
            if entry.kind == FileKind::Directory {
                folders.push(path);
                found.insert(name, None);
            } else {
                let file = fs.open(&path, OpenMode::Read).unwrap();
                let mut content = vec![0; file.metadata().unwrap().len as usize];
                file.read_exact_at(&mut content, 0).unwrap();
                found.insert(name, Some(content));
            }
        }
    }
    found
}

/// A log that makes a player do all that it can do.
fn log() -> RawLog {
    let mut log = RawLog::with_a_file();
    let deep = log.op(&create(b"/d/e/deep"), b"");
    log.op(&write(deep, 3, 5000), &[b'x'; 5000]);
    log.op(&link(1, b"/d/link"), b"");
    let dead = log.op(&create(b"/gone/dead"), b"");
    log.op(&write(dead, 0, 4), b"dead");
    log.op(&property(b"/IDENTITY", b"me"), b"");
    let unlink = Message::default().number(1, dead).bytes(2, b"/gone/dead");
    log.op(&Message::default().inner(6, &unlink), b"");
    log.op(&create(b"/.recoverylog/anchor"), b"");
    log
}

fn restore(fs: &Arc<Faulty>) -> Result<Played> {
    let journals = MemoryJournals::new();
    journals.open(&log_name()).unwrap().append(Append::new(log().content), soon()).unwrap();
    let options = PlayOptions { parallelism: 1, ..PlayOptions::default() };
    let hints = FsmHints::empty(log_name());
    Player::new(&journals, &hints, Arc::clone(fs) as _, Path::new("/base/target"), options)?.restore()
}

/// Makes a disk with a folder for the target; with the target itself, too, where that is to be there.
fn disk(with_target: bool) -> Arc<Faulty> {
    let fs = MemoryFs::new();
    let folders = if with_target { &["/base", "/base/target"][..] } else { &["/base"] };
    for folder in folders {
        fs.create_dir(Path::new(folder)).unwrap();
        fs.sync_dir(Path::new(folder)).unwrap();
        fs.sync_dir(Path::new(folder).parent().unwrap()).unwrap();
    }
    Arc::new(FaultyFs::new(fs))
}

fn truth(with_target: bool) -> (Tree, u64) {
    let fs = disk(with_target);
    let changes = fs.changes();
    restore(&fs).unwrap();
    let found = tree(fs.inner(), Path::new("/base/target"));
    assert_eq!(found.len(), 6, "{found:?}");
    assert_eq!(tree(fs.inner(), Path::new("/base")).len(), 7);
    let synced = fs.inner().crash_image(CrashPlan::DropUnsynced);
    assert_eq!(tree(&synced, Path::new("/base/target")), found, "what was restored is durable, its name too");
    (found, fs.changes() - changes)
}

#[test]
fn a_restore_that_fails_anywhere_leaves_everything_as_it_was() {
    for with_target in [false, true] {
        let (truth, changes) = truth(with_target);
        let mut failed = 0;
        for (number, fault) in (0..changes).flat_map(|number| FAULTS.map(|fault| (number, fault))) {
            let context = format!("{fault:?} at change {number} of {changes}, target there: {with_target}");
            let fs = disk(with_target);
            let before = tree(fs.inner(), Path::new("/base"));
            fs.inject(FaultPlan::At { number, fault });
            match restore(&fs) {
                Ok(_) => assert_eq!(tree(fs.inner(), Path::new("/base/target")), truth, "{context}"),
                Err(error) => {
                    failed += 1;
                    assert_eq!(error.kind(), Io, "{context}: {error:?}");
                    assert_eq!(tree(fs.inner(), Path::new("/base")), before, "{context}: {error:?}");
                }
            }
            fs.heal();
        }
        println!("{} points, {failed} failed", changes * FAULTS.len() as u64);
        assert!(failed > changes * 2, "{failed} of {changes}");
    }
}

#[test]
fn a_restore_that_can_neither_go_on_nor_clean_up_leaves_nothing_that_passes_for_a_tree() {
    use recoverylog::vfs::Effect::{RemoveDir, RemoveFile, Rename, RenameNoReplace, SyncAll, SyncDir, Write};
    for with_target in [false, true] {
        let (truth, _) = truth(with_target);
        for first in [Write, SyncAll, SyncDir, RenameNoReplace, RemoveFile, RemoveDir] {
            for stuck in [RemoveFile, RemoveDir, Rename, RenameNoReplace, Write] {
                for number in 0..12 {
                    let fs = disk(with_target);
                    let fault = Fault::Fail(io::ErrorKind::Other);
                    // Both begin at the same call of the first kind.
                    fs.inject(FaultPlan::Nth { effect: first, number, fault });
                    if first != stuck {
                        fs.inject(FaultPlan::Nth { effect: stuck, number: number / 2, fault });
                    }
                    let done = restore(&fs).is_ok();
                    let context = format!("{first:?} {number}, then {stuck:?}, target there: {with_target}");
                    check_left(fs.inner(), &truth, done, &context);
                }
            }
        }
    }
}

#[test]
fn a_restore_that_dies_anywhere_leaves_nothing_that_passes_for_a_tree() {
    for with_target in [false, true] {
        let (truth, changes) = truth(with_target);
        for (number, fault) in
            (0..changes).flat_map(|number| [(number, Fault::Crash), (number, Fault::CrashTorn)])
        {
            let fs = disk(with_target);
            fs.inject(FaultPlan::At { number, fault });
            assert!(restore(&fs).is_err());
            let context = format!("{fault:?} at change {number} of {changes}, target there: {with_target}");
            check_left(fs.inner(), &truth, false, &context);
            for plan in IMAGES {
                check_left(&fs.inner().crash_image(plan), &truth, false, &format!("{context}, {plan:?}"));
            }
        }
        println!("{} points, {} images each", changes * 2, IMAGES.len() + 1);
    }
}

/// Checks that the target is missing, empty, known not to be whole, or whole; and in the first two cases, that it can
/// be restored now.
fn check_left(fs: &MemoryFs, truth: &Tree, done: bool, context: &str) {
    let target = Path::new("/base/target");
    assert!(!is_incomplete(fs, Path::new("/base")).unwrap());
    let Ok(names) = fs.read_dir(target) else {
        assert!(!done, "{context}");
        restore(&Arc::new(FaultyFs::new(fs.clone()))).unwrap();
        assert_eq!(tree(fs, target), *truth, "{context}");
        return;
    };
    if is_incomplete(fs, target).unwrap() {
        assert!(!done, "{context}");
    } else if names.is_empty() {
        restore(&Arc::new(FaultyFs::new(fs.clone()))).unwrap();
        assert_eq!(tree(fs, target), *truth, "{context}");
    } else {
        assert_eq!(tree(fs, target), *truth, "{context}");
    }
}

fn recorder(fs: Arc<dyn FileSystem>) -> Result<Recorder> {
    let mut options = FileJournalOptions::default();
    (options.inline, options.fragment_bytes) = (true, 4096);
    let journals = FileJournals::open_on(fs, "/journals", options)?;
    let options = RecorderOptions::default();
    let journal = journals.open(&log_name())?;
    Recorder::new(journal, Fsm::new(log_name()), Offset::ZERO, Author::new(7).unwrap(), options)
}

/// Records one file piece by piece; returns how many pieces were acknowledged, and what it ended with.
fn record(recorder: &Recorder) -> (u64, Result<()>) {
    let mut acknowledged = 0;
    let mut step = || -> Result<()> {
        let file = recorder.create(&LogPath::from_bytes(b"/file"))?;
        for piece in 0..8 {
            recorder.write(file, piece * 700, &[b'a' + piece as u8; 700])?;
            recorder.barrier()?.wait(soon())?;
            acknowledged = piece + 1;
        }
        Ok(())
    };
    let ended = step();
    (acknowledged, ended)
}

#[test]
fn a_recording_whose_journal_fails_anywhere_says_so_ever_after_and_loses_nothing_acknowledged() {
    let fs = Arc::new(FaultyFs::new(MemoryFs::new()));
    record(&recorder(Arc::clone(&fs) as _).unwrap()).1.unwrap();
    let changes = fs.changes();
    let mut stuck = 0;
    for (number, fault) in (0..changes).flat_map(|number| FAULTS.map(|fault| (number, fault))) {
        let context = format!("{fault:?} at change {number} of {changes}");
        let fs = Arc::new(FaultyFs::new(MemoryFs::new()));
        fs.inject(FaultPlan::At { number, fault });
        let acknowledged = match recorder(Arc::clone(&fs) as _) {
            Ok(recorder) => {
                let (acknowledged, ended) = record(&recorder);
                fs.heal();
                match ended {
                    Ok(()) => assert!(recorder.failure().is_none(), "{context}"),
                    Err(error) => {
                        stuck += 1;
                        assert!(matches!(error.kind(), Io | ErrorKind::Wedged), "{context}: {error:?}");
                        for again in [recorder.no_op(), recorder.barrier().map(drop)] {
                            assert_eq!(again.unwrap_err().to_string(), error.to_string(), "{context}");
                        }
                    }
                }
                acknowledged
            }
            Err(error) => {
                assert!(matches!(error.kind(), Io | ErrorKind::Wedged), "{context}: {error:?}");
                0
            }
        };
        let image = fs.inner().crash_image(CrashPlan::DropUnsynced);
        let journals =
            FileJournals::open_on(Arc::new(image), "/journals", FileJournalOptions::default()).unwrap();
        let (hints, disk) = (FsmHints::empty(log_name()), MemoryFs::new());
        let options = PlayOptions { parallelism: 1, ..PlayOptions::default() };
        let player =
            Player::new(&journals, &hints, Arc::new(disk.clone()), Path::new("/played"), options).unwrap();
        player.restore().unwrap_or_else(|error| panic!("{context}: {error:?}"));
        let played = tree(&disk, Path::new("/played"));
        let content = played.get(&b"file"[..]).cloned().flatten().unwrap_or_default();
        assert!(content.len() as u64 >= acknowledged * 700, "{context}: {} bytes", content.len());
        let expected = |at: usize| b'a' + (at / 700) as u8;
        assert!(content.iter().enumerate().all(|(at, byte)| *byte == expected(at)), "{context}");
    }
    println!("{} points, {stuck} failed", changes * FAULTS.len() as u64);
    assert!(stuck > 20, "{stuck}");
}

fn set(seq_no: i64) -> FsmHints {
    let as_of = AsOf {
        offset: Offset::new(seq_no as u64 * 10).unwrap(),
        seq_no: SeqNo::new(seq_no),
        checksum: Checksum::new(seq_no as u32),
        author: Author::new(1),
        unix_nanos: 0,
    };
    FsmHints { as_of: Some(as_of), ..FsmHints::empty(log_name()) }
}

#[test]
fn a_hint_set_whose_storing_fails_anywhere_is_there_whole_or_not_and_hides_no_other() {
    let open = |fs: Arc<dyn FileSystem>| DirectoryHints::open(fs, Path::new("/hints"));
    let store = |fs: &Arc<Faulty>| open(Arc::clone(fs) as _)?.store(&set(6), soon());
    let seeded = || {
        let fs = MemoryFs::new();
        for seq_no in 1..=5 {
            open(Arc::new(fs.clone())).unwrap().store(&set(seq_no), soon()).unwrap();
        }
        Arc::new(FaultyFs::new(fs))
    };
    let fs = seeded();
    store(&fs).unwrap();
    let changes = fs.changes();
    assert!(changes >= 5, "{changes}");
    let faults = FAULTS.into_iter().chain([Fault::Crash, Fault::CrashTorn]);
    for (number, fault) in (0..changes).flat_map(|number| faults.clone().map(move |fault| (number, fault))) {
        let fs = seeded();
        fs.inject(FaultPlan::At { number, fault });
        let stored = store(&fs);
        fs.heal();
        let context = format!("{fault:?} at change {number} of {changes}: {stored:?}");
        assert!(stored.as_ref().is_err_and(|error| error.kind() == Io) || stored.is_ok(), "{context}");
        let images = IMAGES.map(|plan| fs.inner().crash_image(plan));
        for left in images.into_iter().chain([fs.inner().clone()]) {
            let candidates = open(Arc::new(left)).unwrap().candidates(&log_name(), soon()).unwrap();
            let found: Vec<_> = candidates
                .iter()
                .map(|found| found.hints.as_ref().unwrap().last_seq_no().map(SeqNo::get))
                .collect();
            assert!(found.contains(&Some(5)), "{context}: {found:?}");
            assert!(stored.is_err() || found[0] == Some(6), "{context}: {found:?}");
        }
    }
    println!("{} points, {} images each", changes * 6, IMAGES.len() + 1);
}
