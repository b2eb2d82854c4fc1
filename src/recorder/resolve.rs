//! Finds out what became of an append that the journal could not vouch for, or that lost its place.
//!
//! *Invariants.* Foreign bytes are judged by the sequence number and checksum of the committed prefix, never by
//! a state machine that runs ahead of it. The batch is found whole, or resent as it is: never changed, never
//! longer. An operation of another author that continues the committed prefix ends the recorder whatever it
//! does. Everything ends at a deadline.
//!
//! *Does not* run on a thread that completes appends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Inner;
use super::state::{Fate, Settled, fate};
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind};
use crate::ids::{Author, Checksum, JournalName, Offset, SeqNo};
use crate::journal::{Chunk, Journal, JournalError, JournalReader, ReadRange, ReadStep, RegisterSet};
use crate::planted::{Bug, planted};
use crate::sync::{Backoff, thread};
use crate::wire::{OpError, Step, decode_frame, decode_op};

/// How long one attempt waits for the journal: an answer that is lost must not cost the whole time.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);
/// How much of a large chunk is looked at at once.
const WINDOW_BYTES: u64 = 64 << 10;

/// Starts the thread that resolves the batch in flight.
pub(super) fn start(inner: &Arc<Inner>) {
    let name = "recoverylog-resolve".to_owned();
    let thread = Arc::clone(inner);
    let spawned = thread::Builder::new().name(name).spawn(move || {
        let outcome = run(&thread);
        let mut state = thread.lock();
        let settled = match outcome {
            Ok((begin, registers)) => state.commit(&thread.settings.log, begin, &registers),
            Err(error) => state.fail(error),
        };
        drop(state);
        thread.finish(settled);
    });
    if let Err(error) = spawned {
        let error = Error::io("cannot start a thread to read back an append of unknown fate", error);
        let settled = inner.lock().fail(error.in_log(&inner.settings.log));
        inner.finish(settled);
    }
}

/// A batch whose fate is to be found out.
struct Sent<'a> {
    journal: &'a dyn Journal,
    author: Author,
    content: Bytes,
    first_seq_no: SeqNo,
    first_checksum: Checksum,
}

type Committed = (Offset, RegisterSet);

fn run(inner: &Arc<Inner>) -> Result<Committed, Error> {
    let deadline = Deadline::after(inner.settings.resolve);
    let state = inner.lock();
    let Some(batch) = &state.in_flight else {
        return Err(Error::new(ErrorKind::Diverged, "no append is in flight").in_log(&inner.settings.log));
    };
    let mut at = batch.at;
    let (first_seq_no, first_checksum) = if planted(Bug::JudgedAhead) {
        (state.fsm.next_seq_no(), state.fsm.next_checksum())
    } else {
        (batch.first_seq_no, batch.first_checksum)
    };
    let sent = Sent {
        journal: &*inner.journal,
        author: inner.settings.author,
        content: batch.content.clone(),
        first_seq_no,
        first_checksum,
    };
    drop(state);

    let mut backoff = Backoff::new();
    loop {
        if let Some(committed) = attempt(inner, &sent, &mut at, deadline.or_after(ATTEMPT_MAX))? {
            return Ok(committed);
        }
        if deadline.has_passed() {
            return Err(Error::new(ErrorKind::Unavailable, "the fate of an append stayed unknown")
                .in_log(&inner.settings.log)
                .at(at)
                .seq(sent.first_seq_no)
                .advise("stop this writer, and take the log over again: the append may be in it or not"));
        }
        inner.lock().check()?;
        backoff.pause(deadline.remaining());
    }
}

/// Reads what is at `at`, and resends the batch where nothing is; `None` where another attempt is needed.
fn attempt(
    inner: &Inner,
    sent: &Sent<'_>,
    at: &mut Offset,
    deadline: Deadline,
) -> Result<Option<Committed>, Error> {
    let log = &inner.settings.log;
    let head = match sent.journal.head(deadline) {
        Ok(head) => head,
        Err(error) => return again(error),
    };
    if head.offset < *at {
        return Err(Error::new(ErrorKind::DataLoss, "the journal has lost bytes that it acknowledged")
            .in_log(log)
            .at(*at)
            .seq(sent.first_seq_no)
            .expected(format_args!("a head at or past {at}"), format_args!("a head of {}", head.offset)));
    }
    if head.offset > *at {
        match judge(sent, *at, head.offset, deadline) {
            Ok(Verdict::Ours { begin }) => return Ok(Some((begin, head.registers))),
            Ok(Verdict::Passed) => *at = head.offset,
            Ok(Verdict::End(error)) => return Err(*error),
            Err(error) => return again(error),
        }
    }
    let mut append = inner.lock().append_of(&inner.settings, *at, sent.content.clone());
    if planted(Bug::LongerBatch) {
        append.content.push(inner.lock().pending.content.clone().into());
    }
    let end = at.saturating_add(append.content_bytes());
    match sent.journal.append(append, deadline) {
        Ok(appended) if appended.begin == *at && appended.end == end => Ok(Some((*at, appended.registers))),
        Ok(_) => Ok(None),
        Err(error) => again(error),
    }
}

/// Passes over an error that may go away.
fn again(error: JournalError) -> Result<Option<Committed>, Error> {
    match fate(&error) {
        Fate::NotCommitted | Fate::Unknown => Ok(None),
        Fate::Terminal => Err(error.into()),
    }
}

/// What the bytes after the committed prefix mean for the batch.
enum Verdict {
    /// The batch is committed.
    Ours { begin: Offset },
    /// Nothing there continues the committed prefix, and a reader's parse ends where they end.
    Passed,
    /// The recorder is at its end.
    End(Box<Error>),
}

/// Judges the bytes `[begin, head)` that follow the committed prefix.
fn judge(sent: &Sent<'_>, begin: Offset, head: Offset, deadline: Deadline) -> Result<Verdict, JournalError> {
    let log = sent.journal.name();
    let diverged = |what: &str, at: Offset| {
        Ok(Verdict::End(Box::new(
            Error::new(ErrorKind::Diverged, what.to_owned())
                .in_log(log)
                .at(at)
                .advise("promote onto another log (a fork): nothing can follow these bytes in this one"),
        )))
    };
    let mut window = Window::open(sent.journal, begin, head, deadline)?;
    loop {
        let at = window.begin;
        match decode_frame(&window.bytes, window.reaches_head()) {
            Step::NeedMore { bytes } => window.fill(bytes)?,
            Step::Desync { oversize: None, skip } => window.skip(skip as u64)?,
            Step::End => return Ok(Verdict::Passed),
            Step::Frame { message } => {
                let op = match decode_op(window.bytes.get(message.clone()).unwrap_or_default()) {
                    Ok(op) => op,
                    Err(OpError::Malformed { .. }) => {
                        window.skip(message.end as u64)?;
                        continue;
                    }
                    Err(_) => return diverged("a foreign operation cannot be read past", at),
                };
                let len = (message.end as u64).saturating_add(op.payload_len());
                if len > head.bytes_since(at) {
                    return diverged("the payload of a foreign write reaches past the head", at);
                }
                let continues = op.seq_no == sent.first_seq_no && op.checksum == sent.first_checksum;
                match op.author.filter(|_| continues) {
                    None => window.skip(len)?,
                    Some(author) if author == sent.author => {
                        window.fill(sent.content.len())?;
                        if window.bytes.starts_with(&sent.content) {
                            return Ok(Verdict::Ours { begin: at });
                        }
                        return diverged("the log holds other operations of this author", at);
                    }
                    Some(author) => return Ok(Verdict::End(Box::new(fenced(sent, author, log, at)))),
                }
            }
            _ => return diverged("a torn foreign frame reaches past the head", at),
        }
    }
}

fn fenced(sent: &Sent<'_>, author: Author, log: &JournalName, at: Offset) -> Error {
    Error::new(ErrorKind::Fenced, "another author continued the log")
        .in_log(log)
        .at(at)
        .seq(sent.first_seq_no)
        .expected(format!("author {}", sent.author), format!("author {author}"))
}

/// A piece of a log that is looked at, from `begin` on.
struct Window<'a> {
    journal: &'a dyn Journal,
    reader: Box<dyn JournalReader>,
    /// What was read and not yet looked at: a chunk, and how much of it is in `bytes` or behind.
    chunk: Option<(Chunk, u64)>,
    bytes: Vec<u8>,
    begin: Offset,
    head: Offset,
    deadline: Deadline,
}

impl<'a> Window<'a> {
    fn open(
        journal: &'a dyn Journal,
        begin: Offset,
        head: Offset,
        deadline: Deadline,
    ) -> Result<Self, JournalError> {
        let reader = journal.read(ReadRange::bounded(begin, head))?;
        Ok(Self { journal, reader, chunk: None, bytes: Vec::new(), begin, head, deadline })
    }

    fn reaches_head(&self) -> bool {
        self.head.bytes_since(self.begin) <= self.bytes.len() as u64
    }

    /// Holds at least `len` bytes, or all there are.
    fn fill(&mut self, len: usize) -> Result<(), JournalError> {
        while self.bytes.len() < len && !self.reaches_head() {
            let Some((chunk, taken)) = &mut self.chunk else {
                self.chunk = Some((self.next_chunk()?, 0));
                continue;
            };
            let more = (chunk.len() - *taken).min(WINDOW_BYTES);
            let old = self.bytes.len();
            self.bytes.resize(old + more as usize, 0);
            let (from, journal) = (*taken, self.journal.name().clone());
            chunk.read_exact_at(self.bytes.get_mut(old..).unwrap_or_default(), from).map_err(|source| {
                JournalError::Io { journal, what: "reading back an append".into(), source: Arc::new(source) }
            })?;
            *taken += more;
            if *taken == chunk.len() {
                self.chunk = None;
            }
        }
        Ok(())
    }

    fn next_chunk(&mut self) -> Result<Chunk, JournalError> {
        loop {
            match self.reader.next(self.deadline)? {
                ReadStep::Chunk(chunk) => return Ok(chunk),
                ReadStep::Jump { from, to } => {
                    let journal = self.journal.name().clone();
                    return Err(JournalError::Missing { journal, begin: from, end: to });
                }
                ReadStep::AtHead { .. } | ReadStep::End => {
                    let what = "the deadline passed while reading back an append".to_owned();
                    return Err(JournalError::Unavailable { journal: self.journal.name().clone(), what });
                }
                ReadStep::Interrupted => {}
            }
        }
    }

    /// Moves on by `len` bytes.
    fn skip(&mut self, len: u64) -> Result<(), JournalError> {
        self.begin = self.begin.saturating_add(len);
        if len <= self.bytes.len() as u64 {
            self.bytes.drain(..len as usize);
        } else {
            self.bytes.clear();
            self.chunk = None;
            self.reader = self.journal.read(ReadRange::bounded(self.begin, self.head))?;
        }
        Ok(())
    }
}

impl Inner {
    /// Concludes what a resolution found, and goes on.
    fn finish(self: &Arc<Self>, settled: Settled) {
        self.conclude(settled);
        self.drive(self.lock());
    }
}
