//! Every case, played to its tree or to the kind of its error.

use recoverylog::FsmOptions;
use recoverylog::player::PlayOptions;

use super::cases::{Tree, all};
use super::check::{check, play};

fn unsynced() -> PlayOptions {
    PlayOptions { sync: false, ..PlayOptions::default() }
}

#[test]
fn every_case_plays_to_its_tree_or_its_kind_of_error() {
    for case in all() {
        for parallelism in [1, 4] {
            for hints in [&case.hints_json, &case.hints_proto] {
                check(
                    &case,
                    &case.journals(),
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
        let Some(played) = check(
            &case,
            &case.journals(),
            &case.hints_json,
            PlayOptions { fsm, sync: false, ..PlayOptions::default() },
        ) else {
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
        let Some(played) = check(&case, &case.journals(), &case.hints_json, unsynced()) else { continue };
        for hints in [played.fsm.hints(&played.log), played.fsm.hints_to_head(&played.log, 7)] {
            let parent = tempfile::tempdir().unwrap();
            let target = parent.path().join("target");
            for hints in [hints.encode_json(), hints.encode_proto()] {
                let again = play(&case.journals(), &hints, &target, unsynced());
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
