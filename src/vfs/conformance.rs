//! The suite that every file system runs, also those made elsewhere.
//!
//! *Invariants.* There is one list of cases, and [`run`] runs all of it. A case that needs what a file system does
//! not declare is reported as unsupported, never left out in silence.
//!
//! *Does not* test what survives a crash: only `MemoryFs` can tell.

/// Ends the case unless two values are equal.
macro_rules! same {
    ($got:expr, $expected:expr $(, $($what:tt)+)?) => {
        match (&$got, &$expected) {
            (got, expected) => {
                if *got != *expected {
                    let what = format!("{}: got {got:?}, expected {expected:?}", stringify!($got));
                    $(let what = format!("{}: {what}", format_args!($($what)+));)?
                    return Err(super::Mismatch::new(what));
                }
            }
        }
    };
}

/// Ends the case unless a call fails with an error of this kind.
macro_rules! fails {
    ($call:expr, $kind:expr $(, $($what:tt)+)?) => {
        same!(($call).map(drop).map_err(|error| error.kind()), Err::<(), _>($kind) $(, $($what)+)?)
    };
}

/// Lists cases by the names of their functions.
macro_rules! cases {
    ($($need:ident: $($name:ident)+;)+) => {
        &[$($(super::Case { name: stringify!($name), need: super::Need::$need, body: $name },)+)+]
    };
}

mod beneath;
mod content;
mod names;
mod open;
mod shared;

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{File, FileSystem, OpenMode};

/// Plants a symbolic link: where it leads, and where it is.
pub type PlantSymlink = dyn Fn(&Path, &Path) -> io::Result<()>;

/// A file system to be tested.
pub struct Fixture {
    /// The file system.
    pub fs: Arc<dyn FileSystem>,
    /// An empty directory in it.
    pub root: PathBuf,
    /// Makes symbolic links, which the seam cannot; must be there where [`Capabilities::symlinks`] is declared.
    pub plant_symlink: Option<Box<PlantSymlink>>,
    /// Whatever must live as long as the test, and cleans up after it.
    pub keep: Box<dyn Any>,
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("fs", &self.fs).field("root", &self.root).finish_non_exhaustive()
    }
}

/// What a file system can do beyond what all must.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent capability")]
pub struct Capabilities {
    /// Links files at several names.
    pub hard_links: bool,
    /// Reserves space.
    pub allocate: bool,
    /// Locks files.
    pub locks: bool,
    /// Maps shared words.
    pub shared_words: bool,
    /// Can hold symbolic links, made by [`Fixture::plant_symlink`].
    pub symlinks: bool,
    /// Knows the boot of its machine.
    pub boot_id: bool,
}

impl Capabilities {
    /// Everything.
    pub const ALL: Self = Self {
        hard_links: true,
        allocate: true,
        locks: true,
        shared_words: true,
        symlinks: true,
        boot_id: true,
    };

    const fn include(self, need: Need) -> bool {
        match need {
            Need::Nothing => true,
            Need::HardLinks => self.hard_links,
            Need::Allocate => self.allocate,
            Need::Locks => self.locks,
            Need::SharedWords => self.shared_words,
            Need::Symlinks => self.symlinks,
            Need::BootId => self.boot_id,
        }
    }
}

/// What a case needs.
#[derive(Clone, Copy)]
enum Need {
    Nothing,
    HardLinks,
    Allocate,
    Locks,
    SharedWords,
    Symlinks,
    BootId,
}

/// One claim about a file system.
struct Case {
    name: &'static str,
    need: Need,
    body: fn(&Fixture) -> Outcome,
}

/// All cases.
const CASES: [&[Case]; 5] = [open::CASES, content::CASES, names::CASES, beneath::CASES, shared::CASES];

/// How a case ended.
type Outcome = Result<(), Mismatch>;

/// How a file system differs from what it should do.
struct Mismatch(String);

impl Mismatch {
    #[track_caller]
    fn new(what: impl fmt::Display) -> Self {
        let place = Location::caller();
        Self(format!("{what} ({}:{})", place.file(), place.line()))
    }
}

impl From<io::Error> for Mismatch {
    #[track_caller]
    fn from(error: io::Error) -> Self {
        Self::new(format_args!("{error} ({:?})", error.kind()))
    }
}

/// What was run.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// The cases that hold.
    pub passed: Vec<&'static str>,
    /// The cases that need what is not declared.
    pub unsupported: Vec<&'static str>,
}

/// The cases that do not hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failures {
    /// Each case, and what was different.
    pub failed: Vec<(&'static str, String)>,
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cases do not hold", self.failed.len())?;
        for (case, what) in &self.failed {
            write!(f, "\n{case}: {what}")?;
        }
        Ok(())
    }
}

impl Error for Failures {}

/// Runs every case, each on a file system of its own.
///
/// # Errors
/// Names every case that does not hold.
pub fn run(make: &dyn Fn() -> Fixture, capabilities: Capabilities) -> Result<Report, Failures> {
    let (mut report, mut failed) = (Report::default(), Vec::new());
    for case in CASES.iter().copied().flatten() {
        if !capabilities.include(case.need) {
            report.unsupported.push(case.name);
            continue;
        }
        match (case.body)(&make()) {
            Ok(()) => report.passed.push(case.name),
            Err(Mismatch(what)) => failed.push((case.name, what)),
        }
    }
    if failed.is_empty() { Ok(report) } else { Err(Failures { failed }) }
}

impl Fixture {
    /// Returns the path of a name in the root.
    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.fs.open(&self.path(name), mode)
    }

    /// Makes a file with this content.
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<Arc<dyn File>> {
        let file = self.open(name, OpenMode::CreateNew)?;
        file.write_all_at(bytes, 0)?;
        Ok(file)
    }

    /// Returns the content of a file.
    fn get(&self, name: &str) -> io::Result<Vec<u8>> {
        whole(&*self.open(name, OpenMode::Read)?)
    }

    /// Returns the names in a directory of the root, the root itself for an empty name.
    fn names(&self, name: &str) -> io::Result<Vec<String>> {
        let entries = self.fs.read_dir(&self.path(name))?;
        Ok(entries.iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.fs.rename(&self.path(from), &self.path(to))
    }

    fn mkdir(&self, name: &str) -> io::Result<()> {
        self.fs.create_dir(&self.path(name))
    }

    fn symlink(&self, target: impl AsRef<Path>, link: &str) -> io::Result<()> {
        let plant = self.plant_symlink.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        plant(target.as_ref(), &self.path(link))
    }
}

/// Returns the content of a file, as long as its metadata say it is.
fn whole(file: &dyn File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len).unwrap_or_default()];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
