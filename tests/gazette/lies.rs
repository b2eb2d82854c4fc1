//! Answers that cannot be true.
//!
//! *Invariants.* A lie that can be seen is told as damage, with what was expected; none is handed on as content.
//!
//! *Does not* try lies that nobody can see: other bytes of the same length, where no digest is at hand.

use std::time::Duration;

use recoverylog::journal::{JournalError, ReadRange};

use crate::double::{Call, Fault};
use crate::protocol::{AppendResponse, Fragment, FragmentsResponse, ReadResponse};
use crate::{Fixture, at, soon, within};

type Change<T> = fn(&mut T);

fn minute(test: impl FnOnce() + Send + 'static) {
    within(Duration::from_secs(60), test);
}

fn commit(response: &mut AppendResponse) -> &mut Fragment {
    response.commit.as_mut().unwrap()
}

#[test]
fn an_append_is_not_acknowledged_by_what_cannot_be() {
    minute(|| {
        let fixture = Fixture::new();
        let lies: [(&str, Change<AppendResponse>); 9] = [
            ("no commit", |response| response.commit = None),
            ("shifted", |response| {
                commit(response).begin += 1;
                commit(response).end += 1;
            }),
            ("longer", |response| commit(response).end += 1),
            ("shorter", |response| commit(response).end -= 1),
            ("nothing", |response| commit(response).end = commit(response).begin),
            ("backwards", |response| commit(response).end = commit(response).begin - 1),
            ("below zero", |response| {
                commit(response).begin = -8;
                commit(response).end = -4;
            }),
            ("another journal", |response| commit(response).journal.push('x')),
            ("no journal", |response| commit(response).journal.clear()),
        ];
        let mut head = fixture.append(b"abcd").unwrap().end;
        for (what, lie) in lies {
            fixture.double.next(Call::Append, Fault::append(lie));
            let append = recoverylog::journal::Append::new(&b"efgh"[..]).at(head);
            let failed = fixture.journal.append(append, soon());
            assert!(matches!(failed, Err(JournalError::Corrupt { .. })), "{what}: {failed:?}");
            head = at(head.get() + 4);
        }
        // The head itself is asked for by an append, of nothing.
        fixture.double.next(Call::Append, Fault::append(|response| commit(response).end += 1));
        assert!(matches!(fixture.journal.head(soon()), Err(JournalError::Corrupt { .. })));
        assert_eq!(fixture.journal.head(soon()).unwrap().offset, head);
    });
}

/// Changes only messages about fragments, or only those with content.
fn of_fragment(change: impl Fn(&mut ReadResponse) + Send + Sync + 'static) -> Fault {
    Fault::read(move |_, response| {
        if response.fragment.is_some() {
            change(response);
        }
    })
}

fn of_content(change: impl Fn(&mut ReadResponse) + Send + Sync + 'static) -> Fault {
    Fault::read(move |_, response| {
        if response.fragment.is_none() && !response.content.is_empty() {
            change(response);
        }
    })
}

fn named(response: &mut ReadResponse) -> &mut Fragment {
    response.fragment.as_mut().unwrap()
}

#[test]
fn nothing_is_read_that_does_not_fit_what_was_said() {
    minute(|| {
        let fixture = Fixture::new();
        fixture.filled(10);
        let lies = [
            ("content further on", of_content(|response| response.offset += 1)),
            ("content further back", of_content(|response| response.offset -= 1)),
            ("content below zero", of_content(|response| response.offset = -1)),
            ("content of no bytes", of_content(|response| response.content.clear())),
            (
                "content past the fragment",
                of_content(|response| {
                    response.content = vec![7; 100_000].into();
                }),
            ),
            (
                "content of no fragment",
                Fault::read(|sent, response| {
                    if sent == 0 {
                        *response = ReadResponse { content: vec![1; 4].into(), ..ReadResponse::default() };
                    }
                }),
            ),
            ("a fragment of another journal", of_fragment(|response| named(response).journal.push('x'))),
            (
                "a fragment that ends before it begins",
                of_fragment(|response| {
                    named(response).begin = named(response).end + 1;
                }),
            ),
            ("a fragment below zero", of_fragment(|response| named(response).begin = -5)),
            ("a fragment elsewhere", of_fragment(|response| named(response).begin = response.offset + 1)),
            (
                "a fragment that is over",
                of_fragment(|response| {
                    response.offset = named(response).end + 1;
                }),
            ),
            (
                "a head below the fragment's end",
                of_fragment(|response| {
                    response.write_head = named(response).end - 1;
                }),
            ),
            ("a head below zero", of_fragment(|response| response.write_head = -1)),
            ("an offset before the one asked for", of_fragment(|response| response.offset -= 1)),
            ("a codec that is none", of_fragment(|response| named(response).compression_codec = 77)),
        ];
        for (what, lie) in lies {
            fixture.double.next(Call::Read, lie);
            let failed = fixture.journal.read(ReadRange::bounded(at(3_500), at(30_000))).unwrap();
            let failed = crate::read_all(&mut *{ failed }).map(|found| found.len());
            assert!(matches!(failed, Err(JournalError::Corrupt { .. })), "{what}: {failed:?}");
        }
    });
}

#[test]
fn a_head_below_zero_at_the_end_of_what_there_is_is_a_lie() {
    minute(|| {
        let fixture = Fixture::new();
        let whole = fixture.filled(2);
        fixture.double.next(
            Call::Read,
            Fault::read(|_, response| {
                if response.fragment.is_none() && response.content.is_empty() {
                    response.write_head = -1;
                }
            }),
        );
        let mut reader = fixture.journal.read(ReadRange::follow(at(whole.len() as u64))).unwrap();
        let failed = reader.next(soon());
        assert!(matches!(failed, Err(JournalError::Corrupt { .. })), "{failed:?}");
    });
}

fn spec(response: &mut FragmentsResponse, index: usize) -> &mut Fragment {
    response.fragments[index].spec.as_mut().unwrap()
}

#[test]
fn fragments_are_not_listed_that_cannot_be() {
    minute(|| {
        let fixture = Fixture::new();
        fixture.filled(10);
        let lies: [(&str, Change<FragmentsResponse>); 6] = [
            ("of another journal", |response| spec(response, 1).journal.push('x')),
            ("ends before it begins", |response| spec(response, 1).end = 0),
            ("below zero", |response| spec(response, 0).begin = -1),
            ("a codec that is none", |response| spec(response, 0).compression_codec = 77),
            ("nothing", |response| response.fragments[0].spec = None),
            ("pages that go back", |response| response.next_page_token = -1),
        ];
        for (what, lie) in lies {
            fixture.double.next(Call::Fragments, Fault::fragments(lie));
            let failed = fixture.journal.fragments(soon());
            assert!(matches!(failed, Err(JournalError::Corrupt { .. })), "{what}: {failed:?}");
        }
        // The same page for ever.
        fixture.double.plan(
            Call::Fragments,
            None,
            1_000,
            Fault::fragments(|response| response.next_page_token = 3),
        );
        let failed = fixture.journal.fragments(soon());
        assert!(matches!(failed, Err(JournalError::Corrupt { .. })), "{failed:?}");
        assert!(fixture.double.planned() > 990);
    });
}

#[test]
fn a_listing_of_journals_with_a_name_that_is_none_is_a_lie() {
    use recoverylog::ErrorKind;
    use recoverylog::journal::Journals;
    minute(|| {
        let fixture = Fixture::new();
        fixture.double.next(
            Call::List,
            Fault::list(|response| {
                response.journals[0].spec.as_mut().unwrap().name = "//".into();
            }),
        );
        assert_eq!(fixture.journals.list().unwrap_err().kind(), ErrorKind::Corrupt);
    });
}
