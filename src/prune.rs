//! Pruning: which stored fragments of a log nobody needs, and their removal.
//!
//! *Invariants.* A fragment is removed only if no stored set of hints names a byte of it, no recovery set would play on
//! over it from its head, and every store that was named could be read whole. Of whatever is removed somebody is told
//! first. Whatever hints name that are published later lies past the head of a stored set, or is named by it.
//!
//! *Does not* find the stores: whoever prunes names all of them, and a shard that is forgotten loses what it needs.

mod needs;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use self::needs::Needs;
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::hint_store::{Candidate, HintStore};
use crate::hints::AsOf;
use crate::ids::{Author, Fnode, JournalName, Offset};
use crate::journal::{AUTHOR_REGISTER, Fragment, Journal, Journals, Stored};

/// Fragments that are removed by one call of the journal.
const REMOVED_AT_ONCE: usize = 64;

/// Says which fragments of a log are needed by whom, and removes the others.
///
/// Recording, publishing, handing off and playing may go on meanwhile: the sets are read before the fragments are listed,
/// and again before anything is removed. A play by a set that is not stored any more may meet missing bytes, and says so;
/// a standby begins anew by fresher hints.
///
/// ```
/// use std::path::Path;
/// use std::sync::Arc;
/// use std::time::Duration;
/// use recoverylog::hint_store::MemoryHints;
/// use recoverylog::journal::{MemoryJournals, random_author};
/// use recoverylog::prune::{Pruner, Source};
/// use recoverylog::vfs::{FileSystem, MemoryFs, OpenMode};
/// use recoverylog::{Deadline, JournalName, Replica};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let soon = Deadline::after(Duration::from_secs(10));
/// let journals = Arc::new(MemoryJournals::new().fragment_bytes(4096));
/// let (hints, log) = (Arc::new(MemoryHints::new()), JournalName::new("acme/orders-007")?);
/// let shard = Replica::new(journals.clone(), log.clone(), hints.clone(), Arc::new(MemoryFs::new()));
/// let primary = shard.standby(Path::new("/here"))?.promote(random_author()?, soon)?;
/// for round in 0..20 {
///     let file = primary.fs().open(Path::new("/here/scratch"), OpenMode::Create)?;
///     file.write_all_at(&[round; 1000], 0)?;
///     primary.fs().remove_file(Path::new("/here/scratch"))?;
/// }
/// primary.close(soon)?;
///
/// let pruner = Pruner::new(journals, log).source(Source::recovery("orders-007", hints));
/// let survey = pruner.survey(soon)?;
/// let removed = pruner.remove(&survey, &mut |verdict| Ok(println!("{verdict}")), soon)?;
/// assert!(removed.bytes > 10_000);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Pruner {
    journals: Arc<dyn Journals>,
    log: JournalName,
    sources: Vec<Source>,
    options: PruneOptions,
}

/// A store of sets by which somebody may read the log.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    store: Arc<dyn HintStore>,
    kind: SourceKind,
}

/// What the sets of a store are kept for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SourceKind {
    /// To recover: what a set names is read, and everything from its head to that of the log.
    Recovery,
    /// To go back to the moment of a set: only what it names is read.
    Snapshots,
}

impl Source {
    /// Names the hints by which a shard recovers: one that records the log, or was forked off it.
    pub fn recovery(name: impl Into<String>, store: Arc<dyn HintStore>) -> Self {
        Self { name: name.into(), store, kind: SourceKind::Recovery }
    }

    /// Names snapshots.
    pub fn snapshots(name: impl Into<String>, store: Arc<dyn HintStore>) -> Self {
        Self { name: name.into(), store, kind: SourceKind::Snapshots }
    }
}

/// What is kept besides what the stored sets need.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct PruneOptions {
    /// Who goes on with the log.
    pub keep: Keep,
    /// Keep the log whole from the newest set on that is as old as this, in nanoseconds since the Unix epoch, or from the
    /// oldest set on where none is: so that every later point can be gone back to.
    pub whole_since: Option<i64>,
}

/// Who may go on with a log after it was pruned. This is a fact about the log: always prune it with the same setting.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Keep {
    /// Primaries of this crate that keep a live map ([`RecorderOptions::live_map`]), as they do by default: they never name
    /// again what a stored set left out, so that gaps are freed.
    ///
    /// [`RecorderOptions::live_map`]: crate::RecorderOptions::live_map
    #[default]
    Exact,
    /// Others too, such as those of the reference, whose next hints reach from the creation of each live file to its last operation:
    /// what lies in between is kept.
    Spans,
}

/// Why a fragment is kept, or is not.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Why {
    /// Nobody needs it.
    Dead,
    /// It is still being written, or holds the head of the log.
    Head,
    /// A set names a byte of it, for this file.
    Named {
        /// The set.
        set: String,
        /// The file.
        fnode: Fnode,
    },
    /// It lies between the first and the last byte that a set names for this file ([`Keep::Spans`]).
    Spanned {
        /// The set.
        set: String,
        /// The file.
        fnode: Fnode,
    },
    /// A set plays on over it from its head.
    PastHead {
        /// The set.
        set: String,
    },
    /// It lies past the set from which on the log is kept whole ([`PruneOptions::whole_since`]).
    KeptWhole {
        /// The set.
        set: String,
    },
}

/// A stored fragment, and why it is kept or not.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Verdict {
    /// The fragment.
    pub fragment: Fragment,
    /// Why it is kept, by the best of the sets that need it, or is not.
    pub why: Why,
}

/// What a stored set needs of the log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SetNeeds {
    /// The source that it is stored in.
    pub source: String,
    /// Where it is stored.
    pub name: String,
    /// What it is kept for.
    pub kind: SourceKind,
    /// The log that was recorded when it was taken: that of the survey, unless the history was forked off it.
    pub log: JournalName,
    /// What it describes; `None` for sets of the reference.
    pub as_of: Option<AsOf>,
    /// Where in its own log the set ends, and a play by it goes on to the head.
    pub reaches: Offset,
    /// Number of files that it names.
    pub files: usize,
    /// Bytes that it takes as JSON, of which a hint store may have a limit.
    pub json_bytes: usize,
    /// Bytes of the surveyed log that a play by this set reads.
    pub needs_bytes: u64,
    /// Bytes of fragments that are kept for this set alone.
    pub pins_bytes: u64,
}

/// A store or a set that cannot be read, or that cannot be played.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Problem {
    /// The source.
    pub source: String,
    /// The set; `None` where it is with the whole source.
    pub set: Option<String>,
    /// What is wrong.
    pub error: Error,
}

/// What is stored of a log, and who needs what of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Survey {
    /// The log.
    pub log: JournalName,
    /// Its head.
    pub head: Offset,
    /// Who owns it, as far as its register says.
    pub author: Option<Author>,
    /// What is stored, by offset.
    pub fragments: Vec<Verdict>,
    /// The sets, best first for each source.
    pub sets: Vec<SetNeeds>,
    /// Why nothing may be removed.
    pub problems: Vec<Problem>,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Removed {
    /// Number of fragments.
    pub fragments: u64,
    /// Bytes of the log in them.
    pub bytes: u64,
    /// Fragments that were dead in the survey, and are needed by a set that was stored since: they stay.
    pub needed_since: u64,
}

impl Pruner {
    /// Prunes `log`, which is one of `journals`; so are the logs that were forked off it.
    pub fn new(journals: Arc<dyn Journals>, log: JournalName) -> Self {
        Self { journals, log, sources: Vec::new(), options: PruneOptions::default() }
    }

    /// Adds a store whose sets are kept playable. Every shard that reads the log needs one.
    #[must_use]
    pub fn source(mut self, source: Source) -> Self {
        self.sources.push(source);
        self
    }

    /// Sets what is kept besides.
    #[must_use]
    pub fn options(mut self, options: PruneOptions) -> Self {
        self.options = options;
        self
    }

    /// Looks at what is stored and who needs it; changes nothing.
    ///
    /// # Errors
    /// What the journal says. What is wrong with a store or a set is among [`Survey::problems`].
    pub fn survey(&self, deadline: Deadline) -> Result<Survey> {
        let journal = self.journals.open(&self.log)?;
        let Look { head, author, fragments, needs, problems, .. } = self.look(&*journal, deadline)?;
        let mut sets: Vec<_> = needs.iter().map(Needs::summary).collect();
        let fragments =
            fragments.into_iter().map(|fragment| judge(fragment, head, &needs, &mut sets)).collect();
        Ok(Survey { log: self.log.clone(), head, author, fragments, sets, problems })
    }

    /// Removes what is dead by `survey`, and still is. `audit` is told of each fragment before it is removed; where it
    /// fails, nothing more is.
    ///
    /// # Errors
    /// The first of the problems of the survey, or of those that came up since: nothing was removed then. What `audit`
    /// and the journal say: what was removed before stays removed.
    pub fn remove(
        &self,
        survey: &Survey,
        audit: &mut dyn FnMut(&Verdict) -> Result<()>,
        deadline: Deadline,
    ) -> Result<Removed> {
        survey.refusal()?;
        let journal = self.journals.open(&self.log)?;
        let now = self.look(&*journal, deadline)?;
        refusal(&self.log, &now.problems)?;
        let mut removed = Removed::default();
        let mut dead = Vec::new();
        for verdict in survey.dead() {
            match judge(verdict.fragment.clone(), now.head, &now.needs, &mut []) {
                still @ Verdict { why: Why::Dead, .. } => dead.push(still),
                _ => removed.needed_since += 1,
            }
        }
        for part in dead.chunks(REMOVED_AT_ONCE) {
            part.iter().try_for_each(&mut *audit)?;
            let fragments: Vec<_> = part.iter().map(|verdict| verdict.fragment.clone()).collect();
            journal.prune(&fragments, deadline)?;
            removed.fragments += fragments.len() as u64;
            removed.bytes += fragments.iter().map(Fragment::content_bytes).sum::<u64>();
        }
        Ok(removed)
    }

    /// Reads every set, then what the log is, then what the sets need of it. In this order everything that a set names is
    /// below the head, and what is past the heads of the sets is kept for their plays.
    fn look(&self, journal: &dyn Journal, deadline: Deadline) -> Result<Look> {
        let read: Vec<_> =
            self.sources.iter().map(|of| (of, of.store.candidates(&self.log, deadline))).collect();
        let head = journal.head(deadline)?;
        let fragments = journal.fragments(deadline)?;
        let author = head.registers.values(AUTHOR_REGISTER).next().and_then(Author::from_register_value);
        let (stored, needs, problems) = (Stored::new(&fragments), Vec::new(), Vec::new());
        let mut look = Look { head: head.offset, author, fragments, stored, needs, problems };
        for (source, candidates) in read {
            match candidates {
                Ok(candidates) => self.ask(source, candidates, &mut look),
                Err(error) => look.problems.push(Problem::new(source, None, error)),
            }
        }
        self.doubt(&mut look);
        if let Some(since) = self.options.whole_since {
            needs::keep_whole(&mut look.needs, &self.log, since);
        }
        Ok(look)
    }

    /// Asks the sets of a source what they need.
    fn ask(&self, source: &Source, candidates: Vec<Candidate>, look: &mut Look) {
        if candidates.is_empty() && source.kind == SourceKind::Recovery {
            let error = Error::new(ErrorKind::Invalid, "there are no hints: the shard reads the whole log")
                .advise("let the shard publish hints first");
            look.problems.push(Problem::new(source, None, error));
        }
        for candidate in candidates {
            let log = (&self.log, look.head, &look.stored);
            let asked = candidate
                .hints
                .and_then(|hints| Needs::of((source, &candidate.name), &hints, log, self.options.keep));
            match asked {
                Ok(needs) => look.needs.push(needs),
                Err(error) => look.problems.push(Problem::new(source, Some(candidate.name), error)),
            }
        }
    }

    /// Doubts that all sources are named, and that the setting is the right one.
    fn doubt(&self, look: &mut Look) {
        let of_log = || look.needs.iter().filter(|set| set.log == self.log);
        if look.problems.is_empty() && !of_log().any(|set| set.kind == SourceKind::Recovery) {
            let error = Error::new(ErrorKind::Invalid, "no hints of a shard that records this log are named")
                .advise("name those of the shard whose log this is, and of all that were forked off it");
            look.problems.push(Problem { source: "the sources".into(), set: None, error });
            return;
        }
        let of_reference = of_log().find(|set| set.as_of.is_none());
        if let Some(set) = of_reference.filter(|_| self.options.keep == Keep::Exact) {
            let error = Error::new(
                ErrorKind::Invalid,
                "the reference wrote this set, and may need what it leaves out",
            )
            .advise("keep the spans of live files");
            look.problems.push(Problem { source: set.source.clone(), set: Some(set.name.clone()), error });
        }
    }
}

/// A log and its sets at one moment.
struct Look {
    head: Offset,
    author: Option<Author>,
    fragments: Vec<Fragment>,
    stored: Stored,
    needs: Vec<Needs>,
    problems: Vec<Problem>,
}

impl Problem {
    fn new(source: &Source, set: Option<String>, error: Error) -> Self {
        Self { source: source.name.clone(), set, error }
    }
}

impl Survey {
    /// Returns the fragments that nobody needs.
    pub fn dead(&self) -> impl Iterator<Item = &Verdict> {
        self.fragments.iter().filter(|verdict| verdict.why == Why::Dead)
    }

    /// Returns the first byte that is stored.
    pub fn first_byte(&self) -> Option<Offset> {
        self.fragments.iter().map(|verdict| verdict.fragment.begin).min()
    }

    /// Returns the number of bytes of the log that are stored; those of overlapping fragments count once.
    pub fn held_bytes(&self) -> u64 {
        self.stored().ranges().iter().map(|(begin, end)| end.bytes_since(*begin)).sum()
    }

    /// Returns the number of bytes in fragments that nobody needs.
    pub fn dead_bytes(&self) -> u64 {
        self.dead().map(|verdict| verdict.fragment.content_bytes()).sum()
    }

    /// Returns where the log begins that is stored without a hole up to its head; its head where nothing is.
    pub fn whole_from(&self) -> Offset {
        let stored = self.stored();
        let last = stored.ranges().last().filter(|(_, end)| *end >= self.head);
        last.map_or(self.head, |(begin, _)| *begin)
    }

    /// Returns the earliest point of the log that can be gone back to: its first byte, or the end of a set.
    pub fn earliest_point(&self) -> Option<Offset> {
        self.point_from(Offset::ZERO)
    }

    /// Returns the earliest point of the log from which on every point can be gone back to.
    pub fn every_point_from(&self) -> Option<Offset> {
        self.point_from(self.whole_from())
    }

    fn point_from(&self, from: Offset) -> Option<Offset> {
        if self.whole_from() == Offset::ZERO {
            return Some(Offset::ZERO);
        }
        let reached = self.sets.iter().filter(|set| set.log == self.log).map(|set| set.reaches);
        reached.filter(|reaches| *reaches >= from).min()
    }

    /// Returns the set by which the log is recovered: the best that can be played.
    pub fn best(&self) -> Option<&SetNeeds> {
        let recovers = |set: &&SetNeeds| set.kind == SourceKind::Recovery && set.log == self.log;
        let newest = |set: &&SetNeeds| set.as_of.map(|as_of| (as_of.seq_no, as_of.offset));
        // Where none says how old it is, the first of its store is the best.
        let best = self.sets.iter().filter(recovers).filter(|set| set.as_of.is_some()).max_by_key(newest);
        best.or_else(|| self.sets.iter().find(recovers))
    }

    /// Says why nothing may be removed.
    ///
    /// # Errors
    /// The first of the problems.
    pub fn refusal(&self) -> Result<()> {
        refusal(&self.log, &self.problems)
    }

    fn stored(&self) -> Stored {
        Stored::new(self.fragments.iter().map(|verdict| &verdict.fragment))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}): {}", self.fragment.begin, self.fragment.end, self.why)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dead => f.write_str("nobody needs it"),
            Self::Head => f.write_str("it holds the head"),
            Self::Named { set, fnode } => write!(f, "{set} names it for file {fnode}"),
            Self::Spanned { set, fnode } => write!(f, "it lies between operations of file {fnode} in {set}"),
            Self::PastHead { set } => write!(f, "{set} plays on over it"),
            Self::KeptWhole { set } => write!(f, "the log is kept whole since {set}"),
        }
    }
}

fn refusal(log: &JournalName, problems: &[Problem]) -> Result<()> {
    let Some(Problem { source, set, error }) = problems.first() else { return Ok(()) };
    let named = set.as_ref().map_or_else(|| source.clone(), |set| format!("{source}: {set}"));
    let refused = Error::new(error.kind(), format!("nothing is pruned, because of {named}")).in_log(log);
    Err(refused.advise(error.advice().to_owned()).with_source(error.clone()))
}

/// Says whether a fragment is needed, and adds it to what the sets pin.
fn judge(fragment: Fragment, head: Offset, needs: &[Needs], sets: &mut [SetNeeds]) -> Verdict {
    let mut needing = needs.iter().enumerate().filter_map(|(index, set)| Some((index, set.why(&fragment)?)));
    let (first, second) = (needing.next(), needing.next());
    let is_head = fragment.sum.is_none() || fragment.end >= head;
    let why = match first {
        _ if is_head => Why::Head,
        None => Why::Dead,
        Some((index, why)) => {
            if let Some(set) = sets.get_mut(index).filter(|_| second.is_none()) {
                set.pins_bytes += fragment.content_bytes();
            }
            why
        }
    };
    Verdict { fragment, why }
}
