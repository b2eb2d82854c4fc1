//! A handle on one journal: the [`Journal`] that callers hold.
//!
//! *Invariants.* Dropping the last owner commits what was submitted, and flushes the head.
//!
//! *Does not* do I/O on the thread of a submitter, unless it was opened so.

use std::sync::Arc;
use std::time::Duration;

use super::committer::Committer;
use super::engine::Engine;
use super::group::Pending;
use super::place::Place;
use super::reader::FileReader;
use super::recover::CutTail;
use super::sealing::Sealing;
use super::view::{self, View};
use crate::clock::Deadline;
use crate::completion::{Completion, completion};
use crate::ids::{JournalName, Offset};
use crate::journal::{
    Append, Appended, Capabilities, Fragment, Head, Journal, JournalError, JournalReader, ReadRange,
};
use crate::sync::thread;
use crate::sync::thread::JoinHandle;
use crate::vfs::OpenMode;

/// How long the drop of a journal waits for sealing; what is left is sealed at the next open.
const CLOSE_WAIT: Duration = Duration::from_secs(60);

/// A journal in local files.
#[derive(Debug)]
pub struct FileJournal {
    view: Arc<View>,
    writer: Option<Writer>,
    cut: Option<CutTail>,
}

/// What a handle that takes appends has.
#[derive(Debug)]
pub(super) struct Writer {
    committer: Arc<Committer>,
    thread: Option<JoinHandle<()>>,
    sealing: Arc<Sealing>,
}

impl Writer {
    /// Starts the committer of `engine`, unless the calling threads do its work.
    pub(super) fn new(place: &Place, engine: Engine, inline: bool) -> Result<Self, JournalError> {
        let sealing = engine.sealing();
        let committer = Committer::new(engine);
        let thread = if inline { None } else { Some(committer.spawn(place)?) };
        Ok(Self { committer, thread, sealing })
    }
}

impl FileJournal {
    pub(super) fn new(view: View, writer: Option<Writer>, cut: Option<CutTail>) -> Self {
        Self { view: Arc::new(view), writer, cut }
    }

    /// Returns what this open cut off the end, where it had to recover the journal after another boot; of a journal that
    /// was opened for reading, what it leaves out.
    pub fn cut_tail(&self) -> Option<&CutTail> {
        self.cut.as_ref()
    }

    /// Seals everything and refuses appends from now on, by every process and for ever: the way to hand the directory to a
    /// broker.
    ///
    /// # Errors
    /// After an error other than `NotAllowed` the journal is not retired, and may have to be opened anew.
    pub fn retire(&self) -> Result<(), JournalError> {
        let Some(writer) = &self.writer else {
            return Err(self.view.place.not_allowed("the journal was opened for reading"));
        };
        writer.committer.engine().retire()
    }

    /// Waits until this handle seals nothing.
    fn settle(&self, deadline: Deadline) -> Result<(), JournalError> {
        match &self.writer {
            Some(writer) if !writer.sealing.wait(deadline) => {
                Err(self.view.place.unavailable("a fragment is being sealed"))
            }
            _ => Ok(()),
        }
    }
}

impl Journal for FileJournal {
    fn name(&self) -> &JournalName {
        &self.view.place.journal
    }

    fn capabilities(&self) -> Capabilities {
        match self.writer {
            Some(_) => Capabilities::ALL,
            None => Capabilities { follow: true, ..Capabilities::READ_ONLY },
        }
    }

    fn submit(&self, append: Append) -> Completion<Appended, JournalError> {
        let Some(writer) = &self.writer else {
            return Completion::resolved(Err(self
                .view
                .place
                .not_allowed("the journal was opened for reading")));
        };
        let (completer, completion) = completion();
        let pending = Pending { append, completer };
        if writer.thread.is_some() {
            writer.committer.push(pending);
        } else {
            writer.committer.commit(pending);
        }
        completion
    }

    fn head(&self, _deadline: Deadline) -> Result<Head, JournalError> {
        self.view.head()
    }

    fn read(&self, range: ReadRange) -> Result<Box<dyn JournalReader>, JournalError> {
        range.check(self.name())?;
        Ok(Box::new(FileReader::new(Arc::clone(&self.view), range)))
    }

    fn fragments(&self, deadline: Deadline) -> Result<Vec<Fragment>, JournalError> {
        self.settle(deadline)?;
        let chain = self.view.chain(&self.view.now()?)?;
        let mut fragments = Vec::new();
        for found in view::sealed_files(&self.view.place)? {
            fragments.push(found.fragment);
        }
        let sealed_end = fragments.iter().map(|fragment| fragment.end).max().unwrap_or(Offset::ZERO);
        for link in chain.iter().filter(|link| link.len > 0 && link.end() > sealed_end) {
            let mut fragment = Fragment::open(link.file.header.begin, link.end());
            fragment.stored_bytes = Some(link.len);
            fragments.push(fragment);
        }
        Ok(fragments)
    }

    fn prune(&self, fragments: &[Fragment], deadline: Deadline) -> Result<(), JournalError> {
        let place = &self.view.place;
        if self.writer.is_none() {
            return Err(place.not_allowed("the journal was opened for reading"));
        }
        self.settle(deadline)?;
        let mut stored = view::sealed_files(place)?;
        let head = self.view.now()?.head;
        for fragment in fragments {
            let named = || format!("fragment [{}, {})", fragment.begin, fragment.end);
            if fragment.end == head {
                return Err(place.invalid(format!("{} holds the head and cannot be pruned", named())));
            }
            let Some(index) = stored.iter().position(|found| found.fragment == *fragment) else {
                return Err(place.invalid(format!("{} is not stored", named())));
            };
            place.remove(&stored.remove(index).path)?;
        }
        place.sync_content()
    }
}

impl Drop for FileJournal {
    fn drop(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        writer.committer.close();
        if let Some(thread) = writer.thread {
            // The last owner may be a callback that the thread itself runs.
            if thread.thread().id() != thread::current().id() {
                drop(thread.join());
            }
        }
        writer.sealing.wait(Deadline::after(CLOSE_WAIT));
        // A flushed head vouches for the last commit after the next boot. Without it the commit vouches for itself.
        if let Ok(file) = self.view.place.fs.open(&self.view.place.head_path(), OpenMode::ReadWrite) {
            drop(file.sync_data());
        }
    }
}
