//! The handle of work that is under way: wait for it with a deadline, poll it as a future, or be called back.
//!
//! *Invariants.* A completion resolves exactly once. A [`Completer`] that is dropped unresolved resolves its
//! completion with [`Abandoned`], so that nobody waits for work that has gone. Callbacks run on the thread
//! that resolves, outside every lock of this module; one that panics does not end that thread.
//!
//! *Does not* run anything: no executor, no thread.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::clock::Deadline;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// The work behind a completion went away without saying how it ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Abandoned;

impl fmt::Display for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the work was abandoned before it was done")
    }
}

impl std::error::Error for Abandoned {}

/// A result that is under way.
#[must_use = "work may fail after it was submitted: wait for its completion"]
pub struct Completion<T, E> {
    shared: Arc<Shared<T, E>>,
}

/// The other end of a [`Completion`].
pub struct Completer<T, E: From<Abandoned>> {
    shared: Option<Arc<Shared<T, E>>>,
}

type Callback<T, E> = Box<dyn FnOnce(Result<T, E>) + Send>;

struct Shared<T, E> {
    state: Mutex<State<T, E>>,
    resolved: Condvar,
}

enum State<T, E> {
    Pending(Option<Waker>),
    Hooked(Callback<T, E>),
    Resolved(Result<T, E>),
    Taken,
}

impl<T, E> Shared<T, E> {
    fn lock(&self) -> MutexGuard<'_, State<T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the two ends of a piece of work.
pub fn completion<T, E: From<Abandoned>>() -> (Completer<T, E>, Completion<T, E>) {
    let shared = Arc::new(Shared { state: Mutex::new(State::Pending(None)), resolved: Condvar::new() });
    (Completer { shared: Some(Arc::clone(&shared)) }, Completion { shared })
}

impl<T, E> Completion<T, E> {
    /// Returns a completion that is resolved already.
    pub fn resolved(result: Result<T, E>) -> Self {
        Self {
            shared: Arc::new(Shared { state: Mutex::new(State::Resolved(result)), resolved: Condvar::new() }),
        }
    }

    /// Waits for the result; `None` once `deadline` has passed with the work still under way, or after the
    /// result was taken. The work goes on, and can be waited for again.
    pub fn wait(&mut self, deadline: Deadline) -> Option<Result<T, E>> {
        let mut state = self.shared.lock();
        loop {
            match std::mem::replace(&mut *state, State::Taken) {
                State::Resolved(result) => return Some(result),
                State::Taken => return None,
                pending => *state = pending,
            }
            let remaining = deadline.remaining();
            if remaining.is_zero() {
                return None;
            }
            let waited = self.shared.resolved.wait_timeout(state, remaining);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Tells whether the result is there.
    pub fn is_resolved(&self) -> bool {
        matches!(*self.shared.lock(), State::Resolved(_))
    }

    /// Calls `callback` with the result: now if it is there, otherwise on the thread that resolves it.
    ///
    /// That thread serves others, so that a callback should be short. A panic in it ends the callback alone, and is told
    /// by the hook for panics only.
    pub fn on_ready(self, callback: impl FnOnce(Result<T, E>) + Send + 'static) {
        let mut state = self.shared.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Resolved(result) => {
                drop(state);
                callback(result);
            }
            State::Taken => {}
            State::Pending(_) | State::Hooked(_) => *state = State::Hooked(Box::new(callback)),
        }
    }
}

impl<T, E: From<Abandoned>> Completer<T, E> {
    /// Resolves the completion.
    pub fn resolve(mut self, result: Result<T, E>) {
        if let Some(shared) = self.shared.take() {
            Self::settle(&shared, result);
        }
    }

    fn settle(shared: &Shared<T, E>, result: Result<T, E>) {
        let mut state = shared.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Hooked(callback) => {
                drop(state);
                // What it has left half-done is its owner's: nothing of this module or of the resolver is.
                drop(catch_unwind(AssertUnwindSafe(|| callback(result))));
            }
            State::Pending(waker) => {
                *state = State::Resolved(result);
                drop(state);
                shared.resolved.notify_all();
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            // A completer settles once, so nothing else can have been there.
            other => *state = other,
        }
    }
}

impl<T, E: From<Abandoned>> Drop for Completer<T, E> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            Self::settle(&shared, Err(E::from(Abandoned)));
        }
    }
}

impl<T, E> Future for Completion<T, E> {
    type Output = Result<T, E>;

    /// Polls for the result. A completion whose result was taken already stays pending.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.shared.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Resolved(result) => Poll::Ready(result),
            State::Pending(_) => {
                *state = State::Pending(Some(cx.waker().clone()));
                Poll::Pending
            }
            other => {
                *state = other;
                Poll::Pending
            }
        }
    }
}

impl<T, E> fmt::Debug for Completion<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completion").field("resolved", &self.is_resolved()).finish_non_exhaustive()
    }
}

impl<T, E: From<Abandoned>> fmt::Debug for Completer<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #[cfg(recoverylog_shuttle)]
    mod schedules;

    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    type Outcome = Result<u32, Abandoned>;

    #[test]
    fn a_dropped_completer_resolves_as_abandoned() {
        let (completer, mut pending) = completion::<u32, Abandoned>();
        drop(completer);
        assert_eq!(pending.wait(Deadline::passed()), Some(Err(Abandoned)));
    }

    #[test]
    fn a_wait_ends_at_its_deadline_and_can_be_repeated() {
        let (completer, mut pending) = completion::<u32, Abandoned>();
        assert_eq!(pending.wait(Deadline::after(Duration::from_millis(5))), None);
        completer.resolve(Ok(7));
        assert_eq!(pending.wait(Deadline::after(Duration::from_secs(5))), Some(Ok(7)));
    }

    #[test]
    fn a_callback_runs_whether_it_was_set_before_or_after() {
        let (sender, receiver) = mpsc::channel::<Outcome>();
        let (completer, pending) = completion::<u32, Abandoned>();
        let first = sender.clone();
        pending.on_ready(move |result| first.send(result).unwrap());
        completer.resolve(Ok(1));
        Completion::resolved(Ok(2)).on_ready(move |result| sender.send(result).unwrap());
        assert_eq!(receiver.iter().collect::<Vec<_>>(), vec![Ok(1), Ok(2)]);
    }

    #[test]
    fn a_callback_that_panics_does_not_end_the_thread_that_resolves() {
        let (completer, pending) = completion::<u32, Abandoned>();
        pending.on_ready(|result| panic!("{result:?}"));
        completer.resolve(Ok(1));
        let (completer, pending) = completion::<u32, Abandoned>();
        pending.on_ready(|result| panic!("{result:?}"));
        drop(completer);
    }
}
