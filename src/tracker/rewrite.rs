//! Writing live bytes again at the head of the log, so that what holds them now can be deleted.
//!
//! *Invariants.* A rewrite changes nothing that a reader of the log sees: before each of its appends, after it, and where
//! the log ends with it, the log gives the same tree. A small file becomes another recorded file with all of its links,
//! by one append; of a larger one, bytes are written over themselves. Both happen under the lock of the inode, so that no
//! write comes between reading and recording, and the first under that of names too. Credit is taken before any lock.
//! A file that cannot be read leaves the log as it was, and so does one whose bytes are not those that the log holds:
//! what a disk has damaged must not take the place of what is good. What was read is compared, under the lock of the
//! inode, with the digest of each operation whose bytes are all alive still.
//!
//! *Does not* choose what is worth it (`live`), or how much (`rewriter`). Properties are left alone, and so is what is
//! recorded below the reserved folder. Bytes that have no digest of their own are written again as they are found: what
//! is left of an operation that was overwritten in part, extents that were joined, operations of the reference and those
//! longer than this crate writes any, and what was never written.

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
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{Fnode, LogPath};
use crate::live::{EXTENT_BYTES_MAX, Held, PIECE_BYTES_MAX, WHOLE_BYTES_MAX};
use crate::recorder::{OP_BYTES_MAX, Reserved};
use crate::vfs::{File, FileKind, OpenMode};

/// The longest wait for credit: who is at it can be asked to stop.
const PATIENCE: Duration = Duration::from_millis(100);
/// Credit for an operation besides its bytes and paths.
const OP_CREDIT_BYTES: u64 = 64;

// Each piece is one operation.
const _: () = assert!(EXTENT_BYTES_MAX <= OP_BYTES_MAX as u64);
const _: () = assert!(PIECE_BYTES_MAX <= EXTENT_BYTES_MAX);

/// How a rewrite ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// All of it was written again.
    Done,
    /// Earlier bytes are still on their way to the journal, or somebody looks at what is alive just now.
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
        if state.fnode != Some(fnode) {
            return Ok(Outcome::Changed);
        }
        let Some(held) = self.held(fnode, std::iter::once(0..u64::MAX)).pop() else {
            return Ok(Outcome::Busy);
        };
        self.check_len(fnode, &*file, &held)?;
        if state.len > len {
            return Ok(Outcome::Changed);
        }
        let content = read(&*file, 0, state.len)?;
        self.compare(fnode, (0, &content), &held)?;
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

    /// Writes pieces of the file `fnode` over themselves, each by one operation; adds what that took to `bytes`.
    pub(super) fn refresh(&self, fnode: Fnode, pieces: &[Range<u64>], bytes: &mut u64) -> Result<Outcome> {
        let (inode, file) = match self.seek(&mut self.lock_names(), fnode)? {
            Sought::Found(inode, file) => (inode, file),
            Sought::Not(outcome) => return Ok(outcome),
        };
        let mut rest = pieces;
        while !rest.is_empty() {
            let mut held = 0;
            let fits = |piece: &&Range<u64>| {
                held += piece.end - piece.start;
                held <= PIECE_BYTES_MAX
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (now, later) = rest.split_at(count.min(rest.len()));
            rest = later;
            let credit = now.iter().map(|piece| OP_CREDIT_BYTES + piece.end - piece.start).sum();
            let Some(reserved) = self.recorder.reserve_within(credit, PATIENCE)? else {
                return Ok(Outcome::Busy);
            };
            match self.refresh_held((fnode, &inode, &*file), now, reserved, bytes)? {
                Outcome::Done => {}
                ended => return Ok(ended),
            }
        }
        Ok(Outcome::Done)
    }

    /// Refreshes pieces under one hold of the inode.
    fn refresh_held(
        &self,
        (fnode, inode, file): (Fnode, &Inode, &dyn File),
        pieces: &[Range<u64>],
        reserved: Reserved<'_>,
        bytes: &mut u64,
    ) -> Result<Outcome> {
        let state = inode.lock();
        if state.fnode != Some(fnode) {
            return Ok(Outcome::Changed);
        }
        let held = self.held(fnode, pieces.iter().cloned());
        if held.len() < pieces.len() {
            return Ok(Outcome::Busy);
        }
        let mut contents = Vec::with_capacity(pieces.len());
        for (piece, held) in pieces.iter().zip(&held) {
            self.check_len(fnode, file, held)?;
            let len = piece.end.min(state.len).saturating_sub(piece.start);
            let content = read(file, piece.start, len)?;
            self.compare(fnode, (piece.start, &content), held)?;
            let crc = self.recorder.payload_crc(&content);
            contents.push((piece.start, content, crc));
        }
        self.recorder.transaction(reserved, |tx| {
            // A directory that is renamed to where nothing is recorded is unlinked first, and its inodes are told then.
            if tx.fsm().node(fnode).is_none() {
                return Ok(Outcome::Changed);
            }
            let before = tx.batch_bytes();
            for (at, content, crc) in contents.iter().filter(|(_, content, _)| !content.is_empty()) {
                tx.write(fnode, *at, content, *crc)?;
            }
            *bytes += tx.batch_bytes() - before;
            Ok(Outcome::Done)
        })
    }

    /// Returns what the log holds of each of `ranges` of a file whose inode is locked, so that nothing is written
    /// meanwhile; nothing where that cannot be looked at without waiting.
    fn held(&self, fnode: Fnode, ranges: impl Iterator<Item = Range<u64>>) -> Vec<Vec<Held>> {
        let held = self
            .recorder
            .try_with_live_map(|live| ranges.map(|range| live.held(fnode, range).collect()).collect());
        held.unwrap_or_default()
    }

    /// Checks that a file is as long as what the log holds of it. It may be longer: an engine pads what it writes.
    fn check_len(&self, fnode: Fnode, file: &dyn File, held: &[Held]) -> Result<()> {
        let len = file
            .metadata()
            .map_err(|error| Error::io("cannot look at a file that is to be rewritten", error))?
            .len;
        match held.last().filter(|last| last.range.end > len) {
            Some(last) => Err(self.damaged(fnode, last).expected(
                format_args!("at least {} bytes of the file", last.range.end),
                format_args!("{len}"),
            )),
            None => Ok(()),
        }
    }

    /// Compares the bytes that lie at `at` of a file with those that the log holds.
    fn compare(&self, fnode: Fnode, (at, content): (u64, &[u8]), held: &[Held]) -> Result<()> {
        for part in held {
            let Some(expected) = part.crc32c else { continue };
            let index = |at_file: u64| usize::try_from(at_file.saturating_sub(at)).unwrap_or(usize::MAX);
            let found = content.get(index(part.range.start)..index(part.range.end)).unwrap_or_default();
            let actual = crc32c::crc32c(found);
            if actual != expected {
                let crc = |crc: u32| format!("CRC-32C {crc:08x}");
                return Err(self.damaged(fnode, part).expected(crc(expected), crc(actual)));
            }
        }
        Ok(())
    }

    /// Makes the error of a file that does not hold what was recorded.
    fn damaged(&self, fnode: Fnode, part: &Held) -> Error {
        // What was written and could not be recorded differs by right: the recorder has failed by now.
        if let Err(failure) = self.recorder.check() {
            return failure;
        }
        let links = self.links_of(fnode).unwrap_or_default();
        let path = links.first().and_then(|link| self.local_path(link)).unwrap_or_default();
        let Range { start, end } = part.range;
        let what = format!(
            "the local file {} does not hold what was recorded as its bytes {start}..{end}, and is not written again",
            path.display()
        );
        Error::new(ErrorKind::Corrupt, what).in_log(&part.log).at(part.at).advise(
            "distrust the local disk: restore the directory from the log on another one, where it still is              whole, and take over there",
        )
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
    #[test]
    fn what_was_written_and_not_recorded_is_the_failure_of_the_recorder_and_no_damage() {
        let (journal, disk) = (Flaky::new([]), MemoryFs::new());
        disk.create_dir(Path::new("/db")).unwrap();
        let options = RecordedFsOptions::default();
        let fs = RecordedFs::new(disk.clone(), Path::new("/db"), record(&journal), options);
        let file = fs.open(Path::new("/db/a"), OpenMode::Create).unwrap();
        file.write_all_at(b"content", 0).unwrap();
        let fnode = fs.recorder().with_fsm(|fsm| fsm.link(&path("/a"))).unwrap();
        let tracker = fs.tracker();
        let held = tracker.held(fnode, std::iter::once(0..7)).pop().unwrap();
        let local = disk.open(Path::new("/db/a"), OpenMode::ReadWrite).unwrap();
        assert!(tracker.check_len(fnode, &*local, &held).is_ok());
        assert!(tracker.compare(fnode, (0, b"content"), &held).is_ok());
        local.set_len(6).unwrap();
        let looks =
            || [tracker.check_len(fnode, &*local, &held), tracker.compare(fnode, (0, b"Content"), &held)];
        assert!(looks().iter().all(|look| look.as_ref().is_err_and(|e| e.kind() == ErrorKind::Corrupt)));
        fs.recorder().fail(Error::new(ErrorKind::Fenced, "another writer took over"));
        assert!(looks().iter().all(|look| look.as_ref().is_err_and(|e| e.kind() == ErrorKind::Fenced)));
    }

    #[test]
    fn a_rewrite_waits_for_nobody_who_looks_at_what_is_alive() {
        let (journal, disk) = (Flaky::new([]), MemoryFs::new());
        disk.create_dir(Path::new("/db")).unwrap();
        let options = RecordedFsOptions::default();
        let fs = RecordedFs::new(disk, Path::new("/db"), record(&journal), options);
        fs.open(Path::new("/db/a"), OpenMode::Create).unwrap().write_all_at(b"content", 0).unwrap();
        let fnode = fs.recorder().with_fsm(|fsm| fsm.link(&path("/a"))).unwrap();
        let tracker = fs.tracker();
        let rewrite = || {
            let mut bytes = 0;
            let outcomes = [
                tracker.refresh(fnode, std::slice::from_ref(&(0..7)), &mut bytes),
                tracker.rewrite_whole(fnode, &mut bytes),
            ];
            (outcomes.map(Result::unwrap), bytes > 0)
        };
        let meanwhile = fs.recorder().with_live_map(|_| rewrite());
        assert_eq!(meanwhile, Some(([Outcome::Busy; 2], false)));
        assert_eq!(rewrite(), ([Outcome::Done; 2], true));
    }
}
