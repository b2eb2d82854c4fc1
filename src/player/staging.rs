//! The directory that a player builds, in its final layout from the first operation on.
//!
//! *Invariants.* Everything is reached beneath a directory that this module created, or found empty, and never
//! through a symbolic link, so that no log can write outside. Only what was created here is ever deleted. While
//! a directory is not whole it says so: it has another name, or holds the marker [`INCOMPLETE`].
//!
//! *Does not* know operations of dead files, checksums or hints; does not follow a log.

mod adopt;

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::adopt::Aside;
pub(super) use self::adopt::Tree;
use super::kept::Notes;
use crate::error::{Error, ErrorKind, Result};
use crate::fsm::Fsm;
use crate::ids::{Author, Fnode, InvalidPath, LogPath, RESERVED};
use crate::vfs::{File, FileKind, FileSystem, OpenMode, resolve_named};

/// Marker of a directory that is not whole, relative to its root.
pub(super) const INCOMPLETE: &str = ".recoverylog/INCOMPLETE";
/// Name of the marker in its folder.
const MARKER: &str = "INCOMPLETE";
/// The longest part of the target's name that the name of its staging directory repeats.
const NAME_BYTES_MAX: usize = 200;
/// Number of files held open at once.
const OPEN_FILES_MAX: usize = 256;

/// Tells whether `directory` is what a player left behind that was killed: parts of a tree, not the whole.
///
/// # Errors
/// What the file system says.
pub fn is_incomplete(fs: &dyn FileSystem, directory: &Path) -> io::Result<bool> {
    match fs.read_dir(&directory.join(RESERVED)) {
        // A marker comes and goes in two steps, and a machine may lose the second one: then its folder is empty.
        Ok(names) => Ok(names.is_empty() || names.iter().any(|name| name.name == MARKER)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// A directory under construction.
#[derive(Debug)]
pub(super) struct Staging {
    fs: Arc<dyn FileSystem>,
    root: Arc<dyn FileSystem>,
    place: Place,
    /// Directories that were created here, with the number of names in each. The root is the empty path.
    dirs: BTreeMap<PathBuf, usize>,
    /// One path of every file that exists here.
    files: BTreeMap<Fnode, Vec<LogPath>>,
    open: OpenFiles,
    /// Where a state is kept.
    notes: Option<Notes>,
    /// What is there can be gone on from, and is not removed.
    is_adopted: bool,
    aside: Option<Aside>,
}

/// Where a directory is built.
#[derive(Clone, Debug)]
enum Place {
    /// Beside the target, which did not exist; it is renamed to it when it is whole.
    Beside { staging: PathBuf, target: PathBuf },
    /// In the target, which was there and empty, and may be a mount point; or it was created for this.
    Inside { target: PathBuf, is_new: bool },
}

impl Place {
    /// Finds out where `target`, which no symbolic link leads to, is to be built.
    fn of(fs: &dyn FileSystem, target: &Path, author: Author) -> Result<Self> {
        match fs.metadata(target) {
            Ok(found) if found.kind == FileKind::Directory => {
                let names = fs.read_dir(target).map_err(|e| at_target("listing the target", target, e))?;
                let Some(name) = names.first() else {
                    return Ok(Self::Inside { target: target.to_owned(), is_new: false });
                };
                let what = format!("the target directory {} is not empty", target.display());
                Err(Error::new(ErrorKind::Invalid, what)
                    .expected("an empty or missing directory", format_args!("{} in it", name.name.display()))
                    .advise("name a new directory; nothing was changed"))
            }
            Ok(found) => {
                let what = format!("the target {} is not a directory", target.display());
                Err(Error::new(ErrorKind::Invalid, what)
                    .expected("a directory", format_args!("{:?}", found.kind)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let target_name = target.file_name().ok_or_else(|| {
                    Error::new(ErrorKind::Invalid, format!("the target {} has no name", target.display()))
                })?;
                let begin = target_name.as_bytes().get(..NAME_BYTES_MAX).unwrap_or(target_name.as_bytes());
                let mut name = OsString::from(".");
                name.push(OsStr::from_bytes(begin));
                name.push(format!(".staging-{}", author.register_value()));
                Ok(Self::Beside { staging: target.with_file_name(name), target: target.to_owned() })
            }
            Err(error) => Err(at_target("looking at the target", target, error)),
        }
    }

    /// Returns the directory that is built in.
    fn directory(&self) -> &Path {
        match self {
            Self::Beside { staging, .. } => staging,
            Self::Inside { target, .. } => target,
        }
    }
}

impl Staging {
    /// Begins a directory that is to become `target`, which may be named through symbolic links.
    ///
    /// # Errors
    /// `Invalid` where `target` is there and is not an empty directory; `Io` where the system says no. Nothing
    /// is left behind.
    pub(super) fn begin(fs: Arc<dyn FileSystem>, target: &Path, author: Author) -> Result<Self> {
        let place = Place::of(&*fs, &resolve_named(&*fs, target), author)?;
        if let Place::Beside { staging, .. } = &place {
            fs.create_dir(staging).map_err(|e| at_target("creating the staging directory", staging, e))?;
        }
        match begin_marked(&*fs, place.directory()) {
            Ok(root) => Ok(Self {
                fs,
                root,
                place,
                dirs: BTreeMap::from([(PathBuf::new(), 0)]),
                files: BTreeMap::new(),
                open: OpenFiles::default(),
                notes: None,
                is_adopted: false,
                aside: None,
            }),
            Err(error) => {
                if let Place::Beside { staging, .. } = &place {
                    // Created above, and empty.
                    drop(fs.remove_dir(staging));
                }
                Err(error)
            }
        }
    }

    /// Creates the file `fnode` at `path`.
    pub(super) fn create(&mut self, fnode: Fnode, path: &LogPath) -> Result<()> {
        let relative = checked(path)?;
        self.note_name(path)?;
        self.make_room(relative)?;
        let file = self
            .root
            .open(relative, OpenMode::CreateNew)
            .map_err(|e| io_at("creating a file", relative, e))?;
        self.count_in(relative);
        self.files.insert(fnode, vec![path.clone()]);
        self.open.insert(fnode, file);
        Ok(())
    }

    /// Links the file `fnode` at one more path.
    pub(super) fn link(&mut self, fnode: Fnode, path: &LogPath) -> Result<()> {
        let relative = checked(path)?;
        self.note_change(fnode)?;
        self.note_name(path)?;
        self.make_room(relative)?;
        let existing = self.path_of(fnode)?;
        self.root.hard_link(&existing, relative).map_err(|e| io_at("linking a file", relative, e))?;
        self.count_in(relative);
        self.files.entry(fnode).or_default().push(path.clone());
        Ok(())
    }

    /// Removes a path of the file `fnode`.
    pub(super) fn unlink(&mut self, fnode: Fnode, path: &LogPath) -> Result<()> {
        let relative = checked(path)?;
        self.note_change(fnode)?;
        self.root.remove_file(relative).map_err(|e| io_at("unlinking a file", relative, e))?;
        if let Some(names) = relative.parent().and_then(|parent| self.dirs.get_mut(parent)) {
            *names = names.saturating_sub(1);
        }
        if let Some(paths) = self.files.get_mut(&fnode) {
            paths.retain(|other| other != path);
            if paths.is_empty() {
                self.files.remove(&fnode);
                self.open.remove(fnode);
            }
        }
        Ok(())
    }

    /// Returns an open handle of the file `fnode`.
    pub(super) fn file(&mut self, fnode: Fnode) -> Result<Arc<dyn File>> {
        self.note_change(fnode)?;
        if let Some(file) = self.open.get(fnode) {
            return Ok(file);
        }
        let path = self.path_of(fnode)?;
        let file =
            self.root.open(&path, OpenMode::ReadWrite).map_err(|e| io_at("opening a file", &path, e))?;
        self.open.insert(fnode, Arc::clone(&file));
        Ok(file)
    }

    /// Lets go of the state, and of what else is in the reserved folder.
    fn end_notes(&mut self) -> Result<()> {
        let Some(notes) = self.notes.take() else { return Ok(()) };
        notes.end()?;
        adopt::clear_reserved(&*self.root)
    }

    fn note_name(&mut self, path: &LogPath) -> Result<()> {
        self.notes.as_mut().map_or(Ok(()), |notes| notes.name(path))
    }

    fn note_change(&mut self, fnode: Fnode) -> Result<()> {
        self.notes.as_mut().map_or(Ok(()), |notes| notes.change(fnode))
    }

    /// Returns where the directory is going to be.
    pub(super) fn target(&self) -> &Path {
        match &self.place {
            Place::Beside { target, .. } | Place::Inside { target, .. } => target,
        }
    }

    /// Completes the directory: hides the reserved folder, writes the properties, makes all of it durable if
    /// `sync` asks for that, and gives the directory its name. Where a state is kept, that of `fsm` is, if there is one.
    ///
    /// # Errors
    /// After an error the caller ends with [`Staging::abandon`].
    pub(super) fn finish<'a>(
        &mut self,
        properties: impl Iterator<Item = (&'a LogPath, &'a bytes::Bytes)>,
        sync: bool,
        fsm: Option<&Fsm>,
    ) -> Result<PathBuf> {
        for (path, content) in properties {
            let relative = checked(path)?;
            self.note_name(path)?;
            self.make_room(relative)?;
            let file = self.root.open(relative, OpenMode::CreateNew);
            let file = file.map_err(|e| io_at("creating a property file", relative, e))?;
            self.count_in(relative);
            // A property is no fnode; a key below the first one keeps it among what was created here.
            let key = Fnode::new(crate::ids::SeqNo::new(-(self.files.len() as i64) - 1));
            self.files.insert(key, vec![path.clone()]);
            file.write_all_at(content, 0).map_err(|e| io_at("writing a property file", relative, e))?;
        }
        self.open = OpenFiles::default();
        self.hide_reserved()?;
        self.remove_empty_dirs(Path::new(""))?;
        match self.place.clone() {
            Place::Inside { target, is_new } => {
                if let Some(fsm) = fsm.filter(|_| self.notes.is_some()) {
                    self.save(fsm)?;
                    let unmarked = self.root.remove_file(Path::new(INCOMPLETE));
                    unmarked.map_err(|e| io_at("removing the marker", Path::new(INCOMPLETE), e))?;
                } else {
                    if let Some(notes) = &self.notes {
                        // Whoever has it from here on changes it.
                        notes.forget()?;
                    }
                    if sync {
                        self.sync()?;
                    }
                    self.end_notes()?;
                    self.remove_marker()?;
                }
                if sync {
                    self.sync_names(&target)?;
                }
                if sync && is_new {
                    self.sync_names(parent_of(&target))?;
                }
                Ok(target)
            }
            Place::Beside { staging, target } => {
                self.remove_marker()?;
                if sync {
                    self.sync()?;
                }
                let renamed = self.fs.rename_no_replace(&staging, &target);
                renamed.map_err(|e| at_target("giving the finished directory its name", &target, e))?;
                // The name is the parent's.
                if sync && let Err(error) = self.sync_names(parent_of(&target)) {
                    // So that what is removed now has the name of what is not whole.
                    drop(self.fs.rename_no_replace(&target, &staging));
                    return Err(error);
                }
                Ok(target)
            }
        }
    }

    /// Removes everything that was created here. What cannot be removed stays, under the staging name or beside
    /// the marker.
    pub(super) fn abandon(mut self) {
        self.open = OpenFiles::default();
        if self.is_adopted && self.notes.as_ref().is_some_and(Notes::has_state) {
            return;
        }
        // What is taken apart is not whole, also where the marker is gone already.
        if mark(&*self.root).is_err() && matches!(self.place, Place::Inside { .. }) {
            return;
        }
        let mut whole = true;
        for path in std::mem::take(&mut self.files).into_values().flatten() {
            whole &= checked(&path).is_ok_and(|relative| self.root.remove_file(relative).is_ok());
        }
        // Deeper directories come after their parents in the order of paths.
        for dir in std::mem::take(&mut self.dirs).into_keys().rev().filter(|dir| !dir.as_os_str().is_empty())
        {
            whole &= dir == Path::new(RESERVED) || self.root.remove_dir(&dir).is_ok();
        }
        if whole
            && self.end_notes().is_ok()
            && self.remove_marker().is_ok()
            && let Place::Beside { staging: made, .. } | Place::Inside { target: made, is_new: true } =
                &self.place
        {
            // A directory that is not empty by now holds what somebody else put there.
            drop(self.fs.remove_dir(made));
        }
        self.put_back();
    }

    fn remove_marker(&mut self) -> Result<()> {
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        let removed = gone(self.root.remove_file(Path::new(INCOMPLETE)))
            .and_then(|()| gone(self.root.remove_dir(Path::new(RESERVED))));
        removed.map_err(|e| io_at("removing the marker of an incomplete directory", Path::new(INCOMPLETE), e))
    }

    /// Removes the files that only the reserved folder names: anchors, and files that were being built.
    fn hide_reserved(&mut self) -> Result<()> {
        let hidden = self.files.iter().flat_map(|(fnode, paths)| {
            paths.iter().filter(|path| path.is_reserved()).map(|path| (*fnode, path.clone()))
        });
        for (fnode, path) in hidden.collect::<Vec<_>>() {
            self.unlink(fnode, &path)?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        // By relative paths: together with that of the target they may be longer than the system takes.
        let synced = self.root.sync_tree(Path::new(""));
        synced.map_err(|e| at_target("making the directory durable", self.place.directory(), e))
    }

    fn sync_names(&self, path: &Path) -> Result<()> {
        self.fs.sync_dir(path).map_err(|e| at_target("making the name of the directory durable", path, e))
    }

    fn path_of(&self, fnode: Fnode) -> Result<PathBuf> {
        let path = self.files.get(&fnode).and_then(|paths| paths.first());
        let path = path.ok_or_else(|| {
            debug_assert!(false, "the state machine tracks exactly the files that are staged");
            Error::new(ErrorKind::Diverged, format!("file {fnode} is tracked and not staged"))
        })?;
        checked(path).map(Path::to_owned)
    }

    /// Creates the parents of `relative`, and clears away empty directories that hold its name.
    fn make_room(&mut self, relative: &Path) -> Result<()> {
        if self.dirs.contains_key(relative) {
            self.remove_empty_dirs(relative)?;
        }
        let Some(parent) = relative.parent() else { return Ok(()) };
        if self.dirs.contains_key(parent) {
            return Ok(());
        }
        self.make_room(parent)?;
        let made = match self.root.create_dir(parent) {
            // The marker's folder is there from the start.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && parent == Path::new(RESERVED) => {
                Ok(())
            }
            made => made,
        };
        made.map_err(|e| io_at("creating a directory", parent, e))?;
        self.count_in(parent);
        self.dirs.insert(parent.to_owned(), 0);
        Ok(())
    }

    fn count_in(&mut self, relative: &Path) {
        if let Some(names) = relative.parent().and_then(|parent| self.dirs.get_mut(parent)) {
            *names += 1;
        }
    }

    /// Removes the directories at and below `relative` in which no file is left, the root excepted.
    fn remove_empty_dirs(&mut self, relative: &Path) -> Result<()> {
        let below = self.dirs.range(relative.to_owned()..).map(|(dir, _)| dir.clone());
        let below: Vec<_> = below.take_while(|dir| dir.starts_with(relative)).collect();
        for dir in below.into_iter().rev() {
            let removable =
                self.dirs.get(&dir) == Some(&0) && !dir.as_os_str().is_empty() && dir != Path::new(RESERVED);
            if !removable {
                continue;
            }
            self.root.remove_dir(&dir).map_err(|e| io_at("removing an empty directory", &dir, e))?;
            self.dirs.remove(&dir);
            if let Some(names) = dir.parent().and_then(|parent| self.dirs.get_mut(parent)) {
                *names = names.saturating_sub(1);
            }
        }
        Ok(())
    }
}

/// Opens the directory `at`, and marks it as one that is not whole. After an error no marker of ours is left.
fn begin_marked(fs: &dyn FileSystem, at: &Path) -> Result<Arc<dyn FileSystem>> {
    let root = fs.beneath(at).map_err(|e| at_target("opening the staging directory", at, e))?;
    // Whoever creates the folder owns the directory: of two recoveries into one target, the second one ends here.
    root.create_dir(Path::new(RESERVED)).map_err(|e| at_target("marking the directory", at, e))?;
    if let Err(error) = mark(&*root) {
        drop(root.remove_file(Path::new(INCOMPLETE)));
        drop(root.remove_dir(Path::new(RESERVED)));
        return Err(at_target("marking the directory", at, error));
    }
    Ok(root)
}

/// Puts the marker into a directory, where it is not there.
pub(super) fn mark(root: &dyn FileSystem) -> io::Result<()> {
    match root.create_dir(Path::new(RESERVED)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let file = root.open(Path::new(INCOMPLETE), OpenMode::Create)?;
    file.write_all_at(b"This directory is not whole: a recovery is under way, or was cut short.\n", 0)
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns the path relative to the root, once it is known to be safe.
pub(super) fn checked(path: &LogPath) -> Result<&Path> {
    path.check().map_err(|refused: InvalidPath| {
        Error::new(ErrorKind::Corrupt, "an operation names a path that cannot be used").with_source(refused)
    })?;
    Ok(Path::new(OsStr::from_bytes(path.relative())))
}

/// A name that is taken by a file of the other kind means that the log's history could not have happened.
fn io_at(what: &'static str, path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            ErrorKind::Diverged
        }
        _ => ErrorKind::Io,
    };
    Error::new(kind, format!("{what} ({}) failed", path.display())).with_source(error)
}

/// What is in the way of the target itself says nothing about the log.
fn at_target(what: &'static str, path: &Path, error: io::Error) -> Error {
    let what = format!("{what} ({}) failed", path.display());
    match error.kind() {
        io::ErrorKind::AlreadyExists => Error::new(ErrorKind::Invalid, what)
            .advise("name another directory: somebody else is at work in this one")
            .with_source(error),
        io::ErrorKind::NotADirectory => Error::new(ErrorKind::Invalid, what)
            .advise("name a directory whose parents are directories")
            .with_source(error),
        _ => Error::io(what, error),
    }
}

/// Files held open, the least recently used of them closed first.
#[derive(Debug, Default)]
struct OpenFiles {
    files: BTreeMap<Fnode, (Arc<dyn File>, u64)>,
    uses: VecDeque<(Fnode, u64)>,
    clock: u64,
}

impl OpenFiles {
    fn get(&mut self, fnode: Fnode) -> Option<Arc<dyn File>> {
        self.clock += 1;
        let (file, used) = self.files.get_mut(&fnode)?;
        *used = self.clock;
        let file = Arc::clone(file);
        self.note_use(fnode);
        Some(file)
    }

    fn insert(&mut self, fnode: Fnode, file: Arc<dyn File>) {
        self.clock += 1;
        self.files.insert(fnode, (file, self.clock));
        self.note_use(fnode);
        while self.files.len() > OPEN_FILES_MAX {
            let Some((fnode, at)) = self.uses.pop_front() else { break };
            if self.files.get(&fnode).is_some_and(|(_, used)| *used == at) {
                self.files.remove(&fnode);
            }
        }
    }

    fn remove(&mut self, fnode: Fnode) {
        self.files.remove(&fnode);
    }

    /// Appends a use; forgets uses that were followed by a later one once they outnumber the files.
    fn note_use(&mut self, fnode: Fnode) {
        if self.uses.back().is_some_and(|(last, _)| *last == fnode) {
            self.uses.pop_back();
        }
        self.uses.push_back((fnode, self.clock));
        if self.uses.len() > 8 * OPEN_FILES_MAX {
            let files = &self.files;
            self.uses.retain(|(fnode, at)| files.get(fnode).is_some_and(|(_, used)| used == at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SeqNo;
    use crate::vfs::{CrashPlan, Fault, FaultPlan, FaultyFs, MemoryFs};

    fn fnode(number: usize) -> Fnode {
        Fnode::new(SeqNo::new(number as i64))
    }

    #[test]
    fn the_files_that_were_used_last_stay_open_and_no_more_than_so_many() {
        let fs = MemoryFs::new();
        let file = fs.open(Path::new("/file"), OpenMode::CreateNew).unwrap();
        let mut open = OpenFiles::default();
        for number in 1..=OPEN_FILES_MAX {
            open.insert(fnode(number), Arc::clone(&file));
        }
        // The first is used all the time, the others are replaced one by one.
        for number in 1..=20 * OPEN_FILES_MAX {
            assert!(open.get(fnode(1)).is_some());
            open.insert(fnode(OPEN_FILES_MAX + number), Arc::clone(&file));
            assert_eq!(open.files.len(), OPEN_FILES_MAX);
            assert!(open.uses.len() <= 8 * OPEN_FILES_MAX + 1, "{}", open.uses.len());
        }
        assert!(open.get(fnode(2)).is_none());
        open.remove(fnode(1));
        assert!(open.get(fnode(1)).is_none());
    }

    #[test]
    fn a_directory_is_incomplete_by_its_marker_or_by_the_empty_folder_of_one() {
        let fs = MemoryFs::new();
        let is = |target: &str| is_incomplete(&fs, Path::new(target));
        let make = |path: &str| crate::vfs::create_dir_all_synced(&fs, Path::new(path)).unwrap();
        make("/whole");
        make("/other/.recoverylog");
        fs.open(Path::new("/other/.recoverylog/something"), OpenMode::Create).unwrap();
        make("/empty/.recoverylog");
        make("/marked/.recoverylog");
        fs.open(Path::new("/marked/.recoverylog/INCOMPLETE"), OpenMode::Create).unwrap();
        fs.open(Path::new("/marked/.recoverylog/something"), OpenMode::Create).unwrap();
        make("/file");
        fs.open(Path::new("/file/.recoverylog"), OpenMode::Create).unwrap();
        for (target, incomplete) in [
            ("/missing", false),
            ("/whole", false),
            ("/other", false),
            ("/file", false),
            ("/empty", true),
            ("/marked", true),
        ] {
            assert_eq!(is(target).unwrap(), incomplete, "{target}");
        }
    }

    #[test]
    fn a_name_that_is_taken_is_the_logs_fault_and_a_target_that_is_taken_the_callers() {
        for (kind, of_log, of_target) in [
            (io::ErrorKind::AlreadyExists, ErrorKind::Diverged, ErrorKind::Invalid),
            (io::ErrorKind::NotADirectory, ErrorKind::Diverged, ErrorKind::Invalid),
            (io::ErrorKind::IsADirectory, ErrorKind::Diverged, ErrorKind::Io),
            (io::ErrorKind::StorageFull, ErrorKind::Io, ErrorKind::Io),
        ] {
            assert_eq!(io_at("a test", Path::new("a"), kind.into()).kind(), of_log, "{kind:?}");
            assert_eq!(at_target("a test", Path::new("a"), kind.into()).kind(), of_target, "{kind:?}");
        }
    }

    #[test]
    fn a_directory_that_was_finished_with_sync_survives_a_crash() {
        for is_there_before in [false, true] {
            let fs = MemoryFs::new();
            let parent = Path::new("/data");
            crate::vfs::create_dir_all_synced(&fs, parent).unwrap();
            let target = parent.join("shard");
            if is_there_before {
                crate::vfs::create_dir_all_synced(&fs, &target).unwrap();
            }
            let author = Author::new(7).unwrap();
            let mut staging = Staging::begin(Arc::new(fs.clone()), &target, author).unwrap();
            let fnode = Fnode::new(SeqNo::new(1));
            staging.create(fnode, &LogPath::from_bytes(b"/folder/file")).unwrap();
            staging.file(fnode).unwrap().write_all_at(b"whole", 0).unwrap();
            staging.finish(std::iter::empty(), true, None).unwrap();

            let after = fs.crash_image(CrashPlan::DropUnsynced);
            assert!(!is_incomplete(&after, &target).unwrap());
            let file = after.open(&target.join("folder/file"), OpenMode::Read).unwrap();
            let mut content = [0; 5];
            file.read_exact_at(&mut content, 0).unwrap();
            assert_eq!(&content, b"whole");
            assert_eq!(after.read_dir(parent).unwrap().len(), 1, "nothing else is left beside it");
        }
    }

    const TARGET: &str = "/data/shard";

    /// Builds a directory with whatever a log can make of it, or removes it where something fails.
    fn build(fs: Arc<dyn FileSystem>) -> Result<()> {
        let mut staging = Staging::begin(fs, Path::new(TARGET), Author::new(7).unwrap())?;
        let path = |path: &str| LogPath::from_bytes(path.as_bytes());
        let properties = [(path("/kept/one"), "1".into()), (path("/kept/two"), "2".into())];
        let built = (|| {
            staging.create(fnode(1), &path("/folder/below/file"))?;
            staging
                .file(fnode(1))?
                .write_all_at(b"content", 0)
                .map_err(|e| Error::io("writing failed", e))?;
            staging.link(fnode(1), &path("/link"))?;
            staging.create(fnode(2), &path("/.recoverylog/below/anchor"))?;
            staging.create(fnode(3), &path("/empty/gone"))?;
            staging.unlink(fnode(3), &path("/empty/gone"))?;
            staging.finish(properties.iter().map(|(path, content)| (path, content)), true, None)
        })();
        built.map(drop).inspect_err(|_| staging.abandon())
    }

    #[test]
    fn a_failure_of_any_change_is_told_and_leaves_nothing_behind() {
        for is_there_before in [false, true] {
            let mut number = 0;
            loop {
                let fs = FaultyFs::new(MemoryFs::new());
                let made = if is_there_before { TARGET } else { "/data" };
                crate::vfs::create_dir_all_synced(fs.inner(), Path::new(made)).unwrap();
                fs.inject(FaultPlan::At { number, fault: Fault::Fail(io::ErrorKind::StorageFull) });
                let fs = Arc::new(fs);
                let built = build(Arc::<FaultyFs<MemoryFs>>::clone(&fs));
                let names = |path: &str| fs.inner().read_dir(Path::new(path)).unwrap().len();
                if fs.counts().values().all(|count| count.faults == 0) {
                    built.unwrap();
                    assert_eq!((names("/data"), names(TARGET)), (1, 3));
                    break;
                }
                assert_eq!(built.unwrap_err().kind(), ErrorKind::Io, "change {number}");
                assert_eq!(names(made), 0, "change {number}");
                number += 1;
            }
            assert!(number > 30, "{number}");
        }
    }

    #[test]
    fn a_file_that_stands_where_a_folder_is_to_be_is_the_logs_fault_and_all_is_removed() {
        let fs = MemoryFs::new();
        let author = Author::new(7).unwrap();
        let mut staging = Staging::begin(Arc::new(fs.clone()), Path::new("/shard"), author).unwrap();
        staging.create(fnode(1), &LogPath::from_bytes(b"/name")).unwrap();
        let error = staging.create(fnode(2), &LogPath::from_bytes(b"/name/below")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Diverged);
        staging.abandon();
        assert!(fs.read_dir(Path::new("/")).unwrap().is_empty());
    }

    #[test]
    fn a_target_that_is_a_file_is_said_to_be_one_and_left_alone() {
        let fs = MemoryFs::new();
        let target = Path::new("/shard");
        fs.open(target, OpenMode::CreateNew).unwrap().write_all_at(b"not ours", 0).unwrap();
        let error = Staging::begin(Arc::new(fs.clone()), target, Author::new(7).unwrap()).unwrap_err();
        assert_eq!((error.kind(), error.actual_value()), (ErrorKind::Invalid, Some("File")));
        assert_eq!(fs.metadata(target).unwrap().len, 8);
        assert_eq!(fs.read_dir(Path::new("/")).unwrap().len(), 1);
    }
}
