//! How an answer of a broker is taken: as final, as one to be asked for again, or as none.
//!
//! *Invariants.* A request is taken as one to be made again only where that is harmless.
//!
//! *Does not* know what an append holds.

use tonic::Code;

use super::proto::Status;
use crate::ids::{JournalName, Offset};
use crate::journal::JournalError;
use crate::remote;

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
    remote::told("a broker's call failed", status)
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
