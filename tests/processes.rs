//! Goal: of several processes that write to one journal in local files, none loses what was acknowledged to it, and
//! none that was superseded is ever accepted again, whoever is killed or stopped at whatever moment.
//! Method: two writer processes compete. Each takes the journal over by setting the author register, appends under
//! that author at the head it knows until it is refused, and takes over again. They report what was
//! acknowledged through a pipe. 200 times one of them is killed with signal 9, or stopped and later continued,
//! at a random moment; the other goes on with the handle that it has. In the end, and by a reader that follows all
//! along, the journal is compared with what was reported.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test may stop at what it does not expect, and a child reports on its standard output"
)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use recoverylog::journal::{
    Append, FileJournalOptions, FileJournals, Journal, JournalError, Journals, ReadRange, ReadStep,
    random_author,
};
use recoverylog::vfs::OsFs;
use recoverylog::{Author, Deadline, JournalName, Offset};
use rustix::process::{Pid, Signal, kill_process};

const ROUNDS: u64 = 200;
/// Small, so that files roll all the time.
const FRAGMENT_BYTES: u64 = 64 << 10;
const HEADER_BYTES: usize = 20;
/// What the survivor must commit while the other is dead or stopped.
const PROGRESS: u64 = 3;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

fn name() -> JournalName {
    JournalName::new("acme/orders").unwrap()
}

fn open(root: &Path) -> Arc<dyn Journal> {
    let mut options = FileJournalOptions::default();
    options.fragment_bytes = FRAGMENT_BYTES;
    FileJournals::open_on(Arc::new(OsFs::new()), root, options).unwrap().open(&name()).unwrap()
}

/// One append: length, author, whether it takes over, the number of the append of that author, noise.
fn record(author: Author, takes_over: bool, number: u64) -> Vec<u8> {
    let len = HEADER_BYTES + (number * 7919 % 3000) as usize;
    let mut record = Vec::with_capacity(len);
    record.extend_from_slice(&(len as u32).to_le_bytes());
    record.extend_from_slice(&author.get().to_le_bytes());
    record.extend_from_slice(&u32::from(takes_over).to_le_bytes());
    record.extend_from_slice(&number.to_le_bytes());
    record.resize(len, (number ^ u64::from(author.get())) as u8);
    record
}

/// What a child process does; as a test of its own it does nothing.
#[test]
fn child() {
    let Ok(root) = std::env::var("RECOVERYLOG_TEST_ROOT") else { return };
    let journal = open(Path::new(&root));
    let mut head = journal.head(soon()).unwrap().offset;
    loop {
        let author = random_author().unwrap();
        let mut number = 0;
        while write(&*journal, &mut head, author, number) {
            number += 1;
        }
        // Superseded; the other gets some time.
        let mut reader = journal.read(ReadRange::follow(head)).unwrap();
        let pause = Deadline::after(Duration::from_millis(2));
        while let ReadStep::Chunk(_) = reader.next(pause).unwrap() {}
        head = journal.head(soon()).unwrap().offset;
    }
}

/// Appends once, at the head wherever that is; false once another author took over.
fn write(journal: &dyn Journal, head: &mut Offset, author: Author, number: u64) -> bool {
    loop {
        let mut append = Append::new(record(author, number == 0, number)).at(*head);
        append = if number == 0 { append.union_author(author) } else { append.check_author(author) };
        match journal.append(append, soon()) {
            Ok(appended) => {
                println!("ACK {} {} {author} {number}", appended.begin, appended.end);
                *head = appended.end;
                return true;
            }
            Err(JournalError::WrongOffset { head: found, .. }) => *head = found,
            Err(JournalError::RegisterMismatch { .. }) if number > 0 => return false,
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// A child process and what it reported.
struct Writer {
    child: Child,
    acknowledged: Arc<AtomicU64>,
}

type Reports = Arc<Mutex<Vec<(u64, u64, u32, u64)>>>;

impl Writer {
    fn start(root: &Path, reports: &Reports) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env("RECOVERYLOG_TEST_ROOT", root)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).split(b'\n');
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (count, reports) = (Arc::clone(&acknowledged), Arc::clone(reports));
        let listen = move || {
            for line in lines.map_while(Result::ok) {
                let line = String::from_utf8(line).unwrap();
                // The harness prints too, and a line may be cut by the death of the process.
                let Some(numbers) = line.split("ACK ").nth(1) else { continue };
                let numbers =
                    numbers.split(' ').map_while(|number| number.parse().ok()).collect::<Vec<u64>>();
                let [begin, end, author, number] = numbers[..] else { continue };
                reports.lock().unwrap().push((begin, end, author as u32, number));
                count.fetch_add(1, Ordering::SeqCst);
            }
        };
        std::thread::Builder::new().name("listen".into()).spawn(listen).unwrap();
        Self { child, acknowledged }
    }

    fn count(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits for `more` acknowledgements.
    fn wait_for(&self, more: u64, context: &str) {
        let wanted = self.count() + more;
        let started = Instant::now();
        while self.count() < wanted {
            assert!(started.elapsed() < Duration::from_secs(60), "{context}: no progress");
            std::thread::park_timeout(Duration::from_micros(200));
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Follows the journal in this process, and returns every byte that it showed.
struct Follower {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<u8>>,
}

impl Follower {
    fn start(root: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let follow = move || {
            let journal = FileJournals::read_only(root).unwrap().open(&name()).unwrap();
            let mut reader = journal.read(ReadRange::follow(Offset::ZERO)).unwrap();
            let mut found = Vec::new();
            loop {
                match reader.next(Deadline::after(Duration::from_millis(20))).unwrap() {
                    ReadStep::Chunk(chunk) => {
                        let begin = found.len();
                        found.resize(begin + chunk.len() as usize, 0);
                        chunk.read_exact_at(&mut found[begin..], 0).unwrap();
                    }
                    ReadStep::AtHead { .. } if stopped.load(Ordering::SeqCst) => return found,
                    ReadStep::AtHead { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        };
        Self { stop, thread: std::thread::Builder::new().name("follow".into()).spawn(follow).unwrap() }
    }

    fn finish(self) -> Vec<u8> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

/// SplitMix64, for the moments.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 29)
}

/// Lets two writers compete, and hits one of them in each round.
fn compete(hit: impl Fn(&mut [Writer; 2], usize, &dyn Fn() -> Writer, &str)) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("journals");
    drop(open(&root));
    let follower = Follower::start(root.clone());
    let reports = Reports::default();
    let start = || Writer::start(&root, &reports);
    let mut writers = [start(), start()];
    let mut seed = 7;
    for round in 0..ROUNDS {
        let context = format!("round {round} of {ROUNDS}");
        for writer in &writers {
            writer.wait_for(1, &context);
        }
        let moment = Duration::from_micros(random(&mut seed) % 3000);
        std::thread::park_timeout(moment);
        hit(&mut writers, (random(&mut seed) % 2) as usize, &start, &context);
    }
    drop(writers);
    let journal = open(&root);
    journal.append(Append::new("the end"), soon()).unwrap();
    let content = follower.finish();
    check(&content, &reports.lock().unwrap());
    assert_eq!(journal.head(soon()).unwrap().offset.get(), content.len() as u64);
}

/// Checks that the journal is a sequence of whole records, each of the author that took over last, and that
/// everything acknowledged is among them, where it was said to be.
fn check(content: &[u8], reports: &[(u64, u64, u32, u64)]) {
    let word = |at: usize| u32::from_le_bytes(content[at..at + 4].try_into().unwrap());
    let mut committed = std::collections::BTreeMap::new();
    let (mut at, mut owner, mut expected) = (0, 0, 0);
    while &content[at..] != b"the end" {
        let (len, author, takes_over) = (word(at) as usize, word(at + 4), word(at + 8) == 1);
        let number = u64::from_le_bytes(content[at + 12..at + 20].try_into().unwrap());
        if takes_over {
            (owner, expected) = (author, 0);
        }
        assert_eq!((author, number), (owner, expected), "a superseded author was accepted at {at}");
        let whole = record(Author::new(author).unwrap(), takes_over, number);
        assert!(content[at..at + len] == whole, "the record at {at} is not what was written");
        committed.insert(at as u64, ((at + len) as u64, author, number));
        expected += 1;
        at += len;
    }
    assert!(reports.len() > ROUNDS as usize);
    for &(begin, end, author, number) in reports {
        assert_eq!(
            committed.get(&begin),
            Some(&(end, author, number)),
            "acknowledged at {begin}, and not there"
        );
    }
}

#[test]
fn of_two_writers_one_killed_at_any_moment_the_other_goes_on_and_nothing_acknowledged_is_lost() {
    compete(|writers, victim, start, context| {
        // Dropping the old one kills it first.
        writers[victim].signal(Signal::KILL);
        writers[victim].child.wait().unwrap();
        writers[1 - victim].wait_for(PROGRESS, context);
        writers[victim] = start();
    });
}

#[test]
fn of_two_writers_one_stopped_at_any_moment_the_other_goes_on_and_the_stopped_one_is_not_accepted_later() {
    compete(|writers, victim, _, context| {
        writers[victim].signal(Signal::STOP);
        writers[1 - victim].wait_for(PROGRESS, context);
        writers[victim].signal(Signal::CONT);
        writers[victim].wait_for(1, context);
    });
}
