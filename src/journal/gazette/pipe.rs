//! What lies between a task that reads and the thread that takes it: steps in order, bounded.
//!
//! *Invariants.* Steps come out in the order in which they went in, then the error that ended them, each time again. An
//! interrupt ends one wait. What waits to be taken is at most [`ROOM_BYTES`] and one step.
//!
//! *Does not* know of brokers.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Deadline;
use crate::ids::{JournalName, Offset};
use crate::journal::{JournalError, ReadStep};
use crate::sync::{Condvar, Mutex, MutexGuard};

/// Bytes that are read ahead.
const ROOM_BYTES: u64 = 1 << 20;

/// A bounded queue of steps.
pub(super) struct Pipe {
    state: Mutex<State>,
    /// Something can be taken.
    filled: Condvar,
    /// Something was taken.
    emptied: Notify,
}

#[derive(Default)]
struct State {
    steps: VecDeque<ReadStep>,
    bytes: u64,
    /// The head, where the task has read up to it.
    at_head: Option<Offset>,
    has_ended: bool,
    failed: Option<JournalError>,
    is_interrupted: bool,
    /// Why nothing comes.
    trouble: Option<String>,
}

impl Pipe {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), filled: Condvar::new(), emptied: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.filled.notify_all();
    }

    /// Adds a step, once there is room for it.
    pub(super) async fn push(&self, step: ReadStep) {
        let bytes = if let ReadStep::Chunk(chunk) = &step { chunk.len() } else { 0 };
        loop {
            let emptied = self.emptied.notified();
            if self.lock().bytes < ROOM_BYTES {
                break;
            }
            emptied.await;
        }
        self.change(|state| {
            state.bytes += bytes;
            state.at_head = None;
            state.trouble = None;
            state.steps.push_back(step);
        });
    }

    /// Says that what was added reaches to the head, or that this is not known any more.
    pub(super) fn is_at_head(&self, head: Option<Offset>) {
        self.change(|state| {
            state.at_head = head;
            state.trouble = None;
        });
    }

    /// Says why nothing comes.
    pub(super) fn is_in_trouble(&self, what: String) {
        self.change(|state| {
            state.at_head = None;
            state.trouble = Some(what);
        });
    }

    /// Says that the range has ended.
    pub(super) fn end(&self) {
        self.change(|state| state.has_ended = true);
    }

    /// Ends all with an error.
    pub(super) fn fail(&self, error: JournalError) {
        self.change(|state| state.failed = state.failed.take().or(Some(error)));
    }

    /// Ends the present wait, or the next.
    pub(super) fn interrupt(&self) {
        self.change(|state| state.is_interrupted = true);
    }

    /// Takes the next step. Where nobody knows whether there is one, a broker is given `answer_max` to say so, even if
    /// `deadline` is earlier.
    pub(super) fn take(
        &self,
        journal: &JournalName,
        deadline: Deadline,
        answer_max: Duration,
    ) -> Result<ReadStep, JournalError> {
        let answer = Deadline::after(answer_max).max(deadline);
        let mut state = self.lock();
        loop {
            if std::mem::take(&mut state.is_interrupted) {
                return Ok(ReadStep::Interrupted);
            }
            if let Some(step) = state.steps.pop_front() {
                if let ReadStep::Chunk(chunk) = &step {
                    state.bytes -= chunk.len();
                }
                drop(state);
                self.emptied.notify_one();
                return Ok(step);
            }
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            if state.has_ended {
                return Ok(ReadStep::End);
            }
            let until = if state.at_head.is_some() { deadline } else { answer };
            let remaining = until.remaining();
            if remaining.is_zero() {
                if let Some(head) = state.at_head {
                    return Ok(ReadStep::AtHead { head });
                }
                let what = state.trouble.clone();
                let what = what.unwrap_or_else(|| "the brokers did not answer before the deadline".into());
                let error = JournalError::Unavailable { journal: journal.clone(), what };
                state.failed = Some(error.clone());
                return Err(error);
            }
            let waited = self.filled.wait_timeout(state, remaining);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
