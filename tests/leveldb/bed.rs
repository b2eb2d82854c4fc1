//! Databases that are recorded, lost and played, and what must be in them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use recoverylog::completion::Completion;
use recoverylog::engine::leveldb::{self, LeveldbEnv};
use recoverylog::journal::{
    Append, Appended, Capabilities, Fragment, Head, Journal, JournalError, JournalReader, Journals,
    MemoryJournals, ReadRange, random_author,
};
use recoverylog::player::{PlayOptions, Player};
use recoverylog::recorded_fs::RecordedFsOptions;
use recoverylog::vfs::{FaultyFs, FileSystem, MemoryFs};
use recoverylog::{Deadline, FsmHints, JournalName, RecordedFs, Recorder, RecorderOptions};
use rusty_leveldb::{DB, LdbIterator, Options, Result, WriteBatch};

/// The directory of every database in memory.
pub(crate) const DIR: &str = "/recorded/db";

/// What a database holds.
pub(crate) type State = BTreeMap<Vec<u8>, Vec<u8>>;

pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

pub(crate) fn log() -> JournalName {
    JournalName::new("acme/orders").unwrap()
}

/// Options with which a few hundred small values fill tables and are compacted.
pub(crate) fn options(env: &LeveldbEnv) -> Options {
    Options {
        write_buffer_size: 12 << 10,
        max_file_size: 6 << 10,
        block_size: 1 << 10,
        ..leveldb::options(env.clone())
    }
}

/// As [`options`], where a database must be there.
pub(crate) fn existing(env: &LeveldbEnv) -> Options {
    Options { create_if_missing: false, ..options(env) }
}

/// Small numbers out of a seed.
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

/// One atomic change: keys with their new values, `None` where the key goes.
type Batch = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// What a database was told, and how much of it was acknowledged.
#[derive(Default)]
pub(crate) struct History {
    batches: Vec<Batch>,
    acknowledged: usize,
}

impl History {
    /// Does one random thing to the database: a batch, or a compaction of some range. What it was told counts
    /// from before it answers. Sometimes it is acknowledged.
    pub(crate) fn work(&mut self, db: &mut DB, random: &mut Random) -> Result<()> {
        if random.one_in(150) {
            let from = format!("key {:03}", random.below(200));
            return db.compact_range(from.as_bytes(), b"key 999");
        }
        let batch: Batch = (0..=random.below(3)).map(|_| change(random)).collect();
        let mut encoded = WriteBatch::default();
        for (key, value) in &batch {
            match value {
                Some(value) => encoded.put(key, value),
                None => encoded.delete(key),
            }
        }
        self.batches.push(batch);
        let sync = random.one_in(12);
        db.write(encoded, sync)?;
        if sync {
            self.acknowledged = self.batches.len();
        }
        Ok(())
    }

    /// Waits until everything told so far is acknowledged.
    pub(crate) fn acknowledge(&mut self, db: &mut DB) -> Result<()> {
        db.flush()?;
        self.acknowledged = self.batches.len();
        Ok(())
    }

    fn state(&self, batches: usize) -> State {
        let mut state = State::new();
        for batch in &self.batches[..batches] {
            apply(&mut state, batch);
        }
        state
    }

    /// What a database must hold where all was acknowledged.
    #[track_caller]
    pub(crate) fn check_whole(&self, db: &mut DB) {
        assert_eq!(self.acknowledged, self.batches.len());
        assert!(
            read_all(db) == self.state(self.batches.len()),
            "other keys or values than the database was told"
        );
    }

    /// Finds out how much of the history a database holds: at least what was acknowledged. From here on the
    /// history is that much.
    #[track_caller]
    pub(crate) fn check_prefix(&mut self, db: &mut DB) {
        let found = read_all(db);
        let mut state = self.state(self.acknowledged);
        let mut kept = self.acknowledged;
        while state != found {
            let Some(next) = self.batches.get(kept) else {
                panic!(
                    "{} keys are no state since acknowledged batch {} of {}",
                    found.len(),
                    self.acknowledged,
                    self.batches.len()
                );
            };
            apply(&mut state, next);
            kept += 1;
        }
        self.batches.truncate(kept);
        self.acknowledged = kept;
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged
    }
}

fn change(random: &mut Random) -> (Vec<u8>, Option<Vec<u8>>) {
    let key = format!("key {:03}", random.below(200)).into_bytes();
    let byte = b'a' + random.below(26) as u8;
    let len = if random.one_in(40) { random.below(40_000) } else { random.below(400) } as usize;
    (key, (!random.one_in(4)).then(|| vec![byte; len]))
}

fn apply(state: &mut State, batch: &Batch) {
    for (key, value) in batch {
        match value {
            Some(value) => state.insert(key.clone(), value.clone()),
            None => state.remove(key),
        };
    }
}

fn read_all(db: &mut DB) -> State {
    let mut iter = db.new_iter().unwrap();
    std::iter::from_fn(|| iter.next()).collect()
}

/// A writer of the log, and the directory it records.
pub(crate) struct Writer {
    pub(crate) disk: MemoryFs,
    pub(crate) fs: Arc<RecordedFs<FaultyFs<MemoryFs>>>,
    pub(crate) env: LeveldbEnv,
    pub(crate) wire: Arc<Wire>,
}

impl Writer {
    /// Plays the log into a directory, and takes it over.
    pub(crate) fn take_over(journals: &MemoryJournals) -> Self {
        let disk = MemoryFs::new();
        disk.create_dir(Path::new("/recorded")).unwrap();
        let author = random_author().unwrap();
        let player = player(journals, Arc::new(disk.clone()), Path::new("/recorded/db"));
        let played = player.follow().unwrap().promote(author, soon()).unwrap();
        let journal = journals.open(&log()).unwrap();
        let wire = Arc::new(Wire { journal, fate: Mutex::new(Fate { appends: u64::MAX, refuses: false }) });
        let options = RecorderOptions::default().resolve_max(Duration::from_millis(2));
        let recorder = Recorder::new(wire.clone(), played.fsm, played.position, author, options).unwrap();
        let faulty = FaultyFs::new(disk.clone());
        let options = RecordedFsOptions::default().sync_max(Duration::from_secs(5));
        let fs = Arc::new(RecordedFs::new(faulty, Path::new(DIR), recorder, options));
        let env = LeveldbEnv::new(fs.clone(), DIR);
        Self { disk, fs, env, wire }
    }
}

fn player(journals: &dyn Journals, fs: Arc<dyn FileSystem>, dir: &Path) -> Player {
    let options = PlayOptions { parallelism: 1, sync: false, ..PlayOptions::default() };
    Player::new(journals, &FsmHints::empty(log()), fs, dir, options).unwrap()
}

/// Plays the log elsewhere, and opens the database that must be there.
pub(crate) fn play(journals: &dyn Journals, fs: Arc<dyn FileSystem>, dir: &Path) -> DB {
    let played = player(journals, Arc::clone(&fs), dir).restore().unwrap();
    assert_eq!(played.warnings, []);
    let env = LeveldbEnv::new(fs, dir);
    DB::open(dir, existing(&env)).unwrap_or_else(|error| panic!("{error}: {:?}", env.failure()))
}

/// As [`play`], in memory.
pub(crate) fn play_in_memory(journals: &dyn Journals) -> DB {
    play(journals, Arc::new(MemoryFs::new()), Path::new("/elsewhere"))
}

/// What a writer reaches its journal by.
#[derive(Debug)]
pub(crate) struct Wire {
    journal: Arc<dyn Journal>,
    fate: Mutex<Fate>,
}

#[derive(Debug)]
struct Fate {
    /// Appends that still arrive.
    appends: u64,
    /// Whether the journal then refuses; otherwise nothing is heard of it any more.
    refuses: bool,
}

impl Wire {
    /// Loses every append after so many.
    pub(crate) fn cut_after(&self, appends: u64) {
        *self.fate.lock().unwrap() = Fate { appends, refuses: false };
    }

    /// Refuses every append after so many.
    pub(crate) fn refuse_after(&self, appends: u64) {
        *self.fate.lock().unwrap() = Fate { appends, refuses: true };
    }

    pub(crate) fn mend(&self) {
        self.cut_after(u64::MAX);
    }
}

impl Journal for Wire {
    fn name(&self) -> &JournalName {
        self.journal.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.journal.capabilities()
    }

    fn submit(&self, append: Append) -> Completion<Appended, JournalError> {
        let mut fate = self.fate.lock().unwrap();
        let journal = self.name().clone();
        if fate.appends > 0 {
            fate.appends -= 1;
            return self.journal.submit(append);
        }
        let what = "the wire is cut".to_owned();
        Completion::resolved(Err(if fate.refuses {
            JournalError::Wedged { journal, what }
        } else {
            JournalError::Unknown { journal, at: append.at, what }
        }))
    }

    fn head(&self, deadline: Deadline) -> std::result::Result<Head, JournalError> {
        self.journal.head(deadline)
    }

    fn read(&self, range: ReadRange) -> std::result::Result<Box<dyn JournalReader>, JournalError> {
        self.journal.read(range)
    }

    fn fragments(&self, deadline: Deadline) -> std::result::Result<Vec<Fragment>, JournalError> {
        self.journal.fragments(deadline)
    }

    fn prune(&self, fragments: &[Fragment], deadline: Deadline) -> std::result::Result<(), JournalError> {
        self.journal.prune(fragments, deadline)
    }
}
