//! The environment of RocksDB (crate `rocksdb`) over a recorded directory.
//!
//! *Invariants.* The file system of RocksDB makes every local change, and each is recorded before RocksDB hears of it.
//! Every sync of a recorded file or directory is a barrier of the journal. Once the recorder has failed, every call that
//! would change or sync something fails with that failure: `IOError`, with subcode `IOFenced` where another writer took
//! the log over. RocksDB then refuses writes for good. A local failure alone, such as a full disk, is recorded as it was
//! found and left to RocksDB, which knows how to go on.
//!
//! *Does not* choose options, and adds no thread. Reads go to the local files as they always did.
//!
//! # What is recorded
//!
//! Every file below the recorded directory but `LOCK` and the info logs (`LOG*`): the
//! write-ahead log, tables, blobs, `MANIFEST`, `CURRENT`, `IDENTITY`, `OPTIONS`, of any number of databases and column
//! families. Checkpoints, backups, `db_paths`, `wal_dir` and files to be ingested may lie anywhere below it.
//! (An old info log of a `db_log_dir` below the directory has another name, and is recorded: see `docs/ROCKSDB.md`.)
//! `recycle_log_file_num` is honoured in that files take over names, not blocks: a file that is written over and over
//! would live in the log from its first creation on.
//!
//! # What is not supported
//!
//! Each of these fails with `NotSupported`:
//!
//! | call | why | instead |
//! |---|---|---|
//! | any change outside of the recorded directory | it would be lost at a hand-off | move `wal_dir`, `db_paths`, checkpoints below it, or name the directory in [`RocksdbOptions::unrecorded`] |
//! | a link or rename from a recorded directory to one that is not, or back | the two would share blocks | RocksDB copies where it can: checkpoints, and ingestion by move |
//! | a memory-mapped buffer for writing | what is written to memory is not seen | no option of the crate asks for one |
//! | `Append` to a file of direct I/O | RocksDB writes such files by position | none is needed |
//!
//! `allow_mmap_writes` is treated as off, and `fallocate` never extends a file.

mod ffi;
mod files;

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rocksdb::{Env, Options};

use self::files::Files;
use crate::error::{Error, ErrorKind, Result};
use crate::recorded_fs::RecordedFs;
use crate::recorder::Recorder;
use crate::tracker::Tracker;
use crate::vfs::{FileSystem, OsFs, resolve_named};

/// The environment of databases in one recorded directory. Clones are the same environment.
///
/// A database keeps the environment that its [`Options`] had, and lives no longer than it.
///
/// ```
/// use recoverylog::engine::rocksdb::{RocksdbEnv, RocksdbOptions};
/// use recoverylog::journal::{Journals, MemoryJournals, random_author};
/// use recoverylog::vfs::OsFs;
/// use recoverylog::recorded_fs::RecordedFsOptions;
/// use recoverylog::{Fsm, JournalName, Offset, RecordedFs, Recorder, RecorderOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// let name = JournalName::new("acme/orders-007")?;
/// let journal = MemoryJournals::new().open(&name)?;
/// let (fsm, options) = (Fsm::new(name), RecorderOptions::default());
/// let recorder = Recorder::new(journal, fsm, Offset::ZERO, random_author()?, options)?;
/// let fs = RecordedFs::new(OsFs::new(), directory.path(), recorder, RecordedFsOptions::default());
///
/// let env = RocksdbEnv::new(&fs, RocksdbOptions::default())?;
/// let mut options = rocksdb::Options::default();
/// options.create_if_missing(true);
/// env.apply(&mut options);
/// let db = rocksdb::DB::open(&options, directory.path())?;
///
/// let mut durable = rocksdb::WriteOptions::default();
/// durable.set_sync(true);
/// db.put_opt("key", "value", &durable)?;
/// assert!(env.recorder().committed().offset > Offset::ZERO);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RocksdbEnv {
    env: Env,
    files: Arc<Files>,
}

/// How a [`RocksdbEnv`] works.
#[derive(Clone, Debug, Default)]
pub struct RocksdbOptions {
    unrecorded: Vec<PathBuf>,
}

impl RocksdbOptions {
    /// Allows changes below `directory`, which lies outside of the recorded one, and is lost with this machine: for
    /// backups, for `db_log_dir`, for tables to be ingested. Name it as RocksDB does.
    #[must_use]
    pub fn unrecorded(mut self, directory: impl Into<PathBuf>) -> Self {
        self.unrecorded.push(directory.into());
        self
    }
}

impl RocksdbEnv {
    /// Makes an environment for the directory that `fs` records.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where `fs` is not over the file system of the operating system, which RocksDB uses, and
    /// for an unrecorded directory that is not absolute or leads into the recorded one; [`ErrorKind::Io`] where the
    /// directory cannot be looked at.
    pub fn new<F: FileSystem + 'static>(fs: &RecordedFs<F>, options: RocksdbOptions) -> Result<Self> {
        let (local, sync) = fs.parts();
        let root = sync.tracker.resolved_root();
        let look = |fs: &dyn FileSystem| {
            let found = fs.metadata(root);
            found.map_err(|e| Error::io(format!("cannot look at the directory {}", root.display()), e))
        };
        let (recorded, real) = (look(&*local)?, look(&OsFs::new())?);
        if (recorded.device, recorded.inode) != (real.device, real.inode) {
            let what = format!("{} is recorded in another file system than RocksDB's", root.display());
            return Err(Error::new(ErrorKind::Invalid, what).advise("record a directory of OsFs"));
        }
        let is_apart = |path: &Path| {
            let resolved = resolve_named(&*local, path);
            path.is_absolute()
                && !path.components().any(|part| part == Component::ParentDir)
                && !resolved.starts_with(root)
                && !path.starts_with(sync.tracker.root())
        };
        if let Some(wrong) = options.unrecorded.iter().find(|path| !is_apart(path)) {
            let what = format!("{} cannot be unrecorded", wrong.display());
            let expected = format!("an absolute path without `..` that leads outside of {}", root.display());
            return Err(Error::new(ErrorKind::Invalid, what).expected(expected, wrong.display()));
        }
        let files = Arc::new(Files::new(local, sync, options.unrecorded));
        Ok(Self { env: ffi::environment(Arc::clone(&files)), files })
    }

    /// Returns the environment, for [`Options::set_env`], a backup engine and the like.
    pub const fn env(&self) -> &Env {
        &self.env
    }

    /// Sets the environment of `options`, and what is worth setting for every recorded database: see
    /// `docs/ROCKSDB.md` for the reasons, and set it anew afterwards where you know better.
    ///
    /// Call it on all options with which something below the recorded directory is changed: to open, repair or destroy a
    /// database, to write tables, and also on options that were loaded (`Options::load_latest` reads by the environment
    /// that it is given, and does not keep it). Whatever is changed by others is not recorded, and nothing notices.
    pub fn apply(&self, options: &mut Options) {
        options.set_env(&self.env);
        // Hints reach back to the creation of the oldest live file: MANIFEST must not be it for long.
        options.set_max_manifest_file_size(MANIFEST_BYTES_MAX);
        options.set_recycle_log_file_num(0);
        // Nothing needs the local files on disk.
        options.set_bytes_per_sync(0);
        options.set_wal_bytes_per_sync(0);
    }

    /// Returns the recorder.
    pub fn recorder(&self) -> &Recorder {
        self.files.tracker().recorder()
    }

    /// Returns the tracker.
    pub fn tracker(&self) -> &Tracker {
        self.files.tracker()
    }

    /// Returns the failure of the recorder, after which nothing can be written here any more, if there was one.
    ///
    /// RocksDB may have latched an error without it: a full local disk, or a sync that was not durable in time while the
    /// journal is well. Then the database can be opened again where it is.
    pub fn failure(&self) -> Option<Error> {
        self.recorder().failure()
    }
}

/// The length below which RocksDB does not begin a new `MANIFEST` under [`RocksdbEnv::apply`]; it lets it grow to some
/// multiple of what it would be anew.
const MANIFEST_BYTES_MAX: usize = 4 << 20;

impl fmt::Debug for RocksdbEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksdbEnv").field("tracker", self.tracker()).finish_non_exhaustive()
    }
}
