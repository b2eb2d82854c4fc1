//! What one process reaches the journal by.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use recoverylog::completion::{Completion, completion};
use recoverylog::hint_store::{Candidate, DirectoryHints, HintStore};
use recoverylog::journal::{
    Append, Appended, Capabilities, Fragment, Head, Interrupter, Journal, JournalError, JournalReader,
    Journals, ReadRange, ReadStep,
};
use recoverylog::{Deadline, FsmHints, JournalName, Offset};

use super::gate::{Answer, Call};
use super::net::{Flight, Net, To};
use super::process::play_options;
use super::world::{HINTS, World};

/// The longest wait for the journal that a recorder may ask for; a standby may for what it was told.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);
/// Races after which a hand-off has come to its end, or never will.
const RACES_MAX: u64 = 50;

/// A process's way to the journal.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) id: u64,
    net: Arc<Net>,
    world: Weak<World>,
    me: Weak<Self>,
    /// A standby follows the log by this port.
    following: AtomicBool,
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
        let (net, world) = (Arc::clone(&world.net), Arc::downgrade(world));
        Arc::new_cyclic(|me| Self { id, net, world, me: me.clone(), following: AtomicBool::new(true) })
    }

    /// The standby took its log over, and writes from now on.
    pub(crate) fn writes(&self) {
        self.following.store(false, Ordering::Relaxed);
    }

    fn follows(&self) -> bool {
        self.following.load(Ordering::Relaxed)
    }

    /// Returns the world where the scheduler itself calls; `None` on a thread that the library started.
    fn on_scheduler(&self) -> Option<Arc<World>> {
        self.net.acts_here().then(|| self.world.upgrade().expect("the world outlives its calls"))
    }

    /// Waits for the answer of the scheduler; an error is the world, where the scheduler itself calls.
    pub(crate) fn ask(&self, call: Call) -> Result<Answer, Arc<World>> {
        if let Some(world) = self.on_scheduler() {
            return Err(world);
        }
        if self.net.lock().dead.contains(&self.id) {
            return Ok(Answer::Gone);
        }
        let answer = self.net.gate.call(self.id, call);
        if matches!(answer, Answer::Act) {
            self.net.act_here();
        }
        self.on_scheduler().map_or(Ok(answer), Err)
    }

    fn check_wait(&self, deadline: Deadline) {
        let max = if self.follows() { play_options().step_deadline } else { ATTEMPT_MAX };
        match self.on_scheduler() {
            Some(world) => world.check_wait(deadline),
            None if deadline > Deadline::after(max) => {
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
        match self.ask(Call::Head) {
            Ok(Answer::Head(head)) => return head,
            Ok(_) => return Err(self.net.gone()),
            Err(world) => world.interlude(false),
        }
        if self.net.fails(10) {
            self.net.event("a head is not told", String::new);
            return Err(self.net.unavailable());
        }
        self.net.told_head()
    }

    fn read(&self, range: ReadRange) -> Result<Box<dyn JournalReader>, JournalError> {
        match self.ask(Call::Read) {
            Ok(Answer::Go(read)) => read?,
            Ok(_) => return Err(self.net.gone()),
            Err(_) if self.net.fails(10) => {
                self.net.event("a read is refused", String::new);
                return Err(self.net.unavailable());
            }
            Err(_) => {}
        }
        let inner = self.net.store.read(range)?;
        let port = self.me.upgrade().expect("a port is shared");
        Ok(Box::new(PortReader { inner, port, failed: None }))
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
    port: Arc<Port>,
    failed: Option<JournalError>,
}

impl PortReader {
    fn fail(&mut self, error: JournalError) -> Result<ReadStep, JournalError> {
        Err(self.failed.insert(error).clone())
    }
}

impl JournalReader for PortReader {
    fn next(&mut self, _deadline: Deadline) -> Result<ReadStep, JournalError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let port = Arc::clone(&self.port);
        let (net, is_standby) = (&port.net, port.follows());
        if is_standby && net.fails(20) {
            net.event("a reader fails", String::new);
            return self.fail(net.unavailable());
        }
        // Nothing is committed while this thread waits.
        let step = self.inner.next(Deadline::passed())?;
        let waits = is_standby && !net.acts_here() && matches!(step, ReadStep::AtHead { .. });
        match waits.then(|| port.ask(Call::Next)) {
            None => Ok(step),
            Some(Ok(Answer::Go(Ok(())))) => self.inner.next(Deadline::passed()),
            Some(Ok(Answer::Go(Err(error)))) => self.fail(error),
            Some(Ok(_)) => self.fail(net.gone()),
            // The scheduler goes on here because somebody interrupts this wait, and waits for this thread.
            Some(Err(_)) => Ok(ReadStep::Interrupted),
        }
    }

    fn offset(&self) -> Offset {
        self.inner.offset()
    }

    fn interrupter(&self) -> Interrupter {
        let (inner, port) = (self.inner.interrupter(), Arc::clone(&self.port));
        Interrupter::new(move || {
            if !port.net.gate.act(port.id) {
                inner.interrupt();
            }
        })
    }
}

/// The hint store, as one process reaches it to read.
#[derive(Debug)]
pub(crate) struct PortHints(pub(crate) Arc<Port>);

impl HintStore for PortHints {
    fn candidates(&self, log: &JournalName, deadline: Deadline) -> recoverylog::Result<Vec<Candidate>> {
        let Ok(Answer::Hints(disk)) = self.0.ask(Call::Hints) else { return Err(self.0.net.gone().into()) };
        DirectoryHints::open(Arc::new(disk?), Path::new(HINTS))?.candidates(log, deadline)
    }

    fn store(&self, _hints: &FsmHints, _deadline: Deadline) -> recoverylog::Result<()> {
        Err(self.0.net.unavailable().into())
    }
}
