//! Recording a file whole: one that becomes recorded, and what is left of one that was cut.
//!
//! *Invariants.* A reader sees the file under its paths whole or not at all. Up to [`WHOLE_BYTES_MAX`] goes
//! into the append that links it; a larger file is built under a reserved path, which readers hide, by several
//! appends, and then linked by one.
//!
//! *Does not* lock: the caller holds the inode, so that the content stands still. Credit is therefore taken
//! under locks here, which cannot block for good: it is given back by the journal, which needs none of them.

use super::Tracker;
use crate::error::{Error, Result};
use crate::ids::{Fnode, LogPath};
use crate::live::WHOLE_BYTES_MAX;
use crate::recorder::{OP_BYTES_MAX, Recorder, Transaction};
use crate::vfs::File;

/// What the paths of files begin with that are being built.
const BUILDING: &[u8] = b"/.recoverylog/tmp-";

impl Tracker {
    /// Records the first `len` bytes of `file` as a new file at `links`, in the place of what is there.
    pub(super) fn record_whole(&self, file: &dyn File, len: u64, links: &[LogPath]) -> Result<Fnode> {
        if len <= WHOLE_BYTES_MAX {
            let content = read(file, 0, len)?;
            let reserved = self.recorder.reserve_write(content.len())?;
            let content = Checked::new(&self.recorder, &content);
            return self.recorder.transaction(reserved, |tx| content.record(tx, links));
        }

        let building = self.building_path();
        let reserved = self.recorder.reserve_ops(&[&building])?;
        let fnode = self.recorder.transaction(reserved, |tx| tx.create(&building))?;
        let mut at = 0;
        while at < len {
            let piece = read(file, at, (len - at).min(OP_BYTES_MAX as u64))?;
            self.recorder.write(fnode, at, &piece)?;
            at += piece.len() as u64;
        }
        let paths = links.iter().chain([&building]).collect::<Vec<_>>();
        let reserved = self.recorder.reserve_ops(&paths)?;
        self.recorder.transaction(reserved, |tx| {
            for link in links {
                tx.link(fnode, link)?;
            }
            tx.unlink(&building).map(|_| fnode)
        })
    }

    /// Returns a path below the reserved folder that nothing is linked at.
    fn building_path(&self) -> LogPath {
        // A file's number is never used twice in a log.
        let next = self.recorder.with_fsm(|fsm| fsm.next_seq_no().get());
        LogPath::from_bytes(&[BUILDING, next.to_string().as_bytes()].concat())
    }
}

/// Tells whether a file is being built at `path`, or was when its writer was lost.
pub(crate) fn is_being_built(path: &LogPath) -> bool {
    path.as_bytes().starts_with(BUILDING)
}

/// The content of a file in the pieces in which it is recorded, each with its checksum.
pub(super) struct Checked<'a>(Vec<(&'a [u8], Option<u32>)>);

impl<'a> Checked<'a> {
    pub(super) fn new(recorder: &Recorder, content: &'a [u8]) -> Self {
        Self(content.chunks(OP_BYTES_MAX).map(|piece| (piece, recorder.payload_crc(piece))).collect())
    }

    /// Records a new file at `links`, in the place of what is there.
    pub(super) fn record(&self, tx: &mut Transaction<'_>, links: &[LogPath]) -> Result<Fnode> {
        let fnode = create(tx, links)?;
        let mut at = 0;
        for (piece, crc) in &self.0 {
            tx.write(fnode, at, piece, *crc)?;
            at += piece.len() as u64;
        }
        Ok(fnode)
    }
}

/// Creates an empty file at `links`.
fn create(tx: &mut Transaction<'_>, links: &[LogPath]) -> Result<Fnode> {
    let mut links = links.iter();
    let Some(first) = links.next() else {
        return Err(Error::new(crate::ErrorKind::Invalid, "a file without links cannot be recorded"));
    };
    let fnode = tx.create(first)?;
    links.try_for_each(|link| tx.link(fnode, link))?;
    Ok(fnode)
}

pub(super) fn read(file: &dyn File, offset: u64, len: u64) -> Result<Vec<u8>> {
    let mut content = vec![0; len as usize];
    file.read_exact_at(&mut content, offset)
        .map_err(|error| Error::io("cannot read a file that is to be recorded", error))?;
    Ok(content)
}
