//! Goal: an implementation that breaks a promise of its seam fails the suite, by the name of that promise.
//!
//! Method: wrap a good implementation, as a third party could, and take one promise away at a time. Who keeps all of
//! them passes: the implementations of the crate beside their code, three made elsewhere in `examples/conformance.rs`.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod files;
mod hints;
mod journals;

use recoverylog::conformance::{Failures, Report};

/// Checks that a suite failed, and that what it says names each of these cases.
#[track_caller]
fn assert_names(flaw: &dyn std::fmt::Debug, result: Result<Report, Failures>, expected: &[&str]) {
    let failures = match result {
        Err(failures) => failures,
        Ok(report) => panic!("{flaw:?} passed: {report:?}"),
    };
    let text = failures.to_string();
    for case in expected {
        assert!(text.contains(&format!("\n{case}: ")), "{flaw:?} does not break {case}, but {text}");
    }
}
