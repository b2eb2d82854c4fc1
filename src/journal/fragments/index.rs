//! What a folder holds of a journal: its fragments, and which of them to read at an offset.
//!
//! *Invariants.* Entries are sorted by begin. At any offset the fragment that reaches furthest is read; among
//! several, the one that is cheapest to decode. No two fragments have one range and different sums.
//!
//! *Does not* read any content.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::name::FragmentName;
use crate::ids::{JournalName, Offset};
use crate::journal::{Codec, Fragment, JournalError};
use crate::vfs::{FileKind, FileSystem};

/// One listing of a journal's folder.
#[derive(Debug)]
pub(in crate::journal) struct Index {
    /// Sorted by begin.
    entries: Vec<Entry>,
    /// For each entry, the index of the best one to read among it and those before it.
    best: Vec<usize>,
    /// The greatest end.
    pub(super) head: Offset,
    /// Files that are no fragments.
    pub(super) ignored_files: u64,
}

/// A stored fragment.
#[derive(Clone, Debug)]
pub(in crate::journal) struct Entry {
    pub(super) name: FragmentName,
    pub(in crate::journal) path: PathBuf,
    /// Folders between the journal's own and the file, joined by slashes.
    postfix: String,
    stored_bytes: u64,
    modified_unix_secs: i64,
}

impl Entry {
    /// Returns what the journal lists of it.
    pub(in crate::journal) fn fragment(&self) -> Fragment {
        let mut fragment = Fragment::open(self.name.begin, self.name.end);
        fragment.sum = Some(self.name.sum);
        fragment.codec = self.name.codec;
        fragment.stored_bytes = Some(self.stored_bytes);
        fragment.modified_unix_secs = Some(self.modified_unix_secs);
        fragment.path_postfix.clone_from(&self.postfix);
        fragment
    }

    /// Orders by what is preferred, the best last.
    fn preference(&self) -> (Offset, u8, Offset) {
        let cheapness = match self.name.codec {
            codec if codec.missing_feature().is_some() => 0,
            Codec::Gzip | Codec::GzipOffloadDecompression => 1,
            Codec::Zstandard => 2,
            Codec::Snappy => 3,
            Codec::None => 4,
        };
        // The later begin leaves less to be decoded before an offset.
        (self.name.end, cheapness, self.name.begin)
    }
}

impl Index {
    /// Lists the folder of `journal`; `None` where there is none.
    pub(in crate::journal) fn list(
        fs: &dyn FileSystem,
        folder: &Path,
        journal: &JournalName,
    ) -> Result<Option<Self>, JournalError> {
        let mut found = Found::default();
        match found.walk(fs, folder) {
            Ok(()) => {}
            Err((path, error)) if error.kind() == io::ErrorKind::NotFound && path == folder => {
                return Ok(None);
            }
            Err((path, error)) => {
                let what = format!("reading {}", path.display());
                return Err(JournalError::Io { journal: journal.clone(), what, source: Arc::new(error) });
            }
        }
        found.leave_out_nested_journals(journal)?;
        Self::build(found, journal).map(Some)
    }

    fn build(found: Found, journal: &JournalName) -> Result<Self, JournalError> {
        let mut entries = found.entries;
        entries.sort_by(|a, b| {
            let key = |entry: &Entry| (entry.name.begin, entry.preference());
            key(a).cmp(&key(b)).then_with(|| a.path.cmp(&b.path))
        });
        let mut by_range = entries.iter().collect::<Vec<_>>();
        by_range.sort_by_key(|entry| (entry.name.begin, entry.name.end));
        for (a, b) in by_range.iter().zip(by_range.iter().skip(1)) {
            let range = |entry: &Entry| (entry.name.begin, entry.name.end);
            if range(a) == range(b) && a.name.sum != b.name.sum {
                return Err(JournalError::Diverged {
                    journal: journal.clone(),
                    offset: a.name.begin,
                    what: format!(
                        "{} and {} have one range and different sums",
                        a.path.display(),
                        b.path.display()
                    ),
                });
            }
        }
        let mut best = Vec::with_capacity(entries.len());
        let mut preferred: Option<(usize, &Entry)> = None;
        for (index, entry) in entries.iter().enumerate() {
            let better = preferred.is_none_or(|(_, other)| entry.preference() >= other.preference());
            let (index, _) = *preferred.insert(match preferred {
                Some(other) if !better => other,
                _ => (index, entry),
            });
            best.push(index);
        }
        let head = preferred.map_or(Offset::ZERO, |(_, entry)| entry.name.end);
        Ok(Self { best, head, ignored_files: found.ignored_files, entries })
    }

    /// Returns the fragment to read at `offset`.
    pub(super) fn at(&self, offset: Offset) -> Option<&Entry> {
        let after = self.entries.partition_point(|entry| entry.name.begin <= offset);
        let best = self.best.get(after.checked_sub(1)?)?;
        self.entries.get(*best).filter(|entry| offset < entry.name.end)
    }

    /// Returns where the first stored byte past a missing one lies.
    pub(super) fn next_after(&self, missing: Offset) -> Option<Offset> {
        let after = self.entries.partition_point(|entry| entry.name.begin <= missing);
        self.entries.get(after).map(|entry| entry.name.begin)
    }

    /// Returns the entries, sorted by begin.
    pub(in crate::journal) fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    pub(super) fn fragments(&self) -> Vec<Fragment> {
        self.entries.iter().map(Entry::fragment).collect()
    }
}

/// What a walk through folders finds.
#[derive(Debug, Default)]
struct Found {
    /// Without empty fragments.
    entries: Vec<Entry>,
    ignored_files: u64,
}

impl Found {
    fn walk(&mut self, fs: &dyn FileSystem, folder: &Path) -> Result<(), (PathBuf, io::Error)> {
        let mut folders = vec![(folder.to_path_buf(), String::new())];
        while let Some((folder, postfix)) = folders.pop() {
            for entry in fs.read_dir(&folder).map_err(|error| (folder.clone(), error))? {
                let path = folder.join(&entry.name);
                match (entry.kind, entry.name.to_str()) {
                    (FileKind::Directory, Some(name)) => {
                        let slash = if postfix.is_empty() { "" } else { "/" };
                        folders.push((path, format!("{postfix}{slash}{name}")));
                    }
                    (FileKind::File, Some(name)) => match name.parse() {
                        Ok(name) => self.add(fs, name, path, &postfix)?,
                        Err(_) => self.ignored_files += 1,
                    },
                    _ => self.ignored_files += 1,
                }
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        fs: &dyn FileSystem,
        name: FragmentName,
        path: PathBuf,
        postfix: &str,
    ) -> Result<(), (PathBuf, io::Error)> {
        match fs.metadata(&path) {
            Ok(_) if name.begin == name.end => {}
            Ok(found) => self.entries.push(Entry {
                name,
                path,
                postfix: postfix.to_owned(),
                stored_bytes: found.len,
                modified_unix_secs: found.modified_unix_secs,
            }),
            // Pruned since the folder was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err((path, error)),
        }
        Ok(())
    }

    /// Tells postfix folders from the folders of journals whose names go on where this one ends.
    ///
    /// A journal has one first fragment, so of several folders that hold one, each is a journal. Where this
    /// journal's own folder is among them, the others are not its own.
    fn leave_out_nested_journals(&mut self, journal: &JournalName) -> Result<(), JournalError> {
        let first = self.entries.iter().filter(|entry| entry.name.begin == Offset::ZERO);
        let mut folders = first.map(|entry| entry.postfix.clone()).collect::<Vec<_>>();
        folders.sort();
        folders.dedup();
        match &folders[..] {
            [own, nested @ ..] if own.is_empty() => {
                self.entries.retain(|entry| !nested.iter().any(|folder| is_within(&entry.postfix, folder)));
                Ok(())
            }
            [one, another, ..] => Err(JournalError::Invalid {
                journal: journal.clone(),
                what: format!(
                    "its folder holds several journals, such as {one} and {another}: name one of them"
                ),
            }),
            _ => Ok(()),
        }
    }
}

/// Tells whether `folder` is `parent` or lies below it.
fn is_within(folder: &str, parent: &str) -> bool {
    folder.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
