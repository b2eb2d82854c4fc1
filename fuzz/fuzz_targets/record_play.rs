//! What is played is what was recorded, whatever is done to files.
//!
//! Input: a list of calls. Between them the log is taken over into a new directory now and then, from its first byte or by
//! hints.
#![no_main]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use recoverylog::journal::{Journals, MemoryJournals};
use recoverylog::player::{PlayOptions, Player};
use recoverylog::recorded_fs::{RecordedFile, RecordedFsOptions};
use recoverylog::vfs::{File, FileKind, FileSystem, MemoryFs, OpenMode};
use recoverylog::{Author, Deadline, FsmHints, JournalName, RecordedFs, Recorder, RecorderOptions};

const NAMES: [&str; 8] = ["a", "b", "dir/a", "dir/b", "dir/deep/a", "other/a", "LOG", "LOCK"];
const DIRS: [&str; 4] = ["dir", "dir/deep", "other", "dir/new"];

#[derive(Arbitrary, Debug)]
enum Call {
    Open { name: u8, mode: u8 },
    Write { handle: u8, at: u16, len: u16, byte: u8 },
    Append { handle: u8, len: u16, byte: u8 },
    SetLen { handle: u8, len: u16 },
    Allocate { handle: u8, at: u16, len: u16 },
    Close { handle: u8 },
    Rename { from: u8, to: u8 },
    RenameDir { from: u8, to: u8 },
    Link { from: u8, to: u8 },
    Remove { name: u8 },
    CreateDir { dir: u8 },
    RemoveDir { dir: u8, all: bool },
    TakeOver { hinted: bool },
}

/// A writer of the log and the directory that it records.
struct Writer {
    disk: MemoryFs,
    fs: RecordedFs<MemoryFs>,
    handles: Vec<Arc<RecordedFile>>,
    played: Option<BTreeMap<PathBuf, (usize, Vec<u8>)>>,
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn log() -> JournalName {
    JournalName::new("fuzz/log").expect("a name")
}

fn take_over(journals: &MemoryJournals, hints: &FsmHints, author: u32) -> Writer {
    let disk = MemoryFs::new();
    disk.set_capacity(64 << 20);
    let author = Author::new(author).expect("an author");
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    let options = PlayOptions { parallelism: 1, sync: false, ..PlayOptions::default() };
    let player = Player::new(journals, hints, fs, Path::new("/data"), options).expect("a plan");
    let played = player.follow().and_then(|follower| follower.promote(author, soon())).expect("a hand-off");
    assert_eq!(played.warnings, []);
    let journal = journals.open(&log()).expect("a journal in memory");
    let recorder = Recorder::new(journal, played.fsm, played.position, author, RecorderOptions::default());
    let recorder = recorder.expect("a history that was played to its end");
    let fs = RecordedFs::new(disk.clone(), Path::new("/data"), recorder, RecordedFsOptions::default());
    let played = Some(tree(&disk));
    Writer { disk, fs, handles: Vec::new(), played }
}

/// Returns the content of every recorded file by path, and which files are the same.
fn tree(fs: &MemoryFs) -> BTreeMap<PathBuf, (usize, Vec<u8>)> {
    let (mut found, mut inodes) = (BTreeMap::new(), Vec::new());
    let mut folders = vec![PathBuf::from("/data")];
    let mut paths = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs.read_dir(&folder).expect("a directory") {
            let path = folder.join(&entry.name);
            match entry.kind {
                FileKind::Directory => folders.push(path),
                _ if entry.name == "LOG" || entry.name == "LOCK" => {}
                _ => paths.push(path),
            }
        }
    }
    paths.sort();
    for path in paths {
        let file = fs.open(&path, OpenMode::Read).expect("a file");
        let facts = file.metadata().expect("facts");
        let mut content = vec![0; facts.len as usize];
        file.read_exact_at(&mut content, 0).expect("content");
        let same = inodes.iter().position(|inode| *inode == facts.inode).unwrap_or(inodes.len());
        inodes.push(facts.inode);
        found.insert(path, (same, content));
    }
    found
}

fn path(name: u8) -> PathBuf {
    Path::new("/data").join(NAMES[usize::from(name) % NAMES.len()])
}

fn dir(dir: u8) -> PathBuf {
    Path::new("/data").join(DIRS[usize::from(dir) % DIRS.len()])
}

impl Writer {
    fn handle(&self, handle: u8) -> Option<&RecordedFile> {
        self.handles.get(usize::from(handle) % self.handles.len().max(1)).map(|file| &**file)
    }

    /// Makes a call. Many are refused, as by any file system.
    fn call(&mut self, call: &Call) {
        let fs = &self.fs;
        match *call {
            Call::Open { name, mode } => {
                let mode = [OpenMode::ReadWrite, OpenMode::Create, OpenMode::CreateNew, OpenMode::Truncate]
                    [usize::from(mode) % 4];
                let file = fs.open_recorded(&path(name), mode);
                if self.handles.len() < 16 {
                    self.handles.extend(file);
                }
            }
            Call::Write { handle, at, len, byte } => {
                self.handle(handle).map(|file| file.write_all_at(&vec![byte; len.into()], at.into()));
            }
            Call::Append { handle, len, byte } => {
                self.handle(handle).map(|file| file.append(&vec![byte; len.into()]));
            }
            Call::SetLen { handle, len } => drop(self.handle(handle).map(|file| file.set_len(len.into()))),
            Call::Allocate { handle, at, len } => {
                self.handle(handle).map(|file| file.allocate(at.into(), len.into()));
            }
            Call::Close { handle } => {
                if !self.handles.is_empty() {
                    self.handles.remove(usize::from(handle) % self.handles.len());
                }
            }
            Call::Rename { from, to } => drop(fs.rename(&path(from), &path(to))),
            Call::RenameDir { from, to } => drop(fs.rename(&dir(from), &dir(to))),
            Call::Link { from, to } => drop(fs.hard_link(&path(from), &path(to))),
            Call::Remove { name } => drop(fs.remove_file(&path(name))),
            Call::CreateDir { dir: name } => drop(fs.create_dir(&dir(name))),
            Call::RemoveDir { dir: name, all: false } => drop(fs.remove_dir(&dir(name))),
            Call::RemoveDir { dir: name, all: true } => drop(fs.remove_dir_all(&dir(name))),
            Call::TakeOver { .. } => {}
        }
    }

    /// Comes to rest, and returns hints of all that was recorded.
    fn rest(&self) -> FsmHints {
        let mut hints = self.fs.recorder().take_hints().expect("a recorder that has not failed");
        hints.wait(soon()).expect("a journal that does not fail")
    }
}

fuzz_target!(|calls: Vec<Call>| {
    let journals = MemoryJournals::new();
    let none = FsmHints::empty(log());
    let mut author = 1;
    let mut writer = take_over(&journals, &none, author);
    for call in &calls {
        writer.call(call);
        let Call::TakeOver { hinted } = call else { continue };
        if author > 20 {
            continue;
        }
        let recorded = tree(&writer.disk);
        let hints = writer.rest();
        author += 1;
        let next = take_over(&journals, if *hinted { &hints } else { &none }, author);
        assert_eq!(next.played.as_ref(), Some(&recorded));
        // The old one is fenced: it can neither record nor spoil the log.
        writer.call(&Call::Open { name: 0, mode: 1 });
        drop(writer.fs.recorder().no_op());
        writer = next;
    }
    let (recorded, hints) = (tree(&writer.disk), writer.rest());
    for hints in [&none, &hints] {
        author += 1;
        assert_eq!(take_over(&journals, hints, author).played.as_ref(), Some(&recorded));
    }
});
