//! The codec of one operation: by hand for what recorders write, by prost for everything else.
//!
//! *Invariants.* Decoding by hand and by prost give the same operation wherever the former gives one; it leaves
//! every byte string that is not in the form a recorder writes to the latter. No byte string panics, or
//! allocates more than its own length. A write is decoded and encoded without allocating. What [`encode_op`]
//! accepts, [`decode_op`] reads back, and without extension fields the bytes are those that the reference
//! writes.
//!
//! *Does not* judge an operation: sequence number, checksum, author and paths are taken as they are, and `fsm`
//! and the player refuse what may not be applied.

use std::fmt;
use std::ops::Range;

use prost::Message;

use super::frame::{FRAME_BYTES_MAX, HEADER_BYTES, MAGIC};
use super::proto;
use crate::ids::{Author, Checksum, Fnode, LogPath, SeqNo};
use crate::op::{Mark, OpBody, Payload, RecordedOp};

/// A protobuf key: field number and wire type.
type Key = u32;

const fn key(field: u32, wire_type: u32) -> Key {
    field << 3 | wire_type
}

const VARINT: u32 = 0;
const LEN: u32 = 2;
const FIXED32: u32 = 5;

const SEQ_NO: Key = key(1, VARINT);
const CHECKSUM: Key = key(2, FIXED32);
const AUTHOR: Key = key(3, FIXED32);
const CREATE: Key = key(4, LEN);
const LINK: Key = key(5, LEN);
const UNLINK: Key = key(6, LEN);
const WRITE: Key = key(7, LEN);
const PROPERTY: Key = key(8, LEN);
const MARK: Key = key(2002, LEN);

const CREATE_PATH: Key = key(1, LEN);
const LINK_FNODE: Key = key(1, VARINT);
const LINK_PATH: Key = key(2, LEN);
const WRITE_FNODE: Key = key(1, VARINT);
const WRITE_OFFSET: Key = key(2, VARINT);
const WRITE_LENGTH: Key = key(3, VARINT);
const WRITE_CRC32C: Key = key(2001, FIXED32);
const PROPERTY_PATH: Key = key(1, LEN);
const PROPERTY_CONTENT: Key = key(2, LEN);
const MARK_UNIX_NANOS: Key = key(1, VARINT);
const MARK_NAME: Key = key(2, LEN);

/// Decodes the message of a frame.
///
/// Unknown fields are skipped, repeated fields merge, and of several members the first in the order create,
/// link, unlink, write, property applies, all as in the reference.
///
/// # Errors
/// [`OpError`] where the bytes are no such message, or are one that cannot be applied or read past.
#[inline]
pub fn decode_op(message: &[u8]) -> Result<RecordedOp, OpError> {
    // The operation is built in place, once its parts are known: moving it costs as much as decoding it.
    match Recorded::decode(message) {
        Some(Recorded { seq_no, checksum, author, member }) => {
            let (body, payload) = match member {
                Member::Write { fnode, offset, payload } => (OpBody::Write { fnode, offset }, Some(payload)),
                Member::NoOp => (OpBody::NoOp, None),
                Member::Create { path } => (OpBody::Create { path: LogPath::from_bytes(path) }, None),
                Member::Link { fnode, path } => {
                    (OpBody::Link { fnode, path: LogPath::from_bytes(path) }, None)
                }
                Member::Unlink { fnode, path } => {
                    (OpBody::Unlink { fnode, path: LogPath::from_bytes(path) }, None)
                }
            };
            Ok(RecordedOp { seq_no, checksum, author, body, payload, mark: None })
        }
        None => decode_any(message),
    }
}

/// Appends the frame of `op` to `out`, and returns the range of the message in `out`: the bytes that extend
/// the checksum of the log. The raw bytes of a write are the caller's to append.
///
/// # Errors
/// [`EncodeError`] for an operation that no reader could read back; `out` is then unchanged.
pub fn encode_op(op: &RecordedOp, out: &mut Vec<u8>) -> Result<Range<usize>, EncodeError> {
    let begin = out.len();
    let result = put_frame(op, out);
    if result.is_err() {
        out.truncate(begin);
    }
    result
}

/// An operation in the form that recorders write: each field at most once, in ascending order, none unknown, no
/// varint longer than 9 bytes and so no negative number.
struct Recorded<'a> {
    seq_no: SeqNo,
    checksum: Checksum,
    author: Option<Author>,
    member: Member<'a>,
}

/// The member of an operation that recorders write often.
enum Member<'a> {
    NoOp,
    Create { path: &'a [u8] },
    Link { fnode: Fnode, path: &'a [u8] },
    Unlink { fnode: Fnode, path: &'a [u8] },
    Write { fnode: Fnode, offset: u64, payload: Payload },
}

impl<'a> Recorded<'a> {
    /// Decodes a message; `None` where it is in another form.
    #[inline]
    fn decode(message: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(message);
        let seq_no = SeqNo::new(fields.int64(SEQ_NO)? as i64);
        let checksum = Checksum::new(fields.fixed32(CHECKSUM)?);
        let author = Author::new(fields.fixed32(AUTHOR)?);
        let member = if fields.take_key(WRITE) {
            let mut fields = fields.len_to_end()?;
            let fnode = fields.fnode(WRITE_FNODE)?;
            let offset = fields.int64(WRITE_OFFSET)?;
            let len = fields.int64(WRITE_LENGTH)?;
            let crc32c = if fields.take_key(WRITE_CRC32C) { Some(fields.word()?) } else { None };
            fields.end()?;
            Member::Write { fnode, offset, payload: Payload { len, crc32c } }
        } else if fields.take_key(CREATE) {
            Member::Create { path: fields.len_to_end()?.path_to_end(CREATE_PATH)? }
        } else if fields.take_key(LINK) {
            let mut fields = fields.len_to_end()?;
            Member::Link { fnode: fields.fnode(LINK_FNODE)?, path: fields.path_to_end(LINK_PATH)? }
        } else if fields.take_key(UNLINK) {
            let mut fields = fields.len_to_end()?;
            Member::Unlink { fnode: fields.fnode(LINK_FNODE)?, path: fields.path_to_end(LINK_PATH)? }
        } else {
            fields.end()?;
            Member::NoOp
        };
        Some(Self { seq_no, checksum, author, member })
    }
}

/// The fields of a message that are not yet decoded.
///
/// A method takes the field `key` if it comes next; else the field is absent and has its default. `None` means
/// that the message is not in the form that recorders write.
struct Fields<'a>(&'a [u8]);

#[expect(
    clippy::inline_always,
    reason = "a few instructions each, and the compiler leaves calls between them"
)]
impl<'a> Fields<'a> {
    #[inline(always)]
    fn int64(&mut self, key: Key) -> Option<u64> {
        if self.take_key(key) { self.varint() } else { Some(0) }
    }

    #[inline(always)]
    fn fnode(&mut self, key: Key) -> Option<Fnode> {
        self.int64(key).map(|fnode| Fnode::new(SeqNo::new(fnode as i64)))
    }

    #[inline(always)]
    fn fixed32(&mut self, key: Key) -> Option<u32> {
        if self.take_key(key) { self.word() } else { Some(0) }
    }

    #[inline(always)]
    fn word(&mut self) -> Option<u32> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*word))
    }

    #[inline(always)]
    fn path_to_end(mut self, key: Key) -> Option<&'a [u8]> {
        if self.take_key(key) { self.len_to_end().map(|path| path.0) } else { self.end().map(|()| &[][..]) }
    }

    /// Takes a length that reaches exactly to the end.
    #[inline(always)]
    fn len_to_end(mut self) -> Option<Self> {
        let len = self.varint()?;
        (len == self.0.len() as u64).then_some(self)
    }

    #[inline(always)]
    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    #[inline(always)]
    fn take_key(&mut self, key: Key) -> bool {
        let rest = if key < 0x80 {
            match self.0 {
                [first, rest @ ..] if Key::from(*first) == key => rest,
                _ => return false,
            }
        } else {
            match self.0 {
                [low, high, rest @ ..]
                    if Key::from(*low & 0x7f) | Key::from(*high) << 7 == key && *low >= 0x80 =>
                {
                    rest
                }
                _ => return false,
            }
        };
        self.0 = rest;
        true
    }

    /// Takes a varint of at most 9 bytes, which is below 2^63.
    #[inline(always)]
    fn varint(&mut self) -> Option<u64> {
        // Most have up to 4 bytes, and are not the last of their message.
        let (value, rest) = match self.0 {
            [a, b, c, d, ..] if (a & b & c & d) >= 0x80 => return self.long_varint(),
            [a, rest @ ..] if *a < 0x80 => (u32::from(*a), rest),
            [a, b, rest @ ..] if *b < 0x80 => (septets([*a, *b, 0, 0]), rest),
            [a, b, c, rest @ ..] if *c < 0x80 => (septets([*a, *b, *c, 0]), rest),
            [a, b, c, d, rest @ ..] => (septets([*a, *b, *c, *d]), rest),
            _ => return None,
        };
        self.0 = rest;
        Some(u64::from(value))
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for (index, &byte) in self.0.iter().take(9).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.0 = self.0.get(index + 1..)?;
                return Some(value);
            }
        }
        None
    }
}

/// Joins the low 7 bits of each byte.
#[inline]
fn septets([a, b, c, d]: [u8; 4]) -> u32 {
    let septet = |byte: u8| u32::from(byte & 0x7f);
    septet(a) | septet(b) << 7 | septet(c) << 14 | septet(d) << 21
}

/// Decodes any message.
#[cold]
fn decode_any(message: &[u8]) -> Result<RecordedOp, OpError> {
    let op = proto::RecordedOp::decode(message)
        .map_err(|error| OpError::Malformed { detail: error.to_string() })?;
    let seq_no = SeqNo::new(op.seq_no);
    let (payload, offset) = match &op.write {
        Some(write) => {
            let offset = u64::try_from(write.offset)
                .map_err(|_| OpError::NegativeOffset { seq_no, offset: write.offset })?;
            let len = u64::try_from(write.length)
                .map_err(|_| OpError::NegativeLength { seq_no, length: write.length })?;
            (Some(Payload { len, crc32c: write.payload_crc32c }), offset)
        }
        None => (None, 0),
    };
    let fnode = |fnode| Fnode::new(SeqNo::new(fnode));
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

fn put_frame(op: &RecordedOp, out: &mut Vec<u8>) -> Result<Range<usize>, EncodeError> {
    out.reserve(128);
    let begin = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 4]);
    put_message(op, out)?;
    let message = begin + HEADER_BYTES..out.len();
    let bytes = out.len() - begin;
    if bytes > FRAME_BYTES_MAX {
        return Err(EncodeError::FrameTooLong { seq_no: op.seq_no, bytes });
    }
    if let Some(length) = out.get_mut(begin + MAGIC.len()..message.start) {
        length.copy_from_slice(&(message.len() as u32).to_le_bytes());
    }
    Ok(message)
}

fn put_message(op: &RecordedOp, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    put_int64(SEQ_NO, op.seq_no.get(), out);
    put_fixed32(CHECKSUM, op.checksum.get(), out);
    put_fixed32(AUTHOR, op.author.map_or(0, Author::get), out);
    if op.payload.is_some() != matches!(op.body, OpBody::Write { .. }) {
        return Err(EncodeError::PayloadMismatch { seq_no: op.seq_no });
    }
    match &op.body {
        OpBody::NoOp => {}
        OpBody::Create { path } => {
            put_key(CREATE, out);
            put_varint(bytes_len(CREATE_PATH, path.as_bytes()), out);
            put_bytes(CREATE_PATH, path.as_bytes(), out);
        }
        OpBody::Link { fnode, path } => put_link(LINK, *fnode, path, out),
        OpBody::Unlink { fnode, path } => put_link(UNLINK, *fnode, path, out),
        OpBody::Write { fnode, offset } => {
            let Payload { len, crc32c } = op.payload.unwrap_or(Payload { len: 0, crc32c: None });
            let (Ok(offset), Ok(len)) = (i64::try_from(*offset), i64::try_from(len)) else {
                return Err(EncodeError::WriteTooFar { seq_no: op.seq_no, offset: *offset, len });
            };
            let fnode = fnode.get();
            let crc32c_len = if crc32c.is_some() { varint_len(WRITE_CRC32C.into()) + 4 } else { 0 };
            put_key(WRITE, out);
            put_varint(
                int64_len(WRITE_FNODE, fnode)
                    + int64_len(WRITE_OFFSET, offset)
                    + int64_len(WRITE_LENGTH, len)
                    + crc32c_len,
                out,
            );
            put_int64(WRITE_FNODE, fnode, out);
            put_int64(WRITE_OFFSET, offset, out);
            put_int64(WRITE_LENGTH, len, out);
            if let Some(crc32c) = crc32c {
                put_key(WRITE_CRC32C, out);
                out.extend_from_slice(&crc32c.to_le_bytes());
            }
        }
        OpBody::Property { path, content } => {
            put_key(PROPERTY, out);
            put_varint(bytes_len(PROPERTY_PATH, path.as_bytes()) + bytes_len(PROPERTY_CONTENT, content), out);
            put_bytes(PROPERTY_PATH, path.as_bytes(), out);
            put_bytes(PROPERTY_CONTENT, content, out);
        }
    }
    if let Some(mark) = &op.mark {
        let name = mark.name.as_deref().unwrap_or_default();
        put_key(MARK, out);
        put_varint(int64_len(MARK_UNIX_NANOS, mark.unix_nanos) + bytes_len(MARK_NAME, name), out);
        put_int64(MARK_UNIX_NANOS, mark.unix_nanos, out);
        put_bytes(MARK_NAME, name, out);
    }
    Ok(())
}

fn put_link(key: Key, fnode: Fnode, path: &LogPath, out: &mut Vec<u8>) {
    put_key(key, out);
    put_varint(int64_len(LINK_FNODE, fnode.get()) + bytes_len(LINK_PATH, path.as_bytes()), out);
    put_int64(LINK_FNODE, fnode.get(), out);
    put_bytes(LINK_PATH, path.as_bytes(), out);
}

/// Writes a field, or nothing for its default; so do the next two.
fn put_int64(key: Key, value: i64, out: &mut Vec<u8>) {
    if value != 0 {
        put_key(key, out);
        put_varint(value as u64, out);
    }
}

fn put_fixed32(key: Key, value: u32, out: &mut Vec<u8>) {
    if value != 0 {
        put_key(key, out);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn put_bytes(key: Key, value: &[u8], out: &mut Vec<u8>) {
    if !value.is_empty() {
        put_key(key, out);
        put_varint(value.len() as u64, out);
        out.extend_from_slice(value);
    }
}

fn put_key(key: Key, out: &mut Vec<u8>) {
    put_varint(key.into(), out);
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Returns the number of bytes that [`put_int64`] writes.
fn int64_len(key: Key, value: i64) -> u64 {
    if value == 0 { 0 } else { varint_len(key.into()) + varint_len(value as u64) }
}

/// Returns the number of bytes that [`put_bytes`] writes.
fn bytes_len(key: Key, value: &[u8]) -> u64 {
    let len = value.len() as u64;
    if len == 0 { 0 } else { varint_len(key.into()) + varint_len(len) + len }
}

fn varint_len(value: u64) -> u64 {
    u64::from((u64::BITS - (value | 1).leading_zeros()).div_ceil(7))
}

/// Why the message of a frame is not an operation.
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
            Self::Malformed { detail } => write!(f, "the message does not decode: {detail}"),
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

/// Why an operation cannot be encoded.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The frame would be longer than [`FRAME_BYTES_MAX`], and no reader would take it for one.
    FrameTooLong {
        /// The sequence number of the operation.
        seq_no: SeqNo,
        /// The length of the frame.
        bytes: usize,
    },
    /// The offset or the length of a write is above `i64::MAX`.
    WriteTooFar {
        /// The sequence number of the operation.
        seq_no: SeqNo,
        /// The offset.
        offset: u64,
        /// The length.
        len: u64,
    },
    /// A write without a payload, or a payload without a write.
    PayloadMismatch {
        /// The sequence number of the operation.
        seq_no: SeqNo,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrameTooLong { seq_no, bytes } => {
                write!(
                    f,
                    "operation {seq_no} needs a frame of {bytes} bytes, expected at most {FRAME_BYTES_MAX}"
                )
            }
            Self::WriteTooFar { seq_no, offset, len } => {
                write!(f, "operation {seq_no} writes {len} bytes at offset {offset}, beyond {}", i64::MAX)
            }
            Self::PayloadMismatch { seq_no } => {
                write!(f, "operation {seq_no}: a write has a payload, and nothing else has")
            }
        }
    }
}

impl std::error::Error for EncodeError {}

#[cfg(test)]
mod tests;
