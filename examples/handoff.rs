//! Loses the process that writes a recorded LevelDB, midway, and goes on in another one.
//!
//! A primary loads a tree of files into a LevelDB, every file a key, and acknowledges each batch after its barrier. A
//! standby follows. Midway the primary is stopped or killed. The standby takes over, must have every acknowledged
//! key byte for byte, and loads the rest. The stopped primary is continued, and must find itself fenced. In the end
//! the log is restored into a third directory, which must have every key and every file. Each role is a process of
//! its own, started from this executable; they share the journal, the hints, and pipes to this one.
//!
//! With `--journals gazette://..` and `--hints etcd://..` the processes share a cluster instead, where these features are built.
//!
//! Succeeds only if all of that held.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example tells what it does")]

#[path = "handoff/cli.rs"]
mod cli;
#[path = "handoff/database.rs"]
mod database;
#[path = "handoff/input.rs"]
mod input;
#[path = "handoff/roles.rs"]
mod roles;
#[path = "handoff/shared.rs"]
mod shared;
#[path = "handoff/story.rs"]
mod story;
#[path = "handoff/table.rs"]
mod table;
#[path = "handoff/worker.rs"]
mod worker;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
