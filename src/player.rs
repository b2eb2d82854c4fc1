//! The player: rebuilds a recorded directory out of a log.
//!
//! *Invariants.* What a player builds is what the accepted operations say, checked against their checksums and
//! payload digests, or it is an error: never less in silence. Nothing is written outside the target, nothing is
//! deleted that was not created here, and until it is whole the directory cannot be taken for a whole one.
//!
//! *Does not* elect a writer, pick hints (`hint_store`), or keep playing by itself.

mod bound;
mod handoff;
mod judge;
mod kept;
mod plan;
mod prefetch;
mod reader;
mod report;
mod resume;
mod staging;
mod tail;
#[cfg(test)]
mod tests;
mod verify;
mod writers;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) use self::bound::Unreached;
pub use self::bound::{Bound, Point};
use self::bound::{Reached, Search};
use self::handoff::Pause;
pub use self::handoff::{Follower, POLL_EVERY, Position, Tail};
use self::judge::Judge;
pub(crate) use self::kept::{keep_closed, without_live_map};
pub(crate) use self::plan::check_stored;
pub use self::plan::{Plan, PlanRange};
use self::prefetch::Prefetch;
use self::reader::{Leftover, OpReader, Step};
pub use self::report::{Counts, Progress, Warning};
pub use self::resume::Resumed;
use self::resume::{Start, is_of_content};
use self::staging::Staging;
pub use self::staging::is_incomplete;
pub use self::verify::Verify;
use self::writers::{Write, Writers};
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fsm::{Fsm, FsmOptions, Span, Transition};
use crate::hints::FsmHints;
use crate::ids::{Fnode, JournalName, Offset, SeqNo};
use crate::journal::{Journal, Journals, random_author};
use crate::op::{OpBody, RecordedOp};
use crate::vfs::FileSystem;

/// How to play.
#[derive(Clone)]
pub struct PlayOptions {
    /// Number of threads that fetch, and of those that write; with 1, the caller's thread does everything.
    pub parallelism: usize,
    /// The longest wait for one step of a journal.
    pub step_deadline: Duration,
    /// How the state machine takes operations.
    pub fsm: FsmOptions,
    /// Which stored fragments are compared with the sums in their names.
    pub verify: Verify,
    /// Make the directory durable before it is handed over. A primary needs no durable directory: the log is.
    pub sync: bool,
    /// Keep a state file in the directory's folder `.recoverylog`, and go on from one that is there by the operations that
    /// the directory lacks (default false). See [`Played::resumed`]. Where the machine may be started anew in between,
    /// that needs [`PlayOptions::sync`]. A play that ends at a point of the past does neither.
    pub resume: bool,
    /// Called now and then with what was done so far.
    pub progress: Option<ProgressCallback>,
}

/// Told what a player has done so far.
pub type ProgressCallback = Arc<dyn Fn(&Progress) + Send + Sync>;

impl Default for PlayOptions {
    fn default() -> Self {
        Self {
            parallelism: std::thread::available_parallelism().map_or(1, usize::from).min(8),
            step_deadline: Duration::from_secs(30),
            fsm: FsmOptions::default(),
            verify: Verify::AsRead,
            sync: true,
            resume: false,
            progress: None,
        }
    }
}

impl fmt::Debug for PlayOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlayOptions")
            .field("parallelism", &self.parallelism)
            .field("step_deadline", &self.step_deadline)
            .field("fsm", &self.fsm)
            .field("verify", &self.verify)
            .field("sync", &self.sync)
            .field("resume", &self.resume)
            .finish_non_exhaustive()
    }
}

/// A directory that was rebuilt.
#[derive(Debug)]
#[non_exhaustive]
pub struct Played {
    /// The directory.
    pub directory: PathBuf,
    /// The state of the history at `position`.
    pub fsm: Fsm,
    /// The log that is recorded now.
    pub log: JournalName,
    /// Where the last operation of the log, or what was stepped over behind it, ends.
    pub position: Offset,
    /// What was found.
    pub counts: Counts,
    /// What was passed over.
    pub warnings: Vec<Warning>,
    /// What was gone on from; `None` where the directory was played from nothing.
    pub resumed: Option<Resumed>,
}

/// Rebuilds a directory out of a log.
#[derive(Debug)]
pub struct Player {
    options: PlayOptions,
    fs: Arc<dyn FileSystem>,
    target: PathBuf,
    journals: BTreeMap<JournalName, Arc<dyn Journal>>,
    fsm: Fsm,
    plan: Plan,
    /// Where the play ends, where that is not the head.
    reached: Option<Reached>,
    start: Start,
    stop: Arc<AtomicBool>,
}

impl Player {
    /// Plans to rebuild the directory `target` of `fs` by `hints`, out of logs in `journals`. Nothing is
    /// written yet.
    ///
    /// # Errors
    /// `InvalidHints`; `DataLoss` where hints name what is past a log's head, or bytes that are not stored;
    /// what the journals say.
    pub fn new(
        journals: &dyn Journals,
        hints: &FsmHints,
        fs: Arc<dyn FileSystem>,
        target: &Path,
        options: PlayOptions,
    ) -> Result<Self> {
        let mut player = Self::open(journals, hints, fs, target, options)?;
        player.start = Start::of(journals, hints, (&*player.fs, target), &player.options)?;
        if !matches!(player.start, Start::From(_)) {
            player.plan.check_stored(&player.journals, player.options.step_deadline)?;
        }
        Ok(player)
    }

    /// Plans to rebuild the directory as it was at a point of its history, by hints that describe that point or an
    /// earlier one. The log is looked through for it from there on, without payloads. Nothing is written yet.
    ///
    /// What is played can be recorded on in another log only, a fork: its own log goes on.
    ///
    /// ```
    /// use std::path::Path;
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use recoverylog::journal::{Journals, MemoryJournals, random_author};
    /// use recoverylog::player::{Bound, PlayOptions, Player};
    /// use recoverylog::vfs::{FileSystem, MemoryFs};
    /// use recoverylog::{Deadline, Fsm, FsmHints, JournalName, LogPath, Offset, Recorder, RecorderOptions};
    ///
    /// # fn main() -> recoverylog::Result<()> {
    /// let (journals, name) = (MemoryJournals::new(), JournalName::new("acme/orders-007")?);
    /// let (log, author) = (journals.open(&name)?, random_author()?);
    /// let options = RecorderOptions::default();
    /// let recorder = Recorder::new(log, Fsm::new(name.clone()), Offset::ZERO, author, options.clone())?;
    /// let file = recorder.create(&LogPath::from_bytes(b"/precious"))?;
    /// recorder.mark("before the accident")?;
    /// recorder.unlink(&LogPath::from_bytes(b"/precious"))?;
    /// recorder.barrier()?.wait(Deadline::after(Duration::from_secs(5)))?;
    ///
    /// let fs: Arc<dyn FileSystem> = Arc::new(MemoryFs::new());
    /// let (whole, bound) = (FsmHints::empty(name), Bound::Mark("before the accident".into()));
    /// let player = Player::until(
    ///     &journals, &whole, &bound, Arc::clone(&fs), Path::new("/then"), PlayOptions::default())?;
    /// let then = player.restore()?;
    /// assert!(fs.metadata(Path::new("/then/precious")).is_ok());
    ///
    /// // Another log goes on from there. Until hints of it are stored, nobody can play it.
    /// let fork = journals.open(&JournalName::new("acme/orders-007-again")?)?;
    /// Recorder::new(fork, then.fsm, Offset::ZERO, random_author()?, options)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As those of [`Player::new`], and `Invalid` where the point lies before the one that the hints describe, or past
    /// the head of the log, or where there is none such; `DataLoss` and `Corrupt` where the log cannot be read up to it.
    pub fn until(
        journals: &dyn Journals,
        hints: &FsmHints,
        bound: &Bound,
        fs: Arc<dyn FileSystem>,
        target: &Path,
        options: PlayOptions,
    ) -> Result<Self> {
        Ok(Self::open(journals, hints, fs, target, options)?.ending_at(hints, bound, None)?)
    }

    /// As [`Player::new`], without a look at what is stored.
    pub(crate) fn open(
        journals: &dyn Journals,
        hints: &FsmHints,
        fs: Arc<dyn FileSystem>,
        target: &Path,
        options: PlayOptions,
    ) -> Result<Self> {
        let fsm = Fsm::from_hints(hints, options.fsm)?;
        for (path, _) in fsm.properties() {
            path.check().map_err(|refused| {
                Error::new(ErrorKind::InvalidHints, "hints name a property by a path that cannot be used")
                    .in_log(fsm.last_log())
                    .with_source(refused)
            })?;
        }
        let (mut opened, mut heads) = (BTreeMap::new(), BTreeMap::new());
        for log in plan::logs_of(&fsm) {
            let journal = journals.open(&log)?;
            heads.insert(log.clone(), journal.head(Deadline::after(options.step_deadline))?.offset);
            opened.insert(log, journal);
        }
        let plan = Plan::new(&fsm, &heads, Offset::ZERO)?;
        let (target, stop) = (target.to_owned(), Arc::default());
        let start = Start::Plain;
        Ok(Self { options, fs, target, journals: opened, fsm, plan, reached: None, start, stop })
    }

    /// Ends the play at `bound`, which is looked for behind what `hints`, by which this player was made, describe, and
    /// before `end`.
    pub(crate) fn ending_at(
        mut self,
        hints: &FsmHints,
        bound: &Bound,
        end: Option<Offset>,
    ) -> Result<Self, Unreached> {
        bound::check(hints, bound)?;
        let log = self.fsm.last_log();
        let step = self.options.step_deadline;
        let journal = self.journals.get(log);
        let journal =
            journal.ok_or_else(|| Error::new(ErrorKind::Invalid, "no log is recorded").in_log(log))?;
        let reached = Search { journal, hints, bound, end, step }.run()?;
        self.plan.end_at(reached.point.offset);
        self.plan.check_stored(&self.journals, step)?;
        self.reached = Some(reached);
        Ok(self)
    }

    /// Returns what will be read; where a directory is gone on from, but for what has to be built again of it.
    pub fn plan(&self) -> &Plan {
        match &self.start {
            Start::From(resumption) => &resumption.plan,
            Start::Plain | Start::Anew { .. } => &self.plan,
        }
    }

    /// Plays, and does `work` then: from where the directory is, or else from nothing.
    fn play<T>(mut self, work: impl Fn(Play) -> Result<T>) -> Result<T> {
        if let Start::From(_) = self.start
            && let Start::From(resumption) = std::mem::replace(&mut self.start, Start::Plain)
        {
            match Play::resume(&self, *resumption).and_then(&work) {
                Err(error) if is_of_content(&error) => {
                    // What the state is worth was seen: only its names count now.
                    let kept = kept::look(&*self.fs, &self.target)?.map(Box::new);
                    self.start = Start::Anew { kept, why: Some(error) };
                    self.plan.check_stored(&self.journals, self.options.step_deadline)?;
                }
                done => return done,
            }
        }
        work(Play::begin(self)?)
    }

    /// Returns where the play ends, where that was asked for.
    pub fn point(&self) -> Option<&Point> {
        self.reached.as_ref().map(|reached| &reached.point)
    }

    /// Ends the play as `Unavailable` where `stop` is set before it has come to the head.
    #[must_use]
    pub(crate) fn stopped_by(mut self, stop: &Arc<AtomicBool>) -> Self {
        self.stop = Arc::clone(stop);
        self
    }

    /// Plays to the head as it was when the player was made, or to the point that was asked for, and completes the
    /// directory.
    ///
    /// # Errors
    /// `Invalid` where the target is not empty. Otherwise see [`ErrorKind`]; what was built is removed.
    pub fn restore(self) -> Result<Played> {
        self.play(|mut play| match play.backfill().and_then(|()| play.complete(true)) {
            Ok(played) => Ok(played),
            Err(error) => {
                play.abandon();
                Err(error)
            }
        })
    }

    /// Plays to the head as it was when the player was made, and stands by there.
    ///
    /// # Errors
    /// As those of [`Player::restore`]; `Invalid` for a player that ends at a point.
    pub fn follow(self) -> Result<Follower> {
        let log = self.fsm.last_log().clone();
        if self.reached.is_some() {
            let what = "a play that ends at a point of the past follows nothing";
            return Err(Error::new(ErrorKind::Invalid, what)
                .in_log(&log)
                .advise("restore it, and record on in another log: a fork"));
        }
        let journal = self.journals.get(&log).cloned();
        let journal =
            journal.ok_or_else(|| Error::new(ErrorKind::Invalid, "no log is recorded").in_log(&log))?;
        self.play(|mut play| match play.backfill().and_then(|()| play.save()) {
            Ok(()) => Follower::begin(play, Arc::clone(&journal)),
            Err(error) => {
                play.abandon();
                Err(error)
            }
        })
    }
}

/// A play under way.
#[derive(Debug)]
struct Play {
    options: PlayOptions,
    fsm: Fsm,
    plan: Plan,
    journals: BTreeMap<JournalName, Arc<dyn Journal>>,
    reader: OpReader,
    judge: Judge,
    writers: Writers,
    staging: Staging,
    counts: Counts,
    stop: Arc<AtomicBool>,
    done_ranges_bytes: u64,
    next_progress_bytes: u64,
    /// Where junk began, while nothing but junk was found since.
    junk_since: Option<Offset>,
    /// The wait between two looks at a log that is followed and cannot wait by itself.
    pause: Option<Arc<Pause>>,
    /// What lay ahead of the history and continued nothing, before a no-op of ours was accepted in its place.
    unconnected: Option<Warning>,
    /// Where the play has to end, where that is not the head.
    reached: Option<Point>,
    /// What ended a play that follows its log.
    failed: Option<Error>,
    resumed: Option<Resumed>,
    /// Why the directory was not gone on from, until that is told.
    not_resumed: Option<Error>,
    /// What there is to tell of the directory that was replaced.
    of_aside: Vec<Warning>,
    /// Where the log was when a state was kept last, and when it is due again.
    saved: (Offset, Deadline),
}

/// A standby keeps its state after so many bytes of the log, or so long after the first of them.
const SAVE_BYTES: u64 = 64 << 20;
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// Bytes between two calls for progress.
const PROGRESS_BYTES: u64 = 1 << 20;

impl Play {
    fn begin(player: Player) -> Result<Self> {
        let Player { options, fs, target, journals, fsm, plan, reached, start, stop } = player;
        if options.verify == Verify::Full {
            verify::check_fragments(&plan, &journals, &options)?;
        }
        let author = random_author()?;
        let (staging, not_resumed) = match start {
            Start::Plain | Start::From(_) => (Staging::begin(fs, &target, author)?, None),
            Start::Anew { kept, why } => {
                let known = (kept.as_deref(), why.as_ref());
                (Staging::begin_kept(&fs, &target, author, known, options.sync)?, why)
            }
        };
        let judge = Judge::new(fsm.hinted_segment().is_none());
        let play = Self::of_parts(options, (fsm, plan, journals), staging, judge)?;
        Ok(Self {
            stop,
            unconnected: reached.as_ref().and_then(|reached| reached.unconnected.clone()),
            reached: reached.map(|reached| reached.point),
            not_resumed,
            ..play
        })
    }

    /// Begins to play `fsm` by a plan, into a directory that is abandoned if that cannot be.
    fn of_parts(
        options: PlayOptions,
        (fsm, plan, journals): (Fsm, Plan, BTreeMap<JournalName, Arc<dyn Journal>>),
        staging: Staging,
        judge: Judge,
    ) -> Result<Self> {
        let step = options.step_deadline;
        let started = Prefetch::begin(&plan, journals.clone(), options.parallelism, step)
            .and_then(|prefetch| OpReader::of_plan(&plan, prefetch, step))
            .and_then(|reader| Ok((reader, Writers::start(options.parallelism)?)));
        let (reader, writers) = match started {
            Ok(started) => started,
            Err(error) => {
                staging.abandon();
                return Err(error);
            }
        };
        Ok(Self {
            options,
            fsm,
            plan,
            journals,
            reader,
            judge,
            writers,
            staging,
            counts: Counts::default(),
            stop: Arc::default(),
            done_ranges_bytes: 0,
            next_progress_bytes: 0,
            junk_since: None,
            pause: None,
            unconnected: None,
            reached: None,
            failed: None,
            resumed: None,
            not_resumed: None,
            of_aside: Vec::new(),
            saved: (Offset::ZERO, Deadline::after(SAVE_EVERY)),
        })
    }

    /// Plays all ranges of the plan.
    fn backfill(&mut self) -> Result<()> {
        let no_wait = Deadline::passed();
        self.expect_hinted_in(self.reader.current_range())?;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    "the play was stopped before it came to the head",
                )
                .in_log(self.reader.log())
                .at(self.reader.at()));
            }
            match self.reader.next(no_wait)? {
                Step::RangeEnd => {
                    self.expect_hinted_in(self.reader.following_range())?;
                    self.done_ranges_bytes += self.reader.current_range().map_or(0, PlanRange::bytes);
                    self.reader.next_range();
                    self.judge.left_out();
                }
                Step::AtHead => break,
                step => self.step(step)?,
            }
            self.report_progress();
        }
        match self.fsm.hinted_segment() {
            Some(_) => Err(self.unused_hints()),
            None => Ok(()),
        }
    }

    /// Takes what the reader found.
    fn step(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Op { op, begin, end } => {
                self.junk_since = None;
                self.op(&op, begin, end)?;
            }
            Step::Junk { begin, bytes } => {
                self.counts.junk_bytes += bytes;
                self.junk_since.get_or_insert(begin);
            }
            Step::Undecodable { begin, error } => {
                self.junk_since = None;
                self.counts.undecodable_frames += 1;
                self.judge.undecodable(self.reader.log(), begin, error);
            }
            Step::RangeEnd | Step::AtHead | Step::Interrupted => {}
        }
        Ok(())
    }

    /// Applies one operation, or passes it over.
    fn op(&mut self, op: &RecordedOp, begin: Offset, end: Offset) -> Result<()> {
        let hinted = self.fsm.hinted_segment().map(|segment| segment.first_seq_no);
        let span = Span { log: self.reader.log(), begin, end: Some(end) };
        let applied = self.fsm.apply(op, self.reader.message(), span);
        if let Err(rejection) = &applied {
            let (fsm, message, place) = (&self.fsm, self.reader.message(), (self.reader.log(), begin));
            self.judge.rejected(fsm, op, message, *rejection, place, &mut self.counts)?;
        }
        self.reader.accept_frame();
        let payload = op.payload_len();
        let Ok(transition) = applied else { return self.reader.skip(payload) };

        self.judge.accepted(&self.fsm);
        match transition {
            Transition::Untracked => self.counts.untracked_ops += 1,
            _ => self.counts.applied_ops += 1,
        }
        if let (Transition::Written, OpBody::Write { fnode, offset }) = (transition, &op.body) {
            self.write(op, *fnode, *offset)?;
            return self.leave_segment(hinted);
        }
        self.stage(op, transition)
            .map_err(|error| error.in_log(self.reader.log()).at(begin).seq(op.seq_no))?;
        self.reader.skip(payload)?;
        self.leave_segment(hinted)
    }

    /// Changes names in the staged directory as `op` says.
    fn stage(&mut self, op: &RecordedOp, transition: Transition) -> Result<()> {
        match (transition, &op.body) {
            (Transition::Created(fnode), OpBody::Create { path }) => self.staging.create(fnode, path),
            (Transition::Linked, OpBody::Link { fnode, path }) => self.staging.link(*fnode, path),
            (Transition::Unlinked { .. }, OpBody::Unlink { fnode, path }) => {
                self.staging.unlink(*fnode, path)
            }
            // Properties are written at the end, when nobody knows any more which operation brought them.
            (_, OpBody::Property { path, .. }) => staging::checked(path).map(drop),
            _ => Ok(()),
        }
    }

    fn write(&mut self, op: &RecordedOp, fnode: Fnode, offset: u64) -> Result<()> {
        let at = self.reader.at();
        let pieces = self.reader.take(op.payload_len())?;
        self.counts.written_bytes += op.payload_len();
        let file = self.staging.file(fnode)?;
        let crc32c = op.payload.and_then(|payload| payload.crc32c);
        self.writers
            .write(self.reader.log(), Write { fnode, file, offset, pieces, crc32c, seq_no: op.seq_no, at })
    }

    /// Steps over bytes that no hinted segment names, once an operation was the last one of its segment.
    fn leave_segment(&mut self, hinted_before: Option<SeqNo>) -> Result<()> {
        let Some(next) = self.fsm.hinted_segment().filter(|next| Some(next.first_seq_no) != hinted_before)
        else {
            return Ok(());
        };
        let in_range = next.log.as_ref() == Some(self.reader.log())
            && self.reader.current_range().is_some_and(|range| next.first_offset < range.end);
        if in_range && next.first_offset > self.reader.at() {
            let target = next.first_offset;
            self.judge.left_out();
            self.reader.skip_to(target)?;
        }
        Ok(())
    }

    /// Checks that the hinted segment that comes next lies in `range`, which is to be read next. Where it does not,
    /// the range that was read did not hold what the hints say.
    fn expect_hinted_in(&self, range: Option<&PlanRange>) -> Result<()> {
        let (Some(segment), Some(range)) = (self.fsm.hinted_segment(), range) else { return Ok(()) };
        let lies_in = segment.log.as_ref() == Some(&range.log)
            && segment.first_offset >= range.begin
            && segment.first_offset < range.end;
        if lies_in { Ok(()) } else { Err(self.unused_hints()) }
    }

    fn unused_hints(&self) -> Error {
        if let Some(damage) = self.judge.unresolved_damage() {
            return damage;
        }
        let what = "the log does not hold the operations that the hints name";
        let error = Error::new(ErrorKind::DataLoss, what).in_log(self.reader.log()).at(self.reader.at());
        match self.fsm.hinted_segment() {
            Some(segment) => {
                let next = self.fsm.next_seq_no();
                error.seq(next).expected(format_args!("seq-no {next} of {segment}"), "no such operation")
            }
            None => error,
        }
    }

    /// Completes the directory at the head; `keeps` its state, where one is kept.
    fn complete(&mut self, keeps: bool) -> Result<Played> {
        if let Some(damage) = self.judge.unresolved_damage() {
            return Err(damage);
        }
        self.check_point()?;
        self.writers.drain()?;
        let mut warnings = self.judge_payloads()?;
        self.check_tail()?;
        warnings.extend(self.tail_warning());
        warnings.extend(self.unconnected_now().or_else(|| self.unconnected.take()));
        let kept = Some(&self.fsm).filter(|_| keeps);
        let directory = self.staging.finish(self.fsm.properties(), self.options.sync, kept)?;
        self.end_aside();
        warnings.append(&mut self.of_aside);
        self.report_done();
        Ok(Played {
            directory,
            log: self.reader.log().clone(),
            position: self.reader.at(),
            fsm: std::mem::replace(&mut self.fsm, Fsm::new(self.reader.log().clone())),
            counts: self.counts,
            warnings,
            resumed: self.resumed,
        })
    }

    /// Keeps the state that the directory is in, where one is kept.
    fn save(&mut self) -> Result<()> {
        if !self.staging.is_kept() {
            return Ok(());
        }
        self.writers.drain()?;
        self.judge_payloads()?;
        self.staging.save(&self.fsm)?;
        self.end_aside();
        self.saved = (self.reader.at(), Deadline::after(SAVE_EVERY));
        Ok(())
    }

    /// Removes what this directory replaces, now that it is whole, and tells of it.
    fn end_aside(&mut self) {
        let reason = self.not_resumed.take().map(|error| error.to_string());
        if let Some(reason) = reason.or_else(|| self.staging.reason().map(str::to_owned)) {
            let directory = self.staging.target().to_owned();
            self.of_aside.push(Warning::NotResumed { directory, reason });
        }
        let left = self.staging.remove_aside();
        self.of_aside.extend(left.map(|directory| Warning::LeftAside { directory }));
    }

    /// Keeps the state, once much was applied since the last time, or it was long ago.
    fn save_if_due(&mut self) -> Result<()> {
        let (at, due) = self.saved;
        let applied = self.reader.at().bytes_since(at);
        if applied >= SAVE_BYTES || (applied > 0 && due.has_passed()) {
            return self.save();
        }
        Ok(())
    }

    /// Fails where the play has to end at a point, and did not come there.
    fn check_point(&mut self) -> Result<()> {
        let Some(point) = &self.reached else { return Ok(()) };
        self.fsm.set_of_past(true);
        if self.fsm.next_seq_no() == point.seq_no.next() {
            return Ok(());
        }
        let next = self.fsm.next_seq_no();
        Err(Error::new(ErrorKind::Diverged, "the play did not end where the log has the point")
            .in_log(self.reader.log())
            .at(self.reader.at())
            .expected(point, format_args!("a history that goes on with seq-no {next}")))
    }

    /// Returns what lies ahead of the history and continues nothing.
    fn unconnected_now(&self) -> Option<Warning> {
        let (offset, seq_no) = self.judge.unconnected()?;
        Some(Warning::Unconnected { log: self.reader.log().clone(), offset, seq_no })
    }

    /// Fails where the payload of a live file is damaged.
    fn judge_payloads(&self) -> Result<Vec<Warning>> {
        let mut warnings = Vec::new();
        for (fnode, damage) in self.writers.damage() {
            if let Some(node) = self.fsm.node(fnode) {
                let path = node.links().first().map_or_else(String::new, ToString::to_string);
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    format!("a payload of file {path} is not what was written"),
                )
                .in_log(&damage.log)
                .at(damage.at)
                .seq(damage.seq_no)
                .expected(
                    format_args!("CRC-32C {:08x}", damage.expected),
                    format_args!("{:08x}", damage.actual),
                ));
            }
            warnings.push(Warning::DamagedDeadPayload {
                log: damage.log,
                offset: damage.at,
                seq_no: damage.seq_no,
                fnode,
            });
        }
        Ok(warnings)
    }

    /// Fails where the log ends within an operation whose length is damaged.
    fn check_tail(&mut self) -> Result<()> {
        let (Leftover::Torn { begin, .. }, Some(journal)) =
            (self.reader.leftover(), self.journals.get(self.reader.log()))
        else {
            return Ok(());
        };
        let (step, limit) = (self.options.step_deadline, self.reader.limited_to());
        tail::check_torn(Arc::clone(journal), &self.fsm, begin, step, limit)
    }

    fn tail_warning(&mut self) -> Option<Warning> {
        let log = self.reader.log().clone();
        match self.reader.leftover() {
            Leftover::Nothing => self.junk_since.map(|offset| Warning::JunkAtTail {
                log,
                offset,
                bytes: self.reader.at().bytes_since(offset),
            }),
            Leftover::Junk { begin, bytes } => {
                let offset = self.junk_since.unwrap_or(begin);
                Some(Warning::JunkAtTail { log, offset, bytes: begin.bytes_since(offset) + bytes })
            }
            Leftover::Torn { begin: offset, present, promised } => {
                Some(Warning::TornAtTail { log, offset, present, promised })
            }
        }
    }

    fn report_progress(&mut self) {
        if self.options.progress.is_none() {
            return;
        }
        let in_range =
            self.reader.current_range().map_or(0, |range| self.reader.at().bytes_since(range.begin));
        let done_bytes = self.done_ranges_bytes + in_range;
        if done_bytes >= self.next_progress_bytes {
            self.next_progress_bytes = done_bytes + PROGRESS_BYTES;
            self.tell(done_bytes);
        }
    }

    fn report_done(&self) {
        self.tell(self.plan.bytes());
    }

    fn tell(&self, done_bytes: u64) {
        if let Some(progress) = &self.options.progress {
            let (planned_bytes, counts) = (self.plan.bytes(), self.counts);
            progress(&Progress { verifying: false, planned_bytes, done_bytes, counts });
        }
    }

    fn abandon(self) {
        drop(self.writers);
        self.staging.abandon();
    }
}
