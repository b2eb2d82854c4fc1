//! Cases about appends: where they land, what they refuse, and in which order they commit.
//!
//! *Invariants.* Every case begins with an empty journal.
//!
//! *Does not* use registers.

use std::sync::{Arc, Barrier, Mutex, PoisonError};

use bytes::Bytes;

use super::{Case, Cases, OrFail, Outcome, assert_wrong_offset, fail, noise, offset, refuses_appends, soon};
use crate::completion::Completion;
use crate::ids::Offset;
use crate::journal::{Append, Appended, JournalError, RegisterSet};

pub(super) const CASES: Cases = &[
    ("appends_land_where_they_say", appends_land_where_they_say),
    ("an_append_at_another_offset_commits_nothing", an_append_at_another_offset_commits_nothing),
    ("content_in_pieces_commits_as_one", content_in_pieces_commits_as_one),
    ("a_large_append_commits_whole", a_large_append_commits_whole),
    ("a_barrier_checks_the_offset_and_commits_nothing", a_barrier_checks_the_offset_and_commits_nothing),
    ("a_barrier_resolves_after_everything_before_it", a_barrier_resolves_after_everything_before_it),
    ("submissions_commit_in_their_order", submissions_commit_in_their_order),
    ("what_follows_a_refused_submission_is_refused", what_follows_a_refused_submission_is_refused),
    ("a_dropped_completion_does_not_cancel", a_dropped_completion_does_not_cancel),
    ("one_of_racing_appends_wins_each_head", one_of_racing_appends_wins_each_head),
    ("concurrent_appends_are_never_interleaved", concurrent_appends_are_never_interleaved),
];

fn appends_land_where_they_say(case: &Case) -> Outcome {
    if !case.can.append {
        return refuses_appends(case);
    }
    assert_eq!(case.head(), Offset::ZERO, "a new journal is empty");
    let mut whole = Vec::new();
    for index in 0..40 {
        let content = noise(index, 1 + index as usize * 13);
        let begin = offset(whole.len() as u64);
        let append = Append::new(content.clone());
        let appended = case.committed(if index % 2 == 0 { append } else { append.at(begin) });
        assert_eq!(appended.begin, begin);
        whole.extend_from_slice(&content);
        assert_eq!(case.head(), appended.end);
    }
    assert_eq!(case.content(), whole);
    Outcome::Held
}

fn an_append_at_another_offset_commits_nothing(case: &Case) -> Outcome {
    if !case.can.append {
        return refuses_appends(case);
    }
    let whole = case.filled(3);
    let head = case.head();
    let mut wrong = vec![1, head.get() - 1, head.get() + 1, Offset::MAX.get()];
    if case.can.at_zero {
        wrong.push(0);
    }
    for at in wrong.into_iter().map(offset) {
        assert_wrong_offset(case.append(Append::new(noise(1, 10)).at(at)), at, head);
        assert_wrong_offset(case.append(Append::default().at(at)), at, head);
    }
    assert_eq!(case.head(), head);
    assert_eq!(case.content(), whole);
    assert_eq!(case.committed(Append::new(noise(1, 10)).at(head)).begin, head);
    Outcome::Held
}

fn content_in_pieces_commits_as_one(case: &Case) -> Outcome {
    if !case.can.append {
        return refuses_appends(case);
    }
    let mut append = Append::new(noise(0, 5));
    append.content.extend([Bytes::new(), noise(1, 7000), noise(2, 1), Bytes::new()]);
    let whole = append.content.concat();
    let appended = case.committed(append);
    assert_eq!((appended.begin, appended.end), (Offset::ZERO, offset(7006)));
    assert_eq!(case.content(), whole);
    Outcome::Held
}

fn a_large_append_commits_whole(case: &Case) -> Outcome {
    if !case.can.append {
        return refuses_appends(case);
    }
    let whole = noise(9, 3 << 20);
    case.committed(Append::new(whole.clone()));
    assert!(case.content() == whole, "the content of a large append differs");
    Outcome::Held
}

fn a_barrier_checks_the_offset_and_commits_nothing(case: &Case) -> Outcome {
    if !case.can.append {
        return refuses_appends(case);
    }
    let nothing = Appended::new(Offset::ZERO, Offset::ZERO, RegisterSet::EMPTY);
    assert_eq!(case.committed(Append::default()), nothing, "a barrier on an empty journal");
    let empty_pieces = Append { content: vec![Bytes::new(), Bytes::new()], ..Append::default() };
    assert_eq!(case.committed(empty_pieces), nothing, "a barrier of empty pieces");

    let head = case.committed(Append::new(noise(0, 100))).end;
    let barrier = case.committed(Append::default().at(head));
    assert_eq!((barrier.begin, barrier.end), (head, head));
    assert_wrong_offset(case.append(Append::default().at(offset(99))), offset(99), head);
    assert_eq!(case.head(), head);
    Outcome::Held
}

fn a_barrier_resolves_after_everything_before_it(case: &Case) -> Outcome {
    if !case.can.append {
        return refuses_appends(case);
    }
    let pending =
        (0..20).map(|index| case.journal.submit(Append::new(noise(index, 500)))).collect::<Vec<_>>();
    let barrier = case.committed(Append::default());
    assert_eq!(barrier.begin, offset(20 * 500));
    assert!(pending.iter().all(Completion::is_resolved), "the barrier came first");
    Outcome::Held
}

fn submissions_commit_in_their_order(case: &Case) -> Outcome {
    if !case.can.append {
        return refuses_appends(case);
    }
    let mut whole = noise(100, 10).to_vec();
    case.committed(Append::new(noise(100, 10)));
    let order = Arc::new(Mutex::new(Vec::new()));
    for index in 0..100 {
        let content = noise(index, 1 + index as usize * 31 % 700);
        let append = Append::new(content.clone()).at(offset(whole.len() as u64));
        let order = Arc::clone(&order);
        case.journal.submit(append).on_ready(move |result| {
            order.lock().unwrap_or_else(PoisonError::into_inner).push(result.map(|appended| appended.end));
        });
        whole.extend_from_slice(&content);
    }
    case.committed(Append::default());
    let order = order.lock().unwrap_or_else(PoisonError::into_inner);
    let ends = order.iter().map(|end| end.as_ref().or_fail("a pipelined append").get()).collect::<Vec<_>>();
    assert_eq!(ends.len(), 100, "every callback ran before the barrier resolved");
    assert!(ends.is_sorted(), "callbacks ran in the order of commits: {ends:?}");
    assert_eq!(case.content(), whole);
    Outcome::Held
}

fn what_follows_a_refused_submission_is_refused(case: &Case) -> Outcome {
    if !case.can.append {
        return refuses_appends(case);
    }
    let head = case.committed(Append::new(noise(0, 100))).end;
    // A pipeline that expects an append of 50 bytes at 100, which names 101 and is refused.
    let results = [(101, 50), (150, 10), (160, 0), (160, 10)]
        .map(|(at, len)| (offset(at), case.journal.submit(Append::new(noise(at, len)).at(offset(at)))));
    for (at, mut pending) in results {
        assert_wrong_offset(pending.wait(soon()).or_fail("a refusal"), at, head);
    }
    assert_eq!(case.head(), head);
    Outcome::Held
}

fn a_dropped_completion_does_not_cancel(case: &Case) -> Outcome {
    if !case.can.append {
        return refuses_appends(case);
    }
    drop(case.journal.submit(Append::new(noise(0, 100))));
    assert_eq!(case.committed(Append::default()).begin, offset(100));
    assert_eq!(case.content(), noise(0, 100));
    Outcome::Held
}

const RACERS: usize = 4;

fn one_of_racing_appends_wins_each_head(case: &Case) -> Outcome {
    const ROUNDS: usize = 50;
    if !case.can.append {
        return refuses_appends(case);
    }
    let mut whole = noise(77, 10).to_vec();
    case.committed(Append::new(noise(77, 10)));
    let start = Barrier::new(RACERS);
    let results = Mutex::new(vec![Vec::new(); ROUNDS]);
    in_threads(|racer| {
        for round in 0..ROUNDS {
            start.wait();
            let head = case.journal.head(soon());
            // All have seen the head before the first of them moves it. Nobody panics between two of these
            // waits, or the others would wait forever.
            start.wait();
            let append = Append::new(noise((round * RACERS + racer) as u64, 100 + racer));
            let result = head.and_then(|head| case.append(append.at(head.offset)));
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(round) = results.get_mut(round) {
                round.push((racer, result));
            }
        }
    });
    let rounds = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (round, results) in rounds.into_iter().enumerate() {
        let head = offset(whole.len() as u64);
        let mut winners = results.iter().filter_map(|(racer, result)| Some((racer, result.as_ref().ok()?)));
        let (winner, appended) = winners.next().or_fail("a round that nobody won");
        assert_eq!(winners.next(), None, "a round with two winners");
        assert_eq!(appended.begin, head);
        let after = appended.end;
        whole.extend_from_slice(&noise((round * RACERS + winner) as u64, 100 + winner));
        for result in results.into_iter().map(|(_, result)| result).filter(Result::is_err) {
            assert_wrong_offset(result, head, after);
        }
    }
    assert_eq!(case.content(), whole);
    Outcome::Held
}

fn concurrent_appends_are_never_interleaved(case: &Case) -> Outcome {
    const APPENDS: usize = 40;
    if !case.can.append {
        return refuses_appends(case);
    }
    let all = Mutex::new(Vec::new());
    in_threads(|racer| {
        let mut at = None;
        let (mut done, mut refused) = (0, 0);
        while done < APPENDS {
            let content = noise((racer * 1000 + done) as u64, 1 + (racer * 389 + done * 101) % 3000);
            let mut append = Append::new(content.clone());
            // Two of the four name where they append, and follow the head they are told of.
            append.at = at.filter(|_| racer % 2 == 0);
            match case.append(append) {
                Ok(appended) => {
                    at = Some(appended.end);
                    done += 1;
                    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                    all.push((appended.begin, appended.end, content));
                }
                Err(JournalError::WrongOffset { head, .. }) => {
                    at = Some(head);
                    refused += 1;
                    assert!(refused <= RACERS * APPENDS, "refused more often than others moved the head");
                }
                Err(other) => fail(other),
            }
        }
    });
    let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.sort_by_key(|&(begin, ..)| begin);
    let content = case.content();
    let mut expected = Offset::ZERO;
    for (begin, end, sent) in all {
        assert_eq!(begin, expected, "commits follow one another without gaps");
        let found = content.get(begin.get() as usize..end.get() as usize);
        assert!(found == Some(&sent[..]), "the bytes at {begin} are not those of their append");
        expected = end;
    }
    assert_eq!(case.head(), expected);
    Outcome::Held
}

fn in_threads(work: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        let threads = (0..RACERS).map(|racer| {
            let work = &work;
            let thread = std::thread::Builder::new().name(format!("racer-{racer}"));
            thread.spawn_scoped(scope, move || work(racer)).or_fail("a thread")
        });
        for thread in threads.collect::<Vec<_>>() {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}
