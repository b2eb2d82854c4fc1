//! Renames: of files, over files, between what is recorded and what is not, and of directories.
//!
//! *Invariants.* A rename of a recorded file to a recorded path is committed by one append, and so are all those
//! of a directory. Where both paths are links of one file nothing happens, as POSIX has it.
//!
//! *Does not* follow symbolic links, nor record what is no regular file.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::names::{At, FileId, Names};
use super::{Inode, InodeState, Tracker, io_error};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::LogPath;
use crate::recorder::OP_BYTES_MAX;
use crate::sync::MutexGuard;
use crate::vfs::{FileKind, OpenMode};

/// A file below a directory that is renamed.
struct Moved {
    from: LogPath,
    to: LogPath,
    /// Its path relative to the directory.
    below: PathBuf,
    /// Whether it is recorded where it goes.
    recorded: bool,
}

impl Tracker {
    /// Renames `from` to `to` by `local`.
    ///
    /// # Errors
    /// What `local` says; `InvalidInput` for a path outside of the recorded directory, and for a rename of a
    /// property.
    pub fn rename(&self, from: &Path, to: &Path, local: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let at = |path| At { fs: &*self.fs, base: None, path };
        self.rename_at(at(from), at(to), local)
    }

    pub(crate) fn rename_at(
        &self,
        from: At<'_>,
        to: At<'_>,
        local: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut names = self.lock_names();
        self.recorder.check().map_err(io_error)?;
        let Some(source) = from.look()? else { return local() };
        if source.kind == FileKind::Directory {
            return self.rename_directory(&mut names, &from, &to, local);
        }
        let from_path = self.recorded(&names, &from, "rename").map_err(io_error)?;
        let to_path = self.log_path(&names, &to).map_err(io_error)?;
        let target = to.look()?;
        let same = target.is_some_and(|target| FileId::from(&target) == FileId::from(&source));
        if source.kind != FileKind::File || same {
            return local();
        }

        let inode = self.inode(&mut names, &source, from_path.as_ref());
        let replaced = target.and_then(|target| names.in_use(FileId::from(&target)));
        // Only a holder of the lock of names waits for two inodes.
        let mut state = inode.lock();
        let mut replaced_state = replaced.as_deref().map(Inode::lock);
        local()?;
        let recorded = self.renamed(&mut names, (&from_path, inode.id), (&to_path, &to), &mut state);
        self.after_local(recorded)?;
        self.forget_dead(Some(&mut state));
        self.forget_dead(replaced_state.as_mut());
        Ok(())
    }

    /// Records that a file was renamed.
    fn renamed(
        &self,
        names: &mut Names,
        (from, id): (&Option<LogPath>, FileId),
        (to, at): (&LogPath, &At<'_>),
        state: &mut MutexGuard<'_, InodeState>,
    ) -> Result<()> {
        let linked = from.as_ref().filter(|path| self.linked(path).is_some());
        if self.recorder.is_property(to) {
            let look = |error| Error::io("cannot read a file that becomes a property", error);
            let file = at.fs.open(at.path, OpenMode::Read).map_err(look)?;
            let content = Bytes::from(Self::read_small(&*file, OP_BYTES_MAX as u64)?);
            let from = from.clone().unwrap_or_else(|| LogPath::from_bytes(b""));
            return self.recorder.rename_to_property(&from, to, content);
        }
        match (linked, state.fnode) {
            (Some(from), _) if self.filter.records(to) => self.recorder.rename(from, to),
            (Some(from), fnode) => {
                self.recorder.unlink(from)?;
                if let Some(fnode) = fnode {
                    names.add_alias(id, fnode, |fnode| self.is_live(fnode));
                }
                Ok(())
            }
            (None, _) if !self.filter.records(to) => Ok(()),
            (None, Some(fnode)) => self.recorder.link(fnode, to),
            (None, None) => self.adopt_at(names, id, state, at, to),
        }
    }

    fn rename_directory(
        &self,
        names: &mut Names,
        from: &At<'_>,
        to: &At<'_>,
        local: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let from_path = self.log_path(names, from).map_err(io_error)?;
        let to_path = self.log_path(names, to).map_err(io_error)?;
        let mut moved = Vec::new();
        self.files_below(from, Path::new(""), &from_path, &to_path, &mut moved)?;
        local()?;

        let (old, new) = (names.global(from), names.global(to));
        for base in names.bases.values_mut() {
            if let Ok(below) = base.strip_prefix(&old) {
                *base = if below.as_os_str().is_empty() { new.clone() } else { new.join(below) };
            }
        }
        let recorded = self.renamed_below(names, to, &moved);
        self.after_local(recorded)
    }

    /// Records the renames of all files of a directory: those that are recorded, in one append, and then what
    /// was not recorded before.
    fn renamed_below(&self, names: &mut Names, to: &At<'_>, moved: &[Moved]) -> Result<()> {
        let paths = moved.iter().flat_map(|file| [&file.from, &file.to]).collect::<Vec<_>>();
        let reserved = self.recorder.reserve_ops(&paths)?;
        let left_out = self.recorder.transaction(reserved, |tx| {
            let mut left_out = Vec::new();
            for file in moved {
                match (tx.fsm().link(&file.from), file.recorded) {
                    (Some(_), true) => tx.rename(&file.from, &file.to)?,
                    (Some(fnode), false) => {
                        tx.unlink(&file.from)?;
                        left_out.push((file, Some(fnode)));
                    }
                    (None, true) => left_out.push((file, None)),
                    (None, false) => {}
                }
            }
            Ok(left_out)
        })?;
        for (file, was) in left_out {
            let path = to.path.join(&file.below);
            let at = At { path: &path, ..*to };
            let look = |error| Error::io("cannot look at a renamed file", error);
            let found = at.look().map_err(look)?.ok_or_else(|| look(io::ErrorKind::NotFound.into()))?;
            let inode = self.inode(names, &found, None);
            let mut state = inode.lock();
            match (was, state.fnode) {
                (Some(fnode), _) => {
                    names.add_alias(inode.id, fnode, |fnode| self.is_live(fnode));
                    self.forget_dead(Some(&mut state));
                }
                (None, Some(fnode)) => self.recorder.link(fnode, &file.to)?,
                (None, None) => self.adopt_at(names, inode.id, &mut state, &at, &file.to)?,
            }
        }
        Ok(())
    }

    /// Lists the regular files below a directory, at any depth.
    fn files_below(
        &self,
        from: &At<'_>,
        below: &Path,
        from_path: &LogPath,
        to_path: &LogPath,
        moved: &mut Vec<Moved>,
    ) -> io::Result<()> {
        let directory = from.path.join(below);
        for entry in from.fs.read_dir(&directory)? {
            let below = below.join(&entry.name);
            match entry.kind {
                FileKind::Directory => self.files_below(from, &below, from_path, to_path, moved)?,
                FileKind::File => {
                    let join = |base: &LogPath| -> Result<LogPath> {
                        let parts = [base.as_bytes(), b"/", below.as_os_str().as_encoded_bytes()];
                        LogPath::rooted(&parts.concat()).map_err(|error| {
                            Error::new(ErrorKind::Invalid, "a file below a directory cannot be recorded")
                                .with_source(error)
                        })
                    };
                    let (from, to) = (join(from_path).map_err(io_error)?, join(to_path).map_err(io_error)?);
                    if self.recorder.is_property(&from) || self.recorder.is_property(&to) {
                        let what = format!("cannot rename the directory of the property {from}");
                        return Err(io_error(Error::new(ErrorKind::Invalid, what)));
                    }
                    let recorded = self.filter.records(&to);
                    moved.push(Moved { from, to, below, recorded });
                }
                FileKind::Symlink | FileKind::Other => {}
            }
        }
        Ok(())
    }
}
