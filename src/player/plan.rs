//! Which bytes of which logs a player has to read.
//!
//! *Invariants.* Ranges stand in the order of history. Every hinted segment lies in one of them; the last one
//! reaches to the head of the log that the hints are of.
//!
//! *Does not* read a log: heads are given to it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fsm::Fsm;
use crate::hints::FsmHints;
use crate::ids::{JournalName, Offset};
use crate::journal::{Fragment, Journal, Journals, Stored};

/// What a player is going to read, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    /// The ranges.
    pub ranges: Vec<PlanRange>,
    /// Number of files that the hints name.
    pub hinted_files: usize,
    /// Number of segments that the hints name, merged where they overlap.
    pub hinted_segments: usize,
}

/// Consecutive bytes of one log.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PlanRange {
    /// The log.
    pub log: JournalName,
    /// The first byte.
    pub begin: Offset,
    /// The end, exclusive.
    pub end: Offset,
}

impl PlanRange {
    /// Returns the number of bytes.
    pub fn bytes(&self) -> u64 {
        self.end.bytes_since(self.begin)
    }
}

impl Plan {
    /// Plans for a state machine that was made from hints, and has not taken an operation, or goes on at `begin`; `heads`
    /// has the head of every log that it names.
    ///
    /// # Errors
    /// `DataLoss` where a segment reaches past the head of its log: operations that were hinted are gone.
    pub(super) fn new(fsm: &Fsm, heads: &BTreeMap<JournalName, Offset>, begin: Offset) -> Result<Self> {
        let head_of = |log: &JournalName| heads.get(log).copied().unwrap_or(Offset::ZERO);
        let mut ranges: Vec<PlanRange> = Vec::new();
        for segment in fsm.hinted_segments() {
            let log = segment.log.as_ref().unwrap_or(fsm.last_log());
            let head = head_of(log);
            if segment.first_offset >= head || segment.end_offset.is_some_and(|end| end > head) {
                return Err(Error::new(
                    ErrorKind::DataLoss,
                    "hints name operations past the head of the log",
                )
                .in_log(log)
                .at(segment.first_offset)
                .seq(segment.first_seq_no)
                .expected(segment, format_args!("a head of {head}")));
            }
            let end = segment.end_offset.unwrap_or(head);
            push(&mut ranges, log, segment.first_offset, end);
        }
        let log = fsm.last_log();
        let begin = ranges.last().filter(|range| range.log == *log).map_or(begin, |range| range.end);
        push(&mut ranges, log, begin, head_of(log));
        Ok(Self {
            ranges,
            hinted_files: fsm.hinted_fnodes().count(),
            hinted_segments: fsm.hinted_segments().count(),
        })
    }

    /// Ends the last range at `end`, which lies in it or before its end.
    pub(super) fn end_at(&mut self, end: Offset) {
        if let Some(last) = self.ranges.last_mut() {
            last.end = last.end.min(end.max(last.begin));
        }
    }

    /// Checks that the ranges are stored without a hole, as far as the journals can list what they store.
    pub(super) fn check_stored(
        &self,
        journals: &BTreeMap<JournalName, Arc<dyn Journal>>,
        step: Duration,
    ) -> Result<()> {
        let ranges = self.ranges.iter().map(|range| (&range.log, range.begin, range.end));
        check_ranges(ranges, |log| match journals.get(log) {
            Some(journal) => Ok(journal.fragments(Deadline::after(step))?),
            None => Ok(Vec::new()),
        })
    }

    /// Returns the number of bytes in all ranges: an upper bound where hints do not know where segments end.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(PlanRange::bytes).sum()
    }
}

/// Checks that `own`, and the other journals that hints name, store every byte that they name.
///
/// # Errors
/// `DataLoss` where they do not; what the journals say.
pub(crate) fn check_stored(
    own: &Arc<dyn Journal>,
    journals: &dyn Journals,
    hints: &FsmHints,
    deadline: Deadline,
) -> Result<()> {
    let flat = hints.flatten()?;
    let segments = flat.segments.as_slice().iter();
    let ranges = segments
        .filter_map(|segment| Some((segment.log.as_ref()?, segment.first_offset, segment.end_offset?)));
    check_ranges(ranges, |log| {
        let journal = if log == own.name() { Arc::clone(own) } else { journals.open(log)? };
        Ok(journal.fragments(deadline)?)
    })
}

/// Checks that ranges of logs are stored; each log is listed once.
fn check_ranges<'a>(
    ranges: impl Iterator<Item = (&'a JournalName, Offset, Offset)>,
    list: impl Fn(&JournalName) -> Result<Vec<Fragment>>,
) -> Result<()> {
    let mut stored: BTreeMap<&JournalName, Stored> = BTreeMap::new();
    for (log, begin, end) in ranges {
        let of_log = match stored.entry(log) {
            Entry::Occupied(listed) => listed.into_mut(),
            Entry::Vacant(new) => new.insert(Stored::new(&list(log)?)),
        };
        if let Some((from, to)) = of_log.hole_in(begin, end) {
            return Err(hole(log, from, to));
        }
    }
    Ok(())
}

/// Adds a range, or extends the last one where it begins inside of it or at its end.
fn push(ranges: &mut Vec<PlanRange>, log: &JournalName, begin: Offset, end: Offset) {
    match ranges.last_mut() {
        Some(last) if last.log == *log && begin <= last.end => last.end = last.end.max(end),
        _ => ranges.push(PlanRange { log: log.clone(), begin, end }),
    }
}

/// Returns the logs that `fsm` may need, each once, the log that is recorded now among them.
pub(super) fn logs_of(fsm: &Fsm) -> Vec<JournalName> {
    let mut logs: Vec<_> = fsm.hinted_segments().filter_map(|segment| segment.log.clone()).collect();
    logs.push(fsm.last_log().clone());
    logs.sort();
    logs.dedup();
    logs
}

/// Says that bytes which a play needs are gone.
pub(super) fn hole(log: &JournalName, from: Offset, to: Offset) -> Error {
    Error::new(ErrorKind::DataLoss, "bytes that the recovery needs are not stored")
        .in_log(log)
        .at(from)
        .expected(format_args!("bytes [{from}, {to})"), "a hole")
}
