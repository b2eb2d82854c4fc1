//! A journal that is one vector of bytes. It keeps everything: it cannot prune, and says so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use recoverylog::completion::Completion;
use recoverylog::journal::{
    Append, Appended, Capabilities, Chunk, Fragment, Head, Interrupter, Journal, JournalError, JournalReader,
    Journals, ReadRange, ReadStep, RegisterSet,
};
use recoverylog::{Deadline, JournalName, Offset};
use sha1::{Digest, Sha1};

/// A fragment is sealed by the append that makes it this long, or longer.
pub(crate) const FRAGMENT_BYTES: u64 = 4096;

/// Journals by name. Clones are the same place.
#[derive(Clone, Debug, Default)]
pub(crate) struct VecJournals(Arc<Mutex<BTreeMap<JournalName, Arc<VecJournal>>>>);

impl Journals for VecJournals {
    fn open(&self, name: &JournalName) -> Result<Arc<dyn Journal>, JournalError> {
        let mut journals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let created = || Arc::new(VecJournal { name: name.clone(), shared: Arc::default() });
        let journal = journals.entry(name.clone()).or_insert_with(created);
        Ok(Arc::<VecJournal>::clone(journal))
    }

    fn list(&self) -> recoverylog::Result<Vec<JournalName>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect())
    }
}

#[derive(Debug)]
struct VecJournal {
    name: JournalName,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Signalled when bytes are added, and for an interrupt.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    content: Vec<u8>,
    fragments: Vec<Fragment>,
    registers: RegisterSet,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn head(&self) -> Offset {
        Offset::new(self.content.len() as u64).unwrap_or(Offset::MAX)
    }

    fn commit(&mut self, content: &[Bytes]) {
        let begin = self.head();
        if self.fragments.last().is_none_or(|last| last.sum.is_some()) {
            self.fragments.push(Fragment::open(begin, begin));
        }
        self.content.extend(content.iter().flatten());
        let end = self.head();
        let Some(last) = self.fragments.last_mut() else { return };
        last.end = end;
        if end.bytes_since(last.begin) >= FRAGMENT_BYTES {
            let bytes = self.content.get(last.begin.get() as usize..).unwrap_or_default();
            last.sum = Some(Sha1::digest(bytes).into());
            last.modified_unix_secs = Some(0);
        }
    }
}

impl VecJournal {
    fn commit(&self, append: &Append) -> Result<Appended, JournalError> {
        let journal = self.name.clone();
        let has_content = append.content_bytes() > 0;
        let has_changes = !append.union.is_empty() || !append.subtract.is_empty();
        if has_changes && !has_content {
            return Err(JournalError::Invalid { journal, what: "registers change only with content".into() });
        }
        let mut state = self.shared.lock();
        if append.check.as_ref().is_some_and(|check| !check.permits(&state.registers)) {
            return Err(JournalError::RegisterMismatch { journal, registers: state.registers.clone() });
        }
        let begin = state.head();
        if let Some(at) = append.at.filter(|at| *at != begin) {
            return Err(JournalError::WrongOffset { journal, at, head: begin });
        }
        if has_content {
            state.commit(&append.content);
            state.registers = state.registers.subtract(&append.subtract).union(&append.union);
            self.shared.changed.notify_all();
        }
        Ok(Appended::new(begin, state.head(), state.registers.clone()))
    }
}

impl Journal for VecJournal {
    fn name(&self) -> &JournalName {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        let mut can = Capabilities::ALL;
        can.prune = false;
        can
    }

    fn submit(&self, append: Append) -> Completion<Appended, JournalError> {
        Completion::resolved(self.commit(&append))
    }

    fn head(&self, _deadline: Deadline) -> Result<Head, JournalError> {
        let state = self.shared.lock();
        Ok(Head::new(state.head(), state.registers.clone()))
    }

    fn read(&self, range: ReadRange) -> Result<Box<dyn JournalReader>, JournalError> {
        if range.end.is_some_and(|end| end < range.begin) {
            let what = "the range ends before it begins".into();
            return Err(JournalError::Invalid { journal: self.name.clone(), what });
        }
        let (shared, interrupted) = (Arc::clone(&self.shared), Arc::default());
        Ok(Box::new(VecReader { shared, at: range.begin, end: range.end, interrupted }))
    }

    fn fragments(&self, _deadline: Deadline) -> Result<Vec<Fragment>, JournalError> {
        Ok(self.shared.lock().fragments.clone())
    }

    fn prune(&self, _fragments: &[Fragment], _deadline: Deadline) -> Result<(), JournalError> {
        let what = "this journal keeps everything".into();
        Err(JournalError::NotAllowed { journal: self.name.clone(), what })
    }
}

#[derive(Debug)]
struct VecReader {
    shared: Arc<Shared>,
    at: Offset,
    end: Option<Offset>,
    interrupted: Arc<AtomicBool>,
}

impl JournalReader for VecReader {
    fn next(&mut self, deadline: Deadline) -> Result<ReadStep, JournalError> {
        if self.end.is_some_and(|end| end <= self.at) {
            return Ok(ReadStep::End);
        }
        let mut state = self.shared.lock();
        loop {
            if self.interrupted.swap(false, Ordering::SeqCst) {
                return Ok(ReadStep::Interrupted);
            }
            let head = state.head();
            if self.at < head {
                let (offset, end) = (self.at, self.end.map_or(head, |end| end.min(head)));
                let bytes = state.content.get(offset.get() as usize..end.get() as usize).unwrap_or_default();
                let bytes = Bytes::copy_from_slice(bytes);
                self.at = end;
                return Ok(ReadStep::Chunk(Chunk::Bytes { offset, bytes }));
            }
            if deadline.has_passed() {
                return Ok(ReadStep::AtHead { head });
            }
            let woken = self.shared.changed.wait_timeout(state, deadline.remaining());
            (state, _) = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn offset(&self) -> Offset {
        self.at
    }

    fn interrupter(&self) -> Interrupter {
        let (shared, interrupted) = (Arc::clone(&self.shared), Arc::clone(&self.interrupted));
        Interrupter::new(move || {
            // Under the lock, so that a reader which is about to wait is not missed.
            let _state = shared.lock();
            interrupted.store(true, Ordering::SeqCst);
            shared.changed.notify_all();
        })
    }
}
