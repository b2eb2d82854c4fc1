//! Hint sets in memory, for tests and examples.
//!
//! *Invariants.* As those of the seam.
//!
//! *Does not* survive its process.

use std::sync::PoisonError;

use super::{Candidate, HintStore, refuse_older, sort_candidates};
use crate::clock::Deadline;
use crate::error::Result;
use crate::hints::FsmHints;
use crate::ids::JournalName;
use crate::sync::Mutex;

/// Hint sets in memory.
#[derive(Debug, Default)]
pub struct MemoryHints {
    sets: Mutex<Vec<FsmHints>>,
}

impl MemoryHints {
    /// Makes an empty store.
    pub fn new() -> Self {
        Self::default()
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
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        refuse_older(hints, sets.iter())?;
        sets.push(hints.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::hint_store::conformance::{self, Place};

    #[test]
    fn memory_hints_conform() {
        let make = || {
            let store = Arc::new(MemoryHints::new());
            let again = Arc::clone(&store);
            Place::empty(store).reopened_by(move || Arc::clone(&again) as Arc<dyn HintStore>)
        };
        let report = conformance::run(&make).unwrap_or_else(|failures| panic!("{failures}"));
        assert_eq!(report.declined, [""; 0]);
    }
}
