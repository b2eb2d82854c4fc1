//! The one public error: what happened, where, what was expected, what was found, and what to do next.
//!
//! *Invariants.* The [`ErrorKind`] alone decides what a caller does next and which exit code the tool ends
//! with. `source()` is kept and never repeated in `Display`. An error is cheap to clone, so that a failed
//! recorder can return the same one from every later call.
//!
//! *Does not* replace the errors of a module where a caller inside the crate must match on them
//! (`journal::JournalError`, `fsm::Rejection`); those convert into it at the public face.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::ids::{JournalName, Offset, SeqNo};

/// What the caller must do next.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another author took over: stop, and do not retry.
    Fenced,
    /// A needed range is missing, or hints name what never was: use other hints or another copy.
    DataLoss,
    /// Bytes are not what was written: verify, and use another copy.
    Corrupt,
    /// History disagrees with what was expected: investigate, or use other hints.
    Diverged,
    /// The journal refuses appends after a failed write: reopen it, then resume.
    Wedged,
    /// A deadline passed, or a broker or store is away: retry later.
    Unavailable,
    /// The caller's argument or request is at fault: fix the call.
    Invalid,
    /// Hints do not validate: use other hints.
    InvalidHints,
    /// The local file system said no: free space, check permissions.
    Io,
}

impl ErrorKind {
    /// Returns the exit code of the operator's tool for this kind.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Fenced => 4,
            Self::DataLoss | Self::Corrupt | Self::Diverged | Self::InvalidHints => 3,
            Self::Invalid => 2,
            Self::Wedged | Self::Unavailable | Self::Io => 1,
        }
    }

    /// Returns the advice that goes with the kind where the error brings none of its own.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Fenced => "stop this writer; another one owns the log now",
            Self::DataLoss => "play other hints, or restore from another copy of the journal",
            Self::Corrupt => "run `recoverylog verify`, and restore from another copy of the journal",
            Self::Diverged => "investigate which history is right, or play other hints",
            Self::Wedged => "reopen the journal, then resume",
            Self::Unavailable => "retry later",
            Self::Invalid => "fix the call",
            Self::InvalidHints => "use other hints",
            Self::Io => "free space or fix permissions, then try again",
        }
    }

    /// Returns the name of the kind in lower snake case, as the tool's JSON prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fenced => "fenced",
            Self::DataLoss => "data_loss",
            Self::Corrupt => "corrupt",
            Self::Diverged => "diverged",
            Self::Wedged => "wedged",
            Self::Unavailable => "unavailable",
            Self::Invalid => "invalid",
            Self::InvalidHints => "invalid_hints",
            Self::Io => "io",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate; see [`Error::kind`] for what to do next.
#[derive(Clone)]
pub struct Error(Arc<Details>);

#[derive(Clone)]
struct Details {
    kind: ErrorKind,
    what: Cow<'static, str>,
    log: Option<JournalName>,
    offset: Option<Offset>,
    seq_no: Option<SeqNo>,
    expected: Option<String>,
    actual: Option<String>,
    advice: Option<Cow<'static, str>>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Makes an error of `kind`; `what` is one clause saying what happened.
    pub fn new(kind: ErrorKind, what: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Details {
            kind,
            what: what.into(),
            log: None,
            offset: None,
            seq_no: None,
            expected: None,
            actual: None,
            advice: None,
            source: None,
        }))
    }

    /// Makes an [`ErrorKind::Io`] error out of what the operating system said.
    pub fn io(what: impl Into<Cow<'static, str>>, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, what).with_source(source)
    }

    /// Adds the log.
    #[must_use]
    pub fn in_log(mut self, log: &JournalName) -> Self {
        self.details().log = Some(log.clone());
        self
    }

    /// Adds the offset in the log.
    #[must_use]
    pub fn at(mut self, offset: Offset) -> Self {
        self.details().offset = Some(offset);
        self
    }

    /// Adds the sequence number.
    #[must_use]
    pub fn seq(mut self, seq_no: SeqNo) -> Self {
        self.details().seq_no = Some(seq_no);
        self
    }

    /// Adds what was expected and what was found.
    #[must_use]
    pub fn expected(mut self, expected: impl fmt::Display, actual: impl fmt::Display) -> Self {
        let details = self.details();
        details.expected = Some(expected.to_string());
        details.actual = Some(actual.to_string());
        self
    }

    /// Replaces the kind's own advice.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<Cow<'static, str>>) -> Self {
        self.details().advice = Some(advice.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.details().source = Some(Arc::new(source));
        self
    }

    /// Returns what the caller must do next.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns what happened, in one clause.
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// Returns the log where it happened.
    pub fn log(&self) -> Option<&JournalName> {
        self.0.log.as_ref()
    }

    /// Returns the offset in the log where it happened.
    pub fn offset(&self) -> Option<Offset> {
        self.0.offset
    }

    /// Returns the sequence number at which it happened.
    pub fn seq_no(&self) -> Option<SeqNo> {
        self.0.seq_no
    }

    /// Returns what was expected.
    pub fn expected_value(&self) -> Option<&str> {
        self.0.expected.as_deref()
    }

    /// Returns what was found instead.
    pub fn actual_value(&self) -> Option<&str> {
        self.0.actual.as_deref()
    }

    /// Returns what to do next.
    pub fn advice(&self) -> &str {
        self.0.advice.as_deref().unwrap_or(self.0.kind.advice())
    }

    fn details(&mut self) -> &mut Details {
        Arc::make_mut(&mut self.0)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let details = &*self.0;
        write!(f, "{}", details.what)?;
        let mut lead = " (";
        if let Some(log) = &details.log {
            write!(f, "{lead}log {log}")?;
            lead = ", ";
        }
        if let Some(offset) = details.offset {
            write!(f, "{lead}offset {offset}")?;
            lead = ", ";
        }
        if let Some(seq_no) = details.seq_no {
            write!(f, "{lead}seq-no {seq_no}")?;
            lead = ", ";
        }
        if lead == ", " {
            f.write_str(")")?;
        }
        if let (Some(expected), Some(actual)) = (&details.expected, &details.actual) {
            write!(f, ": expected {expected}, found {actual}")?;
        }
        write!(f, "; {}", self.advice())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let details = &*self.0;
        f.debug_struct("Error")
            .field("kind", &details.kind)
            .field("what", &details.what)
            .field("log", &details.log)
            .field("offset", &details.offset)
            .field("seq_no", &details.seq_no)
            .field("expected", &details.expected)
            .field("actual", &details.actual)
            .field("source", &details.source)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl From<crate::ids::InvalidName> for Error {
    fn from(source: crate::ids::InvalidName) -> Self {
        Self::new(ErrorKind::Invalid, source.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn display_says_what_where_expected_actual_and_advice_once() {
        let source = std::io::Error::other("the cause");
        let error = Error::new(ErrorKind::Corrupt, "an operation breaks the chain")
            .in_log(&JournalName::new("acme/orders").unwrap())
            .at(Offset::new(97).unwrap())
            .seq(SeqNo::new(4))
            .expected("0000000a", "0000000b")
            .with_source(source);
        assert_eq!(
            error.to_string(),
            "an operation breaks the chain (log acme/orders, offset 97, seq-no 4): expected 0000000a, \
             found 0000000b; run `recoverylog verify`, and restore from another copy of the journal"
        );
        assert_eq!(error.source().unwrap().to_string(), "the cause");
    }
}
