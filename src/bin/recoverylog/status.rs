//! `recoverylog status`: what is stored of a log, who needs it, and what a recovery would read.

use std::sync::Arc;
use std::time::Duration;

use recoverylog::journal::Journals;
use recoverylog::prune::{Keep, PruneOptions, Pruner, SetNeeds, Source, SourceKind, Survey};
use recoverylog::{Author, Clock, Deadline, Error, ErrorKind, JournalName, Offset, Result, SystemClock};
use serde::Serialize;

use crate::args::{Args, Compat, Sources};
use crate::output::{ErrorObject, Output, Stop, bytes, counted, utc};
use crate::place::{self, Place};

/// The longest wait for journals and stores together.
const WAIT: Duration = Duration::from_secs(60);

pub(crate) fn run(args: &Args, command: &Sources, output: &mut Output) -> Result<(), Stop> {
    let (_, survey) = survey(args, command)?;
    let status = Status::new(&survey, SystemClock.unix_nanos());
    if output.is_json() { output.object(&status) } else { status.print(output) }
}

/// Looks at the log that is named, by all the sets that are.
pub(crate) fn survey(args: &Args, command: &Sources) -> Result<(JournalName, Survey)> {
    let log = args.log.clone().ok_or_else(|| place::lacks("--log", "NAME"))?;
    let place = Place::open(args)?;
    if !place.logs()?.contains(&log) {
        return Err(Error::new(ErrorKind::Invalid, "there is no such log").in_log(&log));
    }
    let survey = pruner(args, command, place.plain, &log)?.survey(deadline())?;
    Ok((log, survey))
}

pub(crate) fn deadline() -> Deadline {
    Deadline::after(WAIT)
}

/// Makes a pruner of `log` that knows the stores which the command line names.
pub(crate) fn pruner(
    args: &Args,
    command: &Sources,
    journals: Arc<dyn Journals>,
    log: &JournalName,
) -> Result<Pruner> {
    let hints = args.hints.as_ref().ok_or_else(|| place::lacks("--hints", "DIR or URL"))?;
    let mut options = PruneOptions::default();
    options.keep = match command.compat {
        Compat::Exact => Keep::Exact,
        Compat::Go => Keep::Spans,
    };
    let nanos = |hours: u32| i64::from(hours) * 3_600_000_000_000;
    options.whole_since =
        command.keep_whole.map(|hours| SystemClock.unix_nanos().saturating_sub(nanos(hours)));
    let mut pruner = Pruner::new(journals, log.clone()).options(options);
    for named in [hints].into_iter().chain(&command.also) {
        pruner = pruner.source(Source::recovery(named.to_string(), named.store(args)?));
    }
    for named in &command.snapshots {
        pruner = pruner.source(Source::snapshots(named.to_string(), named.store(args)?));
    }
    Ok(pruner)
}

#[derive(Debug, Serialize)]
struct Status {
    log: String,
    /// Where the log ends.
    head: u64,
    /// Who owns it; `None` where that is not known.
    author: Option<u32>,
    fragments: usize,
    /// The first byte that is stored.
    first_byte: Option<u64>,
    /// From here on nothing is missing.
    whole_from: u64,
    held_bytes: u64,
    /// Bytes that a recovery reads, and the others that are held.
    live_bytes: Option<u64>,
    dead_bytes: Option<u64>,
    /// Bytes of fragments that no set needs.
    prunable_bytes: u64,
    recovery: Option<Recovery>,
    /// The earliest point that can be restored, and that from which on every one can; offsets of the log.
    earliest_point: Option<u64>,
    every_point_from: Option<u64>,
    sets: Vec<SetObject>,
    problems: Vec<ProblemObject>,
}

/// What a recovery would read.
#[derive(Debug, Serialize)]
struct Recovery {
    set: String,
    files: usize,
    read_bytes: u64,
    /// How far the set is behind the head; the time where the set tells its own.
    lag_bytes: u64,
    lag_seconds: Option<i64>,
}

/// What a set needs.
#[derive(Debug, Serialize)]
pub(crate) struct SetObject {
    source: String,
    set: String,
    kind: &'static str,
    log: String,
    offset: u64,
    seq_no: Option<i64>,
    unix_nanos: Option<i64>,
    files: usize,
    /// Its length as JSON.
    json_bytes: usize,
    needs_bytes: u64,
    pins_bytes: u64,
}

#[derive(Debug, Serialize)]
struct ProblemObject {
    source: String,
    set: Option<String>,
    error: ErrorObject,
}

impl From<&SetNeeds> for SetObject {
    fn from(set: &SetNeeds) -> Self {
        Self {
            source: set.source.clone(),
            set: set.name.clone(),
            kind: if set.kind == SourceKind::Recovery { "recovery" } else { "snapshot" },
            log: set.log.to_string(),
            offset: set.reaches.get(),
            seq_no: set.as_of.map(|as_of| as_of.seq_no.get()),
            unix_nanos: set.as_of.map(|as_of| as_of.unix_nanos),
            files: set.files,
            json_bytes: set.json_bytes,
            needs_bytes: set.needs_bytes,
            pins_bytes: set.pins_bytes,
        }
    }
}

impl Status {
    fn new(survey: &Survey, now: i64) -> Self {
        let recovery = survey.best().map(|set| Recovery {
            set: set.name.clone(),
            files: set.files,
            read_bytes: set.needs_bytes,
            lag_bytes: survey.head.bytes_since(set.reaches),
            lag_seconds: set.as_of.map(|as_of| now.saturating_sub(as_of.unix_nanos) / 1_000_000_000),
        });
        let held_bytes = survey.held_bytes();
        let live_bytes = recovery.as_ref().map(|recovery| recovery.read_bytes);
        let problems = survey.problems.iter().map(|problem| ProblemObject {
            source: problem.source.clone(),
            set: problem.set.clone(),
            error: ErrorObject::from(&problem.error),
        });
        Self {
            log: survey.log.to_string(),
            head: survey.head.get(),
            author: survey.author.map(Author::get),
            fragments: survey.fragments.len(),
            first_byte: survey.first_byte().map(Offset::get),
            whole_from: survey.whole_from().get(),
            held_bytes,
            live_bytes,
            dead_bytes: live_bytes.map(|live| held_bytes.saturating_sub(live)),
            prunable_bytes: survey.dead_bytes(),
            recovery,
            earliest_point: survey.earliest_point().map(Offset::get),
            every_point_from: survey.every_point_from().map(Offset::get),
            sets: survey.sets.iter().map(SetObject::from).collect(),
            problems: problems.collect(),
        }
    }

    fn print(&self, output: &mut Output) -> Result<(), Stop> {
        let owner = self.author.map_or_else(|| "by nobody".into(), |author| format!("by author {author}"));
        output.line(format_args!("log {}: head at offset {}, owned {owner}", self.log, self.head))?;
        let first =
            self.first_byte.map_or_else(String::new, |first| format!(", the first byte at offset {first}"));
        let held = format!("{} in {}", bytes(self.held_bytes), counted(self.fragments, "fragment"));
        output
            .line(format_args!("held: {held}{first}, nothing missing from offset {} on", self.whole_from))?;
        if let (Some(live), Some(dead)) = (self.live_bytes, self.dead_bytes) {
            output.line(format_args!("live: {}, dead: {}", bytes(live), bytes(dead)))?;
        }
        if self.problems.is_empty() {
            output.line(format_args!("to prune: {}", bytes(self.prunable_bytes)))?;
        }
        match &self.recovery {
            Some(recovery) => {
                let files = counted(recovery.files, "file");
                let old = recovery.lag_seconds.map_or_else(String::new, |lag| format!(" and {lag} s"));
                let lag = format!("{}{old} behind the head", bytes(recovery.lag_bytes));
                let read = bytes(recovery.read_bytes);
                output.line(format_args!("recovery: reads {read} for {files}, by hints {lag}"))?;
            }
            None => output.line(format_args!("recovery: no hints of this log can be played"))?,
        }
        match (self.earliest_point, self.every_point_from) {
            (Some(earliest), Some(every)) => {
                output
                    .line(format_args!("to go back to: offset {earliest}, and every one from {every} on"))?;
            }
            (Some(earliest), None) => output.line(format_args!("to go back to: offset {earliest}"))?,
            (None, _) => output.line(format_args!("to go back to: nothing"))?,
        }
        for set in &self.sets {
            let at = set.unix_nanos.map_or_else(String::new, |nanos| format!(" ({})", utc(nanos)));
            let (json, needs) = (bytes(set.json_bytes as u64), bytes(set.needs_bytes));
            let needs = format!("of {json}, needs {needs}, and alone {}", bytes(set.pins_bytes));
            let of = if set.log == self.log { String::new() } else { format!(" of {}", set.log) };
            output
                .line(format_args!("{} set {}: offset {}{of}{at}, {needs}", set.kind, set.set, set.offset))?;
        }
        for problem in &self.problems {
            let set = problem.set.as_ref().map_or_else(String::new, |set| format!(" {set}"));
            output.line(format_args!("problem: {}{set}: {}", problem.source, problem.error.what))?;
        }
        Ok(())
    }
}
