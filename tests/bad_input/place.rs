//! A folder of fragments, and a restore out of it by the library and by the tool.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use recoverylog::journal::FragmentJournals;
use recoverylog::player::{PlayOptions, Played, Player};
use recoverylog::vfs::{FileKind, FileSystem, OpenMode, OsFs};
use recoverylog::{Error, ErrorKind, FsmHints, JournalName, Result};
use sha1::{Digest, Sha1};
use tempfile::TempDir;

pub(crate) const LOG: &str = "acme/orders-007";

pub(crate) fn log_name() -> JournalName {
    JournalName::new(LOG).unwrap()
}

/// Files by their paths below a directory; directories have no content.
pub(crate) type Tree = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Reads everything below a directory; of what is neither a file nor a directory, what it is. Paths may be longer than
/// the system takes in one piece.
pub(crate) fn tree(directory: &Path) -> Tree {
    let fs = OsFs::new().beneath(directory).unwrap();
    let (mut found, mut folders) = (Tree::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        for entry in fs.read_dir(&folder).unwrap() {
            let path = folder.join(entry.name);
            let name = path.as_os_str().as_bytes().to_vec();
            let content = match entry.kind {
                FileKind::Directory => {
                    folders.push(path);
                    None
                }
                FileKind::File => {
                    let file = fs.open(&path, OpenMode::Read).unwrap();
                    let mut content = vec![0; file.metadata().unwrap().len as usize];
                    file.read_exact_at(&mut content, 0).unwrap();
                    Some(content)
                }
                other => Some(format!("{other:?}").into_bytes()),
            };
            found.insert(name, content);
        }
    }
    found
}

/// Returns the files of a tree, by paths as text.
pub(crate) fn files(tree: &Tree) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    tree.iter().filter_map(|(path, content)| Some((text(path), text(content.as_deref()?)))).collect()
}

/// Makes a folder, in memory where that can be: the tool syncs all that it restores, and the disk is others' too.
pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A folder that journals live in.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = scratch();
        std::fs::create_dir_all(folder.path().join("journals").join(LOG)).unwrap();
        Self { folder }
    }

    /// Makes a place that holds a log in one fragment.
    pub(crate) fn of(content: &[u8]) -> Self {
        let place = Self::new();
        place.store(0, content);
        place
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("journals")
    }

    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Stores bytes as one fragment; returns its file.
    pub(crate) fn store(&self, begin: u64, content: &[u8]) -> PathBuf {
        self.store_as(begin, begin + content.len() as u64, content)
    }

    /// Stores bytes under the name of a fragment, which may lie about its end.
    pub(crate) fn store_as(&self, begin: u64, end: u64, content: &[u8]) -> PathBuf {
        let sum = Sha1::digest(content).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        let file = self.root().join(LOG).join(format!("{begin:016x}-{end:016x}-{sum}.raw"));
        std::fs::write(&file, content).unwrap();
        file
    }

    /// Restores the log from its first byte, by the library and by the tool.
    #[track_caller]
    pub(crate) fn restore(&self) -> Outcome {
        self.restore_by(None)
    }

    /// Restores by hints, or from the first byte of the log, by the library and by the tool, and returns what came of
    /// it. After an error everything must be as before.
    #[track_caller]
    pub(crate) fn restore_by(&self, hints: Option<&[u8]>) -> Outcome {
        let before = tree(self.folder.path());
        let target = self.beside("target");
        let played = self.play(hints, &target);
        let outcome = match played {
            Ok(played) => {
                let found = tree(&target);
                std::fs::remove_dir_all(&target).unwrap();
                Outcome { found: Ok((played, found)) }
            }
            Err(error) => {
                check_error(&error);
                Outcome { found: Err(error) }
            }
        };
        assert_eq!(tree(self.folder.path()), before, "{:?}", outcome.found);
        #[cfg(feature = "cli")]
        self.restore_by_tool(hints, &outcome, &before);
        outcome
    }

    fn play(&self, hints: Option<&[u8]>, target: &Path) -> Result<Played> {
        let hints = hints.map_or_else(|| Ok(FsmHints::empty(log_name())), FsmHints::decode)?;
        let fs = Arc::new(OsFs::new());
        let journals = FragmentJournals::open(Arc::clone(&fs) as _, self.root())?;
        let options = PlayOptions { sync: false, ..PlayOptions::default() };
        Player::new(&journals, &hints, fs, target, options)?.restore()
    }

    #[cfg(feature = "cli")]
    #[track_caller]
    fn restore_by_tool(&self, hints: Option<&[u8]>, outcome: &Outcome, before: &Tree) {
        let (target, file) = (self.beside("target"), tempfile::NamedTempFile::new().unwrap());
        let mut args =
            vec!["restore".into(), "--json".into(), "--dir".into(), target.clone().into_os_string()];
        if let Some(hints) = hints {
            std::fs::write(file.path(), hints).unwrap();
            args.extend(["--hints".into(), file.path().as_os_str().to_owned()]);
        } else {
            args.extend(["--log".into(), LOG.into()]);
        }
        let ran = self.run(args);
        match &outcome.found {
            Ok((_, expected)) => {
                assert_eq!((ran.code, &tree(&target)), (Some(0), expected), "{ran:?}");
                std::fs::remove_dir_all(&target).unwrap();
            }
            Err(error) => ran.check_failed(error.kind()),
        }
        assert_eq!(&tree(self.folder.path()), before, "{ran:?}");
    }
}

/// What came of a restore.
#[derive(Debug)]
pub(crate) struct Outcome {
    found: Result<(Played, Tree)>,
}

impl Outcome {
    /// Returns what was played, and the files.
    #[track_caller]
    pub(crate) fn tree(self) -> (Played, Vec<(String, String)>) {
        let (played, tree) = self.found.unwrap();
        (played, files(&tree))
    }

    /// Checks that the tree is that of [`super::raw::RawLog::with_a_file`], and nothing else.
    #[track_caller]
    pub(crate) fn kept_file_only(self) -> Played {
        let (played, files) = self.tree();
        assert_eq!(files, [("kept".to_owned(), "kept".to_owned())], "{played:?}");
        played
    }

    /// Returns the error, which must be of this kind.
    #[track_caller]
    pub(crate) fn error(self, kind: ErrorKind) -> Error {
        let error = self.found.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        error
    }

    pub(crate) fn into_result(self) -> Result<(Played, Tree)> {
        self.found
    }
}

/// Checks that an error says what happened and what to do.
#[track_caller]
pub(crate) fn check_error(error: &Error) {
    assert!(!error.what().is_empty() && !error.advice().is_empty(), "{error:?}");
    assert_eq!(error.expected_value().is_some(), error.actual_value().is_some(), "{error:?}");
}

/// What came of a run of the tool.
#[cfg(feature = "cli")]
#[derive(Debug)]
pub(crate) struct Ran {
    /// `None` where a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
}

#[cfg(feature = "cli")]
impl Ran {
    /// Checks that the tool failed with the exit code and the error object of a kind.
    #[track_caller]
    pub(crate) fn check_failed(&self, kind: ErrorKind) {
        assert_eq!(self.code, Some(kind.exit_code().into()), "{kind}: {self:?}");
        let error = self.error();
        assert_eq!(error["kind"], kind.name(), "{self:?}");
        assert!(error["what"] != "" && error["advice"] != "", "{self:?}");
    }

    #[track_caller]
    pub(crate) fn error(&self) -> serde_json::Value {
        serde_json::from_str(&self.stderr).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

#[cfg(feature = "cli")]
impl Place {
    /// Runs the tool on these journals, with an address space of 2 GiB and for a minute at most.
    pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        run_limited("ulimit -v 2097152", args.into_iter(), &self.root())
    }
}

/// Runs the tool under limits of the shell.
#[cfg(feature = "cli")]
pub(crate) fn run_limited<S: AsRef<std::ffi::OsStr>>(
    limits: &str,
    args: impl Iterator<Item = S>,
    journals: &Path,
) -> Ran {
    let script = format!("{limits}; exec timeout -s KILL 60 \"$0\" \"$@\"");
    let output = std::process::Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_recoverylog")])
        .args(args)
        .arg("--journals")
        .arg(journals)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    Ran { code: output.status.code(), stderr: String::from_utf8(output.stderr).unwrap() }
}
