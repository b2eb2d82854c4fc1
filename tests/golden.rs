//! Goal: what the reference wrote is read as the reference reads it, or better where it falls short.
//!
//! Method: every case folder and every vector file of `tests/golden/`, or of the folder that the environment
//! variable `RECOVERYLOG_GOLDEN` names, is played through the library. Whatever is found there is run; a folder
//! without a case or a vector fails.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise, and reads its data as it likes"
)]

#[path = "golden_suite/cases.rs"]
mod cases;
#[path = "golden_suite/check.rs"]
mod check;
#[path = "golden_suite/fragments.rs"]
mod fragments;
#[path = "golden_suite/play.rs"]
mod play;
#[path = "golden_suite/vectors.rs"]
mod vectors;
