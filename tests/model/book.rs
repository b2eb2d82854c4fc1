//! Operations as the bytes that they are, and what the library's state machine makes of a log of them.

use std::collections::HashMap;
use std::rc::Rc;

use recoverylog::fsm::Span;
use recoverylog::wire::encode_op;
use recoverylog::{Author, Checksum, Fsm, JournalName, LogPath, Offset, OpBody, RecordedOp, SeqNo};

/// An operation in the book; the same bytes have the same number.
pub(crate) type OpId = u16;

/// Everything that was ever encoded, and every log that was ever read.
#[derive(Debug, Default)]
pub(crate) struct Book {
    ops: Vec<(RecordedOp, Vec<u8>)>,
    ids: HashMap<Vec<u8>, OpId>,
    histories: HashMap<Vec<OpId>, Rc<History>>,
    /// A bug: readers take an operation by its sequence number alone.
    pub(crate) chain_unchecked: bool,
}

/// What a reader derives from a log.
#[derive(Debug)]
pub(crate) struct History {
    /// The operations that it accepts, in order.
    pub(crate) accepted: Vec<OpId>,
    fsm: Fsm,
}

impl History {
    /// Returns what the next operation must carry.
    pub(crate) fn next(&self) -> (SeqNo, Checksum) {
        (self.fsm.next_seq_no(), self.fsm.next_checksum())
    }

    /// Returns the writer whose operation was accepted last.
    pub(crate) fn last_writer(&self) -> Option<usize> {
        self.fsm.last_author().map(writer_of)
    }
}

fn author(writer: usize) -> Author {
    Author::new(writer as u32 + 1).unwrap()
}

fn writer_of(author: Author) -> usize {
    author.get() as usize - 1
}

fn log_name() -> JournalName {
    JournalName::new("model").unwrap()
}

impl Book {
    /// Returns who wrote an operation.
    pub(crate) fn writer(&self, op: OpId) -> usize {
        writer_of(self.ops[usize::from(op)].0.author.unwrap())
    }

    /// Returns what an operation carries.
    pub(crate) fn place(&self, op: OpId) -> (SeqNo, Checksum) {
        let op = &self.ops[usize::from(op)].0;
        (op.seq_no, op.checksum)
    }

    /// Encodes the operation of `writer` that continues `history`: a no-op, or the creation of a file.
    pub(crate) fn continue_with(&mut self, history: &History, writer: usize, file: Option<usize>) -> OpId {
        let (seq_no, checksum) = history.next();
        let path = |file: usize| LogPath::rooted(format!("/{writer}-{file}").as_bytes()).unwrap();
        let body = file.map_or(OpBody::NoOp, |file| OpBody::Create { path: path(file) });
        let op =
            RecordedOp { seq_no, checksum, author: Some(author(writer)), body, payload: None, mark: None };
        let message = encode(&op);
        let ops = &mut self.ops;
        *self.ids.entry(message.clone()).or_insert_with(|| {
            ops.push((op, message));
            OpId::try_from(ops.len() - 1).unwrap()
        })
    }

    /// Reads `log` from its first byte, as every player does.
    pub(crate) fn read(&mut self, log: &[OpId]) -> Rc<History> {
        if let Some(history) = self.histories.get(log) {
            return Rc::clone(history);
        }
        let mut fsm = Fsm::new(log_name());
        let mut accepted = Vec::new();
        for (at, &id) in log.iter().enumerate() {
            let (op, message) = &self.ops[usize::from(id)];
            let offset = |at: usize| Offset::new(at as u64).unwrap();
            let log = log_name();
            let span = Span { log: &log, begin: offset(at), end: Some(offset(at + 1)) };
            let applied = if self.chain_unchecked {
                let op = RecordedOp { checksum: fsm.next_checksum(), ..op.clone() };
                fsm.apply(&op, &encode(&op), span)
            } else {
                fsm.apply(op, message, span)
            };
            if applied.is_ok() {
                accepted.push(id);
            }
        }
        let history = Rc::new(History { accepted, fsm });
        self.histories.insert(log.to_vec(), Rc::clone(&history));
        history
    }

    /// Writes a log down for people: each operation as author and sequence number, `+` where readers accept it.
    pub(crate) fn show(&mut self, log: &[OpId]) -> String {
        let accepted = self.read(log).accepted.clone();
        let mut next = accepted.iter().peekable();
        let show = |&op: &OpId| {
            let taken = next.next_if(|&&accepted| accepted == op).is_some();
            format!(" {}{}", self.name(op), if taken { "+" } else { "-" })
        };
        log.iter().map(show).collect()
    }

    /// Tells whether an operation is a hand-off's.
    pub(crate) fn is_hand_off(&self, op: OpId) -> bool {
        matches!(self.ops[usize::from(op)].0.body, OpBody::NoOp)
    }

    /// Names an operation: writer, `h` for a hand-off or `w` for a write, sequence number.
    pub(crate) fn name(&self, op: OpId) -> String {
        let what = if self.is_hand_off(op) { 'h' } else { 'w' };
        format!("{}{what}{}", self.writer(op), self.place(op).0)
    }
}

fn encode(op: &RecordedOp) -> Vec<u8> {
    let mut frame = Vec::new();
    let message = encode_op(op, &mut frame).unwrap();
    frame[message].to_vec()
}
