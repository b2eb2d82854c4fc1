//! Whatever decodes as an operation is encoded again to one that is equal, and from then on to the same bytes.
//!
//! Input: a message, without the header of its frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recoverylog::wire::{decode_op, encode_op};

fuzz_target!(|message: &[u8]| {
    let Ok(op) = decode_op(message) else { return };
    let mut first = Vec::new();
    // What no reader could read back may be refused, and nothing else is left behind then.
    let Ok(encoded) = encode_op(&op, &mut first) else {
        assert!(first.is_empty());
        return;
    };
    let again = decode_op(&first[encoded]).expect("what was encoded decodes");
    assert_eq!(again, op);
    let mut second = Vec::new();
    encode_op(&again, &mut second).expect("what was encoded once is encoded twice");
    assert_eq!(first, second);
});
