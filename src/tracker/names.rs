//! What an engine does to names: open, remove, link.
//!
//! *Invariants.* The state machine of the recorder is the one record of which path is which file; here are only
//! the inodes that are in use, and those links that are not recorded of files that are.
//!
//! *Does not* rename (`rename`).

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use super::{Handle, Inode, InodeState, Tracker, io_error};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{Fnode, LogPath};
use crate::sync::{Mutex, MutexGuard};
use crate::vfs::{File, FileKind, FileSystem, Metadata, OpenMode};

/// Identity of a local file while it is linked or open.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl From<&Metadata> for FileId {
    fn from(metadata: &Metadata) -> Self {
        Self { device: metadata.device, inode: metadata.inode }
    }
}

#[derive(Default)]
pub(super) struct Names {
    inodes: HashMap<FileId, Weak<Inode>>,
    /// Recorded files that have, or may have, a link that is not recorded.
    aliases: HashMap<FileId, Fnode>,
    /// Where the directories of [`FileSystem::beneath`] are now, by number.
    pub(super) bases: HashMap<u64, PathBuf>,
    next_base: u64,
}

/// Where a call of an engine points to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'a> {
    /// The file system that the path is of.
    pub(crate) fs: &'a dyn FileSystem,
    /// The number of the directory that the path is relative to, if it is to one.
    pub(crate) base: Option<u64>,
    /// The path.
    pub(crate) path: &'a Path,
}

impl At<'_> {
    /// Returns facts about the file; `None` where there is none.
    pub(super) fn look(&self) -> io::Result<Option<Metadata>> {
        match self.fs.metadata(self.path) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Names {
    /// Returns the inode that is in use under this identity.
    pub(super) fn in_use(&self, id: FileId) -> Option<Arc<Inode>> {
        self.inodes.get(&id).and_then(Weak::upgrade)
    }

    pub(super) fn inodes_in_use(&self) -> Vec<Arc<Inode>> {
        self.inodes.values().filter_map(Weak::upgrade).collect()
    }

    fn insert(&mut self, id: FileId, state: InodeState) -> Arc<Inode> {
        // What nobody uses any more is swept when the table would grow.
        if self.inodes.len() == self.inodes.capacity() {
            self.inodes.retain(|_, inode| inode.strong_count() > 0);
        }
        let inode = Arc::new(Inode { id, state: Mutex::new(state) });
        self.inodes.insert(id, Arc::downgrade(&inode));
        inode
    }

    /// Takes note of the recorded file, so that it is known by links that are not recorded.
    pub(super) fn add_alias(&mut self, id: FileId, fnode: Fnode, is_live: impl Fn(Fnode) -> bool) {
        if self.aliases.len() == self.aliases.capacity() {
            self.aliases.retain(|_, fnode| is_live(*fnode));
        }
        self.aliases.insert(id, fnode);
    }

    /// Takes note that a file became another one in the log.
    pub(super) fn change_alias(&mut self, id: FileId, fnode: Option<Fnode>) {
        if let (Some(alias), Some(fnode)) = (self.aliases.get_mut(&id), fnode) {
            *alias = fnode;
        }
    }

    /// Returns a path as the file system of the whole knows it.
    pub(super) fn global(&self, at: &At<'_>) -> PathBuf {
        match at.base.and_then(|base| self.bases.get(&base)) {
            Some(base) => base.join(at.path),
            None => at.path.to_owned(),
        }
    }

    /// Keeps track of where a directory is.
    fn add_base(&mut self, path: PathBuf) -> u64 {
        self.next_base += 1;
        self.bases.insert(self.next_base, path);
        self.next_base
    }
}

impl Tracker {
    /// Opens a file for writing by `local`, which opens `path` in the same `mode`.
    ///
    /// A file that is new is created in the log, one that is emptied becomes a new one there, and one that the
    /// log does not know is recorded whole.
    ///
    /// # Errors
    /// What `local` says; `InvalidInput` for a path outside of the recorded directory, a reserved one, and a
    /// property, which can only be replaced whole.
    pub fn open<T>(
        &self,
        path: &Path,
        mode: OpenMode,
        local: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<(T, Handle)> {
        self.open_at(At { fs: &*self.fs, base: None, path }, mode, local)
    }

    /// Removes one link of a file by `local`.
    pub fn remove_file(&self, path: &Path, local: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.remove_at(At { fs: &*self.fs, base: None, path }, local)
    }

    /// Links the file `existing` at `new` by `local`.
    pub fn hard_link(
        &self,
        existing: &Path,
        new: &Path,
        local: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let at = |path| At { fs: &*self.fs, base: None, path };
        self.link_at(at(existing), at(new), local)
    }

    pub(crate) fn open_at<T>(
        &self,
        at: At<'_>,
        mode: OpenMode,
        local: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<(T, Handle)> {
        let mut names = self.lock_names();
        self.recorder.check().map_err(io_error)?;
        // The file system knows best what is wrong with a path.
        let before = at.look()?;
        if at.path.as_os_str().is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let path = self.recorded(&names, &at, "open for writing").map_err(io_error)?;
        let Some(before) = before.filter(|found| found.kind == FileKind::File) else {
            let opened = local()?;
            let handle = self.after_local(self.created(&mut names, &at, path.as_ref()))?;
            return Ok((opened, handle));
        };
        let inode = self.inode(&mut names, &before, path.as_ref());
        let mut state = inode.lock();
        let opened = local()?;
        let mut found = || -> Result<()> {
            if mode == OpenMode::Truncate {
                let look = |error| Error::io("cannot look at a file that was emptied", error);
                let file = at.fs.open(at.path, OpenMode::Read).map_err(look)?;
                self.resized(&mut state, &*file, 0)?;
                names.change_alias(inode.id, state.fnode);
            }
            match (&path, state.fnode) {
                (Some(path), None) => self.adopt_at(&mut names, inode.id, &mut state, &at, path),
                (Some(path), Some(fnode)) if self.linked(path) != Some(fnode) => {
                    self.recorder.link(fnode, path)
                }
                _ => Ok(()),
            }
        };
        self.after_local(found())?;
        drop(state);
        Ok((opened, Handle(inode)))
    }

    /// Records a file that did not exist.
    fn created(&self, names: &mut Names, at: &At<'_>, path: Option<&LogPath>) -> Result<Handle> {
        let found = at.fs.metadata(at.path).map_err(|e| Error::io("cannot look at a new file", e))?;
        let fnode = path.map(|path| self.recorder.create(path)).transpose()?;
        // A number that was seen before belonged to a file that is gone.
        names.aliases.remove(&FileId::from(&found));
        Ok(Handle(names.insert(FileId::from(&found), InodeState { fnode, len: found.len })))
    }

    pub(crate) fn remove_at(&self, at: At<'_>, local: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let names = self.lock_names();
        self.recorder.check().map_err(io_error)?;
        let path = self.recorded(&names, &at, "remove").map_err(io_error)?;
        let inode = at.look()?.and_then(|found| names.in_use(FileId::from(&found)));
        let mut state = inode.as_deref().map(Inode::lock);
        local()?;
        let Some(path) = path.filter(|path| self.linked(path).is_some()) else { return Ok(()) };
        self.after_local(self.recorder.unlink(&path))?;
        self.forget_dead(state.as_mut());
        Ok(())
    }

    pub(crate) fn link_at(
        &self,
        existing: At<'_>,
        new: At<'_>,
        local: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut names = self.lock_names();
        self.recorder.check().map_err(io_error)?;
        let from = self.recorded(&names, &existing, "link").map_err(io_error)?;
        let to = self.recorded(&names, &new, "link over").map_err(io_error)?;
        let found = existing.fs.metadata(existing.path)?;
        if found.kind != FileKind::File {
            return local();
        }
        let inode = self.inode(&mut names, &found, from.as_ref());
        let mut state = inode.lock();
        local()?;
        let recorded = match (state.fnode, &to) {
            (Some(fnode), Some(to)) => self.recorder.link(fnode, to),
            (Some(fnode), None) => {
                names.add_alias(inode.id, fnode, |fnode| self.is_live(fnode));
                Ok(())
            }
            (None, Some(to)) => self.adopt_at(&mut names, inode.id, &mut state, &new, to),
            (None, None) => Ok(()),
        };
        self.after_local(recorded)
    }

    /// Records the whole file at `at`, which is not recorded yet, as `path`.
    pub(super) fn adopt_at(
        &self,
        names: &mut Names,
        id: FileId,
        state: &mut InodeState,
        at: &At<'_>,
        path: &LogPath,
    ) -> Result<()> {
        let look = |error| Error::io("cannot read a file that is to be recorded", error);
        let file = at.fs.open(at.path, OpenMode::Read).map_err(look)?;
        let found = file.metadata().map_err(look)?;
        state.len = found.len;
        let fnode = self.record_whole(&*file, found.len, std::slice::from_ref(path))?;
        state.fnode = Some(fnode);
        if found.links > 1 {
            names.add_alias(id, fnode, |fnode| self.is_live(fnode));
        }
        Ok(())
    }

    /// Returns the inode of a file that exists.
    pub(super) fn inode(&self, names: &mut Names, found: &Metadata, path: Option<&LogPath>) -> Arc<Inode> {
        let id = FileId::from(found);
        if let Some(inode) = names.in_use(id) {
            return inode;
        }
        let alias = || names.aliases.get(&id).copied().filter(|fnode| self.is_live(*fnode));
        let fnode = path.and_then(|path| self.linked(path)).or_else(alias);
        names.insert(id, InodeState { fnode, len: found.len })
    }

    /// Takes note that a file has lost its last recorded link.
    pub(super) fn forget_dead(&self, state: Option<&mut MutexGuard<'_, InodeState>>) {
        if let Some(state) = state {
            state.fnode = state.fnode.filter(|fnode| self.is_live(*fnode));
        }
    }

    pub(super) fn linked(&self, path: &LogPath) -> Option<Fnode> {
        self.recorder.with_fsm(|fsm| fsm.link(path))
    }

    pub(super) fn is_live(&self, fnode: Fnode) -> bool {
        self.recorder.with_fsm(|fsm| fsm.node(fnode).is_some())
    }

    /// Returns the path under which a file is recorded; `None` where the filter leaves it out.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for what cannot be recorded, and for a property, which `verb` may not be done to.
    pub(super) fn recorded(&self, names: &Names, at: &At<'_>, verb: &str) -> Result<Option<LogPath>> {
        let path = self.log_path(names, at)?;
        if self.recorder.is_property(&path) {
            return Err(Error::new(ErrorKind::Invalid, format!("cannot {verb} the property {path}")).advise(
                "a property is only replaced whole: write another file, and rename it over this one",
            ));
        }
        Ok(Some(path).filter(|path| self.filter.records(path)))
    }

    /// Returns where a path lies below the recorded directory.
    pub(super) fn log_path(&self, names: &Names, at: &At<'_>) -> Result<LogPath> {
        let invalid = |what: &str| {
            Error::new(ErrorKind::Invalid, format!("{} {what}", at.path.display()))
                .advise(format!("use paths below {}", self.root.display()))
        };
        let whole = names.global(at);
        let below = self.below(&whole).ok_or_else(|| invalid("is not in the recorded directory"))?;
        let path = LogPath::rooted(below.as_os_str().as_encoded_bytes())
            .map_err(|error| invalid("cannot be recorded").with_source(error))?;
        if path.is_reserved() {
            return Err(invalid("is a name that is reserved, or lies below it"));
        }
        if self.leads_through_a_symlink(at, below) {
            return Err(invalid("leads through a symbolic link"));
        }
        Ok(path)
    }

    /// Returns a path relative to the recorded directory, in which it lies.
    fn below<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        path.strip_prefix(&self.root).or_else(|_| path.strip_prefix(&self.resolved_root)).ok()
    }

    /// Tells whether a directory on the way to `below` is a symbolic link: what lies behind it is not in the
    /// recorded directory. A file system beneath a directory refuses such a path by itself.
    fn leads_through_a_symlink(&self, at: &At<'_>, below: &Path) -> bool {
        let parents = below.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
        let is_link = |parent: &Path| {
            let found = at.fs.metadata(&self.resolved_root.join(parent));
            found.is_ok_and(|found| found.kind == FileKind::Symlink)
        };
        at.base.is_none() && parents.into_iter().any(is_link)
    }

    /// Keeps track of the directory `at` until [`Tracker::end_base`].
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where it is reached through a symbolic link in the recorded directory.
    pub(crate) fn begin_base(&self, at: &At<'_>) -> Result<u64> {
        let mut names = self.lock_names();
        let path = names.global(at);
        if self.below(&path).is_some_and(|below| self.leads_through_a_symlink(at, below)) {
            let what = format!("{} leads through a symbolic link", at.path.display());
            return Err(Error::new(ErrorKind::Invalid, what));
        }
        Ok(names.add_base(path))
    }

    pub(crate) fn end_base(&self, base: u64) {
        self.lock_names().bases.remove(&base);
    }

    /// Reads a whole file that is small by its nature.
    pub(super) fn read_small(file: &dyn File, bytes_max: u64) -> Result<Vec<u8>> {
        let cannot = |error| Error::io("cannot read a file that becomes a property", error);
        let len = file.metadata().map_err(cannot)?.len;
        if len > bytes_max {
            return Err(Error::new(ErrorKind::Invalid, "a property is a small file")
                .expected(format!("at most {bytes_max} bytes"), len));
        }
        let mut content = vec![0; len as usize];
        file.read_exact_at(&mut content, 0).map_err(cannot)?;
        Ok(content)
    }
}
