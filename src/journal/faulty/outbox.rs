//! Answers to submissions, given in order, some of them held back.
//!
//! *Invariants.* No answer overtakes one of an earlier submission. Answers are given outside every lock.
//!
//! *Does not* decide what an answer is.

use std::collections::VecDeque;
use std::sync::PoisonError;

use crate::completion::Completer;
use crate::journal::{Appended, JournalError};
use crate::sync::{Mutex, MutexGuard};

type Answer = Result<Appended, JournalError>;

#[derive(Default)]
pub(super) struct Outbox {
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    queue: VecDeque<Slot>,
    /// Number of the first slot in the queue.
    first: u64,
    /// Everything is held back.
    closed: bool,
    /// A thread is giving answers, and will look at the queue again.
    flushing: bool,
}

struct Slot {
    completer: Completer<Appended, JournalError>,
    answer: Option<Answer>,
    held: bool,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a submission, which ends the delay of those before it. Returns its number.
    pub(super) fn push(&self, completer: Completer<Appended, JournalError>, held: bool) -> u64 {
        let mut slots = self.lock();
        slots.queue.iter_mut().for_each(|slot| slot.held = false);
        slots.queue.push_back(Slot { completer, answer: None, held });
        let number = slots.first + slots.queue.len() as u64 - 1;
        drop(slots);
        self.flush();
        number
    }

    /// Takes the answer to a submission.
    pub(super) fn fill(&self, number: u64, answer: Answer) {
        let mut slots = self.lock();
        let index = number.checked_sub(slots.first).map(|index| index as usize);
        if let Some(slot) = index.and_then(|index| slots.queue.get_mut(index)) {
            slot.answer = Some(answer);
        }
        drop(slots);
        self.flush();
    }

    /// Holds everything back from now on.
    pub(super) fn hold(&self) {
        self.lock().closed = true;
    }

    /// Gives what is held back, and holds nothing back from now on.
    pub(super) fn release(&self) {
        let mut slots = self.lock();
        slots.closed = false;
        slots.queue.iter_mut().for_each(|slot| slot.held = false);
        drop(slots);
        self.flush();
    }

    fn flush(&self) {
        let mut slots = self.lock();
        if slots.flushing {
            return;
        }
        while let Some((completer, answer)) = slots.take_next() {
            slots.flushing = true;
            drop(slots);
            completer.resolve(answer);
            slots = self.lock();
            slots.flushing = false;
        }
    }
}

impl Slots {
    fn take_next(&mut self) -> Option<(Completer<Appended, JournalError>, Answer)> {
        if self.closed {
            return None;
        }
        self.queue.front().filter(|slot| !slot.held && slot.answer.is_some())?;
        let Slot { completer, answer, .. } = self.queue.pop_front()?;
        self.first += 1;
        Some((completer, answer?))
    }
}
