//! The files below a directory.
//!
//! *Invariants.* Each is named once, in the order of the paths.
//!
//! *Does not* follow symbolic links.

use std::path::{Path, PathBuf};

use recoverylog::vfs::{FileKind, FileSystem, OpenMode};

/// Lists the files below `directory`.
pub(crate) fn below(fs: &dyn FileSystem, directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs.read_dir(directory).unwrap() {
        let path = directory.join(entry.name);
        match entry.kind {
            FileKind::Directory => files.extend(below(fs, &path)),
            FileKind::File => files.push(path),
            other => panic!("{} is a {other:?}", path.display()),
        }
    }
    files.sort();
    files
}

/// Reads a file: its inode, and what is in it.
pub(crate) fn read(fs: &dyn FileSystem, path: &Path) -> (u64, Vec<u8>) {
    let file = fs.open(path, OpenMode::Read).unwrap();
    let metadata = file.metadata().unwrap();
    let mut content = vec![0; metadata.len as usize];
    file.read_exact_at(&mut content, 0).unwrap();
    (metadata.inode, content)
}
