//! Points of a log, and waiting for one of them to become durable.
//!
//! *Invariants.* A barrier that resolves with a position vouches that every operation recorded before the
//! barrier was taken is durable. After the recorder failed, a barrier resolves with that failure. Hints resolve
//! only when the operation that anchors them is durable.
//!
//! *Does not* hold up later operations.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::clock::Deadline;
use crate::completion::{Abandoned, Completion};
use crate::error::{Error, ErrorKind, Result};
pub use crate::fsm::Position;
use crate::hints::FsmHints;

/// A point of the log whose durability can be waited for.
pub type Barrier = Pending<Position>;

/// Hints that were taken, and are published once the operation that anchors them is durable.
pub type PendingHints = Pending<FsmHints>;

/// Something that is known once a point of the log is durable: wait for it, poll it, or be called back.
///
/// Dropping it takes nothing back: what was recorded is on its way.
#[must_use = "nothing is known to be durable before this has been waited for"]
#[derive(Debug)]
pub struct Pending<T> {
    completion: Completion<T, Error>,
    outcome: Option<Result<T>>,
}

impl<T: Clone> Pending<T> {
    pub(super) const fn new(completion: Completion<T, Error>) -> Self {
        Self { completion, outcome: None }
    }

    pub(super) fn resolved(outcome: Result<T>) -> Self {
        Self::new(Completion::resolved(outcome))
    }

    /// Waits until the point is durable.
    ///
    /// # Errors
    /// The failure of the recorder; [`ErrorKind::Unavailable`] once `deadline` has passed. The latter says
    /// nothing about the point, and it can be waited for again.
    pub fn wait(&mut self, deadline: Deadline) -> Result<T> {
        if self.outcome.is_none() {
            self.outcome = self.completion.wait(deadline);
        }
        self.outcome.clone().unwrap_or_else(|| Err(late()))
    }

    /// As [`Pending::wait`], for the last time: the outcome is handed over and not copied, which takes hints of many files
    /// as long as it takes to choose them.
    ///
    /// # Errors
    /// As [`Pending::wait`]; the point cannot be waited for again.
    pub fn wait_once(mut self, deadline: Deadline) -> Result<T> {
        self.outcome.take().or_else(|| self.completion.wait(deadline)).unwrap_or_else(|| Err(late()))
    }

    /// Tells whether the outcome is known.
    pub fn is_resolved(&self) -> bool {
        self.outcome.is_some() || self.completion.is_resolved()
    }

    /// Calls `callback` with the outcome: now if it is known, otherwise on the thread that learns it, which is
    /// often the journal's own: the callback must not block.
    pub fn on_ready(self, callback: impl FnOnce(Result<T>) + Send + 'static) {
        match self.outcome {
            Some(outcome) => callback(outcome),
            None => self.completion.on_ready(callback),
        }
    }
}

impl<T: Clone + Unpin> Future for Pending<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(outcome) = &this.outcome {
            return Poll::Ready(outcome.clone());
        }
        let Poll::Ready(outcome) = Pin::new(&mut this.completion).poll(cx) else { return Poll::Pending };
        this.outcome = Some(outcome.clone());
        Poll::Ready(outcome)
    }
}

fn late() -> Error {
    Error::new(ErrorKind::Unavailable, "the deadline passed before the journal acknowledged")
        .advise("wait again; what was recorded is still on its way")
}

impl From<Abandoned> for Error {
    fn from(source: Abandoned) -> Self {
        Self::new(ErrorKind::Unavailable, "the recorder went away").with_source(source)
    }
}
