//! One case: a log, its writers one after the other, and what must hold in the end.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use recoverylog::completion::Completion;
use recoverylog::journal::{
    Append, Appended, Capabilities, FaultyJournal, Fragment, Head, Journal, JournalError, JournalReader,
    Journals, MemoryJournals, ReadRange, random_author,
};
use recoverylog::player::{PlayOptions, Played, Player};
use recoverylog::recorded_fs::RecordedFsOptions;
use recoverylog::vfs::{Effect, Fault, FaultPlan, FaultyFs, FileSystem, MemoryFs};
use recoverylog::{
    Deadline, ErrorKind, FsmHints, FsmOptions, JournalName, RecordedFs, Recorder, RecorderOptions,
};

use super::engine::{Handles, ROOT, Tally, operate};
use super::random::Random;
use super::tree::Tree;

pub(crate) struct World {
    random: Random,
    journals: MemoryJournals,
    journal: Arc<FaultyJournal>,
    log: JournalName,
    hints: Vec<FsmHints>,
    operations: Tally,
    file_faults: Tally,
    ends: Tally,
}

/// The file system that is recorded.
type Fs = RecordedFs<FaultyFs<MemoryFs>>;

/// A writer and the directory it records.
struct Writer {
    fs: Arc<Fs>,
    local: MemoryFs,
    wire: Arc<Wire>,
}

/// What a writer left: the states its directory may be played to.
enum Left {
    /// It came to rest in this state.
    Rest(Tree),
    /// It was lost: one of these, the first of which was acknowledged.
    Lost(Vec<Tree>),
    /// It was lost after operations that are several steps of the log.
    Unknown,
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn play_options(random: &mut Random) -> PlayOptions {
    PlayOptions {
        parallelism: if random.one_in(10) { 3 } else { 1 },
        step_deadline: Duration::from_millis(50),
        sync: false,
        ..PlayOptions::default()
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let log = JournalName::new("acme/orders").unwrap();
        let journals = MemoryJournals::new();
        let journal = FaultyJournal::in_memory(journals.journal(&log));
        let (operations, file_faults, ends) = Default::default();
        Self {
            random: Random::new(seed),
            journals,
            journal,
            log,
            hints: Vec::new(),
            operations,
            file_faults,
            ends,
        }
    }

    pub(crate) fn run(mut self) -> [Tally; 4] {
        let mut zombie: Option<Writer> = None;
        let mut left = Left::Rest(Tree::read(&empty(), Path::new(ROOT)));
        for _ in 0..=self.random.below(3) {
            let writer = self.take_over();
            let begun = Tree::read(&writer.local, Path::new(ROOT));
            check(&left, &begun, "the next writer");
            if let Some(zombie) = zombie.take() {
                self.wake(&zombie);
            }
            left = self.work(&writer, begun);
            self.check_players(&left);
            zombie = Some(writer);
        }
        let journal_faults = self.journal.counts().into_iter().map(|(what, times)| (what.to_owned(), times));
        [self.operations, self.file_faults, journal_faults.collect(), self.ends]
    }

    /// Plays the log by some of the hints, and takes it over.
    fn take_over(&mut self) -> Writer {
        self.journal.heal();
        let local = empty_root();
        if self.random.one_in(3) {
            self.journal.fail_randomly(self.random.next(), 2, 9);
        }
        let played = loop {
            // A play that failed half way has removed what it built.
            match self.try_take_over(&local) {
                Ok(played) => break played,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                    *self.ends.entry("a hand-off was tried again".into()).or_default() += 1;
                    self.journal.heal();
                }
            }
        };
        let (played, author) = played;
        let wire = Arc::new(Wire { journal: self.journal.clone(), cut: Mutex::new(false) });
        let options = RecorderOptions::default().resolve_max(Duration::from_millis(200));
        let recorder = Recorder::new(wire.clone(), played.fsm, played.position, author, options).unwrap();
        let options = RecordedFsOptions::default().sync_max(Duration::from_millis(20));
        let fs = RecordedFs::new(FaultyFs::new(local.clone()), Path::new(ROOT), recorder, options);
        Writer { fs: Arc::new(fs), local, wire }
    }

    fn try_take_over(&mut self, local: &MemoryFs) -> recoverylog::Result<(Played, recoverylog::Author)> {
        let hints = self.some_hints();
        let options = play_options(&mut self.random);
        let journals = Faulty { journal: self.journal.clone() };
        let player = Player::new(&journals, &hints, Arc::new(local.clone()), Path::new(ROOT), options)?;
        let author = random_author()?;
        Ok((player.follow()?.promote(author, soon())?, author))
    }

    fn some_hints(&mut self) -> FsmHints {
        let choices = self.hints.len() as u64 + 1;
        let choice = self.random.below(choices) as usize;
        self.hints.get(choice).cloned().unwrap_or_else(|| FsmHints::empty(self.log.clone()))
    }

    /// Lets threads work on a writer's files.
    fn work(&mut self, writer: &Writer, begun: Tree) -> Left {
        if self.random.one_in(2) {
            self.journal.fail_randomly(self.random.next(), 4, 9);
        } else {
            self.journal.heal();
        }
        if self.random.one_in(4) {
            for _ in 0..4 {
                writer.fs.inner().inject(self.fault());
            }
        }
        if self.random.one_in(8) {
            writer.local.set_capacity(20_000);
        }
        let threads = if self.random.one_in(3) { 1 + self.random.below(3) } else { 1 };
        let states =
            if threads == 1 { self.work_alone(writer, begun) } else { self.work_together(writer, threads) };
        for (effect, count) in writer.fs.inner().counts() {
            if count.faults > 0 {
                *self.file_faults.entry(format!("{effect:?}")).or_default() += count.faults;
            }
        }
        self.rest(writer, states)
    }

    /// Plans for one call of some kind to fail.
    fn fault(&mut self) -> FaultPlan {
        const EFFECTS: [Effect; 12] = [
            Effect::Create,
            Effect::Write,
            Effect::SetLen,
            Effect::Allocate,
            Effect::Rename,
            Effect::Link,
            Effect::RemoveFile,
            Effect::CreateDir,
            // Few directories can be removed.
            Effect::RemoveDir,
            Effect::RemoveDir,
            Effect::RemoveDir,
            Effect::RemoveDir,
        ];
        let fault = match self.random.below(4) {
            0 => Fault::Short,
            1 => Fault::Torn(std::io::ErrorKind::StorageFull),
            2 => Fault::Fail(std::io::ErrorKind::StorageFull),
            _ => Fault::Fail(std::io::ErrorKind::Other),
        };
        let effect = EFFECTS[self.random.below(12) as usize];
        FaultPlan::Nth { effect, number: self.random.below(3), fault }
    }

    /// One thread works; returns the states since the last one that was acknowledged.
    fn work_alone(&mut self, writer: &Writer, begun: Tree) -> Left {
        let handles = Handles::default();
        let mut states = Some(vec![begun]);
        for _ in 0..4 + self.random.below(40) {
            let atomic = operate(&writer.fs, &handles, &mut self.random, &mut self.operations);
            let state = Tree::read(&writer.local, Path::new(ROOT));
            match &mut states {
                Some(states) if atomic => states.push(state.clone()),
                states => *states = None,
            }
            if self.random.one_in(10) && self.acknowledge(writer) {
                states = Some(vec![state]);
            }
            if self.random.one_in(15) {
                self.take_hints(writer);
            }
        }
        states.map_or(Left::Unknown, Left::Lost)
    }

    fn work_together(&mut self, writer: &Writer, threads: u64) -> Left {
        let handles = Handles::default();
        let seeds: Vec<_> = (0..threads).map(|_| self.random.next()).collect();
        let tallies = std::thread::scope(|scope| {
            let work = |seed| {
                let (fs, handles) = (&writer.fs, &handles);
                scope.spawn(move || {
                    let (mut random, mut tally) = (Random::new(seed), Tally::new());
                    for _ in 0..20 {
                        operate(fs, handles, &mut random, &mut tally);
                    }
                    tally
                })
            };
            let threads: Vec<_> = seeds.into_iter().map(work).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("a thread does not panic"))
                .collect::<Vec<_>>()
        });
        for (what, times) in tallies.into_iter().flatten() {
            *self.operations.entry(what).or_default() += times;
        }
        self.take_hints(writer);
        Left::Unknown
    }

    /// Brings a writer to rest, or loses it.
    fn rest(&mut self, writer: &Writer, states: Left) -> Left {
        writer.fs.inner().heal();
        if self.random.one_in(4) {
            *self.ends.entry("lost".into()).or_default() += 1;
            writer.wire.cut(true);
            return states;
        }
        self.journal.heal();
        if self.acknowledge(writer) {
            *self.ends.entry("at rest".into()).or_default() += 1;
            return Left::Rest(Tree::read(&writer.local, Path::new(ROOT)));
        }
        let failure = writer.fs.recorder().failure().expect("a barrier fails with the recorder");
        *self.ends.entry(format!("failed: {}", failure.kind())).or_default() += 1;
        writer.wire.cut(true);
        // It stays failed.
        assert!(writer.fs.recorder().barrier().is_err() || !self.acknowledge(writer));
        states
    }

    /// Waits until everything recorded so far is durable; false where the recorder failed.
    fn acknowledge(&self, writer: &Writer) -> bool {
        let Ok(mut barrier) = writer.fs.recorder().barrier() else { return false };
        loop {
            match barrier.wait(Deadline::after(Duration::from_millis(5))) {
                Ok(_) => return true,
                Err(error) if error.kind() != ErrorKind::Unavailable => return false,
                Err(_) if writer.fs.recorder().failure().is_some() => return false,
                // An answer may be held back until somebody asks for it.
                Err(_) => self.journal.release_answers(),
            }
        }
    }

    fn take_hints(&mut self, writer: &Writer) {
        let Ok(mut pending) = writer.fs.recorder().take_hints() else { return };
        if self.acknowledge(writer) {
            self.hints.push(pending.wait(soon()).expect("what is durable can be hinted"));
        }
    }

    /// A writer that lost its role wakes up.
    fn wake(&mut self, zombie: &Writer) {
        let handles = Handles::default();
        self.journal.heal();
        zombie.wire.cut(false);
        for _ in 0..5 {
            operate(&zombie.fs, &handles, &mut self.random, &mut self.operations);
        }
        // Unless it failed before for a reason of its own, it learns that it was fenced.
        drop(zombie.fs.recorder().no_op());
        assert!(!self.acknowledge(zombie), "a writer that lost its role was told that its bytes are durable");
        let failure = zombie.fs.recorder().failure().expect("a fenced recorder has failed");
        *self.ends.entry(format!("woken: {}", failure.kind())).or_default() += 1;
    }

    /// Plays the log by every kind of hints: all must give the same state, and one that may be.
    fn check_players(&mut self, left: &Left) {
        self.journal.heal();
        let mut sets = vec![FsmHints::empty(self.log.clone())];
        sets.extend(self.hints.last().cloned());
        let encoded = self.some_hints();
        sets.push(FsmHints::decode(&encoded.encode_json()).unwrap());
        let mut first: Option<Tree> = None;
        let rules = [FsmOptions::default(), FsmOptions::REFERENCE];
        for (hints, fsm) in sets.iter().flat_map(|hints| rules.map(|fsm| (hints, fsm))) {
            let local = empty_root();
            let options = PlayOptions { fsm, ..play_options(&mut self.random) };
            let player =
                Player::new(&self.journals, hints, Arc::new(local.clone()), Path::new(ROOT), options);
            let played =
                player.and_then(Player::restore).unwrap_or_else(|error| panic!("{error:?}\n{hints:?}"));
            assert_eq!(played.warnings, []);
            let tree = Tree::read(&local, Path::new(ROOT));
            check(left, &tree, "a player");
            let first = first.get_or_insert_with(|| tree.clone());
            assert_eq!(*first, tree, "by {hints:?} and {fsm:?}");
        }
    }
}

fn check(left: &Left, tree: &Tree, who: &str) {
    match left {
        Left::Rest(expected) => assert_eq!(expected, tree, "what was recorded, and what {who} has"),
        Left::Lost(states) => {
            assert!(states.contains(tree), "{who} has a state that never was: {tree:?}\nof {states:?}");
        }
        Left::Unknown => {}
    }
}

/// A file system with an empty recorded directory.
fn empty() -> MemoryFs {
    let fs = MemoryFs::new();
    fs.create_dir(Path::new(ROOT)).unwrap();
    fs
}

/// As [`empty`], or without the directory: players begin with either.
fn empty_root() -> MemoryFs {
    MemoryFs::new()
}

/// What a writer reaches its journal by; once it is cut, nothing more arrives.
#[derive(Debug)]
struct Wire {
    journal: Arc<FaultyJournal>,
    cut: Mutex<bool>,
}

impl Wire {
    fn cut(&self, cut: bool) {
        *self.cut.lock().unwrap() = cut;
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
        let cut = self.cut.lock().unwrap();
        if *cut {
            let (journal, at) = (self.name().clone(), append.at);
            return Completion::resolved(Err(JournalError::Unknown { journal, at, what: "cut".into() }));
        }
        self.journal.submit(append)
    }

    fn head(&self, deadline: Deadline) -> Result<Head, JournalError> {
        self.journal.head(deadline)
    }

    fn read(&self, range: ReadRange) -> Result<Box<dyn JournalReader>, JournalError> {
        self.journal.read(range)
    }

    fn fragments(&self, deadline: Deadline) -> Result<Vec<Fragment>, JournalError> {
        self.journal.fragments(deadline)
    }

    fn prune(&self, fragments: &[Fragment], deadline: Deadline) -> Result<(), JournalError> {
        self.journal.prune(fragments, deadline)
    }
}

/// One journal behind faults.
#[derive(Debug)]
struct Faulty {
    journal: Arc<FaultyJournal>,
}

impl Journals for Faulty {
    fn open(&self, _name: &JournalName) -> Result<Arc<dyn Journal>, JournalError> {
        Ok(self.journal.clone())
    }

    fn list(&self) -> recoverylog::Result<Vec<JournalName>> {
        Ok(vec![self.journal.name().clone()])
    }
}
