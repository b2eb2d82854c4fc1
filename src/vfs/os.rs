//! The operating system's files.
//!
//! *Invariants.* Every descriptor is close-on-exec. The last component of a path is not followed when it is a
//! symbolic link, but by [`FileSystem::resolve_dir`]; in a file system made by [`FileSystem::beneath`] none is, and nothing outside the held
//! directory is reached even while others rename its contents. A failed sync is reported once and not retried.
//!
//! *Does not* run on network file systems with the promises of the seam: ask [`FileSystem::is_network`].

mod file;
mod host;
mod map;

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use self::file::{OsFile, kind_of, metadata_of};
use super::checks::{confined, not_regular, symlink_refused};
use super::{DirEntry, File, FileKind, FileSystem, Metadata, OpenMode, sync_tree_by_file};

/// Permissions of new files and directories before the umask.
const FILE_MODE: Mode = Mode::from_raw_mode(0o666);
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o777);

/// How directories are opened to be read, synced or held.
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The file system of the operating system.
///
/// Relative paths start at the current directory of the process, or at the directory given to
/// [`FileSystem::beneath`].
#[derive(Clone, Debug, Default)]
pub struct OsFs {
    /// The directory that paths are confined to.
    base: Option<Arc<OwnedFd>>,
}

impl OsFs {
    /// Returns the whole file system.
    pub const fn new() -> Self {
        Self { base: None }
    }

    /// Resolves all of `path` but its last component.
    fn at<'a>(&'a self, path: &'a Path) -> io::Result<Spot<'a>> {
        // Without a trailing slash, which would let the kernel follow a link.
        let path = path.components().as_path();
        let Some(base) = &self.base else {
            return Ok(Spot { dir: Held::Borrowed(CWD), name: path.as_os_str() });
        };
        let path = confined(path)?;
        let Some(name) = path.file_name() else {
            return Ok(Spot { dir: Held::Borrowed(base.as_fd()), name: OsStr::new(".") });
        };
        let dir = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => Held::Owned(walk(base.as_fd(), parent)?),
            _ => Held::Borrowed(base.as_fd()),
        };
        Ok(Spot { dir, name })
    }

    fn open_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let at = self.at(path)?;
        Ok(retry_on_intr(|| fs::openat(&at.dir, at.name, DIRECTORY, Mode::empty()))?)
    }
}

impl FileSystem for OsFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let access = match mode {
            OpenMode::Read => OFlags::RDONLY,
            OpenMode::ReadWrite => OFlags::RDWR,
            OpenMode::Create => OFlags::RDWR | OFlags::CREATE,
            OpenMode::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            OpenMode::Truncate => OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC,
        };
        // A pipe that somebody put there must not block the open, nor a terminal take over the process.
        let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let at = self.at(path)?;
        let fd = retry_on_intr(|| fs::openat(&at.dir, at.name, flags, FILE_MODE)).map_err(link_refused)?;
        match kind_of(FileType::from_raw_mode(fs::fstat(&fd)?.st_mode)) {
            FileKind::File => Ok(Arc::new(OsFile::new(fd, mode))),
            FileKind::Directory => Err(io::ErrorKind::IsADirectory.into()),
            FileKind::Symlink | FileKind::Other => Err(not_regular()),
        }
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let at = self.at(path)?;
        Ok(metadata_of(&fs::statat(&at.dir, at.name, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let dir = self.open_directory(path)?;
        let mut entries = Vec::new();
        for entry in fs::Dir::read_from(&dir)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let file_type = match entry.file_type() {
                FileType::Unknown => match fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(Errno::NOENT) => continue,
                    Err(error) => return Err(error.into()),
                },
                known => known,
            };
            entries.push(DirEntry { name: name.to_owned(), kind: kind_of(file_type) });
        }
        entries.sort();
        Ok(entries)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let at = self.at(path)?;
        Ok(fs::mkdirat(&at.dir, at.name, DIRECTORY_MODE)?)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let at = self.at(path)?;
        Ok(fs::unlinkat(&at.dir, at.name, AtFlags::REMOVEDIR)?)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let at = self.at(path)?;
        Ok(fs::unlinkat(&at.dir, at.name, AtFlags::empty())?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.at(from)?, self.at(to)?);
        Ok(fs::renameat(&from.dir, from.name, &to.dir, to.name)?)
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.at(from)?, self.at(to)?);
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        match fs::renameat_with(&from.dir, from.name, &to.dir, to.name, fs::RenameFlags::NOREPLACE) {
            // Also said of a directory moved into itself; the fallback then says it again.
            Err(Errno::NOSYS | Errno::INVAL | Errno::NOTSUP) => {}
            done => return Ok(done?),
        }
        rename_by_link(&from, &to)
    }

    fn hard_link(&self, existing: &Path, new: &Path) -> io::Result<()> {
        let (existing, new) = (self.at(existing)?, self.at(new)?);
        Ok(fs::linkat(&existing.dir, existing.name, &new.dir, new.name, AtFlags::empty())?)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        file::sync(&self.open_directory(path)?)
    }

    /// Syncs file by file, as the provided method does. Before that the whole file system is asked to write all
    /// that it has, at once: each file then finds its bytes written, where it would commit by itself otherwise.
    fn sync_tree(&self, path: &Path) -> io::Result<()> {
        // What this says may be of files of others. What each file and directory below says is what counts.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        fs::syncfs(self.open_directory(path)?).unwrap_or_default();
        sync_tree_by_file(self, path)
    }

    fn beneath(&self, path: &Path) -> io::Result<Arc<dyn FileSystem>> {
        let dir = self.open_directory(path)?;
        Ok(Arc::new(Self { base: Some(Arc::new(dir)) }))
    }

    fn resolve_dir(&self, path: &Path) -> io::Result<PathBuf> {
        // Beneath a directory there is no link to follow, or it is refused.
        let resolved = match &self.base {
            Some(_) => confined(path)?.to_owned(),
            None => std::fs::canonicalize(path)?,
        };
        match self.metadata(&resolved)?.kind {
            FileKind::Directory => Ok(resolved),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn boot_id(&self) -> io::Result<[u8; 16]> {
        host::boot_id()
    }

    fn is_network(&self, path: &Path) -> io::Result<bool> {
        let at = self.at(path)?;
        host::is_network(&at.dir, at.name)
    }
}

/// A name and the directory it is in.
struct Spot<'a> {
    dir: Held<'a>,
    name: &'a OsStr,
}

/// A directory descriptor, held for the length of a call or longer.
enum Held<'a> {
    Borrowed(BorrowedFd<'a>),
    Owned(OwnedFd),
}

impl AsFd for Held<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Borrowed(fd) => *fd,
            Self::Owned(fd) => fd.as_fd(),
        }
    }
}

/// Opens the directory `path` beneath `base`; `path` has passed [`confined`].
fn walk(base: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::fs::ResolveFlags;

        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        // Without NOFOLLOW a link in the last component is reported as the others are.
        let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
        match retry_on_intr(|| fs::openat2(base, path, flags, Mode::empty(), resolve)) {
            // Not in this kernel, forbidden by a sandbox, or unsure because of a concurrent rename.
            Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => {}
            done => return done.map_err(link_refused),
        }
    }
    walk_by_component(base, path)
}

fn walk_by_component(base: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let mut dir = Held::Borrowed(base);
    for component in path.components() {
        let name = component.as_os_str();
        let next = retry_on_intr(|| fs::openat(&dir, name, DIRECTORY, Mode::empty()));
        dir = Held::Owned(next.map_err(|errno| {
            let stat = fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW);
            let is_link = stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_symlink());
            if is_link { symlink_refused() } else { io::Error::from(errno) }
        })?);
    }
    match dir {
        Held::Owned(dir) => Ok(dir),
        Held::Borrowed(dir) => dir.try_clone_to_owned(),
    }
}

/// Renames where the kernel or the file system knows no atomic rename without replacing.
///
/// A file is linked to its new name and unlinked from the old one: never replaces, but both names are there for
/// a moment, or for good after a crash. Anything else is looked for and renamed: what another process puts
/// there in between is replaced if it is an empty directory.
fn rename_by_link(from: &Spot<'_>, to: &Spot<'_>) -> io::Result<()> {
    let stat = fs::statat(&from.dir, from.name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode).is_file() {
        fs::linkat(&from.dir, from.name, &to.dir, to.name, AtFlags::empty())?;
        return Ok(fs::unlinkat(&from.dir, from.name, AtFlags::empty())?);
    }
    match fs::statat(&to.dir, to.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(Errno::NOENT) => Ok(fs::renameat(&from.dir, from.name, &to.dir, to.name)?),
        Err(error) => Err(error.into()),
    }
}

fn link_refused(errno: Errno) -> io::Error {
    if errno == Errno::LOOP { symlink_refused() } else { errno.into() }
}

#[cfg(test)]
mod tests;
