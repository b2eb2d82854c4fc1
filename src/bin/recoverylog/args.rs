//! What the tool can be asked.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use recoverylog::JournalName;
use recoverylog::player::Bound;

use crate::at;
use crate::remote::{self, HintsAt, JournalsAt};

/// Look at recovery logs, and rebuild directories out of them
#[derive(Debug, Parser)]
#[command(name = "recoverylog", version, disable_help_subcommand = true, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Say where journals live: ./dir, file:///dir, or gazette://host:port (gazettes:// with TLS)
    #[arg(long, value_name = "URL", global = true, value_parser = remote::journals)]
    pub(crate) journals: Option<JournalsAt>,

    /// Name the log
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) log: Option<JournalName>,

    /// Read hints: a file, in JSON or protobuf, or the best set of a directory of them, or of
    /// etcd://host:port/PREFIX/SHARD (etcds:// with TLS)
    #[arg(long, value_name = "FILE|DIR|URL", global = true, value_parser = remote::hints)]
    pub(crate) hints: Option<HintsAt>,

    #[cfg(any(feature = "etcd", feature = "gazette"))]
    #[command(flatten)]
    pub(crate) remote: remote::Remote,

    /// Print JSON: results on standard output, an error as one object on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  try again later, or after a look at the local file system
  2  mend the call
  3  data are missing or damaged: use other hints, or another copy
  4  another author took over";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Rebuild a directory, by hints or from the first byte of a log
    Restore(Restore),
    /// Go on in a new log where another one was at a point of its history
    Fork(Fork),
    /// List what a log holds
    Log(Log),
    /// Show what hints need, by file
    Hints(Hints),
    /// Check fragments, frames, the chain of operations, payloads and hints
    ///
    /// Checks the log or the hints that are named, and every log where none is
    Verify,
    /// Show what is stored of a log, who needs it, and what a recovery would read
    Status(Sources),
    /// Remove the fragments of a log that nobody needs
    ///
    /// Name the hints of every shard that reads the log: the one that records it with --hints, those that were forked
    /// off it with --also. Whoever is forgotten loses what it needs. Nothing is removed unless every set can be read,
    /// and everything that it needs is there
    Prune(Prune),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Restore {
    /// Rebuild into this directory, which is missing or empty
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// Do nothing where the directory is there and not empty
    #[arg(long)]
    pub(crate) if_missing: bool,

    /// Print what would be read, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Check the sums of the fragments that happen to be read whole, or first of all those of every fragment that
    /// is needed
    #[arg(long, value_enum, default_value_t = Verify::Read)]
    pub(crate) verify: Verify,

    /// Use so many threads to read, and so many to write
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) parallelism: Option<u16>,

    /// Rebuild the directory as it was at a point: 2026-11-22T10:00:00Z, @1795341600, mark:NAME, seq:N or offset:N
    #[arg(long, value_name = "POINT", value_parser = at::parse)]
    pub(crate) at: Option<Bound>,

    /// Use the hint sets of this directory too, or of this address
    #[arg(long, value_name = "DIR|URL", requires = "at", value_parser = remote::hints)]
    pub(crate) snapshots: Option<HintsAt>,

    /// Go on from where an earlier restore with this option, or a service that keeps its state there, has left the
    /// directory: read what it lacks. Nobody may have the directory open
    #[arg(long, conflicts_with_all = ["at", "if_missing"])]
    pub(crate) resume: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Fork {
    /// Go on at this point: 2026-11-22T10:00:00Z, @1795341600, mark:NAME, seq:N or offset:N
    #[arg(long, value_name = "POINT", value_parser = at::parse)]
    pub(crate) at: Bound,

    /// Name the new log, in the same journals
    #[arg(long, value_name = "NAME")]
    pub(crate) to: JournalName,

    /// Store hints of the new log in this directory, or at this address
    #[arg(long, value_name = "DIR|URL", value_parser = remote::hints)]
    pub(crate) to_hints: HintsAt,

    /// Rebuild the directory here, which is missing or empty
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// Use the hint sets of this directory too, or of this address
    #[arg(long, value_name = "DIR|URL", value_parser = remote::hints)]
    pub(crate) snapshots: Option<HintsAt>,
}

/// Which fragments a restore checks against the sums in their names.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Verify {
    /// Those that are read whole
    Read,
    /// All that are needed, in whole, before anything is written
    Full,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Hints {
    /// Write the hints, and the logs that they name, as plain files into this folder, which is missing
    #[arg(long, value_name = "DIR", requires = "journals")]
    pub(crate) export: Option<PathBuf>,
}

/// Everybody who reads a log.
#[derive(Debug, clap::Args)]
pub(crate) struct Sources {
    /// Keep what the hints of another shard need, such as one that was forked off the log; may be repeated
    #[arg(long, value_name = "DIR|URL", value_parser = remote::hints)]
    pub(crate) also: Vec<HintsAt>,

    /// Keep what these snapshots need; may be repeated
    #[arg(long, value_name = "DIR|URL", value_parser = remote::hints)]
    pub(crate) snapshots: Vec<HintsAt>,

    /// Keep the log whole from the newest set on that is so many hours old, so that every later point can be restored
    #[arg(long, value_name = "HOURS")]
    pub(crate) keep_whole: Option<u32>,

    /// Say who goes on with the log; always prune a log with the same setting
    #[arg(long, value_enum, default_value_t = Compat::Exact)]
    pub(crate) compat: Compat,
}

/// Who goes on with a log that is pruned.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Compat {
    /// This library: whatever hints leave out is free
    Exact,
    /// The reference in Go too: from the creation of a live file to its last operation all is kept
    Go,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    #[command(flatten)]
    pub(crate) sources: Sources,

    /// Say for each fragment why it would be kept or removed, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Append what is removed, and by which sets, to this file; by default to .recoverylog/pruned.jsonl of the journals
    #[arg(long, value_name = "FILE")]
    pub(crate) audit: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Log {
    /// Begin at this offset of the log
    #[arg(long, value_name = "OFFSET")]
    pub(crate) from: Option<u64>,

    /// Leave out what begins at this offset or later
    #[arg(long, value_name = "OFFSET")]
    pub(crate) to: Option<u64>,
}
