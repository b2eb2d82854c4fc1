//! The state of a history, as a message that can be kept in a file, and how a history goes on from there.
//!
//! *Invariants.* A state that is read back is the one that was saved. Hints that a history goes on by are of the same
//! log and of a later point: what they do not name is dead, and what they name of the past is known here.
//!
//! *Does not* look whether the log still holds the operation that the state ends with.

use bytes::Bytes;

use super::{Fsm, FsmOptions, Node, properties_of};
use crate::hints::{FsmHints, HintsError};
use crate::ids::{Author, Checksum, Fnode, JournalName, LogPath, Offset, SeqNo};
use crate::live::{LiveMap, SavedLive};
use crate::segment::Segment;

/// A [`Fsm`] whose hinted operations were all played.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SavedFsm {
    #[prost(int64, tag = "1")]
    next_seq_no: i64,
    #[prost(fixed32, tag = "2")]
    next_checksum: u32,
    #[prost(string, tag = "3")]
    last_log: String,
    #[prost(string, repeated, tag = "4")]
    logs: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    runs: Vec<SavedSegment>,
    #[prost(message, repeated, tag = "6")]
    nodes: Vec<SavedNode>,
    #[prost(message, repeated, tag = "7")]
    properties: Vec<SavedProperty>,
    #[prost(sint64, optional, tag = "8")]
    last_mark_nanos: Option<i64>,
    #[prost(message, optional, tag = "9")]
    live: Option<SavedLive>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SavedNode {
    #[prost(int64, tag = "1")]
    fnode: i64,
    #[prost(bytes = "vec", repeated, tag = "2")]
    links: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "3")]
    segments: Vec<SavedSegment>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SavedProperty {
    #[prost(bytes = "vec", tag = "1")]
    path: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    content: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SavedSegment {
    #[prost(fixed32, tag = "1")]
    author: u32,
    #[prost(int64, tag = "2")]
    first_seq_no: i64,
    #[prost(uint64, tag = "3")]
    first_offset: u64,
    #[prost(fixed32, tag = "4")]
    first_checksum: u32,
    #[prost(int64, tag = "5")]
    last_seq_no: i64,
    #[prost(uint64, optional, tag = "6")]
    end_offset: Option<u64>,
    #[prost(fixed32, optional, tag = "7")]
    end_checksum: Option<u32>,
    /// Place in `logs`; `None` where the segment names no log.
    #[prost(uint32, optional, tag = "8")]
    log: Option<u32>,
}

/// Why a history cannot go on by hints.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Unrelated {
    Hints(HintsError),
    /// They are of another log.
    OtherLog,
    /// They name a file of the past that is not alive here.
    UnknownFile(Fnode),
}

impl Fsm {
    /// Returns the state as a message; `None` where it has no live map, or hinted operations are yet to be played.
    pub(crate) fn to_saved(&self) -> Option<SavedFsm> {
        let live = self.live.as_ref().filter(|_| self.hinted_segments.is_empty() && !self.of_past)?;
        let mut logs: Vec<String> = Vec::new();
        let mut segments = |segments: &[Segment]| -> Vec<SavedSegment> {
            segments.iter().map(|segment| to_saved(segment, &mut logs)).collect()
        };
        let runs = segments(&self.runs);
        let node = |(fnode, node): (Fnode, &Node)| SavedNode {
            fnode: fnode.get(),
            links: node.links.iter().map(|link| link.as_bytes().to_vec()).collect(),
            segments: segments(&node.segments),
        };
        let nodes = self.nodes.iter().map(node).collect();
        let property = |(path, content): (&LogPath, &Bytes)| SavedProperty {
            path: path.as_bytes().to_vec(),
            content: content.to_vec(),
        };
        Some(SavedFsm {
            next_seq_no: self.next_seq_no.get(),
            next_checksum: self.next_checksum.get(),
            last_log: self.last_log.as_str().to_owned(),
            logs,
            runs,
            nodes,
            properties: self.properties.iter().map(property).collect(),
            last_mark_nanos: self.last_mark_nanos,
            live: Some(live.to_saved()),
        })
    }

    /// Acts as `options` say from here on.
    pub(crate) const fn set_options(&mut self, options: FsmOptions) {
        self.options = options;
    }

    /// Returns the state that was saved; `None` for a message that no state gives.
    pub(crate) fn of_saved(saved: SavedFsm) -> Option<Self> {
        let mut fsm = Self::new(JournalName::new(&saved.last_log).ok()?);
        let logs: Vec<JournalName> =
            saved.logs.iter().map(|log| JournalName::new(log).ok()).collect::<Option<_>>()?;
        let segments = |saved: Vec<SavedSegment>| -> Option<Vec<Segment>> {
            saved.into_iter().map(|saved| of_saved(&saved, &logs)).collect()
        };
        fsm.next_seq_no = SeqNo::new(saved.next_seq_no);
        fsm.next_checksum = Checksum::new(saved.next_checksum);
        fsm.last_mark_nanos = saved.last_mark_nanos;
        fsm.runs = segments(saved.runs)?;
        for node in saved.nodes {
            let (fnode, links) = (Fnode::new(SeqNo::new(node.fnode)), paths(&node.links)?);
            for link in &links {
                if fsm.links.insert(link.clone(), fnode).is_some() {
                    return None;
                }
            }
            if links.is_empty() || !fsm.nodes.push(fnode, Node { links, segments: segments(node.segments)? })
            {
                return None;
            }
        }
        for property in saved.properties {
            let [path] = paths(&[property.path])?.try_into().ok()?;
            fsm.properties.insert(path, property.content.into());
        }
        fsm.live = Some(LiveMap::of_saved(saved.live?)?);
        Some(fsm)
    }

    /// Goes on by `hints` from here, behind which the log has `at`: what they leave out of the rest of the history is not
    /// going to be read. Hints that know of nothing later change nothing.
    ///
    /// # Errors
    /// [`Unrelated`] where they are no hints of a later point of this history.
    pub(crate) fn go_on_by(&mut self, hints: &FsmHints, at: Offset) -> Result<(), Unrelated> {
        let flat = hints.flatten().map_err(Unrelated::Hints)?;
        if hints.log.as_ref() != Some(&self.last_log) {
            return Err(Unrelated::OtherLog);
        }
        let next = self.next_seq_no;
        let mut segments: Vec<Segment> = flat.segments.into_vec();
        segments.retain(|segment| segment.last_seq_no >= next);
        let Some(first) = segments.first_mut() else { return Ok(()) };
        if first.first_seq_no <= next {
            (first.first_seq_no, first.first_offset, first.first_checksum) = (next, at, self.next_checksum);
        }
        let (old, new): (Vec<Fnode>, Vec<Fnode>) =
            flat.fnodes.into_iter().partition(|fnode| fnode.seq_no() < next);
        if let Some(unknown) = old.iter().find(|fnode| self.nodes.get(**fnode).is_none()) {
            return Err(Unrelated::UnknownFile(*unknown));
        }
        let dead = self.nodes.iter().map(|(fnode, _)| fnode);
        let dead: Vec<Fnode> = dead.filter(|fnode| old.binary_search(fnode).is_err()).collect();
        for fnode in dead {
            let links = self.nodes.remove(fnode).map_or(Vec::new(), |node| node.links);
            for link in &links {
                self.links.remove(link);
            }
            if let Some(live) = &mut self.live {
                live.lose(fnode, links.len() as u32);
            }
        }
        self.properties = properties_of(hints);
        self.last_mark_nanos = self.last_mark_nanos.max(hints.as_of.map(|as_of| as_of.unix_nanos));
        self.hinted_fnodes = new.into();
        self.hinted_segments = segments.into();
        self.jump();
        Ok(())
    }
}

/// Returns paths that may be used.
fn paths(saved: &[Vec<u8>]) -> Option<Vec<LogPath>> {
    saved
        .iter()
        .map(|path| {
            let path = LogPath::from_bytes(path);
            path.check().is_ok().then_some(path)
        })
        .collect()
}

fn to_saved(segment: &Segment, logs: &mut Vec<String>) -> SavedSegment {
    let log = segment.log.as_ref().map(|log| {
        let place = logs.iter().rposition(|known| known == log.as_str()).unwrap_or_else(|| {
            logs.push(log.as_str().to_owned());
            logs.len() - 1
        });
        place as u32
    });
    SavedSegment {
        author: segment.author.get(),
        first_seq_no: segment.first_seq_no.get(),
        first_offset: segment.first_offset.get(),
        first_checksum: segment.first_checksum.get(),
        last_seq_no: segment.last_seq_no.get(),
        end_offset: segment.end_offset.map(Offset::get),
        end_checksum: segment.end_checksum.map(Checksum::get),
        log,
    }
}

fn of_saved(saved: &SavedSegment, logs: &[JournalName]) -> Option<Segment> {
    let end_offset = match saved.end_offset {
        Some(end) => Some(Offset::new(end)?),
        None => None,
    };
    let log = match saved.log {
        Some(place) => Some(logs.get(place as usize)?.clone()),
        None => None,
    };
    Some(Segment {
        author: Author::new(saved.author)?,
        first_seq_no: SeqNo::new(saved.first_seq_no),
        first_offset: Offset::new(saved.first_offset)?,
        first_checksum: Checksum::new(saved.first_checksum),
        last_seq_no: SeqNo::new(saved.last_seq_no),
        end_offset,
        end_checksum: saved.end_checksum.map(Checksum::new),
        log,
    })
}
