//! How much is written again in the background, and when.
//!
//! *Invariants.* What is written again is a share of what others recorded, saved up to a bound; it earns nothing itself.
//! One step holds no lock for long, and takes its place among the writers as any other.
//!
//! *Does not* have a thread: whoever owns it calls [`Rewriter::step`] now and then.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use super::Tracker;
use super::rewrite::Outcome;
use crate::error::Result;
use crate::ids::Fnode;
use crate::live::{Chosen, Part, Rules};

/// Bytes that one step writes again, about.
const STEP_BYTES: u64 = 1 << 20;
/// Bytes that are saved up at most, where nothing was worth it.
const SAVED_BYTES_MAX: u64 = 64 << 20;
/// Bytes that one choice stands for, for each extent that it looks at: it takes some nanoseconds.
const BYTES_FOR_EXTENT: u64 = 64;

/// How much is written again in the background, so that the log and a recovery stay small.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RewriteOptions {
    /// Bytes to write again, in percent of those that are recorded otherwise (default 10); 0 for none.
    pub percent: u32,
    /// The part of the log that is freed as one (default 64 MiB, as the fragments of a `FileJournal`). Set it to the
    /// length of the journal's fragments: only a whole one can be deleted.
    pub window_bytes: u64,
}

impl Default for RewriteOptions {
    fn default() -> Self {
        Self { percent: 10, window_bytes: 64 << 20 }
    }
}

/// Writes live bytes again at the head of the log, so that what holds them now can be deleted.
///
/// [`crate::replica::Primary`] has one of its own. Use it where you record without one.
#[derive(Debug)]
pub struct Rewriter {
    options: RewriteOptions,
    /// Bytes that may be written again; less than none where the last step took more.
    credit: i64,
    /// Bytes that were recorded when this was looked at last.
    seen_bytes: u64,
    /// Of these since, those that were written again.
    own_bytes: u64,
    plan: VecDeque<Chosen>,
    /// The next choice is made when so many bytes were recorded.
    choose_at_bytes: u64,
    refused: BTreeSet<Fnode>,
    rewritten_bytes: u64,
}

impl Rewriter {
    /// Begins with nothing saved.
    pub const fn new(options: RewriteOptions) -> Self {
        Self {
            options,
            credit: 0,
            seen_bytes: 0,
            own_bytes: 0,
            plan: VecDeque::new(),
            choose_at_bytes: 0,
            refused: BTreeSet::new(),
            rewritten_bytes: 0,
        }
    }

    /// Returns the bytes of the log that were written again so far.
    pub const fn rewritten_bytes(&self) -> u64 {
        self.rewritten_bytes
    }

    /// Writes again about 1 MiB, where there is credit for it and something is worth it; of a file that is moved whole, up
    /// to 4 MiB. Returns the bytes of the log that this took: 0 where there is nothing to do until more was recorded.
    ///
    /// # Errors
    /// The failure of the recorder. `Io` where a local file cannot be read, and [`Corrupt`] where it holds other bytes than
    /// those that were recorded, as far as these have a checksum of their own: none of what was found is recorded, this
    /// rewriter leaves the file alone from then on, and what else was chosen is left for later.
    ///
    /// [`Corrupt`]: crate::ErrorKind::Corrupt
    pub fn step(&mut self, tracker: &Tracker) -> Result<u64> {
        let mut bytes = 0;
        let outcome = self.try_step(tracker, &mut bytes);
        self.own_bytes += bytes;
        self.rewritten_bytes += bytes;
        self.credit = self.credit.saturating_sub_unsigned(bytes);
        outcome.map(|()| bytes)
    }

    fn try_step(&mut self, tracker: &Tracker, bytes: &mut u64) -> Result<()> {
        let recorder = tracker.recorder();
        recorder.check()?;
        let recorded = recorder.counters().bytes_recorded;
        self.earn(recorded);
        if self.options.percent == 0 || self.credit < self.step_bytes().cast_signed() {
            return Ok(());
        }
        if self.plan.is_empty() {
            self.choose(tracker, recorded);
        }
        while *bytes < self.step_bytes() && !self.plan.is_empty() {
            let outcome = self.next(tracker, bytes);
            if !matches!(outcome, Ok(Outcome::Done | Outcome::Changed | Outcome::Refused)) {
                // What is left is chosen again.
                self.plan.clear();
                return outcome.map(drop);
            }
        }
        Ok(())
    }

    /// Earns a share of what others recorded.
    fn earn(&mut self, recorded: u64) {
        let others = recorded.saturating_sub(self.seen_bytes).saturating_sub(self.own_bytes);
        (self.seen_bytes, self.own_bytes) = (recorded, 0);
        let earned = u128::from(others) * u128::from(self.options.percent) / 100;
        let earned = i64::try_from(earned).unwrap_or(i64::MAX);
        let most = earned.max(SAVED_BYTES_MAX.cast_signed());
        self.credit = self.credit.saturating_add(earned).min(most);
    }

    /// Chooses what to write next.
    fn choose(&mut self, tracker: &Tracker, recorded: u64) {
        if recorded < self.choose_at_bytes {
            return;
        }
        let (window_bytes, step) = (self.options.window_bytes, self.step_bytes());
        let refused = &mut self.refused;
        let chosen = tracker.recorder().with_live_map(|live| {
            refused.retain(|fnode| live.holds(*fnode));
            let budget_bytes = step.max(live.extents() as u64 * BYTES_FOR_EXTENT);
            (live.choose_rewrites(&Rules { window_bytes, budget_bytes, avoid: refused }), budget_bytes)
        });
        let Some((chosen, budget_bytes)) = chosen else { return };
        if chosen.is_empty() {
            self.choose_at_bytes = recorded.saturating_add(budget_bytes);
        }
        self.plan = chosen.into();
    }

    /// Writes the next part of the plan: a file, or ranges of one, a step at most.
    fn next(&mut self, tracker: &Tracker, bytes: &mut u64) -> Result<Outcome> {
        let Some(first) = self.plan.front() else { return Ok(Outcome::Done) };
        let fnode = first.fnode;
        let outcome = if first.part == Part::Whole {
            self.plan.pop_front();
            tracker.rewrite_whole(fnode, bytes)
        } else {
            let pieces = self.next_pieces(tracker, fnode);
            tracker.refresh(fnode, &pieces, bytes)
        };
        if !matches!(outcome, Ok(Outcome::Done | Outcome::Busy | Outcome::Changed)) {
            self.refused.insert(fnode);
        }
        outcome
    }

    /// Takes pieces of a file off the plan; what was overwritten since they were chosen is left out.
    fn next_pieces(&mut self, tracker: &Tracker, fnode: Fnode) -> Vec<Range<u64>> {
        let (step, plan) = (self.step_bytes(), &mut self.plan);
        let pieces = tracker.recorder().with_live_map(|live| {
            let mut pieces: Vec<Range<u64>> = Vec::new();
            let mut gathered = 0;
            while gathered < step
                && let Some(next) = plan.front_mut().filter(|next| next.fnode == fnode)
                && next.part != Part::Whole
            {
                let left = live.take_left(next, step - gathered);
                gathered += left.iter().map(|range| range.end - range.start).sum::<u64>();
                pieces.extend(left);
                if matches!(&next.part, Part::Bytes(rest) if rest.is_empty()) {
                    plan.pop_front();
                }
            }
            pieces
        });
        pieces.unwrap_or_default()
    }

    /// Returns what one step writes, about: far less than a window, so that the next one can be chosen by what this freed.
    fn step_bytes(&self) -> u64 {
        (self.options.window_bytes / 8).clamp(1, STEP_BYTES)
    }
}
