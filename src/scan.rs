//! Walks through a log from one end to the other and says what it holds, whatever that is.
//!
//! *Invariants.* Every byte of the scanned range belongs to exactly one [`Found`], but for a single newline at
//! the head. Damage ends nothing: what cannot be read is reported, and the scan goes on behind it. Memory is
//! bounded by one frame, not by payloads.
//!
//! *Does not* apply operations, nor decide which branch of a history counts (`fsm`).

mod chain;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use self::chain::Chain;
pub use self::chain::ChainCheck;
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fsm::Span;
use crate::ids::{JournalName, Offset};
use crate::journal::{Chunk, Fragment, Journal, JournalReader, ReadRange, ReadStep};
use crate::op::{Payload, RecordedOp};
use crate::wire::{MAGIC, OpError, Step, decode_frame, decode_op};

/// What to scan, and how.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ScanOptions {
    /// Where to begin; where no frame begins there, the next one is looked for.
    pub begin: Offset,
    /// Frames that begin here or later are left out; `None` scans to the head as it is now.
    pub end: Option<Offset>,
    /// Read payloads, and check them where a checksum was recorded.
    pub check_payloads: bool,
    /// The longest wait for one step of the journal.
    pub step_deadline: Duration,
    /// When to give up, however well it goes.
    pub(crate) limit: Option<Deadline>,
}

impl Default for ScanOptions {
    fn default() -> Self {
        let step_deadline = Duration::from_secs(30);
        Self { begin: Offset::ZERO, end: None, check_payloads: true, step_deadline, limit: None }
    }
}

impl ScanOptions {
    /// Returns when to give up one step of the journal that begins now.
    fn deadline_of_step(&self) -> Deadline {
        let step = Deadline::after(self.step_deadline);
        self.limit.map_or(step, |limit| limit.min(step))
    }
}

/// One thing that a log holds.
#[derive(Debug)]
#[non_exhaustive]
pub enum Found {
    /// An operation, with its whole payload.
    Op(FoundOp),
    /// A frame that holds no operation.
    Undecodable {
        /// Where the frame begins.
        begin: Offset,
        /// Where it ends.
        end: Offset,
        /// Why it holds none.
        error: OpError,
    },
    /// Bytes that are no frame.
    Junk {
        /// The first of them.
        begin: Offset,
        /// The end, exclusive.
        end: Offset,
    },
    /// The beginning of an operation whose rest is not there: the log ends, or bytes of it are not stored.
    Torn {
        /// Where the operation begins.
        begin: Offset,
        /// How many bytes are there, up to the next operation that is whole or to the end.
        present: u64,
        /// How many it promises; `None` where its header is cut.
        promised: Option<u64>,
    },
    /// Bytes that are not stored.
    Missing {
        /// The first of them.
        begin: Offset,
        /// The end, exclusive.
        end: Offset,
    },
    /// Bytes that are stored and cannot be read.
    Unreadable {
        /// The first of them.
        begin: Offset,
        /// The end, exclusive.
        end: Offset,
        /// Why.
        error: Error,
    },
}

/// An operation that a scan found.
#[derive(Debug)]
#[non_exhaustive]
pub struct FoundOp {
    /// The operation.
    pub op: RecordedOp,
    /// Its encoded form, over which the checksum of the log runs.
    pub message: Bytes,
    /// Where its frame begins.
    pub begin: Offset,
    /// Where its payload begins, if it has one.
    pub payload_begin: Offset,
    /// Where its payload ends; where its frame ends if it has none.
    pub end: Offset,
    /// How it continues the operations before it.
    pub chain: ChainCheck,
    /// What its payload was found to be; `None` where it has none.
    pub payload: Option<PayloadCheck>,
}

impl FoundOp {
    /// Returns where in `log`, the log that was scanned, the operation is.
    pub const fn span<'a>(&self, log: &'a JournalName) -> Span<'a> {
        Span { log, begin: self.begin, end: Some(self.end) }
    }
}

/// What is known of a payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PayloadCheck {
    /// It has the checksum that was recorded.
    Good,
    /// It was not checked: no checksum was recorded, or [`ScanOptions::check_payloads`] is off.
    Unchecked,
    /// It is not what was written.
    Damaged {
        /// The CRC-32C that was recorded.
        expected: u32,
        /// That of the bytes.
        actual: u32,
    },
}

/// Iterates over what a log holds; made by [`LogScan::open`].
///
/// An error ends the iteration: the journal could not be asked. What can be asked and is damaged is a
/// [`Found`].
#[derive(Debug)]
pub struct LogScan {
    journal: Arc<dyn Journal>,
    fragments: Vec<Fragment>,
    reader: Box<dyn JournalReader>,
    options: ScanOptions,
    head: Offset,
    /// Frames that begin here or later are left out.
    stop: Offset,
    /// Offset of the first byte of `buffer`.
    at: Offset,
    buffer: BytesMut,
    /// What follows `buffer`: a chunk, and how many of its bytes were taken.
    chunk: Option<(Chunk, u64)>,
    /// What follows the bytes at hand cannot be had.
    gap: Option<Gap>,
    /// Nothing follows the bytes at hand.
    dry: bool,
    done: bool,
    chain: Chain,
}

#[derive(Debug)]
struct Gap {
    begin: Offset,
    end: Offset,
    /// Why it cannot be read; `None` where it is not stored.
    error: Option<Error>,
}

/// The longest message that is looked for in what a torn operation promises: an operation with the longest path, and
/// room for fields that we do not know. A property may be longer, and is not seen there. The limit keeps the cost of a
/// header that stands every few bytes from growing with the square of the tail.
const HIDDEN_MESSAGE_BYTES_MAX: usize = 8 << 10;

/// The most bytes that are taken out of a chunk at once.
const TAKE_BYTES_MAX: u64 = 64 << 10;

impl LogScan {
    /// Begins to scan `journal`.
    ///
    /// # Errors
    /// `Invalid` where the range begins past the head or past its end; what the journal says.
    pub fn open(journal: Arc<dyn Journal>, options: ScanOptions) -> Result<Self> {
        let deadline = options.deadline_of_step();
        let head = journal.head(deadline)?.offset;
        let stop = options.end.unwrap_or(head).min(head);
        if options.begin > options.end.unwrap_or(head) || options.begin > head {
            return Err(Error::new(ErrorKind::Invalid, "the range begins past its end")
                .in_log(journal.name())
                .at(options.begin)
                .expected(format_args!("at most {}", options.end.unwrap_or(head).min(head)), options.begin));
        }
        let fragments = journal.fragments(deadline)?;
        let reader = journal.read(ReadRange::bounded(options.begin, head))?;
        Ok(Self {
            journal,
            fragments,
            reader,
            options,
            head,
            stop,
            at: options.begin,
            buffer: BytesMut::new(),
            chunk: None,
            gap: None,
            dry: options.begin == head,
            done: false,
            chain: Chain::default(),
        })
    }

    /// Returns where the scan stands.
    pub const fn at(&self) -> Offset {
        self.at
    }

    /// Returns the head of the log as it was when the scan began.
    pub const fn head(&self) -> Offset {
        self.head
    }

    fn find(&mut self) -> Result<Option<Found>> {
        let mut junk: Option<Offset> = None;
        loop {
            if let Some(begin) = junk.filter(|_| self.at >= self.stop) {
                return Ok(Some(Found::Junk { begin, end: self.at }));
            }
            if self.at >= self.stop {
                return Ok(None);
            }
            let step = match decode_frame(&self.buffer, self.at_end()) {
                // A newline may end a log, but not what lies before a gap: there it is junk.
                Step::End if self.gap.is_some() && !self.buffer.is_empty() => {
                    Step::Desync { skip: self.buffer.len(), oversize: None }
                }
                step => step,
            };
            match (step, junk) {
                (Step::NeedMore { bytes }, _) => self.fill(bytes)?,
                (Step::Desync { skip, .. }, _) => {
                    junk.get_or_insert(self.at);
                    self.consume(skip);
                }
                (_, Some(begin)) => return Ok(Some(Found::Junk { begin, end: self.at })),
                (Step::Frame { message }, None) => return self.frame(message.start, message.end).map(Some),
                (Step::Torn { promised, .. }, None) => {
                    let promised = promised.map(|bytes| bytes as u64);
                    return self.torn(self.at, promised).map(Some);
                }
                (Step::End, None) => {
                    self.consume(self.buffer.len());
                    return self.leave_gap();
                }
            }
        }
    }

    /// Takes the frame whose message is `buffer[start..end]`, and its payload.
    fn frame(&mut self, start: usize, end: usize) -> Result<Found> {
        let begin = self.at;
        let frame = self.buffer.split_to(end.min(self.buffer.len())).freeze();
        self.at = begin.saturating_add(end as u64);
        let message = frame.slice(start.min(frame.len())..);
        let op = match decode_op(&message) {
            Ok(op) => op,
            Err(error) => return Ok(Found::Undecodable { begin, end: self.at, error }),
        };
        let payload_begin = self.at;
        let Some(payload) = op.payload else {
            let chain = self.chain.check(&op, &message);
            let end = self.at;
            return Ok(Found::Op(FoundOp { op, message, begin, payload_begin, end, chain, payload: None }));
        };
        let promised = payload_begin.bytes_since(begin).saturating_add(payload.len);
        if promised > self.head.bytes_since(begin) {
            return self.torn(begin, Some(promised));
        }
        let (taken, check) = self.payload(payload)?;
        if taken < payload.len {
            return self.torn(begin, Some(promised));
        }
        let chain = self.chain.check(&op, &message);
        let (end, payload) = (self.at, Some(check));
        Ok(Found::Op(FoundOp { op, message, begin, payload_begin, end, chain, payload }))
    }

    /// Steps over what is there of an operation that begins at `begin` and promises more.
    ///
    /// Where its length is damaged, operations of the history lie in what it promises: it ends at the first.
    fn torn(&mut self, begin: Offset, promised: Option<u64>) -> Result<Found> {
        if self.at == begin {
            self.consume(MAGIC.len());
        }
        while self.at < self.stop {
            match decode_frame(&self.buffer, self.at_end()) {
                Step::NeedMore { bytes } => self.fill(bytes)?,
                Step::Desync { skip, .. } => self.consume(skip),
                Step::Frame { message } if self.is_whole_op(message.clone()) => break,
                Step::Frame { .. } | Step::Torn { .. } => self.consume(MAGIC.len()),
                Step::End => {
                    self.consume(self.buffer.len());
                    break;
                }
            }
        }
        Ok(Found::Torn { begin, present: self.at.bytes_since(begin), promised })
    }

    /// Tells whether the frame with this message holds an operation that lies ahead of the history, and whose
    /// payload is there.
    fn is_whole_op(&self, message: Range<usize>) -> bool {
        if message.len() > HIDDEN_MESSAGE_BYTES_MAX {
            return false;
        }
        let end = message.end as u64;
        let op = self.buffer.get(message).and_then(|message| decode_op(message).ok());
        op.is_some_and(|op| {
            self.chain.is_ahead(&op) && op.payload_len() <= self.head.bytes_since(self.at).saturating_sub(end)
        })
    }

    /// Takes a payload; returns how much of it is there.
    fn payload(&mut self, payload: Payload) -> Result<(u64, PayloadCheck)> {
        let expected = payload.crc32c.filter(|_| self.options.check_payloads);
        let (mut taken, mut actual) = (0, 0);
        while taken < payload.len {
            if self.buffer.is_empty() {
                if expected.is_none() {
                    let skipped = self.skip_chunk(payload.len - taken);
                    if skipped > 0 {
                        taken += skipped;
                        continue;
                    }
                }
                if self.at_end() {
                    break;
                }
                self.fill(1)?;
                continue;
            }
            let piece = (payload.len - taken).min(self.buffer.len() as u64);
            if expected.is_some() {
                actual = crc32c::crc32c_append(actual, self.buffer.get(..piece as usize).unwrap_or_default());
            }
            self.consume(piece as usize);
            taken += piece;
        }
        let check = match expected {
            Some(expected) if expected == actual => PayloadCheck::Good,
            Some(expected) => PayloadCheck::Damaged { expected, actual },
            None => PayloadCheck::Unchecked,
        };
        Ok((taken, check))
    }

    /// Steps over at most `bytes` of the chunk that comes next, without reading them.
    fn skip_chunk(&mut self, bytes: u64) -> u64 {
        let Some((chunk, taken)) = &mut self.chunk else { return 0 };
        let skipped = bytes.min(chunk.len() - *taken);
        *taken += skipped;
        if *taken == chunk.len() {
            self.chunk = None;
        }
        self.at = self.at.saturating_add(skipped);
        skipped
    }

    /// Makes `buffer` hold at least `bytes` bytes, unless no more can be had.
    fn fill(&mut self, bytes: usize) -> Result<()> {
        while self.buffer.len() < bytes && !self.at_end() {
            match self.chunk.take() {
                Some((chunk, taken)) => self.take(chunk, taken, bytes),
                None => self.step()?,
            }
        }
        Ok(())
    }

    /// Moves bytes of a chunk to the buffer.
    fn take(&mut self, chunk: Chunk, taken: u64, wanted: usize) {
        let lacking = wanted.saturating_sub(self.buffer.len()) as u64;
        let moved = (chunk.len() - taken).min(lacking.max(TAKE_BYTES_MAX));
        let old = self.buffer.len();
        self.buffer.resize(old + moved as usize, 0);
        let read = chunk.read_exact_at(self.buffer.get_mut(old..).unwrap_or_default(), taken);
        if let Err(error) = read {
            self.buffer.truncate(old);
            let end = chunk.offset().saturating_add(chunk.len());
            let error = Error::io("reading a local fragment failed", error).in_log(self.journal.name());
            self.gap = Some(Gap { begin: chunk.offset().saturating_add(taken), end, error: Some(error) });
        } else if taken + moved < chunk.len() {
            self.chunk = Some((chunk, taken + moved));
        }
    }

    /// Asks the journal for what comes next.
    fn step(&mut self) -> Result<()> {
        let expected = self.at.saturating_add(self.buffer.len() as u64);
        let late = |what: &'static str| {
            Error::new(ErrorKind::Unavailable, what).in_log(self.journal.name()).at(expected)
        };
        if self.options.limit.is_some_and(Deadline::has_passed) {
            return Err(late("the log was not looked through in time"));
        }
        match self.reader.next(self.options.deadline_of_step()) {
            Ok(ReadStep::Chunk(chunk)) if chunk.offset() == expected => self.chunk = Some((chunk, 0)),
            Ok(ReadStep::Chunk(chunk)) => {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    "a journal delivered other bytes than were asked for",
                )
                .in_log(self.journal.name())
                .at(chunk.offset())
                .expected(format_args!("offset {expected}"), chunk.offset()));
            }
            Ok(ReadStep::Jump { from, to }) => self.gap = Some(Gap { begin: from, end: to, error: None }),
            Ok(ReadStep::End) => self.dry = true,
            Ok(ReadStep::AtHead { head }) => {
                let (wanted, there) =
                    (format_args!("bytes up to {}", self.head), format_args!("a head of {head}"));
                return Err(
                    late("bytes below the head of the log did not come in time").expected(wanted, there)
                );
            }
            Ok(ReadStep::Interrupted) => {}
            Err(error) => {
                let error = Error::from(error);
                if !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::DataLoss | ErrorKind::Io) {
                    return Err(error);
                }
                let end = self.fragments.iter().find(|f| f.begin <= expected && expected < f.end);
                let end = end.map_or(self.head, |fragment| fragment.end.min(self.head));
                self.gap = Some(Gap { begin: expected, end, error: Some(error) });
            }
        }
        Ok(())
    }

    /// Goes on behind what cannot be had, once everything before it was taken.
    fn leave_gap(&mut self) -> Result<Option<Found>> {
        let Some(Gap { begin, end, error }) = self.gap.take() else { return Ok(None) };
        self.at = end;
        self.chain.interrupt();
        if end >= self.head {
            self.dry = true;
        } else if self.reader.offset() != end || error.is_some() {
            self.reader = self.journal.read(ReadRange::bounded(end, self.head))?;
        }
        Ok(Some(match error {
            Some(error) => Found::Unreadable { begin, end, error },
            None => Found::Missing { begin, end },
        }))
    }

    /// Tells whether nothing can be had behind `buffer`.
    const fn at_end(&self) -> bool {
        self.chunk.is_none() && (self.dry || self.gap.is_some())
    }

    fn consume(&mut self, bytes: usize) {
        let bytes = bytes.min(self.buffer.len());
        // Splitting, not advancing: what was consumed must not be copied when the buffer grows.
        drop(self.buffer.split_to(bytes));
        self.at = self.at.saturating_add(bytes as u64);
    }
}

impl Iterator for LogScan {
    type Item = Result<Found>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let found = self.find();
        self.done = !matches!(found, Ok(Some(_)));
        found.transpose()
    }
}

#[cfg(test)]
mod tests;
