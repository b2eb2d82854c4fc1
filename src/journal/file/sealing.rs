//! Sealing behind the appends: one thread at a time, for as long as there is something to seal.
//!
//! *Invariants.* At most one piece of work is under way.
//!
//! *Does not* report: the work says by itself how it ended.

use std::sync::PoisonError;

use std::sync::Arc;

use super::place::Place;
use crate::clock::Deadline;
use crate::sync::{Condvar, Mutex, thread};

/// Whether files are being sealed.
#[derive(Debug, Default)]
pub(super) struct Sealing {
    busy: Mutex<bool>,
    done: Condvar,
}

impl Sealing {
    /// Does `work` on a thread of its own, or before it returns where `inline` says so or there is no thread to be
    /// had. The work before it must be done.
    pub(super) fn start(self: &Arc<Self>, place: &Place, inline: bool, work: impl FnOnce() + Send + 'static) {
        let work = Busy::new(self, Box::new(work));
        if inline {
            work.finish();
            return;
        }
        let builder = thread::Builder::new().name(format!("seal {}", place.journal));
        // Without a thread the work is dropped; the next roll, or the next open, finds the files and seals them.
        drop(builder.spawn(move || work.finish()));
    }

    /// Waits until nothing is under way; false once `deadline` has passed.
    pub(super) fn wait(&self, deadline: Deadline) -> bool {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.done.wait_timeout_while(busy, deadline.remaining(), |busy| *busy);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn set(&self, busy: bool) {
        *self.busy.lock().unwrap_or_else(PoisonError::into_inner) = busy;
        self.done.notify_all();
    }
}

/// Work under way; it counts as done when this is dropped, however that comes.
struct Busy {
    sealing: Arc<Sealing>,
    work: Option<Box<dyn FnOnce() + Send>>,
}

impl Busy {
    fn new(sealing: &Arc<Sealing>, work: Box<dyn FnOnce() + Send>) -> Self {
        sealing.set(true);
        Self { sealing: Arc::clone(sealing), work: Some(work) }
    }

    fn finish(mut self) {
        if let Some(work) = self.work.take() {
            work();
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.sealing.set(false);
    }
}
