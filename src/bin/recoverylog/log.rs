//! `recoverylog log`: lists what a log holds, one thing a line.

use std::fmt;

use recoverylog::scan::{ChainCheck, Found, FoundOp, LogScan, PayloadCheck, ScanOptions};
use recoverylog::{Author, Error, ErrorKind, JournalName, Offset, OpBody};
use serde::Serialize;

use crate::args::{Args, Log};
use crate::output::{ErrorObject, Output, PathObject, Stop, counted, utc};
use crate::place::{self, Hints, Place};

pub(crate) fn run(args: &Args, command: &Log, output: &mut Output) -> Result<(), Stop> {
    let place = Place::open(args)?;
    let hints = Hints::read(args)?.map(|hints| hints.best(output)).transpose()?;
    let log = match (&args.log, hints.and_then(|hints| hints.log)) {
        (Some(log), _) => log.clone(),
        (None, Some(log)) => log,
        (None, None) => return Err(place::lacks("--log", "NAME").into()),
    };
    let mut options = ScanOptions::default();
    options.begin = offset("--from", command.from)?.unwrap_or(Offset::ZERO);
    options.end = offset("--to", command.to)?;
    let scan = LogScan::open(place.checked.open(&log).map_err(Error::from)?, options)?;

    if !output.is_json() {
        output.line(format_args!(
            "{:>12} {:>9} {:>10} {:<8} {:<6} {:<9} ",
            "OFFSET", "SEQ-NO", "AUTHOR", "KIND", "CHAIN", "PAYLOAD"
        ))?;
    }
    let mut unreadable = None;
    for found in scan {
        let mut found = found?;
        if let Found::Unreadable { error, .. } = &mut found {
            unreadable.get_or_insert_with(|| error.clone());
        }
        if output.is_json() {
            output.object(&Row::new(&log, &found))?;
        } else {
            output.line(format_args!("{}", Line(&found)))?;
        }
    }
    unreadable.map_or(Ok(()), |error| Err(error.into()))
}

fn offset(option: &str, value: Option<u64>) -> Result<Option<Offset>, Error> {
    let Some(value) = value else { return Ok(None) };
    let what = || format!("{option} is no offset of a log");
    let offset = Offset::new(value);
    offset.map(Some).ok_or_else(|| Error::new(ErrorKind::Invalid, what()).expected(Offset::MAX, value))
}

pub(crate) const fn chain_name(chain: ChainCheck) -> &'static str {
    match chain {
        ChainCheck::Continues => "ok",
        ChainCheck::Begins => "begins",
        ChainCheck::Dead => "dead",
        ChainCheck::Broken { .. } => "broken",
        _ => "unknown",
    }
}

const fn payload_name(payload: PayloadCheck) -> &'static str {
    match payload {
        PayloadCheck::Good => "ok",
        PayloadCheck::Damaged { .. } => "damaged",
        _ => "unchecked",
    }
}

/// Shows one thing to people.
struct Line<'a>(&'a Found);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bare = |begin: &Offset, kind: &str, what: fmt::Arguments<'_>| {
            write!(f, "{begin:>12} {:>9} {:>10} {kind:<8} {:<6} {:<9} {what}", "-", "-", "-", "-")
        };
        match self.0 {
            Found::Op(found) => op_line(f, found),
            Found::Undecodable { begin, end, error } => {
                bare(begin, "invalid", format_args!("a frame up to {end} holds no operation: {error}"))
            }
            Found::Junk { begin, end } => {
                bare(begin, "junk", format_args!("no frame: {}", counted(end.bytes_since(*begin), "byte")))
            }
            Found::Torn { begin, present, promised: Some(promised) } => {
                bare(begin, "torn", format_args!("{present} of {}", counted(*promised, "byte")))
            }
            Found::Torn { begin, present, promised: None } => {
                bare(begin, "torn", format_args!("a header, cut to {}", counted(*present, "byte")))
            }
            Found::Missing { begin, end } => {
                bare(begin, "missing", format_args!("bytes up to {end} are not stored"))
            }
            Found::Unreadable { begin, end, error } => {
                bare(begin, "unread", format_args!("bytes up to {end} cannot be read: {error}"))
            }
            _ => Ok(()),
        }
    }
}

fn op_line(f: &mut fmt::Formatter<'_>, found: &FoundOp) -> fmt::Result {
    let op = &found.op;
    let author = op.author.map_or(0, Author::get);
    let (kind, chain) = (op.kind_name(), chain_name(found.chain));
    let payload = found.payload.map_or("-", payload_name);
    write!(f, "{:>12} {:>9} {author:>10} {kind:<8} {chain:<6} {payload:<9} ", found.begin, op.seq_no)?;
    match &op.body {
        OpBody::NoOp => match &op.mark {
            Some(mark) => {
                write!(f, "mark of {}", utc(mark.unix_nanos))?;
                let name = mark.name.as_deref().map(|name| name.escape_ascii());
                name.map_or(Ok(()), |name| write!(f, " \"{name}\""))
            }
            None => Ok(()),
        },
        OpBody::Create { path } => write!(f, "file {} at {path}", op.seq_no),
        OpBody::Link { fnode, path } => write!(f, "file {fnode} also at {path}"),
        OpBody::Unlink { fnode, path } => write!(f, "file {fnode} not at {path} any more"),
        OpBody::Write { fnode, offset } => {
            write!(f, "file {fnode}, {} at {offset}", counted(op.payload_len(), "byte"))
        }
        OpBody::Property { path, content } => write!(f, "{path}, {}", counted(content.len(), "byte")),
    }?;
    if let ChainCheck::Broken { expected_seq_no, expected_checksum } = found.chain {
        write!(f, "; expected seq-no {expected_seq_no} after checksum {expected_checksum}")?;
        write!(f, ", found {} after {}", op.seq_no, op.checksum)?;
    }
    if let Some(PayloadCheck::Damaged { expected, actual }) = found.payload {
        write!(f, "; expected CRC-32C {expected:08x}, found {actual:08x}")?;
    }
    Ok(())
}

/// The JSON form of one thing; what does not apply is left out.
#[derive(Debug, Default, Serialize)]
struct Row {
    #[serde(rename = "type")]
    found: &'static str,
    log: String,
    offset: u64,
    end: u64,
    #[serde(flatten)]
    op: Option<OpRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    promised_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorObject>,
}

#[derive(Debug, Serialize)]
struct OpRow {
    seq_no: i64,
    /// Of the history before the operation.
    checksum: u32,
    author: u32,
    kind: &'static str,
    #[serde(flatten)]
    path: Option<PathObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fnode: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    chain: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_seq_no: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_checksum: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_crc32c: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actual_crc32c: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark_unix_nanos: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark_name: Option<String>,
}

impl Row {
    fn new(log: &JournalName, found: &Found) -> Self {
        let row = |found, begin: &Offset, end: &Offset| Self {
            found,
            log: log.to_string(),
            offset: begin.get(),
            end: end.get(),
            ..Self::default()
        };
        match found {
            Found::Op(op) => Self { op: Some(OpRow::new(op)), ..row("op", &op.begin, &op.end) },
            Found::Undecodable { begin, end, error } => {
                Self { reason: Some(error.to_string()), ..row("undecodable", begin, end) }
            }
            Found::Junk { begin, end } => row("junk", begin, end),
            Found::Torn { begin, present, promised } => {
                Self { promised_bytes: *promised, ..row("torn", begin, &begin.saturating_add(*present)) }
            }
            Found::Missing { begin, end } => row("missing", begin, end),
            Found::Unreadable { begin, end, error } => {
                Self { error: Some(error.into()), ..row("unreadable", begin, end) }
            }
            _ => row("unknown", &Offset::ZERO, &Offset::ZERO),
        }
    }
}

impl OpRow {
    fn new(found: &FoundOp) -> Self {
        let op = &found.op;
        let (fnode, path, file_offset, length) = match &op.body {
            OpBody::NoOp => (None, None, None, None),
            OpBody::Create { path } => (Some(op.seq_no.get()), Some(path), None, None),
            OpBody::Link { fnode, path } | OpBody::Unlink { fnode, path } => {
                (Some(fnode.get()), Some(path), None, None)
            }
            OpBody::Write { fnode, offset } => (Some(fnode.get()), None, Some(*offset), None),
            OpBody::Property { path, content } => (None, Some(path), None, Some(content.len() as u64)),
        };
        let (expected_seq_no, expected_checksum) = match found.chain {
            ChainCheck::Broken { expected_seq_no, expected_checksum } => {
                (Some(expected_seq_no.get()), Some(expected_checksum.get()))
            }
            _ => (None, None),
        };
        let (expected_crc32c, actual_crc32c) = match found.payload {
            Some(PayloadCheck::Damaged { expected, actual }) => (Some(expected), Some(actual)),
            _ => (None, None),
        };
        let mark_name = op.mark.as_ref().and_then(|mark| mark.name.as_deref());
        Self {
            seq_no: op.seq_no.get(),
            checksum: op.checksum.get(),
            author: op.author.map_or(0, Author::get),
            kind: op.kind_name(),
            path: path.map(PathObject::from),
            fnode,
            file_offset,
            length: length.or_else(|| op.payload.map(|payload| payload.len)),
            chain: chain_name(found.chain),
            expected_seq_no,
            expected_checksum,
            payload: found.payload.map(payload_name),
            expected_crc32c,
            actual_crc32c,
            mark_unix_nanos: op.mark.as_ref().map(|mark| mark.unix_nanos),
            mark_name: mark_name.map(|name| String::from_utf8_lossy(name).into_owned()),
        }
    }
}
