//! Reads the content of stored fragments, in order and in bounded memory.
//!
//! *Invariants.* The last bytes of a fragment are handed out only after its length was checked and, where all
//! of it was read, its sum. Memory is one chunk and one decoder's window, whatever a file says.
//!
//! *Does not* wait: nobody tells it of a fragment that is stored. At the head it looks, each time it is asked.

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use sha1::{Digest, Sha1};

use super::codec;
use super::index::{Entry, Index};
use super::name::Hex;
use super::{Options, Place};
use crate::clock::Deadline;
use crate::ids::{JournalName, Offset};
use crate::journal::{Chunk, Codec, Interrupter, JournalError, JournalReader, ReadRange, ReadStep};
use crate::vfs::{File, OpenMode};

const CHUNK_BYTES_MAX: u64 = 256 << 10;

/// How often a reader lists the folder anew for one fragment that is gone when it is opened.
const LISTINGS_MAX: u32 = 5;

pub(super) struct FragmentReader {
    place: Arc<Place>,
    index: Arc<Index>,
    offset: Offset,
    end: Option<Offset>,
    /// The fragment that is being read.
    current: Option<Content>,
    interrupted: Arc<AtomicBool>,
    failed: Option<JournalError>,
}

/// A fragment with a decoder inside it.
pub(in crate::journal) struct Content {
    decoder: Box<dyn Read + Send>,
    /// Where the decoder stands.
    pub(in crate::journal) at: Offset,
    pub(in crate::journal) end: Offset,
    /// The sum so far and the one that the name demands, where all is read and sums are checked.
    sum: Option<(Sha1, [u8; 20])>,
    path: PathBuf,
}

impl FragmentReader {
    pub(super) fn new(place: Arc<Place>, index: Arc<Index>, range: ReadRange) -> Self {
        Self {
            place,
            index,
            offset: range.begin,
            end: range.end,
            current: None,
            interrupted: Arc::default(),
            failed: None,
        }
    }

    fn step(&mut self) -> Result<ReadStep, JournalError> {
        let limit = self.end.unwrap_or(Offset::MAX);
        loop {
            if self.end.is_some_and(|end| self.offset >= end) {
                return Ok(ReadStep::End);
            }
            if self.current.is_none() {
                match self.open_next(limit)? {
                    Opened::Content(content) => self.current = Some(content),
                    Opened::Step(step) => return Ok(step),
                }
            }
            let Some(content) = &mut self.current else { continue };
            let skipping = content.at < self.offset;
            if skipping && self.interrupted.swap(false, Ordering::Relaxed) {
                return Ok(ReadStep::Interrupted);
            }
            let until = if skipping { self.offset } else { limit };
            let bytes = content.read(until, &self.place.journal)?;
            if content.at == content.end {
                self.current = None;
            }
            if !skipping {
                let offset = self.offset;
                self.offset = offset.saturating_add(bytes.len() as u64);
                return Ok(ReadStep::Chunk(Chunk::Bytes { offset, bytes }));
            }
        }
    }

    /// Opens the fragment at the present offset, or says what is there instead.
    fn open_next(&mut self, limit: Offset) -> Result<Opened, JournalError> {
        if self.offset >= self.index.head {
            self.index = Arc::new(self.place.list()?);
        }
        for _ in 0..LISTINGS_MAX {
            let Some(entry) = self.index.at(self.offset) else {
                return Ok(Opened::Step(self.step_where_nothing_is_stored(limit)));
            };
            match self.place.fs.open(&entry.path, OpenMode::Read) {
                Ok(file) => return self.open(&entry.clone(), file, limit),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // Pruned since the folder was listed.
                    self.index = Arc::new(self.place.list()?);
                }
                Err(error) => return Err(self.place.io("opening", &entry.path, error)),
            }
        }
        Err(JournalError::Unavailable {
            journal: self.place.journal.clone(),
            what: format!("fragments at offset {} are pruned as soon as they are listed", self.offset),
        })
    }

    fn open(&mut self, entry: &Entry, file: Arc<dyn File>, limit: Offset) -> Result<Opened, JournalError> {
        let (name, path) = (&entry.name, &entry.path);
        let skip = self.offset.bytes_since(name.begin);
        let len = name.end.bytes_since(name.begin);
        let stored = file.metadata().map_err(|e| self.place.io("reading", path, e))?.len;
        if let Some(feature) = name.codec.missing_feature() {
            return Err(JournalError::NotAllowed {
                journal: self.place.journal.clone(),
                what: format!("{} needs this crate's feature `{feature}`", path.display()),
            });
        }
        let codec = match name.codec {
            // What a server unpacked on the way is exactly as long as its content.
            Codec::GzipOffloadDecompression if stored == len => Codec::None,
            codec => codec,
        };
        if codec == Codec::None && stored != len {
            return Err(corrupt(
                &self.place.journal,
                name.begin.saturating_add(stored.min(len)),
                path,
                "has another length than its name says",
                format!("{len} bytes"),
                format!("{stored} bytes"),
            ));
        }
        let Options { verify_sums, file_chunks } = self.place.options;
        if codec == Codec::None && file_chunks {
            let (offset, end) = (self.offset, name.end.min(limit));
            self.offset = end;
            let chunk = Chunk::File { offset, file, position: skip, len: end.bytes_since(offset) };
            return Ok(Opened::Step(ReadStep::Chunk(chunk)));
        }
        // Raw content is read from where it is wanted; a decoder has to begin at the beginning.
        let begin = if codec == Codec::None { self.offset } else { name.begin };
        let decoder = match codec {
            Codec::None => Ok(codec::raw_content(file, skip)),
            codec => codec::content(file, codec),
        };
        let decoder = decoder.map_err(|e| self.place.io("decoding", path, e))?;
        let sum = (verify_sums && begin == name.begin).then_some(name.sum);
        Ok(Opened::Content(Content::new(decoder, begin..name.end, sum, path.clone())))
    }

    fn step_where_nothing_is_stored(&mut self, limit: Offset) -> ReadStep {
        if let Some(next) = self.index.next_after(self.offset) {
            let (from, to) = (self.offset, next.min(limit));
            self.offset = to;
            return ReadStep::Jump { from, to };
        }
        if self.interrupted.swap(false, Ordering::Relaxed) {
            return ReadStep::Interrupted;
        }
        ReadStep::AtHead { head: self.index.head }
    }
}

enum Opened {
    Content(Content),
    Step(ReadStep),
}

impl Content {
    /// Takes content for `range` out of a decoder; where it is a whole fragment, with the sum that it is to have.
    pub(in crate::journal) fn new(
        decoder: Box<dyn Read + Send>,
        range: Range<Offset>,
        sum: Option<[u8; 20]>,
        path: PathBuf,
    ) -> Self {
        let sum = sum.map(|sum| (Sha1::new(), sum));
        Self { decoder, at: range.start, end: range.end, sum, path }
    }

    /// Reads on, at most to `limit`; at the end of the fragment, checks that it is the end and what it is worth.
    pub(in crate::journal) fn read(
        &mut self,
        limit: Offset,
        journal: &JournalName,
    ) -> Result<Bytes, JournalError> {
        let wanted = self.end.min(limit).bytes_since(self.at).min(CHUNK_BYTES_MAX);
        let mut bytes = BytesMut::zeroed(wanted as usize);
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let read = self.decode(rest, journal)?;
            if read == 0 {
                return Err(self.corrupt(
                    journal,
                    "has less content than its name says",
                    format!("content up to offset {}", self.end),
                    format!("its end at {}", self.at),
                ));
            }
            filled += read;
            self.at = self.at.saturating_add(read as u64);
        }
        if let Some((sum, _)) = &mut self.sum {
            sum.update(&bytes);
        }
        if self.at == self.end {
            self.finish(journal)?;
        }
        Ok(bytes.freeze())
    }

    fn finish(&mut self, journal: &JournalName) -> Result<(), JournalError> {
        if self.decode(&mut [0], journal)? != 0 {
            return Err(self.corrupt(
                journal,
                "has more content than its name says",
                format!("content up to offset {}", self.end),
                "more".into(),
            ));
        }
        let Some((sum, expected)) = self.sum.take() else { return Ok(()) };
        let actual: [u8; 20] = sum.finalize().into();
        if actual == expected {
            return Ok(());
        }
        let (expected, actual) = (Hex(&expected).to_string(), Hex(&actual).to_string());
        Err(self.corrupt(journal, "has another SHA-1 than its name says", expected, actual))
    }

    fn decode(&mut self, buffer: &mut [u8], journal: &JournalName) -> Result<usize, JournalError> {
        loop {
            match self.decoder.read(buffer) {
                Ok(read) => return Ok(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(match codec::file_error(&error) {
                        Some(source) => JournalError::Io {
                            journal: journal.clone(),
                            what: format!("reading {}", self.path.display()),
                            source: Arc::clone(source),
                        },
                        None => {
                            self.corrupt(journal, "does not decode", "whole frames".into(), error.to_string())
                        }
                    });
                }
            }
        }
    }

    fn corrupt(&self, journal: &JournalName, what: &str, expected: String, actual: String) -> JournalError {
        corrupt(journal, self.at, &self.path, what, expected, actual)
    }
}

fn corrupt(
    journal: &JournalName,
    offset: Offset,
    path: &Path,
    what: &str,
    expected: String,
    actual: String,
) -> JournalError {
    let what = format!("{} {what}", path.display());
    JournalError::Corrupt { journal: journal.clone(), offset, what, expected, actual }
}

impl JournalReader for FragmentReader {
    fn next(&mut self, _deadline: Deadline) -> Result<ReadStep, JournalError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        self.step().inspect_err(|error| {
            self.current = None;
            self.failed = Some(error.clone());
        })
    }

    fn offset(&self) -> Offset {
        self.offset
    }

    fn interrupter(&self) -> Interrupter {
        let interrupted = Arc::clone(&self.interrupted);
        Interrupter::new(move || interrupted.store(true, Ordering::Relaxed))
    }
}

impl fmt::Debug for FragmentReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FragmentReader")
            .field("offset", &self.offset)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
