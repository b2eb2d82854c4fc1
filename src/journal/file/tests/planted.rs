//! Goal: the sweeps of this folder find what they are there to find.
//! Method: bugs are planted, one after the other, and the sweep that is named for each must fail. They can be planted
//! only where the compiler was given `--cfg recoverylog_planted`, and are there for the whole process: this test runs
//! alone.

use std::panic::catch_unwind;

use super::crash::{
    a_crash_of_the_machine_at_any_change_loses_nothing_acknowledged as crash_of_machine,
    a_failure_of_any_change_loses_nothing_and_a_wedge_is_seen_by_every_handle as failure,
    the_death_of_the_process_at_any_change_loses_nothing_acknowledged as death_of_process,
};
use super::stopped::a_process_that_is_stopped_anywhere_goes_on_after_others_did as stopped_process;
use crate::planted::{Bug, plant};

const BUGS: [(Bug, &str, fn()); 6] = [
    (Bug::AckBeforeFlush, "a crash of the machine", crash_of_machine),
    (Bug::RetriedFlush, "a failure of a change", failure),
    (Bug::NoWedge, "a failure of a change", failure),
    (Bug::HeadOverwritten, "a process that is stopped", stopped_process),
    (Bug::NameNotFlushed, "the death of the process", death_of_process),
    (Bug::ContentBelieved, "a crash of the machine", crash_of_machine),
];

#[test]
fn every_planted_bug_is_found_by_its_sweep() {
    let mut missed = Vec::new();
    for (bug, name, sweep) in BUGS {
        plant(Some(bug));
        match catch_unwind(sweep) {
            Err(panic) => {
                let what = panic.downcast_ref::<String>().map_or("", String::as_str);
                println!("{bug:?}: found by {name}: {what}");
            }
            Ok(()) => missed.push(bug),
        }
    }
    plant(None);
    assert!(missed.is_empty(), "not found: {missed:?}");
}
