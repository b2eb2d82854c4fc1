//! What RocksDB does to files, made by RocksDB's own file system and recorded here.
//!
//! *Invariants.* The local change is the caller's closure, made once, where it is recorded, or not at all. A file that
//! is open for writing is kept open here too: it is known by its inode, and what a failed write has left is read back.
//! Of a file that is written by direct I/O the zeros at its end are held back, for they may be the padding of its last
//! block: they are recorded with whatever comes behind them, when the file gets its length, at a sync, and at its end.
//!
//! *Does not* know pointers or C++ (`ffi`), and reads nothing but for the above.

use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::recorded_fs::Sync;
use crate::tracker::{Handle, Tracker, io_error};
use crate::vfs::{File, FileSystem, OpenMode, resolve_named};

/// The local step of a call failed, and has told how by itself.
#[derive(Debug)]
pub(super) struct LocalFailure;

impl fmt::Display for LocalFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the local file system refused")
    }
}

impl std::error::Error for LocalFailure {}

/// The files of a database.
pub(super) struct Files {
    fs: Arc<dyn FileSystem>,
    sync: Sync,
    /// Directories outside of the recorded one that may be written to.
    unrecorded: Vec<PathBuf>,
}

/// Where a path leads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Recorded,
    Unrecorded,
}

/// A file that is open for writing.
pub(super) struct Writer {
    files: Arc<Files>,
    file: Arc<dyn File>,
    handle: Handle,
    /// Zeros at the end are held back.
    is_direct: bool,
}

impl Files {
    pub(super) fn new(fs: Arc<dyn FileSystem>, sync: Sync, unrecorded: Vec<PathBuf>) -> Self {
        Self { fs, sync, unrecorded }
    }

    pub(super) fn tracker(&self) -> &Tracker {
        &self.sync.tracker
    }

    /// Finds out where `path` leads; what leads elsewhere may not be changed.
    fn place(&self, path: &Path) -> io::Result<Place> {
        let tracker = self.tracker();
        // Below the recorded directory the tracker has the last word.
        if path.starts_with(tracker.root()) || path.starts_with(tracker.resolved_root()) {
            return Ok(Place::Recorded);
        }
        if self.is_unrecorded(path) {
            return Ok(Place::Unrecorded);
        }
        let what = format!("{} is not in the recorded directory, and would be lost", path.display());
        Err(unsupported(Error::new(ErrorKind::Invalid, what).advise(format!(
            "put db_paths, wal_dir and checkpoints below {}; name a directory for backups or info logs in \
             RocksdbOptions::unrecorded",
            tracker.root().display()
        ))))
    }

    /// Tells whether `path` lies in a directory that was named, and does not lead back into the recorded one.
    fn is_unrecorded(&self, path: &Path) -> bool {
        let is_named = self.unrecorded.iter().any(|directory| path.starts_with(directory));
        if !is_named || path.components().any(|part| part == Component::ParentDir) {
            return false;
        }
        let parent = resolve_named(&*self.fs, path.parent().unwrap_or(path));
        let (whole, root) = (resolve_named(&*self.fs, path), self.tracker().resolved_root());
        !parent.starts_with(root) && !whole.starts_with(root)
    }

    /// Finds out where two paths lead that a call joins.
    fn places(&self, one: &Path, other: &Path) -> io::Result<Place> {
        let (here, there) = (self.place(one)?, self.place(other)?);
        if here == there {
            return Ok(here);
        }
        // RocksDB copies then.
        let what = format!("one of {} and {} is recorded, and one is not", one.display(), other.display());
        Err(unsupported(Error::new(ErrorKind::Invalid, what).advise("copy the file")))
    }

    /// Opens a file for writing; `None` where it is not to be recorded.
    pub(super) fn open(
        self: &Arc<Self>,
        path: &Path,
        mode: OpenMode,
        is_direct: bool,
        local: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<Option<Writer>> {
        if self.place(path)? == Place::Unrecorded {
            return local().map(|()| None);
        }
        // First here, where nothing is emptied: a file that was, and cannot be kept open, would not be recorded.
        let open = || {
            let (file, is_new) = match self.fs.open(path, OpenMode::ReadWrite) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && mode != OpenMode::ReadWrite => {
                    (self.fs.open(path, OpenMode::CreateNew)?, true)
                }
                opened => (opened?, false),
            };
            if let Err(error) = local() {
                if is_new {
                    // Created above, and empty.
                    drop(self.fs.remove_file(path));
                }
                return Err(error);
            }
            Ok(file)
        };
        let (file, handle) = self.tracker().open(path, mode, open)?;
        Ok(Some(Writer { files: Arc::clone(self), file, handle, is_direct }))
    }

    pub(super) fn remove(&self, path: &Path, local: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match self.place(path)? {
            Place::Recorded => self.tracker().remove_file(path, local),
            Place::Unrecorded => local(),
        }
    }

    pub(super) fn rename(
        &self,
        from: &Path,
        to: &Path,
        local: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        match self.places(from, to)? {
            Place::Recorded => self.tracker().rename(from, to, local),
            Place::Unrecorded => local(),
        }
    }

    pub(super) fn link(
        &self,
        existing: &Path,
        path: &Path,
        local: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        match self.places(existing, path)? {
            Place::Recorded => self.tracker().hard_link(existing, path, local),
            Place::Unrecorded => local(),
        }
    }

    /// Creates or removes a directory; directories are not recorded.
    pub(super) fn change_dir(&self, path: &Path, local: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if self.place(path)? == Place::Recorded {
            self.tracker().recorder().check().map_err(io_error)?;
        }
        local()
    }

    /// Makes the file or directory at `path` durable.
    pub(super) fn sync_path(&self, path: &Path, local: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match self.place(path)? {
            Place::Recorded => self.sync.barrier(),
            Place::Unrecorded => local(),
        }
    }
}

impl Writer {
    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    /// Writes `bytes`, at most those of one operation, at `offset` or at the end.
    pub(super) fn write(
        &self,
        offset: Option<u64>,
        bytes: &[u8],
        local: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut guard = self.files.tracker().begin_write(&self.handle, bytes.len()).map_err(io_error)?;
        let at = offset.unwrap_or_else(|| guard.end());
        let outcome = local();
        match &outcome {
            Ok(()) => {
                let known = guard.end().saturating_sub(at);
                let kept = if self.is_direct { without_padding(bytes, known) } else { bytes };
                guard.record(at, kept).map_err(io_error)?;
            }
            Err(_) => guard.record_as_found(&*self.file, at, bytes.len()).map_err(io_error)?,
        }
        outcome
    }

    pub(super) fn set_len(&self, len: u64, local: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.files.tracker().set_len(&self.handle, &*self.file, len, local)
    }

    /// Waits until the file is durable: in the journal where it is recorded, or by `local`.
    pub(super) fn sync(&self, local: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.record_padding()?;
        if self.handle.fnode().is_none() {
            return local();
        }
        self.files.sync.barrier()
    }

    /// Ends the use of the file by `local`, which may cut it.
    pub(super) fn close(&self, local: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let padded = self.record_padding();
        if let Err(error) = &padded {
            // Nobody comes back to record them.
            let error = Error::new(ErrorKind::Io, format!("the end of a file was not recorded: {error}"));
            self.files.tracker().recorder().fail(error);
        }
        let outcome = local();
        padded.and_then(|()| self.check_len()).and(outcome)
    }

    /// Records the zeros that were held back.
    fn record_padding(&self) -> io::Result<()> {
        if !self.is_direct || self.handle.fnode().is_none() {
            return Ok(());
        }
        let mut guard = self.files.tracker().begin_write(&self.handle, 1).map_err(io_error)?;
        let len = self.file.metadata()?.len;
        // What lies before the last byte and was not written reads as zeros.
        if len > guard.end() { guard.record(len - 1, &[0]).map_err(io_error) } else { Ok(()) }
    }

    /// Records the length that the file was left with.
    fn check_len(&self) -> io::Result<()> {
        if self.handle.fnode().is_none() {
            return Ok(());
        }
        let found = self.file.metadata()?.len;
        let recorded = self.files.tracker().begin_write(&self.handle, 0).map_err(io_error)?.end();
        if found == recorded { Ok(()) } else { self.set_len(found, || Ok(())) }
    }
}

/// Returns `bytes` without the zeros at their end, but for the first `known`, which replace what is there.
fn without_padding(bytes: &[u8], known: u64) -> &[u8] {
    let content = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let known = usize::try_from(known).unwrap_or(usize::MAX);
    bytes.get(..content.max(known)).unwrap_or(bytes)
}

/// Says that what RocksDB was configured for cannot be.
fn unsupported(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Deadline;
    use crate::fsm::Fsm;
    use crate::hints::FsmHints;
    use crate::ids::{JournalName, Offset};
    use crate::journal::{Journals, MemoryJournals, random_author};
    use crate::player::{PlayOptions, Player};
    use crate::recorded_fs::{RecordedFs, RecordedFsOptions};
    use crate::recorder::{Recorder, RecorderOptions};
    use crate::vfs::MemoryFs;
    use std::time::Duration;

    struct Bed {
        disk: MemoryFs,
        journals: MemoryJournals,
        files: Arc<Files>,
    }

    fn log() -> JournalName {
        JournalName::new("acme/orders").unwrap()
    }

    fn at(path: &str) -> &Path {
        Path::new(path)
    }

    impl Bed {
        fn new() -> Self {
            let (disk, journals) = (MemoryFs::new(), MemoryJournals::new());
            for path in ["/db", "/aside"] {
                disk.create_dir(at(path)).unwrap();
            }
            let (journal, author) = (journals.open(&log()).unwrap(), random_author().unwrap());
            let options = RecorderOptions::default();
            let recorder = Recorder::new(journal, Fsm::new(log()), Offset::ZERO, author, options).unwrap();
            let recorded = RecordedFs::new(disk.clone(), at("/db"), recorder, RecordedFsOptions::default());
            let (fs, sync) = recorded.parts();
            let files = Arc::new(Files::new(fs, sync, vec!["/aside".into()]));
            Self { disk, journals, files }
        }

        fn recorder(&self) -> &Recorder {
            self.files.tracker().recorder()
        }

        /// The file, as RocksDB's file system has it open.
        fn local(&self, path: &str) -> Arc<dyn File> {
            self.disk.open(at(path), OpenMode::Create).unwrap()
        }

        fn open(&self, path: &str, is_direct: bool) -> Writer {
            let local = || self.disk.open(at(path), OpenMode::Truncate).map(drop);
            self.files.open(at(path), OpenMode::Truncate, is_direct, local).unwrap().unwrap()
        }

        /// Writes as RocksDB does.
        fn write(&self, writer: &Writer, path: &str, offset: u64, bytes: &[u8]) {
            let local = || self.local(path).write_all_at(bytes, offset);
            writer.write(Some(offset), bytes, local).unwrap();
        }

        fn set_len(&self, writer: &Writer, path: &str, len: u64) {
            writer.set_len(len, || self.local(path).set_len(len)).unwrap();
        }

        /// What the file holds once the log was played; `None` where there is none.
        fn played(&self, path: &str) -> Option<Vec<u8>> {
            self.recorder().barrier().unwrap().wait(Deadline::after(Duration::from_secs(20))).unwrap();
            let options = PlayOptions { parallelism: 1, ..PlayOptions::default() };
            let (fs, hints) = (Arc::new(MemoryFs::new()), FsmHints::empty(log()));
            let player = Player::new(&self.journals, &hints, fs.clone(), at("/played"), options).unwrap();
            assert_eq!(player.restore().unwrap().warnings, []);
            read(&fs, &path.replace("/db", "/played"))
        }

        #[track_caller]
        fn check(&self, path: &str) {
            assert_eq!(self.played(path), read(&self.disk, path));
        }
    }

    fn read(fs: &MemoryFs, path: &str) -> Option<Vec<u8>> {
        let file = fs.open(at(path), OpenMode::Read).ok()?;
        let mut content = vec![0; file.metadata().unwrap().len as usize];
        file.read_exact_at(&mut content, 0).unwrap();
        Some(content)
    }

    fn block(content: usize) -> Vec<u8> {
        [vec![7; content], vec![0; 4096 - content]].concat()
    }

    fn refuse() -> io::Result<()> {
        Err(io::Error::other(LocalFailure))
    }

    #[test]
    fn the_padding_of_direct_writes_is_not_recorded_and_the_file_is_not_recorded_twice_when_it_is_cut() {
        let bed = Bed::new();
        let writer = bed.open("/db/table", true);
        bed.write(&writer, "/db/table", 0, &block(4096));
        bed.write(&writer, "/db/table", 4096, &block(100));
        bed.write(&writer, "/db/table", 4096, &block(300));
        bed.set_len(&writer, "/db/table", 4396);
        assert!(bed.recorder().counters().bytes_recorded < 4096 + 300 + 300 + 400);
        writer.close(|| Ok(())).unwrap();
        bed.check("/db/table");
    }

    #[test]
    fn zeros_that_belong_to_a_file_are_recorded_when_it_gets_its_length_at_a_sync_and_at_its_end() {
        let ends: [fn(&Bed, &Writer); 3] = [
            |bed, writer| bed.set_len(writer, "/db/table", 2000),
            |_, writer| writer.sync(|| panic!("it is recorded")).unwrap(),
            |_, writer| writer.close(|| Ok(())).unwrap(),
        ];
        for end in ends {
            let bed = Bed::new();
            let writer = bed.open("/db/table", true);
            bed.write(&writer, "/db/table", 0, &block(100));
            assert_eq!(bed.played("/db/table").unwrap().len(), 100);
            end(&bed, &writer);
            bed.check("/db/table");
        }
        // A block of nothing but zeros, and one behind it.
        let bed = Bed::new();
        let writer = bed.open("/db/table", true);
        bed.write(&writer, "/db/table", 0, &block(0));
        bed.write(&writer, "/db/table", 4096, &block(1));
        bed.set_len(&writer, "/db/table", 4097);
        bed.check("/db/table");
    }

    #[test]
    fn zeros_over_other_bytes_are_recorded() {
        let bed = Bed::new();
        let writer = bed.open("/db/table", true);
        bed.write(&writer, "/db/table", 0, &block(300));
        bed.write(&writer, "/db/table", 0, &block(100));
        bed.set_len(&writer, "/db/table", 300);
        bed.check("/db/table");
    }

    #[test]
    fn zeros_at_the_end_of_a_buffered_file_are_recorded_as_they_come() {
        let bed = Bed::new();
        let writer = bed.open("/db/log", false);
        bed.write(&writer, "/db/log", 0, &block(10));
        bed.check("/db/log");
        let end = writer.write(None, b"end", || bed.local("/db/log").write_all_at(b"end", 4096));
        end.unwrap();
        bed.check("/db/log");
    }

    #[test]
    fn an_open_that_fails_leaves_nothing_and_empties_nothing() {
        let bed = Bed::new();
        let open = |path| bed.files.open(at(path), OpenMode::Truncate, false, refuse).map(drop);
        assert!(open("/db/new").is_err());
        assert_eq!(read(&bed.disk, "/db/new"), None);
        let writer = bed.open("/db/old", false);
        bed.write(&writer, "/db/old", 0, b"content");
        assert!(open("/db/old").is_err());
        assert_eq!(read(&bed.disk, "/db/old").unwrap(), b"content");
        for path in ["/db/new", "/db/old"] {
            bed.check(path);
        }
        let missing = bed.files.open(at("/db/missing"), OpenMode::ReadWrite, false, || panic!());
        assert_eq!(missing.map(drop).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_a_failed_write_has_left_is_recorded_and_the_next_append_goes_behind_it() {
        let bed = Bed::new();
        let writer = bed.open("/db/log", false);
        bed.write(&writer, "/db/log", 0, b"begin ");
        let torn = || bed.local("/db/log").write_all_at(b"hal", 6).and_then(|()| refuse());
        assert!(writer.write(None, b"half", torn).is_err());
        bed.check("/db/log");
        writer.write(None, b"end", || bed.local("/db/log").write_all_at(b"end", 9)).unwrap();
        bed.check("/db/log");
        assert!(bed.recorder().failure().is_none());
    }

    #[test]
    fn a_close_that_changes_the_length_is_recorded_and_so_is_one_that_fails() {
        let bed = Bed::new();
        let writer = bed.open("/db/log", false);
        bed.write(&writer, "/db/log", 0, b"preallocated");
        writer.close(|| bed.local("/db/log").set_len(3)).unwrap();
        bed.check("/db/log");
        assert!(writer.close(|| bed.local("/db/log").set_len(2).and_then(|()| refuse())).is_err());
        bed.check("/db/log");
        // Removed while it was open: nothing is left to be recorded.
        bed.files.remove(at("/db/log"), || bed.disk.remove_file(at("/db/log"))).unwrap();
        writer.close(|| Ok(())).unwrap();
        bed.check("/db/log");
    }

    #[test]
    fn only_the_recorded_directory_and_those_that_were_named_are_changed_and_nothing_passes_between() {
        let bed = Bed::new();
        let (inside, aside, outside) = (at("/db/a"), at("/aside/a"), at("/elsewhere/a"));
        let never = || panic!("the local change was made");
        let refused = |outcome: io::Result<()>| {
            assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::Unsupported);
        };
        let files = &bed.files;
        refused(files.open(outside, OpenMode::Truncate, false, never).map(drop));
        refused(files.remove(outside, never));
        refused(files.rename(outside, inside, never));
        refused(files.rename(inside, outside, never));
        refused(files.link(inside, outside, never));
        refused(files.change_dir(outside, never));
        refused(files.sync_path(outside, never));
        refused(files.rename(inside, aside, never));
        refused(files.link(aside, inside, never));
        // A name that begins alike is another directory, and no way leads back.
        refused(files.remove(at("/aside-not/a"), never));
        refused(files.remove(at("/aside/../db/a"), never));
        assert!(files.open(aside, OpenMode::Truncate, false, || Ok(())).unwrap().is_none());
        files.rename(aside, at("/aside/b"), || Ok(())).unwrap();
        files.sync_path(aside, || Ok(())).unwrap();
        assert_eq!(bed.recorder().counters().ops_recorded, 0);
        assert!(bed.recorder().failure().is_none());
    }

    #[test]
    fn nothing_is_changed_or_synced_once_the_recorder_has_failed() {
        let bed = Bed::new();
        let writer = bed.open("/db/log", false);
        bed.recorder().fail(Error::new(ErrorKind::Fenced, "superseded"));
        let never = || panic!("the local change was made");
        let (path, files) = (at("/db/log"), &bed.files);
        for outcome in [
            files.open(path, OpenMode::Create, false, never).map(drop),
            files.remove(path, never),
            files.rename(path, at("/db/b"), never),
            files.link(path, at("/db/b"), never),
            files.change_dir(at("/db/c"), never),
            files.sync_path(path, never),
            writer.write(None, b"late", never),
            writer.set_len(0, never),
            writer.sync(never),
        ] {
            assert!(outcome.unwrap_err().to_string().contains("superseded"));
        }
    }
}
