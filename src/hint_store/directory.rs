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

use sha1::{Digest, Sha1};

use super::{Age, Candidate, HintStore, refuse_older, sort_candidates};
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::hints::FsmHints;
use crate::ids::JournalName;
use crate::vfs::{FileKind, FileSystem, OpenMode, create_dir_all_synced, resolve_named};

/// Readable sets of one log that are kept: the newest, and some to fall back on.
const KEPT_SETS: usize = 4;
/// The longest file that is read as a hint set.
const SET_BYTES_MAX: u64 = 1 << 30;

/// Hint sets in a directory: `NUMBER-DIGEST.json`, or `.pb` for a set with bytes that JSON cannot keep. The
/// reference reads both forms.
#[derive(Debug)]
pub struct DirectoryHints {
    fs: Arc<dyn FileSystem>,
    directory: PathBuf,
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
        create_dir_all_synced(&*fs, &directory).map_err(|e| {
            Error::io(format!("creating the hints directory {} failed", directory.display()), e)
        })?;
        Ok(Self { fs, directory })
    }

    /// Opens the directory for reading only; it must exist.
    ///
    /// # Errors
    /// `Invalid` where it is missing, or is no directory.
    pub fn open_existing(fs: Arc<dyn FileSystem>, directory: &Path) -> Result<Self> {
        let directory = resolve_named(&*fs, directory);
        match fs.metadata(&directory) {
            Ok(found) if found.kind == FileKind::Directory => Ok(Self { fs, directory }),
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

    /// Reads the sets one after the other, as they are asked for: each may be large.
    fn stored(&self) -> Result<impl DoubleEndedIterator<Item = Stored>> {
        let entries = self.fs.read_dir(&self.directory).map_err(|e| failed("listing", &self.directory, e))?;
        let of_file = move |entry: crate::vfs::DirEntry| {
            let (number, digest) = parse_name(&entry.name)?;
            let path = self.directory.join(&entry.name);
            let hints = self.read(&path, &digest);
            Some(Stored { number, path, hints })
        };
        Ok(entries.into_iter().filter(|entry| entry.kind == FileKind::File).filter_map(of_file))
    }

    fn read(&self, path: &Path, digest: &str) -> Result<FsmHints> {
        let read = || -> io::Result<Vec<u8>> {
            let file = self.fs.open(path, OpenMode::Read)?;
            let len = file.metadata()?.len;
            if len > SET_BYTES_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            let mut content = vec![0; len as usize];
            file.read_exact_at(&mut content, 0)?;
            Ok(content)
        };
        let content = read().map_err(|e| failed("reading", path, e))?;
        let actual = digest_of(&content);
        if actual != digest {
            let what = format!("the hint set {} is not what was written", path.display());
            return Err(Error::new(ErrorKind::Corrupt, what)
                .expected(digest, actual)
                .advise("use other hints"));
        }
        Ok(FsmHints::decode(&content)?)
    }

    /// Writes one set under a name that no other one has.
    fn write(&self, number: u64, content: &[u8], extension: &str) -> Result<()> {
        let digest = digest_of(content);
        let nonce = crate::entropy::random_author()?.register_value();
        let temporary = self.directory.join(format!(".{number:016x}-{nonce}.tmp"));
        let path = self.directory.join(format!("{number:016x}-{digest}.{extension}"));
        let written = || -> io::Result<()> {
            let file = self.fs.open(&temporary, OpenMode::CreateNew)?;
            file.write_all_at(content, 0)?;
            file.sync_all()?;
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
    fn remove_old(&self, log: Option<&JournalName>) -> Result<()> {
        let of_log = |stored: Stored| {
            let hints = stored.hints.ok().filter(|hints| hints.log.as_ref() == log)?;
            Some((Age::of(&hints), stored.number, stored.path))
        };
        let mut sets: Vec<_> = self.stored()?.filter_map(of_log).collect();
        sets.sort_by(|a, b| b.cmp(a));
        for (_, _, path) in sets.iter().skip(KEPT_SETS) {
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
    fn candidates(&self, log: &JournalName, _deadline: Deadline) -> Result<Vec<Candidate>> {
        let stored = self.stored()?;
        let mut candidates: Vec<_> = stored
            .rev()
            .map(|stored| Candidate::new(stored.path.display().to_string(), stored.hints))
            .collect();
        sort_candidates(&mut candidates, log);
        Ok(candidates)
    }

    fn store(&self, hints: &FsmHints, _deadline: Deadline) -> Result<()> {
        let mut last = 0;
        let mut newest: Option<FsmHints> = None;
        for stored in self.stored()? {
            last = last.max(stored.number);
            let of_log = stored.hints.ok().filter(|other| other.log == hints.log);
            newest = newest.into_iter().chain(of_log).max_by_key(Age::of);
        }
        refuse_older(hints, &newest)?;
        drop(newest);
        let (content, extension) =
            if is_text(hints) { (hints.encode_json(), "json") } else { (hints.encode_proto(), "pb") };
        let number = last.saturating_add(1);
        self.write(number, &content, extension)?;
        self.remove_old(hints.log.as_ref())
    }
}

/// Tells whether JSON keeps every byte of a set.
fn is_text(hints: &FsmHints) -> bool {
    let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
    hints.properties.iter().all(|property| is_text(property.path.as_bytes()) && is_text(&property.content))
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
    use crate::hint_store::tests::{hints, keeps_the_promises_of_a_hint_store};
    use crate::hints::Property;
    use crate::ids::LogPath;
    use crate::vfs::{CrashPlan, MemoryFs};

    fn soon() -> Deadline {
        Deadline::after(std::time::Duration::from_secs(10))
    }

    fn store(fs: &MemoryFs) -> DirectoryHints {
        DirectoryHints::open(Arc::new(fs.clone()), Path::new("/hints/orders")).unwrap()
    }

    #[test]
    fn directory_hints_keep_the_promises_of_a_hint_store() {
        keeps_the_promises_of_a_hint_store(&store(&MemoryFs::new()));
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
        assert_eq!(names.len(), KEPT_SETS + 2, "{names:?}");
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
