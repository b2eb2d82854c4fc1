//! How a recorder works, and what it has done.
//!
//! *Invariants.* Nothing here changes what a log means to its readers, but the extension fields.
//!
//! *Does not* hold anything that changes.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::ids::{Author, JournalName, LogPath, Offset};
use crate::journal::{Append, Journal, RegisterSelector, RegisterSet};
use crate::live::{EXTENTS_MAX, HintBudget};

/// What does not change in the life of a recorder.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) log: JournalName,
    pub(super) author: Author,
    pub(super) check: RegisterSelector,
    pub(super) union: RegisterSet,
    pub(super) extensions: bool,
    pub(super) property_paths: Vec<LogPath>,
    pub(super) at_zero: bool,
    pub(super) send_bytes_min: usize,
    pub(super) stall: Duration,
    pub(super) resolve: Duration,
    pub(super) live_map: bool,
    pub(super) hint_budget: HintBudget,
    pub(super) clock: Arc<dyn Clock>,
}

impl Settings {
    pub(super) fn new(journal: &dyn Journal, author: Author, options: RecorderOptions) -> Self {
        let ours = Append::default().check_author(author).union_author(author);
        Self {
            log: journal.name().clone(),
            author,
            check: ours.check.unwrap_or_default(),
            union: ours.union,
            extensions: options.extensions,
            property_paths: options.property_paths,
            at_zero: journal.capabilities().at_zero,
            send_bytes_min: options.send_bytes_min,
            stall: options.stall,
            resolve: options.resolve,
            live_map: options.live_map,
            hint_budget: options.hint_budget,
            clock: options.clock,
        }
    }

    /// Tells whether the journal lets an append name `at`.
    pub(super) const fn can_name(&self, at: Offset) -> bool {
        self.at_zero || at.get() > 0
    }
}

/// How a [`crate::Recorder`] works.
#[derive(Clone, Debug)]
pub struct RecorderOptions {
    pub(super) extensions: bool,
    pub(super) property_paths: Vec<LogPath>,
    pub(super) in_flight_bytes_max: u64,
    pub(super) send_bytes_min: usize,
    pub(super) stall: Duration,
    pub(super) resolve: Duration,
    pub(super) live_map: bool,
    pub(super) hint_budget: HintBudget,
    pub(super) extents_max: usize,
    pub(super) clock: Arc<dyn Clock>,
}

impl Default for RecorderOptions {
    fn default() -> Self {
        Self {
            extensions: true,
            property_paths: Vec::new(),
            in_flight_bytes_max: 16 << 20,
            send_bytes_min: 1,
            stall: Duration::from_secs(60),
            resolve: Duration::from_secs(60),
            live_map: true,
            hint_budget: HintBudget::default(),
            extents_max: EXTENTS_MAX,
            clock: Arc::new(SystemClock),
        }
    }
}

impl RecorderOptions {
    /// Writes the extension fields (default), or exactly the bytes that Gazette's recorder writes: then payloads have no
    /// checksums, and the log has no marks, so that no point of it can be named by a time or a name.
    #[must_use]
    pub const fn extensions(mut self, extensions: bool) -> Self {
        self.extensions = extensions;
        self
    }

    /// Records a rename to one of `paths` as a property, as Gazette's recorder does for `/IDENTITY`. Paths that
    /// are properties of the history already need not be named.
    #[must_use]
    pub fn property_paths(mut self, paths: Vec<LogPath>) -> Self {
        self.property_paths = paths;
        self
    }

    /// Bounds the bytes that are recorded and not yet durable (default 16 MiB); a caller that would exceed them
    /// waits.
    #[must_use]
    pub const fn in_flight_bytes_max(mut self, bytes: u64) -> Self {
        self.in_flight_bytes_max = bytes;
        self
    }

    /// Holds a batch back from an idle journal until it has so many bytes (default 1: never), or until a
    /// barrier is taken. Raise it where the engine writes in small pieces and always ends with a barrier.
    #[must_use]
    pub const fn send_bytes_min(mut self, bytes: usize) -> Self {
        self.send_bytes_min = bytes;
        self
    }

    /// Bounds how long a caller waits for earlier bytes to become durable (default one minute); then its call
    /// fails with [`crate::ErrorKind::Unavailable`], with nothing recorded.
    #[must_use]
    pub const fn stall_max(mut self, stall: Duration) -> Self {
        self.stall = stall;
        self
    }

    /// Bounds how long an append of unknown fate is read back and resent (default one minute); then the
    /// recorder fails with [`crate::ErrorKind::Unavailable`].
    #[must_use]
    pub const fn resolve_max(mut self, resolve: Duration) -> Self {
        self.resolve = resolve;
        self
    }

    /// Keeps track of which ranges of a file are alive (default), so that hints leave out writes that were written over;
    /// or takes every operation of a live file for alive, as Gazette's recorder does.
    ///
    /// It takes at most 80 bytes of memory for each extent: a range of a file that was written in one piece.
    #[must_use]
    pub const fn live_map(mut self, live_map: bool) -> Self {
        self.live_map = live_map;
        self
    }

    /// Tells whether a live map is kept.
    pub(crate) const fn keeps_live_map(&self) -> bool {
        self.live_map
    }

    /// Bounds the extents of one file (default 262,144, or 20 MB of memory). Past it neighbours are joined, those first
    /// that lie nearest to each other in the log; what one of them kept alive, all of it does then. Two between which
    /// another file was created, or hints left something out, are never joined, so that there can be more.
    #[must_use]
    pub const fn extents_per_file_max(mut self, extents: usize) -> Self {
        self.extents_max = extents;
        self
    }

    /// Sets how hints trade their own size against what a player reads.
    #[must_use]
    pub const fn hint_budget(mut self, budget: HintBudget) -> Self {
        self.hint_budget = budget;
        self
    }

    /// Takes the time of marks from `clock` instead of the system.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

/// What a recorder has done so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct RecorderCounters {
    /// Operations recorded, durable or not.
    pub ops_recorded: u64,
    /// Bytes of the log recorded, frames and payloads.
    pub bytes_recorded: u64,
    /// Operations known to be durable.
    pub ops_durable: u64,
    /// Bytes of the log known to be durable.
    pub bytes_durable: u64,
    /// Appends sent, without those that were resent.
    pub appends: u64,
}

impl RecorderCounters {
    /// Returns the bytes that are recorded and not known to be durable.
    pub const fn bytes_in_flight(&self) -> u64 {
        self.bytes_recorded.saturating_sub(self.bytes_durable)
    }
}
