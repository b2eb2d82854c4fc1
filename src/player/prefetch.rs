//! The bytes of a plan, fetched ahead by several threads and handed over in order.
//!
//! *Invariants.* Blocks of a range are handed over in the order of their offsets, without holes: a hole is
//! `DataLoss`. A thread goes on while what is fetched and not yet handed over stays below a budget, whatever the log
//! holds; and the range that is being handed over always has a block to hand over, or is being fetched.
//!
//! *Does not* look into the bytes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{JournalName, Offset};
use crate::journal::{Chunk, Codec, Fragment, Journal, JournalReader, ReadRange, ReadStep};
use crate::player::plan::{Plan, PlanRange, hole};
use crate::sync::thread::JoinHandle;
use crate::sync::{Condvar, Mutex, MutexGuard, thread};

/// The bytes that are fetched and wait to be handed over, beside a block of each thread. Drawn schedules are to meet it.
const BUDGET_BYTES: usize = if cfg!(all(test, recoverylog_shuttle)) { 8 } else { 32 << 20 };
/// The most bytes of one block.
const BLOCK_BYTES_MAX: u64 = 1 << 20;
/// The length of a piece of a fragment that is stored as it is.
const TASK_BYTES: u64 = 16 << 20;

/// Consecutive bytes of a plan.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// Index of the range in the plan.
    pub(super) range: usize,
    /// Offset of the first byte.
    pub(super) offset: Offset,
    /// The bytes, at least one.
    pub(super) bytes: Bytes,
}

/// A part of a range that one thread fetches.
#[derive(Clone, Debug)]
struct Task {
    range: usize,
    log: JournalName,
    begin: Offset,
    end: Offset,
}

/// The blocks of a plan, in order.
#[derive(Debug)]
pub(super) struct Prefetch {
    shared: Arc<Shared>,
    /// The task that the consumer fetches by itself, where there are no threads.
    inline: Option<Fetch>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    journals: BTreeMap<JournalName, Arc<dyn Journal>>,
    tasks: Vec<Task>,
    step: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The first task that no thread has taken.
    untaken: usize,
    /// The task whose blocks are handed over now.
    current: usize,
    queues: BTreeMap<usize, Queue>,
    buffered_bytes: usize,
    /// Nothing before this offset of this range is wanted any more.
    floor: (usize, Offset),
    stopped: bool,
}

#[derive(Debug, Default)]
struct Queue {
    blocks: VecDeque<Block>,
    ended: Option<Result<()>>,
}

impl Prefetch {
    /// Begins to fetch `plan` with `threads` threads; with one, blocks are fetched by the caller as it asks.
    pub(super) fn begin(
        plan: &Plan,
        journals: BTreeMap<JournalName, Arc<dyn Journal>>,
        threads: usize,
        step: Duration,
    ) -> Result<Self> {
        let (mut tasks, mut stored) = (Vec::new(), BTreeMap::new());
        for (index, range) in plan.ranges.iter().enumerate() {
            let journal = journals.get(&range.log).ok_or_else(|| missing_journal(&range.log))?;
            let list = || journal.fragments(Deadline::after(step)).unwrap_or_default();
            split(index, range, stored.entry(&range.log).or_insert_with(list), &mut tasks);
        }
        let workers = if threads > 1 { (threads - 1).min(tasks.len()) } else { 0 };
        let shared = Arc::new(Shared {
            journals,
            tasks,
            step,
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        });
        let spawn = |index| {
            let shared = Arc::clone(&shared);
            let builder = thread::Builder::new().name(format!("recoverylog-fetch-{index}"));
            builder.spawn(move || shared.work()).map_err(|e| Error::io("starting a thread failed", e))
        };
        // Dropped where a thread cannot be had, it stops those before.
        let mut prefetch = Self { shared: Arc::clone(&shared), inline: None, threads: Vec::new() };
        for index in 0..workers {
            prefetch.threads.push(spawn(index)?);
        }
        Ok(prefetch)
    }

    /// Returns the next block; `None` after the last one.
    pub(super) fn next(&mut self) -> Result<Option<Block>> {
        if self.threads.is_empty() {
            self.shared.next_inline(&mut self.inline)
        } else {
            self.shared.next_fetched()
        }
    }

    /// Says that nothing before `offset` of the range `range`, nor of any range before it, is wanted any more.
    pub(super) fn skip_to(&mut self, range: usize, offset: Offset) {
        let mut state = self.shared.lock();
        state.floor = state.floor.max((range, offset));
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so in its queue.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_inline(&self, current: &mut Option<Fetch>) -> Result<Option<Block>> {
        loop {
            let fetch = if let Some(fetch) = current {
                fetch
            } else {
                let mut state = self.lock();
                let Some(task) = self.tasks.get(state.untaken) else { return Ok(None) };
                state.untaken += 1;
                if state.is_unwanted(task) {
                    continue;
                }
                drop(state);
                current.insert(Fetch::begin(self, task)?)
            };
            match fetch.next()? {
                Some(block) => return Ok(Some(block)),
                None => *current = None,
            }
        }
    }

    fn next_fetched(&self) -> Result<Option<Block>> {
        let mut state = self.lock();
        loop {
            let current = state.current;
            if current >= self.tasks.len() {
                return Ok(None);
            }
            if let Some(queue) = state.queues.get_mut(&current) {
                if let Some(block) = queue.blocks.pop_front() {
                    state.buffered_bytes -= block.bytes.len();
                    drop(state);
                    self.changed.notify_all();
                    return Ok(Some(block));
                }
                match queue.ended.clone() {
                    Some(Ok(())) => {
                        state.queues.remove(&current);
                        state.current += 1;
                        self.changed.notify_all();
                        continue;
                    }
                    Some(Err(error)) => return Err(error),
                    None => {}
                }
            }
            // Every fetch ends by itself: each of its steps has a deadline.
            let waited = self.changed.wait_timeout(state, self.step);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Fetches one task after another until none is left.
    fn work(&self) {
        loop {
            let mut state = self.lock();
            let index = state.untaken;
            let Some(task) = self.tasks.get(index).filter(|_| !state.stopped) else { return };
            state.untaken += 1;
            state.queues.insert(index, Queue::default());
            drop(state);
            let mut end = End { shared: self, index, outcome: None };
            end.outcome = Some(self.fetch(index, task));
        }
    }

    fn fetch(&self, index: usize, task: &Task) -> Result<()> {
        if self.lock().is_unwanted(task) {
            return Ok(());
        }
        let mut fetch = Fetch::begin(self, task)?;
        while let Some(block) = fetch.next()? {
            let mut state = self.lock();
            while state.has_to_wait(index) {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.stopped || state.is_unwanted(task) {
                return Ok(());
            }
            state.buffered_bytes += block.bytes.len();
            if let Some(queue) = state.queues.get_mut(&index) {
                queue.blocks.push_back(block);
            }
            drop(state);
            self.changed.notify_all();
        }
        Ok(())
    }
}

/// Says how the fetch of a task ended, however that comes.
struct End<'a> {
    shared: &'a Shared,
    index: usize,
    outcome: Option<Result<()>>,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        let died = || Err(Error::new(ErrorKind::Io, "a thread that fetches has ended"));
        if let Some(queue) = self.shared.lock().queues.get_mut(&self.index) {
            queue.ended = Some(self.outcome.take().unwrap_or_else(died));
        }
        self.shared.changed.notify_all();
    }
}

impl State {
    /// Tells whether the thread that fetches `task` waits before it adds one more block.
    fn has_to_wait(&self, task: usize) -> bool {
        // The task that is being handed over goes on, or nothing would. It too waits for a consumer that does not
        // keep up, once there is a block of it to be had.
        let is_early = self.current != task && self.buffered_bytes > BUDGET_BYTES;
        let is_full = self.has_block_of(task) && self.buffered_bytes > 2 * BUDGET_BYTES;
        !self.stopped && (is_early || is_full)
    }

    fn has_block_of(&self, task: usize) -> bool {
        self.queues.get(&task).is_some_and(|queue| !queue.blocks.is_empty())
    }

    fn is_unwanted(&self, task: &Task) -> bool {
        task.range < self.floor.0 || (task.range == self.floor.0 && task.end <= self.floor.1)
    }
}

/// One task being fetched.
#[derive(Debug)]
struct Fetch {
    task: Task,
    step: Duration,
    reader: Box<dyn JournalReader>,
    pieces: Pieces,
}

/// A chunk of a journal, taken in pieces of at most [`BLOCK_BYTES_MAX`]: in a local file it may be a whole fragment.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// The chunk, and how much of it was taken.
    chunk: Option<(Chunk, u64)>,
}

impl Pieces {
    /// Begins with `chunk`, once the one before is taken.
    pub(super) fn put(&mut self, chunk: Chunk) {
        debug_assert!(self.chunk.is_none(), "a chunk is taken whole before the next one");
        self.chunk = Some((chunk, 0));
    }

    /// Takes the next piece, and where it begins; `None` where the chunk is at its end.
    pub(super) fn take(&mut self, log: &JournalName) -> Result<Option<(Offset, Bytes)>> {
        let Some((chunk, done)) = self.chunk.take() else { return Ok(None) };
        let offset = chunk.offset().saturating_add(done);
        if let Chunk::Bytes { bytes, .. } = chunk {
            return Ok(Some((offset, bytes)));
        }
        let len = (chunk.len() - done).min(BLOCK_BYTES_MAX);
        let mut buffer = vec![0; len as usize];
        chunk
            .read_exact_at(&mut buffer, done)
            .map_err(|e| Error::io("reading a local fragment failed", e).in_log(log).at(offset))?;
        if done + len < chunk.len() {
            self.chunk = Some((chunk, done + len));
        }
        Ok(Some((offset, buffer.into())))
    }
}

impl Fetch {
    fn begin(shared: &Shared, task: &Task) -> Result<Self> {
        let journal = shared.journals.get(&task.log).ok_or_else(|| missing_journal(&task.log))?;
        let reader = journal.read(ReadRange::bounded(task.begin, task.end))?;
        Ok(Self { task: task.clone(), step: shared.step, reader, pieces: Pieces::default() })
    }

    fn next(&mut self) -> Result<Option<Block>> {
        loop {
            if let Some((offset, bytes)) = self.pieces.take(&self.task.log)? {
                return Ok(Some(Block { range: self.task.range, offset, bytes }));
            }
            let at = self.reader.offset();
            match self.reader.next(Deadline::after(self.step))? {
                ReadStep::Chunk(chunk) => self.pieces.put(chunk),
                ReadStep::End => return Ok(None),
                ReadStep::Jump { from, to } => return Err(hole(&self.task.log, from, to)),
                ReadStep::AtHead { head } => {
                    let what = "bytes below the head of the log did not come in time";
                    return Err(Error::new(ErrorKind::Unavailable, what)
                        .in_log(&self.task.log)
                        .at(at)
                        .expected(
                            format_args!("bytes up to {}", self.task.end),
                            format_args!("a head of {head}"),
                        ));
                }
                ReadStep::Interrupted => {}
            }
        }
    }
}

/// Splits a range into tasks: a whole stored fragment each, so that its sum can be checked, and long pieces of
/// what is stored as it is.
fn split(index: usize, range: &PlanRange, stored: &[Fragment], tasks: &mut Vec<Task>) {
    let mut push = |begin: Offset, end: Offset| {
        if begin < end {
            tasks.push(Task { range: index, log: range.log.clone(), begin, end });
        }
    };
    let mut begin = range.begin;
    // A journal that cannot list is read in one piece.
    for fragment in stored {
        let end = fragment.end.min(range.end);
        if end <= begin || fragment.begin >= range.end {
            continue;
        }
        let long = fragment.codec == Codec::None && fragment.sum.is_none();
        while long && end.bytes_since(begin) > TASK_BYTES {
            push(begin, begin.saturating_add(TASK_BYTES));
            begin = begin.saturating_add(TASK_BYTES);
        }
        push(begin, end);
        begin = end;
    }
    push(begin, range.end);
}

fn missing_journal(log: &JournalName) -> Error {
    Error::new(ErrorKind::Invalid, "the plan names a log that was not opened").in_log(log)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Append, Journals, MemoryJournals};
    use crate::vfs::{FileSystem, MemoryFs, OpenMode};

    fn name() -> JournalName {
        JournalName::new("acme/orders").unwrap()
    }

    fn offset(value: u64) -> Offset {
        Offset::new(value).unwrap()
    }

    #[test]
    fn a_chunk_of_a_file_is_taken_in_pieces_that_join_without_a_seam() {
        let len = 2 * BLOCK_BYTES_MAX + 5;
        let content: Vec<u8> = (0..len).map(|at| (at / 3) as u8).collect();
        let fs = MemoryFs::new();
        let file = fs.open(std::path::Path::new("/fragment"), OpenMode::CreateNew).unwrap();
        file.write_all_at(&content, 0).unwrap();
        let mut pieces = Pieces::default();
        assert!(pieces.take(&name()).unwrap().is_none());
        // The chunk begins at byte 2 of the file.
        pieces.put(Chunk::File { offset: offset(100), file, position: 2, len: len - 2 });
        let (mut joined, mut lengths) = (Vec::new(), Vec::new());
        while let Some((at, piece)) = pieces.take(&name()).unwrap() {
            assert_eq!(at.get(), 100 + joined.len() as u64);
            lengths.push(piece.len() as u64);
            joined.extend_from_slice(&piece);
        }
        assert_eq!(lengths, [BLOCK_BYTES_MAX, BLOCK_BYTES_MAX, 3]);
        assert!(joined == content[2..]);
    }

    fn task(range: usize, begin: u64, end: u64) -> Task {
        Task { range, log: name(), begin: offset(begin), end: offset(end) }
    }

    fn block(len: usize) -> Block {
        Block { range: 0, offset: Offset::ZERO, bytes: vec![0; len].into() }
    }

    #[test]
    fn blocks_that_were_handed_over_take_no_more_of_the_budget() {
        let queue = Queue { blocks: [block(10), block(20)].into(), ended: Some(Ok(())) };
        let state = State { queues: [(0, queue)].into(), buffered_bytes: 30, ..State::default() };
        let shared = Shared {
            journals: BTreeMap::new(),
            tasks: vec![task(0, 0, 30)],
            step: Duration::from_secs(5),
            state: Mutex::new(state),
            changed: Condvar::new(),
        };
        for left in [20, 0] {
            assert!(shared.next_fetched().unwrap().is_some());
            assert_eq!(shared.lock().buffered_bytes, left);
        }
        assert!(shared.next_fetched().unwrap().is_none());
    }

    #[test]
    fn a_thread_waits_once_the_budget_is_spent_but_never_with_the_block_that_comes_next() {
        let waits = |current, has_block, buffered_bytes| {
            let blocks = if has_block { VecDeque::from([block(1)]) } else { VecDeque::new() };
            let queues = BTreeMap::from([(1, Queue { blocks, ended: None })]);
            let mut state = State { current, queues, buffered_bytes, ..State::default() };
            let waits = state.has_to_wait(1);
            state.stopped = true;
            assert!(!state.has_to_wait(1), "whoever is stopped waits for nothing");
            waits
        };
        for (current, has_block, goes_on, waits_with) in [
            // Ahead of what is handed over.
            (0, false, BUDGET_BYTES, Some(BUDGET_BYTES + 1)),
            (0, true, BUDGET_BYTES, Some(BUDGET_BYTES + 1)),
            // Handed over now.
            (1, true, 2 * BUDGET_BYTES, Some(2 * BUDGET_BYTES + 1)),
            (1, false, usize::MAX, None),
        ] {
            assert!(!waits(current, has_block, 0) && !waits(current, has_block, goes_on));
            assert!(waits_with.is_none_or(|bytes| waits(current, has_block, bytes)), "{current} {has_block}");
        }
    }

    #[test]
    fn there_are_as_many_threads_as_asked_for_the_caller_included_and_no_more_than_tasks() {
        let journals = MemoryJournals::new().fragment_bytes(1);
        let journal = journals.open(&name()).unwrap();
        for _ in 0..3 {
            journal.append(Append::new("x"), Deadline::after(Duration::from_secs(5))).unwrap();
        }
        let range = PlanRange { log: name(), begin: Offset::ZERO, end: offset(3) };
        let plan = Plan { ranges: vec![range], hinted_files: 0, hinted_segments: 0 };
        for (parallelism, threads) in [(0, 0), (1, 0), (2, 1), (3, 2), (100, 3)] {
            let journals = BTreeMap::from([(name(), Arc::clone(&journal))]);
            let mut prefetch = Prefetch::begin(&plan, journals, parallelism, Duration::from_secs(5)).unwrap();
            assert_eq!(prefetch.threads.len(), threads, "for {parallelism}");
            for at in 0..3 {
                assert_eq!(prefetch.next().unwrap().unwrap().offset, offset(at));
            }
            assert!(prefetch.next().unwrap().is_none());
        }
    }

    /// Splits `[begin, end)` of a log of four fragments of 100 bytes each.
    fn tasks(begin: u64, end: u64) -> Vec<(u64, u64)> {
        let journals = MemoryJournals::new().fragment_bytes(100);
        let journal = journals.open(&name()).unwrap();
        for piece in 0..4 {
            journal.append(Append::new(vec![piece; 100]), Deadline::after(Duration::from_secs(5))).unwrap();
        }
        assert_eq!(journal.fragments(Deadline::passed()).unwrap().len(), 4);
        let range = PlanRange { log: name(), begin: offset(begin), end: offset(end) };
        let mut tasks = Vec::new();
        split(3, &range, &journal.fragments(Deadline::passed()).unwrap(), &mut tasks);
        assert!(tasks.iter().all(|task| task.range == 3 && task.log == name()));
        tasks.iter().map(|task| (task.begin.get(), task.end.get())).collect()
    }

    #[test]
    fn a_range_is_split_where_fragments_begin_and_nothing_is_left_out_or_fetched_twice() {
        assert_eq!(tasks(0, 400), [(0, 100), (100, 200), (200, 300), (300, 400)]);
        assert_eq!(tasks(150, 350), [(150, 200), (200, 300), (300, 350)]);
        assert_eq!(tasks(100, 200), [(100, 200)]);
        assert_eq!(tasks(120, 130), [(120, 130)]);
        assert_eq!(tasks(200, 200), []);
        assert_eq!(tasks(350, 450), [(350, 400), (400, 450)]);
    }

    #[test]
    fn a_long_fragment_that_is_still_open_is_split_and_a_sealed_one_is_not() {
        const LEN: u64 = 2 * TASK_BYTES + 5;
        let journals = MemoryJournals::new().fragment_bytes(LEN);
        let journal = journals.open(&name()).unwrap();
        for _ in 0..2 {
            journal
                .append(Append::new(vec![0; LEN as usize]), Deadline::after(Duration::from_secs(5)))
                .unwrap();
        }
        let range = PlanRange { log: name(), begin: Offset::ZERO, end: offset(2 * LEN) };
        let mut tasks = Vec::new();
        split(0, &range, &journal.fragments(Deadline::passed()).unwrap(), &mut tasks);
        let lengths: Vec<_> = tasks.iter().map(|task| task.end.bytes_since(task.begin)).collect();
        assert_eq!(lengths, [LEN, TASK_BYTES, TASK_BYTES, 5]);
    }

    #[test]
    fn what_lies_before_the_floor_is_unwanted_and_what_reaches_past_it_is_not() {
        let state = State { floor: (1, offset(100)), ..State::default() };
        for (task, is_unwanted) in [
            (task(0, 0, 500), true),
            (task(1, 0, 100), true),
            (task(1, 0, 101), false),
            (task(1, 100, 200), false),
            (task(2, 0, 10), false),
        ] {
            assert_eq!(state.is_unwanted(&task), is_unwanted, "{task:?}");
        }
    }
}
