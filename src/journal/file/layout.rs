//! The bytes of a file journal: the words of `head`, and of an open file its header and commit records.
//!
//! Numbers are little-endian, except for the words of `head`, which have the byte order of the machine that maps
//! them: no other machine does. Bytes that are not named are zero.
//!
//! ```text
//! head, 64-bit words
//!  0         1            3                    8      9       10      11     12         16     17
//! +---------+------------+-----------------+--+------+-------+-------+------+-------+--+------+------+
//! | magic   | boot id    | CRC-32C of      |  | head | floor | moves | lost | given |  | turn | wish |
//! |         | (2 words)  | words 0 to 2    |  |      |       |       |      | id    |  |      |      |
//! +---------+------------+-----------------+--+------+-------+-------+------+-------+--+------+------+
//! head word, and floor
//!  63                     35  34     33                             0
//! +-------------------------+--------+-------------------------------+
//! | file id (29 bits)       | frozen | committed bytes (34 bits)     |
//! +-------------------------+--------+-------------------------------+
//!
//! open file; capacity is a multiple of 4,096, slots a multiple of 64
//! +---------------------+-------------------------+------------------+
//! | content             | commit records          | header           |
//! | (capacity bytes)    | (64 bytes for each slot)| (4,096 bytes)    |
//! +---------------------+-------------------------+------------------+
//!
//! header
//!  0        8     12       16      24         32            40        48      52        56          60
//! +--------+-----+--------+-------+----------+-------------+---------+-------+---------+-----------+-----------+
//! | magic  | CRC | length | id    | previous | begin       | capacity| slots | fruitless| registers| registers |
//! | (8)    | (4) | (4)    | (8)   | id (8)   | offset (8)  | (8)     | (4)   | (4)     | bytes (4) | ...       |
//! +--------+-----+--------+-------+----------+-------------+---------+-------+---------+-----------+-----------+
//!                |<------------------------- the CRC-32C covers this, `length` bytes in all ------------------>|
//!
//! commit record, in as many slots as it needs
//!  0        4     8       16      24      32            36      40               44      48            64
//! +--------+-----+-------+-------+-------+-------------+-------+----------------+-------+-------------+---------
//! | magic  | CRC | file  | begin | end   | CRC-32C of  | slot  | register bytes | zero  | predecessor | registers
//! | (4)    | (4) | id (8)| (8)   | (8)   | content (4) | (4)   | (4), 0: as     | (4)   | digest (16) | ...
//! |        |     |       |       |       |             |       | before         |       |             |
//! +--------+-----+-------+-------+-------+-------------+-------+----------------+-------+-------------+---------
//!                |<------------- the CRC-32C covers this, and the registers; not the rest of the last slot ---->
//!
//! registers: the number of them (2), then for each the length of its name (2), the name, the length of its
//! value (2), the value; both UTF-8
//! ```
//!
//! *Invariants.* What `decode` accepts, `encode` made: every byte that matters is covered by a CRC.
//!
//! *Does not* read or write files, and does not judge whether a record continues another.

use sha1::{Digest as _, Sha1};

use crate::ids::Offset;
use crate::journal::{Register, RegisterSet};

/// Number of words of `head` that are mapped.
pub(super) const HEAD_WORDS: usize = 24;
/// Index of the magic word.
pub(super) const MAGIC_WORD: usize = 0;
/// Index of the first word of the boot id.
pub(super) const BOOT_WORD: usize = 1;
/// Index of the CRC of the words before it.
pub(super) const CHECK_WORD: usize = 3;
/// Index of the head word.
pub(super) const HEAD_WORD: usize = 8;
/// Index of the floor: the head word was never lower than that.
pub(super) const FLOOR_WORD: usize = 9;
/// Index of the word that changes whenever somebody who waits for the head should look.
pub(super) const MOVES_WORD: usize = 10;
/// Index of the word that holds the check of a boot in which names were lost, [`lost_mark`].
pub(super) const LOST_WORD: usize = 11;
/// Index of the word that holds the last file id that was given to somebody; zero before the first.
pub(super) const GIVEN_WORD: usize = 12;
/// Index of the word that changes when a lock was given up for others.
pub(super) const TURN_WORD: usize = 16;
/// Index of the word that is not zero while somebody waits for the lock.
pub(super) const WISH_WORD: usize = 17;
/// The magic word; the last byte is the version.
pub(super) const HEAD_MAGIC: u64 = u64::from_be_bytes(*b"RLHEAD\x00\x01");

/// Bytes of the header area of an open file.
pub(super) const HEADER_BYTES: u64 = 4096;
/// Bytes of one slot of the record area.
pub(super) const SLOT_BYTES: u64 = 64;
/// The most bytes that encoded registers may have.
pub(super) const REGISTER_BYTES_MAX: usize = 4000;
/// The most bytes that the content of one open file may have.
pub(super) const CAPACITY_MAX: u64 = (1 << LEN_BITS) - CAPACITY_STEP;
/// The largest file id that a head word can name.
pub(super) const FILE_ID_MAX: u64 = (1 << 29) - 1;

const CAPACITY_STEP: u64 = 4096;
const LEN_BITS: u32 = 34;
const FROZEN_BIT: u64 = 1 << LEN_BITS;
const ID_SHIFT: u32 = LEN_BITS + 1;

const HEADER_MAGIC: &[u8; 8] = b"RLOPEN\x00\x01";
const HEADER_FIXED: usize = 60;
const RECORD_MAGIC: &[u8; 4] = b"RLc\x01";
const RECORD_FIXED: usize = 64;

/// Digest of a record or header, which the next record carries.
pub(super) type Digest = [u8; 16];

/// The head word: which open file takes appends, and how many of its bytes are committed.
///
/// Ordered as the packed words are.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct HeadWord {
    pub(super) file: u64,
    /// Appends are refused until another file is named.
    pub(super) frozen: bool,
    pub(super) len: u64,
}

impl HeadWord {
    pub(super) const fn new(file: u64, len: u64) -> Self {
        Self { file, frozen: false, len }
    }

    pub(super) const fn freeze(self) -> Self {
        Self { frozen: true, ..self }
    }

    pub(super) const fn pack(self) -> u64 {
        let frozen = if self.frozen { FROZEN_BIT } else { 0 };
        (self.file << ID_SHIFT) | frozen | (self.len & (FROZEN_BIT - 1))
    }

    pub(super) const fn unpack(word: u64) -> Self {
        Self { file: word >> ID_SHIFT, frozen: word & FROZEN_BIT != 0, len: word & (FROZEN_BIT - 1) }
    }
}

/// Returns the CRC of the first words of `head`.
pub(super) fn head_check(boot: [u64; 2]) -> u64 {
    let mut bytes = HEAD_MAGIC.to_le_bytes().to_vec();
    bytes.extend(boot.iter().flat_map(|word| word.to_le_bytes()));
    u64::from(crc32c::crc32c(&bytes))
}

/// Returns what marks a boot in which a flush of a folder failed; not zero.
pub(super) const fn lost_mark(boot: [u64; 2]) -> u64 {
    boot[0] ^ boot[1] | 1 << 63
}

/// Splits a boot id into words.
pub(super) fn boot_words(boot: [u8; 16]) -> [u64; 2] {
    let number = u128::from_le_bytes(boot);
    [number as u64, (number >> 64) as u64]
}

/// The header of an open file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) id: u64,
    /// The file that the head word was exchanged from; 0 for none.
    pub(super) previous: u64,
    pub(super) begin: Offset,
    pub(super) geometry: Geometry,
    /// How many files in a row, before this one, got no commit.
    pub(super) fruitless: u32,
    /// The registers at `begin`.
    pub(super) registers: RegisterSet,
}

/// Where the areas of an open file lie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Geometry {
    /// Bytes of the content area.
    pub(super) capacity: u64,
    /// Slots of the record area.
    pub(super) slots: u32,
}

impl Geometry {
    /// Returns the geometry for at least `bytes` of content, at most [`CAPACITY_MAX`]: one slot for each KiB.
    pub(super) fn for_content(bytes: u64) -> Self {
        let capacity = bytes.clamp(1, CAPACITY_MAX).next_multiple_of(CAPACITY_STEP);
        let slots = (capacity / 1024).next_multiple_of(64) as u32;
        Self { capacity, slots }
    }

    /// Returns where a slot lies.
    pub(super) const fn slot_at(self, slot: u32) -> u64 {
        self.capacity + slot as u64 * SLOT_BYTES
    }

    /// Returns where the header lies.
    pub(super) const fn header_at(self) -> u64 {
        self.slot_at(self.slots)
    }

    /// Returns the length of the file.
    pub(super) const fn file_bytes(self) -> u64 {
        self.header_at() + HEADER_BYTES
    }
}

impl Header {
    /// Returns the bytes of the header, without the zeros up to the end of its area.
    pub(super) fn encode(&self) -> Vec<u8> {
        let registers = encode_registers(&self.registers);
        let mut bytes = Vec::with_capacity(HEADER_FIXED + registers.len());
        bytes.extend_from_slice(HEADER_MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&((HEADER_FIXED + registers.len()) as u32).to_le_bytes());
        bytes.extend_from_slice(&self.id.to_le_bytes());
        bytes.extend_from_slice(&self.previous.to_le_bytes());
        bytes.extend_from_slice(&self.begin.get().to_le_bytes());
        bytes.extend_from_slice(&self.geometry.capacity.to_le_bytes());
        bytes.extend_from_slice(&self.geometry.slots.to_le_bytes());
        bytes.extend_from_slice(&self.fruitless.to_le_bytes());
        bytes.extend_from_slice(&(registers.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&registers);
        seal_crc(&mut bytes, 8);
        bytes
    }

    /// Reads a header out of its area; the error says which rule is broken.
    pub(super) fn decode(area: &[u8]) -> Result<Self, &'static str> {
        if area.get(..8) != Some(HEADER_MAGIC) {
            return Err("the header has no magic");
        }
        let length = u32_at(area, 12).ok_or("the header is cut off")? as usize;
        let covered = area.get(12..length).ok_or("the header has no valid length")?;
        if u32_at(area, 8) != Some(crc32c::crc32c(covered)) {
            return Err("the CRC of the header is wrong");
        }
        let registers = area.get(HEADER_FIXED..length).ok_or("the header is cut off")?;
        let geometry = Geometry {
            capacity: u64_at(area, 40).ok_or("the header is cut off")?,
            slots: u32_at(area, 48).ok_or("the header is cut off")?,
        };
        if geometry != Geometry::for_content(geometry.capacity) {
            return Err("the header describes no valid areas");
        }
        Ok(Self {
            id: u64_at(area, 16).ok_or("the header is cut off")?,
            previous: u64_at(area, 24).ok_or("the header is cut off")?,
            begin: u64_at(area, 32).and_then(Offset::new).ok_or("the header has no valid begin")?,
            geometry,
            fruitless: u32_at(area, 52).ok_or("the header is cut off")?,
            registers: decode_registers(registers)?,
        })
    }
}

/// The record of one commit group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Record {
    pub(super) file: u64,
    pub(super) begin: Offset,
    pub(super) end: Offset,
    pub(super) content_crc: u32,
    /// The first slot of the record.
    pub(super) slot: u32,
    /// The registers after the group; `None` where they are as before.
    pub(super) registers: Option<RegisterSet>,
    pub(super) predecessor: Digest,
}

impl Record {
    /// Returns the bytes of the record, without the zeros up to the end of its last slot.
    pub(super) fn encode(&self) -> Vec<u8> {
        let registers = self.registers.as_ref().map(encode_registers).unwrap_or_default();
        let mut bytes = Vec::with_capacity(RECORD_FIXED + registers.len());
        bytes.extend_from_slice(RECORD_MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.file.to_le_bytes());
        bytes.extend_from_slice(&self.begin.get().to_le_bytes());
        bytes.extend_from_slice(&self.end.get().to_le_bytes());
        bytes.extend_from_slice(&self.content_crc.to_le_bytes());
        bytes.extend_from_slice(&self.slot.to_le_bytes());
        bytes.extend_from_slice(&(registers.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.predecessor);
        bytes.extend_from_slice(&registers);
        seal_crc(&mut bytes, 4);
        bytes
    }

    /// Returns the number of bytes of the record whose first slot is `slot`, as it says itself.
    pub(super) fn encoded_bytes(slot: &[u8]) -> Result<usize, &'static str> {
        if slot.get(..4) != Some(RECORD_MAGIC) {
            return Err("the commit record has no magic");
        }
        let registers = u32_at(slot, 40).ok_or("the commit record is cut off")? as usize;
        if registers > REGISTER_BYTES_MAX {
            return Err("the commit record has no valid length");
        }
        Ok(RECORD_FIXED + registers)
    }

    /// Reads a record out of its slots; the error says which rule is broken.
    pub(super) fn decode(slots: &[u8]) -> Result<Self, &'static str> {
        let bytes = slots.get(..Self::encoded_bytes(slots)?).ok_or("the commit record is cut off")?;
        let covered = bytes.get(8..).ok_or("the commit record is cut off")?;
        if u32_at(bytes, 4) != Some(crc32c::crc32c(covered)) {
            return Err("the CRC of the commit record is wrong");
        }
        let registers = match bytes.get(RECORD_FIXED..) {
            None | Some([]) => None,
            Some(registers) => Some(decode_registers(registers)?),
        };
        let record = Self {
            file: u64_at(bytes, 8).ok_or("the commit record is cut off")?,
            begin: u64_at(bytes, 16).and_then(Offset::new).ok_or("the commit record has no valid begin")?,
            end: u64_at(bytes, 24).and_then(Offset::new).ok_or("the commit record has no valid end")?,
            content_crc: u32_at(bytes, 32).ok_or("the commit record is cut off")?,
            slot: u32_at(bytes, 36).ok_or("the commit record is cut off")?,
            registers,
            predecessor: array_at(bytes, 48).ok_or("the commit record is cut off")?,
        };
        if record.end <= record.begin {
            return Err("the commit record covers no bytes");
        }
        Ok(record)
    }
}

/// Returns the number of slots that a record of `bytes` bytes takes up.
pub(super) const fn slots_of(bytes: usize) -> u32 {
    (bytes as u64).div_ceil(SLOT_BYTES) as u32
}

/// Returns the digest of the encoded form of a header or record: the first 16 bytes of its SHA-1.
pub(super) fn digest_of(encoded: &[u8]) -> Digest {
    let sum: [u8; 20] = Sha1::digest(encoded).into();
    array_at(&sum, 0).unwrap_or_default()
}

/// Returns how many bytes `registers` take up when encoded.
pub(super) fn register_bytes(registers: &RegisterSet) -> usize {
    registers.iter().map(|register| 4 + register.name.len() + register.value.len()).sum::<usize>() + 2
}

fn encode_registers(registers: &RegisterSet) -> Vec<u8> {
    let mut bytes = (registers.iter().count() as u16).to_le_bytes().to_vec();
    for text in registers.iter().flat_map(|register| [&register.name, &register.value]) {
        bytes.extend_from_slice(&(text.len() as u16).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

fn decode_registers(mut bytes: &[u8]) -> Result<RegisterSet, &'static str> {
    const BROKEN: &str = "the registers do not decode";
    let number = |bytes: &mut &[u8]| {
        let (head, rest) = bytes.split_first_chunk::<2>().ok_or(BROKEN)?;
        *bytes = rest;
        Ok::<_, &'static str>(usize::from(u16::from_le_bytes(*head)))
    };
    let mut registers = Vec::new();
    for _ in 0..number(&mut bytes)? {
        let mut text = || {
            let length = number(&mut bytes)?;
            let (head, rest) = bytes.split_at_checked(length).ok_or(BROKEN)?;
            bytes = rest;
            String::from_utf8(head.to_vec()).map_err(|_| BROKEN)
        };
        registers.push(Register::new(text()?, text()?));
    }
    if bytes.is_empty() { Ok(registers.into_iter().collect()) } else { Err(BROKEN) }
}

/// Writes the CRC of everything behind the four bytes at `at` there.
fn seal_crc(bytes: &mut [u8], at: usize) {
    let crc = crc32c::crc32c(bytes.get(at + 4..).unwrap_or_default()).to_le_bytes();
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&crc);
    }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(value: u64) -> Offset {
        Offset::new(value).unwrap()
    }

    fn registers() -> RegisterSet {
        [Register::new("author", "16i"), Register::new("owner", "")].into_iter().collect()
    }

    fn header() -> Header {
        Header {
            id: 7,
            previous: 5,
            begin: offset(0x1122_3344),
            geometry: Geometry::for_content(64 << 20),
            fruitless: 2,
            registers: registers(),
        }
    }

    fn record() -> Record {
        Record {
            file: 7,
            begin: offset(100),
            end: offset(164),
            content_crc: 0xdead_beef,
            slot: 3,
            registers: Some(registers()),
            predecessor: [9; 16],
        }
    }

    #[test]
    fn head_words_grow_with_file_then_freeze_then_length() {
        let words = [
            HeadWord::new(1, 0),
            HeadWord::new(1, CAPACITY_MAX),
            HeadWord::new(1, 5).freeze(),
            HeadWord::new(2, 0),
            HeadWord::new(FILE_ID_MAX, CAPACITY_MAX).freeze(),
        ];
        assert!(words.is_sorted_by_key(|word| word.pack()));
        assert!(words.iter().all(|&word| HeadWord::unpack(word.pack()) == word));
        assert_eq!(HeadWord::new(1, 2).pack(), (1 << 35) | 2);
    }

    #[test]
    fn areas_are_aligned_and_have_a_slot_for_each_kibibyte() {
        let small = Geometry::for_content(0);
        assert_eq!((small.capacity, small.slots, small.file_bytes()), (4096, 64, 3 * 4096));
        let large = Geometry::for_content((64 << 20) - 1);
        assert_eq!((large.capacity, large.slots, large.slot_at(0)), (64 << 20, 65_536, 64 << 20));
        assert_eq!(Geometry::for_content(u64::MAX).capacity, CAPACITY_MAX);
    }

    #[test]
    fn the_fields_of_a_header_lie_where_the_picture_says() {
        let bytes = header().encode();
        assert_eq!(&bytes[..8], b"RLOPEN\x00\x01");
        assert_eq!(u64_at(&bytes, 16), Some(7));
        assert_eq!(u64_at(&bytes, 24), Some(5));
        assert_eq!(u64_at(&bytes, 32), Some(0x1122_3344));
        assert_eq!(u64_at(&bytes, 40), Some(64 << 20));
        assert_eq!(u32_at(&bytes, 48), Some(65_536));
        assert_eq!(u32_at(&bytes, 52), Some(2));
        assert_eq!(u32_at(&bytes, 56), Some(register_bytes(&registers()) as u32));
        assert_eq!(&bytes[60..72], b"\x02\x00\x06\x00author\x03\x00");
        assert_eq!(Header::decode(&bytes), Ok(header()));
    }

    #[test]
    fn the_fields_of_a_record_lie_where_the_picture_says() {
        let bytes = record().encode();
        assert_eq!(&bytes[..4], b"RLc\x01");
        assert_eq!(u64_at(&bytes, 8), Some(7));
        assert_eq!(u64_at(&bytes, 16), Some(100));
        assert_eq!(u64_at(&bytes, 24), Some(164));
        assert_eq!(u32_at(&bytes, 32), Some(0xdead_beef));
        assert_eq!(u32_at(&bytes, 36), Some(3));
        assert_eq!(bytes[48..64], [9; 16]);
        assert_eq!(Record::decode(&bytes), Ok(record()));
        assert_eq!(slots_of(bytes.len()), 2);
        let plain = Record { registers: None, ..record() };
        assert_eq!(plain.encode().len(), 64);
        assert_eq!(Record::decode(&plain.encode()), Ok(plain));
    }

    #[test]
    fn no_flipped_bit_passes_for_another_header_or_record() {
        for (bytes, whole) in [(header().encode(), true), (record().encode(), false)] {
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let refused =
                    if whole { Header::decode(&damaged).is_err() } else { Record::decode(&damaged).is_err() };
                assert!(refused, "bit {bit}");
            }
            for cut in 0..bytes.len() {
                assert!(Header::decode(&bytes[..cut]).is_err() && Record::decode(&bytes[..cut]).is_err());
            }
        }
    }
}
