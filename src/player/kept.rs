//! What a directory is known to hold, kept in a file of its own, so that a later play goes on from there.
//!
//! *Invariants.* The state file describes a point at which everything was applied. Whatever changes one of its files
//! afterwards is noted before it does, and so is each new name: a file that is not noted is as it was at that point. A
//! state that was not made durable counts in the boot in which it was made, and in no other. What cannot be read is as
//! if it were not there.
//!
//! *Does not* change the directory (`staging`, `adopt`), or know whether the log still agrees (`resume`).

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;

use super::staging::{INCOMPLETE, Tree, checked, mark};
use crate::error::{Error, ErrorKind, Result};
use crate::fsm::{Fsm, SavedFsm};
use crate::ids::{Fnode, LogPath, RESERVED, SeqNo};
use crate::vfs::{File, FileKind, FileSystem, LockMode, Metadata, OpenMode, resolve_named};

/// Beneath the root.
const STATE: &str = ".recoverylog/STATE";
const STATE_NEW: &str = ".recoverylog/STATE.new";
const LOCK: &str = ".recoverylog/LOCK";
const CHANGED: &str = ".recoverylog/CHANGED-";
/// The form of the state file; another one is not read.
const VERSION: u32 = 1;
/// The largest state file, and the largest list of changes, that are read.
const FILE_BYTES_MAX: u64 = 2 << 30;

/// Bytes with their checksum.
#[derive(Clone, PartialEq, Message)]
struct Checked {
    #[prost(fixed32, tag = "1")]
    crc32c: u32,
    #[prost(bytes = "vec", tag = "2")]
    content: Vec<u8>,
}

/// The content of the state file.
#[derive(Clone, PartialEq, Message)]
struct SavedState {
    #[prost(uint32, tag = "1")]
    version: u32,
    /// Empty where the system does not tell.
    #[prost(bytes = "vec", tag = "2")]
    boot_id: Vec<u8>,
    /// Everything below was made durable before the state was.
    #[prost(bool, tag = "3")]
    is_durable: bool,
    #[prost(uint64, tag = "4")]
    generation: u64,
    /// Not there while nothing was played to its end.
    #[prost(message, optional, tag = "5")]
    fsm: Option<SavedFsm>,
    #[prost(message, repeated, tag = "6")]
    stamps: Vec<SavedStamp>,
    /// Files that are no part of the history, such as those that an engine does not record.
    #[prost(bytes = "vec", repeated, tag = "7")]
    others: Vec<Vec<u8>>,
    /// What this directory is going to replace.
    #[prost(message, optional, tag = "8")]
    aside: Option<SavedAside>,
}

#[derive(Clone, PartialEq, Message)]
struct SavedStamp {
    #[prost(int64, tag = "1")]
    fnode: i64,
    #[prost(uint64, tag = "2")]
    inode: u64,
    #[prost(uint64, tag = "3")]
    len: u64,
    #[prost(sint64, tag = "4")]
    modified_unix_secs: i64,
    #[prost(uint32, tag = "5")]
    modified_nanos: u32,
    #[prost(uint64, tag = "6")]
    links: u64,
}

/// A directory that was put aside.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SavedAside {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) path: Vec<u8>,
    /// What was created there.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(super) names: Vec<Vec<u8>>,
    /// Why it was not gone on from.
    #[prost(string, tag = "3")]
    pub(super) reason: String,
}

/// Something that is about to change.
#[derive(Clone, PartialEq, Message)]
struct SavedChange {
    /// A file of the state.
    #[prost(int64, optional, tag = "1")]
    fnode: Option<i64>,
    /// A name that is created.
    #[prost(bytes = "vec", optional, tag = "2")]
    name: Option<Vec<u8>>,
}

/// What tells a file that was not touched from one that was, without reading it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Stamp {
    inode: u64,
    len: u64,
    modified: (i64, u32),
    /// One that has names elsewhere is not to be written to.
    links: u64,
}

impl Stamp {
    pub(super) fn of(found: &Metadata) -> Option<Self> {
        let modified = (found.modified_unix_secs, found.modified_nanos);
        let Metadata { kind, inode, len, links, .. } = *found;
        (kind == FileKind::File).then_some(Self { inode, len, modified, links })
    }
}

/// What is known of a directory that is there.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The state, where it can be gone on from.
    pub(super) fsm: Option<Box<Fsm>>,
    /// Why there is none; `None` where nothing was played to its end.
    pub(super) unfit: Option<Error>,
    /// Of each file, how it was.
    pub(super) stamps: Vec<(Fnode, Stamp)>,
    /// Files that may have been changed since.
    pub(super) changed: BTreeSet<Fnode>,
    /// Names that may have been created since, and those of the state.
    pub(super) names: BTreeSet<LogPath>,
    /// Names that were there, and are no part of the history. What has come to them since was put there by others; or it was
    /// created here, and a machine that was started anew has lost the note of that.
    pub(super) others: BTreeSet<LogPath>,
    /// What the directory is going to replace.
    pub(super) aside: Option<SavedAside>,
    generation: u64,
    /// Bytes of the list of changes.
    noted_bytes: u64,
    /// Checksum of the state file.
    crc32c: u32,
}

/// Makes the error of two options that exclude each other.
pub(crate) fn without_live_map() -> Error {
    let what = "a state cannot be kept without a live map";
    Error::new(ErrorKind::Invalid, what).advise("leave one of the two options away")
}

/// Looks whether a play has left a state in `directory`.
///
/// # Errors
/// What the file system says.
pub(super) fn look(fs: &dyn FileSystem, directory: &Path) -> Result<Option<Kept>> {
    let Some(root) = open_root(fs, &resolve_named(fs, directory))? else { return Ok(None) };
    let bytes = match read_file(&*root, Path::new(STATE))? {
        Some(bytes) => bytes,
        None if is_begun(&*root)? => return Ok(Some(Kept::default())),
        None => return Ok(None),
    };
    let unfit = |why: &'static str| {
        let what = format!("the state of {} cannot be used: {why}", directory.display());
        Some(Error::new(ErrorKind::Invalid, what))
    };
    let mut kept = Kept { crc32c: crc32c::crc32c(&bytes), ..Kept::default() };
    let Some(saved) = unpacked(&bytes).and_then(|content| SavedState::decode(content.as_slice()).ok()) else {
        kept.unfit = unfit("it is damaged");
        return Ok(Some(kept));
    };
    if saved.version != VERSION {
        kept.unfit = unfit("it is of another version");
        return Ok(Some(kept));
    }
    (kept.generation, kept.aside) = (saved.generation, saved.aside);
    kept.read_changes(&*root)?;
    let boot_id = root.boot_id().map_or_else(|_| Vec::new(), Vec::from);
    let is_same_boot = !boot_id.is_empty() && saved.boot_id == boot_id;
    let Some(fsm) = saved.fsm else { return Ok(Some(kept)) };
    let Some(fsm) = Fsm::of_saved(fsm) else {
        kept.unfit = unfit("it describes no history");
        return Ok(Some(kept));
    };
    kept.names.extend(fsm.links().map(|(path, _)| path.clone()));
    kept.names.extend(fsm.properties().map(|(path, _)| path.clone()));
    kept.stamps = saved.stamps.iter().map(SavedStamp::to_stamp).collect();
    kept.others = saved.others.iter().map(|name| LogPath::from_bytes(name)).collect();
    if saved.is_durable || is_same_boot {
        kept.fsm = Some(Box::new(fsm));
    } else {
        kept.unfit = unfit("the machine was started anew since, and it was not made durable before");
    }
    Ok(Some(kept))
}

/// Tells whether a directory holds nothing but what a play puts there before it keeps its first state.
fn is_begun(root: &dyn FileSystem) -> Result<bool> {
    let list = |path: &Path| root.read_dir(path).map_err(|error| failed("listing the directory", error));
    let at_root = list(Path::new(""))?;
    let only_reserved =
        matches!(at_root.as_slice(), [entry] if entry.name == RESERVED && entry.kind == FileKind::Directory);
    if !only_reserved {
        return Ok(false);
    }
    let is_ours = |name: &OsStr| {
        is_own(&Path::new(RESERVED).join(name)) || Path::new(RESERVED).join(name) == Path::new(INCOMPLETE)
    };
    Ok(list(Path::new(RESERVED))?.iter().all(|entry| is_ours(&entry.name)))
}

impl Kept {
    /// Tells whether the directory has ever been whole, as far as is known.
    pub(super) fn was_whole(&self) -> bool {
        self.unfit.is_some() || !self.stamps.is_empty() || self.fsm.is_some()
    }

    /// Reads what was noted since the state was kept, as far as that is whole.
    fn read_changes(&mut self, root: &dyn FileSystem) -> Result<()> {
        let Some(bytes) = read_file(root, &changes_path(self.generation))? else { return Ok(()) };
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let change = Checked::decode_length_delimited(&mut rest)
                .ok()
                .and_then(Checked::checked)
                .and_then(|content| SavedChange::decode(content.as_slice()).ok());
            // What comes behind a note that was not written to its end was not done.
            let Some(SavedChange { fnode, name }) = change else { break };
            self.changed.extend(fnode.map(|fnode| Fnode::new(SeqNo::new(fnode))));
            self.names.extend(name.map(|name| LogPath::from_bytes(&name)));
            self.noted_bytes = (bytes.len() - rest.len()) as u64;
        }
        Ok(())
    }
}

impl SavedStamp {
    fn to_stamp(&self) -> (Fnode, Stamp) {
        let modified = (self.modified_unix_secs, self.modified_nanos);
        let Self { fnode, inode, len, links, .. } = *self;
        (Fnode::new(SeqNo::new(fnode)), Stamp { inode, len, modified, links })
    }
}

impl Checked {
    fn of(content: Vec<u8>) -> Self {
        Self { crc32c: crc32c::crc32c(&content), content }
    }

    fn checked(self) -> Option<Vec<u8>> {
        (crc32c::crc32c(&self.content) == self.crc32c).then_some(self.content)
    }
}

/// Keeps a state up to date with a directory, while it is changed.
#[derive(Debug)]
pub(super) struct Notes {
    root: Arc<dyn FileSystem>,
    /// Held while the directory is changed.
    lock: Arc<dyn File>,
    is_durable: bool,
    generation: u64,
    /// Files that are as the state says.
    clean: BTreeSet<Fnode>,
    /// What is noted goes there; opened with the first note.
    file: Option<Arc<dyn File>>,
    at: u64,
    /// What the directory is going to replace, as long as that is there.
    pub(super) aside: Option<SavedAside>,
}

impl Notes {
    /// Takes the directory `root`, which is `at`, for this process.
    ///
    /// # Errors
    /// `Invalid` where another one has it.
    pub(super) fn begin(root: &Arc<dyn FileSystem>, at: &Path, is_durable: bool) -> Result<Self> {
        let failed = |error| Error::io(format!("locking {} failed", at.join(LOCK).display()), error);
        let lock = root.open(Path::new(LOCK), OpenMode::Create).map_err(failed)?;
        if !lock.try_lock(LockMode::Exclusive).map_err(failed)? {
            let what = format!("another recovery is at work in {}", at.display());
            return Err(Error::new(ErrorKind::Invalid, what).advise("wait for it, or name another directory"));
        }
        let root = Arc::clone(root);
        let clean = BTreeSet::new();
        Ok(Self { root, lock, is_durable, generation: 0, clean, file: None, at: 0, aside: None })
    }

    /// Checks that the directory still is as `kept` tells, now that nobody else is at work there.
    ///
    /// # Errors
    /// `Invalid` where somebody was; `Io`.
    pub(super) fn check(&self, kept: &Kept) -> Result<()> {
        let state = read_file(&*self.root, Path::new(STATE))?.unwrap_or_default();
        let noted =
            read_file(&*self.root, &changes_path(kept.generation))?.map_or(0, |noted| noted.len() as u64);
        let is_locked = self.root.metadata(Path::new(LOCK)).ok().map(|found| found.inode)
            == self.lock.metadata().ok().map(|found| found.inode);
        let was_empty = kept.crc32c == 0 && state.is_empty();
        if is_locked && noted >= kept.noted_bytes && (was_empty || crc32c::crc32c(&state) == kept.crc32c) {
            return Ok(());
        }
        let what = "another recovery was at work in the directory";
        Err(Error::new(ErrorKind::Invalid, what).advise("try again, or name another directory"))
    }

    /// Goes on with a state, of which the files `clean` are as it says.
    pub(super) fn go_on(&mut self, kept: &Kept, clean: BTreeSet<Fnode>) {
        (self.generation, self.at, self.clean) = (kept.generation, kept.noted_bytes, clean);
        self.aside.clone_from(&kept.aside);
    }

    /// Notes that a name is about to be created.
    pub(super) fn name(&mut self, path: &LogPath) -> Result<()> {
        let name = Some(path.as_bytes().to_vec());
        self.note(&SavedChange { fnode: None, name }).map(drop)
    }

    /// Notes that a file is about to be changed.
    pub(super) fn change(&mut self, fnode: Fnode) -> Result<()> {
        if !self.clean.remove(&fnode) {
            return Ok(());
        }
        let file = self.note(&SavedChange { fnode: Some(fnode.get()), name: None })?;
        if self.is_durable {
            file.sync_data().map_err(|error| failed("making a note durable", error))?;
        }
        Ok(())
    }

    fn note(&mut self, change: &SavedChange) -> Result<Arc<dyn File>> {
        let bytes = Checked::of(change.encode_to_vec()).encode_length_delimited_to_vec();
        let file = if let Some(file) = &self.file {
            Arc::clone(file)
        } else {
            let opened = self.root.open(&changes_path(self.generation), OpenMode::Create);
            let file = opened.map_err(|error| failed("opening the notes", error))?;
            if self.is_durable {
                self.root
                    .sync_dir(Path::new(RESERVED))
                    .map_err(|error| failed("making the notes durable", error))?;
            }
            self.file = Some(Arc::clone(&file));
            file
        };
        file.write_all_at(&bytes, self.at).map_err(|error| failed("noting a change", error))?;
        self.at += bytes.len() as u64;
        Ok(file)
    }

    /// Keeps the state `fsm` of the directory, where it is whole.
    ///
    /// # Errors
    /// `Invalid` without a live map; `Io`. The state that was kept before counts then.
    pub(super) fn save(&mut self, fsm: Option<&Fsm>) -> Result<()> {
        let (mut saved, mut stamped, mut others) = (None, Vec::new(), Vec::new());
        if let Some(fsm) = fsm {
            saved = Some(fsm.to_saved().ok_or_else(without_live_map)?);
            stamped = stamps(&*self.root, fsm)?;
            others = names_of_others(&*self.root, fsm)?;
        }
        self.save_all(saved, stamped, others)
    }

    fn save_all(
        &mut self,
        fsm: Option<SavedFsm>,
        stamps: Vec<(Fnode, Stamp)>,
        others: Vec<Vec<u8>>,
    ) -> Result<()> {
        let clean = stamps.iter().map(|(fnode, _)| *fnode).collect();
        let to_saved = |(fnode, stamp): (Fnode, Stamp)| SavedStamp {
            fnode: fnode.get(),
            inode: stamp.inode,
            len: stamp.len,
            modified_unix_secs: stamp.modified.0,
            modified_nanos: stamp.modified.1,
            links: stamp.links,
        };
        let state = SavedState {
            version: VERSION,
            boot_id: self.root.boot_id().map_or_else(|_| Vec::new(), Vec::from),
            is_durable: self.is_durable,
            generation: self.generation + 1,
            fsm,
            stamps: stamps.into_iter().map(to_saved).collect(),
            others,
            aside: self.aside.clone(),
        };
        let bytes = Checked::of(state.encode_to_vec()).encode_to_vec();
        self.write(&bytes).map_err(|error| failed("keeping the state", error))?;
        // It counts for nothing any more, and if it is never removed either.
        drop(self.root.remove_file(&changes_path(self.generation)));
        (self.generation, self.clean, self.file, self.at) = (self.generation + 1, clean, None, 0);
        Ok(())
    }

    /// Puts a state in the place of the one before.
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        // One of a generation that did not come about would be taken for this one's.
        match self.root.remove_file(&changes_path(self.generation + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.root.open(Path::new(STATE_NEW), OpenMode::Truncate)?;
        file.write_all_at(bytes, 0)?;
        if self.is_durable {
            self.root.sync_tree(Path::new(""))?;
            file.sync_all()?;
        }
        drop(file);
        self.root.rename(Path::new(STATE_NEW), Path::new(STATE))?;
        if self.is_durable {
            self.root.sync_dir(Path::new(RESERVED))?;
        }
        Ok(())
    }

    /// Tells whether there is a state.
    pub(super) fn has_state(&self) -> bool {
        self.root.metadata(Path::new(STATE)).is_ok()
    }

    /// Removes the state, durably: from here on somebody else changes the directory.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn forget(&self) -> Result<()> {
        remove_state(&*self.root).map_err(|error| failed("removing the state", error))
    }

    /// Removes the state and the lock, and lets go of the directory.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn end(self) -> Result<()> {
        let removed = remove_state(&*self.root).and_then(|()| gone(self.root.remove_file(Path::new(LOCK))));
        drop(self.lock);
        removed.map_err(|error| failed("removing the state", error))
    }
}

/// Removes what this module has put into a directory but the lock; the state first, and durably.
fn remove_state(root: &dyn FileSystem) -> io::Result<()> {
    gone(root.remove_file(Path::new(STATE)))?;
    root.sync_dir(Path::new(RESERVED))?;
    for entry in root.read_dir(Path::new(RESERVED))? {
        let path = Path::new(RESERVED).join(&entry.name);
        if is_own(&path) && path != Path::new(LOCK) {
            gone(root.remove_file(&path))?;
        }
    }
    Ok(())
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Tells whether a path, relative to the root, is one of this module's files.
pub(super) fn is_own(path: &Path) -> bool {
    let is_notes = path.to_str().is_some_and(|path| path.starts_with(CHANGED));
    is_notes || [STATE, STATE_NEW, LOCK].iter().any(|own| path == Path::new(own))
}

/// Keeps the state of a directory that was recorded, and that nobody changes any more.
///
/// # Errors
/// `Io`.
pub(crate) fn keep_closed(fs: &dyn FileSystem, directory: &Path, fsm: &Fsm, is_durable: bool) -> Result<()> {
    let failed = |error| Error::io(format!("keeping the state of {}", directory.display()), error);
    let directory = &resolve_named(fs, directory);
    let root = fs.beneath(directory).map_err(failed)?;
    match root.create_dir(Path::new(RESERVED)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let mut notes = Notes::begin(&root, directory, is_durable)?;
    let kept = notes.save(Some(fsm));
    if kept.is_err() {
        // Without a state, the folder says that the directory is not whole.
        drop(notes.end());
        drop(root.remove_dir(Path::new(RESERVED)));
    }
    kept
}

/// Returns the names below `root` that `fsm` does not have.
fn names_of_others(root: &dyn FileSystem, fsm: &Fsm) -> Result<Vec<Vec<u8>>> {
    let names = Tree::of(root)?
        .files
        .into_iter()
        .filter_map(|path| LogPath::rooted(path.as_os_str().as_bytes()).ok());
    let others = names.filter(|name| fsm.link(name).is_none() && fsm.property(name).is_none());
    Ok(others.map(|name| name.as_bytes().to_vec()).collect())
}

/// Returns how each live file looks that has a name outside of the reserved folder, and none that is not recorded.
fn stamps(root: &dyn FileSystem, fsm: &Fsm) -> Result<Vec<(Fnode, Stamp)>> {
    let mut stamps = Vec::with_capacity(fsm.live_files());
    for (fnode, node) in fsm.nodes() {
        let Some(link) = node.links().iter().find(|link| !link.is_reserved()) else { continue };
        let relative = checked(link)?;
        let found = root.metadata(relative);
        let found = found.map_err(|error| failed("looking at a file", error))?;
        // A further name, which is not recorded, would be taken for a file of its own by whoever records here next.
        let is_ours = |stamp: &Stamp| stamp.links == node.links().len() as u64;
        stamps.extend(Stamp::of(&found).filter(is_ours).map(|stamp| (fnode, stamp)));
    }
    Ok(stamps)
}

/// Opens a directory, where it is there.
pub(super) fn open_root(fs: &dyn FileSystem, directory: &Path) -> Result<Option<Arc<dyn FileSystem>>> {
    match fs.beneath(directory) {
        Ok(root) => Ok(Some(root)),
        // Where it is something else, whoever is to build there says so.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(Error::io(format!("opening {} failed", directory.display()), error)),
    }
}

/// Marks a directory as one that is not whole.
pub(super) fn mark_incomplete(root: &dyn FileSystem) -> Result<()> {
    mark(root).map_err(|error| Error::io(format!("creating {INCOMPLETE} failed"), error))
}

fn changes_path(generation: u64) -> PathBuf {
    PathBuf::from(format!("{CHANGED}{generation}"))
}

/// Reads a small file; `None` where it is not there.
fn read_file(root: &dyn FileSystem, path: &Path) -> Result<Option<Vec<u8>>> {
    let read = || -> io::Result<Vec<u8>> {
        let file = root.open(path, OpenMode::Read)?;
        let len = file.metadata()?.len;
        if len > FILE_BYTES_MAX {
            return Ok(Vec::new());
        }
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(Error::io(format!("reading {} failed", path.display()), error)),
    }
}

fn unpacked(bytes: &[u8]) -> Option<Vec<u8>> {
    Checked::decode(bytes).ok()?.checked()
}

fn failed(what: &'static str, error: io::Error) -> Error {
    Error::io(format!("{what} in {RESERVED} failed"), error)
}
