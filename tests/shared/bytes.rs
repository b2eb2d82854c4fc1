//! The bytes of a journal.
//!
//! *Invariants.* All of them, in order, or the test ends.
//!
//! *Does not* know of operations.

use recoverylog::journal::{Journal, ReadRange, ReadStep};
use recoverylog::{Deadline, Offset};

/// Reads a journal from `begin` to its head.
pub(crate) fn from(journal: &dyn Journal, begin: Offset) -> Vec<u8> {
    let soon = Deadline::after(std::time::Duration::from_secs(20));
    let head = journal.head(soon).unwrap().offset;
    let mut reader = journal.read(ReadRange::bounded(begin, head)).unwrap();
    let mut bytes = Vec::new();
    while let ReadStep::Chunk(chunk) = reader.next(soon).unwrap() {
        let begin = bytes.len();
        bytes.resize(begin + chunk.len() as usize, 0);
        chunk.read_exact_at(&mut bytes[begin..], 0).unwrap();
    }
    bytes
}
