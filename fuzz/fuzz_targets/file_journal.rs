//! Whatever happened to its files, a file journal opens to whole commits or says why not, and keeps its hands off
//! files that are not its own.
//!
//! Input: a list of changes to the files of a journal that was lost in the middle of its work, as it lies on the disk in
//! this boot or in the next one.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use recoverylog::journal::{
    Append, FileJournalOptions, FileJournals, Journal, JournalError, Journals, ReadRange, ReadStep,
};
use recoverylog::vfs::{CrashPlan, FileKind, FileSystem, MemoryFs, OpenMode};
use recoverylog::{Deadline, JournalName, Offset};

const ROOT: &str = "/journals";
const NAME: &str = "acme/orders";
/// Each commit is filled with one letter, the next one in turn, and is this long but for the last.
const COMMIT_BYTES: [usize; 9] = [700, 700, 700, 700, 700, 40, 700, 1, 300];

#[derive(Arbitrary, Debug)]
struct Input {
    next_boot: bool,
    changes: Vec<Change>,
    append: bool,
}

#[derive(Arbitrary, Debug)]
enum Change {
    Flip { file: u8, at: u16, bits: u8 },
    Overwrite { file: u8, at: u16, bytes: Vec<u8> },
    Cut { file: u8, len: u16 },
    Grow { file: u8, bytes: u16 },
    Swap { file: u8, other: u8 },
    Copy { file: u8, other: u8 },
    Remove { file: u8 },
    Foreign { name: [u8; 4] },
}

static LOST: LazyLock<(MemoryFs, Arc<dyn Journal>)> = LazyLock::new(lost);

/// Makes the files of a journal whose process was stopped: nothing is closed or flushed as long as its handle is there.
fn lost() -> (MemoryFs, Arc<dyn Journal>) {
    let fs = MemoryFs::new();
    let journal = open(&fs).expect("a new journal");
    for (index, bytes) in COMMIT_BYTES.into_iter().enumerate() {
        journal.append(Append::new(vec![b'a' + index as u8; bytes]), soon()).expect("an append in memory");
    }
    (fs, journal)
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn open(fs: &MemoryFs) -> Result<Arc<dyn Journal>, JournalError> {
    let mut options = FileJournalOptions::default();
    (options.fragment_bytes, options.inline, options.patience) = (2048, true, Duration::from_millis(1));
    let journals = FileJournals::open_on(Arc::new(fs.clone()), ROOT, options).expect("a directory in memory");
    journals.open(&JournalName::new(NAME).expect("a name"))
}

fn files(fs: &MemoryFs, folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs.read_dir(folder).expect("a directory that is there") {
        let path = folder.join(&entry.name);
        match entry.kind {
            FileKind::Directory => found.extend(files(fs, &path)),
            _ => found.push(path),
        }
    }
    found.sort();
    found
}

fn read(fs: &MemoryFs, path: &Path) -> Vec<u8> {
    let file = fs.open(path, OpenMode::Read).expect("a file");
    let mut content = vec![0; file.metadata().expect("facts").len as usize];
    file.read_exact_at(&mut content, 0).expect("content");
    content
}

fn write(fs: &MemoryFs, path: &Path, content: &[u8]) {
    let file = fs.open(path, OpenMode::Truncate).expect("a file");
    file.write_all_at(content, 0).expect("space");
    file.sync_all().expect("a flush in memory");
}

/// Makes a change; returns the path of a file that is none of the journal's.
fn change(fs: &MemoryFs, change: &Change) -> Option<PathBuf> {
    let files = files(fs, Path::new(ROOT));
    let pick = |file: &u8| files.get(usize::from(*file) % files.len().max(1)).cloned();
    let edit = |file: &u8, edit: &dyn Fn(&mut Vec<u8>)| {
        if let Some(path) = pick(file) {
            let mut content = read(fs, &path);
            edit(&mut content);
            write(fs, &path, &content);
        }
    };
    match change {
        Change::Flip { file, at, bits } => edit(file, &|content| {
            let at = usize::from(*at) % content.len().max(1);
            if let Some(byte) = content.get_mut(at) {
                *byte ^= bits;
            }
        }),
        Change::Overwrite { file, at, bytes } => edit(file, &|content| {
            let at = usize::from(*at) % content.len().max(1);
            content.iter_mut().skip(at).zip(bytes).for_each(|(old, new)| *old = *new);
        }),
        Change::Cut { file, len } => edit(file, &|content| content.truncate(usize::from(*len))),
        Change::Grow { file, bytes } => {
            edit(file, &|content| content.resize(content.len() + usize::from(*bytes), 0));
        }
        Change::Swap { file, other } => {
            if let (Some(one), Some(other)) = (pick(file), pick(other)) {
                let (first, second) = (read(fs, &one), read(fs, &other));
                write(fs, &one, &second);
                write(fs, &other, &first);
            }
        }
        Change::Copy { file, other } => {
            if let (Some(one), Some(other)) = (pick(file), pick(other)) {
                write(fs, &other, &read(fs, &one));
            }
        }
        Change::Remove { file } => {
            if let Some(path) = pick(file) {
                fs.remove_file(&path).expect("a file");
            }
        }
        Change::Foreign { name } => {
            let name: String = name.iter().map(|byte| char::from(b'a' + byte % 26)).collect();
            let folder =
                if name.starts_with('a') { NAME.to_owned() } else { format!(".recoverylog/journals/{NAME}") };
            let path = Path::new(ROOT).join(folder).join(format!("{name}.open"));
            write(fs, &path, b"not ours");
            return Some(path);
        }
    }
    None
}

/// Reads everything; `None` where bytes are missing or damaged.
fn content(journal: &dyn Journal) -> Option<Vec<u8>> {
    let head = journal.head(soon()).ok()?.offset;
    let mut reader = journal.read(ReadRange::bounded(Offset::ZERO, head)).expect("a range up to the head");
    let mut content = Vec::new();
    loop {
        match reader.next(soon()).ok()? {
            ReadStep::Chunk(chunk) => {
                let begin = content.len();
                content.resize(begin + chunk.len() as usize, 0);
                chunk.read_exact_at(&mut content[begin..], 0).ok()?;
            }
            ReadStep::End => {
                assert_eq!(content.len() as u64, head.get());
                return Some(content);
            }
            ReadStep::Jump { .. } => return None,
            other => panic!("{other:?} below the head"),
        }
    }
}

/// Tells whether `content` is the first so many commits.
fn is_whole(content: &[u8]) -> bool {
    let mut rest = content;
    for (index, bytes) in COMMIT_BYTES.into_iter().enumerate() {
        if rest.is_empty() {
            return true;
        }
        let Some((commit, next)) = rest.split_at_checked(bytes) else { return false };
        if commit.iter().any(|byte| *byte != b'a' + index as u8) {
            return false;
        }
        rest = next;
    }
    rest.is_empty()
}

fuzz_target!(|input: Input| {
    let this_boot = (!input.next_boot).then(lost);
    let fs = this_boot.as_ref().map_or_else(|| LOST.0.crash_image(CrashPlan::KeepAll), |(fs, _)| fs.clone());
    let foreign: Vec<PathBuf> = input.changes.iter().filter_map(|made| change(&fs, made)).collect();

    if let Ok(journal) = open(&fs) {
        let before = content(&*journal);
        if let Some(before) = &before {
            assert!(is_whole(before), "{}", before.escape_ascii());
        }
        if input.append && journal.append(Append::new(&b"more"[..]), soon()).is_ok() && before.is_some() {
            let after = content(&*journal).expect("what was readable still is");
            assert_eq!(after, [before.unwrap_or_default().as_slice(), b"more"].concat());
        }
    }
    for path in foreign {
        if fs.metadata(&path).is_ok() {
            continue;
        }
        assert!(
            input.changes.iter().any(|change| matches!(change, Change::Remove { .. })),
            "{}",
            path.display()
        );
    }
});
