//! Loses the process that writes a recorded RocksDB, midway, and goes on in another one.
//!
//! The story is that of `handoff`, with RocksDB in the place of LevelDB: every file is a key, in a column family that is
//! created when the first file of its kind comes; a batch is a `WriteBatch` whose write-ahead log is synced; small tables
//! keep compaction running; now and then a checkpoint is taken, and the one before it removed. The restored directory
//! must have every file of it, and the checkpoint must open too.
//!
//! With `--journals gazette://..` and `--hints etcd://..` the processes share a cluster instead, where these features are built.
//!
//! Succeeds only if all of that held.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example tells what it does")]

#[path = "handoff/cli.rs"]
mod cli;
#[path = "rocksdb_handoff/database.rs"]
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
