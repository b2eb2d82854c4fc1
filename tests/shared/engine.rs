//! What an engine does to its files, at random.
//!
//! *Invariants.* One call of [`operate`] is one call of a file system, or some.
//!
//! *Does not* look whether anything came of it: what it recorded is compared elsewhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use recoverylog::ErrorKind;
use recoverylog::RecordedFs;
use recoverylog::recorded_fs::RecordedFile;
use recoverylog::tracker::{RewriteOptions, Rewriter};
use recoverylog::vfs::{File, FileKind, FileSystem, OpenMode};

use super::random::Random;

/// How often each thing happened.
pub(crate) type Tally = BTreeMap<String, u64>;

/// The recorded directory.
pub(crate) const ROOT: &str = "/data";
const DIRECTORIES: [&str; 6] = ["", "a", "d", "a/b", "e", "d/c"];
const NAMES: [&str; 6] = ["f0", "f1", "f2", "f3", "LOG1", "LOCK"];

/// Handles that stay open, also over files that lost their names, and what writes again in the background.
pub(crate) struct Handles(Mutex<Vec<(PathBuf, Arc<RecordedFile>)>>, Mutex<Rewriter>);

impl Default for Handles {
    fn default() -> Self {
        let rewriter = Rewriter::new(RewriteOptions { percent: 1_000, window_bytes: 8_000 });
        Self(Mutex::default(), Mutex::new(rewriter))
    }
}

/// Does one operation; returns its name, and whether it is one step of the log.
pub(crate) fn operate<F: FileSystem>(
    fs: &RecordedFs<F>,
    handles: &Handles,
    random: &mut Random,
    tally: &mut Tally,
) -> bool {
    let (what, worked, atomic) = draw(fs, handles, random);
    *tally.entry(what.to_owned()).or_default() += u64::from(worked);
    atomic
}

fn path(random: &mut Random) -> PathBuf {
    let directory = DIRECTORIES[random.below(4) as usize];
    Path::new(ROOT).join(directory).join(NAMES[random.below(6) as usize])
}

/// Picks a file that is there.
fn existing<F: FileSystem>(fs: &RecordedFs<F>, random: &mut Random) -> Option<PathBuf> {
    let mut files = Vec::new();
    for directory in DIRECTORIES {
        let directory = Path::new(ROOT).join(directory);
        let entries = fs.read_dir(&directory).unwrap_or_default();
        let names = entries.into_iter().filter(|entry| entry.kind == FileKind::File);
        let names = names.filter(|entry| NAMES.iter().any(|name| entry.name == *name));
        files.extend(names.map(|entry| directory.join(entry.name)));
    }
    let count = files.len() as u64;
    (count > 0).then(|| files.swap_remove(random.below(count) as usize))
}

fn directory(random: &mut Random) -> PathBuf {
    Path::new(ROOT).join(DIRECTORIES[1 + random.below(5) as usize])
}

fn draw<F: FileSystem>(
    fs: &RecordedFs<F>,
    handles: &Handles,
    random: &mut Random,
) -> (&'static str, bool, bool) {
    let (one, other) = (path(random), path(random));
    let there = existing(fs, random).unwrap_or_else(|| one.clone());
    let over =
        if random.one_in(2) { existing(fs, random).unwrap_or_else(|| other.clone()) } else { other.clone() };
    match random.below(106) {
        0..8 => ("create", keep(handles, &one, fs.open_recorded(&one, OpenMode::Create)), true),
        8..12 => ("create new", keep(handles, &one, fs.open_recorded(&one, OpenMode::CreateNew)), true),
        12..17 => ("open, truncating", keep(handles, &one, fs.open_recorded(&one, OpenMode::Truncate)), true),
        17..31 => write(fs, handles, random),
        31..40 => append(handles, random),
        40..51 => rename(fs, handles, &there, &over),
        51..61 => {
            let from = DIRECTORIES.iter().skip(1).map(|path| Path::new(ROOT).join(path));
            let mut from: Vec<_> = from.filter(|path| fs.metadata(path).is_ok()).collect();
            let count = from.len() as u64;
            let from =
                if count > 0 { from.swap_remove(random.below(count) as usize) } else { directory(random) };
            let to = directory(random);
            ("rename a directory", from != to && fs.rename(&from, &to).is_ok(), false)
        }
        61..67 => ("hard link", fs.hard_link(&there, &other).is_ok(), true),
        67..73 => ("unlink", fs.remove_file(&there).is_ok(), true),
        73..79 => set_len(handles, random, false),
        79..83 => set_len(handles, random, true),
        83..86 => {
            let (offset, len) = (random.below(2_000), random.below(2_000) + 1);
            ("allocate", with_handle(handles, random, |file| file.allocate(offset, len)), true)
        }
        86..89 => {
            let made = [directory(random), directory(random)].iter().any(|path| fs.create_dir(path).is_ok());
            ("create a directory", made, true)
        }
        89..96 => ("remove a directory and all in it", fs.remove_dir_all(&directory(random)).is_ok(), false),
        96..97 => ("close", handles.0.lock().unwrap().pop().is_some(), true),
        // Whatever of it is in the log, the tree is the same.
        97..103 => ("write again", rewrite(fs, handles), true),
        _ => ("sync", with_handle(handles, random, File::sync_data), true),
    }
}

fn keep(handles: &Handles, path: &Path, opened: std::io::Result<Arc<RecordedFile>>) -> bool {
    let Ok(file) = opened else { return false };
    let mut handles = handles.0.lock().unwrap();
    handles.push((path.to_owned(), file));
    if handles.len() > 12 {
        handles.remove(0);
    }
    true
}

fn any_handle(handles: &Handles, random: &mut Random) -> Option<Arc<RecordedFile>> {
    let handles = handles.0.lock().unwrap();
    let count = handles.len() as u64;
    (count > 0).then(|| Arc::clone(&handles[random.below(count) as usize].1))
}

fn with_handle(
    handles: &Handles,
    random: &mut Random,
    call: impl FnOnce(&dyn File) -> std::io::Result<()>,
) -> bool {
    any_handle(handles, random).is_some_and(|file| call(&*file).is_ok())
}

fn some_bytes(random: &mut Random, len_max: u64) -> Vec<u8> {
    let len = if random.one_in(8) { 0 } else { random.below(len_max) + 1 };
    vec![b'a' + random.below(26) as u8; len as usize]
}

fn is_unlinked(file: &RecordedFile) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.links == 0)
}

fn write<F: FileSystem>(
    fs: &RecordedFs<F>,
    handles: &Handles,
    random: &mut Random,
) -> (&'static str, bool, bool) {
    let Some(file) = any_handle(handles, random) else {
        let one = path(random);
        return ("create", keep(handles, &one, fs.open_recorded(&one, OpenMode::Create)), true);
    };
    let what = if is_unlinked(&file) { "write to an unlinked file" } else { "write" };
    let (bytes, offset) = (some_bytes(random, 3_000), random.below(4_000));
    // One call, so that it is one step even where it comes out short.
    (what, file.write_at(&bytes, offset).is_ok(), true)
}

fn append(handles: &Handles, random: &mut Random) -> (&'static str, bool, bool) {
    let Some(file) = any_handle(handles, random) else { return ("append", false, true) };
    let what = if is_unlinked(&file) { "append to an unlinked file" } else { "append" };
    let bytes = some_bytes(random, 2_000);
    (what, file.append(&bytes).is_ok(), false)
}

/// Writes again what lies in old windows, behind which something was recorded that is dead at once.
fn rewrite<F: FileSystem>(fs: &RecordedFs<F>, handles: &Handles) -> bool {
    if !(0..200).all(|_| fs.recorder().no_op().is_ok()) {
        return false;
    }
    let stepped = handles.1.lock().unwrap().step(fs.tracker());
    let damage = stepped.as_ref().err().filter(|error| error.kind() == ErrorKind::Corrupt);
    assert!(damage.is_none(), "a false alarm, whatever failed before: {damage:?}");
    stepped.is_ok_and(|bytes| bytes > 0)
}

fn rename<F: FileSystem>(
    fs: &RecordedFs<F>,
    handles: &Handles,
    from: &Path,
    to: &Path,
) -> (&'static str, bool, bool) {
    let is_open = handles.0.lock().unwrap().iter().any(|(path, _)| path == to);
    let replaces = fs.metadata(to).is_ok_and(|found| found.kind == FileKind::File);
    let what = match (replaces, is_open) {
        (true, true) => "rename over an open file",
        (true, false) => "rename over a file",
        (false, _) => "rename",
    };
    (what, fs.rename(from, to).is_ok(), true)
}

fn set_len(handles: &Handles, random: &mut Random, grow: bool) -> (&'static str, bool, bool) {
    let Some(file) = any_handle(handles, random) else { return ("truncate", false, true) };
    let len = file.metadata().map_or(0, |metadata| metadata.len);
    if grow {
        let len = len + random.below(1_000) + 1;
        return ("grow", file.set_len(len).is_ok(), true);
    }
    let len = random.below(len + 1);
    ("truncate", file.set_len(len).is_ok(), true)
}
