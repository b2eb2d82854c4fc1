//! What a test plans to go wrong.
//!
//! *Invariants.* What is planned first happens first; each call meets one fault at most.
//!
//! *Does not* draw anything.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::protocol::{AppendResponse, FragmentsResponse, ListResponse, ReadResponse, Status};

/// A call of a broker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Call {
    List,
    Apply,
    Read,
    Append,
    Fragments,
}

/// What goes wrong.
#[derive(Clone)]
pub(crate) enum Fault {
    /// A status of the protocol is answered, and nothing done.
    Status(Status),
    /// The call fails.
    Code(tonic::Code),
    /// Every connection of the broker breaks.
    Lose,
    /// Nothing happens for so long; then all goes on.
    Stall(Duration),
    /// The answers end as if that were all.
    End,
    /// The other happens after so many messages: of the answer, or of an append.
    After(usize, Box<Fault>),
    /// The other happens once the append has committed.
    Committed(Box<Fault>),
    /// The answer is another than the true one.
    LieAppend(Lie<AppendResponse>),
    LieFragments(Lie<FragmentsResponse>),
    LieList(Lie<ListResponse>),
    /// It is told how many were sent before.
    LieRead(LieOfMany<ReadResponse>),
}

pub(crate) type Lie<T> = Arc<dyn Fn(&mut T) + Send + Sync>;
pub(crate) type LieOfMany<T> = Arc<dyn Fn(usize, &mut T) + Send + Sync>;

impl Fault {
    pub(crate) fn after(messages: usize, fault: Self) -> Self {
        Self::After(messages, Box::new(fault))
    }

    pub(crate) fn committed(fault: Self) -> Self {
        Self::Committed(Box::new(fault))
    }

    pub(crate) fn append(lie: impl Fn(&mut AppendResponse) + Send + Sync + 'static) -> Self {
        Self::LieAppend(Arc::new(lie))
    }

    pub(crate) fn fragments(lie: impl Fn(&mut FragmentsResponse) + Send + Sync + 'static) -> Self {
        Self::LieFragments(Arc::new(lie))
    }

    pub(crate) fn list(lie: impl Fn(&mut ListResponse) + Send + Sync + 'static) -> Self {
        Self::LieList(Arc::new(lie))
    }

    pub(crate) fn read(lie: impl Fn(usize, &mut ReadResponse) + Send + Sync + 'static) -> Self {
        Self::LieRead(Arc::new(lie))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "Status({status:?})"),
            Self::Code(code) => write!(f, "Code({code:?})"),
            Self::Lose => f.write_str("Lose"),
            Self::Stall(stall) => write!(f, "Stall({stall:?})"),
            Self::End => f.write_str("End"),
            Self::After(messages, fault) => write!(f, "After({messages}, {fault:?})"),
            Self::Committed(fault) => write!(f, "Committed({fault:?})"),
            Self::LieAppend(_) | Self::LieFragments(_) | Self::LieList(_) | Self::LieRead(_) => {
                f.write_str("Lie")
            }
        }
    }
}

/// A fault that is to come.
pub(super) struct Planned {
    pub(super) call: Call,
    pub(super) journal: Option<String>,
    pub(super) left: usize,
    pub(super) fault: Fault,
}

/// Takes the fault that a call meets.
pub(super) fn take(planned: &mut Vec<Planned>, call: Call, journal: &str) -> Option<Fault> {
    let meets = |planned: &Planned| {
        planned.call == call && planned.journal.as_deref().is_none_or(|named| named == journal)
    };
    let at = planned.iter().position(meets)?;
    planned[at].left -= 1;
    let fault = planned[at].fault.clone();
    if planned[at].left == 0 {
        planned.remove(at);
    }
    Some(fault)
}
