//! Random calls on the operating system's files and on files in memory have the same results.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::prng::SplitMix64;
use crate::vfs::{File, FileKind, FileSystem, LockMode, MemoryFs, OpenMode, OsFs};

/// Two of a kind: the operating system's, and that in memory.
struct Pair<T: ?Sized>(Arc<T>, Arc<T>);

impl<T: ?Sized> Clone for Pair<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0), Arc::clone(&self.1))
    }
}

impl<T: ?Sized> Pair<T> {
    /// Makes a call on both, and returns what it came to on both, or the difference.
    fn same<R: Debug + PartialEq>(&self, call: impl Fn(&T) -> io::Result<R>) -> Result<String, String> {
        let [os, memory] = [&self.0, &self.1].map(|one| call(one).map_err(|error| kind(&error)));
        if os == memory {
            Ok(format!("{os:?}"))
        } else {
            Err(format!("{os:?} on the system, {memory:?} in memory"))
        }
    }
}

/// A world on both sides, and what is open in it.
struct World {
    random: SplitMix64,
    whole: Pair<dyn FileSystem>,
    inside: Pair<dyn FileSystem>,
    files: Vec<Pair<dyn File>>,
    root: PathBuf,
    memory: MemoryFs,
    _keep: tempfile::TempDir,
}

const NAMES: [&str; 17] = [
    "a", "b", "c", "e", "f", "d/c", "d", "d/a", "d/b", "d/e", "d/e/a", "a/b", "none/x", "link", "link/a",
    "./d", "d/./e",
];

impl World {
    fn new(seed: u64) -> Self {
        let keep = tempfile::tempdir().unwrap();
        // The same path on both sides.
        let root = keep.path().canonicalize().unwrap();
        let memory = MemoryFs::new();
        crate::vfs::create_dir_all_synced(&memory, &root).unwrap();
        let whole = Pair(Arc::new(OsFs::new()) as Arc<dyn FileSystem>, Arc::new(memory.clone()) as _);
        let inside = Pair(whole.0.beneath(&root).unwrap(), whole.1.beneath(&root).unwrap());
        let random = SplitMix64::new(seed);
        Self { random, whole, inside, files: Vec::new(), root, memory, _keep: keep }
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.random.below(NAMES.len() as u64) as usize]
    }

    /// Draws a file system and two paths for it.
    fn place(&mut self) -> (Pair<dyn FileSystem>, PathBuf, PathBuf) {
        let (one, two) = (self.name(), self.name());
        if self.random.one_in(2) {
            let odd = ["", ".", "..", "d/..", "/", "d/../a"];
            let mut path = |name| match self.random.below(12) {
                0 => PathBuf::from(odd[self.random.below(6) as usize]),
                _ => PathBuf::from(name),
            };
            let (one, two) = (path(one), path(two));
            (self.inside.clone(), one, two)
        } else {
            let up = if self.random.one_in(8) { self.root.join("d/..") } else { self.root.clone() };
            (self.whole.clone(), up.join(one), self.root.join(two))
        }
    }

    fn step(&mut self) -> (String, Result<String, String>) {
        if self.files.is_empty() || self.random.one_in(2) {
            self.step_on_names()
        } else {
            self.step_on_file()
        }
    }

    fn step_on_names(&mut self) -> (String, Result<String, String>) {
        let (fs, one, two) = self.place();
        let both = format!("{one:?} {two:?}");
        match self.random.below(14) {
            0..4 => {
                let modes = [
                    OpenMode::Read,
                    OpenMode::ReadWrite,
                    OpenMode::Create,
                    OpenMode::CreateNew,
                    OpenMode::Truncate,
                ];
                let mode = modes[self.random.below(5) as usize];
                let pair = fs.0.open(&one, mode).and_then(|os| Ok(Pair(os, fs.1.open(&one, mode)?)));
                let same = match pair {
                    Ok(pair) => {
                        self.files.push(pair);
                        Ok("open".into())
                    }
                    Err(_) => fs.same(|fs| fs.open(&one, mode).map(drop)),
                };
                (format!("open {one:?} {mode:?}"), same)
            }
            4 => (format!("create_dir {one:?}"), fs.same(|fs| fs.create_dir(&one))),
            5 => (format!("remove_dir {one:?}"), fs.same(|fs| fs.remove_dir(&one))),
            6 => (format!("remove_file {one:?}"), fs.same(|fs| fs.remove_file(&one))),
            7 | 8 => (format!("rename {both}"), fs.same(|fs| fs.rename(&one, &two))),
            9 => (format!("rename_no_replace {both}"), fs.same(|fs| fs.rename_no_replace(&one, &two))),
            // Where both paths are wrong, the system speaks of one or of the other.
            10 => (format!("hard_link {both}"), fs.same(|fs| Ok(fs.hard_link(&one, &two).is_ok()))),
            11 => (format!("metadata {one:?}"), fs.same(|fs| fs.metadata(&one).map(|found| found.kind))),
            12 => (format!("read_dir {one:?}"), fs.same(|fs| fs.read_dir(&one))),
            _ => match self.random.below(3) {
                0 => {
                    let target = ["d", "a", "../d", "link"][self.random.below(4) as usize];
                    let (link, target) = (self.root.join("link"), Path::new(target));
                    let os = std::os::unix::fs::symlink(target, &link).map_err(|error| kind(&error));
                    let memory = self.memory.plant_symlink(target, &link).map_err(|error| kind(&error));
                    let same =
                        if os == memory { Ok(format!("{os:?}")) } else { Err(format!("{os:?} {memory:?}")) };
                    (format!("symlink {target:?}"), same)
                }
                1 => (format!("sync_dir {one:?}"), fs.same(|fs| fs.sync_dir(&one))),
                _ => {
                    let list = |fs: &dyn FileSystem| fs.beneath(&one)?.read_dir(Path::new(""));
                    (format!("beneath {one:?}"), fs.same(|fs| list(fs)))
                }
            },
        }
    }

    fn step_on_file(&mut self) -> (String, Result<String, String>) {
        let index = self.random.below(self.files.len() as u64) as usize;
        let file = self.files[index].clone();
        let far = if self.random.one_in(20) { 1 << 40 } else { 0 };
        let (offset, len) = (far + self.random.below(9000), self.random.below(6000));
        let value = self.random.next_u64() as u8;
        let what = |name: &str| format!("{name} of {index} at {offset}, {len}");
        match self.random.below(13) {
            0 => {
                drop(self.files.swap_remove(index));
                (format!("close {index}"), Ok(String::new()))
            }
            1..4 => (what("write"), file.same(|file| file.write_at(&vec![value; len as usize], offset))),
            4 => {
                let read = |file: &dyn File| {
                    let mut bytes = vec![0; len as usize];
                    let count = file.read_at(&mut bytes, offset)?;
                    Ok((count, crc32c::crc32c(&bytes)))
                };
                (what("read"), file.same(|file| read(file)))
            }
            5 => (what("set_len"), file.same(|file| file.set_len(offset % (1 << 40)))),
            6 => (what("allocate"), file.same(|file| file.allocate(offset % (1 << 40), len % 3 * len))),
            7 => {
                let other = self.random.below(self.files.len() as u64) as usize;
                let target = self.files[other].clone();
                let to = self.random.below(9000);
                let os = file.0.copy_to(offset, &*target.0, to, len).map_err(|error| kind(&error));
                let memory = file.1.copy_to(offset, &*target.1, to, len).map_err(|error| kind(&error));
                let same =
                    if os == memory { Ok(format!("{os:?}")) } else { Err(format!("{os:?} {memory:?}")) };
                (format!("{} to {other} at {to}", what("copy")), same)
            }
            8 => {
                let mode = if value < 128 { LockMode::Shared } else { LockMode::Exclusive };
                (format!("lock {index} {mode:?}"), file.same(|file| file.try_lock(mode)))
            }
            9 => (format!("unlock {index}"), file.same(File::unlock)),
            10 => (what("words"), file.same(|file| use_words(file, offset as usize % 700, u64::from(value)))),
            11 => (what("sync"), file.same(|file| file.sync_data().and_then(|()| file.sync_all()))),
            _ => (
                what("metadata"),
                file.same(|file| file.metadata().map(|found| (found.kind, found.len, found.links))),
            ),
        }
    }

    /// Describes all there is: paths, kinds, contents, and which names are of one file.
    fn trees(&self) -> [BTreeMap<PathBuf, String>; 2] {
        [&self.whole.0, &self.whole.1].map(|fs| {
            let mut found = BTreeMap::new();
            let mut inodes = BTreeMap::new();
            let mut open = vec![self.root.clone()];
            while let Some(directory) = open.pop() {
                for entry in fs.read_dir(&directory).unwrap() {
                    let path = directory.join(&entry.name);
                    let metadata = fs.metadata(&path).unwrap();
                    assert_eq!(metadata.kind, entry.kind);
                    let about = match entry.kind {
                        FileKind::File => {
                            let first = inodes.entry(metadata.inode).or_insert_with(|| path.clone());
                            let file = fs.open(&path, OpenMode::Read).unwrap();
                            format!("{first:?} {} {} {:?}", metadata.links, metadata.len, sample(&*file))
                        }
                        _ => String::new(),
                    };
                    found.insert(path.clone(), format!("{:?} {about}", entry.kind));
                    if entry.kind == FileKind::Directory {
                        open.push(path);
                    }
                }
            }
            found
        })
    }
}

/// Names the kind of an error.
fn kind(error: &io::Error) -> String {
    // Too many links is a kind that has no stable name yet.
    format!("{:?}", error.kind()).replace("FilesystemLoop", "InvalidInput")
}

/// Returns sums over the begin of a file and over its end.
fn sample(file: &dyn File) -> io::Result<[u32; 2]> {
    let mut bytes = vec![0; 1 << 16];
    let begin = file.read_at(&mut bytes, 0)?;
    let begin = crc32c::crc32c(&bytes[..begin]);
    let end = file.read_at(&mut bytes, file.metadata()?.len.saturating_sub(1 << 16))?;
    Ok([begin, crc32c::crc32c(&bytes[..end])])
}

/// Adds to a word and returns what it was.
fn use_words(file: &dyn File, index: usize, value: u64) -> io::Result<u64> {
    let words = file.map_shared(index + 1)?;
    let word = words.word(index).ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(word.fetch_add(value, std::sync::atomic::Ordering::SeqCst))
}

/// Runs random calls, and returns how often each kind of call succeeded and failed.
fn run(seeds: std::ops::Range<u64>, steps: u32) -> BTreeMap<String, [u32; 2]> {
    let mut counts = BTreeMap::<String, [u32; 2]>::new();
    for seed in seeds {
        let mut world = World::new(seed);
        let mut done = Vec::new();
        for _ in 0..steps {
            let (call, result) = world.step();
            let succeeded =
                result.as_ref().is_ok_and(|result| !result.starts_with("Err") && result != "Ok(false)");
            let kind = call.split(' ').next().unwrap_or_default();
            counts.entry(kind.to_owned()).or_default()[usize::from(succeeded)] += 1;
            done.push(call);
            if let Err(difference) = result {
                panic!("seed {seed}: {difference} after\n{}", done.join("\n"));
            }
            let [os, memory] = world.trees();
            assert_eq!(os, memory, "seed {seed}, after\n{}", done.join("\n"));
        }
    }
    counts
}

#[test]
fn random_calls_have_the_same_results_on_the_system_and_in_memory() {
    let counts = run(0..25, 150);
    assert_eq!(counts.len(), 22, "{counts:?}");
    for (kind, [failed, succeeded]) in &counts {
        assert!(*succeeded > 0, "{kind}: {failed} failed, {succeeded} succeeded");
    }
}

#[test]
#[ignore = "minutes: the long form of the test above"]
fn many_random_calls_have_the_same_results_on_the_system_and_in_memory() {
    println!("{:#?}", run(1000..1300, 400));
}
