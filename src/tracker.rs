//! From paths and handles to recorded files: for engines that do their own I/O.
//!
//! *Invariants.* A file is known by its inode, whatever it is called: every handle and every link of it lead to
//! one state, which holds the recorded file and the length. Locks are taken in the order names, inode, recorder.
//! A change is made to the local file first and recorded next, both under the lock that decides it: content and
//! length under the inode's, names and truncation under that of all names. Where a change was made and cannot
//! be recorded, the recorder fails.
//!
//! *Does not* make the local change: the caller does, in the closure or between [`Tracker::begin_write`] and
//! [`WriteGuard::record`]. Directories, symbolic links, modes and times are not recorded.

mod adopt;
mod names;
mod rename;
mod rewrite;
mod rewriter;
mod whole;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

pub use self::adopt::Adopted;
pub(crate) use self::names::At;
use self::names::{FileId, Names};
pub use self::rewriter::{RewriteOptions, Rewriter};
pub(crate) use self::whole::is_being_built;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{Fnode, LogPath};
use crate::recorder::{OP_BYTES_MAX, Recorder, Reserved};
use crate::sync::{Mutex, MutexGuard};
use crate::vfs::{File, FileSystem, resolve_named};

/// Maps what an engine does to local files to what is recorded.
pub struct Tracker {
    fs: Arc<dyn FileSystem>,
    root: PathBuf,
    /// The root, without the symbolic links that may lead there.
    resolved_root: PathBuf,
    recorder: Recorder,
    filter: Filter,
    names: Mutex<Names>,
}

/// Tells which files are recorded.
#[derive(Clone)]
pub struct Filter(Arc<dyn Fn(&LogPath) -> bool + Send + Sync>);

impl Filter {
    /// Records the files whose path, below the recorded directory, `records`.
    pub fn new(records: impl Fn(&LogPath) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(records))
    }

    /// Tells whether the file at `path` is recorded.
    pub fn records(&self, path: &LogPath) -> bool {
        (self.0)(path)
    }
}

impl Default for Filter {
    /// Leaves out `LOCK` and `LOG*`, the files of an engine that mean nothing in another process.
    fn default() -> Self {
        Self::new(|path| {
            let name = path.components().next_back().unwrap_or_default();
            name != b"LOCK" && !name.starts_with(b"LOG")
        })
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter")
    }
}

/// A file that is open for writing.
///
/// Keep the local file open while this lives: it is known by its inode, whose number the system may give to
/// another file once it is closed and unlinked.
#[derive(Clone)]
pub struct Handle(Arc<Inode>);

/// A file, whatever it is called.
struct Inode {
    id: FileId,
    state: Mutex<InodeState>,
}

#[derive(Debug)]
struct InodeState {
    /// The recorded file; `None` where it is not recorded, or has no recorded link left.
    fnode: Option<Fnode>,
    /// Length in bytes.
    len: u64,
}

impl Inode {
    fn lock(&self) -> MutexGuard<'_, InodeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handle {
    /// Returns the recorded file; `None` where it is not recorded, or has no recorded link left.
    pub fn fnode(&self) -> Option<Fnode> {
        self.0.lock().fnode
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.0.id).finish()
    }
}

/// The right to write to a file: no other writer of it is under way.
///
/// Dropped without [`WriteGuard::record`], nothing is recorded: right only where nothing was written.
#[must_use = "a write that is not recorded is lost"]
pub struct WriteGuard<'a> {
    tracker: &'a Tracker,
    state: MutexGuard<'a, InodeState>,
    reserved: Option<Reserved<'a>>,
}

impl Tracker {
    /// Tracks the directory `root` of `fs`, whose files are those that `recorder` has recorded so far. It may be named
    /// through symbolic links; its files are known by that path and by the one that the links lead to.
    pub fn new(
        fs: Arc<dyn FileSystem>,
        root: impl Into<PathBuf>,
        recorder: Recorder,
        filter: Filter,
    ) -> Self {
        let root = root.into();
        let resolved_root = resolve_named(&*fs, &root);
        Self { fs, root, resolved_root, recorder, filter, names: Mutex::default() }
    }

    /// Returns the recorder.
    pub const fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Returns the recorded directory, as it was named.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the recorded directory, as a path without symbolic links.
    pub fn resolved_root(&self) -> &Path {
        &self.resolved_root
    }

    /// Begins a write of at most `bytes_max` bytes: waits for credit, and for other writers of the file.
    ///
    /// # Errors
    /// The recorder's failure; [`ErrorKind::Unavailable`] where there is no credit in time.
    pub fn begin_write<'a>(&'a self, handle: &'a Handle, bytes_max: usize) -> Result<WriteGuard<'a>> {
        let reserved = Some(self.recorder.reserve_write(bytes_max)?);
        let state = handle.0.lock();
        self.recorder.check()?;
        Ok(WriteGuard { tracker: self, state, reserved })
    }

    /// Records that the file at `handle` was cut or extended to `len` by `local`.
    ///
    /// What is left of a file that was cut becomes a new recorded file at the same links.
    pub fn set_len(
        &self,
        handle: &Handle,
        file: &dyn File,
        len: u64,
        local: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut names = self.lock_names();
        let mut state = handle.0.lock();
        self.recorder.check().map_err(io_error)?;
        let outcome = local();
        let now = match &outcome {
            Ok(()) => len,
            // Whatever a failed call did is recorded as found.
            Err(_) => {
                self.after_local(file.metadata().map_err(|e| Error::io("cannot look at a file", e)))?.len
            }
        };
        self.after_local(self.resized(&mut state, file, now))?;
        names.change_alias(handle.0.id, state.fnode);
        outcome
    }

    /// Records that space was reserved by `local`, which may have extended the file.
    pub fn allocate(
        &self,
        handle: &Handle,
        file: &dyn File,
        local: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut state = handle.0.lock();
        self.recorder.check().map_err(io_error)?;
        let outcome = local();
        let now = self.after_local(file.metadata().map_err(|e| Error::io("cannot look at a file", e)))?.len;
        if now > state.len {
            self.after_local(self.resized(&mut state, file, now))?;
        }
        outcome
    }

    /// Records that a file has another length. Only a caller that holds the lock of names may cut it.
    fn resized(&self, state: &mut InodeState, file: &dyn File, len: u64) -> Result<()> {
        let Some(fnode) = state.fnode else {
            state.len = len;
            return Ok(());
        };
        if len > state.len {
            // The gap before the last byte reads as zeros.
            self.recorder.write(fnode, len - 1, &[0])?;
        } else if len < state.len {
            let links = self.recorder.with_fsm(|fsm| fsm.node(fnode).map(|node| node.links().to_vec()));
            state.fnode = Some(self.record_whole(file, len, &links.unwrap_or_default())?);
        }
        state.len = len;
        Ok(())
    }

    fn lock_names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the local changes that are under way. Once the recorder has ended, no other ones begin; those that could
    /// not be recorded any more have told it.
    pub(crate) fn settle(&self) {
        let inodes = self.lock_names().inodes_in_use();
        for inode in inodes {
            drop(inode.lock());
        }
    }

    /// Fails the recorder where a local change could not be recorded.
    fn after_local<T>(&self, recorded: Result<T>) -> io::Result<T> {
        recorded.map_err(|error| io_error(self.recorder.fail(error)))
    }
}

impl WriteGuard<'_> {
    /// Returns the length of the file: where an append goes.
    pub fn end(&self) -> u64 {
        self.state.len
    }

    /// Records that `bytes` were written at `offset`.
    ///
    /// # Errors
    /// The failure of the recorder, which this makes permanent: the local file has changed.
    pub fn record(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        // Writing nothing extends no file, wherever it is written.
        if bytes.is_empty() {
            return Ok(());
        }
        let Some(fnode) = self.state.fnode else {
            self.state.len = self.state.len.max(offset.saturating_add(bytes.len() as u64));
            return Ok(());
        };
        let recorder = &self.tracker.recorder;
        let mut at = offset;
        for piece in bytes.chunks(OP_BYTES_MAX) {
            let reserved = match self.reserved.take() {
                Some(reserved) => Ok(reserved),
                None => recorder.reserve_write(piece.len()),
            };
            reserved
                .and_then(|reserved| recorder.write_reserved(reserved, fnode, at, piece))
                .map_err(|error| recorder.fail(error))?;
            at += piece.len() as u64;
        }
        self.state.len = self.state.len.max(at);
        Ok(())
    }

    /// Reads back what a failed or short write of `len` bytes at `offset` left in `file`, and records that.
    ///
    /// # Errors
    /// The failure of the recorder, which this makes permanent where the file cannot be read.
    pub fn record_as_found(&mut self, file: &dyn File, offset: u64, len: usize) -> Result<()> {
        let recorder = &self.tracker.recorder;
        let read = || -> io::Result<Vec<u8>> {
            let found = usize::try_from(file.metadata()?.len.saturating_sub(offset)).unwrap_or(usize::MAX);
            let mut bytes = vec![0; len.min(found)];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        };
        let bytes = read().map_err(|error| {
            recorder.fail(Error::io("cannot read back what a failed write has left", error))
        })?;
        self.record(offset, &bytes)
    }
}

impl fmt::Debug for Tracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracker")
            .field("root", &self.root)
            .field("recorder", &self.recorder)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for WriteGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteGuard").field("state", &*self.state).finish_non_exhaustive()
    }
}

/// Puts an error of the recorder in the form in which file systems speak.
pub(crate) fn io_error(error: Error) -> io::Error {
    let kind = match error.kind() {
        ErrorKind::Invalid => io::ErrorKind::InvalidInput,
        ErrorKind::Unavailable => io::ErrorKind::TimedOut,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
