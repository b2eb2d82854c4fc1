//! What is in a directory: paths, content, and which paths are links of one file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use recoverylog::LogPath;
use recoverylog::tracker::Filter;
use recoverylog::vfs::{FileKind, FileSystem, OpenMode};

/// Files by path: content, and the first path of the same file.
pub(crate) type Tree = BTreeMap<LogPath, (Vec<u8>, LogPath)>;

/// Reads the files that are recorded by default.
pub(crate) fn tree_of(fs: &dyn FileSystem, root: &Path) -> Tree {
    let mut found = Vec::new();
    walk(fs, root, Path::new(""), &mut found);
    found.sort();
    let mut first = BTreeMap::new();
    let tree = found.into_iter().map(|(path, inode, content)| {
        let first = first.entry(inode).or_insert_with(|| path.clone()).clone();
        (path, (content, first))
    });
    tree.collect()
}

fn walk(fs: &dyn FileSystem, root: &Path, below: &Path, found: &mut Vec<(LogPath, u64, Vec<u8>)>) {
    for entry in fs.read_dir(&root.join(below)).unwrap() {
        let below: PathBuf = below.join(&entry.name);
        let at = root.join(&below);
        if entry.kind == FileKind::Directory {
            walk(fs, root, &below, found);
            continue;
        }
        let path = LogPath::rooted(below.as_os_str().as_encoded_bytes()).unwrap();
        if Filter::default().records(&path) {
            let metadata = fs.metadata(&at).unwrap();
            let mut content = vec![0; metadata.len as usize];
            fs.open(&at, OpenMode::Read).unwrap().read_exact_at(&mut content, 0).unwrap();
            found.push((path, metadata.inode, content));
        }
    }
}
