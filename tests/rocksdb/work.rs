//! Random work on a database, beside a model of what must be in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use recoverylog::vfs::FileSystem;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    ColumnFamily, DB, Error, IngestExternalFileOptions, IteratorMode, Options, ReadOptions, SstFileWriter,
    WriteBatch, WriteOptions,
};

/// The family that is always there.
pub(crate) const DEFAULT: &str = "default";
/// The key that tells which step was the last to write.
const MARKER: &[u8] = b"#";

/// What a database holds, by family.
pub(crate) type Model = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Small numbers out of a seed.
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 31) % bound
    }

    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Change {
    Put { family: String, key: Vec<u8>, value: Vec<u8> },
    Delete { family: String, key: Vec<u8> },
    Merge { family: String, key: Vec<u8>, value: Vec<u8> },
    DeleteRange { family: String, begin: Vec<u8>, end: Vec<u8> },
}

/// One thing that is done to a database.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Write { changes: Vec<Change>, sync: bool },
    SyncWal,
    Flush { family: String },
    Compact { family: String },
    CreateFamily { family: String },
    DropFamily { family: String },
    Ingest { family: String, pairs: Vec<(Vec<u8>, Vec<u8>)>, moves: bool },
    Checkpoint,
    Reopen,
}

impl Step {
    /// Tells whether the step, once done, vouches for itself and everything before it.
    pub(crate) fn is_durable(&self) -> bool {
        match self {
            Self::Write { sync, .. } => *sync,
            Self::SyncWal
            | Self::CreateFamily { .. }
            | Self::DropFamily { .. }
            | Self::Ingest { .. }
            | Self::Checkpoint => true,
            Self::Flush { .. } | Self::Compact { .. } | Self::Reopen => false,
        }
    }
}

/// The steps that follow from a seed, and what a database holds after those drawn so far.
#[derive(Clone)]
pub(crate) struct Story {
    random: Random,
    generation: u64,
    /// Number of steps drawn.
    pub(crate) steps: u64,
    families_made: u64,
    pub(crate) model: Model,
}

impl Story {
    /// Begins where `model` is what a database holds.
    pub(crate) fn new(seed: u64, generation: u64, mut model: Model) -> Self {
        model.entry(DEFAULT.to_owned()).or_default();
        Self { random: Random::new(seed), generation, steps: 0, families_made: 0, model }
    }

    /// Draws steps until there are so many.
    pub(crate) fn tell(&mut self, steps: u64) {
        while self.steps < steps {
            drop(self.next());
        }
    }

    fn family(&mut self) -> String {
        let at = self.random.below(self.model.len() as u64) as usize;
        self.model.keys().nth(at).unwrap().clone()
    }

    fn key(&mut self) -> Vec<u8> {
        format!("key {:03}", self.random.below(200)).into_bytes()
    }

    fn value(&mut self) -> Vec<u8> {
        let len = if self.random.one_in(30) { self.random.below(30_000) } else { self.random.below(300) };
        vec![b'a' + self.random.below(26) as u8; len as usize]
    }

    /// Draws the next step, and takes it into the model.
    pub(crate) fn next(&mut self) -> Step {
        self.steps += 1;
        let step = match self.random.below(100) {
            75..=80 => Step::SyncWal,
            81..=85 => Step::Flush { family: self.family() },
            86..=88 => Step::Compact { family: self.family() },
            89..=91 if self.model.len() < 5 => {
                self.families_made += 1;
                Step::CreateFamily { family: format!("family {} {}", self.generation, self.families_made) }
            }
            92..=93 if self.model.len() > 1 => match self.family() {
                family if family == DEFAULT => Step::SyncWal,
                family => Step::DropFamily { family },
            },
            94..=96 => self.ingest(),
            97 => Step::Checkpoint,
            98 => Step::Reopen,
            _ => self.write(),
        };
        self.apply(&step);
        step
    }

    fn write(&mut self) -> Step {
        let mut changes: Vec<_> = (0..=self.random.below(4)).map(|_| self.change()).collect();
        let value = format!("{}:{}", self.generation, self.steps).into_bytes();
        changes.push(Change::Put { family: DEFAULT.to_owned(), key: MARKER.to_vec(), value });
        Step::Write { changes, sync: self.random.one_in(5) }
    }

    fn change(&mut self) -> Change {
        let family = self.family();
        match self.random.below(12) {
            0..=6 => Change::Put { family, key: self.key(), value: self.value() },
            7..=8 => Change::Delete { family, key: self.key() },
            9..=10 => Change::Merge { family, key: self.key(), value: self.value() },
            _ => {
                let begin = self.key();
                let end = [&begin[..], b"~"].concat();
                Change::DeleteRange { family, begin, end }
            }
        }
    }

    fn ingest(&mut self) -> Step {
        let mut pairs = BTreeMap::new();
        for _ in 0..=self.random.below(20) {
            pairs.insert(self.key(), self.value());
        }
        let moves = self.random.one_in(2);
        Step::Ingest { family: self.family(), pairs: pairs.into_iter().collect(), moves }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Write { changes, .. } => changes.iter().for_each(|change| self.change_model(change)),
            Step::CreateFamily { family } => drop(self.model.insert(family.clone(), BTreeMap::new())),
            Step::DropFamily { family } => drop(self.model.remove(family)),
            Step::Ingest { family, pairs, .. } => {
                self.model.get_mut(family).unwrap().extend(pairs.iter().cloned());
            }
            Step::SyncWal | Step::Flush { .. } | Step::Compact { .. } | Step::Checkpoint | Step::Reopen => {}
        }
    }

    fn change_model(&mut self, change: &Change) {
        match change {
            Change::Put { family, key, value } => {
                self.model.get_mut(family).unwrap().insert(key.clone(), value.clone());
            }
            Change::Delete { family, key } => drop(self.model.get_mut(family).unwrap().remove(key)),
            Change::Merge { family, key, value } => {
                self.model.get_mut(family).unwrap().entry(key.clone()).or_default().extend(value);
            }
            Change::DeleteRange { family, begin, end } => {
                self.model.get_mut(family).unwrap().retain(|key, _| key < begin || key >= end);
            }
        }
    }
}

/// A database that is open, and how to open it once more.
pub(crate) struct Database {
    pub(crate) db: DB,
    options: Options,
    /// The directory that everything lies in.
    root: PathBuf,
    made: u64,
}

/// Where the database lies below `root`.
pub(crate) fn place(root: &Path) -> PathBuf {
    root.join("db")
}

impl Database {
    /// Opens the database below `root`, with all its families.
    pub(crate) fn open(root: &Path, options: Options) -> Result<Self, Error> {
        let place = place(root);
        let families = match fs::exists(place.join("CURRENT")) {
            Ok(true) => DB::list_cf(&options, &place)?,
            _ => vec![DEFAULT.to_owned()],
        };
        let families = families.into_iter().map(|family| (family, options.clone()));
        let db = DB::open_cf_with_opts(&options, &place, families)?;
        Ok(Self { db, options, root: root.to_owned(), made: 0 })
    }

    fn family(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).unwrap()
    }

    /// Does one step. `recorded` removes files that RocksDB will not remove. Gives the database back where it failed
    /// and is open still.
    pub(crate) fn step(
        mut self,
        step: &Step,
        recorded: &dyn FileSystem,
    ) -> Result<Self, (Error, Option<Box<Self>>)> {
        if matches!(step, Step::Reopen) {
            let Self { db, options, root, made } = self;
            drop(db);
            let opened = Self::open(&root, options).map_err(|error| (error, None))?;
            return Ok(Self { made, ..opened });
        }
        match self.try_step(step, recorded) {
            Ok(()) => Ok(self),
            Err(error) => Err((error, Some(Box::new(self)))),
        }
    }

    fn try_step(&mut self, step: &Step, recorded: &dyn FileSystem) -> Result<(), Error> {
        match step {
            Step::Write { changes, sync } => self.write(changes, *sync),
            Step::SyncWal => self.db.flush_wal(true),
            Step::Flush { family } => self.db.flush_cf(self.family(family)),
            Step::Compact { family } => {
                self.db.compact_range_cf(self.family(family), None::<&[u8]>, None::<&[u8]>);
                Ok(())
            }
            Step::CreateFamily { family } => self.db.create_cf(family, &self.options),
            Step::DropFamily { family } => self.db.drop_cf(family),
            Step::Ingest { family, pairs, moves } => self.ingest(family, pairs, *moves, recorded),
            Step::Checkpoint => {
                // Those before are not needed any more, and what a lost process has left half-made never was.
                for entry in recorded.read_dir(&self.root).unwrap() {
                    if entry.name.to_string_lossy().starts_with("checkpoint") {
                        remove_all(recorded, &self.root.join(entry.name));
                    }
                }
                self.made += 1;
                let path = self.root.join(format!("checkpoint {}", self.made));
                match Checkpoint::new(&self.db)?.create_checkpoint(&path) {
                    // RocksDB takes none of a database with several paths, recorded or not.
                    Err(error) if error.to_string().contains("db_paths") => Ok(()),
                    made => made,
                }
            }
            Step::Reopen => Ok(()),
        }
    }

    fn write(&self, changes: &[Change], sync: bool) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        for change in changes {
            match change {
                Change::Put { family, key, value } => batch.put_cf(self.family(family), key, value),
                Change::Delete { family, key } => batch.delete_cf(self.family(family), key),
                Change::Merge { family, key, value } => batch.merge_cf(self.family(family), key, value),
                Change::DeleteRange { family, begin, end } => {
                    batch.delete_range_cf(self.family(family), begin, end);
                }
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.db.write_opt(batch, &options)
    }

    fn ingest(
        &mut self,
        family: &str,
        pairs: &[(Vec<u8>, Vec<u8>)],
        moves: bool,
        recorded: &dyn FileSystem,
    ) -> Result<(), Error> {
        self.made += 1;
        let path = self.root.join(format!("import {}.sst", self.made));
        let mut writer = SstFileWriter::create(&self.options);
        writer.open(&path)?;
        pairs.iter().try_for_each(|(key, value)| writer.put(key, value))?;
        writer.finish()?;
        drop(writer);
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(moves);
        self.db.ingest_external_file_cf_opts(self.family(family), &options, vec![&path])?;
        if !moves {
            // Left over where the recorder has failed meanwhile.
            drop(recorded.remove_file(&path));
        }
        Ok(())
    }

    /// Reads everything, and checks all sums.
    pub(crate) fn read_all(&self) -> Result<Model, Error> {
        crate::sums::verify(&self.db);
        let families = DB::list_cf(&self.options, place(&self.root))?;
        let mut model = Model::new();
        for family in families {
            let mut options = ReadOptions::default();
            options.set_verify_checksums(true);
            options.fill_cache(false);
            let iter = self.db.iterator_cf_opt(self.family(&family), options, IteratorMode::Start);
            let pairs: Result<Vec<_>, _> = iter.collect();
            let pairs = pairs?.into_iter().map(|(key, value)| (key.into_vec(), value.into_vec()));
            model.insert(family, pairs.collect());
        }
        Ok(model)
    }
}

/// Returns which step of which generation was the last to write.
pub(crate) fn marker(model: &Model) -> Option<(u64, u64)> {
    let value = std::str::from_utf8(model.get(DEFAULT)?.get(MARKER)?).unwrap();
    let (generation, step) = value.split_once(':').unwrap();
    Some((generation.parse().unwrap(), step.parse().unwrap()))
}

/// Removes a directory, where it is there, file by file; less of it where the recorder has failed meanwhile.
fn remove_all(fs: &dyn FileSystem, directory: &Path) {
    let Ok(names) = fs.read_dir(directory) else { return };
    for entry in names {
        drop(fs.remove_file(&directory.join(entry.name)));
    }
    drop(fs.remove_dir(directory));
}

/// Options with which little data makes many files.
pub(crate) fn small(mut options: Options) -> Options {
    options.set_write_buffer_size(96 << 10);
    options.set_target_file_size_base(48 << 10);
    options.set_max_bytes_for_level_base(192 << 10);
    options.set_level_zero_file_num_compaction_trigger(2);
    options.set_max_manifest_file_size(8 << 10);
    options.set_keep_log_file_num(2);
    options.set_merge_operator_associative("append", |_, before, operands| {
        let mut value = before.unwrap_or_default().to_vec();
        operands.iter().for_each(|operand| value.extend_from_slice(operand));
        Some(value)
    });
    options
}
