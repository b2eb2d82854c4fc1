//! `recoverylog verify`: looks for everything in logs that is not as it was written.

mod faults;

use std::sync::Arc;

use recoverylog::fsm::Node;
use recoverylog::journal::{Fragment, Journal, ReadRange, ReadStep};
use recoverylog::scan::{ChainCheck, Found, FoundOp, LogScan, PayloadCheck, ScanOptions};
use recoverylog::{
    Deadline, Error, ErrorKind, Fsm, FsmHints, FsmOptions, JournalName, Offset, OpBody, Result, SeqNo,
};

use self::faults::{Fault, LogReport, Report};
use crate::args::Args;
use crate::output::{Output, Stop};
use crate::place::{Hints, Place};
use crate::progress::Progress;

pub(crate) fn run(args: &Args, output: &mut Output) -> Result<(), Stop> {
    let place = Place::open(args)?;
    let (hints, unreadable) = match Hints::read(args)? {
        Some(mut hints) => {
            let unreadable = std::mem::take(&mut hints.unreadable);
            (Some(hints.best(output)?), unreadable)
        }
        None => (None, Vec::new()),
    };
    let mut report = Report::default();
    match (&hints, &args.log) {
        (Some(hints), _) => {
            let fsm = Fsm::from_hints(hints, FsmOptions::default()).map_err(Error::from)?;
            let logs = logs_of(&fsm);
            let mut check = Check::new(&place, Some(hints), fsm);
            let log = check.fsm.last_log().clone();
            let of_set = |error| Fault::new(error, &log, Offset::ZERO, Offset::ZERO, None);
            check.faults.extend(unreadable.into_iter().map(of_set));
            for log in &logs {
                check.hints_within(log)?;
                check.log(log, output)?;
            }
            check.unused_hints();
            check.finish(&mut report);
        }
        (None, named) => {
            let logs = named.as_ref().map_or_else(|| place.logs(), |log| Ok(vec![log.clone()]))?;
            for log in &logs {
                // Without hints, a log is played from its first byte, apart from any other.
                let mut check = Check::new(&place, None, Fsm::new(log.clone()));
                check.plays_alone = named.is_some();
                check.log(log, output)?;
                check.finish(&mut report);
            }
        }
    }
    report.print(output)?;
    report.verdict()
}

/// Returns the logs that hints name, in the order of history.
fn logs_of(fsm: &Fsm) -> Vec<JournalName> {
    let mut logs: Vec<JournalName> = Vec::new();
    let hinted = fsm.hinted_segments().filter_map(|segment| segment.log.as_ref());
    for log in hinted.chain([fsm.last_log()]) {
        if !logs.contains(log) {
            logs.push(log.clone());
        }
    }
    logs
}

/// A check of one history, which may lie in several logs.
struct Check<'a> {
    place: &'a Place,
    hints: Option<&'a FsmHints>,
    fsm: Fsm,
    /// The log must hold its history from the first operation on. Of a log that nobody named it is not known:
    /// it may go on where another one ends.
    plays_alone: bool,
    /// The state machine took every operation that continues the history.
    followed: bool,
    faults: Vec<Fault>,
    /// The first of the faults that damaged fragments of the present log make.
    fragment_faults: std::ops::Range<usize>,
    /// What looks like damage, unless an operation of the history follows it.
    suspect: Option<Fault>,
    logs: Vec<LogReport>,
}

impl<'a> Check<'a> {
    const fn new(place: &'a Place, hints: Option<&'a FsmHints>, fsm: Fsm) -> Self {
        Self {
            place,
            hints,
            fsm,
            plays_alone: false,
            followed: true,
            faults: Vec::new(),
            fragment_faults: 0..0,
            suspect: None,
            logs: Vec::new(),
        }
    }

    /// Checks that what the hints name lies below the head of a log.
    fn hints_within(&mut self, log: &JournalName) -> Result<()> {
        let head =
            self.place.plain.open(log)?.head(Deadline::after(ScanOptions::default().step_deadline))?.offset;
        for segment in self.fsm.hinted_segments().filter(|segment| segment.log.as_ref() == Some(log)) {
            let end = segment.end_offset;
            if segment.first_offset < head && end.is_none_or(|end| end <= head) {
                continue;
            }
            let error = Error::new(ErrorKind::DataLoss, "hints name operations past the head of the log")
                .in_log(log)
                .at(segment.first_offset)
                .seq(segment.first_seq_no)
                .expected(segment, format_args!("a head of {head}"));
            let (begin, end) = (segment.first_offset, end.unwrap_or(Offset::MAX));
            self.faults.push(Fault::new(error, log, begin, end, self.hints));
        }
        Ok(())
    }

    /// Checks everything that is stored of a log.
    fn log(&mut self, log: &JournalName, output: &Output) -> Result<()> {
        let options = ScanOptions::default();
        let deadline = || Deadline::after(options.step_deadline);
        let checked = self.place.checked.open(log)?;
        let mut fragments = checked.fragments(deadline())?.into_iter().peekable();
        let mut scan = LogScan::open(self.place.plain.open(log)?, options)?;
        let progress = Progress::begin(output, "verifying", scan.head().get());
        let mut report = LogReport::new(log, scan.head());
        self.fragment_faults = self.faults.len()..self.faults.len();
        let mut last_end = Offset::ZERO;
        while let Some(found) = scan.next() {
            let found = found?;
            // A fragment is checked when the scan comes to it: then both read the same cached pages.
            while let Some(fragment) = fragments.next_if(|fragment| fragment.begin < scan.at()) {
                report.fragments += 1;
                self.fragment(log, &checked, &fragment)?;
            }
            progress.set(scan.at().get());
            self.found(log, found, last_end, &mut report);
            last_end = scan.at();
        }
        for fragment in fragments {
            report.fragments += 1;
            self.fragment(log, &checked, &fragment)?;
        }
        self.faults.extend(self.suspect.take());
        progress.end();
        self.logs.push(report);
        Ok(())
    }

    /// Reads a whole fragment, whose journal compares its length and sum with its name.
    fn fragment(&mut self, log: &JournalName, journal: &Arc<dyn Journal>, fragment: &Fragment) -> Result<()> {
        let mut reader = journal.read(ReadRange::bounded(fragment.begin, fragment.end))?;
        loop {
            match reader.next(Deadline::after(ScanOptions::default().step_deadline)) {
                Ok(ReadStep::Chunk(_) | ReadStep::Interrupted) => {}
                Ok(ReadStep::Jump { .. } | ReadStep::AtHead { .. } | ReadStep::End) => return Ok(()),
                Err(error) => {
                    let error = Error::from(error);
                    if !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::DataLoss | ErrorKind::Io) {
                        return Err(error);
                    }
                    self.fragment_fault(log, fragment, error);
                    return Ok(());
                }
            }
        }
    }

    fn fragment_fault(&mut self, log: &JournalName, fragment: &Fragment, error: Error) {
        self.faults.push(Fault::new(error, log, fragment.begin, fragment.end, self.hints));
        self.fragment_faults.end = self.faults.len();
    }

    /// Takes what a scan found; what was found before it ends at `last_end`.
    fn found(&mut self, log: &JournalName, found: Found, last_end: Offset, report: &mut LogReport) {
        match found {
            Found::Op(found) => self.op(log, &found, last_end, report),
            Found::Undecodable { begin, end, error } => {
                report.undecodable_frames += 1;
                let what = "a frame holds no operation, and no operation of the history follows it";
                let error = Error::new(ErrorKind::Corrupt, what).in_log(log).at(begin).with_source(error);
                let fault = || Fault::new(error, log, begin, end, self.hints);
                self.suspect.get_or_insert_with(fault);
            }
            Found::Junk { begin, end } => report.junk_bytes += end.bytes_since(begin),
            Found::Torn { begin, present, promised } => report.torn(begin, present, promised),
            Found::Missing { begin, end } => {
                report.missing(begin, end);
                let error = Error::new(ErrorKind::DataLoss, "bytes are not stored")
                    .in_log(log)
                    .at(begin)
                    .expected(format_args!("bytes [{begin}, {end})"), "a hole");
                let error = match self.hints {
                    Some(_) => error,
                    None => error.advise("name hints with --hints: they say whether these bytes are needed"),
                };
                let fault = Fault::new(error, log, begin, end, self.hints);
                if fault.is_needed() {
                    self.followed = false;
                    self.faults.push(fault);
                }
            }
            Found::Unreadable { begin, end, error } => {
                self.followed = false;
                // A fragment that does not decode was reported when it was checked as a whole.
                let known = self.faults.get(self.fragment_faults.clone()).unwrap_or_default();
                if !known.iter().any(|fault| fault.covers(begin)) {
                    self.faults.push(Fault::new(error, log, begin, end, self.hints));
                }
            }
            _ => {}
        }
    }

    fn op(&mut self, log: &JournalName, found: &FoundOp, last_end: Offset, report: &mut LogReport) {
        if self.plays_alone && report.is_first(found) {
            let what = "the log does not begin with the first operation of its history";
            let error = Error::new(ErrorKind::DataLoss, what)
                .in_log(log)
                .at(found.begin)
                .seq(found.op.seq_no)
                .expected(format_args!("seq-no {}", SeqNo::FIRST), found.op.seq_no)
                .advise("name hints with --hints: the history may begin in another log");
            self.faults.push(Fault::new(error, log, Offset::ZERO, found.begin, self.hints));
        }
        report.op(found);
        let continues = match found.chain {
            ChainCheck::Broken { expected_seq_no, expected_checksum } => {
                let error = Error::new(ErrorKind::Corrupt, "operations before this one are missing")
                    .in_log(log)
                    .at(found.begin)
                    .seq(found.op.seq_no)
                    .expected(
                        format_args!("seq-no {expected_seq_no} after checksum {expected_checksum}"),
                        format_args!("seq-no {} after checksum {}", found.op.seq_no, found.op.checksum),
                    );
                self.faults.push(Fault::new(error, log, last_end, found.begin, self.hints));
                self.followed = false;
                false
            }
            chain => chain != ChainCheck::Dead,
        };
        let applied = self.fsm.apply(&found.op, &found.message, found.span(log));
        match applied {
            Ok(_) => self.suspect = None,
            Err(rejection) if rejection.is_divergence() => {
                let what = "an operation continues the history and contradicts it";
                let error = Error::new(ErrorKind::Diverged, what).in_log(log).at(found.begin);
                let error = error.seq(found.op.seq_no).with_source(rejection);
                self.faults.push(Fault::new(error, log, found.begin, found.end, self.hints));
                self.followed = false;
            }
            Err(_) if continues && self.fsm.hinted_segment().is_none() => self.followed = false,
            Err(_) => {}
        }
        self.payload(log, found);
        for index in self.fragment_faults.clone() {
            if let Some(fault) = self.faults.get_mut(index).filter(|fault| fault.overlaps(found)) {
                touch(fault, &self.fsm, found);
            }
        }
    }

    fn payload(&mut self, log: &JournalName, found: &FoundOp) {
        let Some(PayloadCheck::Damaged { expected, actual }) = found.payload else { return };
        let error = Error::new(ErrorKind::Corrupt, "a payload is not what was written")
            .in_log(log)
            .at(found.payload_begin)
            .seq(found.op.seq_no)
            .expected(format_args!("CRC-32C {expected:08x}"), format_args!("{actual:08x}"));
        let mut fault = Fault::new(error, log, found.payload_begin, found.end, self.hints);
        fault.is_dead_branch = found.chain == ChainCheck::Dead;
        touch(&mut fault, &self.fsm, found);
        fault.only_touched_hints();
        self.faults.push(fault);
    }

    /// Reports hints whose operations the logs do not hold.
    fn unused_hints(&mut self) {
        let (Some(segment), log) = (self.fsm.hinted_segment(), self.fsm.last_log().clone()) else { return };
        let log = segment.log.clone().unwrap_or(log);
        let next = self.fsm.next_seq_no();
        let what = "the log does not hold the operations that the hints name";
        let error = Error::new(ErrorKind::DataLoss, what)
            .in_log(&log)
            .at(segment.first_offset)
            .seq(next)
            .expected(format_args!("seq-no {next} of {segment}"), "no such operation");
        let (begin, end) = (segment.first_offset, segment.end_offset.unwrap_or(Offset::MAX));
        self.faults.push(Fault::new(error, &log, begin, end, self.hints));
    }

    fn finish(self, report: &mut Report) {
        let followed = self.followed && self.fsm.hinted_segment().is_none();
        report.logs.extend(self.logs);
        let finished = self.faults.into_iter().map(|mut fault| {
            fault.finish(&self.fsm, followed);
            fault
        });
        report.faults.extend(finished);
    }
}

/// Says that the file of an operation suffers from a fault.
fn touch(fault: &mut Fault, fsm: &Fsm, found: &FoundOp) {
    match &found.op.body {
        OpBody::Create { path } => fault.touch(found.op.seq_no.into(), [path]),
        OpBody::Link { fnode, path } | OpBody::Unlink { fnode, path } => fault.touch(*fnode, [path]),
        OpBody::Write { fnode, .. } => {
            fault.touch(*fnode, fsm.node(*fnode).map(Node::links).unwrap_or_default());
        }
        OpBody::Property { path, .. } => fault.touch_property(path),
        OpBody::NoOp => {}
    }
}
