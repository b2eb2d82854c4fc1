//! Goal: whether what a recovery reads, and the log that is kept for it, stay as they are while a RocksDB is overwritten
//! for many times its size; beside them, what the rule of the reference would make of the same operations.
//! Method: random keys fill a database with values of 1 KiB, and then are overwritten at random. Its write buffers and
//! tables are small beside it, so that it has many, and the log is a journal in memory with fragments of 4 MiB. After each
//! write buffer of overwrites RocksDB is left to finish its compactions, and then the rewriter takes all the steps that it
//! has credit for, by its default of 10%; the bench checks that nobody else recorded anything meanwhile. Now and then hints
//! are taken and stored in the place of those before them, and what nobody needs by them is pruned by the exact rule. What
//! a player plans to read, and the fragments that are left, are *ours*. Everything that RocksDB recorded, and nothing that
//! the rewriter did nor our no-ops, is numbered anew, as the log of a recorder that does not rewrite, and given to a state
//! machine with `FsmOptions::REFERENCE`: what its segments name is read, and the fragments of 4 MiB of which they name a
//! byte are kept, by the rule of the *reference*. All is in times of the bytes of the recorded files, then and there. In the
//! end a player restores the directory out of the pruned journal, what it read is counted, and each file is compared.
//! Nothing here waits for a disk: a file system in memory will do.
//!
//! `cargo run --release --manifest-path benches/rocksdb/Cargo.toml --bin history -- [DIRECTORY] [--mib 128] [--times 50]
//! [--file-kib 2048] [--manifest-mib 4] [--svg PATH]`: the size of the database, how many times that is overwritten, the
//! size of write buffers and tables, the length past which RocksDB begins a new manifest, and where to draw.

#![expect(clippy::disallowed_methods, reason = "a bench compares files past the library")]

#[path = "../../../../shared/counted.rs"]
mod counted;
mod plot;
mod reference;
mod shard;

use std::env;
use std::path::{Path, PathBuf};

use recoverylog::engine::rocksdb::RocksdbEnv;
use rocksdb::{DB, Options};

use self::shard::Shard;

const VALUE_BYTES: usize = 1024;
pub(crate) const FRAGMENT_BYTES: u64 = 4 << 20;
/// Samples are taken so often while the database is overwritten once.
const SAMPLES: u64 = 2;
/// The log is pruned so often between two samples.
const PRUNES: u64 = 4;

fn main() {
    let load = Load::from_arguments();
    let place = tempfile::tempdir_in(&load.place).expect("a temporary directory");
    println!(
        "{} MiB of values of 1 KiB, overwritten {} times; tables of {} KiB, a new manifest past {} MiB",
        load.bytes >> 20,
        load.times,
        load.file_bytes >> 10,
        load.manifest_bytes >> 20
    );
    let samples = run(&load, place.path());
    report(&samples);
    if let Some(path) = &load.svg {
        plot::draw(path, &load, &samples);
    }
}

/// What is asked for.
pub(crate) struct Load {
    place: PathBuf,
    /// Of all values.
    pub(crate) bytes: u64,
    /// How many times as many are overwritten.
    pub(crate) times: u64,
    /// Of a write buffer, and of a table.
    file_bytes: u64,
    manifest_bytes: u64,
    svg: Option<PathBuf>,
}

impl Load {
    fn from_arguments() -> Self {
        let place = env::temp_dir();
        let mut load = Self {
            place,
            bytes: 128 << 20,
            times: 50,
            file_bytes: 2 << 20,
            manifest_bytes: 4 << 20,
            svg: None,
        };
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
            let number = |value: String| value.parse::<u64>().expect("a number");
            match argument.as_str() {
                "--mib" => load.bytes = number(value()) << 20,
                "--times" => load.times = number(value()),
                "--file-kib" => load.file_bytes = number(value()) << 10,
                "--manifest-mib" => load.manifest_bytes = number(value()) << 20,
                "--svg" => load.svg = Some(value().into()),
                place => load.place = place.into(),
            }
        }
        load
    }

    fn keys(&self) -> u64 {
        self.bytes / VALUE_BYTES as u64
    }

    fn options(&self, env: &RocksdbEnv) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        env.apply(&mut options);
        options.set_max_manifest_file_size(self.manifest_bytes as usize);
        options.set_write_buffer_size(self.file_bytes as usize);
        options.set_target_file_size_base(self.file_bytes);
        options.set_max_bytes_for_level_base(4 * self.file_bytes);
        options.set_max_background_jobs(2);
        options
    }
}

/// What was found at one point of the history. Bytes.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    /// Values written over since the database was full.
    pub(crate) overwritten: f64,
    /// Of the recorded files.
    pub(crate) live: u64,
    pub(crate) ours: Needs,
    pub(crate) reference: Needs,
    /// Recorded so far by RocksDB, and by the rewriter.
    pub(crate) recorded: u64,
    pub(crate) rewritten: u64,
}

impl Sample {
    /// Returns what a recovery reads and keeps of the log by our rules, and by that of the reference, in times of what is
    /// live.
    pub(crate) fn ratios(&self) -> [f64; 4] {
        let Needs { read, kept } = self.ours;
        [read, kept, self.reference.read, self.reference.kept].map(|bytes| bytes as f64 / self.live as f64)
    }
}

/// Bytes that a recovery reads, and those of the fragments that are kept for it.
#[derive(Clone, Copy)]
pub(crate) struct Needs {
    pub(crate) read: u64,
    pub(crate) kept: u64,
}

fn run(load: &Load, place: &Path) -> Vec<Sample> {
    let mut shard = Shard::begin(place);
    let db = DB::open(&load.options(&shard.env), shard.root.join("db")).expect("opening");
    let mut writer = Writer::new(load.keys());
    let per_step = load.file_bytes / VALUE_BYTES as u64;
    let mut samples = Vec::new();

    let fill = load.keys();
    let (mut written, end) = (0, fill + fill * load.times);
    let (per_sample, mut sampled, mut pruned) = ((fill / SAMPLES).max(1), 0, 0);
    println!(
        "overwritten, live MiB; of live, ours: read, kept; reference: read, kept; recorded MiB, rewritten"
    );
    while written < end {
        let until = (written + per_step).min(if written < fill { fill } else { end });
        (written..until).for_each(|number| writer.put(&db, number));
        written = until;
        shard.rest(&db);
        if written / (per_sample / PRUNES).max(1) > pruned {
            pruned = written / (per_sample / PRUNES).max(1);
            shard.prune();
        }
        if written >= fill && (written - fill) / per_sample + 1 > sampled {
            sampled = (written - fill) / per_sample + 1;
            let hints = shard.prune();
            let sample = shard.sample(&hints, (written - fill) as f64 / fill as f64);
            print(&sample);
            samples.push(sample);
        }
    }
    let hints = shard.prune();
    let (files, read) = shard.restore(&hints, &place.join("played"));
    println!("restored out of what is left: {files} files, all the same; {:.1} MiB read", mib(read));
    samples
}

/// Writes values, each key once at first, and then at random.
struct Writer {
    keys: u64,
    random: u64,
    noise: Vec<u8>,
}

impl Writer {
    fn new(keys: u64) -> Self {
        let mut writer = Self { keys, random: 0x5eed, noise: Vec::new() };
        writer.noise = (0..1 << 17).flat_map(|_| writer.next().to_le_bytes()).collect();
        writer
    }

    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn put(&mut self, db: &DB, number: u64) {
        let random = self.next();
        let number = if number < self.keys { number } else { random % self.keys };
        let from = (random >> 32) as usize % (self.noise.len() - VALUE_BYTES);
        // An odd factor gives each number another key.
        let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        db.put(key, &self.noise[from..][..VALUE_BYTES]).expect("a put");
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn print(sample: &Sample) {
    let [read, kept, reference_read, reference_kept] = sample.ratios();
    println!(
        "{:>5.1} {:>7.1}  {read:>6.3} {kept:>6.3}  {reference_read:>8.3} {reference_kept:>8.3}  {:>9.1} {:>5.2}%",
        sample.overwritten,
        mib(sample.live),
        mib(sample.recorded),
        sample.rewritten as f64 / sample.recorded as f64 * 100.0
    );
}

fn report(samples: &[Sample]) {
    let names =
        ["recovery reads, ours", "log kept, ours", "recovery reads, reference", "log kept, reference"];
    let second = &samples[samples.len() / 2..];
    println!("in times of the live bytes: at the begin, in the middle, at the end; over the second half");
    for (which, name) in names.into_iter().enumerate() {
        let [begin, middle, end] =
            [0, samples.len() / 2, samples.len() - 1].map(|at| samples[at].ratios()[which]);
        let values = || second.iter().map(|sample| sample.ratios()[which]);
        let (least, greatest) = (values().fold(f64::MAX, f64::min), values().fold(0.0, f64::max));
        println!("  {name:<26} {begin:>8.2} {middle:>8.2} {end:>8.2}; {least:.2} to {greatest:.2}");
    }
}
