//! Planning a commit group: which appends go into it, and what each will be told.
//!
//! *Invariants.* Appends are judged in the order in which they were submitted, each against the head and registers
//! that the ones before it leave. Nobody is told anything before the group is committed.
//!
//! *Does not* do I/O.

use std::collections::VecDeque;

use super::layout::{self, CAPACITY_MAX, Geometry, REGISTER_BYTES_MAX, SLOT_BYTES};
use super::open_file::Mark;
use super::place::Place;
use crate::completion::Completer;
use crate::ids::Offset;
use crate::journal::{Append, Appended, Head, JournalError, RegisterSet};

/// A group takes no further append once it holds that many bytes.
const GROUP_BYTES: u64 = 8 << 20;

/// An append that waits for its commit.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) append: Append,
    pub(super) completer: Completer<Appended, JournalError>,
}

/// An append that has its result.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) completer: Completer<Appended, JournalError>,
    pub(super) result: Result<Appended, JournalError>,
}

impl Settled {
    /// Tells the submitter.
    pub(super) fn resolve(self) {
        self.completer.resolve(self.result);
    }
}

/// The first appends of a queue, judged.
#[derive(Debug)]
pub(super) struct Group {
    /// Content bytes of the appends that pass.
    pub(super) bytes: u64,
    /// The registers after the group.
    pub(super) registers: RegisterSet,
    /// The next append has that many bytes, and finds no room in the open file.
    pub(super) needs_room: Option<u64>,
    results: Vec<Result<Appended, JournalError>>,
}

impl Group {
    /// Judges appends from the front of `queue` on, for as long as they fit together behind `mark`.
    pub(super) fn plan(
        place: &Place,
        queue: &VecDeque<Pending>,
        head: &Head,
        mark: &Mark,
        room: Geometry,
    ) -> Self {
        let mut group =
            Self { bytes: 0, registers: head.registers.clone(), needs_room: None, results: Vec::new() };
        let mut end = head.offset;
        for pending in queue {
            let bytes = pending.append.content_bytes();
            let (judged, registers) = match judge(place, &pending.append, bytes, end, &group.registers) {
                Ok(passed) => passed,
                Err(error) => {
                    group.results.push(Err(error));
                    continue;
                }
            };
            if bytes > 0 {
                let slots =
                    layout::slots_of(SLOT_BYTES as usize + register_bytes(&registers, &mark.registers));
                let fits = mark.len + group.bytes + bytes <= room.capacity && mark.slot + slots <= room.slots;
                if !fits && group.results.is_empty() {
                    group.needs_room = Some(bytes);
                }
                if !fits || (group.bytes > 0 && group.bytes + bytes > GROUP_BYTES) {
                    break;
                }
                group.bytes += bytes;
                group.registers = registers;
                end = judged.end;
            }
            group.results.push(Ok(judged));
        }
        group
    }

    /// Returns the number of appends that the group took from the queue.
    pub(super) fn taken(&self) -> usize {
        self.results.len()
    }

    /// Returns the appends of the group that pass and have content.
    pub(super) fn content<'a>(&'a self, queue: &'a VecDeque<Pending>) -> impl Iterator<Item = &'a [u8]> {
        let passed = queue.iter().zip(&self.results).filter(|(_, result)| result.is_ok());
        passed.flat_map(|(pending, _)| &pending.append.content).map(|piece| &piece[..])
    }

    /// Takes the group off the queue, each append with its result.
    pub(super) fn settle(self, queue: &mut VecDeque<Pending>) -> Vec<Settled> {
        let taken = queue.drain(..self.results.len().min(queue.len()));
        let settle = |(pending, result): (Pending, _)| Settled { completer: pending.completer, result };
        taken.zip(self.results).map(settle).collect()
    }
}

/// Returns what an append would be told, and the registers after it.
fn judge(
    place: &Place,
    append: &Append,
    bytes: u64,
    head: Offset,
    registers: &RegisterSet,
) -> Result<(Appended, RegisterSet), JournalError> {
    if bytes == 0 && !(append.union.is_empty() && append.subtract.is_empty()) {
        return Err(place.invalid("an append that changes registers needs content"));
    }
    if bytes > CAPACITY_MAX {
        return Err(place.invalid(format!("an append has at most {CAPACITY_MAX} bytes, not {bytes}")));
    }
    if append.check.as_ref().is_some_and(|check| !check.permits(registers)) {
        let journal = place.journal.clone();
        return Err(JournalError::RegisterMismatch { journal, registers: registers.clone() });
    }
    if let Some(at) = append.at.filter(|&at| at != head) {
        return Err(JournalError::WrongOffset { journal: place.journal.clone(), at, head });
    }
    let Some(end) = head.checked_add(bytes) else {
        return Err(place.invalid(format!("{bytes} bytes at {head} end past the largest offset")));
    };
    let after =
        if bytes > 0 { registers.subtract(&append.subtract).union(&append.union) } else { registers.clone() };
    let encoded = layout::register_bytes(&after);
    if encoded > REGISTER_BYTES_MAX {
        let what = format!("the registers would take {encoded} bytes, more than {REGISTER_BYTES_MAX}");
        return Err(place.invalid(what));
    }
    Ok((Appended::new(head, end, after.clone()), after))
}

/// Returns how many bytes of registers a record takes that leads from `before` to `after`.
pub(super) fn register_bytes(after: &RegisterSet, before: &RegisterSet) -> usize {
    if after == before { 0 } else { layout::register_bytes(after) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::completion::completion;
    use crate::ids::JournalName;
    use crate::vfs::MemoryFs;

    /// Tells how many appends of `bytes` bytes each go into one group.
    fn taken(bytes: u64, room: u64) -> (usize, Option<u64>) {
        let place =
            Place::new(Arc::new(MemoryFs::new()), Path::new("/"), &JournalName::new("acme/orders").unwrap());
        let pending = || {
            let (completer, completion) = completion();
            // Nobody waits for it.
            drop(completion);
            Pending { append: Append::new(vec![7; bytes as usize]), completer }
        };
        let queue = (0..5).map(|_| pending()).collect();
        let head = Head::new(Offset::ZERO, RegisterSet::default());
        let mark = Mark { len: 0, slot: 0, digest: [0; 16], registers: RegisterSet::default() };
        let group = Group::plan(&place, &queue, &head, &mark, Geometry::for_content(room));
        assert_eq!(group.bytes, bytes * group.taken() as u64);
        (group.taken(), group.needs_room)
    }

    #[test]
    fn a_group_ends_before_it_would_be_too_large_and_one_append_may_be() {
        let room = 100 << 20;
        assert_eq!(taken(1, room), (5, None));
        assert_eq!(taken(GROUP_BYTES / 2, room), (2, None));
        assert_eq!(taken(GROUP_BYTES / 2 + 1, room), (1, None));
        assert_eq!(taken(GROUP_BYTES + 1, room), (1, None));
    }

    #[test]
    fn a_group_ends_where_the_file_has_no_room_and_says_so_where_that_is_at_its_first_append() {
        assert_eq!(taken(2000, 4096), (2, None));
        assert_eq!(taken(5000, 4096), (0, Some(5000)));
    }
}
