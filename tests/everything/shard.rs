//! One shard: its log, its hint stores, its machines, and who records it.
//!
//! *Invariants.* What was acknowledged is remembered with the tree that the directory had then.
//!
//! *Does not* judge: `check` does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use recoverylog::live::HintBudget;
use recoverylog::replica::{Primary, Replica, ReplicaOptions, SnapshotOptions};
use recoverylog::tracker::RewriteOptions;
use recoverylog::vfs::{FaultyFs, FileSystem, MemoryFs};
use recoverylog::{Clock, Deadline, JournalName, LogPath, RecorderOptions, SeqNo};

use super::engine::{Handles, ROOT};
use super::random::Random;
use super::store::Kept;
use super::tree::Tree;
use super::truth::Moment;
use super::world::Logs;

/// A rename to it is recorded as a property.
pub(crate) const PROPERTY: &str = "IDENTITY";
/// Machines of a shard.
pub(crate) const MACHINES: usize = 2;

pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// A shard, and all that was seen of it.
pub(crate) struct Shard {
    pub(crate) log: JournalName,
    /// The logs of its history, the present one last, each with the last operation of it where it went on elsewhere.
    pub(crate) logs: Vec<(JournalName, Option<SeqNo>)>,
    pub(crate) recovery: Arc<Kept>,
    pub(crate) snapshots: Arc<Kept>,
    pub(crate) machines: [Machine; MACHINES],
    pub(crate) primary: Option<Writer>,
    /// Who lost the role, and has not noticed.
    pub(crate) zombies: Vec<Writer>,
    /// What was durable when it was asked for, and the tree then.
    pub(crate) acknowledged: Option<(SeqNo, Tree)>,
    /// Its live maps join what lies apart: what others left out they may have to name. Directories that are gone on from
    /// remember what was joined.
    pub(crate) joins: bool,
}

/// What was drawn of a replica's options.
#[derive(Clone, Copy)]
pub(crate) struct Drawn {
    /// It goes on from a directory that is there.
    pub(crate) resumes: bool,
}

/// A machine, with one directory.
#[derive(Default)]
pub(crate) struct Machine {
    pub(crate) disk: MemoryFs,
    /// Nobody brought the directory to an end, so that it may be refused.
    pub(crate) is_dirty: bool,
}

/// A primary, and the engine on it.
pub(crate) struct Writer {
    pub(crate) primary: Primary,
    pub(crate) handles: Handles,
    pub(crate) disk: Arc<FaultyFs<MemoryFs>>,
    pub(crate) machine: usize,
    pub(crate) drawn: Drawn,
}

impl Writer {
    /// Waits until all that was recorded is durable; returns up to where, or nothing where it failed.
    pub(crate) fn acknowledged(&self) -> Option<SeqNo> {
        let next = self.primary.recorder().with_fsm(recoverylog::Fsm::next_seq_no);
        self.primary.barrier().and_then(|mut barrier| barrier.wait(soon())).ok()?;
        Some(SeqNo::new(next.get() - 1))
    }

    pub(crate) fn tree(&self) -> Tree {
        Tree::read(self.disk.inner(), Path::new(ROOT))
    }
}

impl Shard {
    pub(crate) fn new(logs: Vec<(JournalName, Option<SeqNo>)>, random: &mut Random) -> Self {
        let log = logs.last().unwrap().0.clone();
        let recovery = Arc::new(Kept::new(1 + random.below(4) as usize));
        let snapshots = Arc::new(Kept::new(1 + random.below(3) as usize));
        let machines = Default::default();
        Self {
            log,
            logs,
            recovery,
            snapshots,
            machines,
            primary: None,
            zombies: Vec::new(),
            acknowledged: None,
            joins: random.one_in(6),
        }
    }

    /// Makes a replica that works on `disk`; returns what was drawn too.
    pub(crate) fn replica(
        &self,
        logs: &Logs,
        disk: Arc<dyn FileSystem>,
        clock: Arc<dyn Clock>,
        random: &mut Random,
    ) -> (Replica, Drawn) {
        let mut options = ReplicaOptions {
            // The world does it, so that a seed repeats.
            rewrite: RewriteOptions { percent: 0, ..RewriteOptions::default() },
            publish_bytes: u64::MAX,
            publish_every: Duration::from_secs(3_600),
            mark_every: Duration::ZERO,
            ..ReplicaOptions::default()
        };
        let drawn = Drawn { resumes: !random.one_in(4) };
        options.play.resume = drawn.resumes;
        options.play.sync = random.one_in(2);
        options.play.parallelism = 1 + random.below(2) as usize;
        let budget = HintBudget {
            seek_bytes: [0, 200, 64 << 10][random.below(3) as usize],
            extra_bytes: [0, 1_000, 256 << 10][random.below(3) as usize],
        };
        let extents_max = if self.joins { 2 + random.below(12) as usize } else { 1 << 18 };
        options.recorder = RecorderOptions::default()
            .hint_budget(budget)
            .extents_per_file_max(extents_max)
            .property_paths(vec![LogPath::from_bytes(format!("/{PROPERTY}").as_bytes())])
            .clock(clock);
        let often = SnapshotOptions { every: Duration::from_secs(3_600), bytes: u64::MAX };
        let replica = Replica::new(logs.journals.clone(), self.log.clone(), self.recovery.clone(), disk)
            .snapshots(self.snapshots.clone(), often)
            .options(options);
        (replica, drawn)
    }

    /// Returns what the tree was behind each operation of the history.
    pub(crate) fn history(&self, logs: &Logs) -> Vec<Moment> {
        super::truth::read(&logs.whole, &self.logs)
    }
}
