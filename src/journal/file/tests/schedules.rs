//! Goal: whatever the order of submitters, committer, sealer, readers and the drop of the handle, each append is
//! answered once, in the order of its thread, for bytes that are there; and nobody sleeps through what it waits for.
//!
//! Method: drawn schedules over a file system in memory, with a committer of its own thread.

use std::sync::atomic::AtomicUsize as Count;

use super::*;
use crate::completion::Completion;
use crate::sync::Mutex;
use crate::sync::atomic::Ordering;
use crate::sync::tests::drawn;
use crate::sync::thread::{Builder, JoinHandle};

/// A deadline that no schedule reaches.
fn never() -> Deadline {
    Deadline::after(Duration::from_secs(3600))
}

fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().spawn(work).unwrap()
}

fn start(fs: &MemoryFs, fragment_bytes: u64) -> FileJournal {
    let fs: Arc<dyn FileSystem> = Arc::new(fs.clone());
    FileJournals::open_on(fs, ROOT, options(fragment_bytes, false)).unwrap().open_file(&name()).unwrap()
}

fn submit(journal: &FileJournal, content: [u8; 3]) -> Completion<Appended, JournalError> {
    journal.submit(Append::new(Bytes::copy_from_slice(&content)))
}

/// Checks that the acknowledged ranges fill the journal, each with its content.
#[track_caller]
fn assert_holds(journal: &FileJournal, mut acknowledged: Vec<(Appended, [u8; 3])>) {
    acknowledged.sort_by_key(|(appended, _)| appended.begin);
    let content = content(journal).unwrap();
    let mut end = Offset::ZERO;
    for (appended, bytes) in acknowledged {
        assert_eq!(appended.begin, end, "ranges follow each other");
        end = appended.end;
        assert_eq!(content[appended.begin.get() as usize..end.get() as usize], bytes);
    }
    assert_eq!(content.len() as u64, end.get());
}

/// Two threads submit two appends each before they wait for either.
fn append_in_two_threads(fragment_bytes: u64) {
    let fs = MemoryFs::new();
    let journal = Arc::new(start(&fs, fragment_bytes));
    let threads: Vec<_> = (0..2u8)
        .map(|thread| {
            let journal = Arc::clone(&journal);
            spawn(move || {
                let contents = [[thread, 0, 1], [thread, 1, 2]];
                let mut pending = contents.map(|content| submit(&journal, content));
                let mut told = Vec::new();
                for (pending, content) in pending.iter_mut().zip(contents) {
                    let appended = pending.wait(never()).unwrap().unwrap();
                    assert!(journal.head(never()).unwrap().offset >= appended.end, "readers see it");
                    told.push((appended, content));
                }
                assert!(told[0].0.end <= told[1].0.begin, "appends commit in the order of their submission");
                told
            })
        })
        .collect();
    let told: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(told.len(), 4);
    assert_holds(&journal, told.clone());
    drop(journal);
    assert_holds(&start(&fs, fragment_bytes), told);
}

#[test]
fn appends_of_several_threads_are_answered_in_order_for_what_is_there() {
    drawn(|| append_in_two_threads(4096));
}

#[test]
fn appends_are_answered_while_fragments_roll_and_are_sealed_behind_them() {
    // Each fragment takes one append.
    drawn(|| append_in_two_threads(1));
}

#[test]
fn what_was_submitted_is_committed_though_the_handle_is_dropped() {
    drawn(|| {
        let fs = MemoryFs::new();
        let journal = Arc::new(start(&fs, 4));
        let other = Arc::clone(&journal);
        let thread = spawn(move || submit(&other, [1, 1, 1]));
        let mut first = [submit(&journal, [2, 2, 2]), submit(&journal, [3, 3, 3])];
        drop(journal);
        let mut second = thread.join().unwrap();
        let mut told = Vec::new();
        for (pending, content) in first.iter_mut().zip([[2, 2, 2], [3, 3, 3]]) {
            told.push((pending.wait(never()).unwrap().unwrap(), content));
        }
        told.push((second.wait(never()).unwrap().unwrap(), [1, 1, 1]));
        assert_holds(&start(&fs, 4), told);
    });
}

#[test]
fn the_last_owner_may_be_a_callback_of_the_journal_itself() {
    drawn(|| {
        let fs = MemoryFs::new();
        let journal = Arc::new(start(&fs, 4096));
        let calls = Arc::new(Mutex::new(Vec::new()));
        for content in [[1, 1, 1], [2, 2, 2]] {
            let (owner, calls) = (Arc::clone(&journal), Arc::clone(&calls));
            submit(&journal, content).on_ready(move |appended| {
                calls.lock().unwrap().push((appended.unwrap(), content));
                drop(owner);
            });
        }
        let (done, mut ended) = crate::completion::completion::<(), crate::completion::Abandoned>();
        submit(&journal, [3, 3, 3]).on_ready(move |_| done.resolve(Ok(())));
        drop(journal);
        ended.wait(never()).unwrap().unwrap();
        assert_eq!(calls.lock().unwrap().len(), 2);
    });
}

#[test]
fn a_reader_that_follows_is_woken_by_every_commit() {
    drawn(|| {
        let fs = MemoryFs::new();
        let journal = Arc::new(start(&fs, 4));
        let mut reader = journal.read(ReadRange::follow(Offset::ZERO)).unwrap();
        let following = spawn(move || {
            let mut found = Vec::new();
            while found.len() < 6 {
                match reader.next(never()).unwrap() {
                    ReadStep::Chunk(chunk) => found.extend(bytes_of(&chunk)),
                    other => panic!("{other:?}"),
                }
            }
            found
        });
        submit(&journal, [1, 2, 3]).wait(never()).unwrap().unwrap();
        submit(&journal, [4, 5, 6]).wait(never()).unwrap().unwrap();
        assert_eq!(following.join().unwrap(), [1, 2, 3, 4, 5, 6]);
    });
}

#[test]
fn a_reader_that_waits_is_interrupted() {
    drawn(|| {
        let fs = MemoryFs::new();
        let journal = Arc::new(start(&fs, 4096));
        let mut reader = journal.read(ReadRange::follow(Offset::ZERO)).unwrap();
        let interrupter = reader.interrupter();
        let waiting = spawn(move || reader.next(never()).unwrap());
        interrupter.interrupt();
        assert!(matches!(waiting.join().unwrap(), ReadStep::Interrupted));
    });
}

#[test]
fn a_retired_journal_answers_what_comes_late() {
    drawn(|| {
        let fs = MemoryFs::new();
        let journal = Arc::new(start(&fs, 4096));
        let committed = Arc::new(Count::new(0));
        let (other, count) = (Arc::clone(&journal), Arc::clone(&committed));
        let thread = spawn(move || {
            for content in [[1, 1, 1], [2, 2, 2]] {
                match submit(&other, content).wait(never()).unwrap() {
                    Ok(_) => count.fetch_add(3, Ordering::SeqCst),
                    Err(JournalError::NotAllowed { .. }) => 0,
                    Err(error) => panic!("{error}"),
                };
            }
        });
        journal.retire().unwrap();
        let retired_at = journal.head(never()).unwrap().offset;
        thread.join().unwrap();
        let head = journal.head(never()).unwrap().offset;
        assert_eq!(head, retired_at, "nothing is committed after it was retired");
        assert_eq!(head.get() as usize, committed.load(Ordering::SeqCst));
    });
}
