//! A reader whose steps fail or stall.
//!
//! *Invariants.* What it gives, the reader inside gave. After an error it gives that error again.
//!
//! *Does not* hold back bytes but for a stall.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use super::{ReadFault, Shared, unavailable};
use crate::clock::Deadline;
use crate::ids::{JournalName, Offset};
use crate::journal::{Interrupter, JournalError, JournalReader, ReadStep};

pub(super) struct FaultyReader {
    inner: Box<dyn JournalReader>,
    journal: JournalName,
    shared: Arc<Shared>,
    failed: Option<JournalError>,
    /// Whether an interrupt was asked for and not yet given. The reader inside is interrupted as well, and may
    /// say so after a stall has given the interrupt already.
    interrupted: Arc<AtomicBool>,
}

impl FaultyReader {
    pub(super) fn new(inner: Box<dyn JournalReader>, journal: JournalName, shared: Arc<Shared>) -> Self {
        Self { inner, journal, shared, failed: None, interrupted: Arc::default() }
    }

    /// Waits until stalled reads are released.
    fn stall(&self, deadline: Deadline) -> Stall {
        let mut state = self.shared.lock();
        let releases = state.read_releases;
        loop {
            if state.read_releases != releases {
                return Stall::Released;
            }
            if self.interrupted.swap(false, Ordering::Relaxed) {
                return Stall::Interrupted;
            }
            let remaining = deadline.remaining();
            if remaining.is_zero() {
                return Stall::TimedOut;
            }
            let waited = self.shared.released.wait_timeout(state, remaining);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn step(&mut self, deadline: Deadline) -> Result<ReadStep, JournalError> {
        let fault = self.shared.lock().draw_read_fault(true);
        match fault {
            None => {}
            Some(ReadFault::Failed) => return Err(unavailable(&self.journal)),
            Some(ReadFault::Stalled) => match self.stall(deadline) {
                Stall::Released => {}
                Stall::Interrupted => return Ok(ReadStep::Interrupted),
                Stall::TimedOut => return Err(unavailable(&self.journal)),
            },
        }
        loop {
            let step = self.inner.next(deadline)?;
            let interrupted = matches!(step, ReadStep::Interrupted);
            if !interrupted || self.interrupted.swap(false, Ordering::Relaxed) {
                return Ok(step);
            }
        }
    }
}

enum Stall {
    Released,
    Interrupted,
    TimedOut,
}

impl JournalReader for FaultyReader {
    fn next(&mut self, deadline: Deadline) -> Result<ReadStep, JournalError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        self.step(deadline).inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn offset(&self) -> Offset {
        self.inner.offset()
    }

    fn interrupter(&self) -> Interrupter {
        let (shared, interrupted) = (Arc::clone(&self.shared), Arc::clone(&self.interrupted));
        let inner = self.inner.interrupter();
        Interrupter::new(move || {
            let state = shared.lock();
            interrupted.store(true, Ordering::Relaxed);
            drop(state);
            shared.released.notify_all();
            inner.interrupt();
        })
    }
}

impl fmt::Debug for FaultyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyReader").field("inner", &self.inner).finish_non_exhaustive()
    }
}
