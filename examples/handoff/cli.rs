//! What the example is told on its command line.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::shared::Shared;
use crate::{roles, story, table};

/// Loads a tree of files into a recorded database, loses the process midway, and goes on in another one.
#[derive(Debug, Parser)]
struct Args {
    /// The tree to load; it must not change meanwhile. By default the tests of this crate.
    #[arg(long)]
    input: Option<PathBuf>,
    /// Where to put everything; must not be there yet. By default a temporary directory.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// How the first primary is lost.
    #[arg(long, value_enum, default_value_t = Loss::Stop)]
    loss: Loss,
    /// After how much of the files it is lost, in percent. By default that follows from the seed.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..100))]
    at: Option<u8>,
    /// Sets the order in which files are loaded.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    shared: Shared,
    /// What this process does, where another one started it.
    #[arg(long, value_enum, hide = true, requires = "dir")]
    role: Option<Role>,
}

/// How the first primary is lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Loss {
    /// By SIGSTOP; it is continued later, and finds itself fenced.
    Stop,
    /// By SIGKILL.
    Kill,
}

/// What a process of the example does.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Role {
    Primary,
    Successor,
    Restorer,
}

pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    if let (Some(role), Some(place)) = (args.role, &args.dir) {
        return roles::run(role, place);
    }
    match tell(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("handoff: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tell(args: Args) -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let place = args.dir.unwrap_or_else(|| temporary.path().join("handoff"));
    let input = args.input.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"));
    let at = args.at.unwrap_or((5 + args.seed.wrapping_mul(37) % 91) as u8);
    let outcome = story::run(&input, &place, &args.shared, (args.loss, at, args.seed))?;
    print!("{}", table::Table(&outcome));
    Ok(())
}
