//! Appends while brokers say no, fail, stall and are away.
//!
//! *Invariants.* An append that is acknowledged has committed once. One that has failed for sure has not; where nobody can
//! know, the error says so.
//!
//! *Does not* record: what an append of unknown fate was is for its owner to find out.

use std::time::Duration;

use recoverylog::journal::{Append, JournalError, Register, RegisterSelector, RegisterSet};
use recoverylog::{Deadline, Offset};
use tonic::Code;

use crate::double::{Call, Double, Fault, Options};
use crate::protocol::{Label, LabelSet, Status};
use crate::{Fixture, ONE, at, client, name, noise, quick, soon, within};
use recoverylog::journal::Journals;

const CODES: [Code; 16] = [
    Code::Cancelled,
    Code::Unknown,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
    Code::Unauthenticated,
];

fn minute(test: impl FnOnce() + Send + 'static) {
    within(Duration::from_secs(60), test);
}

#[test]
fn a_broker_that_says_that_another_will_do_is_asked_again() {
    minute(|| {
        let fixture = Fixture::new();
        for (index, status) in [
            Status::NoJournalPrimaryBroker,
            Status::NotJournalPrimaryBroker,
            Status::InsufficientJournalBrokers,
            Status::NotJournalBroker,
            Status::Suspended,
        ]
        .into_iter()
        .enumerate()
        {
            fixture.double.plan(Call::Append, None, 2, Fault::Status(status));
            let appended = fixture.append(b"abcd").unwrap();
            assert_eq!(appended.end, at(4 * index as u64 + 4), "{status:?}");
            assert_eq!(fixture.double.planned(), 0);
        }
        assert_eq!(fixture.content(), b"abcd".repeat(5));
    });
}

#[test]
fn each_status_that_is_an_answer_is_an_error_of_its_own() {
    minute(|| {
        let fixture = Fixture::new();
        fixture.append(b"abcd").unwrap();
        let fails = |status| {
            fixture.double.next(Call::Append, Fault::Status(status));
            fixture.journal.append(Append::new(&b"x"[..]).at(at(4)), soon()).unwrap_err()
        };
        assert!(matches!(fails(Status::JournalNotFound), JournalError::NotFound { .. }));
        assert!(matches!(fails(Status::NotAllowed), JournalError::NotAllowed { .. }));
        assert!(matches!(fails(Status::RegisterMismatch), JournalError::RegisterMismatch { .. }));
        assert!(matches!(fails(Status::IndexHasGreaterOffset), JournalError::Diverged { .. }));
        assert!(matches!(fails(Status::FragmentStoreUnhealthy), JournalError::Unavailable { .. }));
        let JournalError::WrongOffset { at: named, head, .. } = fails(Status::WrongAppendOffset) else {
            panic!("not a wrong offset");
        };
        assert_eq!((named, head), (at(4), at(4)));
        for status in [Status::WrongRoute, Status::ProposalMismatch, Status::OffsetNotYetAvailable] {
            assert!(matches!(fails(status), JournalError::Unknown { .. }), "{status:?}");
        }
        assert_eq!(fixture.content(), b"abcd");
    });
}

#[test]
fn what_brokers_say_for_ever_is_an_error_by_the_deadline() {
    minute(|| {
        let fixture = Fixture::new();
        fixture.double.plan(Call::Append, None, 1_000, Fault::Status(Status::NoJournalPrimaryBroker));
        let patience = Deadline::after(Duration::from_secs(15));
        assert!(matches!(fixture.append(b"abcd"), Err(JournalError::Unavailable { .. })));
        let asked = fixture.journal.head(Deadline::after(Duration::from_secs(1)));
        assert!(matches!(asked, Err(JournalError::Unavailable { .. })));
        assert!(!patience.has_passed());
        assert!(fixture.content().is_empty());
    });
}

#[test]
fn a_check_that_fails_tells_the_registers_and_a_wrong_offset_the_head() {
    minute(|| {
        let fixture = Fixture::new();
        let author = |value: &str| RegisterSet::from_iter([Register::new("author", value)]);
        let mut first = Append::new(&b"abcd"[..]);
        first.union = author("1ui");
        assert_eq!(fixture.journal.append(first, soon()).unwrap().registers, author("1ui"));
        let mut late = Append::new(&b"x"[..]).at(at(77));
        late.check = Some(RegisterSelector::include("author", "other"));
        match fixture.journal.append(late.clone(), soon()) {
            Err(JournalError::RegisterMismatch { registers, .. }) => assert_eq!(registers, author("1ui")),
            other => panic!("{other:?}"),
        }
        late.check = Some(RegisterSelector::include("author", "1ui"));
        match fixture.journal.append(late.clone(), soon()) {
            Err(JournalError::WrongOffset { at: named, head, .. }) => {
                assert_eq!((named, head), (at(77), at(4)));
            }
            other => panic!("{other:?}"),
        }
        // Brokers that have lost the registers let everybody pass.
        fixture.double.change(ONE, |log| log.registers = LabelSet::default());
        late.check = Some(RegisterSelector::include("author", "other"));
        assert!(fixture.journal.append(late.at(at(4)), soon()).unwrap().registers.is_empty());
        let other = Label { name: "author".into(), value: "2d".into(), prefix: false };
        fixture.double.change(ONE, |log| log.registers.labels.push(other));
        assert_eq!(fixture.journal.head(soon()).unwrap().registers, author("2d"));
    });
}

#[test]
fn a_journal_that_is_read_only_or_behind_its_store_says_so() {
    minute(|| {
        let fixture = Fixture::new();
        fixture.append(b"abcd").unwrap();
        fixture.double.change(ONE, |log| log.spec.flags = 1);
        assert!(matches!(fixture.append(b"x"), Err(JournalError::NotAllowed { .. })));
        assert_eq!(fixture.journal.head(soon()).unwrap().offset, at(4));
        fixture.double.change(ONE, |log| {
            log.spec.flags = 0;
            log.is_behind = true;
        });
        assert!(matches!(fixture.append(b"x"), Err(JournalError::Diverged { .. })));
        assert!(matches!(fixture.journal.head(soon()), Err(JournalError::Diverged { .. })));
        fixture.double.change(ONE, |log| {
            log.is_behind = false;
            log.store_health_error = "no bucket".into();
        });
        match fixture.append(b"x") {
            Err(JournalError::Unavailable { what, .. }) => assert!(what.contains("no bucket"), "{what}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(fixture.content(), b"abcd");
    });
}

#[test]
fn whatever_code_a_call_fails_with_at_any_message_nothing_is_said_that_is_not_so() {
    minute(|| {
        let fixture = Fixture::new();
        // In several messages.
        let content = noise(1, 200_000);
        for code in CODES {
            for after in 0..5 {
                let fault =
                    if after == 0 { Fault::Code(code) } else { Fault::after(after, Fault::Code(code)) };
                let before = fixture.content().len();
                fixture.double.next(Call::Append, fault);
                let appended = fixture.append(&content);
                assert_eq!(fixture.double.planned(), 0);
                let grown = fixture.content().len() - before;
                match appended {
                    Ok(_) => assert_eq!(grown, content.len(), "{code:?} after {after}"),
                    Err(JournalError::Unknown { .. }) => assert_eq!(grown, 0, "{code:?} after {after}"),
                    Err(JournalError::NotAllowed { .. }) => {
                        assert_eq!(grown, 0);
                        assert!(matches!(code, Code::PermissionDenied | Code::Unauthenticated), "{code:?}");
                    }
                    Err(JournalError::Invalid { .. }) => {
                        assert_eq!(grown, 0);
                        let is_final = [Code::InvalidArgument, Code::OutOfRange, Code::Unimplemented];
                        assert!(is_final.contains(&code), "{code:?}");
                    }
                    Err(error) => panic!("{code:?} after {after}: {error:?}"),
                }
            }
        }
    });
}

#[test]
fn an_append_that_has_committed_and_was_answered_otherwise_is_of_unknown_fate() {
    minute(|| {
        let fixture = Fixture::new();
        let mut len = 0;
        let codes = CODES.into_iter().filter(|code| {
            // Brokers say these before they do anything.
            !matches!(
                code,
                Code::PermissionDenied
                    | Code::Unauthenticated
                    | Code::InvalidArgument
                    | Code::OutOfRange
                    | Code::Unimplemented
            )
        });
        for fault in codes.map(Fault::Code).chain([Fault::Lose]) {
            fixture.double.next(Call::Append, Fault::committed(fault.clone()));
            let failed = fixture.append(b"abcd");
            assert!(matches!(failed, Err(JournalError::Unknown { .. })), "{fault:?}: {failed:?}");
            len += 4;
            assert_eq!(fixture.content().len(), len, "{fault:?}");
            // One of nothing can be asked again.
            fixture.double.next(Call::Append, Fault::committed(fault));
            assert_eq!(fixture.journal.head(soon()).unwrap().offset, at(len as u64));
        }
    });
}

#[test]
fn a_connection_that_is_lost_before_the_commit_commits_nothing_and_is_made_again() {
    minute(|| {
        let fixture = Fixture::new();
        for fault in [Fault::Lose, Fault::after(1, Fault::Lose), Fault::after(2, Fault::Lose)] {
            fixture.double.next(Call::Append, fault.clone());
            let failed = fixture.append(b"abcd");
            assert!(matches!(failed, Err(JournalError::Unknown { .. })), "{fault:?}: {failed:?}");
            fixture.double.next(Call::Append, fault);
            assert_eq!(fixture.journal.head(soon()).unwrap().offset, at(0));
        }
        assert_eq!(fixture.append(b"abcd").unwrap().end, at(4));
        assert_eq!(fixture.double.accepted(0), 7);
    });
}

#[test]
fn a_stall_ends_by_the_deadline_and_what_comes_after_it_works() {
    minute(|| {
        let fixture = Fixture::new();
        let long = Fault::Stall(Duration::from_secs(30));
        for fault in [long.clone(), Fault::after(1, long.clone()), Fault::committed(long)] {
            let before = Deadline::after(Duration::from_secs(10));
            fixture.double.next(Call::Append, fault.clone());
            let failed = fixture.append(b"abcd");
            assert!(matches!(failed, Err(JournalError::Unknown { .. })), "{fault:?}: {failed:?}");
            assert!(!before.has_passed(), "{fault:?}");
            fixture.journal.head(soon()).unwrap();
        }
        assert_eq!(fixture.content(), b"abcd", "only the last one had committed");
    });
}

#[test]
fn appends_commit_in_the_order_in_which_they_were_submitted() {
    minute(|| {
        let fixture = Fixture::new();
        fixture.double.next(Call::Append, Fault::Stall(Duration::from_millis(100)));
        let submit = |index: u8| fixture.journal.submit(Append::new(vec![index; 10]));
        let submitted: Vec<_> = (0..50).map(submit).collect();
        for (index, mut one) in submitted.into_iter().enumerate() {
            assert_eq!(one.wait(soon()).unwrap().unwrap().begin, at(10 * index as u64));
        }
    });
}

#[test]
fn brokers_that_are_down_are_unavailable_until_one_is_up() {
    minute(|| {
        let fixture = Fixture::new();
        fixture.append(b"abcd").unwrap();
        fixture.double.down(0);
        let before = Deadline::after(Duration::from_secs(15));
        let failed = fixture.append(b"efgh");
        assert!(
            matches!(failed, Err(JournalError::Unavailable { .. } | JournalError::Unknown { .. })),
            "{failed:?}"
        );
        let failed = fixture.append(b"efgh");
        assert!(matches!(failed, Err(JournalError::Unavailable { .. })), "{failed:?}");
        assert!(!before.has_passed());
        fixture.double.up(0);
        assert_eq!(fixture.append(b"ijkl").unwrap().begin, at(4));
        assert_eq!(fixture.content(), b"abcdijkl");
    });
}

#[test]
fn an_append_that_waits_for_a_broker_goes_on_when_it_is_up() {
    minute(|| {
        let mut options = quick();
        options.append_max = Duration::from_secs(20);
        let fixture = Fixture::with(Options::default(), options);
        fixture.double.down(0);
        crate::pause(Duration::from_millis(100));
        let mut waiting = fixture.journal.submit(Append::new(&b"abcd"[..]));
        assert!(waiting.wait(Deadline::after(Duration::from_millis(300))).is_none());
        fixture.double.up(0);
        assert_eq!(waiting.wait(soon()).unwrap().unwrap().end, at(4));
    });
}

#[test]
fn another_broker_is_asked_where_one_is_down() {
    minute(|| {
        let double = Double::start(Options { brokers: 3, primary: 1, ..Options::default() });
        double.down(0);
        let journals = client(&double, &[0, 1, 2], quick());
        let journal = journals.open(&name(ONE)).unwrap();
        journal.append(Append::new(&b"abcd"[..]), soon()).unwrap();
        // The primary goes, and another becomes it.
        double.down(1);
        double.change(ONE, |log| log.primary = None);
        let failed = journal.append(Append::new(&b"efgh"[..]), soon());
        assert!(failed.is_err(), "{failed:?}");
        double.change(ONE, |log| log.primary = Some(2));
        assert_eq!(journal.append(Append::new(&b"ijkl"[..]), soon()).unwrap().begin, at(4));
    });
}

#[test]
fn a_primary_that_is_named_is_asked_and_found_again_when_it_has_moved() {
    minute(|| {
        let double = Double::start(Options { brokers: 3, primary: 2, proxies: false, ..Options::default() });
        let journals = client(&double, &[0], quick());
        let journal = journals.open(&name(ONE)).unwrap();
        for primary in [2, 1, 0, 2] {
            double.change(ONE, |log| log.primary = Some(primary));
            journal.append(Append::new(&b"abcd"[..]), soon()).unwrap();
            let calls = double.calls();
            assert_eq!(calls.last().unwrap().broker, primary);
        }
        assert_eq!(double.content(ONE).len(), 16);
    });
}

#[test]
fn what_brokers_refuse_to_create_or_to_list_is_a_typed_error() {
    minute(|| {
        let fixture = Fixture::new();
        let mut new = crate::new_journal();
        new.fragment_bytes = 1;
        let failed = fixture.journals.create(&name("acme/small"), &new, soon()).unwrap_err();
        assert!(failed.to_string().contains("invalid Length (1;"), "{failed}");
        let there = fixture.journals.create(&name(ONE), &crate::new_journal(), soon());
        assert!(there.unwrap_err().to_string().contains("is there"));
        for code in [Code::Unavailable, Code::Unknown, Code::Internal] {
            fixture.double.next(Call::List, Fault::Code(code));
            assert_eq!(fixture.journals.list().unwrap(), [name(ONE)], "{code:?}");
            fixture.double.next(Call::List, Fault::after(1, Fault::Code(code)));
            assert_eq!(fixture.journals.list().unwrap(), [name(ONE)], "{code:?}");
        }
        fixture.double.next(Call::List, Fault::Lose);
        assert_eq!(fixture.journals.list().unwrap(), [name(ONE)]);
        fixture.double.next(Call::List, Fault::Code(Code::PermissionDenied));
        assert!(fixture.journals.list().is_err());
        fixture.double.plan(Call::List, None, 1_000, Fault::Code(Code::Unavailable));
        let gone = fixture.journals.open(&name("acme/other"));
        assert!(matches!(gone, Err(JournalError::Unavailable { .. })), "{gone:?}");
    });
}

#[test]
fn a_journal_that_was_created_though_the_answer_was_lost_is_opened() {
    minute(|| {
        let fixture = Fixture::new();
        for (index, fault) in [
            Fault::Lose,
            Fault::Code(Code::Unavailable),
            Fault::Code(Code::Unknown),
            Fault::committed(Fault::Lose),
            Fault::committed(Fault::Code(Code::Unavailable)),
            Fault::committed(Fault::Code(Code::Unknown)),
        ]
        .into_iter()
        .enumerate()
        {
            fixture.double.next(Call::Apply, fault.clone());
            let opened = fixture.journals.open(&name(&format!("acme/new-{index}")));
            let may_fail = matches!(fault, Fault::Code(Code::Unknown));
            assert!(opened.is_ok() || may_fail, "{fault:?}: {opened:?}");
        }
    });
}

#[test]
fn only_a_recovery_log_is_opened() {
    minute(|| {
        let fixture = Fixture::new();
        let relabel = |value: Option<&str>| {
            let label =
                |value: &str| Label { name: "content-type".into(), value: value.into(), prefix: false };
            let labels = LabelSet { labels: value.map(label).into_iter().collect() };
            fixture.double.change(ONE, |log| log.spec.labels = Some(labels));
            fixture.journals.open(&name(ONE))
        };
        for other in [None, Some("application/x-ndjson"), Some("")] {
            assert!(matches!(relabel(other), Err(JournalError::Invalid { .. })), "{other:?}");
        }
        relabel(Some("application/x-gazette-recoverylog")).unwrap();
    });
}

#[test]
fn a_head_that_is_reset_is_that_of_what_is_stored() {
    minute(|| {
        let fixture = Fixture::new();
        assert_eq!(fixture.journals.reset_head(&name(ONE), soon()).unwrap(), Offset::ZERO);
        let whole = fixture.filled(5);
        let end = fixture.journals.reset_head(&name(ONE), soon()).unwrap();
        assert_eq!(end.get(), whole.len() as u64);
        assert!(fixture.content() == whole, "nothing is added");
        assert_eq!(fixture.append(b"abcd").unwrap().begin, end);
        let missing = fixture.journals.reset_head(&name("acme/none"), soon()).unwrap_err();
        assert_eq!(missing.kind(), recoverylog::ErrorKind::Invalid, "{missing}");
    });
}
