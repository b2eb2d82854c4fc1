//! What the tree was behind each operation, by a reader that knows nothing of hints, plans or points.
//!
//! *Invariants.* An operation is of the history where its number and its checksum go on with what was before.
//!
//! *Does not* hide anything but on demand.

use std::collections::BTreeMap;
use std::sync::Arc;

use recoverylog::journal::{Journal, MemoryJournals};
use recoverylog::scan::{Found, LogScan, ScanOptions};
use recoverylog::{Checksum, Fnode, JournalName, Mark, Offset, OpBody, SeqNo};

use super::bytes;

/// Files and properties by path; several paths of one number are one file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tree {
    pub(crate) links: BTreeMap<String, Fnode>,
    /// Shared by the trees in which a file is the same.
    pub(crate) contents: BTreeMap<Fnode, Arc<Vec<u8>>>,
    pub(crate) properties: BTreeMap<String, Vec<u8>>,
}

/// An operation of the history, and the tree behind it.
pub(crate) struct Moment {
    pub(crate) seq_no: SeqNo,
    pub(crate) log: JournalName,
    pub(crate) end: Offset,
    pub(crate) mark: Option<Mark>,
    pub(crate) tree: Tree,
}

/// Reads a history out of its logs, which are whole, each up to an operation or to its head.
pub(crate) fn read(journals: &MemoryJournals, logs: &[(JournalName, Option<SeqNo>)]) -> Vec<Moment> {
    let (mut next, mut checksum) = (SeqNo::FIRST, Checksum::ZERO);
    let (mut tree, mut moments) = (Tree::default(), Vec::new());
    for (log, last) in logs {
        let journal = journals.journal(log);
        let bytes = bytes::from(&*journal, Offset::ZERO);
        for found in LogScan::open(Arc::clone(&journal) as Arc<dyn Journal>, ScanOptions::default()).unwrap()
        {
            let Found::Op(found) = found.unwrap() else { continue };
            if found.op.author.is_none() || (found.op.seq_no, found.op.checksum) != (next, checksum) {
                continue;
            }
            if last.is_some_and(|last| next > last) {
                break;
            }
            (next, checksum) = (next.next(), checksum.extend(&found.message));
            let payload = &bytes[found.payload_begin.get() as usize..found.end.get() as usize];
            tree.apply(&found.op.body, found.op.seq_no, payload);
            let (seq_no, end, mark) = (found.op.seq_no, found.end, found.op.mark);
            moments.push(Moment { seq_no, log: log.clone(), end, mark, tree: tree.clone() });
        }
    }
    moments
}

impl Tree {
    fn apply(&mut self, body: &OpBody, seq_no: SeqNo, payload: &[u8]) {
        match body {
            OpBody::NoOp => {}
            OpBody::Create { path } => {
                self.links.insert(path.to_string(), Fnode::new(seq_no));
                self.contents.insert(Fnode::new(seq_no), Arc::default());
            }
            OpBody::Link { fnode, path } => drop(self.links.insert(path.to_string(), *fnode)),
            OpBody::Unlink { fnode, path } => {
                self.links.remove(&path.to_string());
                if !self.links.values().any(|other| other == fnode) {
                    self.contents.remove(fnode);
                }
            }
            OpBody::Write { fnode, offset } => {
                let content = Arc::make_mut(self.contents.get_mut(fnode).unwrap());
                let range = *offset as usize..*offset as usize + payload.len();
                if !payload.is_empty() {
                    content.resize(content.len().max(range.end), 0);
                    content[range].copy_from_slice(payload);
                }
            }
            OpBody::Property { path, content } => {
                drop(self.properties.insert(path.to_string(), content.to_vec()));
            }
        }
    }

    /// Leaves out what players hide.
    pub(crate) fn shown(&self) -> Self {
        let mut shown = self.clone();
        shown.links.retain(|path, _| !path.starts_with("/.recoverylog/"));
        let links = &shown.links;
        shown.contents.retain(|fnode, _| links.values().any(|other| other == fnode));
        shown
    }
}
