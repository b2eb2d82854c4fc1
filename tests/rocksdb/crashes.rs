//! Goal: whoever is killed, stopped or starved at whatever moment, the next process finds every write that was
//! acknowledged, and otherwise a state that the database went through.
//!
//! Method: a chain of processes, each of which takes the log over, checks what it finds against the model that follows
//! from the seeds, and works on until it is lost: by signal 9, at any moment of recovery too; by signal 19, to be
//! continued once another one has taken over; because the journal's disk is full; because no file may grow past some length.
//! In the end the log is played whole and by hints, and gives what the last one has left, file by file.
//!
//! `RECOVERYLOG_CRASHES=500` crashes more often; every chain of 20 has a seed of its own, which is printed.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use recoverylog::engine::rocksdb::{RocksdbEnv, RocksdbOptions};
use recoverylog::hint_store::{DirectoryHints, HintStore};
use recoverylog::journal::{FileJournalOptions, FileJournals, random_author};
use recoverylog::player::{PlayOptions, Player};
use recoverylog::replica::{Primary, Replica};
use recoverylog::vfs::{Effect, Fault, FaultPlan, FaultyFs, FileSystem, OsFs};
use recoverylog::{ErrorKind, FsmHints};
use rocksdb::Options;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::bed::{assert_same_tree, log, soon};
use crate::work::{Database, Model, Random, Step, Story, marker, place, small};

/// Crashes of one chain.
const CHAIN: u64 = 20;
/// The longest silence of a process that works.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// What a process is told.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Orders {
    root: PathBuf,
    generation: u64,
    seed: u64,
    /// What the database went through: seeds, and how many of their steps are kept.
    kept: Vec<(u64, u64, u64)>,
    /// The generation that was lost last, its seed, and the step up to which it was acknowledged.
    lost: Option<(u64, u64, u64)>,
    /// The journal's disk is full at this write.
    journal_full_at: Option<u64>,
    /// Ends by itself after so many steps.
    steps_max: u64,
}

impl Orders {
    fn directory(&self) -> PathBuf {
        self.root.join(format!("node-{}", self.generation))
    }
}

/// What a process reports.
#[derive(Clone, Debug, Deserialize, Serialize)]
enum Report {
    /// The database holds what the lost generation had made of it after so many steps.
    Found(u64),
    /// This step and all before it are acknowledged.
    Acknowledged(u64),
    /// Everything is closed after so many steps.
    Closed(u64),
    /// A step failed, and no sync is acknowledged since where the recorder has failed, with this kind of error.
    Failed(String, Option<String>),
    /// What must not be.
    Broken(String),
}

fn report(report: &Report) {
    let mut out = std::io::stdout().lock();
    // Before it stands what the harness prints.
    writeln!(out, "\nREPORT {}", serde_json::to_string(report).unwrap()).unwrap();
    out.flush().unwrap();
}

/// What a child process does; as a test of its own it does nothing.
#[test]
fn child() {
    let Ok(orders) = env::var("RECOVERYLOG_TEST_ORDERS") else { return };
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    let run = std::panic::AssertUnwindSafe(|| work(&orders));
    if let Err(panic) = std::panic::catch_unwind(run) {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        report(&Report::Broken(said.unwrap_or_default()));
    }
}

fn journals(root: &Path, full_at: Option<u64>) -> Arc<FileJournals> {
    let plan = full_at.map(|number| FaultPlan::Nth {
        effect: Effect::Write,
        number,
        fault: Fault::Torn(std::io::ErrorKind::StorageFull),
    });
    let fs = FaultyFs::new(OsFs::new());
    if let Some(plan) = plan {
        fs.inject(plan);
    }
    let mut options = FileJournalOptions::default();
    options.fragment_bytes = 64 << 10;
    Arc::new(FileJournals::open_on(Arc::new(fs), root.join("journals"), options).unwrap())
}

fn hints(root: &Path) -> Arc<DirectoryHints> {
    Arc::new(DirectoryHints::open(Arc::new(OsFs::new()), &root.join("hints")).unwrap())
}

fn options(env: &RocksdbEnv, is_new: bool) -> Options {
    let mut options = Options::default();
    options.create_if_missing(is_new);
    env.apply(&mut options);
    small(options)
}

fn work(orders: &Orders) {
    let fs: Arc<dyn FileSystem> = Arc::new(OsFs::new());
    let journals = journals(&orders.root, orders.journal_full_at);
    let shard = Replica::new(journals, log(), hints(&orders.root), fs);
    let standby = shard.standby(&orders.directory()).unwrap();
    let primary = match standby.promote(random_author().unwrap(), soon()) {
        Ok(primary) => primary,
        Err(error) => {
            return report(&Report::Failed(error.to_string(), Some(error.kind().to_string())));
        }
    };
    let env = RocksdbEnv::new(primary.fs(), RocksdbOptions::default()).unwrap();
    let is_new = !place(primary.directory()).join("CURRENT").exists();
    if is_new && (!orders.kept.is_empty() || orders.lost.is_some_and(|(_, _, acknowledged)| acknowledged > 0))
    {
        return report(&Report::Broken("the database is gone".into()));
    }
    let database = match Database::open(primary.directory(), options(&env, is_new)) {
        Ok(database) => database,
        Err(error) => return failed(&primary, None, &error),
    };
    let found = match database.read_all() {
        Ok(found) => found,
        Err(error) => return failed(&primary, None, &error),
    };
    let model = match find(orders, &found) {
        Ok((kept, model)) => {
            report(&Report::Found(kept));
            model
        }
        Err(what) => return report(&Report::Broken(what)),
    };
    // The next one plays by these; where they cannot be published it plays more.
    drop(primary.publish_hints(soon()));
    go_on(orders, &primary, database, Story::new(orders.seed, orders.generation, model));
}

fn go_on(orders: &Orders, primary: &Primary, mut database: Database, mut story: Story) {
    while story.steps < orders.steps_max {
        let step = story.next();
        match database.step(&step, &**primary.fs()) {
            Ok(done) => database = done,
            Err((error, database)) => return failed(primary, database.as_deref(), &error),
        }
        if step.is_durable() {
            report(&Report::Acknowledged(story.steps));
        }
    }
    drop(database);
    primary.barrier().unwrap().wait(soon()).unwrap();
    primary.publish_hints(soon()).unwrap();
    report(&Report::Closed(story.steps));
}

/// Reports a failure, after which nothing may be acknowledged where it was the recorder's.
fn failed(primary: &Primary, database: Option<&Database>, error: &rocksdb::Error) {
    let is_final = primary.status().failure.is_some();
    if let Some(database) = database.filter(|_| is_final) {
        for _ in 0..3 {
            let mut options = rocksdb::WriteOptions::default();
            options.set_sync(true);
            if database.db.put_opt("late", "value", &options).is_ok() {
                return report(&Report::Broken(format!("acknowledged after: {error}")));
            }
        }
    }
    let failure = primary.status().failure.map(|failure| failure.kind().to_string());
    report(&Report::Failed(error.to_string(), failure));
}

/// Finds the state that the database is in: returns how many steps of the lost generation are kept, and the model.
fn find(orders: &Orders, found: &Model) -> Result<(u64, Model), String> {
    let mut model = Model::new();
    for &(generation, seed, steps) in &orders.kept {
        let mut story = Story::new(seed, generation, model);
        story.tell(steps);
        model = story.model;
    }
    let Some((generation, seed, acknowledged)) = orders.lost else {
        let model = Story::new(0, 0, model).model;
        return if *found == model { Ok((0, model)) } else { Err("a new database is not empty".into()) };
    };
    let mut story = Story::new(seed, generation, model);
    let written = marker(found).filter(|(found, _)| *found == generation).map_or(0, |(_, step)| step);
    loop {
        if story.steps >= acknowledged && story.model == *found {
            return Ok((story.steps, story.model));
        }
        let step = story.next();
        if story.steps > acknowledged.max(written) && matches!(step, Step::Write { .. }) {
            return Err(format!(
                "{} keys in {} families are no state since step {acknowledged} of generation {generation}, \
                 the last to write is step {written}",
                found.values().map(BTreeMap::len).sum::<usize>(),
                found.len()
            ));
        }
    }
}

/// A process that was started.
struct Node {
    process: Child,
    reports: Receiver<Report>,
    generation: u64,
    directory: PathBuf,
}

impl Node {
    /// Starts a process whose files may have so many blocks of 512 bytes, where there is a limit: a write past that
    /// fails, as on a full disk, in part.
    fn start(orders: &Orders, blocks_max: Option<u64>) -> Self {
        let program = env::current_exe().unwrap();
        let mut command = match blocks_max {
            Some(blocks) => {
                let limited = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(limited).arg(program);
                shell
            }
            None => Command::new(program),
        };
        let mut process = command
            .args(["--exact", "crashes::child", "--nocapture", "--test-threads=1"])
            .env("RECOVERYLOG_TEST_ORDERS", serde_json::to_string(orders).unwrap())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (sender, reports) = mpsc::channel();
        let listen = move || {
            // The last line of a killed process may be cut: it has reported nothing then.
            for line in lines.map_while(Result::ok) {
                let report = line.strip_prefix("REPORT ").and_then(|line| serde_json::from_str(line).ok());
                if report.is_some_and(|report| sender.send(report).is_err()) {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("listen".into()).spawn(listen).unwrap();
        Self { process, reports, generation: orders.generation, directory: orders.directory() }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// How a process is lost.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Loss {
    Killed,
    KilledEarly,
    Stopped,
    JournalFull,
    Starved,
    Closed,
}

/// What is known of a chain of processes.
struct Chain {
    seed: u64,
    random: Random,
    orders: Orders,
    zombie: Option<Node>,
    losses: BTreeMap<Loss, u64>,
    failures: BTreeMap<Loss, u64>,
    zombies_fenced: u64,
    last: Option<PathBuf>,
}

impl Chain {
    fn new(seed: u64, root: &Path) -> Self {
        let orders = Orders {
            root: root.to_owned(),
            generation: 0,
            seed: 0,
            kept: Vec::new(),
            lost: None,
            journal_full_at: None,
            steps_max: 0,
        };
        let random = Random::new(seed);
        Self {
            seed,
            random,
            orders,
            zombie: None,
            losses: BTreeMap::new(),
            failures: BTreeMap::new(),
            zombies_fenced: 0,
            last: None,
        }
    }

    /// Takes a report into what is known.
    fn hear(&mut self, report: Report) -> Report {
        let (generation, seed) = (self.orders.generation, self.orders.seed);
        match &report {
            Report::Found(steps) => {
                if let Some((generation, seed, acknowledged)) = self.orders.lost.take() {
                    assert!(*steps >= acknowledged);
                    self.orders.kept.push((generation, seed, *steps));
                }
                self.orders.lost = Some((generation, seed, 0));
            }
            Report::Acknowledged(steps) | Report::Closed(steps) => {
                self.orders.lost = Some((generation, seed, *steps));
            }
            Report::Failed(..) => {}
            Report::Broken(what) => panic!("seed {}: generation {generation}: {what}", self.seed),
        }
        report
    }

    /// Hears everything that a process has reported before its end.
    fn hear_out(&mut self, node: &Node) -> Option<Report> {
        let mut last = None;
        loop {
            match node.reports.recv_timeout(SILENCE_MAX) {
                Ok(report) => last = Some(self.hear(report)),
                Err(mpsc::RecvTimeoutError::Disconnected) => return last,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    panic!("seed {}: generation {} hangs", self.seed, self.orders.generation)
                }
            }
        }
    }

    /// Lets one process work until it is lost.
    fn crash(&mut self, loss: Loss) {
        *self.losses.entry(loss).or_default() += 1;
        self.orders.generation += 1;
        self.orders.seed = self.seed * 1000 + self.orders.generation;
        self.orders.steps_max = match loss {
            Loss::Killed | Loss::KilledEarly | Loss::Stopped => u64::MAX,
            Loss::JournalFull | Loss::Starved => 250,
            Loss::Closed => 30,
        };
        let full_at = self.random.below(150);
        self.orders.journal_full_at = (loss == Loss::JournalFull).then_some(full_at);
        let blocks = 130 + self.random.below(130);
        let node = Node::start(&self.orders, (loss == Loss::Starved).then_some(blocks));
        match loss {
            Loss::KilledEarly => {
                std::thread::sleep(Duration::from_millis(self.random.below(200)));
                node.signal(Signal::KILL);
                drop(self.hear_out(&node));
            }
            Loss::Killed | Loss::Stopped => {
                let patience = Instant::now() + SILENCE_MAX;
                loop {
                    let report = node.reports.recv_timeout(SILENCE_MAX);
                    let report = report.unwrap_or_else(|_| panic!("seed {}: it hangs, or died", self.seed));
                    if matches!(self.hear(report), Report::Found(_)) {
                        break;
                    }
                    assert!(Instant::now() < patience);
                }
                std::thread::sleep(Duration::from_millis(self.random.below(400)));
                if loss == Loss::Stopped {
                    node.signal(Signal::STOP);
                    // What it has said so far counts; more may be on its way, and counts too once it is continued.
                    while let Ok(report) = node.reports.recv_timeout(Duration::from_millis(50)) {
                        drop(self.hear(report));
                    }
                    self.wake_zombie();
                    self.last = Some(node.directory.clone());
                    self.zombie = Some(node);
                    return;
                }
                node.signal(Signal::KILL);
                drop(self.hear_out(&node));
            }
            Loss::JournalFull | Loss::Starved => {
                let last = self.hear_out(&node);
                match last {
                    Some(Report::Failed(..)) => *self.failures.entry(loss).or_default() += 1,
                    // No file became as long as that.
                    Some(Report::Closed(_)) => {}
                    last => panic!("seed {}: {loss:?}: {last:?}", self.seed),
                }
            }
            Loss::Closed => {
                let last = self.hear_out(&node);
                assert!(matches!(last, Some(Report::Closed(_))), "seed {}: {last:?}", self.seed);
            }
        }
        self.wake_zombie();
        self.last = Some(node.directory.clone());
    }

    /// Tells whether what a generation had made after so many steps is what its successor has found, or is contained
    /// in that: a step that changes nothing cannot be told from none.
    fn found_of(&self, generation: u64, steps: u64) -> bool {
        let mut model = Model::new();
        for &(of, seed, kept) in &self.orders.kept {
            let mut story = Story::new(seed, of, model);
            story.tell(kept);
            if of == generation {
                let found = story.model.clone();
                story.tell(steps);
                return kept >= steps || story.model == found;
            }
            model = story.model;
        }
        false
    }

    /// Continues the process that was stopped before another took over: it must find itself fenced.
    fn wake_zombie(&mut self) {
        let Some(mut zombie) = self.zombie.take() else { return };
        // Nobody may have taken over yet where the one after it was killed early.
        zombie.signal(Signal::CONT);
        let patience = Instant::now() + SILENCE_MAX;
        let mut said = None;
        while let Ok(report) = zombie.reports.recv_timeout(patience - Instant::now()) {
            match report {
                Report::Broken(what) => panic!("seed {}: a zombie: {what}", self.seed),
                Report::Failed(what, kind) => said = Some((what, kind)),
                // Durable before it was stopped, and told after: the next one must have found it.
                Report::Acknowledged(steps) | Report::Closed(steps) => {
                    let found = self.found_of(zombie.generation, steps);
                    assert!(found, "seed {}: step {steps} of generation {}", self.seed, zombie.generation);
                }
                Report::Found(_) => {}
            }
        }
        let status = zombie.process.wait().unwrap();
        let (what, kind) =
            said.unwrap_or_else(|| panic!("seed {}: a zombie said nothing, and ended: {status}", self.seed));
        assert_eq!(kind.as_deref(), Some(ErrorKind::Fenced.name()), "seed {}: {what}", self.seed);
        assert!(status.success(), "seed {}: a zombie ended: {status}", self.seed);
        self.zombies_fenced += 1;
    }

    /// Plays the log whole and by hints, and compares that with what the last process has left.
    fn finish(&mut self) {
        self.crash(Loss::Closed);
        let (root, last) = (self.orders.root.clone(), self.last.clone().unwrap());
        let journals = journals(&root, None);
        let candidates = hints(&root).candidates(&log(), soon()).unwrap();
        let newest = candidates.into_iter().next().unwrap().hints.unwrap();
        for (name, hints) in [("by-hints", newest), ("whole", FsmHints::empty(log()))] {
            let directory = root.join(name);
            let fs: Arc<dyn FileSystem> = Arc::new(OsFs::new());
            let player = Player::new(&*journals, &hints, fs, &directory, PlayOptions::default()).unwrap();
            drop(player.restore().unwrap());
            assert_same_tree(&last, &directory);
        }
    }
}

fn chain(seed: u64, crashes: u64) {
    let directory = tempfile::tempdir().unwrap();
    let mut chain = Chain::new(seed, directory.path());
    for _ in 0..crashes {
        let before = chain.last.clone();
        let loss = match chain.random.below(20) {
            0..=8 => Loss::Killed,
            9..=11 => Loss::KilledEarly,
            12..=14 => Loss::Stopped,
            15..=16 => Loss::JournalFull,
            17..=18 => Loss::Starved,
            _ => Loss::Closed,
        };
        // A zombie is woken by the one that has surely taken over.
        let loss = if chain.zombie.is_some() && loss != Loss::Stopped { Loss::Killed } else { loss };
        chain.crash(loss);
        if let Some(before) = before.filter(|before| Some(before) != chain.last.as_ref()) {
            let is_zombies = chain.zombie.as_ref().is_some_and(|zombie| zombie.directory == before);
            if !is_zombies {
                drop(fs::remove_dir_all(before));
            }
        }
    }
    chain.finish();
    let Chain { losses, failures, zombies_fenced, .. } = chain;
    println!(
        "seed {seed}: {crashes} crashes, {losses:?}; {failures:?} failed of those whose disk was full; \
         {zombies_fenced} of the stopped found themselves fenced"
    );
}

#[test]
fn no_crash_loses_what_was_acknowledged_or_leaves_what_never_was() {
    let crashes = env::var("RECOVERYLOG_CRASHES").map_or(CHAIN, |crashes| crashes.parse().unwrap());
    let first: u64 = env::var("RECOVERYLOG_SEED").map_or(1, |seed| seed.parse().unwrap());
    for (seed, begun) in (first..).zip((0..crashes).step_by(CHAIN as usize)) {
        chain(seed, CHAIN.min(crashes - begun));
    }
}
