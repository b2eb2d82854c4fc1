//! Goal: the price of one operation: decoded, checked, applied, encoded.
//! Method: one history of a million operations, 96% of them writes, without the raw bytes of the writes. Each pass
//! goes over the whole of it; passes take turns, so that all of them meet the same weather. Printed per pass:
//! the median, fastest and slowest of all repeats, and the ratio to the baseline, prost plus checksum. The
//! target is 15 million operations per second for decode + apply.
//!
//! `cargo bench --bench codec`

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints its figures")]

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use prost::Message;
use recoverylog::fsm::Span;
use recoverylog::wire::{Step, decode_frame, decode_op, encode_op};
use recoverylog::{
    Author, Checksum, Fnode, Fsm, JournalName, LogPath, Offset, OpBody, Payload, RecordedOp, SeqNo,
};

const OPS: usize = 1_000_000;
const REPEATS: usize = 15;
/// How many files are written to at a time.
const OPEN_FILES: u64 = 8;
const WRITE_BYTES: u64 = 4096;

fn main() {
    let ops = history();
    let mut log = Vec::new();
    encode(&ops, &mut log);
    let again = RefCell::new(log.clone());
    let writes = ops.iter().filter(|op| op.payload.is_some()).count();
    println!("{} operations, {}% writes, {} bytes of frames", ops.len(), writes * 100 / ops.len(), log.len());

    let passes: [(&str, &dyn Fn() -> u64); 5] = [
        ("prost + checksum (baseline)", &|| decode_with_prost(&log)),
        ("frame + decode", &|| decode(&log)),
        ("frame + decode + checksum", &|| decode_and_check(&log)),
        ("frame + decode + apply", &|| decode_and_apply(&log)),
        ("encode", &|| encode(&ops, &mut again.borrow_mut())),
    ];
    let mut times = passes.map(|_| Vec::with_capacity(REPEATS));
    for _ in 0..REPEATS {
        for ((_, pass), times) in passes.iter().zip(&mut times) {
            times.push(time(pass));
        }
    }
    let [baseline, ..] = &mut times;
    let baseline = median(baseline);
    for ((name, _), times) in passes.iter().zip(&mut times) {
        let median = median(times);
        let ns = |time: Duration| time.as_secs_f64() * 1e9 / OPS as f64;
        println!(
            "{name:28} {:6.1} ns/op [{:.1}..{:.1}] {:6.2} M ops/s, {:.2} x baseline",
            ns(median),
            ns(times.iter().min().copied().unwrap_or_default()),
            ns(times.iter().max().copied().unwrap_or_default()),
            1e3 / ns(median),
            median.as_secs_f64() / baseline.as_secs_f64(),
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn time(pass: &dyn Fn() -> u64) -> Duration {
    let begin = Instant::now();
    black_box(pass());
    begin.elapsed()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Makes a history in which files are created, appended to in turn, and unlinked when they fall out of use.
fn history() -> Vec<RecordedOp> {
    let mut random = 7_u64;
    let mut files: Vec<(Fnode, u64)> = Vec::new();
    let mut checksum = Checksum::ZERO;
    let mut frame = Vec::new();
    let path = |fnode: Fnode| LogPath::from_bytes(format!("/{:06}.sst", fnode.get()).as_bytes());
    let mut ops = Vec::with_capacity(OPS);
    for seq_no in (1..=OPS as i64).map(SeqNo::new) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let choice = random >> 40;
        let recent = files.len().saturating_sub(1 + (choice % OPEN_FILES) as usize);
        let crowded = files.len() > 500;
        let (body, payload) = match files.get_mut(recent) {
            Some((fnode, end)) if choice % 100 >= 4 => {
                let offset = *end;
                *end += WRITE_BYTES;
                let payload = Payload { len: WRITE_BYTES, crc32c: Some(choice as u32) };
                (OpBody::Write { fnode: *fnode, offset }, Some(payload))
            }
            Some(_) if crowded => {
                let (fnode, _) = files.remove(choice as usize % 100);
                (OpBody::Unlink { fnode, path: path(fnode) }, None)
            }
            _ => {
                let fnode = Fnode::new(seq_no);
                files.push((fnode, 0));
                (OpBody::Create { path: path(fnode) }, None)
            }
        };
        let op = RecordedOp { seq_no, checksum, author: Author::new(0xdead_beef), body, payload, mark: None };
        frame.clear();
        let message = encode_op(&op, &mut frame).unwrap();
        checksum = checksum.extend(frame.get(message).unwrap_or_default());
        ops.push(op);
    }
    ops
}

fn encode(ops: &[RecordedOp], log: &mut Vec<u8>) -> u64 {
    log.clear();
    for op in ops {
        encode_op(op, log).unwrap();
    }
    log.len() as u64
}

/// Calls `each` with every message of the log, and returns how many there are.
#[inline]
fn for_each_message(mut log: &[u8], mut each: impl FnMut(&[u8])) -> u64 {
    let mut count = 0;
    while let Step::Frame { message } = decode_frame(log, true) {
        let (frame, rest) = log.split_at(message.end);
        each(frame.get(message).unwrap_or_default());
        log = rest;
        count += 1;
    }
    assert_eq!(count, OPS as u64);
    count
}

fn decode_with_prost(log: &[u8]) -> u64 {
    let mut checksum = Checksum::ZERO;
    for_each_message(log, |message| {
        let op = ProstOp::decode(message).unwrap();
        assert_eq!(op.checksum, checksum.get());
        checksum = checksum.extend(message);
        black_box(&op);
    })
}

fn decode(log: &[u8]) -> u64 {
    for_each_message(log, |message| {
        black_box(&decode_op(message).unwrap());
    })
}

fn decode_and_check(log: &[u8]) -> u64 {
    let mut checksum = Checksum::ZERO;
    for_each_message(log, |message| {
        let op = decode_op(message).unwrap();
        assert_eq!(op.checksum, checksum);
        checksum = checksum.extend(message);
        black_box(&op);
    })
}

fn decode_and_apply(log: &[u8]) -> u64 {
    let name = JournalName::new("bench/log").unwrap();
    let mut fsm = Fsm::new(name.clone());
    let mut begin = Offset::ZERO;
    for_each_message(log, |message| {
        let op = decode_op(message).unwrap();
        let end = begin.saturating_add(message.len() as u64 + 8 + op.payload_len());
        black_box(&fsm.apply(&op, message, Span { log: &name, begin, end: Some(end) }).unwrap());
        begin = end;
    })
}

/// The messages that the history uses, as prost would have them decoded.
#[derive(Clone, PartialEq, Message)]
struct ProstOp {
    #[prost(int64, tag = "1")]
    seq_no: i64,
    #[prost(fixed32, tag = "2")]
    checksum: u32,
    #[prost(fixed32, tag = "3")]
    author: u32,
    #[prost(message, optional, tag = "4")]
    create: Option<ProstCreate>,
    #[prost(message, optional, tag = "6")]
    unlink: Option<ProstLink>,
    #[prost(message, optional, tag = "7")]
    write: Option<ProstWrite>,
}

#[derive(Clone, PartialEq, Message)]
struct ProstCreate {
    #[prost(bytes = "vec", tag = "1")]
    path: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ProstLink {
    #[prost(int64, tag = "1")]
    fnode: i64,
    #[prost(bytes = "vec", tag = "2")]
    path: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ProstWrite {
    #[prost(int64, tag = "1")]
    fnode: i64,
    #[prost(int64, tag = "2")]
    offset: i64,
    #[prost(int64, tag = "3")]
    length: i64,
    #[prost(fixed32, optional, tag = "2001")]
    payload_crc32c: Option<u32>,
}
