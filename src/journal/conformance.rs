//! The suite that every journal runs: what the contract of [`Journal`] says, as cases that fail loudly.
//!
//! *Invariants.* Every case runs against every journal. Where a capability is not declared, the case demands
//! that the journal refuses what it cannot do, and is counted as declined.
//!
//! *Does not* test what only one implementation promises: crashes, several processes, layouts.

mod appends;
mod readers;
mod registers;
mod storage;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{
    Append, Appended, Capabilities, Chunk, Fragment, Journal, JournalError, JournalReader, Journals,
    ReadRange, ReadStep,
};
use crate::clock::Deadline;
pub use crate::conformance::{Failures, Report};
use crate::conformance::{OrFail, Outcome, Tally, fail};
use crate::ids::{JournalName, Offset};
use crate::prng::SplitMix64;

/// A fresh place to run one case in.
pub struct Place {
    journals: Arc<dyn Journals>,
    fragment_bytes: u64,
    reopen: Option<Reopen>,
    prepared: Option<(JournalName, Vec<u8>)>,
}

type Reopen = Box<dyn Fn() -> Arc<dyn Journals> + Send + Sync>;

impl Place {
    /// A place that holds no journal. Its fragments roll after at most `fragment_bytes` bytes and one append.
    pub fn empty(journals: Arc<dyn Journals>, fragment_bytes: u64) -> Self {
        Self { journals, fragment_bytes, reopen: None, prepared: None }
    }

    /// A read-only place with one journal, of at least 64 KiB in at least three fragments from offset 0 on.
    pub fn prepared(journals: Arc<dyn Journals>, name: JournalName, content: Vec<u8>) -> Self {
        Self { journals, fragment_bytes: 0, reopen: None, prepared: Some((name, content)) }
    }

    /// Adds the way to open a durable place again after everything that was opened in it is dropped.
    #[must_use]
    pub fn reopened_by(mut self, reopen: impl Fn() -> Arc<dyn Journals> + Send + Sync + 'static) -> Self {
        self.reopen = Some(Box::new(reopen));
        self
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("journals", &self.journals).finish_non_exhaustive()
    }
}

/// Runs every case, each in a place of its own.
///
/// ```
/// use std::sync::Arc;
/// use recoverylog::journal::{MemoryJournals, conformance};
///
/// let make = || conformance::Place::empty(Arc::new(MemoryJournals::new().fragment_bytes(4096)), 4096);
/// let report = conformance::run(&make).unwrap_or_else(|failures| panic!("{failures}"));
/// assert!(report.declined.iter().all(|case| case.contains("reopen")), "memory is not durable");
/// ```
///
/// # Errors
/// Names every case that does not hold. A case stops at its first claim that does not; the panic says where that is.
pub fn run(make: &dyn Fn() -> Place) -> Result<Report, Failures> {
    let mut tally = Tally::default();
    for (name, case) in [appends::CASES, registers::CASES, readers::CASES, storage::CASES].concat() {
        tally.run(name, || case(&Case::new(make())));
    }
    tally.run("a_reopened_place_keeps_content_and_registers", || {
        storage::a_reopened_place_keeps_content_and_registers(Case::new(make()))
    });
    tally.finish()
}

type Cases = &'static [(&'static str, fn(&Case) -> Outcome)];

/// One case's place, with its journal opened.
struct Case {
    place: Place,
    journal: Arc<dyn Journal>,
    can: Capabilities,
}

impl Case {
    fn new(place: Place) -> Self {
        let name = match &place.prepared {
            Some((name, _)) => name.clone(),
            None => name("conformance/one"),
        };
        let journal = place.journals.open(&name).or_fail("open");
        assert_eq!(journal.name(), &name, "a journal knows its name");
        let can = journal.capabilities();
        Self { place, journal, can }
    }

    /// Appends in at least `appends` pieces, or takes what was prepared. Returns the whole content.
    fn filled(&self, appends: usize) -> Vec<u8> {
        if let Some((_, content)) = &self.place.prepared {
            return content.clone();
        }
        let mut whole = Vec::new();
        for index in 0..appends {
            let content = noise(index as u64, 1 + index * 97 % 5000);
            whole.extend_from_slice(&content);
            self.committed(Append::new(content));
        }
        whole
    }

    /// Appends until at least `count` fragments are listed. Returns the whole content.
    fn filled_fragments(&self, count: usize) -> Vec<u8> {
        if let Some((_, content)) = &self.place.prepared {
            return content.clone();
        }
        let mut whole = Vec::new();
        for index in 0..count * 8 {
            if self.fragments().len() >= count {
                return whole;
            }
            let content = noise(index as u64, self.place.fragment_bytes.max(1) as usize);
            whole.extend_from_slice(&content);
            self.committed(Append::new(content));
        }
        fail(format_args!(
            "{} appends of {} bytes rolled no {count} fragments",
            count * 8,
            self.place.fragment_bytes
        ))
    }

    fn append(&self, append: Append) -> Result<Appended, JournalError> {
        self.journal.append(append, soon())
    }

    fn committed(&self, append: Append) -> Appended {
        let bytes = append.content_bytes();
        let appended = self.append(append).or_fail("append");
        assert_eq!(appended.end.bytes_since(appended.begin), bytes, "the reply names exactly the content");
        appended
    }

    fn head(&self) -> Offset {
        self.journal.head(soon()).or_fail("head").offset
    }

    fn fragments(&self) -> Vec<Fragment> {
        self.journal.fragments(soon()).or_fail("fragments")
    }

    fn reader(&self, range: ReadRange) -> Box<dyn JournalReader> {
        self.journal.read(range).or_fail("read")
    }

    /// Reads everything below the head.
    fn content(&self) -> Vec<u8> {
        let mut found = Vec::new();
        for part in parts(&mut *self.reader(ReadRange::bounded(Offset::ZERO, self.head()))) {
            match part {
                Part::Bytes(bytes) => found.extend_from_slice(&bytes),
                Part::Jump(from, to) => fail(format_args!("a jump from {from} to {to}")),
            }
        }
        found
    }
}

/// What a reader found, adjacent chunks joined.
#[derive(Debug, Eq, PartialEq)]
enum Part {
    Bytes(Vec<u8>),
    Jump(Offset, Offset),
}

/// Reads to the end of the range, and checks that every step continues the one before.
fn parts(reader: &mut dyn JournalReader) -> Vec<Part> {
    let mut parts = Vec::new();
    loop {
        let before = reader.offset();
        match reader.next(soon()).or_fail("next") {
            ReadStep::Chunk(chunk) => {
                let bytes = chunk_bytes(&chunk);
                assert_eq!(chunk.offset(), before, "a chunk continues where the last step ended");
                assert_eq!(reader.offset(), offset(before.get() + bytes.len() as u64));
                match parts.last_mut() {
                    Some(Part::Bytes(last)) => last.extend_from_slice(&bytes),
                    _ => parts.push(Part::Bytes(bytes)),
                }
            }
            ReadStep::Jump { from, to } => {
                assert_eq!(from, before, "a jump begins where the last step ended");
                assert!(from < to, "a jump goes forward");
                assert_eq!(reader.offset(), to);
                parts.push(Part::Jump(from, to));
            }
            ReadStep::End => return parts,
            other => fail(format_args!("{other:?} before the end of the range")),
        }
    }
}

/// Reads exactly up to `end` with a reader that may reach further, and checks that there are no jumps.
fn bytes_until(reader: &mut dyn JournalReader, end: Offset) -> Vec<u8> {
    let mut found = Vec::new();
    while reader.offset() < end {
        let deadline = soon();
        match reader.next(deadline).or_fail("next") {
            ReadStep::Chunk(chunk) => found.extend_from_slice(&chunk_bytes(&chunk)),
            other => fail(format_args!("{other:?} before {end}")),
        }
        assert!(!deadline.has_passed(), "bytes were seen only when the wait for them was over");
    }
    found
}

fn chunk_bytes(chunk: &Chunk) -> Vec<u8> {
    assert!(chunk.len() > 0, "a chunk is never empty");
    let mut bytes = vec![0; chunk.len() as usize];
    chunk.read_exact_at(&mut bytes, 0).or_fail("read_exact_at");
    bytes
}

/// Bytes that differ from one seed to the next.
fn noise(seed: u64, len: usize) -> Bytes {
    let mut random = SplitMix64::new(seed);
    let words = std::iter::repeat_with(|| random.next_u64().to_le_bytes());
    words.flatten().take(len).collect()
}

fn name(name: &str) -> JournalName {
    JournalName::new(name).or_fail("a journal name")
}

fn offset(offset: u64) -> Offset {
    Offset::new(offset).or_fail("an offset")
}

/// Longer than any journal takes: a wait that ends here has failed.
fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

/// Long enough for any journal to see that there is nothing more.
fn short() -> Deadline {
    Deadline::after(Duration::from_millis(10))
}

fn assert_wrong_offset(result: Result<Appended, JournalError>, named: Offset, found: Offset) {
    match result {
        Err(JournalError::WrongOffset { at, head, .. }) => {
            assert_eq!((at, head), (named, found), "the offset that was named, and the head");
        }
        other => fail(format_args!("expected WrongOffset, found {other:?}")),
    }
}

fn assert_refused(result: Result<(), JournalError>) {
    match result {
        Err(JournalError::NotAllowed { .. }) => {}
        other => fail(format_args!("expected NotAllowed, found {other:?}")),
    }
}

fn assert_invalid<T: fmt::Debug>(result: Result<T, JournalError>) {
    match result {
        Err(JournalError::Invalid { .. }) => {}
        other => fail(format_args!("expected Invalid, found {other:?}")),
    }
}

/// A case about appends, in a place that takes none.
fn refuses_appends(case: &Case) -> Outcome {
    let head = case.head();
    for append in [Append::new(Bytes::from_static(b"x")), Append::new(Bytes::from_static(b"x")).at(head)] {
        assert_refused(case.append(append).map(drop));
    }
    assert_eq!(case.head(), head);
    Outcome::Declined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::MemoryJournals;

    #[test]
    fn memory_journals_conform() {
        let make = || Place::empty(Arc::new(MemoryJournals::new().fragment_bytes(4096)), 4096);
        let report = run(&make).unwrap_or_else(|failures| panic!("{failures}"));
        assert_eq!(report.declined, ["a_reopened_place_keeps_content_and_registers"]);
    }

    #[test]
    fn memory_journals_conform_in_chunks_of_any_size() {
        for chunk_bytes_max in [7, 1000] {
            let journals = || MemoryJournals::new().fragment_bytes(4096).chunk_bytes_max(chunk_bytes_max);
            let make = || {
                let journals = Arc::new(journals());
                let again = Arc::clone(&journals);
                Place::empty(journals, 4096).reopened_by(move || Arc::clone(&again) as Arc<dyn Journals>)
            };
            assert_eq!(run(&make).unwrap_or_else(|failures| panic!("{failures}")).declined, [""; 0]);
        }
    }
}
