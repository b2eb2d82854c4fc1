//! Starting a log from a directory that is there.
//!
//! *Invariants.* Every regular file that the filter does not leave out is recorded whole, once, with all its
//! links; or nothing is claimed. What a log cannot hold is refused by name before anything is recorded.
//!
//! *Does not* wait until the log is durable: take a barrier.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::Tracker;
use super::names::{At, FileId};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::LogPath;
use crate::vfs::{FileKind, OpenMode};

/// What [`Tracker::adopt`] has recorded.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Adopted {
    /// Number of files.
    pub files: u64,
    /// Number of links, at least one for each file.
    pub links: u64,
    /// Number of bytes of content.
    pub bytes: u64,
}

impl Tracker {
    /// Records every file of the directory as it is. Nobody may write to it meanwhile.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where the log has files already, and, naming it, for a symbolic link, a socket,
    /// pipe or device, or a path that cannot be recorded: nothing was recorded then. [`ErrorKind::Io`] where
    /// the directory cannot be read; the recorder fails where it has recorded something.
    pub fn adopt(&self) -> Result<Adopted> {
        let names = self.lock_names();
        if self.recorder.with_fsm(|fsm| fsm.live_files() > 0) {
            return Err(Error::new(ErrorKind::Invalid, "the log has files already")
                .in_log(self.recorder.log())
                .advise("adopt a directory into a new log"));
        }
        let mut found = Vec::new();
        self.list(&self.resolved_root, &mut found)?;
        let mut files: HashMap<FileId, usize> = HashMap::new();
        let mut links: Vec<(PathBuf, Vec<LogPath>)> = Vec::new();
        for path in found {
            let at = At { fs: &*self.fs, base: None, path: &path };
            let link = self.log_path(&names, &at)?;
            if !self.filter.records(&link) {
                continue;
            }
            let cannot_look = |e| Error::io(format!("cannot look at {}", path.display()), e);
            let id = FileId::from(&self.fs.metadata(&path).map_err(cannot_look)?);
            if let Some((_, paths)) = files.get(&id).and_then(|index| links.get_mut(*index)) {
                paths.push(link);
            } else {
                files.insert(id, links.len());
                links.push((path, vec![link]));
            }
        }

        let mut adopted = Adopted::default();
        for (path, links) in &links {
            match self.adopt_file(path, links) {
                Ok(bytes) => adopted.bytes += bytes,
                Err(error) if adopted.files == 0 => return Err(error),
                Err(error) => return Err(self.recorder.fail(error)),
            }
            adopted.files += 1;
            adopted.links += links.len() as u64;
        }
        Ok(adopted)
    }

    fn adopt_file(&self, path: &Path, links: &[LogPath]) -> Result<u64> {
        let cannot_read = |error: io::Error| Error::io(format!("cannot read {}", path.display()), error);
        let file = self.fs.open(path, OpenMode::Read).map_err(cannot_read)?;
        let len = file.metadata().map_err(cannot_read)?.len;
        self.record_whole(&*file, len, links)?;
        Ok(len)
    }

    /// Lists the regular files below `directory`, and refuses what is neither a file nor a directory.
    fn list(&self, directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
        let cannot_list = |error| Error::io(format!("cannot list {}", directory.display()), error);
        for entry in self.fs.read_dir(directory).map_err(cannot_list)? {
            let path = directory.join(&entry.name);
            match entry.kind {
                FileKind::File => found.push(path),
                FileKind::Directory => self.list(&path, found)?,
                FileKind::Symlink | FileKind::Other => {
                    let what = if entry.kind == FileKind::Symlink { "a symbolic link" } else { "no file" };
                    return Err(Error::new(
                        ErrorKind::Invalid,
                        format!("{} is {what}, which a log cannot hold", path.display()),
                    )
                    .advise("remove it, or move it out of the directory"));
                }
            }
        }
        Ok(())
    }
}
