//! The environment of `rusty-leveldb`, over any file system.
//!
//! *Invariants.* `flush` is the engine's only sync signal, and is [`File::sync_data`] here: over a
//! [`crate::RecordedFs`] the barrier of everything recorded before it, over a plain file system an fdatasync of
//! that file. After the first failed call, reads among them, every call that would change something fails. Only
//! two answers are no failures: a file to be read from its beginning that is not there, by which the engine sees
//! that there is no database, and a lock that somebody else holds. A read is short only at the end of a file
//! that is read from its beginning.
//!
//! *Does not* see what the engine keeps to itself: a put sits in a buffer of its own until `DB::flush`; a `get`
//! whose read failed says that there is no such key; a compaction drops what it finds damaged by a checksum.
//! Ask [`LeveldbEnv::failure`] before an absence is believed.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use rusty_leveldb::env::{Env, FileLock, Logger, RandomAccess};
use rusty_leveldb::{Options, Result, Status, StatusCode};

use crate::sync::{Mutex, MutexGuard};
use crate::vfs::{self, File, FileKind, FileSystem, LockMode, OpenMode};
use crate::{Clock, Error, SystemClock};

/// Returns the options with which a database is to be opened over `env`.
///
/// They are the engine's own but for two, which must stay as they are: `reuse_logs` and `reuse_manifest` are
/// off. The engine has them on, and then appends to a log behind the torn record that a lost writer left there;
/// what it writes behind it, it never reads again.
///
/// Set `create_if_missing` to false wherever a database must be there, above all after a promotion or a restore:
/// otherwise the engine makes an empty one in a directory that is not what it should be.
pub fn options(env: LeveldbEnv) -> Options {
    Options { env: Rc::new(Box::new(env)), reuse_logs: false, reuse_manifest: false, ..Options::default() }
}

/// One directory of a file system, as the environment of one database. Clones are the same environment.
///
/// All paths of the engine lead into that directory, by their last component. The engine uses two names for it,
/// what `DB::open` was given and what the operating system resolves that to, and neither needs to be the one by
/// which the directory is recorded.
///
/// ```
/// use std::path::Path;
/// use std::sync::Arc;
/// use recoverylog::engine::leveldb::{self, LeveldbEnv};
/// use recoverylog::vfs::MemoryFs;
///
/// # fn main() -> rusty_leveldb::Result<()> {
/// // A recorded database has an `Arc<RecordedFs<_>>` here.
/// let env = LeveldbEnv::new(Arc::new(MemoryFs::new()), "/db");
/// let mut db = rusty_leveldb::DB::open("/db", leveldb::options(env.clone()))?;
/// db.put(b"key", b"value")?;
/// // Now it may be acknowledged.
/// db.flush()?;
/// assert_eq!(db.get(b"key").as_deref(), Some(&b"value"[..]));
/// assert!(env.failure().is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LeveldbEnv {
    shared: Arc<Shared>,
}

struct Shared {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    failure: OnceLock<Error>,
    /// The lock file while the lock is held.
    lock: Mutex<Option<Arc<dyn File>>>,
    /// The latest time that was told.
    micros: AtomicU64,
}

impl LeveldbEnv {
    /// Makes the environment of the database in the directory `dir` of `fs`, as `fs` names it. The directory is
    /// created when a database is opened, where it is missing.
    pub fn new(fs: Arc<dyn FileSystem>, dir: impl Into<PathBuf>) -> Self {
        let shared = Shared {
            fs,
            dir: dir.into(),
            failure: OnceLock::new(),
            lock: Mutex::default(),
            micros: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Returns the first failure, after which nothing changes any more: of the recorder, where it was the one to
    /// fail, or of the local files.
    pub fn failure(&self) -> Option<Error> {
        self.shared.failure.get().cloned()
    }

    /// Returns where a file of the database is.
    fn file(&self, path: &Path) -> PathBuf {
        self.shared.dir.join(path.file_name().unwrap_or_default())
    }

    fn open_to_write(&self, path: &Path, mode: OpenMode) -> Result<Box<dyn Write>> {
        let path = self.file(path);
        let open = || {
            let file = self.shared.fs.open(&path, mode)?;
            let end = file.metadata()?.len;
            Ok((file, end))
        };
        let (file, end) = self.shared.change("opening", &path, open)?;
        Ok(Box::new(Writer { shared: Arc::clone(&self.shared), path, file, end }))
    }

    fn is_there(&self, path: &Path) -> Result<bool> {
        match self.shared.fs.metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.shared.fail("looking at", path, error).into()),
        }
    }
}

impl Shared {
    /// Makes a call that changes something, unless one failed before.
    fn change<T>(&self, doing: &str, path: &Path, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if let Some(failure) = self.failure.get() {
            return Err(io::Error::other(failure.clone()));
        }
        self.look(doing, path, call)
    }

    /// Makes a call that changes nothing.
    fn look<T>(&self, doing: &str, path: &Path, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        call().map_err(|error| self.fail(doing, path, error))
    }

    fn fail(&self, doing: &str, path: &Path, error: io::Error) -> io::Error {
        let kind = error.kind();
        // A recorder says by itself what failed and where.
        let failure = error
            .downcast::<Error>()
            .unwrap_or_else(|error| Error::io(format!("{doing} {}: {error}", path.display()), error));
        self.failure.get_or_init(|| failure.clone());
        io::Error::new(kind, failure)
    }

    fn held(&self) -> MutexGuard<'_, Option<Arc<dyn File>>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Env for LeveldbEnv {
    fn open_sequential_file(&self, path: &Path) -> Result<Box<dyn Read>> {
        let path = self.file(path);
        match self.shared.fs.open(&path, OpenMode::Read) {
            Ok(file) => Ok(Box::new(Reader { shared: Arc::clone(&self.shared), path, file, position: 0 })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error.into()),
            Err(error) => Err(self.shared.fail("opening", &path, error).into()),
        }
    }

    fn open_random_access_file(&self, path: &Path) -> Result<Box<dyn RandomAccess>> {
        let path = self.file(path);
        let file = self.shared.look("opening", &path, || self.shared.fs.open(&path, OpenMode::Read))?;
        Ok(Box::new(Table { shared: Arc::clone(&self.shared), path, file }))
    }

    fn open_writable_file(&self, path: &Path) -> Result<Box<dyn Write>> {
        self.open_to_write(path, OpenMode::Truncate)
    }

    fn open_appendable_file(&self, path: &Path) -> Result<Box<dyn Write>> {
        self.open_to_write(path, OpenMode::Create)
    }

    /// A database, asked for by its directory, is there once it has a `CURRENT`: the engine creates the directory
    /// before it asks.
    fn exists(&self, path: &Path) -> Result<bool> {
        let is_log = path.file_name().is_some_and(|name| name == "LOG");
        self.is_there(&if is_log { self.file(path) } else { self.shared.dir.join("CURRENT") })
    }

    /// The engine takes names to be UTF-8; a file whose name is not is none of its own.
    fn children(&self, _: &Path) -> Result<Vec<PathBuf>> {
        let dir = &self.shared.dir;
        let entries = self.shared.look("listing", dir, || self.shared.fs.read_dir(dir))?;
        let names = entries.into_iter().map(|entry| entry.name);
        Ok(names.filter(|name| name.to_str().is_some()).map(PathBuf::from).collect())
    }

    fn size_of(&self, path: &Path) -> Result<usize> {
        let path = self.file(path);
        let found = self.shared.look("looking at", &path, || self.shared.fs.metadata(&path))?;
        Ok(usize::try_from(found.len).unwrap_or(usize::MAX))
    }

    fn delete(&self, path: &Path) -> Result<()> {
        let path = self.file(path);
        Ok(self.shared.change("deleting", &path, || self.shared.fs.remove_file(&path))?)
    }

    fn mkdir(&self, _: &Path) -> Result<()> {
        let (fs, dir) = (&*self.shared.fs, &self.shared.dir);
        let is_there = || fs.metadata(dir).is_ok_and(|found| found.kind == FileKind::Directory);
        let create = || if is_there() { Ok(()) } else { vfs::create_dir_all_synced(fs, dir) };
        Ok(self.shared.change("creating", dir, create)?)
    }

    /// Removes the directory where it is empty. The engine never asks.
    fn rmdir(&self, _: &Path) -> Result<()> {
        let dir = &self.shared.dir;
        Ok(self.shared.change("removing", dir, || self.shared.fs.remove_dir(dir))?)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let (from, to) = (self.file(from), self.file(to));
        Ok(self.shared.change("renaming", &from, || self.shared.fs.rename(&from, &to))?)
    }

    fn lock(&self, path: &Path) -> Result<FileLock> {
        let path = self.file(path);
        let lock = || {
            let file = self.shared.fs.open(&path, OpenMode::Create)?;
            Ok(file.try_lock(LockMode::Exclusive)?.then_some(file))
        };
        let id = path.display().to_string();
        let Some(file) = self.shared.change("locking", &path, lock)? else {
            return Err(Status::new(StatusCode::LockError, &format!("{id} is locked by another database")));
        };
        *self.shared.held() = Some(file);
        Ok(FileLock { id })
    }

    /// Gives the lock back, also after a failure.
    fn unlock(&self, lock: FileLock) -> Result<()> {
        let Some(file) = self.shared.held().take() else {
            return Err(Status::new(StatusCode::LockError, &format!("{} is not locked", lock.id)));
        };
        Ok(self.shared.look("unlocking", Path::new(&lock.id), || file.unlock())?)
    }

    fn new_logger(&self, path: &Path) -> Result<Logger> {
        self.open_appendable_file(path).map(Logger::new)
    }

    /// Returns the time, which never goes back: the engine subtracts.
    fn micros(&self) -> u64 {
        let now = u64::try_from(SystemClock.unix_nanos() / 1_000).unwrap_or(0);
        self.shared.micros.fetch_max(now, Ordering::Relaxed).max(now)
    }

    #[expect(clippy::disallowed_methods, reason = "the engine asks for a sleep of a given length")]
    fn sleep_for(&self, micros: u32) {
        std::thread::sleep(Duration::from_micros(micros.into()));
    }
}

/// A file that is written from its beginning, or its end, on.
struct Writer {
    shared: Arc<Shared>,
    path: PathBuf,
    file: Arc<dyn File>,
    end: u64,
}

impl Write for Writer {
    /// Writes all of `bytes`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.shared.change("writing", &self.path, || self.file.write_all_at(bytes, self.end))?;
        self.end += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.shared.change("syncing", &self.path, || self.file.sync_data())
    }
}

/// A file that is read from its beginning on.
struct Reader {
    shared: Arc<Shared>,
    path: PathBuf,
    file: Arc<dyn File>,
    position: u64,
}

impl Read for Reader {
    /// Fills `buffer`, or reads to the end of the file.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, self.position) {
                Ok(0) => break,
                Ok(read) => {
                    done += read;
                    self.position += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.shared.fail("reading", &self.path, error)),
            }
        }
        Ok(done)
    }
}

/// A file that is read anywhere.
struct Table {
    shared: Arc<Shared>,
    path: PathBuf,
    file: Arc<dyn File>,
}

impl RandomAccess for Table {
    /// Fills `buffer`: the engine reads blocks whose places it knows, and goes on without one that is cut short.
    fn read_at(&self, offset: usize, buffer: &mut [u8]) -> Result<usize> {
        let read = || self.file.read_exact_at(buffer, offset as u64);
        self.shared.look("reading", &self.path, read)?;
        Ok(buffer.len())
    }
}

impl fmt::Debug for LeveldbEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeveldbEnv")
            .field("fs", &self.shared.fs)
            .field("dir", &self.shared.dir)
            .field("failure", &self.shared.failure)
            .finish_non_exhaustive()
    }
}
