//! The codec of one operation.
//!
//! *Invariants.* No byte string panics, or allocates more than its own length.
//!
//! *Does not* judge an operation: sequence number, checksum, author and paths are taken as they are, and `fsm`
//! and the player refuse what may not be applied.

use std::fmt;

use prost::Message;

use super::proto;
use crate::ids::{Author, Checksum, Fnode, LogPath, SeqNo};
use crate::op::{Mark, OpBody, Payload, RecordedOp};

/// Decodes the payload of a frame.
///
/// Unknown fields are skipped, repeated fields merge, and of several members the first in the order create,
/// link, unlink, write, property applies, all as in the reference.
///
/// # Errors
/// [`OpError`] where the bytes are no such message, or one that cannot be read past safely.
pub fn decode_op(payload: &[u8]) -> Result<RecordedOp, OpError> {
    let op = proto::RecordedOp::decode(payload)
        .map_err(|error| OpError::Malformed { detail: error.to_string() })?;
    let seq_no = SeqNo::new(op.seq_no);
    let mut offset = 0;
    let payload = match &op.write {
        Some(write) => {
            offset = u64::try_from(write.offset)
                .map_err(|_| OpError::NegativeOffset { seq_no, offset: write.offset })?;
            let len = u64::try_from(write.length)
                .map_err(|_| OpError::NegativeLength { seq_no, length: write.length })?;
            Some(Payload { len, crc32c: write.payload_crc32c })
        }
        None => None,
    };
    let fnode = |value| Fnode::new(SeqNo::new(value));
    let path = |path: &[u8]| LogPath::from_bytes(path);
    let body = match (op.create, op.link, op.unlink, op.write, op.property) {
        (Some(create), ..) => OpBody::Create { path: path(&create.path) },
        (_, Some(link), ..) => OpBody::Link { fnode: fnode(link.fnode), path: path(&link.path) },
        (_, _, Some(unlink), ..) => OpBody::Unlink { fnode: fnode(unlink.fnode), path: path(&unlink.path) },
        (_, _, _, Some(write), _) => OpBody::Write { fnode: fnode(write.fnode), offset },
        (.., Some(property)) => OpBody::Property { path: path(&property.path), content: property.content },
        _ => OpBody::NoOp,
    };
    let mark = op
        .mark
        .map(|mark| Mark { unix_nanos: mark.unix_nanos, name: (!mark.name.is_empty()).then_some(mark.name) });
    let checksum = Checksum::new(op.checksum);
    Ok(RecordedOp { seq_no, checksum, author: Author::new(op.author), body, payload, mark })
}

/// Why the payload of a frame is not an operation.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum OpError {
    /// The bytes are not the message.
    Malformed {
        /// What the decoder found.
        detail: String,
    },
    /// A write before the beginning of a file.
    NegativeOffset {
        /// The sequence number of the operation.
        seq_no: SeqNo,
        /// The offset it gives.
        offset: i64,
    },
    /// A write of less than nothing: where the next frame begins is unknown.
    NegativeLength {
        /// The sequence number of the operation.
        seq_no: SeqNo,
        /// The length it gives.
        length: i64,
    },
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { detail } => write!(f, "a frame holds no operation: {detail}"),
            Self::NegativeOffset { seq_no, offset } => {
                write!(f, "operation {seq_no} writes at the negative offset {offset}")
            }
            Self::NegativeLength { seq_no, length } => {
                write!(f, "operation {seq_no} writes a negative number of bytes, {length}")
            }
        }
    }
}

impl std::error::Error for OpError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_member_applies_and_the_payload_of_a_write_follows_all_the_same() {
        let both = b"\x08\x01\x22\x03\x0a\x01a\x3a\x02\x18\x05";
        let op = decode_op(both).unwrap();
        assert_eq!(op.body, OpBody::Create { path: LogPath::from_bytes(b"a") });
        assert_eq!(op.payload, Some(Payload { len: 5, crc32c: None }));
    }
}
