//! The operations of a log, taken one by one out of fetched bytes.
//!
//! *Invariants.* What is an operation depends on the bytes alone, never on how they came or where the head was,
//! so that all players of a log agree. An operation is handed out only once its whole payload is committed.
//! Memory is bounded by one frame and the blocks that were fetched.
//!
//! *Does not* judge whether an operation belongs to the history.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{JournalName, Offset};
use crate::journal::{Interrupter, Journal, JournalReader, ReadRange, ReadStep};
use crate::op::RecordedOp;
use crate::player::plan::{Plan, PlanRange, hole};
use crate::player::prefetch::{Block, Pieces, Prefetch};
use crate::sync;
use crate::wire::{OpError, Step as FrameStep, decode_frame, decode_op};

/// The most bytes that are buffered while an operation's payload is not all committed.
const BUFFERED_BYTES_MAX: usize = 32 << 20;

/// What a reader found next.
#[derive(Debug)]
pub(super) enum Step {
    /// An operation. Its message is [`OpReader::message`] until [`OpReader::accept_frame`]; its payload follows.
    Op {
        op: RecordedOp,
        /// Where the frame begins.
        begin: Offset,
        /// Where the payload ends.
        end: Offset,
    },
    /// Bytes that are no frame; they were stepped over.
    Junk { begin: Offset, bytes: u64 },
    /// A frame that holds no operation; it was stepped over.
    Undecodable { begin: Offset, error: OpError },
    /// The end of a range of the plan; [`OpReader::next_range`] goes on.
    RangeEnd,
    /// The end of the plan, or of what is committed and came before the deadline.
    AtHead,
    /// The reader was interrupted.
    Interrupted,
}

/// What is left of a log behind its last operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Leftover {
    /// Nothing.
    Nothing,
    /// Bytes that can be no part of a frame: whatever is appended next will be found.
    Junk { begin: Offset, bytes: u64 },
    /// A frame or a payload that promises more than there is: it swallows what is appended next.
    Torn { begin: Offset, present: u64, promised: Option<u64> },
}

/// Where the bytes come from.
#[derive(Debug)]
enum Source {
    Plan(Prefetch),
    Follow { journal: Arc<dyn Journal>, reader: Box<dyn JournalReader>, pieces: Pieces },
}

enum Fetched {
    Bytes,
    RangeEnd,
    Nothing,
    Interrupted,
}

/// Takes operations out of fetched bytes.
#[derive(Debug)]
pub(super) struct OpReader {
    source: Source,
    ranges: Vec<PlanRange>,
    range: usize,
    log: JournalName,
    /// Offset of the first byte of `front`.
    at: Offset,
    front: Bytes,
    more: VecDeque<Bytes>,
    buffered_bytes: usize,
    /// A block of a later range.
    pending: Option<Block>,
    /// Bytes before this offset are known to be committed.
    committed: Offset,
    message: std::ops::Range<usize>,
    step: Duration,
    /// No wait of a hand-off lasts longer than the hand-off may.
    limit: Option<Deadline>,
}

impl OpReader {
    /// Reads the ranges of `plan`, which has at least one.
    pub(super) fn of_plan(plan: &Plan, source: Prefetch, step: Duration) -> Result<Self> {
        let first = plan.ranges.first();
        let first = first.ok_or_else(|| Error::new(ErrorKind::Invalid, "a plan without a range"))?.clone();
        Ok(Self {
            source: Source::Plan(source),
            ranges: plan.ranges.clone(),
            range: 0,
            log: first.log,
            at: first.begin,
            front: Bytes::new(),
            more: VecDeque::new(),
            buffered_bytes: 0,
            pending: None,
            committed: first.end,
            message: 0..0,
            step,
            limit: None,
        })
    }

    /// Goes on with whatever is appended to `journal` from the last operation on. What was left over behind it
    /// is read again.
    pub(super) fn follow(&mut self, journal: Arc<dyn Journal>) -> Result<Interrupter> {
        let reader = journal.read(ReadRange::follow(self.at))?;
        let interrupter = reader.interrupter();
        self.source = Source::Follow { journal, reader, pieces: Pieces::default() };
        self.forget_buffered();
        Ok(interrupter)
    }

    /// Ends every wait from here on at `deadline`, that for one step of the journal included.
    pub(super) fn limit(&mut self, deadline: Deadline) {
        self.limit = Some(deadline);
    }

    /// Returns when every wait ends, where [`OpReader::limit`] was called.
    pub(super) const fn limited_to(&self) -> Option<Deadline> {
        self.limit
    }

    /// Returns when to give up one step of the journal.
    fn step_deadline(&self) -> Deadline {
        let step = Deadline::after(self.step);
        self.limit.map_or(step, |limit| limit.min(step))
    }

    /// Returns the log that is being read.
    pub(super) const fn log(&self) -> &JournalName {
        &self.log
    }

    /// Returns where the next operation begins, if no junk precedes it.
    pub(super) const fn at(&self) -> Offset {
        self.at
    }

    /// Returns where the bytes end that were fetched.
    pub(super) fn fetched(&self) -> Offset {
        self.at.saturating_add(self.buffered_bytes as u64)
    }

    /// Returns the range that is being read.
    pub(super) fn current_range(&self) -> Option<&PlanRange> {
        self.ranges.get(self.range)
    }

    /// Returns the range that is read after this one.
    pub(super) fn following_range(&self) -> Option<&PlanRange> {
        self.ranges.get(self.range + 1)
    }

    /// Returns the message of the operation that was found last.
    pub(super) fn message(&self) -> &[u8] {
        self.front.get(self.message.clone()).unwrap_or_default()
    }

    /// Returns what comes next; `deadline` matters only while a log is followed.
    pub(super) fn next(&mut self, deadline: Deadline) -> Result<Step> {
        loop {
            let begin = self.at;
            match decode_frame(&self.front, false) {
                FrameStep::Frame { message } => {
                    let decoded = decode_op(self.front.get(message.clone()).unwrap_or_default());
                    let op = match decoded {
                        Ok(op) => op,
                        Err(error) => {
                            self.consume(message.end);
                            return Ok(Step::Undecodable { begin, error });
                        }
                    };
                    let frame_end = begin.saturating_add(message.end as u64);
                    let end = frame_end.saturating_add(op.payload_len());
                    if end > self.committed && !self.is_committed(end)? {
                        match self.await_commit(deadline)? {
                            Fetched::Bytes => continue,
                            other => return Ok(Self::ended(&other)),
                        }
                    }
                    self.message = message;
                    return Ok(Step::Op { op, begin, end });
                }
                FrameStep::Desync { skip, .. } => {
                    self.consume(skip);
                    return Ok(Step::Junk { begin, bytes: skip as u64 });
                }
                FrameStep::NeedMore { bytes } => match self.grow(bytes, deadline)? {
                    Fetched::Bytes => {}
                    other => return Ok(Self::ended(&other)),
                },
                FrameStep::Torn { .. } | FrameStep::End => return Ok(Step::AtHead),
            }
        }
    }

    /// Steps over the frame of the operation that was found last, to its payload.
    pub(super) fn accept_frame(&mut self) {
        self.consume(self.message.end);
        self.message = 0..0;
    }

    /// Takes the next `len` bytes, which are committed.
    pub(super) fn take(&mut self, len: u64) -> Result<Vec<Bytes>> {
        let mut pieces = Vec::with_capacity(1);
        let mut rest = len;
        while rest > 0 {
            self.need_byte()?;
            let n = usize::try_from(rest).unwrap_or(usize::MAX).min(self.front.len());
            pieces.push(self.front.slice(..n));
            self.consume(n);
            rest -= n as u64;
        }
        Ok(pieces)
    }

    /// Steps over the next `len` bytes, which are committed.
    pub(super) fn skip(&mut self, len: u64) -> Result<()> {
        let target = self.at.saturating_add(len);
        self.skip_to(target)
    }

    /// Steps over everything before `target`, which lies in the range that is being read.
    pub(super) fn skip_to(&mut self, target: Offset) -> Result<()> {
        if target > self.fetched()
            && let Source::Plan(prefetch) = &mut self.source
        {
            prefetch.skip_to(self.range, target);
            self.forget_buffered();
            self.at = target;
            return Ok(());
        }
        while self.at < target {
            self.need_byte()?;
            let n = target.bytes_since(self.at).min(self.front.len() as u64);
            self.consume(n as usize);
        }
        Ok(())
    }

    /// Begins the next range of the plan; false after the last one.
    pub(super) fn next_range(&mut self) -> bool {
        self.forget_buffered();
        self.range += 1;
        let Some(range) = self.ranges.get(self.range) else { return false };
        self.log = range.log.clone();
        self.at = range.begin;
        self.committed = range.end;
        true
    }

    /// Tells what is left over behind the last operation, once [`Step::RangeEnd`] or [`Step::AtHead`] was found.
    pub(super) fn leftover(&mut self) -> Leftover {
        let begin = self.at;
        let present = (self.buffered_bytes as u64).max(self.committed.bytes_since(begin));
        match decode_frame(&self.front, true) {
            FrameStep::Frame { message } => {
                let payload = self.front.get(message.clone()).and_then(|m| decode_op(m).ok());
                let payload = payload.map_or(0, |op| op.payload_len());
                let promised = Some((message.end as u64).saturating_add(payload));
                Leftover::Torn { begin, present, promised }
            }
            FrameStep::Torn { promised, .. } => {
                Leftover::Torn { begin, present, promised: promised.map(|bytes| bytes as u64) }
            }
            FrameStep::Desync { .. } => Leftover::Junk { begin, bytes: present },
            FrameStep::End | FrameStep::NeedMore { .. } => Leftover::Nothing,
        }
    }

    fn ended(fetched: &Fetched) -> Step {
        match fetched {
            Fetched::RangeEnd => Step::RangeEnd,
            Fetched::Interrupted => Step::Interrupted,
            Fetched::Nothing | Fetched::Bytes => Step::AtHead,
        }
    }

    /// Tells whether the log is committed up to `end`: it is in memory, or the head lies past it.
    fn is_committed(&mut self, end: Offset) -> Result<bool> {
        let deadline = self.step_deadline();
        let Source::Follow { journal, .. } = &self.source else { return Ok(false) };
        if end > self.fetched() {
            self.committed = self.committed.max(journal.head(deadline)?.offset);
        } else {
            self.committed = self.committed.max(end);
        }
        Ok(end <= self.committed)
    }

    /// Waits for more of a log, of which an operation's payload is not all committed.
    fn await_commit(&mut self, deadline: Deadline) -> Result<Fetched> {
        match &self.source {
            // The range ends within the payload.
            Source::Plan(_) if self.range + 1 >= self.ranges.len() => Ok(Fetched::Nothing),
            Source::Plan(_) => Ok(Fetched::RangeEnd),
            Source::Follow { .. } if self.buffered_bytes < BUFFERED_BYTES_MAX => self.fetch(deadline),
            Source::Follow { .. } => {
                sync::pause(deadline.remaining().min(self.step));
                Ok(Fetched::Nothing)
            }
        }
    }

    /// Makes `front` hold at least `bytes` bytes, unless the source has no more.
    fn grow(&mut self, bytes: usize, deadline: Deadline) -> Result<Fetched> {
        while self.buffered_bytes < bytes {
            match self.fetch(deadline)? {
                Fetched::Bytes => {}
                other => return Ok(other),
            }
        }
        if self.front.len() < bytes {
            let mut joined = BytesMut::with_capacity(bytes);
            joined.extend_from_slice(&self.front);
            while joined.len() < bytes {
                let Some(mut next) = self.more.pop_front() else { break };
                let n = next.len().min(bytes - joined.len());
                joined.extend_from_slice(&next.split_to(n));
                if !next.is_empty() {
                    self.more.push_front(next);
                }
            }
            self.front = joined.freeze();
        }
        Ok(Fetched::Bytes)
    }

    /// Fetches until a byte is there that is known to be committed.
    fn need_byte(&mut self) -> Result<()> {
        while self.front.is_empty() {
            match self.fetch(self.step_deadline())? {
                Fetched::Bytes | Fetched::Interrupted => {}
                Fetched::RangeEnd | Fetched::Nothing => {
                    let what = "a committed payload did not come in time";
                    return Err(Error::new(ErrorKind::Unavailable, what).in_log(&self.log).at(self.at));
                }
            }
        }
        Ok(())
    }

    /// Fetches one more block.
    fn fetch(&mut self, deadline: Deadline) -> Result<Fetched> {
        match &mut self.source {
            Source::Plan(prefetch) => {
                let block = match self.pending.take() {
                    Some(block) => Some(block),
                    None => prefetch.next()?,
                };
                let Some(block) = block else {
                    let is_last = self.range + 1 >= self.ranges.len();
                    return Ok(if is_last { Fetched::Nothing } else { Fetched::RangeEnd });
                };
                if block.range > self.range {
                    self.pending = Some(block);
                    return Ok(Fetched::RangeEnd);
                }
                if block.range == self.range {
                    self.buffer(block.offset, block.bytes)?;
                }
                Ok(Fetched::Bytes)
            }
            Source::Follow { reader, pieces, .. } => loop {
                if let Some((offset, bytes)) = pieces.take(&self.log)? {
                    self.buffer(offset, bytes)?;
                    return Ok(Fetched::Bytes);
                }
                match reader.next(deadline)? {
                    ReadStep::Chunk(chunk) => pieces.put(chunk),
                    ReadStep::Jump { from, to } => return Err(hole(&self.log, from, to)),
                    ReadStep::AtHead { .. } | ReadStep::End => return Ok(Fetched::Nothing),
                    ReadStep::Interrupted => return Ok(Fetched::Interrupted),
                }
            },
        }
    }

    /// Adds bytes that were fetched, without those that were stepped over meanwhile.
    fn buffer(&mut self, offset: Offset, mut bytes: Bytes) -> Result<()> {
        let expected = self.fetched();
        if offset > expected {
            return Err(hole(&self.log, expected, offset));
        }
        let known = expected.bytes_since(offset).min(bytes.len() as u64);
        bytes.advance(known as usize);
        if bytes.is_empty() {
            return Ok(());
        }
        self.buffered_bytes += bytes.len();
        if self.front.is_empty() {
            self.front = bytes;
        } else {
            self.more.push_back(bytes);
        }
        Ok(())
    }

    fn consume(&mut self, bytes: usize) {
        self.front.advance(bytes.min(self.front.len()));
        self.at = self.at.saturating_add(bytes as u64);
        self.buffered_bytes -= bytes.min(self.buffered_bytes);
        if self.front.is_empty() {
            self.front = self.more.pop_front().unwrap_or_default();
        }
    }

    fn forget_buffered(&mut self) {
        self.front = Bytes::new();
        self.more.clear();
        self.buffered_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::ids::{Author, Checksum, Fnode, SeqNo};
    use crate::journal::{Append, Journals, MemoryJournal, MemoryJournals};
    use crate::op::{OpBody, Payload};
    use crate::wire::encode_op;

    fn offset(value: u64) -> Offset {
        Offset::new(value).unwrap()
    }

    /// Begins to read a log of these bytes.
    fn reader(content: &'static [u8]) -> OpReader {
        let log = JournalName::new("acme/orders").unwrap();
        let journal = MemoryJournals::new().open(&log).unwrap();
        let step = Duration::from_secs(5);
        journal.append(Append::new(content), Deadline::after(step)).unwrap();
        let range = PlanRange { log: log.clone(), begin: Offset::ZERO, end: offset(content.len() as u64) };
        let plan = Plan { ranges: vec![range], hinted_files: 0, hinted_segments: 0 };
        let prefetch = Prefetch::begin(&plan, BTreeMap::from([(log, journal)]), 1, step).unwrap();
        OpReader::of_plan(&plan, prefetch, step).unwrap()
    }

    #[test]
    fn blocks_that_overlap_join_and_a_gap_between_two_is_a_loss() {
        let mut reader = reader(b"0123456789");
        for (at, bytes) in [(0, &b"0123"[..]), (2, b"2345"), (1, b"12"), (6, b"6")] {
            reader.buffer(offset(at), Bytes::from_static(bytes)).unwrap();
        }
        assert_eq!(reader.fetched(), offset(7));
        let gap = reader.buffer(offset(8), Bytes::from_static(b"89")).unwrap_err();
        assert_eq!((gap.kind(), gap.offset()), (ErrorKind::DataLoss, Some(offset(7))));
        assert_eq!(reader.take(7).unwrap().concat(), b"0123456");
    }

    #[test]
    fn what_is_stepped_over_ends_exactly_where_it_was_to_end() {
        let content = b"0123456789";
        for fetched in [0, 4, 10] {
            for target in 0..10 {
                let mut reader = reader(content);
                reader.buffer(Offset::ZERO, Bytes::from_static(&content[..fetched])).unwrap();
                reader.skip_to(offset(target)).unwrap();
                assert_eq!(reader.at(), offset(target));
                let rest = reader.take(10 - target).unwrap().concat();
                assert_eq!(rest, content[target as usize..], "{fetched} fetched, {target} stepped over");
            }
        }
    }

    #[test]
    fn what_is_stepped_over_is_not_read() {
        let log = JournalName::new("acme/orders").unwrap();
        let journal = MemoryJournals::new().fragment_bytes(1).journal(&log);
        let step = Duration::from_secs(5);
        for _ in 0..4 {
            journal.append(Append::new("0123456789"), Deadline::after(step)).unwrap();
        }
        let range = PlanRange { log: log.clone(), begin: Offset::ZERO, end: offset(40) };
        let plan = Plan { ranges: vec![range], hinted_files: 0, hinted_segments: 0 };
        let journals = BTreeMap::from([(log, Arc::<MemoryJournal>::clone(&journal) as Arc<dyn Journal>)]);
        let prefetch = Prefetch::begin(&plan, journals, 1, step).unwrap();
        let mut reader = OpReader::of_plan(&plan, prefetch, step).unwrap();
        // Who read it would find a hole.
        assert!(journal.drop_fragment(offset(15)));
        assert_eq!(reader.take(5).unwrap().concat(), b"01234");
        reader.skip_to(offset(23)).unwrap();
        assert_eq!(reader.take(17).unwrap().concat(), b"34567890123456789");
    }

    #[test]
    fn of_a_payload_that_is_not_all_committed_no_more_is_held_than_so_much() {
        const MIB: usize = 1 << 20;
        let len = (BUFFERED_BYTES_MAX + 20 * MIB) as u64;
        let op = RecordedOp {
            seq_no: SeqNo::FIRST,
            checksum: Checksum::ZERO,
            author: Author::new(1),
            body: OpBody::Write { fnode: Fnode::new(SeqNo::FIRST), offset: 0 },
            payload: Some(Payload { len, crc32c: None }),
            mark: None,
        };
        let mut frame = Vec::new();
        encode_op(&op, &mut frame).unwrap();
        let log = JournalName::new("acme/orders").unwrap();
        let journal = MemoryJournals::new().chunk_bytes_max(MIB).journal(&log);
        let append = |bytes: Vec<u8>| drop(journal.append(Append::new(bytes), Deadline::passed()).unwrap());
        let mut reader = reader(b"x");
        (reader.at, reader.committed) = (Offset::ZERO, Offset::ZERO);
        reader.follow(Arc::<MemoryJournal>::clone(&journal)).unwrap();
        append(frame);
        append(vec![0; len as usize - 1]);
        for _ in 0..100 {
            assert!(matches!(reader.next(Deadline::passed()).unwrap(), Step::AtHead));
            assert!(reader.buffered_bytes <= BUFFERED_BYTES_MAX + MIB, "{}", reader.buffered_bytes);
        }
        append(vec![0]);
        assert!(matches!(reader.next(Deadline::passed()).unwrap(), Step::Op { .. }));
        reader.accept_frame();
        let taken = reader.take(len).unwrap();
        assert_eq!(taken.iter().map(Bytes::len).sum::<usize>() as u64, len);
    }
}
