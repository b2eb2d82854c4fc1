//! The hand-off: a player at the head of its log takes the log over.
//!
//! *Invariants.* A hand-off has happened once our own no-op was read back as the last accepted operation; from
//! then on the register names us, and what the old writer appends continues no history. Nothing is injected
//! behind a torn operation, which would swallow it for other readers, nor behind a damaged one, in whose place it
//! would be accepted.
//!
//! *Does not* decide who may take over.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::reader::{Leftover, Step};
use super::{Play, Played};
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
pub use crate::fsm::Position;
use crate::ids::{Author, Offset};
use crate::journal::{Append, Appended, Interrupter, Journal, JournalError, ReadRange, ReadStep};
use crate::op::{OpBody, RecordedOp};
use crate::planted::{Bug, planted};
use crate::sync::{Backoff, Condvar, Mutex};
use crate::wire::{HEADER_BYTES, encode_op};

/// Lost races after which the old writer is stopped by its register before the next attempt.
const MISSES_MAX: u32 = 3;

/// Bytes of the log after which [`Follower::advance`] returns, although more is committed.
const ADVANCE_BYTES: u64 = 1 << 20;

/// How often a journal is looked at that cannot be followed.
pub const POLL_EVERY: Duration = Duration::from_secs(1);

/// A player that stands at the head of its log and follows it.
#[derive(Debug)]
pub struct Follower {
    play: Play,
    journal: Arc<dyn Journal>,
    interrupter: Interrupter,
}

/// Why [`Follower::tail`] or [`Follower::advance`] returned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Tail {
    /// The deadline passed; everything committed by then was applied. Of a journal that cannot be followed
    /// ([`Capabilities::follow`]) that is everything which was there when it was looked at last, at most
    /// [`POLL_EVERY`] before.
    ///
    /// [`Capabilities::follow`]: crate::journal::Capabilities::follow
    AtHead,
    /// Something was applied.
    Advanced,
    /// The standby's interrupter was called.
    Interrupted,
}

impl Follower {
    /// Begins to follow the log of a play that came to the head.
    pub(super) fn begin(mut play: Play, journal: Arc<dyn Journal>) -> Result<Self> {
        let following = play.reader.follow(Arc::clone(&journal));
        match following {
            Ok(interrupter) if journal.capabilities().follow => Ok(Self { play, journal, interrupter }),
            Ok(interrupter) => {
                let pause = Arc::new(Pause::default());
                play.pause = Some(Arc::clone(&pause));
                let interrupter = Interrupter::new(move || {
                    interrupter.interrupt();
                    pause.end();
                });
                Ok(Self { play, journal, interrupter })
            }
            Err(error) => {
                play.abandon();
                Err(error)
            }
        }
    }

    /// Applies what is appended to the log, until `deadline` passes or the interrupter is called. A journal
    /// that cannot be followed is looked at again every [`POLL_EVERY`].
    ///
    /// # Errors
    /// As those of a restore; the standby is of no use afterwards, and the same error comes again.
    pub fn tail(&mut self, deadline: Deadline) -> Result<Tail> {
        self.latched(|play| play.tail(deadline))
    }

    /// As [`Follower::tail`], and returns as soon as something was applied, at the head or after about 1 MiB.
    ///
    /// # Errors
    /// As those of [`Follower::tail`].
    pub fn advance(&mut self, deadline: Deadline) -> Result<Tail> {
        self.latched(|play| {
            let tail = play.advance(play.reader.at(), deadline)?;
            play.save_if_due().map(|()| tail)
        })
    }

    /// Calls `follow`, unless it failed before.
    fn latched(&mut self, follow: impl FnOnce(&mut Play) -> Result<Tail>) -> Result<Tail> {
        if let Some(error) = &self.play.failed {
            return Err(error.clone());
        }
        let followed = follow(&mut self.play);
        if let Err(error) = &followed {
            self.play.failed = Some(error.clone());
        }
        followed
    }

    /// Returns how far the log was applied.
    pub fn position(&self) -> Position {
        self.play.position()
    }

    /// Returns a handle that makes a waiting [`Follower::tail`] return from another thread.
    pub fn interrupter(&self) -> Interrupter {
        self.interrupter.clone()
    }

    /// Returns the journal that is followed.
    pub(crate) fn journal(&self) -> Arc<dyn Journal> {
        Arc::clone(&self.journal)
    }

    /// Takes the log over for `author`, and completes the directory.
    ///
    /// # Errors
    /// `Fenced` where another writer took over meanwhile; `Diverged` where the log ends within an operation: play
    /// it onto a new log (a fork); `Unavailable` once `deadline` has passed. What was built is removed.
    pub fn promote(self, author: Author, deadline: Deadline) -> Result<Played> {
        let Self { mut play, journal, .. } = self;
        let promoted = match play.failed.clone() {
            Some(error) => Err(error),
            None => Handoff { play: &mut play, journal: &*journal, author, deadline }.run(),
        };
        match promoted.and_then(|()| play.complete(false)) {
            Ok(played) => Ok(played),
            Err(error) => {
                play.abandon();
                Err(error)
            }
        }
    }

    /// Completes the directory as of the head, without taking the log over.
    ///
    /// # Errors
    /// As those of a restore; what was built is removed.
    pub fn finish(self) -> Result<Played> {
        let Self { mut play, .. } = self;
        let finished = match play.failed.clone() {
            Some(error) => Err(error),
            None => play.tail(Deadline::passed()).and_then(|_| play.complete(true)),
        };
        match finished {
            Ok(played) => Ok(played),
            Err(error) => {
                play.abandon();
                Err(error)
            }
        }
    }

    /// Removes what was built; with [`PlayOptions::resume`] leaves it as it is, to be gone on from.
    ///
    /// [`PlayOptions::resume`]: super::PlayOptions::resume
    pub fn abandon(self) {
        self.play.abandon();
    }

    /// Leaves the directory at the point that was reached, with its state, to be gone on from; without
    /// [`PlayOptions::resume`], removes it.
    ///
    /// # Errors
    /// What ended it before; `Io` where the state could not be kept. What was kept before counts then.
    ///
    /// [`PlayOptions::resume`]: super::PlayOptions::resume
    pub fn rest(self) -> Result<()> {
        let Self { mut play, .. } = self;
        let rested = match play.failed.clone() {
            Some(error) => Err(error),
            None => play.save(),
        };
        play.abandon();
        rested
    }
}

/// The wait between two looks at a journal that cannot be followed.
#[derive(Debug, Default)]
pub(super) struct Pause {
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Pause {
    /// Ends the present wait, or the next one.
    fn end(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits until it is time to look again; false once `deadline` has passed.
    fn wait(&self, deadline: Deadline) -> bool {
        let look = deadline.or_after(POLL_EVERY);
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        while !*ended && !look.has_passed() {
            let waited = self.changed.wait_timeout(ended, look.remaining());
            ended = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::take(&mut *ended) || !deadline.has_passed()
    }
}

struct Handoff<'a> {
    play: &'a mut Play,
    journal: &'a dyn Journal,
    author: Author,
    deadline: Deadline,
}

impl Handoff<'_> {
    fn run(&mut self) -> Result<()> {
        self.play.reader.limit(self.deadline);
        let mut misses = 0;
        loop {
            let head = self.read_to_head()?;
            // Our own no-op would be accepted in the place of what is damaged, and hide it for good.
            if let Some(damage) = self.play.judge.unresolved_damage() {
                return Err(damage);
            }
            self.play.unconnected = self.play.unconnected_now();
            if planted(Bug::NoInjection) {
                return Ok(());
            }
            let no_op = self.no_op()?;
            if misses == MISSES_MAX {
                // It may come too late for its place in the history. Its union stops the old writer, whose
                // next append fails its check, and then the head stands still. Should the register be lost
                // meanwhile, it is set again after as many races.
                misses = 0;
                self.append(&Append::new(no_op).union_author(self.author))?;
                continue;
            }
            let mut append = Append::new(no_op).union_author(self.author);
            append.at = Some(head).filter(|&head| self.journal.capabilities().at_zero || head > Offset::ZERO);
            match self.append(&append)? {
                Some(appended) if appended.begin == head => return self.read_back(appended.end),
                // Where this offset cannot be named, other bytes may have come before the no-op.
                _ => misses += 1,
            }
            self.check_deadline("each time another append came before the hand-off")?;
        }
    }

    /// Applies everything that is committed, and returns the head.
    fn read_to_head(&mut self) -> Result<Offset> {
        loop {
            let head = self.journal.head(self.deadline)?.offset;
            self.play.tail(Deadline::passed())?;
            let leftover = self.play.reader.leftover();
            if let Leftover::Torn { begin, present, promised } = leftover
                && begin.saturating_add(present) >= head
            {
                self.play.check_tail()?;
                return Err(self.torn(begin, present, promised));
            }
            // Whatever is behind the last operation, a newline included, is no part of one that is to come.
            let reached = self.play.reader.fetched();
            if reached >= head {
                return Ok(reached);
            }
            self.check_deadline("the head of the log was not reached in time")?;
            // What lies before the head is on its way: nothing behind it is waited for.
            self.play.tail_to(head, self.deadline.or_after(Duration::from_millis(100)))?;
        }
    }

    /// Encodes the no-op that continues the accepted history.
    fn no_op(&self) -> Result<Bytes> {
        let op = RecordedOp {
            seq_no: self.play.fsm.next_seq_no(),
            checksum: self.play.fsm.next_checksum(),
            author: Some(self.author),
            body: OpBody::NoOp,
            payload: None,
            mark: None,
        };
        let mut frame = Vec::new();
        encode_op(&op, &mut frame)
            .map_err(|e| Error::new(ErrorKind::Invalid, "a no-op cannot be encoded").with_source(e))?;
        Ok(frame.into())
    }

    /// Appends, and finds out what happened where the journal does not know; `None` where the offset was taken.
    fn append(&mut self, append: &Append) -> Result<Option<Appended>> {
        let mut backoff = Backoff::new();
        loop {
            // An answer that does not come is asked for where the append would be.
            let patience = self.deadline.or_after(self.play.options.step_deadline);
            match self.journal.append(append.clone(), patience) {
                Ok(appended) => return Ok(Some(appended)),
                Err(JournalError::WrongOffset { .. }) => return Ok(None),
                Err(
                    JournalError::Unknown { .. } | JournalError::Abandoned | JournalError::Unavailable { .. },
                ) => {}
                Err(error) => return Err(error.into()),
            }
            self.check_deadline("it is not known whether the hand-off was appended")?;
            let Some(at) = append.at else { return Ok(None) };
            if let Some(found) = self.found_at(at, append.content_bytes())? {
                if append.content.iter().flatten().copied().eq(found.iter().copied()) {
                    let end = at.saturating_add(append.content_bytes());
                    let registers = self.journal.head(self.deadline)?.registers;
                    return Ok(Some(Appended::new(at, end, registers)));
                }
                return Ok(None);
            }
            backoff.pause(self.deadline.remaining());
        }
    }

    /// Reads what lies at `at`; `None` where nothing does.
    fn found_at(&self, at: Offset, len: u64) -> Result<Option<Vec<u8>>> {
        let head = self.journal.head(self.deadline)?.offset;
        if head <= at {
            return Ok(None);
        }
        let end = at.saturating_add(len).min(head);
        let mut reader = self.journal.read(ReadRange::bounded(at, end))?;
        let mut found = Vec::new();
        loop {
            match reader.next(self.deadline)? {
                ReadStep::Chunk(chunk) => {
                    let begin = found.len();
                    found.resize(begin + chunk.len() as usize, 0);
                    let rest = found.get_mut(begin..).unwrap_or_default();
                    chunk.read_exact_at(rest, 0).map_err(|e| {
                        Error::io("reading a local fragment failed", e).in_log(self.journal.name()).at(at)
                    })?;
                }
                ReadStep::End => return Ok(Some(found)),
                ReadStep::Jump { from, to } => {
                    return Err(super::plan::hole(self.journal.name(), from, to));
                }
                ReadStep::AtHead { .. } | ReadStep::Interrupted => {
                    self.check_deadline("the hand-off could not be read back in time")?;
                }
            }
        }
    }

    /// Reads up to `end`, where our no-op ends, and checks that it is the last operation of the history.
    fn read_back(&mut self, end: Offset) -> Result<()> {
        while self.play.reader.at() < end {
            self.check_deadline("the hand-off could not be read back in time")?;
            self.play.tail_to(end, self.deadline.or_after(Duration::from_secs(1)))?;
        }
        let last = self.play.fsm.last_author();
        if last == Some(self.author) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Fenced, "another writer took the log over during the hand-off")
            .in_log(self.journal.name())
            .at(self.play.reader.at())
            .expected(
                format_args!("author {}", self.author),
                last.map_or_else(|| "none".to_owned(), |author| format!("author {author}")),
            ))
    }

    fn torn(&self, begin: Offset, present: u64, promised: Option<u64>) -> Error {
        let (part, bytes) = promised.map_or(("frame header", HEADER_BYTES as u64), |all| ("operation", all));
        Error::new(ErrorKind::Diverged, "the log ends within an operation, which would swallow the hand-off")
            .in_log(self.journal.name())
            .at(begin)
            .expected(format_args!("a whole {part} of {bytes} bytes"), format_args!("the first {present}"))
            .advise("fork: promote onto a new log")
    }

    fn check_deadline(&self, what: &'static str) -> Result<()> {
        if !self.deadline.has_passed() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, what).in_log(self.journal.name()).at(self.play.reader.at()))
    }
}

impl Play {
    /// Returns how far the log was applied.
    pub(super) fn position(&self) -> Position {
        Position {
            offset: self.reader.at(),
            next_seq_no: self.fsm.next_seq_no(),
            next_checksum: self.fsm.next_checksum(),
        }
    }

    /// Applies what is committed, until `deadline` passes without more.
    pub(super) fn tail(&mut self, deadline: Deadline) -> Result<Tail> {
        self.tail_to(Offset::MAX, deadline)
    }

    /// As [`Play::tail`], and returns once something past `from` was applied: all that is committed, or enough.
    fn advance(&mut self, from: Offset, deadline: Deadline) -> Result<Tail> {
        let waited = self.tail_to(from.saturating_add(1), deadline)?;
        if self.reader.at() == from || waited == Tail::Interrupted {
            return Ok(waited);
        }
        match self.tail_to(from.saturating_add(ADVANCE_BYTES), Deadline::passed())? {
            Tail::Interrupted => Ok(Tail::Interrupted),
            Tail::AtHead | Tail::Advanced => Ok(Tail::Advanced),
        }
    }

    /// As [`Play::tail`], and returns once everything before `end` was applied.
    fn tail_to(&mut self, end: Offset, deadline: Deadline) -> Result<Tail> {
        while self.reader.at() < end {
            match self.reader.next(deadline)? {
                Step::AtHead | Step::RangeEnd => {
                    self.writers.drain()?;
                    if !self.pause.as_ref().is_some_and(|pause| pause.wait(deadline)) {
                        return Ok(Tail::AtHead);
                    }
                }
                Step::Interrupted => return Ok(Tail::Interrupted),
                step => self.step(step)?,
            }
        }
        Ok(Tail::AtHead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_with_its_deadline_and_goes_on_once_for_each_end() {
        let pause = Pause::default();
        assert!(!pause.wait(Deadline::passed()));
        pause.end();
        pause.end();
        assert!(pause.wait(Deadline::passed()), "it was ended before it began");
        assert!(!pause.wait(Deadline::passed()));
    }
}
