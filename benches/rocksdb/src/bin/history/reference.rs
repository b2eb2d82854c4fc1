//! The rule of the reference, over what an engine recorded.
//!
//! *Invariants.* What the engine recorded has the offsets that it would have in a log where nothing else is.
//!
//! *Does not* look at the bytes of writes.

use std::collections::{BTreeMap, BTreeSet};

use recoverylog::fsm::{Span, Transition};
use recoverylog::wire::encode_op;
use recoverylog::{Fnode, Fsm, FsmHints, FsmOptions, JournalName, LogPath, Offset, OpBody, RecordedOp};

use crate::Needs;

/// A log without what was rewritten in it, and the reference's state behind it.
pub(crate) struct Reference {
    log: JournalName,
    fsm: Fsm,
    head: Offset,
    /// The files of the log that is recorded, and those that they are here.
    files: BTreeMap<Fnode, Fnode>,
    /// The links that a rewrite took away, and is to give to another file.
    moving: BTreeMap<LogPath, Fnode>,
    frame: Vec<u8>,
}

impl Reference {
    pub(crate) fn new(log: JournalName) -> Self {
        let fsm = Fsm::from_hints(&FsmHints::empty(log.clone()), FsmOptions::REFERENCE).expect("a log");
        let (files, moving) = (BTreeMap::new(), BTreeMap::new());
        Self { log, fsm, head: Offset::ZERO, files, moving, frame: Vec::new() }
    }

    /// Takes an operation of the engine.
    pub(crate) fn take(&mut self, mut op: RecordedOp) {
        let recorded = Fnode::new(op.seq_no);
        match &mut op.body {
            OpBody::NoOp => return,
            OpBody::Link { fnode, .. } | OpBody::Unlink { fnode, .. } | OpBody::Write { fnode, .. } => {
                *fnode = self.files[fnode];
            }
            OpBody::Create { .. } | OpBody::Property { .. } => {}
        }
        (op.seq_no, op.checksum) = (self.fsm.next_seq_no(), self.fsm.next_checksum());
        self.frame.clear();
        let message = encode_op(&op, &mut self.frame).expect("an operation");
        let end = self.head.saturating_add(self.frame.len() as u64 + op.payload_len());
        let span = Span { log: &self.log, begin: self.head, end: Some(end) };
        let transition =
            self.fsm.apply(&op, &self.frame[message], span).expect("an operation that was recorded");
        if let Transition::Created(fnode) = transition {
            self.files.insert(recorded, fnode);
        }
        self.head = end;
    }

    /// Leaves out an operation of the rewriter, and notes which file became which.
    pub(crate) fn leave_out(&mut self, op: RecordedOp) {
        match op.body {
            OpBody::Unlink { fnode, path } => {
                self.moving.insert(path, self.files[&fnode]);
            }
            OpBody::Create { path } => {
                let fnode = self.moving.remove(&path).expect("a file that is moved");
                self.files.insert(Fnode::new(op.seq_no), fnode);
            }
            OpBody::Link { .. } | OpBody::Write { .. } | OpBody::NoOp => {}
            OpBody::Property { path, .. } => panic!("a rewriter does not set {path}"),
        }
    }

    /// Returns the bytes that were recorded.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.head.get()
    }

    /// Returns what a recovery needs, of fragments of so many bytes.
    pub(crate) fn needs(&self, fragment_bytes: u64) -> Needs {
        let hints = self.fsm.hints(&self.log);
        let (mut read, mut reaches, mut fragments) = (0, 0, BTreeSet::new());
        let mut need = |begin: u64, end: u64| {
            if begin < end {
                read += end - begin;
                fragments.extend(begin / fragment_bytes..=(end - 1) / fragment_bytes);
            }
        };
        for segment in hints.flatten().expect("hints").segments.as_slice() {
            let end = segment.end_offset.expect("an end").get();
            need(segment.first_offset.get(), end);
            reaches = reaches.max(end);
        }
        need(reaches, self.head.get());
        // The last one has not been written to its end.
        let last = (fragments.len() as u64).saturating_sub(1) * fragment_bytes;
        let begin = fragments.last().map_or(0, |last| last * fragment_bytes);
        Needs { read, kept: last + self.head.get().saturating_sub(begin) }
    }
}
