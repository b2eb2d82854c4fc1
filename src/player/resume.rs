//! Going on with a directory that is there, by the operations that it lacks.
//!
//! *Invariants.* It is gone on from a state only where the log still holds the operation that the state ends with, as it
//! was. Files that were changed since are built again from their own operations, up to that point; then the log is played
//! from there. Where any of that fails for what the log or the directory holds, the directory is played anew.
//!
//! *Does not* read or write the state (`kept`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::kept::{self, Kept};
use super::plan::{Plan, logs_of};
use super::staging::Staging;
use super::{Judge, Play, PlayOptions, Player, Position, Verify, verify};
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fsm::{Fsm, FsmOptions, Unrelated};
use crate::hints::FsmHints;
use crate::ids::{Fnode, JournalName, Offset};
use crate::journal::{Journal, Journals};
use crate::live::{HintBudget, LastOp, LiveMap};
use crate::scan::{Found, LogScan, ScanOptions};
use crate::vfs::{FileSystem, resolve_named};

/// What a play found in the directory, and went on from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Resumed {
    /// The point of the history that the directory was at.
    pub position: Position,
    /// Files that were taken over as they were.
    pub kept_files: usize,
    /// Files that were built again up to that point, because they may have been changed since.
    pub rebuilt_files: usize,
}

/// How a play deals with what is in the directory.
#[derive(Debug)]
pub(super) enum Start {
    /// Nothing may be there, and no state is kept.
    Plain,
    /// It begins anew.
    Anew {
        kept: Option<Box<Kept>>,
        /// Why it does, where the directory was whole once.
        why: Option<Error>,
    },
    /// It goes on from a state.
    From(Box<Resumption>),
}

/// A state that can be gone on from.
#[derive(Debug)]
pub(super) struct Resumption {
    kept: Box<Kept>,
    /// The state, without what is dead by the hints.
    fsm: Fsm,
    last: LastOp,
    pub(super) plan: Plan,
    journals: BTreeMap<JournalName, Arc<dyn Journal>>,
}

impl Start {
    /// Looks what `target` holds, and whether the play by `hints` can go on from there.
    ///
    /// # Errors
    /// What the file system and the journals say.
    pub(super) fn of(
        journals: &dyn Journals,
        hints: &FsmHints,
        (fs, target): (&dyn FileSystem, &Path),
        options: &PlayOptions,
    ) -> Result<Self> {
        if !options.resume {
            return Ok(Self::Plain);
        }
        if options.fsm.without_live_map {
            return Err(kept::without_live_map());
        }
        let Some(mut kept) = kept::look(fs, target)? else {
            return Ok(Self::Anew { kept: None, why: None });
        };
        let Some(mut fsm) = kept.fsm.take() else {
            let why = kept.unfit.clone();
            return Ok(Self::Anew { kept: Some(Box::new(kept)), why });
        };
        fsm.set_options(options.fsm);
        let last = fsm.live_map().and_then(LiveMap::last_op);
        let Some(last) = last else {
            // Nothing was recorded by then.
            return Ok(Self::Anew { kept: Some(Box::new(kept)), why: None });
        };
        let kept = Box::new(kept);
        match resumption(journals, hints, (*fsm, &last), options.step_deadline) {
            Ok((fsm, plan, journals)) => {
                Ok(Self::From(Box::new(Resumption { kept, fsm, last, plan, journals })))
            }
            Err(error) if is_of_content(&error) => Ok(Self::Anew { kept: Some(kept), why: Some(error) }),
            Err(error) => Err(error),
        }
    }
}

/// Tells whether a play anew may come to an end where one that went on did not.
pub(super) fn is_of_content(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DataLoss | ErrorKind::Corrupt | ErrorKind::Diverged | ErrorKind::InvalidHints
    )
}

type Opened = BTreeMap<JournalName, Arc<dyn Journal>>;

fn resumption(
    journals: &dyn Journals,
    hints: &FsmHints,
    (mut fsm, last): (Fsm, &LastOp),
    step: Duration,
) -> Result<(Fsm, Plan, Opened)> {
    let log = fsm.last_log().clone();
    let diverged = |what: &'static str| Error::new(ErrorKind::Diverged, what).in_log(&log).at(last.end);
    fsm.go_on_by(hints, last.end).map_err(|unrelated| match unrelated {
        Unrelated::Hints(error) => error.into(),
        Unrelated::OtherLog => diverged("the directory is at a point of another log"),
        Unrelated::UnknownFile(fnode) => {
            diverged("the hints name a file that the directory's history has not")
                .expected(fnode, "no such file")
        }
    })?;
    let (mut opened, mut heads) = (Opened::new(), BTreeMap::new());
    for log in logs_of(&fsm) {
        let journal = journals.open(&log)?;
        heads.insert(log.clone(), journal.head(Deadline::after(step))?.offset);
        opened.insert(log, journal);
    }
    let journal = opened.get(&log).ok_or_else(|| diverged("the directory is at a point of another log"))?;
    let head = heads.get(&log).copied().unwrap_or(Offset::ZERO);
    if last.end > head {
        let what = "the log ends before the point that the directory is at";
        return Err(Error::new(ErrorKind::DataLoss, what)
            .in_log(&log)
            .at(head)
            .expected(format_args!("a head of at least {}", last.end), head));
    }
    check_last(journal, last, step)?;
    let plan = Plan::new(&fsm, &heads, last.end)?;
    plan.check_stored(&opened, step)?;
    // Operations of earlier logs may be needed for what has to be built again.
    for log in fsm.live_map().into_iter().flat_map(LiveMap::logs) {
        if !opened.contains_key(log)
            && let Ok(journal) = journals.open(log)
        {
            opened.insert(log.clone(), journal);
        }
    }
    Ok((fsm, plan, opened))
}

/// Checks that the log holds `last`, where and as it was.
fn check_last(journal: &Arc<dyn Journal>, last: &LastOp, step: Duration) -> Result<()> {
    let mut options = ScanOptions::default();
    (options.begin, options.end) = (last.begin, Some(last.end));
    (options.check_payloads, options.step_deadline) = (false, step);
    let found = LogScan::open(Arc::clone(journal), options)?.next().transpose()?;
    let at_last = |error: Error| error.in_log(&last.log).at(last.begin).seq(last.seq_no);
    let actual = match found {
        Some(Found::Op(found)) => {
            let op = &found.op;
            let after = op.checksum.extend(&found.message);
            let place = (found.begin, found.end, op.seq_no);
            let is_last = place == (last.begin, last.end, last.seq_no)
                && (op.author, op.checksum, after) == (Some(last.author), last.before, last.after);
            if is_last {
                return Ok(());
            }
            format!("seq-no {} after checksum {}", op.seq_no, op.checksum)
        }
        Some(Found::Unreadable { error, .. }) => return Err(error),
        Some(Found::Missing { .. }) => {
            let what = "the operation that the directory's state ends with is not stored any more";
            return Err(at_last(Error::new(ErrorKind::DataLoss, what)));
        }
        _ => "none".into(),
    };
    let what = "the log does not hold the operation that the directory's state ends with";
    Err(at_last(Error::new(ErrorKind::Diverged, what))
        .expected(format_args!("seq-no {} after checksum {}", last.seq_no, last.before), actual))
}

impl Play {
    /// Takes the directory over, and goes on where it is.
    pub(super) fn resume(player: &Player, resumption: Resumption) -> Result<Self> {
        let Resumption { kept, fsm, last, plan, journals } = resumption;
        if player.options.verify == Verify::Full {
            verify::check_fragments(&plan, &journals, &player.options)?;
        }
        let fs = Arc::clone(&player.fs);
        let (mut staging, missing) = Staging::adopt(fs, &player.target, (&kept, &fsm), player.options.sync)?;
        let resumed = Resumed {
            position: Position {
                offset: last.end,
                next_seq_no: last.seq_no.next(),
                next_checksum: last.after,
            },
            kept_files: fsm.live_files() - missing.len(),
            rebuilt_files: missing.len(),
        };
        let begun = rebuild(player, &mut staging, (&fsm, &last), &journals, &missing);
        if let Err(error) = begun {
            staging.abandon();
            return Err(error);
        }
        let mut judge = Judge::new(false);
        if plan.ranges.first().is_some_and(|range| range.log == last.log && range.begin == last.end) {
            judge.witness(last.author);
        }
        let mut play = Self::of_parts(player.options.clone(), (fsm, plan, journals), staging, judge)?;
        play.stop = Arc::clone(&player.stop);
        play.resumed = Some(resumed);
        Ok(play)
    }
}

/// Builds files again, as they were after `last`, and puts them into their place.
fn rebuild(
    player: &Player,
    staging: &mut Staging,
    (fsm, last): (&Fsm, &LastOp),
    journals: &Opened,
    missing: &BTreeSet<Fnode>,
) -> Result<()> {
    let Some(mut live) = fsm.live_map().filter(|_| !missing.is_empty()).cloned() else { return Ok(()) };
    live.keep_only(missing);
    let budget = HintBudget::default();
    let hints = live.hints(&last.log, Vec::new(), 0, (&budget, None)).unwrap_or_default();
    let fsm = FsmOptions::default();
    let options = PlayOptions { progress: None, resume: false, fsm, ..player.options.clone() };
    let fsm = Fsm::from_hints(&hints, options.fsm)?;
    let mut heads = BTreeMap::new();
    for log in logs_of(&fsm) {
        if let Some(journal) = journals.get(&log) {
            heads.insert(log, journal.head(Deadline::after(options.step_deadline))?.offset);
        }
    }
    let mut plan = Plan::new(&fsm, &heads, Offset::ZERO)?;
    plan.end_at(last.end);
    plan.check_stored(journals, options.step_deadline)?;
    if options.verify == Verify::Full {
        verify::check_fragments(&plan, journals, &options)?;
    }
    let target = resolve_named(&*player.fs, &player.target);
    let target = target.join(crate::ids::RESERVED).join("again");
    let inner = Staging::begin(Arc::clone(&player.fs), &target, crate::journal::random_author()?)?;
    let judge = Judge::new(fsm.hinted_segment().is_none());
    let mut play = Play::of_parts(options, (fsm, plan, journals.clone()), inner, judge)?;
    play.stop = Arc::clone(&player.stop);
    let built = play.build_into(staging, last);
    play.abandon();
    built
}

impl Play {
    /// Plays to `last`, and puts the files into `staging`.
    fn build_into(&mut self, staging: &mut Staging, last: &LastOp) -> Result<()> {
        self.backfill()?;
        self.writers.drain()?;
        self.judge_payloads()?;
        let next = self.fsm.next_seq_no();
        if (next, self.fsm.next_checksum()) != (last.seq_no.next(), last.after) {
            let what = "the log does not lead to the point that the directory is at";
            return Err(Error::new(ErrorKind::Diverged, what)
                .in_log(&last.log)
                .at(last.end)
                .expected(last.seq_no.next(), next));
        }
        for (fnode, node) in self.fsm.nodes() {
            let Some(first) = node.links().first() else { continue };
            staging.put(fnode, node.links(), &self.staging.staged(first)?)?;
            self.staging.give(fnode);
        }
        Ok(())
    }
}
