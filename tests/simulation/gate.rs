//! Where threads that the library starts wait for the scheduler, so that one thing happens at a time.
//!
//! A recorder starts a thread to find out what became of an append, and a standby lives on one. Their calls to the
//! journal and the hint store wait here until the scheduler answers them, and the scheduler goes on only once every
//! such thread waits again or has ended: what happens is the same whatever the system's scheduler does. Where the
//! scheduler's own thread waits for a thread of the library, in a promotion, that thread acts as the scheduler.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use recoverylog::journal::{Head, JournalError};
use recoverylog::vfs::MemoryFs;
use recoverylog::{Deadline, Error};

use super::net::Reply;

/// What a thread asks of the journal or the hint store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Call {
    Head,
    Read,
    Append,
    /// What follows the head of the log.
    Next,
    Hints,
}

/// What the scheduler answers.
#[derive(Debug)]
pub(crate) enum Answer {
    Head(Result<Head, JournalError>),
    /// To go on, and look by itself.
    Go(Result<(), JournalError>),
    Append(Reply),
    /// The disk of the hint store.
    Hints(Result<MemoryFs, Error>),
    /// To act as the scheduler, which waits for this thread.
    Act,
    /// The process is gone.
    Gone,
}

#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Threads that were started, and did not call yet.
    expected: usize,
    /// Threads that called, and did not end yet.
    live: usize,
    calls: BTreeMap<u64, Call>,
    answers: BTreeMap<u64, Answer>,
    closed: bool,
}

thread_local! {
    static PRESENCE: RefCell<Option<Presence>> = const { RefCell::new(None) };
}

/// Says that a thread lives; dropped when it ends.
struct Presence(Arc<Gate>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.lock().live -= 1;
        self.0.changed.notify_all();
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A thread is being started, and will call.
    pub(crate) fn expect(&self) {
        self.lock().expected += 1;
    }

    /// Called by a thread: waits for the answer of the scheduler.
    pub(crate) fn call(self: &Arc<Self>, port: u64, call: Call) -> Answer {
        PRESENCE.with_borrow_mut(|presence| {
            if presence.is_none() {
                let mut state = self.lock();
                state.expected = state.expected.saturating_sub(1);
                state.live += 1;
                *presence = Some(Presence(Arc::clone(self)));
            }
        });
        let mut state = self.lock();
        if state.closed {
            return Answer::Gone;
        }
        state.calls.insert(port, call);
        self.changed.notify_all();
        let answer = loop {
            if let Some(answer) = state.answers.remove(&port) {
                break answer;
            }
            state = self.changed.wait(state).unwrap();
        };
        drop(state);
        if matches!(answer, Answer::Act) {
            drop(PRESENCE.take());
        }
        answer
    }

    /// Has the thread that calls by `port` act as the scheduler; false where none calls.
    pub(crate) fn act(&self, port: u64) -> bool {
        let mut state = self.lock();
        let calls = state.calls.remove(&port).is_some();
        if calls {
            state.answers.insert(port, Answer::Act);
            self.changed.notify_all();
        }
        calls
    }

    /// Returns the call that waits at `port`.
    pub(crate) fn call_of(&self, port: u64) -> Option<Call> {
        self.lock().calls.get(&port).copied()
    }

    /// Returns the calls that wait, by port.
    pub(crate) fn calls(&self) -> Vec<(u64, Call)> {
        self.lock().calls.iter().map(|(port, call)| (*port, *call)).collect()
    }

    /// Answers a call that waits, and lets the thread go on until it rests.
    pub(crate) fn answer(&self, port: u64, answer: Answer) -> Result<(), String> {
        let mut state = self.lock();
        if state.calls.remove(&port).is_some() {
            state.answers.insert(port, answer);
            self.changed.notify_all();
        }
        drop(state);
        self.rest()
    }

    /// Waits until every thread waits for an answer, or has ended.
    pub(crate) fn rest(&self) -> Result<(), String> {
        let deadline = Deadline::after(Duration::from_secs(60));
        let mut state = self.lock();
        while state.expected > 0 || state.live > state.calls.len() {
            if deadline.has_passed() {
                return Err(format!("a thread of the library does not come to rest: {state:?}"));
            }
            state = self.changed.wait_timeout(state, deadline.remaining()).unwrap().0;
        }
        Ok(())
    }

    /// Answers every call, now and later, as one of a process that is gone.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let calls = std::mem::take(&mut state.calls);
        state.answers.extend(calls.into_keys().map(|port| (port, Answer::Gone)));
        self.changed.notify_all();
    }
}
