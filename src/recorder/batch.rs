//! The operations that go into one append, in the form in which they are appended.
//!
//! *Invariants.* The content of a batch continues the history at `first_seq_no` and `first_checksum`, and is
//! only ever appended to until it is sealed. A sealed batch is never changed, lengthened or split: it is resent
//! as it is, or found in the log as it is. Operations recorded together are in one batch.
//!
//! *Does not* know where in the log it will begin: an append that loses its place moves.

use bytes::Bytes;

use super::position::Position;
use crate::completion::Completer;
use crate::error::Error;
use crate::ids::{Checksum, Offset, SeqNo};

/// Operations that wait for the append before theirs.
#[derive(Debug)]
pub(super) struct Batch {
    /// Frames, and the payloads that follow them.
    pub(super) content: Vec<u8>,
    /// Sequence number of the first operation.
    pub(super) first_seq_no: SeqNo,
    /// Checksum of the history before the first operation.
    pub(super) first_checksum: Checksum,
    /// Number of operations.
    pub(super) ops: u64,
    /// Credit to give back.
    pub(super) credit: u64,
    /// The last condition that was there when the batch began; all of them have to be met before it is sent.
    pub(super) after_hold: u64,
    /// Who wants to know.
    pub(super) waiters: Vec<Waiter>,
}

/// A batch that is on its way.
#[derive(Debug)]
pub(super) struct InFlight {
    /// Where it is to begin: the end of what is committed.
    pub(super) at: Offset,
    /// The frozen content.
    pub(super) content: Bytes,
    pub(super) first_seq_no: SeqNo,
    pub(super) first_checksum: Checksum,
    /// The point that is reached when the batch is committed.
    pub(super) next_seq_no: SeqNo,
    pub(super) next_checksum: Checksum,
    pub(super) ops: u64,
    pub(super) credit: u64,
    pub(super) waiters: Vec<Waiter>,
}

/// Who waits for a batch.
pub(super) type Waiter = Completer<Position, Error>;

impl Batch {
    /// Begins a batch in `buffer`.
    pub(super) fn new(buffer: Vec<u8>, first_seq_no: SeqNo, first_checksum: Checksum) -> Self {
        Self {
            content: buffer,
            first_seq_no,
            first_checksum,
            ops: 0,
            credit: 0,
            after_hold: 0,
            waiters: Vec::new(),
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.ops == 0
    }

    /// Seals the batch, which ends where the next operation has these numbers.
    pub(super) fn seal(self, at: Offset, next_seq_no: SeqNo, next_checksum: Checksum) -> InFlight {
        InFlight {
            at,
            content: self.content.into(),
            first_seq_no: self.first_seq_no,
            first_checksum: self.first_checksum,
            next_seq_no,
            next_checksum,
            ops: self.ops,
            credit: self.credit,
            waiters: self.waiters,
        }
    }
}

impl InFlight {
    /// Returns the point that is reached when the batch is committed at [`InFlight::at`].
    pub(super) fn end(&self) -> Position {
        Position {
            offset: self.at.saturating_add(self.content.len() as u64),
            next_seq_no: self.next_seq_no,
            next_checksum: self.next_checksum,
        }
    }
}

/// Takes the memory of a batch back, where the journal has let go of it.
pub(super) fn reclaim(mut content: Bytes) -> Option<Vec<u8>> {
    if !content.is_unique() {
        return None;
    }
    content.truncate(0);
    Some(content.into())
}
