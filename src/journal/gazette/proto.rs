//! The messages of Gazette's brokers, and what they mean here.
//!
//! *Invariants.* What a broker says is checked before anybody goes by it: an offset is not negative, a fragment does not end
//! before it begins.
//!
//! *Does not* talk to anybody.

use std::fmt;

use super::super::fragments::FragmentName;
use super::super::{Codec, Fragment as Stored, Register, RegisterSelector, RegisterSet};
use crate::ids::Offset;

#[expect(
    clippy::pedantic,
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    unnameable_types,
    unreachable_pub,
    reason = "generated"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/client/protocol.rs"));
}

pub(super) use self::generated::*;

/// Returns registers as labels.
pub(super) fn labels(registers: &RegisterSet) -> LabelSet {
    let label = |register: &Register| Label {
        name: register.name.clone(),
        value: register.value.clone(),
        prefix: false,
    };
    LabelSet { labels: registers.iter().map(label).collect() }
}

/// Returns a check of registers; nothing where it demands nothing.
pub(super) fn selector(selector: &RegisterSelector) -> LabelSelector {
    let of = |registers: &RegisterSet| (!registers.is_empty()).then(|| labels(registers));
    LabelSelector { include: of(&selector.include), exclude: of(&selector.exclude) }
}

/// Returns labels as registers.
pub(super) fn registers(labels: Option<LabelSet>) -> RegisterSet {
    let labels = labels.unwrap_or_default().labels.into_iter();
    labels.map(|label| Register::new(label.name, label.value)).collect()
}

/// Returns an offset that a broker named.
pub(super) fn offset(offset: i64) -> Option<Offset> {
    u64::try_from(offset).ok().and_then(Offset::new)
}

/// Returns an offset as brokers name it.
pub(super) fn wire_offset(offset: Offset) -> i64 {
    offset.get().cast_signed()
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str_name())
    }
}

impl Fragment {
    /// Returns the fragment, where it is one.
    pub(super) fn checked(&self) -> Option<Stored> {
        let (begin, end) = (offset(self.begin)?, offset(self.end)?);
        if end < begin {
            return None;
        }
        let is_stored = !self.backing_store.is_empty();
        let codec = match self.compression_codec() {
            CompressionCodec::None => Codec::None,
            CompressionCodec::Gzip => Codec::Gzip,
            CompressionCodec::Zstandard => Codec::Zstandard,
            CompressionCodec::Snappy => Codec::Snappy,
            CompressionCodec::GzipOffloadDecompression => Codec::GzipOffloadDecompression,
            // Nothing is compressed yet of what is not stored.
            CompressionCodec::Invalid if !is_stored => Codec::None,
            CompressionCodec::Invalid => return None,
        };
        let sum = self.sum.map(|sum| {
            let mut bytes = [0; 20];
            let parts = [&sum.part1.to_be_bytes()[..], &sum.part2.to_be_bytes(), &sum.part3.to_be_bytes()];
            bytes.copy_from_slice(&parts.concat());
            bytes
        });
        let modified_unix_secs = Some(self.mod_time).filter(|_| is_stored && self.mod_time > 0);
        let path_postfix = self.path_postfix.clone();
        Some(Stored { begin, end, sum, codec, stored_bytes: None, modified_unix_secs, path_postfix })
    }
}

/// Returns where a fragment lies below the root of its store.
pub(super) fn path_in_store(journal: &str, fragment: &Stored) -> Option<String> {
    let name = FragmentName::of(fragment)?;
    let folder = if fragment.path_postfix.is_empty() {
        journal.to_owned()
    } else {
        format!("{journal}/{}", fragment.path_postfix)
    };
    Some(format!("{folder}/{name}"))
}
