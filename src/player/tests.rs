//! Claims about the hand-off that take a journal of their own.

use std::sync::Mutex;

use super::*;
use crate::completion::Completion;
use crate::ids::{Author, LogPath};
use crate::journal::{
    Append, Appended, Capabilities, Fragment, Head, Interrupter, JournalError, JournalReader, MemoryJournals,
    ReadRange, ReadStep,
};
use crate::recorder::{Recorder, RecorderOptions};
use crate::vfs::MemoryFs;

fn log() -> JournalName {
    JournalName::new("acme/orders").unwrap()
}

fn author(number: u32) -> Author {
    Author::new(number).unwrap()
}

/// Notes the latest deadline that anybody waits for.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn Journal>,
    latest: Arc<Mutex<Option<Deadline>>>,
}

fn note(latest: &Mutex<Option<Deadline>>, deadline: Deadline) {
    let mut latest = latest.lock().unwrap();
    *latest = Some(latest.map_or(deadline, |before| before.max(deadline)));
}

impl Journals for Watched {
    fn open(&self, _name: &JournalName) -> Result<Arc<dyn Journal>, JournalError> {
        Ok(Arc::new(Self { inner: Arc::clone(&self.inner), latest: Arc::clone(&self.latest) }))
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
        self.inner.capabilities()
    }

    fn submit(&self, append: Append) -> Completion<Appended, JournalError> {
        self.inner.submit(append)
    }

    fn append(&self, append: Append, deadline: Deadline) -> Result<Appended, JournalError> {
        note(&self.latest, deadline);
        self.inner.append(append, deadline)
    }

    fn head(&self, deadline: Deadline) -> Result<Head, JournalError> {
        note(&self.latest, deadline);
        self.inner.head(deadline)
    }

    fn read(&self, range: ReadRange) -> Result<Box<dyn JournalReader>, JournalError> {
        let inner = self.inner.read(range)?;
        Ok(Box::new(WatchedReader { inner, latest: Arc::clone(&self.latest) }))
    }

    fn fragments(&self, deadline: Deadline) -> Result<Vec<Fragment>, JournalError> {
        self.inner.fragments(deadline)
    }

    fn prune(&self, fragments: &[Fragment], deadline: Deadline) -> Result<(), JournalError> {
        self.inner.prune(fragments, deadline)
    }
}

#[derive(Debug)]
struct WatchedReader {
    inner: Box<dyn JournalReader>,
    latest: Arc<Mutex<Option<Deadline>>>,
}

impl JournalReader for WatchedReader {
    fn next(&mut self, deadline: Deadline) -> Result<ReadStep, JournalError> {
        note(&self.latest, deadline);
        self.inner.next(deadline)
    }

    fn offset(&self) -> Offset {
        self.inner.offset()
    }

    fn interrupter(&self) -> Interrupter {
        self.inner.interrupter()
    }
}

#[test]
fn a_hand_off_waits_for_no_step_of_the_journal_past_its_own_deadline() {
    // Chunks that are shorter than a payload make the player ask how much is committed.
    let journals = MemoryJournals::new().chunk_bytes_max(7);
    let (inner, latest) = (journals.open(&log()).unwrap(), Arc::default());
    let watched = Watched { inner: Arc::clone(&inner), latest: Arc::clone(&latest) };
    let options = PlayOptions { parallelism: 1, ..PlayOptions::default() };
    let fs = Arc::new(MemoryFs::new());
    let player = Player::new(&watched, &FsmHints::empty(log()), fs, Path::new("/played"), options).unwrap();
    let follower = player.follow().unwrap();

    let recorder =
        Recorder::new(inner, Fsm::new(log()), Offset::ZERO, author(1), RecorderOptions::default()).unwrap();
    let file = recorder.create(&LogPath::from_bytes(b"/file")).unwrap();
    recorder.write(file, 0, &[7; 100]).unwrap();

    let deadline = Deadline::after(Duration::from_secs(5));
    *latest.lock().unwrap() = None;
    drop(follower.promote(author(2), deadline).unwrap());
    assert!(latest.lock().unwrap().unwrap() <= deadline);
}
