//! Hint sets as numbered files of a directory.
//!
//! *Invariants.* A file is written once: under a temporary name, made durable, then renamed to a number that
//! no other file has, and the directory made durable. Its name ends in the digest of its content, so that a
//! damaged one is told from a good one. Only files that have such a name are read, and only such files are
//! removed once enough newer ones are there.
//!
//! *Does not* remove what it cannot read.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha1::{Digest, Sha1};

use super::{Age, Candidate, HintStore, encode, refuse_older, sort_candidates};
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::hints::FsmHints;
use crate::ids::JournalName;
use crate::planted::{Bug, planted};
use crate::vfs::{
    DirEntry, FileKind, FileSystem, OpenMode, create_dir_all_synced, resolve_named, sync_parents,
};

/// The newest sets of a log, which stay whatever else is asked for.
const SETS_MIN: usize = 3;
/// The longest file that is read as a hint set.
const SET_BYTES_MAX: u64 = 1 << 30;

/// Hint sets in a directory: `NUMBER-DIGEST.json`, or `.pb` for a set with bytes that JSON cannot keep. The
/// reference reads both forms.
#[derive(Debug)]
pub struct DirectoryHints {
    fs: Arc<dyn FileSystem>,
    directory: PathBuf,
    retention: Retention,
}

/// Which sets of a log are kept when another one is stored: those that are within all of these, and the newest three.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Retention {
    /// So many (default 4): the newest, and some to fall back on.
    pub sets: usize,
    /// Those that describe a time not further back than this from that of the newest one (default: any). A set that
    /// tells no time is as old as time.
    pub age: Duration,
    /// Those that describe a point not further back than so many bytes of the log from that of the newest one (default:
    /// any). What lies between is the log that may be kept for them.
    pub log_bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { sets: 4, age: Duration::MAX, log_bytes: u64::MAX }
    }
}

/// A readable set, by age: the point that it describes, its time, and its file.
type Aged = (Age, u64, i64, PathBuf);

impl Retention {
    /// Parts the sets of a log, the newest first, in those that are kept and those that are not; returns the latter.
    fn outlived(self, sets: &[Aged]) -> impl Iterator<Item = &Path> {
        let newest = sets.first().map(|(Age(_, offset), _, nanos, _)| (*offset, *nanos));
        let is_kept = move |index: usize, (Age(_, offset), _, nanos, _): &Aged| {
            let Some((newest_offset, newest_nanos)) = newest else { return true };
            let age = Duration::from_nanos(u64::try_from(newest_nanos.saturating_sub(*nanos)).unwrap_or(0));
            let bytes = newest_offset.bytes_since((*offset).min(newest_offset));
            index < SETS_MIN || (index < self.sets && age <= self.age && bytes <= self.log_bytes)
        };
        sets.iter()
            .enumerate()
            .filter(move |(index, set)| !is_kept(*index, set))
            .map(|(_, set)| set.3.as_path())
    }
}

/// A file that has the name of a hint set.
struct Stored {
    number: u64,
    path: PathBuf,
    hints: Result<FsmHints>,
}

impl DirectoryHints {
    /// Opens the directory, creating it durably where it is missing.
    ///
    /// # Errors
    /// `Io` where it cannot be created.
    pub fn open(fs: Arc<dyn FileSystem>, directory: &Path) -> Result<Self> {
        let directory = resolve_named(&*fs, directory);
        let created = create_dir_all_synced(&*fs, &directory);
        created.and_then(|()| sync_parents(&*fs, &directory, &directory)).map_err(|e| {
            Error::io(format!("creating the hints directory {} failed", directory.display()), e)
        })?;
        Ok(Self { fs, directory, retention: Retention::default() })
    }

    /// Says which sets are kept when another one is stored.
    #[must_use]
    pub const fn keep(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Opens the directory for reading only; it must exist.
    ///
    /// # Errors
    /// `Invalid` where it is missing, or is no directory.
    pub fn open_existing(fs: Arc<dyn FileSystem>, directory: &Path) -> Result<Self> {
        let directory = resolve_named(&*fs, directory);
        match fs.metadata(&directory) {
            Ok(found) if found.kind == FileKind::Directory => {
                Ok(Self { fs, directory, retention: Retention::default() })
            }
            Ok(_) => {
                let what = format!("{} is not a directory of hints", directory.display());
                Err(Error::new(ErrorKind::Invalid, what))
            }
            Err(error) => {
                let what = format!("the hints directory {} cannot be opened", directory.display());
                Err(Error::new(ErrorKind::Invalid, what).with_source(error))
            }
        }
    }

    /// Gathers what `add` makes of the sets, by descending number. They are read one after the other: each may be
    /// large.
    ///
    /// Another call removes a set only when newer ones are stored. Where a listed set is gone when it is read, what is
    /// best now is not in the list, and everything is read again.
    fn gather<T: Default>(&self, deadline: Deadline, add: impl Fn(&mut T, Stored)) -> Result<T> {
        let mut listed = self.list()?;
        loop {
            let (mut gathered, mut is_gone) = (T::default(), false);
            for (number, digest, path) in listed.iter().rev() {
                let (number, path) = (*number, path.clone());
                let hints = self.read(&path, digest).unwrap_or_else(|error| {
                    is_gone |= error.kind() == io::ErrorKind::NotFound;
                    Err(failed("reading", &path, error))
                });
                add(&mut gathered, Stored { number, path, hints });
            }
            if !is_gone {
                return Ok(gathered);
            }
            let again = self.list()?;
            if again == listed {
                // Nobody removed it: it cannot be read.
                return Ok(gathered);
            }
            if deadline.has_passed() {
                let what = format!("the sets in {} changed while they were read", self.directory.display());
                return Err(Error::new(ErrorKind::Unavailable, what));
            }
            listed = again;
        }
    }

    /// Lists the files that have the name of a hint set: number, digest and path, by number.
    fn list(&self) -> Result<Vec<(u64, String, PathBuf)>> {
        let entries = self.fs.read_dir(&self.directory).map_err(|e| failed("listing", &self.directory, e))?;
        let of_set = |entry: DirEntry| {
            let (number, digest) = parse_name(&entry.name)?;
            Some((number, digest, self.directory.join(&entry.name)))
        };
        Ok(entries.into_iter().filter(|entry| entry.kind == FileKind::File).filter_map(of_set).collect())
    }

    /// Reads a set.
    ///
    /// # Errors
    /// Outside, those of the file system; inside, what is wrong with the content.
    fn read(&self, path: &Path, digest: &str) -> io::Result<Result<FsmHints>> {
        let content = {
            let file = self.fs.open(path, OpenMode::Read)?;
            let len = file.metadata()?.len;
            if len > SET_BYTES_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            let mut content = vec![0; len as usize];
            file.read_exact_at(&mut content, 0)?;
            content
        };
        let actual = digest_of(&content);
        if actual != digest {
            let what = format!("the hint set {} is not what was written", path.display());
            return Ok(Err(Error::new(ErrorKind::Corrupt, what)
                .expected(digest, actual)
                .advise("use other hints")));
        }
        Ok(FsmHints::decode(&content).map_err(Error::from))
    }

    /// Writes one set under a name that no other one has.
    fn write(&self, number: u64, content: &[u8], extension: &str) -> Result<()> {
        let digest = digest_of(content);
        let nonce = crate::entropy::random_author()?.register_value();
        let temporary = self.directory.join(format!(".{number:016x}-{nonce}.tmp"));
        let path = self.directory.join(format!("{number:016x}-{digest}.{extension}"));
        let file = self.fs.open(&temporary, OpenMode::CreateNew).map_err(|e| failed("writing", &path, e))?;
        let written = || -> io::Result<()> {
            file.write_all_at(content, 0)?;
            if !planted(Bug::NamedBeforeFlush) {
                file.sync_all()?;
            }
            self.fs.rename_no_replace(&temporary, &path)
        };
        if let Err(error) = written() {
            // The temporary file is ours; where it cannot be removed it does no harm.
            drop(self.fs.remove_file(&temporary));
            // Another process stored the same content under the same number.
            if error.kind() != io::ErrorKind::AlreadyExists {
                return Err(failed("writing", &path, error));
            }
        }
        self.fs.sync_dir(&self.directory).map_err(|e| failed("making durable", &path, e))
    }

    /// Removes readable sets of `log` that are older than those that are kept.
    fn remove_old(&self, log: Option<&JournalName>, deadline: Deadline) -> Result<()> {
        let of_log = |sets: &mut Vec<_>, stored: Stored| {
            let hints = stored.hints.ok().filter(|hints| hints.log.as_ref() == log);
            let nanos = |hints: &FsmHints| hints.as_of.map_or(i64::MIN, |as_of| as_of.unix_nanos);
            sets.extend(hints.map(|hints| (Age::of(&hints), stored.number, nanos(&hints), stored.path)));
        };
        let mut sets: Vec<Aged> = self.gather(deadline, of_log)?;
        sets.sort_by(|a, b| b.cmp(a));
        for path in self.retention.outlived(&sets) {
            match self.fs.remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("removing", path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl HintStore for DirectoryHints {
    fn candidates(&self, log: &JournalName, deadline: Deadline) -> Result<Vec<Candidate>> {
        let mut candidates = self.gather(deadline, |candidates: &mut Vec<_>, stored| {
            candidates.push(Candidate::new(stored.path.display().to_string(), stored.hints));
        })?;
        sort_candidates(&mut candidates, log);
        Ok(candidates)
    }

    fn store(&self, hints: &FsmHints, deadline: Deadline) -> Result<()> {
        let (last, newest) =
            self.gather(deadline, |(last, newest): &mut (u64, Option<FsmHints>), stored| {
                *last = stored.number.max(*last);
                let of_log = stored.hints.ok().filter(|other| other.log == hints.log);
                *newest = newest.take().into_iter().chain(of_log).max_by_key(Age::of);
            })?;
        refuse_older(hints, &newest)?;
        drop(newest);
        let (content, extension) = encode(hints);
        let number = last.saturating_add(1);
        self.write(number, &content, extension)?;
        self.remove_old(hints.log.as_ref(), deadline)
    }
}

/// Returns the number and the digest in the name of a hint set.
fn parse_name(name: &OsStr) -> Option<(u64, String)> {
    let (number, rest) = name.to_str()?.split_once('-')?;
    let digest = rest.strip_suffix(".json").or_else(|| rest.strip_suffix(".pb"))?;
    let is_hex = |text: &str, len: usize| text.len() == len && text.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_hex(number, 16) || !is_hex(digest, 40) {
        return None;
    }
    Some((u64::from_str_radix(number, 16).ok()?, digest.to_ascii_lowercase()))
}

fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    Error::io(format!("{what} {} failed", path.display()), error)
}

fn digest_of(content: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    Sha1::digest(content).iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::hint_store::conformance::{self, Place};
    use crate::hint_store::tests::hints;
    use crate::hints::Property;
    use crate::ids::LogPath;
    use crate::vfs::{CrashPlan, MemoryFs};

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(10))
    }

    fn store(fs: &MemoryFs) -> DirectoryHints {
        DirectoryHints::open(Arc::new(fs.clone()), Path::new("/hints/orders")).unwrap()
    }

    #[test]
    fn directory_hints_in_memory_conform() {
        let make = || {
            let fs = MemoryFs::new();
            let open = move || Arc::new(store(&fs)) as Arc<dyn HintStore>;
            Place::empty(open()).reopened_by(open)
        };
        let report = conformance::run(&make).unwrap_or_else(|failures| panic!("{failures}"));
        assert_eq!(report.declined, [""; 0]);
    }

    #[cfg(unix)]
    #[test]
    fn directory_hints_of_the_operating_system_conform() {
        let make = || {
            let place = tempfile::tempdir().unwrap();
            let open = move || -> Arc<dyn HintStore> {
                Arc::new(DirectoryHints::open(Arc::new(crate::vfs::OsFs::new()), place.path()).unwrap())
            };
            Place::empty(open()).reopened_by(open)
        };
        let report = conformance::run(&make).unwrap_or_else(|failures| panic!("{failures}"));
        assert_eq!(report.declined, [""; 0]);
    }

    #[test]
    fn what_was_stored_survives_a_crash() {
        let fs = MemoryFs::new();
        store(&fs).store(&hints("a/log", 7, 1), soon()).unwrap();
        let after = store(&fs.crash_image(CrashPlan::DropUnsynced));
        let log = JournalName::new("a/log").unwrap();
        assert_eq!(after.candidates(&log, soon()).unwrap().len(), 1);
    }

    #[test]
    fn a_directory_whose_maker_died_before_it_was_durable_is_made_so() {
        let fs = MemoryFs::new();
        for made in ["/hints", "/hints/orders"] {
            fs.create_dir(Path::new(made)).unwrap();
        }
        store(&fs).store(&hints("a/log", 10, 1), soon()).unwrap();
        let image = fs.crash_image(CrashPlan::DropUnsynced);
        let found = store(&image).candidates(&JournalName::new("a/log").unwrap(), soon()).unwrap();
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_property_keeps_bytes_that_are_no_text() {
        let store = store(&MemoryFs::new());
        let mut set = hints("a/log", 7, 1);
        let (path, content) = (LogPath::from_bytes(b"/IDENTITY"), Bytes::from_static(b"\xff\0raw"));
        set.properties.push(Property { path, content });
        store.store(&set, soon()).unwrap();
        let candidates = store.candidates(&JournalName::new("a/log").unwrap(), soon()).unwrap();
        assert_eq!(candidates[0].hints.as_ref().unwrap(), &set);
    }

    #[test]
    fn only_the_newest_sets_are_kept_and_foreign_files_stay() {
        let fs = MemoryFs::new();
        let store = store(&fs);
        for name in ["notes.txt", "0000000000000001-abc.json"] {
            fs.open(&Path::new("/hints/orders").join(name), OpenMode::CreateNew).unwrap();
        }
        for seq_no in 1..=10 {
            store.store(&hints("a/log", seq_no, 1), soon()).unwrap();
        }
        let names = fs.read_dir(Path::new("/hints/orders")).unwrap();
        assert_eq!(names.len(), Retention::default().sets + 2, "{names:?}");
    }

    #[test]
    fn sets_are_kept_by_their_number_their_age_and_the_log_between_and_the_newest_three_always() {
        let kept = |retention: Retention| {
            let store = store(&MemoryFs::new()).keep(retention);
            // One operation is 10 bytes of the log, and a nanosecond.
            for seq_no in (10..=100).step_by(10) {
                store.store(&hints("a/log", seq_no, 1), soon()).unwrap();
            }
            store.store(&hints("b/log", 1, 1), soon()).unwrap();
            let candidates = store.candidates(&JournalName::new("a/log").unwrap(), soon()).unwrap();
            assert_eq!(candidates.last().unwrap().hints.as_ref().unwrap().last_seq_no().unwrap().get(), 1);
            candidates.len() - 1
        };
        let all = Retention { sets: usize::MAX, ..Retention::default() };
        let (nanos, none) = (Duration::from_nanos, Duration::ZERO);
        for (retention, sets) in [
            (all, 10),
            (Retention { sets: 7, ..all }, 7),
            (Retention { sets: 0, ..all }, 3),
            (Retention { age: nanos(50), ..all }, 6),
            (Retention { age: nanos(49), ..all }, 5),
            (Retention { age: none, ..all }, 3),
            (Retention { log_bytes: 400, ..all }, 5),
            (Retention { log_bytes: 399, ..all }, 4),
            (Retention { log_bytes: 400, age: nanos(30), sets: 9 }, 4),
        ] {
            assert_eq!(kept(retention), sets, "{retention:?}");
        }
    }

    #[test]
    fn a_damaged_set_is_reported_and_does_not_hide_the_others() {
        let fs = MemoryFs::new();
        let store = store(&fs);
        for seq_no in 1..=2 {
            store.store(&hints("a/log", seq_no, 1), soon()).unwrap();
        }
        let newest = fs.read_dir(Path::new("/hints/orders")).unwrap().pop().unwrap();
        let file = fs.open(&Path::new("/hints/orders").join(newest.name), OpenMode::ReadWrite).unwrap();
        file.write_all_at(b"X", 3).unwrap();
        let candidates = store.candidates(&JournalName::new("a/log").unwrap(), soon()).unwrap();
        assert_eq!(candidates[0].hints.as_ref().unwrap().last_seq_no().unwrap().get(), 1);
        assert_eq!(candidates[1].hints.as_ref().unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
