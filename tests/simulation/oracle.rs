//! What is true: the history that the committed bytes hold, and what was promised of it.
//!
//! The history is read here by its definition, sequence number and checksum, without the library's state machine.

use std::collections::{BTreeMap, BTreeSet};

use recoverylog::journal::{Chunk, Journal, MemoryJournal, ReadRange, ReadStep};
use recoverylog::player::Position;
use recoverylog::wire::{Step, decode_frame, decode_op};
use recoverylog::{Checksum, Deadline, FsmHints, Offset, OpBody, Segment, SeqNo};

use super::tree::Tree;

/// A point of a history: the sequence number and the checksum that the next operation carries.
pub(crate) type Point = (SeqNo, Checksum);

/// An operation of the history.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Accepted {
    pub(crate) seq_no: SeqNo,
    pub(crate) before: Checksum,
    pub(crate) after: Checksum,
    pub(crate) author: u32,
    pub(crate) begin: Offset,
    pub(crate) end: Offset,
    pub(crate) is_no_op: bool,
}

impl Accepted {
    fn leads_to(&self) -> Point {
        (self.seq_no.next(), self.after)
    }
}

/// Reads `[begin, head)` of a journal.
pub(crate) fn content(journal: &MemoryJournal, begin: Offset) -> Vec<u8> {
    let head = journal.head(Deadline::passed()).unwrap().offset;
    let mut reader = journal.read(ReadRange::bounded(begin.min(head), head)).unwrap();
    let mut content = Vec::new();
    while let ReadStep::Chunk(Chunk::Bytes { bytes, .. }) = reader.next(Deadline::passed()).unwrap() {
        content.extend_from_slice(&bytes);
    }
    content
}

/// The history, as far as the log was read.
#[derive(Debug, Default)]
pub(crate) struct History {
    ops: Vec<Accepted>,
    at: u64,
    /// Sequence numbers of operations that the log holds again later.
    twins: BTreeSet<SeqNo>,
    /// Authors whom another one followed.
    retired: BTreeSet<u32>,
    /// The latest mark.
    mark: i64,
}

impl History {
    pub(crate) fn ops(&self) -> &[Accepted] {
        &self.ops
    }

    pub(crate) fn head(&self) -> Point {
        self.ops.last().map_or((SeqNo::FIRST, Checksum::ZERO), Accepted::leads_to)
    }

    /// Tells whether other operations vouch for the byte at `at`. For those of the last operation nothing does that
    /// is in the log, and where the log holds an operation twice, damage makes a rival of the first one.
    pub(crate) fn vouches_for(&self, at: u64) -> bool {
        let op = self.ops.iter().find(|op| op.begin.get() <= at && at < op.end.get());
        op.is_none_or(|op| op.seq_no.next() != self.head().0 && !self.twins.contains(&op.seq_no))
    }

    /// Reads on, to the head.
    pub(crate) fn read_on(&mut self, journal: &MemoryJournal) -> Result<(), String> {
        let begin = Offset::new(self.at).unwrap();
        let content = content(journal, begin);
        let mut at = 0;
        loop {
            let rest = &content[at..];
            match decode_frame(rest, true) {
                Step::Frame { message } => {
                    let message_end = message.end;
                    let message = &rest[message];
                    let Ok(op) = decode_op(message) else {
                        at += message_end;
                        continue;
                    };
                    let len = message_end + op.payload_len() as usize;
                    if len > rest.len() {
                        return Err(format!("the log is torn at {}", self.at + at as u64));
                    }
                    let (seq_no, before) = self.head();
                    let author = op.author.map_or(0, recoverylog::Author::get);
                    if author > 0 && op.seq_no == seq_no && op.checksum == before {
                        let offset = |bytes: usize| Offset::new(self.at + bytes as u64).unwrap();
                        let accepted = Accepted {
                            seq_no,
                            before,
                            after: before.extend(message),
                            author,
                            begin: offset(at),
                            end: offset(at + len),
                            is_no_op: matches!(op.body, OpBody::NoOp),
                        };
                        self.accept(accepted, op.mark.map(|mark| mark.unix_nanos))?;
                    } else if self
                        .op(op.seq_no)
                        .is_some_and(|first| first.after == op.checksum.extend(message))
                    {
                        self.twins.insert(op.seq_no);
                    }
                    at += len;
                }
                Step::Desync { skip, .. } => at += skip,
                Step::End => break,
                torn => return Err(format!("the log is torn at {}: {torn:?}", self.at + at as u64)),
            }
        }
        self.at += at as u64;
        Ok(())
    }

    fn accept(&mut self, op: Accepted, mark: Option<i64>) -> Result<(), String> {
        if let Some(last) = self.ops.last().filter(|last| last.author != op.author) {
            self.retired.insert(last.author);
        }
        if self.retired.contains(&op.author) {
            return Err(format!("an operation of an author who was fenced is accepted: {op:?}"));
        }
        if let Some(mark) = mark {
            let before = std::mem::replace(&mut self.mark, mark);
            if mark < before {
                return Err(format!("a mark goes back in time, from {before} to {mark}: {op:?}"));
            }
        }
        self.ops.push(op);
        Ok(())
    }

    /// Tells whether the history passes a point.
    pub(crate) fn passes(&self, (seq_no, checksum): Point) -> bool {
        if (seq_no, checksum) == (SeqNo::FIRST, Checksum::ZERO) {
            return true;
        }
        self.op(seq_no.previous()).is_some_and(|op| op.leads_to() == (seq_no, checksum))
    }

    fn op(&self, seq_no: SeqNo) -> Option<&Accepted> {
        let index = usize::try_from(seq_no.get() - 1).ok()?;
        self.ops.get(index).filter(|op| op.seq_no == seq_no)
    }

    /// Checks a position that the library vouches for as durable: the next operation is not before it, and the one
    /// before is not behind it.
    pub(crate) fn check_position(&self, position: &Position) -> Result<(), String> {
        let point = (position.next_seq_no, position.next_checksum);
        let last = self.op(position.next_seq_no.previous());
        let next = self.op(position.next_seq_no);
        let is_between = last.is_none_or(|op| op.end <= position.offset)
            && next.is_none_or(|op| position.offset <= op.begin);
        if self.passes(point) && is_between {
            return Ok(());
        }
        Err(format!("{position:?} is said to be durable; the history has {last:?}, and then {next:?}"))
    }

    /// Checks that hints name nothing but what is committed, where it is.
    pub(crate) fn check_hints(&self, hints: &FsmHints) -> Result<(), String> {
        for segment in hints.files.iter().flat_map(|file| &file.segments) {
            if !self.holds(segment) {
                return Err(format!("hints name what is not committed: {segment}"));
            }
        }
        let Some(as_of) = hints.as_of else { return Err("hints without a head".into()) };
        let mut segments = hints.files.iter().flat_map(|file| &file.segments);
        if !segments.any(|segment| segment.last_seq_no == as_of.seq_no) {
            return Err(format!("hints are not anchored at their head: {as_of:?}"));
        }
        let is_head = |op: &Accepted| {
            (op.end, op.after, Some(op.author))
                == (as_of.offset, as_of.checksum, as_of.author.map(recoverylog::Author::get))
        };
        match self.op(as_of.seq_no).filter(|op| is_head(op)) {
            Some(_) => Ok(()),
            None => Err(format!("hints are as of what is not committed: {as_of:?}")),
        }
    }

    fn holds(&self, segment: &Segment) -> bool {
        let (first, last) = (self.op(segment.first_seq_no), self.op(segment.last_seq_no));
        let author = segment.author.get();
        first.is_some_and(|op| {
            (op.begin, op.before, op.author) == (segment.first_offset, segment.first_checksum, author)
        }) && last.is_some_and(|op| {
            (Some(op.end), Some(op.after), op.author) == (segment.end_offset, segment.end_checksum, author)
        })
    }

    /// Returns the directory that a player of `point` must build: that of the last known point, behind which
    /// there are no-ops only.
    pub(crate) fn tree_at<'a>(
        &self,
        point: Point,
        trees: &'a BTreeMap<Point, Tree>,
    ) -> Result<&'a Tree, String> {
        if !self.passes(point) {
            return Err(format!("a player is at {point:?}, which the history does not pass"));
        }
        let mut point = point;
        loop {
            if let Some(tree) = trees.get(&point) {
                return Ok(tree);
            }
            match self.op(point.0.previous()) {
                Some(op) if op.is_no_op => point = (op.seq_no, op.before),
                found => {
                    return Err(format!("the history ends within a transaction, at {point:?}: {found:?}"));
                }
            }
        }
    }
}
