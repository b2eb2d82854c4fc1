//! Which faults there are, and which of them comes next.
//!
//! *Invariants.* A planned fault goes before a random one. Equal seeds and equal calls give equal faults.
//!
//! *Does not* carry any of them out.

use std::collections::BTreeMap;

use crate::journal::{Append, RegisterSet};
use crate::prng::SplitMix64;

/// What happens to one append.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum AppendFault {
    /// It is refused as `JournalError::Unavailable`; nothing commits.
    Refused,
    /// It commits, or is refused, and the answer is `JournalError::Unknown`.
    UnknownCommitted,
    /// Nothing commits, now or later, and the answer is `JournalError::Unknown`.
    UnknownLost,
    /// The answer is `JournalError::Unknown`, and a copy that is still under way arrives later: right before
    /// the append that follows on so many further ones, or with `FaultyJournal::release_late`.
    UnknownLate {
        /// How many further appends are submitted before it arrives; `None` waits for the release.
        after: Option<u64>,
    },
    /// It arrives twice: the second copy commits too, unless its offset or the registers refuse it.
    Duplicated,
    /// The registers are lost before it arrives; only in front of a journal in memory.
    RegistersLost,
    /// The registers are set back before it arrives, to what they were before they changed last; only in front
    /// of a journal in memory.
    RegistersSetBack,
    /// It commits, and its answer waits for the next submission, or for `FaultyJournal::release_answers`.
    Delayed,
}

impl AppendFault {
    /// Returns a name that is the same for all numbers in the fault.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::UnknownCommitted => "unknown, committed",
            Self::UnknownLost => "unknown, lost",
            Self::UnknownLate { .. } => "unknown, late",
            Self::Duplicated => "duplicated",
            Self::RegistersLost => "registers lost",
            Self::RegistersSetBack => "registers set back",
            Self::Delayed => "delayed",
        }
    }
}

/// What happens to one call that reads: reading the head, opening a reader, or a reader's step.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum ReadFault {
    /// It fails as `JournalError::Unavailable`.
    Failed,
    /// It waits for `FaultyJournal::release_reads` and then goes on, or fails as
    /// `JournalError::Unavailable` at its deadline. An interrupt ends the wait. Only `next` can stall.
    Stalled,
}

impl ReadFault {
    /// Returns a name for counting.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "read failed",
            Self::Stalled => "read stalled",
        }
    }
}

#[derive(Default)]
pub(super) struct State {
    pub(super) appends: u64,
    pub(super) reads: u64,
    pub(super) append_faults: BTreeMap<u64, AppendFault>,
    pub(super) read_faults: BTreeMap<u64, ReadFault>,
    pub(super) random: Option<Random>,
    pub(super) late: Vec<Late>,
    /// How often stalled reads were released.
    pub(super) read_releases: u64,
    pub(super) registers: Registers,
    pub(super) counts: BTreeMap<&'static str, u64>,
}

pub(super) struct Random {
    pub(super) numbers: SplitMix64,
    pub(super) appends_per_fault: u64,
    pub(super) reads_per_fault: u64,
}

/// A copy of an append that is still under way.
pub(super) struct Late {
    /// The submission before which it arrives.
    pub(super) before: Option<u64>,
    pub(super) append: Append,
}

/// What the registers are known to have been.
#[derive(Default)]
pub(super) struct Registers {
    pub(super) last: RegisterSet,
    pub(super) before_last: RegisterSet,
}

impl Registers {
    pub(super) fn saw(&mut self, registers: &RegisterSet) {
        if &self.last != registers {
            self.before_last = std::mem::replace(&mut self.last, registers.clone());
        }
    }
}

impl State {
    /// Says what happens to the next append. Faults of registers need a journal in memory.
    pub(super) fn draw_append_fault(&mut self, in_memory: bool) -> Option<AppendFault> {
        let number = self.appends;
        self.appends += 1;
        let of_registers =
            |fault: &AppendFault| matches!(fault, AppendFault::RegistersLost | AppendFault::RegistersSetBack);
        let planned = self.append_faults.remove(&number).filter(|fault| in_memory || !of_registers(fault));
        let fault = planned.or_else(|| {
            let random = self.random.as_mut()?;
            if !random.numbers.one_in(random.appends_per_fault) {
                return None;
            }
            Some(match random.numbers.below(if in_memory { 8 } else { 6 }) {
                0 => AppendFault::Refused,
                1 => AppendFault::UnknownCommitted,
                2 => AppendFault::UnknownLost,
                3 => AppendFault::UnknownLate { after: Some(random.numbers.below(4)) },
                4 => AppendFault::Duplicated,
                5 => AppendFault::Delayed,
                6 => AppendFault::RegistersLost,
                _ => AppendFault::RegistersSetBack,
            })
        })?;
        *self.counts.entry(fault.name()).or_default() += 1;
        Some(fault)
    }

    pub(super) fn draw_read_fault(&mut self, can_stall: bool) -> Option<ReadFault> {
        let number = self.reads;
        self.reads += 1;
        let fault = self.read_faults.remove(&number).or_else(|| {
            let random = self.random.as_mut()?;
            // A random stall would last until a deadline.
            random.numbers.one_in(random.reads_per_fault).then_some(ReadFault::Failed)
        })?;
        let fault = if can_stall { fault } else { ReadFault::Failed };
        *self.counts.entry(fault.name()).or_default() += 1;
        Some(fault)
    }

    /// Takes the copies that arrive before the next submission.
    pub(super) fn due_copies(&mut self) -> Vec<Append> {
        let next = self.appends;
        let due = self.late.extract_if(.., |late| late.before.is_some_and(|before| before <= next));
        due.map(|late| late.append).collect()
    }
}
