//! The only door through which time enters the crate.
//!
//! *Invariants.* Every wait takes a [`Deadline`]; none waits forever.
//!
//! *Does not* schedule anything.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

/// The moment after which a wait gives up.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Deadline(Instant);

impl Deadline {
    /// Returns the deadline that lies `duration` ahead; capped at ten years.
    pub fn after(duration: Duration) -> Self {
        const CAP: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
        let now = now();
        Self(now.checked_add(duration.min(CAP)).unwrap_or(now))
    }

    /// Returns a deadline that has passed: poll, do not wait.
    pub fn passed() -> Self {
        Self(now())
    }

    /// Returns how long there is left, zero once the deadline has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(now())
    }

    /// Tells whether the deadline has passed.
    pub fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }

    /// Returns the earlier of this deadline and the one `duration` ahead.
    pub fn or_after(self, duration: Duration) -> Self {
        self.min(Self::after(duration))
    }
}

/// A source of wall-clock time, for marks in a log and the age of hints.
///
/// ```
/// use recoverylog::{Clock, SystemClock};
///
/// // Recorders never go back in time even if a clock does: a mark takes the later of it and the last mark.
/// assert!(SystemClock.unix_nanos() > 1_600_000_000_000_000_000);
/// ```
pub trait Clock: fmt::Debug + Send + Sync {
    /// Returns nanoseconds since the Unix epoch.
    fn unix_nanos(&self) -> i64;
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the door through which wall-clock time enters")]
    fn unix_nanos(&self) -> i64 {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)
    }
}

/// Returns the present moment, for measuring how long something took.
#[expect(clippy::disallowed_methods, reason = "this is the door through which monotonic time enters")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
