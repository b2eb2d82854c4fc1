//! Frames: how a reader finds operations in the bytes of a log, and finds them again after junk.
//!
//! *Invariants.* Each step either consumes at least one byte, asks for more bytes than it was given, or ends.
//! No step asks for more than [`FRAME_BYTES_MAX`]. Which bytes are frames does not depend on how much of the
//! log is at hand at a time; where one run of skipped bytes ends and the next begins does.
//!
//! *Does not* decode what a frame holds (`op`), nor skip the raw bytes that follow the frame of a write: that
//! is the caller's, who alone knows their number.

use std::ops::Range;

/// The bytes that every frame begins with.
pub const MAGIC: [u8; 4] = [0x66, 0x33, 0x93, 0x36];

/// Length of the header: the magic and a little-endian `u32`, the length of the message.
pub const HEADER_BYTES: usize = 8;

/// The longest frame, header included: 16 MiB.
///
/// An operation is a path of a few KiB at most, or the content of a property, which is a small file. The limit
/// bounds what a reader must hold at once because a header says so. A header that promises more is junk.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// What stands at the beginning of some bytes of a log; see [`decode_frame`].
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// A frame. Its message has this range, and the frame ends where the message ends.
    Frame {
        /// Where the message is in the bytes given.
        message: Range<usize>,
    },
    /// Junk where a frame should begin.
    Desync {
        /// How many bytes to step over, at least 1. More junk may follow.
        skip: usize,
        /// The length of the message that the junk promises, where it is a header, but one that promises more
        /// than [`FRAME_BYTES_MAX`]. Readers of the reference take it for a frame, and wait for its end.
        oversize: Option<u32>,
    },
    /// Nothing can be said yet: call again with at least this many bytes, or with the end of the log.
    NeedMore {
        /// How many bytes are needed, counted from where these begin.
        bytes: usize,
    },
    /// A header at the end of the log, and not all that it promises. Readers of the reference take whatever
    /// is appended next for the rest of it.
    Torn {
        /// How many bytes are there.
        present: usize,
        /// How long the whole frame would be; `None` where the header itself is cut.
        promised: Option<usize>,
    },
    /// The end of the log. A single newline may be left over, which does not count as junk.
    End,
}

/// Tells what stands at the beginning of `bytes`; `at_end` says that the log ends with them.
///
/// ```
/// use recoverylog::wire::{Step, decode_frame};
///
/// let log = b"junk\x66\x33\x93\x36\x02\0\0\0\x08\x01";
/// assert_eq!(decode_frame(log, false), Step::Desync { skip: 4, oversize: None });
/// assert_eq!(decode_frame(&log[4..13], false), Step::NeedMore { bytes: 10 });
/// assert_eq!(decode_frame(&log[4..13], true), Step::Torn { present: 9, promised: Some(10) });
/// assert_eq!(decode_frame(&log[4..], false), Step::Frame { message: 8..10 });
/// assert_eq!(decode_frame(&log[14..], true), Step::End);
/// ```
#[inline]
pub fn decode_frame(bytes: &[u8], at_end: bool) -> Step {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return short(bytes, at_end);
    };
    let [m0, m1, m2, m3, l0, l1, l2, l3] = *header;
    if [m0, m1, m2, m3] != MAGIC {
        return Step::Desync { skip: junk_len(bytes), oversize: None };
    }
    let promised = u32::from_le_bytes([l0, l1, l2, l3]);
    let end = HEADER_BYTES.saturating_add(promised as usize);
    if promised as usize <= rest.len() && end <= FRAME_BYTES_MAX {
        return Step::Frame { message: HEADER_BYTES..end };
    }
    if end > FRAME_BYTES_MAX {
        Step::Desync { skip: junk_len(bytes), oversize: Some(promised) }
    } else if at_end {
        Step::Torn { present: bytes.len(), promised: Some(end) }
    } else {
        Step::NeedMore { bytes: end }
    }
}

/// Judges less than a header.
#[cold]
fn short(bytes: &[u8], at_end: bool) -> Step {
    if !at_end {
        return Step::NeedMore { bytes: HEADER_BYTES };
    }
    match bytes {
        [] | b"\n" => Step::End,
        _ if bytes.starts_with(&MAGIC) => Step::Torn { present: bytes.len(), promised: None },
        // A part of the magic is junk: whatever is appended after it is found.
        _ => Step::Desync { skip: junk_len(bytes), oversize: None },
    }
}

/// Returns the number of bytes before the next magic, or before what may be the beginning of one, or before a
/// newline that may be the log's last byte; the first byte is junk.
#[cold]
fn junk_len(bytes: &[u8]) -> usize {
    let begins = |at: &usize| {
        let tail = bytes.get(*at..).unwrap_or_default();
        tail == b"\n" || tail.iter().zip(&MAGIC).all(|(byte, magic)| byte == magic)
    };
    (1..bytes.len()).find(begins).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Walks a log of frames without raw bytes, `window` bytes at a time.
    fn walk(log: &[u8], window: usize) -> (Vec<&[u8]>, Vec<u8>, Step) {
        let (mut frames, mut junk, mut begin, mut end) = (Vec::new(), Vec::new(), 0, window.min(log.len()));
        loop {
            let at_end = end == log.len();
            match decode_frame(&log[begin..end], at_end) {
                Step::Frame { message } => {
                    frames.push(&log[begin..end][message.clone()]);
                    begin += message.end;
                }
                Step::Desync { skip, .. } => {
                    assert!(skip > 0);
                    junk.extend_from_slice(&log[begin..][..skip]);
                    begin += skip;
                }
                Step::NeedMore { bytes } => {
                    assert!(!at_end && bytes > end - begin && bytes <= FRAME_BYTES_MAX);
                    end = (begin + bytes).min(log.len());
                    continue;
                }
                last => return (frames, junk, last),
            }
            end = end.max(begin + window).min(log.len());
        }
    }

    fn frame(message: &[u8]) -> Vec<u8> {
        [&MAGIC[..], &(message.len() as u32).to_le_bytes(), message].concat()
    }

    #[test]
    fn junk_is_stepped_over_up_to_the_next_magic() {
        let log = [&b"\x66\x33"[..], &frame(b"one"), b"\x93\x36\x66\x33\x66", &frame(b""), b"\n"].concat();
        for window in [1, 3, 8, 16, 64] {
            let (frames, junk, last) = walk(&log, window);
            assert_eq!(frames, [&b"one"[..], b""]);
            assert_eq!(junk, b"\x66\x33\x93\x36\x66\x33\x66");
            assert_eq!(last, Step::End);
        }
    }

    #[test]
    fn a_newline_at_the_end_is_never_junk() {
        let log = [&frame(b"one")[..], b"\n\njunk junk junk\n"].concat();
        for window in [1, 8, 9, 64] {
            let (frames, junk, last) = walk(&log, window);
            assert_eq!((frames.len(), junk.as_slice(), last), (1, &b"\n\njunk junk junk"[..], Step::End));
        }
    }

    #[test]
    fn a_header_without_its_message_at_the_end_is_torn() {
        let whole = frame(b"message");
        for len in 4..whole.len() {
            let promised = (len >= HEADER_BYTES).then_some(whole.len());
            assert_eq!(decode_frame(&whole[..len], true), Step::Torn { present: len, promised });
        }
        for len in 1..4 {
            assert_eq!(decode_frame(&whole[..len], true), Step::Desync { skip: len, oversize: None });
        }
    }

    #[test]
    fn a_promise_beyond_the_limit_is_junk_and_asks_for_nothing() {
        for (promise, is_junk) in
            [(u32::MAX, true), (FRAME_BYTES_MAX as u32 - 7, true), (FRAME_BYTES_MAX as u32 - 8, false)]
        {
            let bytes = [&MAGIC[..], &promise.to_le_bytes(), &frame(b"next")].concat();
            let expected = if is_junk {
                Step::Desync { skip: 8, oversize: Some(promise) }
            } else {
                Step::NeedMore { bytes: FRAME_BYTES_MAX }
            };
            assert_eq!(decode_frame(&bytes, false), expected);
        }
    }

    proptest! {
        #[test]
        fn frames_do_not_depend_on_how_much_is_at_hand(
            parts in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..20).prop_map(|message| frame(&message)),
                    prop::collection::vec(prop::sample::select(MAGIC.to_vec()), 0..9),
                    prop::collection::vec(any::<u8>(), 0..9),
                    prop::collection::vec(prop::sample::select(b"\n\x66x".to_vec()), 0..4),
                ],
                0..12,
            ),
            window in 1..40_usize,
        ) {
            let log = parts.concat();
            prop_assert_eq!(walk(&log, window), walk(&log, log.len()));
        }
    }
}
