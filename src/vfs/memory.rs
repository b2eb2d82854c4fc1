//! Files in memory, and what a crash of the machine leaves of them.
//!
//! *Invariants.* Answers are those of [`OsFs`](super::OsFs) on Linux, the kinds of errors included. What is synced
//! is known byte for byte and name for name, so that [`MemoryFs::crash_image`] can tell it from the rest.
//!
//! *Does not* check permissions, nor run anything at random: a crash image depends on the state and its plan only.

mod content;
mod crash;
mod node;
mod space;
mod tree;
mod versions;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

pub use self::crash::CrashPlan;
use self::node::Node;
use self::space::Space;
use self::tree::{Entry, Tree};
use super::checks::{mapped_bytes, not_regular, read_only};
use super::{DirEntry, File, FileSystem, LockMode, Metadata, OpenMode, SharedWords};
use crate::clock::Deadline;
use crate::sync::{Mutex, MutexGuard};

/// The identity of every file system in memory.
const DEVICE: u64 = 1;

/// A file system in memory. Clones are the same file system; relative paths start at its root.
#[derive(Clone)]
pub struct MemoryFs {
    disk: Arc<Disk>,
    /// The directory that paths are confined to.
    base: Option<u64>,
}

struct Disk {
    tree: Mutex<Tree>,
    space: Arc<Space>,
    /// How often the machine was started.
    boots: u64,
    next_handle: AtomicU64,
}

impl MemoryFs {
    /// Makes an empty file system without a limit.
    pub fn new() -> Self {
        Self::booted(1)
    }

    fn booted(boots: u64) -> Self {
        let space = Arc::new(Space::default());
        let tree = Mutex::new(Tree::new(Arc::clone(&space)));
        Self { disk: Arc::new(Disk { tree, space, boots, next_handle: AtomicU64::new(0) }), base: None }
    }

    /// Limits the space for content, in bytes; `StorageFull` beyond. What is there stays.
    ///
    /// Space is taken by the page of 4 KiB. A write that finds only part of its space is short.
    pub fn set_capacity(&self, bytes: u64) {
        self.disk.space.limit(bytes);
    }

    /// Returns the number of bytes of content, in whole pages.
    pub fn used_bytes(&self) -> u64 {
        self.disk.space.used()
    }

    /// Makes a symbolic link, for tests of what does not follow it.
    pub fn plant_symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let spot = tree.spot(self.base, link)?;
        tree.create_node(spot, Some(target.to_owned())).map(drop)
    }

    /// Returns what is left after a crash of the machine right now.
    ///
    /// The image shares nothing with this file system, has a boot id of its own, and no locks.
    #[must_use]
    pub fn crash_image(&self, plan: CrashPlan) -> Self {
        let image = Self::booted(self.disk.boots + 1);
        crash::image(&self.tree(), plan, &mut image.tree());
        if let capacity @ 1.. = self.disk.space.capacity() {
            image.set_capacity(capacity);
        }
        image
    }

    /// Does what a failed sync of the directory does: no later change of its names becomes durable, whatever a
    /// later sync says.
    pub(super) fn fail_sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let directory = tree.directory_at(tree.spot(self.base, path)?)?;
        tree.fail_sync(directory);
        Ok(())
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.disk.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryFs {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFs").field("base", &self.base).finish_non_exhaustive()
    }
}

impl FileSystem for MemoryFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut tree = self.tree();
        let spot = tree.spot(self.base, path)?;
        let node = match (tree.get(spot), mode) {
            (None, OpenMode::Read | OpenMode::ReadWrite) => return Err(io::ErrorKind::NotFound.into()),
            (None, _) => tree.create_node(spot, None)?,
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(Entry::Directory(_)), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (Some(Entry::Node(node)), _) if node.target.is_some() => return Err(not_regular()),
            (Some(Entry::Node(node)), _) => node,
        };
        if mode == OpenMode::Truncate {
            node.set_len(0)?;
        }
        node.add_handle();
        let handle = self.disk.next_handle.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(MemoryFile { node, handle, writable: mode.writes() }))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let tree = self.tree();
        tree.metadata(tree.spot(self.base, path)?)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let tree = self.tree();
        tree.list(tree.spot(self.base, path)?)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let spot = tree.spot(self.base, path)?;
        tree.create_directory(spot)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let spot = tree.spot(self.base, path)?;
        tree.remove_directory(spot)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let spot = tree.spot(self.base, path)?;
        tree.remove_node(spot)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let (from, to) = (tree.spot(self.base, from)?, tree.spot(self.base, to)?);
        tree.rename(from, to, true)
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let (from, to) = (tree.spot(self.base, from)?, tree.spot(self.base, to)?);
        tree.rename(from, to, false)
    }

    fn hard_link(&self, existing: &Path, new: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let (existing, new) = (tree.spot(self.base, existing)?, tree.spot(self.base, new)?);
        tree.link(existing, new)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let directory = tree.directory_at(tree.spot(self.base, path)?)?;
        tree.sync(directory);
        Ok(())
    }

    fn beneath(&self, path: &Path) -> io::Result<Arc<dyn FileSystem>> {
        let tree = self.tree();
        let directory = tree.directory_at(tree.spot(self.base, path)?)?;
        Ok(Arc::new(Self { disk: Arc::clone(&self.disk), base: Some(directory) }))
    }

    fn resolve_dir(&self, path: &Path) -> io::Result<PathBuf> {
        self.tree().resolve_directory(self.base, path)
    }

    fn boot_id(&self) -> io::Result<[u8; 16]> {
        Ok(u128::from(self.disk.boots).to_be_bytes())
    }

    fn is_network(&self, path: &Path) -> io::Result<bool> {
        self.metadata(path).map(|_| false)
    }
}

/// A handle of a file in memory.
#[derive(Debug)]
pub(super) struct MemoryFile {
    node: Arc<Node>,
    handle: u64,
    writable: bool,
}

impl MemoryFile {
    fn for_writing(&self) -> io::Result<&Arc<Node>> {
        if self.writable { Ok(&self.node) } else { Err(read_only()) }
    }

    /// Does what a failed sync does: no unsynced write becomes durable, whatever a later sync says, unless its
    /// sectors are written again.
    pub(super) fn lose_unsynced(&self) {
        self.node.lose_unsynced();
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        self.node.remove_handle(self.handle);
    }
}

impl File for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.node.read(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.for_writing()?.write(bytes, offset)
    }

    fn metadata(&self) -> io::Result<Metadata> {
        Ok(self.node.metadata())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.for_writing()?.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.node.sync();
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.for_writing()?.allocate(offset, len)
    }

    fn try_lock(&self, mode: LockMode) -> io::Result<bool> {
        Ok(self.node.try_lock(self.handle, mode))
    }

    fn unlock(&self) -> io::Result<()> {
        self.node.unlock(self.handle);
        Ok(())
    }

    fn map_shared(&self, words: usize) -> io::Result<Arc<dyn SharedWords>> {
        mapped_bytes(words)?;
        let node = Arc::clone(self.for_writing()?);
        let pages = node.map(words)?;
        Ok(Arc::new(MemoryWords { node, pages, words }))
    }
}

/// Words of a file in memory.
#[derive(Debug)]
struct MemoryWords {
    node: Arc<Node>,
    pages: Vec<Arc<[AtomicU64]>>,
    words: usize,
}

impl SharedWords for MemoryWords {
    fn word(&self, index: usize) -> Option<&AtomicU64> {
        let words = self.pages.first()?.len();
        let page = self.pages.get(index / words).filter(|_| index < self.words)?;
        page.get(index % words)
    }

    fn wait(&self, index: usize, seen: u64, deadline: Deadline) {
        let Some(word) = self.word(index) else { return };
        self.node.wait(|| word.load(Ordering::Acquire) as u32 != seen as u32, deadline);
    }

    fn wake(&self, index: usize) {
        if index < self.words {
            self.node.wake();
        }
    }
}

#[cfg(test)]
mod tests;
