//! The two encodings of hints, and the judgement of what they hold.
//!
//! *Invariants.* Both encodings, JSON and protobuf, are read into the generated messages first, so that every
//! value meets the same checks, in the order of the reference: hints that both readers refuse are refused for
//! the same reason. What is decoded can be played: it flattens. Without extension fields, the bytes are those
//! that the reference writes; with them there is a checksum of the whole, and hints that do not have it are refused.
//!
//! *Does not* keep a property that is not UTF-8 whole in JSON: as in the reference, each byte that is not part
//! of a character becomes U+FFFD. Protobuf keeps it.

use prost::Message;

use super::json;
use super::proto::fsm_hints::AsOf as RawAsOf;
use super::proto::{
    FnodeSegments as RawFile, FsmHints as RawHints, Property as RawProperty, Segment as RawSegment,
};
use crate::hints::{AsOf, Flattener, FsmHints, HintedFile, HintsError, Property};
use crate::ids::{Author, Checksum, Fnode, JournalName, LogPath, Offset, SeqNo};
use crate::segment::{Segment, SegmentError, SegmentRule};

impl FsmHints {
    /// Decodes hints in JSON, told by a leading `{`, or in protobuf.
    ///
    /// # Errors
    /// [`HintsError`] where the bytes are neither, or hold hints that do not flatten.
    ///
    /// ```
    /// use recoverylog::FsmHints;
    ///
    /// let json = br#"{"log":"acme/orders","live_nodes":null,"properties":null}"#;
    /// let hints = FsmHints::decode(json)?;
    /// assert_eq!(hints.encode_json(), json);
    /// assert_eq!(FsmHints::decode(&hints.encode_proto())?, hints);
    /// # Ok::<(), recoverylog::hints::HintsError>(())
    /// ```
    pub fn decode(bytes: &[u8]) -> Result<Self, HintsError> {
        let encoding = |reason: String| HintsError::Encoding { reason };
        let raw = match bytes.first() {
            None => return Err(encoding("expected JSON or protobuf, found nothing".into())),
            Some(b'{') => json::decode(bytes).map_err(|error| encoding(error.to_string()))?,
            Some(_) => RawHints::decode(bytes).map_err(|error| encoding(error.to_string()))?,
        };
        check_digest(&raw)?;
        hints_from_raw(raw)
    }

    /// Encodes the hints as the JSON that the reference keeps in Etcd.
    pub fn encode_json(&self) -> Vec<u8> {
        self.put_json(64 + 192 * self.files.len(), |_| {})
    }

    /// Returns the length of [`FsmHints::encode_json`], of which it holds little at a time.
    pub fn json_bytes(&self) -> usize {
        let mut bytes = 0;
        let rest = self.put_json(512, |out| {
            bytes += out.len();
            out.clear();
        });
        bytes + rest.len()
    }

    /// Encodes the hints in JSON; after each file `look` may take what is there.
    fn put_json(&self, capacity: usize, mut look: impl FnMut(&mut Vec<u8>)) -> Vec<u8> {
        let mut raw = frame_to_raw(self);
        for text in raw.properties.iter_mut().flat_map(|property| [&mut property.path, &mut property.content])
        {
            if std::str::from_utf8(text).is_err() {
                *text = json::text_of(text).into();
            }
        }
        let mut digest = Digest::begin(&raw.log);
        let mut encoder = json::Encoder::begin(&raw.log, capacity);
        let mut file = RawFile::default();
        for hinted in &self.files {
            file_to_raw(hinted, self, &mut file);
            digest.file(&file);
            encoder.file(&file);
            look(encoder.written());
        }
        raw.crc32c = raw.as_of.is_some().then(|| digest.end(&raw));
        encoder.end(&raw)
    }

    /// Encodes the hints in protobuf: smaller, and without loss.
    pub fn encode_proto(&self) -> Vec<u8> {
        let mut raw = hints_to_raw(self);
        raw.crc32c = raw.as_of.is_some().then(|| digest_of(&raw));
        raw.encode_to_vec()
    }
}

/// The CRC-32C of hints: of their protobuf form without that checksum itself. Hints have one where they have an
/// extension field, so that those without are the reference's.
///
/// It is the same whichever way they are written. What a later version adds stays out of it, or this one would refuse
/// what that one writes.
struct Digest {
    crc32c: u32,
    /// The bytes that come next.
    bytes: Vec<u8>,
}

impl Digest {
    fn begin(log: &str) -> Self {
        let mut digest = Self { crc32c: 0, bytes: Vec::new() };
        digest.add(&RawHints { log: log.to_owned(), ..RawHints::default() });
        digest
    }

    fn file(&mut self, file: &RawFile) {
        prost::encoding::message::encode(LIVE_NODES_TAG, file, &mut self.bytes);
        self.take();
    }

    /// Adds what comes behind the files.
    fn end(mut self, hints: &RawHints) -> u32 {
        let (properties, as_of) = (hints.properties.clone(), hints.as_of);
        self.add(&RawHints { properties, as_of, ..RawHints::default() });
        self.crc32c
    }

    fn add(&mut self, hints: &RawHints) {
        // The vector grows: there is always room.
        hints.encode_raw(&mut self.bytes);
        self.take();
    }

    fn take(&mut self) {
        self.crc32c = crc32c::crc32c_append(self.crc32c, &self.bytes);
        self.bytes.clear();
    }
}

/// The field of hints that holds their files.
const LIVE_NODES_TAG: u32 = 2;

fn digest_of(raw: &RawHints) -> u32 {
    let mut digest = Digest::begin(&raw.log);
    for file in &raw.live_nodes {
        digest.file(file);
    }
    digest.end(raw)
}

fn check_digest(raw: &RawHints) -> Result<(), HintsError> {
    let Some(expected) = raw.crc32c else { return Ok(()) };
    let actual = digest_of(raw);
    if actual == expected { Ok(()) } else { Err(HintsError::Digest { expected, actual }) }
}

fn hints_from_raw(raw: RawHints) -> Result<FsmHints, HintsError> {
    let log = match raw.log.as_str() {
        "" => None,
        name => {
            Some(JournalName::new(name).map_err(|error| HintsError::LogName { reason: error.to_string() })?)
        }
    };
    // Flattening here, step by step, finds the same first fault as the reference, also where it is a value
    // that the domain types cannot hold.
    let mut flattener = Flattener::new(log.clone());
    let mut files = Vec::with_capacity(raw.live_nodes.len());
    for file in raw.live_nodes {
        let fnode = Fnode::new(SeqNo::new(file.fnode));
        flattener.file(fnode, file.segments.first().map(|segment| SeqNo::new(segment.first_seq_no)))?;
        let mut segments = Vec::with_capacity(file.segments.len());
        for segment in &file.segments {
            let segment = segment_from_raw(segment).map_err(HintsError::Segment)?;
            flattener.segment(segment.clone())?;
            segments.push(segment);
        }
        files.push(HintedFile { fnode, segments });
    }
    flattener.finish()?;
    let property = |raw: RawProperty| Property { path: LogPath::from_bytes(&raw.path), content: raw.content };
    let properties = raw.properties.into_iter().map(property).collect();
    let as_of = raw.as_of.map(as_of_from_raw).transpose()?;
    Ok(FsmHints { log, files, properties, as_of })
}

fn segment_from_raw(raw: &RawSegment) -> Result<Segment, SegmentError> {
    let RawSegment { first_seq_no, first_offset, last_seq_no, last_offset, .. } = *raw;
    let broken = |rule| {
        let found = format_args!(
            "seq-nos {first_seq_no}..={last_seq_no} of author {} in [{first_offset}, {last_offset}) of log {:?}",
            raw.author, raw.log
        );
        SegmentError::new(rule, &found, None)
    };
    let author = Author::new(raw.author).ok_or_else(|| broken(SegmentRule::AuthorZero))?;
    if first_seq_no < SeqNo::FIRST.get() {
        return Err(broken(SegmentRule::FirstSeqNo));
    }
    let Some(begin) = Offset::from_wire(first_offset) else {
        return Err(broken(SegmentRule::FirstOffset));
    };
    if last_seq_no < first_seq_no {
        return Err(broken(SegmentRule::LastSeqNo));
    }
    let end_offset = match Offset::from_wire(last_offset) {
        Some(Offset::ZERO) => None,
        Some(end) if end > begin => Some(end),
        _ => return Err(broken(SegmentRule::EndOffset)),
    };
    let log = match raw.log.as_str() {
        "" => None,
        name => Some(JournalName::new(name).map_err(|_| broken(SegmentRule::Log))?),
    };
    Ok(Segment {
        author,
        first_seq_no: SeqNo::new(first_seq_no),
        first_offset: begin,
        first_checksum: Checksum::new(raw.first_checksum),
        last_seq_no: SeqNo::new(last_seq_no),
        end_offset,
        end_checksum: raw.end_checksum.map(Checksum::new),
        log,
    })
}

fn as_of_from_raw(raw: RawAsOf) -> Result<AsOf, HintsError> {
    let Some(offset) = Offset::from_wire(raw.offset) else {
        let reason = format!("as_of has the negative offset {}", raw.offset);
        return Err(HintsError::Encoding { reason });
    };
    Ok(AsOf {
        offset,
        seq_no: SeqNo::new(raw.seq_no),
        checksum: Checksum::new(raw.checksum),
        author: Author::new(raw.author),
        unix_nanos: raw.unix_nanos,
    })
}

fn name_of(log: Option<&JournalName>) -> String {
    log.map_or("", JournalName::as_str).to_owned()
}

/// Fills `raw` with a file of `hints`.
fn file_to_raw(file: &HintedFile, hints: &FsmHints, raw: &mut RawFile) {
    let segment = |segment: &Segment| RawSegment {
        author: segment.author.get(),
        first_seq_no: segment.first_seq_no.get(),
        first_offset: segment.first_offset.to_wire(),
        first_checksum: segment.first_checksum.get(),
        last_seq_no: segment.last_seq_no.get(),
        last_offset: segment.end_offset.map_or(0, Offset::to_wire),
        // The reference refuses to store a segment that repeats the log of its hints.
        log: if segment.log == hints.log { String::new() } else { name_of(segment.log.as_ref()) },
        end_checksum: segment.end_checksum.map(Checksum::get),
    };
    raw.fnode = file.fnode.get();
    raw.segments.clear();
    raw.segments.extend(file.segments.iter().map(segment));
}

fn hints_to_raw(hints: &FsmHints) -> RawHints {
    let mut raw = frame_to_raw(hints);
    raw.live_nodes.extend(hints.files.iter().map(|file| {
        let mut raw = RawFile::default();
        file_to_raw(file, hints, &mut raw);
        raw
    }));
    raw
}

/// Returns everything but the files.
fn frame_to_raw(hints: &FsmHints) -> RawHints {
    let property = |property: &Property| RawProperty {
        path: property.path.as_bytes().to_vec().into(),
        content: property.content.clone(),
    };
    RawHints {
        log: name_of(hints.log.as_ref()),
        live_nodes: Vec::new(),
        properties: hints.properties.iter().map(property).collect(),
        as_of: hints.as_of.map(|as_of| RawAsOf {
            offset: as_of.offset.to_wire(),
            seq_no: as_of.seq_no.get(),
            checksum: as_of.checksum.get(),
            author: as_of.author.map_or(0, Author::get),
            unix_nanos: as_of.unix_nanos,
        }),
        crc32c: None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_digest_is_that_of_the_protobuf_form_without_it() {
        for hints in [extended(), FsmHints { properties: Vec::new(), ..extended() }, FsmHints::default()] {
            let raw = hints_to_raw(&hints);
            assert_eq!(digest_of(&raw), crc32c::crc32c(&raw.encode_to_vec()), "{hints:?}");
        }
    }

    const PROTO: &[u8] = b"\x0a\x05a/log\x12\x0d\x08\x01\x12\x09\x0d\xd2\x04\x00\x00\x10\x01\x28\x01\
        \x12\x14\x08\x02\x12\x10\x0d\xd2\x04\x00\x00\x10\x02\x18\x20\x25\x4e\x8e\x8e\x56\x28\x02\
        \x1a\x0e\x0a\x09/IDENTITY\x12\x01v";
    const JSON: &str = r#"{"log":"a/log","live_nodes":[
        {"fnode":1,"segments":[{"author":1234,"first_seq_no":1,"last_seq_no":1}]},
        {"fnode":2,"segments":[{"author":1234,"first_seq_no":2,"first_offset":32,
            "first_checksum":1452183118,"last_seq_no":2}]}],
        "properties":[{"path":"/IDENTITY","content":"v"}]}"#;

    fn compact(json: &str) -> Vec<u8> {
        json.replace(['\n', ' '], "").into_bytes()
    }

    fn extended() -> FsmHints {
        let mut hints = FsmHints::decode(PROTO).unwrap();
        hints.files[1].segments[0].end_offset = Offset::new(51);
        hints.files[1].segments[0].end_checksum = Some(Checksum::ZERO);
        hints.as_of = Some(AsOf {
            offset: Offset::new(51).unwrap(),
            seq_no: SeqNo::new(2),
            checksum: Checksum::new(3),
            author: Author::new(4),
            unix_nanos: 5,
        });
        // An end is only known where every end before it is.
        hints.files[0].segments[0].end_offset = Offset::new(32);
        hints
    }

    #[test]
    fn hints_of_the_reference_keep_their_bytes_in_both_encodings() {
        let hints = FsmHints::decode(PROTO).unwrap();
        assert_eq!(FsmHints::decode(JSON.as_bytes()).unwrap(), hints);
        assert_eq!(hints.encode_proto(), PROTO);
        assert_eq!(hints.encode_json(), compact(JSON));
    }

    #[test]
    fn extension_fields_have_their_numbers_and_keys() {
        let hints = extended();
        let proto = b"\x0a\x05a/log\x12\x0f\x08\x01\x12\x0b\x0d\xd2\x04\x00\x00\x10\x01\x28\x01\x30\x20\
            \x12\x1c\x08\x02\x12\x18\x0d\xd2\x04\x00\x00\x10\x02\x18\x20\x25\x4e\x8e\x8e\x56\x28\x02\x30\x33\
            \x8d\x7d\0\0\0\0\
            \x1a\x0e\x0a\x09/IDENTITY\x12\x01v\
            \x8a\x7d\x10\x08\x33\x10\x02\x1d\x03\0\0\0\x25\x04\0\0\0\x28\x05\
            \x95\x7dCRC!";
        let json = r#"{"log":"a/log","live_nodes":[
            {"fnode":1,"segments":[{"author":1234,"first_seq_no":1,"last_seq_no":1,"last_offset":32}]},
            {"fnode":2,"segments":[{"author":1234,"first_seq_no":2,"first_offset":32,
                "first_checksum":1452183118,"last_seq_no":2,"last_offset":51,"end_checksum":0}]}],
            "properties":[{"path":"/IDENTITY","content":"v"}],
            "as_of":{"offset":51,"seq_no":2,"checksum":3,"author":4,"unix_nanos":5},"crc32c":@}"#;
        // The checksum is that of everything before it.
        let (bare, _) = proto.split_at(proto.len() - 6);
        let crc32c = crc32c::crc32c(bare);
        let proto = [bare, b"\x95\x7d", &crc32c.to_le_bytes()].concat();
        let json = json.replace('@', &crc32c.to_string());
        assert_eq!(hints.encode_proto(), proto);
        assert_eq!(hints.encode_json(), compact(&json));
        assert_eq!(FsmHints::decode(&proto), Ok(hints.clone()));
        assert_eq!(FsmHints::decode(json.as_bytes()), Ok(hints.clone()));
        assert_eq!(FsmHints::decode(bare), Ok(hints), "the checksum may be left out");
    }

    #[test]
    fn no_flipped_bit_makes_other_hints_of_those_with_a_checksum() {
        let hints = extended();
        for good in [hints.encode_json(), hints.encode_proto()] {
            for bit in 0..good.len() * 8 {
                let mut bytes = good.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let found = FsmHints::decode(&bytes);
                assert!(found.as_ref().map_or(true, |found| *found == hints), "bit {bit}: {found:?}");
            }
        }
    }

    #[test]
    fn a_segment_in_the_log_of_its_hints_does_not_repeat_the_name() {
        let mut hints = FsmHints::decode(PROTO).unwrap();
        for file in &mut hints.files {
            file.segments[0].log.clone_from(&hints.log);
        }
        assert_eq!(hints.encode_proto(), PROTO);
    }

    #[test]
    fn a_property_that_is_not_utf_8_is_whole_in_protobuf_only() {
        let mut hints = FsmHints::empty(JournalName::new("a/log").unwrap());
        let content = Bytes::from_static(b"\xff\xe2\x82a");
        hints.properties = vec![Property { path: LogPath::from_bytes(b"/p"), content }];
        assert_eq!(FsmHints::decode(&hints.encode_proto()), Ok(hints.clone()));
        let read = FsmHints::decode(&hints.encode_json()).unwrap();
        assert_eq!(read.properties[0].content, "\u{fffd}\u{fffd}\u{fffd}a");
        hints.as_of = extended().as_of;
        assert_eq!(FsmHints::decode(&hints.encode_proto()), Ok(hints.clone()));
        let read = FsmHints::decode(&hints.encode_json()).unwrap();
        assert_eq!(read.properties[0].content, "\u{fffd}\u{fffd}\u{fffd}a");
    }

    #[test]
    fn nothing_is_not_hints() {
        assert!(matches!(FsmHints::decode(b""), Err(HintsError::Encoding { .. })));
    }

    #[test]
    fn values_that_cannot_be_break_the_rule_of_the_reference() {
        let rule = |segment: RawSegment| {
            let raw = RawHints {
                log: "a/log".into(),
                live_nodes: vec![RawFile { fnode: segment.first_seq_no, segments: vec![segment] }],
                ..RawHints::default()
            };
            match FsmHints::decode(&raw.encode_to_vec()) {
                Err(HintsError::Segment(error)) => error.rule,
                other => panic!("{other:?}"),
            }
        };
        // Each segment also breaks the rules that are checked later.
        let mut segment = RawSegment {
            first_offset: -1,
            last_seq_no: -2,
            last_offset: -1,
            log: "?".into(),
            ..RawSegment::default()
        };
        assert_eq!(rule(segment.clone()), SegmentRule::AuthorZero);
        segment.author = 1;
        assert_eq!(rule(segment.clone()), SegmentRule::FirstSeqNo);
        segment.first_seq_no = 3;
        assert_eq!(rule(segment.clone()), SegmentRule::FirstOffset);
        segment.first_offset = 7;
        assert_eq!(rule(segment.clone()), SegmentRule::LastSeqNo);
        segment.last_seq_no = 3;
        assert_eq!(rule(segment.clone()), SegmentRule::EndOffset);
        segment.last_offset = 7;
        assert_eq!(rule(segment.clone()), SegmentRule::EndOffset);
        segment.last_offset = 8;
        assert_eq!(rule(segment), SegmentRule::Log);
    }
}
