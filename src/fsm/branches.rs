//! The ends of branches that were seen beside a history: operations that a fenced writer goes on with.
//!
//! *Invariants.* Memory is bounded. Once an end had to be left out that is said, and nothing can be proven any more
//! by an operation that continues none of those which are remembered.
//!
//! *Does not* know which branch is the history.

use std::collections::BTreeSet;

use crate::ids::{Checksum, SeqNo};

/// The most ends that are remembered.
const BRANCHES_MAX: usize = 1 << 16;

/// What the next operation of a branch carries.
pub(crate) type End = (SeqNo, Checksum);

/// Where branches end.
#[derive(Debug, Default)]
pub(crate) struct Branches {
    ends: BTreeSet<End>,
    forgot: bool,
}

impl Branches {
    /// Remembers the end of a branch, unless there are too many.
    pub(crate) fn remember(&mut self, end: End) {
        if self.ends.len() < BRANCHES_MAX {
            self.ends.insert(end);
        } else {
            self.forgot = true;
        }
    }

    /// Tells whether a branch ends here.
    pub(crate) fn contains(&self, end: End) -> bool {
        self.ends.contains(&end)
    }

    /// Tells whether there were more ends than are remembered.
    pub(crate) const fn forgot(&self) -> bool {
        self.forgot
    }

    /// Forgets branches that end before `next`, where the history goes on: they cannot be continued ahead of it.
    pub(crate) fn pass(&mut self, next: SeqNo) {
        while self.ends.first().is_some_and(|(seq_no, _)| *seq_no < next) {
            self.ends.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(seq_no: i64) -> End {
        (SeqNo::new(seq_no), Checksum::new(7))
    }

    #[test]
    fn branches_are_forgotten_where_the_history_passes_them() {
        let mut branches = Branches::default();
        for seq_no in [3, 4, 9] {
            branches.remember(end(seq_no));
        }
        branches.pass(SeqNo::new(4));
        assert_eq!([3, 4, 9].map(|seq_no| branches.contains(end(seq_no))), [false, true, true]);
        assert!(!branches.contains((SeqNo::new(4), Checksum::new(8))) && !branches.forgot());
    }

    #[test]
    fn too_many_branches_are_not_remembered_and_that_is_said() {
        let mut branches = Branches::default();
        for seq_no in 0..BRANCHES_MAX as i64 {
            branches.remember(end(seq_no));
            assert!(!branches.forgot());
        }
        branches.remember(end(-1));
        assert!(branches.forgot() && !branches.contains(end(-1)));
        branches.pass(SeqNo::new(BRANCHES_MAX as i64));
        assert!(branches.forgot(), "what was left out stays unknown");
    }
}
