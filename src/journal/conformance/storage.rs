//! Cases about what is stored: names, fragments, pruning, opening again.
//!
//! *Invariants.* Where a place is durable, what was acknowledged is there after it was opened again.
//!
//! *Does not* kill anything: what survives a crash is tested where it is promised.

use sha1::{Digest, Sha1};

use super::{
    Case, Cases, OrFail, Outcome, Part, Place, assert_invalid, assert_refused, fail, name, noise, offset,
    parts, soon,
};
use crate::ids::Offset;
use crate::journal::{Append, Fragment, JournalError, ReadRange, ReadStep, Register, RegisterSet};

pub(super) const CASES: Cases = &[
    ("journals_are_told_apart_by_name", journals_are_told_apart_by_name),
    ("a_journal_opened_twice_is_one_journal", a_journal_opened_twice_is_one_journal),
    ("fragments_cover_the_journal", fragments_cover_the_journal),
    ("prune_removes_whole_fragments_and_readers_jump", prune_removes_whole_fragments_and_readers_jump),
    ("prune_refuses_what_is_not_stored_and_the_head", prune_refuses_what_is_not_stored_and_the_head),
    ("a_reader_that_is_overtaken_by_prune_jumps", a_reader_that_is_overtaken_by_prune_jumps),
];

fn journals_are_told_apart_by_name(case: &Case) -> Outcome {
    let journals = &case.place.journals;
    let other = name("conformance/two");
    if !case.can.append {
        assert_eq!(journals.list().or_fail("list"), std::slice::from_ref(case.journal.name()));
        match journals.open(&other) {
            Err(JournalError::NotFound { journal }) => assert_eq!(journal, other),
            found => fail(format_args!("expected NotFound, found {found:?}")),
        }
        return Outcome::Declined;
    }
    let whole = case.filled(3);
    let second = journals.open(&other).or_fail("open");
    assert_eq!(second.name(), &other);
    assert_eq!(second.head(soon()).or_fail("head").offset, Offset::ZERO);
    second.append(Append::new(noise(9, 5)), soon()).or_fail("append");
    assert_eq!(case.content(), whole);
    assert_eq!(journals.list().or_fail("list"), [case.journal.name().clone(), other]);
    Outcome::Held
}

fn a_journal_opened_twice_is_one_journal(case: &Case) -> Outcome {
    let whole = case.filled(3);
    let again = case.place.journals.open(case.journal.name()).or_fail("open");
    assert_eq!(again.head(soon()).or_fail("head").offset, offset(whole.len() as u64));
    if !case.can.append {
        return Outcome::Declined;
    }
    let head = again.append(Append::new(noise(9, 5)), soon()).or_fail("append").end;
    assert_eq!(case.head(), head);
    assert_eq!(case.committed(Append::new(noise(8, 5))).begin, head);
    Outcome::Held
}

fn fragments_cover_the_journal(case: &Case) -> Outcome {
    let whole = case.filled_fragments(3);
    let fragments = case.fragments();
    assert!(fragments.len() >= 3, "at least three fragments: {fragments:?}");
    let mut expected = Offset::ZERO;
    for (index, fragment) in fragments.iter().enumerate() {
        assert_eq!(fragment.begin, expected, "fragments follow one another without gaps");
        assert!(fragment.begin < fragment.end, "a fragment is not empty");
        let (begin, end) = (fragment.begin.get() as usize, fragment.end.get() as usize);
        match fragment.sum {
            Some(sum) => {
                let bytes = whole.get(begin..end).or_fail("bytes");
                assert_eq!(sum, <[u8; 20]>::from(Sha1::digest(bytes)), "a sum is that of the content");
            }
            None => assert_eq!(index, fragments.len() - 1, "only the last fragment is open"),
        }
        assert!(fragment.sum.is_some() || fragment.modified_unix_secs.is_none(), "what is stored is whole");
        expected = fragment.end;
    }
    assert_eq!(expected, case.head());
    assert_eq!(case.content(), whole);
    Outcome::Held
}

/// Fills several fragments; returns the content, and the fragments that do not hold the head.
fn prunable(case: &Case) -> Result<(Vec<u8>, Vec<Fragment>), Outcome> {
    let whole = case.filled_fragments(5);
    let mut fragments = case.fragments();
    if !case.can.prune {
        assert_refused(case.journal.prune(&fragments, soon()));
        assert_eq!(case.content(), whole);
        return Err(Outcome::Declined);
    }
    fragments.pop();
    Ok((whole, fragments))
}

fn prune_removes_whole_fragments_and_readers_jump(case: &Case) -> Outcome {
    let (whole, fragments) = match prunable(case) {
        Ok(prunable) => prunable,
        Err(outcome) => return outcome,
    };
    let [first, second, third, fourth, ..] = &fragments[..] else { fail("four fragments and the head's") };
    let bytes = |begin: Offset, end: Offset| {
        Part::Bytes(whole.get(begin.get() as usize..end.get() as usize).or_fail("bytes").to_vec())
    };
    let head = case.head();
    let read = |begin, end| parts(&mut *case.reader(ReadRange::bounded(begin, end)));

    case.journal.prune(&[], soon()).or_fail("prune nothing");
    assert_eq!(case.content(), whole);
    case.journal.prune(&[first.clone(), third.clone()], soon()).or_fail("prune");
    let stored = case.fragments();
    assert!(!stored.contains(first) && !stored.contains(third) && stored.contains(second));
    assert_eq!(case.head(), head);
    let expected = [
        Part::Jump(Offset::ZERO, second.begin),
        bytes(second.begin, second.end),
        Part::Jump(third.begin, fourth.begin),
        bytes(fourth.begin, head),
    ];
    assert!(read(Offset::ZERO, head) == expected, "what is left after a prune");
    // Ranges that end, begin, or lie whole in what is gone.
    let inside = offset(first.begin.get() + 1);
    assert_eq!(read(Offset::ZERO, inside), [Part::Jump(Offset::ZERO, inside)]);
    assert_eq!(read(inside, first.end), [Part::Jump(inside, first.end)]);
    let next = offset(second.begin.get() + 1);
    assert_eq!(read(inside, next), [Part::Jump(inside, second.begin), bytes(second.begin, next)]);
    assert_eq!(case.committed(Append::new(noise(1, 10))).begin, head);
    Outcome::Held
}

fn prune_refuses_what_is_not_stored_and_the_head(case: &Case) -> Outcome {
    let (whole, fragments) = match prunable(case) {
        Ok(prunable) => prunable,
        Err(outcome) => return outcome,
    };
    let [first, second, ..] = &fragments[..] else { fail("two fragments and the head's") };
    let (mut shorter, mut later, mut other) = (first.clone(), first.clone(), first.clone());
    shorter.end = offset(shorter.end.get() - 1);
    later.begin = offset(later.begin.get() + 1);
    other.sum = Some([7; 20]);
    for changed in [shorter, later, other] {
        assert_invalid(case.journal.prune(&[changed], soon()));
    }
    let last = case.fragments().pop().or_fail("a fragment");
    if last.sum.is_none() {
        assert_invalid(case.journal.prune(&[last], soon()));
    }
    assert_eq!(case.content(), whole);
    // What was deleted before an error stays deleted.
    assert_invalid(case.journal.prune(&[first.clone(), first.clone(), second.clone()], soon()));
    let stored = case.fragments();
    assert!(!stored.contains(first) && stored.contains(second));
    Outcome::Held
}

fn a_reader_that_is_overtaken_by_prune_jumps(case: &Case) -> Outcome {
    let (whole, fragments) = match prunable(case) {
        Ok(prunable) => prunable,
        Err(outcome) => return outcome,
    };
    let mut reader = case.reader(ReadRange::bounded(Offset::ZERO, case.head()));
    case.journal.prune(&fragments, soon()).or_fail("prune");
    let kept = case.fragments().first().or_fail("the head's fragment").begin;
    // Bytes that the reader held before the prune may still come; what is missing is a jump, up to what is kept.
    let mut at = 0;
    loop {
        match reader.next(soon()).or_fail("next") {
            ReadStep::Chunk(chunk) => {
                let bytes = super::chunk_bytes(&chunk);
                let expected = whole.get(at..at + bytes.len()).or_fail("bytes");
                assert!(bytes == expected, "the bytes at {at} differ");
                at += bytes.len();
            }
            ReadStep::Jump { from, to } => {
                assert_eq!((from.get() as usize, to), (at, kept));
                at = to.get() as usize;
            }
            ReadStep::End => break,
            other => fail(format_args!("unexpected {other:?}")),
        }
    }
    assert_eq!(at, whole.len());
    Outcome::Held
}

pub(super) fn a_reopened_place_keeps_content_and_registers(case: Case) -> Outcome {
    let mut whole = case.filled_fragments(3);
    let mut fragments = case.fragments();
    let Case { place, journal, can } = case;
    let Some(reopen) = place.reopen else { return Outcome::Declined };
    let name = journal.name().clone();
    let mut registers = journal.head(soon()).or_fail("head").registers;
    drop((place.journals, journal));
    for round in 0..3 {
        let place = Place { journals: reopen(), fragment_bytes: 0, reopen: None, prepared: None };
        assert_eq!(place.journals.list().or_fail("list"), std::slice::from_ref(&name));
        let case = Case { journal: place.journals.open(&name).or_fail("open"), can, place };
        let head = case.journal.head(soon()).or_fail("head");
        assert_eq!((head.offset, &head.registers), (offset(whole.len() as u64), &registers));
        assert_eq!(case.content(), whole);
        let stored = case.fragments();
        fragments.pop();
        assert!(stored.starts_with(&fragments), "sealed fragments stay: {fragments:?}, then {stored:?}");
        fragments = stored;
        if can.append {
            let mut append = Append::new(noise(round, 1000)).at(head.offset);
            if can.registers {
                append.union = RegisterSet::from_iter([Register::new("round", round.to_string())]);
            }
            whole.extend_from_slice(&noise(round, 1000));
            registers = case.committed(append).registers;
            fragments = case.fragments();
        }
    }
    if can.append { Outcome::Held } else { Outcome::Declined }
}
