//! File systems that break a promise.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use recoverylog::vfs::conformance::{Capabilities, Fixture, run};
use recoverylog::vfs::{
    CrashPlan, DirEntry, File, FileSystem, LockMode, MemoryFs, Metadata, OpenMode, SharedWords,
};

use super::assert_names;

#[derive(Clone, Copy, Debug)]
enum Flaw {
    None,
    ForgetsSyncDir,
    ForgetsSyncData,
    ReplacesWhatIsTaken,
    ListsInAnyOrder,
    LeadsOut,
    LocksNothing,
    OpensNewWhereTaken,
    WritesThroughReadHandles,
    ShortensInSilence,
}

#[derive(Debug)]
struct Broken(Arc<dyn FileSystem>, Flaw);

impl FileSystem for Broken {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mode = match (self.1, mode) {
            (Flaw::OpensNewWhereTaken, OpenMode::CreateNew) => OpenMode::Create,
            (Flaw::WritesThroughReadHandles, OpenMode::Read) => OpenMode::ReadWrite,
            _ => mode,
        };
        Ok(Arc::new(BrokenFile(self.0.open(path, mode)?, self.1)))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.0.metadata(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = self.0.read_dir(path)?;
        if matches!(self.1, Flaw::ListsInAnyOrder) {
            entries.reverse();
        }
        Ok(entries)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.remove_dir(path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self.1 {
            Flaw::ReplacesWhatIsTaken => self.0.rename(from, to),
            _ => self.0.rename_no_replace(from, to),
        }
    }

    fn hard_link(&self, existing: &Path, new: &Path) -> io::Result<()> {
        self.0.hard_link(existing, new)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match self.1 {
            Flaw::ForgetsSyncDir => self.0.read_dir(path).map(drop),
            _ => self.0.sync_dir(path),
        }
    }

    fn beneath(&self, path: &Path) -> io::Result<Arc<dyn FileSystem>> {
        match self.1 {
            Flaw::LeadsOut => Ok(Arc::new(Joined(Arc::clone(&self.0), path.to_owned()))),
            flaw => Ok(Arc::new(Self(self.0.beneath(path)?, flaw))),
        }
    }

    fn resolve_dir(&self, path: &Path) -> io::Result<PathBuf> {
        self.0.resolve_dir(path)
    }

    fn boot_id(&self) -> io::Result<[u8; 16]> {
        self.0.boot_id()
    }

    fn is_network(&self, path: &Path) -> io::Result<bool> {
        self.0.is_network(path)
    }
}

/// A directory that is only a prefix of paths, as a first attempt at `beneath` might be.
#[derive(Debug)]
struct Joined(Arc<dyn FileSystem>, PathBuf);

impl FileSystem for Joined {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.0.open(&self.1.join(path), mode)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.0.metadata(&self.1.join(path))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.0.read_dir(&self.1.join(path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir(&self.1.join(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.remove_dir(&self.1.join(path))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(&self.1.join(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(&self.1.join(from), &self.1.join(to))
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename_no_replace(&self.1.join(from), &self.1.join(to))
    }

    fn hard_link(&self, existing: &Path, new: &Path) -> io::Result<()> {
        self.0.hard_link(&self.1.join(existing), &self.1.join(new))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.sync_dir(&self.1.join(path))
    }

    fn beneath(&self, path: &Path) -> io::Result<Arc<dyn FileSystem>> {
        Ok(Arc::new(Self(Arc::clone(&self.0), self.1.join(path))))
    }

    fn boot_id(&self) -> io::Result<[u8; 16]> {
        self.0.boot_id()
    }

    fn is_network(&self, path: &Path) -> io::Result<bool> {
        self.0.is_network(&self.1.join(path))
    }
}

#[derive(Debug)]
struct BrokenFile(Arc<dyn File>, Flaw);

impl File for BrokenFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn metadata(&self) -> io::Result<Metadata> {
        self.0.metadata()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match self.1 {
            Flaw::ShortensInSilence if len < self.0.metadata()?.len => Ok(()),
            _ => self.0.set_len(len),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.1 {
            Flaw::ForgetsSyncData => Ok(()),
            _ => self.0.sync_data(),
        }
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.0.allocate(offset, len)
    }

    fn try_lock(&self, mode: LockMode) -> io::Result<bool> {
        match self.1 {
            Flaw::LocksNothing => Ok(true),
            _ => self.0.try_lock(mode),
        }
    }

    fn unlock(&self) -> io::Result<()> {
        self.0.unlock()
    }

    fn map_shared(&self, words: usize) -> io::Result<Arc<dyn SharedWords>> {
        self.0.map_shared(words)
    }
}

fn fixture(flaw: Flaw) -> Fixture {
    let memory = MemoryFs::new();
    memory.create_dir(Path::new("/root")).unwrap();
    memory.sync_dir(Path::new("/")).unwrap();
    let disk = memory.clone();
    Fixture::new(Arc::new(Broken(Arc::new(memory.clone()), flaw)), "/root")
        .planting_symlinks_by(move |target, link| memory.plant_symlink(target, link))
        .losing_power_by(move || Arc::new(disk.crash_image(CrashPlan::DropUnsynced)))
}

#[test]
fn a_broken_file_system_fails_by_the_promise_that_it_breaks() {
    for (flaw, expected) in [
        (Flaw::ForgetsSyncDir, &["names_of_a_synced_directory_survive_a_power_loss"][..]),
        (Flaw::ForgetsSyncData, &["content_that_was_synced_survives_a_power_loss"]),
        (Flaw::ReplacesWhatIsTaken, &["rename_without_replacing_never_replaces"]),
        (Flaw::ListsInAnyOrder, &["names_are_listed_in_order_with_their_kind"]),
        (Flaw::LeadsOut, &["beneath_refuses_paths_that_lead_out", "beneath_follows_a_renamed_directory"]),
        (Flaw::LocksNothing, &["an_exclusive_lock_shuts_out_every_other_handle"]),
        (Flaw::OpensNewWhereTaken, &["an_existing_file_is_kept_emptied_or_refused_as_the_mode_says"]),
        (Flaw::WritesThroughReadHandles, &["a_handle_for_reading_changes_nothing"]),
        (Flaw::ShortensInSilence, &["a_file_that_is_cut_and_extended_reads_zeros_there"]),
    ] {
        assert_names(&flaw, run(&|| fixture(flaw), Capabilities::ALL), expected);
    }
}

#[test]
fn what_is_declared_and_not_there_fails_by_name() {
    let bare = || Fixture::new(Arc::new(MemoryFs::new()), "/");
    let expected = ["a_symlink_is_a_name_like_any_other", "names_of_a_synced_directory_survive_a_power_loss"];
    assert_names(&"Bare", run(&bare, Capabilities::ALL), &expected);
    run(&|| fixture(Flaw::None), Capabilities::ALL).expect("the wrapper itself breaks nothing");
}
