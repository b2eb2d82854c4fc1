//! A replica that owns its log and records into it.
//!
//! *Invariants.* Hints are published for what is durable, and never by a writer that has failed. Closing waits
//! until everything recorded is durable, and says so or fails.
//!
//! *Does not* retry a failed recorder: only a new play brings the directory and the log together again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::snapshots::Snapshots;
use super::{Replica, ReplicaOptions};
use crate::clock::{Deadline, now};
use crate::completion::{Abandoned, Completion, completion};
use crate::error::{Error, ErrorKind, Result};
use crate::hint_store::HintStore;
use crate::ids::Author;
use crate::journal::{Journal, Journals};
use crate::player::{Played, Resumed, Warning, check_stored, keep_closed};
use crate::recorded_fs::RecordedFs;
use crate::recorder::{Barrier, Recorder, RecorderCounters};
use crate::sync::thread::JoinHandle;
use crate::sync::{Condvar, Mutex, MutexGuard, thread};
use crate::tracker::{Rewriter, is_being_built};
use crate::vfs::FileSystem;

/// How often the thread that publishes hints, and writes live bytes again, looks at what was recorded.
const TICK: Duration = Duration::from_secs(1);

/// A replica that owns its log.
#[derive(Debug)]
pub struct Primary {
    fs: Arc<RecordedFs<Arc<dyn FileSystem>>>,
    directory: PathBuf,
    warnings: Vec<Warning>,
    resumed: Option<Resumed>,
    publisher: Arc<Publisher>,
    thread: Option<JoinHandle<()>>,
    /// The thread has nothing more to do, however that came.
    ended: Completion<(), Abandoned>,
}

/// What a primary has done.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PrimaryStatus {
    /// What its recorder has done.
    pub recorder: RecorderCounters,
    /// Hint sets that were published.
    pub hints_published: u64,
    /// Bytes that the set published last takes as JSON, about 200 for each live file and each further range; 0 before the
    /// first.
    pub hints_bytes: u64,
    /// The largest set that the hint store takes ([`HintStore::bytes_max`]); `None` for any. Raise an alarm at 80% of it:
    /// past it no hints can be published, however few ranges they name, and a recovery reads more and more of the log.
    pub hints_bytes_max: Option<u64>,
    /// Bytes of the log that were recorded since hints were published last.
    pub bytes_since_hints: u64,
    /// Why hints could not be published the last time that was tried. It is tried again. Of kind [`ErrorKind::Invalid`]
    /// where they do not fit the store.
    pub hints_failure: Option<Error>,
    /// Snapshots that were stored.
    pub snapshots_stored: u64,
    /// Bytes of the log that were recorded since a snapshot was stored last.
    pub bytes_since_snapshot: u64,
    /// Bytes of the log that were written again in the background, so that older ones can be deleted.
    pub bytes_rewritten: u64,
    /// Why something could not be written again the last time that was tried; what it was is left as it is. Of kind
    /// [`ErrorKind::Corrupt`] where a local file does not hold what was recorded: that stays, whatever is written again
    /// later. The log is whole; the local disk is not.
    pub rewrite_failure: Option<Error>,
    /// Why the recorder failed.
    pub failure: Option<Error>,
}

/// Publishes hints now and then, and writes live bytes again.
#[derive(Debug)]
struct Publisher {
    fs: Arc<RecordedFs<Arc<dyn FileSystem>>>,
    recorder: Recorder,
    /// That of the recorder.
    journal: Arc<dyn Journal>,
    journals: Arc<dyn Journals>,
    store: Arc<dyn HintStore>,
    snapshots: Option<Snapshots>,
    options: ReplicaOptions,
    state: Mutex<Published>,
    stopped: Condvar,
}

#[derive(Debug, Default)]
struct Published {
    stop: bool,
    times: u64,
    /// Bytes of JSON of the set that was published last.
    bytes: u64,
    /// The set that was stored last is ours: there is none that knows more.
    alone: bool,
    /// Bytes that were recorded when hints were published last.
    at_bytes: u64,
    failure: Option<Error>,
    /// Snapshots that were stored, and the bytes that were recorded by then.
    snapshots: u64,
    snapshot_at_bytes: u64,
    bytes_rewritten: u64,
    rewrite_failure: Option<Error>,
}

impl Primary {
    /// Begins to record, as `author`, where `played` has ended: in the journal that was followed, if it is that of the
    /// replica's log.
    pub(super) fn start(
        replica: Replica,
        directory: &Path,
        (played, followed): (Played, Arc<dyn Journal>),
        author: Author,
        deadline: Deadline,
    ) -> Result<Self> {
        let links = played.fsm.links().map(|(path, _)| path);
        let leftovers: Vec<_> = links.filter(|path| is_being_built(path)).cloned().collect();
        let (journal, head) = if played.log == replica.log {
            (followed, played.position)
        } else {
            // A history that was recorded in another log goes on in this one, at its head: a fork.
            let journal = replica.journals.open(&replica.log)?;
            let head = journal.head(deadline)?.offset;
            (journal, head)
        };
        let options = replica.options.recorder.clone();
        let recorder = Recorder::new(Arc::clone(&journal), played.fsm, head, author, options)?;
        for path in leftovers {
            recorder.unlink(&path)?;
        }
        let options = replica.options.recorded_fs.clone();
        let fs = Arc::new(RecordedFs::new(Arc::clone(&replica.fs), directory, recorder.clone(), options));
        let publisher = Arc::new(Publisher {
            fs: Arc::clone(&fs),
            recorder,
            journal,
            journals: replica.journals,
            store: replica.hints,
            snapshots: replica.snapshots,
            options: replica.options,
            state: Mutex::default(),
            stopped: Condvar::new(),
        });
        let (completer, ended) = completion();
        let thread = {
            let publisher = Arc::clone(&publisher);
            let work = move || {
                publisher.run();
                completer.resolve(Ok(()));
            };
            let builder = thread::Builder::new().name("recoverylog-hints".into());
            builder.spawn(work).map_err(|e| Error::io("starting a thread failed", e))?
        };
        let (directory, warnings, resumed) = (directory.to_owned(), played.warnings, played.resumed);
        Ok(Self { fs, directory, warnings, resumed, publisher, thread: Some(thread), ended })
    }

    /// Returns the file system whose changes below [`Primary::directory`] are recorded.
    pub const fn fs(&self) -> &Arc<RecordedFs<Arc<dyn FileSystem>>> {
        &self.fs
    }

    /// Returns the recorded directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns what the play that led here passed over.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Returns what the play that led here has gone on from; `None` where it began with nothing.
    pub const fn resumed(&self) -> Option<&Resumed> {
        self.resumed.as_ref()
    }

    /// Returns the recorder.
    pub fn recorder(&self) -> &Recorder {
        self.fs.recorder()
    }

    /// Takes a point of the log whose durability can be waited for.
    ///
    /// # Errors
    /// The failure of the recorder.
    pub fn barrier(&self) -> Result<Barrier> {
        self.recorder().barrier()
    }

    /// Publishes hints now, in a form that fits the hint store.
    ///
    /// # Errors
    /// The failure of the recorder; what the hint store says; `Invalid` where the live files are too many for it, with the
    /// bytes that their hints would take; `Unavailable` once `deadline` has passed.
    pub fn publish_hints(&self, deadline: Deadline) -> Result<()> {
        self.publisher.publish(false, deadline)
    }

    /// Takes a snapshot now; it is published as hints too.
    ///
    /// # Errors
    /// `Invalid` without [`Replica::snapshots`]; otherwise as those of [`Primary::publish_hints`].
    pub fn snapshot(&self, deadline: Deadline) -> Result<()> {
        self.publisher.publish(true, deadline)
    }

    /// Tells what was done so far.
    pub fn status(&self) -> PrimaryStatus {
        let recorder = self.recorder().counters();
        let state = self.publisher.lock();
        PrimaryStatus {
            recorder,
            hints_published: state.times,
            hints_bytes: state.bytes,
            hints_bytes_max: self.publisher.store.bytes_max().map(|bytes| bytes as u64),
            bytes_since_hints: recorder.bytes_recorded.saturating_sub(state.at_bytes),
            hints_failure: state.failure.clone(),
            snapshots_stored: state.snapshots,
            bytes_since_snapshot: recorder.bytes_recorded.saturating_sub(state.snapshot_at_bytes),
            bytes_rewritten: state.bytes_rewritten,
            rewrite_failure: state.rewrite_failure.clone(),
            failure: self.recorder().failure(),
        }
    }

    /// Waits until everything is durable, and publishes hints a last time. The directory stays. With
    /// [`PlayOptions::resume`](crate::player::PlayOptions::resume) a later replica goes on from it: close the engine first,
    /// since nothing can be recorded any more.
    ///
    /// # Errors
    /// The failure of the recorder: something recorded may be lost. What the hint store says, or `Unavailable` where it
    /// did not answer before `deadline`: then everything is durable, and a successor reads more of the log than it would
    /// have to. `Io` where the state of the directory could not be kept: everything is durable, and the directory cannot
    /// be gone on from; so with `Corrupt`, where a local file was found not to be what was recorded.
    pub fn close(mut self, deadline: Deadline) -> Result<()> {
        self.publisher.stop();
        // Nobody waits for it but until the deadline: it ends when the hint store lets it go.
        drop(self.thread.take());
        self.barrier()?.wait(deadline)?;
        if self.ended.wait(deadline).is_none() {
            return Err(Error::new(ErrorKind::Unavailable, "hints are still being stored")
                .in_log(self.recorder().log()));
        }
        self.publisher.publish(false, deadline)?;
        self.keep_state(deadline)
    }

    /// Keeps the state of the directory, where that is asked for, once everything that was recorded is durable.
    fn keep_state(&self, deadline: Deadline) -> Result<()> {
        let play = &self.publisher.options.play;
        if !play.resume {
            return Ok(());
        }
        if let Some(damage) = self.publisher.lock().rewrite_failure.clone().filter(is_damage) {
            return Err(damage);
        }
        let history = loop {
            if let Some(history) = self.recorder().end()? {
                break history;
            }
            self.barrier()?.wait(deadline)?;
        };
        self.fs.tracker().settle();
        if self.recorder().has_failed_again() {
            let what = "a file was changed while the directory was closed: everything before is durable";
            return Err(Error::new(ErrorKind::Invalid, what)
                .in_log(self.recorder().log())
                .advise("close the engine first; empty the directory"));
        }
        keep_closed(&**self.fs.inner(), &self.directory, &history, play.sync)
    }
}

impl Drop for Primary {
    fn drop(&mut self) {
        self.publisher.stop();
        if let Some(thread) = self.thread.take() {
            // What it could not publish is in its state.
            drop(thread.join());
        }
    }
}

impl Published {
    /// Takes note of how a step of writing again has ended. Damage of the local disk is not forgotten.
    fn rewritten(&mut self, failure: Option<Error>) {
        if !self.rewrite_failure.as_ref().is_some_and(is_damage) {
            self.rewrite_failure = failure;
        }
    }
}

fn is_damage(error: &Error) -> bool {
    error.kind() == ErrorKind::Corrupt
}

impl Publisher {
    fn lock(&self) -> MutexGuard<'_, Published> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.lock().stop = true;
        self.stopped.notify_all();
    }

    fn run(&self) {
        let (mut last, mut snapshot, mut marked) = (now(), now(), now());
        let mut rewriter = Rewriter::new(self.options.rewrite);
        loop {
            let state = self.lock();
            if state.stop {
                return;
            }
            let waited = self.stopped.wait_timeout(state, TICK);
            let state = waited.unwrap_or_else(PoisonError::into_inner).0;
            let recorded = self.recorder.counters().bytes_recorded.saturating_sub(state.at_bytes);
            let unsnapped = self.recorder.counters().bytes_recorded.saturating_sub(state.snapshot_at_bytes);
            let due = recorded >= self.options.publish_bytes || last.elapsed() >= self.options.publish_every;
            let snaps = self.snapshots.as_ref().is_some_and(|Snapshots { options, .. }| {
                // What could not be stored is tried again with the next hints.
                let tries = state.failure.is_none() || due;
                tries && unsnapped > 0 && (unsnapped >= options.bytes || snapshot.elapsed() >= options.every)
            });
            let ended = state.stop || self.recorder.failure().is_some();
            drop(state);
            if ended {
                continue;
            }
            let marks = self.options.mark_every;
            if !marks.is_zero() && marked.elapsed() >= marks {
                marked = now();
                // A recorder that fails says so to everybody.
                drop(self.recorder.mark_time());
            }
            if snaps || (due && recorded > 0) {
                last = now();
                snapshot = if snaps { last } else { snapshot };
                // What failed is in the state.
                drop(self.publish(snaps, Deadline::after(self.options.store_max)));
            }
            self.rewrite(&mut rewriter);
        }
    }

    /// Writes live bytes again, as much as may be, in steps between which it can be stopped.
    fn rewrite(&self, rewriter: &mut Rewriter) {
        while !self.lock().stop && self.recorder.failure().is_none() {
            let step = rewriter.step(self.fs.tracker());
            let mut state = self.lock();
            state.bytes_rewritten = rewriter.rewritten_bytes();
            match step {
                Ok(0) => return,
                Ok(_) => state.rewritten(None),
                Err(error) => {
                    state.rewritten(Some(error));
                    return;
                }
            }
        }
    }

    /// Leaves out what the sets in `store` leave out.
    fn follow(&self, store: &dyn HintStore, deadline: Deadline) -> Result<()> {
        for candidate in store.candidates(self.recorder.log(), deadline)? {
            let of_log = candidate.hints.ok().filter(|hints| hints.log.as_ref() == Some(self.recorder.log()));
            if let Some(hints) = of_log {
                self.recorder.leave_out(&hints);
            }
        }
        Ok(())
    }

    /// Publishes hints, and stores them as a snapshot too where that is asked for.
    fn publish(&self, snapshot: bool, deadline: Deadline) -> Result<()> {
        let snapshots = self.snapshots.as_ref().map(|snapshots| &snapshots.store);
        if snapshot && snapshots.is_none() {
            return Err(Error::new(ErrorKind::Invalid, "the replica has no store of snapshots")
                .in_log(self.recorder.log())
                .advise("set one with `Replica::snapshots`"));
        }
        let published = self.try_publish(snapshots.filter(|_| snapshot), deadline);
        self.lock().failure = published.as_ref().err().cloned();
        published
    }

    /// As [`Publisher::publish`], to `snapshots` too.
    fn try_publish(&self, snapshots: Option<&Arc<dyn HintStore>>, deadline: Deadline) -> Result<()> {
        // What others go by may leave out, and have pruned, more than what this replica has played. Once a set of ours is
        // stored, what it names stays.
        if !self.lock().alone {
            self.follow(&*self.store, deadline)?;
            let snapshots = self.snapshots.as_ref().map(|snapshots| &snapshots.store);
            snapshots.map_or(Ok(()), |store| self.follow(&**store, deadline))?;
        }
        let limits =
            [Some(&self.store), snapshots].into_iter().flatten().filter_map(|store| store.bytes_max());
        let pending = self.recorder.take_hints_within(limits.min())?;
        let bytes = self.recorder.counters().bytes_recorded;
        // Hints are only known once the operation that anchors them is on its way and durable.
        self.recorder.barrier()?.wait(deadline)?;
        let hints = pending.wait_once(deadline)?;
        if let Err(error) = check_stored(&self.journal, &*self.journals, &hints, deadline) {
            // A set that another one stored after the last look may tell why.
            self.lock().alone = false;
            return Err(error);
        }
        let stored = self.store.store(&hints, deadline);
        let mut state = self.lock();
        // Older sets are refused from here on, whoever stores them.
        state.alone = stored.is_ok();
        stored?;
        state.times += 1;
        state.bytes = hints.json_bytes() as u64;
        state.at_bytes = bytes;
        drop(state);
        if let Some(store) = snapshots {
            store.store(&hints, deadline)?;
            let mut state = self.lock();
            state.snapshots += 1;
            state.snapshot_at_bytes = bytes;
        }
        Ok(())
    }
}
