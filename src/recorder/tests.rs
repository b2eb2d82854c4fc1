//! Goal: whatever happens to an append, nothing acknowledged is lost, nothing is there twice, and every offset
//! that the recorder tells is the true one.
//!
//! Method: a journal in memory behind a [`Flaky`] one, which loses, holds or repeats appends as told; afterwards
//! the log is decoded from its first byte, and the history it gives must be the recorder's, offsets included.

mod compare_and_append;
mod hinting;
mod holds;
mod recording;
#[cfg(recoverylog_shuttle)]
mod schedules;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::clock::Clock;
use crate::completion::{Completer, Completion};
use crate::fsm::Span;
use crate::ids::SeqNo;
use crate::journal::{
    Append, Appended, Capabilities, Chunk, Fragment, Head, JournalError, JournalReader, MemoryJournal,
    MemoryJournals, ReadRange, ReadStep,
};
use crate::op::{OpBody, Payload, RecordedOp};
use crate::wire::{Step, decode_frame, decode_op, encode_op};

pub(crate) const A: u32 = 1001;
pub(crate) const B: u32 = 1002;

pub(crate) fn author(number: u32) -> Author {
    Author::new(number).unwrap()
}

pub(crate) fn log_name() -> JournalName {
    JournalName::new("acme/orders").unwrap()
}

pub(crate) fn path(path: &str) -> LogPath {
    LogPath::rooted(path.as_bytes()).unwrap()
}

pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// What happens to one append.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// Nothing bad.
    None,
    /// It commits, and the reply is lost.
    LoseReply,
    /// It does not commit, the reply is lost, and a copy of it may arrive later.
    Delay,
    /// It is answered when [`Flaky::release`] is called.
    Hold,
    /// Nobody ever answers for it, and it does not commit.
    Abandon,
    /// It commits behind other bytes, wherever it was to be, and the reply says so.
    Misplace,
    /// The journal takes no more appends.
    Refuse,
}

/// A journal whose appends go wrong as they are told to, in order.
#[derive(Debug)]
pub(crate) struct Flaky {
    pub(crate) inner: Arc<MemoryJournal>,
    pub(crate) capabilities: Capabilities,
    faults: Mutex<VecDeque<Fault>>,
    delayed: Mutex<Vec<Append>>,
    held: Mutex<Vec<(Append, Completer<Appended, JournalError>)>>,
    pub(crate) sent: Mutex<Vec<Append>>,
}

impl Flaky {
    pub(crate) fn new(faults: impl IntoIterator<Item = Fault>) -> Arc<Self> {
        Self::over(MemoryJournals::new().journal(&log_name()), faults)
    }

    pub(crate) fn over(inner: Arc<MemoryJournal>, faults: impl IntoIterator<Item = Fault>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            capabilities: Capabilities::ALL,
            faults: Mutex::new(faults.into_iter().collect()),
            delayed: Mutex::default(),
            held: Mutex::default(),
            sent: Mutex::default(),
        })
    }

    /// Lets the delayed copies arrive; returns what became of each.
    pub(crate) fn deliver_delayed(&self) -> Vec<Result<Appended, JournalError>> {
        let delayed = std::mem::take(&mut *self.delayed.lock().unwrap());
        delayed.into_iter().map(|append| self.inner.append(append, soon())).collect()
    }

    /// Answers the appends that are held, in order.
    pub(crate) fn release(&self) {
        loop {
            let held = std::mem::take(&mut *self.held.lock().unwrap());
            if held.is_empty() {
                return;
            }
            for (append, completer) in held {
                completer.resolve(self.inner.append(append, soon()));
            }
        }
    }
}

impl Journal for Flaky {
    fn name(&self) -> &JournalName {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn submit(&self, append: Append) -> Completion<Appended, JournalError> {
        self.sent.lock().unwrap().push(append.clone());
        let unknown = |at| JournalError::Unknown { journal: log_name(), at, what: "a test".into() };
        let at = append.at;
        match self.faults.lock().unwrap().pop_front().unwrap_or(Fault::None) {
            Fault::None => self.inner.submit(append),
            Fault::LoseReply => {
                self.inner.append(append, soon()).unwrap();
                Completion::resolved(Err(unknown(at)))
            }
            Fault::Delay => {
                self.delayed.lock().unwrap().push(append);
                Completion::resolved(Err(unknown(at)))
            }
            Fault::Hold => {
                let (completer, held) = completion();
                self.held.lock().unwrap().push((append, completer));
                held
            }
            Fault::Abandon => completion().1,
            Fault::Misplace => {
                self.inner.append(Append::new("junk"), soon()).unwrap();
                self.inner.submit(Append { at: None, ..append })
            }
            Fault::Refuse => {
                let what = "a test".into();
                Completion::resolved(Err(JournalError::NotAllowed { journal: log_name(), what }))
            }
        }
    }

    fn head(&self, deadline: Deadline) -> Result<Head, JournalError> {
        self.inner.head(deadline)
    }

    fn read(&self, range: ReadRange) -> Result<Box<dyn JournalReader>, JournalError> {
        self.inner.read(range)
    }

    fn fragments(&self, deadline: Deadline) -> Result<Vec<Fragment>, JournalError> {
        self.inner.fragments(deadline)
    }

    fn prune(&self, fragments: &[Fragment], deadline: Deadline) -> Result<(), JournalError> {
        self.inner.prune(fragments, deadline)
    }
}

pub(crate) fn options() -> RecorderOptions {
    RecorderOptions::default().resolve_max(Duration::from_secs(20))
}

/// Starts the first recorder of a log.
pub(crate) fn record(journal: &Arc<Flaky>) -> Recorder {
    let journal = Arc::clone(journal);
    Recorder::new(journal, Fsm::new(log_name()), Offset::ZERO, author(A), options()).unwrap()
}

/// Takes the log over as a player does: reads it, appends a no-op that sets the register, and records on.
pub(crate) fn take_over(journal: &Arc<Flaky>, number: u32) -> Recorder {
    let mut fsm = replay(&journal.inner);
    let head = journal.head(soon()).unwrap().offset;
    let (frame, _) = op(&fsm, number, OpBody::NoOp);
    let append = Append::new(frame.clone()).at(head).union_author(author(number));
    let end = journal.inner.append(append, soon()).unwrap().end;
    apply(&mut fsm, &frame, head, end);
    let journal = Arc::clone(journal);
    Recorder::new(journal, fsm, end, author(number), options()).unwrap()
}

/// Encodes the operation that comes next in `fsm`; a write is one of ten bytes.
pub(crate) fn op(fsm: &Fsm, number: u32, body: OpBody) -> (Vec<u8>, RecordedOp) {
    let write = matches!(body, OpBody::Write { .. });
    let op = RecordedOp {
        seq_no: fsm.next_seq_no(),
        checksum: fsm.next_checksum(),
        author: Some(author(number)),
        body,
        payload: write.then_some(Payload { len: 10, crc32c: None }),
        mark: None,
    };
    let mut frame = Vec::new();
    encode_op(&op, &mut frame).unwrap();
    (frame, op)
}

fn apply(fsm: &mut Fsm, frame: &[u8], begin: Offset, end: Offset) {
    let span = Span { log: &log_name(), begin, end: Some(end) };
    fsm.apply(&decode_op(&frame[8..]).unwrap(), &frame[8..], span).unwrap();
}

pub(crate) fn content(journal: &MemoryJournal) -> Vec<u8> {
    let head = journal.head(soon()).unwrap().offset;
    let mut reader = journal.read(ReadRange::bounded(Offset::ZERO, head)).unwrap();
    let mut content = Vec::new();
    while let ReadStep::Chunk(Chunk::Bytes { bytes, .. }) = reader.next(soon()).unwrap() {
        content.extend_from_slice(&bytes);
    }
    content
}

/// Decodes a log from its first byte: the operations that a reader accepts, with their offsets and payloads.
pub(crate) fn accepted(journal: &MemoryJournal) -> (Fsm, Vec<(RecordedOp, Bytes)>) {
    let content = Bytes::from(content(journal));
    let (mut fsm, mut at, mut ops) = (Fsm::new(log_name()), 0, Vec::new());
    loop {
        match decode_frame(&content[at..], true) {
            Step::Frame { message } => {
                let message = &content[at..][message];
                let op = decode_op(message).unwrap();
                let data = at + 8 + message.len();
                let end = data + op.payload_len() as usize;
                let offset = |at: usize| Offset::new(at as u64).unwrap();
                let span = Span { log: &log_name(), begin: offset(at), end: Some(offset(end)) };
                if fsm.apply(&op, message, span).is_ok() {
                    ops.push((op, content.slice(data..end)));
                }
                at = end;
            }
            Step::Desync { skip, .. } => at += skip,
            Step::End => return (fsm, ops),
            other => panic!("{other:?} at {at}"),
        }
    }
}

pub(crate) fn replay(journal: &MemoryJournal) -> Fsm {
    accepted(journal).0
}

/// Waits for everything, and checks that the log holds the recorder's history at the recorder's offsets.
#[track_caller]
pub(crate) fn assert_log_is_history(journal: &Flaky, recorder: &Recorder) {
    let end = recorder.barrier().unwrap().wait(soon()).unwrap();
    let fsm = replay(&journal.inner);
    assert_eq!(recorder.with_fsm(|fsm| fsm.hints(&log_name())), fsm.hints(&log_name()));
    assert_eq!((end.next_seq_no, end.next_checksum), (fsm.next_seq_no(), fsm.next_checksum()));
    assert_eq!(end.offset, journal.inner.head(soon()).unwrap().offset);
    assert_eq!(recorder.committed(), end);
    assert_eq!(recorder.counters().bytes_in_flight(), 0);
    assert_eq!(recorder.credit_bytes(), 16 << 20);
}

/// Waits for everything to fail, and checks that the failure stays.
#[track_caller]
pub(crate) fn assert_fails_for_good(recorder: &Recorder, kind: ErrorKind) -> Error {
    let outcome = recorder.barrier().and_then(|mut barrier| barrier.wait(soon()));
    let error = outcome.expect_err("the barrier claims durability");
    assert_eq!(error.kind(), kind, "{error}");
    let fnode = Fnode::new(SeqNo::FIRST);
    let later = [
        recorder.create(&path("/later")).map(drop),
        recorder.link(fnode, &path("/later")),
        recorder.unlink(&path("/a")),
        recorder.rename(&path("/a"), &path("/later")),
        recorder.rename_to_property(&path("/a"), &path("/later"), Bytes::new()),
        recorder.write(fnode, 0, b"later"),
        recorder.no_op(),
        recorder.take_hints().map(drop),
        recorder.barrier().map(drop),
        recorder.check(),
    ];
    for (index, outcome) in later.into_iter().enumerate() {
        assert_eq!(outcome.expect_err(&index.to_string()).to_string(), error.to_string());
    }
    assert_eq!(recorder.failure().unwrap().to_string(), error.to_string());
    error
}
