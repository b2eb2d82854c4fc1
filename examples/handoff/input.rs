//! The files that are loaded.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use recoverylog::vfs::{FileKind, FileSystem, OpenMode, OsFs};
use recoverylog::{Error, Result};

use crate::roles::wrong;

/// Bytes of a batch, more or less.
const BATCH_BYTES: u64 = 256 << 10;
/// Batches that there are at least, where there are that many files.
const BATCHES_MIN: usize = 64;

/// The files of a tree, in the order in which they are loaded.
#[derive(Debug)]
pub(crate) struct Input {
    root: PathBuf,
    files: Vec<InputFile>,
}

/// A file that is a key.
#[derive(Debug)]
pub(crate) struct InputFile {
    /// Its path below the root: the key.
    pub(crate) key: Vec<u8>,
    pub(crate) bytes: u64,
}

impl Input {
    /// Lists the files below `root`, in an order that follows from `seed`.
    pub(crate) fn list(root: &Path, seed: u64) -> io::Result<Self> {
        let root = std::fs::canonicalize(root)?;
        let mut files = Vec::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for entry in OsFs::new().read_dir(&root.join(&folder))? {
                let path = folder.join(&entry.name);
                match entry.kind {
                    FileKind::Directory => folders.push(path),
                    FileKind::File => {
                        let bytes = OsFs::new().metadata(&root.join(&path))?.len;
                        files.push(InputFile { key: path.as_os_str().as_bytes().to_vec(), bytes });
                    }
                    _ => {}
                }
            }
        }
        files.sort_by(|a, b| a.key.cmp(&b.key));
        shuffle(&mut files, seed);
        Ok(Self { root, files })
    }

    /// Writes the list down, for another process.
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let mut text = self.root.as_os_str().as_bytes().to_vec();
        for file in &self.files {
            text.push(0);
            text.extend_from_slice(file.bytes.to_string().as_bytes());
            text.push(0);
            text.extend_from_slice(&file.key);
        }
        OsFs::new().open(path, OpenMode::CreateNew)?.write_all_at(&text, 0)
    }

    /// Reads a list that [`Input::save`] has written.
    pub(crate) fn load(path: &Path) -> io::Result<Self> {
        let text = read(path)?;
        let mut parts = text.split(|byte| *byte == 0);
        let root = parts.next().map_or_else(PathBuf::new, |root| OsStr::from_bytes(root).into());
        let mut files = Vec::new();
        while let (Some(bytes), Some(key)) = (parts.next(), parts.next()) {
            let bytes = std::str::from_utf8(bytes).ok().and_then(|bytes| bytes.parse().ok());
            let bytes = bytes.ok_or_else(|| io::Error::other("the list of files is damaged"))?;
            files.push(InputFile { key: key.to_vec(), bytes });
        }
        Ok(Self { root, files })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn files(&self) -> &[InputFile] {
        &self.files
    }

    /// Returns the length of the first so many files.
    pub(crate) fn bytes(&self, files: usize) -> u64 {
        self.files.iter().take(files).map(|file| file.bytes).sum()
    }

    /// Reads a file.
    pub(crate) fn value(&self, file: &InputFile) -> io::Result<Vec<u8>> {
        read(&self.root.join(OsStr::from_bytes(&file.key)))
    }

    /// Returns where the batch ends that begins with the file `begin`.
    pub(crate) fn batch_end(&self, begin: usize) -> usize {
        let files_max = self.files.len().div_ceil(BATCHES_MIN);
        let mut bytes = 0;
        let mut end = begin;
        for file in self.files.iter().skip(begin).take(files_max) {
            bytes += file.bytes;
            end += 1;
            if bytes >= BATCH_BYTES {
                break;
            }
        }
        end
    }
}

/// The files of an input that a database turned out to hold.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    input: &'a Input,
    by_key: BTreeMap<&'a [u8], usize>,
    found: Vec<bool>,
}

impl<'a> Seen<'a> {
    pub(crate) fn new(input: &'a Input) -> Self {
        let by_key = input.files.iter().enumerate().map(|(at, file)| (file.key.as_slice(), at)).collect();
        Self { input, by_key, found: vec![false; input.files.len()] }
    }

    /// Takes a key and its value, which must be a file and its content.
    pub(crate) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let name = String::from_utf8_lossy(key);
        let at = self.by_key.get(key).copied();
        let found = at.and_then(|at| Some((self.input.files.get(at)?, self.found.get_mut(at)?)));
        let (file, found) = found.ok_or_else(|| wrong(format!("nobody has put the key {name}")))?;
        let expected = self.input.value(file).map_err(|error| Error::io("reading the input", error))?;
        if value != expected {
            return Err(wrong(format!("the value of {name} is not what was put")));
        }
        *found = true;
        Ok(())
    }

    /// Returns how many files there are, which must be the first so many.
    pub(crate) fn end(self) -> Result<usize> {
        let kept = self.found.iter().take_while(|found| **found).count();
        let all = self.found.iter().filter(|found| **found).count();
        if all == kept {
            return Ok(kept);
        }
        Err(wrong(format!("{all} files are there, but not the one that was put as number {kept}")))
    }
}

/// Reads the whole of a file.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = OsFs::new().open(path, OpenMode::Read)?;
    let mut content = vec![0; usize::try_from(file.metadata()?.len).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}

/// Shuffles as Fisher and Yates did.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut random = seed;
    for at in (1..items.len()).rev() {
        // The constants of Knuth's MMIX.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(at, ((random >> 33) % (at as u64 + 1)) as usize);
    }
}
