//! A replica that owns its log and records into it.
//!
//! *Invariants.* Hints are published for what is durable, and never by a writer that has failed. Closing waits
//! until everything recorded is durable, and says so or fails.
//!
//! *Does not* retry a failed recorder: only a new play brings the directory and the log together again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{Replica, ReplicaOptions};
use crate::clock::{Deadline, now};
use crate::completion::{Abandoned, Completion, completion};
use crate::error::{Error, ErrorKind, Result};
use crate::hint_store::HintStore;
use crate::ids::Author;
use crate::journal::{Journal, Journals};
use crate::player::{Played, Warning, check_stored};
use crate::recorded_fs::RecordedFs;
use crate::recorder::{Barrier, Recorder, RecorderCounters};
use crate::sync::thread::JoinHandle;
use crate::sync::{Condvar, Mutex, MutexGuard, thread};
use crate::tracker::is_being_built;
use crate::vfs::FileSystem;

/// How often the thread that publishes hints looks at what was recorded.
const TICK: Duration = Duration::from_secs(1);

/// A replica that owns its log.
#[derive(Debug)]
pub struct Primary {
    fs: Arc<RecordedFs<Arc<dyn FileSystem>>>,
    directory: PathBuf,
    warnings: Vec<Warning>,
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
    /// Bytes of the log that were recorded since hints were published last.
    pub bytes_since_hints: u64,
    /// Why hints could not be published the last time that was tried. It is tried again.
    pub hints_failure: Option<Error>,
    /// Why the recorder failed.
    pub failure: Option<Error>,
}

/// Publishes hints now and then.
#[derive(Debug)]
struct Publisher {
    recorder: Recorder,
    /// That of the recorder.
    journal: Arc<dyn Journal>,
    journals: Arc<dyn Journals>,
    store: Arc<dyn HintStore>,
    options: ReplicaOptions,
    state: Mutex<Published>,
    stopped: Condvar,
}

#[derive(Debug, Default)]
struct Published {
    stop: bool,
    times: u64,
    /// The set that was stored last is ours: there is none that knows more.
    alone: bool,
    /// Bytes that were recorded when hints were published last.
    at_bytes: u64,
    failure: Option<Error>,
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
            recorder,
            journal,
            journals: replica.journals,
            store: replica.hints,
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
        let (directory, warnings) = (directory.to_owned(), played.warnings);
        Ok(Self { fs, directory, warnings, publisher, thread: Some(thread), ended })
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

    /// Publishes hints now.
    ///
    /// # Errors
    /// The failure of the recorder; what the hint store says; `Unavailable` once `deadline` has passed.
    pub fn publish_hints(&self, deadline: Deadline) -> Result<()> {
        self.publisher.publish(deadline)
    }

    /// Tells what was done so far.
    pub fn status(&self) -> PrimaryStatus {
        let recorder = self.recorder().counters();
        let state = self.publisher.lock();
        PrimaryStatus {
            recorder,
            hints_published: state.times,
            bytes_since_hints: recorder.bytes_recorded.saturating_sub(state.at_bytes),
            hints_failure: state.failure.clone(),
            failure: self.recorder().failure(),
        }
    }

    /// Waits until everything is durable, and publishes hints a last time. The directory stays.
    ///
    /// # Errors
    /// The failure of the recorder: something recorded may be lost. What the hint store says, or `Unavailable` where it
    /// did not answer before `deadline`: then everything is durable, and a successor reads more of the log than it would
    /// have to.
    pub fn close(mut self, deadline: Deadline) -> Result<()> {
        self.publisher.stop();
        // Nobody waits for it but until the deadline: it ends when the hint store lets it go.
        drop(self.thread.take());
        self.barrier()?.wait(deadline)?;
        if self.ended.wait(deadline).is_none() {
            return Err(Error::new(ErrorKind::Unavailable, "hints are still being stored")
                .in_log(self.recorder().log()));
        }
        self.publisher.publish(deadline)
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

impl Publisher {
    fn lock(&self) -> MutexGuard<'_, Published> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.lock().stop = true;
        self.stopped.notify_all();
    }

    fn run(&self) {
        let mut last = now();
        loop {
            let state = self.lock();
            if state.stop {
                return;
            }
            let waited = self.stopped.wait_timeout(state, TICK);
            let state = waited.unwrap_or_else(PoisonError::into_inner).0;
            let recorded = self.recorder.counters().bytes_recorded.saturating_sub(state.at_bytes);
            let due = recorded >= self.options.publish_bytes || last.elapsed() >= self.options.publish_every;
            let idle = recorded == 0 || state.stop || self.recorder.failure().is_some();
            drop(state);
            if due && !idle {
                last = now();
                let published = self.publish(Deadline::after(self.options.store_max));
                self.lock().failure = published.err();
            }
        }
    }

    fn publish(&self, deadline: Deadline) -> Result<()> {
        if !self.lock().alone {
            // What others go by may leave out, and have pruned, more than what this replica has played.
            for candidate in self.store.candidates(self.recorder.log(), deadline)? {
                let of_log =
                    candidate.hints.ok().filter(|hints| hints.log.as_ref() == Some(self.recorder.log()));
                if let Some(hints) = of_log {
                    self.recorder.leave_out(&hints);
                }
            }
        }
        let mut pending = self.recorder.take_hints()?;
        let bytes = self.recorder.counters().bytes_recorded;
        // Hints are only known once the operation that anchors them is on its way and durable.
        self.recorder.barrier()?.wait(deadline)?;
        let hints = pending.wait(deadline)?;
        check_stored(&self.journal, &*self.journals, &hints, deadline)?;
        let stored = self.store.store(&hints, deadline);
        let mut state = self.lock();
        // Older sets are refused from here on, whoever stores them.
        state.alone = stored.is_ok();
        stored?;
        state.times += 1;
        state.at_bytes = bytes;
        state.failure = None;
        Ok(())
    }
}
