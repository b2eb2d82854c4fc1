//! Writing live bytes again at the head of the log, so that what holds them now can be deleted.
//!
//! *Invariants.* A rewrite changes nothing that a reader of the log sees: before each of its appends, after it, and where
//! the log ends with it, the log gives the same tree. A small file becomes another recorded file with all of its links,
//! by one append; of a larger one, bytes are written over themselves. Both happen under the lock of the inode, so that no
//! write comes between reading and recording, and the first under that of names too. Credit is taken before any lock.
//! A file that cannot be read leaves the log as it was.
//!
//! *Does not* choose what is worth it (`live`), or how much (`rewriter`). Properties are left alone, and so is what is
//! recorded below the reserved folder.

use std::ffi::OsStr;
use std::ops::Range;
#[cfg(unix)]
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::names::{At, Names};
use super::whole::{Checked, read};
use super::{Inode, Tracker, is_being_built};
use crate::error::{Error, Result};
use crate::ids::{Fnode, LogPath};
use crate::live::WHOLE_BYTES_MAX;
use crate::recorder::Reserved;
use crate::vfs::{File, FileKind, OpenMode};

/// The longest wait for credit: who is at it can be asked to stop.
const PATIENCE: Duration = Duration::from_millis(100);
/// Bytes that are refreshed under one hold of an inode.
const HELD_BYTES_MAX: u64 = 256 << 10;
/// Credit for an operation besides its bytes and paths.
const OP_CREDIT_BYTES: u64 = 64;

/// How a rewrite ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// All of it was written again.
    Done,
    /// Earlier bytes are still on their way to the journal.
    Busy,
    /// The file is another one by now, or gone.
    Changed,
    /// It is no file that can be rewritten.
    Refused,
}

/// A file that was looked for.
enum Sought {
    Found(Arc<Inode>, Arc<dyn File>),
    Not(Outcome),
}

impl Tracker {
    /// Records the small file `fnode` again, as a new file with the same links; adds what that took to `bytes`.
    pub(super) fn rewrite_whole(&self, fnode: Fnode, bytes: &mut u64) -> Result<Outcome> {
        let Some(links) = self.links_of(fnode) else { return Ok(Outcome::Changed) };
        self.move_whole(fnode, &links, bytes)
    }

    /// As [`Tracker::rewrite_whole`] does, where `expected` still are the links.
    fn move_whole(&self, fnode: Fnode, expected: &[LogPath], bytes: &mut u64) -> Result<Outcome> {
        let Some(len) = self.local_len(expected) else {
            // It may have been renamed just now.
            return self.seek(&mut self.lock_names(), fnode).map(|sought| match sought {
                Sought::Found(..) => Outcome::Changed,
                Sought::Not(outcome) => outcome,
            });
        };
        if len > WHOLE_BYTES_MAX {
            return Ok(Outcome::Refused);
        }
        let of_names = expected.iter().map(|link| 2 * (OP_CREDIT_BYTES + link.as_bytes().len() as u64));
        let of_content = len + OP_CREDIT_BYTES * WHOLE_BYTES_MAX.div_ceil(1 << 20);
        let Some(reserved) = self.recorder.reserve_within(of_names.sum::<u64>() + of_content, PATIENCE)?
        else {
            return Ok(Outcome::Busy);
        };
        let mut names = self.lock_names();
        let (inode, file) = match self.seek(&mut names, fnode)? {
            Sought::Found(inode, file) => (inode, file),
            Sought::Not(outcome) => return Ok(outcome),
        };
        let mut state = inode.lock();
        if state.fnode != Some(fnode) || state.len > len {
            return Ok(Outcome::Changed);
        }
        let content = read(&*file, 0, state.len)?;
        let content = Checked::new(&self.recorder, &content);
        let new = self.recorder.transaction(reserved, |tx| {
            if tx.fsm().node(fnode).is_none_or(|node| node.links() != expected) {
                return Ok(None);
            }
            let before = tx.batch_bytes();
            let new = content.record(tx, expected)?;
            *bytes += tx.batch_bytes() - before;
            Ok(Some(new))
        })?;
        if new.is_none() {
            return Ok(Outcome::Changed);
        }
        state.fnode = new;
        names.change_alias(inode.id, new);
        Ok(Outcome::Done)
    }

    /// Writes `ranges` of the file `fnode` over themselves; adds what that took to `bytes`.
    pub(super) fn refresh(&self, fnode: Fnode, ranges: &[Range<u64>], bytes: &mut u64) -> Result<Outcome> {
        let (inode, file) = match self.seek(&mut self.lock_names(), fnode)? {
            Sought::Found(inode, file) => (inode, file),
            Sought::Not(outcome) => return Ok(outcome),
        };
        let pieces: Vec<Range<u64>> = ranges.iter().flat_map(|range| pieces(range.clone())).collect();
        let mut rest = pieces.as_slice();
        while !rest.is_empty() {
            let mut held = 0;
            let fits = |piece: &&Range<u64>| {
                held += piece.end - piece.start;
                held <= HELD_BYTES_MAX
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (now, later) = rest.split_at(count.min(rest.len()));
            rest = later;
            let credit = now.iter().map(|piece| OP_CREDIT_BYTES + piece.end - piece.start).sum();
            let Some(reserved) = self.recorder.reserve_within(credit, PATIENCE)? else {
                return Ok(Outcome::Busy);
            };
            if !self.refresh_held((fnode, &inode, &*file), now, reserved, bytes)? {
                return Ok(Outcome::Changed);
            }
        }
        Ok(Outcome::Done)
    }

    /// Refreshes pieces under one hold of the inode; returns whether it still was the file.
    fn refresh_held(
        &self,
        (fnode, inode, file): (Fnode, &Inode, &dyn File),
        pieces: &[Range<u64>],
        reserved: Reserved<'_>,
        bytes: &mut u64,
    ) -> Result<bool> {
        let state = inode.lock();
        if state.fnode != Some(fnode) {
            return Ok(false);
        }
        let mut contents = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let len = piece.end.min(state.len).saturating_sub(piece.start);
            let content = read(file, piece.start, len)?;
            let crc = self.recorder.payload_crc(&content);
            contents.push((piece.start, content, crc));
        }
        self.recorder.transaction(reserved, |tx| {
            // A directory that is renamed to where nothing is recorded is unlinked first, and its inodes are told then.
            if tx.fsm().node(fnode).is_none() {
                return Ok(false);
            }
            let before = tx.batch_bytes();
            for (at, content, crc) in contents.iter().filter(|(_, content, _)| !content.is_empty()) {
                tx.write(fnode, *at, content, *crc)?;
            }
            *bytes += tx.batch_bytes() - before;
            Ok(true)
        })
    }

    /// Finds the inode of a recorded file by one of its links, and opens it.
    fn seek(&self, names: &mut Names, fnode: Fnode) -> Result<Sought> {
        let Some(links) = self.links_of(fnode) else { return Ok(Sought::Not(Outcome::Changed)) };
        if links.iter().any(is_being_built) {
            return Ok(Sought::Not(Outcome::Changed));
        }
        let Some((link, path)) = links.first().and_then(|link| Some((link, self.local_path(link)?))) else {
            return Ok(Sought::Not(Outcome::Refused));
        };
        let at = At { fs: &*self.fs, base: None, path: &path };
        // Whatever an engine could not open here is not opened for this either.
        if !matches!(self.recorded(names, &at, "rewrite"), Ok(Some(recorded)) if recorded == *link) {
            return Ok(Sought::Not(Outcome::Refused));
        }
        let look = |error| Error::io("cannot open a file that is to be rewritten", error);
        let Some(found) = at.look().map_err(look)?.filter(|found| found.kind == FileKind::File) else {
            return Ok(Sought::Not(Outcome::Refused));
        };
        let inode = self.inode(names, &found, Some(link));
        let file = self.fs.open(&path, OpenMode::Read).map_err(look)?;
        Ok(Sought::Found(inode, file))
    }

    fn links_of(&self, fnode: Fnode) -> Option<Vec<LogPath>> {
        self.recorder.with_fsm(|fsm| fsm.node(fnode).map(|node| node.links().to_vec()))
    }

    /// Returns the length of the local file at the first of `links`.
    fn local_len(&self, links: &[LogPath]) -> Option<u64> {
        let path = self.local_path(links.first()?)?;
        self.fs.metadata(&path).ok().map(|found| found.len)
    }

    /// Returns where a recorded file lies.
    fn local_path(&self, link: &LogPath) -> Option<PathBuf> {
        #[cfg(unix)]
        let below = Some(OsStr::from_bytes(link.relative()));
        #[cfg(not(unix))]
        let below = std::str::from_utf8(link.relative()).ok().map(OsStr::new);
        below.map(|below| self.resolved_root.join(below))
    }
}

/// Cuts a range into pieces of which each is one operation.
fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    (range.start..end)
        .step_by(HELD_BYTES_MAX as usize)
        .map(move |begin| begin..end.min(begin.saturating_add(HELD_BYTES_MAX)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::recorded_fs::{RecordedFs, RecordedFsOptions};
    use crate::recorder::tests::{Flaky, path, record};
    use crate::vfs::{FileSystem, MemoryFs};

    /// Tries to move a small file that was another one when it was looked at.
    fn move_after(change: impl FnOnce(&RecordedFs<MemoryFs>, &dyn File) -> std::io::Result<()>) -> Outcome {
        let (journal, disk) = (Flaky::new([]), MemoryFs::new());
        disk.create_dir(Path::new("/db")).unwrap();
        let options = RecordedFsOptions::default();
        let fs = RecordedFs::new(disk, Path::new("/db"), record(&journal), options);
        let file = fs.open(Path::new("/db/a"), OpenMode::Create).unwrap();
        file.write_all_at(b"content", 0).unwrap();
        let fnode = fs.recorder().with_fsm(|fsm| fsm.link(&path("/a"))).unwrap();
        change(&fs, &*file).unwrap();
        let (before, mut bytes) = (fs.recorder().counters(), 0);
        let outcome = fs.tracker().move_whole(fnode, &[path("/a")], &mut bytes).unwrap();
        assert_eq!(fs.recorder().counters().bytes_recorded - before.bytes_recorded, bytes);
        assert_eq!(bytes > 0, outcome == Outcome::Done);
        outcome
    }

    #[test]
    fn a_file_that_changed_since_it_was_looked_at_is_not_moved() {
        assert_eq!(move_after(|_, _| Ok(())), Outcome::Done);
        assert_eq!(move_after(|_, file| file.write_all_at(b"C", 0)), Outcome::Done);
        let link = |fs: &RecordedFs<MemoryFs>| fs.hard_link(Path::new("/db/a"), Path::new("/db/b"));
        assert_eq!(move_after(|fs, _| link(fs)), Outcome::Changed);
        assert_eq!(move_after(|_, file| file.set_len(3)), Outcome::Changed);
        assert_eq!(move_after(|fs, _| fs.remove_file(Path::new("/db/a"))), Outcome::Changed);
        let rename = |fs: &RecordedFs<MemoryFs>| fs.rename(Path::new("/db/a"), Path::new("/db/b"));
        assert_eq!(move_after(|fs, _| rename(fs)), Outcome::Changed);
    }
}
