//! The life of one shard on one machine: a hot standby, then the primary, then closed.
//!
//! *Invariants.* A standby plays the newest hints that the journal can satisfy, and says which it passed over. It
//! never takes missing bytes for an empty directory. A primary publishes hints only for what is durable. After a
//! failure every call says so.
//!
//! *Does not* decide who is primary: it fences, somebody else elects.

mod past;
mod primary;
mod snapshots;
mod standby;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use self::past::{Past, PlannedPoint, RestoredPoint};
pub use self::primary::{Primary, PrimaryStatus};
pub use self::snapshots::SnapshotOptions;
use self::snapshots::Snapshots;
pub use self::standby::{Standby, StandbyState, StandbyStatus};
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::hint_store::HintStore;
use crate::hints::FsmHints;
use crate::ids::{Author, JournalName, Offset};
use crate::journal::Journals;
use crate::player::{PlayOptions, Played, Player};
use crate::recorded_fs::RecordedFsOptions;
use crate::recorder::RecorderOptions;
use crate::tracker::RewriteOptions;
use crate::vfs::FileSystem;

/// What a shard is made of, and how its replicas work.
///
/// ```
/// use std::path::Path;
/// use std::sync::Arc;
/// use std::time::Duration;
/// use recoverylog::hint_store::MemoryHints;
/// use recoverylog::journal::{MemoryJournals, random_author};
/// use recoverylog::replica::Replica;
/// use recoverylog::vfs::{File, FileSystem, MemoryFs, OpenMode};
/// use recoverylog::{Deadline, JournalName};
///
/// # fn main() -> recoverylog::Result<()> {
/// let soon = Deadline::after(Duration::from_secs(10));
/// let fs: Arc<dyn FileSystem> = Arc::new(MemoryFs::new());
/// let (journals, hints) = (Arc::new(MemoryJournals::new()), Arc::new(MemoryHints::new()));
/// let shard = Replica::new(journals, JournalName::new("acme/orders-007")?, hints, fs);
///
/// let primary = shard.standby(Path::new("/here"))?.promote(random_author()?, soon)?;
/// let file = primary.fs().open(Path::new("/here/greeting"), OpenMode::CreateNew).unwrap();
/// file.write_all_at(b"hello", 0).unwrap();
/// primary.barrier()?.wait(soon)?; // Everything before is durable.
/// primary.close(soon)?;
///
/// let successor = shard.standby(Path::new("/there"))?.promote(random_author()?, soon)?;
/// assert_eq!(successor.fs().metadata(Path::new("/there/greeting")).unwrap().len, 5);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Replica {
    journals: Arc<dyn Journals>,
    log: JournalName,
    hints: Arc<dyn HintStore>,
    snapshots: Option<Snapshots>,
    fs: Arc<dyn FileSystem>,
    options: ReplicaOptions,
}

/// How replicas work.
#[derive(Clone, Debug)]
pub struct ReplicaOptions {
    /// How a standby plays. A primary's directory need not be durable, so it is not synced by default.
    pub play: PlayOptions,
    /// How a primary records.
    pub recorder: RecorderOptions,
    /// Which files a primary records, and how long a sync waits.
    pub recorded_fs: RecordedFsOptions,
    /// How much a primary writes again in the background, so that the log and a recovery stay small. It does not where
    /// [`RecorderOptions::live_map`] is off.
    pub rewrite: RewriteOptions,
    /// A primary publishes hints after so many bytes of the log (default 64 MiB).
    pub publish_bytes: u64,
    /// A primary publishes hints after so long (default one minute), where anything was recorded since.
    pub publish_every: Duration,
    /// A primary marks the log with the time so often (default 10 seconds), where anything was recorded since the last
    /// mark: a point in time can be restored to the last mark before it. It looks once a second; zero marks nothing but
    /// the points that hints describe.
    pub mark_every: Duration,
    /// The longest wait for the hint store (default 30 seconds).
    pub store_max: Duration,
}

impl Default for ReplicaOptions {
    fn default() -> Self {
        Self {
            play: PlayOptions { sync: false, ..PlayOptions::default() },
            recorder: RecorderOptions::default(),
            recorded_fs: RecordedFsOptions::default(),
            rewrite: RewriteOptions::default(),
            publish_bytes: 64 << 20,
            publish_every: Duration::from_secs(60),
            mark_every: Duration::from_secs(10),
            store_max: Duration::from_secs(30),
        }
    }
}

/// A hint set that was passed over, and why.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PassedOver {
    /// Where the set is stored.
    pub name: String,
    /// Why it was not played.
    pub error: Error,
}

impl Replica {
    /// Describes the shard that is recorded in `log`, with directories on `fs`.
    pub fn new(
        journals: Arc<dyn Journals>,
        log: JournalName,
        hints: Arc<dyn HintStore>,
        fs: Arc<dyn FileSystem>,
    ) -> Self {
        Self { journals, log, hints, snapshots: None, fs, options: ReplicaOptions::default() }
    }

    /// Sets how replicas work.
    #[must_use]
    pub fn options(mut self, options: ReplicaOptions) -> Self {
        self.options = options;
        self
    }

    /// Keeps snapshots in `store`: hint sets like those that a recovery begins with, and kept for longer, so that points
    /// of the past can be restored. Whoever prunes the log has to be told of it as of the other store.
    #[must_use]
    pub fn snapshots(mut self, store: Arc<dyn HintStore>, options: SnapshotOptions) -> Self {
        self.snapshots = Some(Snapshots { store, options });
        self
    }

    /// Looks at the past of the shard, by all sets that are stored.
    ///
    /// # Errors
    /// What the stores say.
    pub fn past(&self) -> Result<Past<'_>> {
        let deadline = Deadline::after(self.options.store_max);
        let mut sets = self.hints.candidates(&self.log, deadline)?;
        if let Some(snapshots) = &self.snapshots {
            sets.extend(snapshots.store.candidates(&self.log, deadline)?);
        }
        Ok(Past::new(&*self.journals, self.log.clone(), sets, Arc::clone(&self.fs)))
    }

    /// Goes on, as `author`, in the log of this shard, which is empty, where `played` has ended: the history of another
    /// log, at its head or at a point of its past. That log stays as it is.
    ///
    /// Hints are published at once: without them the new log cannot be played. They name ranges of the other log, which
    /// must not be pruned while that is so.
    ///
    /// # Errors
    /// `Invalid` where the log of this shard is that of `played`, or is not empty. The failure of the recorder, and those
    /// of [`Primary::publish_hints`]: then the log has begun, and cannot be played; fork to yet another one.
    pub fn fork(&self, played: Played, author: Author, deadline: Deadline) -> Result<Primary> {
        let journal = self.journals.open(&self.log)?;
        let head = journal.head(deadline)?.offset;
        if head > Offset::ZERO || self.log == played.log {
            return Err(Error::new(ErrorKind::Invalid, "a fork goes to a log of its own, which is empty")
                .in_log(&self.log)
                .expected("a head of 0", head)
                .advise("name a new log"));
        }
        let directory = played.directory.clone();
        let primary = Primary::start(self.clone(), &directory, (played, journal), author, deadline)?;
        primary.publish_hints(deadline)?;
        Ok(primary)
    }

    /// Begins to play the log into `directory`, on a thread of its own, and to follow it.
    ///
    /// # Errors
    /// `Io` where no thread can be started. What goes wrong later is in [`Standby::status`], and is returned by
    /// [`Standby::promote`].
    pub fn standby(&self, directory: &Path) -> Result<Standby> {
        Standby::start(self.clone(), directory)
    }

    /// Plans a play by the best hints that the journals can satisfy, and that did not fail before.
    ///
    /// # Errors
    /// `DataLoss` where no stored set can be played, and the log is not whole from its first byte on.
    fn plan(&self, directory: &Path, failed: &[PassedOver]) -> Result<Plan> {
        let player = |hints: &FsmHints| {
            let fs = Arc::clone(&self.fs);
            Player::new(&*self.journals, hints, fs, directory, self.options.play.clone())
        };
        let mut passed_over = failed.to_vec();
        for candidate in self.hints.candidates(&self.log, Deadline::after(self.options.store_max))? {
            if failed.iter().any(|set| set.name == candidate.name) {
                continue;
            }
            match candidate.hints.and_then(|hints| player(&hints)) {
                Ok(player) => return Ok(Plan { player, set: Some(candidate.name), passed_over }),
                Err(error) if is_fault_of_hints(error.kind()) => {
                    passed_over.push(PassedOver { name: candidate.name, error });
                }
                Err(error) => return Err(error),
            }
        }
        // Without hints the whole log is played; a pruned front or a hole in it is data loss.
        let whole = player(&FsmHints::empty(self.log.clone()));
        match (whole, passed_over.first()) {
            (Ok(player), _) => Ok(Plan { player, set: None, passed_over }),
            (Err(error), Some(first)) if error.kind() == ErrorKind::DataLoss => Err(first.error.clone()),
            (Err(error), _) => Err(error),
        }
    }
}

/// A play that is to begin.
struct Plan {
    player: Player,
    /// The hints, by the name of the stored set; `None` where the whole log is played.
    set: Option<String>,
    /// Sets that are newer, and were passed over.
    passed_over: Vec<PassedOver>,
}

/// Tells whether other hints may be played where these cannot.
const fn is_fault_of_hints(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::DataLoss
            | ErrorKind::Corrupt
            | ErrorKind::Diverged
            | ErrorKind::InvalidHints
            | ErrorKind::Invalid
    )
}
