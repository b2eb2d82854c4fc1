//! Cases about which set is the best, and which is refused.
//!
//! *Invariants.* No case stores more than three sets, nor two of one author, before it looks for all of them: those any store
//! keeps.
//!
//! *Does not* demand an order among sets of one point of history.

use super::{Cases, NEW, OLD, Place, assert_points, log, name, points, refused, set, store, stored};
use crate::conformance::{OrFail, Outcome};
use crate::error::ErrorKind;
use crate::hints::{FsmHints, HintedFile};
use crate::ids::{Author, Checksum, Fnode, JournalName, Offset, SeqNo};
use crate::segment::Segment;

pub(super) const CASES: Cases = &[
    ("a_new_store_has_no_candidates", a_new_store_has_no_candidates),
    ("the_newest_set_of_the_log_comes_first", the_newest_set_of_the_log_comes_first),
    ("sets_of_other_logs_come_after", sets_of_other_logs_come_after),
    ("a_set_that_is_older_than_a_stored_one_is_refused", an_older_set_is_refused),
    ("an_end_of_the_log_further_back_is_older", an_end_further_back_is_older),
    ("sets_without_a_point_of_history_are_placed_by_their_segments", sets_are_placed_by_their_segments),
    ("a_set_that_names_nothing_is_older_than_any", a_set_that_names_nothing_is_older_than_any),
    ("the_same_point_again_is_taken", the_same_point_again_is_taken),
    ("a_newer_set_of_another_log_refuses_nothing", a_newer_set_of_another_log_refuses_nothing),
    ("the_newest_sets_stay_however_many_are_stored", the_newest_sets_stay),
];

fn a_new_store_has_no_candidates(place: &Place) -> Outcome {
    assert_points(&*place.store, &log(), &[]);
    Outcome::Held
}

fn the_newest_set_of_the_log_comes_first(place: &Place) -> Outcome {
    let log = log();
    for (seq_no, author) in [(9, 1), (10, OLD), (100, NEW)] {
        store(&*place.store, &set(&log, seq_no, author));
    }
    assert_points(&*place.store, &log, &[(&log, 100), (&log, 10), (&log, 9)]);
    Outcome::Held
}

fn sets_of_other_logs_come_after(place: &Place) -> Outcome {
    let (log, other, none) = (log(), name("conformance/other"), name("conformance/none"));
    store(&*place.store, &set(&other, 50, OLD));
    store(&*place.store, &set(&log, 10, OLD));
    store(&*place.store, &set(&log, 30, NEW));
    assert_points(&*place.store, &log, &[(&log, 30), (&log, 10), (&other, 50)]);
    assert_points(&*place.store, &other, &[(&other, 50), (&log, 30), (&log, 10)]);
    assert_points(&*place.store, &none, &[(&other, 50), (&log, 30), (&log, 10)]);
    Outcome::Held
}

fn an_older_set_is_refused(place: &Place) -> Outcome {
    let log = log();
    store(&*place.store, &set(&log, 10, OLD));
    store(&*place.store, &set(&log, 30, NEW));
    // A writer that was paused stores late, or one's own calls overtake each other.
    refused(&*place.store, &set(&log, 20, OLD), ErrorKind::Fenced);
    refused(&*place.store, &set(&log, 20, NEW), ErrorKind::Invalid);
    refused(&*place.store, &set(&log, 10, OLD), ErrorKind::Fenced);
    assert_points(&*place.store, &log, &[(&log, 30), (&log, 10)]);
    store(&*place.store, &set(&log, 31, NEW));
    assert_points(&*place.store, &log, &[(&log, 31), (&log, 30), (&log, 10)]);
    Outcome::Held
}

fn at_offset(mut hints: FsmHints, offset: u64) -> FsmHints {
    let as_of = hints.as_of.as_mut().or_fail("a point of history");
    as_of.offset = Offset::new(offset).or_fail("an offset");
    hints
}

fn an_end_further_back_is_older(place: &Place) -> Outcome {
    let log = log();
    store(&*place.store, &at_offset(set(&log, 7, OLD), 1000));
    refused(&*place.store, &at_offset(set(&log, 7, OLD), 999), ErrorKind::Invalid);
    refused(&*place.store, &at_offset(set(&log, 7, NEW), 999), ErrorKind::Fenced);
    let further = at_offset(set(&log, 7, OLD), 1001);
    store(&*place.store, &further);
    assert_eq!(stored(&*place.store, &log).first(), Some(&further));
    // The number of the last operation goes before the offset where it ends.
    let longer = at_offset(set(&log, 8, OLD), 500);
    store(&*place.store, &longer);
    assert_eq!(stored(&*place.store, &log).first(), Some(&longer));
    Outcome::Held
}

/// Hints as the reference writes them: one file, one segment, no point of history.
fn of_segment(log: &JournalName, last_seq_no: i64) -> FsmHints {
    let segment = Segment {
        author: Author::new(OLD).or_fail("an author"),
        first_seq_no: SeqNo::FIRST,
        first_offset: Offset::ZERO,
        first_checksum: Checksum::ZERO,
        last_seq_no: SeqNo::new(last_seq_no),
        end_offset: None,
        end_checksum: None,
        log: None,
    };
    let file = HintedFile { fnode: Fnode::new(SeqNo::FIRST), segments: vec![segment] };
    FsmHints { files: vec![file], ..FsmHints::empty(log.clone()) }
}

fn sets_are_placed_by_their_segments(place: &Place) -> Outcome {
    let log = log();
    store(&*place.store, &of_segment(&log, 10));
    store(&*place.store, &set(&log, 20, OLD));
    refused(&*place.store, &of_segment(&log, 19), ErrorKind::Fenced);
    store(&*place.store, &of_segment(&log, 21));
    assert_points(&*place.store, &log, &[(&log, 21), (&log, 20), (&log, 10)]);
    Outcome::Held
}

fn a_set_that_names_nothing_is_older_than_any(place: &Place) -> Outcome {
    let log = log();
    store(&*place.store, &FsmHints::empty(log.clone()));
    store(&*place.store, &set(&log, 1, OLD));
    refused(&*place.store, &FsmHints::empty(log.clone()), ErrorKind::Fenced);
    assert_eq!(stored(&*place.store, &log), [set(&log, 1, OLD), FsmHints::empty(log)]);
    Outcome::Held
}

fn the_same_point_again_is_taken(place: &Place) -> Outcome {
    let log = log();
    for _ in 0..3 {
        store(&*place.store, &set(&log, 30, NEW));
        assert_eq!(points(&*place.store, &log).first(), Some(&(log.as_str().to_owned(), 30)));
    }
    refused(&*place.store, &set(&log, 29, NEW), ErrorKind::Invalid);
    Outcome::Held
}

fn a_newer_set_of_another_log_refuses_nothing(place: &Place) -> Outcome {
    let (log, other) = (log(), name("conformance/other"));
    store(&*place.store, &set(&other, 1000, NEW));
    store(&*place.store, &set(&log, 1, OLD));
    refused(&*place.store, &set(&other, 999, OLD), ErrorKind::Fenced);
    assert_points(&*place.store, &log, &[(&log, 1), (&other, 1000)]);
    Outcome::Held
}

fn the_newest_sets_stay(place: &Place) -> Outcome {
    let log = log();
    for seq_no in 1..=25 {
        store(&*place.store, &set(&log, seq_no, seq_no as u32));
        let kept: Vec<i64> = points(&*place.store, &log).into_iter().map(|(_, seq_no)| seq_no).collect();
        let newest: Vec<i64> = (1..=seq_no).rev().take(3).collect();
        assert!(kept.starts_with(&newest), "kept {kept:?}, and the newest are {newest:?}");
        assert!(kept.is_sorted_by(|a, b| a > b), "newer before older: {kept:?}");
    }
    Outcome::Held
}
