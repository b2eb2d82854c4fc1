//! The content of a file in memory, and what of it is durable.
//!
//! *Invariants.* The durable content, with the pending changes applied in order, is the content. A pending change
//! that a failed sync has doomed covers one sector and never becomes durable unless that sector is written again.
//!
//! *Does not* remember every version of a file that is never synced: past a bound, all pending writes of a page
//! become one.

use std::collections::BTreeSet;
use std::ops::Range;

use super::content::{Content, PAGE, SECTOR};

/// How much more than the content pending changes may take before they are merged.
const PENDING_BYTES_MAX: u64 = 4 << 20;

/// The content of a file.
#[derive(Default)]
pub(super) struct Versions {
    content: Content,
    durable: Content,
    pending: Vec<Change>,
    /// An estimate of the memory that `pending` takes.
    pending_bytes: u64,
}

/// A change of a file that is not synced.
pub(super) enum Change {
    /// Bytes that were written.
    Write {
        /// Where they begin.
        offset: u64,
        /// The bytes.
        bytes: Vec<u8>,
        /// Whether a sync of them has failed.
        doomed: bool,
    },
    /// A new length.
    SetLen(u64),
}

impl Versions {
    /// Returns a content that is all durable.
    pub(super) fn durable_from(content: Content) -> Self {
        Self { durable: content.clone(), content, ..Self::default() }
    }

    pub(super) const fn content(&self) -> &Content {
        &self.content
    }

    pub(super) const fn durable(&self) -> &Content {
        &self.durable
    }

    pub(super) fn pending(&self) -> &[Change] {
        &self.pending
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        self.content.write(bytes, offset);
        self.add(Change::Write { offset, bytes: bytes.to_vec(), doomed: false });
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.content.set_len(len);
        self.add(Change::SetLen(len));
    }

    /// Fills the holes of a range with zeros, extending the file where needed.
    pub(super) fn allocate(&mut self, range: Range<u64>) {
        let extends = range.end > self.content.len();
        self.content.fill_holes(range.clone());
        if extends {
            self.add(Change::SetLen(range.end));
        }
    }

    /// Makes everything durable but what is doomed.
    pub(super) fn sync(&mut self) {
        let pending = self.take_pending();
        let doomed = still_doomed(&pending, self.content.len());
        let doomed_pages = doomed.iter().map(|offset| offset / PAGE).collect::<BTreeSet<_>>();
        for change in &pending {
            match change {
                Change::SetLen(len) => self.durable.set_len(*len),
                Change::Write { offset, bytes, doomed: false } => {
                    for (page, range) in pages_of(*offset, bytes.len()) {
                        if doomed_pages.contains(&page) {
                            self.sync_sectors(range);
                        } else {
                            self.durable.take_pages(&self.content, range);
                        }
                    }
                }
                Change::Write { doomed: true, .. } => {}
            }
        }
        self.durable.set_len(self.content.len());
        for change in pending {
            if matches!(&change, Change::Write { offset, doomed: true, .. } if doomed.contains(offset)) {
                self.add(change);
            }
        }
    }

    /// Makes the sectors that a range touches durable.
    fn sync_sectors(&mut self, range: Range<u64>) {
        let begin = range.start / SECTOR * SECTOR;
        let bytes = self.content.slice(begin..range.end.next_multiple_of(SECTOR));
        self.durable.write(&bytes, begin);
    }

    /// Splits the pending writes into sectors and marks each as never to be durable.
    pub(super) fn doom(&mut self) {
        let mut sectors = BTreeSet::new();
        for change in self.take_pending() {
            match change {
                Change::SetLen(_) => self.add(change),
                Change::Write { offset, bytes, .. } => sectors.extend(sectors_of(offset, bytes.len())),
            }
        }
        let len = self.content.len();
        self.add(Change::SetLen(len));
        for offset in sectors.into_iter().filter(|offset| *offset < len) {
            let bytes = self.content.slice(offset..offset + SECTOR);
            self.add(Change::Write { offset, bytes, doomed: true });
        }
    }

    /// Makes one write of all pending writes of a page.
    fn merge(&mut self) {
        let (mut pages, mut shortest) = (BTreeSet::new(), u64::MAX);
        for change in self.take_pending() {
            match change {
                Change::SetLen(len) => shortest = shortest.min(len),
                Change::Write { offset, bytes, .. } => {
                    pages.extend(pages_of(offset, bytes.len()).map(|(page, _)| page));
                }
            }
        }
        if shortest < self.durable.len() {
            self.add(Change::SetLen(shortest));
        }
        let len = self.content.len();
        for offset in pages.into_iter().map(|page| page * PAGE).filter(|offset| *offset < len) {
            let bytes = self.content.slice(offset..offset + PAGE);
            self.add(Change::Write { offset, bytes, doomed: false });
        }
        self.add(Change::SetLen(len));
    }

    fn take_pending(&mut self) -> Vec<Change> {
        self.pending_bytes = 0;
        std::mem::take(&mut self.pending)
    }

    fn add(&mut self, change: Change) {
        let bytes = if let Change::Write { bytes, .. } = &change { bytes.len() } else { 0 };
        self.pending_bytes += (bytes + size_of::<Change>()) as u64;
        self.pending.push(change);
        let merged_bytes = self.content.page_count() * PAGE;
        if self.pending_bytes > PENDING_BYTES_MAX + 2 * merged_bytes && !self.has_doomed() {
            self.merge();
        }
    }

    fn has_doomed(&self) -> bool {
        self.pending.iter().any(|change| matches!(change, Change::Write { doomed: true, .. }))
    }
}

/// Returns the doomed sectors among `pending` that are not written again, nor cut off.
fn still_doomed(pending: &[Change], len: u64) -> BTreeSet<u64> {
    let mut doomed = BTreeSet::new();
    for change in pending {
        match change {
            Change::Write { offset, doomed: true, .. } => {
                doomed.insert(*offset);
            }
            Change::Write { offset, bytes, doomed: false } if !doomed.is_empty() => {
                for sector in sectors_of(*offset, bytes.len()) {
                    doomed.remove(&sector);
                }
            }
            Change::Write { .. } => {}
            Change::SetLen(len) => drop(doomed.split_off(len)),
        }
    }
    drop(doomed.split_off(&len));
    doomed
}

/// Returns where the sectors begin that a write touches.
fn sectors_of(offset: u64, len: usize) -> impl Iterator<Item = u64> {
    (offset / SECTOR * SECTOR..offset + len as u64).step_by(SECTOR as usize)
}

/// Returns the pages that a write touches, and which part of the write lies in each.
fn pages_of(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<u64>)> {
    let end = offset + len as u64;
    (offset / PAGE..end.div_ceil(PAGE))
        .map(move |page| (page, (page * PAGE).max(offset)..((page + 1) * PAGE).min(end)))
}
