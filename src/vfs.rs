//! The seam to local files: a file system reached by path, files reached by position.
//!
//! *Invariants.* Every trait here is object-safe. All I/O is positional, so that no handle has a cursor to
//! lose. Nothing but [`FileSystem::resolve_dir`] follows a symbolic link in the last component of a path. What is not synced may be lost in a
//! crash: file content and length until [`File::sync_data`], a name until [`FileSystem::sync_dir`] of its
//! directory.
//!
//! *Does not* buffer, retry or create missing parents.

mod checks;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod faulty;
mod memory;
#[cfg(unix)]
mod os;

use std::any::Any;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

pub use self::faulty::{Effect, EffectCount, Fault, FaultPlan, FaultyFs, Injected};
pub use self::memory::{CrashPlan, MemoryFs};
#[cfg(unix)]
pub use self::os::OsFs;
use crate::clock::Deadline;

/// How [`FileSystem::open`] treats a file that exists, and one that does not.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum OpenMode {
    /// Read an existing file.
    Read,
    /// Read and write an existing file.
    ReadWrite,
    /// Read and write; created where missing.
    Create,
    /// Read and write; created, and refused with `AlreadyExists` where the name is taken.
    CreateNew,
    /// Read and write; created where missing, emptied where present.
    Truncate,
}

impl OpenMode {
    /// Tells whether a handle opened so may write.
    pub const fn writes(self) -> bool {
        !matches!(self, Self::Read)
    }
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link; never followed.
    Symlink,
    /// A socket, device or pipe.
    Other,
}

/// Facts about a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Metadata {
    /// What it is.
    pub kind: FileKind,
    /// Length in bytes.
    pub len: u64,
    /// Identity of the inode within its file system: equal for all links of one file.
    pub inode: u64,
    /// Identity of the file system.
    pub device: u64,
    /// Number of hard links.
    pub links: u64,
    /// Time of the last change of content, in seconds since the Unix epoch.
    pub modified_unix_secs: i64,
    /// Nanoseconds of that second.
    pub modified_nanos: u32,
}

/// One name in a directory.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct DirEntry {
    /// The name, one component.
    pub name: OsString,
    /// What it stands for.
    pub kind: FileKind,
}

impl PartialOrd for FileKind {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for FileKind {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (*self as u8).cmp(&(*other as u8))
    }
}

/// A file system, reached by path.
///
/// ```
/// use std::path::Path;
/// use recoverylog::vfs::{FileSystem, File, MemoryFs, OpenMode};
///
/// # fn main() -> std::io::Result<()> {
/// let fs = MemoryFs::new();
/// let file = fs.open(Path::new("/greeting"), OpenMode::CreateNew)?;
/// file.write_all_at(b"hello", 0)?;
/// file.sync_data()?;
/// fs.sync_dir(Path::new("/"))?;
/// assert_eq!(fs.metadata(Path::new("/greeting"))?.len, 5);
/// # Ok(())
/// # }
/// ```
pub trait FileSystem: Any + fmt::Debug + Send + Sync {
    /// Opens a regular file.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists` (for [`OpenMode::CreateNew`]), `IsADirectory`, `InvalidInput` for anything
    /// else that is no regular file, a symbolic link in the last component among it, and whatever the system
    /// says.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Returns facts about what `path` names, without following a symbolic link there.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;

    /// Lists a directory, sorted by name, without `.` and `..`.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;

    /// Creates one directory; its parent must exist.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Removes one link of a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Renames, replacing what `to` named, as POSIX rename does.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames without replacing: `AlreadyExists` where `to` is taken. An empty directory is taken too.
    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Links the file `existing` at `new`; `AlreadyExists` where that is taken.
    fn hard_link(&self, existing: &Path, new: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the directory `path` durable with all that is in it.
    ///
    /// The provided method syncs file by file and directory by directory; a file system that can do better at
    /// once should.
    fn sync_tree(&self, path: &Path) -> io::Result<()> {
        sync_tree_by_file(self, path)
    }

    /// Returns a file system whose relative paths lie beneath the directory `path`, which is held open.
    ///
    /// Its paths have no leading slash and no `..`; no component of theirs is ever resolved through a symbolic
    /// link, so that nothing outside the directory can be reached. `Path::new("")` and `Path::new(".")` name the
    /// directory itself. The directory stays the same when it is renamed.
    ///
    /// # Errors
    /// `NotADirectory` where `path` is something else, a symbolic link among it. Later, `InvalidInput` for every
    /// path that is absolute, has a `..`, or leads through a symbolic link.
    fn beneath(&self, path: &Path) -> io::Result<Arc<dyn FileSystem>>;

    /// Returns where the directory `path` lies, as a path without symbolic links. Links on the way are followed, and
    /// one in the last component too: this is for directories that a person names.
    ///
    /// The provided method is for a file system that has no symbolic links.
    ///
    /// # Errors
    /// `NotFound` and `NotADirectory`; beneath a directory, what every path is refused with there.
    fn resolve_dir(&self, path: &Path) -> io::Result<PathBuf> {
        match self.metadata(path)?.kind {
            FileKind::Directory => Ok(path.to_owned()),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Returns an identity of this boot of the machine: two equal values mean that the page cache in between
    /// was never lost.
    fn boot_id(&self) -> io::Result<[u8; 16]>;

    /// Tells whether `path` lies on a file system of another machine, whose locks and syncs cannot be trusted.
    fn is_network(&self, path: &Path) -> io::Result<bool>;
}

impl<F: FileSystem + ?Sized> FileSystem for Arc<F> {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        (**self).open(path, mode)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        (**self).metadata(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        (**self).read_dir(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        (**self).create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        (**self).remove_dir(path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        (**self).remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        (**self).rename(from, to)
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        (**self).rename_no_replace(from, to)
    }

    fn hard_link(&self, existing: &Path, new: &Path) -> io::Result<()> {
        (**self).hard_link(existing, new)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        (**self).sync_dir(path)
    }

    fn sync_tree(&self, path: &Path) -> io::Result<()> {
        (**self).sync_tree(path)
    }

    fn beneath(&self, path: &Path) -> io::Result<Arc<dyn FileSystem>> {
        (**self).beneath(path)
    }

    fn resolve_dir(&self, path: &Path) -> io::Result<PathBuf> {
        (**self).resolve_dir(path)
    }

    fn boot_id(&self) -> io::Result<[u8; 16]> {
        (**self).boot_id()
    }

    fn is_network(&self, path: &Path) -> io::Result<bool> {
        (**self).is_network(path)
    }
}

/// An open file.
///
/// Calls that change content or length fail with `PermissionDenied` on a handle opened with [`OpenMode::Read`].
pub trait File: Any + fmt::Debug + Send + Sync {
    /// Reads at `offset`; may read less than asked, zero bytes at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at `offset`; may write less than asked. A gap before `offset` reads as zeros.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Returns facts about the file.
    fn metadata(&self) -> io::Result<Metadata>;

    /// Cuts the file, or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes content and length durable. After an error the state of unsynced content is unknown, and a later
    /// success says nothing about it: never retry.
    fn sync_data(&self) -> io::Result<()>;

    /// As [`File::sync_data`], with all metadata.
    fn sync_all(&self) -> io::Result<()>;

    /// Asks the system to begin writing `len` bytes at `offset` to the medium now, so that a later sync has less to do.
    /// It promises nothing, and cannot fail. The provided method does nothing.
    fn begin_sync(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }

    /// Reserves space for `len` bytes from `offset` on and extends the file to their end; the new bytes read
    /// as zeros. `Unsupported` where the file system cannot.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Takes an advisory lock without waiting; false where another open handle, in any process, holds one in
    /// conflict. The lock belongs to this handle and ends with it. A handle that holds a lock in the other mode
    /// gives it up first, even where false is returned.
    fn try_lock(&self, mode: LockMode) -> io::Result<bool>;

    /// Gives the lock back.
    fn unlock(&self) -> io::Result<()>;

    /// Maps the first `words` 64-bit words of the file, in the byte order of the machine, shared by every
    /// process that maps them. The file is extended with zeros where it is shorter, and their space is reserved.
    /// The mapping outlives the handle, but holds no lock of it.
    ///
    /// Never cut a file that is mapped: a process that touches a word past the end is killed by the system.
    ///
    /// # Errors
    /// `InvalidInput` for no words or too many.
    fn map_shared(&self, words: usize) -> io::Result<Arc<dyn SharedWords>>;

    /// Copies `len` bytes at `from` of this file to `to` of `target`, in the kernel where it can be. Returns
    /// the number of bytes copied, which may be less than asked; zero at the end of this file.
    ///
    /// The provided method reads and writes through a buffer.
    fn copy_to(&self, from: u64, target: &dyn File, to: u64, len: u64) -> io::Result<u64> {
        copy_buffered(self, from, target, to, len)
    }

    /// Returns the descriptor of a file of the operating system, for kernel copies and adapters that need one.
    /// A file that watches or changes what is done to another returns `None`, so that nobody goes past it.
    #[cfg(unix)]
    fn as_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }

    /// Reads until `buffer` is full.
    ///
    /// # Errors
    /// `UnexpectedEof` where the file ends before that.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all of `bytes`. After an error an unknown part of them is written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match self.write_at(rest, offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => done += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether a lock can be held by several handles at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LockMode {
    /// Held by any number of handles, none of them exclusive.
    Shared,
    /// Held by one handle only.
    Exclusive,
}

/// Words of memory that several processes share through a file.
///
/// A store is seen by every process at once; it reaches the disk with the next sync of the file, or whenever
/// the system writes the page back. It survives the death of any process, not that of the machine.
pub trait SharedWords: fmt::Debug + Send + Sync {
    /// Returns the word at `index`; `None` past the end of the mapping.
    fn word(&self, index: usize) -> Option<&AtomicU64>;

    /// Sleeps until the low 32 bits of a word are seen to differ from those of `seen`, [`SharedWords::wake`] is
    /// called for it from any process, or `deadline` passes. May wake for no reason: look at the word again.
    fn wait(&self, index: usize, seen: u64, deadline: Deadline);

    /// Wakes every waiter at `index`, in all processes.
    fn wake(&self, index: usize);
}

/// Copies once between two files through a buffer of at most 256 KiB.
fn copy_buffered<F: File + ?Sized>(
    source: &F,
    from: u64,
    target: &dyn File,
    to: u64,
    len: u64,
) -> io::Result<u64> {
    let mut buffer = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(1 << 18)];
    let read = source.read_at(&mut buffer, from)?;
    target.write_all_at(buffer.get(..read).unwrap_or_default(), to)?;
    Ok(read as u64)
}

/// Returns where a directory that a person names lies, or is going to: the symbolic links that lead there are
/// resolved. Where that cannot be, the path stays as it is, and whoever uses it is told why.
pub(crate) fn resolve_named(fs: &dyn FileSystem, path: &Path) -> PathBuf {
    match fs.resolve_dir(path) {
        Ok(resolved) => return resolved,
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs.metadata(path).is_err() => {}
        Err(_) => return path.to_owned(),
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if parent.as_os_str().is_empty() => {
            resolve_named(fs, Path::new(".")).join(name)
        }
        (Some(parent), Some(name)) => resolve_named(fs, parent).join(name),
        _ => path.to_owned(),
    }
}

/// Syncs every file and directory below `path`, and then `path`.
fn sync_tree_by_file<F: FileSystem + ?Sized>(fs: &F, path: &Path) -> io::Result<()> {
    for entry in fs.read_dir(path)? {
        let path = path.join(entry.name);
        match entry.kind {
            FileKind::Directory => sync_tree_by_file(fs, &path)?,
            FileKind::File => fs.open(&path, OpenMode::Read)?.sync_all()?,
            FileKind::Symlink | FileKind::Other => {}
        }
    }
    fs.sync_dir(path)
}

/// Creates `path` and its missing parents, and makes every new name durable.
pub fn create_dir_all_synced(fs: &dyn FileSystem, path: &Path) -> io::Result<()> {
    match fs.metadata(path) {
        Ok(found) if found.kind == FileKind::Directory => return Ok(()),
        Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let parent = path.parent().ok_or(io::ErrorKind::NotFound)?;
    if !parent.as_os_str().is_empty() {
        create_dir_all_synced(fs, parent)?;
    }
    match fs.create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let named_in = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    fs.sync_dir(named_in)
}

/// Makes the names of all folders that lead to `folder` durable: whoever made one may have died before that. Of those
/// that are not in `own` one that may not be synced belongs to somebody else, who made it durable.
pub(crate) fn sync_parents(fs: &dyn FileSystem, folder: &Path, own: &Path) -> io::Result<()> {
    for parent in folder.ancestors().skip(1) {
        let named = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match fs.sync_dir(named) {
            Err(error) if !parent.starts_with(own) => {
                let refused = [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem];
                if !refused.contains(&error.kind()) {
                    return Err(error);
                }
            }
            synced => synced?,
        }
    }
    Ok(())
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
