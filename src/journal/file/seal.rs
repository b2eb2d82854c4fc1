//! Sealing: turning open files that are out of use into fragments.
//!
//! *Invariants.* Files are sealed in order of their offsets, each durable before the next. Content is checked
//! against its commit records before it gets a name that vouches for it. Sealing twice, at once or after a crash,
//! gives the same fragment.
//!
//! *Does not* move the head.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sha1::{Digest as _, Sha1};

use super::layout::Header;
use super::open_file::{OpenFile, Step};
use super::place::{Place, Sealed, StateName};
use crate::clock::Deadline;
use crate::ids::Offset;
use crate::journal::JournalError;
use crate::sync;
use crate::vfs::{File, LockMode, OpenMode};

/// How long a file that somebody else holds is waited for before it is copied instead.
const PATIENCE: Duration = Duration::from_millis(50);
const READ_BYTES: u64 = 256 << 10;

/// A file of the chain, and how many of its bytes count.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) file: Arc<OpenFile>,
    pub(super) len: u64,
}

impl Link {
    /// Returns the end of what counts.
    pub(super) fn end(&self) -> Offset {
        self.file.offset(self.len)
    }
}

/// How a file is sealed.
#[derive(Clone, Debug)]
pub(super) enum How {
    /// By rename where its lock can be had, otherwise by copy.
    Any,
    /// By rename: the lock of this file is held through this handle.
    Held(Arc<OpenFile>),
    /// By copy: a write to it or a flush of it failed.
    Copy,
}

/// Returns the files that came before `newest` and are not sealed yet, in order of their offsets.
pub(super) fn predecessors(
    place: &Place,
    newest: &Header,
    mode: OpenMode,
) -> Result<Vec<Link>, JournalError> {
    let mut links = Vec::new();
    let mut next = newest.clone();
    while next.previous != 0 {
        let Some(file) = OpenFile::open(place, next.previous, mode)? else { break };
        let len = next.begin.get().checked_sub(file.header.begin.get());
        let Some(len) = len.filter(|&len| len <= file.header.geometry.capacity && file.header.id < next.id)
        else {
            let what = "the file does not continue its predecessor";
            return Err(file.corrupt(place, 0, what, file.header.begin, next.begin));
        };
        next = file.header.clone();
        links.push(Link { file: Arc::new(file), len });
    }
    links.reverse();
    Ok(links)
}

/// Seals everything before `newest`, and removes what is left over from files that never came into use.
pub(super) fn seal_before(place: &Place, newest: &Header, how: &How) -> Result<(), JournalError> {
    finish_leftovers(place)?;
    for link in predecessors(place, newest, OpenMode::ReadWrite)? {
        // Only the last one was in use until now.
        let how = if link.file.header.id == newest.previous { how.clone() } else { How::Any };
        seal(place, &link, &how)?;
    }
    remove_strays(place, newest.id)
}

/// Seals one file; all before it are sealed.
pub(super) fn seal(place: &Place, link: &Link, how: &How) -> Result<(), JournalError> {
    let open_path = place.open_path(link.file.header.id);
    if link.len == 0 {
        place.remove(&open_path)?;
        return place.sync_state();
    }
    let sum = match checked_sum(place, link) {
        // Sealed by another process meanwhile, which takes the records away.
        Err(_) if !place.exists(&open_path)? => return Ok(()),
        sum => sum?,
    };
    let sealed = Sealed { begin: link.file.header.begin, end: link.end(), sum };
    let (file, locked) = match how {
        How::Held(held) => (&held.file, true),
        How::Copy => (&link.file.file, false),
        How::Any => (&link.file.file, lock_within(place, &*link.file.file, &open_path)?),
    };
    if locked {
        let renamed = rename(place, &**file, &open_path, sealed);
        // The handle may live on in readers, and the lock with it.
        let unlocked = file.unlock().map_err(|error| place.io("giving a lock back", error));
        return renamed.and(unlocked);
    }
    copy(place, &*link.file.file, sealed)?;
    place.remove(&open_path)?;
    place.sync_state()
}

/// Returns the SHA-1 of the content, having checked each group against its record.
pub(super) fn checked_sum(place: &Place, link: &Link) -> Result<[u8; 20], JournalError> {
    let Link { file, len } = link;
    let mut sum = Sha1::new();
    let mut mark = file.start();
    let mut walk = file.walk();
    while mark.len < *len {
        let Step::Record(record, next) = walk.step(&mark).map_err(|error| file.read_failed(place, error))?
        else {
            let what = "a commit record is missing or damaged";
            return Err(file.corrupt(place, mark.len, what, link.end(), file.offset(mark.len)));
        };
        if next.len > *len {
            let what = "the file is cut within a commit";
            return Err(file.corrupt(place, mark.len, what, record.end, link.end()));
        }
        let mut crc = 0;
        let each = |bytes: &[u8]| {
            crc = crc32c::crc32c_append(crc, bytes);
            sum.update(bytes);
        };
        file.read_content(mark.len, next.len - mark.len, each)
            .map_err(|error| file.read_failed(place, error))?;
        if crc != record.content_crc {
            let (expected, actual) = (format!("{:08x}", record.content_crc), format!("{crc:08x}"));
            let what = "the content of a commit has another CRC-32C";
            return Err(file.corrupt(place, mark.len, what, expected, actual));
        }
        mark = next;
    }
    Ok(sum.finalize().into())
}

/// Returns the SHA-1 of the first `len` bytes of a file.
pub(super) fn plain_sum(file: &dyn File, len: u64) -> io::Result<[u8; 20]> {
    let mut sum = Sha1::new();
    let mut buffer = vec![0; READ_BYTES.min(len) as usize];
    let mut done = 0;
    while done < len {
        let piece = buffer.get_mut(..READ_BYTES.min(len - done) as usize).unwrap_or_default();
        file.read_exact_at(piece, done)?;
        sum.update(&*piece);
        done += piece.len() as u64;
    }
    Ok(sum.finalize().into())
}

fn rename(place: &Place, file: &dyn File, open_path: &Path, sealed: Sealed) -> Result<(), JournalError> {
    let sealing_path = place.sealing_path(sealed);
    let failed = |error| place.io(format!("sealing {}", open_path.display()), error);
    match place.fs.rename(open_path, &sealing_path) {
        // Another process grew impatient and copied it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed.map_err(failed)?,
    }
    // From here on the name alone says what counts: the records go.
    place.sync_state()?;
    file.set_len(sealed.end.bytes_since(sealed.begin)).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    match place.fs.rename(&sealing_path, &place.sealed_path(sealed)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed.map_err(failed)?,
    }
    place.sync_content()?;
    place.sync_state()
}

/// Builds the sealed fragment out of the beginning of `source`, unless it is there.
pub(super) fn copy(place: &Place, source: &dyn File, sealed: Sealed) -> Result<(), JournalError> {
    let target_path = place.sealed_path(sealed);
    if place.exists(&target_path)? {
        return place.sync_content();
    }
    let failed = |error| place.io(format!("copying to {}", target_path.display()), error);
    let (copy_path, target) = new_copy(place, sealed).map_err(failed)?;
    let len = sealed.end.bytes_since(sealed.begin);
    let copied = || {
        let mut done = 0;
        while done < len {
            match source.copy_to(done, &*target, done, len - done)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => done += bytes,
            }
        }
        target.sync_all()?;
        plain_sum(&*target, len)
    };
    let sum = copied().map_err(failed)?;
    if sum != sealed.sum {
        let what = format!("the copy {} is not what was read before", copy_path.display());
        let actual = Sealed { sum, ..sealed }.sum_hex();
        return Err(place.corrupt(sealed.begin, what, sealed.sum_hex(), actual));
    }
    match place.fs.rename_no_replace(&copy_path, &target_path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => place.remove(&copy_path)?,
        renamed => renamed.map_err(failed)?,
    }
    place.sync_content()
}

/// Makes a new file for a copy, under a name that no living process uses.
fn new_copy(place: &Place, sealed: Sealed) -> io::Result<(std::path::PathBuf, Arc<dyn File>)> {
    let mut attempt = 0;
    loop {
        let path = place.copy_path(sealed, attempt);
        match place.fs.open(&path, OpenMode::CreateNew) {
            Ok(file) if file.try_lock(LockMode::Exclusive)? => return Ok((path, file)),
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => attempt += 1,
        }
    }
}

/// Finishes what a sealing left half done.
pub(super) fn finish_leftovers(place: &Place) -> Result<(), JournalError> {
    for name in place.state_names()? {
        let StateName::Sealing(sealed) = name else { continue };
        let path = place.sealing_path(sealed);
        let failed = |error| place.io(format!("sealing {}", path.display()), error);
        let file = match place.fs.open(&path, OpenMode::ReadWrite) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file.map_err(failed)?,
        };
        lock_within(place, &*file, &path)?;
        if !place.exists(&path)? {
            continue;
        }
        // Whether its flush failed is not known, so it is not trusted: the content is, by its sum.
        let sum = plain_sum(&*file, sealed.end.bytes_since(sealed.begin)).map_err(failed)?;
        if sum != sealed.sum {
            let what = format!("{} has another SHA-1 than its name says", path.display());
            let actual = Sealed { sum, ..sealed }.sum_hex();
            return Err(place.corrupt(sealed.begin, what, sealed.sum_hex(), actual));
        }
        copy(place, &*file, sealed)?;
        place.remove(&path)?;
        place.sync_state()?;
    }
    Ok(())
}

/// Takes the lock of a file that is out of use, unless its holder keeps it; false as well where the file is gone.
fn lock_within(place: &Place, file: &dyn File, path: &Path) -> Result<bool, JournalError> {
    let deadline = Deadline::after(PATIENCE);
    loop {
        if file.try_lock(LockMode::Exclusive).map_err(|error| place.io("locking an open file", error))? {
            return Ok(true);
        }
        if deadline.has_passed() || !place.exists(path)? {
            return Ok(false);
        }
        // The holder may be another process, which cannot be waited for otherwise.
        sync::pause(Duration::from_millis(1));
    }
}

/// Removes files with smaller ids than `newest` that never came into use.
fn remove_strays(place: &Place, newest: u64) -> Result<(), JournalError> {
    let mut removed = false;
    for name in place.state_names()? {
        match name {
            StateName::New(id) if id < newest => place.remove(&place.new_path(id))?,
            StateName::Open(id) if id < newest => {
                let Some(file) = OpenFile::open(place, id, OpenMode::Read)? else { continue };
                let step = match file.walk().step(&file.start()) {
                    Err(_) if !place.exists(&place.open_path(id))? => continue,
                    step => step.map_err(|error| file.read_failed(place, error))?,
                };
                // A file with commits that nobody continued is for recovery to judge.
                if matches!(step, Step::Record(..)) {
                    continue;
                }
                place.remove(&place.open_path(id))?;
            }
            _ => continue,
        }
        removed = true;
    }
    if removed { place.sync_state() } else { Ok(()) }
}
