//! Snapshots: hint sets that are kept for longer than those of a recovery, to go back in time.
//!
//! *Invariants.* A snapshot is a hint set as any other: exact, anchored at its head, and stored only once that is
//! durable. What a stored one leaves out may have been pruned, and no later set covers it again.
//!
//! *Does not* say how long a set is kept: that is the store's to know.

use std::sync::Arc;
use std::time::Duration;

use crate::hint_store::HintStore;

/// How often a primary takes a snapshot, where anything was recorded since the last one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SnapshotOptions {
    /// After so long (default one hour).
    pub every: Duration,
    /// After so many bytes of the log (default 4 GiB).
    pub bytes: u64,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        Self { every: Duration::from_secs(3600), bytes: 4 << 30 }
    }
}

/// Where a replica keeps snapshots.
#[derive(Clone, Debug)]
pub(super) struct Snapshots {
    pub(super) store: Arc<dyn HintStore>,
    pub(super) options: SnapshotOptions,
}
