//! The seam to the byte transport: an append-only named byte sequence with registers.
//!
//! *Invariants.* An append commits whole or not at all, at exactly the offset it names or not at all; a later
//! submission never commits before an earlier one. What was acknowledged is durable. Readers see only
//! committed bytes, in order, and are told of every offset that is not there.
//!
//! *Does not* know operations, frames or hints; does not batch (the recorder does) and does not retry an
//! append on its own.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod faulty;
mod file;
mod fragments;
#[cfg(feature = "gazette")]
mod gazette;
mod memory;
pub(crate) mod registers;
mod stored;

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

pub use self::faulty::{AppendFault, FaultyJournal, FaultyJournals, ReadFault};
pub use self::file::{CutTail, FileJournal, FileJournalOptions, FileJournals};
pub use self::fragments::{FragmentJournal, FragmentJournals, FragmentName, InvalidFragmentName};
#[cfg(feature = "gazette")]
#[cfg_attr(docsrs, doc(cfg(feature = "gazette")))]
pub use self::gazette::{Auth, GazetteJournal, GazetteJournals, GazetteOptions, NewJournal};
pub use self::memory::{MemoryJournal, MemoryJournals};
pub use self::registers::{Register, RegisterSelector, RegisterSet};
pub(crate) use self::stored::Stored;
use crate::clock::Deadline;
use crate::completion::{Abandoned, Completion};
pub use crate::entropy::random_author;
use crate::error::{Error, ErrorKind};
use crate::ids::{Author, JournalName, Offset};
#[cfg(feature = "gazette")]
pub use crate::remote::Tls;
use crate::vfs::File;

/// Folder of a root of journals that belongs to [`FileJournals`]: no journal lies in it.
const STATE_FOLDER: &str = ".recoverylog";

/// Name of the register that fences writers by author.
pub const AUTHOR_REGISTER: &str = "author";

/// A place that holds journals by name.
pub trait Journals: fmt::Debug + Send + Sync {
    /// Opens a journal.
    ///
    /// # Errors
    /// [`JournalError::NotFound`] where a read-only place holds no such journal. A place that can create a
    /// journal creates it.
    fn open(&self, name: &JournalName) -> Result<Arc<dyn Journal>, JournalError>;

    /// Lists the journals held here, sorted by name.
    fn list(&self) -> Result<Vec<JournalName>, Error>;
}

/// An append-only named byte sequence with registers.
///
/// ```
/// use std::time::Duration;
/// use bytes::Bytes;
/// use recoverylog::journal::{Append, Journal, MemoryJournals, Journals};
/// use recoverylog::{Deadline, JournalName, Offset};
///
/// # fn main() -> Result<(), recoverylog::journal::JournalError> {
/// let journal = MemoryJournals::new().open(&JournalName::new("acme/orders").unwrap())?;
/// let soon = Deadline::after(Duration::from_secs(1));
/// let append = Append::new(Bytes::from_static(b"hello")).at(Offset::ZERO);
/// let appended = journal.append(append, soon)?;
/// assert_eq!((appended.begin.get(), appended.end.get()), (0, 5));
///
/// // A second append at the same offset loses, and learns where the head is.
/// let late = Append::new(Bytes::from_static(b"world")).at(Offset::ZERO);
/// assert!(journal.append(late, soon).is_err());
/// # Ok(())
/// # }
/// ```
pub trait Journal: fmt::Debug + Send + Sync {
    /// Returns the name of the journal.
    fn name(&self) -> &JournalName;

    /// Says what this journal can do.
    fn capabilities(&self) -> Capabilities;

    /// Submits an append and returns at once; submissions commit, and resolve, in the order in which they were
    /// made.
    ///
    /// The content is taken as it is: one submission, one commit. An empty append is a barrier: it checks
    /// registers and offset, commits nothing, and resolves after everything submitted before it.
    fn submit(&self, append: Append) -> Completion<Appended, JournalError>;

    /// Returns the durable head and the registers.
    fn head(&self, deadline: Deadline) -> Result<Head, JournalError>;

    /// Opens a reader; any number may be open at once.
    fn read(&self, range: ReadRange) -> Result<Box<dyn JournalReader>, JournalError>;

    /// Lists what is stored, sorted by begin offset.
    fn fragments(&self, deadline: Deadline) -> Result<Vec<Fragment>, JournalError>;

    /// Deletes whole fragments; each must equal one that [`Journal::fragments`] returned.
    ///
    /// # Errors
    /// What was deleted before the error stays deleted. The fragment that holds the head is never deleted:
    /// `Invalid`.
    fn prune(&self, fragments: &[Fragment], deadline: Deadline) -> Result<(), JournalError>;

    /// Submits an append and waits for it.
    ///
    /// # Errors
    /// [`JournalError::Unknown`] once `deadline` has passed: the append may still commit.
    fn append(&self, append: Append, deadline: Deadline) -> Result<Appended, JournalError> {
        let at = append.at;
        self.submit(append).wait(deadline).unwrap_or_else(|| {
            Err(JournalError::Unknown {
                journal: self.name().clone(),
                at,
                what: "the deadline passed".into(),
            })
        })
    }
}

/// What a journal can do; declared, so that a conformance suite knows what to demand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent capability")]
#[non_exhaustive]
pub struct Capabilities {
    /// Takes appends.
    pub append: bool,
    /// Keeps registers.
    pub registers: bool,
    /// Can name offset 0 in [`Append::at`].
    pub at_zero: bool,
    /// Deletes fragments.
    pub prune: bool,
    /// Readers can wait for bytes that are not yet appended.
    pub follow: bool,
}

impl Capabilities {
    /// Everything.
    pub const ALL: Self = Self { append: true, registers: true, at_zero: true, prune: true, follow: true };
    /// Reading what is stored, and nothing else.
    pub const READ_ONLY: Self =
        Self { append: false, registers: false, at_zero: false, prune: false, follow: false };
}

/// One append: content, the offset it must begin at, and what it asks of the registers.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Append {
    /// The offset that the content must begin at; `None` takes whatever the head is.
    pub at: Option<Offset>,
    /// The content, in pieces that are committed as one.
    pub content: Vec<Bytes>,
    /// What the registers must satisfy.
    pub check: Option<RegisterSelector>,
    /// Registers to set with the commit.
    pub union: RegisterSet,
    /// Registers to remove with the commit, before `union`.
    pub subtract: RegisterSet,
}

impl Append {
    /// Makes an append of `content`.
    pub fn new(content: impl Into<Bytes>) -> Self {
        let content = content.into();
        Self { content: if content.is_empty() { Vec::new() } else { vec![content] }, ..Self::default() }
    }

    /// Demands that the content begins at `offset`.
    #[must_use]
    pub fn at(mut self, offset: Offset) -> Self {
        self.at = Some(offset);
        self
    }

    /// Demands that the author register names `author`, or that no register is set.
    #[must_use]
    pub fn check_author(mut self, author: Author) -> Self {
        self.check = Some(RegisterSelector::include(AUTHOR_REGISTER, author.register_value()));
        self
    }

    /// Sets the author register to `author`: from this commit on, another author's checks fail.
    #[must_use]
    pub fn union_author(mut self, author: Author) -> Self {
        self.union = RegisterSet::from_iter([Register::new(AUTHOR_REGISTER, author.register_value())]);
        self
    }

    /// Returns the number of content bytes.
    pub fn content_bytes(&self) -> u64 {
        self.content.iter().map(|piece| piece.len() as u64).sum()
    }
}

/// A committed append.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Appended {
    /// Where the content begins.
    pub begin: Offset,
    /// Where it ends; equal to `begin` for a barrier.
    pub end: Offset,
    /// The registers after the commit.
    pub registers: RegisterSet,
}

impl Appended {
    /// Says that `[begin, end)` is durable.
    pub fn new(begin: Offset, end: Offset, registers: RegisterSet) -> Self {
        Self { begin, end, registers }
    }
}

/// The end of a journal.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Head {
    /// The offset after the last durable byte.
    pub offset: Offset,
    /// The registers.
    pub registers: RegisterSet,
}

impl Head {
    /// Says where a journal ends.
    pub fn new(offset: Offset, registers: RegisterSet) -> Self {
        Self { offset, registers }
    }
}

/// What a reader is asked to read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReadRange {
    /// The first byte.
    pub begin: Offset,
    /// The end of the range; `None` follows the head as it moves.
    pub end: Option<Offset>,
}

impl ReadRange {
    /// Reads `[begin, end)`.
    pub const fn bounded(begin: Offset, end: Offset) -> Self {
        Self { begin, end: Some(end) }
    }

    /// Reads from `begin` on, following the head.
    pub const fn follow(begin: Offset) -> Self {
        Self { begin, end: None }
    }

    /// Refuses a range that ends before it begins.
    pub(crate) fn check(self, journal: &JournalName) -> Result<(), JournalError> {
        let Some(end) = self.end.filter(|&end| end < self.begin) else { return Ok(()) };
        let what = format!("a range from {} to {end} ends before it begins", self.begin);
        Err(JournalError::Invalid { journal: journal.clone(), what })
    }
}

/// Pulls committed bytes out of a journal, in order.
pub trait JournalReader: fmt::Debug + Send {
    /// Returns what comes next, waiting until `deadline` for bytes past the head.
    ///
    /// # Errors
    /// After an error the reader returns the same error again.
    fn next(&mut self, deadline: Deadline) -> Result<ReadStep, JournalError>;

    /// Returns the offset of the next byte.
    fn offset(&self) -> Offset;

    /// Returns a handle that makes a waiting [`JournalReader::next`] return from another thread.
    fn interrupter(&self) -> Interrupter;
}

/// One step of a reader.
#[derive(Clone, Debug)]
pub enum ReadStep {
    /// Bytes that continue where the last step ended.
    Chunk(Chunk),
    /// Bytes `[from, to)` are not stored; the next chunk begins at `to`.
    Jump {
        /// The first missing byte.
        from: Offset,
        /// The next byte that is there, or the end of the range.
        to: Offset,
    },
    /// The reader stands at the head, and `deadline` passed without more bytes; said at once where
    /// [`Capabilities::follow`] is not declared.
    AtHead {
        /// Where the head is.
        head: Offset,
    },
    /// The end of the range was reached; every later step is this one again.
    End,
    /// [`Interrupter::interrupt`] was called; the reader can be used further.
    Interrupted,
}

/// Consecutive bytes of a journal.
#[derive(Clone, Debug)]
pub enum Chunk {
    /// In memory.
    Bytes {
        /// Offset of the first byte.
        offset: Offset,
        /// The bytes, at least one.
        bytes: Bytes,
    },
    /// In a local file, where they stay as they are while the chunk lives.
    File {
        /// Offset of the first byte.
        offset: Offset,
        /// The file.
        file: Arc<dyn File>,
        /// Where in the file the first byte lies.
        position: u64,
        /// Number of bytes, at least one.
        len: u64,
    },
}

impl Chunk {
    /// Returns the journal offset of the first byte.
    pub const fn offset(&self) -> Offset {
        match self {
            Self::Bytes { offset, .. } | Self::File { offset, .. } => *offset,
        }
    }

    /// Returns the number of bytes.
    #[expect(clippy::len_without_is_empty, reason = "a chunk is never empty")]
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes { bytes, .. } => bytes.len() as u64,
            Self::File { len, .. } => *len,
        }
    }

    /// Reads the first `buffer.len()` bytes from `skip` on into `buffer`.
    ///
    /// # Errors
    /// `UnexpectedEof` where the chunk is shorter, and what the file says.
    pub fn read_exact_at(&self, buffer: &mut [u8], skip: u64) -> io::Result<()> {
        match self {
            Self::Bytes { bytes, .. } => {
                let begin = usize::try_from(skip).unwrap_or(usize::MAX);
                let end = begin.saturating_add(buffer.len());
                let source = bytes.get(begin..end).ok_or(io::ErrorKind::UnexpectedEof)?;
                buffer.copy_from_slice(source);
                Ok(())
            }
            Self::File { file, position, len, .. } => {
                if skip.saturating_add(buffer.len() as u64) > *len {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                file.read_exact_at(buffer, position + skip)
            }
        }
    }
}

/// Makes a waiting reader return; cheap to clone, safe to call at any time from any thread.
#[derive(Clone)]
pub struct Interrupter(Arc<dyn Fn() + Send + Sync>);

impl Interrupter {
    /// Wraps what has to be done to wake the reader.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Makes the present or the next wait of the reader return [`ReadStep::Interrupted`].
    pub fn interrupt(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Interrupter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interrupter")
    }
}

/// A stored piece of a journal.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Fragment {
    /// Where it begins.
    pub begin: Offset,
    /// Where it ends.
    pub end: Offset,
    /// SHA-1 of its uncompressed content; `None` while it is still being written.
    pub sum: Option<[u8; 20]>,
    /// How it is compressed.
    pub codec: Codec,
    /// Number of bytes that it takes up in its store, where that is known.
    pub stored_bytes: Option<u64>,
    /// When it was stored, in seconds since the Unix epoch; `None` while it is still being written, or on its way to a store.
    pub modified_unix_secs: Option<i64>,
    /// Folders between the journal's own and the fragment's name; empty for none.
    pub path_postfix: String,
}

impl Fragment {
    /// Describes a fragment that is still being written.
    pub fn open(begin: Offset, end: Offset) -> Self {
        Self {
            begin,
            end,
            sum: None,
            codec: Codec::None,
            stored_bytes: None,
            modified_unix_secs: None,
            path_postfix: String::new(),
        }
    }

    /// Returns the number of bytes of the journal that it holds.
    pub fn content_bytes(&self) -> u64 {
        self.end.bytes_since(self.begin)
    }
}

/// Compression of a stored fragment.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Codec {
    /// As it is.
    #[default]
    None,
    /// Gzip, possibly of several members.
    Gzip,
    /// Zstandard frames.
    Zstandard,
    /// The framed snappy stream.
    Snappy,
    /// Stored as gzip, served as it was written.
    GzipOffloadDecompression,
}

/// What a journal says no with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum JournalError {
    /// The append named an offset that is not the head; nothing was committed.
    WrongOffset {
        /// The journal.
        journal: JournalName,
        /// The offset that the append named.
        at: Offset,
        /// The head at that time.
        head: Offset,
    },
    /// The registers do not satisfy the append's check; nothing was committed.
    RegisterMismatch {
        /// The journal.
        journal: JournalName,
        /// What the registers are.
        registers: RegisterSet,
    },
    /// It is not known whether the append committed, nor whether it still will.
    Unknown {
        /// The journal.
        journal: JournalName,
        /// The offset that the append named.
        at: Option<Offset>,
        /// What went wrong.
        what: String,
    },
    /// There is no such journal.
    NotFound {
        /// The journal.
        journal: JournalName,
    },
    /// The journal does not take this request: it is read-only, retired, or cannot.
    NotAllowed {
        /// The journal.
        journal: JournalName,
        /// Why.
        what: String,
    },
    /// Bytes that were committed are not stored any more.
    Missing {
        /// The journal.
        journal: JournalName,
        /// The first missing byte.
        begin: Offset,
        /// The next byte that is there.
        end: Offset,
    },
    /// Stored bytes are not what was written.
    Corrupt {
        /// The journal.
        journal: JournalName,
        /// Where the damage was seen.
        offset: Offset,
        /// What is damaged: a file and what is wrong in it.
        what: String,
        /// What was expected there.
        expected: String,
        /// What is there.
        actual: String,
    },
    /// What is stored contradicts what this journal knows of itself.
    Diverged {
        /// The journal.
        journal: JournalName,
        /// Where.
        offset: Offset,
        /// The contradiction.
        what: String,
    },
    /// A write or a sync failed earlier: the journal refuses appends until it is reopened.
    Wedged {
        /// The journal.
        journal: JournalName,
        /// What failed.
        what: String,
    },
    /// The journal cannot be reached, or did not answer before the deadline; nothing was committed.
    Unavailable {
        /// The journal.
        journal: JournalName,
        /// What is away.
        what: String,
    },
    /// The request itself is at fault.
    Invalid {
        /// The journal.
        journal: JournalName,
        /// What is wrong with it.
        what: String,
    },
    /// The journal went away with the append under way; it is not known whether it committed.
    Abandoned,
    /// The local file system said no.
    Io {
        /// The journal.
        journal: JournalName,
        /// What was tried.
        what: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

impl JournalError {
    /// Returns the kind of the public error that this one becomes.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::RegisterMismatch { .. } => ErrorKind::Fenced,
            Self::Missing { .. } => ErrorKind::DataLoss,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::WrongOffset { .. } | Self::Diverged { .. } => ErrorKind::Diverged,
            Self::Wedged { .. } => ErrorKind::Wedged,
            Self::Unknown { .. } | Self::Abandoned | Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::NotFound { .. } | Self::NotAllowed { .. } | Self::Invalid { .. } => ErrorKind::Invalid,
            Self::Io { .. } => ErrorKind::Io,
        }
    }

    /// Returns the journal that said it.
    pub const fn journal(&self) -> Option<&JournalName> {
        match self {
            Self::WrongOffset { journal, .. }
            | Self::RegisterMismatch { journal, .. }
            | Self::Unknown { journal, .. }
            | Self::NotFound { journal }
            | Self::NotAllowed { journal, .. }
            | Self::Missing { journal, .. }
            | Self::Corrupt { journal, .. }
            | Self::Diverged { journal, .. }
            | Self::Wedged { journal, .. }
            | Self::Unavailable { journal, .. }
            | Self::Invalid { journal, .. }
            | Self::Io { journal, .. } => Some(journal),
            Self::Abandoned => None,
        }
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongOffset { journal, at, head } => {
                write!(f, "journal {journal}: an append named offset {at}, and the head is {head}")
            }
            Self::RegisterMismatch { journal, registers } => {
                write!(
                    f,
                    "journal {journal}: the registers are {registers}, which the append's check refuses"
                )
            }
            Self::Unknown { journal, at: Some(at), what } => {
                write!(f, "journal {journal}: it is not known whether the append at {at} committed: {what}")
            }
            Self::Unknown { journal, at: None, what } => {
                write!(f, "journal {journal}: it is not known whether an append committed: {what}")
            }
            Self::NotFound { journal } => write!(f, "journal {journal} does not exist"),
            Self::NotAllowed { journal, what } | Self::Invalid { journal, what } => {
                write!(f, "journal {journal}: {what}")
            }
            Self::Missing { journal, begin, end } => {
                write!(f, "journal {journal}: bytes [{begin}, {end}) are not stored")
            }
            Self::Corrupt { journal, offset, what, expected, actual } => {
                write!(f, "journal {journal}, offset {offset}: {what}: expected {expected}, found {actual}")
            }
            Self::Diverged { journal, offset, what } => {
                write!(f, "journal {journal}, offset {offset}: {what}")
            }
            Self::Wedged { journal, what } => write!(f, "journal {journal} refuses appends: {what}"),
            Self::Unavailable { journal, what } => write!(f, "journal {journal} is not available: {what}"),
            Self::Abandoned => f.write_str("the journal went away while an append was under way"),
            Self::Io { journal, what, .. } => write!(f, "journal {journal}: {what} failed"),
        }
    }
}

impl std::error::Error for JournalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(&**source),
            _ => None,
        }
    }
}

impl From<Abandoned> for JournalError {
    fn from(_: Abandoned) -> Self {
        // Only a journal that was dropped, or whose thread died, leaves an append unresolved.
        Self::Abandoned
    }
}

impl From<JournalError> for Error {
    /// Takes over what happened; where, and with what, has a place of its own in the public error.
    fn from(error: JournalError) -> Self {
        let (kind, journal) = (error.kind(), error.journal().cloned());
        let public = match error {
            JournalError::WrongOffset { at, head, .. } => {
                Self::new(kind, "an append named an offset that is not the head")
                    .at(at)
                    .expected(format_args!("a head of {at}"), format_args!("a head of {head}"))
            }
            JournalError::RegisterMismatch { registers, .. } => {
                Self::new(kind, "the registers refuse this writer's appends")
                    .expected("registers that name this writer", registers)
            }
            JournalError::Unknown { at, what, .. } => {
                let error = Self::new(kind, format!("it is not known whether an append committed: {what}"));
                at.map_or(error.clone(), |at| error.at(at))
            }
            JournalError::NotFound { .. } => Self::new(kind, "there is no such journal"),
            JournalError::NotAllowed { what, .. } | JournalError::Invalid { what, .. } => {
                Self::new(kind, what)
            }
            JournalError::Missing { begin, end, .. } => Self::new(kind, "bytes are not stored")
                .at(begin)
                .expected(format_args!("bytes [{begin}, {end})"), "a hole"),
            JournalError::Corrupt { offset, what, expected, actual, .. } => {
                Self::new(kind, what).at(offset).expected(expected, actual)
            }
            JournalError::Diverged { offset, what, .. } => Self::new(kind, what).at(offset),
            JournalError::Wedged { what, .. } => {
                Self::new(kind, format!("the journal refuses appends: {what}"))
            }
            JournalError::Unavailable { what, .. } => {
                Self::new(kind, format!("the journal is not available: {what}"))
            }
            JournalError::Abandoned => Self::new(kind, "the journal went away while an append was under way"),
            JournalError::Io { what, source, .. } => {
                Self::new(kind, format!("{what} failed")).with_source(SharedIo(source))
            }
        };
        match journal {
            Some(journal) => public.in_log(&journal),
            None => public,
        }
    }
}

/// An I/O error that several clones of one error share.
#[derive(Debug)]
struct SharedIo(Arc<io::Error>);

impl fmt::Display for SharedIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for SharedIo {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    /// One error of each kind, with the values that its public form must carry.
    fn all() -> Vec<(JournalError, Option<&'static str>, Option<&'static str>)> {
        let journal = || JournalName::new("acme/orders").unwrap();
        let at = |offset| Offset::new(offset).unwrap();
        let what = || "what went wrong".to_owned();
        let registers = RegisterSet::from_iter([Register::new(AUTHOR_REGISTER, "0000002a")]);
        let source = Arc::new(io::Error::other("the cause"));
        vec![
            (
                JournalError::WrongOffset { journal: journal(), at: at(77), head: at(99) },
                Some("a head of 77"),
                Some("a head of 99"),
            ),
            (
                JournalError::RegisterMismatch { journal: journal(), registers },
                Some("registers that name this writer"),
                Some("{author=0000002a}"),
            ),
            (JournalError::Unknown { journal: journal(), at: Some(at(77)), what: what() }, None, None),
            (JournalError::Unknown { journal: journal(), at: None, what: what() }, None, None),
            (JournalError::NotFound { journal: journal() }, None, None),
            (JournalError::NotAllowed { journal: journal(), what: what() }, None, None),
            (
                JournalError::Missing { journal: journal(), begin: at(77), end: at(99) },
                Some("bytes [77, 99)"),
                Some("a hole"),
            ),
            (
                JournalError::Corrupt {
                    journal: journal(),
                    offset: at(77),
                    what: what(),
                    expected: "0a0b".into(),
                    actual: "0c0d".into(),
                },
                Some("0a0b"),
                Some("0c0d"),
            ),
            (JournalError::Diverged { journal: journal(), offset: at(77), what: what() }, None, None),
            (JournalError::Wedged { journal: journal(), what: what() }, None, None),
            (JournalError::Unavailable { journal: journal(), what: what() }, None, None),
            (JournalError::Invalid { journal: journal(), what: what() }, None, None),
            (JournalError::Abandoned, None, None),
            (JournalError::Io { journal: journal(), what: what(), source }, None, None),
        ]
    }

    #[test]
    fn a_public_error_says_once_where_it_happened_and_what_was_expected_and_found() {
        for (error, expected, actual) in all() {
            let (private, kind) = (error.to_string(), error.kind());
            let public = Error::from(error.clone());
            let text = public.to_string();
            assert_eq!(public.kind(), kind, "{text}");
            assert_eq!((public.expected_value(), public.actual_value()), (expected, actual), "{text}");
            assert_eq!(public.log(), error.journal(), "{text}");
            assert_eq!(public.offset().is_some(), private.contains("77"), "{text}");
            for part in ["acme/orders", "offset 77", "what went wrong", "0a0b", "0c0d", "0000002a", "99"] {
                let times =
                    usize::from(private.contains(part) || part == "offset 77" && private.contains("77"));
                assert_eq!(text.matches(part).count(), times, "{part} in: {text}");
            }
            assert!(text.ends_with(kind.advice()), "{text}");
            assert_eq!(public.source().map(ToString::to_string), error.source().map(ToString::to_string));
            assert!(!text.contains("the cause"), "{text}");
        }
    }
}
