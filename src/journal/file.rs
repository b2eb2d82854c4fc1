//! The embedded journal: crash-safe in local files, for several processes of one machine at once.
//!
//! *Invariants.* An append is acknowledged once its content and its commit record are flushed and the shared head
//! is moved past them; no reader sees a byte above the head. What was acknowledged survives the death of any process and
//! of the machine; what was not is there whole or not at all. The layout and the reasons are in `docs/FORMAT.md`.
//!
//! *Does not* work on file systems of other machines, whose locks, flushes and mappings cannot be trusted, and does
//! not replicate. It does not watch files (inotify): the head lives in a mapping, and a store into one raises no event;
//! waiters sleep on the head word itself instead.

mod committer;
mod engine;
mod group;
mod handle;
mod head;
mod layout;
mod open_file;
mod place;
mod reader;
mod recover;
mod seal;
mod sealing;
mod view;
mod write;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::engine::{Engine, Settings};
pub use self::handle::FileJournal;
use self::handle::Writer;
use self::head::SharedHead;
use self::layout::HEAD_WORDS;
use self::place::Place;
pub use self::recover::CutTail;
use self::view::{Source, View};
use super::{Journal, JournalError, Journals, STATE_FOLDER};
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind};
use crate::ids::JournalName;
use crate::sync;
#[cfg(unix)]
use crate::vfs::OsFs;
use crate::vfs::{self, File, FileKind, FileSystem, LockMode, OpenMode};

/// How long an open waits for another process that creates or recovers the same journal.
const OPEN_WAIT: Duration = Duration::from_secs(60);

/// What can be chosen about the journals of a place.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FileJournalOptions {
    /// Content bytes after which a fragment is sealed and another begun; 64 MiB by default. Rounded up to 4 KiB, at
    /// most just under 16 GiB. Fragments of many tiny commits are sealed earlier: one commit for each KiB.
    pub fragment_bytes: u64,
    /// Do all work on the calling threads: no thread is started, and `submit` returns when the append is settled.
    pub inline: bool,
    /// How long a process that has the right to append may stand still while another one waits; then it is
    /// superseded. 50 ms by default; longer where one flush of the disk may take longer.
    pub patience: Duration,
}

impl Default for FileJournalOptions {
    fn default() -> Self {
        Self { fragment_bytes: 64 << 20, inline: false, patience: Duration::from_millis(50) }
    }
}

/// A directory of journals in local files.
///
/// ```no_run
/// use recoverylog::JournalName;
/// use recoverylog::journal::{FileJournals, Journals};
///
/// # fn main() -> recoverylog::Result<()> {
/// let journals = FileJournals::open("/var/lib/journals")?;
/// let journal = journals.open(&JournalName::new("acme/orders-007")?)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FileJournals {
    fs: Arc<dyn FileSystem>,
    root: PathBuf,
    options: FileJournalOptions,
    writes: bool,
}

impl FileJournals {
    /// Opens a directory of the operating system's files, and creates it where it is missing.
    ///
    /// # Errors
    /// `Invalid` on a network file system; `Io`.
    #[cfg(unix)]
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::open_on(Arc::new(OsFs::new()), root, FileJournalOptions::default())
    }

    /// Opens a directory for reading; nothing is ever created in it. Where the directory itself is not writable,
    /// followers look for new bytes once a second.
    ///
    /// # Errors
    /// `Invalid` on a network file system; `Io`, where it is missing for instance.
    #[cfg(unix)]
    pub fn read_only(root: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::read_only_on(Arc::new(OsFs::new()), root)
    }

    /// Opens a directory of any file system, and creates it where it is missing.
    ///
    /// # Errors
    /// As [`FileJournals::open`].
    pub fn open_on(
        fs: Arc<dyn FileSystem>,
        root: impl Into<PathBuf>,
        options: FileJournalOptions,
    ) -> Result<Self, Error> {
        let root = vfs::resolve_named(&*fs, &root.into());
        vfs::create_dir_all_synced(&*fs, &root)
            .map_err(|error| Error::io(format!("creating {}", root.display()), error))?;
        Self::new(fs, root, options, true)
    }

    /// Opens a directory of any file system for reading.
    ///
    /// # Errors
    /// As [`FileJournals::read_only`].
    pub fn read_only_on(fs: Arc<dyn FileSystem>, root: impl Into<PathBuf>) -> Result<Self, Error> {
        let root = vfs::resolve_named(&*fs, &root.into());
        Self::new(fs, root, FileJournalOptions::default(), false)
    }

    fn new(
        fs: Arc<dyn FileSystem>,
        root: PathBuf,
        options: FileJournalOptions,
        writes: bool,
    ) -> Result<Self, Error> {
        let is_network = fs.is_network(&root);
        if is_network.map_err(|error| Error::io(format!("looking at {}", root.display()), error))? {
            let what = format!("{} lies on a network file system", root.display());
            let advice = "keep the journals on a disk of this machine";
            return Err(Error::new(ErrorKind::Invalid, what).advise(advice));
        }
        Ok(Self { fs, root, options, writes })
    }

    /// Opens a journal, as [`Journals::open`] does, with what only a file journal has.
    ///
    /// # Errors
    /// `NotFound` of a read-only place; `NotAllowed` for a retired journal; `Invalid` for a name that is a path prefix
    /// of another journal's, or has one as its prefix; `Corrupt` and `Diverged` for what is found in the files.
    pub fn open_file(&self, name: &JournalName) -> Result<FileJournal, JournalError> {
        let place = Place::new(Arc::clone(&self.fs), &self.root, name);
        if name.as_str().split('/').next() == Some(STATE_FOLDER) {
            return Err(place.invalid(format!("no journal can be named below {STATE_FOLDER}")));
        }
        if self.writes { self.open_to_append(place) } else { open_to_read(place) }
    }

    fn open_to_append(&self, place: Place) -> Result<FileJournal, JournalError> {
        if place.is_retired()? {
            return Err(place.not_allowed("the journal is retired"));
        }
        let mut cut = None;
        let head = if let Some(head) = live_head(&place, OpenMode::ReadWrite)? {
            head
        } else {
            self.create(&place)?;
            let lock = lock_file(&place, &place.lock_path())?;
            let head = match live_head(&place, OpenMode::ReadWrite)? {
                Some(head) => head,
                None => self.recover(&place, &mut cut)?,
            };
            lock.unlock().map_err(|error| place.io("giving a lock back", error))?;
            head
        };
        // Listed before the head is looked at: what is sealed lies below it.
        let sealed = view::sealed_files(&place)?;
        let settings = Settings {
            fragment_bytes: self.options.fragment_bytes,
            inline: self.options.inline,
            patience: self.options.patience,
            boot: place.fs.boot_id().map_err(|error| place.io("asking for the boot id", error))?,
        };
        let mut engine = Engine::attach(place.clone(), head.clone(), settings)?;
        let offset = engine.head()?.offset;
        if let Some(foreign) = sealed.iter().find(|found| found.sealed.end > offset) {
            let what = format!("the fragment {} was stored past the head by somebody else", foreign.sealed);
            return Err(place.diverged(offset, what));
        }
        let writer = Writer::new(&place, engine, self.options.inline)?;
        Ok(FileJournal::new(View::new(place, Source::Live(head)), Some(writer), cut))
    }

    /// Makes the folders of a journal and an empty head, which belongs to no boot.
    fn create(&self, place: &Place) -> Result<(), JournalError> {
        if place.is_file(&place.head_path())? {
            return Ok(());
        }
        let failed = |error| place.io("creating the journal", error);
        let state = self.root.join(STATE_FOLDER);
        vfs::create_dir_all_synced(&*place.fs, &state.join("journals")).map_err(failed)?;
        let lock = lock_file(place, &state.join("lock"))?;
        self.refuse_prefixes(place)?;
        for folder in [&place.content, &place.state] {
            vfs::create_dir_all_synced(&*place.fs, folder).map_err(failed)?;
            vfs::sync_parents(&*place.fs, folder, &self.root).map_err(failed)?;
        }
        let made = || {
            place.fs.open(&place.lock_path(), OpenMode::Create)?;
            place.fs.open(&place.head_path(), OpenMode::Create)?.sync_all()?;
            place.fs.sync_dir(&place.state)
        };
        made().map_err(failed)?;
        lock.unlock().map_err(failed)
    }

    fn refuse_prefixes(&self, place: &Place) -> Result<(), JournalError> {
        let journals = self.root.join(STATE_FOLDER).join("journals");
        let name = Path::new(place.journal.as_str());
        for prefix in name.ancestors().skip(1).filter(|prefix| !prefix.as_os_str().is_empty()) {
            if place.is_file(&journals.join(prefix).join("head"))? {
                let what = format!("there is a journal {}, which is a prefix of this name", prefix.display());
                return Err(place.invalid(what));
            }
        }
        let below = match place.fs.read_dir(&place.state) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            below => below.map_err(|error| place.io("looking for journals below", error))?,
        };
        if below.iter().any(|entry| entry.kind == FileKind::Directory) {
            return Err(place.invalid("the name is a prefix of another journal's"));
        }
        Ok(())
    }

    fn recover(&self, place: &Place, cut: &mut Option<CutTail>) -> Result<SharedHead, JournalError> {
        let failed = |error| place.io("mapping the head", error);
        let file = place.fs.open(&place.head_path(), OpenMode::ReadWrite).map_err(failed)?;
        let head = SharedHead::new(file.map_shared(HEAD_WORDS).map_err(failed)?);
        let boot = place.fs.boot_id().map_err(failed)?;
        let list = || Ok(view::sealed_files(place)?.into_iter().map(|found| found.sealed).collect());
        if head.has_lost_names(boot) {
            return Err(place.names_lost());
        }
        let recovered = recover::recover(place, &head, boot, self.options.fragment_bytes, list);
        if place.has_lost_names() {
            head.lose_names(boot);
        }
        *cut = recovered?;
        Ok(head)
    }
}

impl Journals for FileJournals {
    fn open(&self, name: &JournalName) -> Result<Arc<dyn Journal>, JournalError> {
        Ok(Arc::new(self.open_file(name)?))
    }

    fn list(&self) -> Result<Vec<JournalName>, Error> {
        let mut names = Vec::new();
        let journals = self.root.join(STATE_FOLDER).join("journals");
        let mut folders = vec![(journals, String::new())];
        while let Some((folder, prefix)) = folders.pop() {
            let entries = match self.fs.read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => {
                    entries.map_err(|error| Error::io(format!("listing {}", folder.display()), error))?
                }
            };
            let is_of_journal = |name: &Path| {
                name == Path::new("head") || name.extension().is_some_and(|extension| extension == "open")
            };
            let mut of_journals = entries.iter().filter(|entry| is_of_journal(Path::new(&entry.name)));
            if of_journals.any(|entry| entry.kind == FileKind::File) {
                names.extend(JournalName::new(&prefix));
                continue;
            }
            for entry in entries.iter().filter(|entry| entry.kind == FileKind::Directory) {
                let Some(part) = entry.name.to_str() else { continue };
                let below = if prefix.is_empty() { part.into() } else { format!("{prefix}/{part}") };
                folders.push((folder.join(part), below));
            }
        }
        names.sort();
        Ok(names)
    }
}

/// Maps the head of a journal, where it belongs to this boot.
fn live_head(place: &Place, mode: OpenMode) -> Result<Option<SharedHead>, JournalError> {
    let boot = place.fs.boot_id().map_err(|error| place.io("asking for the boot id", error))?;
    Ok(any_head(place, mode)?.filter(|head| head.is_of_boot(boot)))
}

/// Maps the head of a journal, whichever boot it belongs to.
fn any_head(place: &Place, mode: OpenMode) -> Result<Option<SharedHead>, JournalError> {
    let failed = |error| place.io("mapping the head", error);
    if !place.is_file(&place.head_path())? {
        return Ok(None);
    }
    let file = match place.fs.open(&place.head_path(), OpenMode::ReadWrite) {
        Err(error)
            if mode == OpenMode::Read
                && matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
        {
            let file = place.fs.open(&place.head_path(), OpenMode::Read);
            let file = file.map_err(|error| place.io("reading the head", error))?;
            return Ok(Some(SharedHead::polled(file, HEAD_WORDS)));
        }
        file => file.map_err(failed)?,
    };
    // A shorter one was never started, and a mapping would extend it.
    if file.metadata().map_err(failed)?.len < (HEAD_WORDS * size_of::<u64>()) as u64 {
        return Ok(None);
    }
    Ok(Some(SharedHead::new(file.map_shared(HEAD_WORDS).map_err(failed)?)))
}

fn open_to_read(place: Place) -> Result<FileJournal, JournalError> {
    // Where only the head is gone, the records say what is there.
    if !place.is_file(&place.head_path())? && place.open_ids()?.is_empty() {
        return Err(JournalError::NotFound { journal: place.journal });
    }
    let boot = place.fs.boot_id().map_err(|error| place.io("asking for the boot id", error))?;
    let head = any_head(&place, OpenMode::Read)?;
    let (source, cut) = match head {
        Some(head) if head.is_of_boot(boot) => (Source::Live(head), None),
        head => {
            let sealed = view::sealed_files(&place)?.into_iter().map(|found| found.sealed);
            let sealed = sealed.collect::<Vec<_>>();
            let witness = head.and_then(|head| head.witness());
            let survey = recover::survey(&place, witness, &sealed, OpenMode::Read)?;
            let cut = survey.cut.clone();
            (Source::Still(Arc::new(survey)), cut)
        }
    };
    let view = View::new(place, source);
    view.check()?;
    Ok(FileJournal::new(view, None, cut))
}

/// Opens and locks a file, waiting for whoever holds it.
fn lock_file(place: &Place, path: &Path) -> Result<Arc<dyn File>, JournalError> {
    let failed = |error| place.io(format!("locking {}", path.display()), error);
    let file = place.fs.open(path, OpenMode::Create).map_err(failed)?;
    let deadline = Deadline::after(OPEN_WAIT);
    while !file.try_lock(LockMode::Exclusive).map_err(failed)? {
        if deadline.has_passed() {
            return Err(place.unavailable(format!("another process holds {}", path.display())));
        }
        // The holder may be another process, which cannot be waited for otherwise.
        sync::pause(Duration::from_millis(2));
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
