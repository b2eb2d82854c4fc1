//! A file system that counts what is written to another one, and how often it is synced.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use recoverylog::vfs::{DirEntry, File, FileSystem, LockMode, Metadata, OpenMode, SharedWords};

/// What was done so far.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    written_bytes: AtomicU64,
    syncs: AtomicU64,
}

/// A file system, and what was done to it.
#[derive(Debug)]
pub(crate) struct MeteredFs {
    inner: Arc<dyn FileSystem>,
    meter: Arc<Meter>,
}

impl Meter {
    /// Returns the bytes written and the number of syncs.
    pub(crate) fn read(&self) -> (u64, u64) {
        (self.written_bytes.load(Ordering::Relaxed), self.syncs.load(Ordering::Relaxed))
    }
}

impl MeteredFs {
    pub(crate) fn new(inner: Arc<dyn FileSystem>, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }
}

impl FileSystem for MeteredFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let (inner, meter) = (self.inner.open(path, mode)?, Arc::clone(&self.meter));
        Ok(Arc::new(MeteredFile { inner, meter }))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.inner.metadata(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.read_dir(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir(path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename_no_replace(from, to)
    }

    fn hard_link(&self, existing: &Path, new: &Path) -> io::Result<()> {
        self.inner.hard_link(existing, new)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.meter.syncs.fetch_add(1, Ordering::Relaxed);
        self.inner.sync_dir(path)
    }

    fn beneath(&self, path: &Path) -> io::Result<Arc<dyn FileSystem>> {
        // What is done beneath counts too.
        Ok(Arc::new(Self { inner: self.inner.beneath(path)?, meter: Arc::clone(&self.meter) }))
    }

    fn resolve_dir(&self, path: &Path) -> io::Result<PathBuf> {
        self.inner.resolve_dir(path)
    }

    fn boot_id(&self) -> io::Result<[u8; 16]> {
        self.inner.boot_id()
    }

    fn is_network(&self, path: &Path) -> io::Result<bool> {
        self.inner.is_network(path)
    }
}

#[derive(Debug)]
struct MeteredFile {
    inner: Arc<dyn File>,
    meter: Arc<Meter>,
}

/// `copy_to` and `as_fd` are the provided ones, so that no byte goes past the meter.
impl File for MeteredFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let written = self.inner.write_at(bytes, offset)?;
        self.meter.written_bytes.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn metadata(&self) -> io::Result<Metadata> {
        self.inner.metadata()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.meter.syncs.fetch_add(1, Ordering::Relaxed);
        self.inner.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.meter.syncs.fetch_add(1, Ordering::Relaxed);
        self.inner.sync_all()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.allocate(offset, len)
    }

    fn try_lock(&self, mode: LockMode) -> io::Result<bool> {
        self.inner.try_lock(mode)
    }

    fn unlock(&self) -> io::Result<()> {
        self.inner.unlock()
    }

    fn map_shared(&self, words: usize) -> io::Result<Arc<dyn SharedWords>> {
        self.inner.map_shared(words)
    }
}
