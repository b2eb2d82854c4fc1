//! Liveness by file range: which operations of a history still contribute to a live file.
//!
//! *Invariants.* Every creation, link and unlink of a live file is alive, and every write that is the last one of some
//! byte of it. What is not alive changes nothing: a player that leaves it out builds the same tree. Hints that are
//! chosen here keep the rules under which the reference's player builds that tree too, and never cover again what an
//! earlier set left out, since that may have been deleted.
//!
//! *Does not* judge operations (`fsm`); is told of those that were accepted.

mod choose;
mod extents;
mod rewrite;
mod saved;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

pub use self::choose::HintBudget;
use self::choose::{Groups, Piece, Zone, open_since, that_matter};
use self::extents::{Extent, Extents};
pub(crate) use self::rewrite::{
    Chosen, EXTENT_BYTES_MAX, Held, PIECE_BYTES_MAX, Part, Rules, WHOLE_BYTES_MAX,
};
pub(crate) use self::saved::SavedLive;
use crate::hints::{AsOf, FsmHints, HintedFile, Property};
use crate::ids::{Author, Checksum, Fnode, JournalName, LogPath, Offset, SeqNo};
use crate::planted::{Bug, planted};
use crate::segment::Segment;

/// Extents of one file past which neighbours are joined: 20 MB of memory.
pub(crate) const EXTENTS_MAX: usize = 1 << 18;
/// Zones that are kept without a look at whether they matter.
const ZONES_MIN: usize = 4096;

/// An accepted operation, as far as liveness is concerned.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) seq_no: SeqNo,
    /// Where its frame begins.
    pub(crate) begin: Offset,
    /// Where its payload ends.
    pub(crate) end: Offset,
    pub(crate) before: Checksum,
    pub(crate) after: Checksum,
    pub(crate) what: What,
}

/// What an accepted operation did.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// Nothing that lives on.
    Nothing,
    /// It created the file of its own number.
    Created,
    Linked(Fnode),
    Unlinked {
        fnode: Fnode,
        last: bool,
    },
    Written {
        fnode: Fnode,
        at: u64,
        len: u64,
        crc32c: Option<u32>,
    },
    /// It set a property. A reader of the reference lets it set what later hints have, so that the last one is read too.
    PropertySet(LogPath),
    /// It created, linked or unlinked a file that is dead by the hints.
    StrayCreated,
    StrayLinked(Fnode),
    StrayUnlinked(Fnode),
}

/// Which operations are alive.
#[derive(Clone, Debug)]
pub struct LiveMap {
    runs: Vec<Run>,
    files: BTreeMap<Fnode, LiveFile>,
    /// The operation that set each property last.
    properties: BTreeMap<LogPath, Kept>,
    /// Dead files by the hints whose creation was read, and their links.
    strays: BTreeMap<Fnode, u32>,
    zones: Vec<Zone>,
    zones_max: usize,
    /// Operations that an earlier set of hints left out, one in each gap.
    cuts: Vec<i64>,
    /// The operation that was accepted last.
    last: Option<Kept>,
    extents_max: usize,
}

/// Accepted operations of one author in one log, between which nothing was left out.
#[derive(Clone, Debug)]
struct Run {
    author: Author,
    log: JournalName,
}

/// An operation that is alive as long as its file.
#[derive(Clone, Copy, Debug)]
struct Kept {
    seq_no: i64,
    begin: u64,
    end: u64,
    before: u32,
    after: u32,
    run: u32,
}

#[derive(Clone, Debug, Default)]
struct LiveFile {
    /// Its creation, links and unlinks, and writes that are too long for an extent.
    kept: Vec<Kept>,
    extents: Extents,
    /// Extents past which it is tried to join some, where it was in vain before.
    join_past: usize,
}

/// Where bytes of a live file lie in a log.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Located {
    /// The bytes of the file.
    pub file_range: Range<u64>,
    /// The log that holds them.
    pub log: JournalName,
    /// The operation that wrote them, or the operations among which those are that did.
    pub ops: Range<Offset>,
    /// Where in the log the first of the bytes lies; `None` where `ops` are several.
    pub payload: Option<Offset>,
    /// CRC-32C of the operation's whole payload, where it was recorded with one.
    pub crc32c: Option<u32>,
}

/// The operation that was accepted last, and where it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct LastOp {
    pub(crate) author: Author,
    pub(crate) log: JournalName,
    pub(crate) seq_no: SeqNo,
    pub(crate) begin: Offset,
    pub(crate) end: Offset,
    pub(crate) before: Checksum,
    pub(crate) after: Checksum,
}

impl Default for LiveMap {
    fn default() -> Self {
        Self {
            runs: Vec::new(),
            files: BTreeMap::new(),
            properties: BTreeMap::new(),
            strays: BTreeMap::new(),
            zones: Vec::new(),
            zones_max: ZONES_MIN,
            cuts: Vec::new(),
            last: None,
            extents_max: EXTENTS_MAX,
        }
    }
}

impl LiveMap {
    /// Returns where the bytes `range` of a live file lie, in the order of the file. Bytes that were never written are in
    /// none of the parts, unless parts were joined; one that only begins or ends in the range is returned whole.
    pub fn locate(&self, fnode: Fnode, range: Range<u64>) -> impl Iterator<Item = Located> {
        let file = self.files.get(&fnode);
        file.into_iter().flat_map(move |file| file.extents.in_range(range.clone())).filter_map(|extent| {
            let run = self.runs.get(extent.run() as usize)?;
            let payload = (extent.payload_at > 0).then(|| extent.begin + u64::from(extent.payload_at));
            Some(Located {
                file_range: extent.at..extent.end(),
                log: run.log.clone(),
                ops: offset(extent.begin)..offset(extent.log_end()),
                payload: payload.map(offset),
                crc32c: extent.crc32c(),
            })
        })
    }

    /// Bounds the extents of one file.
    pub(crate) fn bound_extents(&mut self, extents_max: usize) {
        self.extents_max = extents_max;
    }

    /// Returns the number of live files.
    pub(crate) fn live_files(&self) -> usize {
        self.files.len()
    }

    /// Returns the number of extents that are held in memory.
    pub fn extents(&self) -> usize {
        self.files.values().map(|file| file.extents.len()).sum()
    }

    /// Returns the operation that was accepted last.
    pub(crate) fn last_op(&self) -> Option<LastOp> {
        let last = self.last?;
        let run = self.runs.get(last.run as usize)?;
        Some(LastOp {
            author: run.author,
            log: run.log.clone(),
            seq_no: SeqNo::new(last.seq_no),
            begin: offset(last.begin),
            end: offset(last.end),
            before: Checksum::new(last.before),
            after: Checksum::new(last.after),
        })
    }

    /// Returns the logs of the history, each as often as another one came before it.
    pub(crate) fn logs(&self) -> impl Iterator<Item = &JournalName> {
        self.runs.iter().map(|run| &run.log)
    }

    /// Forgets every file but `fnodes`, and the properties: hints of what is left lead to these files.
    pub(crate) fn keep_only(&mut self, fnodes: &BTreeSet<Fnode>) {
        self.files.retain(|fnode, _| fnodes.contains(fnode));
        self.properties.clear();
        self.cuts.clear();
    }

    /// Takes the file `fnode`, which has `links` links, for dead: it ended with an operation that is not going to be read.
    pub(crate) fn lose(&mut self, fnode: Fnode, links: u32) {
        if self.files.remove(&fnode).is_some() {
            self.strays.insert(fnode, links);
        }
    }

    /// Takes an accepted operation of `author` in `log`.
    pub(crate) fn take(&mut self, log: &JournalName, author: Author, change: &Change) {
        let kept = self.kept(log, author, change);
        self.last = Some(kept);
        match change.what {
            What::Nothing => {}
            What::PropertySet(ref path) => drop(self.properties.insert(path.clone(), kept)),
            What::Created => {
                // Most files keep one name for as long as they live.
                let mut file = LiveFile { kept: Vec::with_capacity(1), ..LiveFile::default() };
                file.kept.push(kept);
                self.files.insert(Fnode::new(change.seq_no), file);
            }
            What::Linked(fnode) | What::Unlinked { fnode, last: false } => {
                if let Some(file) = self.files.get_mut(&fnode) {
                    file.kept.push(kept);
                }
            }
            What::Unlinked { fnode, last: true } => {
                self.files.remove(&fnode);
                self.bury(fnode, kept.seq_no);
            }
            What::Written { fnode, at, len, crc32c } => self.written(kept, fnode, (at, len), crc32c),
            What::StrayCreated => drop(self.strays.insert(Fnode::new(change.seq_no), 1)),
            What::StrayLinked(fnode) => {
                self.strays.entry(fnode).and_modify(|links| *links += 1);
            }
            What::StrayUnlinked(fnode) => {
                if let Some(links) = self.strays.get_mut(&fnode) {
                    *links = links.saturating_sub(1);
                    if *links == 0 {
                        self.strays.remove(&fnode);
                        self.bury(fnode, kept.seq_no);
                    }
                }
            }
        }
    }

    /// Moves every position of `log` at or past `from` by `bytes`.
    pub(crate) fn shift(&mut self, log: &JournalName, from: Offset, bytes: u64) {
        let from = from.get();
        let moves = |run: u32, runs: &[Run]| runs.get(run as usize).is_some_and(|run| run.log == *log);
        let kept =
            self.files.values_mut().flat_map(|file| &mut file.kept).chain(self.properties.values_mut());
        for kept in kept.chain(&mut self.last).filter(|kept| kept.begin >= from) {
            if moves(kept.run, &self.runs) {
                (kept.begin, kept.end) = (kept.begin.saturating_add(bytes), kept.end.saturating_add(bytes));
            }
        }
        for extent in self.files.values_mut().flat_map(|file| file.extents.iter_mut()) {
            if moves(extent.run(), &self.runs) {
                extent.shift(from, bytes);
            }
        }
    }

    /// Covers nothing again that `stored`, hints of the same history, leaves out. Extents that were joined before that
    /// over what it leaves out are not parted.
    pub(crate) fn leave_out(&mut self, stored: &FsmHints) {
        let Ok(flat) = stored.flatten() else { return };
        let segments = flat.segments.as_slice();
        let head = stored.as_of.map(|as_of| as_of.seq_no.get());
        let ends = segments.iter().skip(1).map(|next| next.first_seq_no.get());
        let gaps = segments.iter().zip(ends.chain(head.map(|head| head.saturating_add(1))));
        for (segment, next) in gaps {
            let left_out = segment.last_seq_no.get().saturating_add(1);
            if left_out < next {
                self.cuts.push(left_out);
            }
        }
        self.cuts.sort_unstable();
        self.cuts.dedup();
    }

    /// Chooses hints that lead a player to the operation accepted last, as of `unix_nanos`; `log` is the log that is
    /// recorded now. What they leave out, later ones leave out too. Within a bound, further segments take at most a fifth of
    /// it, and half of the bytes that are left for them, as far as that can be: what is left out now parts segments for a
    /// long time, in which there may come to be more files.
    ///
    /// # Errors
    /// The bytes of JSON that hints would take, where even the fewest segments are more than `bytes_max`; nothing is left
    /// out by that.
    pub(crate) fn hints(
        &mut self,
        log: &JournalName,
        properties: Vec<Property>,
        unix_nanos: i64,
        (budget, bytes_max): (&HintBudget, Option<usize>),
    ) -> Result<FsmHints, usize> {
        let as_of = self.last.and_then(|last| {
            Some(AsOf {
                offset: offset(last.end),
                seq_no: SeqNo::new(last.seq_no),
                checksum: Checksum::new(last.after),
                author: Some(self.runs.get(last.run as usize)?.author),
                unix_nanos,
            })
        });
        let pieces = self.pieces();
        let zones = self.sorted_zones();
        let open_since = open_since(&pieces, &zones);
        let zones = that_matter(&open_since, &zones);
        let costs: Vec<usize> =
            self.runs.iter().map(|run| choose::segment_json_bytes(&run.log, log)).collect();
        let mut hints = FsmHints { log: Some(log.clone()), files: Vec::new(), properties, as_of };
        let (mut budget, mut is_last) = (*budget, false);
        let groups = loop {
            let chosen = Groups::new(&pieces, &open_since, &costs).choose(&budget, &self.cuts);
            let groups = chosen.ranges();
            hints.files = self.hinted(&pieces, &groups, log);
            let Some(bytes_max) = bytes_max else { break groups };
            let (bytes, extra_bytes) = (hints.json_bytes(), chosen.extra_bytes());
            let room = bytes_max.saturating_sub(bytes.saturating_sub(extra_bytes));
            let extra_max = (room / 2).min(bytes_max / 5);
            if bytes <= bytes_max && (is_last || extra_bytes <= extra_max) {
                break groups;
            }
            if budget.extra_bytes == 0 {
                return Err(bytes);
            }
            budget.extra_bytes = if is_last { 0 } else { budget.extra_bytes.min(extra_max) };
            is_last = true;
        };
        // What has not ended is among the strays, until its end is read.
        self.zones = zones.into_iter().filter(|zone| zone.end < i64::MAX).collect();
        self.zones_max = ZONES_MIN.max(2 * self.zones.len());
        let head = self.last.map_or(0, |last| last.seq_no);
        let ends = groups.iter().filter_map(|group| Some(pieces.get(group.end - 1)?.last));
        // Behind the head nothing was left out.
        self.cuts = ends.filter(|last| *last < head).map(|last| last + 1).collect();
        Ok(hints)
    }

    /// Writes groups of pieces as the segments of the live files.
    fn hinted(&self, pieces: &[Piece], groups: &[Range<usize>], log: &JournalName) -> Vec<HintedFile> {
        let mut files: Vec<HintedFile> = Vec::with_capacity(self.files.len());
        files.extend(self.files.keys().map(|&fnode| HintedFile { fnode, segments: Vec::new() }));
        for group in groups {
            self.write_group(pieces.get(group.clone()).unwrap_or_default(), log, &mut files);
        }
        files
    }

    /// Writes a group of pieces as one segment, and one more for each file that is created within.
    fn write_group(&self, group: &[Piece], log: &JournalName, files: &mut [HintedFile]) {
        let mut first = 0;
        let ends = group.iter().enumerate().skip(1).filter(|(_, piece)| piece.is_create);
        for end in ends.map(|(index, _)| index).chain([group.len()]) {
            // Up to the creation and with it, so that nothing between two segments of a group is left out.
            let last = end.min(group.len() - 1);
            if let (Some(begin), Some(last)) = (group.get(first), group.get(last))
                && let Some(run) = self.runs.get(begin.run as usize)
                && let Some(file) = files.get_mut(begin.file as usize)
            {
                // Most files have one segment; a vector that grows begins with four.
                if file.segments.is_empty() {
                    file.segments.reserve_exact(1);
                }
                file.segments.push(Segment {
                    author: run.author,
                    first_seq_no: SeqNo::new(begin.seq_no),
                    first_offset: offset(begin.begin),
                    first_checksum: Checksum::new(begin.before),
                    last_seq_no: SeqNo::new(last.last),
                    end_offset: Some(offset(last.end)),
                    end_checksum: Some(Checksum::new(last.after)),
                    log: (run.log != *log).then(|| run.log.clone()),
                });
            }
            first = end;
        }
    }

    /// Returns everything that is alive in the order of history, and the operation accepted last as its anchor.
    fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(self.files.len() * 2 + 1);
        for (index, (fnode, live)) in (0..).zip(&self.files) {
            pieces.extend(live.kept.iter().map(|kept| kept.piece(index, kept.seq_no == fnode.get())));
            pieces.extend(live.extents.iter().map(|extent| of_extent(extent, index)));
        }
        // Before the creation of the first live file nothing is named: there the hints have the last word.
        pieces.extend(self.properties.values().filter_map(|kept| {
            let file = self.files.range(..Fnode::new(SeqNo::new(kept.seq_no))).count().checked_sub(1)?;
            Some(kept.piece(file as u32, false))
        }));
        if let (Some(last), false) = (self.last, self.files.is_empty() || planted(Bug::NoAnchor)) {
            pieces.push(last.piece(self.files.len() as u32 - 1, false));
        }
        // Of two pieces of one operation the first stays: the one of the creation, where there is one.
        // Most of them are in order already, which a stable sort finds.
        pieces.sort_by_key(|piece| (piece.seq_no, piece.last, !piece.is_create));
        pieces.dedup_by_key(|piece| (piece.seq_no, piece.last));
        // Extents that were joined may hold other pieces: from each on they reach to their end.
        let mut reached: Option<Piece> = None;
        for piece in &mut pieces {
            if let Some(before) = reached.filter(|before| before.run == piece.run && before.last > piece.last)
            {
                (piece.last, piece.end, piece.after) = (before.last, before.end, before.after);
            }
            reached = Some(*piece);
        }
        pieces
    }

    fn sorted_zones(&self) -> Vec<Zone> {
        let mut zones = self.zones.clone();
        // What is not known to have ended has not.
        zones.extend(self.strays.keys().map(|fnode| Zone { create: fnode.get(), end: i64::MAX }));
        zones.sort_unstable_by_key(|zone| zone.create);
        zones
    }

    fn written(&mut self, kept: Kept, fnode: Fnode, (at, len): (u64, u64), crc32c: Option<u32>) {
        let Some(file) = self.files.get_mut(&fnode) else { return };
        let bytes = kept.end.saturating_sub(kept.begin);
        let (Ok(len32), Ok(bytes32)) = (u32::try_from(len), u32::try_from(bytes)) else {
            // Larger than any write of ours: it is kept for as long as the file lives, and so is what it wrote over.
            file.kept.push(kept);
            return;
        };
        let mut extent =
            Extent::new(at, len32, kept.run, kept.seq_no, (kept.begin, bytes32)).digested(crc32c);
        (extent.before, extent.after) = (kept.before, kept.after);
        extent.payload_at = bytes32.saturating_sub(len32);
        file.extents.write(extent);
        if file.extents.len() > self.extents_max.max(file.join_past) {
            self.join_extents(fnode);
        }
    }

    /// Joins extents of a file that has too many.
    fn join_extents(&mut self, fnode: Fnode) {
        // A file that was created between two extents would be taken for a live one by a reader of the reference, where
        // its end lies elsewhere: in a gap, or in the term of another author.
        let dead = self.zones.iter().map(|zone| zone.create);
        let strays = self.strays.keys().chain(self.files.keys()).map(|fnode| fnode.get());
        let mut apart: Vec<i64> = dead.chain(strays).chain(self.cuts.iter().copied()).collect();
        apart.sort_unstable();
        let may_join = |one: &Extent, other: &Extent| {
            let (first, second) = if one.seq_no < other.seq_no { (one, other) } else { (other, one) };
            !choose::holds_any(&apart, first.last(), second.seq_no)
        };
        let target = self.extents_max / 4 * 3;
        if let Some(file) = self.files.get_mut(&fnode) {
            file.extents.merge(target, may_join);
            // Where little could be joined, it is not tried again with every write.
            file.join_past = file.extents.len().saturating_mul(3) / 2;
        }
    }

    /// Notes that a file ended with an operation.
    fn bury(&mut self, fnode: Fnode, end: i64) {
        self.zones.push(Zone { create: fnode.get(), end });
        if self.zones.len() > self.zones_max {
            self.zones.sort_unstable_by_key(|zone| zone.create);
            self.zones = that_matter(&open_since(&self.pieces(), &self.zones), &self.zones);
            self.zones_max = ZONES_MIN.max(2 * self.zones.len());
        }
    }

    /// Returns what is kept of a change, of the present run or of a new one.
    fn kept(&mut self, log: &JournalName, author: Author, change: &Change) -> Kept {
        let continues = self.last.is_some_and(|last| last.seq_no.checked_add(1) == Some(change.seq_no.get()));
        if !continues || self.runs.last().is_none_or(|run| run.author != author || run.log != *log) {
            self.runs.push(Run { author, log: log.clone() });
        }
        Kept {
            seq_no: change.seq_no.get(),
            begin: change.begin.get(),
            end: change.end.get(),
            before: change.before.get(),
            after: change.after.get(),
            run: (self.runs.len() - 1) as u32,
        }
    }
}

impl Kept {
    const fn piece(&self, file: u32, is_create: bool) -> Piece {
        let Self { seq_no, begin, end, before, after, run } = *self;
        Piece { seq_no, last: seq_no, begin, end, before, after, run, file, is_create }
    }
}

const fn of_extent(extent: &Extent, file: u32) -> Piece {
    Piece {
        seq_no: extent.seq_no,
        last: extent.last(),
        begin: extent.begin,
        end: extent.log_end(),
        before: extent.before,
        after: extent.after,
        run: extent.run(),
        file,
        is_create: false,
    }
}

/// Returns a position that was one before.
fn offset(value: u64) -> Offset {
    Offset::new(value).unwrap_or(Offset::MAX)
}
