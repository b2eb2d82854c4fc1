//! Hint stores that break a promise.

use std::sync::{Arc, Mutex};

use recoverylog::hint_store::conformance::{Place, run};
use recoverylog::hint_store::{Candidate, HintStore, refuse_larger, refuse_older, sort_candidates};
use recoverylog::{Deadline, Error, ErrorKind, FsmHints, JournalName, Result};

use super::assert_names;

#[derive(Clone, Copy, Debug)]
enum Flaw {
    None,
    TakesOlder,
    RefusesForAnyLog,
    RefusesTheSamePoint,
    BestIsWhatCameLast,
    IgnoresTheLogAsked,
    KeepsOne,
    StoresText,
    ForgetsThePointOfHistory,
    TellsNoKind,
    LosesARace,
    FailsAfterTheDeadline,
    TakesTooMuch,
    TellsNoSize,
    KeepsWhatItRefuses,
}

/// The limit of those stores that have one.
const BYTES_MAX: usize = 50_000;

/// Hints in memory. Clones are the same store.
#[derive(Clone, Debug)]
struct Broken(Arc<Mutex<Vec<FsmHints>>>, Flaw);

impl Broken {
    fn refuse(&self, hints: &FsmHints, sets: &[FsmHints]) -> Result<()> {
        let invalid = |what: &'static str| Error::new(ErrorKind::Invalid, what);
        match self.1 {
            Flaw::TakesOlder => Ok(()),
            Flaw::RefusesForAnyLog if sets.iter().any(|set| set.last_seq_no() > hints.last_seq_no()) => {
                Err(invalid("older than some set"))
            }
            Flaw::RefusesTheSamePoint if sets.contains(hints) => Err(invalid("stored already")),
            Flaw::TellsNoKind => refuse_older(hints, sets).map_err(|_| invalid("older")),
            _ => refuse_older(hints, sets),
        }
    }
}

impl HintStore for Broken {
    fn candidates(&self, log: &JournalName, _deadline: Deadline) -> Result<Vec<Candidate>> {
        let sets = self.0.lock().unwrap();
        let mut candidates: Vec<_> =
            sets.iter().rev().map(|set| Candidate::new("memory", Ok(set.clone()))).collect();
        match self.1 {
            Flaw::BestIsWhatCameLast => {}
            Flaw::IgnoresTheLogAsked => {
                candidates.sort_by_key(|candidate| {
                    std::cmp::Reverse(candidate.hints.as_ref().ok().and_then(FsmHints::last_seq_no))
                });
            }
            _ => sort_candidates(&mut candidates, log),
        }
        Ok(candidates)
    }

    fn store(&self, hints: &FsmHints, deadline: Deadline) -> Result<()> {
        if matches!(self.1, Flaw::FailsAfterTheDeadline) && deadline.has_passed() {
            return Err(Error::new(ErrorKind::Corrupt, "the deadline has passed"));
        }
        let mut hints = hints.clone();
        let mut sets = self.0.lock().unwrap();
        self.refuse(&hints, &sets)?;
        match self.1 {
            Flaw::StoresText => hints = FsmHints::decode(&hints.encode_json()).unwrap(),
            Flaw::ForgetsThePointOfHistory => hints.as_of = None,
            Flaw::KeepsOne => sets.clear(),
            Flaw::LosesARace => {
                // Reads, lets go of the lock, and writes back what it read.
                let mut read = sets.clone();
                drop(sets);
                let enough = Deadline::after(std::time::Duration::from_millis(2));
                while !enough.has_passed() {
                    std::thread::yield_now();
                }
                read.push(hints);
                *self.0.lock().unwrap() = read;
                return Ok(());
            }
            _ => {}
        }
        let refused = refuse_larger(&hints, BYTES_MAX);
        match self.1 {
            Flaw::TellsNoSize if refused.is_err() => Err(Error::new(ErrorKind::Invalid, "too large")),
            Flaw::KeepsWhatItRefuses => {
                sets.push(hints);
                refused
            }
            _ => {
                sets.push(hints);
                Ok(())
            }
        }
    }

    fn bytes_max(&self) -> Option<usize> {
        matches!(self.1, Flaw::TakesTooMuch | Flaw::TellsNoSize | Flaw::KeepsWhatItRefuses)
            .then_some(BYTES_MAX)
    }
}

fn place(flaw: Flaw) -> Place {
    let store = Broken(Arc::default(), flaw);
    let again = store.clone();
    Place::empty(Arc::new(store)).reopened_by(move || Arc::new(again.clone()))
}

/// The cases about sets that are larger than the limit.
const LARGE: &[&str] = &[
    "properties_of_any_bytes_come_back",
    "many_files_come_back",
    "a_set_as_large_as_may_be_comes_back_and_a_larger_one_is_refused",
];

#[test]
fn a_broken_hint_store_fails_by_the_promise_that_it_breaks() {
    for (flaw, expected) in [
        (Flaw::TakesOlder, &["a_set_that_is_older_than_a_stored_one_is_refused"][..]),
        (Flaw::RefusesForAnyLog, &["a_newer_set_of_another_log_refuses_nothing"]),
        (Flaw::RefusesTheSamePoint, &["the_same_point_again_is_taken"]),
        (Flaw::BestIsWhatCameLast, &["sets_of_other_logs_come_after"]),
        (Flaw::IgnoresTheLogAsked, &["sets_of_other_logs_come_after"]),
        (Flaw::KeepsOne, &["the_newest_sets_stay_however_many_are_stored"]),
        (Flaw::StoresText, &["properties_of_any_bytes_come_back"]),
        (
            Flaw::ForgetsThePointOfHistory,
            &["extreme_numbers_come_back", "an_end_of_the_log_further_back_is_older"],
        ),
        (Flaw::TellsNoKind, &["a_set_that_is_older_than_a_stored_one_is_refused"]),
        (Flaw::LosesARace, &["of_two_storers_at_once_nothing_acknowledged_is_lost"]),
        (Flaw::FailsAfterTheDeadline, &["a_passed_deadline_is_answered_at_once"]),
        (Flaw::TakesTooMuch, LARGE),
        (Flaw::TellsNoSize, LARGE),
        (Flaw::KeepsWhatItRefuses, LARGE),
    ] {
        assert_names(&flaw, run(&|| place(flaw)), expected);
    }
}

#[test]
fn a_hint_store_that_is_empty_when_it_is_opened_again_fails_by_name() {
    let make = || place(Flaw::None).reopened_by(|| Arc::new(Broken(Arc::default(), Flaw::None)));
    assert_names(&"Forgets", run(&make), &["a_place_opened_again_has_its_sets"]);
    run(&|| place(Flaw::None)).expect("the wrapper itself breaks nothing");
}
