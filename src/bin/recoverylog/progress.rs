//! Shows on a terminal how far a command has come; quiet anywhere else.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{BinaryBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::output::Output;

const FORM: &str = "{msg} {binary_bytes} of {binary_total_bytes} ({percent}%){pace}";

/// How long a command works before its rate says anything.
const SETTLED: Duration = Duration::from_secs(1);

/// A line on the terminal; gone once this is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Begins to show how many of `total` bytes are done.
    pub(crate) fn begin(output: &Output, doing: &'static str, total: u64) -> Self {
        let shown = !output.is_json() && io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template(FORM).unwrap_or_else(|_| ProgressStyle::default_bar());
        let style = style.with_key("pace", |state: &ProgressState, line: &mut dyn Write| {
            let pace = pace(state.pos(), state.len().unwrap_or_default(), state.elapsed());
            // A line that cannot be written is not shown.
            let _ = line.write_str(&pace);
        });
        Self(ProgressBar::with_draw_target(Some(total), target).with_style(style).with_message(doing))
    }

    /// Says what is being done now, and to how many bytes.
    pub(crate) fn set_phase(&self, doing: &'static str, total: u64) {
        if self.0.length() == Some(total) && self.0.message() == doing {
            return;
        }
        self.0.update(|state| {
            state.set_pos(0);
            state.set_len(total);
        });
        self.0.reset_elapsed();
        self.0.set_message(doing);
    }

    /// Says how many bytes are done.
    pub(crate) fn set(&self, done: u64) {
        self.0.set_position(done);
    }

    /// Says that `more` bytes are done.
    pub(crate) fn add(&self, more: u64) {
        self.0.inc(more);
    }

    /// Removes the line.
    pub(crate) fn end(&self) {
        self.0.finish_and_clear();
    }
}

/// Tells the mean rate so far, and the time that is left at this rate; nothing while there is little to go by.
fn pace(done: u64, total: u64, elapsed: Duration) -> String {
    if done >= total && total > 0 {
        return ", finishing".to_owned();
    }
    if done == 0 || elapsed < SETTLED {
        return String::new();
    }
    let per_second = done as f64 / elapsed.as_secs_f64();
    // Whatever is promised by bytes from outside, a duration holds thirty years.
    let left = Duration::from_secs_f64(((total - done) as f64 / per_second).ceil().min(1e9));
    format!(", {}/s, {:#} left", BinaryBytes(per_second as u64), HumanDuration(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_told_once_there_is_something_to_go_by() {
        let second = Duration::from_secs(1);
        assert_eq!(pace(0, 400 << 20, 9 * second), "");
        assert_eq!(pace(1, 400 << 20, second / 2), "");
        assert_eq!(pace(100 << 20, 400 << 20, 2 * second), ", 50.00 MiB/s, 6s left");
        assert_eq!(pace(1, u64::MAX, second).matches(" left").count(), 1);
        assert_eq!(pace(400 << 20, 400 << 20, 2 * second), ", finishing");
        assert_eq!(pace(0, 0, 2 * second), "", "nothing has begun");
    }
}
