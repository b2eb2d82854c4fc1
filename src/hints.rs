//! Hints: which files of a log are alive, and which ranges of the log still matter for them.
//!
//! *Invariants.* [`FsmHints::flatten`] gives the ranges a player reads, in the order of history, or names the
//! rule that the hints break; nothing else may be played. Hints that are taken from a state machine always
//! flatten.
//!
//! *Does not* know its encodings (`wire::json`, `wire::proto`), nor which of several sets is the best
//! (`hint_store`).

use std::fmt;

use bytes::Bytes;

use crate::ids::{Author, Checksum, Fnode, JournalName, LogPath, Offset, SeqNo};
use crate::segment::{Segment, SegmentError, SegmentSet};

/// What a player needs to know of a log before it reads it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FsmHints {
    /// The log that is recorded now. Segments without a log of their own lie in it.
    pub log: Option<JournalName>,
    /// The live files, by ascending [`Fnode`].
    pub files: Vec<HintedFile>,
    /// The properties, by path.
    pub properties: Vec<Property>,
    /// The head of the log that these hints describe (an extension; `None` in hints of the reference).
    pub as_of: Option<AsOf>,
}

/// A live file and the ranges of the log that hold its operations.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HintedFile {
    /// The file.
    pub fnode: Fnode,
    /// Its segments, in order; the first begins with the operation that creates the file.
    pub segments: Vec<Segment>,
}

/// A small file that is kept by name and whole content.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Property {
    /// Its path.
    pub path: LogPath,
    /// Its content.
    pub content: Bytes,
}

/// The head of a log that hints describe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AsOf {
    /// Where the last operation that the hints know of ends.
    pub offset: Offset,
    /// That operation.
    pub seq_no: SeqNo,
    /// Checksum of the history after it.
    pub checksum: Checksum,
    /// Its author, where there is such an operation.
    pub author: Option<Author>,
    /// When the hints were taken, in nanoseconds since the Unix epoch.
    pub unix_nanos: i64,
}

/// The ranges of hints in the order of history.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FlatHints {
    /// The live files, by ascending [`Fnode`].
    pub fnodes: Vec<Fnode>,
    /// Every segment, merged where they overlap; each names its log.
    pub segments: SegmentSet,
}

impl FsmHints {
    /// Makes hints that name no file: a player reads `log` from its first byte.
    pub fn empty(log: JournalName) -> Self {
        Self { log: Some(log), ..Self::default() }
    }

    /// Orders all segments by history.
    ///
    /// # Errors
    /// The first [`HintsError`] in the order of files and segments.
    pub fn flatten(&self) -> Result<FlatHints, HintsError> {
        let mut flattener = Flattener::new(self.log.clone());
        for file in &self.files {
            flattener.file(file.fnode, file.segments.first().map(|segment| segment.first_seq_no))?;
            for segment in &file.segments {
                flattener.segment(segment.clone())?;
            }
        }
        flattener.finish()
    }

    /// Moves every position of `log` at or past `from` by `bytes`, as [`Fsm::shift_offsets`] does.
    ///
    /// [`Fsm::shift_offsets`]: crate::Fsm::shift_offsets
    pub(crate) fn shift_offsets(&mut self, log: &JournalName, from: Offset, bytes: u64) {
        let own = self.log.as_ref() == Some(log);
        for segment in self.files.iter_mut().flat_map(|file| &mut file.segments) {
            if segment.log.as_ref().map_or(own, |of| of == log) {
                segment.shift(from, bytes);
            }
        }
        if let Some(as_of) = self.as_of.as_mut().filter(|as_of| own && as_of.offset > from) {
            as_of.offset = as_of.offset.saturating_add(bytes);
        }
    }

    /// Returns the greatest sequence number that the hints vouch for: that of [`AsOf`], else that of the last
    /// segment; `None` for hints that name no file.
    pub fn last_seq_no(&self) -> Option<SeqNo> {
        let segments = self.files.iter().flat_map(|file| &file.segments);
        let last = segments.map(|segment| segment.last_seq_no).max();
        self.as_of.map(|as_of| as_of.seq_no).max(last)
    }
}

/// Checks files and segments one by one, in the order and with the precedence of the reference.
pub(crate) struct Flattener {
    log: Option<JournalName>,
    flat: FlatHints,
}

impl Flattener {
    pub(crate) fn new(log: Option<JournalName>) -> Self {
        Self { log, flat: FlatHints::default() }
    }

    /// Begins a file whose first segment begins at `first_seq_no`.
    pub(crate) fn file(&mut self, fnode: Fnode, first_seq_no: Option<SeqNo>) -> Result<(), HintsError> {
        if first_seq_no != Some(fnode.seq_no()) {
            return Err(HintsError::FnodeMatch { fnode, first_seq_no });
        }
        if let Some(before) = self.flat.fnodes.last().copied().filter(|before| *before >= fnode) {
            return Err(HintsError::MonotonicFnode { fnode, before });
        }
        self.flat.fnodes.push(fnode);
        Ok(())
    }

    /// Adds a segment of the file that was begun last.
    pub(crate) fn segment(&mut self, mut segment: Segment) -> Result<(), HintsError> {
        if segment.log.is_none() {
            segment.log.clone_from(&self.log);
        }
        self.flat.segments.add(segment).map_err(HintsError::Segment)
    }

    pub(crate) fn finish(self) -> Result<FlatHints, HintsError> {
        match self.flat.segments.as_slice().last() {
            Some(last) if last.log != self.log => {
                Err(HintsError::Log { hints: self.log, segment: last.log.clone() })
            }
            _ => Ok(self.flat),
        }
    }
}

/// Why hints cannot be played.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum HintsError {
    /// The hints name no log.
    NoLog,
    /// The name of the hints' log is not a journal name.
    LogName {
        /// The name, and the rule that it breaks.
        reason: String,
    },
    /// A file has no segment, or its first segment does not begin with its creation.
    FnodeMatch {
        /// The file.
        fnode: Fnode,
        /// Where its first segment begins.
        first_seq_no: Option<SeqNo>,
    },
    /// Files are not in ascending order.
    MonotonicFnode {
        /// The file.
        fnode: Fnode,
        /// The file before it.
        before: Fnode,
    },
    /// A segment is not well formed, or contradicts another.
    Segment(SegmentError),
    /// The last segment does not lie in the log that the hints are of.
    Log {
        /// The log of the hints.
        hints: Option<JournalName>,
        /// The log of the last segment.
        segment: Option<JournalName>,
    },
    /// The hints are not those that were written.
    Digest {
        /// The CRC-32C that they carry.
        expected: u32,
        /// That of what they hold.
        actual: u32,
    },
    /// The bytes are neither the JSON nor the protobuf form of hints.
    Encoding {
        /// What is wrong, and where.
        reason: String,
    },
}

impl fmt::Display for HintsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |log: &Option<JournalName>| log.as_ref().map_or("none".into(), ToString::to_string);
        match self {
            Self::NoLog => f.write_str("hints name no log"),
            Self::LogName { reason } => write!(f, "hints name a log that cannot be: {reason}"),
            Self::FnodeMatch { fnode, first_seq_no: Some(first) } => {
                write!(f, "the first segment of hinted file {fnode} begins at seq-no {first}, not at {fnode}")
            }
            Self::FnodeMatch { fnode, first_seq_no: None } => {
                write!(f, "hinted file {fnode} has no segment")
            }
            Self::MonotonicFnode { fnode, before } => {
                write!(f, "hinted file {fnode} comes after file {before}; expected ascending order")
            }
            Self::Segment(_) => f.write_str("a hinted segment cannot be"),
            Self::Log { hints, segment } => write!(
                f,
                "expected the last hinted segment in the hints' log {}, found it in {}",
                or_none(hints),
                or_none(segment)
            ),
            Self::Digest { expected, actual } => {
                write!(
                    f,
                    "hints are not what was written: expected CRC-32C {expected:08x}, found {actual:08x}"
                )
            }
            Self::Encoding { reason } => write!(f, "hints do not decode: {reason}"),
        }
    }
}

impl std::error::Error for HintsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Segment(source) => Some(source),
            _ => None,
        }
    }
}

impl From<HintsError> for crate::Error {
    fn from(error: HintsError) -> Self {
        Self::new(crate::ErrorKind::InvalidHints, "hints do not validate").with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str) -> JournalName {
        JournalName::new(name).unwrap()
    }

    fn segment(seq_nos: (i64, i64), offsets: (u64, u64), log: Option<&JournalName>) -> Segment {
        Segment {
            author: Author::new(7).unwrap(),
            first_seq_no: SeqNo::new(seq_nos.0),
            first_offset: Offset::new(offsets.0).unwrap(),
            first_checksum: Checksum::new(seq_nos.0 as u32),
            last_seq_no: SeqNo::new(seq_nos.1),
            end_offset: Offset::new(offsets.1),
            end_checksum: None,
            log: log.cloned(),
        }
    }

    /// One file, with a segment in a log that was forked from and one in `acme/log`, where it stands at offset 50.
    fn hints() -> FsmHints {
        let fork = log("acme/old");
        let segments = vec![segment((1, 2), (0, 20), Some(&fork)), segment((5, 6), (30, 50), None)];
        let as_of = AsOf {
            offset: Offset::new(50).unwrap(),
            seq_no: SeqNo::new(6),
            checksum: Checksum::new(9),
            author: Author::new(7),
            unix_nanos: 1,
        };
        FsmHints {
            files: vec![HintedFile { fnode: Fnode::new(SeqNo::FIRST), segments }],
            as_of: Some(as_of),
            ..FsmHints::empty(log("acme/log"))
        }
    }

    #[test]
    fn hints_move_in_their_own_log_with_what_they_describe() {
        let offsets = |hints: &FsmHints| {
            let segments = hints.files[0].segments.iter();
            let of_segments = segments.flat_map(|s| [s.first_offset.get(), s.end_offset.unwrap().get()]);
            of_segments.chain(hints.as_of.map(|as_of| as_of.offset.get())).collect::<Vec<_>>()
        };
        let moved = |log: &str, from: u64| {
            let mut hints = hints();
            hints.shift_offsets(&JournalName::new(log).unwrap(), Offset::new(from).unwrap(), 100);
            offsets(&hints)
        };
        assert_eq!(moved("acme/log", 0), [0, 20, 130, 150, 150]);
        assert_eq!(moved("acme/log", 40), [0, 20, 30, 150, 150]);
        assert_eq!(moved("acme/log", 50), [0, 20, 30, 50, 50], "what ends at the point does not move");
        assert_eq!(moved("acme/old", 0), [100, 120, 30, 50, 50]);
        assert_eq!(moved("acme/else", 0), [0, 20, 30, 50, 50]);
    }

    #[test]
    fn hints_vouch_up_to_their_head_or_their_last_segment() {
        assert_eq!(hints().last_seq_no(), Some(SeqNo::new(6)));
        let beyond = AsOf { seq_no: SeqNo::new(8), ..hints().as_of.unwrap() };
        assert_eq!(FsmHints { as_of: Some(beyond), ..hints() }.last_seq_no(), Some(SeqNo::new(8)));
        assert_eq!(FsmHints { as_of: None, ..hints() }.last_seq_no(), Some(SeqNo::new(6)));
        let empty = FsmHints::empty(log("acme/log"));
        assert_eq!((empty.last_seq_no(), empty.log), (None, Some(log("acme/log"))));
    }

    #[test]
    fn hints_that_do_not_flatten_name_the_rule() {
        use std::error::Error as _;

        let flat = hints().flatten().unwrap();
        let of: Vec<_> = flat.segments.as_slice().iter().map(|s| s.log.as_ref().unwrap().as_str()).collect();
        assert_eq!((flat.fnodes, of), (vec![Fnode::new(SeqNo::FIRST)], vec!["acme/old", "acme/log"]));

        let broken = |change: fn(&mut FsmHints)| {
            let mut hints = hints();
            change(&mut hints);
            hints.flatten().unwrap_err()
        };
        let wrong = broken(|hints| hints.files[0].fnode = Fnode::new(SeqNo::new(2)));
        assert_eq!(wrong.to_string(), "the first segment of hinted file 2 begins at seq-no 1, not at 2");
        let wrong = broken(|hints| hints.files[0].segments.clear());
        assert_eq!(wrong.to_string(), "hinted file 1 has no segment");
        let wrong = broken(|hints| hints.files.push(hints.files[0].clone()));
        assert_eq!(wrong.to_string(), "hinted file 1 comes after file 1; expected ascending order");
        assert!(wrong.source().is_none());
        let wrong = broken(|hints| hints.files[0].segments[1].log = Some(log("acme/old")));
        let text = "expected the last hinted segment in the hints' log acme/log, found it in acme/old";
        assert_eq!(wrong.to_string(), text);
        let wrong = broken(|hints| hints.files[0].segments[1].last_seq_no = SeqNo::new(3));
        assert!(
            wrong.source().unwrap().to_string().starts_with("expected a last sequence number"),
            "{wrong}"
        );
    }
}
