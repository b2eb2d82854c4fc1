//! Reading a file journal: sealed fragments, then open files, up to the head.
//!
//! *Invariants.* A chunk names bytes of a file that never change while the chunk lives, whatever becomes of the
//! file's name. Missing bytes are a jump, never an end.
//!
//! *Does not* hold back pruning: what it has opened it can read, what it has not may be gone.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::place::Sealed;
use super::seal;
use super::view::{self, Now, SealedFile, View};
use crate::clock::Deadline;
use crate::ids::Offset;
use crate::journal::{
    Chunk, Codec, FragmentJournals, Interrupter, Journal, JournalError, JournalReader, ReadRange, ReadStep,
};
use crate::vfs::{File, OpenMode};

/// How often the fragments are listed anew where one is gone when it is opened. A fragment is renamed once, and may be
/// pruned: whoever lists more often meets something else.
const LISTINGS_MAX: u32 = 5;

/// A reader of one journal.
#[derive(Debug)]
pub(super) struct FileReader {
    view: Arc<View>,
    offset: Offset,
    end: Option<Offset>,
    interrupted: Arc<AtomicBool>,
    /// What was read from last.
    source: Option<Source>,
    /// The sealed fragments as they were listed last.
    sealed: Vec<SealedFile>,
    failed: Option<JournalError>,
}

/// Where bytes come from.
#[derive(Debug)]
enum Source {
    /// Bytes `[begin, end)` of the journal, at the beginning of a file.
    File { begin: Offset, end: Offset, file: Arc<dyn File> },
    /// A fragment that has to be decoded, from the reader's offset on.
    Decoder(Box<dyn JournalReader>),
}

impl FileReader {
    pub(super) fn new(view: Arc<View>, range: ReadRange) -> Self {
        Self {
            view,
            offset: range.begin,
            end: range.end,
            interrupted: Arc::default(),
            source: None,
            sealed: Vec::new(),
            failed: None,
        }
    }

    fn step(&mut self, deadline: Deadline) -> Result<ReadStep, JournalError> {
        loop {
            if self.end.is_some_and(|end| self.offset >= end) {
                return Ok(ReadStep::End);
            }
            let now = self.view.now()?;
            let limit = self.end.map_or(now.head, |end| end.min(now.head));
            if self.offset < limit {
                if let Some(step) = self.take(limit)? {
                    return Ok(step);
                }
                match self.find(&now, limit)? {
                    Ok(source) => self.source = Some(source),
                    Err(to) => {
                        let from = std::mem::replace(&mut self.offset, to);
                        return Ok(ReadStep::Jump { from, to });
                    }
                }
                continue;
            }
            if self.interrupted.swap(false, Ordering::AcqRel) {
                return Ok(ReadStep::Interrupted);
            }
            if deadline.has_passed() {
                return Ok(ReadStep::AtHead { head: now.head });
            }
            self.view.wait(&now, deadline);
        }
    }

    /// Takes what the present source has below `limit`, which lies past the offset; `None` where it has nothing.
    fn take(&mut self, limit: Offset) -> Result<Option<ReadStep>, JournalError> {
        let step = match &mut self.source {
            None => return Ok(None),
            Some(Source::File { begin, end, .. }) if self.offset < *begin || self.offset >= *end => {
                return Ok(None);
            }
            Some(Source::File { begin, end, file }) => ReadStep::Chunk(Chunk::File {
                offset: self.offset,
                file: Arc::clone(file),
                position: self.offset.bytes_since(*begin),
                len: (*end).min(limit).bytes_since(self.offset),
            }),
            Some(Source::Decoder(decoder)) => decoder.next(Deadline::passed())?,
        };
        match &step {
            ReadStep::Chunk(chunk) => self.offset = self.offset.saturating_add(chunk.len()),
            ReadStep::Jump { to, .. } => self.offset = *to,
            _ => {
                self.source = None;
                return Ok(None);
            }
        }
        Ok(Some(step))
    }

    /// Finds a source for the offset, which is below `limit`; otherwise where the next bytes are.
    fn find(&mut self, now: &Now, limit: Offset) -> Result<Result<Source, Offset>, JournalError> {
        let mut next = limit;
        // The open files first: one that is sealed meanwhile is then found among the sealed ones.
        let current = now.current().filter(|link| link.file.header.begin <= self.offset);
        let chain = match current {
            Some(current) => vec![current],
            None => self.view.chain(now)?,
        };
        for link in chain {
            let (begin, end) = (link.file.header.begin, link.end());
            if begin <= self.offset && self.offset < end {
                return Ok(Ok(Source::File { begin, end, file: Arc::clone(&link.file.file) }));
            }
            if begin > self.offset && begin < end {
                next = next.min(begin);
            }
        }
        if let Some(source) = self.find_sealed(limit)? {
            return Ok(Ok(source));
        }
        let later = self.sealed.iter().map(|found| found.sealed.begin).filter(|&begin| begin > self.offset);
        Ok(Err(later.chain([next]).min().unwrap_or(next)))
    }

    /// Finds the sealed fragment that holds the offset; `None` where a fresh listing has none.
    fn find_sealed(&mut self, limit: Offset) -> Result<Option<Source>, JournalError> {
        let is_raw = |found: &SealedFile| found.fragment.codec == Codec::None;
        // The last listing serves for as long as it holds: a long journal has many fragments.
        for listings in 0..=LISTINGS_MAX {
            if listings > 0 {
                self.sealed = view::sealed_files(&self.view.place)?;
            }
            let holds =
                |found: &&SealedFile| found.sealed.begin <= self.offset && self.offset < found.sealed.end;
            let best = self.sealed.iter().filter(holds).max_by_key(|found| (found.sealed.end, is_raw(found)));
            match best {
                Some(found) => {
                    if let Some(source) = self.open(found, limit)? {
                        return Ok(Some(source));
                    }
                    // Renamed to its sealed name after it was listed, or pruned: the next listing tells.
                }
                None if listings > 0 => return Ok(None),
                None => {}
            }
        }
        Err(self
            .view
            .place
            .unavailable(format!("the fragment at {} is gone whenever it is opened", self.offset)))
    }

    /// Opens a sealed fragment; `None` where there is no file of that name any more. A fragment that will be read whole is checked
    /// against the sum in its name.
    fn open(&self, found: &SealedFile, limit: Offset) -> Result<Option<Source>, JournalError> {
        let SealedFile { sealed, fragment, path } = found;
        let place = &self.view.place;
        if fragment.codec != Codec::None {
            return self.decode(sealed.end.min(limit)).map(Some);
        }
        let failed = |error| place.io(format!("reading {}", path.display()), error);
        let file = match place.fs.open(path, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed)?,
        };
        let len = sealed.end.bytes_since(sealed.begin);
        let stored = file.metadata().map_err(failed)?.len;
        let sealing = path.extension().is_some_and(|extension| extension == "sealing");
        if stored < len || (stored > len && !sealing) {
            let what = format!("{} has another length than its name says", path.display());
            let (expected, actual) = (format!("{len} bytes"), format!("{stored} bytes"));
            return Err(place.corrupt(sealed.begin, what, expected, actual));
        }
        if self.offset == sealed.begin && limit >= sealed.end {
            let sum = seal::plain_sum(&*file, len).map_err(failed)?;
            if sum != sealed.sum {
                let what = format!("{} has another SHA-1 than its name says", path.display());
                let actual = Sealed { sum, ..*sealed }.sum_hex();
                return Err(place.corrupt(sealed.begin, what, sealed.sum_hex(), actual));
            }
        }
        Ok(Some(Source::File { begin: sealed.begin, end: sealed.end, file }))
    }

    /// Reads from the offset to `end`, which lie within one compressed fragment, as they would be read by themselves.
    fn decode(&self, end: Offset) -> Result<Source, JournalError> {
        let place = &self.view.place;
        let fragments = FragmentJournals::open(Arc::clone(&place.fs), &place.root);
        let fragments = fragments.map_err(|error| place.unavailable(error.to_string()))?;
        let journal = fragments.journal(&place.journal)?;
        Ok(Source::Decoder(journal.read(ReadRange::bounded(self.offset, end))?))
    }
}

impl JournalReader for FileReader {
    fn next(&mut self, deadline: Deadline) -> Result<ReadStep, JournalError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let step = self.step(deadline);
        if let Err(error) = &step {
            self.failed = Some(error.clone());
        }
        step
    }

    fn offset(&self) -> Offset {
        self.offset
    }

    fn interrupter(&self) -> Interrupter {
        let (view, interrupted) = (Arc::clone(&self.view), Arc::clone(&self.interrupted));
        Interrupter::new(move || {
            interrupted.store(true, Ordering::Release);
            view.wake();
        })
    }
}
