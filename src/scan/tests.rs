//! Goal: a scan accounts for every byte of a log, and names each kind of damage.
//!
//! Method: logs built here, in memory, damaged with the journal's aids for tests.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::ids::{Author, Checksum, Fnode, JournalName, LogPath, SeqNo};
use crate::journal::{Append, MemoryJournal, MemoryJournals};
use crate::op::OpBody;
use crate::wire::encode_op;

/// Writes a log, one append for each operation.
struct Log {
    journal: Arc<MemoryJournal>,
    seq_no: SeqNo,
    checksum: Checksum,
}

impl Log {
    fn new(chunk_bytes_max: usize) -> Self {
        let journals = MemoryJournals::new().fragment_bytes(1).chunk_bytes_max(chunk_bytes_max);
        let journal = journals.journal(&JournalName::new("acme/orders").unwrap());
        Self { journal, seq_no: SeqNo::FIRST, checksum: Checksum::ZERO }
    }

    fn append(&self, bytes: Vec<u8>) -> Offset {
        self.journal.append(Append::new(bytes), Deadline::passed()).unwrap().begin
    }

    fn op(&mut self, body: OpBody, payload: Option<&[u8]>) -> Offset {
        let recorded =
            payload.map(|bytes| Payload { len: bytes.len() as u64, crc32c: Some(crc32c::crc32c(bytes)) });
        let (seq_no, checksum, author) = (self.seq_no, self.checksum, Author::new(7));
        let op = RecordedOp { seq_no, checksum, author, body, payload: recorded, mark: None };
        let mut frame = Vec::new();
        let message = encode_op(&op, &mut frame).unwrap();
        self.checksum = checksum.extend(&frame[message]);
        self.seq_no = seq_no.next();
        frame.extend_from_slice(payload.unwrap_or_default());
        self.append(frame)
    }

    fn create(&mut self, path: &str) -> Offset {
        self.op(OpBody::Create { path: LogPath::from_bytes(path.as_bytes()) }, None)
    }

    fn write(&mut self, payload: &[u8]) -> Offset {
        self.op(OpBody::Write { fnode: Fnode::new(SeqNo::FIRST), offset: 0 }, Some(payload))
    }

    fn scan(&self) -> Vec<Found> {
        self.scan_with(ScanOptions::default())
    }

    fn scan_with(&self, options: ScanOptions) -> Vec<Found> {
        let journal = Arc::clone(&self.journal);
        LogScan::open(journal, options).unwrap().collect::<Result<_>>().unwrap()
    }
}

/// Shows what was found in one word each, with where it begins and ends.
fn words(found: &[Found]) -> Vec<String> {
    let word = |found: &Found| match found {
        Found::Op(op) => {
            let chain = match op.chain {
                ChainCheck::Continues => "",
                ChainCheck::Begins => " begins",
                ChainCheck::Dead => " dead",
                ChainCheck::Broken { .. } => " broken",
            };
            let payload = match op.payload {
                None | Some(PayloadCheck::Good) => "",
                Some(PayloadCheck::Unchecked) => " unchecked",
                Some(PayloadCheck::Damaged { .. }) => " damaged",
            };
            format!("{} {}..{}{chain}{payload}", op.op.kind_name(), op.begin, op.end)
        }
        Found::Undecodable { begin, end, .. } => format!("undecodable {begin}..{end}"),
        Found::Junk { begin, end } => format!("junk {begin}..{end}"),
        Found::Torn { begin, present, promised } => format!("torn {begin} {present} of {promised:?}"),
        Found::Missing { begin, end } => format!("missing {begin}..{end}"),
        Found::Unreadable { begin, end, .. } => format!("unreadable {begin}..{end}"),
    };
    found.iter().map(word).collect()
}

#[test]
fn junk_undecodable_frames_and_a_torn_tail_are_each_found_once() {
    let mut log = Log::new(usize::MAX);
    log.append(b"junk before".to_vec());
    log.create("/a");
    log.append(b"\x66\x33\x93\x36\x01\0\0\0\xffmore\x66\x33 junk".to_vec());
    let begin = log.write(b"payload");
    let end = log.journal.head(Deadline::passed()).unwrap().offset;
    log.journal.truncate(Offset::new(end.get() - 1).unwrap());
    let found = words(&log.scan());
    let promised = end.bytes_since(begin);
    assert_eq!(
        found,
        [
            "junk 0..11".to_owned(),
            "create 11..32".to_owned(),
            "undecodable 32..41".to_owned(),
            "junk 41..52".to_owned(),
            format!("torn 52 {} of Some({promised})", promised - 1),
        ]
    );
}

#[test]
fn a_length_that_promises_too_much_hides_no_operation_behind_it() {
    let mut log = Log::new(7);
    log.create("/a");
    let begin = log.create("/b");
    let next = log.write(b"payload");
    // The third byte of the message's length: 4 MiB more.
    assert!(log.journal.corrupt_byte(Offset::new(begin.get() + 6).unwrap(), 0x40));
    let found = words(&log.scan());
    assert_eq!(found[1], format!("torn {begin} {} of Some(4194330)", next.bytes_since(begin)));
    assert!(found[2].starts_with(&format!("write {next}..")) && found[2].ends_with(" broken"), "{found:?}");
}

#[test]
fn a_hole_interrupts_the_chain_and_a_lost_operation_breaks_it() {
    let mut log = Log::new(usize::MAX);
    log.create("/a");
    let second = log.create("/b");
    log.create("/c");
    // An operation that was never appended.
    log.seq_no = log.seq_no.next();
    log.create("/d");
    log.create("/e");
    assert!(log.journal.drop_fragment(second));
    let found = words(&log.scan());
    assert_eq!(
        found,
        ["create 0..21", "missing 21..47", "create 47..73 begins", "create 73..99 broken", "create 99..125"]
    );
}

#[test]
fn a_damaged_payload_is_found_and_nothing_else_suffers() {
    let mut log = Log::new(usize::MAX);
    log.create("/a");
    log.write(b"payload");
    let begin = log.write(b"damaged");
    log.write(b"");
    let end = log.journal.head(Deadline::passed()).unwrap().offset;
    assert!(log.journal.corrupt_byte(Offset::new(begin.get() + 35).unwrap(), 0x10));
    let found = words(&log.scan());
    assert!(found[2].ends_with(" damaged"), "{found:?}");
    assert_eq!(found.iter().filter(|word| word.split(' ').count() == 2).count(), 3, "{found:?}");
    assert!(found[3].ends_with(&format!("..{end}")));
    let unchecked = ScanOptions { check_payloads: false, ..ScanOptions::default() };
    assert!(words(&log.scan_with(unchecked))[2].ends_with(" unchecked"));
}

#[test]
fn a_range_begins_at_the_next_frame_and_ends_before_the_first_one_past_it() {
    let mut log = Log::new(usize::MAX);
    for path in ["/a", "/b", "/c", "/d"] {
        log.create(path);
    }
    let range = |begin, end| ScanOptions { begin: at(begin), end: Some(at(end)), ..ScanOptions::default() };
    assert_eq!(words(&log.scan_with(range(21, 47))), ["create 21..47 begins"]);
    assert_eq!(words(&log.scan_with(range(22, 48))), ["junk 22..47", "create 47..73 begins"]);
    assert_eq!(words(&log.scan_with(range(99, 500))), Vec::<String>::new());
    for (begin, end) in [(100, 500), (52, 51)] {
        let journal = Arc::clone(&log.journal);
        let error = LogScan::open(journal, range(begin, end)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

#[test]
fn a_newline_is_junk_before_a_hole_and_not_at_the_head() {
    let log = Log::new(usize::MAX);
    for junk in [&b"\n"[..], b"junk\n"] {
        log.append(junk.to_vec());
        let hole = log.append(vec![1, 2, 3]);
        log.journal.drop_fragment(hole);
    }
    log.append(b"\n".to_vec());
    assert_eq!(words(&log.scan()), ["junk 0..1", "missing 1..4", "junk 4..9", "missing 9..12"]);
}

fn at(offset: u64) -> Offset {
    Offset::new(offset).unwrap()
}

/// Returns where each thing begins and ends.
fn span(found: &Found) -> (Offset, Offset) {
    match found {
        Found::Op(op) => (op.begin, op.end),
        Found::Torn { begin, present, .. } => (*begin, begin.saturating_add(*present)),
        Found::Undecodable { begin, end, .. }
        | Found::Junk { begin, end }
        | Found::Missing { begin, end }
        | Found::Unreadable { begin, end, .. } => (*begin, *end),
    }
}

proptest! {
    #[test]
    fn every_byte_is_found_once_whatever_the_chunks(
        parts in prop::collection::vec(
            prop_oneof![
                3 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Part::Write),
                1 => prop::collection::vec(prop::sample::select(MAGIC.to_vec()), 1..9).prop_map(Part::Junk),
                1 => prop::collection::vec(any::<u8>(), 1..20).prop_map(Part::Junk),
                1 => Just(Part::Hole),
            ],
            0..10,
        ),
        chunk_bytes_max in 1..50_usize,
    ) {
        let (mut log, mut whole) = (Log::new(chunk_bytes_max), Log::new(usize::MAX));
        for part in &parts {
            for log in [&mut log, &mut whole] {
                match part {
                    Part::Write(payload) => { log.write(payload); }
                    Part::Junk(bytes) => { log.append(bytes.clone()); }
                    Part::Hole => {
                        let begin = log.append(vec![1, 2, 3]);
                        log.append(vec![4]);
                        log.journal.drop_fragment(begin);
                    }
                }
            }
        }
        let found = log.scan();
        prop_assert_eq!(words(&found), words(&whole.scan()));
        let mut expected = Offset::ZERO;
        for found in &found {
            let (begin, end) = span(found);
            prop_assert_eq!(begin, expected);
            prop_assert!(end > begin);
            expected = end;
        }
        let head = log.journal.head(Deadline::passed()).unwrap().offset;
        let ends_in_newline = parts.last().is_some_and(|part| matches!(part, Part::Junk(b) if b.ends_with(b"\n")));
        prop_assert!(expected == head || ends_in_newline);
    }
}

#[derive(Clone, Debug)]
enum Part {
    Write(Vec<u8>),
    Junk(Vec<u8>),
    Hole,
}

#[test]
fn bytes_that_do_not_come_in_time_are_not_the_end_of_the_log() {
    let mut log = Log::new(usize::MAX);
    log.create("/a");
    let second = log.create("/b");
    let options = ScanOptions { step_deadline: Duration::ZERO, ..ScanOptions::default() };
    let mut scan = LogScan::open(Arc::<MemoryJournal>::clone(&log.journal), options).unwrap();
    assert!(matches!(scan.next(), Some(Ok(Found::Op(_)))));
    log.journal.truncate(second);
    let late = scan.next().unwrap().unwrap_err();
    assert_eq!((late.kind(), late.offset()), (ErrorKind::Unavailable, Some(second)));
    assert!(scan.next().is_none());
}

#[test]
fn a_scan_ends_at_its_limit_however_well_it_goes() {
    let mut log = Log::new(1);
    log.create("/a");
    let options = ScanOptions { limit: Some(Deadline::passed()), ..ScanOptions::default() };
    let journal = Arc::<MemoryJournal>::clone(&log.journal);
    let late = LogScan::open(journal, options).unwrap().next().unwrap().unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Unavailable);
}
