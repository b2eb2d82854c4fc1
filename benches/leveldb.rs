//! Goal: what recording costs a LevelDB that is filled.
//! Method: `rusty-leveldb` is filled with values of 1 KiB under random keys, its `flush`, the only sync it knows,
//! after every so many. In turns: recorded into a file journal, ended by a barrier; plain, over the operating
//! system's files, where flush is an fdatasync(2) and one syncfs(2) ends it. The groups of bytes that the recorded
//! pass appended to the journal are noted, and written once more by themselves, with pwrite(2) into a growing file
//! and one fdatasync(2) for each: that is J / r, the least that a journal can take for them. Printed: the median,
//! least and greatest of the repeats, and the ratio of the recorded time to the longer of the other two in its
//! round. The target is 1.15. `send_bytes_min` is the option of the recorder of that name.
//!
//! `cargo bench --bench leveldb --features leveldb [-- DIRECTORY]`

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a bench")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the real clock, and writes past the library")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use recoverylog::completion::Completion;
use recoverylog::engine::leveldb::{self, LeveldbEnv};
use recoverylog::journal::{
    Append, Appended, Capabilities, FileJournals, Fragment, Head, Journal, JournalError, JournalReader,
    Journals as _, ReadRange,
};
use recoverylog::recorded_fs::{RecordedFs, RecordedFsOptions};
use recoverylog::vfs::OsFs;
use recoverylog::{Author, Deadline, Fsm, JournalName, Offset, Recorder, RecorderOptions};

const REPEATS: usize = 7;
const VALUE_BYTES: usize = 1024;
/// Puts for each flush, and puts in all.
const FILLS: [(usize, usize); 3] = [(1, 2_000), (64, 40_000), (1024, 100_000)];
const SEND_BYTES_MIN: [usize; 3] = [1, 64 << 10, 1 << 20];

fn main() {
    let named = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let place = tempfile::tempdir_in(named.map_or_else(std::env::temp_dir, PathBuf::from)).unwrap();
    for (flush_every, puts) in FILLS {
        println!("{puts} puts of 1 KiB, a flush after each {flush_every}");
        let mut plain = Vec::new();
        let mut ways = SEND_BYTES_MIN.map(|_| Way::default());
        for _ in 0..REPEATS {
            let plain_seconds = in_fresh(place.path(), |folder| {
                fill(&LeveldbEnv::new(Arc::new(OsFs::new()), folder), folder, flush_every, puts);
                rustix::fs::syncfs(File::open(folder).unwrap()).unwrap();
            });
            plain.push(plain_seconds);
            for (way, send_bytes_min) in ways.iter_mut().zip(SEND_BYTES_MIN) {
                let recorded = in_fresh(place.path(), |folder| {
                    way.groups = record(folder, send_bytes_min, flush_every, puts);
                });
                let raw = in_fresh(place.path(), |folder| write_raw(folder, &way.groups));
                way.ratios.push(recorded / plain_seconds.max(raw));
                way.recorded.push(recorded);
                way.raw.push(raw);
            }
        }
        println!("  plain + syncfs {} s", figure(&plain));
        ways.iter().zip(SEND_BYTES_MIN).for_each(|(way, min)| way.print(min));
    }
}

#[derive(Default)]
struct Way {
    recorded: Vec<f64>,
    raw: Vec<f64>,
    ratios: Vec<f64>,
    groups: Vec<u64>,
}

impl Way {
    fn print(&self, send_bytes_min: usize) {
        let mut sizes = self.groups.clone();
        sizes.sort_unstable();
        let quantile = |of: usize| sizes[(sizes.len() - 1) * of / 100];
        println!(
            "  send_bytes_min {send_bytes_min:>7}: recorded {} s; its groups raw {} s; {} times the longer, target \
             1.15; {} groups, {:.1} MB, a tenth below {} B, half below {} B, nine tenths below {} B",
            figure(&self.recorded),
            figure(&self.raw),
            figure(&self.ratios),
            sizes.len(),
            sizes.iter().sum::<u64>() as f64 / 1e6,
            quantile(10),
            quantile(50),
            quantile(90),
        );
    }
}

/// Times `pass` in a folder that is new, on a disk with nothing left to write.
fn in_fresh(place: &Path, pass: impl FnOnce(&Path)) -> f64 {
    let folder = place.join("pass");
    fs::create_dir(&folder).unwrap();
    rustix::fs::syncfs(File::open(place).unwrap()).unwrap();
    let begin = Instant::now();
    pass(&folder);
    let taken = begin.elapsed().as_secs_f64();
    fs::remove_dir_all(&folder).unwrap();
    taken
}

fn fill(env: &LeveldbEnv, folder: &Path, flush_every: usize, puts: usize) {
    let noise: Vec<u8> = (0..VALUE_BYTES + 4096).map(|at| (at * at * 31 / 7 % 251) as u8).collect();
    let mut db = rusty_leveldb::DB::open(folder, leveldb::options(env.clone())).unwrap();
    for index in 0..puts {
        let key = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        let value = &noise[index % 4096..][..VALUE_BYTES];
        db.put(&key, value).unwrap();
        if (index + 1) % flush_every == 0 {
            db.flush().unwrap();
        }
    }
    db.flush().unwrap();
    drop(db);
    assert!(env.failure().is_none());
}

/// Fills a recorded database; returns the bytes of each append.
fn record(folder: &Path, send_bytes_min: usize, flush_every: usize, puts: usize) -> Vec<u64> {
    let name = JournalName::new("bench/leveldb").unwrap();
    let inner = FileJournals::open(folder.join("journals")).unwrap().open(&name).unwrap();
    let journal = Arc::new(Watched { inner, groups: Mutex::default() });
    let options = RecorderOptions::default().send_bytes_min(send_bytes_min);
    let (author, fsm) = (Author::new(7).unwrap(), Fsm::new(name));
    let recorder = Recorder::new(Arc::clone(&journal) as _, fsm, Offset::ZERO, author, options).unwrap();
    let root = folder.join("db");
    fs::create_dir(&root).unwrap();
    let recorded = RecordedFs::new(OsFs::new(), &root, recorder.clone(), RecordedFsOptions::default());
    fill(&LeveldbEnv::new(Arc::new(recorded), &root), &root, flush_every, puts);
    recorder.barrier().unwrap().wait(Deadline::after(Duration::from_secs(60))).unwrap();
    std::mem::take(&mut *journal.groups.lock().unwrap())
}

fn write_raw(folder: &Path, groups: &[u64]) {
    let file = File::create_new(folder.join("raw")).unwrap();
    let bytes = vec![7; groups.iter().copied().max().unwrap_or(0) as usize];
    let mut at = 0;
    for group in groups {
        file.write_all_at(&bytes[..*group as usize], at).unwrap();
        file.sync_data().unwrap();
        at += group;
    }
}

/// Shows the middle of `values`, with the smallest and the largest.
fn figure(values: &[f64]) -> String {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    format!("{:.2} ({:.2} to {:.2})", values[values.len() / 2], values[0], values[values.len() - 1])
}

/// A journal that notes how long each append is.
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
        self.groups.lock().unwrap().push(append.content_bytes());
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
