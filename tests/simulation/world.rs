//! One case: the processes of a shard, and a scheduler that draws what happens next from the seed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use recoverylog::Deadline;
use recoverylog::hint_store::DirectoryHints;
use recoverylog::journal::{Append, Journal};
use recoverylog::vfs::MemoryFs;

use super::net::{Net, Reply};
use super::oracle::{History, Point};
use super::planted::Planted;
use super::process::{Life, Process, play_options};
use super::seed::Tally;
use super::tree::Tree;

/// Where the hint store keeps its sets.
pub(crate) const HINTS: &str = "/hints";

/// A shard and all that can happen to it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) net: Arc<Net>,
    cluster: Mutex<Cluster>,
    /// Events happen within a call of the library.
    nested: AtomicBool,
    /// What the call that the scheduler is in may wait for.
    pub(crate) wait_max: Mutex<Option<Deadline>>,
    pub(crate) inline: Mutex<Option<Reply>>,
    /// Appends of the hand-off that is under way, and the writer that always comes before them.
    pub(crate) races: AtomicU64,
    pub(crate) rival: AtomicU64,
    /// The case comes to its end: nothing is lost any more.
    calm: AtomicBool,
}

/// The processes, and what is known of them.
pub(crate) struct Cluster {
    pub(crate) processes: BTreeMap<u64, Process>,
    pub(crate) born: u64,
    pub(crate) last_promoted: u64,
    pub(crate) history: History,
    /// The directory at every point that a writer was at.
    pub(crate) trees: BTreeMap<Point, Tree>,
    pub(crate) hint_disk: MemoryFs,
    /// What the hint store held last time.
    pub(crate) newest_hints: i64,
    pub(crate) simulated_nanos: u64,
}

/// What came of a case.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) violation: Option<String>,
    pub(crate) schedule: Vec<String>,
    pub(crate) tally: Tally,
    pub(crate) simulated_nanos: u64,
    pub(crate) content: Vec<u8>,
}

/// Runs the case of a seed.
pub(crate) fn run(seed: u64, planted: Planted) -> Outcome {
    let net = Net::new(seed, planted);
    let mut trees = BTreeMap::new();
    let history = History::default();
    trees.insert(history.head(), Tree::default());
    let world = Arc::new(World {
        net: Arc::clone(&net),
        cluster: Mutex::new(Cluster {
            processes: BTreeMap::new(),
            born: 0,
            last_promoted: 0,
            history,
            trees,
            hint_disk: MemoryFs::new(),
            newest_hints: 0,
            simulated_nanos: 0,
        }),
        nested: AtomicBool::new(false),
        wait_max: Mutex::default(),
        inline: Mutex::default(),
        races: AtomicU64::new(0),
        rival: AtomicU64::new(0),
        calm: AtomicBool::new(false),
    });
    let outcome = world.live().and_then(|()| world.end());
    net.gate.close();
    let simulated_nanos = world.lock().simulated_nanos;
    world.lock().processes.clear();
    let state = &mut *net.lock();
    Outcome {
        violation: outcome.err(),
        schedule: std::mem::take(&mut state.schedule),
        tally: std::mem::take(&mut state.tally),
        simulated_nanos,
        content: super::oracle::content(&net.store, recoverylog::Offset::ZERO),
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Standbys are waited for when they are dropped.
        self.net.gate.close();
    }
}

impl World {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap()
    }

    fn live(self: &Arc<Self>) -> Result<(), String> {
        for _ in 0..40 + self.net.below(200) {
            self.step(false)?;
        }
        Ok(())
    }

    /// Brings everything to rest: one more process takes over, everybody else learns of it, and nothing is lost.
    fn end(self: &Arc<Self>) -> Result<(), String> {
        self.calm.store(true, Ordering::Relaxed);
        self.net.lock().storm = 0;
        self.net.lock().asleep.clear();
        self.lock().processes.values_mut().for_each(|process| process.asleep = false);
        self.drain(|_| true)?;
        while !self.net.lock().late.is_empty() {
            self.late_copy();
        }
        self.drain(|_| true)?;
        self.poll()?;
        let before = self.lock().born;
        while self.lock().last_promoted <= before {
            while self.lock().processes.len() > 3 {
                self.crash()?;
            }
            if self.pick_standby().is_none_or(|id| id <= before) {
                self.start()?;
            }
            self.promote()?;
            self.net.check()?;
        }
        self.wake_all()?;
        self.check_players()
    }

    /// Every writer goes on: the last one is acknowledged, and every other one is told that it lost its role.
    fn wake_all(self: &Arc<Self>) -> Result<(), String> {
        let cluster = self.lock();
        let primaries: Vec<_> =
            cluster.processes.values().filter_map(|it| Some((it.id, it.recorder()?.clone()))).collect();
        let last = cluster.last_promoted;
        drop(cluster);
        for (id, recorder) in primaries {
            drop(recorder.no_op());
            self.note_tree(id);
            let mut barrier = recorder.barrier().ok();
            self.drain(|_| true)?;
            self.poll()?;
            let acknowledged =
                barrier.as_mut().is_some_and(|barrier| barrier.wait(Deadline::passed()).is_ok());
            match (id == last, acknowledged, recorder.failure()) {
                (true, true, None) | (false, false, Some(_)) => {}
                (is_last, ..) => {
                    let failure = recorder.failure();
                    return Err(format!(
                        "process {id}, last {is_last}: acknowledged {acknowledged}, {failure:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Lets one thing happen.
    fn step(self: &Arc<Self>, nested: bool) -> Result<(), String> {
        let tick = self.net.below(20_000_000_000);
        self.net.clock.shift(tick as i64);
        self.lock().simulated_nanos += tick;
        match self.net.below(if nested { 86 } else { 104 }) {
            73..76 | 82 | 85 if self.calm.load(Ordering::Relaxed) => {}
            0..34 => self.deliver()?,
            34..56 => self.work()?,
            56..64 => self.take_barrier(),
            64..69 => self.take_hints(),
            69..73 => self.publish()?,
            73..76 => self.sleep_or_wake(),
            76..79 => self.late_copy(),
            79..82 => self.jump_clock(),
            82 => self.net.set_registers_back(),
            83 => self.junk()?,
            84 => self.lose_power_of_hints()?,
            85 => self.crash()?,
            86..90 => self.start()?,
            90..96 => self.advance()?,
            96..102 => self.promote()?,
            _ => self.check_players()?,
        }
        self.net.take_back();
        self.poll()?;
        self.net.check()
    }

    /// Lets other things happen within a call of the library; `append` says that it is an append.
    pub(crate) fn interlude(self: &Arc<Self>, append: bool) {
        if self.nested.swap(true, Ordering::Relaxed) {
            return;
        }
        if append && let Err(violation) = self.rival_appends() {
            self.net.violate(violation);
        }
        for _ in 0..self.net.below(3) {
            if let Err(violation) = self.step(true) {
                self.net.violate(violation);
            }
        }
        self.nested.store(false, Ordering::Relaxed);
    }

    /// Checks that the library waits for no longer than it was told to.
    pub(crate) fn check_wait(&self, deadline: Deadline) {
        let max = *self.wait_max.lock().unwrap();
        let max = max.unwrap_or_else(|| Deadline::after(play_options().step_deadline));
        let excess = deadline.remaining().saturating_sub(max.remaining());
        // Time passes between two looks at the clock.
        if excess > std::time::Duration::from_secs(1) {
            self.net.violate(format!("a wait may pass the deadline of its call by {excess:?}"));
        }
    }

    pub(crate) fn take_inline_answer(&self) -> Option<Reply> {
        self.inline.lock().unwrap().take()
    }

    pub(crate) fn races(&self) -> u64 {
        self.races.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The writer that is to win every race against a hand-off wins one more.
    fn rival_appends(&self) -> Result<(), String> {
        let rival = self.rival.load(Ordering::Relaxed);
        let cluster = self.lock();
        let Some(recorder) = cluster.processes.get(&rival).and_then(Process::recorder) else { return Ok(()) };
        if recorder.no_op().is_err() {
            return Ok(());
        }
        self.net.event("a rival appends", || format!("process {rival}"));
        drop(cluster);
        self.note_tree(rival);
        self.drain(|port| port == rival)
    }

    /// Returns the processes that can act, of one kind.
    fn awake(cluster: &Cluster, is: impl Fn(&Life) -> bool) -> Vec<u64> {
        let can = |process: &&Process| !process.asleep && is(&process.life);
        cluster.processes.values().filter(can).map(|process| process.id).collect()
    }

    fn pick(&self, among: &[u64]) -> Option<u64> {
        among.get(self.net.below(among.len() as u64) as usize).copied()
    }

    pub(crate) fn pick_primary(&self) -> Option<u64> {
        self.pick(&Self::awake(&self.lock(), |life| matches!(life, Life::Primary(_))))
    }

    pub(crate) fn pick_standby(&self) -> Option<u64> {
        self.pick(&Self::awake(&self.lock(), |life| matches!(life, Life::Standby(_))))
    }

    /// Remembers the directory of a writer at the point that it has recorded up to.
    pub(crate) fn note_tree(&self, id: u64) {
        let mut cluster = self.lock();
        let Some(process) = cluster.processes.get(&id) else { return };
        let (Some(point), Some(recorder)) = (process.point(), process.recorder()) else { return };
        if recorder.failure().is_none() {
            let tree = process.tree();
            cluster.trees.insert(point, tree);
        }
    }

    fn work(&self) -> Result<(), String> {
        let Some(id) = self.pick_primary() else { return Ok(()) };
        let cluster = self.lock();
        let process = &cluster.processes[&id];
        process.check_sticky()?;
        let mut random = super::seed::Random::new(self.net.lock().random.next());
        let what = process.work(&mut random).unwrap_or_default();
        drop(cluster);
        self.net.event("work", || format!("process {id}: {what}"));
        self.note_tree(id);
        Ok(())
    }

    fn take_barrier(&self) {
        let Some(id) = self.pick_primary() else { return };
        let mut cluster = self.lock();
        let Some(process) = cluster.processes.get_mut(&id) else { return };
        let (Some(point), Some(recorder)) = (process.point(), process.recorder()) else { return };
        if let Ok(barrier) = recorder.barrier() {
            self.net.event("a barrier is taken", || format!("process {id}: seq-no {}", point.0));
            process.barriers.push((barrier, point));
        }
    }

    fn take_hints(&self) {
        let Some(id) = self.pick_primary() else { return };
        let mut cluster = self.lock();
        let Some(process) = cluster.processes.get_mut(&id) else { return };
        let Some(recorder) = process.recorder().cloned() else { return };
        if self.net.planted == Planted::EarlyHints {
            let early = recorder.with_fsm(|fsm| fsm.hints_to_head(&self.net.log, 0));
            process.in_hand.extend((!early.files.is_empty()).then_some(early));
        } else if let Ok(pending) = recorder.take_hints() {
            self.net.event("hints are taken", || format!("process {id}"));
            process.hinting.push(pending);
        }
        drop(cluster);
        self.note_tree(id);
    }

    fn jump_clock(&self) {
        let hours = self.net.below(9) as i64 - 4;
        self.net.event("the clock jumps", || format!("by {hours} hours"));
        self.net.clock.shift(hours * 3_600_000_000_000);
    }

    /// Somebody appends what is no operation.
    fn junk(&self) -> Result<(), String> {
        let junk = vec![0xaa_u8; 1 + self.net.below(20) as usize];
        self.net.event("junk", || format!("of {} bytes", junk.len()));
        let appended = self.net.store.append(Append::new(junk), Deadline::passed());
        appended.map(drop).map_err(|error| format!("junk cannot be appended: {error}"))
    }

    pub(crate) fn hints(cluster: &Cluster) -> DirectoryHints {
        DirectoryHints::open(Arc::new(cluster.hint_disk.clone()), Path::new(HINTS)).unwrap()
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cluster")
    }
}
