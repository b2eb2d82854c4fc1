//! A journal that notes how long anybody waits for it, and lets a test act while somebody looks at its head.

use std::collections::VecDeque;
use std::fmt;

use super::*;

type Act = Box<dyn FnOnce() + Send>;

/// What is known of a journal's users.
#[derive(Default)]
pub(super) struct Watch {
    notes: Mutex<Notes>,
    meanwhile: Mutex<VecDeque<Act>>,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Notes {
    /// The latest deadline that anybody waited for.
    pub(super) latest: Option<Deadline>,
    /// How often somebody found nothing behind the head.
    pub(super) looks: u32,
    /// How often there was still time to wait for more.
    pub(super) waits: u32,
}

impl Watch {
    /// Begins to count, and returns what was noted.
    pub(super) fn take(&self) -> Notes {
        std::mem::take(&mut *self.notes.lock().unwrap())
    }

    /// Does `act` when somebody finds nothing behind the head; the next act waits for the next time.
    pub(super) fn at_head(&self, act: impl FnOnce() + Send + 'static) {
        self.meanwhile.lock().unwrap().push_back(Box::new(act));
    }

    fn note(&self, deadline: Deadline) {
        let mut notes = self.notes.lock().unwrap();
        notes.latest = notes.latest.max(Some(deadline));
    }

    fn looked(&self, deadline: Deadline) {
        let mut notes = self.notes.lock().unwrap();
        notes.looks += 1;
        notes.waits += u32::from(!deadline.has_passed());
        drop(notes);
        let act = self.meanwhile.lock().unwrap().pop_front();
        if let Some(act) = act {
            act();
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

/// A journal that is watched.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    inner: Arc<crate::journal::MemoryJournal>,
    /// Whether a reader can wait for what is not yet appended.
    follow: bool,
    watch: Arc<Watch>,
}

impl Watched {
    pub(super) fn new(journals: &MemoryJournals, follow: bool) -> (Self, Arc<Watch>) {
        let watch = Arc::<Watch>::default();
        (Self { inner: journals.journal(&log()), follow, watch: Arc::clone(&watch) }, watch)
    }
}

impl Journals for Watched {
    fn open(&self, _name: &JournalName) -> Result<Arc<dyn Journal>, JournalError> {
        Ok(Arc::new(self.clone()))
    }

    fn list(&self) -> Result<Vec<JournalName>> {
        Ok(vec![log()])
    }
}

impl Journal for Watched {
    fn name(&self) -> &JournalName {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { follow: self.follow, ..self.inner.capabilities() }
    }

    fn submit(&self, append: Append) -> Completion<Appended, JournalError> {
        self.inner.submit(append)
    }

    fn append(&self, append: Append, deadline: Deadline) -> Result<Appended, JournalError> {
        self.watch.note(deadline);
        self.inner.append(append, deadline)
    }

    fn head(&self, deadline: Deadline) -> Result<Head, JournalError> {
        self.watch.note(deadline);
        self.inner.head(deadline)
    }

    fn read(&self, range: ReadRange) -> Result<Box<dyn JournalReader>, JournalError> {
        let inner = self.inner.read(range)?;
        Ok(Box::new(WatchedReader { inner, follow: self.follow, watch: Arc::clone(&self.watch) }))
    }

    fn fragments(&self, deadline: Deadline) -> Result<Vec<Fragment>, JournalError> {
        self.watch.note(deadline);
        self.inner.fragments(deadline)
    }

    fn prune(&self, fragments: &[Fragment], deadline: Deadline) -> Result<(), JournalError> {
        self.inner.prune(fragments, deadline)
    }
}

#[derive(Debug)]
struct WatchedReader {
    inner: Box<dyn JournalReader>,
    follow: bool,
    watch: Arc<Watch>,
}

impl JournalReader for WatchedReader {
    fn next(&mut self, deadline: Deadline) -> Result<ReadStep, JournalError> {
        self.watch.note(deadline);
        let step = self.inner.next(Deadline::passed())?;
        let ReadStep::AtHead { .. } = step else { return Ok(step) };
        self.watch.looked(deadline);
        if self.follow { self.inner.next(deadline) } else { Ok(step) }
    }

    fn offset(&self) -> Offset {
        self.inner.offset()
    }

    fn interrupter(&self) -> Interrupter {
        self.inner.interrupter()
    }
}
