//! The database of this example: a LevelDB, each file a key.

use std::path::Path;
use std::sync::Arc;

use recoverylog::engine::leveldb::{self, LeveldbEnv};
use recoverylog::replica::Primary;
use recoverylog::vfs::FileSystem;
use recoverylog::{Error, ErrorKind, Result};
use rusty_leveldb::{DB, LdbIterator, Options, WriteBatch};

use crate::input::{Input, Seen};
use crate::roles::{Report, report};

/// A database, and the environment that knows why it failed.
pub(crate) struct Database {
    db: DB,
    env: LeveldbEnv,
}

impl Database {
    pub(crate) fn open(primary: &Primary, create: bool) -> Result<Self> {
        let env = LeveldbEnv::new(Arc::clone(primary.fs()) as Arc<dyn FileSystem>, primary.directory());
        Self::open_in(env, primary.directory(), create)
    }

    /// Opens what must be there, and is not recorded any more.
    pub(crate) fn open_plain(fs: &Arc<dyn FileSystem>, directory: &Path) -> Result<Self> {
        Self::open_in(LeveldbEnv::new(Arc::clone(fs), directory), directory, false)
    }

    fn open_in(env: LeveldbEnv, directory: &Path, create: bool) -> Result<Self> {
        let options = Options { create_if_missing: create, ..leveldb::options(env.clone()) };
        let opened = DB::open(directory, options);
        Ok(Self { db: vouched(&env, opened)?, env })
    }

    /// Loads the files from the one numbered `begin` on, and acknowledges each batch.
    pub(crate) fn load(&mut self, input: &Input, mut begin: usize) -> Result<()> {
        while begin < input.files().len() {
            let end = input.batch_end(begin);
            let mut batch = WriteBatch::default();
            for file in input.files().get(begin..end).unwrap_or_default() {
                let value = input.value(file).map_err(|error| Error::io("reading the input", error))?;
                batch.put(&file.key, &value);
            }
            let written = self.db.write(batch, true);
            vouched(&self.env, written)?;
            report(&Report::Acknowledged { files: end })?;
            begin = end;
        }
        Ok(())
    }

    /// Checks that the database holds the first so many files, byte for byte, and nothing else; returns their
    /// number.
    pub(crate) fn check(&mut self, input: &Input) -> Result<usize> {
        let mut seen = Seen::new(input);
        let iter = self.db.new_iter();
        let mut iter = vouched(&self.env, iter)?;
        while let Some((key, value)) = iter.next() {
            seen.take(&key, &value)?;
        }
        // An iterator ends early, and in silence, where a read fails.
        vouched(&self.env, Ok(()))?;
        seen.end()
    }
}

/// Returns what the engine says, or what its environment knows better.
fn vouched<T>(env: &LeveldbEnv, outcome: rusty_leveldb::Result<T>) -> Result<T> {
    if let Some(failure) = env.failure() {
        return Err(failure);
    }
    outcome.map_err(|error| Error::new(ErrorKind::Corrupt, format!("the engine failed: {error}")))
}
