//! Cases about readers: ranges, following, interrupts, and what they never show.
//!
//! *Invariants.* Cases that only read run over prepared content where a place takes no appends.
//!
//! *Does not* demand anything of the size of chunks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use super::{
    Case, Cases, OrFail, Outcome, Part, assert_invalid, assert_wrong_offset, bytes_until, chunk_bytes, fail,
    noise, offset, parts, short, soon,
};
use crate::clock::Deadline;
use crate::ids::Offset;
use crate::journal::{Append, Interrupter, JournalReader, ReadRange, ReadStep, Register, RegisterSelector};
use crate::prng::SplitMix64;

pub(super) const CASES: Cases = &[
    ("a_reader_gives_exactly_its_range", a_reader_gives_exactly_its_range),
    ("a_range_that_ends_before_it_begins_is_invalid", a_backward_range_is_invalid),
    ("an_ended_reader_stays_at_its_end", an_ended_reader_stays_at_its_end),
    ("a_reader_at_the_head_says_so_and_goes_on", a_reader_at_the_head_says_so_and_goes_on),
    ("a_range_past_the_head_ends_once_its_bytes_are_there", a_range_past_the_head_ends_later),
    ("a_waiting_reader_is_woken_by_an_append", a_waiting_reader_is_woken_by_an_append),
    ("several_readers_see_the_same_bytes", several_readers_see_the_same_bytes),
    ("an_interrupt_ends_the_next_wait_once", an_interrupt_ends_the_next_wait_once),
    ("an_interrupt_ends_a_wait_under_way", an_interrupt_ends_a_wait_under_way),
    ("readers_show_only_what_was_committed", readers_show_only_what_was_committed),
];

fn a_reader_gives_exactly_its_range(case: &Case) -> Outcome {
    let whole = case.filled(30);
    let head = whole.len();
    assert_eq!(case.head(), offset(head as u64));
    let mut random = SplitMix64::new(1);
    let mut cuts = vec![0, 1, head - 1, head];
    cuts.extend((0..8).map(|_| random.below(head as u64) as usize));
    for fragment in case.fragments().iter().take(4) {
        let begin = fragment.begin.get() as usize;
        cuts.extend([begin.saturating_sub(1), begin, begin + 1]);
    }
    cuts.sort_unstable();
    cuts.dedup();
    for (index, &begin) in cuts.iter().enumerate() {
        for &end in cuts.get(index..).or_fail("cuts") {
            let range = ReadRange::bounded(offset(begin as u64), offset(end as u64));
            let mut reader = case.reader(range);
            assert_eq!(reader.offset(), range.begin);
            let expected = whole.get(begin..end).or_fail("a range").to_vec();
            let expected = if begin == end { Vec::new() } else { vec![Part::Bytes(expected)] };
            assert!(parts(&mut *reader) == expected, "the content of [{begin}, {end}) differs");
        }
    }
    Outcome::Held
}

fn a_backward_range_is_invalid(case: &Case) -> Outcome {
    case.filled(1);
    assert_invalid(case.journal.read(ReadRange::bounded(offset(1), Offset::ZERO)));
    Outcome::Held
}

fn an_ended_reader_stays_at_its_end(case: &Case) -> Outcome {
    case.filled(3);
    let mut reader = case.reader(ReadRange::bounded(offset(1), offset(2)));
    assert_eq!(parts(&mut *reader).len(), 1);
    for _ in 0..3 {
        assert!(matches!(reader.next(Deadline::passed()), Ok(ReadStep::End)));
    }
    assert_eq!(reader.offset(), offset(2));
    Outcome::Held
}

/// Reads to the head, and checks that the reader says where that is, as often as it is asked.
fn read_to_head(reader: &mut dyn JournalReader, head: Offset) -> Vec<u8> {
    let found = bytes_until(reader, head);
    assert_at_head(reader, head);
    assert_at_head(reader, head);
    found
}

fn assert_at_head(reader: &mut dyn JournalReader, expected: Offset) {
    for deadline in [Deadline::passed(), short()] {
        let before = reader.offset();
        match reader.next(deadline).or_fail("next") {
            ReadStep::AtHead { head } => assert_eq!(head, expected),
            other => fail(format_args!("expected AtHead, found {other:?}")),
        }
        assert_eq!(reader.offset(), before);
    }
}

fn a_reader_at_the_head_says_so_and_goes_on(case: &Case) -> Outcome {
    let mut whole = case.filled(3);
    let mut reader = case.reader(ReadRange::follow(Offset::ZERO));
    let head = offset(whole.len() as u64);
    assert!(read_to_head(&mut *reader, head) == whole);
    assert_at_head(&mut *case.reader(ReadRange::follow(head)), head);
    // A reader may begin past the head, and waits there.
    let ahead = offset(head.get() + 10);
    assert_at_head(&mut *case.reader(ReadRange::follow(ahead)), head);
    if !(case.can.append && case.can.follow) {
        return Outcome::Declined;
    }
    let mut waiting = case.reader(ReadRange::follow(ahead));
    for seed in 0..5 {
        let content = noise(seed, 300);
        whole.extend_from_slice(&content);
        let end = case.committed(Append::new(content.clone())).end;
        assert!(read_to_head(&mut *reader, end) == content);
    }
    let found = read_to_head(&mut *waiting, case.head());
    assert!(Some(&found[..]) == whole.get(ahead.get() as usize..), "the reader began at {ahead}");
    Outcome::Held
}

fn a_range_past_the_head_ends_later(case: &Case) -> Outcome {
    let whole = case.filled(3);
    let head = offset(whole.len() as u64);
    let mut reader = case.reader(ReadRange::bounded(Offset::ZERO, offset(head.get() + 10)));
    assert!(read_to_head(&mut *reader, head) == whole);
    if !(case.can.append && case.can.follow) {
        return Outcome::Declined;
    }
    case.committed(Append::new(noise(1, 4)));
    assert_eq!(read_to_head(&mut *reader, offset(head.get() + 4)), noise(1, 4));
    case.committed(Append::new(noise(2, 100)));
    assert_eq!(parts(&mut *reader), [Part::Bytes(noise(2, 6).to_vec())]);
    Outcome::Held
}

fn a_waiting_reader_is_woken_by_an_append(case: &Case) -> Outcome {
    if !(case.can.append && case.can.follow) {
        return Outcome::Declined;
    }
    let (sender, receiver) = mpsc::channel();
    let mut reader = case.reader(ReadRange::follow(Offset::ZERO));
    let reading = move || {
        for round in 0..50 {
            let found = bytes_until(&mut *reader, offset((round + 1) * 10));
            assert_eq!(found, noise(round, 10));
            if sender.send(round).is_err() {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("follower".into());
        let follower = thread.spawn_scoped(scope, reading).or_fail("a thread");
        for round in 0..50 {
            case.committed(Append::new(noise(round, 10)));
            // A follower that panicked closes the channel, and is heard of below.
            if receiver.recv().is_err() {
                break;
            }
        }
        if let Err(panic) = follower.join() {
            std::panic::resume_unwind(panic);
        }
    });
    Outcome::Held
}

fn several_readers_see_the_same_bytes(case: &Case) -> Outcome {
    let whole = case.filled(10);
    let head = offset(whole.len() as u64);
    let mut readers = (0..5).map(|_| case.reader(ReadRange::bounded(Offset::ZERO, head))).collect::<Vec<_>>();
    // One step each in turn, so that no reader disturbs another.
    let mut found = vec![Vec::new(); readers.len()];
    let mut ended = 0;
    while ended < readers.len() {
        ended = 0;
        for (reader, found) in readers.iter_mut().zip(&mut found) {
            match reader.next(soon()).or_fail("next") {
                ReadStep::Chunk(chunk) => found.extend_from_slice(&chunk_bytes(&chunk)),
                ReadStep::End => ended += 1,
                other => fail(format_args!("unexpected {other:?}")),
            }
        }
    }
    assert!(found.iter().all(|found| found == &whole), "readers saw different bytes");
    Outcome::Held
}

fn an_interrupt_ends_the_next_wait_once(case: &Case) -> Outcome {
    let whole = case.filled(2);
    let head = offset(whole.len() as u64);
    let mut reader = case.reader(ReadRange::follow(Offset::ZERO));
    let interrupter = reader.interrupter();
    interrupter.interrupt();
    interrupter.clone().interrupt();
    let mut found = Vec::new();
    let mut interrupts = 0;
    // Bytes that are there may come before or after the interrupt.
    while found.len() < whole.len() || interrupts == 0 {
        match reader.next(soon()).or_fail("next") {
            ReadStep::Chunk(chunk) => found.extend_from_slice(&chunk_bytes(&chunk)),
            ReadStep::Interrupted => interrupts += 1,
            other => fail(format_args!("unexpected {other:?}")),
        }
    }
    assert_eq!((interrupts, found == whole), (1, true), "two interrupts before one wait are one");
    assert_at_head(&mut *reader, head);
    interrupter.interrupt();
    assert!(matches!(reader.next(soon()), Ok(ReadStep::Interrupted)));
    assert_at_head(&mut *reader, head);
    Outcome::Held
}

fn an_interrupt_ends_a_wait_under_way(case: &Case) -> Outcome {
    if !case.can.follow {
        return Outcome::Declined;
    }
    let whole = case.filled(1);
    let mut reader = case.reader(ReadRange::follow(offset(whole.len() as u64)));
    let interrupter = reader.interrupter();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("waiter".into());
        let waiter = thread.spawn_scoped(scope, || {
            let interrupted = (0..20).all(|_| {
                let deadline = soon();
                matches!(reader.next(deadline), Ok(ReadStep::Interrupted)) && !deadline.has_passed()
            });
            done.store(true, Ordering::Release);
            interrupted
        });
        let waiter = waiter.or_fail("a thread");
        while !done.load(Ordering::Acquire) {
            interrupter.interrupt();
            std::thread::yield_now();
        }
        match waiter.join() {
            Ok(interrupted) => assert!(interrupted, "a wait ended without its interrupt"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    Outcome::Held
}

/// Ends the wait of a reader for appends that do not come any more, because the case failed.
struct InterruptAtEnd(Interrupter);

impl Drop for InterruptAtEnd {
    fn drop(&mut self) {
        self.0.interrupt();
    }
}

fn readers_show_only_what_was_committed(case: &Case) -> Outcome {
    const APPENDS: u64 = 60;
    if !(case.can.append && case.can.follow) {
        return Outcome::Declined;
    }
    let mut reader = case.reader(ReadRange::bounded(Offset::ZERO, offset(APPENDS * 50)));
    let interrupter = reader.interrupter();
    let reading = || {
        let mut found = Vec::new();
        loop {
            match reader.next(soon()).or_fail("next") {
                ReadStep::Chunk(chunk) => {
                    found.extend_from_slice(&chunk_bytes(&chunk));
                    assert!(reader.offset() <= case.head(), "a reader is ahead of the head");
                }
                ReadStep::End => return found,
                other => fail(format_args!("unexpected {other:?}")),
            }
        }
    };
    let mut whole = Vec::new();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("reader".into());
        let reader = thread.spawn_scoped(scope, reading).or_fail("a thread");
        let _awake = InterruptAtEnd(interrupter);
        for index in 0..APPENDS {
            let head = offset(whole.len() as u64);
            // Refused appends leave no trace, neither before nor after what is committed at their offset.
            let wrong = offset(head.get() + 1);
            assert_wrong_offset(case.append(Append::new(noise(1000 + index, 70)).at(wrong)), wrong, head);
            if case.can.registers && index > 0 {
                let check = Some(RegisterSelector::include("author", "nobody"));
                let fenced = Append { check, ..Append::new(noise(2000 + index, 60)).at(head) };
                assert!(case.append(fenced).is_err());
            }
            let mut append = Append::new(noise(index, 50));
            append.at = Some(head).filter(|head| case.can.at_zero || *head > Offset::ZERO);
            if case.can.registers {
                append.union = [Register::new("author", "somebody")].into_iter().collect();
            }
            whole.extend_from_slice(&noise(index, 50));
            case.committed(append);
        }
        match reader.join() {
            Ok(found) => assert!(found == whole, "the reader saw other bytes than were committed"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    Outcome::Held
}
