//! Where the files of one journal lie, what they are called, and how their errors read.
//!
//! *Invariants.* Only names that are parsed here are ever touched.
//!
//! *Does not* open files.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::ids::{JournalName, Offset};
use crate::journal::{JournalError, STATE_FOLDER};
use crate::vfs::{FileKind, FileSystem};

/// The place of one journal.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) fs: Arc<dyn FileSystem>,
    pub(super) root: PathBuf,
    pub(super) journal: JournalName,
    /// The folder of the sealed fragments.
    pub(super) content: PathBuf,
    /// The folder of everything else.
    pub(super) state: PathBuf,
    /// A flush of one of the folders failed; shared by all clones.
    names_lost: Arc<AtomicBool>,
}

/// The name of a sealed fragment without its extension.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Sealed {
    pub(super) begin: Offset,
    pub(super) end: Offset,
    pub(super) sum: [u8; 20],
}

/// A name in the folder of the state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum StateName {
    Open(u64),
    New(u64),
    Sealing(Sealed),
    Copy(String),
}

impl Place {
    pub(super) fn new(fs: Arc<dyn FileSystem>, root: &Path, journal: &JournalName) -> Self {
        Self {
            fs,
            root: root.to_owned(),
            journal: journal.clone(),
            content: root.join(journal.as_str()),
            state: root.join(STATE_FOLDER).join("journals").join(journal.as_str()),
            names_lost: Arc::default(),
        }
    }

    pub(super) fn head_path(&self) -> PathBuf {
        self.state.join("head")
    }

    pub(super) fn lock_path(&self) -> PathBuf {
        self.state.join("lock")
    }

    pub(super) fn retired_path(&self) -> PathBuf {
        self.state.join("retired")
    }

    pub(super) fn open_path(&self, id: u64) -> PathBuf {
        self.state.join(format!("{id:016x}.open"))
    }

    pub(super) fn new_path(&self, id: u64) -> PathBuf {
        self.state.join(format!("{id:016x}.new"))
    }

    pub(super) fn sealing_path(&self, sealed: Sealed) -> PathBuf {
        self.state.join(format!("{sealed}.sealing"))
    }

    pub(super) fn copy_path(&self, sealed: Sealed, attempt: u32) -> PathBuf {
        self.state.join(format!("{sealed}.{attempt}.copy"))
    }

    pub(super) fn sealed_path(&self, sealed: Sealed) -> PathBuf {
        self.content.join(format!("{sealed}.raw"))
    }

    /// Lists the files of the state that belong to open files, in order of their names.
    pub(super) fn state_names(&self) -> Result<Vec<StateName>, JournalError> {
        let entries = match self.fs.read_dir(&self.state) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(self.io("listing the open files", error)),
        };
        Ok(entries.iter().filter_map(|entry| StateName::parse(entry.name.to_str()?)).collect())
    }

    /// Returns the ids of the open files, in ascending order.
    pub(super) fn open_ids(&self) -> Result<Vec<u64>, JournalError> {
        let names = self.state_names()?;
        let ids =
            names.iter().filter_map(|name| if let StateName::Open(id) = name { Some(*id) } else { None });
        Ok(ids.collect())
    }

    pub(super) fn sync_state(&self) -> Result<(), JournalError> {
        self.sync_names(&self.state)
    }

    pub(super) fn sync_content(&self) -> Result<(), JournalError> {
        self.sync_names(&self.content)
    }

    fn sync_names(&self, folder: &Path) -> Result<(), JournalError> {
        self.fs.sync_dir(folder).map_err(|error| {
            self.names_lost.store(true, Ordering::Release);
            self.io(format!("flushing the folder {}", folder.display()), error)
        })
    }

    /// Tells whether a flush of a folder failed: no later one says anything about the names in it.
    pub(super) fn has_lost_names(&self) -> bool {
        self.names_lost.load(Ordering::Acquire)
    }

    /// Removes a file of the state that may be gone already; the folder is left to be flushed.
    pub(super) fn remove(&self, path: &Path) -> Result<(), JournalError> {
        match self.fs.remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.io(format!("removing {}", path.display()), error))
            }
            _ => Ok(()),
        }
    }

    /// Tells whether the journal takes no appends any more.
    pub(super) fn is_retired(&self) -> Result<bool, JournalError> {
        self.exists(&self.retired_path())
    }

    pub(super) fn exists(&self, path: &Path) -> Result<bool, JournalError> {
        self.kind(path).map(|kind| kind.is_some())
    }

    pub(super) fn is_file(&self, path: &Path) -> Result<bool, JournalError> {
        self.kind(path).map(|kind| kind == Some(FileKind::File))
    }

    fn kind(&self, path: &Path) -> Result<Option<FileKind>, JournalError> {
        match self.fs.metadata(path) {
            Ok(found) => Ok(Some(found.kind)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(self.io(format!("looking for {}", path.display()), error)),
        }
    }

    pub(super) fn io(&self, what: impl Into<String>, source: io::Error) -> JournalError {
        JournalError::Io { journal: self.journal.clone(), what: what.into(), source: Arc::new(source) }
    }

    pub(super) fn corrupt(
        &self,
        offset: Offset,
        what: impl Into<String>,
        expected: impl fmt::Display,
        actual: impl fmt::Display,
    ) -> JournalError {
        JournalError::Corrupt {
            journal: self.journal.clone(),
            offset,
            what: what.into(),
            expected: expected.to_string(),
            actual: actual.to_string(),
        }
    }

    /// What is said where the open file that a head names is not there, nor one that came after it.
    pub(super) fn gone(&self, id: u64) -> JournalError {
        let what = format!("{} is gone", self.open_path(id).display());
        self.corrupt(Offset::ZERO, what, "the file that the head names", "no file")
    }

    pub(super) fn diverged(&self, offset: Offset, what: impl Into<String>) -> JournalError {
        JournalError::Diverged { journal: self.journal.clone(), offset, what: what.into() }
    }

    pub(super) fn unavailable(&self, what: impl Into<String>) -> JournalError {
        JournalError::Unavailable { journal: self.journal.clone(), what: what.into() }
    }

    pub(super) fn wedged(&self, what: impl Into<String>) -> JournalError {
        JournalError::Wedged { journal: self.journal.clone(), what: what.into() }
    }

    /// What is said once names were lost.
    pub(super) fn names_lost(&self) -> JournalError {
        self.wedged("a flush of one of its folders failed: until the machine is started anew no file can be relied on")
    }

    pub(super) fn not_allowed(&self, what: impl Into<String>) -> JournalError {
        JournalError::NotAllowed { journal: self.journal.clone(), what: what.into() }
    }

    pub(super) fn invalid(&self, what: impl Into<String>) -> JournalError {
        JournalError::Invalid { journal: self.journal.clone(), what: what.into() }
    }
}

impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}-{}", self.begin.get(), self.end.get(), self.sum_hex())
    }
}

impl Sealed {
    /// Returns the sum as the name has it.
    pub(super) fn sum_hex(&self) -> String {
        self.sum.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    }

    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let begin = Offset::new(parse_hex(parts.next()?)?)?;
        let end = Offset::new(parse_hex(parts.next()?)?)?;
        let digits = parts.next().filter(|digits| digits.len() == 40)?;
        if parts.next().is_some() || end <= begin {
            return None;
        }
        let mut sum = [0; 20];
        for (index, byte) in sum.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(index * 2..index * 2 + 2)?, 16).ok()?;
        }
        let sealed = Self { begin, end, sum };
        (sealed.to_string() == name).then_some(sealed)
    }
}

impl StateName {
    fn parse(name: &str) -> Option<Self> {
        let (stem, kind) = name.rsplit_once('.')?;
        match kind {
            "open" => parse_hex(stem).map(Self::Open),
            "new" => parse_hex(stem).map(Self::New),
            "sealing" => Sealed::parse(stem).map(Self::Sealing),
            "copy" => Some(Self::Copy(name.into())),
            _ => None,
        }
    }
}

/// Reads 16 lower-case hexadecimal digits.
fn parse_hex(digits: &str) -> Option<u64> {
    let value = u64::from_str_radix(digits, 16).ok()?;
    (format!("{value:016x}") == digits).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_were_written_here_are_parsed() {
        let sealed = Sealed { begin: Offset::ZERO, end: Offset::new(0xab).unwrap(), sum: [0x1f; 20] };
        let name = format!("{sealed}.sealing");
        assert_eq!(StateName::parse(&name), Some(StateName::Sealing(sealed)));
        assert_eq!(StateName::parse("00000000000000ff.open"), Some(StateName::Open(255)));
        assert_eq!(StateName::parse("00000000000000ff.new"), Some(StateName::New(255)));
        for other in
            ["ff.open", "00000000000000FF.open", "+0000000000000ff.open", "head", &name.replace('1', "F")]
        {
            assert_eq!(StateName::parse(other), None, "{other}");
        }
    }
}
