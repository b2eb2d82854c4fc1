//! A hint store that keeps some sets.
//!
//! *Invariants.* The newest `keep` sets that were stored are there, and no others.
//!
//! *Does not* survive.

use std::sync::Mutex;

use recoverylog::hint_store::{Candidate, HintStore, refuse_older, sort_candidates};
use recoverylog::{Deadline, FsmHints, JournalName};

/// Hint sets in memory, the oldest of which is dropped for a new one.
#[derive(Debug)]
pub(crate) struct Kept {
    sets: Mutex<Vec<FsmHints>>,
    keep: usize,
}

impl Kept {
    pub(crate) fn new(keep: usize) -> Self {
        Self { sets: Mutex::default(), keep }
    }

    pub(crate) fn sets(&self) -> Vec<FsmHints> {
        self.sets.lock().unwrap().clone()
    }
}

impl HintStore for Kept {
    fn candidates(&self, log: &JournalName, _deadline: Deadline) -> recoverylog::Result<Vec<Candidate>> {
        // A name is that of one set for ever: replicas remember by it what failed.
        let name = |set: &FsmHints| format!("set {:?}", set.as_of.map(|as_of| as_of.offset));
        let mut sets: Vec<_> =
            self.sets().into_iter().map(|set| Candidate::new(name(&set), Ok(set))).collect();
        sort_candidates(&mut sets, log);
        Ok(sets)
    }

    fn store(&self, hints: &FsmHints, _deadline: Deadline) -> recoverylog::Result<()> {
        let mut sets = self.sets.lock().unwrap();
        refuse_older(hints, sets.iter())?;
        // As a store does that holds JSON.
        sets.push(FsmHints::decode(&hints.encode_json())?);
        let surplus = sets.len().saturating_sub(self.keep);
        sets.drain(..surplus);
        Ok(())
    }
}
