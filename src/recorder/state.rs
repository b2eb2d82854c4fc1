//! What a recorder knows, under its one lock: the history as sequenced, and how much of it is committed.
//!
//! *Invariants.* The state machine runs ahead of the log: it has seen every operation of the committed prefix,
//! of the batch in flight, of those ahead and of the batch that is filling, in this order, and nothing else. Its
//! offsets are those of a log in which the batches follow the committed prefix directly; where an append finds other
//! bytes there, everything that is not committed moves. The first failure stays.
//!
//! *Does not* call a journal or a waiter: it says what has to be called once the lock is gone.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::batch::{Batch, InFlight, Waiter, reclaim};
use super::options::{RecorderCounters, Settings};
use super::position::Position;
use crate::error::{Error, ErrorKind, Result};
use crate::fsm::{Fsm, Span, Transition, change};
use crate::ids::{JournalName, Offset};
use crate::journal::{Append, Appended, JournalError, RegisterSet};
use crate::live::Change;
use crate::op::{Mark, OpBody, Payload, RecordedOp};
use crate::planted::{Bug, planted};
use crate::wire::encode_op;

/// Operations of which the live map is told at once: it takes far less than a millisecond, and 20 KB of memory, so that
/// they are still in a near cache.
const FED_MAX: usize = 1 << 8;
/// Buffers kept for the next batches.
const SPARE_BUFFERS_MAX: usize = 2;

#[derive(Debug)]
pub(super) struct State {
    pub(super) fsm: Fsm,
    /// The durable prefix.
    pub(super) committed: Position,
    /// Batches that are full because what follows has to be held back, in order.
    ahead: VecDeque<Batch>,
    /// The batch that is filling.
    pub(super) pending: Batch,
    /// What is held back, and by how many.
    holds: Holds,
    pub(super) in_flight: Option<InFlight>,
    /// What the journal said of the batch in flight, until somebody looks at it.
    pub(super) reply: Option<Result<Appended, JournalError>>,
    /// A thread looks at replies and sends batches; another one that finds work leaves it to that one.
    pub(super) driving: bool,
    /// A barrier waits for the batch that is filling.
    flush: bool,
    registers: Registers,
    pub(super) failed: Option<Error>,
    /// How often it was ended.
    pub(super) failures: u64,
    spare: Vec<Vec<u8>>,
    pub(super) last_mark_nanos: i64,
    /// Something was recorded since the last mark.
    pub(super) is_unmarked: bool,
    pub(super) counters: RecorderCounters,
    /// What the live map has not been told yet; `None` where there is none.
    feed: Option<VecDeque<Vec<Event>>>,
    /// How positions that were not committed have moved: all at or past the first, by the second.
    shifts: Vec<(Offset, u64)>,
}

/// What changes a live map.
#[derive(Debug)]
pub(super) enum Event {
    Op(Change),
    Shift { from: Offset, bytes: u64 },
}

/// Conditions under which batches may be sent, each a number; one more than all before it.
#[derive(Debug, Default)]
struct Holds {
    last: u64,
    unmet: BTreeSet<u64>,
}

impl Holds {
    /// Tells whether every condition is met that was there when the batch began.
    fn release(&self, batch: &Batch) -> bool {
        self.unmet.first().is_none_or(|first| *first > batch.after_hold)
    }
}

/// What the next append asks of the author register.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Registers {
    /// It is the first in another log: takes the register from whoever has it.
    Take,
    /// The register may be unset: demands that it is not another's, and sets it.
    Claim,
    /// Demands that it is ours.
    Hold,
}

/// What has to be done once the lock is gone.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Credit to give back.
    pub(super) credit: u64,
    /// Waiters to tell, and what.
    pub(super) waiters: Vec<Waiter>,
    pub(super) outcome: Option<Result<Position>>,
    /// The fate of the batch in flight has to be found out by reading.
    pub(super) resolve: bool,
}

impl Settled {
    /// Tells whether there is nothing to do.
    pub(super) const fn is_nothing(&self) -> bool {
        self.outcome.is_none() && !self.resolve
    }
}

impl State {
    pub(super) fn new(fsm: Fsm, head: Offset, fork: bool, feeds: bool) -> Self {
        let committed =
            Position { offset: head, next_seq_no: fsm.next_seq_no(), next_checksum: fsm.next_checksum() };
        Self {
            pending: Batch::new(Vec::new(), committed.next_seq_no, committed.next_checksum),
            last_mark_nanos: fsm.last_mark_nanos().unwrap_or(i64::MIN),
            is_unmarked: false,
            fsm,
            committed,
            ahead: VecDeque::new(),
            holds: Holds::default(),
            in_flight: None,
            reply: None,
            driving: false,
            flush: false,
            registers: if fork { Registers::Take } else { Registers::Claim },
            failed: None,
            failures: 0,
            spare: Vec::new(),
            counters: RecorderCounters::default(),
            feed: feeds.then(VecDeque::new),
            shifts: Vec::new(),
        }
    }

    /// Tells whether a part of what the live map has to be told is full.
    pub(super) fn is_fed(&self) -> bool {
        self.feed.as_ref().is_some_and(|feed| feed.len() > 1)
    }

    /// Takes up to `parts` parts of what the live map has to be told, in order.
    pub(super) fn take_feed(&mut self, parts: usize) -> Vec<Vec<Event>> {
        let Some(feed) = &mut self.feed else { return Vec::new() };
        feed.drain(..feed.len().min(parts)).collect()
    }

    /// Notes what the live map has to be told.
    fn feed(&mut self, event: Event) {
        let Some(feed) = &mut self.feed else { return };
        match feed.back_mut() {
            Some(part) if part.len() < FED_MAX => part.push(event),
            _ => {
                let mut part = Vec::with_capacity(FED_MAX);
                part.push(event);
                feed.push_back(part);
            }
        }
    }

    /// Returns how often positions have moved.
    pub(super) fn shifted(&self) -> usize {
        self.shifts.len()
    }

    /// Returns how positions have moved since they had moved `times` times.
    pub(super) fn shifts_since(&self, times: usize) -> &[(Offset, u64)] {
        self.shifts.get(times..).unwrap_or_default()
    }

    /// Returns the failure, if there was one.
    pub(super) fn check(&self) -> Result<()> {
        self.failed.clone().filter(|_| !planted(Bug::NotSticky)).map_or(Ok(()), Err)
    }

    /// Returns where the batch that is filling begins, if no other bytes come in between.
    fn pending_begin(&self) -> Offset {
        let sent = self.in_flight.as_ref().map_or(self.committed.offset, |batch| batch.end().offset);
        sent.saturating_add(self.ahead.iter().map(|batch| batch.content.len() as u64).sum())
    }

    /// Begins a condition under which alone whatever is recorded from here on may be sent.
    pub(super) fn begin_hold(&mut self) -> u64 {
        self.holds.last += 1;
        self.holds.unmet.insert(self.holds.last);
        if self.pending.is_empty() {
            self.pending.after_hold = self.holds.last;
        } else {
            // It goes out without being waited for.
            self.flush = false;
            let full = self.begin_batch();
            self.ahead.push_back(full);
        }
        self.holds.last
    }

    /// Notes that a condition is met.
    pub(super) fn end_hold(&mut self, hold: u64) {
        self.holds.unmet.remove(&hold);
    }

    /// Tells whether something is held back that nothing was recorded behind.
    pub(super) fn is_held_and_empty(&self) -> bool {
        self.pending.is_empty() && !self.holds.release(&self.pending)
    }

    /// Begins a new batch, and returns the one that was filling.
    fn begin_batch(&mut self) -> Batch {
        let buffer = self.spare.pop().unwrap_or_default();
        let mut next = Batch::new(buffer, self.fsm.next_seq_no(), self.fsm.next_checksum());
        next.after_hold = self.holds.last;
        std::mem::replace(&mut self.pending, next)
    }

    /// Sequences one operation. `data` follows the frame of a write.
    pub(super) fn push(
        &mut self,
        settings: &Settings,
        body: OpBody,
        data: &[u8],
        payload: Option<Payload>,
        mark: Option<Mark>,
    ) -> Result<Transition> {
        let begin_of_batch = self.pending_begin();
        let op = RecordedOp {
            seq_no: self.fsm.next_seq_no(),
            checksum: self.fsm.next_checksum(),
            author: Some(settings.author),
            body,
            payload,
            mark,
        };
        let content = &mut self.pending.content;
        let start = content.len();
        let refused =
            |what: String| Error::new(ErrorKind::Invalid, what).in_log(&settings.log).seq(op.seq_no);
        let cannot = |op: &RecordedOp| refused(format!("a {} cannot be recorded", op.kind_name()));
        let message = encode_op(&op, content).map_err(|error| cannot(&op).with_source(error))?;
        let end = begin_of_batch.checked_add((content.len() + data.len()) as u64);
        let span = Span { log: &settings.log, begin: begin_of_batch.saturating_add(start as u64), end };
        let applied = match end {
            Some(_) => {
                let message = content.get(message).unwrap_or_default();
                self.fsm.apply(&op, message, span).map_err(|rejection| cannot(&op).with_source(rejection))
            }
            None => Err(refused("the log has reached the largest offset".into()).advise("fork to a new log")),
        };
        match applied {
            Ok(transition) => {
                content.extend_from_slice(data);
                self.pending.ops += 1;
                self.is_unmarked = op.mark.is_none();
                if let (Some(_), Some(end)) = (&self.feed, end) {
                    let (begin, after) = (span.begin, self.fsm.next_checksum());
                    self.feed(Event::Op(change(&op, after, (begin, end), transition)));
                }
                Ok(transition)
            }
            Err(error) => {
                content.truncate(start);
                Err(error)
            }
        }
    }

    /// Takes the batch that is filling for an append, where it is due: nothing is in flight, and it is large
    /// enough, or waited for.
    pub(super) fn next_append(&mut self, settings: &Settings) -> Option<Append> {
        if !self.is_due(settings) {
            return None;
        }
        let full = if let Some(full) = self.ahead.pop_front() {
            full
        } else {
            self.flush = false;
            self.begin_batch()
        };
        let next = self.ahead.front().unwrap_or(&self.pending);
        let (next_seq_no, next_checksum) = (next.first_seq_no, next.first_checksum);
        let batch = self.in_flight.insert(full.seal(self.committed.offset, next_seq_no, next_checksum));
        let content = batch.content.clone();
        self.counters.appends += 1;
        Some(self.append_of(settings, self.committed.offset, content))
    }

    pub(super) fn is_due(&self, settings: &Settings) -> bool {
        if self.in_flight.is_some() || self.failed.is_some() {
            return false;
        }
        if let Some(first) = self.ahead.front() {
            return self.holds.release(first);
        }
        !self.pending.is_empty()
            && (self.flush || self.pending.content.len() >= settings.send_bytes_min)
            && self.holds.release(&self.pending)
    }

    /// Makes an append of `content` that must begin at `at`.
    pub(super) fn append_of(&self, settings: &Settings, at: Offset, content: Bytes) -> Append {
        let mut append = Append::new(content);
        if settings.can_name(at) && !planted(Bug::NoAt) {
            append = append.at(at);
        }
        if self.registers != Registers::Take {
            append.check = Some(settings.check.clone());
        }
        if self.registers != Registers::Hold {
            append.union = settings.union.clone();
        }
        append
    }

    /// Looks at what the journal said.
    pub(super) fn settle(&mut self, log: &JournalName, reply: Result<Appended, JournalError>) -> Settled {
        let Some(batch) = &self.in_flight else { return Settled::default() };
        match reply {
            Ok(appended)
                if planted(Bug::NoAt)
                    || (appended.begin == batch.at && appended.end == batch.end().offset) =>
            {
                self.commit(log, batch.at, &appended.registers)
            }
            // A journal that cannot name this offset may have put other bytes before ours.
            Ok(_) => Settled { resolve: true, ..Settled::default() },
            Err(error) => match fate(&error) {
                Fate::NotCommitted | Fate::Unknown => Settled { resolve: true, ..Settled::default() },
                Fate::Terminal => self.fail(error.into()),
            },
        }
    }

    /// Notes that the batch in flight is committed at `begin`.
    pub(super) fn commit(&mut self, log: &JournalName, begin: Offset, registers: &RegisterSet) -> Settled {
        let Some(mut batch) = self.in_flight.take() else { return Settled::default() };
        let moved = begin.bytes_since(batch.at);
        if moved > 0 {
            self.fsm.shift_offsets(log, batch.at, moved);
            self.shifts.push((batch.at, moved));
            self.feed(Event::Shift { from: batch.at, bytes: moved });
            batch.at = begin;
        }
        self.committed = batch.end();
        self.registers = if registers.is_empty() { Registers::Claim } else { Registers::Hold };
        self.counters.ops_durable += batch.ops;
        self.counters.bytes_durable += batch.content.len() as u64;
        if self.spare.len() < SPARE_BUFFERS_MAX {
            self.spare.extend(reclaim(batch.content));
        }
        let (credit, waiters) = (batch.credit, batch.waiters);
        Settled { credit, waiters, outcome: Some(Ok(self.committed)), resolve: false }
    }

    /// Fails for good; a second failure changes nothing.
    pub(super) fn fail(&mut self, error: Error) -> Settled {
        self.failures += 1;
        let error = self.failed.get_or_insert(error).clone();
        let mut waiters = std::mem::take(&mut self.pending.waiters);
        let mut credit = std::mem::take(&mut self.pending.credit);
        for batch in self.ahead.drain(..) {
            waiters.extend(batch.waiters);
            credit += batch.credit;
        }
        // What the journal still says of the batch in flight changes nothing any more.
        if let Some(batch) = self.in_flight.take() {
            waiters.extend(batch.waiters);
            credit += batch.credit;
        }
        self.pending.content = Vec::new();
        self.pending.ops = 0;
        self.spare = Vec::new();
        Settled { credit, waiters, outcome: Some(Err(error)), resolve: false }
    }

    /// Adds a waiter for everything that is recorded; gives it back where all of that is durable.
    pub(super) fn wait_for_all(&mut self, waiter: Waiter) -> Option<Waiter> {
        if !self.pending.is_empty() {
            self.flush = true;
            self.pending.waiters.push(waiter);
        } else if let Some(batch) = self.ahead.back_mut() {
            batch.waiters.push(waiter);
        } else if let Some(batch) = &mut self.in_flight {
            batch.waiters.push(waiter);
        } else {
            return Some(waiter);
        }
        None
    }
}

/// What an error of the journal says of the append.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    /// It was not committed, and this append will not be.
    NotCommitted,
    /// It may have been, or may still be.
    Unknown,
    /// It does not matter: this recorder is at its end.
    Terminal,
}

pub(super) const fn fate(error: &JournalError) -> Fate {
    match error {
        JournalError::WrongOffset { .. } | JournalError::Unavailable { .. } => Fate::NotCommitted,
        JournalError::Unknown { .. } | JournalError::Abandoned => Fate::Unknown,
        _ => Fate::Terminal,
    }
}
