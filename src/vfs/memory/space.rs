//! The space that all files of a file system in memory share.
//!
//! *Invariants.* No more is used than the capacity at the time it was taken.
//!
//! *Does not* count names.

use std::sync::atomic::{AtomicU64, Ordering};

use super::content::PAGE;

/// The space that all files of a file system share.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// Bytes there are; zero for no limit.
    capacity: AtomicU64,
    used: AtomicU64,
}

impl Space {
    pub(super) fn limit(&self, bytes: u64) {
        self.capacity.store(bytes.max(1), Ordering::Relaxed);
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes one page; false where there is none left.
    pub(super) fn take_page(&self) -> bool {
        let capacity = match self.capacity() {
            0 => u64::MAX,
            limit => limit,
        };
        let grown = |used: u64| used.checked_add(PAGE).filter(|used| *used <= capacity);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok()
    }

    pub(super) fn give_pages(&self, pages: u64) {
        self.used.fetch_sub(pages * PAGE, Ordering::Relaxed);
    }
}
