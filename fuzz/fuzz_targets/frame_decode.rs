//! The frames of a log are the same however much of the log is at hand at a time, and every step goes on.
//!
//! Input: the window in bytes, then a log.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recoverylog::wire::{FRAME_BYTES_MAX, Step, decode_frame, decode_op};

/// What a reader finds: where messages lie, how many bytes are junk, and how the log ends.
#[derive(Debug, Eq, PartialEq)]
struct Found {
    messages: Vec<(usize, usize)>,
    junk_bytes: usize,
    torn_at: Option<usize>,
}

/// Reads `log` with `window` bytes at hand, or as many more as a step asks for.
fn walk(log: &[u8], window: usize) -> Found {
    let mut found = Found { messages: Vec::new(), junk_bytes: 0, torn_at: None };
    let mut begin = 0;
    let mut end = window.min(log.len());
    loop {
        let at_hand = &log[begin..end];
        match decode_frame(at_hand, end == log.len()) {
            Step::Frame { message } => {
                let payload = match decode_op(&at_hand[message.clone()]) {
                    Ok(op) => op.payload_len(),
                    Err(_) => 0,
                };
                found.messages.push((begin + message.start, begin + message.end));
                let Some(next) = (begin as u64 + message.end as u64).checked_add(payload) else {
                    return found;
                };
                if next > log.len() as u64 {
                    return found;
                }
                begin = next as usize;
            }
            Step::Desync { skip, .. } => {
                assert!(skip > 0 && skip <= at_hand.len());
                found.junk_bytes += skip;
                begin += skip;
            }
            Step::NeedMore { bytes } => {
                assert!(end < log.len(), "the log has ended");
                assert!(bytes > at_hand.len() && bytes <= FRAME_BYTES_MAX);
                end = (begin + bytes).min(log.len());
                continue;
            }
            Step::Torn { present, .. } => {
                assert_eq!(present, at_hand.len());
                found.torn_at = Some(begin);
                return found;
            }
            Step::End => return found,
            other => panic!("a step that this target does not know: {other:?}"),
        }
        end = end.max(begin + window).min(log.len());
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((window, log)) = input.split_first() else { return };
    assert_eq!(walk(log, log.len()), walk(log, usize::from(*window)));
});
