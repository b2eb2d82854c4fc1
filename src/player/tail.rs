//! A closer look at a log that ends within an operation: is that all there was?
//!
//! *Invariants.* An operation whose length is damaged promises more than there is, and swallows those behind it.
//! Where whole operations lie in what it promises, and lie ahead of the history, the log does not end there.
//!
//! *Does not* apply what it finds.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fsm::Fsm;
use crate::ids::Offset;
use crate::journal::Journal;
use crate::op::RecordedOp;
use crate::scan::{Found, LogScan, ScanOptions};

/// Looks for operations of the history in what a torn operation at `begin` promises, until `limit` passes.
///
/// # Errors
/// `Corrupt` where there is one; `Unavailable` where it could not be looked through in time; what the journal says.
pub(super) fn check_torn(
    journal: Arc<dyn Journal>,
    fsm: &Fsm,
    begin: Offset,
    step_deadline: Duration,
    limit: Option<Deadline>,
) -> Result<()> {
    let log = journal.name().clone();
    let options =
        ScanOptions { begin, check_payloads: false, step_deadline, limit, ..ScanOptions::default() };
    for found in LogScan::open(journal, options)? {
        let Found::Op(found) = found? else { continue };
        if lies_ahead(fsm, &found.op) {
            let what =
                "the length of an operation is damaged: operations that follow it lie in what it promises";
            return Err(Error::new(ErrorKind::Corrupt, what)
                .in_log(&log)
                .at(begin)
                .seq(fsm.next_seq_no())
                .expected(
                    "the last operation of the log",
                    format_args!("seq-no {} at {}", found.op.seq_no, found.begin),
                ));
        }
    }
    Ok(())
}

/// Tells whether `op` comes after the accepted history: by its writer, or as what a successor begins with.
fn lies_ahead(fsm: &Fsm, op: &RecordedOp) -> bool {
    let next = fsm.next_seq_no();
    op.author.is_some() && op.seq_no >= next && (op.author == fsm.last_author() || op.seq_no <= next.next())
}
