//! Points of a history at which a play ends, and where in the log they are.
//!
//! *Invariants.* Only accepted operations count: what a fenced writer added is no point of the history. A set of hints
//! leads to points that are not before the one that it describes, and to no other. What would be older than what was
//! asked for, because operations in between cannot be read, is an error.
//!
//! *Does not* read payloads, nor apply anything.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::judge::Judge;
use super::plan::hole;
use super::{Counts, Warning, tail};
use crate::error::{Error, ErrorKind};
use crate::fsm::{Fsm, FsmOptions};
use crate::hints::{FsmHints, HintsError};
use crate::ids::{Offset, SeqNo};
use crate::journal::Journal;
use crate::scan::{Found, FoundOp, LogScan, ScanOptions};

/// Where a play is to end: behind one operation of the history.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Bound {
    /// Behind this operation.
    Seq(SeqNo),
    /// Behind the last operation of the log that ends at or before this offset.
    Offset(Offset),
    /// Behind the last mark that is not later, in nanoseconds since the Unix epoch. Operations carry no time; of those
    /// between two marks it is known that they were recorded between the two times. So nothing that was recorded later
    /// is there, and everything is there that was recorded before that mark.
    Time(i64),
    /// Behind the mark of this name: the newest one, where several have it. Where something behind it cannot be read, there
    /// may be a newer one, and it has to be named by its number.
    Mark(Bytes),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seq(seq_no) => write!(f, "seq-no {seq_no}"),
            Self::Offset(offset) => write!(f, "offset {offset}"),
            Self::Time(nanos) => write!(f, "Unix time {}", UnixTime(*nanos)),
            Self::Mark(name) => write!(f, "mark \"{}\"", name.escape_ascii()),
        }
    }
}

/// Shows nanoseconds since the Unix epoch as seconds.
struct UnixTime(i64);

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, nanos) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        write!(f, "{sign}{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
    }
}

/// A point of a history, behind one operation.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Point {
    /// The operation.
    pub seq_no: SeqNo,
    /// Where in the log it ends.
    pub offset: Offset,
    /// The latest time that the history had come to, by its marks and the hints that were begun with, in nanoseconds
    /// since the Unix epoch; `None` where it had none.
    pub unix_nanos: Option<i64>,
    /// The name of the operation, where it is a mark that has one.
    pub name: Option<Bytes>,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seq-no {}, which ends at offset {}", self.seq_no, self.offset)?;
        match self.unix_nanos {
            Some(nanos) => write!(f, ", of Unix time {}", UnixTime(nanos)),
            None => Ok(()),
        }
    }
}

impl Point {
    /// Returns the point that `hints` describe, if they say which one it is.
    pub fn of_hints(hints: &FsmHints) -> Option<Self> {
        let as_of = hints.as_of?;
        let (seq_no, offset) = (as_of.seq_no, as_of.offset);
        Some(Self { seq_no, offset, unix_nanos: Some(as_of.unix_nanos), name: None })
    }
}

/// Why hints do not lead to a point.
#[derive(Debug)]
pub(crate) enum Unreached {
    /// They describe a later one.
    Before(Error),
    /// The log, as far as it was looked through, has no such point behind the one that they describe.
    NotFound(Error),
    /// The log or the hints are at fault.
    Failed(Error),
}

impl From<Unreached> for Error {
    fn from(unreached: Unreached) -> Self {
        match unreached {
            Unreached::Before(error) | Unreached::NotFound(error) | Unreached::Failed(error) => error,
        }
    }
}

impl From<Error> for Unreached {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<HintsError> for Unreached {
    fn from(error: HintsError) -> Self {
        Self::Failed(error.into())
    }
}

/// A point that was found.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) point: Point,
    /// What lies ahead of the history and continues nothing, where everything behind the point was looked at.
    pub(super) unconnected: Option<Warning>,
}

/// Checks that `hints` lead to points at or behind `bound`, as far as that can be told without the log.
///
/// # Errors
/// [`Unreached::Before`]; `Invalid` where they do not say what they describe.
pub(super) fn check(hints: &FsmHints, bound: &Bound) -> Result<(), Unreached> {
    let Some(base) = Point::of_hints(hints) else {
        if hints.files.is_empty() && hints.properties.is_empty() {
            return Ok(());
        }
        // A file that was alive at the bound may have been dead when they were taken, however early they end.
        let what = "hints do not say which point of the history they describe";
        return Err(at_log(Error::new(ErrorKind::Invalid, what), hints)
            .advise("play hints of this crate, or the whole log")
            .into());
    };
    let is_before = match bound {
        Bound::Seq(seq_no) => *seq_no < base.seq_no,
        Bound::Offset(offset) => *offset < base.offset,
        Bound::Time(nanos) => Some(*nanos) < base.unix_nanos,
        Bound::Mark(_) => false,
    };
    if !is_before {
        return Ok(());
    }
    let what = "the point lies before the one that the hints describe";
    Err(Unreached::Before(
        at_log(Error::new(ErrorKind::Invalid, what), hints)
            .expected(format_args!("at earliest {base}"), bound)
            .advise("play older hints or the whole log, or name a later point"),
    ))
}

fn at_log(error: Error, hints: &FsmHints) -> Error {
    match &hints.log {
        Some(log) => error.in_log(log),
        None => error,
    }
}

/// Looks for a point in a log, behind the one that hints describe.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pub(super) journal: &'a Arc<dyn Journal>,
    pub(super) hints: &'a FsmHints,
    pub(super) bound: &'a Bound,
    /// Where to give up; `None` looks as far as the log reaches.
    pub(super) end: Option<Offset>,
    pub(super) step: Duration,
}

/// How a search stands.
struct Sought {
    fsm: Fsm,
    judge: Judge,
    counts: Counts,
    /// The last point that is not past the bound.
    reached: Option<Point>,
    /// Nothing behind this was looked at, or has to be.
    is_final: bool,
    /// Where an operation begins of which not all is there.
    torn: Option<Offset>,
}

impl Search<'_> {
    /// Finds the point, and where it ends.
    pub(super) fn run(&self) -> Result<Reached, Unreached> {
        check(self.hints, self.bound)?;
        let log = self.journal.name();
        let base = Point::of_hints(self.hints);
        let mut options = ScanOptions::default();
        (options.check_payloads, options.step_deadline, options.end) = (false, self.step, self.end);
        options.begin = base.as_ref().map_or(Offset::ZERO, |base| base.offset);
        if let Bound::Offset(offset) = self.bound {
            options.end = Some(self.end.map_or(*offset, |end| end.min(*offset)));
        }
        let scan = LogScan::open(Arc::clone(self.journal), options)?;
        if let Bound::Offset(offset) = self.bound
            && *offset > scan.head()
        {
            let what = "the point lies past the head of the log";
            return Err(Unreached::NotFound(
                Error::new(ErrorKind::Invalid, what)
                    .in_log(log)
                    .expected(format_args!("at most offset {}", scan.head()), self.bound)
                    .advise("name an earlier point"),
            ));
        }
        let mut sought = self.begin(base)?;
        for found in scan {
            if sought.is_final {
                break;
            }
            let taken = found.and_then(|found| self.take(found, &mut sought));
            taken.map_err(|error| self.behind_a_mark(error, sought.reached.as_ref()))?;
        }
        self.end(sought)
    }

    fn begin(&self, base: Option<Point>) -> Result<Sought, Unreached> {
        let options = FsmOptions { without_live_map: true, ..FsmOptions::default() };
        let mut fsm = Fsm::from_hints(&FsmHints::empty(self.journal.name().clone()), options)?;
        let mut judge = Judge::new(base.is_none());
        if let Some(as_of) = &self.hints.as_of {
            fsm.resume_behind(as_of);
            as_of.author.into_iter().for_each(|author| judge.witness(author));
        }
        let reached = match self.bound {
            Bound::Mark(_) => None,
            Bound::Seq(seq_no) => base.filter(|base| base.seq_no == *seq_no),
            Bound::Offset(_) | Bound::Time(_) => base,
        };
        let is_final = matches!(self.bound, Bound::Seq(_)) && reached.is_some();
        Ok(Sought { fsm, judge, counts: Counts::default(), reached, is_final, torn: None })
    }

    /// Takes what the log holds next.
    fn take(&self, found: Found, sought: &mut Sought) -> Result<(), Error> {
        let log = self.journal.name();
        match found {
            Found::Op(found) => {
                if let Some(begin) = sought.torn {
                    // A player takes what follows for the rest of that operation.
                    sought.is_final = true;
                    return tail::check_torn(Arc::clone(self.journal), &sought.fsm, begin, self.step, None);
                }
                self.op(&found, sought)?;
            }
            Found::Undecodable { begin, error, .. } => sought.judge.undecodable(log, begin, error),
            Found::Torn { begin, .. } => drop(sought.torn.get_or_insert(begin)),
            Found::Missing { begin, end } => return Err(hole(log, begin, end)),
            Found::Unreadable { error, .. } => return Err(error),
            Found::Junk { .. } => {}
        }
        Ok(())
    }

    fn op(&self, found: &FoundOp, sought: &mut Sought) -> Result<(), Error> {
        let (log, op) = (self.journal.name(), &found.op);
        if let Err(rejection) = sought.fsm.apply(op, &found.message, found.span(log)) {
            let (fsm, place) = (&sought.fsm, (log, found.begin));
            return sought.judge.rejected(fsm, op, &found.message, rejection, place, &mut sought.counts);
        }
        sought.judge.accepted(&sought.fsm);
        let name = op.mark.as_ref().and_then(|mark| mark.name.clone());
        let (is_reached, is_final) = match self.bound {
            Bound::Seq(seq_no) => (op.seq_no == *seq_no, op.seq_no == *seq_no),
            Bound::Offset(offset) => (found.end <= *offset, found.end >= *offset),
            Bound::Time(nanos) => match &op.mark {
                Some(mark) => (mark.unix_nanos <= *nanos, mark.unix_nanos > *nanos),
                None => (false, false),
            },
            Bound::Mark(sought) => (name.as_ref() == Some(sought), false),
        };
        if is_reached {
            let unix_nanos = sought.fsm.last_mark_nanos();
            sought.reached = Some(Point { seq_no: op.seq_no, offset: found.end, unix_nanos, name });
        }
        sought.is_final = is_final;
        Ok(())
    }

    /// Says what was found.
    fn end(&self, sought: Sought) -> Result<Reached, Unreached> {
        let log = self.journal.name();
        if !sought.is_final {
            let torn = sought.torn.filter(|_| self.end.is_none());
            let checked = torn.map_or(Ok(()), |begin| {
                tail::check_torn(Arc::clone(self.journal), &sought.fsm, begin, self.step, None)
            });
            let checked = checked.and_then(|()| sought.judge.unresolved_damage().map_or(Ok(()), Err));
            checked.map_err(|error| self.behind_a_mark(error, sought.reached.as_ref()))?;
        }
        let unconnected = sought.judge.unconnected().filter(|_| !sought.is_final);
        let unconnected =
            unconnected.map(|(offset, seq_no)| Warning::Unconnected { log: log.clone(), offset, seq_no });
        match sought.reached {
            Some(point) => Ok(Reached { point, unconnected }),
            None => Err(Unreached::NotFound(self.not_found(&sought.fsm))),
        }
    }

    /// Says of what cannot be read behind a mark of the name that it may hold a newer one.
    fn behind_a_mark(&self, error: Error, reached: Option<&Point>) -> Error {
        match reached.filter(|_| matches!(self.bound, Bound::Mark(_))) {
            Some(Point { seq_no, .. }) => error.advise(format!(
                "a newer mark of the name may have been there; the one at seq-no {seq_no} can be restored by its number"
            )),
            None => error,
        }
    }

    fn not_found(&self, fsm: &Fsm) -> Error {
        let log = self.journal.name();
        let last = fsm.next_seq_no().get().saturating_sub(1);
        let (what, expected) = match self.bound {
            Bound::Seq(_) if last > 0 => {
                ("the log's history has no such operation", format!("seq-no 1 to {last}"))
            }
            Bound::Seq(_) | Bound::Offset(_) => {
                ("no operation of the log's history ends there or before", "a point of the history".into())
            }
            Bound::Time(_) => ("no mark of the log is so early", "a time at or after the first mark".into()),
            Bound::Mark(_) => ("no mark of the log has the name", format!("a mark up to seq-no {last}")),
        };
        Error::new(ErrorKind::Invalid, what)
            .in_log(log)
            .expected(expected, self.bound)
            .advise("name another point; `recoverylog log` lists marks and operations")
    }
}
