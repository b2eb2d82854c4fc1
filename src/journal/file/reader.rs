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
use crate::journal::{Chunk, Interrupter, JournalError, JournalReader, ReadRange, ReadStep};
use crate::vfs::{File, OpenMode};

/// A reader of one journal.
#[derive(Debug)]
pub(super) struct FileReader {
    view: Arc<View>,
    offset: Offset,
    end: Option<Offset>,
    interrupted: Arc<AtomicBool>,
    /// The file that was read from last.
    source: Option<Source>,
    failed: Option<JournalError>,
}

/// Bytes `[begin, end)` of the journal, at the beginning of a file.
#[derive(Clone, Debug)]
struct Source {
    begin: Offset,
    end: Offset,
    file: Arc<dyn File>,
}

impl Source {
    fn holds(&self, offset: Offset) -> bool {
        self.begin <= offset && offset < self.end
    }
}

/// What is to be had at an offset.
enum Found {
    Source(Source),
    /// Nothing before this offset.
    Nothing(Offset),
}

impl FileReader {
    pub(super) fn new(view: Arc<View>, range: ReadRange) -> Self {
        Self {
            view,
            offset: range.begin,
            end: range.end,
            interrupted: Arc::default(),
            source: None,
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
                return self.take(&now, limit);
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

    /// Returns what lies at the offset, which is below `limit`.
    fn take(&mut self, now: &Now, limit: Offset) -> Result<ReadStep, JournalError> {
        let from = self.offset;
        let found = match &self.source {
            Some(source) if source.holds(from) => Found::Source(source.clone()),
            _ => self.find(now, limit)?,
        };
        match found {
            Found::Nothing(to) => {
                self.offset = to;
                Ok(ReadStep::Jump { from, to })
            }
            Found::Source(source) => {
                let end = source.end.min(limit);
                let chunk = Chunk::File {
                    offset: from,
                    file: Arc::clone(&source.file),
                    position: from.bytes_since(source.begin),
                    len: end.bytes_since(from),
                };
                self.source = Some(source);
                self.offset = end;
                Ok(ReadStep::Chunk(chunk))
            }
        }
    }

    fn find(&self, now: &Now, limit: Offset) -> Result<Found, JournalError> {
        let mut next = limit;
        // The open files first: one that is sealed meanwhile is then found among the sealed ones.
        let current = now.current().filter(|link| link.file.header.begin <= self.offset);
        let chain = match current {
            Some(current) => vec![current],
            None => self.view.chain(now)?,
        };
        for link in chain {
            let source =
                Source { begin: link.file.header.begin, end: link.end(), file: Arc::clone(&link.file.file) };
            if source.holds(self.offset) {
                return Ok(Found::Source(source));
            }
            if source.begin > self.offset && source.begin < source.end {
                next = next.min(source.begin);
            }
        }
        for found in view::sealed_files(&self.view.place)? {
            let Sealed { begin, end, .. } = found.sealed;
            if begin <= self.offset && self.offset < end {
                if let Some(file) = self.open(&found, limit)? {
                    return Ok(Found::Source(Source { begin, end, file }));
                }
            } else if begin > self.offset {
                next = next.min(begin);
            }
        }
        Ok(Found::Nothing(next))
    }

    /// Opens a sealed fragment; `None` where it was pruned meanwhile. A fragment that will be read whole is checked
    /// against the sum in its name.
    fn open(&self, found: &SealedFile, limit: Offset) -> Result<Option<Arc<dyn File>>, JournalError> {
        let SealedFile { sealed, path } = found;
        let place = &self.view.place;
        let failed = |error| place.io(format!("reading {}", path.display()), error);
        let file = match place.fs.open(path, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Renamed to its sealed name, or pruned.
                match place.fs.open(&place.sealed_path(*sealed), OpenMode::Read) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    file => file.map_err(failed)?,
                }
            }
            file => file.map_err(failed)?,
        };
        let len = sealed.end.bytes_since(sealed.begin);
        let stored = file.metadata().map_err(failed)?.len;
        let sealing = path.extension().is_some_and(|extension| extension == "sealing");
        if stored < len || (stored > len && !sealing) {
            let what = format!("the length of the fragment {}", path.display());
            return Err(place.corrupt(sealed.begin, what, len, stored));
        }
        if self.offset == sealed.begin && limit >= sealed.end {
            let sum = seal::plain_sum(&*file, len).map_err(failed)?;
            if sum != sealed.sum {
                let what = format!("the content of the fragment {}", path.display());
                return Err(place.corrupt(sealed.begin, what, sealed, Sealed { sum, ..*sealed }));
            }
        }
        Ok(Some(file))
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
