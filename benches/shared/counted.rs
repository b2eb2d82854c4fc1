//! Journals that count the bytes that are read out of them.
//!
//! *Invariants.* A byte counts each time that a reader hands it out, whether its caller looks at it or not.
//!
//! *Does not* store anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use recoverylog::completion::Completion;
use recoverylog::journal::{
    Append, Appended, Capabilities, Chunk, Fragment, Head, Interrupter, Journal, JournalError, JournalReader,
    Journals, MemoryJournals, ReadRange, ReadStep,
};
use recoverylog::{Deadline, Error, JournalName, Offset};

/// Journals in memory, and how many bytes were read.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) journals: MemoryJournals,
    read: Arc<AtomicU64>,
}

#[derive(Debug)]
struct CountedJournal(Arc<dyn Journal>, Arc<AtomicU64>);

#[derive(Debug)]
struct CountedReader(Box<dyn JournalReader>, Arc<AtomicU64>);

impl Counted {
    /// Returns the bytes that were read since the last call.
    pub(crate) fn take_read(&self) -> u64 {
        self.read.swap(0, Ordering::Relaxed)
    }
}

impl Journals for Counted {
    fn open(&self, name: &JournalName) -> Result<Arc<dyn Journal>, JournalError> {
        Ok(Arc::new(CountedJournal(self.journals.open(name)?, Arc::clone(&self.read))))
    }

    fn list(&self) -> Result<Vec<JournalName>, Error> {
        self.journals.list()
    }
}

impl Journal for CountedJournal {
    fn name(&self) -> &JournalName {
        self.0.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn submit(&self, append: Append) -> Completion<Appended, JournalError> {
        self.0.submit(append)
    }

    fn head(&self, deadline: Deadline) -> Result<Head, JournalError> {
        self.0.head(deadline)
    }

    fn read(&self, range: ReadRange) -> Result<Box<dyn JournalReader>, JournalError> {
        Ok(Box::new(CountedReader(self.0.read(range)?, Arc::clone(&self.1))))
    }

    fn fragments(&self, deadline: Deadline) -> Result<Vec<Fragment>, JournalError> {
        self.0.fragments(deadline)
    }

    fn prune(&self, fragments: &[Fragment], deadline: Deadline) -> Result<(), JournalError> {
        self.0.prune(fragments, deadline)
    }
}

impl JournalReader for CountedReader {
    fn next(&mut self, deadline: Deadline) -> Result<ReadStep, JournalError> {
        let step = self.0.next(deadline)?;
        if let ReadStep::Chunk(chunk) = &step {
            let bytes = match chunk {
                Chunk::Bytes { bytes, .. } => bytes.len() as u64,
                Chunk::File { len, .. } => *len,
            };
            self.1.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(step)
    }

    fn offset(&self) -> Offset {
        self.0.offset()
    }

    fn interrupter(&self) -> Interrupter {
        self.0.interrupter()
    }
}
