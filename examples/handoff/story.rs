//! What happens, in order.

use std::io;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use recoverylog::ErrorKind;
use recoverylog::vfs::{FileSystem, OsFs};
use rustix::process::Signal;

use crate::cli::Loss;
use crate::input::Input;
use crate::roles::{Report, Restored, TookOver};
use crate::shared::Shared;
use crate::worker::{Worker, timed};

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) loss: Loss,
    pub(crate) seed: u64,
    pub(crate) input: Input,
    /// Files that the first primary has acknowledged, those included that were heard of after the order.
    pub(crate) acknowledged: usize,
    pub(crate) first_loaded: Duration,
    /// From the signal to a database that is open elsewhere.
    pub(crate) usable: Duration,
    pub(crate) took_over: TookOver,
    /// Files that the successor found.
    pub(crate) found: usize,
    pub(crate) checked: Duration,
    pub(crate) second_loaded: Duration,
    /// What the first primary said when it was continued.
    pub(crate) fenced: Option<String>,
    pub(crate) ops: i64,
    pub(crate) log_bytes: u64,
    pub(crate) restored: Restored,
}

/// Tells the story; fails where anything acknowledged is missing, or the first primary is not fenced.
pub(crate) fn run(
    root: &Path,
    place: &Path,
    shared: &Shared,
    (loss, at, seed): (Loss, u8, u64),
) -> io::Result<Outcome> {
    let input = Input::list(root, seed).map_err(|error| named(root, &error))?;
    if input.files().is_empty() {
        return Err(io::Error::other(format!("there are no files in {}", root.display())));
    }
    OsFs::new().create_dir(place).map_err(|error| named(place, &error))?;
    input.save(&place.join("input"))?;
    shared.save(place)?;
    let shown = Shown::begin(&input);

    let mut first = started("primary", place)?;
    let mut second = started("successor", place)?;

    let enough = (input.files().len() * usize::from(at)).div_ceil(100).max(1);
    let (first_loaded, mut acknowledged) = timed(|| {
        first.expect(|report| shown.acknowledged("the first primary loads", report).filter(|n| *n >= enough))
    })?;
    let (usable, took_over) = timed(|| {
        first.signal(if loss == Loss::Stop { Signal::STOP } else { Signal::KILL })?;
        while let Some(report) = first.poll() {
            acknowledged =
                acknowledged.max(shown.acknowledged("the successor takes over", &report).unwrap_or(0));
        }
        second.order(acknowledged)?;
        second.expect(|report| match report {
            Report::TookOver(took_over) => Some(took_over.clone()),
            _ => None,
        })
    })?;
    let (found, checked) = second.expect(|report| match report {
        Report::Checked { files, took } => Some((*files, *took)),
        _ => None,
    })?;
    if loss == Loss::Stop {
        first.signal(Signal::CONT)?;
    }
    let (second_loaded, (ops, log_bytes)) = timed(|| {
        second.expect(|report| match report {
            Report::Loaded { ops, log_bytes } => Some((*ops, *log_bytes)),
            report => shown.acknowledged("the successor loads the rest", report).and(None),
        })
    })?;
    let (last_words, late) = last_words(&mut first, loss)?;
    acknowledged = acknowledged.max(late);
    if found < acknowledged {
        return Err(io::Error::other(format!("{acknowledged} files were acknowledged, {found} were there")));
    }
    if !second.wait()?.success() {
        return Err(io::Error::other("the successor failed"));
    }

    shown.phase("the log is restored and compared");
    let restorer = Worker::start("restorer", place)?;
    let restored = restorer.expect(|report| match report {
        Report::Restored(restored) => Some(restored.clone()),
        _ => None,
    })?;
    shown.end();
    Ok(Outcome {
        loss,
        seed,
        input,
        acknowledged,
        first_loaded,
        usable,
        took_over,
        found,
        checked,
        second_loaded,
        fenced: last_words,
        ops,
        log_bytes,
        restored,
    })
}

/// Says what failed where the system does not.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Starts a process, and waits until it is ready.
fn started(role: &'static str, place: &Path) -> io::Result<Worker> {
    let worker = Worker::start(role, place)?;
    worker.expect(|report| matches!(report, Report::Ready).then_some(()))?;
    Ok(worker)
}

/// Waits for the end of the first primary. Returns what it failed with, and the number of files that it has
/// acknowledged as far as is heard now.
fn last_words(first: &mut Worker, loss: Loss) -> io::Result<(Option<String>, usize)> {
    let (mut acknowledged, mut failure) = (0, None);
    while let Some(report) = first.next()? {
        match report {
            Report::Acknowledged { files } => acknowledged = acknowledged.max(files),
            Report::Failed { kind, what } => failure = Some((kind, what)),
            _ => {}
        }
    }
    let status = first.wait()?;
    if loss == Loss::Kill {
        return Ok((None, acknowledged));
    }
    match (failure, status.code()) {
        (Some((kind, what)), Some(code))
            if kind == ErrorKind::Fenced.name() && code == i32::from(ErrorKind::Fenced.exit_code()) =>
        {
            Ok((Some(format!("{what} (exit code {code})")), acknowledged))
        }
        (failure, _) => {
            Err(io::Error::other(format!("the first primary was to be fenced: {failure:?}, {status}")))
        }
    }
}

/// A line on the terminal that tells how far the story has come.
struct Shown(ProgressBar);

impl Shown {
    fn begin(input: &Input) -> Self {
        let style = ProgressStyle::with_template("{msg}: {human_pos} of {human_len} files, {eta} left");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        Self(ProgressBar::new(input.files().len() as u64).with_style(style))
    }

    /// Shows the phase, and the number of acknowledged files where `report` tells it; returns that number.
    fn acknowledged(&self, phase: &'static str, report: &Report) -> Option<usize> {
        let Report::Acknowledged { files } = report else { return None };
        self.0.set_message(phase);
        self.0.set_position(*files as u64);
        Some(*files)
    }

    fn phase(&self, phase: &'static str) {
        self.0.set_message(phase);
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}
