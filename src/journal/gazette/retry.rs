//! How an answer of a broker is taken: as final, as one to be asked for again, or as none.
//!
//! *Invariants.* A request is made again only where that is harmless, after a wait that grows and is drawn, and never past
//! its deadline.
//!
//! *Does not* know what an append holds.

use std::time::Duration;

use tonic::Code;

use super::proto::Status;
use crate::clock::Deadline;
use crate::ids::{JournalName, Offset};
use crate::journal::JournalError;

/// The first wait, which then doubles.
const FIRST_WAIT: Duration = Duration::from_millis(20);
/// The longest one.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Waits between the tries of one request.
#[derive(Debug)]
pub(super) struct Backoff {
    deadline: Deadline,
    next: Duration,
}

impl Backoff {
    pub(super) const fn new(deadline: Deadline) -> Self {
        Self { deadline, next: FIRST_WAIT }
    }

    /// Waits before the next try; false where there is no time for one.
    pub(super) async fn wait(&mut self) -> bool {
        // Between half of it and all, so that those who failed together do not come back together.
        let drawn = crate::entropy::thousandths();
        let wait = self.next / 2 + self.next * drawn / 2_000;
        self.next = (self.next * 2).min(WAIT_MAX);
        if self.deadline.remaining() <= wait {
            return false;
        }
        tokio::time::sleep(wait).await;
        true
    }

    /// Begins anew with short waits, after something has worked.
    pub(super) fn reset(&mut self, deadline: Deadline) {
        *self = Self::new(deadline);
    }

    pub(super) const fn deadline(&self) -> Deadline {
        self.deadline
    }
}

/// Tells whether a status says that another broker, or this one later, will answer better, and that nothing was done.
pub(super) const fn is_passing(status: Status) -> bool {
    matches!(
        status,
        Status::NoJournalPrimaryBroker
            | Status::NotJournalPrimaryBroker
            | Status::InsufficientJournalBrokers
            | Status::NotJournalBroker
            | Status::Suspended
    )
}

/// Tells whether a status says that another broker is to be asked, which its header names.
pub(super) const fn is_elsewhere(status: Status) -> bool {
    matches!(status, Status::NotJournalPrimaryBroker | Status::NotJournalBroker)
}

/// Tells whether a call did not end by what a broker said, but by a connection that was lost.
pub(super) fn is_lost(status: &tonic::Status) -> bool {
    status.code() == Code::Unavailable || std::error::Error::source(status).is_some()
}

/// Returns what a call says that will not be answered otherwise by being made again; `None` where it may.
pub(super) fn final_error(journal: &JournalName, status: &tonic::Status) -> Option<JournalError> {
    let journal = journal.clone();
    let what = told(status);
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => Some(JournalError::NotAllowed { journal, what }),
        Code::InvalidArgument | Code::Unimplemented | Code::OutOfRange => {
            Some(JournalError::Invalid { journal, what })
        }
        _ => None,
    }
}

/// Says what a call failed with.
pub(super) fn told(status: &tonic::Status) -> String {
    let mut what = format!("a broker's call failed ({:?}): {}", status.code(), status.message());
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        what.push_str(": ");
        what.push_str(&error.to_string());
        source = error.source();
    }
    what
}

/// Returns the error of a status that no answer can be taken from.
pub(super) fn refused(journal: &JournalName, status: Status) -> JournalError {
    let journal = journal.clone();
    match status {
        Status::JournalNotFound => JournalError::NotFound { journal },
        Status::NotAllowed => {
            let what = "the broker does not allow this on the journal: it is read-only, or being suspended";
            JournalError::NotAllowed { journal, what: what.into() }
        }
        status => JournalError::Unavailable { journal, what: format!("the broker answered {status}") },
    }
}

/// Returns the error of a broker that says what cannot be, seen at `offset`.
#[expect(clippy::needless_pass_by_value, reason = "numbers and texts, as they come")]
pub(super) fn lie(
    journal: &JournalName,
    offset: Offset,
    what: &str,
    expected: impl ToString,
    actual: impl ToString,
) -> JournalError {
    JournalError::Corrupt {
        journal: journal.clone(),
        offset,
        what: format!("a broker answers what cannot be: {what}"),
        expected: expected.to_string(),
        actual: actual.to_string(),
    }
}
