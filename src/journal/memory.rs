//! A journal in memory, with every capability: for tests, examples and simulations.
//!
//! *Invariants.* An append commits within `submit`, under one lock, so submissions commit in the order in which
//! they were made. A fragment rolls at the first append after its limit; the last fragment holds the head. All
//! journals that were opened by one name from one [`MemoryJournals`] are the same journal.
//!
//! *Does not* survive its process. The methods that damage a journal on purpose are aids for tests.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use bytes::{Bytes, BytesMut};
use sha1::{Digest, Sha1};

use super::{
    Append, Appended, Capabilities, Chunk, Fragment, Head, Interrupter, Journal, JournalError, JournalReader,
    Journals, ReadRange, ReadStep, RegisterSet,
};
use crate::clock::{Clock, Deadline, SystemClock};
use crate::completion::Completion;
use crate::error::Error;
use crate::ids::{JournalName, Offset};
use crate::sync::{Condvar, Mutex, MutexGuard};

/// Journals in memory, by name; each is created when it is first opened.
#[derive(Debug)]
pub struct MemoryJournals {
    journals: Mutex<BTreeMap<JournalName, Arc<MemoryJournal>>>,
    limits: Limits,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    fragment_bytes: u64,
    chunk_bytes_max: usize,
}

impl MemoryJournals {
    /// Makes a place without journals: fragments roll at 64 MiB, chunks are as large as appends were.
    pub fn new() -> Self {
        let limits = Limits { fragment_bytes: 64 << 20, chunk_bytes_max: usize::MAX };
        Self { journals: Mutex::default(), limits }
    }

    /// Makes fragments roll at the first append after they hold `bytes`.
    #[must_use]
    pub fn fragment_bytes(mut self, bytes: u64) -> Self {
        self.limits.fragment_bytes = bytes;
        self
    }

    /// Makes readers hand out chunks of at most `bytes`, and at least one byte.
    #[must_use]
    pub fn chunk_bytes_max(mut self, bytes: usize) -> Self {
        self.limits.chunk_bytes_max = bytes.max(1);
        self
    }

    /// Returns the journal `name` with its test aids.
    pub fn journal(&self, name: &JournalName) -> Arc<MemoryJournal> {
        let mut journals = self.journals.lock().unwrap_or_else(PoisonError::into_inner);
        match journals.entry(name.clone()) {
            Entry::Occupied(there) => Arc::clone(there.get()),
            Entry::Vacant(free) => {
                let shared = Arc::new(Shared { state: Mutex::default(), moved: Condvar::new() });
                let journal = MemoryJournal { name: name.clone(), limits: self.limits, shared };
                Arc::clone(free.insert(Arc::new(journal)))
            }
        }
    }
}

impl Default for MemoryJournals {
    fn default() -> Self {
        Self::new()
    }
}

impl Journals for MemoryJournals {
    fn open(&self, name: &JournalName) -> Result<Arc<dyn Journal>, JournalError> {
        Ok(self.journal(name))
    }

    fn list(&self) -> Result<Vec<JournalName>, Error> {
        let journals = self.journals.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(journals.keys().cloned().collect())
    }
}

/// A journal in memory.
pub struct MemoryJournal {
    name: JournalName,
    limits: Limits,
    shared: Arc<Shared>,
}

/// What the journal and its readers share.
struct Shared {
    state: Mutex<State>,
    /// Signalled when the head moves or a reader is interrupted.
    moved: Condvar,
}

#[derive(Default)]
struct State {
    /// Content by the offset of its first byte, each within one fragment; what is missing below the head was
    /// pruned or dropped.
    pieces: BTreeMap<u64, Bytes>,
    /// Sorted; the last one is open and ends at the head.
    fragments: Vec<Fragment>,
    head: Offset,
    registers: RegisterSet,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn commit(&mut self, content: Vec<Bytes>, end: Offset, limits: Limits) {
        // The last fragment does not reach the head where a test aid dropped the one that did.
        let open = |last: &Fragment| {
            last.end == self.head && last.end.bytes_since(last.begin) < limits.fragment_bytes
        };
        if !self.fragments.last().is_some_and(open) {
            self.seal_last();
            self.fragments.push(Fragment::open(self.head, self.head));
        }
        let mut at = self.head.get();
        for piece in content.into_iter().filter(|piece| !piece.is_empty()) {
            let len = piece.len() as u64;
            self.pieces.insert(at, piece);
            at += len;
        }
        if let Some(last) = self.fragments.last_mut() {
            last.end = end;
            last.stored_bytes = Some(last.end.bytes_since(last.begin));
        }
        self.head = end;
    }

    fn seal_last(&mut self) {
        let Some(last) = self.fragments.last_mut().filter(|last| last.sum.is_none()) else { return };
        let mut sum = Sha1::new();
        for piece in self.pieces.range(last.begin.get()..last.end.get()).map(|(_, piece)| piece) {
            sum.update(piece);
        }
        last.sum = Some(sum.finalize().into());
        last.modified_unix_secs = Some(SystemClock.unix_nanos() / 1_000_000_000);
    }

    /// Removes a fragment and the content in its range.
    fn remove(&mut self, index: usize) {
        let fragment = self.fragments.remove(index);
        self.pieces.retain(|&at, _| at < fragment.begin.get() || at >= fragment.end.get());
    }

    /// Returns the piece that holds `offset`, and where it begins.
    fn piece_at(&self, offset: u64) -> Option<(u64, &Bytes)> {
        let (&begin, piece) = self.pieces.range(..=offset).next_back()?;
        (offset - begin < piece.len() as u64).then_some((begin, piece))
    }
}

impl MemoryJournal {
    fn invalid(&self, what: impl Into<String>) -> JournalError {
        JournalError::Invalid { journal: self.name.clone(), what: what.into() }
    }

    fn commit(&self, append: Append) -> Result<Appended, JournalError> {
        let bytes = append.content_bytes();
        if bytes == 0 && !(append.union.is_empty() && append.subtract.is_empty()) {
            return Err(self.invalid("an append that changes registers needs content"));
        }
        let mut state = self.shared.lock();
        if append.check.as_ref().is_some_and(|check| !check.permits(&state.registers)) {
            let registers = state.registers.clone();
            return Err(JournalError::RegisterMismatch { journal: self.name.clone(), registers });
        }
        let begin = state.head;
        if let Some(at) = append.at.filter(|&at| at != begin) {
            return Err(JournalError::WrongOffset { journal: self.name.clone(), at, head: begin });
        }
        let Some(end) = begin.checked_add(bytes) else {
            return Err(self.invalid(format!("{bytes} bytes at {begin} end past the largest offset")));
        };
        if bytes > 0 {
            state.commit(append.content, end, self.limits);
            state.registers = state.registers.subtract(&append.subtract).union(&append.union);
            self.shared.moved.notify_all();
        }
        Ok(Appended::new(begin, end, state.registers.clone()))
    }

    /// Test aid: forgets the registers, as a cluster of brokers does that was restarted as a whole.
    pub fn lose_registers(&self) {
        self.shared.lock().registers = RegisterSet::EMPTY;
    }

    /// Test aid: sets the registers, for instance back to what they were before a hand-off.
    pub fn set_registers(&self, registers: RegisterSet) {
        self.shared.lock().registers = registers;
    }

    /// Test aid: flips bits of the byte at `offset`; false where no byte is stored there.
    pub fn corrupt_byte(&self, offset: Offset, flip: u8) -> bool {
        let mut state = self.shared.lock();
        let Some((begin, piece)) = state.piece_at(offset.get()) else { return false };
        let mut changed = BytesMut::from(&piece[..]);
        if let Some(byte) = changed.get_mut((offset.get() - begin) as usize) {
            *byte ^= flip;
        }
        state.pieces.insert(begin, changed.freeze());
        true
    }

    /// Test aid: loses the fragment that holds `offset`, wherever it lies; false where there is none.
    pub fn drop_fragment(&self, offset: Offset) -> bool {
        let mut state = self.shared.lock();
        let holds = |fragment: &Fragment| fragment.begin <= offset && offset < fragment.end;
        let Some(index) = state.fragments.iter().position(holds) else { return false };
        state.remove(index);
        true
    }

    /// Test aid: loses every byte from `offset` on and sets the head there; later appends continue at it.
    pub fn truncate(&self, offset: Offset) {
        let mut state = self.shared.lock();
        if offset >= state.head {
            return;
        }
        state.head = offset;
        state.fragments.retain(|fragment| fragment.begin < offset);
        if let Some(last) = state.fragments.last_mut().filter(|last| last.end > offset) {
            *last = Fragment::open(last.begin, offset);
            last.stored_bytes = Some(offset.bytes_since(last.begin));
        }
        drop(state.pieces.split_off(&offset.get()));
        if let Some(mut last) = state.pieces.last_entry() {
            let keep = (offset.get() - last.key()).min(last.get().len() as u64) as usize;
            last.get_mut().truncate(keep);
        }
    }
}

impl Journal for MemoryJournal {
    fn name(&self) -> &JournalName {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    fn submit(&self, append: Append) -> Completion<Appended, JournalError> {
        Completion::resolved(self.commit(append))
    }

    fn head(&self, _deadline: Deadline) -> Result<Head, JournalError> {
        let state = self.shared.lock();
        Ok(Head::new(state.head, state.registers.clone()))
    }

    fn read(&self, range: ReadRange) -> Result<Box<dyn JournalReader>, JournalError> {
        range.check(&self.name)?;
        Ok(Box::new(MemoryReader {
            shared: Arc::clone(&self.shared),
            offset: range.begin,
            end: range.end,
            chunk_bytes_max: self.limits.chunk_bytes_max,
            interrupted: Arc::default(),
        }))
    }

    fn fragments(&self, _deadline: Deadline) -> Result<Vec<Fragment>, JournalError> {
        Ok(self.shared.lock().fragments.clone())
    }

    fn prune(&self, fragments: &[Fragment], _deadline: Deadline) -> Result<(), JournalError> {
        let mut state = self.shared.lock();
        for fragment in fragments {
            let named = || format!("fragment [{}, {})", fragment.begin, fragment.end);
            if fragment.end == state.head {
                return Err(self.invalid(format!("{} holds the head and cannot be pruned", named())));
            }
            let Some(index) = state.fragments.iter().position(|stored| stored == fragment) else {
                return Err(self.invalid(format!("{} is not stored", named())));
            };
            state.remove(index);
        }
        Ok(())
    }
}

impl fmt::Debug for MemoryJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryJournal").field("name", &self.name).finish_non_exhaustive()
    }
}

struct MemoryReader {
    shared: Arc<Shared>,
    offset: Offset,
    end: Option<Offset>,
    chunk_bytes_max: usize,
    interrupted: Arc<AtomicBool>,
}

impl MemoryReader {
    /// Returns what is known of the next offset without waiting; `None` at the head.
    fn step(&self, state: &State) -> Option<ReadStep> {
        let limit = self.end.unwrap_or(Offset::MAX);
        if self.end.is_some_and(|end| self.offset >= end) {
            return Some(ReadStep::End);
        }
        if self.offset >= state.head {
            return None;
        }
        let at = self.offset.get();
        if let Some((begin, piece)) = state.piece_at(at) {
            let bytes = piece.slice((at - begin) as usize..);
            let len = limit.bytes_since(self.offset).min(bytes.len().min(self.chunk_bytes_max) as u64);
            let bytes = bytes.slice(..len as usize);
            return Some(ReadStep::Chunk(Chunk::Bytes { offset: self.offset, bytes }));
        }
        let next = state.pieces.range(at..).next().and_then(|(&next, _)| Offset::new(next));
        let to = next.unwrap_or(state.head).min(limit);
        Some(ReadStep::Jump { from: self.offset, to })
    }
}

impl JournalReader for MemoryReader {
    fn next(&mut self, deadline: Deadline) -> Result<ReadStep, JournalError> {
        let mut state = self.shared.lock();
        loop {
            if let Some(step) = self.step(&state) {
                match &step {
                    ReadStep::Chunk(chunk) => self.offset = self.offset.saturating_add(chunk.len()),
                    ReadStep::Jump { to, .. } => self.offset = *to,
                    _ => {}
                }
                return Ok(step);
            }
            if self.interrupted.swap(false, Ordering::Relaxed) {
                return Ok(ReadStep::Interrupted);
            }
            let remaining = deadline.remaining();
            if remaining.is_zero() {
                return Ok(ReadStep::AtHead { head: state.head });
            }
            let waited = self.shared.moved.wait_timeout(state, remaining);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn offset(&self) -> Offset {
        self.offset
    }

    fn interrupter(&self) -> Interrupter {
        let (shared, interrupted) = (Arc::clone(&self.shared), Arc::clone(&self.interrupted));
        Interrupter::new(move || {
            // Set under the lock, or a reader between its look at the flag and its wait would miss it.
            let state = shared.lock();
            interrupted.store(true, Ordering::Relaxed);
            drop(state);
            shared.moved.notify_all();
        })
    }
}

impl fmt::Debug for MemoryReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryReader")
            .field("offset", &self.offset)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Register;

    fn journals() -> (MemoryJournals, Arc<MemoryJournal>) {
        let journals = MemoryJournals::new().fragment_bytes(4);
        let journal = journals.journal(&JournalName::new("acme/orders").unwrap());
        (journals, journal)
    }

    fn append(journal: &MemoryJournal, content: &'static [u8]) -> Appended {
        journal.append(Append::new(content), Deadline::passed()).unwrap()
    }

    fn at(offset: u64) -> Offset {
        Offset::new(offset).unwrap()
    }

    /// Reads to the head: bytes as they are, one `.` for each missing byte.
    fn read(journal: &MemoryJournal) -> String {
        let mut reader = journal.read(ReadRange::follow(Offset::ZERO)).unwrap();
        let mut found = String::new();
        loop {
            match reader.next(Deadline::passed()).unwrap() {
                ReadStep::Chunk(Chunk::Bytes { bytes, .. }) => found += std::str::from_utf8(&bytes).unwrap(),
                ReadStep::Jump { from, to } => found += &".".repeat(to.bytes_since(from) as usize),
                ReadStep::AtHead { .. } => return found,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn two_opens_of_one_name_share_one_journal() {
        let (journals, journal) = journals();
        append(&journal, b"hello");
        let again = journals.open(journal.name()).unwrap();
        assert_eq!(again.head(Deadline::passed()).unwrap().offset, at(5));
        assert_eq!(journals.list().unwrap(), [journal.name().clone()]);
    }

    #[test]
    fn sums_are_those_of_the_content_and_the_last_fragment_stays_open() {
        let (_, journal) = journals();
        for content in [&b"he"[..], b"llo", b"again"] {
            append(&journal, content);
        }
        let fragments = journal.fragments(Deadline::passed()).unwrap();
        let ranges = fragments.iter().map(|f| (f.begin.get(), f.end.get())).collect::<Vec<_>>();
        assert_eq!(ranges, [(0, 5), (5, 10)]);
        assert_eq!(fragments[0].sum, Some(Sha1::digest(b"hello").into()));
        assert!(fragments[0].modified_unix_secs.is_some());
        assert_eq!((fragments[1].sum, fragments[1].modified_unix_secs), (None, None));
    }

    #[test]
    fn aids_of_tests_damage_exactly_what_they_name() {
        let (_, journal) = journals();
        for content in [&b"hello"[..], b"again", b"world"] {
            append(&journal, content);
        }
        assert!(journal.corrupt_byte(at(1), b'e' ^ b'a'));
        assert!(!journal.corrupt_byte(at(15), 1));
        assert!(journal.drop_fragment(at(7)));
        assert!(!journal.drop_fragment(at(7)));
        assert_eq!(read(&journal), "hallo.....world");
        journal.truncate(at(12));
        assert_eq!(read(&journal), "hallo.....wo");
        journal.truncate(at(8));
        assert_eq!(read(&journal), "hallo...");
        append(&journal, b"!");
        assert_eq!(read(&journal), "hallo...!");
        assert!(journal.drop_fragment(at(8)));
        append(&journal, b"?");
        assert_eq!(read(&journal), "hallo....?");
    }

    #[test]
    fn registers_can_be_lost_and_set_back() {
        let (_, journal) = journals();
        let set = RegisterSet::from_iter([Register::new("author", "a")]);
        journal.set_registers(set.clone());
        assert_eq!(journal.head(Deadline::passed()).unwrap().registers, set);
        journal.lose_registers();
        assert!(journal.head(Deadline::passed()).unwrap().registers.is_empty());
    }
}
