//! Goal: each fault does exactly what its name says, to the journal and to the answer. Method: a journal in memory
//! behind faults, looked at from behind.

use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::journal::conformance::{self, Place};
use crate::journal::{ReadStep, Register, RegisterSelector, RegisterSet};

fn journal() -> (Arc<MemoryJournal>, Arc<FaultyJournal>) {
    let memory = MemoryJournals::new().journal(&JournalName::new("acme/orders").unwrap());
    (Arc::clone(&memory), FaultyJournal::in_memory(memory))
}

fn append(content: &'static [u8]) -> Append {
    Append::new(content)
}

fn at(offset: u64) -> Offset {
    Offset::new(offset).unwrap()
}

fn content(journal: &MemoryJournal) -> String {
    let head = journal.head(Deadline::passed()).unwrap().offset;
    let mut reader = journal.read(ReadRange::bounded(Offset::ZERO, head)).unwrap();
    let mut found = Vec::new();
    while let ReadStep::Chunk(chunk) = reader.next(Deadline::passed()).unwrap() {
        let mut bytes = vec![0; chunk.len() as usize];
        chunk.read_exact_at(&mut bytes, 0).unwrap();
        found.extend_from_slice(&bytes);
    }
    String::from_utf8(found).unwrap()
}

fn set(pairs: &[(&str, &str)]) -> RegisterSet {
    pairs.iter().map(|(name, value)| Register::new(*name, *value)).collect()
}

fn is_unknown(result: &Result<Appended, JournalError>) -> bool {
    matches!(result, Err(JournalError::Unknown { .. }))
}

#[test]
fn without_faults_it_is_the_journal_inside() {
    let make =
        || Place::empty(Arc::new(FaultyJournals::new(MemoryJournals::new().fragment_bytes(4096))), 4096);
    let report = conformance::run(&make).unwrap_or_else(|failures| panic!("{failures}"));
    assert_eq!(report.declined, ["a_reopened_place_keeps_content_and_registers"]);
}

#[test]
fn a_refused_append_commits_nothing() {
    let (memory, journal) = journal();
    journal.fail_append(1, AppendFault::Refused);
    journal.append(append(b"a"), Deadline::passed()).unwrap();
    let refused = journal.append(append(b"b"), Deadline::passed());
    assert!(matches!(refused, Err(JournalError::Unavailable { .. })), "{refused:?}");
    journal.append(append(b"c"), Deadline::passed()).unwrap();
    assert_eq!(content(&memory), "ac");
}

#[test]
fn an_unknown_append_may_have_committed_or_not() {
    let (memory, journal) = journal();
    journal.fail_append(0, AppendFault::UnknownCommitted);
    journal.fail_append(1, AppendFault::UnknownLost);
    for content in [b"a", b"b"] {
        assert!(is_unknown(&journal.append(append(content), Deadline::passed())));
    }
    assert_eq!(content(&memory), "a");
}

#[test]
fn a_late_copy_arrives_before_the_append_that_follows() {
    let (memory, journal) = journal();
    // Nothing is there to be read, and yet the append that is sent again comes too late.
    journal.fail_append(0, AppendFault::UnknownLate { after: Some(0) });
    assert!(is_unknown(&journal.append(append(b"a").at(Offset::ZERO), Deadline::passed())));
    assert_eq!(content(&memory), "");
    let again = journal.append(append(b"a").at(Offset::ZERO), Deadline::passed());
    assert!(matches!(again, Err(JournalError::WrongOffset { head, .. }) if head == at(1)), "{again:?}");

    // Here the append that is sent again comes first, and the copy is refused.
    journal.fail_append(0, AppendFault::UnknownLate { after: Some(1) });
    assert!(is_unknown(&journal.append(append(b"b").at(at(1)), Deadline::passed())));
    journal.append(append(b"b").at(at(1)), Deadline::passed()).unwrap();
    journal.append(append(b"c"), Deadline::passed()).unwrap();
    assert_eq!(content(&memory), "abc");
}

#[test]
fn late_copies_can_be_released() {
    let (memory, journal) = journal();
    for index in 0..3 {
        journal.fail_append(index, AppendFault::UnknownLate { after: None });
    }
    for (content, offset) in [(b"a", 0), (b"b", 1), (b"x", 1)] {
        assert!(is_unknown(&journal.append(append(content).at(at(offset)), Deadline::passed())));
    }
    journal.append(Append::default(), Deadline::passed()).unwrap();
    assert_eq!(content(&memory), "");
    assert_eq!(journal.release_late(Deadline::passed()), 2);
    assert_eq!(journal.release_late(Deadline::passed()), 0);
    assert_eq!(content(&memory), "ab");
}

#[test]
fn a_duplicate_commits_unless_its_offset_refuses_it() {
    let (memory, journal) = journal();
    for index in 0..2 {
        journal.fail_append(index, AppendFault::Duplicated);
    }
    assert_eq!(journal.append(append(b"a"), Deadline::passed()).unwrap().end, at(1));
    assert_eq!(journal.append(append(b"b").at(at(2)), Deadline::passed()).unwrap().end, at(3));
    assert_eq!(content(&memory), "aab");
}

#[test]
fn registers_are_lost_and_set_back() {
    let (memory, journal) = journal();
    let registers = || memory.head(Deadline::passed()).unwrap().registers;
    for value in ["1", "2"] {
        let union = set(&[("author", value)]);
        journal.append(Append { union, ..append(b"a") }, Deadline::passed()).unwrap();
    }
    let check = |value| Append { check: Some(RegisterSelector::include("author", value)), ..append(b"a") };
    assert!(journal.append(check("1"), Deadline::passed()).is_err());
    journal.fail_append(0, AppendFault::RegistersSetBack);
    journal.append(check("1"), Deadline::passed()).unwrap();
    assert_eq!(registers(), set(&[("author", "1")]));
    journal.fail_append(0, AppendFault::RegistersLost);
    journal.append(check("9"), Deadline::passed()).unwrap();
    assert!(registers().is_empty());
}

#[test]
fn a_delayed_answer_comes_with_the_next_submission_and_keeps_its_place() {
    let (memory, journal) = journal();
    journal.fail_append(0, AppendFault::Delayed);
    let mut first = journal.submit(append(b"a"));
    assert!(first.wait(Deadline::passed()).is_none());
    assert_eq!(content(&memory), "a");
    let mut second = journal.submit(append(b"b"));
    assert!(first.wait(Deadline::passed()).is_some() && second.wait(Deadline::passed()).is_some());

    journal.hold_answers();
    let (sender, receiver) = mpsc::channel();
    for content in [&b"c"[..], b"d", b"e"] {
        let sender = sender.clone();
        journal.submit(append(content)).on_ready(move |result| sender.send(result.unwrap().end).unwrap());
    }
    assert_eq!((content(&memory), receiver.try_recv().ok()), ("abcde".into(), None));
    journal.release_answers();
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [at(3), at(4), at(5)]);
    let (_, held) = journal_with_held_answer();
    drop(journal);
    assert!(matches!(held, Some(Err(JournalError::Abandoned))), "{held:?}");
}

fn journal_with_held_answer() -> (Arc<MemoryJournal>, Option<Result<Appended, JournalError>>) {
    let (memory, journal) = journal();
    journal.hold_answers();
    let mut held = journal.submit(append(b"a"));
    drop(journal);
    (memory, held.wait(Deadline::passed()))
}

#[test]
fn a_failed_read_fails_again_and_a_new_reader_does_not() {
    let (_, journal) = journal();
    journal.append(append(b"a"), Deadline::passed()).unwrap();
    journal.fail_read(0, ReadFault::Failed);
    journal.fail_read(1, ReadFault::Stalled);
    assert!(journal.head(Deadline::passed()).is_err());
    assert!(journal.read(ReadRange::follow(Offset::ZERO)).is_err(), "only a step can stall");
    let mut reader = journal.read(ReadRange::follow(Offset::ZERO)).unwrap();
    journal.fail_read(0, ReadFault::Failed);
    for _ in 0..2 {
        assert!(matches!(reader.next(Deadline::passed()), Err(JournalError::Unavailable { .. })));
    }
    let mut reader = journal.read(ReadRange::follow(Offset::ZERO)).unwrap();
    assert!(matches!(reader.next(Deadline::passed()), Ok(ReadStep::Chunk(_))));
}

#[test]
fn a_stalled_read_ends_by_release_interrupt_or_deadline() {
    let (_, journal) = journal();
    journal.append(append(b"a"), Deadline::passed()).unwrap();
    let soon = || Deadline::after(Duration::from_secs(60));
    let stalled = || {
        let reader = journal.read(ReadRange::follow(Offset::ZERO)).unwrap();
        journal.fail_read(0, ReadFault::Stalled);
        reader
    };
    assert!(stalled().next(Deadline::passed()).is_err());

    let mut reader = stalled();
    reader.interrupter().interrupt();
    assert!(matches!(reader.next(soon()), Ok(ReadStep::Interrupted)));
    assert!(matches!(reader.next(soon()), Ok(ReadStep::Chunk(_))));
    // The reader inside does not bring up the same interrupt again.
    assert!(matches!(reader.next(Deadline::passed()), Ok(ReadStep::AtHead { .. })));

    let mut reader = stalled();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("stalled".into());
        let thread = thread.spawn_scoped(scope, || reader.next(soon())).unwrap();
        while !thread.is_finished() {
            journal.release_reads();
            std::thread::yield_now();
        }
        assert!(matches!(thread.join().unwrap(), Ok(ReadStep::Chunk(_))));
    });
}

#[test]
fn random_faults_follow_their_seed_and_reach_every_kind() {
    let run = |seed| {
        let (memory, journal) = journal();
        journal.fail_randomly(seed, 3, 10);
        for index in 0..400 {
            let union = set(&[("round", if index % 2 == 0 { "even" } else { "odd" })]);
            drop(journal.append(Append { union, ..append(b"a") }, Deadline::passed()));
            drop(journal.head(Deadline::passed()));
        }
        let counts = journal.counts();
        journal.heal();
        for _ in 0..100 {
            journal.append(append(b"b"), Deadline::passed()).unwrap();
        }
        assert_eq!(journal.counts(), counts, "healed");
        (content(&memory), counts)
    };
    let (content, counts) = run(1);
    assert_eq!((content, counts.clone()), run(1));
    assert_ne!(counts, run(2).1);
    assert_eq!(counts.len(), 9, "{counts:?}");
    assert!(counts.values().all(|&count| count >= 5), "{counts:?}");
    let appends =
        counts.iter().filter(|(name, _)| **name != "read failed").map(|(_, count)| count).sum::<u64>();
    assert!((100..170).contains(&appends), "{counts:?}");
}
