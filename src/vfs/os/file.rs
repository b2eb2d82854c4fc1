//! An open file of the operating system.
//!
//! *Invariants.* A sync reaches the medium as far as the system can say so. A lock ends with its handle, whatever
//! else keeps the file open.
//!
//! *Does not* resolve paths.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{self, FileType, FlockOperation};
use rustix::io::{Errno, retry_on_intr};

use super::map::Mapping;
use crate::vfs::checks::{mapped_bytes, read_only};
use crate::vfs::{File, FileKind, LockMode, Metadata, OpenMode, SharedWords};

/// An open file of the operating system.
pub(super) struct OsFile {
    fd: OwnedFd,
    writable: bool,
    /// Whether a lock was ever taken.
    locked: AtomicBool,
}

impl OsFile {
    pub(super) fn new(fd: OwnedFd, mode: OpenMode) -> Self {
        Self { fd, writable: mode.writes(), locked: AtomicBool::new(false) }
    }

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

    #[cfg(target_vendor = "apple")]
    fn sync_data(&self) -> io::Result<()> {
        sync(&self.fd)
    }

    #[cfg(not(target_vendor = "apple"))]
    fn sync_data(&self) -> io::Result<()> {
        Ok(fs::fdatasync(&self.fd)?)
    }

    fn sync_all(&self) -> io::Result<()> {
        sync(&self.fd)
    }

    // Linux begins to write back what is dirty in a range of which this is said, and drops only what is clean.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn begin_sync(&self, offset: u64, len: u64) {
        let len = std::num::NonZeroU64::new(len);
        fs::fadvise(&self.fd, offset, len, fs::Advice::DontNeed).unwrap_or_default();
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
        let Some(target_fd) = target.as_fd() else {
            return crate::vfs::copy_buffered(self, from, target, to, len);
        };
        let (mut source_at, mut target_at) = (from, to);
        let chunk = len.min(CHUNK) as usize;
        let copied =
            fs::copy_file_range(&self.fd, Some(&mut source_at), target_fd, Some(&mut target_at), chunk);
        match copied {
            // The kernel declines the pair of files; nothing was copied. Also said of a target that is not
            // opened for writing, which the buffered copy then says in the words of the seam.
            Err(Errno::XDEV | Errno::NOSYS | Errno::NOTSUP | Errno::INVAL | Errno::BADF | Errno::PERM) => {
                crate::vfs::copy_buffered(self, from, target, to, len)
            }
            done => Ok(done? as u64),
        }
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }
}

/// Makes a file or a directory durable. On Apple systems plain fsync leaves the bytes in the cache of the drive.
pub(super) fn sync(fd: &OwnedFd) -> io::Result<()> {
    #[cfg(target_vendor = "apple")]
    let done = fs::fcntl_fullfsync(fd);
    #[cfg(not(target_vendor = "apple"))]
    let done = fs::fsync(fd);
    Ok(done?)
}

pub(super) fn kind_of(file_type: FileType) -> FileKind {
    match file_type {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    }
}

pub(super) fn metadata_of(stat: &fs::Stat) -> Metadata {
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
        modified_nanos: number(stat.st_mtime_nsec),
    }
}
