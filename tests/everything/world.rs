//! The life of shards that share logs.
//!
//! *Invariants.* Everything is drawn from one seed, and done by one thread but for standbys, which follow meanwhile.
//!
//! *Does not* judge what is played: `check` does.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use recoverylog::journal::{Append, Journal, MemoryJournals};
use recoverylog::player::{Bound, PlayOptions};
use recoverylog::prune::{Keep, PruneOptions, Pruner, Source};
use recoverylog::replica::{Primary, Standby};
use recoverylog::vfs::{CrashPlan, Effect, Fault, FaultPlan, FaultyFs, FileSystem, MemoryFs, OpenMode};
use recoverylog::{Author, Clock, ErrorKind, JournalName, Offset};

use super::engine::{Handles, ROOT, Tally, operate};
use super::random::Random;
use super::shard::{Drawn, MACHINES, Machine, PROPERTY, Shard, Writer, soon};
use super::tree::Tree;
use super::{bytes, check};

/// Shards of one case.
const SHARDS_MAX: usize = 3;
/// Names of marks.
const NAMES: [&str; 2] = ["before", "release"];
/// What a run of many cases must have seen.
pub(crate) const WHAT: [&str; 20] = [
    "acknowledged",
    "closed",
    "crashed at work",
    "directory refused",
    "forked",
    "fragment lost and missed",
    "fragment lost and not needed",
    "fragments pruned",
    "gone on from a directory",
    "lost",
    "marked",
    "played by the reference's rules",
    "point gone",
    "point restored",
    "promoted while another one worked",
    "property",
    "published",
    "snapshot",
    "write again",
    "zombie told so",
];

/// The logs, and copies of them that stay whole.
pub(crate) struct Logs {
    pub(crate) journals: Arc<MemoryJournals>,
    pub(crate) whole: MemoryJournals,
}

impl Logs {
    /// Copies what was appended since.
    pub(crate) fn sync(&self, log: &JournalName) {
        let whole = self.whole.journal(log);
        let from = whole.head(soon()).unwrap().offset;
        let new = bytes::from(&*self.journals.journal(log), from);
        if !new.is_empty() {
            whole.append(Append::new(new), soon()).unwrap();
        }
    }
}

/// A clock that goes as it is told.
#[derive(Debug, Default)]
struct Told(AtomicI64);

impl Clock for Told {
    fn unix_nanos(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) logs: Logs,
    pub(crate) shards: Vec<Shard>,
    pub(crate) tally: Tally,
    /// Who goes on with the logs: a fact about them.
    keep: Keep,
    /// Something was deleted.
    pub(crate) is_pruned: bool,
    clock: Arc<Told>,
    authors: u32,
}

fn name(number: usize) -> JournalName {
    JournalName::new(&format!("acme/orders-{number}")).unwrap()
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let fragment_bytes = 300 + random.below(6_000);
        let journals = Arc::new(MemoryJournals::new().fragment_bytes(fragment_bytes));
        let logs = Logs { journals, whole: MemoryJournals::new() };
        let shards = vec![Shard::new(vec![(name(0), None)], &mut random)];
        let keep = if random.one_in(3) { Keep::Spans } else { Keep::Exact };
        let clock = Arc::new(Told(AtomicI64::new(1_000)));
        Self { random, logs, shards, tally: Tally::new(), keep, is_pruned: false, clock, authors: 0 }
    }

    pub(crate) fn run(mut self) -> Tally {
        for _ in 0..10 + self.random.below(25) {
            let at = self.random.below(self.shards.len() as u64) as usize;
            self.event(at);
        }
        for at in 0..self.shards.len() {
            self.take_over(at);
            self.check(at);
        }
        self.tally
    }

    pub(crate) fn count(&mut self, what: &str) {
        *self.tally.entry(what.to_owned()).or_default() += 1;
    }

    fn event(&mut self, at: usize) {
        self.clock.0.fetch_add(self.random.below(500) as i64, Ordering::Relaxed);
        if self.shards[at].primary.is_none() {
            return self.take_over(at);
        }
        match self.random.below(20) {
            0..7 => self.work(at),
            7 => self.hand_off(at),
            8 => self.stand_by(at),
            9 => self.close(at),
            10 => self.lose(at),
            11 => self.fork(at),
            12..15 => self.prune(),
            15 => self.snapshot(at),
            16 => self.check(at),
            _ => self.publish(at),
        }
    }

    fn author(&mut self) -> Author {
        self.authors += 1;
        Author::new(self.authors).unwrap()
    }

    /// Makes somebody the primary, where nobody is.
    fn take_over(&mut self, at: usize) {
        if self.shards[at].primary.is_some() {
            return;
        }
        let machine = self.random.below(MACHINES as u64) as usize;
        self.promote(at, machine, None);
    }

    /// Promotes a machine, from an empty directory where its own one is refused; `standby` already follows on it.
    fn promote(&mut self, at: usize, machine: usize, standby: Option<(Standby, Following)>) {
        let (standby, following) = standby.unwrap_or_else(|| self.follow(at, machine));
        let author = self.author();
        let (disk, drawn) = (Arc::clone(&following.disk), following.drawn);
        match standby.promote(author, soon()) {
            Ok(primary) => self.begin(at, primary, following),
            Err(error) => {
                if disk.has_crashed() {
                    self.count("crashed at a promotion");
                    self.reboot(at, machine);
                } else {
                    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
                    assert!(self.shards[at].machines[machine].is_dirty || !drawn.resumes, "{error:?}");
                    self.count("directory refused");
                    self.shards[at].machines[machine] = Machine::default();
                }
                self.promote(at, machine, None);
            }
        }
    }

    fn begin(&mut self, at: usize, primary: Primary, following: Following) {
        if let Some(resumed) = primary.resumed() {
            self.count("gone on from a directory");
            *self.tally.entry("files kept".into()).or_default() += resumed.kept_files as u64;
        }
        let Following { disk, machine, drawn } = following;
        let writer = Writer { primary, handles: Handles::default(), disk, machine, drawn };
        if !writer.disk.has_crashed() {
            check::begun(self, at, &writer);
        }
        // Until it is closed.
        self.shards[at].machines[machine].is_dirty = true;
        let old = self.shards[at].primary.replace(writer);
        self.shards[at].zombies.extend(old);
    }

    /// Begins to follow on a machine.
    fn follow(&mut self, at: usize, machine: usize) -> (Standby, Following) {
        let disk = Arc::new(FaultyFs::new(self.shards[at].machines[machine].disk.clone()));
        if self.random.one_in(8) {
            let fault = if self.random.one_in(2) { Fault::Crash } else { Fault::CrashTorn };
            disk.inject(FaultPlan::At { number: self.random.below(400), fault });
        }
        let fs: Arc<dyn FileSystem> = Arc::clone(&disk) as Arc<dyn FileSystem>;
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let (replica, drawn) = self.shards[at].replica(&self.logs, fs, clock, &mut self.random);
        let standby = replica.standby(Path::new(ROOT)).unwrap();
        (standby, Following { disk, machine, drawn })
    }

    /// Starts a machine anew, after which what was not synced may be gone.
    fn reboot(&mut self, at: usize, machine: usize) {
        let plan = match self.random.below(3) {
            0 => CrashPlan::DropUnsynced,
            1 => CrashPlan::KeepAll,
            _ => CrashPlan::Seeded(self.random.next()),
        };
        let machine = &mut self.shards[at].machines[machine];
        *machine = Machine { disk: machine.disk.crash_image(plan), is_dirty: true };
    }

    /// Lets the engine work for a while.
    fn work(&mut self, at: usize) {
        let Self { random, shards, tally, .. } = self;
        let writer = shards[at].primary.as_ref().unwrap();
        if random.one_in(10) {
            let fault = [
                Fault::Short,
                Fault::Torn(std::io::ErrorKind::StorageFull),
                Fault::Fail(std::io::ErrorKind::StorageFull),
            ][random.below(3) as usize];
            let effect =
                [Effect::Write, Effect::SetLen, Effect::Rename, Effect::Link][random.below(4) as usize];
            writer.disk.inject(FaultPlan::Nth { effect, number: random.below(3), fault });
        }
        if random.one_in(6) {
            let fault = if random.one_in(2) { Fault::Crash } else { Fault::CrashTorn };
            writer.disk.inject(FaultPlan::At { number: writer.disk.changes() + random.below(12), fault });
        }
        for _ in 0..5 + random.below(40) {
            operate(writer.primary.fs(), &writer.handles, random, tally);
        }
        if random.one_in(3) {
            let content = vec![b'a' + random.below(26) as u8; random.below(50) as usize + 1];
            let written = set_property(&**writer.primary.fs(), &content).is_ok();
            *tally.entry("property".into()).or_default() += u64::from(written);
        }
        if random.one_in(3) {
            let marked = writer.primary.recorder().mark(NAMES[random.below(2) as usize]).is_ok();
            *tally.entry("marked".into()).or_default() += u64::from(marked);
        }
        if random.one_in(12) {
            // What is no operation, at the place where the next one was to begin.
            let junk = vec![b'#'; random.below(100) as usize + 1];
            self.logs.journals.journal(&shards[at].log).append(Append::new(junk), soon()).unwrap();
        }
        self.acknowledge(at);
        self.wake(at);
    }

    /// Asks for all to be durable. A primary that has failed, or whose machine has, is lost.
    fn acknowledge(&mut self, at: usize) -> bool {
        let Some(writer) = &self.shards[at].primary else { return false };
        let has_crashed = writer.disk.has_crashed();
        if has_crashed {
            self.count("crashed at work");
            self.lose(at);
            return false;
        }
        writer.disk.heal();
        let Some(seq_no) = writer.acknowledged() else {
            let failure = writer.primary.recorder().failure().expect("a barrier fails with the recorder");
            assert_ne!(failure.kind(), ErrorKind::Fenced, "{failure:?}");
            self.count("failed");
            self.lose(at);
            return false;
        };
        let tree = writer.tree();
        self.shards[at].acknowledged = Some((seq_no, tree));
        self.count("acknowledged");
        true
    }

    /// Those who lost the role work on, and learn that they did.
    fn wake(&mut self, at: usize) {
        if self.shards[at].primary.is_none() {
            // Nobody took the role from them yet.
            return;
        }
        let Some(zombie) = self.shards[at].zombies.pop() else { return };
        for _ in 0..5 {
            operate(zombie.primary.fs(), &zombie.handles, &mut self.random, &mut self.tally);
        }
        drop(zombie.primary.recorder().no_op());
        assert!(
            zombie.acknowledged().is_none(),
            "a writer that lost its role was told that its bytes are durable"
        );
        let failure = zombie.primary.recorder().failure().unwrap();
        assert!(zombie.disk.has_crashed() || failure.kind() == ErrorKind::Fenced, "{failure:?}");
        assert!(zombie.primary.publish_hints(soon()).is_err());
        assert!(zombie.primary.close(soon()).is_err());
        self.count("zombie told so");
    }

    /// Another machine takes over while the primary is at work, and is not told.
    fn hand_off(&mut self, at: usize) {
        let machine = self.other(at);
        let standby = self.follow(at, machine);
        self.meanwhile(at, &standby.0);
        self.promote(at, machine, Some(standby));
        self.count("promoted while another one worked");
        self.wake(at);
    }

    /// What a primary does while a standby follows, which has perhaps begun by hints that are not the newest any more.
    fn meanwhile(&mut self, at: usize, standby: &Standby) {
        if self.random.one_in(2) {
            // It may fail, on a machine that does.
            drop(standby.wait_for_tail(soon()));
        }
        for _ in 0..self.random.below(5) {
            if self.shards[at].primary.is_none() {
                return;
            }
            match self.random.below(4) {
                0..2 => self.work(at),
                2 => self.publish(at),
                _ => self.prune(),
            }
        }
    }

    fn other(&self, at: usize) -> usize {
        self.shards[at].primary.as_ref().map_or(0, |writer| (writer.machine + 1) % MACHINES)
    }

    /// Another machine follows for a while.
    fn stand_by(&mut self, at: usize) {
        let machine = self.other(at);
        let (standby, following) = self.follow(at, machine);
        self.meanwhile(at, &standby);
        let follows = self.random.one_in(2) && standby.wait_for_tail(soon()).is_ok();
        let closed = standby.close();
        if following.disk.has_crashed() {
            self.count("crashed at standing by");
            self.reboot(at, machine);
        } else if let Err(error) = closed {
            assert!(!follows, "{error:?}");
            assert!(self.shards[at].machines[machine].is_dirty || !following.drawn.resumes, "{error:?}");
        }
        self.count("stood by");
    }

    fn close(&mut self, at: usize) {
        if !self.acknowledge(at) {
            return;
        }
        let Some(writer) = self.shards[at].primary.take() else { return };
        let Writer { primary, handles, machine, drawn, .. } = writer;
        drop(handles);
        match primary.close(soon()) {
            Ok(()) => {
                self.shards[at].machines[machine].is_dirty = !drawn.resumes;
                self.count("closed");
            }
            Err(error) => assert!(self.shards[at].joins, "{error:?}"),
        }
        if self.random.one_in(3) {
            self.reboot(at, machine);
        }
    }

    /// The primary is gone, and its machine starts anew.
    fn lose(&mut self, at: usize) {
        let Some(writer) = self.shards[at].primary.take() else { return };
        let machine = writer.machine;
        if self.random.one_in(2) {
            drop(writer);
        } else {
            // Its process is not: it is a disk of its own that it goes on with.
            self.shards[at].zombies.push(writer);
            let image = self.shards[at].machines[machine].disk.crash_image(CrashPlan::KeepAll);
            self.shards[at].machines[machine].disk = image;
        }
        self.reboot(at, machine);
        self.count("lost");
    }

    fn publish(&mut self, at: usize) {
        let writer = self.shards[at].primary.as_ref().unwrap();
        match writer.primary.publish_hints(soon()) {
            Ok(()) => self.count("published"),
            Err(error) => self.unpublished(at, &error),
        }
    }

    fn snapshot(&mut self, at: usize) {
        let writer = self.shards[at].primary.as_ref().unwrap();
        match writer.primary.snapshot(soon()) {
            Ok(()) => self.count("snapshot"),
            Err(error) => self.unpublished(at, &error),
        }
    }

    fn unpublished(&mut self, at: usize, error: &recoverylog::Error) {
        let writer = self.shards[at].primary.as_ref().unwrap();
        let has_failed = writer.disk.has_crashed() || writer.primary.recorder().failure().is_some();
        assert!(has_failed || self.shards[at].joins, "{error:?}");
        self.count(if has_failed { "not published: failed" } else { "not published: joined" });
        if has_failed {
            self.lose(at);
        }
    }

    /// Another shard begins, with a log of its own, where this one is or was.
    fn fork(&mut self, at: usize) {
        if self.shards.len() == SHARDS_MAX {
            return;
        }
        let (log, mut logs) = (self.shards[at].log.clone(), self.shards[at].logs.clone());
        self.logs.sync(&log);
        let mut history = self.shards[at].history(&self.logs);
        history.retain(|moment| moment.log == log);
        if history.is_empty() {
            return;
        }
        let moment = history.swap_remove(self.random.below(history.len() as u64) as usize);
        let disk = MemoryFs::new();
        let (bound, play) =
            (Bound::Seq(moment.seq_no), PlayOptions { sync: false, ..PlayOptions::default() });
        let past = check::past(self, at, Arc::new(disk.clone()));
        let restored = match past.restore(&bound, Path::new(ROOT), &play) {
            Ok(restored) => restored,
            Err(error) => return check::gone(self, at, &moment, &error),
        };
        assert_eq!(Tree::read(&disk, Path::new(ROOT)), check::shown(&moment.tree), "{bound}");
        logs.last_mut().unwrap().1 = Some(moment.seq_no);
        logs.push((name(self.shards.len()), None));
        let mut shard = Shard::new(logs, &mut self.random);
        shard.machines[0].disk = disk.clone();
        let disk = Arc::new(FaultyFs::new(disk));
        let fs: Arc<dyn FileSystem> = Arc::clone(&disk) as Arc<dyn FileSystem>;
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let (replica, drawn) = shard.replica(&self.logs, fs, clock, &mut self.random);
        let author = self.author();
        let primary = replica.fork(restored.played, author, soon()).unwrap();
        self.shards.push(shard);
        self.begin(self.shards.len() - 1, primary, Following { disk, machine: 0, drawn });
        self.count("forked");
    }

    /// Deletes what no stored set of any shard needs.
    fn prune(&mut self) {
        let log = name(self.random.below(self.shards.len() as u64) as usize);
        self.logs.sync(&log);
        let mut options = PruneOptions::default();
        options.keep = self.keep;
        if self.random.one_in(4) {
            options.whole_since = Some(self.random.below(self.clock.unix_nanos() as u64) as i64);
        }
        let journals = Arc::clone(&self.logs.journals);
        let mut pruner = Pruner::new(journals, log.clone()).options(options);
        for (number, shard) in self.shards.iter().enumerate() {
            pruner = pruner
                .source(Source::recovery(format!("shard {number}"), shard.recovery.clone()))
                .source(Source::snapshots(format!("snapshots of {number}"), shard.snapshots.clone()));
        }
        let survey = pruner.survey(soon()).unwrap();
        let sets: Vec<_> = self.shards.iter().map(|shard| shard.recovery.sets()).collect();
        let is_hinted = sets.iter().flatten().any(|set| set.log.as_ref() == Some(&log));
        if let Err(error) = survey.refusal() {
            // A shard without hints reads the whole log; and a log that nobody says to go on with may be anybody's.
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
            assert!(!is_hinted || sets.iter().any(Vec::is_empty), "{error:?}");
            return self.count("prune refused");
        }
        let removed = pruner.remove(&survey, &mut |_| Ok(()), soon()).unwrap();
        self.is_pruned |= removed.fragments > 0;
        *self.tally.entry("fragments pruned".into()).or_default() += removed.fragments;
    }

    /// Looks at a shard at rest.
    fn check(&mut self, at: usize) {
        if self.shards[at].primary.is_some() && !self.acknowledge(at) {
            return;
        }
        check::shard(self, at);
    }
}

/// What a standby follows with.
pub(crate) struct Following {
    disk: Arc<FaultyFs<MemoryFs>>,
    machine: usize,
    drawn: Drawn,
}

/// Replaces the property as engines do: by a file that is whole when it gets the name.
fn set_property(fs: &dyn FileSystem, content: &[u8]) -> std::io::Result<()> {
    let (temporary, path) = (Path::new(ROOT).join("IDENTITY.tmp"), Path::new(ROOT).join(PROPERTY));
    let file = fs.open(&temporary, OpenMode::Truncate)?;
    file.write_all_at(content, 0)?;
    drop(file);
    fs.rename(&temporary, &path)
}

/// The offset behind everything.
pub(crate) fn head(logs: &Logs, log: &JournalName) -> Offset {
    logs.journals.journal(log).head(soon()).unwrap().offset
}
