//! The domain form of one recorded operation.
//!
//! *Invariants.* A write operation allocates nothing: only paths and properties own memory. `payload` is
//! present exactly when a write member was among those of the operation, because its bytes follow the frame
//! whichever member applies.
//!
//! *Does not* know the wire form (`wire::op`), nor where in a log an operation was found (`fsm::Span`).

use bytes::Bytes;

use crate::ids::{Author, Checksum, Fnode, LogPath, SeqNo};

/// One operation of a log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RecordedOp {
    /// Position in the history.
    pub seq_no: SeqNo,
    /// Checksum of the history before this operation.
    pub checksum: Checksum,
    /// The writer; `None` where the wire holds zero, which no reader accepts.
    pub author: Option<Author>,
    /// What is done. Where several members are set, this is the first of them, as in the reference.
    pub body: OpBody,
    /// The bytes that follow the frame, where a write is among the members.
    pub payload: Option<Payload>,
    /// A point in time, carried by some no-ops.
    pub mark: Option<Mark>,
}

/// What an operation does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OpBody {
    /// Nothing: a hand-off, a mark or an anchor.
    NoOp,
    /// Creates the file whose [`Fnode`] is the operation's own sequence number, linked at `path`.
    Create {
        /// The first link of the file.
        path: LogPath,
    },
    /// Links `fnode` at a further path.
    Link {
        /// The linked file.
        fnode: Fnode,
        /// Its new path.
        path: LogPath,
    },
    /// Unlinks `fnode` at `path`; the file ends with its last link.
    Unlink {
        /// The unlinked file.
        fnode: Fnode,
        /// The path that it loses.
        path: LogPath,
    },
    /// Writes the payload to `fnode`.
    Write {
        /// The written file.
        fnode: Fnode,
        /// Where in the file, in bytes.
        offset: u64,
    },
    /// Sets a small file by name and content, outside the history of fnodes.
    Property {
        /// Path of the property file.
        path: LogPath,
        /// Its whole content.
        content: Bytes,
    },
}

/// The raw bytes that follow the frame of a write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Payload {
    /// Number of bytes, at most `i64::MAX`.
    pub len: u64,
    /// CRC-32C of the bytes, where the writer recorded one (extension field 2001).
    pub crc32c: Option<u32>,
}

/// A named or timed point in a history (extension field 2002 of an operation).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Mark {
    /// Nanoseconds since the Unix epoch; never earlier than that of the mark before.
    pub unix_nanos: i64,
    /// Name of the point, where it was given one.
    pub name: Option<Bytes>,
}

impl RecordedOp {
    /// Returns the name of the operation's kind, as tools print it.
    pub const fn kind_name(&self) -> &'static str {
        match self.body {
            OpBody::NoOp => "noop",
            OpBody::Create { .. } => "create",
            OpBody::Link { .. } => "link",
            OpBody::Unlink { .. } => "unlink",
            OpBody::Write { .. } => "write",
            OpBody::Property { .. } => "property",
        }
    }

    /// Returns the number of raw bytes that follow the frame.
    pub fn payload_len(&self) -> u64 {
        self.payload.map_or(0, |payload| payload.len)
    }
}
