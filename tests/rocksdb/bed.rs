//! Directories that are recorded, lost and played.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use recoverylog::engine::rocksdb::{RocksdbEnv, RocksdbOptions};
use recoverylog::journal::{Journal, Journals, random_author};
use recoverylog::player::{PlayOptions, Played, Player};
use recoverylog::recorded_fs::RecordedFsOptions;
use recoverylog::vfs::OsFs;
use recoverylog::{Deadline, FsmHints, JournalName, RecordedFs, Recorder, RecorderOptions};
use rocksdb::Options;

use crate::work::small;

pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

pub(crate) fn log() -> JournalName {
    JournalName::new("acme/orders").unwrap()
}

/// A directory that is recorded.
pub(crate) struct Recorded {
    pub(crate) root: PathBuf,
    pub(crate) fs: Arc<RecordedFs<OsFs>>,
    pub(crate) env: RocksdbEnv,
}

impl Recorded {
    /// Plays the log into `root`, takes it over, and records on.
    pub(crate) fn take_over(journals: &dyn Journals, root: &Path) -> Self {
        Self::with(journals, root, &FsmHints::empty(log()), |journal| journal, RocksdbOptions::default())
    }

    pub(crate) fn with(
        journals: &dyn Journals,
        root: &Path,
        hints: &FsmHints,
        wrap: impl FnOnce(Arc<dyn Journal>) -> Arc<dyn Journal>,
        options: RocksdbOptions,
    ) -> Self {
        let log = hints.log.clone().unwrap();
        let author = random_author().unwrap();
        let played = player(journals, hints, root).follow().unwrap().promote(author, soon()).unwrap();
        assert_eq!(played.warnings, []);
        let journal = wrap(journals.open(&log).unwrap());
        let recorder_options = RecorderOptions::default().resolve_max(Duration::from_millis(50));
        let recorder = Recorder::new(journal, played.fsm, played.position, author, recorder_options).unwrap();
        let fs_options = RecordedFsOptions::default().sync_max(Duration::from_secs(5));
        let fs = Arc::new(RecordedFs::new(OsFs::new(), root, recorder, fs_options));
        let env = RocksdbEnv::new(&fs, options).unwrap();
        Self { root: root.to_owned(), fs, env }
    }

    /// Options of a small database that is recorded here.
    pub(crate) fn options(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        self.env.apply(&mut options);
        small(options)
    }

    /// Waits until everything is in the journal.
    pub(crate) fn settle(&self) {
        self.env.recorder().barrier().unwrap().wait(soon()).unwrap();
    }
}

fn player(journals: &dyn Journals, hints: &FsmHints, root: &Path) -> Player {
    let options = PlayOptions { parallelism: 1, sync: false, ..PlayOptions::default() };
    Player::new(journals, hints, Arc::new(OsFs::new()), root, options).unwrap()
}

/// Plays the log into `root`.
pub(crate) fn play(journals: &dyn Journals, root: &Path) -> Played {
    let played = player(journals, &FsmHints::empty(log()), root).restore().unwrap();
    assert_eq!(played.warnings, []);
    played
}

/// Options of a small database that is not recorded.
pub(crate) fn plain() -> Options {
    small(Options::default())
}

/// Every file below `root` that is to be recorded, with what it holds.
pub(crate) fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                directories.push(path);
            } else if name != "LOCK" && !name.starts_with("LOG") {
                let content = fs::read(&path).unwrap();
                files.insert(path.strip_prefix(root).unwrap().to_owned(), content);
            }
        }
    }
    files
}

/// Checks that two directories hold the same files, byte for byte.
#[track_caller]
pub(crate) fn assert_same_tree(recorded: &Path, played: &Path) {
    let (recorded, played) = (tree(recorded), tree(played));
    let names = |tree: &BTreeMap<PathBuf, Vec<u8>>| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&recorded), names(&played));
    for (name, content) in &recorded {
        assert!(
            content == &played[name],
            "{}: {} bytes recorded, {} played",
            name.display(),
            content.len(),
            played[name].len()
        );
    }
}
