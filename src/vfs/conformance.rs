//! The suite that every file system runs, also those made elsewhere.
//!
//! *Invariants.* There is one list of cases, and [`run`] runs all of it. A case that needs what a file system does
//! not declare is reported as declined, never left out in silence.
//!
//! *Does not* know what a disk does when its power fails: what was synced is looked for only where a fixture can tell
//! what is left.

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
mod durable;
mod names;
mod open;
mod shared;

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{File, FileSystem, OpenMode};
pub use crate::conformance::{Failures, Report};
use crate::conformance::{Outcome as Ended, Tally};

/// Plants a symbolic link: where it leads, and where it is.
type PlantSymlink = dyn Fn(&Path, &Path) -> io::Result<()>;
type PowerLoss = dyn Fn() -> Arc<dyn FileSystem>;

/// A fresh file system to run one case on.
pub struct Fixture {
    fs: Arc<dyn FileSystem>,
    root: PathBuf,
    plant_symlink: Option<Box<PlantSymlink>>,
    power_loss: Option<Box<PowerLoss>>,
    keep: Box<dyn Any>,
}

impl Fixture {
    /// A file system, and an empty directory in it.
    pub fn new(fs: Arc<dyn FileSystem>, root: impl Into<PathBuf>) -> Self {
        Self { fs, root: root.into(), plant_symlink: None, power_loss: None, keep: Box::new(()) }
    }

    /// Adds the way to make symbolic links, which the seam cannot; needed where [`Capabilities::symlinks`] is declared.
    #[must_use]
    pub fn planting_symlinks_by(mut self, plant: impl Fn(&Path, &Path) -> io::Result<()> + 'static) -> Self {
        self.plant_symlink = Some(Box::new(plant));
        self
    }

    /// Adds the way to see what is left when the power fails now: at least what was synced, best nothing else. The
    /// file system itself goes on. Needed where [`Capabilities::power_loss`] is declared.
    #[must_use]
    pub fn losing_power_by(mut self, lose: impl Fn() -> Arc<dyn FileSystem> + 'static) -> Self {
        self.power_loss = Some(Box::new(lose));
        self
    }

    /// Adds whatever must live as long as the case, and cleans up after it.
    #[must_use]
    pub fn keeping(mut self, keep: impl Any) -> Self {
        self.keep = Box::new(keep);
        self
    }
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
    /// Can hold symbolic links, made by [`Fixture::planting_symlinks_by`].
    pub symlinks: bool,
    /// Can tell what a power loss leaves, by [`Fixture::losing_power_by`]: a double of a disk can, a disk cannot.
    pub power_loss: bool,
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
        power_loss: true,
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
            Need::PowerLoss => self.power_loss,
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
    PowerLoss,
    BootId,
}

/// One claim about a file system.
struct Case {
    name: &'static str,
    need: Need,
    body: fn(&Fixture) -> Outcome,
}

/// All cases.
const CASES: [&[Case]; 6] =
    [open::CASES, content::CASES, names::CASES, beneath::CASES, shared::CASES, durable::CASES];

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

/// Runs every case, each on a file system of its own.
///
/// ```
/// use std::sync::Arc;
/// use recoverylog::vfs::conformance::{Capabilities, Fixture, run};
/// use recoverylog::vfs::MemoryFs;
///
/// let can = Capabilities { symlinks: false, power_loss: false, ..Capabilities::ALL };
/// let report = run(&|| Fixture::new(Arc::new(MemoryFs::new()), "/"), can);
/// let report = report.unwrap_or_else(|failures| panic!("{failures}"));
/// assert!(report.held.contains(&"rename_onto_itself_changes_nothing"));
/// ```
///
/// # Errors
/// Names every case that does not hold.
pub fn run(make: &dyn Fn() -> Fixture, capabilities: Capabilities) -> Result<Report, Failures> {
    let mut tally = Tally::default();
    for case in CASES.iter().copied().flatten() {
        let outcome = if capabilities.include(case.need) {
            (case.body)(&make()).map(|()| Ended::Held).map_err(|Mismatch(what)| what)
        } else {
            Ok(Ended::Declined)
        };
        tally.add(case.name, outcome);
    }
    tally.finish()
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
