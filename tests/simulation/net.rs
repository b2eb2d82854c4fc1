//! The simulated journal: committed bytes and registers in one place, and a network that the scheduler owns.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::ThreadId;

use bytes::Bytes;
use recoverylog::completion::Completer;
use recoverylog::journal::{
    Append, Appended, Head, Journal, JournalError, MemoryJournal, MemoryJournals, RegisterSet,
};
use recoverylog::wire::{Step, decode_frame, decode_op};
use recoverylog::{Clock, Deadline, JournalName, Offset};

use super::gate::Gate;
use super::planted::Planted;
use super::seed::{Random, Tally};

pub(crate) type Reply = Result<Appended, JournalError>;

/// Who waits for the answer to an append.
#[derive(Debug)]
pub(crate) enum To {
    /// A recorder.
    Recorder(Completer<Appended, JournalError>),
    /// The thread by which a recorder finds out what became of an append.
    Thread,
    /// A hand-off, on the scheduler's own thread.
    Caller,
}

/// An append under way.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) port: u64,
    pub(crate) append: Append,
    pub(crate) to: To,
    /// What the journal said, once it did.
    pub(crate) answer: Option<Reply>,
}

/// The wall clock of all machines; it moves when the scheduler says so.
#[derive(Debug, Default)]
pub(crate) struct SimClock(AtomicI64);

impl SimClock {
    pub(crate) fn shift(&self, nanos: i64) {
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn unix_nanos(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The journal and the network before it.
#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) log: JournalName,
    pub(crate) journals: MemoryJournals,
    pub(crate) store: Arc<MemoryJournal>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) clock: Arc<SimClock>,
    /// The thread that the scheduler is on.
    acting: Mutex<ThreadId>,
    pub(crate) planted: Planted,
    /// An append can name offset 0.
    pub(crate) at_zero: bool,
    state: Mutex<NetState>,
    violation: Mutex<Option<String>>,
}

#[derive(Debug)]
pub(crate) struct NetState {
    pub(crate) random: Random,
    pub(crate) flights: Vec<Flight>,
    /// Copies that may arrive at any later time, or never.
    pub(crate) late: Vec<Append>,
    /// One append in so many goes wrong; zero for none.
    pub(crate) storm: u64,
    /// Processes that are stopped: they take no answers.
    pub(crate) asleep: BTreeSet<u64>,
    /// Processes that are gone.
    pub(crate) dead: BTreeSet<u64>,
    /// The author registers that appends set, in order, and marks of registers that were set back.
    pub(crate) claims: Vec<String>,
    pub(crate) registers: Vec<RegisterSet>,
    /// Bytes from here on are taken back, by a planted bug.
    take_back: Option<(Offset, Offset)>,
    /// Where the last append begins: the head before it.
    before: Offset,
    pub(crate) tally: Tally,
    pub(crate) schedule: Vec<String>,
}

impl Net {
    pub(crate) fn new(seed: u64, planted: Planted) -> Arc<Self> {
        let mut random = Random::new(seed);
        let log = JournalName::new("sim/shard").unwrap();
        let fragment_bytes = [200, 1_000, 1 << 20][random.below(3) as usize];
        let chunk_bytes = [7, 100, usize::MAX][random.below(3) as usize];
        let journals = MemoryJournals::new().fragment_bytes(fragment_bytes).chunk_bytes_max(chunk_bytes);
        let at_zero = !random.one_in(4);
        let storm = [0, 2, 4, 10][random.below(4) as usize];
        let clock = SimClock::default();
        clock.shift(1_700_000_000_000_000_000);
        Arc::new(Self {
            store: journals.journal(&log),
            log,
            journals,
            gate: Arc::default(),
            clock: Arc::new(clock),
            acting: Mutex::new(std::thread::current().id()),
            planted,
            at_zero,
            violation: Mutex::default(),
            state: Mutex::new(NetState {
                random,
                flights: Vec::new(),
                late: Vec::new(),
                storm,
                asleep: BTreeSet::new(),
                dead: BTreeSet::new(),
                claims: Vec::new(),
                registers: vec![RegisterSet::EMPTY],
                take_back: None,
                before: Offset::ZERO,
                tally: Tally::new(),
                schedule: Vec::new(),
            }),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, NetState> {
        self.state.lock().unwrap()
    }

    /// The scheduler goes on on this thread.
    pub(crate) fn act_here(&self) {
        *self.acting.lock().unwrap() = std::thread::current().id();
    }

    pub(crate) fn acts_here(&self) -> bool {
        *self.acting.lock().unwrap() == std::thread::current().id()
    }

    /// Notes that something does not hold; the first one counts.
    pub(crate) fn violate(&self, what: String) {
        self.violation.lock().unwrap().get_or_insert(what);
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        self.violation.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.lock().random.below(bound)
    }

    pub(crate) fn one_in(&self, times: u64) -> bool {
        self.lock().random.one_in(times)
    }

    /// Notes an event of the schedule.
    pub(crate) fn event(&self, kind: &'static str, what: impl FnOnce() -> String) {
        let head = self.head();
        let mut state = self.lock();
        *state.tally.entry(kind).or_default() += 1;
        let line = format!("{:>4} at {head}: {kind} {}", state.schedule.len(), what());
        state.schedule.push(line);
    }

    pub(crate) fn head(&self) -> Offset {
        self.store.head(Deadline::passed()).unwrap().offset
    }

    pub(crate) fn unavailable(&self) -> JournalError {
        JournalError::Unavailable { journal: self.log.clone(), what: "simulated".into() }
    }

    pub(crate) fn unknown(&self, at: Option<Offset>) -> JournalError {
        JournalError::Unknown { journal: self.log.clone(), at, what: "simulated".into() }
    }

    pub(crate) fn gone(&self) -> JournalError {
        JournalError::NotAllowed { journal: self.log.clone(), what: "the process is gone".into() }
    }

    /// Tells whether a call fails.
    pub(crate) fn fails(&self, rarer: u64) -> bool {
        let mut state = self.lock();
        let storm = state.storm;
        storm > 0 && state.random.one_in(storm * rarer)
    }

    /// An append arrives at the journal.
    pub(crate) fn commit(&self, append: &Append, resent: bool) -> Reply {
        let named = append.at;
        let mut append = append.clone();
        if !self.at_zero {
            append.at = append.at.filter(|&at| at > Offset::ZERO);
        }
        let whole = append.content_bytes();
        match self.planted {
            Planted::RegisterCheck => append.check = None,
            Planted::At => append.at = None,
            Planted::ShorterBatch if resent => {
                append.content = vec![without_last_op(&append.content.concat())];
            }
            Planted::TornCommit if self.one_in(8) => {
                let content = Bytes::from(append.content.concat());
                append.content = vec![content.slice(..content.len() / 2)];
            }
            _ => {}
        }
        let reply = self.store.append(append.clone(), Deadline::passed());
        let Ok(appended) = &reply else { return reply };
        let mut state = self.lock();
        state.before = appended.begin;
        state.claims.extend(append.union.values("author").map(str::to_owned));
        if state.registers.last() != Some(&appended.registers) {
            state.registers.push(appended.registers.clone());
        }
        if self.planted == Planted::TakenBack && state.random.one_in(4) {
            state.take_back = Some((appended.begin, appended.end));
        }
        match named {
            Some(at) if self.planted == Planted::At => {
                Ok(Appended::new(at, at.saturating_add(whole), appended.registers.clone()))
            }
            _ if append.content_bytes() < whole => Err(self.unknown(named)),
            _ => reply,
        }
    }

    /// Returns the head as the journal tells it.
    pub(crate) fn told_head(&self) -> Result<Head, JournalError> {
        let head = self.store.head(Deadline::passed())?;
        let stale = self.planted == Planted::StaleHead && self.one_in(4);
        Ok(if stale { Head::new(self.lock().before, head.registers) } else { head })
    }

    /// Sets the registers to what they were, or to nothing.
    pub(crate) fn set_registers_back(&self) {
        let mut state = self.lock();
        let count = state.registers.len() as u64;
        let index = state.random.below(count) as usize;
        let registers = state.registers[index].clone();
        state.claims.push(String::new());
        drop(state);
        self.event("registers are set back", || format!("to {registers}"));
        self.store.set_registers(registers);
    }

    /// Takes back what a planted bug lets readers see too early.
    pub(crate) fn take_back(&self) {
        let taken = self.lock().take_back.take();
        if let Some((begin, _)) = taken.filter(|&(_, end)| end == self.head()) {
            self.store.truncate(begin);
        }
    }
}

/// Cuts the last operation off.
fn without_last_op(content: &[u8]) -> Bytes {
    let (mut at, mut last) = (0, 0);
    while let Step::Frame { message } = decode_frame(&content[at..], true) {
        let op = decode_op(&content[at..][message.clone()]).unwrap();
        last = at;
        at += message.end + op.payload_len() as usize;
    }
    Bytes::copy_from_slice(if last == 0 { content } else { &content[..last] })
}
