//! The bytes of one file, each with the operation that wrote it last.
//!
//! *Invariants.* Extents stand in the order of the file and do not overlap. A byte that was written again belongs to
//! the later operation alone. An extent takes at most 80 bytes of memory, its share of what is reserved included,
//! wherever a file has more than a few.
//!
//! *Does not* know links: whether the file lives at all is its owner's to say.

use std::ops::Range;

/// Extents in one piece of memory: so few that one is found by going from each to the next.
const CHUNK_MAX: usize = 32;
/// The longest part that reserved memory grows by at once, in extents.
const SPARE_MAX: usize = 8;
/// In `Extent::run`: the operation carries a digest.
const HAS_DIGEST: u32 = 1 << 31;
/// In `Extent::run`: it is a part of what its operations wrote.
const IS_CUT: u32 = 1 << 30;

/// Consecutive bytes of a file, and what of a log they were written by: one operation, or, where `payload_at` is 0,
/// a range of operations.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Extent {
    /// Where in the file it begins.
    pub(super) at: u64,
    /// The first operation.
    pub(super) seq_no: i64,
    /// Where in the log that begins.
    pub(super) begin: u64,
    /// Bytes of the file.
    pub(super) len: u32,
    /// Where the first of them lies, from `begin` on; 0 where that is not known.
    pub(super) payload_at: u32,
    /// Bytes of the log, frames and payloads.
    pub(super) bytes: u32,
    /// The last operation, as a distance from the first.
    pub(super) span: u32,
    /// Checksum of the history before the first operation.
    pub(super) before: u32,
    /// Checksum of the history after the last operation.
    pub(super) after: u32,
    digest: u32,
    run: u32,
}

impl Extent {
    /// Makes an extent of one operation; `crc32c` is that of its whole payload.
    pub(super) const fn digested(mut self, crc32c: Option<u32>) -> Self {
        if let Some(crc32c) = crc32c {
            self.digest = crc32c;
            self.run |= HAS_DIGEST;
        }
        self
    }

    /// Makes an extent of operations of a run, in `[begin, begin + bytes)` of the log.
    pub(super) const fn new(at: u64, len: u32, run: u32, seq_no: i64, (begin, bytes): (u64, u32)) -> Self {
        let (payload_at, span, before, after, digest) = (0, 0, 0, 0, 0);
        Self { at, seq_no, begin, len, payload_at, bytes, span, before, after, digest, run }
    }

    pub(super) const fn end(&self) -> u64 {
        self.at.saturating_add(self.len as u64)
    }

    pub(super) const fn run(&self) -> u32 {
        self.run & !(HAS_DIGEST | IS_CUT)
    }

    pub(super) const fn last(&self) -> i64 {
        self.seq_no.saturating_add(self.span as i64)
    }

    pub(super) const fn log_end(&self) -> u64 {
        self.begin.saturating_add(self.bytes as u64)
    }

    /// Returns the CRC-32C of the whole payload of its one operation.
    pub(super) const fn crc32c(&self) -> Option<u32> {
        if self.run & HAS_DIGEST != 0 { Some(self.digest) } else { None }
    }

    /// Returns the CRC-32C of exactly these bytes of the file; `None` where that is not known.
    pub(super) const fn own_crc32c(&self) -> Option<u32> {
        if self.run & IS_CUT == 0 { self.crc32c() } else { None }
    }

    /// Returns what [`Extent::with_flagged`] takes.
    pub(super) const fn flagged(&self) -> (u32, u32) {
        (self.digest, self.run)
    }

    /// Sets the digest, and the run with its flags, to what another extent has.
    pub(super) const fn with_flagged(mut self, digest: u32, run: u32) -> Self {
        (self.digest, self.run) = (digest, run);
        self
    }

    /// Moves what lies at or past `from` in the log by `bytes`.
    pub(super) fn shift(&mut self, from: u64, bytes: u64) {
        if self.begin >= from {
            self.begin = self.begin.saturating_add(bytes);
        } else if self.log_end() > from {
            // Extents are only joined as long as there is room for more foreign bytes than are ever found.
            self.bytes = self.bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
    }

    /// Returns the part before `end` of the file.
    fn until(&self, end: u64) -> Self {
        Self { len: end.saturating_sub(self.at) as u32, run: self.run | IS_CUT, ..self.clone() }
    }

    /// Returns the part from `begin` of the file on.
    fn since(&self, begin: u64) -> Self {
        let cut = begin.saturating_sub(self.at) as u32;
        let payload_at = if self.payload_at == 0 { 0 } else { self.payload_at + cut };
        Self { at: begin, len: self.len - cut, payload_at, run: self.run | IS_CUT, ..self.clone() }
    }

    /// Returns an extent that holds both, which are neighbours in the file and of one run; `None` where it would be too
    /// long.
    pub(super) fn joined(&self, next: &Self) -> Option<Self> {
        let first = if self.seq_no <= next.seq_no { self } else { next };
        let (end, after, last) = if self.last() >= next.last() {
            (self.log_end(), self.after, self.last())
        } else {
            (next.log_end(), next.after, next.last())
        };
        let len = u32::try_from(next.end() - self.at).ok()?;
        let bytes =
            u32::try_from(end.checked_sub(first.begin)?).ok().filter(|bytes| *bytes < u32::MAX / 2)?;
        let span = u32::try_from(last.checked_sub(first.seq_no)?).ok()?;
        let joined = Self::new(self.at, len, self.run(), first.seq_no, (first.begin, bytes));
        Some(Self { span, before: first.before, after, ..joined })
    }
}

/// The extents of one file.
#[derive(Clone, Debug, Default)]
pub(super) struct Extents {
    chunks: Vec<Chunk>,
    len: usize,
}

/// Extents in one piece of memory: at least one.
#[derive(Clone, Debug)]
struct Chunk {
    /// Where in the file the first one begins: most chunks that a search passes by are never looked into.
    at: u64,
    extents: Vec<Extent>,
}

impl Chunk {
    /// Takes the extents of a chunk.
    fn of(extents: Vec<Extent>) -> Self {
        Self { at: first_at(&extents), extents }
    }
}

impl Extents {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Extent> {
        self.chunks.iter().flat_map(|chunk| &chunk.extents)
    }

    pub(super) fn last(&self) -> Option<&Extent> {
        self.chunks.last().and_then(|chunk| chunk.extents.last())
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Extent> {
        self.chunks.iter_mut().flat_map(|chunk| &mut chunk.extents)
    }

    /// Returns those that hold a byte of `[begin, end)` of the file.
    pub(super) fn in_range(&self, range: Range<u64>) -> impl Iterator<Item = &Extent> {
        let (chunk, index) = self.first_past(range.start);
        let rest = self.chunks.get(chunk..).unwrap_or_default();
        rest.iter()
            .flat_map(|chunk| &chunk.extents)
            .skip(index)
            .take_while(move |extent| extent.at < range.end)
    }

    /// Puts `new` in the place of what its bytes were before.
    pub(super) fn write(&mut self, new: Extent) {
        if new.len == 0 {
            return;
        }
        if self.last().is_none_or(|last| last.end() <= new.at) {
            self.append(new);
            return;
        }
        let from = self.first_past(new.at);
        // Most files are overwritten in pages.
        if let Some(same) = self.get_mut(from).filter(|same| same.at == new.at && same.len == new.len) {
            *same = new;
            return;
        }
        let to = self.first_from(new.end());
        let mut parts: [Option<Extent>; 3] = [None, None, None];
        if from < to {
            if let Some(first) = self.get(from).filter(|first| first.at < new.at) {
                parts[0] = Some(first.until(new.at));
            }
            if let Some(last) = self.before(to).filter(|last| last.end() > new.end()) {
                parts[2] = Some(last.since(new.end()));
            }
        }
        parts[1] = Some(new);
        self.replace(from, to, parts);
    }

    /// Joins neighbours in the file until at most `target` extents are left, as far as `may_join` lets it. Those that lie
    /// nearest to each other in the log go first, so that the least is kept alive in vain.
    pub(super) fn merge(&mut self, target: usize, may_join: impl Fn(&Extent, &Extent) -> bool) {
        /// What two extents of which one follows the other in the log would hold beside them: nothing.
        const NEAREST: u64 = 0;
        let mut distance_max = NEAREST;
        while self.len > target {
            let mut merged: Vec<Extent> = Vec::with_capacity(self.len);
            let mut left = self.len;
            for next in self.chunks.drain(..).flat_map(|chunk| chunk.extents) {
                let last = merged.last_mut().filter(|last| {
                    left > target
                        && last.run() == next.run()
                        && distance(last, &next) <= distance_max
                        && may_join(last, &next)
                });
                match last.and_then(|last| Some((last.joined(&next)?, last))) {
                    Some((joined, last)) => {
                        *last = joined;
                        left -= 1;
                    }
                    None => merged.push(next),
                }
            }
            self.len = merged.len();
            self.chunks = merged.chunks(CHUNK_MAX).map(|chunk| Chunk::of(chunk.to_vec())).collect();
            if distance_max == u64::MAX {
                return;
            }
            distance_max = if distance_max == NEAREST { 4096 } else { distance_max.saturating_mul(16) };
        }
    }

    /// Returns the bytes of memory that are held.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        let of = |chunk: &Chunk| chunk.extents.capacity() * size_of::<Extent>();
        self.chunks.capacity() * size_of::<Chunk>() + self.chunks.iter().map(of).sum::<usize>()
    }

    /// Returns the place of the first extent that ends past `at`.
    fn first_past(&self, at: u64) -> (usize, usize) {
        self.first_without(at, |extent| extent.end() <= at)
    }

    /// Returns the place of the first extent that begins at or past `at`.
    fn first_from(&self, at: u64) -> (usize, usize) {
        self.first_without(at, |extent| extent.at < at)
    }

    /// Returns the place of the first extent that is not `before`: that holds for the first ones alone, and for none that
    /// begins past `at`.
    fn first_without(&self, at: u64, before: impl Fn(&Extent) -> bool) -> (usize, usize) {
        let next = self.chunks.partition_point(|chunk| chunk.at <= at);
        let chunk = next.saturating_sub(1);
        let Some(Chunk { at: begin, extents }) = self.chunks.get(chunk) else { return (0, 0) };
        // Pages stand where their number says, so that nothing else is looked at; other extents are near to that, in a
        // chunk that is short.
        let end = self.chunks.get(next).map_or_else(|| extents.last().map_or(0, Extent::end), |next| next.at);
        let passed = at.saturating_sub(*begin).saturating_mul(extents.len() as u64);
        let guess = passed / end.saturating_sub(*begin).max(1);
        let mut index = extents.len().min(guess as usize);
        while extents.get(index).is_some_and(&before) {
            index += 1;
        }
        while let Some(lower) = index.checked_sub(1)
            && extents.get(lower).is_some_and(|extent| !before(extent))
        {
            index = lower;
        }
        if index < extents.len() { (chunk, index) } else { (chunk + 1, 0) }
    }

    fn get(&self, (chunk, index): (usize, usize)) -> Option<&Extent> {
        self.chunks.get(chunk)?.extents.get(index)
    }

    fn get_mut(&mut self, (chunk, index): (usize, usize)) -> Option<&mut Extent> {
        self.chunks.get_mut(chunk)?.extents.get_mut(index)
    }

    /// Returns the extent before a place.
    fn before(&self, (chunk, index): (usize, usize)) -> Option<&Extent> {
        match index.checked_sub(1) {
            Some(index) => self.get((chunk, index)),
            None => self.chunks.get(chunk.checked_sub(1)?)?.extents.last(),
        }
    }

    /// Adds an extent behind the last one.
    fn append(&mut self, new: Extent) {
        self.len += 1;
        let is_first = self.chunks.len() <= 1;
        if let Some(Chunk { extents, .. }) =
            self.chunks.last_mut().filter(|last| last.extents.len() < CHUNK_MAX)
        {
            if extents.len() == extents.capacity() {
                let rest = CHUNK_MAX - extents.len();
                extents.reserve_exact(if is_first { spare(extents.len()) } else { rest });
            }
            extents.push(new);
            return;
        }
        // Most files have one chunk for as long as they live; a vector that grows begins with four.
        if self.chunks.is_empty() {
            self.chunks.reserve_exact(1);
        }
        // A file of many extents gets many more.
        let mut extents = Vec::with_capacity(if self.chunks.is_empty() { 1 } else { CHUNK_MAX / 2 });
        extents.push(new);
        self.chunks.push(Chunk::of(extents));
    }

    /// Puts `parts` in the place of everything from one place to another.
    fn replace(&mut self, from: (usize, usize), to: (usize, usize), parts: [Option<Extent>; 3]) {
        let passed = self.chunks.iter().skip(from.0).take(to.0 - from.0);
        let removed = passed.map(|chunk| chunk.extents.len()).sum::<usize>() + to.1 - from.1;
        let added = parts.iter().flatten().count();
        self.len = self.len + added - removed;
        if from.0 < to.0 {
            if let Some(last) = self.chunks.get_mut(to.0) {
                last.extents.drain(..to.1);
                last.at = first_at(&last.extents);
            }
            self.chunks.drain(from.0 + 1..to.0);
            if self.chunks.get(from.0 + 1).is_some_and(|chunk| chunk.extents.is_empty()) {
                self.chunks.remove(from.0 + 1);
            }
        }
        let Some(Chunk { at, extents }) = self.chunks.get_mut(from.0) else { return };
        let upto = if from.0 < to.0 { extents.len() } else { to.1 };
        if extents.len() + added > extents.capacity() {
            extents.reserve_exact(spare(extents.len()).max(added));
        }
        extents.splice(from.1..upto, parts.into_iter().flatten());
        *at = first_at(extents);
        if extents.len() > CHUNK_MAX {
            let second = extents.split_off(extents.len() / 2);
            extents.shrink_to_fit();
            self.chunks.insert(from.0 + 1, Chunk::of(second));
        }
    }
}

/// Returns where in the file some extents begin.
fn first_at(extents: &[Extent]) -> u64 {
    extents.first().map_or(0, |first| first.at)
}

/// Returns how many bytes of the log lie between two extents of one run.
fn distance(one: &Extent, other: &Extent) -> u64 {
    other.begin.saturating_sub(one.log_end()).max(one.begin.saturating_sub(other.log_end()))
}

/// Returns for how many more extents memory is reserved at once: little, since most files have few.
fn spare(len: usize) -> usize {
    (len / 4).clamp(1, SPARE_MAX)
}
