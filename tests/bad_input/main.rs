//! Goal: no bytes, paths, directories, faults or signals from outside make the library or the tool panic, hang,
//! allocate by a length that nobody checked, write outside of the target, or take a part for the whole.
//!
//! Method: each bad input is made as real files, and tried through the library and, with the feature `cli`, through
//! the tool as a process of its own, with limited memory and time. Both must come to the same: a tree, or an error of
//! a kind, a place and an advice, with the exit code that goes with the kind. Faults of disks are injected at every
//! change in turn, and the process is hit by signals at any moment. docs/TESTING.md has the table of what is held here
//! and elsewhere.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise, makes its files as it likes, and says what it cannot try"
)]
#![cfg_attr(feature = "cli", expect(clippy::panic, reason = "what the tool printed goes with the surprise"))]

mod faults;
mod file_journal;
mod fragments;
mod hints;
mod operations;
mod paths;
mod place;
mod raw;
#[cfg(feature = "cli")]
mod signals;
mod targets;
mod writers;
