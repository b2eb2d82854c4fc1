//! The queue in front of the engine, and the thread that empties it.
//!
//! *Invariants.* Appends reach the engine in the order in which they were submitted. What is submitted while a group is
//! flushed forms the next one. An idle committer sleeps without a timeout.
//!
//! *Does not* hold a lock while it tells submitters.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use super::engine::Engine;
use super::group::Pending;
use super::place::Place;
use crate::journal::JournalError;
use crate::sync::thread::JoinHandle;
use crate::sync::{Condvar, Mutex, MutexGuard, thread};

/// An engine and what waits for it.
#[derive(Debug)]
pub(super) struct Committer {
    engine: Mutex<Engine>,
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    pending: VecDeque<Pending>,
    closed: bool,
}

impl Committer {
    pub(super) fn new(engine: Engine) -> Arc<Self> {
        Arc::new(Self { engine: Mutex::new(engine), queue: Mutex::default(), filled: Condvar::new() })
    }

    /// Starts the thread.
    pub(super) fn spawn(self: &Arc<Self>, place: &Place) -> Result<JoinHandle<()>, JournalError> {
        let committer = Arc::clone(self);
        let builder = thread::Builder::new().name(format!("commit {}", place.journal));
        let spawned = builder.spawn(move || while committer.serve() {});
        spawned.map_err(|error| place.io("starting the committer", error))
    }

    /// Puts an append into the queue, for the thread.
    pub(super) fn push(&self, pending: Pending) {
        self.queue().pending.push_back(pending);
        self.filled.notify_one();
    }

    /// Commits an append on the calling thread.
    pub(super) fn commit(&self, pending: Pending) {
        let mut queue = VecDeque::from([pending]);
        let mut engine = self.engine();
        let mut settled = Vec::new();
        while !queue.is_empty() {
            settled.extend(engine.commit(&mut queue));
        }
        engine.rest(true);
        drop(engine);
        settled.into_iter().for_each(super::group::Settled::resolve);
    }

    /// Lets the thread finish what is queued, and end.
    pub(super) fn close(&self) {
        self.queue().closed = true;
        self.filled.notify_one();
    }

    /// Returns the engine, waiting for the group that is under way.
    pub(super) fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for work and does all of it; false once the queue is closed and empty.
    fn serve(&self) -> bool {
        let idle = |queue: &mut Queue| queue.pending.is_empty() && !queue.closed;
        let waited = self.filled.wait_while(self.queue(), idle);
        let mut batch = std::mem::take(&mut waited.unwrap_or_else(PoisonError::into_inner).pending);
        if batch.is_empty() {
            return false;
        }
        while !batch.is_empty() {
            let mut engine = self.engine();
            let settled = engine.commit(&mut batch);
            batch.append(&mut self.queue().pending);
            engine.rest(batch.is_empty());
            drop(engine);
            settled.into_iter().for_each(super::group::Settled::resolve);
            // A submitter that was just told often has the next append at hand.
            batch.append(&mut self.queue().pending);
        }
        true
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
