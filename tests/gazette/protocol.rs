//! The messages of Gazette's brokers as a server has them.
//!
//! *Invariants.* They come from the same file as those of the library.
//!
//! *Does not* share code with the client.

#[expect(
    clippy::pedantic,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    unnameable_types,
    unreachable_pub,
    reason = "generated"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/server/protocol.rs"));
}

pub(crate) use self::generated::*;
