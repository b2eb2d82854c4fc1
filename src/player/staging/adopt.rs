//! Directories that are there already: taken over as they are, cleared, or put aside.
//!
//! *Invariants.* A file is taken over where it looks as it did when the state was kept, and nothing was noted of it since.
//! Names are removed that the state or the notes have, and whatever lies in the reserved folder; what else is there
//! belongs to others, and stays. A directory that cannot be gone on from is kept beside its place until a whole one is
//! there.
//!
//! *Does not* write content: files that are not taken over are to be put in their place by the caller.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{OpenFiles, Place, Staging, at_target, begin_marked, checked, io_at, mark, parent_of};
use crate::error::{Error, ErrorKind, Result};
use crate::fsm::Fsm;
use crate::ids::{Author, Fnode, LogPath, RESERVED};
use crate::player::kept::{Kept, Notes, SavedAside, Stamp, is_own, mark_incomplete};
use crate::vfs::{FileKind, FileSystem, resolve_named};

/// A directory that was put aside.
#[derive(Debug)]
pub(super) struct Aside {
    path: PathBuf,
    /// What was created there, relative to it.
    names: Vec<LogPath>,
    /// Why it was not gone on from.
    reason: String,
}

/// Everything below a directory but its reserved folder.
pub(in crate::player) struct Tree {
    pub(in crate::player) files: Vec<PathBuf>,
    /// Directories, with the number of names in each.
    dirs: BTreeMap<PathBuf, usize>,
}

impl Staging {
    /// Takes over what `target` holds, of which `kept` tells, as far as it is that of `fsm`. Returns the live files that
    /// are not there as they should be: they have no names.
    ///
    /// # Errors
    /// `Invalid` where somebody else works there; `Io`. What could be taken over before can be still.
    pub(in crate::player) fn adopt(
        fs: Arc<dyn FileSystem>,
        target: &Path,
        (kept, fsm): (&Kept, &Fsm),
        is_durable: bool,
    ) -> Result<(Self, BTreeSet<Fnode>)> {
        let target = resolve_named(&*fs, target);
        let root = fs.beneath(&target).map_err(|e| at_target("opening the directory", &target, e))?;
        let mut notes = Notes::begin(&root, &target, is_durable)?;
        notes.check(kept)?;
        mark_incomplete(&*root)?;
        clear_reserved(&*root)?;
        let tree = Tree::of(&*root)?;
        let mut staging = Self {
            fs,
            root,
            place: Place::Inside { target, is_new: false },
            dirs: tree.dirs,
            files: BTreeMap::new(),
            open: OpenFiles::default(),
            notes: None,
            is_adopted: true,
            aside: None,
        };
        let is_there: BTreeMap<Fnode, Stamp> = staging.unchanged(kept, fsm)?;
        for path in tree.files {
            let Ok(link) = LogPath::rooted(path.as_os_str().as_bytes()) else { continue };
            if !kept.names.contains(&link) {
                if !kept.others.contains(&link) {
                    let what = "a file is in the directory that no play has put there, as far as was noted";
                    return Err(Error::new(ErrorKind::Diverged, what).expected("no such file", link));
                }
                continue;
            }
            let stamp = fsm.link(&link).and_then(|fnode| Some((fnode, is_there.get(&fnode)?)));
            if let Some((fnode, stamp)) = stamp
                && staging.stamp(&path)?.as_ref() == Some(stamp)
            {
                staging.files.entry(fnode).or_default().push(link);
                continue;
            }
            staging.root.remove_file(&path).map_err(|e| io_at("removing a file", &path, e))?;
            staging.count_out(&path);
        }
        for (fnode, node) in fsm.nodes().filter(|(fnode, _)| is_there.contains_key(fnode)) {
            for link in node.links() {
                if !staging.files.get(&fnode).is_some_and(|links| links.contains(link)) {
                    staging.link(fnode, link)?;
                }
            }
        }
        let missing = fsm.nodes().map(|(fnode, _)| fnode).filter(|fnode| !is_there.contains_key(fnode));
        let missing = missing.collect();
        notes.go_on(kept, is_there.into_keys().collect());
        staging.notes = Some(notes);
        staging.aside = kept.aside.as_ref().map(Aside::of_saved);
        Ok((staging, missing))
    }

    /// Finds the live files that look as they did, by one of their names.
    fn unchanged(&self, kept: &Kept, fsm: &Fsm) -> Result<BTreeMap<Fnode, Stamp>> {
        let mut unchanged = BTreeMap::new();
        for &(fnode, stamp) in kept.stamps.iter().filter(|(fnode, _)| !kept.changed.contains(fnode)) {
            let Some(node) = fsm.node(fnode) else { continue };
            for link in node.links().iter().filter(|link| !link.is_reserved()) {
                if self.stamp(checked(link)?)? == Some(stamp) {
                    unchanged.insert(fnode, stamp);
                    break;
                }
            }
        }
        Ok(unchanged)
    }

    fn stamp(&self, path: &Path) -> Result<Option<Stamp>> {
        match self.root.metadata(path) {
            Ok(found) => Ok(Stamp::of(&found)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(io_at("looking at a file", path, error)),
        }
    }

    /// Begins a directory in its place, of which a state is kept. What is there is cleared where `kept` tells that it
    /// never was whole, and put aside where it was.
    ///
    /// # Errors
    /// `Invalid` where `target` is there, and neither empty nor known to `kept`; `Io`. Nothing is left behind.
    pub(in crate::player) fn begin_kept(
        fs: &Arc<dyn FileSystem>,
        target: &Path,
        author: Author,
        (kept, why): (Option<&Kept>, Option<&Error>),
        is_durable: bool,
    ) -> Result<Self> {
        let target = resolve_named(&**fs, target);
        let aside = match kept {
            Some(kept) if kept.was_whole() => put_aside(&**fs, &target, author, (kept, why), is_durable)?,
            Some(kept) => {
                clear(&**fs, &target, kept, is_durable)?;
                kept.aside.as_ref().map(Aside::of_saved)
            }
            None => None,
        };
        let begun = Self::begin_in_place(fs, &target, (author, aside.as_ref()), is_durable);
        match begun {
            Ok(staging) => Ok(Self { aside, ..staging }),
            Err(error) => {
                if let Some(aside) = aside {
                    drop(fs.rename_no_replace(&aside.path, &target));
                }
                Err(error)
            }
        }
    }

    fn begin_in_place(
        fs: &Arc<dyn FileSystem>,
        target: &Path,
        (author, aside): (Author, Option<&Aside>),
        is_durable: bool,
    ) -> Result<Self> {
        let is_new = matches!(Place::of(&**fs, target, author)?, Place::Beside { .. });
        if is_new {
            fs.create_dir(target).map_err(|e| at_target("creating the directory", target, e))?;
        }
        let begun = begin_marked(&**fs, target).and_then(|root| {
            let mut notes = Notes::begin(&root, target, is_durable)?;
            notes.aside = aside.map(Aside::to_saved);
            match notes.save(None) {
                Ok(()) => Ok((root, notes)),
                Err(error) => {
                    drop(notes.end());
                    clear_reserved(&*root)?;
                    drop(root.remove_file(Path::new(super::INCOMPLETE)));
                    drop(root.remove_dir(Path::new(RESERVED)));
                    Err(error)
                }
            }
        });
        match begun {
            Ok((root, notes)) => Ok(Self {
                fs: Arc::clone(fs),
                root,
                place: Place::Inside { target: target.to_owned(), is_new },
                dirs: BTreeMap::from([(PathBuf::new(), 0)]),
                files: BTreeMap::new(),
                open: OpenFiles::default(),
                notes: Some(notes),
                is_adopted: false,
                aside: None,
            }),
            Err(error) => {
                if is_new {
                    // Created above, and empty.
                    drop(fs.remove_dir(target));
                }
                Err(error)
            }
        }
    }

    /// Puts a file that was built in the reserved folder, at `staged`, to its `links`.
    pub(in crate::player) fn put(&mut self, fnode: Fnode, links: &[LogPath], staged: &Path) -> Result<()> {
        let Some((first, more)) = links.split_first() else { return Ok(()) };
        let relative = checked(first)?;
        self.make_room(relative)?;
        let renamed = self.root.rename_no_replace(staged, relative);
        renamed.map_err(|e| io_at("putting a file in its place", relative, e))?;
        self.count_in(relative);
        self.files.insert(fnode, vec![first.clone()]);
        more.iter().try_for_each(|link| self.link(fnode, link))
    }

    /// Returns where a file lies that is built here, relative to the directory in which this one is built.
    pub(in crate::player) fn staged(&self, link: &LogPath) -> Result<PathBuf> {
        let name = self.place.directory().file_name().unwrap_or_default();
        Ok(Path::new(RESERVED).join(name).join(checked(link)?))
    }

    /// Tells that the first name of a file was given away: it is not removed with the rest.
    pub(in crate::player) fn give(&mut self, fnode: Fnode) {
        self.open.remove(fnode);
        if let Some(paths) = self.files.get_mut(&fnode).filter(|paths| !paths.is_empty()) {
            paths.remove(0);
        }
    }

    /// Keeps the state `fsm`, which the directory has, where a state is kept.
    ///
    /// # Errors
    /// `Io`.
    pub(in crate::player) fn save(&mut self, fsm: &Fsm) -> Result<()> {
        let Some(notes) = &mut self.notes else { return Ok(()) };
        notes.save(Some(fsm))?;
        // From here on there is something to go on from.
        self.is_adopted = true;
        Ok(())
    }

    /// Tells why the directory that is going to be replaced was not gone on from.
    pub(in crate::player) fn reason(&self) -> Option<&str> {
        self.aside.as_ref().map(|aside| aside.reason.as_str()).filter(|reason| !reason.is_empty())
    }

    /// Tells whether a state is kept.
    pub(in crate::player) const fn is_kept(&self) -> bool {
        self.notes.is_some()
    }

    /// Puts the directory back that was put aside.
    pub(super) fn put_back(&mut self) {
        if let (Some(aside), Place::Inside { target, .. }) = (self.aside.take(), &self.place) {
            drop(self.fs.rename_no_replace(&aside.path, target));
        }
    }

    /// Removes the directory that was put aside; returns where it is if something of others is left in it.
    pub(in crate::player) fn remove_aside(&mut self) -> Option<PathBuf> {
        let aside = self.aside.take()?;
        if let Some(notes) = &mut self.notes {
            notes.aside = None;
        }
        let removed = self.fs.beneath(&aside.path).and_then(|root| {
            for name in aside.names.iter().filter_map(|name| checked(name).ok()) {
                // What is left shows in the end.
                drop(root.remove_file(name));
            }
            drop(clear_reserved(&*root));
            for own in root.read_dir(Path::new(RESERVED)).unwrap_or_default() {
                drop(root.remove_file(&Path::new(RESERVED).join(own.name)));
            }
            drop(root.remove_dir(Path::new(RESERVED)));
            let dirs = Tree::of(&*root).map(|tree| tree.dirs).unwrap_or_default();
            for dir in dirs.into_keys().rev().filter(|dir| !dir.as_os_str().is_empty()) {
                drop(root.remove_dir(&dir));
            }
            drop(root);
            self.fs.remove_dir(&aside.path)
        });
        removed.err().filter(|error| error.kind() != io::ErrorKind::NotFound).map(|_| aside.path)
    }

    fn count_out(&mut self, relative: &Path) {
        if let Some(names) = relative.parent().and_then(|parent| self.dirs.get_mut(parent)) {
            *names = names.saturating_sub(1);
        }
    }
}

impl Tree {
    pub(in crate::player) fn of(root: &dyn FileSystem) -> Result<Self> {
        let mut tree = Self { files: Vec::new(), dirs: BTreeMap::new() };
        let mut open = vec![PathBuf::new()];
        while let Some(dir) = open.pop() {
            let mut entries = root.read_dir(&dir).map_err(|e| io_at("listing a directory", &dir, e))?;
            entries.retain(|entry| !dir.as_os_str().is_empty() || entry.name != RESERVED);
            tree.dirs.insert(dir.clone(), entries.len());
            for entry in entries {
                match entry.kind {
                    FileKind::Directory => open.push(dir.join(entry.name)),
                    FileKind::File => tree.files.push(dir.join(entry.name)),
                    FileKind::Symlink | FileKind::Other => {}
                }
            }
        }
        Ok(tree)
    }
}

/// Removes everything in the reserved folder but the state, the notes and the marker: nobody else has a name there.
pub(super) fn clear_reserved(root: &dyn FileSystem) -> Result<()> {
    let mut open = vec![PathBuf::from(RESERVED)];
    let mut dirs = Vec::new();
    while let Some(dir) = open.pop() {
        for entry in root.read_dir(&dir).map_err(|e| io_at("listing a directory", &dir, e))? {
            let path = dir.join(entry.name);
            if entry.kind == FileKind::Directory {
                open.push(path.clone());
                dirs.push(path);
            } else if !is_own(&path) && path != Path::new(super::INCOMPLETE) {
                root.remove_file(&path).map_err(|e| io_at("removing a file", &path, e))?;
            }
        }
    }
    for dir in dirs.into_iter().rev() {
        root.remove_dir(&dir).map_err(|e| io_at("removing a directory", &dir, e))?;
    }
    Ok(())
}

/// Removes what a play has built that never came to an end.
fn clear(fs: &dyn FileSystem, target: &Path, kept: &Kept, is_durable: bool) -> Result<()> {
    let root = fs.beneath(target).map_err(|e| at_target("opening the directory", target, e))?;
    let notes = Notes::begin(&root, target, is_durable)?;
    notes.check(kept)?;
    mark(&*root).map_err(|e| at_target("marking the directory", target, e))?;
    clear_reserved(&*root)?;
    for name in kept.names.iter().filter_map(|name| checked(name).ok()) {
        match root.remove_file(name) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(io_at("removing a file", name, error));
            }
            _ => {}
        }
    }
    for dir in Tree::of(&*root)?.dirs.into_keys().rev().filter(|dir| !dir.as_os_str().is_empty()) {
        // One that is not empty holds what is of others, which is told below.
        drop(root.remove_dir(&dir));
    }
    let left = root.read_dir(Path::new("")).map_err(|e| at_target("listing the directory", target, e))?;
    if let Some(other) = left.iter().find(|entry| entry.name != RESERVED) {
        let what = format!("the directory {} holds parts of a tree, and what is not ours", target.display());
        return Err(Error::new(ErrorKind::Invalid, what)
            .expected("nothing else", other.name.display())
            .advise("empty the directory, then restore again"));
    }
    notes.end()?;
    drop(root.remove_file(Path::new(super::INCOMPLETE)));
    root.remove_dir(Path::new(RESERVED)).map_err(|e| at_target("clearing the directory", target, e))
}

impl Aside {
    fn of_saved(saved: &SavedAside) -> Self {
        let names = saved.names.iter().map(|name| LogPath::from_bytes(name)).collect();
        let path = PathBuf::from(OsStr::from_bytes(&saved.path));
        Self { path, names, reason: saved.reason.clone() }
    }

    fn to_saved(&self) -> SavedAside {
        SavedAside {
            path: self.path.as_os_str().as_bytes().to_vec(),
            names: self.names.iter().map(|name| name.as_bytes().to_vec()).collect(),
            reason: self.reason.clone(),
        }
    }
}

/// Gives a directory another name, beside its own. Where it can have none, what was created in it is removed: `None`.
fn put_aside(
    fs: &dyn FileSystem,
    target: &Path,
    author: Author,
    (kept, why): (&Kept, Option<&Error>),
    is_durable: bool,
) -> Result<Option<Aside>> {
    let root = fs.beneath(target).map_err(|e| at_target("opening the directory", target, e))?;
    // Nobody is at work there, nor will be until it is put aside.
    let notes = Notes::begin(&root, target, false)?;
    notes.check(kept)?;
    let mut name = OsString::from(".");
    let own = target.file_name().unwrap_or_default().as_bytes();
    name.push(OsStr::from_bytes(own.get(..super::NAME_BYTES_MAX).unwrap_or(own)));
    name.push(format!(".replaced-{}", author.register_value()));
    let path = parent_of(target).join(name);
    let renamed = fs.rename_no_replace(target, &path);
    drop(notes);
    match renamed {
        Ok(()) => {
            let reason = why.map_or_else(String::new, ToString::to_string);
            Ok(Some(Aside { path, names: kept.names.iter().cloned().collect(), reason }))
        }
        // A mount point, or a parent that is not ours. That all that is needed is stored was seen before.
        Err(_) if !kept.names.is_empty() => clear(fs, target, kept, is_durable).map(|()| None),
        Err(error) => {
            let what = format!("{} cannot be gone on from, nor be put aside", target.display());
            Err(Error::new(ErrorKind::Invalid, what)
                .with_source(error)
                .advise("empty the directory, then restore again"))
        }
    }
}
