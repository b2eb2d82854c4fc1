//! A file system that records: every change of the files below one directory goes to the journal too.
//!
//! *Invariants.* A sync returns when the journal is durable; recorded local files are never synced, because a
//! directory that was written to is not used again after a crash. Once the recorder has failed, every call that
//! would change a file fails with its failure. What a failed or short local write has left is recorded as found.
//!
//! *Does not* record directories, symbolic links, modes or times, and cannot see what is written through a
//! shared mapping: a recorded file cannot be mapped.

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Deadline;
use crate::recorder::{OP_BYTES_MAX, Recorder};
use crate::tracker::{At, Filter, Handle, Tracker, io_error};
use crate::vfs::{DirEntry, File, FileKind, FileSystem, LockMode, Metadata, OpenMode, SharedWords};

/// A file system of which one directory is recorded.
///
/// Files outside of that directory can be read, and are not changed through it. A write takes at most 1 MiB at a
/// time.
pub struct RecordedFs<F: ?Sized> {
    inner: Arc<F>,
    view: View,
}

impl<F: FileSystem + 'static> RecordedFs<F> {
    /// Records the directory `root` of `inner`, whose files are those that `recorder` has recorded so far. It may be
    /// named through symbolic links; its files are known by that path and by the one that the links lead to.
    ///
    /// To begin with files that are there already, call [`Tracker::adopt`] on [`RecordedFs::tracker`].
    pub fn new(inner: F, root: &Path, recorder: Recorder, options: RecordedFsOptions) -> Self {
        let inner = Arc::new(inner);
        let fs: Arc<dyn FileSystem> = Arc::clone(&inner) as Arc<dyn FileSystem>;
        let tracker = Arc::new(Tracker::new(Arc::clone(&fs), root, recorder, options.filter));
        let sync = Sync { tracker, patience: options.sync_max };
        Self { inner, view: View { fs, sync, base: None } }
    }

    /// Returns the file system below.
    pub fn inner(&self) -> &F {
        &self.inner
    }

    /// Returns the tracker.
    pub fn tracker(&self) -> &Tracker {
        &self.view.sync.tracker
    }

    /// Returns the recorder.
    pub fn recorder(&self) -> &Recorder {
        self.tracker().recorder()
    }

    /// Returns the file system below, and what a sync needs: for an engine that does its own I/O.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn parts(&self) -> (Arc<dyn FileSystem>, Sync) {
        (Arc::clone(&self.view.fs), self.view.sync.clone())
    }

    /// Opens a file for writing as the type that can also append.
    pub fn open_recorded(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<RecordedFile>> {
        self.view.open_recorded(path, mode)
    }

    /// Removes a directory and everything in it, file by file.
    pub fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        for entry in self.read_dir(path)? {
            let path = path.join(&entry.name);
            match entry.kind {
                FileKind::Directory => self.remove_dir_all(&path)?,
                _ => self.remove_file(&path)?,
            }
        }
        self.remove_dir(path)
    }
}

/// How a [`RecordedFs`] works.
#[derive(Clone, Debug)]
pub struct RecordedFsOptions {
    filter: Filter,
    sync_max: Duration,
}

impl Default for RecordedFsOptions {
    fn default() -> Self {
        Self { filter: Filter::default(), sync_max: Duration::from_secs(60) }
    }
}

impl RecordedFsOptions {
    /// Records the files that `filter` names (default: all but `LOCK` and `LOG*`).
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Bounds how long a sync waits for the journal (default one minute); then it fails with `TimedOut`, and
    /// nothing is known to be durable.
    #[must_use]
    pub const fn sync_max(mut self, sync: Duration) -> Self {
        self.sync_max = sync;
        self
    }
}

/// What a sync needs.
#[derive(Clone)]
pub(crate) struct Sync {
    pub(crate) tracker: Arc<Tracker>,
    patience: Duration,
}

impl Sync {
    /// Waits, with no lock held, until everything recorded so far is durable.
    pub(crate) fn barrier(&self) -> io::Result<()> {
        let mut barrier = self.tracker.recorder().barrier().map_err(io_error)?;
        barrier.wait(Deadline::after(self.patience)).map(drop).map_err(io_error)
    }
}

/// A file system, or one beneath a directory of it, whose calls are tracked.
struct View {
    fs: Arc<dyn FileSystem>,
    sync: Sync,
    base: Option<u64>,
}

impl View {
    fn at<'a>(&'a self, path: &'a Path) -> At<'a> {
        At { fs: &*self.fs, base: self.base, path }
    }

    /// Returns the path that names the recorded directory itself where the one given may be a symbolic link to it.
    fn named<'a>(&'a self, path: &'a Path) -> &'a Path {
        let tracker = &self.sync.tracker;
        if self.base.is_none() && path == tracker.root() { tracker.resolved_root() } else { path }
    }

    fn open_recorded(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<RecordedFile>> {
        let sync = self.sync.clone();
        if !mode.writes() {
            return Ok(Arc::new(RecordedFile { inner: self.fs.open(path, mode)?, handle: None, sync }));
        }
        let open = || self.fs.open(path, mode);
        let (inner, handle) = self.sync.tracker.open_at(self.at(path), mode, open)?;
        Ok(Arc::new(RecordedFile { inner, handle: Some(handle), sync }))
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if let Some(base) = self.base {
            self.sync.tracker.end_base(base);
        }
    }
}

impl FileSystem for View {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        Ok(self.open_recorded(path, mode)?)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.fs.metadata(self.named(path))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.fs.read_dir(self.named(path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.sync.tracker.recorder().check().map_err(io_error)?;
        self.fs.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.sync.tracker.recorder().check().map_err(io_error)?;
        self.fs.remove_dir(path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.sync.tracker.remove_at(self.at(path), || self.fs.remove_file(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.sync.tracker.rename_at(self.at(from), self.at(to), || self.fs.rename(from, to))
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.sync.tracker.rename_at(self.at(from), self.at(to), || self.fs.rename_no_replace(from, to))
    }

    fn hard_link(&self, existing: &Path, new: &Path) -> io::Result<()> {
        self.sync.tracker.link_at(self.at(existing), self.at(new), || self.fs.hard_link(existing, new))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if self.metadata(path)?.kind != FileKind::Directory {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        self.sync.barrier()
    }

    fn beneath(&self, path: &Path) -> io::Result<Arc<dyn FileSystem>> {
        let fs = self.fs.beneath(self.named(path))?;
        let base = self.sync.tracker.begin_base(&self.at(path)).map_err(io_error)?;
        Ok(Arc::new(Self { fs, sync: self.sync.clone(), base: Some(base) }))
    }

    fn resolve_dir(&self, path: &Path) -> io::Result<PathBuf> {
        self.fs.resolve_dir(path)
    }

    fn boot_id(&self) -> io::Result<[u8; 16]> {
        self.fs.boot_id()
    }

    fn is_network(&self, path: &Path) -> io::Result<bool> {
        self.fs.is_network(self.named(path))
    }
}

impl<F: FileSystem + 'static> FileSystem for RecordedFs<F> {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.view.open(path, mode)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.view.metadata(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.view.read_dir(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.view.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.view.remove_dir(path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.view.remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.view.rename(from, to)
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.view.rename_no_replace(from, to)
    }

    fn hard_link(&self, existing: &Path, new: &Path) -> io::Result<()> {
        self.view.hard_link(existing, new)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.view.sync_dir(path)
    }

    fn beneath(&self, path: &Path) -> io::Result<Arc<dyn FileSystem>> {
        self.view.beneath(path)
    }

    fn resolve_dir(&self, path: &Path) -> io::Result<PathBuf> {
        self.view.resolve_dir(path)
    }

    fn boot_id(&self) -> io::Result<[u8; 16]> {
        self.view.boot_id()
    }

    fn is_network(&self, path: &Path) -> io::Result<bool> {
        self.view.is_network(path)
    }
}

/// A file whose changes are recorded.
pub struct RecordedFile {
    inner: Arc<dyn File>,
    /// `None` for a file that was opened for reading.
    handle: Option<Handle>,
    sync: Sync,
}

impl RecordedFile {
    /// Returns the file below.
    pub fn inner(&self) -> &dyn File {
        &*self.inner
    }

    /// Writes all of `bytes` at the end of the file, and returns where they begin. Appends of several handles
    /// never overlap; one of more than 1 MiB may come to lie in several pieces.
    pub fn append(&self, bytes: &[u8]) -> io::Result<u64> {
        let mut begin = None;
        let mut rest = bytes;
        while !rest.is_empty() || begin.is_none() {
            let (at, written) = self.write_piece(rest, None)?;
            begin.get_or_insert(at);
            if written == 0 && !rest.is_empty() {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(begin.unwrap_or_default())
    }

    /// Writes once at `offset`, or at the end of the file; returns where, and how much.
    fn write_piece(&self, bytes: &[u8], offset: Option<u64>) -> io::Result<(u64, usize)> {
        let piece = bytes.get(..bytes.len().min(OP_BYTES_MAX)).unwrap_or_default();
        let Some(handle) = &self.handle else {
            return self.inner.write_at(piece, offset.unwrap_or_default()).map(|n| (0, n));
        };
        let mut guard = self.sync.tracker.begin_write(handle, piece.len()).map_err(io_error)?;
        let at = offset.unwrap_or_else(|| guard.end());
        let outcome = self.inner.write_at(piece, at);
        match &outcome {
            Ok(0) if piece.is_empty() => {}
            Ok(written) if *written == piece.len() => guard.record(at, piece).map_err(io_error)?,
            _ => guard.record_as_found(&*self.inner, at, piece.len()).map_err(io_error)?,
        }
        outcome.map(|written| (at, written))
    }

    fn is_recorded(&self) -> bool {
        self.handle.as_ref().is_none_or(|handle| handle.fnode().is_some())
    }
}

impl File for RecordedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.write_piece(bytes, Some(offset)).map(|(_, written)| written)
    }

    fn metadata(&self) -> io::Result<Metadata> {
        self.inner.metadata()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match &self.handle {
            Some(handle) => self.sync.tracker.set_len(handle, &*self.inner, len, || self.inner.set_len(len)),
            None => self.inner.set_len(len),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        // A file that is left out of the log has nothing but the local disk.
        if self.is_recorded() { self.sync.barrier() } else { self.inner.sync_data() }
    }

    fn sync_all(&self) -> io::Result<()> {
        if self.is_recorded() { self.sync.barrier() } else { self.inner.sync_all() }
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        match &self.handle {
            Some(handle) => {
                self.sync.tracker.allocate(handle, &*self.inner, || self.inner.allocate(offset, len))
            }
            None => self.inner.allocate(offset, len),
        }
    }

    fn try_lock(&self, mode: LockMode) -> io::Result<bool> {
        self.inner.try_lock(mode)
    }

    fn unlock(&self) -> io::Result<()> {
        self.inner.unlock()
    }

    fn map_shared(&self, words: usize) -> io::Result<Arc<dyn SharedWords>> {
        if self.handle.is_some() && self.is_recorded() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.inner.map_shared(words)
    }

    fn copy_to(&self, from: u64, target: &dyn File, to: u64, len: u64) -> io::Result<u64> {
        self.inner.copy_to(from, target, to, len)
    }
}

impl<F: FileSystem + 'static> fmt::Debug for RecordedFs<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordedFs")
            .field("inner", &self.inner)
            .field("tracker", self.tracker())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("fs", &self.fs).field("base", &self.base).finish_non_exhaustive()
    }
}

impl fmt::Debug for RecordedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordedFile")
            .field("inner", &self.inner)
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}
