//! `recoverylog prune`: removes the fragments of a log that nobody needs.

use std::path::Path;
use std::sync::Arc;

use recoverylog::prune::{Survey, Verdict, Why};
use recoverylog::vfs::{File, FileSystem, LockMode, OpenMode, OsFs};
use recoverylog::{Clock, Error, ErrorKind, Result, SystemClock};
use serde::Serialize;

use crate::args::{Args, Prune};
use crate::output::{Output, Stop, bytes, counted, hex};
use crate::place::{self, Place};
use crate::progress::Progress;
use crate::status::{self, SetObject};

pub(crate) fn run(args: &Args, command: &Prune, output: &mut Output) -> Result<(), Stop> {
    let (log, survey) = status::survey(args, &command.sources)?;
    if command.dry_run {
        for verdict in &survey.fragments {
            if output.is_json() {
                output.object(&FragmentObject::new(&survey, verdict))?;
            } else {
                let removed = if verdict.why == Why::Dead { "remove" } else { "keep" };
                output.line(format_args!("{removed} {verdict}"))?;
            }
        }
        let (dead, count) = (survey.dead_bytes(), survey.dead().count());
        summary(
            output,
            &Summary { log: log.to_string(), done: false, fragments: count as u64, bytes: dead },
        )?;
        return Ok(survey.refusal()?);
    }
    survey.refusal()?;
    let journals = Place::open_to_append(args)?;
    if !journals.open(&log).map_err(Error::from)?.capabilities().prune {
        let what = "these journals have no call that deletes fragments";
        return Err(Error::new(ErrorKind::Invalid, what)
            .in_log(&log)
            .advise("delete from their store what `prune --dry-run --json` says can be removed; nothing was changed")
            .into());
    }
    let fs = OsFs::new();
    let pruner = status::pruner(args, &command.sources, journals, &log)?;
    let otherwise = || place::root_of(args).map(|root| root.join(".recoverylog/pruned.jsonl"));
    let mut audit = Audit::open(&fs, &command.audit.clone().map_or_else(otherwise, Ok)?)?;
    audit.add(&Beginning {
        pruning: log.to_string(),
        unix_nanos: SystemClock.unix_nanos(),
        head: survey.head.get(),
        sets: survey.sets.iter().map(SetObject::from).collect(),
    })?;
    let progress = Progress::begin(output, "pruning", survey.dead_bytes());
    let mut tell = |verdict: &Verdict| {
        progress.add(verdict.fragment.content_bytes());
        audit.add(&FragmentObject::new(&survey, verdict))
    };
    let removed = pruner.remove(&survey, &mut tell, status::deadline());
    progress.end();
    let removed = removed?;
    let (fragments, bytes) = (removed.fragments, removed.bytes);
    let summed = Summary { log: log.to_string(), done: true, fragments, bytes };
    audit.add(&summed)?;
    summary(output, &summed)
}

/// A file that is appended to, and durable before anything is removed.
struct Audit {
    file: Arc<dyn File>,
    path: String,
    end: u64,
}

impl Audit {
    fn open(fs: &OsFs, path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let failed = |error| Error::io(format!("opening the audit file {shown} failed"), error);
        let file = fs.open(path, OpenMode::Create).map_err(failed)?;
        if !file.try_lock(LockMode::Exclusive).map_err(failed)? {
            let what = format!("another prune writes to the audit file {shown}");
            return Err(Error::new(ErrorKind::Unavailable, what).advise("wait until it is done"));
        }
        let mut audit = Self { end: file.metadata().map_err(failed)?.len, file, path: shown };
        let mut last = [b'\n'];
        if let Some(at) = audit.end.checked_sub(1) {
            audit.file.read_exact_at(&mut last, at).map_err(|error| audit.failed(error))?;
        }
        if last != *b"\n" {
            // A line that was cut when a prune was killed.
            audit.put(b"\n")?;
        }
        Ok(audit)
    }

    fn add(&mut self, record: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(record).map_err(|error| self.failed(error.into()))?;
        line.push(b'\n');
        self.put(&line)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let put = self.file.write_all_at(bytes, self.end).and_then(|()| self.file.sync_data());
        put.map_err(|error| self.failed(error))?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::io(format!("writing the audit file {} failed", self.path), error)
    }
}

/// What a prune goes by: the first line of its audit.
#[derive(Debug, Serialize)]
struct Beginning {
    pruning: String,
    unix_nanos: i64,
    head: u64,
    sets: Vec<SetObject>,
}

#[derive(Debug, Serialize)]
struct FragmentObject {
    log: String,
    begin: u64,
    end: u64,
    sum: Option<String>,
    stored_bytes: Option<u64>,
    keep: bool,
    why: String,
}

impl FragmentObject {
    fn new(survey: &Survey, Verdict { fragment, why, .. }: &Verdict) -> Self {
        Self {
            log: survey.log.to_string(),
            begin: fragment.begin.get(),
            end: fragment.end.get(),
            sum: fragment.sum.map(|sum| hex(&sum)),
            stored_bytes: fragment.stored_bytes,
            keep: *why != Why::Dead,
            why: why.to_string(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Summary {
    log: String,
    /// It was not a dry run.
    done: bool,
    fragments: u64,
    bytes: u64,
}

fn summary(output: &mut Output, summary: &Summary) -> Result<(), Stop> {
    if output.is_json() {
        return output.object(summary);
    }
    let done = if summary.done { "removed" } else { "would remove" };
    let fragments = counted(summary.fragments, "fragment");
    output.line(format_args!("{done} {fragments} with {} of {}", bytes(summary.bytes), summary.log))
}
