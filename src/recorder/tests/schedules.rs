//! Goal: whoever records, drives or answers first, every barrier resolves, once and for what it vouches for, no
//! batch is left unsent and no reply unseen, and a failure reaches everybody.
//!
//! Method: drawn schedules of recording threads over a journal that answers within the call or on a thread of its
//! own, and, where a claim is about that, loses answers, holds copies back or lets foreign bytes in.

use super::*;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::tests::{draw, drawn};
use crate::sync::thread::{Builder, JoinHandle};
use crate::sync::{Condvar, Mutex};

/// A deadline that no schedule reaches.
fn never() -> Deadline {
    Deadline::after(Duration::from_secs(3600))
}

fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().spawn(work).unwrap()
}

/// The time of every mark: schedules must not depend on the clock.
#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn unix_nanos(&self) -> i64 {
        1_700_000_000_000_000_000
    }
}

fn patient() -> RecorderOptions {
    let hour = Duration::from_secs(3600);
    RecorderOptions::default().resolve_max(hour).stall_max(hour).clock(Arc::new(Stopped))
}

/// What goes wrong in a [`Served`] journal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Trouble {
    None,
    /// Answers are lost, appends are dropped, come late, or find foreign bytes in their place.
    Network,
    /// Another author takes the register.
    Fencing,
}

/// A journal in memory that answers on a thread of its own, or within the call, as is drawn.
#[derive(Debug)]
struct Served {
    inner: Arc<MemoryJournal>,
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<(Append, Completer<Appended, JournalError>)>,
    late: Vec<Append>,
    trouble: Trouble,
    /// Appends that may still go wrong.
    left: usize,
    closed: bool,
}

impl Served {
    fn start(trouble: Trouble) -> (Arc<Self>, JoinHandle<()>) {
        let waiting = VecDeque::new();
        let queue = Queue { waiting, late: Vec::new(), trouble, left: 3, closed: false };
        let inner = MemoryJournals::new().journal(&log_name());
        let served = Arc::new(Self { inner, queue: Mutex::new(queue), filled: Condvar::new() });
        let serving = Arc::clone(&served);
        (served, spawn(move || while serving.serve_next() {}))
    }

    fn serve_next(&self) -> bool {
        let idle = |queue: &mut Queue| queue.waiting.is_empty() && !queue.closed;
        let mut queue = self.filled.wait_while(self.queue.lock().unwrap(), idle).unwrap();
        let Some((append, completer)) = queue.waiting.pop_front() else { return false };
        drop(queue);
        self.serve(append, completer);
        true
    }

    fn serve(&self, append: Append, completer: Completer<Appended, JournalError>) {
        let mut queue = self.queue.lock().unwrap();
        let late = if draw(2) == 0 { queue.late.pop() } else { None };
        let wrong = if queue.left > 0 && queue.trouble != Trouble::None { draw(6) } else { 0 };
        queue.left -= usize::from(wrong > 0);
        let fencing = queue.trouble == Trouble::Fencing;
        if wrong == 4 && !fencing {
            queue.late.push(append.clone());
        }
        drop(queue);
        let commit = |append: Append| self.inner.submit(append).wait(never()).unwrap();
        if let Some(late) = late {
            drop(commit(late));
        }
        let at = append.at;
        let unknown = || Err(JournalError::Unknown { journal: log_name(), at, what: "a test".into() });
        match (wrong, fencing) {
            (0, _) => completer.resolve(commit(append)),
            (_, true) => {
                let other = Append::default().union_author(author(B));
                self.inner.set_registers(other.union);
                completer.resolve(commit(append));
            }
            (1, _) => {
                drop(commit(append));
                completer.resolve(unknown());
            }
            (2, _) => {
                drop(commit(append));
                drop(completer);
            }
            (3 | 4, _) => completer.resolve(unknown()),
            _ => {
                commit(Append::new(&b"foreign"[..])).unwrap();
                completer.resolve(commit(append));
            }
        }
    }

    fn close(&self, thread: JoinHandle<()>) {
        self.queue.lock().unwrap().closed = true;
        self.filled.notify_all();
        thread.join().unwrap();
    }
}

impl Journal for Served {
    fn name(&self) -> &JournalName {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn submit(&self, append: Append) -> Completion<Appended, JournalError> {
        let (completer, completion) = completion();
        let mut queue = self.queue.lock().unwrap();
        if queue.closed {
            drop(completer);
        } else if queue.waiting.is_empty() && draw(4) == 0 {
            drop(queue);
            self.serve(append, completer);
        } else {
            queue.waiting.push_back((append, completer));
            drop(queue);
            self.filled.notify_all();
        }
        completion
    }

    fn head(&self, deadline: Deadline) -> Result<Head, JournalError> {
        self.inner.head(deadline)
    }

    fn read(&self, range: ReadRange) -> Result<Box<dyn JournalReader>, JournalError> {
        self.inner.read(range)
    }

    fn fragments(&self, deadline: Deadline) -> Result<Vec<Fragment>, JournalError> {
        self.inner.fragments(deadline)
    }

    fn prune(&self, fragments: &[Fragment], deadline: Deadline) -> Result<(), JournalError> {
        self.inner.prune(fragments, deadline)
    }
}

fn recorder(journal: &Arc<Served>, options: RecorderOptions) -> Recorder {
    let journal = Arc::clone(journal);
    Recorder::new(journal, Fsm::new(log_name()), Offset::ZERO, author(A), options).unwrap()
}

/// Checks that the log is the recorder's history, that all of it is durable, and that no credit is missing.
#[track_caller]
fn assert_whole(journal: &Served, recorder: &Recorder, credit: u64) {
    let fsm = replay(&journal.inner);
    let committed = recorder.committed();
    assert_eq!((committed.next_seq_no, committed.next_checksum), (fsm.next_seq_no(), fsm.next_checksum()));
    assert_eq!(recorder.with_fsm(|fsm| fsm.hints(&log_name())), fsm.hints(&log_name()));
    assert_eq!(recorder.counters().bytes_in_flight(), 0);
    // Whoever took the last answer may still be about to give its credit back.
    drop(recorder.reserve(credit).unwrap());
    assert_eq!(recorder.credit_bytes(), credit);
}

/// Two threads record and wait for what they recorded, `rounds` times each.
fn record_in_two_threads(trouble: Trouble, options: RecorderOptions, credit: u64, rounds: u64) {
    let (journal, server) = Served::start(trouble);
    let recorder = recorder(&journal, options);
    let fnode = recorder.create(&path("/a")).unwrap();
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let recorder = recorder.clone();
            spawn(move || {
                let mut durable = Offset::ZERO;
                for round in 0..rounds {
                    recorder.write(fnode, round, &[7; 40]).unwrap();
                    let own = recorder.with_fsm(Fsm::next_seq_no);
                    let reached = recorder.barrier().unwrap().wait(never()).unwrap();
                    assert!(reached.next_seq_no >= own, "the barrier vouches for what came before it");
                    assert!(reached.offset >= durable, "durable positions never go back");
                    assert!(recorder.committed().offset >= reached.offset);
                    durable = reached.offset;
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    recorder.barrier().unwrap().wait(never()).unwrap();
    assert_whole(&journal, &recorder, credit);
    assert_eq!(accepted(&journal.inner).1.len() as u64, 1 + 2 * rounds);
    journal.close(server);
}

#[test]
fn every_barrier_resolves_whichever_thread_drives() {
    drawn(|| record_in_two_threads(Trouble::None, patient(), 16 << 20, 2));
}

#[test]
fn every_barrier_resolves_though_answers_are_lost_and_foreign_bytes_come_in() {
    drawn(|| record_in_two_threads(Trouble::Network, patient(), 16 << 20, 2));
}

#[test]
fn small_batches_are_held_back_and_sent_for_a_barrier() {
    drawn(|| record_in_two_threads(Trouble::None, patient().send_bytes_min(1 << 20), 16 << 20, 2));
}

#[test]
fn credit_comes_back_and_lets_blocked_threads_go_on() {
    // Room for one write at a time.
    drawn(|| record_in_two_threads(Trouble::None, patient().in_flight_bytes_max(150), 150, 2));
    drawn(|| record_in_two_threads(Trouble::Network, patient().in_flight_bytes_max(150), 150, 2));
}

#[test]
fn a_batch_that_nobody_waits_for_is_sent_all_the_same() {
    drawn(|| {
        let (journal, server) = Served::start(Trouble::Network);
        let recorder = recorder(&journal, patient().in_flight_bytes_max(300));
        let fnode = recorder.create(&path("/a")).unwrap();
        let other = recorder.clone();
        let thread = spawn(move || (0..3).for_each(|at| other.write(fnode, at, &[1; 100]).unwrap()));
        (0..3).for_each(|at| recorder.write(fnode, at, &[2; 100]).unwrap());
        thread.join().unwrap();
        // All of the credit is to be had only when everything is durable, and no barrier asks for that.
        drop(recorder.reserve(300).unwrap());
        assert_whole(&journal, &recorder, 300);
        journal.close(server);
    });
}

#[test]
fn a_callback_may_record_and_take_a_barrier() {
    drawn(|| {
        let (journal, server) = Served::start(Trouble::Network);
        let recorder = recorder(&journal, patient());
        let fnode = recorder.create(&path("/a")).unwrap();
        let (done, mut all) = completion::<Position, Error>();
        let again = recorder.clone();
        recorder.barrier().unwrap().on_ready(move |first| {
            let first = first.unwrap();
            again.write(fnode, 0, b"within").unwrap();
            again.barrier().unwrap().on_ready(move |second| {
                assert!(second.clone().unwrap().offset > first.offset);
                done.resolve(second);
            });
        });
        let other = recorder.clone();
        let thread = spawn(move || other.write(fnode, 6, b"beside").unwrap());
        all.wait(never()).unwrap().unwrap();
        thread.join().unwrap();
        recorder.barrier().unwrap().wait(never()).unwrap();
        assert_whole(&journal, &recorder, 16 << 20);
        journal.close(server);
    });
}

#[test]
fn hints_that_are_taken_while_foreign_bytes_come_in_name_what_is_in_the_log() {
    drawn(|| {
        let (journal, server) = Served::start(Trouble::Network);
        let recorder = recorder(&journal, patient());
        let fnode = recorder.create(&path("/a")).unwrap();
        let other = recorder.clone();
        let thread = spawn(move || {
            for at in 0..2 {
                other.write(fnode, at, b"x").unwrap();
            }
        });
        let hints = recorder.take_hints().unwrap().wait(never()).unwrap();
        thread.join().unwrap();
        recorder.barrier().unwrap().wait(never()).unwrap();
        let as_of = hints.as_of.unwrap();
        let durable = journal.inner.head(never()).unwrap().offset;
        assert!(as_of.offset <= durable, "hints name what is durable");
        // Everything before the anchor's end is there, and what follows continues it.
        let (fsm, upto) = replay_to(&journal.inner, as_of.offset);
        assert_eq!(fsm.next_seq_no().get(), as_of.seq_no.get() + 1);
        assert_eq!(upto, as_of.offset, "the anchor ends where the hints say");
        assert_eq!(hints.files.len(), 1);
        let begin = hints.files[0].segments[0].first_offset;
        assert_eq!(begin, fsm.hints(&log_name()).files[0].segments[0].first_offset);
        journal.close(server);
    });
}

/// Reads a log as [`accepted`] does, up to `end`; returns where the last accepted operation before it ends.
fn replay_to(journal: &MemoryJournal, end: Offset) -> (Fsm, Offset) {
    let cut = MemoryJournals::new().journal(&log_name());
    let content = content(journal);
    cut.append(Append::new(content[..end.get() as usize].to_vec()), never()).unwrap();
    let (fsm, _) = accepted(&cut);
    let reached = fsm.hints_to_head(&log_name(), 0).as_of.unwrap().offset;
    (fsm, reached)
}

#[test]
fn a_failure_reaches_every_waiter_and_every_later_call() {
    drawn(|| {
        let (journal, server) = Served::start(Trouble::Fencing);
        // What waits for credit has to learn of the failure, too.
        let recorder = recorder(&journal, patient().in_flight_bytes_max(300));
        let failed = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..2)
            .map(|index| {
                let (recorder, failed) = (recorder.clone(), Arc::clone(&failed));
                spawn(move || {
                    let file = path(if index == 0 { "/a" } else { "/b" });
                    for _ in 0..3 {
                        let outcome = recorder.create(&file).and_then(|_| recorder.barrier()?.wait(never()));
                        if let Err(error) = outcome {
                            assert_eq!(error.kind(), ErrorKind::Fenced);
                            assert_eq!(recorder.barrier().unwrap_err().kind(), ErrorKind::Fenced);
                            failed.fetch_add(1, Ordering::SeqCst);
                            return;
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        if recorder.failure().is_some() {
            assert!(failed.load(Ordering::SeqCst) > 0);
        } else {
            assert_whole(&journal, &recorder, 300);
        }
        journal.close(server);
    });
}

#[test]
fn a_recorder_that_is_ended_beside_its_work_tells_everybody_and_claims_nothing_afterwards() {
    drawn(|| {
        let (journal, server) = Served::start(Trouble::Network);
        let recorder = recorder(&journal, patient());
        recorder.create(&path("/a")).unwrap();
        let waiting = recorder.clone();
        let waiter = spawn(move || {
            let reached = waiting.barrier().and_then(|mut barrier| barrier.wait(never()));
            if let Err(error) = &reached {
                assert_eq!(error.kind(), ErrorKind::Diverged);
            }
            reached.is_ok()
        });
        recorder.fail(Error::new(ErrorKind::Diverged, "a test"));
        let committed = recorder.committed();
        let claimed = waiter.join().unwrap();
        assert!(
            !claimed || committed.next_seq_no > SeqNo::FIRST,
            "a barrier vouched for what is not durable"
        );
        journal.close(server);
        assert_eq!(recorder.committed(), committed, "a failed recorder commits nothing more");
        assert_eq!(recorder.no_op().unwrap_err().kind(), ErrorKind::Diverged);
    });
}

#[test]
fn what_was_recorded_is_sent_though_every_recorder_is_dropped() {
    drawn(|| {
        let (journal, server) = Served::start(Trouble::Network);
        let recorder = recorder(&journal, patient());
        let fnode = recorder.create(&path("/a")).unwrap();
        recorder.write(fnode, 0, b"hello").unwrap();
        let mut barrier = recorder.barrier().unwrap();
        drop(recorder);
        let reached = barrier.wait(never()).unwrap();
        assert_eq!(reached.next_seq_no, replay(&journal.inner).next_seq_no());
        journal.close(server);
    });
}
