//! A journal in local files whose files were damaged, cut, lost, or are not its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use recoverylog::journal::{FileJournalOptions, FileJournals, Journals};
use recoverylog::player::{PlayOptions, Player};
use recoverylog::vfs::OsFs;
use recoverylog::{Author, Deadline, Fsm, FsmHints, LogPath, Offset, Recorder, RecorderOptions, Result};

use super::place::{Place, check_error, files, log_name, scratch, tree};

const PIECES: u64 = 6;

/// Records one file in pieces of 900 bytes, into fragments of 4 KiB: some are sealed, one is open.
fn place() -> Place {
    let place = Place { folder: scratch() };
    let mut options = FileJournalOptions::default();
    (options.inline, options.fragment_bytes) = (true, 4096);
    let journals = FileJournals::open_on(Arc::new(OsFs::new()), place.root(), options).unwrap();
    let (journal, author) = (journals.open(&log_name()).unwrap(), Author::new(7).unwrap());
    let fsm = Fsm::new(log_name());
    let recorder = Recorder::new(journal, fsm, Offset::ZERO, author, RecorderOptions::default()).unwrap();
    let file = recorder.create(&LogPath::from_bytes(b"/file")).unwrap();
    for piece in 0..PIECES {
        recorder.write(file, piece * 900, &[b'a' + piece as u8; 900]).unwrap();
        recorder.barrier().unwrap().wait(Deadline::after(Duration::from_secs(20))).unwrap();
    }
    place
}

/// Returns the files of the journal, with the content of each.
fn parts(place: &Place) -> Vec<(PathBuf, Vec<u8>)> {
    let found = tree(&place.root()).into_iter();
    let text = |name: Vec<u8>| String::from_utf8(name).unwrap();
    found.filter_map(|(name, content)| Some((place.root().join(text(name)), content?))).collect()
}

fn play(place: &Place, target: &Path) -> Result<()> {
    let journals = FileJournals::read_only(place.root())?;
    let options = PlayOptions { parallelism: 1, sync: false, ..PlayOptions::default() };
    let player =
        Player::new(&journals, &FsmHints::empty(log_name()), Arc::new(OsFs::new()), target, options)?;
    player.restore().map(drop)
}

/// Restores by the library and by the tool: the true tree, or a typed error of data that leaves nothing.
fn check(place: &Place, truth: &[(String, String)], context: &str) -> bool {
    let target = place.beside("target");
    let played = play(place, &target);
    match &played {
        Ok(()) => {
            assert_eq!(files(&tree(&target)), truth, "{context}");
            std::fs::remove_dir_all(&target).unwrap();
        }
        Err(error) => {
            check_error(error);
            assert_eq!(error.kind().exit_code(), 3, "{context}: {error:?}");
            assert!(error.log().is_some(), "{context}: {error:?}");
        }
    }
    #[cfg(feature = "cli")]
    {
        let log = super::place::LOG;
        let args = ["restore", "--json", "--log", log, "--dir", target.to_str().unwrap()];
        let ran = place.run(args);
        match &played {
            Ok(()) => {
                assert_eq!((ran.code, &files(&tree(&target))[..]), (Some(0), truth), "{context}: {ran:?}");
                std::fs::remove_dir_all(&target).unwrap();
            }
            Err(error) => ran.check_failed(error.kind()),
        }
        let verified = place.run(["verify", "--json"]);
        assert!(matches!(verified.code, Some(0 | 3)), "{context}: {verified:?}");
        assert!(played.is_ok() || verified.code == Some(3), "{context}: {verified:?}");
    }
    assert_eq!(std::fs::read_dir(place.folder.path()).unwrap().count(), 1, "{context}");
    played.is_ok()
}

#[test]
fn a_flipped_bit_in_any_file_of_a_journal_gives_the_true_tree_or_a_typed_error() {
    let place = place();
    let target = place.beside("target");
    play(&place, &target).unwrap();
    let truth = files(&tree(&target));
    std::fs::remove_dir_all(&target).unwrap();
    let (mut same, mut errors) = (0, 0);
    for (path, content) in parts(&place) {
        // Heads, headers and records, and some of the content between; what is zero is not in use.
        let used: Vec<_> = (0..content.len()).filter(|at| content[*at] != 0).collect();
        for at in used.iter().copied().step_by((used.len() / 25).max(1)) {
            let mut flipped = content.clone();
            flipped[at] ^= 1 << (at % 8);
            // In place: the head is mapped by whoever reads it.
            std::fs::write(&path, flipped).unwrap();
            let found = check(&place, &truth, &format!("{} at {at}", path.display()));
            if found { same += 1 } else { errors += 1 }
        }
        std::fs::write(&path, &content).unwrap();
    }
    assert!(same > 0 && errors > 20, "{same} {errors}");
}

#[test]
fn a_file_of_a_journal_that_is_cut_or_gone_is_no_silent_loss() {
    let place = place();
    let target = place.beside("target");
    play(&place, &target).unwrap();
    let truth = files(&tree(&target));
    std::fs::remove_dir_all(&target).unwrap();
    for (path, content) in parts(&place) {
        let name = path.file_name().unwrap().to_str().unwrap();
        // The records vouch for all that is there: without a head it is found by them.
        let (is_lock, is_head) = (name == "lock", name == "head");
        for len in [0, 1, content.len() / 2, content.len().saturating_sub(1)] {
            if is_lock || content.is_empty() {
                continue;
            }
            std::fs::write(&path, &content[..len]).unwrap();
            let found = check(&place, &truth, &format!("{} cut to {len}", path.display()));
            assert!(!found || is_head, "{} cut to {len} of {}", path.display(), content.len());
        }
        if !is_lock {
            std::fs::remove_file(&path).unwrap();
            let found = check(&place, &truth, &format!("{} gone", path.display()));
            assert!(!found || is_head, "{} gone", path.display());
        }
        std::fs::write(&path, &content).unwrap();
    }
    check(&place, &truth, "mended");
}
