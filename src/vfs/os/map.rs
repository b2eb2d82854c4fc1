//! Words of a file, mapped into memory and shared with other processes: the only unsafe code of the crate.
//!
//! *Invariants.* A mapping covers exactly its words, is readable and writable, and lives until it is dropped.
//! The words are only ever reached as atomics.
//!
//! *Does not* guard against another process that cuts the file: the system then kills whoever touches a word past
//! the end.

#![expect(unsafe_code, reason = "memory that other processes write cannot be had without it")]

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::AtomicU64;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::clock::Deadline;
use crate::vfs::SharedWords;

/// The first words of a file.
pub(super) struct Mapping {
    base: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the memory belongs to this mapping until it is dropped and is reached only as atomics, which may be used
// from any thread.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `words` words; the file must be as long as that.
    pub(super) fn new(fd: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        let bytes = words.checked_mul(size_of::<u64>()).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: the kernel chooses a place where nothing is mapped, and reports failure.
        let base = unsafe {
            mmap(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, fd, 0)
        }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, words })
    }

    fn all(&self) -> &[AtomicU64] {
        // SAFETY: mapped in `new` for exactly this many words, at a page boundary, until `drop`; every bit pattern
        // is a valid word, and all processes of this crate reach them as atomics.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.words) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the range that `new` mapped, and no reference into it outlives `self`. An error would mean
        // that it is not mapped, and there is nothing to do then.
        let _unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.words * size_of::<u64>()) };
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping").field("words", &self.words).finish_non_exhaustive()
    }
}

impl SharedWords for Mapping {
    fn word(&self, index: usize) -> Option<&AtomicU64> {
        self.all().get(index)
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn wait(&self, index: usize, seen: u64, deadline: Deadline) {
        use rustix::fs::Timespec;
        use rustix::thread::futex;

        let remaining = deadline.remaining();
        let Some(word) = self.word(index).filter(|_| !remaining.is_zero()) else { return };
        let timeout = Timespec {
            tv_sec: i64::try_from(remaining.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: remaining.subsec_nanos().into(),
        };
        // Any error is a reason to look again: the word differs, a signal came, the time is up.
        let _looked = futex::wait(low_half(word), futex::Flags::empty(), seen as u32, Some(&timeout));
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn wake(&self, index: usize) {
        use rustix::thread::futex;

        if let Some(word) = self.word(index) {
            let _woken = futex::wake(low_half(word), futex::Flags::empty(), i32::MAX as u32);
        }
    }

    /// Looks at the word every millisecond: there is no call for waiting across processes.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    #[expect(clippy::disallowed_methods, reason = "the only way to wait for another process here")]
    fn wait(&self, index: usize, seen: u64, deadline: Deadline) {
        use std::sync::atomic::Ordering;
        use std::time::Duration;

        let Some(word) = self.word(index) else { return };
        while word.load(Ordering::Acquire) as u32 == seen as u32 && !deadline.has_passed() {
            std::thread::sleep(deadline.remaining().min(Duration::from_millis(1)));
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn wake(&self, _index: usize) {}
}

/// Returns the low 32 bits of a word, as the address that the kernel knows it by.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn low_half(word: &AtomicU64) -> &std::sync::atomic::AtomicU32 {
    let halves: *const std::sync::atomic::AtomicU32 = ptr::from_ref(word).cast();
    let index = usize::from(cfg!(target_endian = "big"));
    // SAFETY: a word is two aligned halves. The reference is only an address for the kernel, which compares it
    // atomically; this process reaches the memory in whole words only.
    unsafe { &*halves.add(index) }
}
