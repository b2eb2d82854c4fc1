//! The only owner of bytes: how operations and hints are written.
//!
//! A log is a sequence of frames. The frame of a write is followed by the bytes that it writes, as they are:
//!
//! ```text
//!  0           4           8                     8 + n                    8 + n + length
//!  +-----------+-----------+---------------------+------------------------+-----------
//!  | magic     | n         | message             | raw bytes, if a write  | next frame
//!  | 66339336  | u32 LE    | RecordedOp, n bytes | Write.length of them   |
//!  +-----------+-----------+---------------------+------------------------+-----------
//!                          |<--- checksum of --->|<---- payload_crc32c -->|
//!                          |      the log        |      (extension)       |
//! ```
//!
//! The message is protobuf, `proto/recorded_op.proto`. In the form that recorders write, with fields in
//! ascending order and zero left out, a write by author 1234 is:
//!
//! ```text
//!  08 SEQ_NO       field 1, varint
//!  15 CHECKSUM     field 2, u32 LE: the checksum of the log before this operation
//!  1d d2040000     field 3, u32 LE: the author
//!  3a LEN          field 7, the member that says what is done: here a write
//!     08 FNODE        field 1, varint
//!     10 OFFSET       field 2, varint: where in the file
//!     18 LENGTH       field 3, varint: how many raw bytes follow the frame
//!     8d7d CRC        field 2001, u32 LE: CRC-32C of the raw bytes (extension)
//! ```
//!
//! The checksum of a log is the running CRC-32C (Castagnoli) of all messages before an operation, from 0:
//! neither headers nor raw bytes count. The extension puts the raw bytes' own checksum into the message, and so
//! into the chain.
//!
//! | message | extension field | meaning |
//! |---|---|---|
//! | `RecordedOp.Write` | 2001 `payload_crc32c` | CRC-32C of the raw bytes |
//! | `RecordedOp` | 2002 `mark` | in a no-op: a point in time, and perhaps a name |
//! | `RecordedOp` | 2003 `meta` | reserved; its content is not defined |
//! | `Segment` | 2001 `end_checksum` | checksum of the log after the segment's last operation |
//! | `FSMHints` | 2001 `as_of` | the head of the log that the hints describe |
//! | `FSMHints` | 2002 `crc32c` | CRC-32C of the message without this field, and without any that is defined later |
//!
//! Readers of the reference skip extension fields; what is written without them is byte for byte what the
//! reference writes.
//!
//! *Invariants.* Everything that a log or a hint set can hold is decoded, or refused with a typed error: no
//! byte string panics, hangs, or allocates by a length that it merely claims.
//!
//! *Does not* read journals or files, nor judge what it decodes (`fsm`, `hints`).

mod frame;
mod hints;
mod json;
mod op;
mod proto;

pub use frame::{FRAME_BYTES_MAX, HEADER_BYTES, MAGIC, Step, decode_frame};
pub use op::{EncodeError, OpError, decode_op, encode_op};
