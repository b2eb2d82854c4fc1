//! The operating system's files.
//!
//! *Invariants.* Every descriptor is close-on-exec. The last component of a path is never followed when it is a
//! symbolic link; in a file system made by [`FileSystem::beneath`] none is, and nothing outside the held
//! directory is reached even while others rename its contents. A failed sync is reported once and not retried.
//!
//! *Does not* run on network file systems with the promises of the seam: ask [`FileSystem::is_network`].

mod map;

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{self, AtFlags, CWD, FileType, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use self::map::Mapping;
use super::checks::{confined, mapped_bytes, not_regular, read_only, symlink_refused};
use super::{DirEntry, File, FileKind, FileSystem, LockMode, Metadata, OpenMode, SharedWords, copy_buffered};

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
            FileKind::File => {
                Ok(Arc::new(OsFile { fd, writable: mode.writes(), locked: AtomicBool::new(false) }))
            }
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
        Ok(fs::fsync(self.open_directory(path)?)?)
    }

    fn beneath(&self, path: &Path) -> io::Result<Arc<dyn FileSystem>> {
        let dir = self.open_directory(path)?;
        Ok(Arc::new(Self { base: Some(Arc::new(dir)) }))
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn boot_id(&self) -> io::Result<[u8; 16]> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| fs::openat(CWD, "/proc/sys/kernel/random/boot_id", flags, Mode::empty()))?;
        let mut text = [0; 37];
        let read = retry_on_intr(|| rustix::io::pread(&fd, &mut text, 0))?;
        parse_uuid(text.get(..read).unwrap_or_default())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the boot id of the system is no UUID"))
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn boot_id(&self) -> io::Result<[u8; 16]> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn is_network(&self, path: &Path) -> io::Result<bool> {
        let at = self.at(path)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| fs::openat(&at.dir, at.name, flags, Mode::empty()))?;
        Ok(is_network_magic(fs::fstatfs(fd)?.f_type))
    }

    #[cfg(target_vendor = "apple")]
    fn is_network(&self, path: &Path) -> io::Result<bool> {
        /// `MNT_LOCAL` of `sys/mount.h`.
        const LOCAL: u32 = 0x1000;
        let at = self.at(path)?;
        let fd = retry_on_intr(|| {
            fs::openat(&at.dir, at.name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
        })?;
        Ok(fs::fstatfs(fd)?.f_flags & LOCAL == 0)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    fn is_network(&self, _path: &Path) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// An open file of the operating system.
struct OsFile {
    fd: OwnedFd,
    writable: bool,
    /// Whether a lock was ever taken.
    locked: AtomicBool,
}

impl OsFile {
    fn for_writing(&self) -> io::Result<&OwnedFd> {
        if self.writable { Ok(&self.fd) } else { Err(read_only()) }
    }
}

impl Drop for OsFile {
    fn drop(&mut self) {
        // Closing alone does not end the lock while a mapping made through this descriptor lives.
        if *self.locked.get_mut() {
            drop(self.unlock());
        }
    }
}

impl fmt::Debug for OsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OsFile({:?})", self.fd)
    }
}

impl File for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pread(&self.fd, buffer, offset)?)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwrite(self.for_writing()?, bytes, offset)?)
    }

    fn metadata(&self) -> io::Result<Metadata> {
        Ok(metadata_of(&fs::fstat(&self.fd)?))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let fd = self.for_writing()?;
        Ok(retry_on_intr(|| fs::ftruncate(fd, len))?)
    }

    // On Apple systems fsync leaves the bytes in the cache of the drive.
    #[cfg(target_vendor = "apple")]
    fn sync_data(&self) -> io::Result<()> {
        Ok(fs::fcntl_fullfsync(&self.fd)?)
    }

    #[cfg(not(target_vendor = "apple"))]
    fn sync_data(&self) -> io::Result<()> {
        Ok(fs::fdatasync(&self.fd)?)
    }

    #[cfg(target_vendor = "apple")]
    fn sync_all(&self) -> io::Result<()> {
        Ok(fs::fcntl_fullfsync(&self.fd)?)
    }

    #[cfg(not(target_vendor = "apple"))]
    fn sync_all(&self) -> io::Result<()> {
        Ok(fs::fsync(&self.fd)?)
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let fd = self.for_writing()?;
        match retry_on_intr(|| fs::fallocate(fd, fs::FallocateFlags::empty(), offset, len)) {
            Err(Errno::NOTSUP | Errno::NOSYS) => Err(io::ErrorKind::Unsupported.into()),
            done => Ok(done?),
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn allocate(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    // `flock` belongs to the open file description on every system we run on, takes an exclusive lock through a
    // handle opened for reading, and does not end when an unrelated handle of the file is closed.
    fn try_lock(&self, mode: LockMode) -> io::Result<bool> {
        let operation = match mode {
            LockMode::Shared => FlockOperation::NonBlockingLockShared,
            LockMode::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        self.locked.store(true, Ordering::Relaxed);
        match retry_on_intr(|| fs::flock(&self.fd, operation)) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn unlock(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::flock(&self.fd, FlockOperation::Unlock))?)
    }

    fn map_shared(&self, words: usize) -> io::Result<Arc<dyn SharedWords>> {
        let fd = self.for_writing()?;
        let bytes = mapped_bytes(words)?;
        // Reserved, not only extended: a store into a hole of a full disk would kill the process. Unlike
        // set_len this never cuts what another process adds meanwhile.
        match self.allocate(0, bytes) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                if self.metadata()?.len < bytes {
                    self.set_len(bytes)?;
                }
            }
            done => done?,
        }
        Ok(Arc::new(Mapping::new(fd.as_fd(), words)?))
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn copy_to(&self, from: u64, target: &dyn File, to: u64, len: u64) -> io::Result<u64> {
        /// Bytes asked for at once, so that a signal or a deadline of the caller is seen soon.
        const CHUNK: u64 = 1 << 30;
        let Some(target_fd) = target.as_fd() else { return copy_buffered(self, from, target, to, len) };
        let (mut source_at, mut target_at) = (from, to);
        let chunk = len.min(CHUNK) as usize;
        let copied =
            fs::copy_file_range(&self.fd, Some(&mut source_at), target_fd, Some(&mut target_at), chunk);
        match copied {
            // The kernel declines the pair of files; nothing was copied. Also said of a target that is not
            // opened for writing, which the buffered copy then says in the words of the seam.
            Err(Errno::XDEV | Errno::NOSYS | Errno::NOTSUP | Errno::INVAL | Errno::BADF | Errno::PERM) => {
                copy_buffered(self, from, target, to, len)
            }
            done => Ok(done? as u64),
        }
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
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

fn kind_of(file_type: FileType) -> FileKind {
    match file_type {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    }
}

fn metadata_of(stat: &fs::Stat) -> Metadata {
    /// The fields differ in width and sign from system to system.
    fn number<T: TryInto<N>, N: Default>(value: T) -> N {
        value.try_into().unwrap_or_default()
    }
    Metadata {
        kind: kind_of(FileType::from_raw_mode(stat.st_mode)),
        len: number(stat.st_size),
        inode: number(stat.st_ino),
        device: number(stat.st_dev),
        links: number(stat.st_nlink),
        modified_unix_secs: number(stat.st_mtime),
    }
}

/// Tells whether a file system of this type lives on another machine, or is shared with one.
///
/// The numbers are those of `linux/magic.h` and of the file systems' own headers.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_network_magic<T: TryInto<i64>>(magic: T) -> bool {
    const NETWORK: [u32; 22] = [
        0x0000_6969, // NFS
        0x0000_517b, // SMB
        0xfe53_4d42, // SMB 2
        0xff53_4d42, // CIFS
        0x0000_564c, // NCP
        0x5346_414f, // AFS
        0x6b41_4653, // kAFS
        0x7375_7245, // Coda
        0x0102_1997, // 9P
        0x00c3_6400, // Ceph
        0x0bd0_0bd0, // Lustre
        0x4750_4653, // GPFS
        0x0116_1970, // GFS2
        0x7461_636f, // OCFS2
        0x1983_0326, // BeeGFS
        0xaad7_aaea, // PanFS
        0x2003_0528, // OrangeFS
        0xbeef_dead, // SNFS
        0x786f_4256, // VirtualBox shared folders
        0xbacb_acbc, // VMware shared folders
        0x7c7c_6673, // Parallels shared folders
        0x6163_6673, // ACFS
    ];
    // Signed or not, and 32 or 64 bits wide, depending on the machine.
    magic.try_into().is_ok_and(|magic| NETWORK.contains(&(magic as u32)))
}

/// Reads a UUID in its usual form, with dashes or without.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn parse_uuid(text: &[u8]) -> Option<[u8; 16]> {
    let mut digits = text.trim_ascii().iter().filter(|byte| **byte != b'-');
    let mut digit = || char::from(*digits.next()?).to_digit(16);
    let mut id = [0; 16];
    for byte in &mut id {
        *byte = (digit()? << 4 | digit()?) as u8;
    }
    digits.next().is_none().then_some(id)
}
