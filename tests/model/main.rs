//! Goal: the promises hold in every state that two or three writers, one journal and one network can come to.
//!
//! Method: breadth-first search over all states of a small model, by hand rather than with a crate: a hundred lines
//! search, give the shortest trace, and answer "can it still end?" for every state, which the checkers at hand answer
//! for paths only. Operations are real bytes, and what a log means is what the library's own state machine makes of
//! it. The rules of journal, hand-off and recorder are mirrored, each next to the name of what it mirrors
//! (`protocol.rs`). The journal is bounded, and whatever was ever sent may arrive at any time, any number of times or
//! never, with its answer or without; registers vanish or are set back; a writer crashes, or sleeps for as long as it
//! likes: that is the same as all others being faster.
//!
//! Checked in every state: what was acknowledged, a hand-off too, is in the history that readers derive; no author
//! comes back who was followed by another; what a recorder takes for the committed history is what readers take for
//! it; whoever is told that it is fenced was; nobody fails for another reason; whom the register names is not
//! overtaken. And from every state in which there is room in the log, each hand-off and each append under way can
//! still come to its end.
//!
//! Not in it: torn appends (content commits whole), payloads, local files, hints, time. `tests/simulation` has those.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod book;
mod promises;
mod protocol;
mod search;

use promises::Promise;
use protocol::{Model, Planted, Registers};
use search::search;

/// A model of two writers that is searched in seconds.
fn two_writers() -> Model {
    Model { writers: 2, ops: 2, log_max: 5, misses_max: 1, ..Model::default() }
}

/// A model of three writers, with less to do for each.
fn three_writers() -> Model {
    Model { writers: 3, ops: 1, log_max: 4, misses_max: 1, ..Model::default() }
}

#[track_caller]
fn assert_kept(model: Model) {
    let Model { writers, ops, log_max, registers, at_zero, .. } = model;
    let told = format!("{writers} writers of {ops}, a log of {log_max}, {registers:?}, at_zero {at_zero}");
    let report = search(model, None);
    println!("{told}: {report}");
    assert!(report.broken.is_none(), "{told}: {report}");
}

#[test]
fn two_writers_keep_every_promise() {
    for registers in [Registers::Kept, Registers::Vanish, Registers::SetBack] {
        assert_kept(Model { registers, ..two_writers() });
    }
    assert_kept(Model { at_zero: false, ..two_writers() });
}

#[test]
fn three_writers_keep_every_promise() {
    assert_kept(Model { registers: Registers::Kept, ..three_writers() });
    assert_kept(Model { log_max: 3, ..three_writers() });
}

#[test]
#[ignore = "takes minutes"]
fn writers_with_more_to_do_keep_every_promise() {
    for at_zero in [true, false] {
        assert_kept(Model { at_zero, ops: 3, log_max: 6, ..two_writers() });
        assert_kept(Model { at_zero, registers: Registers::SetBack, ..two_writers() });
    }
    assert_kept(three_writers());
    assert_kept(Model { registers: Registers::SetBack, at_zero: false, log_max: 3, ..three_writers() });
}

#[test]
fn without_one_of_its_rules_the_protocol_breaks_a_promise() {
    let cases = [
        (Planted::RegistersUnchecked, Promise::Stopped),
        (Planted::AtUnchecked, Promise::Acknowledged),
        (Planted::ChainUnchecked, Promise::NoReturn),
        (Planted::JudgedAhead, Promise::Acknowledged),
        (Planted::LongerBatch, Promise::NoOtherFailure),
        (Planted::ResentUnread, Promise::Acknowledged),
        (Planted::NoReadBack, Promise::Acknowledged),
    ];
    for (planted, promise) in cases {
        // Only where offset 0 cannot be named, a batch comes late without naming its place.
        let at_zero = planted != Planted::ChainUnchecked;
        let model = Model { planted: Some(planted), at_zero, ops: 3, log_max: 6, ..two_writers() };
        let report = search(model, Some(promise));
        println!("{planted:?}: {report}\n");
        let broken = report.broken.as_ref().map(|(promise, _)| *promise);
        assert_eq!(broken, Some(promise), "{planted:?}: {report}");
    }
}
