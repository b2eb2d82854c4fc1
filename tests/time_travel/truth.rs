//! What the tree was behind each operation, by a reader that knows nothing of hints, plans or points.

use std::collections::BTreeMap;
use std::sync::Arc;

use recoverylog::journal::{Journal, ReadRange, ReadStep};
use recoverylog::scan::{Found, LogScan, ScanOptions};
use recoverylog::{Checksum, Fnode, JournalName, Mark, Offset, OpBody, SeqNo};

use super::writer::{Shard, soon};

/// Files and properties by path; several paths of one number are one file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tree {
    pub(crate) links: BTreeMap<String, Fnode>,
    pub(crate) contents: BTreeMap<Fnode, Vec<u8>>,
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

/// Reads the history of a shard out of all of its logs.
pub(crate) fn read(shard: &Shard) -> Vec<Moment> {
    let (mut next, mut checksum) = (SeqNo::FIRST, Checksum::ZERO);
    let (mut tree, mut moments) = (Tree::default(), Vec::new());
    for log in &shard.logs {
        let journal = shard.journals.journal(log);
        let bytes = content(&*journal);
        for found in LogScan::open(Arc::clone(&journal) as Arc<dyn Journal>, ScanOptions::default()).unwrap()
        {
            let Found::Op(found) = found.unwrap() else { continue };
            if found.op.author.is_none() || (found.op.seq_no, found.op.checksum) != (next, checksum) {
                continue;
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

pub(crate) fn content(journal: &dyn Journal) -> Vec<u8> {
    let head = journal.head(soon()).unwrap().offset;
    let mut reader = journal.read(ReadRange::bounded(Offset::ZERO, head)).unwrap();
    let mut bytes = Vec::new();
    while let ReadStep::Chunk(chunk) = reader.next(soon()).unwrap() {
        let begin = bytes.len();
        bytes.resize(begin + chunk.len() as usize, 0);
        chunk.read_exact_at(&mut bytes[begin..], 0).unwrap();
    }
    bytes
}

impl Tree {
    fn apply(&mut self, body: &OpBody, seq_no: SeqNo, payload: &[u8]) {
        match body {
            OpBody::NoOp => {}
            OpBody::Create { path } => {
                self.links.insert(path.to_string(), Fnode::new(seq_no));
                self.contents.insert(Fnode::new(seq_no), Vec::new());
            }
            OpBody::Link { fnode, path } => drop(self.links.insert(path.to_string(), *fnode)),
            OpBody::Unlink { fnode, path } => {
                self.links.remove(&path.to_string());
                if !self.links.values().any(|other| other == fnode) {
                    self.contents.remove(fnode);
                }
            }
            OpBody::Write { fnode, offset } => {
                let content = self.contents.get_mut(fnode).unwrap();
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
