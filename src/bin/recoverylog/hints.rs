//! `recoverylog hints`: shows what hints need, file by file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use recoverylog::hints::HintedFile;
use recoverylog::player::{Plan, PlayOptions, Player};
use recoverylog::scan::{Found, LogScan, ScanOptions};
use recoverylog::vfs::OsFs;
use recoverylog::{Author, Error, Fnode, Fsm, FsmHints, FsmOptions, LogPath, Offset, Result, Segment};
use serde::Serialize;

use crate::args::{self, Args};
use crate::export;
use crate::output::{Output, PathObject, Stop, bytes, counted, utc};
use crate::place::{self, Hints, Place};
use crate::progress::Progress;
use crate::restore::PlanObject;

pub(crate) fn run(args: &Args, command: &args::Hints, output: &mut Output) -> Result<(), Stop> {
    let hints = Hints::read(args)?.ok_or_else(|| place::lacks("--hints", "FILE"))?.best(output)?;
    let place = args.journals.is_some().then(|| Place::open(args)).transpose()?;
    // Where the logs say no, the hints themselves are shown all the same.
    let export = command.export.as_deref();
    let at_hand = place.as_ref().map(|place| at_hand(place, &hints, export, output)).transpose();
    let (plan, paths, error) = match at_hand {
        Ok(Some((plan, paths))) => (Some(plan), Some(paths), None),
        Ok(None) => (None, None, None),
        Err(error) => (None, None, Some(error)),
    };
    let shown = HintsObject::new(&hints, paths.as_ref(), plan);
    if output.is_json() {
        output.object(&shown)?;
    } else {
        shown.print(output)?;
    }
    error.map_or(Ok(()), |error| Err(error.into()))
}

type Paths = BTreeMap<Fnode, Vec<LogPath>>;

/// Plans a play, and finds the paths of the files by reading what it would read, without payloads.
fn at_hand(
    place: &Place,
    hints: &FsmHints,
    export: Option<&Path>,
    output: &Output,
) -> Result<(PlanObject, Paths)> {
    let options = PlayOptions::default();
    let step = options.step_deadline;
    // Nothing is played, so that the target is not looked at.
    let player = Player::new(&*place.plain, hints, Arc::new(OsFs::new()), Path::new("."), options)?;
    let plan = PlanObject::new(place, &player, step)?;
    let fsm = follow(place, hints, player.plan(), output)?;
    if let Some(folder) = export {
        export::write(place, hints, &fsm, folder, step, output)?;
    }
    let paths = fsm.nodes().map(|(fnode, node)| (fnode, node.links().to_vec())).collect();
    Ok((plan, paths))
}

/// Takes the operations of a plan.
fn follow(place: &Place, hints: &FsmHints, plan: &Plan, output: &Output) -> Result<Fsm> {
    let mut fsm = Fsm::from_hints(hints, FsmOptions::default()).map_err(Error::from)?;
    let progress = Progress::begin(output, "reading", plan.bytes());
    for range in &plan.ranges {
        let mut options = ScanOptions::default();
        options.begin = range.begin;
        options.end = Some(range.end);
        options.check_payloads = false;
        for found in LogScan::open(place.plain.open(&range.log)?, options)? {
            if let Found::Op(found) = found? {
                progress.add(found.end.bytes_since(found.begin));
                // What is rejected belongs to no live file.
                let _ = fsm.apply(&found.op, &found.message, found.span(&range.log));
            }
        }
    }
    progress.end();
    Ok(fsm)
}

/// The JSON form of hints, and of what they need.
#[derive(Debug, Serialize)]
struct HintsObject {
    log: Option<String>,
    as_of: Option<AsOfObject>,
    files: Vec<FileObject>,
    properties: Vec<PropertyObject>,
    /// Ranges that a player reads by these hints, before it goes on to the head.
    segments: Vec<SegmentObject>,
    /// Bytes in them; without those whose end is not known.
    segment_bytes: u64,
    /// What a play reads; `None` where no journals are named.
    plan: Option<PlanObject>,
}

#[derive(Debug, Serialize)]
struct AsOfObject {
    offset: u64,
    seq_no: i64,
    checksum: u32,
    author: Option<u32>,
    unix_nanos: i64,
}

#[derive(Debug, Serialize)]
struct FileObject {
    fnode: i64,
    /// `None` where no log is at hand.
    paths: Option<Vec<PathObject>>,
    segments: Vec<SegmentObject>,
    /// Bytes of the log between the ends of each segment; without those whose end is not known.
    span_bytes: u64,
}

#[derive(Debug, Serialize)]
struct SegmentObject {
    log: Option<String>,
    author: u32,
    first_seq_no: i64,
    last_seq_no: i64,
    begin: u64,
    /// `None` where it is not known.
    end: Option<u64>,
}

#[derive(Debug, Serialize)]
struct PropertyObject {
    #[serde(flatten)]
    path: PathObject,
    bytes: usize,
}

impl SegmentObject {
    fn new(hints: &FsmHints, segment: &Segment) -> Self {
        Self {
            log: segment.log.as_ref().or(hints.log.as_ref()).map(ToString::to_string),
            author: segment.author.get(),
            first_seq_no: segment.first_seq_no.get(),
            last_seq_no: segment.last_seq_no.get(),
            begin: segment.first_offset.get(),
            end: segment.end_offset.map(Offset::get),
        }
    }
}

fn known_bytes<'a>(segments: impl IntoIterator<Item = &'a Segment>) -> u64 {
    let known = segments.into_iter().filter_map(|segment| Some((segment.first_offset, segment.end_offset?)));
    known.map(|(begin, end)| end.bytes_since(begin)).sum()
}

impl HintsObject {
    fn new(hints: &FsmHints, paths: Option<&Paths>, plan: Option<PlanObject>) -> Self {
        let file = |file: &HintedFile| FileObject {
            fnode: file.fnode.get(),
            paths: paths.map(|paths| {
                paths
                    .get(&file.fnode)
                    .map(|links| links.iter().map(PathObject::from).collect())
                    .unwrap_or_default()
            }),
            segments: file.segments.iter().map(|segment| SegmentObject::new(hints, segment)).collect(),
            span_bytes: known_bytes(&file.segments),
        };
        // Hints that do not flatten were refused when they were decoded.
        let flat = hints.flatten().unwrap_or_default();
        Self {
            log: hints.log.as_ref().map(ToString::to_string),
            as_of: hints.as_of.map(|as_of| AsOfObject {
                offset: as_of.offset.get(),
                seq_no: as_of.seq_no.get(),
                checksum: as_of.checksum.get(),
                author: as_of.author.map(Author::get),
                unix_nanos: as_of.unix_nanos,
            }),
            files: hints.files.iter().map(file).collect(),
            properties: hints
                .properties
                .iter()
                .map(|property| PropertyObject {
                    path: PathObject::from(&property.path),
                    bytes: property.content.len(),
                })
                .collect(),
            segments: flat.segments.as_slice().iter().map(|s| SegmentObject::new(hints, s)).collect(),
            segment_bytes: known_bytes(flat.segments.as_slice()),
            plan,
        }
    }

    fn print(&self, output: &mut Output) -> Result<(), Stop> {
        output.line(format_args!("hints for log {}", self.log.as_deref().unwrap_or("(none)")))?;
        match &self.as_of {
            Some(as_of) => output.line(format_args!(
                "as of offset {}, seq-no {}, {}",
                as_of.offset,
                as_of.seq_no,
                utc(as_of.unix_nanos)
            ))?,
            None => output.line(format_args!("as of: not recorded"))?,
        }
        output.line(format_args!("{:>10} {:>8} {:>12}  PATH", "FILE", "SEGMENTS", "SPAN"))?;
        for file in &self.files {
            let open = file.segments.iter().any(|segment| segment.end.is_none());
            let span = if open { format!("{}+", file.span_bytes) } else { file.span_bytes.to_string() };
            let shown = |paths: &Vec<PathObject>| {
                paths.iter().map(|path| path.path.escape_debug().to_string()).collect::<Vec<_>>().join(", ")
            };
            let paths = file.paths.as_ref().map_or_else(|| "-".to_owned(), shown);
            output.line(format_args!("{:>10} {:>8} {span:>12}  {paths}", file.fnode, file.segments.len()))?;
        }
        for property in &self.properties {
            let path = property.path.path.escape_debug();
            output.line(format_args!("{:>10} {:>8} {:>12}  {path}", "property", "-", property.bytes))?;
        }
        output.line(format_args!(
            "{} in {} of the log, {} between known ends",
            counted(self.files.len(), "file"),
            counted(self.segments.len(), "range"),
            bytes(self.segment_bytes)
        ))?;
        match &self.plan {
            Some(plan) => plan.print_lines(output),
            None => Ok(()),
        }
    }
}
