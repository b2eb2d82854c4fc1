//! The operator's tool: looks at logs, and rebuilds directories out of them.
//!
//! Results go to standard output, everything else to standard error. The exit code is that of the error's kind.

mod args;
mod at;
mod export;
mod fork;
mod hints;
mod log;
mod output;
mod place;
mod progress;
mod prune;
mod remote;
mod restore;
mod status;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use self::args::{Args, Command};
use self::output::{Output, Stop};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return output::usage(&error),
    };
    let mut output = Output::new(args.json);
    let done = run(&args, &mut output).and_then(|()| output.flush());
    output.exit_code(done)
}

fn run(args: &Args, output: &mut Output) -> Result<(), Stop> {
    match &args.command {
        Command::Restore(command) => restore::run(args, command, output),
        Command::Fork(command) => fork::run(args, command, output),
        Command::Log(command) => log::run(args, command, output),
        Command::Hints(command) => hints::run(args, command, output),
        Command::Verify => verify::run(args, output),
        Command::Status(command) => status::run(args, command, output),
        Command::Prune(command) => prune::run(args, command, output),
    }
}
