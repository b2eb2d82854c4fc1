//! Which live bytes to write again at the head, so that what lies around them in the log can be deleted.
//!
//! The log is looked at in windows of equal length. To free a window, everything alive in it is written again: what that
//! costs is compared with the length of the window, and the window with the most freed for each byte written, weighed by
//! its age, goes first: the cost-benefit rule of log-structured file systems (Rosenblum and Ousterhout, "The Design and
//! Implementation of a Log-Structured File System", 1991). Where files are overwritten at random, that is the oldest.
//!
//! An operation is counted where it begins: windows are meant to be far longer.
//!
//! *Invariants.* A window of which more than half would have to be written again is left alone, so that what is alive
//! and stays so is not copied again and again; so is one that stays needed whatever is written, and the one at the head.
//! Nothing is chosen while the log that is needed is at most half as long again as what is alive in it. One choice
//! looks at each extent twice. What is taken to be written is cut where extents end, as far as they are short enough,
//! so that each can be compared with its digest.
//!
//! *Does not* read or write anything, or know whether a file can be rewritten: its caller does, and names those that
//! cannot.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::extents::Extent;
use super::{LiveFile, LiveMap, offset};
use crate::ids::{Fnode, JournalName, Offset};

/// The largest file that can be written again as another one: that moves its creation and its links too.
pub(crate) const WHOLE_BYTES_MAX: u64 = 4 << 20;
/// The longest extent that is written again as one piece: what a recorder writes by one operation.
pub(crate) const EXTENT_BYTES_MAX: u64 = 1 << 20;
/// The longest piece of several extents.
pub(crate) const PIECE_BYTES_MAX: u64 = 256 << 10;
/// What an operation takes besides its bytes, about.
const FRAME_BYTES: u64 = 64;

/// How a choice is made.
#[derive(Debug)]
pub(crate) struct Rules<'a> {
    /// Bytes of the log that are looked at as one.
    pub(crate) window_bytes: u64,
    /// Bytes to write again, at least where there are so many.
    pub(crate) budget_bytes: u64,
    /// Files that cannot be rewritten.
    pub(crate) avoid: &'a BTreeSet<Fnode>,
}

/// Something to write again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Chosen {
    pub(crate) fnode: Fnode,
    pub(crate) part: Part,
    /// The operation that was the last one: what a later one wrote need not be written again.
    pub(super) upto: i64,
}

/// What of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    /// All of it, as a new file.
    Whole,
    /// Bytes, in the place where they are.
    Bytes(Range<u64>),
}

/// What a log holds of some bytes of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Held {
    /// The bytes of the file.
    pub(crate) range: Range<u64>,
    /// CRC-32C of exactly these bytes; `None` where it is not known.
    pub(crate) crc32c: Option<u32>,
    /// The log that holds them.
    pub(crate) log: JournalName,
    /// Where in the log the operation begins.
    pub(crate) at: Offset,
}

/// A part of a log: the number of the log in the order of history, and how many windows lie before it.
type Window = (u32, u64);

/// What it takes to free a window; `None` where nothing can.
type Cost = Option<u64>;

/// What a window is worth.
struct Survey {
    /// Of each window that holds something alive.
    costs: BTreeMap<Window, Cost>,
    alive_bytes: u64,
    head: Window,
}

impl LiveMap {
    /// Chooses what to write again, the best first.
    pub(crate) fn choose_rewrites(&self, rules: &Rules<'_>) -> Vec<Chosen> {
        let Some(last) = self.last else { return Vec::new() };
        let windows = Windows { bytes: rules.window_bytes.max(1), logs: self.log_numbers() };
        let survey = self.survey(rules, &windows);
        let ranks = survey.choose(rules);
        if ranks.is_empty() {
            return Vec::new();
        }
        let mut chosen: Vec<(usize, Chosen)> = Vec::new();
        for (fnode, file) in self.files.iter().filter(|(fnode, _)| !rules.avoid.contains(fnode)) {
            let rank = |run, begin| ranks.get(&windows.of(run, begin)).copied();
            let as_chosen = |part| Chosen { fnode: *fnode, part, upto: last.seq_no };
            if let Some(first) = file.kept.iter().filter_map(|kept| rank(kept.run, kept.begin)).min() {
                chosen.push((first, as_chosen(Part::Whole)));
                continue;
            }
            for extent in file.extents.iter() {
                let Some(rank) = rank(extent.run(), extent.begin) else { continue };
                match chosen.last_mut() {
                    Some((of, Chosen { fnode: before, part: Part::Bytes(range), .. }))
                        if *of == rank && before == fnode && range.end == extent.at =>
                    {
                        range.end = extent.end();
                    }
                    _ => chosen.push((rank, as_chosen(Part::Bytes(extent.at..extent.end())))),
                }
            }
        }
        // Of one window in the order of files, in which they are read.
        chosen.sort_by_key(|(rank, _)| *rank);
        chosen.into_iter().map(|(_, chosen)| chosen).collect()
    }

    /// Takes pieces off what was chosen, about `bytes` of them, without what was overwritten since. An extent is cut
    /// where it is too long for one piece, and nowhere else.
    pub(crate) fn take_left(&self, chosen: &mut Chosen, bytes: u64) -> Vec<Range<u64>> {
        let (mut pieces, mut taken): (Vec<Range<u64>>, u64) = (Vec::new(), 0);
        let Part::Bytes(rest) = &mut chosen.part else { return pieces };
        let extents = self.files.get(&chosen.fnode).map(|file| file.extents.in_range(rest.clone()));
        let range = rest.clone();
        for extent in extents.into_iter().flatten().filter(|extent| extent.seq_no <= chosen.upto) {
            let mut begin = extent.at.max(range.start);
            let end = extent.end().min(range.end);
            while begin < end {
                if taken >= bytes {
                    rest.start = begin;
                    return pieces;
                }
                let upto = end.min(begin.saturating_add(EXTENT_BYTES_MAX));
                match pieces.last_mut() {
                    Some(last) if last.end == begin && upto - last.start <= PIECE_BYTES_MAX => {
                        last.end = upto;
                    }
                    _ => pieces.push(begin..upto),
                }
                taken += upto - begin;
                begin = upto;
            }
        }
        rest.start = rest.end;
        pieces
    }

    /// Returns what the log holds of a range of a file, in the order of the file.
    pub(crate) fn held(&self, fnode: Fnode, range: Range<u64>) -> impl Iterator<Item = Held> {
        let extents = self.files.get(&fnode).map(|file| file.extents.in_range(range.clone()));
        extents.into_iter().flatten().filter_map(move |extent| {
            let part = extent.at.max(range.start)..extent.end().min(range.end);
            let is_whole = part == (extent.at..extent.end());
            let log = self.runs.get(extent.run() as usize)?.log.clone();
            let crc32c = extent.own_crc32c().filter(|_| is_whole);
            Some(Held { range: part, crc32c, log, at: offset(extent.begin) })
        })
    }

    /// Tells whether a file is alive.
    pub(crate) fn holds(&self, fnode: Fnode) -> bool {
        self.files.contains_key(&fnode)
    }

    /// Finds out what it takes to free each window.
    fn survey(&self, rules: &Rules<'_>, windows: &Windows) -> Survey {
        let head = self.last.map_or((0, 0), |last| windows.of(last.run, last.end));
        let mut survey = Survey { costs: BTreeMap::new(), alive_bytes: 0, head };
        for kept in self.properties.values() {
            survey.pin(windows.of(kept.run, kept.begin));
        }
        for (fnode, file) in &self.files {
            let len = file.len();
            let avoided = rules.avoid.contains(fnode);
            let whole = (len <= WHOLE_BYTES_MAX && !avoided)
                .then(|| len.saturating_add(FRAME_BYTES * (2 + file.kept.len() as u64)));
            let mut of_names = BTreeSet::new();
            for kept in &file.kept {
                survey.alive_bytes += kept.end.saturating_sub(kept.begin);
                let window = windows.of(kept.run, kept.begin);
                match whole {
                    Some(cost) if of_names.insert(window) => survey.add(window, cost),
                    Some(_) => {}
                    None => survey.pin(window),
                }
            }
            for extent in file.extents.iter() {
                let cost = u64::from(extent.len) + FRAME_BYTES;
                survey.alive_bytes += cost;
                let window = windows.of(extent.run(), extent.begin);
                survey.reach(window, windows.of(extent.run(), extent.log_end().saturating_sub(1)));
                if avoided {
                    survey.pin(window);
                } else if !of_names.contains(&window) || whole.is_none() {
                    survey.add(window, cost);
                }
            }
        }
        survey
    }

    /// Returns, for each run, the number of its log.
    fn log_numbers(&self) -> Vec<u32> {
        let mut seen: Vec<&JournalName> = Vec::new();
        let number = |log| {
            if seen.last() != Some(&log) {
                seen.push(log);
            }
            seen.len() as u32 - 1
        };
        self.runs.iter().map(|run| &run.log).map(number).collect()
    }
}

/// How logs are cut into windows.
struct Windows {
    bytes: u64,
    /// For each run, the number of its log.
    logs: Vec<u32>,
}

impl Windows {
    fn of(&self, run: u32, offset: u64) -> Window {
        (self.logs.get(run as usize).copied().unwrap_or(0), offset / self.bytes)
    }
}

impl Survey {
    fn add(&mut self, window: Window, cost: u64) {
        if let Some(sum) = self.costs.entry(window).or_insert(Some(0)) {
            *sum = sum.saturating_add(cost);
        }
    }

    /// Notes that an operation that begins in a window reaches into the ones behind it.
    fn reach(&mut self, (log, first): Window, (_, last): Window) {
        for window in first.saturating_add(1)..=last {
            self.add((log, window), 0);
        }
    }

    fn pin(&mut self, window: Window) {
        self.costs.insert(window, None);
    }

    /// Chooses windows until the budget is spent; returns the rank of each.
    fn choose(&self, rules: &Rules<'_>) -> BTreeMap<Window, usize> {
        let window_bytes = rules.window_bytes.max(1);
        let needed_bytes = (self.costs.len() as u64).saturating_mul(window_bytes);
        if needed_bytes / 3 <= self.alive_bytes / 2 {
            return BTreeMap::new();
        }
        let mut ranked: Vec<(Reverse<u128>, Window, u64)> = Vec::new();
        for (&window, cost) in self.costs.range(..self.head) {
            let Some(cost) = cost.filter(|cost| (1..=window_bytes / 2).contains(cost)) else { continue };
            // What lies in another log is older than all of this one.
            let age = if window.0 == self.head.0 { self.head.1 - window.1 } else { self.head.1 + 1 };
            let benefit = u128::from(window_bytes - cost) * u128::from(age.saturating_mul(window_bytes));
            ranked.push((Reverse(benefit / u128::from(cost)), window, cost));
        }
        ranked.sort_unstable();
        let mut spent = 0_u64;
        let within = ranked.into_iter().take_while(|(_, _, cost)| {
            let is_within = spent < rules.budget_bytes;
            spent = spent.saturating_add(*cost);
            is_within
        });
        within.enumerate().map(|(rank, (_, window, _))| (window, rank)).collect()
    }
}

impl LiveFile {
    /// Returns the length of the file, as far as it was written.
    fn len(&self) -> u64 {
        self.extents.last().map_or(0, Extent::end)
    }
}
