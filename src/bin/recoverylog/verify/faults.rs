//! What a verification found, and whom it concerns.

use std::collections::{BTreeMap, BTreeSet};

use recoverylog::scan::{ChainCheck, FoundOp, PayloadCheck};
use recoverylog::{Error, ErrorKind, Fnode, Fsm, FsmHints, JournalName, LogPath, Offset, Segment};
use serde::Serialize;

use crate::output::{ErrorObject, Output, PathObject, Stop, bytes, counted};

/// Something that is not as it was written.
pub(super) struct Fault {
    error: Error,
    begin: Offset,
    end: Offset,
    files: BTreeMap<Fnode, File>,
    properties: BTreeSet<LogPath>,
    /// The hinted files that need these bytes.
    hinted: Vec<Fnode>,
    /// These bytes are read by a player.
    needed: bool,
    /// They belong to a writer that was fenced.
    pub(super) is_dead_branch: bool,
}

#[derive(Default)]
struct File {
    paths: BTreeSet<LogPath>,
    /// It is there at the head; `None` where that is not known.
    live: Option<bool>,
}

impl Fault {
    /// Describes a fault in `[begin, end)` of `log`.
    pub(super) fn new(
        error: Error,
        log: &JournalName,
        begin: Offset,
        end: Offset,
        hints: Option<&FsmHints>,
    ) -> Self {
        let mut hinted = Vec::new();
        let mut needed = hints.is_none_or(|hints| hints.files.is_empty());
        if let Some(hints) = hints {
            let of_log = |segment: &&Segment| segment.log.as_ref().or(hints.log.as_ref()) == Some(log);
            let touched = |segment: &Segment| {
                segment.first_offset < end && segment.end_offset.is_none_or(|last| last > begin)
            };
            for file in &hints.files {
                if file.segments.iter().filter(of_log).any(touched) {
                    hinted.push(file.fnode);
                }
            }
            // From the last hinted range on, a player reads everything.
            let all = hints.files.iter().flat_map(|file| &file.segments).filter(of_log);
            let last = all.map(|segment| segment.first_offset).max();
            needed |= !hinted.is_empty();
            needed |= hints.log.as_ref() == Some(log) && last.is_none_or(|last| end > last);
        }
        Self {
            error,
            begin,
            end,
            files: BTreeMap::new(),
            properties: BTreeSet::new(),
            hinted,
            needed,
            is_dead_branch: false,
        }
    }

    /// Tells whether a player reads these bytes.
    pub(super) const fn is_needed(&self) -> bool {
        self.needed
    }

    pub(super) fn covers(&self, offset: Offset) -> bool {
        self.begin <= offset && offset < self.end
    }

    pub(super) fn overlaps(&self, found: &FoundOp) -> bool {
        found.begin < self.end && found.end > self.begin
    }

    /// Says that a file suffers.
    pub(super) fn touch<'a>(&mut self, fnode: Fnode, paths: impl IntoIterator<Item = &'a LogPath>) {
        self.files.entry(fnode).or_default().paths.extend(paths.into_iter().cloned());
    }

    /// Says that a property suffers.
    pub(super) fn touch_property(&mut self, path: &LogPath) {
        self.properties.insert(path.clone());
    }

    /// Says that of the hinted files only those suffer that were named.
    pub(super) fn only_touched_hints(&mut self) {
        self.hinted.retain(|fnode| self.files.contains_key(fnode));
    }

    /// Finds out what became of the files; `followed` says that `fsm` knows the whole history.
    pub(super) fn finish(&mut self, fsm: &Fsm, followed: bool) {
        for fnode in &self.hinted {
            self.files.entry(*fnode).or_default();
        }
        for (fnode, file) in &mut self.files {
            match fsm.node(*fnode).filter(|_| !self.is_dead_branch) {
                Some(node) => {
                    file.live = Some(true);
                    file.paths = node.links().iter().cloned().collect();
                }
                None => file.live = followed.then_some(false),
            }
        }
    }

    fn print(&self, output: &mut Output) -> Result<(), Stop> {
        output.line(format_args!("fault: {}: {}", self.error.kind(), self.error))?;
        if let Some(source) = std::error::Error::source(&self.error) {
            output.line(format_args!("  because: {source}"))?;
        }
        for (fnode, file) in &self.files {
            let paths = file.paths.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let hinted = if self.hinted.contains(fnode) { ", hinted" } else { "" };
            let state = match file.live {
                Some(true) => "live",
                Some(false) => "dead",
                None => "perhaps live",
            };
            output.line(format_args!("  touches file {fnode} {paths} ({state}{hinted})"))?;
        }
        for path in &self.properties {
            output.line(format_args!("  touches property {path}"))?;
        }
        Ok(())
    }
}

/// What was found in one log.
#[derive(Debug, Default, Serialize)]
pub(super) struct LogReport {
    log: String,
    head: u64,
    pub(super) fragments: u64,
    ops: u64,
    /// Duplicates, and operations of fenced writers.
    dead_ops: u64,
    /// Where the history begins, if not with its first operation.
    begins_at_seq_no: Option<i64>,
    payloads_checked: u64,
    payloads_unchecked: u64,
    pub(super) undecodable_frames: u64,
    pub(super) junk_bytes: u64,
    missing: Vec<[u64; 2]>,
    torn: Vec<Torn>,
}

#[derive(Debug, Serialize)]
struct Torn {
    offset: u64,
    present_bytes: u64,
    promised_bytes: Option<u64>,
}

impl LogReport {
    pub(super) fn new(log: &JournalName, head: Offset) -> Self {
        Self { log: log.to_string(), head: head.get(), ..Self::default() }
    }

    /// Tells whether this is the first operation of the log, and not the first one of its history.
    pub(super) fn is_first(&self, found: &FoundOp) -> bool {
        self.ops == 0 && self.missing.is_empty() && found.chain == ChainCheck::Begins
    }

    pub(super) fn op(&mut self, found: &FoundOp) {
        if self.is_first(found) {
            self.begins_at_seq_no = Some(found.op.seq_no.get());
        }
        self.ops += 1;
        self.dead_ops += u64::from(found.chain == ChainCheck::Dead);
        match found.payload {
            None => {}
            Some(PayloadCheck::Unchecked) => self.payloads_unchecked += 1,
            Some(_) => self.payloads_checked += 1,
        }
    }

    pub(super) fn missing(&mut self, begin: Offset, end: Offset) {
        self.missing.push([begin.get(), end.get()]);
    }

    pub(super) fn torn(&mut self, begin: Offset, present: u64, promised: Option<u64>) {
        self.torn.push(Torn { offset: begin.get(), present_bytes: present, promised_bytes: promised });
    }

    fn print(&self, output: &mut Output) -> Result<(), Stop> {
        output.line(format_args!(
            "log {}: {}, {}, {} ({} dead), {} checked, {} without a checksum",
            self.log,
            counted(self.fragments, "fragment"),
            bytes(self.head),
            counted(self.ops, "operation"),
            self.dead_ops,
            counted(self.payloads_checked, "payload"),
            self.payloads_unchecked
        ))?;
        if let Some(seq_no) = self.begins_at_seq_no {
            output.line(format_args!(
                "  its history begins elsewhere: the first operation has seq-no {seq_no}"
            ))?;
        }
        if self.junk_bytes > 0 || self.undecodable_frames > 0 {
            output.line(format_args!(
                "  passed over: {} of junk, {} without operation",
                counted(self.junk_bytes, "byte"),
                counted(self.undecodable_frames, "frame")
            ))?;
        }
        for [begin, end] in &self.missing {
            output.line(format_args!("  not stored: [{begin}, {end})"))?;
        }
        for torn in &self.torn {
            let present = counted(torn.present_bytes, "byte");
            output.line(format_args!("  torn at {}: there is no more than {present}", torn.offset))?;
        }
        Ok(())
    }
}

/// What was found in all.
#[derive(Default)]
pub(super) struct Report {
    pub(super) logs: Vec<LogReport>,
    pub(super) faults: Vec<Fault>,
}

impl Report {
    pub(super) fn print(&self, output: &mut Output) -> Result<(), Stop> {
        if output.is_json() {
            let faults = self.faults.iter().map(FaultObject::from).collect();
            return output.object(&ReportObject { logs: &self.logs, faults });
        }
        for log in &self.logs {
            log.print(output)?;
        }
        for fault in &self.faults {
            fault.print(output)?;
        }
        output.line(format_args!("{}", if self.faults.is_empty() { "no faults" } else { "not whole" }))
    }

    /// Returns an error where there is a fault.
    pub(super) fn verdict(&self) -> Result<(), Stop> {
        let Some(first) = self.faults.first() else { return Ok(()) };
        // What cannot be read may be away for now; nothing says that it is as it was written either.
        let kind = match first.error.kind() {
            kind @ (ErrorKind::DataLoss | ErrorKind::Diverged) => kind,
            _ => ErrorKind::Corrupt,
        };
        let what = format!("faults were found: {}", self.faults.len());
        let advice = "take what is damaged from another copy, or use hints that do not need it";
        Err(Error::new(kind, what).advise(advice).into())
    }
}

#[derive(Serialize)]
struct ReportObject<'a> {
    logs: &'a [LogReport],
    faults: Vec<FaultObject>,
}

#[derive(Serialize)]
struct FaultObject {
    #[serde(flatten)]
    error: ErrorObject,
    begin: u64,
    end: u64,
    /// A player reads these bytes.
    needed: bool,
    files: Vec<FileObject>,
    properties: Vec<PathObject>,
}

#[derive(Serialize)]
struct FileObject {
    fnode: i64,
    paths: Vec<PathObject>,
    live: Option<bool>,
    hinted: bool,
}

impl From<&Fault> for FaultObject {
    fn from(fault: &Fault) -> Self {
        let file = |(fnode, file): (&Fnode, &File)| FileObject {
            fnode: fnode.get(),
            paths: file.paths.iter().map(PathObject::from).collect(),
            live: file.live,
            hinted: fault.hinted.contains(fnode),
        };
        Self {
            error: ErrorObject::from(&fault.error),
            begin: fault.begin.get(),
            end: fault.end.get(),
            needed: fault.needed,
            files: fault.files.iter().map(file).collect(),
            properties: fault.properties.iter().map(PathObject::from).collect(),
        }
    }
}
