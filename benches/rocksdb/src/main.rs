//! Goal: what recording costs a RocksDB that is filled, overwritten, read while it is written, and synced by many threads.
//! Method: each workload runs plain and recorded in turns, in fresh folders of one disk; values are of 1 KiB under
//! random keys. Plain ends with syncfs(2), recorded with a barrier. The groups of bytes that the recorded pass appended
//! to its file journal are written once more by themselves, with pwrite(2) into a growing file and one fdatasync(2) for
//! each: that is J / r, the least that a journal can take for them. Recorded is compared with the longer of the two.
//! CPU time is that of the process. Recorded is run once for each of two values of the recorder's `send_bytes_min`. In the end the log is played by hints, and beside it the recorded directory is
//! copied, each with a sync.
//!
//! `cargo run --release --manifest-path benches/rocksdb/Cargo.toml -- DIRECTORY MIB REPEATS`

#![expect(clippy::disallowed_methods, reason = "a bench reads the real clock, and writes past the library")]

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use recoverylog::completion::Completion;
use recoverylog::engine::rocksdb::{RocksdbEnv, RocksdbOptions};
use recoverylog::journal::{
    Append, Appended, Capabilities, FileJournals, Fragment, Head, Journal, JournalError, JournalReader,
    Journals, ReadRange,
};
use recoverylog::player::{PlayOptions, Player};
use recoverylog::recorded_fs::{RecordedFs, RecordedFsOptions};
use recoverylog::vfs::OsFs;
use recoverylog::{Author, Deadline, Fsm, FsmHints, JournalName, Offset, Recorder, RecorderOptions};
use rocksdb::{DB, Options, WriteOptions};
use rustix::time::{ClockId, clock_gettime};

const VALUE_BYTES: usize = 1024;
const SYNC_THREADS: usize = 16;
/// The option of the recorder of that name.
const SEND_BYTES_MIN: [usize; 2] = [1, 1 << 20];

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Work {
    FillRandom,
    Overwrite,
    ReadWhileWriting,
    FillSync,
}

impl Work {
    /// The directory of its database. Where compactions are left over, syncs would compete with them.
    fn database(self) -> &'static str {
        if self == Self::FillSync { "synced" } else { "db" }
    }
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let place = arguments.first().map_or_else(env::temp_dir, PathBuf::from);
    let mib: usize = arguments.get(1).map_or(2048, |mib| mib.parse().expect("MIB is a number"));
    let repeats: usize = arguments.get(2).map_or(1, |repeats| repeats.parse().expect("REPEATS is a number"));
    let place = tempfile::tempdir_in(place).expect("a temporary directory");
    let keys = (mib << 20) / VALUE_BYTES;
    println!("{mib} MiB of values of 1 KiB, {repeats} repeats");
    let mut table = BTreeMap::new();
    for _ in 0..repeats {
        round(place.path(), keys, &mut table);
    }
    for ((send_bytes_min, work), rows) in &table {
        print(*send_bytes_min, *work, rows);
    }
}

/// One workload, measured plain and recorded.
struct Row {
    plain: Pass,
    recorded: Pass,
    raw_seconds: f64,
}

#[derive(Clone, Debug, Default)]
struct Pass {
    seconds: f64,
    cpu_seconds: f64,
    reads_per_second: f64,
    /// Bytes of each append.
    groups: Vec<u64>,
}

fn round(place: &Path, keys: usize, table: &mut BTreeMap<(usize, Work), Vec<Row>>) {
    let works = [Work::FillRandom, Work::Overwrite, Work::ReadWhileWriting, Work::FillSync];
    let plain_place = fresh(place, "plain");
    let plain: Vec<Pass> =
        { works.map(|work| plain_pass(&plain_place.join(work.database()), work, keys)).to_vec() };
    fs::remove_dir_all(&plain_place).expect("removing a directory");

    for send_bytes_min in SEND_BYTES_MIN {
        let recorded_place = fresh(place, "recorded");
        let shard = Shard::begin(&recorded_place, send_bytes_min);
        let recorded = works.map(|work| shard.pass(work, keys));
        recovery(&shard, &recorded_place);
        drop(shard);
        fs::remove_dir_all(&recorded_place).expect("removing a directory");

        for ((work, plain), recorded) in works.into_iter().zip(plain.clone()).zip(recorded) {
            let raw_place = fresh(place, "raw");
            let raw_seconds = timed(|| write_raw(&raw_place, &recorded.groups)).0;
            fs::remove_dir_all(&raw_place).expect("removing a directory");
            let row = Row { plain, recorded, raw_seconds };
            print(send_bytes_min, work, std::slice::from_ref(&row));
            table.entry((send_bytes_min, work)).or_default().push(row);
        }
    }
    println!();
}

fn fresh(place: &Path, name: &str) -> PathBuf {
    let folder = place.join(name);
    fs::create_dir(&folder).expect("creating a directory");
    sync_all(place);
    folder
}

fn sync_all(place: &Path) {
    rustix::fs::syncfs(File::open(place).expect("opening a directory")).expect("syncfs");
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn timed<T>(pass: impl FnOnce() -> T) -> (f64, T) {
    let begin = Instant::now();
    let done = pass();
    (begin.elapsed().as_secs_f64(), done)
}

fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options
}

fn plain_pass(directory: &Path, work: Work, keys: usize) -> Pass {
    let cpu = cpu_seconds();
    let (seconds, reads_per_second) = timed(|| {
        let reads = {
            let db = DB::open(&options(), directory).expect("opening");
            run(&db, work, keys)
        };
        sync_all(directory);
        reads
    });
    Pass { seconds, cpu_seconds: cpu_seconds() - cpu, reads_per_second, groups: Vec::new() }
}

/// A recorded directory, and its journal.
struct Shard {
    journals: FileJournals,
    journal: Arc<Watched>,
    recorder: Recorder,
    env: RocksdbEnv,
    root: PathBuf,
}

impl Shard {
    fn begin(place: &Path, send_bytes_min: usize) -> Self {
        let name = JournalName::new("bench/rocksdb").expect("a name");
        let journals = FileJournals::open(place.join("journals")).expect("journals");
        let inner = journals.open(&name).expect("a journal");
        let journal = Arc::new(Watched { inner, groups: Mutex::default() });
        let author = Author::new(7).expect("an author");
        let recorder = Recorder::new(
            Arc::clone(&journal) as _,
            Fsm::new(name),
            Offset::ZERO,
            author,
            RecorderOptions::default().send_bytes_min(send_bytes_min),
        )
        .expect("a recorder");
        let root = place.join("db");
        fs::create_dir(&root).expect("creating a directory");
        let fs = RecordedFs::new(OsFs::new(), &root, recorder.clone(), RecordedFsOptions::default());
        let env = RocksdbEnv::new(&fs, RocksdbOptions::default()).expect("an environment");
        Self { journals, journal, recorder, env, root }
    }

    fn settle(&self) {
        self.recorder.barrier().expect("a barrier").wait(soon()).expect("durable");
    }

    fn pass(&self, work: Work, keys: usize) -> Pass {
        sync_all(&self.root);
        let cpu = cpu_seconds();
        let (seconds, reads_per_second) = timed(|| {
            let reads = {
                let mut options = options();
                self.env.apply(&mut options);
                let db = DB::open(&options, self.root.join(work.database())).expect("opening");
                run(&db, work, keys)
            };
            self.settle();
            reads
        });
        let groups = std::mem::take(&mut *self.journal.groups.lock().expect("a lock"));
        Pass { seconds, cpu_seconds: cpu_seconds() - cpu, reads_per_second, groups }
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(600))
}

fn noise() -> Vec<u8> {
    (0..VALUE_BYTES + 4096).map(|at| (at * at * 31 / 7 % 251) as u8).collect()
}

/// The key with this number, out of so many: each number below that is one key.
fn key(number: usize, keys: usize) -> [u8; 16] {
    let mut key = [0; 16];
    let scattered = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
    key[..8].copy_from_slice(&scattered.to_be_bytes());
    key[8..].copy_from_slice(&((number % keys) as u64).to_be_bytes());
    key
}

/// Runs a workload, and returns the reads per second that were made beside it.
fn run(db: &DB, work: Work, keys: usize) -> f64 {
    let noise = noise();
    let put = |number: usize, options: &WriteOptions| {
        let value = &noise[number % 4096..][..VALUE_BYTES];
        db.put_opt(key(number, keys), value, options).expect("a put");
    };
    let mut reads = 0.0;
    match work {
        Work::FillRandom => (0..keys).for_each(|number| put(number, &WriteOptions::default())),
        Work::Overwrite => {
            (0..keys).for_each(|number| put((number * 7919 + 13) % keys, &WriteOptions::default()));
        }
        Work::ReadWhileWriting => {
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let reader = scope.spawn(|| {
                    let (begin, mut found) = (Instant::now(), 0_usize);
                    while !done.load(Ordering::Relaxed) {
                        let number = (found * 104_729 + 7) % keys;
                        assert!(db.get(key(number, keys)).expect("a get").is_some());
                        found += 1;
                    }
                    found as f64 / begin.elapsed().as_secs_f64()
                });
                (0..keys).for_each(|number| put((number * 31 + 5) % keys, &WriteOptions::default()));
                done.store(true, Ordering::Relaxed);
                reads = reader.join().expect("a reader");
            });
        }
        Work::FillSync => {
            let mut durable = WriteOptions::default();
            durable.set_sync(true);
            let (durable, put) = (&durable, &put);
            std::thread::scope(|scope| {
                for thread in 0..SYNC_THREADS {
                    scope.spawn(move || {
                        (0..2_000).for_each(|number| put((number * SYNC_THREADS + thread) % keys, durable));
                    });
                }
            });
            return reads;
        }
    }
    db.flush().expect("a flush");
    reads
}

fn write_raw(folder: &Path, groups: &[u64]) {
    let file = File::create_new(folder.join("raw")).expect("a file");
    let bytes = vec![7; groups.iter().copied().max().unwrap_or(0) as usize];
    let mut at = 0;
    for group in groups {
        file.write_all_at(&bytes[..*group as usize], at).expect("a write");
        rustix::fs::fdatasync(&file).expect("fdatasync");
        at += group;
    }
}

/// Copies a directory in user space, as a player must, which checks what it copies; returns the number of bytes.
fn copy(from: &Path, to: &Path) -> u64 {
    fs::create_dir(to).expect("creating a directory");
    let (mut bytes, mut buffer) = (0, vec![0; 1 << 20]);
    for entry in fs::read_dir(from).expect("a directory").map(|entry| entry.expect("an entry")) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            bytes += copy(&entry.path(), &to);
            continue;
        }
        let mut from = File::open(entry.path()).expect("a file");
        let mut to = File::create_new(to).expect("a file");
        loop {
            let n = from.read(&mut buffer).expect("a read");
            if n == 0 {
                break;
            }
            to.write_all(&buffer[..n]).expect("a write");
            bytes += n as u64;
        }
    }
    bytes
}

/// Plays the log by hints, and copies what was recorded.
fn recovery(shard: &Shard, place: &Path) {
    let hints: FsmHints = shard.recorder.take_hints().expect("hints").wait(soon()).expect("hints");
    let (copied, played) = (place.join("copied"), place.join("played"));
    sync_all(place);
    let (copy_seconds, bytes) = timed(|| {
        let bytes = copy(&shard.root, &copied);
        sync_all(place);
        bytes
    });
    let options = PlayOptions::default();
    let (play_seconds, counts) = timed(|| {
        let player = Player::new(&shard.journals, &hints, Arc::new(OsFs::new()), &played, options);
        let played = player.expect("a player").restore().expect("a play");
        sync_all(place);
        played.counts
    });
    let (open_seconds, db) = timed(|| DB::open(&Options::default(), played.join("db")).expect("opening"));
    drop(db);
    println!(
        "recovery: {:.0} MB copied and synced in {copy_seconds:.2} s; played ({:.0} MB written) and synced in \
         {play_seconds:.2} s: {:.2} times, target 1.3; then opened in {open_seconds:.2} s",
        bytes as f64 / 1e6,
        counts.written_bytes as f64 / 1e6,
        play_seconds / copy_seconds,
    );
}

fn print(send_bytes_min: usize, work: Work, rows: &[Row]) {
    let figure = |of: &dyn Fn(&Row) -> f64| {
        let mut values: Vec<f64> = rows.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        let (least, greatest) = (values[0], values[values.len() - 1]);
        let median = values[values.len() / 2];
        if rows.len() == 1 {
            format!("{median:.2}")
        } else {
            format!("{median:.2} [{least:.2}, {greatest:.2}]")
        }
    };
    let journal_gb = |row: &Row| row.recorded.groups.iter().sum::<u64>() as f64 / 1e9;
    println!(
        "{work:?}, send_bytes_min {send_bytes_min}: plain + syncfs {} s; recorded {} s; its {} GB in {} groups raw {} s; {} times the longer, target \
         1.15; CPU {} s more for each recorded GB, target 1.5",
        figure(&|row| row.plain.seconds),
        figure(&|row| row.recorded.seconds),
        figure(&journal_gb),
        figure(&|row| row.recorded.groups.len() as f64),
        figure(&|row| row.raw_seconds),
        figure(&|row| row.recorded.seconds / row.plain.seconds.max(row.raw_seconds)),
        figure(&|row| (row.recorded.cpu_seconds - row.plain.cpu_seconds) / journal_gb(row)),
    );
    if work == Work::ReadWhileWriting {
        println!(
            "  reads beside it: plain {} /s, recorded {} /s, {} times",
            figure(&|row| row.plain.reads_per_second),
            figure(&|row| row.recorded.reads_per_second),
            figure(&|row| row.recorded.reads_per_second / row.plain.reads_per_second),
        );
    }
    if work == Work::FillSync {
        println!(
            "  puts by {SYNC_THREADS} threads: {} times those of plain, target 0.9",
            figure(&|row| row.plain.seconds / row.recorded.seconds),
        );
    }
}

/// A journal, and the bytes of each append to it.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn Journal>,
    groups: Mutex<Vec<u64>>,
}

impl Journal for Watched {
    fn name(&self) -> &JournalName {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn submit(&self, append: Append) -> Completion<Appended, JournalError> {
        self.groups.lock().expect("a lock").push(append.content_bytes());
        self.inner.submit(append)
    }

    fn head(&self, deadline: Deadline) -> Result<Head, JournalError> {
        self.inner.head(deadline)
    }

    fn read(&self, range: ReadRange) -> Result<Box<dyn JournalReader>, JournalError> {
        self.inner.read(range)
    }

    fn fragments(&self, deadline: Deadline) -> Result<Vec<Fragment>, JournalError> {
        self.inner.fragments(deadline)
    }

    fn prune(&self, fragments: &[Fragment], deadline: Deadline) -> Result<(), JournalError> {
        self.inner.prune(fragments, deadline)
    }
}
