//! Whatever decodes as hints can be played, and survives both encodings.
//!
//! Input: hints, in JSON or protobuf.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recoverylog::{Fsm, FsmHints, FsmOptions};

fuzz_target!(|bytes: &[u8]| {
    let Ok(hints) = FsmHints::decode(bytes) else { return };
    let begun = Fsm::from_hints(&hints, FsmOptions::default());
    assert_eq!(begun.is_ok(), hints.log.is_some(), "{hints:?}: {:?}", begun.err());

    let proto = hints.encode_proto();
    if !proto.is_empty() {
        assert_eq!(FsmHints::decode(&proto).as_ref(), Ok(&hints));
    }
    // JSON keeps text only: what is left the first time stays. It may be written in another way, since bytes that are no
    // text become an escape, and the character that it stands for is written as it is.
    let json = hints.encode_json();
    let textual = FsmHints::decode(&json).expect("what was encoded decodes");
    assert_eq!((&textual.log, &textual.files, &textual.as_of), (&hints.log, &hints.files, &hints.as_of));
    assert_eq!(FsmHints::decode(&textual.encode_json()).as_ref(), Ok(&textual));
});
