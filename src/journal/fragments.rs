//! A read-only journal over a folder of stored fragments, as a Gazette broker or a sealed `FileJournal` left it.
//!
//! *Invariants.* Nothing is created, changed or locked, so the folder may lie on a read-only medium. Content is
//! handed out only as its fragment's name describes it: of that length, and of that SHA-1 where a whole
//! fragment was read.
//!
//! *Does not* tell of itself that a fragment was stored: the folder is listed when a journal is opened, when its
//! head is asked for, and by a reader that comes to the head. A fragment must get its name once it is whole, by a
//! rename, as brokers and `FileJournal` do it; and after those before it.
//!
//! A journal's fragments lie at `ROOT/<journal name>/[postfix/]begin-end-sum.ext`. As a broker does, a folder's
//! listing descends into all folders below it, whose path is then the postfix of the fragments there. A journal
//! whose name goes on where another's ends is told apart by its first fragment: where a journal's own folder
//! holds one, folders below that hold one too are journals of their own. Once such a fragment was pruned they
//! cannot be told apart; a broker never can. `ROOT/.recoverylog` is not listed.

pub(super) mod codec;
pub(super) mod index;
mod name;
pub(super) mod reader;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

pub use self::name::{FragmentName, InvalidFragmentName};
use crate::sync::Mutex;

use self::index::Index;
use self::reader::FragmentReader;
use super::{
    Append, Appended, Capabilities, Fragment, Head, Journal, JournalError, JournalReader, Journals,
    ReadRange, RegisterSet, STATE_FOLDER,
};
use crate::clock::Deadline;
use crate::completion::Completion;
use crate::error::{Error, ErrorKind};
use crate::ids::JournalName;
use crate::vfs::{FileKind, FileSystem, resolve_named};

/// Read-only journals over a folder of stored fragments.
#[derive(Debug)]
pub struct FragmentJournals {
    fs: Arc<dyn FileSystem>,
    root: PathBuf,
    options: Options,
}

#[derive(Clone, Copy, Debug)]
struct Options {
    verify_sums: bool,
    file_chunks: bool,
}

impl FragmentJournals {
    /// Opens the folder `root`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where `root` is no folder, [`ErrorKind::Io`] where it cannot be read.
    pub fn open(fs: Arc<dyn FileSystem>, root: impl Into<PathBuf>) -> Result<Self, Error> {
        let root = resolve_named(&*fs, &root.into());
        if let Err(error) = fs.read_dir(&root) {
            let what = format!("reading the folder of journals {}", root.display());
            return Err(match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                    Error::new(ErrorKind::Invalid, what).with_source(error)
                }
                _ => Error::io(what, error),
            });
        }
        Ok(Self { fs, root, options: Options { verify_sums: true, file_chunks: false } })
    }

    /// Says whether a fragment's SHA-1 is checked where all of it is read; it is, unless said otherwise.
    ///
    /// The check costs a core about a second per gigabyte. A player needs it only for ranges that no other
    /// checksum covers.
    #[must_use]
    pub fn verify_sums(mut self, verify: bool) -> Self {
        self.options.verify_sums = verify;
        self
    }

    /// Says whether raw fragments are handed out as [`Chunk::File`], unread and therefore with their length
    /// checked but not their SHA-1; they are not, unless said otherwise.
    ///
    /// [`Chunk::File`]: super::Chunk::File
    #[must_use]
    pub fn file_chunks(mut self, files: bool) -> Self {
        self.options.file_chunks = files;
        self
    }

    /// Lists the fragments of a journal.
    ///
    /// # Errors
    /// [`JournalError::NotFound`] where there is no such folder; [`JournalError::Invalid`] where it holds
    /// several journals and is none; [`JournalError::Diverged`] where two fragments of one range differ.
    pub fn journal(&self, name: &JournalName) -> Result<FragmentJournal, JournalError> {
        let place = Place {
            fs: Arc::clone(&self.fs),
            folder: self.root.join(name.as_str()),
            journal: name.clone(),
            options: self.options,
        };
        let index = Mutex::new(Arc::new(place.list()?));
        Ok(FragmentJournal { place: Arc::new(place), index })
    }
}

impl Journals for FragmentJournals {
    fn open(&self, name: &JournalName) -> Result<Arc<dyn Journal>, JournalError> {
        Ok(Arc::new(self.journal(name)?))
    }

    /// Lists the topmost folders that hold fragments.
    fn list(&self) -> Result<Vec<JournalName>, Error> {
        let mut journals = Vec::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            let path = self.root.join(&folder);
            let entries = match self.fs.read_dir(&path) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.is_empty() => continue,
                Err(error) => return Err(Error::io(format!("reading {}", path.display()), error)),
            };
            let is_fragment = |name: &str| name.parse::<FragmentName>().is_ok();
            let files = entries.iter().filter(|entry| entry.kind == FileKind::File);
            if files.filter_map(|entry| entry.name.to_str()).any(is_fragment) {
                journals.extend(JournalName::new(&folder).ok());
                continue;
            }
            let below = entries.iter().filter(|entry| entry.kind == FileKind::Directory);
            let below = below.filter_map(|entry| entry.name.to_str());
            if folder.is_empty() {
                folders.extend(below.filter(|&name| name != STATE_FOLDER).map(str::to_owned));
            } else {
                folders.extend(below.map(|name| format!("{folder}/{name}")));
            }
        }
        journals.sort();
        Ok(journals)
    }
}

/// A read-only journal over its stored fragments, as they were when its folder was listed last.
pub struct FragmentJournal {
    place: Arc<Place>,
    index: Mutex<Arc<Index>>,
}

/// Where a journal's fragments lie.
#[derive(Debug)]
struct Place {
    fs: Arc<dyn FileSystem>,
    folder: PathBuf,
    journal: JournalName,
    options: Options,
}

impl Place {
    fn list(&self) -> Result<Index, JournalError> {
        Index::list(&*self.fs, &self.folder, &self.journal)?
            .ok_or_else(|| JournalError::NotFound { journal: self.journal.clone() })
    }

    fn io(&self, doing: &str, path: &Path, source: io::Error) -> JournalError {
        let what = format!("{doing} {}", path.display());
        JournalError::Io { journal: self.journal.clone(), what, source: Arc::new(source) }
    }
}

impl FragmentJournal {
    /// Returns the number of files below the journal's folder that are no fragments.
    pub fn ignored_files(&self) -> u64 {
        self.index().ignored_files
    }

    fn index(&self) -> Arc<Index> {
        Arc::clone(&self.index.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn not_allowed(&self) -> JournalError {
        JournalError::NotAllowed {
            journal: self.place.journal.clone(),
            what: "a folder of stored fragments is read-only".into(),
        }
    }
}

impl Journal for FragmentJournal {
    fn name(&self) -> &JournalName {
        &self.place.journal
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::READ_ONLY
    }

    fn submit(&self, _append: Append) -> Completion<Appended, JournalError> {
        Completion::resolved(Err(self.not_allowed()))
    }

    /// Lists the folder, and returns the end of the fragment that reaches furthest.
    fn head(&self, _deadline: Deadline) -> Result<Head, JournalError> {
        let listed = Arc::new(self.place.list()?);
        let head = Head::new(listed.head, RegisterSet::EMPTY);
        *self.index.lock().unwrap_or_else(PoisonError::into_inner) = listed;
        Ok(head)
    }

    /// Opens a reader. It never waits: what it asks of local files ends when they answer.
    fn read(&self, range: ReadRange) -> Result<Box<dyn JournalReader>, JournalError> {
        range.check(&self.place.journal)?;
        Ok(Box::new(FragmentReader::new(Arc::clone(&self.place), self.index(), range)))
    }

    /// Lists the fragments, without empty ones; ranges overlap where they do in the folder.
    fn fragments(&self, _deadline: Deadline) -> Result<Vec<Fragment>, JournalError> {
        Ok(self.index().fragments())
    }

    fn prune(&self, _fragments: &[Fragment], _deadline: Deadline) -> Result<(), JournalError> {
        Err(self.not_allowed())
    }
}

impl fmt::Debug for FragmentJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FragmentJournal")
            .field("folder", &self.place.folder)
            .field("head", &self.index().head)
            .finish_non_exhaustive()
    }
}
