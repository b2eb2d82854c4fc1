//! What one process reaches the journal by.

use std::sync::{Arc, Weak};
use std::thread::ThreadId;
use std::time::Duration;

use recoverylog::completion::{Completion, completion};
use recoverylog::journal::{
    Append, Appended, Capabilities, Fragment, Head, Interrupter, Journal, JournalError, JournalReader,
    Journals, ReadRange, ReadStep,
};
use recoverylog::{Deadline, JournalName, Offset};

use super::gate::{Answer, Call};
use super::net::{Flight, Net, To};
use super::world::World;

/// The longest wait for the journal that a recorder may ask for.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);
/// Races after which a hand-off has come to its end, or never will.
const RACES_MAX: u64 = 50;

/// A process's way to the journal.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) id: u64,
    net: Arc<Net>,
    world: Weak<World>,
    scheduler: ThreadId,
}

/// One journal, by any name.
#[derive(Debug)]
pub(crate) struct Ports(pub(crate) Arc<Port>);

impl Journals for Ports {
    fn open(&self, _name: &JournalName) -> Result<Arc<dyn Journal>, JournalError> {
        Ok(self.0.clone())
    }

    fn list(&self) -> recoverylog::Result<Vec<JournalName>> {
        Ok(vec![self.0.net.log.clone()])
    }
}

impl Port {
    pub(crate) fn new(id: u64, world: &Arc<World>) -> Arc<Self> {
        let scheduler = std::thread::current().id();
        Arc::new(Self { id, net: Arc::clone(&world.net), world: Arc::downgrade(world), scheduler })
    }

    /// Returns the world where the scheduler itself calls; `None` on a thread that the library started.
    fn on_scheduler(&self) -> Option<Arc<World>> {
        if std::thread::current().id() != self.scheduler {
            return None;
        }
        Some(self.world.upgrade().expect("the world outlives its calls"))
    }

    fn check_wait(&self, deadline: Deadline) {
        match self.on_scheduler() {
            Some(world) => world.check_wait(deadline),
            None if deadline > Deadline::after(ATTEMPT_MAX) => {
                self.net.violate("an attempt waits for too long".into());
            }
            None => {}
        }
    }

    /// Submits an append of the scheduler's own thread, and lets other things happen until it is answered.
    fn append_inline(&self, world: &Arc<World>, append: Append) -> Result<Appended, JournalError> {
        let at = append.at;
        self.net.lock().flights.push(Flight { port: self.id, append, to: To::Caller, answer: None });
        if world.races() > RACES_MAX {
            self.net.violate("a hand-off never ends: the old writer is not stopped".into());
            self.net.lock().flights.retain(|flight| !matches!(flight.to, To::Caller));
            return Err(self.net.gone());
        }
        for _ in 0..8 {
            world.interlude(true);
            if let Some(reply) = world.take_inline_answer() {
                return reply;
            }
            world.deliver_inline();
            if let Some(reply) = world.take_inline_answer() {
                return reply;
            }
        }
        // The deadline passed: what is under way goes on, and nobody waits for it.
        let mut state = self.net.lock();
        let (ours, others) = std::mem::take(&mut state.flights)
            .into_iter()
            .partition(|flight| matches!(flight.to, To::Caller));
        state.flights = others;
        let lost: Vec<Flight> = ours;
        state
            .late
            .extend(lost.into_iter().filter(|flight| flight.answer.is_none()).map(|flight| flight.append));
        Err(self.net.unknown(at))
    }
}

impl Journal for Port {
    fn name(&self) -> &JournalName {
        &self.net.log
    }

    fn capabilities(&self) -> Capabilities {
        let mut all = Capabilities::ALL;
        all.at_zero = self.net.at_zero;
        all
    }

    fn submit(&self, append: Append) -> Completion<Appended, JournalError> {
        let mut state = self.net.lock();
        if state.dead.contains(&self.id) {
            return Completion::resolved(Err(self.net.gone()));
        }
        let (completer, pending) = completion();
        state.flights.push(Flight { port: self.id, append, to: To::Recorder(completer), answer: None });
        pending
    }

    fn append(&self, append: Append, deadline: Deadline) -> Result<Appended, JournalError> {
        self.check_wait(deadline);
        if let Some(world) = self.on_scheduler() {
            return self.append_inline(&world, append);
        }
        self.net.lock().flights.push(Flight { port: self.id, append, to: To::Thread, answer: None });
        match self.net.gate.call(self.id, Call::Append) {
            Answer::Append(reply) => reply,
            _ => Err(self.net.gone()),
        }
    }

    fn head(&self, deadline: Deadline) -> Result<Head, JournalError> {
        self.check_wait(deadline);
        let Some(world) = self.on_scheduler() else {
            return match self.net.gate.call(self.id, Call::Head) {
                Answer::Head(head) => head,
                _ => Err(self.net.gone()),
            };
        };
        world.interlude(false);
        if self.net.fails(10) {
            self.net.event("a head is not told", String::new);
            return Err(self.net.unavailable());
        }
        self.net.told_head()
    }

    fn read(&self, range: ReadRange) -> Result<Box<dyn JournalReader>, JournalError> {
        let faults = self.on_scheduler().is_some();
        if !faults {
            match self.net.gate.call(self.id, Call::Read) {
                Answer::Read(read) => read?,
                _ => return Err(self.net.gone()),
            }
        } else if self.net.fails(10) {
            self.net.event("a read is refused", String::new);
            return Err(self.net.unavailable());
        }
        let inner = self.net.store.read(range)?;
        Ok(Box::new(PortReader { inner, net: Arc::clone(&self.net), faults, failed: None }))
    }

    fn fragments(&self, deadline: Deadline) -> Result<Vec<Fragment>, JournalError> {
        self.net.store.fragments(deadline)
    }

    fn prune(&self, fragments: &[Fragment], deadline: Deadline) -> Result<(), JournalError> {
        self.net.store.prune(fragments, deadline)
    }
}

/// A reader that fails now and then.
#[derive(Debug)]
struct PortReader {
    inner: Box<dyn JournalReader>,
    net: Arc<Net>,
    faults: bool,
    failed: Option<JournalError>,
}

impl JournalReader for PortReader {
    fn next(&mut self, _deadline: Deadline) -> Result<ReadStep, JournalError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.faults && self.net.fails(20) {
            self.net.event("a reader fails", String::new);
            return Err(self.failed.insert(self.net.unavailable()).clone());
        }
        // Nothing is committed while this thread waits.
        self.inner.next(Deadline::passed())
    }

    fn offset(&self) -> Offset {
        self.inner.offset()
    }

    fn interrupter(&self) -> Interrupter {
        self.inner.interrupter()
    }
}
