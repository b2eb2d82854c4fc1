//! Goal: one operation, two decoders, one answer; and the bytes of the reference.
//! Method: the frames of the reference's own tests as constants; random messages, random damage and random
//! bytes given to both decoders.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const AUTHOR_1234: u32 = 1234;

fn op(seq_no: i64, checksum: Checksum, body: OpBody, len: Option<u64>) -> RecordedOp {
    RecordedOp {
        seq_no: SeqNo::new(seq_no),
        checksum,
        author: Author::new(AUTHOR_1234),
        body,
        payload: len.map(|len| Payload { len, crc32c: None }),
        mark: None,
    }
}

fn create(path: &str) -> OpBody {
    OpBody::Create { path: LogPath::from_bytes(path.as_bytes()) }
}

fn link(fnode: i64, path: &str) -> OpBody {
    OpBody::Link { fnode: Fnode::new(SeqNo::new(fnode)), path: LogPath::from_bytes(path.as_bytes()) }
}

fn unlink(fnode: i64, path: &str) -> OpBody {
    OpBody::Unlink { fnode: Fnode::new(SeqNo::new(fnode)), path: LogPath::from_bytes(path.as_bytes()) }
}

fn write(fnode: i64, offset: u64) -> OpBody {
    OpBody::Write { fnode: Fnode::new(SeqNo::new(fnode)), offset }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Encodes `bodies` as one history, checks that each decodes to itself, and returns frames and checksums.
fn history(bodies: Vec<(OpBody, Option<u64>)>) -> Vec<(String, String)> {
    let mut checksum = Checksum::ZERO;
    let mut frames = Vec::new();
    for (index, (body, len)) in bodies.into_iter().enumerate() {
        let op = op(index as i64 + 1, checksum, body, len);
        let mut out = b"before".to_vec();
        let message = encode_op(&op, &mut out).unwrap();
        assert_eq!(message, 6 + HEADER_BYTES..out.len());
        assert_eq!(decode_op(&out[message.clone()]), Ok(op));
        checksum = checksum.extend(&out[message]);
        frames.push((hex(&out[6..]), checksum.to_string()));
    }
    frames
}

#[track_caller]
fn assert_history(bodies: Vec<(OpBody, Option<u64>)>, expected: &[(&str, &str)]) {
    let frames = history(bodies);
    assert_eq!(frames.len(), expected.len());
    for ((frame, checksum), (expected_frame, expected_checksum)) in frames.iter().zip(expected) {
        if !expected_frame.is_empty() {
            assert_eq!(frame, expected_frame);
        }
        assert_eq!(checksum, expected_checksum, "after {frame}");
    }
}

#[test]
fn frames_and_checksums_are_those_of_the_reference() {
    assert_history(
        vec![
            (create("/path/to/file"), None),
            (unlink(1, "/path/to/file"), None),
            (create("/path/to/file"), None),
        ],
        &[
            ("663393361800000008011dd2040000220f0a0d2f706174682f746f2f66696c65", "568e8e4e"),
            ("663393361f0000000802154e8e8e561dd204000032110801120d2f706174682f746f2f66696c65", "8ee45505"),
            ("663393361d0000000803150555e48e1dd2040000220f0a0d2f706174682f746f2f66696c65", "4db93b2e"),
        ],
    );
    assert_history(
        vec![
            (create("/target/path"), None),
            (create("/source/path"), None),
            (unlink(1, "/target/path"), None),
            (link(2, "/target/path"), None),
            (unlink(2, "/source/path"), None),
        ],
        &[("", "5ccbeeaa"), ("", "f5e8ab73"), ("", "687932b0"), ("", "473a4f5a"), ("", "e6774138")],
    );
    assert_history(vec![(create("/delete/path"), None)], &[("", "950c2859")]);
    assert_history(
        vec![
            (create("/source/path"), None),
            (write(1, 0), Some(11)),
            (write(1, 11), Some(0)),
            (write(1, 11), Some(12)),
        ],
        &[
            ("", "31b0524e"),
            ("66339336120000000802154e52b0311dd20400003a040801180b", "8f2fa883"),
            ("663393361200000008031583a82f8f1dd20400003a040801100b", "4a88dd5e"),
            ("", "ceb17715"),
        ],
    );
    let identity =
        OpBody::Property { path: LogPath::from_bytes(b"/IDENTITY"), content: Bytes::from_static(b"value") };
    assert_history(
        vec![(create("/tmp_file"), None), (identity, None), (unlink(1, "/tmp_file"), None)],
        &[
            ("", "9e6074f6"),
            ("6633933620000000080215f674609e1dd204000042120a092f4944454e54495459120576616c7565", "2c48e153"),
            ("", "c35d72a2"),
        ],
    );
}

#[test]
fn a_hand_off_of_another_author_is_that_of_the_reference() {
    let mut no_op = op(2, Checksum::new(0x1f19_bf57), OpBody::NoOp, None);
    no_op.author = Author::new(5678);
    let mut out = Vec::new();
    let message = encode_op(&no_op, &mut out).unwrap();
    assert_eq!(hex(&out), "663393360c00000008021557bf191f1d2e160000");
    assert_eq!(no_op.checksum.extend(&out[message]).to_string(), "61669370");
}

#[test]
fn extension_fields_have_their_numbers() {
    let mut write = op(3, Checksum::new(1), write(1, 2), None);
    write.payload = Some(Payload { len: 3, crc32c: Some(0x0403_0201) });
    let mut mark = op(4, Checksum::new(1), OpBody::NoOp, None);
    mark.mark = Some(Mark { unix_nanos: 5, name: Some(Bytes::from_static(b"m")) });
    for (op, expected) in [
        (write, "08031501000000 1dd2040000 3a0c 0801 1002 1803 8d7d01020304"),
        (mark, "08041501000000 1dd2040000 927d05 0805 12016d"),
    ] {
        let mut out = Vec::new();
        let message = encode_op(&op, &mut out).unwrap();
        assert_eq!(hex(&out[message.clone()]), expected.replace(' ', ""));
        assert_eq!(decode_op(&out[message]), Ok(op));
    }
}

#[test]
fn of_several_members_the_first_applies_and_the_raw_bytes_of_a_write_follow() {
    let message = proto::RecordedOp {
        create: Some(proto::recorded_op::Create { path: "/a".into() }),
        write: Some(proto::recorded_op::Write { length: 5, ..Default::default() }),
        ..Default::default()
    };
    let op = decode_op(&message.encode_to_vec()).unwrap();
    assert_eq!(op.body, create("/a"));
    assert_eq!(op.payload, Some(Payload { len: 5, crc32c: None }));
}

#[test]
fn negative_positions_are_refused_whichever_member_applies() {
    let message = |offset, length| {
        let create = Some(proto::recorded_op::Create::default());
        let write = Some(proto::recorded_op::Write { offset, length, ..Default::default() });
        proto::RecordedOp { seq_no: 7, create, write, ..Default::default() }.encode_to_vec()
    };
    let seq_no = SeqNo::new(7);
    assert_eq!(decode_op(&message(0, -5)), Err(OpError::NegativeLength { seq_no, length: -5 }));
    assert_eq!(decode_op(&message(-6, 0)), Err(OpError::NegativeOffset { seq_no, offset: -6 }));
}

#[test]
fn what_no_reader_could_read_back_is_not_encoded() {
    let content = Bytes::from(vec![0; FRAME_BYTES_MAX]);
    let property = OpBody::Property { path: LogPath::from_bytes(b"/p"), content };
    let mut out = b"before".to_vec();
    for (op, is_expected) in [
        (op(1, Checksum::ZERO, property, None), |error| matches!(error, EncodeError::FrameTooLong { .. })),
        (op(1, Checksum::ZERO, write(1, 1 << 63), Some(0)), |error| {
            matches!(error, EncodeError::WriteTooFar { .. })
        }),
        (op(1, Checksum::ZERO, write(1, 0), Some(1 << 63)), |error| {
            matches!(error, EncodeError::WriteTooFar { .. })
        }),
        (op(1, Checksum::ZERO, write(1, 0), None), |error| {
            matches!(error, EncodeError::PayloadMismatch { .. })
        }),
        (op(1, Checksum::ZERO, create("/a"), Some(0)), |error| {
            matches!(error, EncodeError::PayloadMismatch { .. })
        }),
    ] as [(RecordedOp, fn(EncodeError) -> bool); 5]
    {
        assert!(is_expected(encode_op(&op, &mut out).unwrap_err()));
        assert_eq!(out, b"before");
    }
}

#[test]
fn the_longest_frame_is_encoded_and_read_back() {
    let mut out = Vec::new();
    let property =
        |len| OpBody::Property { path: LogPath::from_bytes(b"/p"), content: Bytes::from(vec![7; len]) };
    let overhead =
        encode_op(&op(1, Checksum::ZERO, property(1 << 23), None), &mut out).unwrap().end - (1 << 23);
    let longest = op(1, Checksum::ZERO, property(FRAME_BYTES_MAX - overhead), None);
    out.clear();
    let message = encode_op(&longest, &mut out).unwrap();
    assert_eq!(out.len(), FRAME_BYTES_MAX);
    assert_eq!(
        super::super::decode_frame(&out, false),
        super::super::Step::Frame { message: message.clone() }
    );
    assert_eq!(decode_op(&out[message]), Ok(longest));
}

fn any_path() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        Just(Bytes::new()),
        "/[a-z]{1,8}(/[a-z]{1,8})?".prop_map(Bytes::from),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from),
    ]
}

/// Numbers of every encoded length, some negative.
fn any_number() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), 1..300_i64, (any::<i64>(), 0..64_u32).prop_map(|(number, shift)| number >> shift)]
}

fn any_word() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), any::<u32>()]
}

prop_compose! {
    fn any_link()(fnode in any_number(), path in any_path()) -> proto::recorded_op::Link {
        proto::recorded_op::Link { fnode, path }
    }
}

prop_compose! {
    fn any_write()(
        fnode in any_number(), offset in any_number(), length in any_number(),
        payload_crc32c in prop::option::of(any_word()),
    ) -> proto::recorded_op::Write {
        proto::recorded_op::Write { fnode, offset, length, payload_crc32c }
    }
}

/// Any subset of members, though most often one.
fn any_message() -> impl Strategy<Value = proto::RecordedOp> {
    let create = any_path().prop_map(|path| proto::recorded_op::Create { path });
    let property = (any_path(), any_path()).prop_map(|(path, content)| proto::Property { path, content });
    let mark = (any_number(), any_path())
        .prop_map(|(unix_nanos, name)| proto::recorded_op::Mark { unix_nanos, name });
    let members =
        (create, any_link(), any_link(), any_write(), property, mark, any_number(), any_number(), any_path());
    let kept = prop_oneof![
        4 => (0..10_u32).prop_map(|bit| 1 << bit >> 1),
        1 => any::<u16>(),
    ];
    (any_number(), any_word(), any_word(), members, kept).prop_map(
        |(seq_no, checksum, author, members, kept)| {
            let (create, link, unlink, write, property, mark, first_offset, last_offset, log) = members;
            let keep = |bit: u32| kept >> bit & 1 == 1;
            proto::RecordedOp {
                seq_no,
                checksum,
                author,
                create: keep(0).then_some(create),
                link: keep(1).then_some(link),
                unlink: keep(2).then_some(unlink),
                write: keep(3).then_some(write),
                property: keep(4).then_some(property),
                mark: keep(5).then_some(mark),
                first_offset: if keep(6) { first_offset } else { 0 },
                last_offset: if keep(7) { last_offset } else { 0 },
                log: if keep(8) { log } else { Bytes::new() },
            }
        },
    )
}

/// One field, of ours or not, perhaps with a wire type that is not its own.
fn any_field() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![0..12_u32, 1001..1008_u32, 2000..2005_u32, any::<u32>().prop_map(|n| n >> 3)];
    (number, 0..8_u32, any_number(), prop::collection::vec(any::<u8>(), 0..12)).prop_map(
        |(number, wire_type, value, bytes)| {
            let mut out = Vec::new();
            put_key(number << 3 | wire_type, &mut out);
            match wire_type {
                VARINT => put_varint(value as u64, &mut out),
                1 => out.extend_from_slice(&value.to_le_bytes()),
                LEN => {
                    put_varint(bytes.len() as u64, &mut out);
                    out.extend_from_slice(&bytes);
                }
                3 => {
                    put_int64(key(1, VARINT), value, &mut out);
                    put_key(number << 3 | 4, &mut out);
                }
                FIXED32 => out.extend_from_slice(&(value as u32).to_le_bytes()),
                _ => {}
            }
            out
        },
    )
}

/// Checks both decoders against each other, and a re-encoding against what was decoded.
fn assert_decoders_agree(message: &[u8]) -> Result<(), TestCaseError> {
    let general = decode_any(message);
    prop_assert_eq!(decode_op(message), general.clone());
    if let Ok(op) = general {
        let mut out = Vec::new();
        match encode_op(&op, &mut out) {
            Ok(message) => prop_assert_eq!(decode_op(&out[message]), Ok(op)),
            Err(error) => prop_assert_eq!(error, EncodeError::PayloadMismatch { seq_no: op.seq_no }),
        }
    }
    Ok(())
}

/// Tells whether a recorder writes such an operation, and so whether it must be decoded by hand.
fn is_recorded(message: &proto::RecordedOp) -> bool {
    let numbers = [
        message.seq_no,
        message.link.as_ref().map_or(0, |link| link.fnode),
        message.unlink.as_ref().map_or(0, |unlink| unlink.fnode),
        message.write.map_or(0, |write| write.fnode | write.offset | write.length),
    ];
    let members = usize::from(message.create.is_some())
        + usize::from(message.link.is_some())
        + usize::from(message.unlink.is_some())
        + usize::from(message.write.is_some());
    members <= 1
        && numbers.iter().all(|number| *number >= 0)
        && message.property.is_none()
        && message.mark.is_none()
        && message.first_offset == 0
        && message.last_offset == 0
        && message.log.is_empty()
}

proptest! {
    #[test]
    fn what_recorders_write_is_decoded_by_hand_and_encoded_as_prost_does(message in any_message()) {
        let bytes = message.encode_to_vec();
        assert_decoders_agree(&bytes)?;
        prop_assert_eq!(Recorded::decode(&bytes).is_some(), is_recorded(&message));
        if is_recorded(&message) {
            let mut out = Vec::new();
            let range = encode_op(&decode_op(&bytes).unwrap(), &mut out).unwrap();
            prop_assert_eq!(&out[range], bytes);
        }
    }

    #[test]
    fn decoders_agree_on_damaged_messages(
        message in any_message(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 0..3),
    ) {
        let mut bytes = message.encode_to_vec();
        for (index, byte, how) in damage {
            let at = index.index(bytes.len() + 1);
            match how {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, byte),
                2 if at < bytes.len() => bytes[at] = byte,
                3 if at < bytes.len() => bytes[at] ^= 1 << (byte % 8),
                _ => {}
            }
        }
        assert_decoders_agree(&bytes)?;
    }

    #[test]
    fn decoders_agree_on_fields_in_any_order(
        messages in prop::collection::vec(any_message(), 0..3),
        fields in prop::collection::vec((any_field(), any::<bool>()), 0..4),
    ) {
        let mut bytes: Vec<u8> = messages.iter().flat_map(Message::encode_to_vec).collect();
        for (field, first) in fields {
            if first { bytes = [field, bytes].concat() } else { bytes.extend(field) }
        }
        assert_decoders_agree(&bytes)?;
    }

    #[test]
    fn decoders_agree_on_fields_inside_of_members(
        fields in prop::collection::vec(any_field(), 0..4),
        member in prop::sample::select(vec![CREATE, LINK, UNLINK, WRITE, PROPERTY, MARK]),
    ) {
        let fields = fields.concat();
        let mut bytes = Vec::new();
        put_bytes(member, &fields, &mut bytes);
        assert_decoders_agree(&bytes)?;
    }

    #[test]
    fn decoders_agree_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        assert_decoders_agree(&bytes)?;
    }
}
