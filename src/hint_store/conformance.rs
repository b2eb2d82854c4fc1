//! The suite that every hint store runs: what the contract of [`HintStore`] says, as cases that fail loudly.
//!
//! *Invariants.* Every case runs against every store, in a place of its own. The hints that it stores can be played:
//! they flatten.
//!
//! *Does not* test what survives a crash, nor what a store does with sets that somebody damaged.

mod order;
mod shapes;
mod sharing;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Candidate, HintStore};
use crate::clock::Deadline;
pub use crate::conformance::{Failures, Report};
use crate::conformance::{OrFail, Outcome, Tally, fail};
use crate::error::ErrorKind;
use crate::hints::{AsOf, FsmHints};
use crate::ids::{Author, Checksum, JournalName, Offset, SeqNo};

/// A fresh place to run one case in.
pub struct Place {
    store: Arc<dyn HintStore>,
    reopen: Option<Reopen>,
}

type Reopen = Box<dyn Fn() -> Arc<dyn HintStore> + Send + Sync>;

impl Place {
    /// A place that holds no hints.
    pub fn empty(store: Arc<dyn HintStore>) -> Self {
        Self { store, reopen: None }
    }

    /// Adds the way to open a durable place once more, as another process would.
    #[must_use]
    pub fn reopened_by(mut self, reopen: impl Fn() -> Arc<dyn HintStore> + Send + Sync + 'static) -> Self {
        self.reopen = Some(Box::new(reopen));
        self
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("store", &self.store).finish_non_exhaustive()
    }
}

/// Runs every case, each in a place of its own.
///
/// ```
/// use std::sync::Arc;
/// use recoverylog::hint_store::{MemoryHints, conformance};
///
/// let make = || conformance::Place::empty(Arc::new(MemoryHints::new()));
/// let report = conformance::run(&make).unwrap_or_else(|failures| panic!("{failures}"));
/// assert!(report.declined.iter().all(|case| case.contains("opened_again")), "memory is not durable");
/// ```
///
/// # Errors
/// Names every case that does not hold. A case stops at its first claim that does not; the panic says where that is.
pub fn run(make: &dyn Fn() -> Place) -> Result<Report, Failures> {
    let mut tally = Tally::default();
    for (name, case) in [order::CASES, shapes::CASES, sharing::CASES].concat() {
        tally.run(name, || case(&make()));
    }
    tally.finish()
}

type Cases = &'static [(&'static str, fn(&Place) -> Outcome)];

/// Two writers' terms.
const OLD: u32 = 1234;
const NEW: u32 = 1337;

/// Longer than any store takes: a wait that ends here has failed.
fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

fn name(name: &str) -> JournalName {
    JournalName::new(name).or_fail("a journal name")
}

/// The log that a case is about.
fn log() -> JournalName {
    name("conformance/one")
}

/// Hints of `log` as of one point of its history, without files.
fn set(log: &JournalName, seq_no: i64, author: u32) -> FsmHints {
    let as_of = AsOf {
        offset: Offset::new(seq_no.unsigned_abs().saturating_mul(10)).or_fail("an offset"),
        seq_no: SeqNo::new(seq_no),
        checksum: Checksum::new(seq_no as u32),
        author: Author::new(author),
        unix_nanos: seq_no,
    };
    FsmHints { as_of: Some(as_of), ..FsmHints::empty(log.clone()) }
}

fn store(store: &dyn HintStore, hints: &FsmHints) {
    store.store(hints, soon()).or_fail("store");
}

/// Stores what must be refused, with this kind of error.
fn refused(store: &dyn HintStore, hints: &FsmHints, kind: ErrorKind) {
    match store.store(hints, soon()) {
        Ok(()) => fail(format_args!("a set up to {:?} was taken, expected {kind:?}", hints.last_seq_no())),
        Err(error) => assert_eq!(error.kind(), kind, "{error}"),
    }
}

/// Returns the sets that are stored, best first. All can be read, and each says where it is.
fn stored(store: &dyn HintStore, log: &JournalName) -> Vec<FsmHints> {
    let candidates = store.candidates(log, soon()).or_fail("candidates");
    let read = |candidate: Candidate| {
        assert!(!candidate.name.is_empty(), "a candidate says where it is stored");
        candidate.hints.or_fail(&candidate.name)
    };
    candidates.into_iter().map(read).collect()
}

/// Returns log and last sequence number of each stored set.
fn points(store: &dyn HintStore, log: &JournalName) -> Vec<(String, i64)> {
    let of = |hints: FsmHints| {
        let seq_no = hints.last_seq_no().map_or(0, SeqNo::get);
        (hints.log.map_or_else(String::new, |log| log.as_str().to_owned()), seq_no)
    };
    stored(store, log).into_iter().map(of).collect()
}

#[track_caller]
fn assert_points(store: &dyn HintStore, log: &JournalName, expected: &[(&JournalName, i64)]) {
    let expected: Vec<_> = expected.iter().map(|(log, seq_no)| (log.as_str().to_owned(), *seq_no)).collect();
    assert_eq!(points(store, log), expected, "the candidates for {log}, best first");
}
