//! Adapters: storage engines whose files are recorded.
//!
//! Each adapter is a feature of its own, and speaks an engine's language on one side and
//! [`crate::vfs::FileSystem`] on the other: over a [`crate::RecordedFs`] it records, over a plain file system it
//! is the engine as it always was.
//!
//! *Invariants.* What every adapter guarantees:
//!
//! - *Order.* The engine's changes reach the file system in the order in which the engine made them. Nothing is
//!   held back, merged or reordered.
//! - *Barrier.* What the engine takes for its sync is a sync of the file system, and returns success only after
//!   that one has. An engine acknowledges nothing else.
//! - *Latch.* After the first failure of the recorder, every later call that would change something fails. Where an
//!   engine has no such latch of its own, the first call that failed locally does the same, whatever the engine makes
//!   of it: one that goes on after a failed write or read would record a state that it never had.
//! - *Whole calls.* Where the engine takes one read or write for all of it, it is all of it.
//! - *Places.* Whatever the engine calls its directory, its files are in the recorded one.
//!
//! *Does not* choose when an engine acknowledges: that is its user's part, who waits for the barrier. An adapter
//! does not repair or tune an engine either; it documents which options are safe.

#[cfg(feature = "leveldb")]
pub mod leveldb;
#[cfg(feature = "rocksdb")]
pub mod rocksdb;
