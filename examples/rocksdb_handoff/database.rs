//! The database of this example: a RocksDB, each file a key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use recoverylog::engine::rocksdb::{RocksdbEnv, RocksdbOptions};
use recoverylog::replica::Primary;
use recoverylog::vfs::FileSystem;
use recoverylog::{Error, ErrorKind, RecordedFs, Result};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{DB, IteratorMode, Options, WriteBatch, WriteOptions};

use crate::input::{Input, Seen};
use crate::roles::{Report, report};

/// Number of column families that files are spread over.
const FAMILIES: usize = 5;
/// Batches between two checkpoints.
const CHECKPOINT_EVERY: usize = 16;

/// A database, and who knows why it failed.
pub(crate) struct Database {
    db: DB,
    options: Options,
    root: PathBuf,
    recorded: Option<Recorded>,
}

struct Recorded {
    env: RocksdbEnv,
    fs: Arc<RecordedFs<Arc<dyn FileSystem>>>,
}

impl Database {
    pub(crate) fn open(primary: &Primary, create: bool) -> Result<Self> {
        let env = RocksdbEnv::new(primary.fs(), RocksdbOptions::default())?;
        let recorded = Recorded { env, fs: Arc::clone(primary.fs()) };
        Self::open_in(primary.directory(), create, Some(recorded))
    }

    /// Opens what must be there, and is not recorded any more.
    pub(crate) fn open_plain(_: &Arc<dyn FileSystem>, directory: &Path) -> Result<Self> {
        Self::open_in(directory, false, None)
    }

    fn open_in(root: &Path, create: bool, recorded: Option<Recorded>) -> Result<Self> {
        let mut options = Options::default();
        if let Some(recorded) = &recorded {
            recorded.env.apply(&mut options);
        }
        options.create_if_missing(create);
        // So that a tree of some megabytes makes many tables, which are compacted.
        options.set_write_buffer_size(1 << 20);
        options.set_target_file_size_base(512 << 10);
        options.set_max_bytes_for_level_base(2 << 20);
        let db = open(&options, &root.join("db"));
        let db = vouched(recorded.as_ref(), db)?;
        Ok(Self { db, options, root: root.to_owned(), recorded })
    }

    /// Loads the files from the one numbered `begin` on, and acknowledges each batch.
    pub(crate) fn load(&mut self, input: &Input, mut begin: usize) -> Result<()> {
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        let mut batches = 0;
        while begin < input.files().len() {
            let end = input.batch_end(begin);
            let mut batch = WriteBatch::default();
            for file in input.files().get(begin..end).unwrap_or_default() {
                let value = input.value(file).map_err(|error| Error::io("reading the input", error))?;
                let family = family_of(&file.key);
                if self.db.cf_handle(&family).is_none() {
                    let created = self.db.create_cf(&family, &self.options);
                    vouched(self.recorded.as_ref(), created)?;
                }
                if let Some(family) = self.db.cf_handle(&family) {
                    batch.put_cf(family, &file.key, &value);
                }
            }
            let written = self.db.write_opt(batch, &durable);
            vouched(self.recorded.as_ref(), written)?;
            report(&Report::Acknowledged { files: end })?;
            begin = end;
            batches += 1;
            if batches % CHECKPOINT_EVERY == 0 {
                self.checkpoint(end)?;
            }
        }
        Ok(())
    }

    /// Takes a checkpoint, and removes the one before it.
    fn checkpoint(&self, number: usize) -> Result<()> {
        let Some(recorded) = &self.recorded else { return Ok(()) };
        let before = checkpoints(&*recorded.fs, &self.root)?;
        let place = self.root.join(format!("checkpoint-{number:09}"));
        if before.contains(&place) {
            return Ok(());
        }
        let taken = Checkpoint::new(&self.db).and_then(|checkpoint| checkpoint.create_checkpoint(&place));
        vouched(Some(recorded), taken)?;
        for place in before {
            recorded.fs.remove_dir_all(&place).map_err(|e| Error::io("removing a checkpoint", e))?;
        }
        Ok(())
    }

    /// Checks that the database holds the first so many files, byte for byte, and nothing else; returns their
    /// number. A checkpoint of it, where there is one, holds such files too.
    pub(crate) fn check(&mut self, input: &Input) -> Result<usize> {
        let found = self.scan(&self.db, &self.root.join("db"), input)?;
        let fs: &dyn FileSystem = match &self.recorded {
            Some(recorded) => &*recorded.fs,
            None => &recoverylog::vfs::OsFs::new(),
        };
        for place in checkpoints(fs, &self.root)? {
            let checkpoint = vouched(self.recorded.as_ref(), open(&self.options, &place))?;
            let kept = self.scan(&checkpoint, &place, input)?;
            if kept > found {
                let what = format!("a checkpoint holds {kept} files, and the database {found}");
                return Err(Error::new(ErrorKind::DataLoss, what));
            }
        }
        Ok(found)
    }

    fn scan(&self, db: &DB, place: &Path, input: &Input) -> Result<usize> {
        let mut seen = Seen::new(input);
        let families = vouched(self.recorded.as_ref(), DB::list_cf(&self.options, place))?;
        for family in families.iter().filter_map(|family| db.cf_handle(family)) {
            for pair in db.iterator_cf(family, IteratorMode::Start) {
                let (key, value) = vouched(self.recorded.as_ref(), pair)?;
                seen.take(&key, &value)?;
            }
        }
        seen.end()
    }
}

/// Opens a database with all of its column families.
fn open(options: &Options, place: &Path) -> std::result::Result<DB, rocksdb::Error> {
    let families = match std::fs::exists(place.join("CURRENT")) {
        Ok(true) => DB::list_cf(options, place)?,
        _ => vec!["default".to_owned()],
    };
    DB::open_cf_with_opts(options, place, families.into_iter().map(|family| (family, options.clone())))
}

/// Lists the checkpoints that there are.
fn checkpoints(fs: &dyn FileSystem, root: &Path) -> Result<Vec<PathBuf>> {
    let names = fs.read_dir(root).map_err(|error| Error::io("listing checkpoints", error))?;
    let names = names.into_iter().map(|entry| entry.name);
    let names = names.filter(|name| name.as_encoded_bytes().starts_with(b"checkpoint-"));
    Ok(names.map(|name| root.join(name)).collect())
}

/// Names the column family of a file, by what its name ends with.
fn family_of(key: &[u8]) -> String {
    let end = key.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    format!("family {}", end.iter().map(|byte| usize::from(*byte)).sum::<usize>() % FAMILIES)
}

/// Returns what RocksDB says, or what the recorder knows better.
fn vouched<T>(recorded: Option<&Recorded>, outcome: std::result::Result<T, rocksdb::Error>) -> Result<T> {
    if let Some(failure) = recorded.and_then(|recorded| recorded.env.failure()) {
        return Err(failure);
    }
    outcome.map_err(|error| Error::new(ErrorKind::Corrupt, format!("the engine failed: {error}")))
}
