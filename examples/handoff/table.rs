//! The outcome, for people.

use std::fmt;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};

use crate::cli::Loss;
use crate::story::Outcome;

/// An outcome as a table.
pub(crate) struct Table<'a>(pub(crate) &'a Outcome);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(outcome) = self;
        let files = outcome.input.files().len();
        let amount =
            |files: usize, bytes: u64| format!("{} files, {}", HumanCount(files as u64), HumanBytes(bytes));
        let mut row = |name: &str, what: &str, time: Option<Duration>| {
            let time = time.map_or_else(String::new, |time| format!("{:9.1} ms", time.as_secs_f64() * 1e3));
            let line = format!("{name:34} {what:34} {time}");
            writeln!(f, "{}", line.trim_end())
        };
        let (took_over, restored) = (&outcome.took_over, &outcome.restored);
        let rest = files - outcome.found;

        row("input", &amount(files, outcome.input.bytes(files)), None)?;
        let first = amount(outcome.acknowledged, outcome.input.bytes(outcome.acknowledged));
        row("acknowledged by the first primary", &first, Some(outcome.first_loaded))?;
        let signal = if outcome.loss == Loss::Stop { "SIGSTOP" } else { "SIGKILL" };
        let lag = format!(
            "{} behind (at most {})",
            HumanBytes(took_over.lag_bytes),
            HumanBytes(took_over.lag_bytes_max)
        );
        row("standby, at the end of the first", &lag, None)?;
        row("hand-off: promoted", "", Some(took_over.promoted))?;
        row("hand-off: database open", "", Some(took_over.opened))?;
        row("hand-off: in all", &format!("since {signal}"), Some(outcome.usable))?;
        row(
            "checked by the successor",
            &amount(outcome.found, outcome.input.bytes(outcome.found)),
            Some(outcome.checked),
        )?;
        let more = amount(rest, outcome.input.bytes(files) - outcome.input.bytes(outcome.found));
        row("loaded by the successor", &more, Some(outcome.second_loaded))?;
        let log =
            format!("{} ops, {}", HumanCount(outcome.ops.unsigned_abs()), HumanBytes(outcome.log_bytes));
        row("log", &log, None)?;
        row("restored, live", &amount(restored.files, restored.bytes), Some(restored.played))?;
        row("restored, read of the log", &HumanBytes(restored.log_bytes).to_string(), None)?;
        row("files compared", "", Some(restored.compared))?;
        row("keys compared", &amount(files, outcome.input.bytes(files)), Some(restored.checked))?;
        if let Some(fenced) = &outcome.fenced {
            writeln!(f, "the first primary, continued: {fenced}")?;
        }
        writeln!(
            f,
            "Nothing that was acknowledged is lost: {} keys of {}, {} bytes (seed {}).",
            files,
            outcome.input.root().display(),
            outcome.input.bytes(files),
            outcome.seed
        )
    }
}
