//! Writing one commit group into an open file, with one flush.
//!
//! *Invariants.* Space is reserved before the first byte is written: where the disk is full, the file is as before.
//!
//! *Does not* move the head.

use std::collections::VecDeque;
use std::io;

use super::group::{self, Group, Pending};
use super::layout::{self, Record, SLOT_BYTES};
use super::open_file::{CONTENT_WINDOW, Mark, OpenFile, SLOT_WINDOW, write_zeros};
use crate::planted::{Bug, planted};
use crate::vfs::File;

/// Pieces smaller than that are gathered; larger ones are written from where they are.
const GATHER_BYTES: usize = 64 << 10;
/// A group of at most that many bytes has zeros written ahead of it.
const SMALL_GROUP_BYTES: u64 = 16 << 10;
const RESERVE_BYTES_MIN: u64 = 1 << 20;
const RESERVE_BYTES_MAX: u64 = 16 << 20;

/// What was prepared in the open file ahead of its head, as far as this handle knows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ahead {
    /// Content up to here has its space.
    reserved: u64,
    /// Content up to here overwrites zeros, not holes.
    zeroed: u64,
    /// Slots up to here overwrite zeros.
    slots: u32,
}

/// Why a group is not in the file.
#[derive(Debug)]
pub(super) enum WriteError {
    /// Nothing was written.
    NoSpace(io::Error),
    /// Something may be written, and something may be durable.
    Failed(io::Error),
}

/// Writes the content and the record of `group` behind `mark`, flushes, and returns the mark behind it.
pub(super) fn group(
    file: &OpenFile,
    mark: &Mark,
    ahead: &mut Ahead,
    group: &Group,
    queue: &VecDeque<Pending>,
) -> Result<Mark, WriteError> {
    let end = mark.len + group.bytes;
    reserve(file, ahead, mark.len, end).map_err(WriteError::NoSpace)?;
    write(file, mark, ahead, group, queue).map_err(WriteError::Failed)
}

fn reserve(file: &OpenFile, ahead: &mut Ahead, len: u64, end: u64) -> io::Result<()> {
    if end <= ahead.reserved {
        return Ok(());
    }
    let step = len.clamp(RESERVE_BYTES_MIN, RESERVE_BYTES_MAX);
    let upto = end.saturating_add(step).min(file.header.geometry.capacity);
    match file.file.allocate(len, upto - len) {
        // The file has its length already; a file system that cannot reserve finds the space when it writes.
        Err(error) if error.kind() != io::ErrorKind::Unsupported => return Err(error),
        _ => ahead.reserved = upto,
    }
    Ok(())
}

fn write(
    file: &OpenFile,
    mark: &Mark,
    ahead: &mut Ahead,
    group: &Group,
    queue: &VecDeque<Pending>,
) -> io::Result<Mark> {
    let geometry = file.header.geometry;
    let end = mark.len + group.bytes;
    let content_crc = write_content(&*file.file, mark.len, group.content(queue))?;
    if end > ahead.zeroed {
        ahead.zeroed = end;
        if group.bytes <= SMALL_GROUP_BYTES {
            ahead.zeroed = (end + CONTENT_WINDOW).min(geometry.capacity);
            write_zeros(&*file.file, end, ahead.zeroed - end)?;
        }
    }
    let changed = group::register_bytes(&group.registers, &mark.registers) > 0;
    let record = Record {
        file: file.header.id,
        begin: file.offset(mark.len),
        end: file.offset(end),
        content_crc,
        slot: mark.slot,
        registers: changed.then(|| group.registers.clone()),
        predecessor: mark.digest,
    };
    let encoded = record.encode();
    let next_slot = mark.slot + layout::slots_of(encoded.len());
    file.file.write_all_at(&encoded, geometry.slot_at(mark.slot))?;
    if next_slot > ahead.slots {
        ahead.slots = next_slot.saturating_add(SLOT_WINDOW).min(geometry.slots);
        let zeros = u64::from(ahead.slots.saturating_sub(next_slot)) * SLOT_BYTES;
        write_zeros(&*file.file, geometry.slot_at(next_slot), zeros)?;
    }
    flush(&*file.file)?;
    Ok(Mark {
        len: end,
        slot: next_slot,
        digest: layout::digest_of(&encoded),
        registers: group.registers.clone(),
    })
}

/// Makes what was written durable. After a failure the system may have dropped it, and a second flush would not tell.
fn flush(file: &dyn File) -> io::Result<()> {
    if planted(Bug::AckBeforeFlush) {
        return Ok(());
    }
    match file.sync_data() {
        Err(_) if planted(Bug::RetriedFlush) => file.sync_data(),
        flushed => flushed,
    }
}

/// Writes pieces one behind the other, and returns the CRC-32C of all.
fn write_content<'a>(file: &dyn File, at: u64, pieces: impl Iterator<Item = &'a [u8]>) -> io::Result<u32> {
    let mut crc = 0;
    let mut at = at;
    let mut gathered = Vec::new();
    for piece in pieces {
        crc = crc32c::crc32c_append(crc, piece);
        if piece.len() < GATHER_BYTES {
            gathered.extend_from_slice(piece);
        }
        if piece.len() >= GATHER_BYTES || gathered.len() >= GATHER_BYTES {
            file.write_all_at(&gathered, at)?;
            at += gathered.len() as u64;
            gathered.clear();
        }
        if piece.len() >= GATHER_BYTES {
            file.write_all_at(piece, at)?;
            at += piece.len() as u64;
        }
    }
    file.write_all_at(&gathered, at)?;
    Ok(crc)
}
