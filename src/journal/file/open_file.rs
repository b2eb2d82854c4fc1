//! One open file: making it, opening it, walking its commit records, and checking its content against them.
//!
//! *Invariants.* Bytes below a committed length never change while the file exists. A record is believed only as
//! the next one of the chain that begins with the header.
//!
//! *Does not* know which length is committed; the head word and recovery say that.

use std::io;
use std::sync::Arc;

use super::head::SharedHead;
use super::layout::{self, Digest, Geometry, HEADER_BYTES, HeadWord, Header, Record, SLOT_BYTES};
use super::place::Place;
use crate::ids::Offset;
use crate::journal::{JournalError, RegisterSet};
use crate::planted::{Bug, planted};
use crate::vfs::{File, LockMode, OpenMode};

/// Bytes of zeros written ahead of small groups, so that their flush overwrites blocks.
pub(super) const CONTENT_WINDOW: u64 = 128 << 10;
/// Record slots zeroed ahead.
pub(super) const SLOT_WINDOW: u32 = 1024;

const READ_BYTES: usize = 256 << 10;
const WALK_BYTES_MIN: usize = 4 << 10;
const WALK_BYTES_MAX: usize = 64 << 10;

/// An open file and its header.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) header: Header,
    pub(super) file: Arc<dyn File>,
}

/// A point in the chain of records.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Mark {
    /// Bytes of content up to here.
    pub(super) len: u64,
    /// The next slot.
    pub(super) slot: u32,
    /// Digest of the record before, or of the header.
    pub(super) digest: Digest,
    /// The registers here.
    pub(super) registers: RegisterSet,
}

/// What follows a mark.
#[derive(Debug)]
pub(super) enum Step {
    /// A record that continues the chain, and the mark behind it.
    Record(Record, Mark),
    /// No such record; the rule that is broken, or `None` where nothing was ever written.
    End(Option<&'static str>),
}

impl OpenFile {
    /// Makes the file that `header` describes, locked, durable and with its name; `None` where the id is taken, or the
    /// file was cleared away while it was made, because another one came into use.
    pub(super) fn create(place: &Place, header: Header) -> Result<Option<Self>, JournalError> {
        let id = header.id;
        let failed = |error| place.io(format!("making {}", place.open_path(id).display()), error);
        let made = match Self::make(place, header) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            made => made.map_err(failed)?,
        };
        if made.is_some() && !planted(Bug::NameNotFlushed) {
            place.sync_state()?;
        }
        Ok(made)
    }

    fn make(place: &Place, header: Header) -> io::Result<Option<Self>> {
        let (new, open) = (place.new_path(header.id), place.open_path(header.id));
        let file = place.fs.open(&new, OpenMode::CreateNew)?;
        let filled = || {
            let geometry = header.geometry;
            file.set_len(geometry.file_bytes())?;
            let slots = geometry.slots.min(SLOT_WINDOW);
            write_zeros(&*file, 0, geometry.capacity.min(CONTENT_WINDOW))?;
            write_zeros(&*file, geometry.slot_at(0), u64::from(slots) * SLOT_BYTES)?;
            file.write_all_at(&header.encode(), geometry.header_at())?;
            file.sync_all()?;
            // Locked before it has its name: nobody else can ever be first.
            if !file.try_lock(LockMode::Exclusive)? {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            place.fs.rename_no_replace(&new, &open).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => io::ErrorKind::AlreadyExists.into(),
                _ => error,
            })
        };
        if let Err(error) = filled() {
            // Best effort: leftovers are removed after the next boot.
            drop(place.fs.remove_file(&new));
            return Err(error);
        }
        Ok(Some(Self { header, file }))
    }

    /// Opens a file and reads its header; `None` where there is no such file, or it lost its name meanwhile.
    pub(super) fn open(place: &Place, id: u64, mode: OpenMode) -> Result<Option<Self>, JournalError> {
        let path = place.open_path(id);
        let file = match place.fs.open(&path, mode) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|error| place.io(format!("opening {}", path.display()), error))?,
        };
        match Self::read_header(place, id, &*file) {
            Ok(header) => Ok(Some(Self { header, file })),
            // A file that is sealed loses its name first, and then what is read here.
            Err(_) if !place.exists(&path)? => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read_header(place: &Place, id: u64, file: &dyn File) -> Result<Header, JournalError> {
        let path = place.open_path(id);
        let failed = |error| place.io(format!("opening {}", path.display()), error);
        let broken = |what: &str, actual: u64| {
            let file = path.display();
            place.corrupt(Offset::ZERO, format!("the open file {file}: {what}"), "a valid file", actual)
        };
        let len = file.metadata().map_err(failed)?.len;
        let Some(header_at) = len.checked_sub(HEADER_BYTES) else {
            return Err(broken("it is too short for a header", len));
        };
        let mut area = vec![0; HEADER_BYTES as usize];
        file.read_exact_at(&mut area, header_at).map_err(failed)?;
        let header = Header::decode(&area).map_err(|what| broken(what, len))?;
        if header.geometry.file_bytes() != len {
            return Err(broken("its length is not what the header says", len));
        }
        if header.id != id {
            return Err(broken("the header names another file", header.id));
        }
        Ok(header)
    }

    /// Opens the file that the head word names.
    pub(super) fn open_named_by(
        place: &Place,
        head: &SharedHead,
        mode: OpenMode,
    ) -> Result<Self, JournalError> {
        loop {
            let word = head.load();
            if let Some(file) = Self::open(place, word.file, mode)? {
                return Ok(file);
            }
            // A file goes only after the head has left it.
            if head.load().file == word.file {
                return Err(place.gone(word.file));
            }
        }
    }

    /// Returns the mark before the first record.
    pub(super) fn start(&self) -> Mark {
        Mark {
            len: 0,
            slot: 0,
            digest: layout::digest_of(&self.header.encode()),
            registers: self.header.registers.clone(),
        }
    }

    /// Returns the journal offset of a position in the content.
    pub(super) fn offset(&self, len: u64) -> Offset {
        self.header.begin.saturating_add(len)
    }

    /// Starts a walk over the records; it must not outlive the moment, since it buffers.
    pub(super) fn walk(&self) -> Walk<'_> {
        Walk { file: self, first: 0, buffer: Vec::new(), read_bytes: WALK_BYTES_MIN }
    }

    /// Moves `mark` to the committed length `len`, which must be a border between two groups.
    ///
    /// # Errors
    /// `Corrupt` where the chain does not lead there, or, with `check`, where content is not what it says.
    pub(super) fn advance(
        &self,
        place: &Place,
        mark: &mut Mark,
        len: u64,
        check: bool,
    ) -> Result<(), JournalError> {
        let mut walk = self.walk();
        while mark.len < len {
            let (record, next) = match walk.step(mark).map_err(|error| self.read_failed(place, error))? {
                Step::Record(record, next) => (record, next),
                Step::End(rule) => {
                    let what = rule.unwrap_or("the commit record is missing");
                    return Err(self.corrupt(place, mark.len, what, self.offset(len), self.offset(mark.len)));
                }
            };
            if next.len > len {
                let what = "the head is no border between two commits";
                return Err(self.corrupt(place, mark.len, what, self.offset(next.len), self.offset(len)));
            }
            if check {
                self.check_content(place, mark.len, &record)?;
            }
            *mark = next;
        }
        Ok(())
    }

    /// As [`OpenFile::advance`], to where the head word `word` was; false where the head has left this file meanwhile:
    /// the records go when it is sealed.
    pub(super) fn advance_to(
        &self,
        place: &Place,
        mark: &mut Mark,
        (head, word): (&SharedHead, HeadWord),
        check: bool,
    ) -> Result<bool, JournalError> {
        match self.advance(place, mark, word.len, check) {
            Ok(()) => Ok(true),
            Err(_) if head.load().file != word.file => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Checks the content of one group, which begins at `from`.
    ///
    /// # Errors
    /// `Corrupt` where its CRC is another one.
    pub(super) fn check_content(
        &self,
        place: &Place,
        from: u64,
        record: &Record,
    ) -> Result<(), JournalError> {
        let len = record.end.bytes_since(record.begin);
        let crc = self.content_crc(from, len).map_err(|error| self.read_failed(place, error))?;
        if crc == record.content_crc || planted(Bug::ContentBelieved) {
            return Ok(());
        }
        let (expected, actual) = (format!("{:08x}", record.content_crc), format!("{crc:08x}"));
        Err(self.corrupt(place, from, "the content of a commit has another CRC-32C", expected, actual))
    }

    /// Returns the CRC-32C of `len` bytes of content.
    pub(super) fn content_crc(&self, from: u64, len: u64) -> io::Result<u32> {
        let mut crc = 0;
        self.read_content(from, len, |bytes| crc = crc32c::crc32c_append(crc, bytes))?;
        Ok(crc)
    }

    /// Reads `len` bytes of content, in pieces.
    pub(super) fn read_content(&self, from: u64, len: u64, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES.min(usize::try_from(len).unwrap_or(READ_BYTES))];
        let mut done = 0;
        while done < len {
            let bytes = buffer.len().min(usize::try_from(len - done).unwrap_or(buffer.len()));
            let piece = buffer.get_mut(..bytes).unwrap_or_default();
            self.file.read_exact_at(piece, from + done)?;
            each(piece);
            done += bytes as u64;
        }
        Ok(())
    }

    /// Returns the end of a valid record in a slot after that of `mark`: proof that what lies between was once
    /// committed. Only a group that committed is ever followed by another.
    pub(super) fn voucher_after(&self, place: &Place, mark: &Mark) -> Result<Option<Offset>, JournalError> {
        let mut walk = self.walk();
        for slot in mark.slot.saturating_add(1)..self.header.geometry.slots {
            let found = walk.record(slot).map_err(|error| self.read_failed(place, error))?;
            if let Ok((record, _)) = found
                && record.file == self.header.id
                && record.slot == slot
            {
                return Ok(Some(record.end));
            }
        }
        Ok(None)
    }

    pub(super) fn read_failed(&self, place: &Place, error: io::Error) -> JournalError {
        place.io(format!("reading {}", place.open_path(self.header.id).display()), error)
    }

    pub(super) fn corrupt(
        &self,
        place: &Place,
        at: u64,
        what: &str,
        expected: impl std::fmt::Display,
        actual: impl std::fmt::Display,
    ) -> JournalError {
        let file = place.open_path(self.header.id);
        place.corrupt(self.offset(at), format!("the open file {}: {what}", file.display()), expected, actual)
    }
}

/// A buffered walk over the records of one file.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    file: &'a OpenFile,
    /// The first slot in the buffer.
    first: u32,
    buffer: Vec<u8>,
    read_bytes: usize,
}

impl Walk<'_> {
    /// Returns what follows `mark`.
    pub(super) fn step(&mut self, mark: &Mark) -> io::Result<Step> {
        let header = &self.file.header;
        if mark.slot >= header.geometry.slots {
            return Ok(Step::End(None));
        }
        let (record, encoded) = match self.record(mark.slot)? {
            Ok(found) => found,
            Err(rule) => {
                let blank = self.slots(mark.slot, SLOT_BYTES as usize)?.iter().all(|&byte| byte == 0);
                return Ok(Step::End((!blank).then_some(rule)));
            }
        };
        let rule = if record.file != header.id || record.slot != mark.slot {
            "the commit record belongs elsewhere"
        } else if record.predecessor != mark.digest {
            "the commit record does not continue the one before"
        } else if record.begin != self.file.offset(mark.len) {
            "the commit record does not begin where the one before ended"
        } else if record.end.bytes_since(header.begin) > header.geometry.capacity {
            "the commit record ends past the content area"
        } else {
            let next = Mark {
                len: record.end.bytes_since(header.begin),
                slot: mark.slot + layout::slots_of(encoded.len()),
                digest: layout::digest_of(&encoded),
                registers: record.registers.clone().unwrap_or_else(|| mark.registers.clone()),
            };
            return Ok(Step::Record(record, next));
        };
        Ok(Step::End(Some(rule)))
    }

    /// Reads the record whose first slot is `slot`, with its bytes.
    fn record(&mut self, slot: u32) -> io::Result<Result<(Record, Vec<u8>), &'static str>> {
        let bytes = match Record::encoded_bytes(self.slots(slot, SLOT_BYTES as usize)?) {
            Ok(bytes) => bytes,
            Err(rule) => return Ok(Err(rule)),
        };
        if u64::from(slot) + u64::from(layout::slots_of(bytes)) > u64::from(self.file.header.geometry.slots) {
            return Ok(Err("the commit record ends past the record area"));
        }
        let encoded = self.slots(slot, bytes)?.to_vec();
        Ok(Record::decode(&encoded).map(|record| (record, encoded)))
    }

    /// Returns `bytes` bytes from the beginning of `slot` on, which lie within the record area.
    fn slots(&mut self, slot: u32, bytes: usize) -> io::Result<&[u8]> {
        let within =
            |first: u32| (u64::from(slot).checked_sub(u64::from(first))? * SLOT_BYTES).try_into().ok();
        let buffered = |from: usize, buffer: &[u8]| from.saturating_add(bytes) <= buffer.len();
        let mut from: usize = within(self.first).unwrap_or(usize::MAX);
        if !buffered(from, &self.buffer) {
            let Geometry { slots, .. } = self.file.header.geometry;
            let left = u64::from(slots.saturating_sub(slot)) * SLOT_BYTES;
            let len = (self.read_bytes.max(bytes) as u64).min(left);
            self.buffer.resize(len as usize, 0);
            self.file.file.read_exact_at(&mut self.buffer, self.file.header.geometry.slot_at(slot))?;
            self.first = slot;
            self.read_bytes = (self.read_bytes * 2).min(WALK_BYTES_MAX);
            from = 0;
        }
        self.buffer.get(from..from + bytes).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// Writes zeros.
pub(super) fn write_zeros(file: &dyn File, from: u64, len: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let mut done = 0;
    while done < len {
        let bytes = (len - done).min(ZEROS.len() as u64);
        file.write_all_at(ZEROS.get(..bytes as usize).unwrap_or_default(), from + done)?;
        done += bytes;
    }
    Ok(())
}
