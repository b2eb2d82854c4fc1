//! Goal: whatever an engine does to its files, the log holds the tree that is on the local disk.
//!
//! Method: operations on files in memory, recorded into a journal in memory; then the tree that the log gives is
//! compared with the local one: paths, content, and which paths are links of one file. The suite of file systems
//! is run the same way, and operations drawn at random.

mod claims;
mod faults;
mod random;
mod rewriting;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::ids::{Fnode, LogPath};
use crate::op::OpBody;
use crate::recorder::tests::{Flaky, accepted, path, record, soon};
use crate::vfs::MemoryFs;
use crate::vfs::conformance::{self, Capabilities, Fixture};

/// Files by path: content, and the first path of the same file.
type Tree = BTreeMap<LogPath, (Vec<u8>, LogPath)>;

/// A recorded directory `/db` in memory.
struct Bed {
    journal: Arc<Flaky>,
    disk: MemoryFs,
    fs: RecordedFs<MemoryFs>,
}

impl Bed {
    fn new() -> Self {
        let (journal, disk) = (Flaky::new([]), MemoryFs::new());
        disk.create_dir(Path::new("/db")).unwrap();
        let fs =
            RecordedFs::new(disk.clone(), Path::new("/db"), record(&journal), RecordedFsOptions::default());
        Self { journal, disk, fs }
    }

    fn create(&self, name: &str, content: &[u8]) -> Arc<RecordedFile> {
        let file = self.fs.open_recorded(&db(name), OpenMode::Create).unwrap();
        file.write_all_at(content, 0).unwrap();
        file
    }

    fn fnode(&self, name: &str) -> Option<Fnode> {
        self.fs.recorder().with_fsm(|fsm| fsm.link(&path(name)))
    }

    #[track_caller]
    fn check(&self) {
        self.fs.sync_dir(Path::new("/db")).unwrap();
        assert_eq!(played(&self.journal), local(&self.disk, Path::new("/db")));
    }

    #[track_caller]
    fn ops_since(&self, before: u64) -> u64 {
        self.fs.recorder().counters().ops_recorded - before
    }

    fn ops(&self) -> u64 {
        self.fs.recorder().counters().ops_recorded
    }
}

fn db(name: &str) -> PathBuf {
    Path::new("/db").join(name)
}

/// Reads the files that are recorded by default.
fn local(fs: &dyn FileSystem, root: &Path) -> Tree {
    fn walk(fs: &dyn FileSystem, root: &Path, below: &Path, found: &mut Vec<(LogPath, u64, Vec<u8>)>) {
        for entry in fs.read_dir(&root.join(below)).unwrap() {
            let below = below.join(&entry.name);
            let at = root.join(&below);
            match entry.kind {
                FileKind::Directory => walk(fs, root, &below, found),
                FileKind::File => {
                    let path = LogPath::rooted(below.as_os_str().as_encoded_bytes()).unwrap();
                    let metadata = fs.metadata(&at).unwrap();
                    let mut content = vec![0; metadata.len as usize];
                    fs.open(&at, OpenMode::Read).unwrap().read_exact_at(&mut content, 0).unwrap();
                    if Filter::default().records(&path) {
                        found.push((path, metadata.inode, content));
                    }
                }
                FileKind::Symlink | FileKind::Other => {}
            }
        }
    }
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

/// Plays the log from its first byte.
fn played(journal: &Flaky) -> Tree {
    let (fsm, ops) = accepted(&journal.inner);
    let mut content: BTreeMap<Fnode, Vec<u8>> = BTreeMap::new();
    for (op, data) in ops {
        if let OpBody::Write { fnode, offset } = op.body {
            let file = content.entry(fnode).or_default();
            let end = offset as usize + data.len();
            file.resize(file.len().max(end), 0);
            file[offset as usize..end].copy_from_slice(&data);
        }
    }
    let mut tree = Tree::new();
    for (fnode, node) in fsm.nodes() {
        let mut links = node.links().to_vec();
        links.sort();
        for link in &links {
            let content = content.get(&fnode).cloned().unwrap_or_default();
            tree.insert(link.clone(), (content, links[0].clone()));
        }
    }
    for (path, content) in fsm.properties() {
        tree.insert(path.clone(), (content.to_vec(), path.clone()));
    }
    tree
}

/// Compares the trees when a case of the suite is over.
struct Compare {
    journal: Arc<Flaky>,
    recorder: Recorder,
    disk: Arc<dyn FileSystem>,
    root: PathBuf,
    _keep: Option<tempfile::TempDir>,
}

impl Drop for Compare {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.recorder.barrier().unwrap().wait(soon()).unwrap();
            // One case makes a sparse file that would not fit memory.
            let entries = self.disk.read_dir(&self.root).unwrap();
            let len = |entry: &DirEntry| self.disk.metadata(&self.root.join(&entry.name)).unwrap().len;
            if entries.iter().any(|entry| len(entry) > 1 << 30) {
                return;
            }
            assert_eq!(played(&self.journal), local(&*self.disk, &self.root));
        }
    }
}

/// A recorded file cannot be mapped, and a path through a symbolic link cannot be recorded. What a power loss leaves is
/// in the journal: the directory is a cache.
const RECORDED: Capabilities =
    Capabilities { shared_words: false, symlinks: false, power_loss: false, ..Capabilities::ALL };

#[test]
fn a_recorded_directory_in_memory_conforms_and_the_log_holds_it() {
    let make = || {
        let Bed { journal, disk, fs } = Bed::new();
        let compare = Compare {
            journal,
            recorder: fs.recorder().clone(),
            disk: Arc::new(disk.clone()),
            root: "/db".into(),
            _keep: None,
        };
        Fixture::new(Arc::new(fs), "/db").keeping(compare)
    };
    conformance::run(&make, RECORDED).unwrap_or_else(|failures| panic!("{failures}"));
}

#[cfg(unix)]
#[test]
fn a_recorded_directory_of_the_operating_system_conforms_and_the_log_holds_it() {
    let make = || {
        let (journal, dir) = (Flaky::new([]), tempfile::tempdir().unwrap());
        let root = dir.path().to_owned();
        let fs =
            RecordedFs::new(crate::vfs::OsFs::new(), &root, record(&journal), RecordedFsOptions::default());
        let compare = Compare {
            journal,
            recorder: fs.recorder().clone(),
            disk: Arc::new(crate::vfs::OsFs::new()),
            root: root.clone(),
            _keep: Some(dir),
        };
        Fixture::new(Arc::new(fs), root).keeping(compare)
    };
    conformance::run(&make, RECORDED).unwrap_or_else(|failures| panic!("{failures}"));
}
