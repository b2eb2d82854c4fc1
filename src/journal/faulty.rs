//! A journal that fails where a test wants it to.
//!
//! *Invariants.* Every submission has a number, and every call that reads has one. Equal seeds and equal calls
//! give equal faults. Completions resolve in the order of submissions, whatever is held back. What the journal
//! inside committed is never taken back.
//!
//! *Does not* fail [`Journal::prune`] and [`Journal::fragments`].

mod outbox;
mod plan;
mod reader;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError};

use self::outbox::Outbox;
pub use self::plan::{AppendFault, ReadFault};
use self::plan::{Late, Random, State};
use self::reader::FaultyReader;
use super::{
    Append, Appended, Capabilities, Fragment, Head, Journal, JournalError, JournalReader, Journals,
    MemoryJournal, MemoryJournals, ReadRange,
};
use crate::clock::Deadline;
use crate::completion::{Completion, completion};
use crate::error::Error;
use crate::ids::{JournalName, Offset};
use crate::prng::SplitMix64;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// A journal that fails where a test wants it to, in front of one that does not.
///
/// ```
/// use std::sync::Arc;
/// use recoverylog::journal::{Append, AppendFault, FaultyJournal, Journal, JournalError, MemoryJournals};
/// use recoverylog::{Deadline, JournalName, Offset};
///
/// let memory = MemoryJournals::new().journal(&JournalName::new("acme/orders").unwrap());
/// let journal = FaultyJournal::in_memory(memory);
/// journal.fail_append(0, AppendFault::UnknownCommitted);
///
/// let append = Append::new(&b"content"[..]).at(Offset::ZERO);
/// let ambiguous = journal.append(append.clone(), Deadline::passed());
/// assert!(matches!(ambiguous, Err(JournalError::Unknown { .. })));
/// // It did commit: the same append finds the head beyond its offset.
/// let again = journal.append(append, Deadline::passed());
/// assert!(matches!(again, Err(JournalError::WrongOffset { head, .. }) if head.get() == 7));
/// ```
pub struct FaultyJournal {
    inner: Arc<dyn Journal>,
    /// The journal inside, where its registers can be damaged.
    memory: Option<Arc<MemoryJournal>>,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Signalled when stalled reads are released or interrupted.
    released: Condvar,
    outbox: Outbox,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FaultyJournal {
    /// Puts faults before `inner`; none happens until it is asked for.
    pub fn new(inner: Arc<dyn Journal>) -> Arc<Self> {
        Self::with(inner, None)
    }

    /// Puts faults before a journal in memory, those of its registers included.
    pub fn in_memory(inner: Arc<MemoryJournal>) -> Arc<Self> {
        Self::with(Arc::clone(&inner) as Arc<dyn Journal>, Some(inner))
    }

    fn with(inner: Arc<dyn Journal>, memory: Option<Arc<MemoryJournal>>) -> Arc<Self> {
        let shared = Shared { state: Mutex::default(), released: Condvar::new(), outbox: Outbox::default() };
        Arc::new(Self { inner, memory, shared: Arc::new(shared) })
    }

    /// Returns the journal inside.
    pub fn inner(&self) -> &Arc<dyn Journal> {
        &self.inner
    }

    /// Plans a fault for the append with this number, zero being the next one.
    pub fn fail_append(&self, number: u64, fault: AppendFault) {
        let mut state = self.shared.lock();
        let number = state.appends.saturating_add(number);
        state.append_faults.insert(number, fault);
    }

    /// Plans a fault for the reading call with this number, zero being the next one.
    pub fn fail_read(&self, number: u64, fault: ReadFault) {
        let mut state = self.shared.lock();
        let number = state.reads.saturating_add(number);
        state.read_faults.insert(number, fault);
    }

    /// Makes one append and one reading call in so many fail, on average; zero stands for never.
    ///
    /// All kinds of append faults are equally likely. Reads fail, they do not stall.
    pub fn fail_randomly(&self, seed: u64, appends_per_fault: u64, reads_per_fault: u64) {
        let never = |times: u64| if times == 0 { u64::MAX } else { times };
        self.shared.lock().random = Some(Random {
            numbers: SplitMix64::new(seed),
            appends_per_fault: never(appends_per_fault),
            reads_per_fault: never(reads_per_fault),
        });
    }

    /// Ends all faults that are planned. Late copies stay under way, and held answers are given.
    pub fn heal(&self) {
        let mut state = self.shared.lock();
        state.random = None;
        state.append_faults.clear();
        state.read_faults.clear();
        drop(state);
        self.release_answers();
        self.release_reads();
    }

    /// Lets all copies arrive that are still under way, in the order of their submission. Returns how many of
    /// them committed before `deadline`.
    pub fn release_late(&self, deadline: Deadline) -> usize {
        let late = std::mem::take(&mut self.shared.lock().late);
        let arrived = late.into_iter().map(|late| self.inner.append(late.append, deadline));
        arrived.flatten().count()
    }

    /// Gives all answers that are held back.
    pub fn release_answers(&self) {
        self.shared.outbox.release();
    }

    /// Holds back every answer from now on, also of appends without a fault, until
    /// [`FaultyJournal::release_answers`].
    pub fn hold_answers(&self) {
        self.shared.outbox.hold();
    }

    /// Lets all reads go on that are stalled.
    pub fn release_reads(&self) {
        self.shared.lock().read_releases += 1;
        self.shared.released.notify_all();
    }

    /// Returns how often each kind of fault happened.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.shared.lock().counts.clone()
    }

    fn unknown(&self, at: Option<Offset>) -> JournalError {
        JournalError::Unknown { journal: self.name().clone(), at, what: "injected".into() }
    }

    /// Gives the answer of the journal inside, and keeps what it says of the registers.
    fn answer(&self, slot: u64, answer: Completion<Appended, JournalError>) {
        let shared = Arc::clone(&self.shared);
        answer.on_ready(move |result| {
            match &result {
                Ok(Appended { registers, .. }) | Err(JournalError::RegisterMismatch { registers, .. }) => {
                    shared.lock().registers.saw(registers);
                }
                Err(_) => {}
            }
            shared.outbox.fill(slot, result);
        });
    }

    fn damage_registers(&self, fault: AppendFault) {
        let Some(memory) = &self.memory else { return };
        match fault {
            AppendFault::RegistersLost => memory.lose_registers(),
            AppendFault::RegistersSetBack => {
                let before_last = self.shared.lock().registers.before_last.clone();
                memory.set_registers(before_last);
            }
            _ => {}
        }
    }
}

impl Journal for FaultyJournal {
    fn name(&self) -> &JournalName {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn submit(&self, append: Append) -> Completion<Appended, JournalError> {
        let (due, fault) = {
            let mut state = self.shared.lock();
            (state.due_copies(), state.draw_append_fault(self.memory.is_some()))
        };
        for copy in due {
            drop(self.inner.submit(copy));
        }
        let (completer, answer) = completion();
        let slot = self.shared.outbox.push(completer, fault == Some(AppendFault::Delayed));
        let unknown = Err(self.unknown(append.at));
        match fault {
            Some(AppendFault::Refused) => self.shared.outbox.fill(slot, Err(unavailable(self.name()))),
            Some(AppendFault::UnknownLost) => self.shared.outbox.fill(slot, unknown),
            Some(AppendFault::UnknownLate { after }) => {
                let mut state = self.shared.lock();
                let before = after.map(|after| state.appends.saturating_add(after));
                state.late.push(Late { before, append });
                drop(state);
                self.shared.outbox.fill(slot, unknown);
            }
            Some(AppendFault::UnknownCommitted) => {
                let shared = Arc::clone(&self.shared);
                self.inner.submit(append).on_ready(move |_| shared.outbox.fill(slot, unknown));
            }
            Some(AppendFault::Duplicated) => {
                let first = self.inner.submit(append.clone());
                drop(self.inner.submit(append));
                self.answer(slot, first);
            }
            Some(fault @ (AppendFault::RegistersLost | AppendFault::RegistersSetBack)) => {
                self.damage_registers(fault);
                self.answer(slot, self.inner.submit(append));
            }
            None | Some(AppendFault::Delayed) => self.answer(slot, self.inner.submit(append)),
        }
        answer
    }

    fn head(&self, deadline: Deadline) -> Result<Head, JournalError> {
        match self.shared.lock().draw_read_fault(false) {
            Some(_) => Err(unavailable(self.name())),
            None => self.inner.head(deadline),
        }
    }

    fn read(&self, range: ReadRange) -> Result<Box<dyn JournalReader>, JournalError> {
        if self.shared.lock().draw_read_fault(false).is_some() {
            return Err(unavailable(self.name()));
        }
        let inner = self.inner.read(range)?;
        Ok(Box::new(FaultyReader::new(inner, self.name().clone(), Arc::clone(&self.shared))))
    }

    fn fragments(&self, deadline: Deadline) -> Result<Vec<Fragment>, JournalError> {
        self.inner.fragments(deadline)
    }

    fn prune(&self, fragments: &[Fragment], deadline: Deadline) -> Result<(), JournalError> {
        self.inner.prune(fragments, deadline)
    }
}

impl fmt::Debug for FaultyJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyJournal").field("inner", &self.inner).finish_non_exhaustive()
    }
}

fn unavailable(journal: &JournalName) -> JournalError {
    JournalError::Unavailable { journal: journal.clone(), what: "injected".into() }
}

/// Journals in memory, each behind faults.
#[derive(Debug)]
pub struct FaultyJournals {
    inner: MemoryJournals,
    journals: Mutex<BTreeMap<JournalName, Arc<FaultyJournal>>>,
}

impl FaultyJournals {
    /// Puts faults before every journal of `inner`; none happens until it is asked for.
    pub fn new(inner: MemoryJournals) -> Self {
        Self { inner, journals: Mutex::default() }
    }

    /// Returns the journals inside.
    pub fn inner(&self) -> &MemoryJournals {
        &self.inner
    }

    /// Returns the journal `name`, to plan its faults.
    pub fn journal(&self, name: &JournalName) -> Arc<FaultyJournal> {
        let mut journals = self.journals.lock().unwrap_or_else(PoisonError::into_inner);
        let journal = journals.entry(name.clone());
        Arc::clone(journal.or_insert_with(|| FaultyJournal::in_memory(self.inner.journal(name))))
    }
}

impl Journals for FaultyJournals {
    fn open(&self, name: &JournalName) -> Result<Arc<dyn Journal>, JournalError> {
        Ok(self.journal(name))
    }

    fn list(&self) -> Result<Vec<JournalName>, Error> {
        self.inner.list()
    }
}
