//! Segments: ranges of a log, by sequence number and offset, and ordered sets of them.
//!
//! *Invariants.* The segments of a [`SegmentSet`] are valid, sorted by first sequence number, and do not
//! overlap; adjacent ones of one author in one log are one. Only a suffix of a set may have an unknown end.
//! For segments that agree with each other, a set does not depend on the order in which they were added.
//!
//! *Does not* know which file a segment belongs to (`hints`), nor read a log.

use std::cmp::Ordering;
use std::fmt;

use crate::ids::{Author, Checksum, JournalName, Offset, SeqNo};

/// A range of a log: the operations `first_seq_no..=last_seq_no` of one author, found in `[first_offset,
/// end_offset)`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Segment {
    /// Who wrote the operations.
    pub author: Author,
    /// The first operation.
    pub first_seq_no: SeqNo,
    /// Where the first operation begins, or a lower bound of that.
    pub first_offset: Offset,
    /// Checksum of the history before the first operation.
    pub first_checksum: Checksum,
    /// The last operation, inclusive.
    pub last_seq_no: SeqNo,
    /// Where the last operation ends, exclusive; `None` where it is not known.
    pub end_offset: Option<Offset>,
    /// Checksum of the history after the last operation (an extension; `None` in hints of the reference).
    pub end_checksum: Option<Checksum>,
    /// The log; `None` in hints stands for the log that the hints are of.
    pub log: Option<JournalName>,
}

impl Segment {
    /// Checks that the segment is well formed, and names a log.
    ///
    /// # Errors
    /// The first [`SegmentRule`] that is broken.
    pub fn validate(&self) -> Result<(), SegmentError> {
        let broken = |rule| Err(SegmentError::new(rule, &self, None));
        if self.first_seq_no < SeqNo::FIRST {
            return broken(SegmentRule::FirstSeqNo);
        }
        if self.last_seq_no < self.first_seq_no {
            return broken(SegmentRule::LastSeqNo);
        }
        if self.end_offset.is_some_and(|end| end <= self.first_offset) {
            return broken(SegmentRule::EndOffset);
        }
        if self.log.is_none() {
            return broken(SegmentRule::Log);
        }
        Ok(())
    }

    /// Moves what lies at or past `from` by `bytes`.
    pub(crate) fn shift(&mut self, from: Offset, bytes: u64) {
        if self.first_offset >= from {
            self.first_offset = self.first_offset.saturating_add(bytes);
        }
        self.end_offset = self.end_offset.map(|end| if end > from { end.saturating_add(bytes) } else { end });
    }

    /// Tells whether the segment reaches into `[begin, end)` of `log`.
    pub fn overlaps(&self, log: &JournalName, begin: Offset, end: Offset) -> bool {
        self.log.as_ref() == Some(log)
            && self.first_offset < end
            && self.end_offset.is_none_or(|segment_end| segment_end > begin)
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seq-nos {}..={} of author {}", self.first_seq_no, self.last_seq_no, self.author)?;
        match self.end_offset {
            Some(end) => write!(f, " in [{}, {end})", self.first_offset)?,
            None => write!(f, " from {} on", self.first_offset)?,
        }
        match &self.log {
            Some(log) => write!(f, " of {log}"),
            None => Ok(()),
        }
    }
}

/// An ordered set of segments that do not overlap.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SegmentSet(Vec<Segment>);

impl SegmentSet {
    /// Adds a segment, merging it with those that it overlaps or continues.
    ///
    /// # Errors
    /// The [`SegmentRule`] that the segment breaks, alone or beside another of the set, which is unchanged.
    pub fn add(&mut self, segment: Segment) -> Result<(), SegmentError> {
        segment.validate()?;
        let mut merged = segment;
        let mut begin = self.0.partition_point(|other| other.first_seq_no < merged.first_seq_no);
        let mut end = begin;
        if let Some((index, before)) = begin.checked_sub(1).and_then(|i| Some((i, self.0.get(i)?)))
            && let Some(union) = merge(before, &merged)?
        {
            merged = union;
            begin = index;
        }
        while let Some(after) = self.0.get(end) {
            let Some(union) = merge(after, &merged)? else { break };
            merged = union;
            end += 1;
        }
        self.0.splice(begin..end, [merged]);
        Ok(())
    }

    /// Returns the segments in order.
    pub fn as_slice(&self) -> &[Segment] {
        &self.0
    }

    /// Returns the segments in order, by value.
    pub fn into_vec(self) -> Vec<Segment> {
        self.0
    }
}

/// Merges two segments that overlap or continue each other; `None` for two that stay apart.
///
/// The order of the checks, and what the merged segment keeps, are those of the reference.
fn merge(one: &Segment, other: &Segment) -> Result<Option<Segment>, SegmentError> {
    let swap = match one.first_seq_no.cmp(&other.first_seq_no) {
        Ordering::Less => false,
        Ordering::Equal => one.last_seq_no < other.last_seq_no,
        Ordering::Greater => true,
    };
    let (a, b) = if swap { (other, one) } else { (one, other) };
    let broken = |rule| Err(SegmentError::new(rule, a, Some(b)));

    let same_log = a.log == b.log;
    let precedes = a.first_seq_no < b.first_seq_no;
    if precedes && same_log && a.first_offset > b.first_offset {
        return broken(SegmentRule::MonotonicFirstOffset);
    }
    if precedes && a.end_offset.is_none() && b.end_offset.is_some() {
        return broken(SegmentRule::PrecedingEndOffset);
    }
    if a.end_offset.is_none() && !same_log {
        return broken(SegmentRule::DifferentLog);
    }
    if same_log && !ends_are_ordered(a, b) {
        return broken(SegmentRule::MonotonicEndOffset);
    }
    if !precedes && a.first_checksum != b.first_checksum {
        return broken(SegmentRule::FirstChecksum);
    }
    let continues = a.last_seq_no.next();
    if continues < b.first_seq_no {
        return Ok(None);
    }
    if continues == b.first_seq_no && a.last_seq_no < b.first_seq_no && (a.author != b.author || !same_log) {
        return Ok(None);
    }
    if a.author != b.author {
        return broken(SegmentRule::Author);
    }
    if !same_log {
        return broken(SegmentRule::SameLog);
    }
    if a.last_seq_no == b.last_seq_no
        && matches!((a.end_checksum, b.end_checksum), (Some(a), Some(b)) if a != b)
    {
        return broken(SegmentRule::EndChecksum);
    }

    let mut union = a.clone();
    if !precedes {
        union.first_offset = a.first_offset.max(b.first_offset);
    }
    match a.last_seq_no.cmp(&b.last_seq_no) {
        Ordering::Less => {
            union.last_seq_no = b.last_seq_no;
            union.end_offset = b.end_offset;
            union.end_checksum = b.end_checksum;
        }
        Ordering::Equal => {
            union.end_offset = a.end_offset.or(b.end_offset);
            union.end_checksum = a.end_checksum.or(b.end_checksum);
        }
        Ordering::Greater => {}
    }
    Ok(Some(union))
}

/// Tells whether known ends stand in the order of the last sequence numbers.
fn ends_are_ordered(a: &Segment, b: &Segment) -> bool {
    let (Some(a_end), Some(b_end)) = (a.end_offset, b.end_offset) else { return true };
    match a.last_seq_no.cmp(&b.last_seq_no) {
        Ordering::Less => a_end <= b_end,
        Ordering::Equal => a_end == b_end,
        Ordering::Greater => a_end >= b_end,
    }
}

/// A rule that a segment, or a segment beside another, must keep.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum SegmentRule {
    /// The author is not zero.
    AuthorZero,
    /// The first sequence number is at least 1.
    FirstSeqNo,
    /// The first offset is not negative.
    FirstOffset,
    /// The last sequence number is not below the first.
    LastSeqNo,
    /// The end, where it is known, lies past the first offset.
    EndOffset,
    /// The log has a valid name.
    Log,
    /// In one log, a later segment does not begin at a lower offset.
    MonotonicFirstOffset,
    /// Before a segment with a known end, ends are known.
    PrecedingEndOffset,
    /// After a segment whose end is not known, the log stays the same.
    DifferentLog,
    /// In one log, ends are in the order of the last sequence numbers.
    MonotonicEndOffset,
    /// Segments that begin with the same operation agree on the checksum before it.
    FirstChecksum,
    /// Segments that end with the same operation agree on the checksum after it.
    EndChecksum,
    /// Segments that overlap have one author.
    Author,
    /// Segments that overlap lie in one log.
    SameLog,
}

impl SegmentRule {
    /// Returns what the rule demands.
    pub const fn demand(self) -> &'static str {
        match self {
            Self::AuthorZero => "an author that is not zero",
            Self::FirstSeqNo => "a first sequence number of at least 1",
            Self::FirstOffset => "a first offset that is not negative",
            Self::LastSeqNo => "a last sequence number that is not below the first",
            Self::EndOffset => "an end past the first offset",
            Self::Log => "a valid log name",
            Self::MonotonicFirstOffset => "first offsets in the order of sequence numbers",
            Self::PrecedingEndOffset => "a known end before a segment whose end is known",
            Self::DifferentLog => "the same log after a segment whose end is not known",
            Self::MonotonicEndOffset => "ends in the order of last sequence numbers",
            Self::FirstChecksum => "one checksum before one operation",
            Self::EndChecksum => "one checksum after one operation",
            Self::Author => "one author where segments overlap",
            Self::SameLog => "one log where segments overlap",
        }
    }
}

/// A segment that is not well formed, or contradicts another.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct SegmentError {
    /// The rule that is broken.
    pub rule: SegmentRule,
    /// The segment at fault, or the first of the two.
    pub segment: String,
    /// The other one, where two contradict each other.
    pub other: Option<String>,
}

impl SegmentError {
    pub(crate) fn new(rule: SegmentRule, segment: &dyn fmt::Display, other: Option<&Segment>) -> Self {
        Self { rule, segment: segment.to_string(), other: other.map(ToString::to_string) }
    }
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, found {}", self.rule.demand(), self.segment)?;
        match &self.other {
            Some(other) => write!(f, " beside {other}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for SegmentError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(first: i64, last: i64) -> Segment {
        Segment {
            author: Author::new(7).unwrap(),
            first_seq_no: SeqNo::new(first),
            first_offset: Offset::ZERO.saturating_add((first as u64).saturating_mul(10)),
            first_checksum: Checksum::new(first as u32),
            last_seq_no: SeqNo::new(last),
            end_offset: Some(
                Offset::ZERO.saturating_add((last as u64).saturating_mul(10).saturating_add(10)),
            ),
            end_checksum: None,
            log: Some(JournalName::new("a/log").unwrap()),
        }
    }

    fn ranges(set: &SegmentSet) -> Vec<(i64, i64)> {
        set.as_slice().iter().map(|s| (s.first_seq_no.get(), s.last_seq_no.get())).collect()
    }

    #[test]
    fn adjacent_segments_merge_and_gaps_stay() {
        let mut set = SegmentSet::default();
        for (first, last) in [(11, 11), (13, 15), (1, 3), (4, 4), (20, 21)] {
            set.add(segment(first, last)).unwrap();
        }
        assert_eq!(ranges(&set), vec![(1, 4), (11, 11), (13, 15), (20, 21)]);
        set.add(segment(2, 14)).unwrap();
        assert_eq!(ranges(&set), vec![(1, 15), (20, 21)]);
    }

    #[test]
    fn the_order_of_consistent_additions_does_not_matter() {
        let segments = [segment(1, 3), segment(2, 6), segment(8, 9), segment(7, 7), segment(12, 12)];
        let mut orders: Vec<Vec<usize>> = vec![vec![]];
        for _ in 0..segments.len() {
            orders = orders
                .into_iter()
                .flat_map(|order| {
                    (0..segments.len())
                        .filter(|i| !order.contains(i))
                        .map(|i| [&order[..], &[i]].concat())
                        .collect::<Vec<_>>()
                })
                .collect();
        }
        assert_eq!(orders.len(), 120);
        for order in orders {
            let mut set = SegmentSet::default();
            for &index in &order {
                set.add(segments[index].clone()).unwrap();
            }
            assert_eq!(ranges(&set), vec![(1, 9), (12, 12)], "{order:?}");
        }
    }

    #[test]
    fn a_refused_segment_leaves_the_set_as_it_was() {
        let mut set = SegmentSet::default();
        set.add(segment(1, 5)).unwrap();
        let before = set.clone();
        let wrong = Segment { first_checksum: Checksum::new(99), ..segment(1, 6) };
        assert_eq!(set.add(wrong).unwrap_err().rule, SegmentRule::FirstChecksum);
        let overlapping = Segment { author: Author::new(8).unwrap(), ..segment(3, 9) };
        assert_eq!(set.add(overlapping).unwrap_err().rule, SegmentRule::Author);
        assert_eq!(set, before);
    }

    #[test]
    fn an_end_checksum_travels_with_the_end() {
        let mut set = SegmentSet::default();
        set.add(Segment { end_checksum: Some(Checksum::new(33)), ..segment(1, 3) }).unwrap();
        set.add(Segment { end_checksum: Some(Checksum::new(55)), ..segment(4, 5) }).unwrap();
        assert_eq!(set.as_slice()[0].end_checksum, Some(Checksum::new(55)));
        set.add(segment(6, 6)).unwrap();
        assert_eq!(set.as_slice()[0].end_checksum, None);
        let mut other = SegmentSet::default();
        other.add(Segment { end_checksum: Some(Checksum::new(1)), ..segment(1, 3) }).unwrap();
        let differs = Segment { end_checksum: Some(Checksum::new(2)), ..segment(2, 3) };
        assert_eq!(other.add(differs).unwrap_err().rule, SegmentRule::EndChecksum);
    }

    #[test]
    fn the_largest_sequence_number_does_not_overflow() {
        let mut set = SegmentSet::default();
        let last =
            |first| Segment { end_offset: None, first_offset: Offset::ZERO, ..segment(first, i64::MAX) };
        set.add(last(i64::MAX)).unwrap();
        let foreign = Segment { author: Author::new(8).unwrap(), ..last(i64::MAX) };
        assert_eq!(set.add(foreign).unwrap_err().rule, SegmentRule::Author);
        set.add(last(5)).unwrap();
        assert_eq!(ranges(&set), vec![(5, i64::MAX)]);
    }

    #[test]
    fn a_segment_that_is_not_well_formed_breaks_its_rule() {
        let good = segment(1, 5);
        assert_eq!(good.validate(), Ok(()));
        let cases = [
            (Segment { first_seq_no: SeqNo::new(0), ..good.clone() }, SegmentRule::FirstSeqNo),
            (Segment { last_seq_no: SeqNo::new(0), ..good.clone() }, SegmentRule::LastSeqNo),
            (Segment { end_offset: Some(good.first_offset), ..good.clone() }, SegmentRule::EndOffset),
            (Segment { log: None, ..good.clone() }, SegmentRule::Log),
        ];
        for (segment, rule) in cases {
            assert_eq!(segment.validate().unwrap_err().rule, rule);
            assert_eq!(SegmentSet::default().add(segment).unwrap_err().rule, rule);
        }
        let one = Segment { last_seq_no: SeqNo::new(1), end_offset: None, ..good };
        assert_eq!(one.validate(), Ok(()));
        assert_eq!(one.to_string(), "seq-nos 1..=1 of author 7 from 10 on of a/log");
        assert_eq!(segment(1, 5).to_string(), "seq-nos 1..=5 of author 7 in [10, 60) of a/log");
    }

    #[test]
    fn segments_that_contradict_each_other_break_a_rule() {
        let after = segment(4, 6);
        let at = |offset| Offset::new(offset);
        let other_log = Some(JournalName::new("b/log").unwrap());
        let unknown = Segment { end_offset: None, ..segment(1, 2) };
        let cases = [
            (
                Segment { first_offset: Offset::new(50).unwrap(), end_offset: at(55), ..segment(1, 2) },
                SegmentRule::MonotonicFirstOffset,
            ),
            (unknown.clone(), SegmentRule::PrecedingEndOffset),
            (Segment { end_offset: at(80), ..segment(1, 2) }, SegmentRule::MonotonicEndOffset),
            (Segment { end_offset: at(71), ..segment(4, 6) }, SegmentRule::MonotonicEndOffset),
            (Segment { end_offset: at(65), ..segment(1, 8) }, SegmentRule::MonotonicEndOffset),
            (Segment { log: other_log.clone(), ..segment(1, 5) }, SegmentRule::SameLog),
            (Segment { author: Author::new(8).unwrap(), ..segment(1, 5) }, SegmentRule::Author),
        ];
        for (segment, rule) in cases {
            let mut set = SegmentSet::default();
            set.add(after.clone()).unwrap();
            assert_eq!(set.add(segment.clone()).map_err(|error| error.rule), Err(rule), "{segment}");
            assert_eq!(set.as_slice(), std::slice::from_ref(&after));
        }
        let mut set = SegmentSet::default();
        set.add(unknown).unwrap();
        let elsewhere = Segment { log: other_log.clone(), end_offset: None, ..segment(4, 6) };
        let error = set.add(elsewhere).unwrap_err();
        assert_eq!(error.rule, SegmentRule::DifferentLog);
        assert!(
            error.to_string().ends_with("beside seq-nos 4..=6 of author 7 from 40 on of b/log"),
            "{error}"
        );
        // Beside each other, not in conflict: another author, and another log, follow at once.
        for next in [
            Segment { author: Author::new(8).unwrap(), ..segment(7, 8) },
            Segment { log: other_log, ..segment(7, 8) },
        ] {
            let mut set = SegmentSet::default();
            set.add(after.clone()).unwrap();
            set.add(next).unwrap();
            assert_eq!(ranges(&set), [(4, 6), (7, 8)]);
        }
    }

    #[test]
    fn of_two_beginnings_the_later_is_the_better_bound_and_a_known_end_is_kept() {
        let mut set = SegmentSet::default();
        set.add(Segment { end_offset: None, ..segment(1, 5) }).unwrap();
        set.add(Segment { first_offset: Offset::new(3).unwrap(), ..segment(1, 5) }).unwrap();
        assert_eq!(set.as_slice(), [segment(1, 5)]);
        set.add(segment(2, 3)).unwrap();
        assert_eq!(set.as_slice(), [segment(1, 5)], "what lies within adds nothing");
    }

    #[test]
    fn a_segment_moves_and_overlaps_by_the_bytes_it_has() {
        let log = JournalName::new("a/log").unwrap();
        let at = |offset| Offset::new(offset).unwrap();
        let range = |segment: &Segment| (segment.first_offset.get(), segment.end_offset.map(Offset::get));
        for (from, expected) in [(10, (110, Some(160))), (11, (10, Some(160))), (60, (10, Some(60)))] {
            let mut moved = segment(1, 5);
            moved.shift(at(from), 100);
            assert_eq!(range(&moved), expected, "from {from}");
        }
        let one = segment(1, 5);
        for (begin, end, expected) in
            [(0, 10, false), (0, 11, true), (59, 70, true), (60, 70, false), (20, 30, true)]
        {
            assert_eq!(one.overlaps(&log, at(begin), at(end)), expected, "[{begin}, {end})");
        }
        let open = Segment { end_offset: None, ..one.clone() };
        assert!(open.overlaps(&log, at(1000), at(1001)) && !open.overlaps(&log, at(0), at(10)));
        assert!(!one.overlaps(&JournalName::new("b/log").unwrap(), at(20), at(30)));
    }
}
