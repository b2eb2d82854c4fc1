//! The only owner of bytes: how operations and hints are written.
//!
//! *Invariants.* Every value that a log or a hint set can hold is decoded, or refused with a typed error:
//! no byte string panics, hangs, or allocates by a length that it merely claims.
//!
//! *Does not* read journals or files, nor judge what it decodes (`fsm`, `hints`).

mod op;
mod proto;
pub(crate) mod raw;

pub use op::{OpError, decode_op};
