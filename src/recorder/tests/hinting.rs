//! Hints that are taken while others record, wait and are called back.

use std::sync::mpsc::channel;

use super::*;
use crate::hints::FsmHints;

type Meanwhile = Box<dyn FnOnce() + Send>;

/// Does something in the middle of a submission, as another thread may.
struct Busy {
    inner: Arc<MemoryJournal>,
    meanwhile: Mutex<Option<Meanwhile>>,
}

impl fmt::Debug for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Busy")
    }
}

impl Journal for Busy {
    fn name(&self) -> &JournalName {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn submit(&self, append: Append) -> Completion<Appended, JournalError> {
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        self.inner.submit(append)
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

#[test]
fn whoever_is_told_by_an_append_of_hints_may_take_hints() {
    let inner = MemoryJournals::new().journal(&log_name());
    let journal = Arc::new(Busy { inner, meanwhile: Mutex::default() });
    let fsm = Fsm::new(log_name());
    let recorder = Recorder::new(journal.clone(), fsm, Offset::ZERO, author(A), options()).unwrap();
    recorder.create(&path("/a")).unwrap();
    let (called, was_called) = channel();
    let other = recorder.clone();
    *journal.meanwhile.lock().unwrap() = Some(Box::new(move || {
        let third = other.clone();
        other.barrier().unwrap().on_ready(move |_| called.send(third.take_hints().is_ok()).unwrap());
    }));
    let taker = recorder.clone();
    let builder = std::thread::Builder::new().name("taker".into());
    builder.spawn(move || drop(taker.take_hints())).unwrap();
    assert_eq!(was_called.recv_timeout(Duration::from_secs(20)), Ok(true));
}

#[test]
fn hints_that_several_threads_take_at_once_are_each_of_their_own_point() {
    let journal = Flaky::new([]);
    let recorder = record(&journal);
    let fnode = recorder.create(&path("/a")).unwrap();
    let take = || {
        let mut taken = Vec::new();
        for page in 0..50 {
            recorder.write(fnode, page % 5, b"x").unwrap();
            taken.push(recorder.take_hints().unwrap().wait(soon()).unwrap());
        }
        taken
    };
    let sets: Vec<FsmHints> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(take)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut heads: Vec<i64> = sets.iter().map(|hints| hints.as_of.unwrap().seq_no.get()).collect();
    for (hints, head) in sets.iter().zip(&heads) {
        let flat = hints.flatten().unwrap();
        assert_eq!(flat.segments.as_slice().last().unwrap().last_seq_no.get(), *head);
    }
    heads.sort_unstable();
    heads.dedup();
    assert_eq!(heads.len(), 150);
}
