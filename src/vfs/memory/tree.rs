//! The names of a file system in memory, and which of them are durable.
//!
//! *Invariants.* The durable names, with the pending changes applied in order, are the names. A change that
//! moves a name is one change, also between two directories. Lock order: the tree, then a file.
//!
//! *Does not* read or write content.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::node::Node;
use super::space::Space;
use crate::vfs::checks::{confined, symlink_refused};
use crate::vfs::{DirEntry, FileKind, Metadata};

/// The inode of the root.
pub(super) const ROOT: u64 = 1;

/// How many symbolic links one path may lead through.
const LINKS_MAX: u32 = 40;

/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// A directory, by inode.
    Directory(u64),
    /// A file or a symbolic link.
    Node(Arc<Node>),
}

impl Entry {
    fn inode(&self) -> u64 {
        match self {
            Self::Directory(inode) => *inode,
            Self::Node(node) => node.inode,
        }
    }

    fn kind(&self) -> FileKind {
        match self {
            Self::Directory(_) => FileKind::Directory,
            Self::Node(node) => node.kind(),
        }
    }
}

/// The names in one directory.
pub(super) type Names = BTreeMap<OsString, Entry>;

/// A directory.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) names: Names,
    pub(super) durable: Names,
    /// The directory it is in; `None` once it is removed.
    parent: Option<u64>,
    /// A sync failed: no later change of these names becomes durable.
    sync_failed: bool,
}

/// A change of names that is not synced: one name gone, one name come, or both.
#[derive(Debug)]
pub(super) struct NameChange {
    pub(super) removed: Option<(u64, OsString)>,
    pub(super) added: Option<(u64, OsString, Entry)>,
}

impl NameChange {
    /// Returns the directories that are changed.
    pub(super) fn directories(&self) -> impl Iterator<Item = u64> {
        let removed = self.removed.as_ref().map(|(directory, _)| *directory);
        removed.into_iter().chain(self.added.as_ref().map(|(directory, ..)| *directory))
    }

    /// Tells whether a directory changes its place.
    pub(super) fn moves_directory(&self) -> bool {
        self.removed.is_some() && matches!(self.added, Some((_, _, Entry::Directory(_))))
    }
}

/// Where a name is, or would be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot<'a> {
    directory: u64,
    /// `None` for the directory itself.
    name: Option<&'a OsStr>,
}

/// All names of a file system.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) directories: BTreeMap<u64, Directory>,
    pub(super) changes: Vec<NameChange>,
    next_inode: u64,
    pub(super) space: Arc<Space>,
}

impl Tree {
    pub(super) fn new(space: Arc<Space>) -> Self {
        let root = Directory { parent: Some(ROOT), ..Directory::default() };
        Self { directories: BTreeMap::from([(ROOT, root)]), changes: Vec::new(), next_inode: ROOT + 1, space }
    }

    /// Finds the place of the last component of `path`.
    ///
    /// Beneath `base` where that is given, and then no symbolic link is followed; else from the root.
    pub(super) fn spot<'a>(&self, base: Option<u64>, path: &'a Path) -> io::Result<Spot<'a>> {
        let path = if base.is_some() { confined(path)? } else { path.components().as_path() };
        if base.is_none() && path.as_os_str().is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        for component in path.components() {
            let name = component.as_os_str().as_encoded_bytes();
            if name.contains(&0) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
        let start = base.unwrap_or(ROOT);
        let mut links_left = if base.is_some() { 0 } else { LINKS_MAX };
        let (parent, name) = match path.components().next_back() {
            Some(Component::Normal(name)) => (path.parent().unwrap_or(Path::new("")), Some(name)),
            _ => (path, None),
        };
        let directory = self.walk(start, parent, &mut links_left)?;
        if name.is_some_and(|name| name.len() > NAME_BYTES_MAX) {
            return Err(io::ErrorKind::InvalidFilename.into());
        }
        self.directory(directory)?;
        Ok(Spot { directory, name })
    }

    fn walk(&self, mut at: u64, path: &Path, links_left: &mut u32) -> io::Result<u64> {
        for component in path.components() {
            at = match component {
                Component::RootDir | Component::Prefix(_) => ROOT,
                Component::CurDir => at,
                Component::ParentDir => self.directory(at)?.parent.unwrap_or(at),
                Component::Normal(name) => self.enter(at, name, links_left)?,
            };
        }
        Ok(at)
    }

    fn enter(&self, at: u64, name: &OsStr, links_left: &mut u32) -> io::Result<u64> {
        if name.len() > NAME_BYTES_MAX {
            return Err(io::ErrorKind::InvalidFilename.into());
        }
        match self.directory(at)?.names.get(name) {
            None => Err(io::ErrorKind::NotFound.into()),
            Some(Entry::Directory(inode)) => Ok(*inode),
            Some(Entry::Node(node)) => match &node.target {
                None => Err(io::ErrorKind::NotADirectory.into()),
                Some(target) => {
                    *links_left = links_left.checked_sub(1).ok_or_else(symlink_refused)?;
                    self.walk(at, target, links_left)
                }
            },
        }
    }

    fn directory(&self, inode: u64) -> io::Result<&Directory> {
        self.directories.get(&inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Returns what is at a spot.
    pub(super) fn get(&self, spot: Spot<'_>) -> Option<Entry> {
        match spot.name {
            None => Some(Entry::Directory(spot.directory)),
            Some(name) => self.directories.get(&spot.directory)?.names.get(name).cloned(),
        }
    }

    /// Returns the inode of the directory at a spot.
    pub(super) fn directory_at(&self, spot: Spot<'_>) -> io::Result<u64> {
        match self.get(spot) {
            None => Err(io::ErrorKind::NotFound.into()),
            Some(Entry::Directory(inode)) => Ok(inode),
            Some(Entry::Node(_)) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Returns the path of the directory that `path` leads to, without symbolic links.
    pub(super) fn resolve_directory(&self, base: Option<u64>, path: &Path) -> io::Result<PathBuf> {
        let spot = self.spot(base, path)?;
        if base.is_some() {
            self.directory_at(spot)?;
            return confined(path).map(Path::to_owned);
        }
        let mut at = self.walk(ROOT, path, &mut LINKS_MAX.clone())?;
        let mut names = Vec::new();
        while at != ROOT {
            let parent = self.directory(at)?.parent.ok_or(io::ErrorKind::NotFound)?;
            let mut entries = self.directory(parent)?.names.iter();
            let name = entries.find(|(_, entry)| matches!(entry, Entry::Directory(inode) if *inode == at));
            names.push(name.ok_or(io::ErrorKind::NotFound)?.0);
            at = parent;
        }
        Ok([OsStr::new("/")].into_iter().chain(names.into_iter().rev().map(OsString::as_os_str)).collect())
    }

    pub(super) fn metadata(&self, spot: Spot<'_>) -> io::Result<Metadata> {
        match self.get(spot).ok_or(io::ErrorKind::NotFound)? {
            Entry::Node(node) => Ok(node.metadata()),
            Entry::Directory(inode) => {
                let names = &self.directory(inode)?.names;
                let subdirectories = names.values().filter(|entry| entry.kind() == FileKind::Directory);
                Ok(Metadata {
                    kind: FileKind::Directory,
                    len: 0,
                    inode,
                    device: super::DEVICE,
                    links: 2 + subdirectories.count() as u64,
                    modified_unix_secs: 0,
                    modified_nanos: 0,
                })
            }
        }
    }

    pub(super) fn list(&self, spot: Spot<'_>) -> io::Result<Vec<DirEntry>> {
        let names = &self.directory(self.directory_at(spot)?)?.names;
        let entry = |(name, entry): (&OsString, &Entry)| DirEntry { name: name.clone(), kind: entry.kind() };
        Ok(names.iter().map(entry).collect())
    }

    /// Makes a file, or a symbolic link to `target`, where nothing is.
    pub(super) fn create_node(&mut self, spot: Spot<'_>, target: Option<PathBuf>) -> io::Result<Arc<Node>> {
        let name = self.free_name(spot)?;
        let node = Arc::new(Node::new(self.new_inode(), target, Arc::clone(&self.space)));
        node.add_link();
        self.apply(NameChange {
            removed: None,
            added: Some((spot.directory, name, Entry::Node(Arc::clone(&node)))),
        });
        Ok(node)
    }

    pub(super) fn create_directory(&mut self, spot: Spot<'_>) -> io::Result<()> {
        let name = self.free_name(spot)?;
        let inode = self.new_inode();
        self.directories.insert(inode, Directory::default());
        self.apply(NameChange {
            removed: None,
            added: Some((spot.directory, name, Entry::Directory(inode))),
        });
        Ok(())
    }

    pub(super) fn remove_directory(&mut self, spot: Spot<'_>) -> io::Result<()> {
        let Some(name) = spot.name else { return Err(io::ErrorKind::InvalidInput.into()) };
        let inode = self.directory_at(spot)?;
        if !self.directory(inode)?.names.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.apply(NameChange { removed: Some((spot.directory, name.to_owned())), added: None });
        Ok(())
    }

    pub(super) fn remove_node(&mut self, spot: Spot<'_>) -> io::Result<()> {
        let Some(name) = spot.name else { return Err(io::ErrorKind::IsADirectory.into()) };
        match self.get(spot) {
            None => Err(io::ErrorKind::NotFound.into()),
            Some(Entry::Directory(_)) => Err(io::ErrorKind::IsADirectory.into()),
            Some(Entry::Node(_)) => {
                self.apply(NameChange { removed: Some((spot.directory, name.to_owned())), added: None });
                Ok(())
            }
        }
    }

    pub(super) fn link(&mut self, existing: Spot<'_>, new: Spot<'_>) -> io::Result<()> {
        let entry = self.get(existing).ok_or(io::ErrorKind::NotFound)?;
        let name = self.free_name(new)?;
        let Entry::Node(node) = &entry else { return Err(io::ErrorKind::PermissionDenied.into()) };
        node.add_link();
        self.apply(NameChange { removed: None, added: Some((new.directory, name, entry)) });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: Spot<'_>, to: Spot<'_>, replace: bool) -> io::Result<()> {
        let from_name = from.name.ok_or(io::ErrorKind::ResourceBusy)?;
        let taken = if replace { io::ErrorKind::ResourceBusy } else { io::ErrorKind::AlreadyExists };
        let to_name = to.name.ok_or(taken)?;
        let moved = self.get(from).ok_or(io::ErrorKind::NotFound)?;
        let replaced = self.get(to);
        if replaced.is_some() && !replace {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if self.is_within(to.directory, &moved) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if let Some(replaced) = &replaced {
            if self.is_within(from.directory, replaced) {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            if moved.inode() == replaced.inode() {
                return Ok(());
            }
            match (&moved, replaced) {
                (Entry::Directory(_), Entry::Node(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                (Entry::Node(_), Entry::Directory(_)) => return Err(io::ErrorKind::IsADirectory.into()),
                (_, Entry::Directory(inode)) if !self.directory(*inode)?.names.is_empty() => {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
                _ => {}
            }
        }
        if let Entry::Node(node) = &moved {
            // The change below takes the old name's link away.
            node.add_link();
        }
        self.apply(NameChange {
            removed: Some((from.directory, from_name.to_owned())),
            added: Some((to.directory, to_name.to_owned(), moved)),
        });
        Ok(())
    }

    /// Tells whether a directory is `entry` or lies in it.
    fn is_within(&self, directory: u64, entry: &Entry) -> bool {
        let Entry::Directory(above) = entry else { return false };
        let parent = |at: &u64| self.directories.get(at)?.parent.filter(|parent| parent != at);
        std::iter::successors(Some(directory), parent).any(|at| at == *above)
    }

    /// Makes the names of the directory durable, and with them what came before in directories that names were
    /// moved from or to.
    pub(super) fn sync(&mut self, directory: u64) {
        if self.directories.get(&directory).is_some_and(|found| found.sync_failed) {
            return;
        }
        let mut linked = BTreeSet::from([directory]);
        let mut synced = Vec::new();
        for index in (0..self.changes.len()).rev() {
            let Some(change) = self.changes.get(index) else { continue };
            if change.directories().any(|directory| linked.contains(&directory)) {
                linked.extend(change.directories());
                synced.push(index);
            }
        }
        for index in synced.iter().rev() {
            let Some(change) = self.changes.get(*index) else { continue };
            if let Some((directory, name)) = &change.removed
                && let Some(found) = self.directories.get_mut(directory)
            {
                drop(found.durable.remove(name));
            }
            if let Some((directory, name, entry)) = &change.added
                && let Some(found) = self.directories.get_mut(directory)
            {
                drop(found.durable.insert(name.clone(), entry.clone()));
            }
        }
        // From the last to the first: an index stays right until its change is removed.
        for index in synced {
            drop(self.changes.remove(index));
        }
    }

    /// Says that the sync of a directory failed: nothing that changes in it from here on becomes durable.
    pub(super) fn fail_sync(&mut self, directory: u64) {
        if let Some(found) = self.directories.get_mut(&directory) {
            found.sync_failed = true;
        }
    }

    /// Puts an entry of another tree in its place, durable.
    pub(super) fn restore(&mut self, directory: u64, name: &OsStr, entry: Entry) {
        match &entry {
            Entry::Directory(inode) => {
                let restored = Directory { parent: Some(directory), ..Directory::default() };
                self.directories.insert(*inode, restored);
            }
            Entry::Node(node) => node.add_link(),
        }
        self.next_inode = self.next_inode.max(entry.inode() + 1);
        if let Some(found) = self.directories.get_mut(&directory) {
            found.names.insert(name.to_owned(), entry.clone());
            found.durable.insert(name.to_owned(), entry);
        }
    }

    fn new_inode(&mut self) -> u64 {
        let inode = self.next_inode;
        self.next_inode += 1;
        inode
    }

    /// Returns the name of a spot where nothing is.
    fn free_name(&self, spot: Spot<'_>) -> io::Result<OsString> {
        let name = spot.name.ok_or(io::ErrorKind::AlreadyExists)?;
        let directory = self.directory(spot.directory)?;
        if directory.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if directory.parent.is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(name.to_owned())
    }

    fn apply(&mut self, change: NameChange) {
        if let Some((directory, name)) = &change.removed {
            let gone = self.directories.get_mut(directory).and_then(|found| found.names.remove(name));
            self.ended(gone);
        }
        if let Some((directory, name, entry)) = &change.added {
            if let Entry::Directory(inode) = entry
                && let Some(found) = self.directories.get_mut(inode)
            {
                found.parent = Some(*directory);
            }
            let names = self.directories.get_mut(directory).map(|found| &mut found.names);
            let gone = names.and_then(|names| names.insert(name.clone(), entry.clone()));
            self.ended(gone);
        }
        self.changes.push(change);
    }

    /// Takes note that a name of `entry` is gone.
    fn ended(&mut self, entry: Option<Entry>) {
        match entry {
            None => {}
            Some(Entry::Node(node)) => node.remove_link(),
            Some(Entry::Directory(inode)) => {
                if let Some(found) = self.directories.get_mut(&inode) {
                    found.parent = None;
                }
            }
        }
    }
}
