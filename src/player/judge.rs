//! What a rejected operation means: another writer's dead branch, or a history of which bytes are missing.
//!
//! *Invariants.* Junk, frames that hold no operation, and operations of dead branches are counted and passed
//! over. An operation that continues the accepted history, and asks for what that history does not allow, ends
//! the play. So does one that proves that operations between it and the accepted history are not there. One that may
//! be either is remembered, to be told.
//!
//! *Does not* apply anything.

use std::collections::BTreeSet;

use crate::error::{Error, ErrorKind, Result};
use crate::fsm::{Branches, Fsm, Rejection};
use crate::ids::{Author, JournalName, Offset, SeqNo};
use crate::op::RecordedOp;
use crate::player::Counts;
use crate::wire::OpError;

#[derive(Debug)]
pub(super) struct Judge {
    /// Every byte of the log was read from its first one on.
    whole: bool,
    /// Writers of accepted operations after which nothing was left out: all that they wrote since was seen.
    witnessed: BTreeSet<Author>,
    recent_author: Option<Author>,
    /// The points that operations of dead branches lead to. With more of them than are remembered a missing
    /// operation may be taken for one of a dead branch.
    branches: Branches,
    /// The first sign of damage since the last accepted operation.
    damage: Option<Error>,
    /// The first operation since then that lies ahead of the history and continues nothing that was seen.
    unconnected: Option<(Offset, SeqNo)>,
}

impl Judge {
    /// Begins to judge; `whole` says that the log is read from its first byte on.
    pub(super) fn new(whole: bool) -> Self {
        Self {
            whole,
            witnessed: BTreeSet::new(),
            recent_author: None,
            branches: Branches::default(),
            damage: None,
            unconnected: None,
        }
    }

    /// An operation of `author` is known to be the last one before what is read.
    pub(super) fn witness(&mut self, author: Author) {
        self.witnessed.insert(author);
    }

    /// An operation was accepted: what looked like damage before it was not part of the history.
    pub(super) fn accepted(&mut self, fsm: &Fsm) {
        if self.damage.is_some() {
            self.damage = None;
        }
        self.unconnected = None;
        let author = fsm.last_author();
        if author != self.recent_author {
            self.recent_author = author;
            self.witnessed.extend(author);
        }
        self.branches.pass(fsm.next_seq_no());
    }

    /// Bytes that the hints leave out were stepped over.
    pub(super) fn left_out(&mut self) {
        self.witnessed.clear();
        self.recent_author = None;
    }

    /// A frame holds no operation.
    pub(super) fn undecodable(&mut self, log: &JournalName, at: Offset, source: OpError) {
        self.damage.get_or_insert_with(|| {
            Error::new(
                ErrorKind::Corrupt,
                "a frame holds no operation, and no operation of the history follows",
            )
            .in_log(log)
            .at(at)
            .with_source(source)
        });
    }

    /// An operation was rejected.
    ///
    /// # Errors
    /// `Diverged` or `Corrupt` where the rejection cannot be passed over.
    pub(super) fn rejected(
        &mut self,
        fsm: &Fsm,
        op: &RecordedOp,
        message: &[u8],
        rejection: Rejection,
        (log, at): (&JournalName, Offset),
        counts: &mut Counts,
    ) -> Result<()> {
        counts.rejected_ops += 1;
        if rejection.is_divergence() {
            let what = "an operation continues the history and contradicts it";
            return Err(Error::new(ErrorKind::Diverged, what)
                .in_log(log)
                .at(at)
                .seq(op.seq_no)
                .with_source(rejection));
        }
        if let Rejection::EndChecksumMismatch { expected, actual } = rejection {
            self.damage.get_or_insert_with(|| {
                Error::new(ErrorKind::Corrupt, "the last operation of a hinted range is not what was written")
                    .in_log(log)
                    .at(at)
                    .seq(op.seq_no)
                    .expected(expected, actual)
            });
        }
        if fsm.hinted_segment().is_none() && self.is_unconnected(fsm, op) {
            if self.is_witness(op) {
                return Err(self.gap(fsm, op, log, at));
            }
            self.unconnected.get_or_insert((at, op.seq_no));
        }
        self.remember(fsm, op, message);
        Ok(())
    }

    /// Returns the sign of damage that no accepted operation followed.
    pub(super) fn unresolved_damage(&self) -> Option<Error> {
        self.damage.clone()
    }

    /// Returns the operation that may be of a dead branch or of the history with bytes missing before it, where no
    /// accepted operation followed.
    pub(super) const fn unconnected(&self) -> Option<(Offset, SeqNo)> {
        self.unconnected
    }

    /// Tells whether `op` lies ahead of the accepted history, and continues neither it nor a branch that was seen.
    fn is_unconnected(&self, fsm: &Fsm, op: &RecordedOp) -> bool {
        op.author.is_some()
            && op.seq_no >= fsm.next_seq_no()
            && !self.branches.forgot()
            && !self.branches.contains((op.seq_no, op.checksum))
    }

    /// Tells whether an unconnected operation proves that bytes are missing. Where hints left out a part of the log, a
    /// branch may have begun there. Then only an operation of a writer is proof of whom an accepted operation was
    /// read since: a branch of its begins behind that one.
    fn is_witness(&self, op: &RecordedOp) -> bool {
        self.whole || op.author.is_some_and(|author| self.witnessed.contains(&author))
    }

    fn gap(&self, fsm: &Fsm, op: &RecordedOp, log: &JournalName, at: Offset) -> Error {
        let nothing_yet = fsm.next_seq_no() == SeqNo::FIRST && fsm.last_author().is_none();
        let error = if nothing_yet {
            Error::new(ErrorKind::DataLoss, "the log does not begin with the first operation of its history")
                .advise("name hints: the history began in another log, or this one's front was pruned")
        } else {
            Error::new(ErrorKind::Corrupt, "operations are missing between the accepted history and this one")
        };
        let error = error.in_log(log).at(at).seq(op.seq_no).expected(
            format_args!("seq-no {} after checksum {}", fsm.next_seq_no(), fsm.next_checksum()),
            format_args!("seq-no {} after checksum {}", op.seq_no, op.checksum),
        );
        match self.damage.clone() {
            Some(damage) => error.with_source(damage),
            None => error,
        }
    }

    fn remember(&mut self, fsm: &Fsm, op: &RecordedOp, message: &[u8]) {
        let leads_to = op.seq_no.next();
        if op.author.is_none() || leads_to < fsm.next_seq_no() {
            return;
        }
        self.branches.remember((leads_to, op.checksum.extend(message)));
    }
}
