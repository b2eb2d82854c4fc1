//! Cases about time, and about several users of one store.
//!
//! *Invariants.* Nothing in here waits for time to pass, but for a call that breaks its deadline.
//!
//! *Does not* demand that of two calls under way at once the newer one is stored first.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use super::{Cases, NEW, OLD, Place, assert_points, log, points, refused, set, soon, store, stored};
use crate::clock::Deadline;
use crate::conformance::{OrFail, Outcome, fail};
use crate::error::{Error, ErrorKind};
use crate::hint_store::HintStore;
use crate::ids::JournalName;

pub(super) const CASES: Cases = &[
    ("a_passed_deadline_is_answered_at_once", a_passed_deadline_is_answered_at_once),
    ("of_two_storers_at_once_nothing_acknowledged_is_lost", nothing_acknowledged_is_lost),
    ("a_place_opened_again_has_its_sets", a_place_opened_again_has_its_sets),
    ("several_handles_of_a_place_opened_again_see_each_other", several_handles_see_each_other),
];

fn a_passed_deadline_is_answered_at_once(place: &Place) -> Outcome {
    let log = log();
    let end = soon();
    let answered = |result: Result<(), Error>| match result {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::Unavailable => false,
        Err(error) => fail(format_args!("expected success or Unavailable, found {error}")),
    };
    let first = set(&log, 1, OLD);
    let was_stored = answered(place.store.store(&first, Deadline::passed()));
    answered(place.store.candidates(&log, Deadline::passed()).map(drop));
    assert!(!end.has_passed(), "the calls waited, with a deadline that had passed");
    // What is not acknowledged is stored whole, or not at all, and can be stored again.
    let found = stored(&*place.store, &log);
    assert!(found.iter().all(|found| *found == first) && (!was_stored || !found.is_empty()), "{found:?}");
    store(&*place.store, &first);
    store(&*place.store, &set(&log, 2, OLD));
    assert_eq!(points(&*place.store, &log).first(), Some(&(log.as_str().to_owned(), 2)));
    Outcome::Held
}

/// The sets that one of two storers stores.
const ROUNDS: i64 = 60;

/// Stores every second set, and notes the newest that was acknowledged. Returns how many were.
fn store_in_turns(
    store: &dyn HintStore,
    log: &JournalName,
    author: u32,
    acknowledged: &AtomicI64,
) -> Result<u32, String> {
    let mut taken = 0;
    for round in 0..ROUNDS {
        let seq_no = 1 + 2 * round + i64::from(author == NEW);
        match store.store(&set(log, seq_no, author), soon()) {
            Ok(()) => {
                acknowledged.fetch_max(seq_no, Ordering::SeqCst);
                taken += 1;
            }
            Err(error) if error.kind() == ErrorKind::Fenced => {}
            Err(error) => return Err(format!("storing {seq_no} beside another storer: {error}")),
        }
    }
    Ok(taken)
}

/// Looks again and again, until both storers are done, whether the best candidate goes back.
fn look(
    store: &dyn HintStore,
    log: &JournalName,
    acknowledged: &AtomicI64,
    storing: &AtomicU32,
) -> Result<(), String> {
    loop {
        let is_last = storing.load(Ordering::SeqCst) == 0;
        let least = acknowledged.load(Ordering::SeqCst);
        let mut candidates = store.candidates(log, soon()).map_err(|error| error.to_string())?;
        if let Some(unread) = candidates.iter().find(|candidate| candidate.hints.is_err()) {
            return Err(format!("a set that nobody damaged cannot be read: {unread:?}"));
        }
        candidates.truncate(1);
        let best = candidates.pop().and_then(|candidate| candidate.hints.ok()?.last_seq_no());
        let best = best.map_or(0, crate::ids::SeqNo::get);
        if best < least {
            return Err(format!("the best candidate is {best}, and {least} was acknowledged before"));
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Two storers and a reader, each with a handle of its own.
fn side_by_side(handles: &[Arc<dyn HintStore>; 3]) {
    let log = log();
    let (acknowledged, storing) = (AtomicI64::new(0), AtomicU32::new(2));
    let [old, new, reading] = handles;
    let results = std::thread::scope(|scope| {
        let storer = |name: &str, store: &Arc<dyn HintStore>, author| {
            let (store, log, acknowledged, storing) = (Arc::clone(store), &log, &acknowledged, &storing);
            let thread = std::thread::Builder::new().name(name.to_owned());
            let stores = move || {
                let done = store_in_turns(&*store, log, author, acknowledged);
                storing.fetch_sub(1, Ordering::SeqCst);
                done
            };
            thread.spawn_scoped(scope, stores).or_fail("a thread")
        };
        let (old, new) = (storer("old-storer", old, OLD), storer("new-storer", new, NEW));
        let looked = look(&**reading, &log, &acknowledged, &storing);
        (old.join(), new.join(), looked)
    });
    let (Ok(old), Ok(new), looked) = results else { fail("a storer panicked") };
    looked.or_fail("a reader beside two storers");
    let taken = old.or_fail("the one storer") + new.or_fail("the other storer");
    assert!(i64::from(taken) >= ROUNDS, "only {taken} of {} sets were taken", 2 * ROUNDS);
    let newest = acknowledged.into_inner();
    assert_eq!(newest, 2 * ROUNDS, "the newest set of all is refused by nobody");
    assert_eq!(points(&**reading, &log).first(), Some(&(log.as_str().to_owned(), newest)));
    refused(&**reading, &set(&log, newest - 1, OLD), ErrorKind::Fenced);
}

fn nothing_acknowledged_is_lost(place: &Place) -> Outcome {
    side_by_side(&[&place.store; 3].map(Arc::clone));
    Outcome::Held
}

fn a_place_opened_again_has_its_sets(place: &Place) -> Outcome {
    let log = log();
    store(&*place.store, &set(&log, 10, OLD));
    store(&*place.store, &set(&log, 30, NEW));
    let Some(reopen) = &place.reopen else { return Outcome::Declined };
    let again = reopen();
    assert_points(&*again, &log, &[(&log, 30), (&log, 10)]);
    refused(&*again, &set(&log, 20, OLD), ErrorKind::Fenced);
    store(&*again, &set(&log, 40, NEW));
    drop(again);
    assert_points(&*reopen(), &log, &[(&log, 40), (&log, 30), (&log, 10)]);
    Outcome::Held
}

fn several_handles_see_each_other(place: &Place) -> Outcome {
    let Some(reopen) = &place.reopen else { return Outcome::Declined };
    side_by_side(&[Arc::clone(&place.store), reopen(), reopen()]);
    Outcome::Held
}
