//! The case folders: loaded from disk, and turned into journals.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use recoverylog::journal::{Append, Journals, MemoryJournals};
use recoverylog::{Deadline, FsmHints, JournalName};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The folder that all golden data lies in.
pub(crate) fn root() -> PathBuf {
    std::env::var_os("RECOVERYLOG_GOLDEN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), PathBuf::from)
}

/// One case folder.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    /// Every journal, the one recorded last first.
    pub(crate) logs: Vec<(JournalName, Vec<u8>)>,
    pub(crate) hints_json: Vec<u8>,
    pub(crate) hints_proto: Vec<u8>,
    pub(crate) error_kind: String,
    pub(crate) next_seq_no: i64,
    pub(crate) next_checksum: u32,
    pub(crate) last_log: String,
}

/// Loads every case; there must be one.
pub(crate) fn all() -> Vec<Case> {
    let mut folders: Vec<_> = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("case.json").exists());
    folders.sort();
    assert!(!folders.is_empty(), "no case in {}", root().display());
    folders.iter().map(|folder| Case::load(folder)).collect()
}

impl Case {
    pub(crate) fn load(folder: &Path) -> Self {
        let read = |name: &str| {
            std::fs::read(folder.join(name)).unwrap_or_else(|e| panic!("{}: {name}: {e}", folder.display()))
        };
        let case: Value = serde_json::from_slice(&read("case.json")).unwrap();
        let log = |log: &Value| {
            let content = read(log["file"].as_str().unwrap());
            assert_eq!(content.len() as u64, log["length"].as_u64().unwrap(), "{}", folder.display());
            (JournalName::new(log["name"].as_str().unwrap()).unwrap(), content)
        };
        let expect = &case["expect"];
        Self {
            name: case["name"].as_str().unwrap().to_owned(),
            folder: folder.to_owned(),
            logs: case["logs"].as_array().unwrap().iter().map(log).collect(),
            hints_json: read("hints.json"),
            hints_proto: read("hints.pb"),
            error_kind: expect["error_kind"].as_str().unwrap().to_owned(),
            next_seq_no: expect["next_seq"].as_i64().unwrap(),
            next_checksum: expect["next_checksum"].as_u64().unwrap() as u32,
            last_log: expect["last_log"].as_str().unwrap().to_owned(),
        }
    }

    /// The case's journals, in memory.
    pub(crate) fn journals(&self) -> MemoryJournals {
        let journals = MemoryJournals::new();
        self.write_to(&journals, usize::MAX);
        journals
    }

    /// Appends the case's logs to empty journals, in pieces of so many bytes at most.
    pub(crate) fn write_to(&self, journals: &dyn Journals, bytes: usize) {
        let deadline = Deadline::after(std::time::Duration::from_secs(60));
        for (name, content) in &self.logs {
            let journal = journals.open(name).unwrap();
            for piece in content.chunks(bytes) {
                journal.append(Append::new(piece.to_vec()), deadline).unwrap();
            }
        }
    }

    /// The tree that the reference built; `None` where it failed.
    pub(crate) fn tree(&self) -> Option<Tree> {
        let file = self.folder.join("tree.json");
        file.exists().then(|| Tree::load(&file))
    }

    /// The hints that the reference built after it had played.
    pub(crate) fn hints_after(&self) -> Option<FsmHints> {
        let file = self.folder.join("hints_after.json");
        file.exists().then(|| FsmHints::decode(&std::fs::read(file).unwrap()).unwrap())
    }
}

/// Files by path, each with its size, its digest, and the first path of its inode.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Tree(BTreeMap<Vec<u8>, (u64, String, Vec<u8>)>);

impl Tree {
    /// Loads a `tree.json`.
    pub(crate) fn load(file: &Path) -> Self {
        let entries: Vec<Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let mut groups = BTreeMap::new();
        let mut files = BTreeMap::new();
        for entry in entries {
            let path = match entry.get("path_hex") {
                Some(hex) => unhex(hex.as_str().unwrap()),
                None => entry["path"].as_str().unwrap().as_bytes().to_vec(),
            };
            let first =
                groups.entry(entry["link_group"].as_u64().unwrap()).or_insert_with(|| path.clone()).clone();
            let sha256 = entry["sha256"].as_str().unwrap().to_owned();
            files.insert(path, (entry["size"].as_u64().unwrap(), sha256, first));
        }
        Self(files)
    }

    /// Reads a directory.
    pub(crate) fn read(directory: &Path) -> Self {
        let mut paths = Vec::new();
        collect(directory, directory, &mut paths);
        paths.sort();
        let (mut inodes, mut files) = (BTreeMap::new(), BTreeMap::new());
        for (path, file) in paths {
            let first =
                inodes.entry(std::fs::metadata(&file).unwrap().ino()).or_insert_with(|| path.clone()).clone();
            let content = std::fs::read(&file).unwrap();
            files.insert(path, (content.len() as u64, hex(&Sha256::digest(&content)), first));
        }
        Self(files)
    }
}

fn collect(root: &Path, directory: &Path, paths: &mut Vec<(Vec<u8>, PathBuf)>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            collect(root, &path, paths);
        } else {
            assert!(kind.is_file(), "{} is no regular file", path.display());
            paths.push((path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), path.clone()));
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "{text}");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
