//! Goal: what cannot be of the history, or shows that a part of it is gone, is told with its kind and its place.
//! Method: logs whose operations are put together one by one, and hints of which something was taken away.

use super::*;
use crate::ids::{Checksum, SeqNo};
use crate::live::HintBudget;
use crate::op::Payload;

/// A writer that continues the history from some point.
#[derive(Clone)]
struct Writer {
    author: Author,
    next: (SeqNo, Checksum),
}

impl Writer {
    fn new(number: u32) -> Self {
        Self { author: author(number), next: (SeqNo::FIRST, Checksum::ZERO) }
    }

    /// Returns a writer that goes on where this one stands.
    fn fork(&self, number: u32) -> Self {
        Self { author: author(number), next: self.next }
    }

    /// Returns the frame of the next operation.
    fn frame(&mut self, body: OpBody, payload_bytes: Option<u64>) -> Vec<u8> {
        let ((seq_no, checksum), author) = (self.next, Some(self.author));
        let payload = payload_bytes.map(|len| Payload { len, crc32c: None });
        let mut frame = Vec::new();
        let op = RecordedOp { seq_no, checksum, author, body, payload, mark: None };
        let message = crate::wire::encode_op(&op, &mut frame).unwrap();
        self.next = (seq_no.next(), checksum.extend(&frame[message]));
        frame
    }

    fn no_op(&mut self) -> Vec<u8> {
        self.frame(OpBody::NoOp, None)
    }

    /// Leaves out some operations.
    fn miss(&mut self, operations: i64) {
        self.next = (SeqNo::new(self.next.0.get() + operations), Checksum::new(0x1234_5678));
    }
}

fn path(path: &str) -> LogPath {
    LogPath::from_bytes(path.as_bytes())
}

/// Restores a log that consists of these frames.
fn restore(frames: &[Vec<u8>]) -> Result<Played> {
    let journals = memory();
    journals.journal(&log()).append(Append::new(frames.concat()), soon()).unwrap();
    by(&whole(), &journals)?.restore()
}

#[test]
fn a_property_whose_path_leads_out_is_refused_at_its_operation() {
    let mut writer = Writer::new(1);
    let first = writer.no_op();
    let property = OpBody::Property { path: path("/../out"), content: "x".into() };
    let error = restore(&[first.clone(), writer.frame(property, None), writer.no_op()]).unwrap_err();
    let place = (error.offset().map(Offset::get), error.seq_no());
    assert_eq!((error.kind(), place), (ErrorKind::Corrupt, (Some(first.len() as u64), Some(SeqNo::new(2)))));
}

#[test]
fn a_log_without_its_beginning_is_a_loss_and_one_without_its_middle_is_corrupt() {
    let mut writer = Writer::new(1);
    let first = writer.no_op();
    writer.miss(3);
    let later = writer.no_op();
    let place = |error: &Error| (error.offset().map(Offset::get), error.seq_no());
    let error = restore(std::slice::from_ref(&later)).unwrap_err();
    assert_eq!((error.kind(), place(&error)), (ErrorKind::DataLoss, (Some(0), Some(SeqNo::new(5)))));
    let at = first.len() as u64;
    let error = restore(&[first, later]).unwrap_err();
    assert_eq!((error.kind(), place(&error)), (ErrorKind::Corrupt, (Some(at), Some(SeqNo::new(5)))));
}

/// Returns what a log ends with that promises 1000 bytes more than it has.
fn torn(writer: &mut Writer) -> Vec<u8> {
    let fnode = Fnode::new(SeqNo::FIRST);
    writer.frame(OpBody::Write { fnode, offset: 0 }, Some(1000))
}

#[test]
fn what_lies_in_a_torn_operation_tells_whether_the_log_ends_there() {
    let mut first = Writer::new(1);
    let begin = first.frame(OpBody::Create { path: path("/file") }, None);
    let torn = torn(&mut first);
    let by_another = |missed| {
        let mut writer = first.fork(2);
        writer.miss(missed);
        writer.no_op()
    };
    // Of a successor, which begins right behind it or in its place, or of the same writer later on.
    let hidden = [by_another(-1), by_another(0), {
        let mut writer = first.clone();
        writer.miss(100);
        writer.no_op()
    }];
    for hidden in hidden {
        let error = restore(&[begin.clone(), torn.clone(), hidden]).unwrap_err();
        let at = error.offset().map(Offset::get);
        assert_eq!((error.kind(), at), (ErrorKind::Corrupt, Some(begin.len() as u64)), "{error}");
    }
    // Of another history, or behind this one.
    for stranger in [by_another(1), by_another(100), by_another(-2)] {
        let played = restore(&[begin.clone(), torn.clone(), stranger]).unwrap();
        assert!(matches!(played.warnings[..], [Warning::TornAtTail { .. }]), "{:?}", played.warnings);
    }
}

#[test]
fn a_dead_branch_before_a_torn_operation_says_nothing_of_the_end_of_the_log() {
    let mut old = Writer::new(1);
    let mut frames = vec![old.frame(OpBody::Create { path: path("/file") }, None)];
    let mut new = old.fork(2);
    frames.push(new.no_op());
    // What the old writer still had on its way goes further than the history.
    frames.extend((0..5).map(|_| old.no_op()));
    frames.push(new.no_op());
    let end = frames.concat().len() as u64;
    frames.push(torn(&mut new));
    let played = restore(&frames).unwrap();
    assert_eq!(played.position.get(), end);
    assert_eq!((played.counts.applied_ops, played.counts.rejected_ops), (3, 5));
    assert!(matches!(played.warnings[..], [Warning::TornAtTail { .. }]), "{:?}", played.warnings);
}

/// Records a file, twenty that are gone, and another file; returns its hints.
fn record(journals: &MemoryJournals) -> FsmHints {
    let budget = HintBudget { seek_bytes: 0, ..HintBudget::default() };
    let recorder = take_over(journals, 1, RecorderOptions::default().hint_budget(budget));
    create(&recorder, "/first");
    for number in 0..20 {
        let dead = format!("/dead-{number}");
        create(&recorder, &dead);
        recorder.unlink(&path(&dead)).unwrap();
    }
    create(&recorder, "/second");
    hints(&recorder)
}

#[test]
fn hints_that_do_not_know_where_segments_end_step_over_what_lies_between_as_well() {
    let journals = memory();
    let mut hints = record(&journals);
    let known = by(&hints, &journals).unwrap().restore().unwrap();
    // As the reference writes them.
    for segment in hints.files.iter_mut().flat_map(|file| &mut file.segments) {
        (segment.end_offset, segment.end_checksum) = (None, None);
    }
    let player = by(&hints, &journals).unwrap();
    assert_eq!(player.plan().ranges.len(), 1);
    let played = player.restore().unwrap();
    assert_eq!(played.counts, known.counts);
    assert!(known.counts.written_bytes == 14 && known.counts.rejected_ops == 0, "{:?}", known.counts);
}

#[test]
fn a_hinted_range_without_its_last_operation_is_a_loss_in_this_range() {
    let journals = memory();
    let hints = record(&journals);
    let journal = journals.journal(&log());
    let ranges = by(&hints, &journals).unwrap().plan().ranges.clone();
    assert!(ranges.len() > 1, "{ranges:?}");
    let first = ranges[0].begin.get()..ranges[0].end.get();
    let last = first.clone().rev().find(|&at| byte(&journal, at) == MAGIC[0]).unwrap();
    assert!(journal.corrupt_byte(Offset::new(last).unwrap(), 0xff));
    let error = by(&hints, &journals).unwrap().restore().unwrap_err();
    let at = error.offset().unwrap().get();
    assert_eq!(error.kind(), ErrorKind::DataLoss);
    assert!((last..=first.end).contains(&at), "{error}");
}
