//! What the network does to appends: commits, refuses, duplicates, delays and loses them, and their answers.

use std::sync::atomic::Ordering;

use recoverylog::journal::{Append, Journal, JournalError};
use recoverylog::{Deadline, Offset};

use super::gate::{Answer, Call};
use super::net::{Flight, Reply, To};
use super::planted::Planted;
use super::world::{Cluster, World};

/// Copies that may still arrive.
const LATE_MAX: usize = 12;

impl World {
    /// Lets the network do one thing.
    pub(crate) fn deliver(&self) -> Result<(), String> {
        let cluster = self.lock();
        let calls = self.grantable();
        let state = self.net.lock();
        let can = |flight: &Flight| flight.answer.is_none() || !state.asleep.contains(&flight.port);
        let flights: Vec<_> = (0..state.flights.len()).filter(|&index| can(&state.flights[index])).collect();
        drop(state);
        let drawn = self.net.below((flights.len() + calls.len()) as u64) as usize;
        if let Some(&index) = flights.get(drawn) {
            return self.advance_flight(&cluster, index);
        }
        match calls.get(drawn.saturating_sub(flights.len())) {
            Some(&(port, call)) => self.grant(&cluster, port, call),
            None => Ok(()),
        }
    }

    /// Returns the calls of threads that can be answered now, but those of standbys at the head.
    fn grantable(&self) -> Vec<(u64, Call)> {
        let asleep = self.net.lock().asleep.clone();
        let is_read = |call: &Call| !matches!(call, Call::Append | Call::Next);
        let calls = self.net.gate.calls().into_iter();
        calls.filter(|(port, call)| is_read(call) && !asleep.contains(port)).collect()
    }

    /// Answers a thread that reads.
    pub(crate) fn grant(&self, cluster: &Cluster, port: u64, call: Call) -> Result<(), String> {
        let fails = self.net.fails(if call == Call::Next { 20 } else { 4 });
        let kind = if fails { "a thread's read fails" } else { "a thread reads" };
        self.net.event(kind, || format!("process {port}: {call:?}"));
        let refused = || self.net.unavailable();
        let answer = match call {
            Call::Read | Call::Next => Answer::Go(if fails { Err(refused()) } else { Ok(()) }),
            Call::Hints if fails => Answer::Hints(Err(refused().into())),
            Call::Hints => Answer::Hints(Ok(cluster.hint_disk.clone())),
            Call::Head | Call::Append if fails => Answer::Head(Err(refused())),
            Call::Head | Call::Append => Answer::Head(self.net.told_head()),
        };
        self.net.gate.answer(port, answer)
    }

    /// Commits an append, or gives the answer that it has.
    fn advance_flight(&self, cluster: &Cluster, index: usize) -> Result<(), String> {
        let flight = self.net.lock().flights.remove(index);
        if flight.answer.is_some() {
            return self.answer(cluster, flight);
        }
        let storm = self.net.lock().storm;
        let port = flight.port;
        if storm == 0 || !self.net.one_in(storm) {
            self.net.event("an append arrives", || describe(&flight));
            return self.commit_and_answer(cluster, flight);
        }
        let (at, copy) = (flight.append.at, flight.append.clone());
        match self.net.below(8) {
            0 => {
                self.net.event("an append is answered late", || describe(&flight));
                let reply = self.commit(&flight);
                self.net.lock().flights.push(Flight { answer: Some(reply), ..flight });
                Ok(())
            }
            1 => {
                self.net.event("an append is refused", || describe(&flight));
                self.reply(cluster, flight, Err(self.net.unavailable()))
            }
            2 | 3 => {
                self.net.event("an append commits, its answer is lost", || describe(&flight));
                drop(self.commit(&flight));
                self.reply(cluster, flight, Err(self.net.unknown(at)))
            }
            4 => {
                self.net.event("an append is lost", || describe(&flight));
                self.reply(cluster, flight, Err(self.net.unknown(at)))
            }
            5 => {
                self.net.event("an append is delayed, and said to be unknown", || describe(&flight));
                self.keep_late(copy);
                self.reply(cluster, flight, Err(self.net.unknown(at)))
            }
            6 => {
                self.net.event("an append is duplicated", || describe(&flight));
                self.keep_late(copy);
                self.commit_and_answer(cluster, flight)
            }
            _ => {
                self.net.event("an append is abandoned", || format!("process {port}"));
                self.keep_late(copy);
                self.reply(cluster, flight, Err(JournalError::Abandoned))
            }
        }
    }

    fn keep_late(&self, append: Append) {
        let mut state = self.net.lock();
        if state.late.len() < LATE_MAX {
            state.late.push(append);
        }
    }

    fn commit(&self, flight: &Flight) -> Reply {
        self.net.commit(&flight.append, matches!(flight.to, To::Thread))
    }

    fn commit_and_answer(&self, cluster: &Cluster, flight: Flight) -> Result<(), String> {
        if self.net.planted == Planted::AckBeforeCommit && self.net.one_in(4) {
            let (begin, bytes) = (flight.append.at.unwrap_or(self.net.head()), flight.append.content_bytes());
            let registers = self.net.store.head(Deadline::passed()).unwrap().registers;
            let reply = recoverylog::journal::Appended::new(begin, begin.saturating_add(bytes), registers);
            self.keep_late(flight.append.clone());
            return self.reply(cluster, flight, Ok(reply));
        }
        let reply = self.commit(&flight);
        self.reply(cluster, flight, reply)
    }

    /// Lets appends arrive without a fault, and answers them.
    pub(crate) fn arrive(&self, cluster: &Cluster, which: impl Fn(&Flight) -> bool) -> Result<bool, String> {
        let mut state = self.net.lock();
        let Some(index) = state.flights.iter().position(which) else { return Ok(false) };
        let flight = state.flights.remove(index);
        drop(state);
        if flight.answer.is_some() {
            return self.answer(cluster, flight).map(|()| true);
        }
        self.net.event("an append arrives", || describe(&flight));
        self.commit_and_answer(cluster, flight).map(|()| true)
    }

    /// Moves the append of the hand-off that is under way on.
    pub(crate) fn deliver_inline(&self) {
        let cluster = self.lock();
        let is_inline = |flight: &Flight| matches!(flight.to, To::Caller);
        let index = self.net.lock().flights.iter().position(is_inline);
        let Some(index) = index else { return };
        if let Err(violation) = self.advance_flight(&cluster, index) {
            self.net.violate(violation);
        }
    }

    /// Gives an answer now, or once the process is awake.
    fn reply(&self, cluster: &Cluster, flight: Flight, reply: Reply) -> Result<(), String> {
        let flight = Flight { answer: Some(reply), ..flight };
        let mut state = self.net.lock();
        if state.asleep.contains(&flight.port) {
            state.flights.push(flight);
            return Ok(());
        }
        drop(state);
        self.answer(cluster, flight)
    }

    fn answer(&self, cluster: &Cluster, flight: Flight) -> Result<(), String> {
        let Some(reply) = flight.answer else { return Ok(()) };
        match flight.to {
            To::Caller => {
                *self.inline.lock().unwrap() = Some(reply);
                Ok(())
            }
            To::Thread => self.net.gate.answer(flight.port, Answer::Append(reply)),
            To::Recorder(completer) => {
                let recorder = cluster.processes.get(&flight.port).and_then(|process| process.recorder());
                if recorder.is_some_and(|it| it.failure().is_none())
                    && self.is_ambiguous(&flight.append, &reply)
                {
                    self.net.gate.expect();
                }
                completer.resolve(reply);
                self.net.gate.rest()
            }
        }
    }

    /// Tells whether a recorder has to find out what became of an append.
    fn is_ambiguous(&self, append: &Append, reply: &Reply) -> bool {
        match reply {
            Ok(appended) => match append.at {
                Some(at) => appended.begin != at,
                // It belongs at offset 0, unless a planted bug has it name no offset at all.
                None => appended.begin > Offset::ZERO && self.net.planted != Planted::InLibrary,
            },
            Err(error) => matches!(
                error,
                JournalError::WrongOffset { .. }
                    | JournalError::Unavailable { .. }
                    | JournalError::Unknown { .. }
                    | JournalError::Abandoned
            ),
        }
    }

    /// A copy of an append arrives that nobody waits for any more, or never does.
    pub(crate) fn late_copy(&self) {
        let mut state = self.net.lock();
        let count = state.late.len() as u64;
        if count == 0 {
            return;
        }
        let index = state.random.below(count) as usize;
        let append = state.late.remove(index);
        drop(state);
        if self.net.one_in(4) {
            return self.net.event("a late copy is lost", String::new);
        }
        let reply = self.net.commit(&append, false);
        let kind = if reply.is_ok() { "a late copy commits" } else { "a late copy is refused" };
        self.net.event(kind, || format!("{:?}", append.at));
    }

    /// Ends every append under way of some processes without a fault.
    pub(crate) fn drain(&self, which: impl Fn(u64) -> bool) -> Result<(), String> {
        let storm = std::mem::take(&mut self.net.lock().storm);
        for _ in 0..10_000 {
            let cluster = self.lock();
            if self.arrive(&cluster, |flight| which(flight.port))? {
                continue;
            }
            let Some(&(port, call)) = self.grantable().iter().find(|(port, _)| which(*port)) else {
                self.net.lock().storm = storm;
                return Ok(());
            };
            self.grant(&cluster, port, call)?;
        }
        Err("appends do not come to an end".into())
    }

    /// The appends of a process that is gone: they may still arrive, and nobody hears of them.
    pub(crate) fn orphan(&self, port: u64) -> Result<(), String> {
        let mut state = self.net.lock();
        state.dead.insert(port);
        let (ours, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.flights).into_iter().partition(|flight| flight.port == port);
        state.flights = others;
        drop(state);
        for flight in ours {
            if flight.answer.is_none() {
                self.keep_late(flight.append);
            }
            if let To::Recorder(completer) = flight.to {
                completer.resolve(Err(self.net.gone()));
            }
        }
        self.rival.store(0, Ordering::Relaxed);
        self.net.gate.answer(port, Answer::Gone)
    }
}

fn describe(flight: &Flight) -> String {
    let to = match flight.to {
        To::Recorder(_) => "of",
        To::Thread => "resent by",
        To::Caller => "of the hand-off of",
    };
    let at = flight.append.at.map_or_else(|| "the head".into(), |at| at.to_string());
    format!("{to} process {}: {} bytes at {at}", flight.port, flight.append.content_bytes())
}
