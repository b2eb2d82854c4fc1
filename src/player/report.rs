//! What a player tells of its work: how far it is, what it counted, what it passed over.
//!
//! *Invariants.* A warning is of something that a person may want to know, and that no caller has to act on.
//!
//! *Does not* decide what is passed over (`judge`).

use std::fmt;
use std::path::PathBuf;

#[cfg(doc)]
use super::Verify;
use crate::ids::{Fnode, JournalName, Offset, SeqNo};
use crate::wire::HEADER_BYTES;

/// How far a player has come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Fragments are being checked ([`Verify::Full`]), and the bytes are theirs; the play comes after that.
    pub verifying: bool,
    /// Bytes of the plan.
    pub planned_bytes: u64,
    /// Bytes of the plan that were read or stepped over.
    pub done_bytes: u64,
    /// What was found so far.
    pub counts: Counts,
}

/// What a player found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Counts {
    /// Operations that were applied.
    pub applied_ops: u64,
    /// Operations of the history that concern files which are dead by the hints.
    pub untracked_ops: u64,
    /// Operations of dead branches, and duplicates.
    pub rejected_ops: u64,
    /// Frames that hold no operation.
    pub undecodable_frames: u64,
    /// Bytes that are no part of a frame.
    pub junk_bytes: u64,
    /// Payload bytes that were written to staged files.
    pub written_bytes: u64,
}

/// What a player passed over, and a person may want to know.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// The log ends with bytes that are no operation.
    JunkAtTail {
        /// The log.
        log: JournalName,
        /// Where they begin.
        offset: Offset,
        /// How many there are.
        bytes: u64,
    },
    /// The log ends within an operation: what is appended next would be taken for the rest of it.
    TornAtTail {
        /// The log.
        log: JournalName,
        /// Where the operation begins.
        offset: Offset,
        /// How many of its bytes are there.
        present: u64,
        /// How many it promises; `None` where its header is cut.
        promised: Option<u64>,
    },
    /// A payload is not what was written; the file is dead by now.
    DamagedDeadPayload {
        /// The log.
        log: JournalName,
        /// Where the payload begins.
        offset: Offset,
        /// The operation.
        seq_no: SeqNo,
        /// The file.
        fnode: Fnode,
    },
    /// The directory was there, and was played anew, since it could not be gone on from.
    NotResumed {
        /// The directory.
        directory: PathBuf,
        /// Why.
        reason: String,
    },
    /// The directory that was replaced could not be removed whole: something in it is not of a log.
    LeftAside {
        /// Where it is now.
        directory: PathBuf,
    },
    /// An operation lies ahead of the history, and continues nothing that was read. It is of a writer who lost its
    /// role in a part of the log that the hints leave out, or bytes before it are missing. A play by older hints, or
    /// by none, can tell.
    Unconnected {
        /// The log.
        log: JournalName,
        /// Where the operation begins.
        offset: Offset,
        /// The operation.
        seq_no: SeqNo,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JunkAtTail { log, offset, bytes } => {
                let end = offset.saturating_add(*bytes);
                write!(f, "log {log} ends with bytes [{offset}, {end}) that are no operation")
            }
            Self::TornAtTail { log, offset, present, promised: Some(promised) } => {
                write!(
                    f,
                    "log {log} ends within an operation at offset {offset}: {present} of {promised} bytes"
                )
            }
            Self::TornAtTail { log, offset, present, promised: None } => {
                write!(
                    f,
                    "log {log} ends within a frame header at offset {offset}: {present} of {HEADER_BYTES} bytes"
                )
            }
            Self::DamagedDeadPayload { log, offset, seq_no, fnode } => {
                write!(f, "log {log}, offset {offset}: payload of seq-no {seq_no} is damaged; ")?;
                write!(f, "its file {fnode} is dead, so nothing is lost")
            }
            Self::NotResumed { directory, reason } => {
                write!(f, "{} was played anew, not gone on from: {reason}", directory.display())
            }
            Self::LeftAside { directory } => {
                write!(f, "what was replaced is left at {}, with files of others in it", directory.display())
            }
            Self::Unconnected { log, offset, seq_no } => {
                write!(
                    f,
                    "log {log}, offset {offset}: seq-no {seq_no} lies ahead and continues nothing that was "
                )?;
                write!(f, "read; a play without hints can tell whether operations before it are missing")
            }
        }
    }
}
