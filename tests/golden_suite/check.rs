//! What a case is to come to, over whatever journals.
//!
//! *Invariants.* A case that the reference plays is played to its tree; one that it refuses, to an error of that kind; one that
//! it hangs in, to the tree that it should have.
//!
//! *Does not* know where the journals are.

use std::path::Path;
use std::sync::Arc;

use recoverylog::journal::Journals;
use recoverylog::player::{PlayOptions, Played, Player, Warning};
use recoverylog::vfs::OsFs;
use recoverylog::{ErrorKind, FsmHints};

use super::cases::{Case, Tree};

/// Plays hints over journals.
pub(crate) fn play(
    journals: &dyn Journals,
    hints: &[u8],
    target: &Path,
    options: PlayOptions,
) -> recoverylog::Result<Played> {
    let hints = FsmHints::decode(hints)?;
    Player::new(journals, &hints, Arc::new(OsFs::new()), target, options)?.restore()
}

fn kind_of(error_kind: &str) -> ErrorKind {
    match error_kind {
        "hint_beyond_write_head" | "unused_hints" | "offset_jump_over_hint" => ErrorKind::DataLoss,
        "decode_error" => ErrorKind::Corrupt,
        "invalid_hints" => ErrorKind::InvalidHints,
        other => panic!("unknown kind of error {other}"),
    }
}

/// Plays a case over journals that hold its logs; returns what came of it, where it is not an error.
pub(crate) fn check(
    case: &Case,
    journals: &dyn Journals,
    hints: &[u8],
    options: PlayOptions,
) -> Option<Played> {
    let parent = tempfile::tempdir().unwrap();
    let target = parent.path().join("target");
    let played = play(journals, hints, &target, options);
    let name = &case.name;
    match case.error_kind.as_str() {
        "" => {
            let played = played.unwrap_or_else(|e| panic!("{name}: {e:?}"));
            assert_eq!(played.fsm.next_seq_no().get(), case.next_seq_no, "{name}");
            assert_eq!(played.fsm.next_checksum().get(), case.next_checksum, "{name}");
            assert_eq!(played.fsm.last_log().as_str(), case.last_log, "{name}");
            assert_eq!(
                Tree::read(&target),
                case.tree().expect("a case without an error has a tree"),
                "{name}"
            );
            assert_eq!(played.warnings, [], "{name}");
            Some(played)
        }
        // The reference waits forever for the rest of a log that ends in junk.
        "hang" => {
            let played = played.unwrap_or_else(|e| panic!("{name}: {e:?}"));
            let tail =
                matches!(played.warnings[..], [Warning::JunkAtTail { .. } | Warning::TornAtTail { .. }]);
            assert!(tail, "{name}: {:?}", played.warnings);
            let number = name.strip_prefix('f').unwrap().split('-').next().unwrap();
            let twin = case.folder.parent().unwrap().join(format!("f{number}-garbage-early-hints/tree.json"));
            assert_eq!(Tree::read(&target), Tree::load(&twin), "{name}");
            Some(played)
        }
        error_kind => {
            let error = played.expect_err("a case of an error fails");
            assert_eq!(error.kind(), kind_of(error_kind), "{name}: {error}");
            assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0, "{name} left something behind");
            None
        }
    }
}
