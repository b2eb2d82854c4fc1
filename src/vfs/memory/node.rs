//! A file in memory: its content, its locks, its shared words, the space it takes.
//!
//! *Invariants.* Shared words win over the content: stores to them are brought into it before anything else is
//! done. A file without links and handles takes no space.
//!
//! *Does not* know names.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use super::content::{Content, PAGE};
use super::space::Space;
use super::versions::Versions;
use crate::clock::{Clock, SystemClock};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::vfs::{FileKind, LockMode, Metadata};

/// Words in a page.
const PAGE_WORDS: usize = PAGE as usize / 8;

/// Nanoseconds in a second.
const NANOS: i64 = 1_000_000_000;

/// The largest length of a file, as of most systems.
const LEN_MAX: u64 = i64::MAX as u64;

/// An inode of a file or of a symbolic link.
pub(super) struct Node {
    pub(super) inode: u64,
    /// Where a symbolic link leads; `None` for a file.
    pub(super) target: Option<PathBuf>,
    space: Arc<Space>,
    state: Mutex<State>,
    woken: Condvar,
}

/// What can change of a file.
#[derive(Default)]
pub(super) struct State {
    versions: Versions,
    /// Pages of words that were ever mapped, from the begin of the file on. They win over the content.
    mapped: Vec<Arc<[AtomicU64]>>,
    links: u64,
    handles: u64,
    locks: Vec<(u64, LockMode)>,
    modified_unix_nanos: i64,
    /// Pages taken from the common space.
    pages: u64,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("inode", &self.inode).finish_non_exhaustive()
    }
}

impl Node {
    pub(super) fn new(inode: u64, target: Option<PathBuf>, space: Arc<Space>) -> Self {
        let state = State { modified_unix_nanos: now(), ..State::default() };
        Self { inode, target, space, state: Mutex::new(state), woken: Condvar::new() }
    }

    /// Returns a file whose content is all durable.
    pub(super) fn restored(inode: u64, target: Option<PathBuf>, space: Arc<Space>, content: Content) -> Self {
        let node = Self::new(inode, target, space);
        let mut state = node.lock();
        state.pages = (0..content.page_count()).filter(|_| node.space.take_page()).count() as u64;
        state.versions = Versions::durable_from(content);
        drop(state);
        node
    }

    /// Takes over when `other` was modified.
    pub(super) fn modified_as(self, other: &Self) -> Self {
        let modified = other.lock().modified_unix_nanos;
        self.lock().modified_unix_nanos = modified;
        self
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the state with all stores to shared words in its content.
    pub(super) fn settled(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.pull();
        state
    }

    pub(super) fn kind(&self) -> FileKind {
        if self.target.is_some() { FileKind::Symlink } else { FileKind::File }
    }

    pub(super) fn metadata(&self) -> Metadata {
        let state = self.lock();
        let target_len = |target: &PathBuf| target.as_os_str().len() as u64;
        Metadata {
            kind: self.kind(),
            len: self.target.as_ref().map_or(state.content().len(), target_len),
            inode: self.inode,
            device: super::DEVICE,
            links: state.links,
            modified_unix_secs: state.modified_unix_nanos.div_euclid(NANOS),
            modified_nanos: state.modified_unix_nanos.rem_euclid(NANOS) as u32,
        }
    }

    pub(super) fn add_link(&self) {
        self.lock().links += 1;
    }

    pub(super) fn remove_link(&self) {
        let mut state = self.lock();
        state.links -= 1;
        self.give_back_if_dead(&mut state);
    }

    pub(super) fn add_handle(&self) {
        self.lock().handles += 1;
    }

    /// Ends a handle and its lock.
    pub(super) fn remove_handle(&self, handle: u64) {
        let mut state = self.lock();
        state.locks.retain(|(holder, _)| *holder != handle);
        state.handles -= 1;
        self.give_back_if_dead(&mut state);
    }

    /// Gives back the space of a file that nobody can reach any more, and drops what of it was not synced: a
    /// system throws such pages away, also where a crash then brings the name back.
    fn give_back_if_dead(&self, state: &mut State) {
        if state.links == 0 && state.handles == 0 {
            self.space.give_pages(std::mem::take(&mut state.pages));
            let durable = state.versions.durable().clone();
            state.versions = Versions::durable_from(durable);
        }
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset > LEN_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(self.settled().content().read(buffer, offset))
    }

    /// Writes as much as there is space for.
    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        if offset > LEN_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let end = offset.saturating_add(bytes.len() as u64);
        if end > LEN_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if bytes.is_empty() {
            return Ok(0);
        }
        let mut state = self.settled();
        let end = state.reserve(&self.space, offset..end);
        let bytes = bytes.get(..end.saturating_sub(offset) as usize).unwrap_or_default();
        if bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.write(bytes, offset);
        Ok(bytes.len())
    }

    pub(super) fn set_len(&self, len: u64) -> io::Result<()> {
        if len > LEN_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut state = self.settled();
        let before = state.content().page_count();
        state.set_len(len);
        let freed = (before - state.content().page_count()).min(state.pages);
        state.pages -= freed;
        self.space.give_pages(freed);
        Ok(())
    }

    pub(super) fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        if len == 0 || offset > LEN_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let end = offset.checked_add(len).filter(|end| *end <= LEN_MAX);
        let end = end.ok_or(io::ErrorKind::FileTooLarge)?;
        let mut state = self.settled();
        let before = state.pages;
        if state.reserve(&self.space, offset..end) < end {
            self.space.give_pages(state.pages - before);
            state.pages = before;
            return Err(io::ErrorKind::StorageFull.into());
        }
        let before = state.content().len();
        state.versions.allocate(offset..end);
        state.push(before..end);
        Ok(())
    }

    pub(super) fn sync(&self) {
        self.settled().versions.sync();
    }

    /// Makes of every unsynced write one that a later sync does not make durable.
    pub(super) fn lose_unsynced(&self) {
        self.settled().versions.doom();
    }

    pub(super) fn try_lock(&self, handle: u64, mode: LockMode) -> bool {
        let mut state = self.lock();
        state.locks.retain(|(holder, _)| *holder != handle);
        let conflict = |held: LockMode| mode == LockMode::Exclusive || held == LockMode::Exclusive;
        if state.locks.iter().any(|(_, held)| conflict(*held)) {
            return false;
        }
        state.locks.push((handle, mode));
        true
    }

    pub(super) fn unlock(&self, handle: u64) {
        self.lock().locks.retain(|(holder, _)| *holder != handle);
    }

    /// Returns the pages that hold the first `words` words.
    pub(super) fn map(&self, words: usize) -> io::Result<Vec<Arc<[AtomicU64]>>> {
        self.allocate(0, words as u64 * 8)?;
        let mut state = self.settled();
        let (pages, before) = (words.div_ceil(PAGE_WORDS), state.mapped.len());
        while state.mapped.len() < pages {
            state.mapped.push((0..PAGE_WORDS).map(|_| AtomicU64::new(0)).collect());
        }
        // Only what nobody has mapped yet: a store into the rest may have been made since it was pulled.
        state.push(before as u64 * PAGE..pages as u64 * PAGE);
        Ok(state.mapped.iter().take(pages).map(Arc::clone).collect())
    }

    /// Sleeps until `woken`, `changed` or `until` says so.
    pub(super) fn wait(&self, changed: impl Fn() -> bool, deadline: crate::clock::Deadline) {
        let state = self.lock();
        if !changed() {
            drop(self.woken.wait_timeout(state, deadline.remaining()));
        }
    }

    pub(super) fn wake(&self) {
        // A waiter that saw the old value holds the lock until it sleeps.
        drop(self.lock());
        self.woken.notify_all();
    }
}

impl State {
    pub(super) const fn versions(&self) -> &Versions {
        &self.versions
    }

    const fn content(&self) -> &Content {
        self.versions.content()
    }

    /// Takes space for the holes of a range, and returns the end of what could be had.
    fn reserve(&mut self, space: &Space, range: Range<u64>) -> u64 {
        for index in range.start / PAGE..range.end.div_ceil(PAGE) {
            if !self.content().is_hole(index) {
                continue;
            }
            if !space.take_page() {
                return (index * PAGE).clamp(range.start, range.end);
            }
            self.pages += 1;
        }
        range.end
    }

    fn write(&mut self, bytes: &[u8], offset: u64) {
        let before = self.content().len();
        self.versions.write(bytes, offset);
        self.modified_unix_nanos = now();
        self.push(before.min(offset)..offset + bytes.len() as u64);
    }

    fn set_len(&mut self, len: u64) {
        let before = self.content().len();
        self.versions.set_len(len);
        self.modified_unix_nanos = now();
        self.push(before.min(len)..before.max(len));
    }

    /// Brings stores to shared words into the content.
    #[expect(clippy::host_endian_bytes, reason = "shared words are in the byte order of the machine")]
    fn pull(&mut self) {
        let mut changed = Vec::new();
        for (index, page) in self.mapped.iter().enumerate() {
            let begin = index as u64 * PAGE;
            let bytes = self.content().slice(begin..begin + PAGE);
            for ((word, bytes), offset) in page.iter().zip(bytes.chunks_exact(8)).zip((begin..).step_by(8)) {
                let now = word.load(Ordering::SeqCst).to_ne_bytes();
                if now != bytes {
                    changed.push((offset, now));
                }
            }
        }
        for (offset, bytes) in changed {
            self.versions.write(&bytes, offset);
        }
    }

    /// Brings the content of a range into the shared words.
    #[expect(clippy::host_endian_bytes, reason = "shared words are in the byte order of the machine")]
    fn push(&self, range: Range<u64>) {
        let end = range.end.min(self.mapped.len() as u64 * PAGE);
        let mut offset = range.start / 8 * 8;
        while offset < end {
            let mut bytes = [0; 8];
            self.content().read(&mut bytes, offset);
            let page = self.mapped.get((offset / PAGE) as usize);
            if let Some(word) = page.and_then(|page| page.get((offset % PAGE / 8) as usize)) {
                word.store(u64::from_ne_bytes(bytes), Ordering::SeqCst);
            }
            offset += 8;
        }
    }
}

fn now() -> i64 {
    SystemClock.unix_nanos()
}
