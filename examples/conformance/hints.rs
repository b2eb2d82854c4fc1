//! Hints in a table of a database, as it were: rows of bytes under keys.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use recoverylog::hint_store::{Candidate, HintStore, refuse_older, sort_candidates};
use recoverylog::{Deadline, FsmHints, JournalName, Result};

/// Hint sets by the order in which they came. Clones are the same table.
#[derive(Clone, Debug, Default)]
pub(crate) struct TableHints(Arc<Mutex<BTreeMap<u64, Vec<u8>>>>);

/// Sets of one log that are kept.
const KEPT: usize = 3;

impl TableHints {
    /// Returns the keys and sets of the rows that can be read.
    fn readable(rows: &BTreeMap<u64, Vec<u8>>) -> impl Iterator<Item = (u64, FsmHints)> {
        rows.iter().rev().filter_map(|(key, row)| Some((*key, FsmHints::decode(row).ok()?)))
    }
}

impl HintStore for TableHints {
    fn candidates(&self, log: &JournalName, _deadline: Deadline) -> Result<Vec<Candidate>> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let candidate = |(key, row): (&u64, &Vec<u8>)| {
            Candidate::new(format!("row {key}"), FsmHints::decode(row).map_err(Into::into))
        };
        let mut candidates: Vec<_> = rows.iter().map(candidate).collect();
        sort_candidates(&mut candidates, log);
        Ok(candidates)
    }

    fn store(&self, hints: &FsmHints, _deadline: Deadline) -> Result<()> {
        // The check and the change are one transaction.
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sets: Vec<_> = Self::readable(&rows).collect();
        refuse_older(hints, sets.iter().map(|(_, set)| set))?;
        let key = rows.last_key_value().map_or(0, |(last, _)| last + 1);
        rows.insert(key, hints.encode_proto());
        // No older set was taken before, so the last rows of a log are its newest.
        let of_log = sets.iter().filter(|(_, set)| set.log == hints.log);
        for (key, _) in of_log.skip(KEPT - 1) {
            rows.remove(key);
        }
        Ok(())
    }
}
