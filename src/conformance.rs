//! What the conformance suites of the seams share: how a case ends, and how a suite reports.
//!
//! *Invariants.* Every case of a suite is run, whatever became of the one before, and is named in the report or
//! among the failures.
//!
//! *Does not* know any seam: the suites are `journal::conformance`, `vfs::conformance` and
//! `hint_store::conformance`.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a suite found, where every case holds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Cases that hold, by name.
    pub held: Vec<&'static str>,
    /// Cases about what the implementation does not declare to be able to do.
    pub declined: Vec<&'static str>,
}

/// The cases of a suite that do not hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Failures {
    /// Each case by its name, which is the promise that is broken, and what was seen.
    pub failed: Vec<(&'static str, String)>,
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cases do not hold", self.failed.len())?;
        for (case, what) in &self.failed {
            write!(f, "\n{case}: {what}")?;
        }
        Ok(())
    }
}

impl Error for Failures {}

/// How a case ended, where it did not fail.
pub(crate) enum Outcome {
    Held,
    Declined,
}

/// The report of a suite while it runs.
#[derive(Default)]
pub(crate) struct Tally {
    report: Report,
    failures: Failures,
}

impl Tally {
    pub(crate) fn add(&mut self, case: &'static str, outcome: Result<Outcome, String>) {
        match outcome {
            Ok(Outcome::Held) => self.report.held.push(case),
            Ok(Outcome::Declined) => self.report.declined.push(case),
            Err(what) => self.failures.failed.push((case, what)),
        }
    }

    /// Runs a case that says by panicking what does not hold.
    pub(crate) fn run(&mut self, case: &'static str, body: impl FnOnce() -> Outcome) {
        let outcome = catch_unwind(AssertUnwindSafe(body));
        self.add(case, outcome.map_err(|panic| message(&*panic)));
    }

    pub(crate) fn finish(self) -> Result<Report, Failures> {
        if self.failures.failed.is_empty() { Ok(self.report) } else { Err(self.failures) }
    }
}

/// Returns what a panic said.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref().copied()).unwrap_or("a panic that says nothing").to_owned()
}

#[expect(clippy::panic, reason = "a case says by panicking what does not hold")]
#[track_caller]
pub(crate) fn fail(what: impl fmt::Display) -> ! {
    panic!("{what}")
}

/// Ends a case where a value is not there.
pub(crate) trait OrFail<T> {
    #[track_caller]
    fn or_fail(self, what: &str) -> T;
}

impl<T, E: fmt::Debug> OrFail<T> for Result<T, E> {
    #[track_caller]
    fn or_fail(self, what: &str) -> T {
        match self {
            Ok(value) => value,
            Err(error) => fail(format_args!("{what}: {error:?}")),
        }
    }
}

impl<T> OrFail<T> for Option<T> {
    #[track_caller]
    fn or_fail(self, what: &str) -> T {
        match self {
            Some(value) => value,
            None => fail(format_args!("{what}: nothing")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_that_panics_fails_by_name_and_the_others_still_run() {
        let mut tally = Tally::default();
        tally.run("one", || fail("not so"));
        tally.run("two", || panic!("said {}", "literally"));
        tally.run("three", || std::panic::panic_any(3));
        tally.run("four", || Outcome::Held);
        let failures = tally.finish().unwrap_err();
        let expected = [("one", "not so"), ("two", "said literally"), ("three", "a panic that says nothing")];
        assert_eq!(failures.failed, expected.map(|(case, what)| (case, what.to_owned())));
        assert!(failures.to_string().contains("\ntwo: said literally"), "{failures}");
    }

    #[test]
    fn a_report_tells_held_from_declined() {
        let mut tally = Tally::default();
        tally.run("one", || Outcome::Held);
        tally.run("two", || Outcome::Declined);
        let report = tally.finish().unwrap();
        assert_eq!((report.held, report.declined), (vec!["one"], vec!["two"]));
    }
}
