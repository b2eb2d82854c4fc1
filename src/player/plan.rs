//! Which bytes of which logs a player has to read.
//!
//! *Invariants.* Ranges stand in the order of history. Every hinted segment lies in one of them; the last one
//! reaches to the head of the log that the hints are of.
//!
//! *Does not* read a log: heads are given to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fsm::Fsm;
use crate::ids::{JournalName, Offset};
use crate::journal::Journal;

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
    /// Plans for a state machine that was made from hints, and has not taken an operation; `heads` has the
    /// head of every log that it names.
    ///
    /// # Errors
    /// `DataLoss` where a segment reaches past the head of its log: operations that were hinted are gone.
    pub(super) fn new(fsm: &Fsm, heads: &BTreeMap<JournalName, Offset>) -> Result<Self> {
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
        let begin = ranges.last().filter(|range| range.log == *log).map_or(Offset::ZERO, |range| range.end);
        push(&mut ranges, log, begin, head_of(log));
        Ok(Self {
            ranges,
            hinted_files: fsm.hinted_fnodes().count(),
            hinted_segments: fsm.hinted_segments().count(),
        })
    }

    /// Checks that the ranges are stored without a hole, as far as the journals can list what they store.
    pub(super) fn check_stored(
        &self,
        journals: &BTreeMap<JournalName, Arc<dyn Journal>>,
        step: Duration,
    ) -> Result<()> {
        for range in &self.ranges {
            let Some(journal) = journals.get(&range.log) else { continue };
            let mut at = range.begin;
            for fragment in journal.fragments(Deadline::after(step))? {
                if fragment.end <= at || at >= range.end {
                    continue;
                }
                if fragment.begin > at {
                    return Err(hole(&range.log, at, fragment.begin.min(range.end)));
                }
                at = fragment.end;
            }
            if at < range.end {
                return Err(hole(&range.log, at, range.end));
            }
        }
        Ok(())
    }

    /// Returns the number of bytes in all ranges: an upper bound where hints do not know where segments end.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(PlanRange::bytes).sum()
    }
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
