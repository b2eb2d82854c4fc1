//! Every case, played to its tree or to the kind of its error.

use std::path::Path;
use std::sync::Arc;

use recoverylog::player::{PlayOptions, Played, Player, Warning};
use recoverylog::vfs::OsFs;
use recoverylog::{ErrorKind, FsmHints, FsmOptions};

use super::cases::{Case, Tree, all};

fn play(case: &Case, hints: &[u8], target: &Path, options: PlayOptions) -> recoverylog::Result<Played> {
    let hints = FsmHints::decode(hints)?;
    Player::new(&case.journals(), &hints, Arc::new(OsFs::new()), target, options)?.restore()
}

fn unsynced() -> PlayOptions {
    PlayOptions { sync: false, ..PlayOptions::default() }
}

fn kind_of(error_kind: &str) -> ErrorKind {
    match error_kind {
        "hint_beyond_write_head" | "unused_hints" | "offset_jump_over_hint" => ErrorKind::DataLoss,
        "decode_error" => ErrorKind::Corrupt,
        "invalid_hints" => ErrorKind::InvalidHints,
        other => panic!("unknown kind of error {other}"),
    }
}

fn check(case: &Case, hints: &[u8], options: PlayOptions) -> Option<Played> {
    let parent = tempfile::tempdir().unwrap();
    let target = parent.path().join("target");
    let played = play(case, hints, &target, options);
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

#[test]
fn every_case_plays_to_its_tree_or_its_kind_of_error() {
    for case in all() {
        for parallelism in [1, 4] {
            for hints in [&case.hints_json, &case.hints_proto] {
                check(
                    &case,
                    hints,
                    PlayOptions { parallelism, sync: parallelism > 1, ..PlayOptions::default() },
                );
            }
        }
    }
}

#[test]
fn the_reference_s_own_form_of_the_state_machine_gives_its_trees_and_its_hints() {
    for case in all() {
        let fsm = FsmOptions::REFERENCE;
        let Some(played) =
            check(&case, &case.hints_json, PlayOptions { fsm, sync: false, ..PlayOptions::default() })
        else {
            continue;
        };
        let Some(expected) = case.hints_after() else { continue };
        let mut hints = played.fsm.hints(played.fsm.last_log());
        for segment in hints.files.iter_mut().flat_map(|file| &mut file.segments) {
            segment.end_checksum = None;
        }
        assert_eq!(hints, expected, "{}", case.name);
    }
}

#[test]
fn hints_taken_after_a_play_lead_to_the_same_tree() {
    for case in all() {
        let Some(played) = check(&case, &case.hints_json, unsynced()) else { continue };
        for hints in [played.fsm.hints(&played.log), played.fsm.hints_to_head(&played.log, 7)] {
            let parent = tempfile::tempdir().unwrap();
            let target = parent.path().join("target");
            for hints in [hints.encode_json(), hints.encode_proto()] {
                let again = play(&case, &hints, &target, unsynced());
                let again = again.unwrap_or_else(|e| panic!("{}: {e:?}", case.name));
                assert_eq!(Tree::read(&target), Tree::read(&again.directory));
                assert_eq!(again.fsm.next_seq_no(), played.fsm.next_seq_no(), "{}", case.name);
                if let Some(tree) = case.tree() {
                    assert_eq!(Tree::read(&target), tree, "{}", case.name);
                }
                std::fs::remove_dir_all(&target).unwrap();
            }
        }
    }
}
