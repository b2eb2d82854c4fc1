//! Whether the operations of a log continue each other, judged without knowing what any of them does.
//!
//! *Invariants.* An operation is called broken only where operations before it are proven to be gone. Memory is
//! bounded: with too many dead branches to remember, nothing is called broken any more.
//!
//! *Does not* know hints, files or links; which branch of a history a player takes is `fsm`'s to say.

use crate::fsm::{Branches, End};
use crate::ids::{Author, Checksum, SeqNo};
use crate::op::RecordedOp;

/// How an operation continues the operations before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ChainCheck {
    /// It continues the history.
    Continues,
    /// There is nothing before it to check it against: the scan begins here, or bytes before it are missing.
    Begins,
    /// It is no part of the history: a duplicate, an operation without an author, or one of a writer that was
    /// fenced. Every reader passes it over.
    Dead,
    /// It lies ahead of the history and continues nothing that was seen: operations before it are gone.
    Broken {
        /// The sequence number that continues the history.
        expected_seq_no: SeqNo,
        /// The checksum that continues it.
        expected_checksum: Checksum,
    },
}

/// Judges operations in the order of the log.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// What the next operation of the history carries, and who wrote the one before it.
    tip: Option<(End, Author)>,
    /// No operation before the tip was missed, so that a branch that was never seen cannot begin.
    whole: bool,
    branches: Branches,
}

impl Chain {
    /// Bytes were missed: what comes next need not continue what was seen.
    pub(super) fn interrupt(&mut self) {
        *self = Self::default();
    }

    /// Tells whether an operation may lie in the history behind the one that comes next.
    pub(super) fn is_ahead(&self, op: &RecordedOp) -> bool {
        op.author.is_some() && self.tip.is_none_or(|((seq_no, _), _)| op.seq_no > seq_no)
    }

    /// Judges the next operation; `message` is its encoded form.
    pub(super) fn check(&mut self, op: &RecordedOp, message: &[u8]) -> ChainCheck {
        let Some(author) = op.author else { return ChainCheck::Dead };
        let carries = (op.seq_no, op.checksum);
        let leads_to = (op.seq_no.next(), op.checksum.extend(message));
        let Some((tip, tip_author)) = self.tip else {
            self.tip = Some((leads_to, author));
            self.whole = carries == (SeqNo::FIRST, Checksum::ZERO);
            return if self.whole { ChainCheck::Continues } else { ChainCheck::Begins };
        };
        if carries == tip {
            self.advance(leads_to, author);
            return ChainCheck::Continues;
        }
        let seen = self.branches.contains(carries);
        let is_behind = op.seq_no < tip.0;
        if self.branches.forgot() || (self.whole && seen) || (is_behind && !seen) {
            self.remember(leads_to, tip.0);
            return ChainCheck::Dead;
        }
        // Which of several branches is the history cannot be told where their beginning was missed.
        if seen || (!self.whole && author != tip_author) {
            self.remember(tip, SeqNo::FIRST);
            self.advance(leads_to, author);
            return if seen { ChainCheck::Continues } else { ChainCheck::Begins };
        }
        self.whole = false;
        self.advance(leads_to, author);
        ChainCheck::Broken { expected_seq_no: tip.0, expected_checksum: tip.1 }
    }

    fn advance(&mut self, leads_to: End, author: Author) {
        self.tip = Some((leads_to, author));
        if self.whole {
            self.branches.pass(leads_to.0);
        }
    }

    fn remember(&mut self, end: End, least: SeqNo) {
        if end.0 >= least {
            self.branches.remember(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::OpBody;

    /// A writer that continues the history from some point.
    #[derive(Clone)]
    struct Writer {
        author: u32,
        next: End,
    }

    impl Writer {
        fn new(author: u32) -> Self {
            Self { author, next: (SeqNo::FIRST, Checksum::ZERO) }
        }

        fn fork(&self, author: u32) -> Self {
            Self { author, ..self.clone() }
        }

        fn write(&mut self) -> (RecordedOp, Vec<u8>) {
            let (seq_no, checksum) = self.next;
            let author = Author::new(self.author);
            let op = RecordedOp { seq_no, checksum, author, body: OpBody::NoOp, payload: None, mark: None };
            let message = [self.author.to_le_bytes(), (seq_no.get() as u32).to_le_bytes()].concat();
            self.next = (seq_no.next(), checksum.extend(&message));
            (op, message)
        }
    }

    fn check(chain: &mut Chain, written: &(RecordedOp, Vec<u8>)) -> ChainCheck {
        chain.check(&written.0, &written.1)
    }

    #[test]
    fn a_fenced_writers_branch_and_duplicates_are_dead() {
        let (mut chain, mut a) = (Chain::default(), Writer::new(1));
        let first = a.write();
        assert_eq!(check(&mut chain, &first), ChainCheck::Continues);
        let mut b = a.fork(2);
        assert_eq!(check(&mut chain, &b.write()), ChainCheck::Continues);
        for _ in 0..3 {
            assert_eq!(check(&mut chain, &a.write()), ChainCheck::Dead);
        }
        assert_eq!(check(&mut chain, &b.write()), ChainCheck::Continues);
        assert_eq!(check(&mut chain, &a.write()), ChainCheck::Dead);
        assert_eq!(check(&mut chain, &first), ChainCheck::Dead);
    }

    #[test]
    fn a_lost_operation_breaks_the_chain_once() {
        let (mut chain, mut a) = (Chain::default(), Writer::new(1));
        assert_eq!(check(&mut chain, &a.write()), ChainCheck::Continues);
        let (expected_seq_no, expected_checksum) = a.next;
        a.write();
        let broken = ChainCheck::Broken { expected_seq_no, expected_checksum };
        assert_eq!(check(&mut chain, &a.write()), broken);
        assert_eq!(check(&mut chain, &a.write()), ChainCheck::Continues);
    }

    #[test]
    fn where_a_beginning_was_missed_only_a_writers_own_gap_is_broken() {
        let mut a = Writer::new(1);
        a.write();
        let mut b = a.fork(2);
        b.write();
        let mut chain = Chain::default();
        assert_eq!(check(&mut chain, &a.write()), ChainCheck::Begins);
        assert_eq!(check(&mut chain, &b.write()), ChainCheck::Begins);
        assert_eq!(check(&mut chain, &a.write()), ChainCheck::Continues);
        assert_eq!(check(&mut chain, &b.write()), ChainCheck::Continues);
        b.write();
        assert!(matches!(check(&mut chain, &b.write()), ChainCheck::Broken { .. }));
        assert_eq!(check(&mut chain, &a.write()), ChainCheck::Continues);
        let mut zombie = a.fork(3);
        zombie.next.0 = SeqNo::FIRST;
        assert_eq!(check(&mut chain, &zombie.write()), ChainCheck::Dead);
    }
}
