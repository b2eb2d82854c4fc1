//! Bugs that are planted, to see that the simulation finds them.
//!
//! Each takes away one guard. [`Planted`] has those at a seam: what the journal, the hint store or the operator must
//! do. [`IN_LIBRARY`] has those of the library, which are there only where the compiler was given
//! `--cfg recoverylog_planted`.

#[cfg(recoverylog_planted)]
use recoverylog::Bug;

/// A guard that is taken away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Planted {
    Nothing,
    /// It is in the library.
    InLibrary,
    /// The journal does not check the registers.
    RegisterCheck,
    /// The journal appends wherever its head is, and says that it was where the append named.
    At,
    /// Writes carry no checksum of their payload.
    NoDigest,
    /// The journal acknowledges before it commits.
    AckBeforeCommit,
    /// The journal takes back what readers have seen.
    TakenBack,
    /// The journal commits a part of an append.
    TornCommit,
    /// What is sent again is not what was sent.
    ShorterBatch,
    /// Hints are published before what they name is committed.
    EarlyHints,
    /// Hints are ordered by when they arrive.
    OlderHints,
    /// The hint store says that it stored what is not durable.
    HintsNotDurable,
    /// The journal tells a head that it had before.
    StaleHead,
    /// All writers have the same author.
    OneAuthor,
}

impl Planted {
    /// The bugs, and the number of seeds within which each is found.
    pub(crate) const ALL: [(Self, u64); 12] = [
        (Self::RegisterCheck, 200),
        (Self::At, 200),
        (Self::NoDigest, 200),
        (Self::AckBeforeCommit, 200),
        (Self::TakenBack, 200),
        (Self::TornCommit, 200),
        (Self::ShorterBatch, 200),
        (Self::EarlyHints, 200),
        (Self::OlderHints, 200),
        (Self::HintsNotDurable, 200),
        (Self::StaleHead, 200),
        (Self::OneAuthor, 200),
    ];
}

/// The bugs in the library that the simulation finds, and the number of seeds within which it does.
#[cfg(recoverylog_planted)]
pub(crate) const IN_LIBRARY: &[(Bug, u64)] = &[
    (Bug::JudgedAhead, 200),
    (Bug::LongerBatch, 200),
    (Bug::NoAt, 200),
    (Bug::NotSticky, 200),
    (Bug::NoAnchor, 200),
    (Bug::EarlyHints, 200),
    (Bug::NoDigestCheck, 200),
    (Bug::NoChain, 200),
    (Bug::NoInjection, 200),
    (Bug::NamedBeforeFlush, 200),
];
