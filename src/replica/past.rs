//! The past of a shard: which hint set leads to a point of its history, and what the directory was there.
//!
//! *Invariants.* A set is used for points that are not before the one which it describes, the newest such set first;
//! where it cannot be played the next older one, and in the end the whole log. What is restored is the tree behind
//! exactly that operation, or it is an error.
//!
//! *Does not* write to the log, and takes nothing over.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::{PassedOver, is_fault_of_hints};
use crate::error::{Error, ErrorKind, Result};
use crate::hint_store::{Candidate, sort_candidates};
use crate::hints::FsmHints;
use crate::ids::{JournalName, Offset};
use crate::journal::Journals;
use crate::player::{Bound, PlayOptions, Played, Player, Point, Unreached};
use crate::vfs::FileSystem;

/// A log, and the hint sets by which points of its history can be restored.
///
/// ```
/// use std::path::Path;
/// use std::sync::Arc;
/// use std::time::Duration;
/// use recoverylog::hint_store::MemoryHints;
/// use recoverylog::journal::{MemoryJournals, random_author};
/// use recoverylog::player::{Bound, PlayOptions};
/// use recoverylog::replica::Replica;
/// use recoverylog::vfs::{FileSystem, MemoryFs, OpenMode};
/// use recoverylog::{Deadline, JournalName};
///
/// # fn main() -> recoverylog::Result<()> {
/// # let soon = Deadline::after(Duration::from_secs(10));
/// # let fs: Arc<dyn FileSystem> = Arc::new(MemoryFs::new());
/// # let (journals, hints) = (Arc::new(MemoryJournals::new()), Arc::new(MemoryHints::new()));
/// let shard = Replica::new(journals.clone(), JournalName::new("acme/orders")?, hints, Arc::clone(&fs));
/// let primary = shard.standby(Path::new("/now"))?.promote(random_author()?, soon)?;
/// primary.fs().open(Path::new("/now/precious"), OpenMode::CreateNew).unwrap();
/// primary.recorder().mark("before the accident")?;
/// primary.fs().remove_file(Path::new("/now/precious")).unwrap();
/// primary.barrier()?.wait(soon)?;
///
/// let bound = Bound::Mark("before the accident".into());
/// let then = shard.past()?.restore(&bound, Path::new("/then"), &PlayOptions::default())?;
/// assert_eq!(then.played.fsm.live_files(), 1);
///
/// // Another shard goes on from there; the old log stays as it is.
/// let own = Arc::new(MemoryHints::new());
/// let again = Replica::new(journals, JournalName::new("acme/orders-again")?, own, Arc::clone(&fs));
/// let fork = again.fork(then.played, random_author()?, soon)?;
/// assert!(fork.fs().metadata(Path::new("/then/precious")).is_ok());
/// # Ok(())
/// # }
/// ```
pub struct Past<'a> {
    journals: &'a dyn Journals,
    log: JournalName,
    fs: Arc<dyn FileSystem>,
    /// The newest first.
    sets: Vec<Candidate>,
}

/// A restore to a point that is to begin.
#[derive(Debug)]
#[non_exhaustive]
pub struct PlannedPoint {
    /// What plays it.
    pub player: Player,
    /// The hints, by the name of the set; `None` where the log is played from its first byte.
    pub set: Option<String>,
    /// Sets that would have served, and cannot be played.
    pub passed_over: Vec<PassedOver>,
}

/// A directory as it was at a point.
#[derive(Debug)]
#[non_exhaustive]
pub struct RestoredPoint {
    /// The directory, and the history up to the point.
    pub played: Played,
    /// The point.
    pub point: Point,
    /// The hints, by the name of the set; `None` where the log was played from its first byte.
    pub set: Option<String>,
    /// Sets that would have served, and could not be played.
    pub passed_over: Vec<PassedOver>,
}

/// What became of the sets that were tried.
#[derive(Default)]
struct Tried {
    /// Place of the set that is tried next; behind the last one comes the whole log.
    next: usize,
    passed_over: Vec<PassedOver>,
    /// The first failure of a set that can be read.
    failed: Option<Error>,
    /// What the oldest set said that describes a later point.
    before: Option<Error>,
    /// What the first set said from which on the log has no such point.
    not_found: Option<Error>,
    /// Where no such point lies behind.
    searched: Option<Offset>,
}

impl<'a> Past<'a> {
    /// Looks at the past of `log` by `sets`, those of other logs left out, with directories on `fs`.
    pub fn new(
        journals: &'a dyn Journals,
        log: JournalName,
        mut sets: Vec<Candidate>,
        fs: Arc<dyn FileSystem>,
    ) -> Self {
        sets.retain(|set| set.hints.as_ref().map_or(true, |hints| hints.log.as_ref() == Some(&log)));
        sort_candidates(&mut sets, &log);
        Self { journals, log, fs, sets }
    }

    /// Plans to restore `directory` as it was at `bound`. Nothing is written yet.
    ///
    /// # Errors
    /// `Invalid` where the log has no such point; `DataLoss` where nothing leads to it any more, `Corrupt` where what
    /// does is damaged; what the journals say.
    pub fn plan(&self, bound: &Bound, directory: &Path, options: &PlayOptions) -> Result<PlannedPoint> {
        let mut tried = Tried::default();
        let (player, set) = self.next(bound, directory, options, &mut tried)?;
        Ok(PlannedPoint { player, set, passed_over: tried.passed_over })
    }

    /// Restores `directory`, which is missing or empty, as it was at `bound`.
    ///
    /// No recorder goes on with it in the same log. [`Replica::fork`](super::Replica::fork) does in another one.
    ///
    /// # Errors
    /// As those of [`Past::plan`] and [`Player::restore`].
    pub fn restore(&self, bound: &Bound, directory: &Path, options: &PlayOptions) -> Result<RestoredPoint> {
        let mut tried = Tried::default();
        loop {
            let (player, set) = self.next(bound, directory, options, &mut tried)?;
            let point = player.point().cloned();
            let point = point.ok_or_else(|| Error::new(ErrorKind::Invalid, "a play without an end"))?;
            match (player.restore(), set) {
                (Ok(played), set) => {
                    return Ok(RestoredPoint { played, point, set, passed_over: tried.passed_over });
                }
                // An unfit target is nothing that other hints mend.
                (Err(error), Some(name))
                    if error.kind() != ErrorKind::Invalid && is_fault_of_hints(error.kind()) =>
                {
                    tried.failed(name, error);
                }
                (Err(error), _) => return Err(error),
            }
        }
    }

    fn player(
        &self,
        hints: &FsmHints,
        bound: &Bound,
        end: Option<Offset>,
        directory: &Path,
        options: &PlayOptions,
    ) -> Result<Player, Unreached> {
        let fs = Arc::clone(&self.fs);
        Player::open(self.journals, hints, fs, directory, options.clone())?.ending_at(hints, bound, end)
    }

    /// Returns a player by the best set that was not tried yet, and the name of the set.
    fn next(
        &self,
        bound: &Bound,
        directory: &Path,
        options: &PlayOptions,
        tried: &mut Tried,
    ) -> Result<(Player, Option<String>)> {
        while let Some(set) = self.sets.get(tried.next) {
            tried.next += 1;
            let hints = match &set.hints {
                Ok(hints) => hints,
                Err(error) => {
                    tried.passed_over.push(PassedOver { name: set.name.clone(), error: error.clone() });
                    continue;
                }
            };
            match self.player(hints, bound, tried.searched, directory, options) {
                Ok(player) => return Ok((player, Some(set.name.clone()))),
                Err(Unreached::Before(error)) => tried.before = Some(error),
                // Names may be given to marks that older sets lead to; all else is in the order of history.
                Err(Unreached::NotFound(error)) if matches!(bound, Bound::Mark(_)) => {
                    tried.not_found.get_or_insert(error);
                    tried.searched = Point::of_hints(hints).map(|base| base.offset).or(tried.searched);
                }
                Err(Unreached::Failed(error)) if is_fault_of_hints(error.kind()) => {
                    tried.failed(set.name.clone(), error);
                }
                Err(Unreached::NotFound(error) | Unreached::Failed(error)) => return Err(error),
            }
        }
        let whole = FsmHints::empty(self.log.clone());
        match self.player(&whole, bound, tried.searched, directory, options) {
            Ok(player) => Ok((player, None)),
            Err(unreached) => Err(self.refused(std::mem::take(tried), unreached)),
        }
    }

    /// Returns the error of a point that nothing leads to.
    fn refused(&self, tried: Tried, whole: Unreached) -> Error {
        let whole = match whole {
            Unreached::Before(error) | Unreached::NotFound(error) => return tried.failed.unwrap_or(error),
            Unreached::Failed(error) if error.kind() != ErrorKind::DataLoss => return error,
            Unreached::Failed(error) => error,
        };
        if let Some(error) = tried.failed {
            return error;
        }
        if let Some(before) = tried.before {
            let error = Error::new(ErrorKind::DataLoss, "neither log nor hints reach back to the point")
                .in_log(&self.log)
                .advise("name a later point, or use older snapshots or another copy of the log");
            return match (before.expected_value(), before.actual_value()) {
                (Some(expected), Some(actual)) => error.expected(expected, actual),
                _ => error,
            }
            .with_source(whole);
        }
        let unreadable = tried.passed_over.into_iter().next().map(|set| set.error);
        tried.not_found.or(unreadable).unwrap_or(whole)
    }
}

impl Tried {
    fn failed(&mut self, name: String, error: Error) {
        self.failed.get_or_insert_with(|| error.clone());
        self.passed_over.push(PassedOver { name, error });
    }
}

impl fmt::Debug for Past<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Past").field("log", &self.log).field("sets", &self.sets.len()).finish_non_exhaustive()
    }
}
