//! Goal: what an operator types does what it says, and ends with the exit code that tells what to do next.
//!
//! Method: the real binary, run on folders of fragments that are made in temporary directories, out of the golden
//! logs (`tests/golden/`, or the folder that the environment variable `RECOVERYLOG_GOLDEN` names) and of a log
//! that is written here.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise, and reads its data as it likes"
)]

#[expect(dead_code, reason = "shared with the golden tests of the library, which use all of it")]
#[path = "golden_suite/cases.rs"]
mod cases;
#[path = "cli_suite/codecs.rs"]
mod codecs;
#[path = "cli_suite/golden.rs"]
mod golden;
#[path = "cli_suite/log.rs"]
mod log;
#[path = "cli_suite/past.rs"]
mod past;
#[path = "cli_suite/place.rs"]
mod place;
#[path = "cli_suite/prune.rs"]
mod prune;
#[path = "cli_suite/restore.rs"]
mod restore;
#[path = "cli_suite/resume.rs"]
mod resume;
#[path = "cli_suite/verify.rs"]
mod verify;
