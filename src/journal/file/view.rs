//! The view of a journal that readers have: where the head is, which open files lead there, what is sealed.
//!
//! *Invariants.* Nothing here changes a file, except that waiters are woken through the mapped head.
//!
//! *Does not* show a byte above the head.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::head::SharedHead;
use super::layout::HeadWord;
use super::open_file::{Mark, OpenFile};
use super::place::{Place, Sealed, StateName};
use super::recover::Survey;
use super::seal::{self, Link};
use crate::clock::Deadline;
use crate::ids::Offset;
use crate::journal::fragments::index::Index;
use crate::journal::{Fragment, Head, JournalError};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::vfs::OpenMode;

/// The longest a waiter sleeps without a look at a journal that nobody appends to.
const NAP: Duration = Duration::from_secs(1);

/// The view that one handle and its readers share.
#[derive(Debug)]
pub(super) struct View {
    pub(super) place: Place,
    state: Mutex<State>,
    /// Signalled to wake waiters of a journal that stands still.
    woken: Condvar,
}

#[derive(Debug)]
struct State {
    source: Source,
    /// How often waiters were woken while the journal stood still.
    wakes: u64,
    /// The open file that the head named last, and how far its records were followed.
    current: Option<(Arc<OpenFile>, Mark)>,
}

/// Where the head comes from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// From the words that the appenders move.
    Live(SharedHead),
    /// From the files: no process of this boot has opened the journal for appends.
    Still(Arc<Survey>),
}

/// The head at one moment.
#[derive(Clone, Debug)]
pub(super) struct Now {
    pub(super) head: Offset,
    /// Changes when waiters are woken.
    moves: u64,
    /// The head word, and the open file that it names, where the journal is live.
    live: Option<(HeadWord, Arc<OpenFile>)>,
}

impl Now {
    /// Returns the open file that takes appends, as far as it is committed.
    pub(super) fn current(&self) -> Option<Link> {
        self.live.as_ref().map(|(word, file)| Link { file: Arc::clone(file), len: word.len })
    }
}

/// A sealed fragment of the journal and where it lies.
#[derive(Clone, Debug)]
pub(super) struct SealedFile {
    pub(super) sealed: Sealed,
    pub(super) fragment: Fragment,
    pub(super) path: PathBuf,
}

impl View {
    pub(super) fn new(place: Place, source: Source) -> Self {
        Self { place, state: Mutex::new(State { source, wakes: 0, current: None }), woken: Condvar::new() }
    }

    /// Returns where the head is.
    pub(super) fn now(&self) -> Result<Now, JournalError> {
        let mut state = self.lock();
        match state.source.clone() {
            Source::Live(head) => {
                let moves = head.moves();
                let word = self.follow(&mut state, &head)?;
                let Some((file, _)) = &state.current else {
                    return Err(self.place.unavailable("the open file"));
                };
                Ok(Now { head: file.offset(word.len), moves, live: Some((word, Arc::clone(file))) })
            }
            Source::Still(survey) => Ok(Now { head: survey.head, moves: state.wakes, live: None }),
        }
    }

    /// Returns the head with its registers.
    pub(super) fn head(&self) -> Result<Head, JournalError> {
        let mut state = self.lock();
        match state.source.clone() {
            Source::Live(head) => loop {
                let word = self.follow(&mut state, &head)?;
                let Some((file, mark)) = &mut state.current else {
                    return Err(self.place.unavailable("the open file"));
                };
                if file.advance_to(&self.place, mark, (&head, word), false)? {
                    return Ok(Head::new(file.offset(mark.len), mark.registers.clone()));
                }
            },
            Source::Still(survey) => Ok(Head::new(survey.head, survey.registers.clone())),
        }
    }

    /// Checks the content of the open file against its commits.
    pub(super) fn check(&self) -> Result<(), JournalError> {
        let Source::Live(head) = self.lock().source.clone() else { return Ok(()) };
        loop {
            let Some((word, file)) = self.now()?.live else { return Ok(()) };
            if file.advance_to(&self.place, &mut file.start(), (&head, word), true)? {
                return Ok(());
            }
        }
    }

    /// Returns the open files up to `now`, in order of their offsets.
    pub(super) fn chain(&self, now: &Now) -> Result<Vec<Link>, JournalError> {
        if let Some(current) = now.current() {
            let mut chain = seal::predecessors(&self.place, &current.file.header, OpenMode::Read)?;
            chain.push(current);
            return Ok(chain);
        }
        match &self.lock().source {
            Source::Still(survey) => Ok(survey.chain.clone()),
            Source::Live(_) => Ok(Vec::new()),
        }
    }

    /// Sleeps until the head moved or [`View::wake`] was called after `now` was had, or `deadline` passes; may
    /// wake for no reason.
    pub(super) fn wait(&self, now: &Now, deadline: Deadline) {
        let state = self.lock();
        match (&state.source, &now.live) {
            (Source::Live(head), Some(_)) => {
                let head = head.clone();
                drop(state);
                head.wait(now.moves, deadline);
            }
            (Source::Live(_), None) => {}
            (Source::Still(_), _) => {
                let nap = deadline.or_after(NAP).remaining();
                let waited = self.woken.wait_timeout_while(state, nap, |state| state.wakes == now.moves);
                let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
                // Somebody may have opened the journal for appends meanwhile.
                if let Ok(Some(head)) = super::live_head(&self.place, OpenMode::Read) {
                    state.source = Source::Live(head);
                }
            }
        }
    }

    /// Wakes all waiters.
    pub(super) fn wake(&self) {
        let mut state = self.lock();
        state.wakes = state.wakes.wrapping_add(1);
        if let Source::Live(head) = &state.source {
            head.wake();
        }
        self.woken.notify_all();
    }

    /// Moves to the open file that the head word names, and returns the word.
    fn follow(&self, state: &mut State, head: &SharedHead) -> Result<HeadWord, JournalError> {
        loop {
            let word = head.load();
            if state.current.as_ref().is_some_and(|(file, _)| file.header.id == word.file) {
                return Ok(word);
            }
            let file = OpenFile::open_named_by(&self.place, head, OpenMode::Read)?;
            let mark = file.start();
            state.current = Some((Arc::new(file), mark));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lists the sealed fragments, in order of their offsets. What is between its open and its sealed name counts.
pub(super) fn sealed_files(place: &Place) -> Result<Vec<SealedFile>, JournalError> {
    let mut files = Vec::new();
    // In this order: a file that moves from one folder to the other meanwhile is seen in one of them.
    for name in place.state_names()? {
        let StateName::Sealing(sealed) = name else { continue };
        let path = place.sealing_path(sealed);
        let metadata = match place.fs.metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            metadata => metadata.map_err(|error| place.io("listing the fragments", error))?,
        };
        let mut fragment = Fragment::open(sealed.begin, sealed.end);
        fragment.sum = Some(sealed.sum);
        fragment.stored_bytes = Some(sealed.end.bytes_since(sealed.begin));
        fragment.modified_unix_secs = Some(metadata.modified_unix_secs);
        files.push(SealedFile { sealed, fragment, path });
    }
    let index = Index::list(&*place.fs, &place.content, &place.journal)?;
    for entry in index.map(Index::into_entries).unwrap_or_default() {
        let fragment = entry.fragment();
        let sealed =
            Sealed { begin: fragment.begin, end: fragment.end, sum: fragment.sum.unwrap_or_default() };
        files.retain(|file| file.sealed != sealed || file.fragment.codec != fragment.codec);
        files.push(SealedFile { sealed, fragment, path: entry.path });
    }
    files.sort_by_key(|file| (file.sealed.begin, file.sealed.end));
    Ok(files)
}
