//! Hint sets in memory, for tests and examples; with a limit, where a store that has one is to be stood in for.
//!
//! *Invariants.* As those of the seam.
//!
//! *Does not* survive its process.

use std::sync::PoisonError;

use super::{Candidate, HintStore, refuse_larger, refuse_older, sort_candidates};
use crate::clock::Deadline;
use crate::error::Result;
use crate::hints::FsmHints;
use crate::ids::JournalName;
use crate::sync::Mutex;

/// Hint sets in memory.
#[derive(Debug, Default)]
pub struct MemoryHints {
    sets: Mutex<Vec<FsmHints>>,
    bytes_max: Option<usize>,
}

impl MemoryHints {
    /// Makes an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes no set of more than `bytes_max` bytes of JSON (default: any).
    #[must_use]
    pub const fn bytes_max(mut self, bytes_max: usize) -> Self {
        self.bytes_max = Some(bytes_max);
        self
    }
}

impl HintStore for MemoryHints {
    fn candidates(&self, log: &JournalName, _deadline: Deadline) -> Result<Vec<Candidate>> {
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let name = |index: usize| format!("hint set {index} in memory");
        let mut candidates: Vec<_> = sets
            .iter()
            .enumerate()
            .map(|(index, set)| Candidate::new(name(index), Ok(set.clone())))
            .collect();
        sort_candidates(&mut candidates, log);
        Ok(candidates)
    }

    fn store(&self, hints: &FsmHints, _deadline: Deadline) -> Result<()> {
        self.bytes_max.map_or(Ok(()), |bytes_max| refuse_larger(hints, bytes_max))?;
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        refuse_older(hints, sets.iter())?;
        sets.push(hints.clone());
        Ok(())
    }

    fn bytes_max(&self) -> Option<usize> {
        self.bytes_max
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::hint_store::conformance::{self, Place};

    #[test]
    fn memory_hints_conform_with_a_limit_and_without() {
        for make_store in [MemoryHints::new, || MemoryHints::new().bytes_max(64 << 10)] {
            let make = || {
                let store = Arc::new(make_store());
                let again = Arc::clone(&store);
                Place::empty(store).reopened_by(move || Arc::clone(&again) as Arc<dyn HintStore>)
            };
            let report = conformance::run(&make).unwrap_or_else(|failures| panic!("{failures}"));
            assert_eq!(report.declined, [""; 0]);
        }
    }
}
