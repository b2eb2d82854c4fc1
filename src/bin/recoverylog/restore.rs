//! `recoverylog restore`: rebuilds a directory by hints, or from the first byte of a log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use recoverylog::player::{Bound, PlayOptions, Played, Player, Point, Verify, is_incomplete};
use recoverylog::replica::{PassedOver, Past};
use recoverylog::vfs::{FileKind, FileSystem, OsFs};
use recoverylog::{Deadline, Error, ErrorKind, FsmHints, Result};
use serde::Serialize;

use crate::args::{self, Args, Restore};
use crate::output::{Output, Stop, bytes, counted, utc};
use crate::place::{self, Hints, Place};
use crate::progress::Progress;

pub(crate) fn run(args: &Args, command: &Restore, output: &mut Output) -> Result<(), Stop> {
    let fs: Arc<dyn FileSystem> = Arc::new(OsFs::new());
    let directory = resolved(&command.dir);
    let shown = command.dir.display();
    // What can be gone on from, the library tells.
    let is_kept = !command.resume && is_kept(&*fs, &directory)?;
    if command.if_missing && is_kept {
        return if output.is_json() {
            output.object(&Kept { directory: shown.to_string(), done: false })
        } else {
            output.line(format_args!("{shown} is there: nothing to do"))
        };
    }
    if is_kept {
        // The library refuses too, but a plan alone would not come so far.
        let what = format!("the directory {shown} is not empty");
        let advice = "name a new directory, or let --if-missing keep this one; nothing was changed";
        return Err(Error::new(ErrorKind::Invalid, what).advise(advice).into());
    }
    let place = Place::open(args)?;
    if let Some(bound) = &command.at {
        return at(args, command, bound, (&place, &directory), output);
    }
    let hints = Hints::read(args)?;
    for error in hints.iter().flat_map(|hints| &hints.unreadable) {
        output.warn(format_args!("a hint set is passed over: {error}"));
    }
    let mut sets = match (hints, &args.log) {
        (Some(hints), _) => hints.sets,
        (None, Some(log)) => vec![FsmHints::empty(log.clone())],
        (None, None) => return Err(place::lacks("--log or --hints", "").advise("add one of them").into()),
    };
    // The best set first; where it does not serve, the next one. The error of the last one is reported.
    let last = sets.pop();
    for hints in sets {
        match attempt(command, &place, &hints, &directory, output) {
            Err(Stop::Error(error)) if error.kind().exit_code() == 3 => {
                output.warn(format_args!("a hint set is passed over: {error}"));
            }
            done => return done,
        }
    }
    match last {
        Some(hints) => attempt(command, &place, &hints, &directory, output),
        None => Ok(()),
    }
}

/// Restores the directory as it was at a point, by whatever set leads there.
fn at(
    args: &Args,
    command: &Restore,
    bound: &Bound,
    (place, directory): (&Place, &Path),
    output: &mut Output,
) -> Result<(), Stop> {
    let (log, sets) = Hints::candidates(args, command.snapshots.as_ref())?;
    let past = Past::new(&*place.checked, log, sets, Arc::new(OsFs::new()));
    let (options, progress) = options(command, output);
    if command.dry_run {
        let planned = past.plan(bound, directory, &options)?;
        warn_of(&planned.passed_over, output);
        return PlanObject::new(place, &planned.player, options.step_deadline)?.print(output);
    }
    let restored = past.restore(bound, directory, &options);
    progress.end();
    let restored = restored?;
    warn_of(&restored.passed_over, output);
    let point = PointObject::new(&restored.point, restored.set.clone());
    report(&restored.played, &command.dir, Some(point), output)
}

/// Tells which sets would have served.
pub(crate) fn warn_of(passed_over: &[PassedOver], output: &Output) {
    for set in passed_over {
        output.warn(format_args!("the hint set {} is passed over: {}", set.name, set.error));
    }
}

/// Returns how to play, and what shows how far it is.
fn options(command: &Restore, output: &Output) -> (PlayOptions, Progress) {
    let mut options = PlayOptions::default();
    if let Some(parallelism) = command.parallelism {
        options.parallelism = parallelism.into();
    }
    options.verify = match command.verify {
        args::Verify::Read => Verify::AsRead,
        args::Verify::Full => Verify::Full,
    };
    options.resume = command.resume;
    let progress = Progress::begin(output, "restoring", 0);
    let shared = progress.clone();
    options.progress = Some(Arc::new(move |done: &recoverylog::player::Progress| {
        let doing = if done.verifying { "verifying" } else { "restoring" };
        shared.set_phase(doing, done.planned_bytes);
        shared.set(done.done_bytes);
    }));
    (options, progress)
}

/// Plans a restore by one set of hints, and does it.
fn attempt(
    command: &Restore,
    place: &Place,
    hints: &FsmHints,
    directory: &Path,
    output: &mut Output,
) -> Result<(), Stop> {
    let (options, progress) = options(command, output);
    let step = options.step_deadline;
    let player = Player::new(&*place.checked, hints, Arc::new(OsFs::new()), directory, options)?;
    if command.dry_run {
        return PlanObject::new(place, &player, step)?.print(output);
    }
    let played = player.restore();
    progress.end();
    report(&played?, &command.dir, None, output)
}

/// Tells whether the directory holds a tree that is to be kept.
pub(crate) fn is_kept(fs: &dyn FileSystem, directory: &Path) -> Result<bool> {
    let failed = |error| Error::io(format!("looking at {} failed", directory.display()), error);
    match fs.metadata(directory) {
        // Where a parent is no directory, the library says so.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(failed(error)),
        Ok(found) if found.kind != FileKind::Directory => Ok(false),
        Ok(_) if is_incomplete(fs, directory).map_err(failed)? => {
            let what =
                format!("a restore into {} did not end: it holds parts of a tree", directory.display());
            Err(Error::new(ErrorKind::Invalid, what).advise("empty the directory, then restore again"))
        }
        Ok(_) => Ok(!fs.read_dir(directory).map_err(failed)?.is_empty()),
    }
}

/// Resolves symbolic links on the way to the directory, which the library does not follow.
pub(crate) fn resolved(directory: &Path) -> PathBuf {
    let parent_of = |path: &Path| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    directory.canonicalize().unwrap_or_else(|_| {
        let parent = parent_of(directory).canonicalize();
        match (parent, directory.file_name()) {
            (Ok(parent), Some(name)) => parent.join(name),
            _ => directory.to_owned(),
        }
    })
}

#[derive(Debug, Serialize)]
struct Kept {
    directory: String,
    done: bool,
}

#[derive(Debug, Serialize)]
struct Restored {
    directory: String,
    done: bool,
    log: String,
    offset: u64,
    next_seq_no: i64,
    next_checksum: u32,
    files: usize,
    written_bytes: u64,
    applied_ops: u64,
    untracked_ops: u64,
    rejected_ops: u64,
    undecodable_frames: u64,
    junk_bytes: u64,
    warnings: Vec<String>,
    /// Where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    point: Option<PointObject>,
    /// Where the directory was gone on from.
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed: Option<ResumedObject>,
}

#[derive(Debug, Serialize)]
struct ResumedObject {
    offset: u64,
    next_seq_no: i64,
    kept_files: usize,
    rebuilt_files: usize,
}

/// A point of a history, and what led there.
#[derive(Debug, Serialize)]
pub(crate) struct PointObject {
    seq_no: i64,
    offset: u64,
    /// Of the last mark up to there.
    unix_nanos: Option<i64>,
    mark: Option<String>,
    /// The hint set; `None` where the log was played from its first byte.
    hints: Option<String>,
}

impl PointObject {
    pub(crate) fn new(point: &Point, set: Option<String>) -> Self {
        Self {
            seq_no: point.seq_no.get(),
            offset: point.offset.get(),
            unix_nanos: point.unix_nanos,
            mark: point.name.as_deref().map(|name| String::from_utf8_lossy(name).into_owned()),
            hints: set,
        }
    }

    pub(crate) fn print(&self, output: &mut Output) -> Result<(), Stop> {
        let time = self.unix_nanos.map_or_else(|| "no mark before it".into(), utc);
        let name =
            self.mark.as_ref().map_or(String::new(), |name| format!(", mark \"{}\"", name.escape_debug()));
        let hints = self.hints.as_deref().unwrap_or("the whole log");
        output.line(format_args!("as it was behind seq-no {}{name}, {time}, by {hints}", self.seq_no))
    }
}

fn report(
    played: &Played,
    directory: &Path,
    point: Option<PointObject>,
    output: &mut Output,
) -> Result<(), Stop> {
    for warning in &played.warnings {
        output.warn(format_args!("{warning}"));
    }
    let counts = &played.counts;
    let restored = Restored {
        directory: directory.display().to_string(),
        done: true,
        log: played.log.to_string(),
        offset: played.position.get(),
        next_seq_no: played.fsm.next_seq_no().get(),
        next_checksum: played.fsm.next_checksum().get(),
        files: played.fsm.live_files(),
        written_bytes: counts.written_bytes,
        applied_ops: counts.applied_ops,
        untracked_ops: counts.untracked_ops,
        rejected_ops: counts.rejected_ops,
        undecodable_frames: counts.undecodable_frames,
        junk_bytes: counts.junk_bytes,
        warnings: played.warnings.iter().map(ToString::to_string).collect(),
        point,
        resumed: played.resumed.map(|resumed| ResumedObject {
            offset: resumed.position.offset.get(),
            next_seq_no: resumed.position.next_seq_no.get(),
            kept_files: resumed.kept_files,
            rebuilt_files: resumed.rebuilt_files,
        }),
    };
    if output.is_json() {
        return output.object(&restored);
    }
    output.line(format_args!(
        "restored {}, {} written, into {}",
        counted(restored.files, "file"),
        bytes(restored.written_bytes),
        restored.directory
    ))?;
    if let Some(point) = &restored.point {
        point.print(output)?;
    }
    if let Some(resumed) = &restored.resumed {
        output.line(format_args!(
            "gone on from offset {}: {} taken over, {} built again",
            resumed.offset,
            counted(resumed.kept_files, "file"),
            counted(resumed.rebuilt_files, "file")
        ))?;
    }
    output.line(format_args!(
        "log {} up to offset {}: {} applied, {} of dead files, {} rejected, {} of junk",
        restored.log,
        restored.offset,
        counted(restored.applied_ops, "operation"),
        restored.untracked_ops,
        restored.rejected_ops,
        counted(restored.junk_bytes, "byte")
    ))
}

/// What a play reads.
#[derive(Debug, Serialize)]
pub(crate) struct PlanObject {
    ranges: Vec<RangeObject>,
    bytes: u64,
    /// Length of all logs that the plan reads of.
    log_bytes: u64,
    hinted_files: usize,
    hinted_segments: usize,
    /// Where it ends, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    until_seq_no: Option<i64>,
}

#[derive(Debug, Serialize)]
struct RangeObject {
    log: String,
    begin: u64,
    end: u64,
    bytes: u64,
}

impl PlanObject {
    pub(crate) fn new(place: &Place, player: &Player, step: std::time::Duration) -> Result<Self> {
        let plan = player.plan();
        let mut logs: Vec<_> = plan.ranges.iter().map(|range| &range.log).collect();
        logs.sort();
        logs.dedup();
        let mut log_bytes = 0;
        for log in logs {
            log_bytes += place.plain.open(log)?.head(Deadline::after(step))?.offset.get();
        }
        let range = |range: &recoverylog::player::PlanRange| RangeObject {
            log: range.log.to_string(),
            begin: range.begin.get(),
            end: range.end.get(),
            bytes: range.bytes(),
        };
        Ok(Self {
            ranges: plan.ranges.iter().map(range).collect(),
            bytes: plan.bytes(),
            log_bytes,
            hinted_files: plan.hinted_files,
            hinted_segments: plan.hinted_segments,
            until_seq_no: player.point().map(|point| point.seq_no.get()),
        })
    }

    pub(crate) fn print(&self, output: &mut Output) -> Result<(), Stop> {
        if output.is_json() {
            return output.object(self);
        }
        self.print_lines(output)
    }

    pub(crate) fn print_lines(&self, output: &mut Output) -> Result<(), Stop> {
        for range in &self.ranges {
            output.line(format_args!(
                "read {} [{}, {}): {}",
                range.log,
                range.begin,
                range.end,
                bytes(range.bytes)
            ))?;
        }
        output.line(format_args!(
            "in all {} of logs of {}; {} in {}",
            bytes(self.bytes),
            bytes(self.log_bytes),
            counted(self.hinted_files, "hinted file"),
            counted(self.hinted_segments, "segment")
        ))
    }
}
