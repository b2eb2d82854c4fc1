//! Back-pressure: how many bytes may be on their way to the journal at once.
//!
//! *Invariants.* Credit is taken before any lock and given back when the bytes are committed, or the recorder
//! has failed. A single request never takes more than the whole, so that it can always be met.
//!
//! *Does not* know what the bytes are.

use std::sync::PoisonError;

use crate::clock::Deadline;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard};

/// The bytes that may be on their way, and those that are.
#[derive(Debug)]
pub(super) struct Credit {
    limit: u64,
    used: AtomicU64,
    waiters: AtomicUsize,
    closed: Mutex<bool>,
    freed: Condvar,
}

/// Why there is no credit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refused {
    /// The deadline passed.
    Late,
    /// [`Credit::close`] was called.
    Closed,
}

impl Credit {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit: limit.max(1),
            used: AtomicU64::new(0),
            waiters: AtomicUsize::new(0),
            closed: Mutex::new(false),
            freed: Condvar::new(),
        }
    }

    /// Takes credit for `bytes`, waiting for it until `deadline` gives up; returns what was taken.
    pub(super) fn take(&self, bytes: u64, deadline: impl FnOnce() -> Deadline) -> Result<u64, Refused> {
        let bytes = bytes.min(self.limit);
        if self.try_take(bytes) {
            return Ok(bytes);
        }
        let deadline = deadline();
        let closed = self.lock();
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let taken = self.take_waiting(closed, bytes, deadline);
        self.waiters.fetch_sub(1, Ordering::SeqCst);
        taken.map(|()| bytes)
    }

    fn take_waiting(
        &self,
        mut closed: MutexGuard<'_, bool>,
        bytes: u64,
        deadline: Deadline,
    ) -> Result<(), Refused> {
        loop {
            if *closed {
                return Err(Refused::Closed);
            }
            if self.try_take(bytes) {
                return Ok(());
            }
            let remaining = deadline.remaining();
            if remaining.is_zero() {
                return Err(Refused::Late);
            }
            let waited = self.freed.wait_timeout(closed, remaining);
            closed = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Gives credit back.
    pub(super) fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        // A waiter counts itself before it looks at `used`, and this looks at the count after changing `used`:
        // one of the two sees the other. The lock keeps the notification from falling between a waiter's look
        // and its wait.
        if self.waiters.load(Ordering::SeqCst) > 0 {
            drop(self.lock());
            self.freed.notify_all();
        }
    }

    /// Refuses every waiter, now and later.
    pub(super) fn close(&self) {
        *self.lock() = true;
        self.freed.notify_all();
    }

    /// Returns the credit that is not taken.
    pub(super) fn free(&self) -> u64 {
        self.limit.saturating_sub(self.used.load(Ordering::Relaxed))
    }

    fn try_take(&self, bytes: u64) -> bool {
        let mut used = self.used.load(Ordering::SeqCst);
        loop {
            if used.saturating_add(bytes) > self.limit {
                return false;
            }
            match self.used.compare_exchange_weak(used, used + bytes, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(now) => used = now,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #[cfg(recoverylog_shuttle)]
    mod schedules;

    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(10))
    }

    #[test]
    fn a_request_larger_than_the_whole_takes_the_whole() {
        let credit = Credit::new(10);
        assert_eq!(credit.take(100, Deadline::passed), Ok(10));
        assert_eq!(credit.take(1, Deadline::passed), Err(Refused::Late));
        credit.give(10);
        assert_eq!(credit.take(1, Deadline::passed), Ok(1));
    }

    #[test]
    fn a_waiter_is_woken_by_credit_and_by_the_end() {
        let credit = Arc::new(Credit::new(10));
        assert_eq!(credit.take(1, Deadline::passed), Ok(1));
        let wait = || {
            let waiter = Arc::clone(&credit);
            let waiting = std::thread::Builder::new().spawn(move || waiter.take(10, soon)).unwrap();
            while credit.waiters.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            waiting
        };
        let waiting = wait();
        credit.give(1);
        assert_eq!(waiting.join().unwrap(), Ok(10));
        let waiting = wait();
        credit.close();
        assert_eq!(waiting.join().unwrap(), Err(Refused::Closed));
    }
}
