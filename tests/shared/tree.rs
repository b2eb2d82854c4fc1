//! A directory as a value: its files, their contents, and which of them are one.
//!
//! *Invariants.* Two directories are equal where nobody could tell one from the other by their files.
//!
//! *Does not* hold directories without files, nor what is never recorded.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use recoverylog::vfs::FileSystem;

use super::files;

/// Files by path below a directory.
#[derive(Clone, Default, Eq, PartialEq)]
pub(crate) struct Tree(pub(crate) BTreeMap<PathBuf, Entry>);

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    /// The first path of the same file.
    pub(crate) first: PathBuf,
    pub(crate) content: Vec<u8>,
}

impl Tree {
    /// Reads what a recorder records of `root`.
    pub(crate) fn read(fs: &dyn FileSystem, root: &Path) -> Self {
        let (mut tree, mut inodes) = (BTreeMap::new(), BTreeMap::new());
        for path in files::below(fs, root) {
            let name = path.file_name().unwrap().to_string_lossy();
            if name == "LOCK" || name.starts_with("LOG") || path.starts_with(root.join(".recoverylog")) {
                continue;
            }
            let relative = path.strip_prefix(root).unwrap().to_owned();
            let (inode, content) = files::read(fs, &path);
            let first = inodes.entry(inode).or_insert_with(|| relative.clone()).clone();
            tree.insert(relative, Entry { first, content });
        }
        Self(tree)
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, entry) in &self.0 {
            let head = entry.content.get(..entry.content.len().min(24)).unwrap_or_default();
            writeln!(f)?;
            write!(f, "  {} (as {}): {} bytes ", path.display(), entry.first.display(), entry.content.len())?;
            write!(f, "{}", head.escape_ascii())?;
        }
        Ok(())
    }
}
