//! A file system that fails where a test wants it to.
//!
//! *Invariants.* Every call that changes the file system inside is counted before it takes effect. After a crash
//! nothing takes effect any more, stores to shared words included, so that a crash image of the file system inside
//! is that of the moment.
//!
//! *Does not* fail stores to shared words before a crash: they are not calls.

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use super::memory::{MemoryFile, MemoryFs};
use super::{DirEntry, File, FileSystem, LockMode, Metadata, OpenMode, SharedWords};
use crate::clock::Deadline;
use crate::prng::SplitMix64;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// A call at which a fault can be injected.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Effect {
    /// Opening in a mode that may create or empty the file.
    Create,
    /// [`File::write_at`], also as the target of a copy.
    Write,
    /// [`File::set_len`].
    SetLen,
    /// [`File::allocate`].
    Allocate,
    /// [`File::map_shared`], which may extend the file.
    Map,
    /// [`File::sync_data`].
    SyncData,
    /// [`File::sync_all`].
    SyncAll,
    /// [`FileSystem::sync_dir`].
    SyncDir,
    /// [`FileSystem::rename`].
    Rename,
    /// [`FileSystem::rename_no_replace`].
    RenameNoReplace,
    /// [`FileSystem::hard_link`].
    Link,
    /// [`FileSystem::remove_file`].
    RemoveFile,
    /// [`FileSystem::create_dir`].
    CreateDir,
    /// [`FileSystem::remove_dir`].
    RemoveDir,
    /// Opening in a mode that changes nothing.
    Open,
    /// [`File::read_at`], also as the source of a copy.
    Read,
    /// [`FileSystem::metadata`], [`FileSystem::read_dir`] and [`File::metadata`].
    Look,
}

impl Effect {
    /// Tells whether the call may change the file system; only such calls are numbered.
    pub const fn changes(self) -> bool {
        !matches!(self, Self::Open | Self::Read | Self::Look)
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The call fails and does nothing; but a failed sync gives up what was not synced before it, so that a
    /// later sync does not make it durable.
    Fail(io::ErrorKind),
    /// A read or write moves the first half of its bytes. Other calls are not affected.
    Short,
    /// A write does its first half and fails. Other calls as [`Fault::Fail`].
    Torn(io::ErrorKind),
    /// The machine, or the process, is gone: this call and all later ones fail and do nothing.
    Crash,
    /// As [`Fault::Crash`], but a write still does its first half: a kill can end a write between two pages.
    CrashTorn,
}

/// When something goes wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FaultPlan {
    /// Once, at the change with this number, zero being the next one.
    At {
        /// Changes that succeed before it.
        number: u64,
        /// What goes wrong.
        fault: Fault,
    },
    /// Once, at the call of one kind with this number, zero being the next one.
    Nth {
        /// The kind of call.
        effect: Effect,
        /// Calls of that kind that succeed before it.
        number: u64,
        /// What goes wrong.
        fault: Fault,
    },
    /// At every call of one kind.
    Every {
        /// The kind of call.
        effect: Effect,
        /// What goes wrong.
        fault: Fault,
    },
    /// At one change in so many, on average; anything but a crash.
    Random {
        /// Says which changes, and what goes wrong.
        seed: u64,
        /// How many changes there are for one fault.
        one_in: u64,
    },
}

/// The error of an injected fault, inside the [`io::Error`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Injected {
    /// The call that failed.
    pub effect: Effect,
    /// How many changes were made before it, since the file system was made.
    pub number: u64,
    /// What went wrong.
    pub fault: Fault,
}

impl Injected {
    /// Returns the fault that `error` was injected by.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "injected {:?} at {:?}, change {}", self.fault, self.effect, self.number)
    }
}

impl Error for Injected {}

/// How often a kind of call was made, and failed by injection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct EffectCount {
    /// Calls, failed ones included.
    pub calls: u64,
    /// Faults injected.
    pub faults: u64,
}

/// A file system that fails where a test wants it to.
///
/// ```
/// use std::path::Path;
/// use recoverylog::vfs::{CrashPlan, Effect, Fault, FaultPlan, FaultyFs, FileSystem, MemoryFs, OpenMode};
///
/// # fn main() -> std::io::Result<()> {
/// let fs = FaultyFs::new(MemoryFs::new());
/// fs.inject(FaultPlan::Nth { effect: Effect::SyncData, number: 0, fault: Fault::Crash });
/// let file = fs.open(Path::new("/file"), OpenMode::CreateNew)?;
/// file.write_all_at(b"content", 0)?;
/// assert!(file.sync_data().is_err() && fs.has_crashed());
///
/// let left = fs.inner().crash_image(CrashPlan::DropUnsynced);
/// assert!(left.read_dir(Path::new("/"))?.is_empty());
/// # Ok(())
/// # }
/// ```
pub struct FaultyFs<F: ?Sized> {
    faults: Arc<Faults>,
    /// What a failed sync of names is told to, where the file system inside can model it.
    memory: Option<MemoryFs>,
    inner: Arc<F>,
}

impl<F: FileSystem> FaultyFs<F> {
    /// Makes a file system that does what `inner` does until a fault is injected.
    pub fn new(inner: F) -> Self {
        Self { faults: Arc::default(), memory: as_memory(&inner), inner: Arc::new(inner) }
    }
}

impl<F: FileSystem + ?Sized> FaultyFs<F> {
    /// Returns the file system inside.
    pub fn inner(&self) -> &F {
        &self.inner
    }

    /// Adds a plan; numbers in it count from now on. Where several plans say something, the first one wins.
    pub fn inject(&self, plan: FaultPlan) {
        let seed = if let FaultPlan::Random { seed, .. } = plan { seed } else { 0 };
        self.faults.lock().armed.push(Armed { plan, random: SplitMix64::new(seed) });
    }

    /// Drops all plans. What is lost stays lost, and a crash stays a crash.
    pub fn heal(&self) {
        self.faults.lock().armed.clear();
    }

    /// Returns the number of changes so far: how many places there are to crash at.
    pub fn changes(&self) -> u64 {
        self.faults.lock().changes
    }

    /// Returns how often each kind of call was made.
    pub fn counts(&self) -> BTreeMap<Effect, EffectCount> {
        self.faults.lock().counts.clone()
    }

    /// Returns the number of steps so far: calls of every kind, and looks at shared words.
    pub fn steps(&self) -> u64 {
        self.faults.steps.load(Ordering::SeqCst)
    }

    /// Stops once before the step that comes after `steps` more, does `meanwhile`, and goes on: a process that is
    /// stopped at that point, while others are not. A later call replaces a stop that is still to come.
    pub fn stop_before(&self, steps: u64, meanwhile: impl FnOnce() + Send + 'static) {
        let stop = Stop { at: self.steps().saturating_add(steps), meanwhile: Box::new(meanwhile) };
        *self.faults.stop() = Some(stop);
    }

    /// Tells whether a crash was injected.
    pub fn has_crashed(&self) -> bool {
        self.faults.crashed.load(Ordering::SeqCst)
    }
}

impl<F: ?Sized> fmt::Debug for FaultyFs<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyFs").field("faults", &self.faults).finish_non_exhaustive()
    }
}

impl<F: FileSystem + ?Sized> FileSystem for FaultyFs<F> {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let effect = match mode {
            OpenMode::Read | OpenMode::ReadWrite => Effect::Open,
            OpenMode::Create | OpenMode::CreateNew | OpenMode::Truncate => Effect::Create,
        };
        let inner = self.faults.run(effect, || self.inner.open(path, mode))?;
        Ok(Arc::new(FaultyFile { faults: Arc::clone(&self.faults), inner }))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.faults.run(Effect::Look, || self.inner.metadata(path))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.faults.run(Effect::Look, || self.inner.read_dir(path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.faults.run(Effect::CreateDir, || self.inner.create_dir(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.faults.run(Effect::RemoveDir, || self.inner.remove_dir(path))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.faults.run(Effect::RemoveFile, || self.inner.remove_file(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.run(Effect::Rename, || self.inner.rename(from, to))
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.run(Effect::RenameNoReplace, || self.inner.rename_no_replace(from, to))
    }

    fn hard_link(&self, existing: &Path, new: &Path) -> io::Result<()> {
        self.faults.run(Effect::Link, || self.inner.hard_link(existing, new))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let done = self.faults.run(Effect::SyncDir, || self.inner.sync_dir(path));
        if let (Err(_), Some(memory), false) = (&done, &self.memory, self.has_crashed()) {
            // Only a path that names no directory cannot be given up, and `done` says so.
            drop(memory.fail_sync_dir(path));
        }
        done
    }

    fn beneath(&self, path: &Path) -> io::Result<Arc<dyn FileSystem>> {
        self.faults.check(Effect::Open)?;
        let inner = self.inner.beneath(path)?;
        Ok(Arc::new(FaultyFs { faults: Arc::clone(&self.faults), memory: as_memory(&*inner), inner }))
    }

    fn resolve_dir(&self, path: &Path) -> io::Result<PathBuf> {
        self.faults.check(Effect::Read)?;
        self.inner.resolve_dir(path)
    }

    fn boot_id(&self) -> io::Result<[u8; 16]> {
        self.faults.check(Effect::Read)?;
        self.inner.boot_id()
    }

    fn is_network(&self, path: &Path) -> io::Result<bool> {
        self.faults.check(Effect::Read)?;
        self.inner.is_network(path)
    }
}

/// A handle of a file that fails.
#[derive(Debug)]
struct FaultyFile {
    faults: Arc<Faults>,
    inner: Arc<dyn File>,
}

impl FaultyFile {
    fn sync(&self, effect: Effect, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let done = self.faults.run(effect, sync);
        if done.is_err() && !self.faults.crashed.load(Ordering::SeqCst) {
            let inner: &dyn Any = &*self.inner;
            if let Some(memory) = inner.downcast_ref::<MemoryFile>() {
                memory.lose_unsynced();
            }
        }
        done
    }
}

impl File for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let count = match self.faults.next(Effect::Read)? {
            Verdict::Proceed => buffer.len(),
            Verdict::Short => half(buffer.len()),
            Verdict::Torn(error) => return Err(error),
        };
        self.inner.read_at(buffer.get_mut(..count).unwrap_or_default(), offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let first_half = bytes.get(..half(bytes.len())).unwrap_or_default();
        match self.faults.next(Effect::Write)? {
            Verdict::Proceed => self.inner.write_at(bytes, offset),
            Verdict::Short => self.inner.write_at(first_half, offset),
            Verdict::Torn(error) => {
                self.inner.write_all_at(bytes.get(..bytes.len() / 2).unwrap_or_default(), offset)?;
                Err(error)
            }
        }
    }

    fn metadata(&self) -> io::Result<Metadata> {
        self.faults.run(Effect::Look, || self.inner.metadata())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.run(Effect::SetLen, || self.inner.set_len(len))
    }

    fn begin_sync(&self, offset: u64, len: u64) {
        self.inner.begin_sync(offset, len);
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(Effect::SyncData, || self.inner.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(Effect::SyncAll, || self.inner.sync_all())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.faults.run(Effect::Allocate, || self.inner.allocate(offset, len))
    }

    fn try_lock(&self, mode: LockMode) -> io::Result<bool> {
        self.faults.check(Effect::Read)?;
        self.inner.try_lock(mode)
    }

    fn unlock(&self) -> io::Result<()> {
        self.faults.check(Effect::Read)?;
        self.inner.unlock()
    }

    fn map_shared(&self, words: usize) -> io::Result<Arc<dyn SharedWords>> {
        let inner = self.faults.run(Effect::Map, || self.inner.map_shared(words))?;
        let faults = Arc::clone(&self.faults);
        Ok(Arc::new(FaultyWords { faults, inner, words, frozen: OnceLock::new() }))
    }
}

/// Words that nobody else sees any more after a crash.
#[derive(Debug)]
struct FaultyWords {
    faults: Arc<Faults>,
    inner: Arc<dyn SharedWords>,
    words: usize,
    /// What the words were when this process was first seen to touch them after the crash.
    frozen: OnceLock<Vec<AtomicU64>>,
}

impl SharedWords for FaultyWords {
    fn word(&self, index: usize) -> Option<&AtomicU64> {
        self.faults.step();
        if !self.faults.crashed.load(Ordering::SeqCst) {
            return self.inner.word(index);
        }
        let copy = |index| self.inner.word(index).map_or(0, |word| word.load(Ordering::SeqCst));
        self.frozen.get_or_init(|| (0..self.words).map(|index| copy(index).into()).collect()).get(index)
    }

    fn wait(&self, index: usize, seen: u64, deadline: Deadline) {
        if self.faults.crashed.load(Ordering::SeqCst) {
            // Nobody is left to wake; the pause keeps a caller that looks again from spinning.
            let pause = deadline.remaining().min(Duration::from_millis(1));
            drop(self.faults.never.wait_timeout(self.faults.lock(), pause));
        } else {
            // In slices, to notice a crash.
            self.inner.wait(index, seen, deadline.or_after(Duration::from_millis(20)));
        }
    }

    fn wake(&self, index: usize) {
        if !self.faults.crashed.load(Ordering::SeqCst) {
            self.inner.wake(index);
        }
    }
}

/// The plans, and what was done; one for all handles.
#[derive(Debug, Default)]
struct Faults {
    crashed: AtomicBool,
    state: Mutex<State>,
    /// Is never notified: a pause that a thread can take.
    never: Condvar,
    steps: AtomicU64,
    stop: Mutex<Option<Stop>>,
}

/// What others do while this process is stopped.
struct Stop {
    at: u64,
    meanwhile: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stop").field("at", &self.at).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    changes: u64,
    counts: BTreeMap<Effect, EffectCount>,
    armed: Vec<Armed>,
}

/// A plan whose numbers count down.
#[derive(Debug)]
struct Armed {
    plan: FaultPlan,
    random: SplitMix64,
}

/// What becomes of a call.
enum Verdict {
    Proceed,
    Short,
    /// Fails after the first half, where there is one.
    Torn(io::Error),
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) -> MutexGuard<'_, Option<Stop>> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a step, and makes the stop that is due before it.
    fn step(&self) {
        let step = self.steps.fetch_add(1, Ordering::SeqCst);
        let due = self.stop().take_if(|stop| stop.at <= step);
        if let Some(stop) = due {
            (stop.meanwhile)();
        }
    }

    /// Counts a call, and fails it after a crash.
    fn check(&self, effect: Effect) -> io::Result<()> {
        self.step();
        if self.crashed.load(Ordering::SeqCst) {
            return Err(injected(effect, self.lock().changes, Fault::Crash));
        }
        Ok(())
    }

    /// Makes a call that is done whole or not at all.
    fn run<T>(&self, effect: Effect, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.next(effect)? {
            Verdict::Proceed | Verdict::Short => call(),
            Verdict::Torn(error) => Err(error),
        }
    }

    /// Counts a call and says what becomes of it.
    fn next(&self, effect: Effect) -> io::Result<Verdict> {
        self.check(effect)?;
        let mut state = self.lock();
        let number = state.changes;
        let mut fault = None;
        state.armed.retain_mut(|armed| {
            let fires = armed.next(effect);
            fault = fault.or(fires);
            fires.is_none() || !armed.fires_once()
        });
        let counted = state.counts.entry(effect).or_default();
        counted.calls += 1;
        counted.faults += u64::from(fault.is_some());
        match fault {
            Some(Fault::Crash | Fault::CrashTorn) => self.crashed.store(true, Ordering::SeqCst),
            _ => state.changes += u64::from(effect.changes()),
        }
        match fault {
            None => Ok(Verdict::Proceed),
            Some(Fault::Short) => Ok(Verdict::Short),
            Some(fault @ (Fault::Torn(_) | Fault::CrashTorn)) => {
                Ok(Verdict::Torn(injected(effect, number, fault)))
            }
            Some(fault) => Err(injected(effect, number, fault)),
        }
    }
}

impl Armed {
    fn next(&mut self, effect: Effect) -> Option<Fault> {
        match &mut self.plan {
            FaultPlan::At { number, fault } if effect.changes() => count_down(number, *fault),
            FaultPlan::Nth { effect: wanted, number, fault } if *wanted == effect => {
                count_down(number, *fault)
            }
            FaultPlan::Every { effect: wanted, fault } if *wanted == effect => Some(*fault),
            FaultPlan::Random { one_in, .. } if effect.changes() && self.random.one_in(*one_in) => {
                Some(match self.random.below(4) {
                    0 => Fault::Fail(io::ErrorKind::StorageFull),
                    1 => Fault::Fail(io::ErrorKind::Other),
                    2 => Fault::Short,
                    _ => Fault::Torn(io::ErrorKind::Other),
                })
            }
            _ => None,
        }
    }

    const fn fires_once(&self) -> bool {
        matches!(self.plan, FaultPlan::At { .. } | FaultPlan::Nth { .. })
    }
}

/// Returns the fault when the number has come down to zero, and takes one off before that.
fn count_down(number: &mut u64, fault: Fault) -> Option<Fault> {
    match number.checked_sub(1) {
        None => Some(fault),
        Some(left) => {
            *number = left;
            None
        }
    }
}

fn as_memory(fs: &dyn Any) -> Option<MemoryFs> {
    fs.downcast_ref::<MemoryFs>().cloned()
}

fn injected(effect: Effect, number: u64, fault: Fault) -> io::Error {
    let kind = match fault {
        Fault::Fail(kind) | Fault::Torn(kind) => kind,
        Fault::Short | Fault::Crash | Fault::CrashTorn => io::ErrorKind::Other,
    };
    io::Error::new(kind, Injected { effect, number, fault })
}

/// Returns half of a count, and one of one: a short call still gets on.
const fn half(count: usize) -> usize {
    count.div_ceil(2)
}

#[cfg(test)]
mod tests;
