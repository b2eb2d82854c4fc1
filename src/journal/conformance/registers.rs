//! Cases about registers: what a check lets pass, what a commit changes, and what is looked at first.
//!
//! *Invariants.* Every case begins with an empty journal whose registers were never written.
//!
//! *Does not* test [`RegisterSet`] itself.

use bytes::Bytes;

use super::{
    Case, Cases, Outcome, assert_invalid, assert_refused, assert_wrong_offset, fail, noise, offset,
    refuses_appends,
};
use crate::ids::{Author, Offset};
use crate::journal::{Append, Appended, JournalError, Register, RegisterSelector, RegisterSet};

pub(super) const CASES: Cases = &[
    ("checks_and_changes_go_with_the_commit", checks_and_changes_go_with_the_commit),
    ("a_union_replaces_and_a_subtraction_needs_the_whole_list", union_and_subtraction),
    ("selectors_include_and_exclude", selectors_include_and_exclude),
    ("registers_are_looked_at_before_the_offset", registers_are_looked_at_before_the_offset),
    ("a_refused_append_changes_no_register", a_refused_append_changes_no_register),
    ("registers_change_only_with_content", registers_change_only_with_content),
    ("a_new_author_fences_the_old_one", a_new_author_fences_the_old_one),
];

fn set(pairs: &[(&str, &str)]) -> RegisterSet {
    pairs.iter().map(|(name, value)| Register::new(*name, *value)).collect()
}

fn content() -> Append {
    Append::new(Bytes::from_static(b"content"))
}

fn assert_mismatch(result: Result<Appended, JournalError>, found: &RegisterSet) {
    match result {
        Err(JournalError::RegisterMismatch { registers, .. }) => assert_eq!(&registers, found),
        other => fail(format_args!("expected RegisterMismatch, found {other:?}")),
    }
}

/// Runs a case only where there are registers; elsewhere, demands that a change of them is refused.
fn with_registers(case: &Case, run: fn(&Case)) -> Outcome {
    if !case.can.append {
        return refuses_appends(case);
    }
    if !case.can.registers {
        let append = Append { union: set(&[("author", "a")]), ..content() };
        assert_refused(case.append(append).map(drop));
        assert_eq!(case.head(), Offset::ZERO);
        return Outcome::Declined;
    }
    run(case);
    Outcome::Held
}

impl Case {
    fn assert_registers(&self, expected: &RegisterSet) {
        match self.journal.head(super::soon()) {
            Ok(head) => assert_eq!(&head.registers, expected),
            Err(error) => fail(error),
        }
    }

    fn set_registers(&self, registers: &RegisterSet) {
        let append = Append { union: registers.clone(), ..content() };
        assert_eq!(&self.committed(append).registers, registers);
    }
}

fn checks_and_changes_go_with_the_commit(case: &Case) -> Outcome {
    with_registers(case, |case| {
        let check = |value: &str| Some(RegisterSelector::include("author", value));
        // An empty set passes every check.
        let first = Append { check: check("another"), union: set(&[("author", "a")]), ..content() };
        assert_eq!(case.committed(first).registers, set(&[("author", "a")]));
        // From now on checks bind.
        let second = Append { check: check("another"), union: set(&[("author", "another")]), ..content() };
        assert_mismatch(case.append(second), &set(&[("author", "a")]));
        // A check that holds lets the next author in.
        let third = Append { check: check("a"), union: set(&[("author", "b")]), ..content() };
        assert_eq!(case.committed(third.clone()).registers, set(&[("author", "b")]));
        assert_mismatch(case.append(third), &set(&[("author", "b")]));
        // The set can be emptied, and passes every check again.
        let fourth = Append { check: check("b"), subtract: set(&[("author", "b")]), ..content() };
        assert_eq!(case.committed(fourth).registers, RegisterSet::EMPTY);
        let fifth = Append { check: check("another"), ..content() };
        assert_eq!(case.committed(fifth).begin, offset(3 * 7));
        case.assert_registers(&RegisterSet::EMPTY);
    })
}

fn union_and_subtraction(case: &Case) -> Outcome {
    with_registers(case, |case| {
        case.set_registers(&set(&[("aa", "1"), ("aa", "2"), ("bb", "3")]));
        let part_of_a_list = Append { subtract: set(&[("aa", "1")]), ..content() };
        let unchanged = case.committed(part_of_a_list).registers;
        assert_eq!(unchanged, set(&[("aa", "1"), ("aa", "2"), ("bb", "3")]));
        let replaced = Append { union: set(&[("aa", "4")]), ..content() };
        assert_eq!(case.committed(replaced).registers, set(&[("aa", "4"), ("bb", "3")]));
        let subtract = set(&[("aa", "4"), ("bb", "3")]);
        let subtracted_first = Append { subtract, union: set(&[("aa", "4")]), ..content() };
        assert_eq!(case.committed(subtracted_first).registers, set(&[("aa", "4")]));
        case.assert_registers(&set(&[("aa", "4")]));
    })
}

fn selectors_include_and_exclude(case: &Case) -> Outcome {
    with_registers(case, |case| {
        let registers = set(&[("aa", "1"), ("aa", "2"), ("bb", "3")]);
        case.set_registers(&registers);
        for (include, exclude, passes) in [
            (set(&[("aa", "1")]), set(&[]), true),
            (set(&[("aa", "")]), set(&[]), true),
            (set(&[("aa", "9"), ("aa", "2")]), set(&[]), true),
            (set(&[("aa", "1"), ("bb", "3")]), set(&[("cc", "")]), true),
            (set(&[]), set(&[("bb", "9")]), true),
            (set(&[("aa", "9")]), set(&[]), false),
            (set(&[("cc", "")]), set(&[]), false),
            (set(&[("aa", "1"), ("bb", "9")]), set(&[]), false),
            (set(&[("aa", "1")]), set(&[("bb", "3")]), false),
            (set(&[]), set(&[("bb", "")]), false),
        ] {
            let check = Some(RegisterSelector { include, exclude });
            let result = case.append(Append { check, ..Append::default() });
            if passes {
                assert_eq!(result.map(|appended| appended.registers).ok().as_ref(), Some(&registers));
            } else {
                assert_mismatch(result, &registers);
            }
        }
    })
}

fn registers_are_looked_at_before_the_offset(case: &Case) -> Outcome {
    with_registers(case, |case| {
        let registers = set(&[("author", "a")]);
        case.set_registers(&registers);
        for bytes in [0, 5] {
            let checked = |value: &str| {
                let check = Some(RegisterSelector::include("author", value));
                Append { check, ..Append::new(noise(0, bytes)).at(offset(3)) }
            };
            assert_mismatch(case.append(checked("b")), &registers);
            assert_wrong_offset(case.append(checked("a")), offset(3), offset(7));
        }
    })
}

fn a_refused_append_changes_no_register(case: &Case) -> Outcome {
    with_registers(case, |case| {
        let registers = set(&[("author", "a"), ("other", "x")]);
        case.set_registers(&registers);
        let change = Append { union: set(&[("author", "b")]), subtract: set(&[("other", "x")]), ..content() };
        assert_wrong_offset(case.append(change.clone().at(offset(3))), offset(3), offset(7));
        let check = Some(RegisterSelector::include("author", "b"));
        assert_mismatch(case.append(Append { check, ..change }), &registers);
        case.assert_registers(&registers);
        assert_eq!(case.committed(content()).registers, registers);
    })
}

fn registers_change_only_with_content(case: &Case) -> Outcome {
    with_registers(case, |case| {
        let registers = set(&[("author", "a")]);
        case.set_registers(&registers);
        let union = set(&[("author", "b")]);
        assert_invalid(case.append(Append { union, ..Append::default() }));
        let (subtract, content) = (registers.clone(), vec![Bytes::new()]);
        assert_invalid(case.append(Append { content, subtract, ..Append::default() }));
        case.assert_registers(&registers);
    })
}

fn a_new_author_fences_the_old_one(case: &Case) -> Outcome {
    with_registers(case, |case| {
        let (Some(old), Some(new)) = (Author::new(1234), Author::new(1337)) else { fail("authors") };
        case.committed(content().union_author(old));
        case.committed(content().check_author(old));
        let registers = case.committed(content().union_author(new)).registers;
        assert_eq!(registers, set(&[("author", "19p")]));
        let head = case.head();
        assert_mismatch(case.append(content().check_author(old)), &registers);
        assert_mismatch(case.append(content().check_author(old).at(head)), &registers);
        assert_mismatch(case.append(Append::default().check_author(old)), &registers);
        assert_eq!(case.committed(content().check_author(new)).begin, head);
    })
}
