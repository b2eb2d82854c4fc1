//! The seam to stored hints: a few hint sets of a shard, the newest of which a player begins with.
//!
//! *Invariants.* Sets of one log are ordered by the point of history that they describe, not by when they
//! arrived: what a paused writer stores late does not win, and is refused. A set that cannot be read does not
//! hide the others.
//!
//! *Does not* decide which candidate can be played: that takes the journal (`replica`).

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod directory;
#[cfg(feature = "etcd")]
pub mod etcd;
pub mod memory;

use std::cmp::Ordering;
use std::fmt;

pub use self::directory::{DirectoryHints, Retention};
#[cfg(feature = "etcd")]
pub use self::etcd::{Etcd, EtcdHints, EtcdOptions};
pub use self::memory::MemoryHints;
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::hints::FsmHints;
use crate::ids::{JournalName, Offset, SeqNo};
#[cfg(feature = "etcd")]
pub use crate::remote::Tls;

/// Hint sets of one shard.
///
/// ```
/// use std::time::Duration;
/// use recoverylog::hint_store::{HintStore, MemoryHints};
/// use recoverylog::{Deadline, FsmHints, JournalName};
///
/// # fn main() -> recoverylog::Result<()> {
/// let soon = Deadline::after(Duration::from_secs(1));
/// let log = JournalName::new("acme/orders").unwrap();
/// let store = MemoryHints::new();
/// store.store(&FsmHints::empty(log.clone()), soon)?;
/// let candidates = store.candidates(&log, soon)?;
/// assert_eq!(candidates[0].hints.as_ref().unwrap().log, Some(log));
/// # Ok(())
/// # }
/// ```
pub trait HintStore: fmt::Debug + Send + Sync {
    /// Returns every stored set, the best candidate for playing `log` first: sets of that log before those of
    /// others, newer before older, and those that cannot be read last.
    ///
    /// # Errors
    /// `Io` or `Unavailable` where nothing can be listed. A set that cannot be read is a candidate with an error; one
    /// that another call removed in the meantime is none.
    fn candidates(&self, log: &JournalName, deadline: Deadline) -> Result<Vec<Candidate>>;

    /// Stores a set durably. Old sets may be removed then, but at least three stay, where three authors have stored: the newest
    /// of all, and one of each of the authors before, or others that are newer.
    ///
    /// # Errors
    /// `Fenced` where a newer set of the same log is stored, by another author; `Invalid` where the caller's own
    /// newer set is, or where the set is larger than [`HintStore::bytes_max`]. Nothing was stored then. `Unavailable`
    /// once `deadline` has passed: the set is stored whole or not at all, and storing it again is safe.
    fn store(&self, hints: &FsmHints, deadline: Deadline) -> Result<()>;

    /// Returns the largest set that this store takes, in bytes of its JSON form ([`FsmHints::json_bytes`]); `None` for
    /// any. It does not change. A primary chooses its hints so that they fit, as long as that can be.
    fn bytes_max(&self) -> Option<usize> {
        None
    }
}

/// A stored hint set.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Candidate {
    /// Where the set is stored, for messages.
    pub name: String,
    /// The set, or why it cannot be read.
    pub hints: Result<FsmHints>,
}

impl Candidate {
    /// Makes a candidate.
    pub fn new(name: impl Into<String>, hints: Result<FsmHints>) -> Self {
        Self { name: name.into(), hints }
    }
}

/// The point of history that a set describes: its place among the sets of one log.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Age(Option<SeqNo>, Offset);

impl Age {
    fn of(hints: &FsmHints) -> Self {
        let segments = hints.files.iter().flat_map(|file| &file.segments);
        let reached = segments.map(|segment| segment.end_offset.unwrap_or(segment.first_offset)).max();
        let offset = hints.as_of.map(|as_of| as_of.offset).or(reached).unwrap_or(Offset::ZERO);
        Self(hints.last_seq_no(), offset)
    }
}

/// Sorts candidates as [`HintStore::candidates`] promises; those that are equally good keep their order.
pub fn sort_candidates(candidates: &mut [Candidate], log: &JournalName) {
    candidates.sort_by(|a, b| match (&a.hints, &b.hints) {
        (Ok(a), Ok(b)) => {
            let is_of_log = |hints: &FsmHints| hints.log.as_ref() == Some(log);
            is_of_log(b).cmp(&is_of_log(a)).then_with(|| Age::of(b).cmp(&Age::of(a)))
        }
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => Ordering::Equal,
    });
}

/// Refuses to store `hints` beside `stored`, as [`HintStore::store`] promises.
///
/// # Errors
/// Where a set in `stored` of the same log is newer: `Fenced`, or `Invalid` where it is of the same author.
pub fn refuse_older<'a>(hints: &FsmHints, stored: impl IntoIterator<Item = &'a FsmHints>) -> Result<()> {
    let of_log = stored.into_iter().filter(|other| other.log == hints.log);
    let Some(newer) =
        of_log.filter(|other| Age::of(other) > Age::of(hints)).max_by_key(|other| Age::of(other))
    else {
        return Ok(());
    };
    let author = |hints: &FsmHints| hints.as_of.and_then(|as_of| as_of.author);
    let kind = if author(hints) == author(newer) { ErrorKind::Invalid } else { ErrorKind::Fenced };
    let seq_no = |hints: &FsmHints| hints.last_seq_no().map_or(0, SeqNo::get);
    let error = Error::new(kind, "newer hints of this log are stored already").expected(
        format_args!("hints past seq-no {}", seq_no(newer)),
        format_args!("hints up to seq-no {}", seq_no(hints)),
    );
    Err(match &hints.log {
        Some(log) => error.in_log(log),
        None => error,
    })
}

/// Writes a set as JSON, or in the other form where JSON cannot keep every byte of it; says which. Readers tell them apart.
fn encode(hints: &FsmHints) -> (Vec<u8>, &'static str) {
    let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
    let all_text = hints
        .properties
        .iter()
        .all(|property| is_text(property.path.as_bytes()) && is_text(&property.content));
    if all_text { (hints.encode_json(), "json") } else { (hints.encode_proto(), "pb") }
}

/// Refuses to store hints of which a store takes at most `bytes_max`, as [`HintStore::store`] promises.
///
/// # Errors
/// `Invalid`, with both sizes, where they are larger.
pub fn refuse_larger(hints: &FsmHints, bytes_max: usize) -> Result<()> {
    let bytes = hints.json_bytes();
    if bytes > bytes_max {
        Err(too_large(hints.log.as_ref(), hints.files.len(), bytes, bytes_max))
    } else {
        Ok(())
    }
}

/// Makes the error of hints that do not fit their store.
pub(crate) fn too_large(log: Option<&JournalName>, files: usize, bytes: usize, bytes_max: usize) -> Error {
    let what = format!("the hints of {files} live files do not fit the hint store");
    let error = Error::new(ErrorKind::Invalid, what)
        .expected(format_args!("at most {bytes_max} bytes of JSON"), format_args!("{bytes} bytes"))
        .advise(
            "keep hints in a store without a limit, such as `DirectoryHints`, or have the engine keep fewer files; \
             meanwhile a recovery reads more and more of the log",
        );
    match log {
        Some(log) => error.in_log(log),
        None => error,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::hints::AsOf;
    use crate::ids::{Author, Checksum};

    pub(crate) fn hints(log: &str, seq_no: i64, author: u32) -> FsmHints {
        FsmHints {
            as_of: Some(AsOf {
                offset: Offset::new(seq_no as u64 * 10).unwrap(),
                seq_no: SeqNo::new(seq_no),
                checksum: Checksum::new(seq_no as u32),
                author: Author::new(author),
                unix_nanos: seq_no,
            }),
            ..FsmHints::empty(JournalName::new(log).unwrap())
        }
    }

    #[test]
    fn what_cannot_be_read_comes_last() {
        let log = JournalName::new("a/log").unwrap();
        let unreadable = Error::new(ErrorKind::Corrupt, "unreadable");
        let mut candidates = [
            Candidate::new("x", Err(unreadable)),
            Candidate::new("old", Ok(hints("a/log", 1, 1))),
            Candidate::new("foreign", Ok(hints("b/log", 9, 1))),
            Candidate::new("new", Ok(hints("a/log", 2, 1))),
        ];
        sort_candidates(&mut candidates, &log);
        assert_eq!(candidates.each_ref().map(|c| c.name.as_str()), ["new", "old", "foreign", "x"]);
    }
}
