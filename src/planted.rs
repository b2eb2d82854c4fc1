//! Guards of this crate that a test can take away, one at a time, to see that the tests find it.
//!
//! *Invariants.* Bugs can be planted only where the compiler was given `--cfg recoverylog_planted`. Otherwise
//! [`planted`] is the constant `false`, and what is compiled is the code without its switches. It is no Cargo feature:
//! features unify, and a dependency could plant bugs in everybody's journal.
//!
//! *Does not* hold what finds them: `tests/simulation/planted.rs` and `src/journal/file/tests/planted.rs` do.

#[cfg(recoverylog_planted)]
use std::sync::atomic::{AtomicU8, Ordering};

/// A guard that is taken away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(
    not(recoverylog_planted),
    expect(unreachable_pub, reason = "tests see it where bugs can be planted")
)]
pub enum Bug {
    /// Foreign bytes are judged by the state machine that runs ahead, not by the committed prefix.
    JudgedAhead,
    /// What is sent again has grown by what was recorded meanwhile.
    LongerBatch,
    /// The recorder names no offset, and does not look where its append went.
    NoAt,
    /// A recorder that failed takes further calls.
    NotSticky,
    /// Hints are taken without a no-op that anchors them.
    NoAnchor,
    /// Hints are given out before what they name is durable.
    EarlyHints,
    /// The player does not compare payloads with their digests.
    NoDigestCheck,
    /// An operation needs the next sequence number only, not the checksum of the history.
    NoChain,
    /// The hand-off appends nothing.
    NoInjection,
    /// A hint set gets its name before its content is durable.
    NamedBeforeFlush,
    /// The file journal acknowledges before it flushes.
    AckBeforeFlush,
    /// The file journal flushes again where that has failed.
    RetriedFlush,
    /// The file journal does not freeze the head after a failed write.
    NoWedge,
    /// The file journal moves the head wherever it is.
    HeadOverwritten,
    /// The file journal uses an open file before its name is durable.
    NameNotFlushed,
    /// Recovery believes the last commit record without its content.
    ContentBelieved,
}

/// The planted bug as a number from one on; zero for none.
#[cfg(recoverylog_planted)]
static PLANTED: AtomicU8 = AtomicU8::new(0);

/// Plants a bug in this process, in the place of the one before.
#[cfg(recoverylog_planted)]
pub fn plant(bug: Option<Bug>) {
    PLANTED.store(bug.map_or(0, |bug| bug as u8 + 1), Ordering::SeqCst);
}

/// Tells whether `bug` is planted.
#[cfg(recoverylog_planted)]
pub(crate) fn planted(bug: Bug) -> bool {
    PLANTED.load(Ordering::SeqCst) == bug as u8 + 1
}

/// Tells whether `bug` is planted: never.
#[cfg(not(recoverylog_planted))]
pub(crate) const fn planted(_bug: Bug) -> bool {
    false
}
