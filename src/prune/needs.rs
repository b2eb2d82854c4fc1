//! What one set of hints needs of one log.
//!
//! *Invariants.* A play by the set reads nothing else of the log than what is here: see `player::Plan`.
//!
//! *Does not* know what is stored, beyond checking that what is needed is.

use super::{Keep, SetNeeds, Source, SourceKind, Why};
use crate::error::{Error, ErrorKind, Result};
use crate::hints::{AsOf, FsmHints};
use crate::ids::{Fnode, JournalName, Offset};
use crate::journal::{Fragment, Stored};

/// What a set needs.
#[derive(Clone, Debug)]
pub(super) struct Needs {
    pub(super) source: String,
    pub(super) name: String,
    pub(super) kind: SourceKind,
    pub(super) log: JournalName,
    pub(super) as_of: Option<AsOf>,
    files: usize,
    json_bytes: usize,
    /// By begin; they may overlap.
    ranges: Vec<Range>,
    /// For each range, the one with the greatest end among it and those before it.
    longest: Vec<usize>,
    /// Bytes that a play reads.
    reads_bytes: u64,
    /// Where the set stops to name what is needed, and a play goes on to the head.
    reaches: Offset,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    begin: Offset,
    end: Offset,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Named(Fnode),
    Spanned(Fnode),
    PastHead,
    KeptWhole,
}

impl Needs {
    /// Asks the set `name` of `source` what it needs of a log, of which it is known where its head is and what is stored.
    ///
    /// # Errors
    /// `InvalidHints`; `DataLoss` where the log does not have, or does not store, what is needed.
    pub(super) fn of(
        (source, name): (&Source, &str),
        hints: &FsmHints,
        (log, head, stored): (&JournalName, Offset, &Stored),
        keep: Keep,
    ) -> Result<Self> {
        let flat = hints.flatten()?;
        let Some(own) = hints.log.clone() else {
            return Err(Error::new(ErrorKind::InvalidHints, "hints name no log"));
        };
        let is_of_log = own == *log;
        let mut ranges = Vec::new();
        for file in &hints.files {
            let mut span: Option<Range> = None;
            for segment in &file.segments {
                if *segment.log.as_ref().unwrap_or(&own) != *log {
                    continue;
                }
                let end = segment.end_offset.unwrap_or(head);
                if segment.first_offset >= head || end > head {
                    let what = "hints name operations past the head of the log";
                    return Err(Error::new(ErrorKind::DataLoss, what)
                        .in_log(log)
                        .at(segment.first_offset)
                        .expected(segment, format_args!("a head of {head}")));
                }
                ranges.push(Range { begin: segment.first_offset, end, what: What::Named(file.fnode) });
                let span = span.get_or_insert(Range {
                    begin: segment.first_offset,
                    end,
                    what: What::Spanned(file.fnode),
                });
                span.begin = span.begin.min(segment.first_offset);
                span.end = span.end.max(end);
            }
            ranges.extend(span.filter(|_| keep == Keep::Spans));
        }
        // As a plan of the player: on from the end of the last segment, or from the first byte.
        let last = flat.segments.as_slice().last();
        let reaches = last.map_or(Offset::ZERO, |last| last.end_offset.unwrap_or(head));
        if is_of_log && source.kind == SourceKind::Recovery && reaches < head {
            ranges.push(Range { begin: reaches, end: head, what: What::PastHead });
        }
        let mut needs = Self {
            source: source.name.clone(),
            name: name.to_owned(),
            kind: source.kind,
            log: own,
            as_of: hints.as_of,
            files: hints.files.len(),
            json_bytes: hints.json_bytes(),
            ranges,
            longest: Vec::new(),
            reads_bytes: 0,
            reaches,
        };
        needs.arrange();
        needs.check_stored(log, stored)?;
        Ok(needs)
    }

    /// Says what there is to say about the set, before it is known what it pins.
    pub(super) fn summary(&self) -> SetNeeds {
        SetNeeds {
            source: self.source.clone(),
            name: self.name.clone(),
            kind: self.kind,
            log: self.log.clone(),
            as_of: self.as_of,
            reaches: self.reaches,
            files: self.files,
            json_bytes: self.json_bytes,
            needs_bytes: self.reads_bytes,
            pins_bytes: 0,
        }
    }

    /// Says why the set needs `fragment`, if it does.
    pub(super) fn why(&self, fragment: &Fragment) -> Option<Why> {
        let before_end = self.ranges.partition_point(|range| range.begin < fragment.end);
        // The last that begins before the end is the plainest reason; one before it may reach further.
        let last = self.ranges.get(..before_end)?.last()?;
        let reaching = self.ranges.get(*self.longest.get(before_end - 1)?)?;
        let range = [last, reaching].into_iter().find(|range| range.end > fragment.begin)?;
        let set = self.name.clone();
        Some(match range.what {
            What::Named(fnode) => Why::Named { set, fnode },
            What::Spanned(fnode) => Why::Spanned { set, fnode },
            What::PastHead => Why::PastHead { set },
            What::KeptWhole => Why::KeptWhole { set },
        })
    }

    /// Checks that what a play reads is stored, and adds it up.
    fn check_stored(&mut self, log: &JournalName, stored: &Stored) -> Result<()> {
        let is_read = |range: &&Range| !matches!(range.what, What::Spanned(_));
        let mut read = Offset::ZERO;
        for range in self.ranges.iter().filter(is_read) {
            if let Some((from, to)) = stored.hole_in(range.begin, range.end) {
                return Err(Error::new(ErrorKind::DataLoss, "bytes that a set needs are not stored")
                    .in_log(log)
                    .at(from)
                    .expected(format_args!("bytes [{from}, {to})"), "a hole"));
            }
            self.reads_bytes += range.end.bytes_since(range.begin.max(read));
            read = read.max(range.end);
        }
        Ok(())
    }

    fn arrange(&mut self) {
        self.ranges.sort_by_key(|range| (range.begin, range.end));
        self.longest.clear();
        let mut longest = (Offset::ZERO, 0);
        for (index, range) in self.ranges.iter().enumerate() {
            if range.end >= longest.0 {
                longest = (range.end, index);
            }
            self.longest.push(longest.1);
        }
    }

    /// Tells whether the set describes a moment that is not past `unix_nanos`.
    fn is_as_old_as(&self, unix_nanos: i64) -> bool {
        self.as_of.is_some_and(|as_of| as_of.unix_nanos <= unix_nanos)
    }
}

/// Keeps `log` whole from the newest set on that describes a moment not past `since`, or else from the oldest.
pub(super) fn keep_whole(needs: &mut [Needs], log: &JournalName, since: i64) {
    let of_log = || needs.iter().enumerate().filter(|(_, set)| set.log == *log);
    let old = of_log().filter(|(_, set)| set.is_as_old_as(since)).max_by_key(|(_, set)| set.reaches);
    let from = old.or_else(|| of_log().min_by_key(|(_, set)| set.reaches)).map(|(index, _)| index);
    if let Some(set) = from.and_then(|index| needs.get_mut(index)) {
        set.ranges.push(Range { begin: set.reaches, end: Offset::MAX, what: What::KeptWhole });
        set.arrange();
    }
}
