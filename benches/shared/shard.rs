//! A shard in a directory, with files to record, for the benches that measure a whole one.
//!
//! *Invariants.* The same load has the same names, lengths and bytes each time.
//!
//! *Does not* measure.

#[path = "figure.rs"]
mod figure;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use recoverylog::hint_store::DirectoryHints;
use recoverylog::journal::{FileJournals, random_author};
use recoverylog::replica::{Primary, Replica};
use recoverylog::vfs::{FileSystem, OpenMode, OsFs};
use recoverylog::{Deadline, JournalName};

pub(crate) use self::figure::figure;

pub(crate) const LOG: &str = "bench/shard";
const FOLDERS: usize = 16;

/// Files to record, and how they are written.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) name: &'static str,
    pub(crate) sizes: Vec<usize>,
    /// Bytes of one write.
    pub(crate) write_bytes: usize,
}

impl Load {
    /// 10,000 files and 1 GiB: 9,000 of 12 KiB, 900 of 256 KiB, 90 of 4 MiB, 10 of 33 MiB, mixed.
    pub(crate) fn mixed() -> Self {
        let size = |index: usize| match index % 1000 {
            0 => 33 << 20,
            1..10 => 4 << 20,
            10..100 => 256 << 10,
            _ => 12 << 10,
        };
        let sizes = (0..10_000).map(|index| size(index * 7919)).collect();
        Self { name: "10,000 files, 12 KiB to 33 MiB", sizes, write_bytes: 64 << 10 }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.sizes.iter().sum()
    }
}

/// Returns a deadline that no step of a bench should meet.
pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(600))
}

/// Makes a directory below the one that the first argument names, which must lie on the disk that is meant.
pub(crate) fn place() -> tempfile::TempDir {
    let named = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    tempfile::tempdir_in(named.map_or_else(std::env::temp_dir, PathBuf::from)).unwrap()
}

pub(crate) fn shard(place: &Path) -> Replica {
    let fs: Arc<dyn FileSystem> = Arc::new(OsFs::new());
    let journals = Arc::new(FileJournals::open(place.join("journals")).unwrap());
    let hints = Arc::new(DirectoryHints::open(Arc::clone(&fs), &place.join("hints")).unwrap());
    Replica::new(journals, JournalName::new(LOG).unwrap(), hints, fs)
}

/// Begins the shard's log, and records the files of `load` in `directory`.
pub(crate) fn record(shard: &Replica, directory: &Path, load: &Load) -> Primary {
    let standby = shard.standby(directory).unwrap();
    let primary = standby.promote(random_author().unwrap(), soon()).unwrap();
    let noise = noise(2 << 20);
    for folder in 0..FOLDERS.min(load.sizes.len()) {
        primary.fs().create_dir(&directory.join(format!("{folder:02}"))).unwrap();
    }
    for (index, &size) in load.sizes.iter().enumerate() {
        let path = directory.join(format!("{:02}/{index:06}", index % FOLDERS));
        let file = primary.fs().open(&path, OpenMode::CreateNew).unwrap();
        let mut at = 0;
        while at < size {
            let bytes = load.write_bytes.min(size - at);
            let from = (index * 8191 + at) % (1 << 20);
            file.write_all_at(&noise[from..from + bytes], at as u64).unwrap();
            at += bytes;
        }
    }
    primary.barrier().unwrap().wait(soon()).unwrap();
    primary
}

/// Returns bytes that do not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).take(bytes / 8).flatten().collect()
}
