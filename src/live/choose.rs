//! Which operations hints name beside those that matter, so that they are few segments and little is read in vain.
//!
//! *Invariants.* Every piece is in a group, and a group is a range of one run. Nothing that an earlier set left out is
//! covered again, and behind the creation of the newest live file no group holds the creation of a dead file without
//! its end: a reader of the reference would take that file for a live one.
//!
//! *Does not* know files, or how hints are written.

use std::ops::Range;

use crate::ids::JournalName;

/// How hints trade their own size against what their reader reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HintBudget {
    /// Bytes of the JSON form for segments beyond one for each live file (default 256 KiB): what these take, about. Where
    /// the hint store has a limit, a primary takes at most a fifth of that, and at most half of what the files leave of it.
    pub extra_bytes: usize,
    /// A gap of so many bytes takes as long to read as to step over (default 64 KiB).
    pub seek_bytes: u64,
}

impl Default for HintBudget {
    fn default() -> Self {
        Self { extra_bytes: 256 << 10, seek_bytes: 64 << 10 }
    }
}

/// What one segment takes in the JSON form of hints, about.
const SEGMENT_JSON_BYTES: usize = 200;
/// What it takes besides, where it lies in another log, and the name of that.
const LOG_JSON_BYTES: usize = 9;

/// Returns what one segment takes in the JSON form of hints of `log`, about, where it lies in `own`.
pub(super) fn segment_json_bytes(own: &JournalName, log: &JournalName) -> usize {
    SEGMENT_JSON_BYTES + if own == log { 0 } else { LOG_JSON_BYTES + own.as_str().len() }
}

/// Operations that have to be read, next to each other in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Piece {
    pub(super) seq_no: i64,
    pub(super) last: i64,
    pub(super) begin: u64,
    pub(super) end: u64,
    pub(super) before: u32,
    pub(super) after: u32,
    pub(super) run: u32,
    /// Place of the file among the live ones.
    pub(super) file: u32,
    /// It is the creation of that file.
    pub(super) is_create: bool,
}

/// A dead file, from its creation to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Zone {
    pub(super) create: i64,
    pub(super) end: i64,
}

/// Pieces in the order of history, joined to groups.
pub(super) struct Groups<'a> {
    pieces: &'a [Piece],
    /// For each piece, the last creation up to its end of a file that lived on behind that.
    open_since: &'a [i64],
    /// Joined with the one before.
    joined: Vec<bool>,
    /// Of the first piece of each group its last one, and of the last one its first.
    other_end: Vec<usize>,
    /// The creation of the newest live file.
    newest: i64,
    /// For each run, what a segment of it takes.
    costs: &'a [usize],
    /// What groups take that do not begin with the creation of a live file: each is a segment of its own.
    extra_bytes: usize,
}

impl<'a> Groups<'a> {
    /// Begins with each piece a group; `open_since` is what [`open_since`] returns for them, and `costs` what a segment of each run takes in the form of hints.
    pub(super) fn new(pieces: &'a [Piece], open_since: &'a [i64], costs: &'a [usize]) -> Self {
        let newest = pieces.iter().rev().find(|piece| piece.is_create).map_or(0, |piece| piece.seq_no);
        let mut groups = Self {
            pieces,
            open_since,
            joined: vec![false; pieces.len()],
            other_end: (0..pieces.len()).collect(),
            newest,
            costs,
            extra_bytes: 0,
        };
        groups.extra_bytes = (0..pieces.len()).map(|index| groups.cost(index)).sum();
        for (index, pair) in pieces.windows(2).enumerate() {
            if let [one, next] = pair
                && one.run == next.run
                && one.last.saturating_add(1) >= next.seq_no
            {
                groups.join(index);
            }
        }
        groups
    }

    /// Joins groups until the rest is worth its segments. `cuts` are operations that an earlier set left out, in order.
    pub(super) fn choose(mut self, budget: &HintBudget, cuts: &[i64]) -> Self {
        let extra_max = budget.extra_bytes;
        let mut gaps: Vec<(u64, usize)> = self
            .pieces
            .windows(2)
            .enumerate()
            .filter_map(|(index, pair)| {
                let [one, next] = pair else { return None };
                let open = !self.is_joined(index + 1)
                    && one.run == next.run
                    && !holds_any(cuts, one.last, next.seq_no);
                open.then(|| (next.begin.saturating_sub(one.end), index))
            })
            .collect();
        // Most of them are in order already, which a stable sort finds.
        gaps.sort_by_key(|(bytes, _)| *bytes);
        // A gap that could not be bridged can be once the group behind it has grown, to the right alone.
        let mut tried: Vec<Option<u64>> = vec![None; self.pieces.len()];
        for (bytes, index) in gaps {
            if let Some(tried) = tried.get_mut(index) {
                *tried = Some(bytes);
            }
            let mut next = Some(index);
            while let Some(index) = next.take()
                && let Some(bytes) = tried.get(index).copied().flatten()
            {
                let saves = self.pieces.get(index + 1).is_some_and(|next| !next.is_create);
                let is_wanted = bytes <= budget.seek_bytes || (saves && self.extra_bytes > extra_max);
                if is_wanted && !self.is_joined(index + 1) && self.may_join(index) {
                    next = self.other_end(index).checked_sub(1);
                    self.join(index);
                }
            }
        }
        self.join_to_head(extra_max, cuts);
        self
    }

    /// Returns what segments beyond one for each live file take in the form of hints, about.
    pub(super) const fn extra_bytes(&self) -> usize {
        self.extra_bytes
    }

    /// Where the budget is not met yet, covers everything from some piece on: no dead file reaches past the last one.
    fn join_to_head(&mut self, extra_max: usize, cuts: &[i64]) {
        for index in (0..self.pieces.len().saturating_sub(1)).rev() {
            if self.extra_bytes <= extra_max {
                return;
            }
            let (Some(one), Some(next)) = (self.pieces.get(index), self.pieces.get(index + 1)) else {
                return;
            };
            if one.run != next.run || holds_any(cuts, one.last, next.seq_no) {
                return;
            }
            self.join(index);
        }
    }

    /// Tells whether a group from piece `first` to piece `last` holds no creation without the end of its file.
    fn is_closed(&self, first: usize, last: usize) -> bool {
        let since = self.open_since.get(last).copied().unwrap_or(0);
        since <= self.newest || self.pieces.get(first).is_some_and(|piece| since < piece.seq_no)
    }

    fn is_joined(&self, index: usize) -> bool {
        self.joined.get(index).copied().unwrap_or(true)
    }

    fn may_join(&self, index: usize) -> bool {
        self.is_closed(self.other_end(index), self.other_end(index + 1))
    }

    /// Returns the first piece of the group that ends with a piece, or the last one of that which begins with it.
    fn other_end(&self, index: usize) -> usize {
        self.other_end.get(index).copied().unwrap_or(index)
    }

    /// Joins the group that ends with a piece with the one behind it.
    fn join(&mut self, index: usize) {
        let Some(joined) = self.joined.get_mut(index + 1).filter(|joined| !**joined) else { return };
        *joined = true;
        let (first, last) = (self.other_end(index), self.other_end(index + 1));
        if let Some(end) = self.other_end.get_mut(first) {
            *end = last;
        }
        if let Some(end) = self.other_end.get_mut(last) {
            *end = first;
        }
        self.extra_bytes -= self.cost(index + 1);
    }

    /// Returns what a group that begins with a piece takes beyond the segment of each live file.
    fn cost(&self, index: usize) -> usize {
        let piece = self.pieces.get(index).filter(|piece| !piece.is_create);
        piece.and_then(|piece| self.costs.get(piece.run as usize)).copied().unwrap_or(0)
    }

    /// Returns the groups, in order.
    pub(super) fn ranges(&self) -> Vec<Range<usize>> {
        let mut ranges = Vec::new();
        let mut first = 0;
        while first < self.pieces.len() {
            let last = self.other_end(first);
            ranges.push(first..last + 1);
            first = last + 1;
        }
        ranges
    }
}

/// Tells whether one of `sorted` lies between two operations.
pub(super) fn holds_any(sorted: &[i64], after: i64, before: i64) -> bool {
    sorted.get(sorted.partition_point(|seq_no| *seq_no <= after)).is_some_and(|seq_no| *seq_no < before)
}

/// Returns, for each piece, the last creation up to its end of a dead file that lived on behind that; 0 for none.
pub(super) fn open_since(pieces: &[Piece], zones: &[Zone]) -> Vec<i64> {
    let mut open: Vec<Zone> = Vec::new();
    let mut zones = zones.iter().copied().peekable();
    let of = |piece: &Piece| {
        while let Some(zone) = zones.next_if(|zone| zone.create <= piece.last) {
            open.push(zone);
        }
        while open.pop_if(|zone| zone.end <= piece.last).is_some() {}
        open.last().map_or(0, |zone| zone.create)
    };
    pieces.iter().map(of).collect()
}

/// Returns the zones that matter to some piece: of those that are open at its end, the last. `open_since` is what
/// [`open_since`] returns for the pieces.
#[expect(clippy::stable_sort_primitive, reason = "it finds what is in order already")]
pub(super) fn that_matter(open_since: &[i64], zones: &[Zone]) -> Vec<Zone> {
    let mut creates = open_since.to_vec();
    creates.dedup();
    creates.sort();
    zones.iter().filter(|zone| creates.binary_search(&zone.create).is_ok()).copied().collect()
}
