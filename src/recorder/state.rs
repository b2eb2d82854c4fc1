//! What a recorder knows, under its one lock: the history as sequenced, and how much of it is committed.
//!
//! *Invariants.* The state machine runs ahead of the log: it has seen every operation of the committed prefix,
//! of the batch in flight and of the batch that is filling, in this order, and nothing else. Its offsets are
//! those of a log in which the batches follow the committed prefix directly; where an append finds other bytes
//! there, everything that is not committed moves. The first failure stays.
//!
//! *Does not* call a journal or a waiter: it says what has to be called once the lock is gone.

use bytes::Bytes;

use super::batch::{Batch, InFlight, Waiter, reclaim};
use super::position::Position;
use super::{RecorderCounters, Settings};
use crate::error::{Error, ErrorKind, Result};
use crate::fsm::{Fsm, Span, Transition};
use crate::ids::{Fnode, JournalName, LogPath, Offset};
use crate::journal::{Append, Appended, JournalError, RegisterSet};
use crate::op::{Mark, OpBody, Payload, RecordedOp};
use crate::wire::encode_op;

/// Buffers kept for the next batches.
const SPARE_BUFFERS_MAX: usize = 2;
/// The reserved file that anchors the hints of an empty tree; a player hides its folder.
pub(super) const ANCHOR_PATH: &[u8] = b"/.recoverylog/anchor";

#[derive(Debug)]
pub(super) struct State {
    pub(super) fsm: Fsm,
    /// The durable prefix.
    pub(super) committed: Position,
    pub(super) pending: Batch,
    pub(super) in_flight: Option<InFlight>,
    /// What the journal said of the batch in flight, until somebody looks at it.
    pub(super) reply: Option<Result<Appended, JournalError>>,
    /// A thread looks at replies and sends batches; another one that finds work leaves it to that one.
    pub(super) driving: bool,
    /// A barrier waits for the batch that is filling.
    flush: bool,
    /// The next append sets the author register.
    claim: bool,
    /// The next append is the first in another log: its registers are not ours yet.
    fork: bool,
    pub(super) failed: Option<Error>,
    spare: Vec<Vec<u8>>,
    last_mark_nanos: i64,
    pub(super) counters: RecorderCounters,
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
    pub(super) fn new(fsm: Fsm, head: Offset, fork: bool) -> Self {
        let committed =
            Position { offset: head, next_seq_no: fsm.next_seq_no(), next_checksum: fsm.next_checksum() };
        Self {
            pending: Batch::new(Vec::new(), committed.next_seq_no, committed.next_checksum),
            fsm,
            committed,
            in_flight: None,
            reply: None,
            driving: false,
            flush: false,
            claim: true,
            fork,
            failed: None,
            spare: Vec::new(),
            last_mark_nanos: i64::MIN,
            counters: RecorderCounters::default(),
        }
    }

    /// Returns the failure, if there was one.
    pub(super) fn check(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Returns where the batch that is filling begins, if no other bytes come in between.
    fn pending_begin(&self) -> Offset {
        self.in_flight.as_ref().map_or(self.committed.offset, |batch| batch.end().offset)
    }

    /// Sequences one operation. `data` follows the frame of a write.
    fn push(
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
        self.flush = false;
        let (next_seq_no, next_checksum) = (self.fsm.next_seq_no(), self.fsm.next_checksum());
        let buffer = self.spare.pop().unwrap_or_default();
        let full = std::mem::replace(&mut self.pending, Batch::new(buffer, next_seq_no, next_checksum));
        let batch = self.in_flight.insert(full.seal(self.committed.offset, next_seq_no, next_checksum));
        let content = batch.content.clone();
        self.counters.appends += 1;
        Some(self.append_of(settings, self.committed.offset, content))
    }

    pub(super) fn is_due(&self, settings: &Settings) -> bool {
        self.in_flight.is_none()
            && self.failed.is_none()
            && !self.pending.is_empty()
            && (self.flush || self.pending.content.len() >= settings.send_bytes_min)
    }

    /// Makes an append of `content` that must begin at `at`.
    pub(super) fn append_of(&self, settings: &Settings, at: Offset, content: Bytes) -> Append {
        let mut append = Append::new(content);
        if settings.can_name(at) {
            append = append.at(at);
        }
        if !self.fork {
            append.check = Some(settings.check.clone());
        }
        if self.claim || self.fork {
            append.union = settings.union.clone();
        }
        append
    }

    /// Looks at what the journal said.
    pub(super) fn settle(&mut self, log: &JournalName, reply: Result<Appended, JournalError>) -> Settled {
        let Some(batch) = &self.in_flight else { return Settled::default() };
        match reply {
            Ok(appended) if appended.begin == batch.at && appended.end == batch.end().offset => {
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
            for waiter in batch.waiters.iter_mut().chain(&mut self.pending.waiters) {
                waiter.shift(log, batch.at, moved);
            }
            batch.at = begin;
        }
        self.committed = batch.end();
        self.fork = false;
        self.claim = registers.is_empty();
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
        let error = self.failed.get_or_insert(error).clone();
        let mut waiters = std::mem::take(&mut self.pending.waiters);
        let mut credit = std::mem::take(&mut self.pending.credit);
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

/// Operations that are committed by one append, recorded under the recorder's lock.
#[derive(Debug)]
pub(crate) struct Transaction<'a> {
    pub(super) state: &'a mut State,
    pub(super) settings: &'a Settings,
}

impl Transaction<'_> {
    /// Returns the history as it stands after everything that was recorded.
    pub(crate) const fn fsm(&self) -> &Fsm {
        &self.state.fsm
    }

    /// Creates a file at `path`, and unlinks what was there.
    pub(crate) fn create(&mut self, path: &LogPath) -> Result<Fnode> {
        self.refuse_property(path, "create")?;
        self.unlink_if_linked(path)?;
        match self.push(OpBody::Create { path: path.clone() })? {
            Transition::Created(fnode) => Ok(fnode),
            other => Err(self.broken(&format!("a create became {other:?}"))),
        }
    }

    /// Links `fnode` at `path`, and unlinks what was there.
    pub(crate) fn link(&mut self, fnode: Fnode, path: &LogPath) -> Result<()> {
        self.refuse_property(path, "link")?;
        self.is_live(fnode)?;
        self.unlink_if_linked(path)?;
        self.push(OpBody::Link { fnode, path: path.clone() }).map(drop)
    }

    /// Unlinks `path`; returns the file that was there, and whether this was its last link.
    pub(crate) fn unlink(&mut self, path: &LogPath) -> Result<(Fnode, bool)> {
        self.refuse_property(path, "unlink")?;
        let fnode = self.linked(path)?;
        match self.push(OpBody::Unlink { fnode, path: path.clone() })? {
            Transition::Unlinked { last } => Ok((fnode, last)),
            other => Err(self.broken(&format!("an unlink became {other:?}"))),
        }
    }

    /// Moves the link at `from` to `to`, and unlinks what was there. Nothing changes where both are links of
    /// one file.
    pub(crate) fn rename(&mut self, from: &LogPath, to: &LogPath) -> Result<()> {
        self.refuse_property(to, "rename without content over")?;
        let fnode = self.linked(from)?;
        if self.state.fsm.link(to) == Some(fnode) {
            return Ok(());
        }
        self.unlink_if_linked(to)?;
        self.push(OpBody::Link { fnode, path: to.clone() })?;
        self.push(OpBody::Unlink { fnode, path: from.clone() }).map(drop)
    }

    /// Replaces the property `to` by `content`, the file that is linked at `from`, if it is a recorded one.
    pub(crate) fn rename_to_property(&mut self, from: &LogPath, to: &LogPath, content: Bytes) -> Result<()> {
        self.unlink_if_linked(to)?;
        self.push(OpBody::Property { path: to.clone(), content })?;
        self.unlink_if_linked(from)
    }

    /// Writes `bytes`, whose CRC-32C is `crc32c`, to `fnode`.
    pub(crate) fn write(
        &mut self,
        fnode: Fnode,
        offset: u64,
        bytes: &[u8],
        crc32c: Option<u32>,
    ) -> Result<()> {
        self.is_live(fnode)?;
        let payload = Payload { len: bytes.len() as u64, crc32c };
        let body = OpBody::Write { fnode, offset };
        self.state.push(self.settings, body, bytes, Some(payload), None).map(drop)
    }

    /// Appends a no-op; it carries the time where extensions are on.
    pub(crate) fn no_op(&mut self, name: Option<Bytes>) -> Result<()> {
        let mark = self.settings.extensions.then(|| Mark { unix_nanos: self.mark_nanos(), name });
        self.state.push(self.settings, OpBody::NoOp, &[], None, mark).map(drop)
    }

    /// Returns the present time, and never less than before.
    pub(super) fn mark_nanos(&mut self) -> i64 {
        let now = self.settings.clock.unix_nanos().max(self.state.last_mark_nanos);
        self.state.last_mark_nanos = now;
        now
    }

    /// Tells whether `path` is a property, or becomes one when a file is renamed to it.
    pub(crate) fn is_property(&self, path: &LogPath) -> bool {
        self.state.fsm.property(path).is_some() || self.settings.property_paths.contains(path)
    }

    fn push(&mut self, body: OpBody) -> Result<Transition> {
        self.state.push(self.settings, body, &[], None, None)
    }

    fn unlink_if_linked(&mut self, path: &LogPath) -> Result<()> {
        match self.state.fsm.link(path) {
            Some(fnode) => self.push(OpBody::Unlink { fnode, path: path.clone() }).map(drop),
            None => Ok(()),
        }
    }

    fn linked(&self, path: &LogPath) -> Result<Fnode> {
        self.state.fsm.link(path).ok_or_else(|| {
            self.invalid(format!("no recorded file is linked at {path}"))
                .advise("record its creation first, or leave it out")
        })
    }

    fn is_live(&self, fnode: Fnode) -> Result<()> {
        if self.state.fsm.node(fnode).is_some() {
            return Ok(());
        }
        Err(self.invalid(format!("file {fnode} has no recorded link")))
    }

    fn refuse_property(&self, path: &LogPath, verb: &str) -> Result<()> {
        if !self.is_property(path) {
            return Ok(());
        }
        Err(self
            .invalid(format!("cannot {verb} the property {path}"))
            .advise("a property is only replaced whole: write another file, and rename it over this one"))
    }

    fn invalid(&self, what: String) -> Error {
        Error::new(ErrorKind::Invalid, what).in_log(&self.settings.log)
    }

    fn broken(&self, what: &str) -> Error {
        Error::new(ErrorKind::Diverged, what.to_owned()).in_log(&self.settings.log)
    }
}
