//! Reads while brokers say no, fail, stall and are away.
//!
//! *Invariants.* What is read is what was appended, from the first byte that was asked for, each byte once. What is missing is
//! a jump.
//!
//! *Does not* lie: see `lies`.

use std::time::Duration;

use recoverylog::journal::{JournalError, ReadRange, ReadStep};
use recoverylog::{Deadline, Offset};
use tonic::Code;

use crate::double::{Call, Fault};
use crate::protocol::Status;
use crate::{Fixture, ONE, at, bytes, pause, quick, read_all, soon, within};

fn minute(test: impl FnOnce() + Send + 'static) {
    within(Duration::from_secs(60), test);
}

/// What a reader finds: bytes, and jumps by where they lead.
#[derive(Debug, Eq, PartialEq)]
enum Part {
    Bytes(Vec<u8>),
    Jump(u64),
}

fn parts(fixture: &Fixture, range: ReadRange) -> Vec<Part> {
    let mut reader = fixture.journal.read(range).unwrap();
    let mut parts = Vec::new();
    loop {
        match reader.next(soon()).unwrap() {
            ReadStep::Chunk(chunk) => match parts.last_mut() {
                Some(Part::Bytes(last)) => last.extend_from_slice(&bytes(&chunk)),
                _ => parts.push(Part::Bytes(bytes(&chunk))),
            },
            ReadStep::Jump { to, .. } => parts.push(Part::Jump(to.get())),
            ReadStep::End => return parts,
            step => panic!("{step:?}"),
        }
    }
}

#[test]
fn a_status_of_a_read_is_passed_over_or_an_error_of_its_own() {
    minute(|| {
        let fixture = Fixture::new();
        let whole = fixture.filled(3);
        for status in [
            Status::NoJournalPrimaryBroker,
            Status::NotJournalPrimaryBroker,
            Status::InsufficientJournalBrokers,
            Status::NotJournalBroker,
            Status::Suspended,
        ] {
            for fault in [Fault::Status(status), Fault::after(2, Fault::Status(status))] {
                fixture.double.next(Call::Read, fault);
                assert!(fixture.read().unwrap() == whole, "{status:?}");
                assert_eq!(fixture.double.planned(), 0);
            }
        }
        let fails = |status| {
            fixture.double.next(Call::Read, Fault::Status(status));
            fixture.read().unwrap_err()
        };
        assert!(matches!(fails(Status::JournalNotFound), JournalError::NotFound { .. }));
        assert!(matches!(fails(Status::NotAllowed), JournalError::NotAllowed { .. }));
        for status in [Status::WrongRoute, Status::ProposalMismatch, Status::FragmentStoreUnhealthy] {
            assert!(matches!(fails(status), JournalError::Unavailable { .. }), "{status:?}");
        }
    });
}

#[test]
fn a_read_that_breaks_at_any_message_goes_on_where_it_was() {
    minute(|| {
        let fixture = Fixture::new();
        let whole = fixture.filled(40);
        let codes = [
            Code::Cancelled,
            Code::Unknown,
            Code::DeadlineExceeded,
            Code::NotFound,
            Code::AlreadyExists,
            Code::ResourceExhausted,
            Code::FailedPrecondition,
            Code::Aborted,
            Code::Internal,
            Code::Unavailable,
            Code::DataLoss,
        ];
        let faults = codes.map(Fault::Code).into_iter().chain([Fault::Lose, Fault::End]);
        for fault in faults {
            for after in [0, 1, 2, 3, 7, 20] {
                fixture.double.next(Call::Read, Fault::after(after, fault.clone()));
                assert!(fixture.read().unwrap() == whole, "{fault:?} after {after}");
                assert_eq!(fixture.double.planned(), 0);
            }
        }
        for code in [Code::PermissionDenied, Code::Unauthenticated] {
            fixture.double.next(Call::Read, Fault::after(3, Fault::Code(code)));
            assert!(matches!(fixture.read(), Err(JournalError::NotAllowed { .. })), "{code:?}");
        }
        for code in [Code::InvalidArgument, Code::OutOfRange, Code::Unimplemented] {
            fixture.double.next(Call::Read, Fault::after(3, Fault::Code(code)));
            assert!(matches!(fixture.read(), Err(JournalError::Invalid { .. })), "{code:?}");
        }
    });
}

#[test]
fn a_read_that_stalls_is_made_again() {
    minute(|| {
        let mut options = quick();
        options.answer_max = Duration::from_millis(300);
        options.read_max = Duration::from_secs(10);
        let fixture = Fixture::with(crate::double::Options::default(), options);
        let whole = fixture.filled(20);
        let long = || Fault::Stall(Duration::from_secs(30));
        for after in [0, 1, 2, 5] {
            fixture.double.next(Call::Read, Fault::after(after, long()));
            let head = at(whole.len() as u64);
            let mut reader = fixture.journal.read(ReadRange::bounded(Offset::ZERO, head)).unwrap();
            let mut found = Vec::new();
            // A wait of the caller may end before that of the read does.
            let patience = soon();
            while !patience.has_passed() && found.len() < whole.len() {
                match reader.next(soon()).unwrap() {
                    ReadStep::Chunk(chunk) => found.extend_from_slice(&bytes(&chunk)),
                    step => panic!("{step:?}"),
                }
            }
            assert!(found == whole, "after {after}");
        }
    });
}

#[test]
fn a_read_that_never_gets_anywhere_is_unavailable_in_time() {
    minute(|| {
        for fault in [
            Fault::End,
            Fault::Code(Code::Unavailable),
            Fault::Status(Status::NotJournalBroker),
            Fault::Lose,
            Fault::Stall(Duration::from_secs(30)),
        ] {
            let fixture = Fixture::new();
            fixture.filled(3);
            fixture.double.plan(Call::Read, None, 10_000, fault.clone());
            let before = Deadline::after(Duration::from_secs(12));
            let failed = fixture.read().map(|found| found.len());
            assert!(matches!(failed, Err(JournalError::Unavailable { .. })), "{fault:?}: {failed:?}");
            assert!(!before.has_passed(), "{fault:?}");
        }
    });
}

#[test]
fn a_journal_that_is_suspended_is_woken_by_a_reader_and_by_an_append() {
    minute(|| {
        let fixture = Fixture::new();
        let whole = fixture.filled(3);
        fixture.double.change(ONE, |log| log.is_suspended = true);
        assert!(fixture.read().unwrap() == whole);
        fixture.double.change(ONE, |log| {
            assert!(!log.is_suspended, "the reader woke it");
            log.is_suspended = true;
        });
        fixture.append(b"abcd").unwrap();
        assert!(fixture.double.change(ONE, |log| !log.is_suspended));
    });
}

#[test]
fn a_reader_at_the_head_is_told_so_and_gets_what_comes() {
    minute(|| {
        let fixture = Fixture::new();
        let mut reader = fixture.journal.read(ReadRange::follow(Offset::ZERO)).unwrap();
        match reader.next(Deadline::passed()).unwrap() {
            ReadStep::AtHead { head } => assert_eq!(head, Offset::ZERO),
            step => panic!("{step:?}"),
        }
        let mut seen = Vec::new();
        for index in 0..30u8 {
            fixture.append(&[index; 100]).unwrap();
            while seen.len() < fixture.content().len() {
                match reader.next(soon()).unwrap() {
                    ReadStep::Chunk(chunk) => seen.extend_from_slice(&bytes(&chunk)),
                    step => panic!("{step:?}"),
                }
            }
            match reader.next(Deadline::passed()).unwrap() {
                ReadStep::AtHead { head } => assert_eq!(head.get(), seen.len() as u64),
                step => panic!("{step:?}"),
            }
        }
        assert_eq!(seen, fixture.content());
        // A head that was not there yet is waited for longer than a broker is given for an answer.
        let late = {
            let journal = std::sync::Arc::clone(&fixture.journal);
            let work = move || {
                pause(Duration::from_millis(1_500));
                journal.append(recoverylog::journal::Append::new(&b"late"[..]), soon()).unwrap();
            };
            std::thread::Builder::new().name("late".into()).spawn(work).unwrap()
        };
        let calls = fixture.double.count(Call::Read);
        match reader.next(soon()).unwrap() {
            ReadStep::Chunk(chunk) => assert_eq!(bytes(&chunk), b"late"),
            step => panic!("{step:?}"),
        }
        late.join().unwrap();
        assert_eq!(fixture.double.count(Call::Read), calls, "the read that waited was not made again");
    });
}

#[test]
fn a_reader_that_waits_at_the_head_outlives_what_happens_to_its_call() {
    minute(|| {
        let fixture = Fixture::new();
        fixture.append(b"abcd").unwrap();
        let mut reader = fixture.journal.read(ReadRange::follow(Offset::ZERO)).unwrap();
        assert!(matches!(reader.next(soon()).unwrap(), ReadStep::Chunk(_)));
        assert!(matches!(reader.next(Deadline::passed()).unwrap(), ReadStep::AtHead { .. }));
        for index in 0..4 {
            let calls = fixture.double.count(Call::Read);
            match index {
                0 => fixture.double.cut(),
                1 => {
                    fixture.double.down(0);
                    fixture.double.up(0);
                }
                2 => {
                    fixture.double.down(0);
                    pause(Duration::from_millis(300));
                    fixture.double.up(0);
                }
                _ => {}
            }
            if index < 3 {
                // It comes back by itself.
                fixture.double.until(|double| double.count(Call::Read) > calls);
            }
            while fixture.append(b"next").is_err() {}
            match reader.next(soon()).unwrap() {
                ReadStep::Chunk(chunk) => assert_eq!(bytes(&chunk), b"next", "{index}"),
                step => panic!("{index}: {step:?}"),
            }
        }
    });
}

#[test]
fn an_interrupt_ends_one_wait() {
    minute(|| {
        let fixture = Fixture::new();
        let mut reader = fixture.journal.read(ReadRange::follow(Offset::ZERO)).unwrap();
        let interrupter = reader.interrupter();
        let work = move || {
            pause(Duration::from_millis(200));
            interrupter.interrupt();
        };
        let thread = std::thread::Builder::new().name("interrupts".into()).spawn(work).unwrap();
        let before = soon();
        assert!(matches!(reader.next(soon()).unwrap(), ReadStep::Interrupted));
        assert!(!before.has_passed());
        thread.join().unwrap();
        fixture.append(b"abcd").unwrap();
        assert!(matches!(reader.next(soon()).unwrap(), ReadStep::Chunk(_)));
    });
}

#[test]
fn a_journal_that_is_deleted_is_not_found() {
    minute(|| {
        let fixture = Fixture::new();
        fixture.filled(2);
        fixture.double.delete(ONE);
        assert!(matches!(fixture.append(b"x"), Err(JournalError::NotFound { .. })));
        assert!(matches!(fixture.journal.head(soon()), Err(JournalError::NotFound { .. })));
        assert!(matches!(fixture.journal.fragments(soon()), Err(JournalError::NotFound { .. })));
        let mut reader = fixture.journal.read(ReadRange::follow(Offset::ZERO)).unwrap();
        assert!(matches!(reader.next(soon()), Err(JournalError::NotFound { .. })));
        assert!(matches!(reader.next(soon()), Err(JournalError::NotFound { .. })), "each time again");
    });
}

#[test]
fn fragments_that_were_lost_long_ago_are_jumped_over() {
    minute(|| {
        let fixture = Fixture::new();
        let whole = fixture.filled(12);
        let (first, middle) = fixture.double.change(ONE, |log| {
            let middle = log.lose(2, true);
            (log.lose(0, true), middle)
        });
        let part = |begin: i64, end: i64| Part::Bytes(whole[begin as usize..end as usize].to_vec());
        let head = whole.len() as i64;
        let found = parts(&fixture, ReadRange::bounded(Offset::ZERO, at(head as u64)));
        let expected = [
            Part::Jump(first.end as u64),
            part(first.end, middle.begin),
            Part::Jump(middle.end as u64),
            part(middle.end, head),
        ];
        assert!(found == expected);
        // From within a hole.
        let within = ReadRange::bounded(at(middle.begin as u64 + 5), at(middle.end as u64 + 5));
        assert!(parts(&fixture, within) == [Part::Jump(middle.end as u64), part(middle.end, middle.end + 5)]);
        let inside = ReadRange::bounded(at(middle.begin as u64 + 5), at(middle.end as u64 - 5));
        assert!(parts(&fixture, inside) == [Part::Jump(middle.end as u64 - 5)]);
        let listed = fixture.journal.fragments(soon()).unwrap();
        assert!(listed.iter().all(|fragment| fragment.begin.get() != middle.begin as u64));
    });
}

#[test]
fn a_fragment_that_a_broker_has_not_listed_yet_is_waited_for() {
    minute(|| {
        let fixture = Fixture::new();
        let whole = fixture.filled(12);
        let listed = fixture.journal.fragments(soon()).unwrap();
        let lost = fixture.double.change(ONE, |log| log.lose(2, false));
        std::thread::scope(|scope| {
            let read = scope.spawn(|| fixture.read().unwrap());
            let list = scope.spawn(|| fixture.journal.fragments(soon()).unwrap());
            pause(Duration::from_millis(500));
            fixture.double.change(ONE, |log| log.find(lost));
            assert!(read.join().unwrap() == whole);
            assert_eq!(list.join().unwrap(), listed);
        });
    });
}

#[test]
fn a_fragment_that_is_never_listed_is_neither_waited_for_forever_nor_jumped_over_while_it_may_be() {
    minute(|| {
        let fixture = Fixture::new();
        let whole = fixture.filled(12);
        let lost = fixture.double.change(ONE, |log| log.lose(2, false));
        let head = at(whole.len() as u64);
        let mut reader = fixture.journal.read(ReadRange::bounded(Offset::ZERO, head)).unwrap();
        let mut found = 0;
        let told = loop {
            match reader.next(soon()) {
                Ok(ReadStep::Chunk(chunk)) => found += chunk.len(),
                Ok(step) => panic!("{step:?}"),
                Err(error) => break error,
            }
        };
        assert_eq!(found, lost.begin as u64);
        for told in [told, fixture.journal.fragments(Deadline::after(Duration::from_secs(2))).unwrap_err()] {
            let JournalError::Unavailable { what, .. } = told else { panic!("{told:?}") };
            assert!(what.contains(&lost.begin.to_string()), "{what}");
        }
        // What lies elsewhere is read.
        let behind = ReadRange::bounded(at(lost.end as u64), head);
        let behind = read_all(&mut *fixture.journal.read(behind).unwrap()).unwrap();
        assert!(behind == whole[lost.end as usize..]);
    });
}

#[test]
fn a_listing_of_fragments_survives_what_happens_and_spans_pages() {
    minute(|| {
        let fixture = Fixture::new();
        fixture.filled(20);
        let listed = fixture.journal.fragments(soon()).unwrap();
        assert!(listed.len() > 5);
        for fault in [
            Fault::Lose,
            Fault::Code(Code::Unknown),
            Fault::Code(Code::Unavailable),
            Fault::Status(Status::NotJournalBroker),
        ] {
            fixture.double.next(Call::Fragments, fault);
            assert_eq!(fixture.journal.fragments(soon()).unwrap(), listed);
        }
        // Pages of two.
        let calls = fixture.double.count(Call::Fragments);
        fixture.double.pages(2);
        assert_eq!(fixture.journal.fragments(soon()).unwrap(), listed);
        assert_eq!(fixture.double.count(Call::Fragments) - calls, listed.len().div_ceil(2));
        fixture.double.next(Call::Fragments, Fault::Stall(Duration::from_secs(30)));
        let failed = fixture.journal.fragments(Deadline::after(Duration::from_millis(300)));
        assert!(matches!(failed, Err(JournalError::Unavailable { .. })), "{failed:?}");
    });
}

#[test]
fn any_range_is_read_as_it_was_written() {
    minute(|| {
        let fixture = Fixture::new();
        let whole = fixture.filled(30);
        for (begin, end) in [(0, 1), (2_999, 3_001), (0, 90_000), (40_000, 80_000), (89_999, 90_000), (5, 5)]
        {
            let range = ReadRange::bounded(at(begin), at(end));
            let found = read_all(&mut *fixture.journal.read(range).unwrap()).unwrap();
            assert!(found == whole[begin as usize..end as usize], "[{begin}, {end})");
        }
    });
}
