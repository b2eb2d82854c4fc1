//! Hints as they stand on the wire, before anything is checked.
//!
//! *Invariants.* Both encodings of hints, JSON and protobuf, are read into these structs and written from them,
//! so that every value meets the same checks. They are the generated messages: a zero author or `last_offset`,
//! an empty `log` and negative numbers are all representable.
//!
//! *Does not* convert: `segment` and `hints` do, and say what is wrong.

#![cfg_attr(not(test), expect(unused_imports, reason = "remove with the first user"))]

pub(crate) use super::proto::fsm_hints::AsOf as RawAsOf;
pub(crate) use super::proto::{
    FnodeSegments as RawFile, FsmHints as RawHints, Property as RawProperty, Segment as RawSegment,
};

/// Decodes the protobuf form of hints.
#[cfg_attr(not(test), expect(dead_code, reason = "its first caller is `hints`"))]
pub(crate) fn decode_proto(bytes: &[u8]) -> Result<RawHints, prost::DecodeError> {
    prost::Message::decode(bytes)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn hints_written_by_gazette_decode_and_encode_to_the_same_bytes() {
        let segment = |first_seq_no, first_offset, first_checksum| RawSegment {
            author: 1234,
            first_seq_no,
            first_offset,
            first_checksum,
            last_seq_no: first_seq_no,
            ..RawSegment::default()
        };
        let hints = RawHints {
            log: "a/log".into(),
            live_nodes: vec![
                RawFile { fnode: 1, segments: vec![segment(1, 0, 0)] },
                RawFile { fnode: 2, segments: vec![segment(2, 32, 0x568e_8e4e)] },
            ],
            properties: vec![RawProperty { path: "/IDENTITY".into(), content: "v".into() }],
            as_of: None,
        };
        let bytes = b"\x0a\x05a/log\x12\x0d\x08\x01\x12\x09\x0d\xd2\x04\x00\x00\x10\x01\x28\x01\
            \x12\x14\x08\x02\x12\x10\x0d\xd2\x04\x00\x00\x10\x02\x18\x20\x25\x4e\x8e\x8e\x56\x28\x02\
            \x1a\x0e\x0a\x09/IDENTITY\x12\x01v";
        assert_eq!(hints.encode_to_vec(), bytes);
        assert_eq!(decode_proto(bytes), Ok(hints));
    }

    #[test]
    fn what_hints_describe_is_an_extension_field() {
        let as_of = RawAsOf { offset: 1, seq_no: 2, checksum: 3, author: 4, unix_nanos: 5 };
        let hints = RawHints { as_of: Some(as_of), ..RawHints::default() };
        let bytes = b"\x8a\x7d\x10\x08\x01\x10\x02\x1d\x03\0\0\0\x25\x04\0\0\0\x28\x05";
        assert_eq!(hints.encode_to_vec(), bytes);
    }
}
