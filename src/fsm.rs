//! The state machine of a history: which operations belong to it, which files live, where their ranges lie.
//!
//! *Invariants.* A rejected operation leaves the state as it was. An accepted one, applied or not tracked,
//! advances sequence number and checksum. While hinted segments remain, only their operations are accepted.
//! No segment of a file spans a jump between hinted segments, or an operation of another author or log, unless
//! [`FsmOptions::collapse_gaps`] asks for the reference's form.
//!
//! *Does not* read, decode, or touch a file; does not judge what a rejection means (the player does).

mod branches;
mod nodes;
mod saved;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use bytes::Bytes;

pub(crate) use self::branches::{Branches, End};
pub use self::nodes::Node;
use self::nodes::Nodes;
pub(crate) use self::saved::{SavedFsm, Unrelated};
use crate::hints::{AsOf, FsmHints, HintedFile, HintsError, Property};
use crate::ids::{Author, Checksum, Fnode, JournalName, LogPath, Offset, SeqNo};
use crate::live::{Change, LiveMap, What};
use crate::op::{OpBody, Payload, RecordedOp};
use crate::planted::{Bug, planted};
use crate::segment::{Segment, SegmentSet};

/// Where an operation was found: from the begin of its frame to the end of its payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span<'a> {
    /// The log.
    pub log: &'a JournalName,
    /// Where the frame begins.
    pub begin: Offset,
    /// Where the payload ends, exclusive; `None` while that is not known.
    pub end: Option<Offset>,
}

/// A point between two operations of a history.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Position {
    /// Where in the log the operation after this point begins.
    pub offset: Offset,
    /// The sequence number of the operation after this point.
    pub next_seq_no: SeqNo,
    /// The checksum that the operation after this point carries.
    pub next_checksum: Checksum,
}

/// Where this state machine may act as the reference does. The default does not.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice by itself")]
pub struct FsmOptions {
    /// Extend a file's last segment over gaps, as long as author and log are the same.
    pub collapse_gaps: bool,
    /// While hinted segments remain and no hinted file does, take a create for a live file. It belongs to one
    /// that had died when the hints were taken, whose unlink may lie in a gap.
    pub accept_unhinted_creates: bool,
    /// While hinted segments remain, let an operation set a property that the hints already have. What the hints
    /// have is later, and the operation that set it may lie in a gap.
    pub overwrite_hinted_properties: bool,
    /// Do not keep track of which ranges of a file are alive ([`Fsm::live_map`]).
    pub without_live_map: bool,
}

impl FsmOptions {
    /// Acts as the reference in all of it.
    pub const REFERENCE: Self = Self {
        collapse_gaps: true,
        accept_unhinted_creates: true,
        overwrite_hinted_properties: true,
        without_live_map: true,
    };
}

/// The state of a history after some of its operations.
#[derive(Clone, Debug)]
pub struct Fsm {
    options: FsmOptions,
    next_seq_no: SeqNo,
    next_checksum: Checksum,
    last_log: JournalName,
    /// The accepted operations as ranges of one author in one log, with nothing left out inside of one.
    runs: Vec<Segment>,
    /// The next accepted operation begins a range of its own: hinted segments left out what lies before it.
    jumped: bool,
    nodes: Nodes,
    links: BTreeMap<LogPath, Fnode>,
    properties: BTreeMap<LogPath, Bytes>,
    hinted_segments: VecDeque<Segment>,
    hinted_fnodes: VecDeque<Fnode>,
    last_mark_nanos: Option<i64>,
    live: Option<LiveMap>,
    /// The map is with a recorder, which alone can go on with it.
    live_is_taken: bool,
    /// The log goes on behind the operation accepted last.
    of_past: bool,
}

/// What an accepted operation did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transition {
    /// Nothing but to advance.
    NoOp,
    /// A file was created and linked.
    Created(Fnode),
    /// A file was linked at a further path.
    Linked,
    /// A file lost a path.
    Unlinked {
        /// It was the last one: the file is gone.
        last: bool,
    },
    /// A file was written to.
    Written,
    /// A property was set.
    PropertySet,
    /// The operation belongs to the history, and to a file that is not tracked: one that is dead by the hints. Or
    /// it set a property of which the hints have a later content.
    Untracked,
}

impl Fsm {
    /// Begins an empty history in `log`.
    pub fn new(log: JournalName) -> Self {
        Self {
            options: FsmOptions::default(),
            next_seq_no: SeqNo::FIRST,
            next_checksum: Checksum::ZERO,
            last_log: log,
            runs: Vec::new(),
            jumped: false,
            nodes: Nodes::default(),
            links: BTreeMap::new(),
            properties: BTreeMap::new(),
            hinted_segments: VecDeque::new(),
            hinted_fnodes: VecDeque::new(),
            last_mark_nanos: None,
            live: Some(LiveMap::default()),
            live_is_taken: false,
            of_past: false,
        }
    }

    /// Begins at the first hinted operation.
    ///
    /// # Errors
    /// [`HintsError`] where the hints name no log, or do not flatten.
    pub fn from_hints(hints: &FsmHints, options: FsmOptions) -> Result<Self, HintsError> {
        let log = hints.log.clone().ok_or(HintsError::NoLog)?;
        let flat = hints.flatten()?;
        let mut fsm = Self { options, ..Self::new(log) };
        fsm.live = fsm.live.filter(|_| !options.without_live_map);
        fsm.hinted_segments = flat.segments.into_vec().into();
        fsm.hinted_fnodes = flat.fnodes.into();
        fsm.last_mark_nanos = hints.as_of.map(|as_of| as_of.unix_nanos);
        fsm.properties = properties_of(hints);
        fsm.jump();
        Ok(fsm)
    }

    /// Takes the next operation of a history. `frame` is its encoded form without the frame header, over which
    /// the checksum runs.
    ///
    /// # Errors
    /// A [`Rejection`]; the state is as it was.
    pub fn apply(&mut self, op: &RecordedOp, frame: &[u8], span: Span<'_>) -> Result<Transition, Rejection> {
        let (author, checksum) = self.admit(op, frame)?;
        let transition = match &op.body {
            OpBody::Create { path } => self.create(op.seq_no, path)?,
            _ if self.hinted_fnodes.front().is_some_and(|fnode| fnode.seq_no() == op.seq_no) => {
                return Err(Rejection::ExpectedHintedFnode { fnode: Fnode::new(op.seq_no) });
            }
            OpBody::Link { fnode, path } => self.link_at(*fnode, path)?,
            OpBody::Unlink { fnode, path } => self.unlink(*fnode, path)?,
            OpBody::Write { fnode, .. } if self.nodes.get_mut(*fnode).is_some() => Transition::Written,
            OpBody::Write { .. } => Transition::Untracked,
            OpBody::Property { path, content } => self.set_property(path, content)?,
            OpBody::NoOp => Transition::NoOp,
        };

        self.last_mark_nanos = self.last_mark_nanos.max(op.mark.as_ref().map(|mark| mark.unix_nanos));
        self.extend_run(op, author, checksum, span);
        match (transition, &op.body) {
            (Transition::Created(fnode), _)
            | (Transition::Linked, &OpBody::Link { fnode, .. })
            | (Transition::Unlinked { last: false }, &OpBody::Unlink { fnode, .. })
            | (Transition::Written, &OpBody::Write { fnode, .. }) => {
                self.extend_segments(fnode, op, author, checksum, span);
            }
            _ => {}
        }
        match (&mut self.live, span.end) {
            (Some(live), Some(end)) => {
                live.take(span.log, author, &change(op, checksum, (span.begin, end), transition));
            }
            // Nothing exact can be said of a history whose operations have no known end.
            (live, None) => *live = None,
            (None, Some(_)) => {}
        }
        self.advance(op.seq_no, checksum);
        Ok(transition)
    }

    /// Moves every known position of `log` at or past `from` by `bytes`: operations that were to be appended
    /// there found other bytes in their place, and follow them.
    pub fn shift_offsets(&mut self, log: &JournalName, from: Offset, bytes: u64) {
        let of_nodes = self.nodes.iter_mut().flat_map(|node| &mut node.segments);
        for segment in of_nodes.chain(&mut self.runs) {
            if segment.log.as_ref() == Some(log) {
                segment.shift(from, bytes);
            }
        }
        if let Some(live) = &mut self.live {
            live.shift(log, from, bytes);
        }
    }

    /// Returns which operations of the history still contribute to a live file; `None` where that is kept elsewhere, as
    /// by a recorder, or not at all.
    pub const fn live_map(&self) -> Option<&LiveMap> {
        self.live.as_ref()
    }

    /// Takes the map away: from here on the caller keeps it.
    pub(crate) fn take_live_map(&mut self) -> Option<LiveMap> {
        self.live_is_taken |= self.live.is_some();
        self.live.take()
    }

    /// Gives the map back.
    pub(crate) fn with_live_map(mut self, live: LiveMap) -> Self {
        (self.live, self.live_is_taken) = (Some(live), false);
        self
    }

    /// Tells whether this history has a map, which somebody else keeps.
    pub(crate) const fn is_live_map_elsewhere(&self) -> bool {
        self.live_is_taken
    }

    /// Goes on behind a point that hints vouch for. Nothing is known of the files that were alive there, so that their
    /// operations are not tracked; which operations are accepted is the same.
    pub(crate) fn resume_behind(&mut self, as_of: &AsOf) {
        (self.next_seq_no, self.next_checksum) = (as_of.seq_no.next(), as_of.checksum);
        self.last_mark_nanos = Some(as_of.unix_nanos);
    }

    /// Says whether the log goes on behind this point of its history, so that only another log can go on from here.
    pub(crate) const fn set_of_past(&mut self, of_past: bool) {
        self.of_past = of_past;
    }

    /// Tells whether the log goes on behind this point of its history.
    pub(crate) const fn is_of_past(&self) -> bool {
        self.of_past
    }

    /// Returns the sequence number that the next accepted operation has.
    pub const fn next_seq_no(&self) -> SeqNo {
        self.next_seq_no
    }

    /// Returns the checksum that the next accepted operation carries.
    pub const fn next_checksum(&self) -> Checksum {
        self.next_checksum
    }

    /// Returns the log of the operation accepted last; before the first, the log of the hints.
    pub const fn last_log(&self) -> &JournalName {
        &self.last_log
    }

    /// Returns the author of the operation accepted last.
    pub fn last_author(&self) -> Option<Author> {
        self.runs.last().map(|run| run.author)
    }

    /// Returns the latest time of a mark, and of the hints that the history began with; in nanoseconds since the Unix
    /// epoch.
    pub const fn last_mark_nanos(&self) -> Option<i64> {
        self.last_mark_nanos
    }

    /// Returns the segment that the next accepted operation lies in, while hinted segments remain.
    pub fn hinted_segment(&self) -> Option<&Segment> {
        self.hinted_segments.front()
    }

    /// Returns the hinted segments whose operations were not all accepted yet.
    pub fn hinted_segments(&self) -> impl Iterator<Item = &Segment> {
        self.hinted_segments.iter()
    }

    /// Returns the hinted files that were not created yet.
    pub fn hinted_fnodes(&self) -> impl Iterator<Item = Fnode> {
        self.hinted_fnodes.iter().copied()
    }

    /// Returns the file that is linked at `path`.
    pub fn link(&self, path: &LogPath) -> Option<Fnode> {
        self.links.get(path).copied()
    }

    /// Returns all links, by path.
    pub fn links(&self) -> impl Iterator<Item = (&LogPath, Fnode)> {
        self.links.iter().map(|(path, fnode)| (path, *fnode))
    }

    /// Returns a live file.
    pub fn node(&self, fnode: Fnode) -> Option<&Node> {
        self.nodes.get(fnode)
    }

    /// Returns all live files, by ascending [`Fnode`].
    pub fn nodes(&self) -> impl Iterator<Item = (Fnode, &Node)> {
        self.nodes.iter()
    }

    /// Returns the number of live files.
    pub const fn live_files(&self) -> usize {
        self.nodes.len()
    }

    /// Returns the content of a property.
    pub fn property(&self, path: &LogPath) -> Option<&Bytes> {
        self.properties.get(path)
    }

    /// Returns all properties, by path.
    pub fn properties(&self) -> impl Iterator<Item = (&LogPath, &Bytes)> {
        self.properties.iter()
    }

    /// Builds hints that lead another player to this state; `log` is the log that is recorded now.
    pub fn hints(&self, log: &JournalName) -> FsmHints {
        let file = |(fnode, node): (Fnode, &Node)| HintedFile {
            fnode,
            segments: node.segments.iter().map(|segment| relative_to(log, segment.clone())).collect(),
        };
        let property =
            |(path, content): (&LogPath, &Bytes)| Property { path: path.clone(), content: content.clone() };
        FsmHints {
            log: Some(log.clone()),
            files: self.nodes.iter().map(file).collect(),
            properties: self.properties.iter().map(property).collect(),
            as_of: None,
        }
    }

    /// Builds hints that lead another player to this state and on to its head, as of `unix_nanos`.
    ///
    /// From the creation of the newest live file on they leave nothing out. A player of the reference takes a
    /// create past the last hinted one for a live file; here it finds the unlink too.
    pub fn hints_to_head(&self, log: &JournalName, unix_nanos: i64) -> FsmHints {
        let mut hints = self.hints(log);
        if let Some(head) = self.runs.last() {
            hints.as_of = head.end_offset.map(|offset| AsOf {
                offset,
                seq_no: head.last_seq_no,
                checksum: head.end_checksum.unwrap_or(self.next_checksum),
                author: Some(head.author),
                unix_nanos,
            });
        }
        let Some(newest) = hints.files.last_mut() else { return hints };
        let Some(create) = newest.segments.first().cloned() else { return hints };
        let mut set = SegmentSet::default();
        let since = self.runs.iter().filter(|run| run.last_seq_no >= create.first_seq_no).map(|run| {
            let mut segment = run.clone();
            if segment.first_seq_no <= create.first_seq_no {
                segment.first_seq_no = create.first_seq_no;
                segment.first_offset = create.first_offset;
                segment.first_checksum = create.first_checksum;
            }
            segment
        });
        for segment in since {
            if set.add(segment).is_err() {
                debug_assert!(false, "runs of one history do not contradict each other");
                return hints;
            }
        }
        newest.segments = set.into_vec().into_iter().map(|segment| relative_to(log, segment)).collect();
        hints
    }

    /// Decides whether `op` is the next one of the history; returns its author and the checksum after it.
    fn admit(&self, op: &RecordedOp, frame: &[u8]) -> Result<(Author, Checksum), Rejection> {
        let author = op.author.ok_or(Rejection::ZeroAuthor)?;
        let hinted = self.hinted_segments.front();
        if let Some(hinted) = hinted.filter(|hinted| hinted.author != author) {
            return Err(Rejection::NotHintedAuthor { expected: hinted.author, actual: author });
        }
        if op.seq_no != self.next_seq_no {
            return Err(Rejection::WrongSeqNo { expected: self.next_seq_no, actual: op.seq_no });
        }
        if op.checksum != self.next_checksum && !planted(Bug::NoChain) {
            return Err(Rejection::ChecksumMismatch { expected: self.next_checksum, actual: op.checksum });
        }
        let checksum = op.checksum.extend(frame);
        let end_checksum =
            hinted.filter(|hinted| hinted.last_seq_no == op.seq_no).and_then(|h| h.end_checksum);
        match end_checksum.filter(|expected| *expected != checksum) {
            Some(expected) => Err(Rejection::EndChecksumMismatch { expected, actual: checksum }),
            None => Ok((author, checksum)),
        }
    }

    fn create(&mut self, seq_no: SeqNo, path: &LogPath) -> Result<Transition, Rejection> {
        self.path_is_free(path)?;
        match self.hinted_fnodes.front() {
            Some(hinted) if hinted.seq_no() == seq_no => {
                self.hinted_fnodes.pop_front();
            }
            Some(_) => return Ok(Transition::Untracked),
            None if !self.hinted_segments.is_empty() && !self.options.accept_unhinted_creates => {
                return Ok(Transition::Untracked);
            }
            None => {}
        }
        let fnode = Fnode::new(seq_no);
        // Most files have one segment for as long as they live; a vector that grows begins with four.
        self.nodes.push(fnode, Node { links: vec![path.clone()], segments: Vec::with_capacity(1) });
        self.links.insert(path.clone(), fnode);
        Ok(Transition::Created(fnode))
    }

    fn link_at(&mut self, fnode: Fnode, path: &LogPath) -> Result<Transition, Rejection> {
        self.path_is_free(path)?;
        let Some(node) = self.nodes.get_mut(fnode) else { return Ok(Transition::Untracked) };
        node.links.push(path.clone());
        self.links.insert(path.clone(), fnode);
        Ok(Transition::Linked)
    }

    fn unlink(&mut self, fnode: Fnode, path: &LogPath) -> Result<Transition, Rejection> {
        let Some(node) = self.nodes.get_mut(fnode) else { return Ok(Transition::Untracked) };
        let Some(index) = node.links.iter().position(|link| link == path) else {
            return Err(Rejection::NoSuchLink { fnode });
        };
        node.links.remove(index);
        let last = node.links.is_empty();
        self.links.remove(path);
        if last {
            self.nodes.remove(fnode);
        }
        Ok(Transition::Unlinked { last })
    }

    fn set_property(&mut self, path: &LogPath, content: &Bytes) -> Result<Transition, Rejection> {
        if let Some(fnode) = self.link(path) {
            return Err(Rejection::LinkExists { fnode });
        }
        let is_hinted = !self.hinted_segments.is_empty() && self.properties.contains_key(path);
        if is_hinted && !self.options.overwrite_hinted_properties {
            return Ok(Transition::Untracked);
        }
        self.properties.insert(path.clone(), content.clone());
        Ok(Transition::PropertySet)
    }

    fn path_is_free(&self, path: &LogPath) -> Result<(), Rejection> {
        if let Some(fnode) = self.link(path) {
            return Err(Rejection::LinkExists { fnode });
        }
        if self.properties.contains_key(path) {
            return Err(Rejection::PropertyExists);
        }
        Ok(())
    }

    fn extend_run(&mut self, op: &RecordedOp, author: Author, checksum: Checksum, span: Span<'_>) {
        let jumped = std::mem::take(&mut self.jumped);
        match self.runs.last_mut() {
            Some(run) if !jumped && run.author == author && self.last_log == *span.log => {
                extend(run, op, checksum, span);
            }
            _ => {
                self.last_log = span.log.clone();
                self.runs.push(one_op(op, author, checksum, span));
            }
        }
    }

    fn extend_segments(
        &mut self,
        fnode: Fnode,
        op: &RecordedOp,
        author: Author,
        checksum: Checksum,
        span: Span<'_>,
    ) {
        let run_begin = self.runs.last().map_or(SeqNo::FIRST, |run| run.first_seq_no);
        let Some(node) = self.nodes.get_mut(fnode) else { return };
        let joins = |last: &Segment| {
            if self.options.collapse_gaps {
                last.author == author && last.log.as_ref() == Some(span.log)
            } else {
                last.last_seq_no >= run_begin
            }
        };
        match node.segments.last_mut() {
            Some(last) if joins(last) => extend(last, op, checksum, span),
            _ => node.segments.push(one_op(op, author, checksum, span)),
        }
    }

    fn advance(&mut self, seq_no: SeqNo, checksum: Checksum) {
        self.next_seq_no = seq_no.next();
        self.next_checksum = checksum;
        if self.hinted_segments.front().is_some_and(|hinted| hinted.last_seq_no < self.next_seq_no) {
            self.hinted_segments.pop_front();
            self.jump();
        }
    }

    /// Goes on at the next hinted segment, where there is one.
    fn jump(&mut self) {
        let Some(hinted) = self.hinted_segments.front() else { return };
        self.jumped |= hinted.first_seq_no != self.next_seq_no;
        self.next_seq_no = hinted.first_seq_no;
        self.next_checksum = hinted.first_checksum;
    }
}

/// Returns the properties that hints name, by path.
fn properties_of(hints: &FsmHints) -> BTreeMap<LogPath, Bytes> {
    hints.properties.iter().map(|property| (property.path.clone(), property.content.clone())).collect()
}

/// Returns what liveness has to know of an operation that was accepted.
pub(crate) fn change(
    op: &RecordedOp,
    after: Checksum,
    (begin, end): (Offset, Offset),
    transition: Transition,
) -> Change {
    let what = match (transition, &op.body) {
        (Transition::Created(_), _) => What::Created,
        (Transition::Linked, OpBody::Link { fnode, .. }) => What::Linked(*fnode),
        (Transition::Unlinked { last }, OpBody::Unlink { fnode, .. }) => {
            What::Unlinked { fnode: *fnode, last }
        }
        (Transition::Written, OpBody::Write { fnode, offset }) => {
            let payload = op.payload.unwrap_or(Payload { len: 0, crc32c: None });
            What::Written { fnode: *fnode, at: *offset, len: payload.len, crc32c: payload.crc32c }
        }
        (Transition::PropertySet | Transition::Untracked, OpBody::Property { path, .. }) => {
            What::PropertySet(path.clone())
        }
        (Transition::Untracked, OpBody::Create { .. }) => What::StrayCreated,
        (Transition::Untracked, OpBody::Link { fnode, .. }) => What::StrayLinked(*fnode),
        (Transition::Untracked, OpBody::Unlink { fnode, .. }) => What::StrayUnlinked(*fnode),
        _ => What::Nothing,
    };
    Change { seq_no: op.seq_no, begin, end, before: op.checksum, after, what }
}

/// Begins a segment with one operation.
fn one_op(op: &RecordedOp, author: Author, checksum: Checksum, span: Span<'_>) -> Segment {
    Segment {
        author,
        first_seq_no: op.seq_no,
        first_offset: span.begin,
        first_checksum: op.checksum,
        last_seq_no: op.seq_no,
        end_offset: span.end,
        end_checksum: Some(checksum),
        log: Some(span.log.clone()),
    }
}

/// Extends a segment to one more operation.
const fn extend(segment: &mut Segment, op: &RecordedOp, checksum: Checksum, span: Span<'_>) {
    segment.last_seq_no = op.seq_no;
    segment.end_offset = span.end;
    segment.end_checksum = Some(checksum);
}

/// Leaves out the log of a segment where it is that of the hints.
fn relative_to(log: &JournalName, mut segment: Segment) -> Segment {
    segment.log = segment.log.filter(|of| of != log);
    segment
}

/// Why an operation does not continue the history.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Rejection {
    /// The operation has no author.
    ZeroAuthor,
    /// Another author wrote the hinted segment.
    NotHintedAuthor {
        /// The author of the hinted segment.
        expected: Author,
        /// The author of the operation.
        actual: Author,
    },
    /// The operation has another place in a history.
    WrongSeqNo {
        /// The next sequence number.
        expected: SeqNo,
        /// That of the operation.
        actual: SeqNo,
    },
    /// The operation continues another history.
    ChecksumMismatch {
        /// The checksum of this history.
        expected: Checksum,
        /// That of the history which the operation continues.
        actual: Checksum,
    },
    /// The last operation of a hinted segment is not the one that the hints saw.
    EndChecksumMismatch {
        /// The hinted checksum after the operation.
        expected: Checksum,
        /// The checksum after this operation.
        actual: Checksum,
    },
    /// A file is linked at the path.
    LinkExists {
        /// That file.
        fnode: Fnode,
    },
    /// A property has the path.
    PropertyExists,
    /// The file is not linked at the path.
    NoSuchLink {
        /// The file.
        fnode: Fnode,
    },
    /// By the hints this operation creates a file, and it does not.
    ExpectedHintedFnode {
        /// The hinted file.
        fnode: Fnode,
    },
}

impl Rejection {
    /// Tells whether the operation continues the history by sequence number and checksum, and then asks for
    /// what that history does not allow: the writer's history is not ours.
    pub const fn is_divergence(&self) -> bool {
        matches!(
            self,
            Self::LinkExists { .. }
                | Self::PropertyExists
                | Self::NoSuchLink { .. }
                | Self::ExpectedHintedFnode { .. }
        )
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroAuthor => f.write_str("the author is zero"),
            Self::NotHintedAuthor { expected, actual } => {
                write!(f, "expected the hinted author {expected}, found {actual}")
            }
            Self::WrongSeqNo { expected, actual } => write!(f, "expected seq-no {expected}, found {actual}"),
            Self::ChecksumMismatch { expected, actual } => {
                write!(f, "expected a history with checksum {expected}, found {actual}")
            }
            Self::EndChecksumMismatch { expected, actual } => {
                write!(f, "expected checksum {expected} at the end of a hinted segment, found {actual}")
            }
            Self::LinkExists { fnode } => write!(f, "file {fnode} is linked at the path already"),
            Self::PropertyExists => f.write_str("a property has the path already"),
            Self::NoSuchLink { fnode } => write!(f, "file {fnode} is not linked at the path"),
            Self::ExpectedHintedFnode { fnode } => {
                write!(f, "expected the creation of hinted file {fnode}")
            }
        }
    }
}

impl std::error::Error for Rejection {}

#[cfg(test)]
mod tests;
