//! The recorder: turns file operations into a log that another process can take over.
//!
//! *Invariants.* Every append names the offset it must begin at and the author that must own the log. One
//! append is in flight; what is recorded meanwhile gathers in the next batch, which goes out when the journal is
//! idle. A batch of unknown fate is read back, and resent unchanged or not at all. After the first terminal
//! failure every call returns that failure, and nothing is claimed to be durable any more.
//!
//! *Does not* touch local files (`tracker`, `recorded_fs`), and has no thread of its own: batches are sent by
//! the thread that records, or the one that completes an append. Only to read back an append of unknown fate a
//! thread is started, which ends with it: the thread that completes appends may be the one that serves reads,
//! and a barrier may be polled by nobody who could wait.

mod batch;
mod credit;
mod hinting;
mod options;
mod position;
mod resolve;
mod state;
#[cfg(test)]
pub(crate) mod tests;
mod transaction;

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use self::credit::{Credit, Refused};
use self::options::Settings;
pub use self::options::{RecorderCounters, RecorderOptions};
pub use self::position::{Barrier, Pending, PendingHints, Position};
use self::state::{Settled, State};
use self::transaction::MARK_NAME_BYTES_MAX;
pub(crate) use self::transaction::Transaction;
use crate::clock::Deadline;
use crate::completion::{Completion, completion};
use crate::error::{Error, ErrorKind, Result};
use crate::fsm::Fsm;
use crate::ids::{Author, Fnode, JournalName, LogPath, Offset, RESERVED, SeqNo};
use crate::journal::Journal;
use crate::live::LiveMap;
use crate::sync::{Mutex, MutexGuard};

/// The most bytes that one write operation holds; larger writes become several operations.
pub const OP_BYTES_MAX: usize = 1 << 20;
/// Credit for the frame of an operation, besides its paths and bytes.
const FRAME_CREDIT_BYTES: u64 = 64;

/// Records file operations into a journal; cheap to clone, every clone is the same recorder.
///
/// ```
/// use std::time::Duration;
/// use recoverylog::journal::{Journals, MemoryJournals, random_author};
/// use recoverylog::{Deadline, Fsm, JournalName, LogPath, Offset, Recorder, RecorderOptions};
///
/// # fn main() -> recoverylog::Result<()> {
/// let name = JournalName::new("acme/orders-007")?;
/// let journal = MemoryJournals::new().open(&name)?;
/// let recorder =
///     Recorder::new(journal, Fsm::new(name), Offset::ZERO, random_author()?, RecorderOptions::default())?;
/// let file = recorder.create(&LogPath::from_bytes(b"/greeting"))?;
/// recorder.write(file, 0, b"hello")?;
/// let durable = recorder.barrier()?.wait(Deadline::after(Duration::from_secs(5)))?;
/// assert_eq!(durable.next_seq_no.get(), 3);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
}

struct Inner {
    journal: Arc<dyn Journal>,
    settings: Settings,
    credit: Credit,
    /// What is alive, as far as it was told; locked before `state`.
    live: Option<Mutex<LiveMap>>,
    state: Mutex<State>,
}

/// A condition under which a part of the log is sent. It ends when this is dropped, however that comes.
struct Hold {
    recorder: Recorder,
    number: u64,
    /// `None` where nobody will ever tell how it ended.
    outcome: Option<Result<()>>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let (recorder, inner) = (&self.recorder, &self.recorder.inner);
        let failed = match self.outcome.take() {
            Some(Ok(())) => {
                let mut state = inner.lock();
                state.end_hold(self.number);
                return inner.drive(state);
            }
            Some(Err(error)) => {
                let what = "what the log was to come after has failed";
                Error::new(error.kind(), what).with_source(error)
            }
            None => Error::new(ErrorKind::Invalid, "what the log was to come after will never be known")
                .advise("hold until work whose result nobody has taken"),
        };
        recorder.fail(failed.in_log(&inner.settings.log));
    }
}

/// Operations that belong together, of which not all could be sequenced.
struct Unsequenced {
    error: Error,
    has_recorded: bool,
}

/// Credit that was taken for bytes to be recorded; given back where they are not.
pub(crate) struct Reserved<'a> {
    credit: &'a Credit,
    bytes: u64,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.credit.give(self.bytes);
        }
    }
}

impl Recorder {
    /// Continues the history `fsm`, whose next operation belongs at offset `head` of `journal`, as `author`.
    ///
    /// A history that was last recorded in another log is forked: a no-op in this one takes it over.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where hinted operations of the history were not played; where it was played to a point of
    /// the past ([`Player::until`](crate::player::Player::until)) of this very log; or where it was cloned out of another
    /// recorder by [`Recorder::with_fsm`]: take [`Recorder::history`].
    pub fn new(
        journal: Arc<dyn Journal>,
        mut fsm: Fsm,
        head: Offset,
        author: Author,
        options: RecorderOptions,
    ) -> Result<Self> {
        let (in_flight_bytes_max, extents_max) = (options.in_flight_bytes_max, options.extents_max);
        let settings = Settings::new(&*journal, author, options);
        if fsm.hinted_segment().is_some() {
            return Err(Error::new(ErrorKind::Invalid, "the history was not played to its end")
                .in_log(&settings.log)
                .advise("finish playing before recording"));
        }
        let fork = *fsm.last_log() != settings.log;
        if fsm.is_of_past() && !fork {
            return Err(Error::new(ErrorKind::Invalid, "the history was played to a point of the past")
                .in_log(&settings.log)
                .seq(fsm.next_seq_no())
                .advise("record in another log, which is a fork: this one goes on behind that point"));
        }
        fsm.set_of_past(false);
        if settings.live_map && fsm.is_live_map_elsewhere() {
            return Err(Error::new(
                ErrorKind::Invalid,
                "what is alive of the history is with another recorder",
            )
            .in_log(&settings.log)
            .advise("take the history with `Recorder::history`"));
        }
        let mut live = fsm.take_live_map().filter(|_| settings.live_map);
        if let Some(live) = &mut live {
            live.bound_extents(extents_max);
        }
        let live = live.map(Mutex::new);
        let state = Mutex::new(State::new(fsm, head, fork, live.is_some()));
        let credit = Credit::new(in_flight_bytes_max);
        let recorder = Self { inner: Arc::new(Inner { journal, settings, credit, live, state }) };
        if fork {
            recorder.no_op()?;
        }
        Ok(recorder)
    }

    /// Creates a file at `path`; what was linked there loses that link.
    ///
    /// # Errors
    /// As all recording calls: the recorder's failure; [`ErrorKind::Invalid`] for a request that no history
    /// allows, such as a path that [`LogPath::check`] refuses or that is reserved; [`ErrorKind::Unavailable`] where
    /// earlier bytes do not become durable in time. After the latter two nothing was recorded.
    pub fn create(&self, path: &LogPath) -> Result<Fnode> {
        self.checked(&[path])?;
        let reserved = self.reserve_ops(&[path])?;
        self.transaction(reserved, |tx| tx.create(path))
    }

    /// Links `fnode` at a further path; what was linked there loses that link. Where that is `fnode` itself, nothing is
    /// recorded.
    pub fn link(&self, fnode: Fnode, path: &LogPath) -> Result<()> {
        self.checked(&[path])?;
        let reserved = self.reserve_ops(&[path])?;
        self.transaction(reserved, |tx| tx.link(fnode, path))
    }

    /// Unlinks `path`; the file ends with its last link.
    pub fn unlink(&self, path: &LogPath) -> Result<()> {
        let reserved = self.reserve_ops(&[path])?;
        self.transaction(reserved, |tx| tx.unlink(path).map(drop))
    }

    /// Moves the link at `from` to `to`; what was linked at `to` loses that link. Where both are links of one
    /// file nothing is recorded, as POSIX has it.
    pub fn rename(&self, from: &LogPath, to: &LogPath) -> Result<()> {
        self.checked(&[to])?;
        let reserved = self.reserve_ops(&[from, to])?;
        self.transaction(reserved, |tx| tx.rename(from, to))
    }

    /// Replaces the property `to` by the file at `from`, whose whole content is `content`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] also where `to` is not a property; see [`RecorderOptions::property_paths`].
    pub fn rename_to_property(&self, from: &LogPath, to: &LogPath, content: Bytes) -> Result<()> {
        self.checked(&[to])?;
        // The name of the file goes with an operation of its own.
        let bytes = from.as_bytes().len() + to.as_bytes().len() + content.len();
        let reserved = self.reserve(2 * FRAME_CREDIT_BYTES + bytes as u64)?;
        self.transaction(reserved, |tx| {
            if !tx.is_property(to) {
                return Err(Error::new(ErrorKind::Invalid, format!("{to} is not a property")));
            }
            tx.rename_to_property(from, to, content)
        })
    }

    /// Writes `bytes` to `fnode` at `offset`, in operations of at most [`OP_BYTES_MAX`] bytes. A write of no
    /// bytes is recorded too.
    ///
    /// # Errors
    /// As those of [`Recorder::create`]; of more than one operation the first may have been recorded. The same write
    /// can be made again.
    pub fn write(&self, fnode: Fnode, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut at = offset;
        let mut rest = bytes;
        loop {
            let (now, later) = rest.split_at(rest.len().min(OP_BYTES_MAX));
            let reserved = self.reserve_write(now.len())?;
            self.write_reserved(reserved, fnode, at, now)?;
            if later.is_empty() {
                return Ok(());
            }
            at = at.saturating_add(now.len() as u64);
            rest = later;
        }
    }

    /// Marks this point of the history by `name`, and by the time: a directory can be restored as it is now
    /// ([`Bound::Mark`](crate::player::Bound::Mark)). A name that is given again means the newer point from then on.
    /// Returns the sequence number of the mark, which means this point alone.
    ///
    /// # Errors
    /// As all recording calls; `Invalid` for a name that is not 1 to 255 bytes of text without control characters, and
    /// where [`RecorderOptions::extensions`] is off.
    pub fn mark(&self, name: &str) -> Result<SeqNo> {
        let reserved = self.reserve(FRAME_CREDIT_BYTES + name.len().min(MARK_NAME_BYTES_MAX) as u64)?;
        self.transaction(reserved, |tx| tx.mark(name))
    }

    /// Marks this point of the history by the time, where something was recorded since the last mark.
    pub(crate) fn mark_time(&self) -> Result<()> {
        if !self.inner.settings.extensions || !self.inner.lock().is_unmarked {
            return Ok(());
        }
        self.no_op()
    }

    /// Appends a no-op: it changes nothing, and carries the time.
    pub fn no_op(&self) -> Result<()> {
        let reserved = self.reserve_ops(&[])?;
        self.transaction(reserved, |tx| tx.no_op(None))
    }

    /// Returns a barrier that resolves once everything recorded so far is durable.
    ///
    /// # Errors
    /// The recorder's failure.
    pub fn barrier(&self) -> Result<Barrier> {
        let mut state = self.inner.lock();
        state.check()?;
        if state.is_held_and_empty() {
            // So that there is something to wait for behind the hold.
            drop(state);
            self.transaction(Reserved { credit: &self.inner.credit, bytes: 0 }, |tx| tx.no_op(None))?;
            state = self.inner.lock();
            state.check()?;
        }
        let (completer, completion) = completion();
        if let Some(waiter) = state.wait_for_all(completer) {
            drop(waiter);
            return Ok(Barrier::resolved(Ok(state.committed)));
        }
        self.inner.drive(state);
        Ok(Barrier::new(completion))
    }

    /// Holds back what is recorded from here on until `done` has resolved: in the log it comes after whatever `done`
    /// stands for, such as appends to other journals. This is how a transaction commits: hold, write, take a barrier.
    ///
    /// What was recorded before goes out at once. Several holds hold together. If `done` resolves with an error, is
    /// abandoned, or its result was taken before, this recorder fails, and nothing that was held back is ever appended.
    /// A barrier that is taken while a hold is unmet resolves after it. Every wait has its deadline as ever: a sync of an
    /// engine, or a write beyond the credit, that a hold outlasts is refused to the engine as late.
    ///
    /// ```
    /// use std::time::Duration;
    /// use recoverylog::journal::{Append, Journals, MemoryJournals, random_author};
    /// use recoverylog::{Deadline, Fsm, JournalName, LogPath, Offset, Recorder, RecorderOptions};
    ///
    /// # fn main() -> recoverylog::Result<()> {
    /// # let journals = MemoryJournals::new();
    /// # let name = JournalName::new("acme/orders-007")?;
    /// # let log = journals.open(&name)?;
    /// # let author = random_author()?;
    /// # let recorder = Recorder::new(log, Fsm::new(name), Offset::ZERO, author, RecorderOptions::default())?;
    /// let results = journals.open(&JournalName::new("acme/results")?)?;
    /// // The checkpoint that says which results are out is in the log only if they are.
    /// recorder.hold_until(results.submit(Append::new("a result")))?;
    /// let checkpoint = recorder.create(&LogPath::from_bytes(b"/checkpoint"))?;
    /// recorder.write(checkpoint, 0, b"1")?;
    /// recorder.barrier()?.wait(Deadline::after(Duration::from_secs(5)))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The recorder's failure.
    pub fn hold_until<T, E>(&self, done: Completion<T, E>) -> Result<()>
    where
        T: Send + 'static,
        E: Into<Error> + Send + 'static,
    {
        let mut state = self.inner.lock();
        state.check()?;
        let hold = state.begin_hold();
        self.inner.drive(state);
        let hold = Hold { recorder: self.clone(), number: hold, outcome: None };
        done.on_ready(move |outcome| {
            let mut hold = hold;
            hold.outcome = Some(outcome.map(drop).map_err(Into::into));
        });
        Ok(())
    }

    /// Returns the durable prefix of the log.
    pub fn committed(&self) -> Position {
        self.inner.lock().committed
    }

    /// Returns the failure that ended this recorder, if there was one.
    pub fn failure(&self) -> Option<Error> {
        self.inner.lock().failed.clone()
    }

    /// Returns what was done so far.
    pub fn counters(&self) -> RecorderCounters {
        self.inner.lock().counters
    }

    /// Returns the bytes that may be recorded before a caller has to wait.
    pub fn credit_bytes(&self) -> u64 {
        self.inner.credit.free()
    }

    /// Returns the author.
    pub fn author(&self) -> Author {
        self.inner.settings.author
    }

    /// Returns the log.
    pub fn log(&self) -> &JournalName {
        &self.inner.settings.log
    }

    /// Looks at the history as it stands after everything that was recorded, durable or not, without its
    /// [`LiveMap`].
    ///
    /// The recorder's lock is held meanwhile.
    pub fn with_fsm<T>(&self, look: impl FnOnce(&Fsm) -> T) -> T {
        look(&self.inner.lock().fsm)
    }

    /// Ends this recorder: what is recorded does not describe the local files any more.
    pub(crate) fn fail(&self, error: Error) -> Error {
        let mut state = self.inner.lock();
        let settled = state.fail(error.clone());
        let error = state.failed.clone().unwrap_or(error);
        drop(state);
        self.inner.conclude(settled);
        error
    }

    /// Tells whether anything was ended by [`Recorder::fail`] after this recorder had ended.
    pub(crate) fn has_failed_again(&self) -> bool {
        self.inner.lock().failures > 1
    }

    /// Returns the recorder's failure as an error.
    pub(crate) fn check(&self) -> Result<()> {
        self.inner.lock().check()
    }

    /// Tells whether `path` is a property, or becomes one when a file is renamed to it.
    pub fn is_property(&self, path: &LogPath) -> bool {
        self.inner.lock().fsm.property(path).is_some() || self.inner.settings.property_paths.contains(path)
    }

    /// Takes credit for `bytes` bytes of the log, before any lock.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<Reserved<'_>> {
        let inner = &*self.inner;
        match inner.credit.take(bytes, || Deadline::after(inner.settings.stall)) {
            Ok(bytes) => Ok(Reserved { credit: &inner.credit, bytes }),
            Err(refused) => {
                self.check()?;
                debug_assert_eq!(refused, Refused::Late, "credit is closed by a failure only");
                Err(Error::new(ErrorKind::Unavailable, "earlier bytes did not become durable in time")
                    .in_log(&inner.settings.log))
            }
        }
    }

    /// Takes credit for `bytes` bytes of the log that nobody waits for; `None` where there is none for `patience`.
    pub(crate) fn reserve_within(&self, bytes: u64, patience: Duration) -> Result<Option<Reserved<'_>>> {
        let credit = &self.inner.credit;
        match credit.take(bytes, || Deadline::after(patience)) {
            Ok(bytes) => Ok(Some(Reserved { credit, bytes })),
            Err(_) => self.check().map(|()| None),
        }
    }

    /// Takes credit for a write of `len` bytes.
    pub(crate) fn reserve_write(&self, len: usize) -> Result<Reserved<'_>> {
        self.reserve(FRAME_CREDIT_BYTES + len as u64)
    }

    /// Takes credit for operations on `paths`.
    pub(crate) fn reserve_ops(&self, paths: &[&LogPath]) -> Result<Reserved<'_>> {
        // Each path is named by at most three operations: an unlink, a create or link, an unlink.
        let of = |path: &&LogPath| 2 * (FRAME_CREDIT_BYTES + path.as_bytes().len() as u64);
        self.reserve(FRAME_CREDIT_BYTES + paths.iter().map(of).sum::<u64>())
    }

    /// Writes at most [`OP_BYTES_MAX`] bytes, for which credit was taken.
    pub(crate) fn write_reserved(
        &self,
        reserved: Reserved<'_>,
        fnode: Fnode,
        offset: u64,
        bytes: &[u8],
    ) -> Result<()> {
        // Before the lock: it reads the bytes into the cache, and takes as long as the copy that follows.
        let crc = self.payload_crc(bytes);
        self.transaction(reserved, |tx| tx.write(fnode, offset, bytes, crc))
    }

    /// Returns the checksum that a write of `bytes` carries.
    pub(crate) fn payload_crc(&self, bytes: &[u8]) -> Option<u32> {
        self.inner.settings.extensions.then(|| crc32c::crc32c(bytes))
    }

    /// Records operations that are committed by one append.
    ///
    /// Where `record` fails after it recorded something, the recorder fails with it.
    pub(crate) fn transaction<T>(
        &self,
        mut reserved: Reserved<'_>,
        record: impl FnOnce(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut state = self.inner.lock();
        state.check()?;
        match self.sequence(&mut state, &mut reserved, record) {
            Ok(done) => {
                let is_fed = state.is_fed();
                self.inner.drive(state);
                self.inner.digest(is_fed);
                Ok(done)
            }
            Err(refused) => {
                drop(state);
                Err(self.refused(refused))
            }
        }
    }

    /// Sequences operations, and calls nobody.
    fn sequence<T>(
        &self,
        state: &mut State,
        reserved: &mut Reserved<'_>,
        record: impl FnOnce(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<T, Unsequenced> {
        let before = (state.pending.ops, state.pending.content.len());
        let outcome = record(&mut Transaction { state, settings: &self.inner.settings });
        let ops = state.pending.ops - before.0;
        if ops > 0 {
            state.counters.ops_recorded += ops;
            state.counters.bytes_recorded += (state.pending.content.len() - before.1) as u64;
            state.pending.credit += std::mem::take(&mut reserved.bytes);
        }
        outcome.map_err(|error| Unsequenced { error, has_recorded: ops > 0 })
    }

    /// Returns the error of operations that were not all sequenced.
    fn refused(&self, refused: Unsequenced) -> Error {
        if refused.has_recorded { self.fail(refused.error) } else { refused.error }
    }

    fn checked(&self, paths: &[&LogPath]) -> Result<()> {
        paths.iter().try_for_each(|path| {
            let refused = |what: &'static str| Error::new(ErrorKind::Invalid, what).in_log(self.log());
            path.check().map_err(|invalid| refused("a path cannot be recorded").with_source(invalid))?;
            if path.is_reserved() {
                return Err(refused("a path is reserved: players hide what is recorded there")
                    .expected(format_args!("a path outside of /{RESERVED}"), path));
            }
            Ok(())
        })
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what is due and looks at replies, until there is nothing left to do.
    ///
    /// One thread at a time does this. A journal that answers within `submit` answers into `reply`, and the
    /// loop goes on; one that answers later finds nobody driving, and its own thread does.
    fn drive<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State>) {
        if state.driving || (state.reply.is_none() && !state.is_due(&self.settings)) {
            return;
        }
        state.driving = true;
        loop {
            let settled = match state.reply.take() {
                Some(reply) => state.settle(&self.settings.log, reply),
                None => Settled::default(),
            };
            let append = state.next_append(&self.settings);
            if append.is_none() && settled.is_nothing() {
                state.driving = false;
                return;
            }
            drop(state);
            if let Some(append) = append {
                let inner = Arc::clone(self);
                self.journal.submit(append).on_ready(move |reply| {
                    let mut state = inner.lock();
                    state.reply = Some(reply);
                    inner.drive(state);
                });
            }
            self.conclude(settled);
            state = self.lock();
        }
    }

    /// Does what had to wait until the lock was gone.
    fn conclude(self: &Arc<Self>, settled: Settled) {
        self.credit.give(settled.credit);
        if settled.resolve {
            resolve::start(self);
        }
        let Some(outcome) = settled.outcome else { return };
        if outcome.is_err() {
            self.credit.close();
        }
        for waiter in settled.waiters {
            waiter.resolve(outcome.clone());
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inner.lock();
        f.debug_struct("Recorder")
            .field("log", &self.inner.settings.log)
            .field("author", &self.inner.settings.author)
            .field("committed", &state.committed)
            .field("failed", &state.failed)
            .finish_non_exhaustive()
    }
}
