//! Goal: a damaged log never plays to a wrong tree in silence.
//!
//! Method: a small log is recorded; then it is cut at every byte, and every byte of it is changed in several ways,
//! in a journal that checks nothing itself. Each time it is played from its first byte and by hints. What comes of
//! it is the true tree or a typed error. Only the frame of the last operation has nothing that vouches for it: no
//! operation carries a checksum of it, and only the journal, or hints that reach it, can tell.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use recoverylog::journal::{Append, Journal, Journals, MemoryJournals, ReadRange, ReadStep};
use recoverylog::player::{PlayOptions, Played, Player};
use recoverylog::scan::{Found, LogScan, ScanOptions};
use recoverylog::vfs::{FileSystem, MemoryFs, OpenMode};
use recoverylog::{
    Author, Deadline, ErrorKind, Fsm, FsmHints, JournalName, LogPath, Offset, Recorder, RecorderOptions,
};

type Tree = BTreeMap<String, Vec<u8>>;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

fn log() -> JournalName {
    JournalName::new("acme/orders").unwrap()
}

/// Records a small log; returns its bytes, hints from its middle and its end, and where its operations begin.
fn record() -> (Vec<u8>, Vec<FsmHints>, Vec<u64>) {
    let journal = MemoryJournals::new().open(&log()).unwrap();
    let author = Author::new(1234).unwrap();
    let options = RecorderOptions::default();
    let recorder =
        Recorder::new(Arc::clone(&journal), Fsm::new(log()), Offset::ZERO, author, options).unwrap();
    let path = |text: &str| LogPath::from_bytes(text.as_bytes());
    let one = recorder.create(&path("/one")).unwrap();
    recorder.write(one, 0, b"a first line\n").unwrap();
    let two = recorder.create(&path("/d/two")).unwrap();
    recorder.write(two, 5, &[7; 40]).unwrap();
    recorder.link(one, &path("/d/link")).unwrap();
    let hint = || {
        let mut pending = recorder.take_hints().unwrap();
        recorder.barrier().unwrap().wait(soon()).unwrap();
        pending.wait(soon()).unwrap()
    };
    let mut hints = vec![hint()];
    recorder.unlink(&path("/one")).unwrap();
    recorder.rename(&path("/d/two"), &path("/three")).unwrap();
    recorder.write(one, 3, b"XYZ").unwrap();
    hints.push(hint());
    recorder.write(two, 0, b"the end").unwrap();
    let end = recorder.barrier().unwrap().wait(soon()).unwrap().offset;
    let begins =
        LogScan::open(Arc::clone(&journal), ScanOptions::default()).unwrap().map(|found| match found {
            Ok(Found::Op(found)) => found.begin.get(),
            other => panic!("{other:?}"),
        });
    let begins = begins.collect();
    (read(&*journal, end), hints, begins)
}

fn read(journal: &dyn Journal, end: Offset) -> Vec<u8> {
    let mut reader = journal.read(ReadRange::bounded(Offset::ZERO, end)).unwrap();
    let mut bytes = Vec::new();
    loop {
        match reader.next(soon()).unwrap() {
            ReadStep::Chunk(chunk) => {
                let at = bytes.len();
                bytes.resize(at + chunk.len() as usize, 0);
                chunk.read_exact_at(&mut bytes[at..], 0).unwrap();
            }
            ReadStep::End => return bytes,
            other => panic!("{other:?}"),
        }
    }
}

fn play(bytes: &[u8], hints: &FsmHints) -> recoverylog::Result<(Tree, Played)> {
    let journals = MemoryJournals::new();
    if !bytes.is_empty() {
        journals.open(&log()).unwrap().append(Append::new(bytes.to_vec()), soon()).unwrap();
    }
    let fs = MemoryFs::new();
    let options = PlayOptions { parallelism: 1, sync: false, ..PlayOptions::default() };
    let player = Player::new(&journals, hints, Arc::new(fs.clone()), Path::new("/data"), options)?;
    let played = player.restore();
    let left = fs.read_dir(Path::new("/")).unwrap();
    let played = match played {
        Ok(played) => played,
        Err(error) => {
            assert!(left.is_empty(), "a failed play left {left:?}");
            return Err(error);
        }
    };
    let mut tree = Tree::new();
    for name in ["one", "d/two", "d/link", "three"] {
        let Ok(file) = fs.open(&Path::new("/data").join(name), OpenMode::Read) else { continue };
        let mut content = vec![0; file.metadata().unwrap().len as usize];
        file.read_exact_at(&mut content, 0).unwrap();
        tree.insert(name.to_owned(), content);
    }
    Ok((tree, played))
}

fn is_typed(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Corrupt | ErrorKind::DataLoss | ErrorKind::Diverged)
}

#[test]
fn a_changed_byte_gives_the_true_tree_or_a_typed_error() {
    let (bytes, hints, begins) = record();
    let last_begins = *begins.last().unwrap() as usize;
    let (truth, _) = play(&bytes, &FsmHints::empty(log())).unwrap();
    let payload_begins = bytes.len() - b"the end".len();
    let (mut true_trees, mut errors, mut other) = (0, 0, 0);
    for at in 0..bytes.len() {
        for flip in [0x01, 0x02, 0x10, 0x40, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            for hints in hints.iter().chain([&FsmHints::empty(log())]) {
                match play(&damaged, hints) {
                    Ok((tree, _)) if tree == truth => true_trees += 1,
                    Ok((tree, _)) => {
                        let in_last_frame = (last_begins..payload_begins).contains(&at);
                        assert!(in_last_frame, "byte {at} ^ {flip:#x}: {tree:?} by {hints:?}");
                        other += 1;
                    }
                    Err(error) => {
                        assert!(is_typed(error.kind()), "byte {at} ^ {flip:#x}: {error:?}");
                        errors += 1;
                    }
                }
            }
        }
    }
    println!("changed: {errors} refused, {true_trees} unharmed, {other} another last operation");
    // Bytes that hints leave out, and the damage that must be found.
    assert!(true_trees > 0 && errors > bytes.len() * 6, "{true_trees} {errors} {other}");
}

#[test]
fn a_cut_log_gives_an_earlier_whole_state_or_a_typed_error() {
    let (bytes, hints, begins) = record();
    let whole: Vec<_> = begins
        .iter()
        .map(|begin| play(&bytes[..*begin as usize], &FsmHints::empty(log())).unwrap().0)
        .collect();
    for end in 0..bytes.len() {
        let operations = begins.iter().filter(|begin| **begin as usize <= end).count();
        let (tree, played) = play(&bytes[..end], &FsmHints::empty(log())).unwrap();
        assert_eq!(tree, whole[operations - 1], "cut at {end}");
        let is_between = begins.contains(&(end as u64));
        assert_eq!(played.warnings.is_empty(), is_between, "cut at {end}: {:?}", played.warnings);
        for hints in &hints {
            match play(&bytes[..end], hints) {
                Ok((tree, _)) => assert_eq!(tree, whole[operations - 1], "cut at {end}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::DataLoss, "cut at {end}: {error:?}"),
            }
        }
    }
    println!("cut: {}", bytes.len() * (hints.len() + 1));
}
