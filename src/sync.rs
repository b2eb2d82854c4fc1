//! Locks, conditions and threads: the system's, or those of a scheduler that a test draws.
//!
//! Compiled for tests with `--cfg recoverylog_shuttle`, the names here are shuttle's. Threads then take turns as a
//! seed or a search says, one step of a lock or condition at a time; a wait with a deadline never times out, so that
//! a wakeup that is lost shows as a deadlock.
//!
//! *Invariants.* Code that blocks, wakes or starts threads and is checked under drawn schedules has these from here.
//!
//! *Does not* add anything to them.

#[cfg(not(all(test, recoverylog_shuttle)))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard, atomic, mpsc},
    thread,
};

#[cfg(all(test, recoverylog_shuttle))]
pub(crate) use shuttle::{
    sync::{Condvar, Mutex, MutexGuard, atomic, mpsc},
    thread,
};

use std::time::Duration;

#[cfg(all(test, recoverylog_shuttle))]
pub(crate) mod tests;

/// Pauses before another attempt at what nobody can be waited for.
#[cfg(not(all(test, recoverylog_shuttle)))]
#[expect(clippy::disallowed_methods, reason = "there is nothing here that could be signalled")]
pub(crate) fn pause(duration: Duration) {
    thread::sleep(duration);
}

/// Lets other threads go first.
#[cfg(all(test, recoverylog_shuttle))]
pub(crate) fn pause(_: Duration) {
    thread::yield_now();
}

/// Pauses between attempts, each twice as long as the one before, from 5 ms to one second.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    /// The longest pause.
    const MAX: Duration = Duration::from_secs(1);

    /// Begins with the shortest pause.
    pub(crate) const fn new() -> Self {
        Self(Duration::from_millis(5))
    }

    /// Pauses before the next attempt, for at most `remaining`.
    pub(crate) fn pause(&mut self, remaining: Duration) {
        pause(self.0.min(remaining));
        self.0 = (self.0 * 2).min(Self::MAX);
    }
}
