//! A directory as a value: its files, their contents, and which of them are one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use recoverylog::vfs::{FileKind, FileSystem, OpenMode};

/// Files by path below a directory.
#[derive(Clone, Default, Eq, PartialEq)]
pub(crate) struct Tree(BTreeMap<PathBuf, Entry>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Entry {
    /// The first path of the same file.
    first: PathBuf,
    content: Vec<u8>,
}

impl Tree {
    /// Reads what a recorder records of `root`.
    pub(crate) fn read(fs: &dyn FileSystem, root: &Path) -> Self {
        let (mut files, mut inodes) = (BTreeMap::new(), BTreeMap::new());
        let mut paths = Vec::new();
        collect(fs, root, &mut paths);
        paths.sort();
        for path in paths {
            let relative = path.strip_prefix(root).unwrap().to_owned();
            let file = fs.open(&path, OpenMode::Read).unwrap();
            let metadata = file.metadata().unwrap();
            let mut content = vec![0; metadata.len as usize];
            file.read_exact_at(&mut content, 0).unwrap();
            let first = inodes.entry(metadata.inode).or_insert_with(|| relative.clone()).clone();
            files.insert(relative, Entry { first, content });
        }
        Self(files)
    }
}

fn collect(fs: &dyn FileSystem, directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs.read_dir(directory).unwrap() {
        let path = directory.join(&entry.name);
        let name = entry.name.to_string_lossy();
        match entry.kind {
            FileKind::Directory => collect(fs, &path, paths),
            FileKind::File if name == "LOCK" || name.starts_with("LOG") => {}
            FileKind::File => paths.push(path),
            other => panic!("{} is a {other:?}", path.display()),
        }
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
