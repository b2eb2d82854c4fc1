//! What must hold in every state, and what must still be possible.

use crate::book::OpId;
use crate::protocol::{Model, State, Writer};

/// A promise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Promise {
    /// What somebody was told is durable is in the history that every reader derives.
    Acknowledged,
    /// Nothing of a fenced author is accepted: a write follows its own author's operation, and a primary that was
    /// followed by another author never comes back. (A standby may: it reads on, and tries again.)
    NoReturn,
    /// What a recorder takes for the committed history is what readers derive from that part of the log.
    SameHistory,
    /// Whoever found in the log that it is fenced was followed there by another's hand-off.
    Founded,
    /// Nobody ends for any other reason.
    NoOtherFailure,
    /// Nobody's checked append commits while a standby holds the register.
    Stopped,
    /// A hand-off, or an append, that is under way can still come to its end.
    CanEnd,
}

/// Returns the promises that a state breaks.
pub(crate) fn broken(model: &mut Model, state: &State) -> Vec<Promise> {
    let history = model.book.read(&state.log);
    let mut broken = Vec::new();
    if state.acknowledged.iter().any(|op| !history.accepted.contains(op)) {
        broken.push(Promise::Acknowledged);
    }
    if comes_back(model, state, &history.accepted) {
        broken.push(Promise::NoReturn);
    }
    for (index, writer) in state.writers.iter().enumerate() {
        match writer {
            Writer::Primary(primary)
                if model.book.read(&state.log[..primary.end]).accepted != primary.history =>
            {
                broken.push(Promise::SameHistory);
            }
            Writer::Fenced { by_register: false, own } => {
                let next = history.accepted.get(own.len());
                if next.is_none_or(|&op| model.book.writer(op) == index || !model.book.is_hand_off(op)) {
                    broken.push(Promise::Founded);
                }
            }
            Writer::Broken => broken.push(Promise::NoOtherFailure),
            _ => {}
        }
    }
    broken
}

fn comes_back(model: &Model, state: &State, accepted: &[OpId]) -> bool {
    let writer = |at: usize| model.book.writer(accepted[at]);
    let stray = |at: usize| !model.book.is_hand_off(accepted[at]) && writer(at) != writer(at - 1);
    let returns = |at: usize| {
        let was_primary =
            |before: &usize| writer(*before) == writer(at) && state.acknowledged.contains(&accepted[*before]);
        let last = (0..at).rev().find(was_primary);
        last.is_some_and(|last| (last..at).any(|between| writer(between) != writer(at)))
    };
    (1..accepted.len()).any(|at| stray(at) || returns(at))
}

/// Returns, a bit per writer and kind, what is under way and must be able to end.
pub(crate) fn under_way(model: &Model, state: &State) -> u8 {
    if state.log.len() >= model.log_max {
        return 0;
    }
    let bit = |(index, writer): (usize, &Writer)| match writer {
        Writer::Standby { .. } | Writer::Injecting { .. } | Writer::Stopping { .. } => 1 << (2 * index),
        Writer::Primary(primary) if primary.sent.as_ref().is_some_and(|sent| fits(model, state, &sent.1)) => {
            2 << (2 * index)
        }
        _ => 0,
    };
    state.writers.iter().enumerate().map(bit).sum()
}

/// Returns, bit by bit as in [`under_way`], what has come to its end.
pub(crate) fn ended(state: &State) -> u8 {
    let bit = |(index, writer): (usize, &Writer)| match writer {
        Writer::Primary(primary) if primary.sent.is_none() => 3 << (2 * index),
        Writer::Primary(_) => 1 << (2 * index),
        Writer::Fenced { .. } => 2 << (2 * index),
        _ => 0,
    };
    state.writers.iter().enumerate().map(bit).sum()
}

fn fits(model: &Model, state: &State, content: &[u16]) -> bool {
    state.log.len() + content.len() <= model.log_max
}
