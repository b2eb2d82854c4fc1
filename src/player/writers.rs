//! Payloads on their way into staged files: checked, then written, by several threads.
//!
//! *Invariants.* Writes to one file happen in the order in which they were submitted. What is submitted and not
//! yet written stays below a budget. After the first failed write no further one is done, and every later call
//! returns that failure; a thread that dies is one.
//!
//! *Does not* decide whether a damaged payload matters: it says which files have one.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::ids::{Fnode, JournalName, Offset, SeqNo};
use crate::planted::{Bug, planted};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::mpsc::{Receiver, Sender, channel};
use crate::sync::thread::JoinHandle;
use crate::sync::{Condvar, Mutex, MutexGuard, thread};
use crate::vfs::File;

/// The most bytes that are submitted and not yet written. Drawn schedules are to meet it.
const BUDGET_BYTES: usize = if cfg!(all(test, recoverylog_shuttle)) { 600 } else { 32 << 20 };
/// What a write costs of the budget beside its bytes.
const WRITE_COST_BYTES: usize = 256;
/// Writes gather until they have this many bytes, so that small ones do not pay for a hand-over each.
const BATCH_BYTES: usize = if cfg!(all(test, recoverylog_shuttle)) { 1 } else { 128 << 10 };

/// Where a file grows past a multiple of this, the system is asked to begin with what lies before: a disk that waits
/// for the sync in the end would be idle until then.
const BEGIN_SYNC_BYTES: u64 = 1 << 20;

/// One write to a staged file.
#[derive(Debug)]
pub(super) struct Write {
    /// The file.
    pub(super) fnode: Fnode,
    /// An open handle of it.
    pub(super) file: Arc<dyn File>,
    /// Where in the file.
    pub(super) offset: u64,
    /// The payload, in pieces.
    pub(super) pieces: Vec<Bytes>,
    /// The payload's recorded digest.
    pub(super) crc32c: Option<u32>,
    /// The operation.
    pub(super) seq_no: SeqNo,
    /// Where the payload begins in the log.
    pub(super) at: Offset,
}

/// A payload that is not what was written.
#[derive(Clone, Debug)]
pub(super) struct Damage {
    pub(super) log: JournalName,
    pub(super) at: Offset,
    pub(super) seq_no: SeqNo,
    pub(super) expected: u32,
    pub(super) actual: u32,
}

/// The threads that write; without threads, the caller writes by itself.
#[derive(Debug)]
pub(super) struct Writers {
    shared: Arc<Shared>,
    lanes: Vec<Lane>,
}

#[derive(Debug)]
struct Lane {
    sender: Option<Sender<(Batch, Lease)>>,
    thread: Option<JoinHandle<()>>,
    batch: Batch,
}

#[derive(Debug, Default)]
struct Batch {
    log: Option<JournalName>,
    writes: Vec<Write>,
    cost: usize,
}

#[derive(Debug, Default)]
struct Shared {
    failed: AtomicBool,
    state: Mutex<State>,
    drained: Condvar,
}

#[derive(Debug, Default)]
struct State {
    in_flight: usize,
    failure: Option<Error>,
    damage: BTreeMap<Fnode, Damage>,
}

impl Writers {
    /// Starts `threads` threads; none for fewer than two.
    pub(super) fn start(threads: usize) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let lane = |index| {
            let (sender, receiver) = channel();
            let shared = Arc::clone(&shared);
            let builder = thread::Builder::new().name(format!("recoverylog-write-{index}"));
            let thread = builder.spawn(move || shared.work(&receiver));
            let thread = thread.map_err(|e| Error::io("starting a thread failed", e))?;
            Ok(Lane { sender: Some(sender), thread: Some(thread), batch: Batch::default() })
        };
        let lanes = (0..if threads > 1 { threads } else { 0 }).map(lane).collect::<Result<Vec<_>>>()?;
        Ok(Self { shared, lanes })
    }

    /// Submits a write of an operation of `log`.
    pub(super) fn write(&mut self, log: &JournalName, write: Write) -> Result<()> {
        self.check()?;
        if self.lanes.is_empty() {
            self.shared.write(log, &write);
            return self.check();
        }
        let index = write.fnode.get().unsigned_abs() as usize % self.lanes.len();
        let Some(lane) = self.lanes.get_mut(index) else { return Ok(()) };
        if lane.batch.log.as_ref().is_some_and(|other| other != log) {
            lane.send(&self.shared);
        }
        lane.batch.log.get_or_insert_with(|| log.clone());
        lane.batch.cost += WRITE_COST_BYTES + write.pieces.iter().map(Bytes::len).sum::<usize>();
        lane.batch.writes.push(write);
        if lane.batch.cost >= BATCH_BYTES {
            lane.send(&self.shared);
        }
        Ok(())
    }

    /// Waits until everything that was submitted is written.
    pub(super) fn drain(&mut self) -> Result<()> {
        for lane in &mut self.lanes {
            lane.send(&self.shared);
        }
        let mut state = self.shared.lock();
        while state.in_flight > 0 {
            state = self.shared.drained.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        self.check()
    }

    /// Returns the first damaged payload of every file that has one, as far as writes were done.
    pub(super) fn damage(&self) -> BTreeMap<Fnode, Damage> {
        self.shared.lock().damage.clone()
    }

    fn check(&self) -> Result<()> {
        if !self.shared.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        self.shared.lock().failure.clone().map_or(Ok(()), Err)
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        for lane in &mut self.lanes {
            lane.sender = None;
        }
        for lane in &mut self.lanes {
            if let Some(thread) = lane.thread.take() {
                // A thread that panicked has told `failure`.
                drop(thread.join());
            }
        }
    }
}

/// The part of the budget that a batch takes; given back when the batch is done, or dropped by a thread that dies.
#[derive(Debug)]
struct Lease {
    shared: Arc<Shared>,
    cost: usize,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if thread::panicking() {
            self.shared.fail(Error::new(crate::ErrorKind::Io, "a thread that writes has ended"));
        }
        self.shared.lock().in_flight -= self.cost;
        self.shared.drained.notify_all();
    }
}

impl Lane {
    fn send(&mut self, shared: &Arc<Shared>) {
        let batch = std::mem::take(&mut self.batch);
        if batch.writes.is_empty() {
            return;
        }
        let mut state = shared.lock();
        while state.in_flight > 0 && state.in_flight + batch.cost > BUDGET_BYTES {
            state = shared.drained.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.in_flight += batch.cost;
        drop(state);
        let lease = Lease { shared: Arc::clone(shared), cost: batch.cost };
        // A thread that has ended said so by itself; its lease ends here.
        drop(self.sender.as_ref().map(|sender| sender.send((batch, lease))));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, batches: &Receiver<(Batch, Lease)>) {
        while let Ok((batch, lease)) = batches.recv() {
            for write in &batch.writes {
                if let Some(log) = batch.log.as_ref().filter(|_| !self.failed.load(Ordering::Acquire)) {
                    self.write(log, write);
                }
            }
            drop((batch, lease));
        }
    }

    fn write(&self, log: &JournalName, write: &Write) {
        if let Some(expected) = write.crc32c {
            let actual = write.pieces.iter().fold(0, |crc, piece| crc32c::crc32c_append(crc, piece));
            if actual != expected && !planted(Bug::NoDigestCheck) {
                let damage =
                    Damage { log: log.clone(), at: write.at, seq_no: write.seq_no, expected, actual };
                self.lock().damage.entry(write.fnode).or_insert(damage);
            }
        }
        let mut offset = write.offset;
        for piece in &write.pieces {
            if let Err(error) = write.file.write_all_at(piece, offset) {
                let what =
                    format!("writing {} bytes at {offset} of file {} failed", piece.len(), write.fnode);
                self.fail(Error::io(what, error).in_log(log).at(write.at).seq(write.seq_no));
                return;
            }
            offset = offset.saturating_add(piece.len() as u64);
        }
        if let Some((from, len)) = to_begin(write.offset, offset) {
            write.file.begin_sync(from, len);
        }
    }

    fn fail(&self, error: Error) {
        self.lock().failure.get_or_insert(error);
        self.failed.store(true, Ordering::Release);
    }
}

/// Returns the range, first byte and length, whose sync is to begin once `[begin, end)` is written.
const fn to_begin(begin: u64, end: u64) -> Option<(u64, u64)> {
    let (first, last) = (begin / BEGIN_SYNC_BYTES, end / BEGIN_SYNC_BYTES);
    if first < last { Some((first * BEGIN_SYNC_BYTES, (last - first) * BEGIN_SYNC_BYTES)) } else { None }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::vfs::{FileSystem, MemoryFs, OpenMode};

    fn log() -> JournalName {
        JournalName::new("acme/orders").unwrap()
    }

    fn write(file: &Arc<dyn File>, pieces: Vec<Bytes>) -> Write {
        let (fnode, seq_no) = (Fnode::new(SeqNo::new(1)), SeqNo::new(2));
        Write { fnode, file: Arc::clone(file), offset: 0, pieces, crc32c: None, seq_no, at: Offset::ZERO }
    }

    #[test]
    fn a_write_that_is_longer_than_the_budget_is_done_when_nothing_else_is_under_way() {
        let file = MemoryFs::new().open(Path::new("/file"), OpenMode::CreateNew).unwrap();
        let piece = Bytes::from(vec![7; BUDGET_BYTES / 8]);
        let mut writers = Writers::start(2).unwrap();
        for _ in 0..2 {
            writers.write(&log(), write(&file, vec![piece.clone(); 9])).unwrap();
        }
        writers.drain().unwrap();
        assert_eq!(file.metadata().unwrap().len, 9 * piece.len() as u64);
    }

    #[test]
    fn writes_without_bytes_do_not_gather_without_end() {
        let file = MemoryFs::new().open(Path::new("/file"), OpenMode::CreateNew).unwrap();
        let mut writers = Writers::start(2).unwrap();
        for _ in 0..10 * BATCH_BYTES / WRITE_COST_BYTES {
            writers.write(&log(), write(&file, Vec::new())).unwrap();
            let gathered = writers.lanes.iter().map(|lane| lane.batch.writes.len()).max();
            assert!(gathered.unwrap() <= BATCH_BYTES / WRITE_COST_BYTES);
        }
        writers.drain().unwrap();
    }

    #[test]
    fn the_sync_of_a_file_begins_where_it_grows_past_a_multiple_and_only_of_what_lies_before() {
        const STEP: u64 = BEGIN_SYNC_BYTES;
        assert_eq!(to_begin(0, STEP - 1), None);
        assert_eq!(to_begin(0, STEP), Some((0, STEP)));
        assert_eq!(to_begin(STEP, STEP + 1), None);
        assert_eq!(to_begin(STEP - 1, STEP + 1), Some((0, STEP)));
        assert_eq!(to_begin(STEP + 5, 4 * STEP + 5), Some((STEP, 3 * STEP)));
        assert_eq!(to_begin(u64::MAX - 1, u64::MAX), None);
    }
}
