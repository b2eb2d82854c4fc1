//! Shows on a terminal how far a command has come; quiet anywhere else.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

const FORM: &str =
    "{msg} {binary_bytes} of {binary_total_bytes} ({percent}%), {binary_bytes_per_sec}, {eta} left";

/// A line on the terminal; gone once this is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Begins to show how many of `total` bytes are done.
    pub(crate) fn begin(output: &Output, doing: &'static str, total: u64) -> Self {
        let shown = !output.is_json() && io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template(FORM).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self(ProgressBar::with_draw_target(Some(total), target).with_style(style).with_message(doing))
    }

    /// Says what is being done.
    pub(crate) fn say(&self, doing: &'static str) {
        if self.0.message() != doing {
            self.0.set_message(doing);
            self.0.reset();
        }
    }

    /// Says how many bytes there are.
    pub(crate) fn set_total(&self, total: u64) {
        self.0.set_length(total);
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
