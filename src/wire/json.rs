//! The JSON form of hints, as Go's `encoding/json` reads and writes it.
//!
//! *Invariants.* What is written is byte for byte what Go writes for the same message, extension keys aside. What Go
//! reads is read: keys match without regard to case, unknown ones are skipped, `null` leaves a value as it was,
//! and of several equal keys the last one wins.
//!
//! *Does not* accept numbers that are strings, have a fraction or are out of range, nor more than 128 levels of
//! nesting, nor judge what it reads (`wire::hints`).

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::proto::fsm_hints::AsOf;
use super::proto::{FnodeSegments, FsmHints, Property, Segment};

/// Decodes hints.
pub(super) fn decode(json: &[u8]) -> Result<FsmHints, serde_json::Error> {
    serde_json::from_slice(json).map(|Object(hints)| hints)
}

/// Encodes hints, file by file.
pub(super) struct Encoder {
    out: Vec<u8>,
    has_files: bool,
}

impl Encoder {
    /// Begins hints of `log`, with room for so many bytes.
    pub(super) fn begin(log: &str, capacity: usize) -> Self {
        let mut out = Vec::with_capacity(capacity);
        let mut object = ObjectWriter::begin(&mut out);
        object.string(br#""log":"#, log.as_bytes());
        object.key(br#""live_nodes":"#);
        Self { out, has_files: false }
    }

    /// Adds the next file.
    pub(super) fn file(&mut self, file: &FnodeSegments) {
        self.out.push(if self.has_files { b',' } else { b'[' });
        self.has_files = true;
        put_file(file, &mut self.out);
    }

    /// Returns what was written so far, as far as nobody took it.
    pub(super) const fn written(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Adds what comes behind the files: all of `hints` but the log and the files.
    pub(super) fn end(mut self, hints: &FsmHints) -> Vec<u8> {
        self.out.extend_from_slice(if self.has_files { b"]" } else { b"null" });
        let mut object = ObjectWriter { out: &mut self.out, lead: b',' };
        object.objects(br#""properties":"#, &hints.properties, put_property);
        if let Some(as_of) = &hints.as_of {
            object.key(br#""as_of":"#);
            put_as_of(as_of, object.out);
        }
        if let Some(crc32c) = hints.crc32c {
            object.key(br#""crc32c":"#);
            put_number(crc32c.into(), object.out);
        }
        object.end();
        self.out
    }
}

/// A message whose fields are keys of an object.
trait Fields: Default {
    /// Reads the value of `key`, in lower case, if the message has it, and tells whether it has.
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &[u8], map: &mut A) -> Result<bool, A::Error>;
}

impl Fields for FsmHints {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &[u8], map: &mut A) -> Result<bool, A::Error> {
        match key {
            b"log" => read_string(&mut self.log, map)?,
            b"live_nodes" => self.live_nodes = read_objects(map)?,
            b"properties" => self.properties = read_objects(map)?,
            b"crc32c" => self.crc32c = map.next_value()?,
            b"as_of" => self.as_of = map.next_value::<Option<Object<AsOf>>>()?.map(|Object(as_of)| as_of),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Fields for FnodeSegments {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &[u8], map: &mut A) -> Result<bool, A::Error> {
        match key {
            b"fnode" => read_number(&mut self.fnode, map)?,
            b"segments" => self.segments = read_objects(map)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Fields for Segment {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &[u8], map: &mut A) -> Result<bool, A::Error> {
        match key {
            b"author" => read_number(&mut self.author, map)?,
            b"first_seq_no" => read_number(&mut self.first_seq_no, map)?,
            b"first_offset" => read_number(&mut self.first_offset, map)?,
            b"first_checksum" => read_number(&mut self.first_checksum, map)?,
            b"last_seq_no" => read_number(&mut self.last_seq_no, map)?,
            b"last_offset" => read_number(&mut self.last_offset, map)?,
            b"log" => read_string(&mut self.log, map)?,
            b"end_checksum" => self.end_checksum = map.next_value()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Fields for Property {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &[u8], map: &mut A) -> Result<bool, A::Error> {
        let value = match key {
            b"path" => &mut self.path,
            b"content" => &mut self.content,
            _ => return Ok(false),
        };
        if let Some(Text(text)) = map.next_value()? {
            *value = Bytes::from(text);
        }
        Ok(true)
    }
}

impl Fields for AsOf {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &[u8], map: &mut A) -> Result<bool, A::Error> {
        match key {
            b"offset" => read_number(&mut self.offset, map)?,
            b"seq_no" => read_number(&mut self.seq_no, map)?,
            b"checksum" => read_number(&mut self.checksum, map)?,
            b"author" => read_number(&mut self.author, map)?,
            b"unix_nanos" => read_number(&mut self.unix_nanos, map)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn read_number<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    value: &mut T,
    map: &mut A,
) -> Result<(), A::Error> {
    if let Some(number) = map.next_value()? {
        *value = number;
    }
    Ok(())
}

fn read_string<'de, A: MapAccess<'de>>(value: &mut String, map: &mut A) -> Result<(), A::Error> {
    if let Some(Text(text)) = map.next_value()? {
        *value = text;
    }
    Ok(())
}

/// Reads an array of objects; in it, and for it, `null` has the default value.
fn read_objects<'de, T: Fields, A: MapAccess<'de>>(map: &mut A) -> Result<Vec<T>, A::Error> {
    Ok(map.next_value::<Option<Objects<T>>>()?.map_or_else(Vec::new, |Objects(objects)| objects))
}

/// An object that is read as the message `T`.
struct Object<T>(T);

impl<'de, T: Fields> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Fields> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut message = T::default();
        while let Some(Key(key)) = map.next_key()? {
            if !message.read(&key, &mut map)? {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Object(message))
    }
}

/// An array of objects.
struct Objects<T>(Vec<T>);

impl<'de, T: Fields> Deserialize<'de> for Objects<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ObjectsVisitor(PhantomData))
    }
}

struct ObjectsVisitor<T>(PhantomData<T>);

impl<'de, T: Fields> Visitor<'de> for ObjectsVisitor<T> {
    type Value = Objects<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut objects = Vec::new();
        while let Some(object) = seq.next_element::<Option<Object<T>>>()? {
            objects.push(object.map_or_else(T::default, |Object(object)| object));
        }
        Ok(Objects(objects))
    }
}

/// A string, by [`text_of`].
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(TextVisitor)
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Text(text_of(bytes)))
    }
}

/// Returns what JSON keeps of `bytes`: U+FFFD stands for each byte that is not part of a character.
pub(super) fn text_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

/// A key in lower case, by the folding of Unicode as far as it can give a key of ours.
struct Key(Vec<u8>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        let mut key = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        loop {
            rest = match rest {
                [] => return Ok(Key(key)),
                // U+017F, the long s, and U+212A, the Kelvin sign.
                [0xc5, 0xbf, rest @ ..] => {
                    key.push(b's');
                    rest
                }
                [0xe2, 0x84, 0xaa, rest @ ..] => {
                    key.push(b'k');
                    rest
                }
                [byte, rest @ ..] => {
                    key.push(byte.to_ascii_lowercase());
                    rest
                }
            };
        }
    }
}

fn put_file(file: &FnodeSegments, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::begin(out);
    object.number(br#""fnode":"#, file.fnode);
    object.objects(br#""segments":"#, &file.segments, put_segment);
    object.end();
}

fn put_segment(segment: &Segment, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::begin(out);
    object.number(br#""author":"#, segment.author);
    object.number(br#""first_seq_no":"#, segment.first_seq_no);
    object.number(br#""first_offset":"#, segment.first_offset);
    object.number(br#""first_checksum":"#, segment.first_checksum);
    object.number(br#""last_seq_no":"#, segment.last_seq_no);
    object.number(br#""last_offset":"#, segment.last_offset);
    object.string(br#""log":"#, segment.log.as_bytes());
    if let Some(checksum) = segment.end_checksum {
        object.key(br#""end_checksum":"#);
        put_number(checksum.into(), object.out);
    }
    object.end();
}

fn put_property(property: &Property, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::begin(out);
    object.string(br#""path":"#, &property.path);
    object.string(br#""content":"#, &property.content);
    object.end();
}

fn put_as_of(as_of: &AsOf, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::begin(out);
    object.number(br#""offset":"#, as_of.offset);
    object.number(br#""seq_no":"#, as_of.seq_no);
    object.number(br#""checksum":"#, as_of.checksum);
    object.number(br#""author":"#, as_of.author);
    object.number(br#""unix_nanos":"#, as_of.unix_nanos);
    object.end();
}

/// Writes an object, leaving out zeros and empty strings as Go's `omitempty` does, but not empty arrays.
struct ObjectWriter<'a> {
    out: &'a mut Vec<u8>,
    lead: u8,
}

impl<'a> ObjectWriter<'a> {
    fn begin(out: &'a mut Vec<u8>) -> Self {
        Self { out, lead: b'{' }
    }

    fn end(self) {
        if self.lead == b'{' {
            self.out.push(b'{');
        }
        self.out.push(b'}');
    }

    /// Writes a key, which comes with its quotes and its colon: a copy of a known length takes less than a call.
    fn key<const N: usize>(&mut self, key: &[u8; N]) {
        self.out.push(self.lead);
        self.lead = b',';
        self.out.extend_from_slice(key);
    }

    fn number<const N: usize>(&mut self, key: &[u8; N], number: impl Into<i64>) {
        let number = number.into();
        if number != 0 {
            self.key(key);
            put_number(number, self.out);
        }
    }

    fn string<const N: usize>(&mut self, key: &[u8; N], text: &[u8]) {
        if !text.is_empty() {
            self.key(key);
            put_string(text, self.out);
        }
    }

    fn objects<T, const N: usize>(&mut self, key: &[u8; N], objects: &[T], put: impl Fn(&T, &mut Vec<u8>)) {
        self.key(key);
        if objects.is_empty() {
            self.out.extend_from_slice(b"null");
            return;
        }
        let mut lead = b'[';
        for object in objects {
            self.out.push(lead);
            put(object, self.out);
            lead = b',';
        }
        self.out.push(b']');
    }
}

fn put_number(number: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Writes a string with the escapes of Go's `encoding/json`: those of JSON, and of `<`, `>`, `&`, U+2028 and
/// U+2029, so that it can stand in HTML and JavaScript.
fn put_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            put_char(c, out);
        }
        for _ in chunk.invalid() {
            out.extend_from_slice(br"\ufffd");
        }
    }
    out.push(b'"');
}

fn put_char(c: char, out: &mut Vec<u8>) {
    match c {
        '"' => out.extend_from_slice(br#"\""#),
        '\\' => out.extend_from_slice(br"\\"),
        '\n' => out.extend_from_slice(br"\n"),
        '\r' => out.extend_from_slice(br"\r"),
        '\t' => out.extend_from_slice(br"\t"),
        '\u{8}' => out.extend_from_slice(br"\b"),
        '\u{c}' => out.extend_from_slice(br"\f"),
        '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
            out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
        }
        _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

#[cfg(test)]
mod tests;
