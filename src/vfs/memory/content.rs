//! The bytes of a file in memory, in pages, with holes.
//!
//! *Invariants.* No page lies wholly at or past the length, and the bytes of the last page past the length are
//! zero. Clones share pages until one of them is written.
//!
//! *Does not* limit the length; a hole costs nothing.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Bytes in a page.
pub(super) const PAGE: u64 = 4096;

/// Bytes that a disk writes whole or not at all.
pub(super) const SECTOR: u64 = 512;

type Page = [u8; PAGE as usize];

/// The bytes of a file.
#[derive(Clone, Default)]
pub(super) struct Content {
    len: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

impl Content {
    /// Returns the length in bytes.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Returns the number of pages that are not holes.
    pub(super) fn page_count(&self) -> u64 {
        self.pages.len() as u64
    }

    /// Tells whether the page at `index` is a hole.
    pub(super) fn is_hole(&self, index: u64) -> bool {
        !self.pages.contains_key(&index)
    }

    /// Reads at `offset` and returns the number of bytes, fewer than asked at the end only.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let count = self.len.saturating_sub(offset).min(buffer.len() as u64) as usize;
        for piece in pieces(offset, count) {
            let Some(target) = buffer.get_mut(piece.in_buffer.clone()) else { continue };
            match self.pages.get(&piece.page).and_then(|page| page.get(piece.in_page.clone())) {
                Some(source) => target.copy_from_slice(source),
                None => target.fill(0),
            }
        }
        count
    }

    /// Returns the bytes of a range, cut at the end of the file.
    pub(super) fn slice(&self, range: Range<u64>) -> Vec<u8> {
        let count = range.end.min(self.len).saturating_sub(range.start);
        let mut bytes = vec![0; count as usize];
        self.read(&mut bytes, range.start);
        bytes
    }

    /// Writes at `offset`, extending the file where needed.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        for piece in pieces(offset, bytes.len()) {
            let page = self.pages.entry(piece.page).or_insert_with(zero_page);
            if let (Some(target), Some(source)) =
                (Arc::make_mut(page).get_mut(piece.in_page.clone()), bytes.get(piece.in_buffer.clone()))
            {
                target.copy_from_slice(source);
            }
        }
        if !bytes.is_empty() {
            self.len = self.len.max(offset + bytes.len() as u64);
        }
    }

    /// Cuts the file, or extends it with a hole.
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            drop(self.pages.split_off(&len.div_ceil(PAGE)));
            if let Some(page) = self.pages.get_mut(&(len / PAGE)) {
                Arc::make_mut(page).get_mut((len % PAGE) as usize..).unwrap_or_default().fill(0);
            }
        }
        self.len = len;
    }

    /// Fills the holes of a range with zeros, extending the file where needed.
    pub(super) fn fill_holes(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let zero = zero_page();
        for index in range.start / PAGE..range.end.div_ceil(PAGE) {
            self.pages.entry(index).or_insert_with(|| Arc::clone(&zero));
        }
        self.len = self.len.max(range.end);
    }

    /// Takes the pages that `range` touches from `other`.
    pub(super) fn take_pages(&mut self, other: &Self, range: Range<u64>) {
        let range = range.start..range.end.min(other.len);
        if range.is_empty() {
            return;
        }
        for index in range.start / PAGE..range.end.div_ceil(PAGE) {
            match other.pages.get(&index) {
                Some(page) => drop(self.pages.insert(index, Arc::clone(page))),
                None => drop(self.pages.remove(&index)),
            }
        }
        self.len = self.len.max(range.end.next_multiple_of(PAGE).min(other.len));
    }
}

fn zero_page() -> Arc<Page> {
    Arc::new([0; PAGE as usize])
}

/// The part of a range that lies in one page.
struct Piece {
    page: u64,
    in_page: Range<usize>,
    in_buffer: Range<usize>,
}

/// Splits `count` bytes at `offset` at the bounds of pages.
fn pieces(offset: u64, count: usize) -> impl Iterator<Item = Piece> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let start = (at % PAGE) as usize;
        let len = (PAGE as usize - start).min(count - done);
        let in_buffer = done..done + len;
        done += len;
        (len > 0).then_some(Piece { page: at / PAGE, in_page: start..start + len, in_buffer })
    })
}
