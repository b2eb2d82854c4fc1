//! What processes live through: started, promoted, put to sleep, lost; and what must hold all the while.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use recoverylog::hint_store::HintStore;
use recoverylog::player::{Player, Warning};
use recoverylog::replica::Standby;
use recoverylog::vfs::{CrashPlan, FileSystem, MemoryFs};
use recoverylog::{Author, Deadline, Error, ErrorKind, FsmHints};

use super::gate::Call;
use super::net::Net;
use super::planted::Planted;
use super::port::Port;
use super::process::{Life, Process, ROOT, play_options, replica, soon};
use super::tree::Tree;
use super::world::World;

/// The most processes at a time.
const PROCESSES_MAX: usize = 4;

impl World {
    pub(crate) fn sleep_or_wake(&self) {
        let mut cluster = self.lock();
        let count = cluster.processes.len() as u64;
        let index = self.net.below(count) as usize;
        let Some(process) = cluster.processes.values_mut().nth(index) else { return };
        if matches!(process.life, Life::Busy) {
            return;
        }
        process.asleep = !process.asleep;
        let id = process.id;
        let kind = if process.asleep { "a process stops" } else { "a process wakes up" };
        self.net.event(kind, || format!("process {id}"));
        let asleep = &mut self.net.lock().asleep;
        if process.asleep {
            asleep.insert(id)
        } else {
            asleep.remove(&id)
        };
    }

    pub(crate) fn crash(&self) -> Result<(), String> {
        let mut cluster = self.lock();
        let index = self.net.below(cluster.processes.len() as u64) as usize;
        let Some(process) = cluster.processes.values().nth(index) else { return Ok(()) };
        if matches!(process.life, Life::Busy) {
            return Ok(());
        }
        let id = process.id;
        self.net.event("a process is killed", || format!("process {id}"));
        let process = cluster.processes.remove(&id);
        drop(cluster);
        self.orphan(id)?;
        drop(process);
        Ok(())
    }

    /// Removes a process whose call failed.
    fn remove(&self, id: u64) -> Result<(), String> {
        let process = self.lock().processes.remove(&id);
        self.orphan(id)?;
        match process {
            Some(process) if process.local.read_dir(Path::new("/")).is_ok_and(|left| !left.is_empty()) => {
                Err(format!("process {id} left something of a directory that it could not complete"))
            }
            _ => Ok(()),
        }
    }

    /// Starts a standby, by the best hints.
    pub(crate) fn start(self: &Arc<Self>) -> Result<(), String> {
        let mut cluster = self.lock();
        if cluster.processes.len() >= PROCESSES_MAX {
            return Ok(());
        }
        cluster.born += 1;
        let id = cluster.born;
        let local = MemoryFs::new();
        let port = Port::new(id, self);
        let impatient = self.net.one_in(6);
        let shard = replica(&port, &self.net, &local, impatient);
        self.net.event("a standby starts", || format!("process {id}"));
        self.net.gate.expect();
        let standby = shard.standby(Path::new(ROOT)).map_err(|error| format!("no standby: {error:?}"))?;
        let process = Process {
            id,
            port,
            local,
            life: Life::Standby(Box::new(standby)),
            asleep: false,
            impatient,
            claims_before: 0,
            author: 0,
            barriers: Vec::new(),
            hinting: Vec::new(),
            in_hand: Vec::new(),
            failure: None,
        };
        cluster.processes.insert(id, process);
        drop(cluster);
        self.net.gate.rest()
    }

    fn failed(&self, id: u64, what: &str, error: &Error, allowed: &[ErrorKind]) -> Result<(), String> {
        if error.to_string().contains("the standby has stopped") {
            return Err(format!("the thread of process {id} has panicked"));
        }
        self.net.event("a standby fails", || format!("process {id}, {what}: {}", error.kind()));
        self.remove(id)?;
        if allowed.contains(&error.kind()) {
            return Ok(());
        }
        Err(format!("process {id}: {what} fails with {error:?}"))
    }

    /// Lets a standby that waits go on, to where it waits again.
    fn advance_one(&self, id: u64) -> Result<(), String> {
        let cluster = self.lock();
        match self.net.gate.call_of(id) {
            Some(call) => self.grant(&cluster, id, call),
            None => Ok(()),
        }
    }

    /// A standby goes on.
    pub(crate) fn advance(&self) -> Result<(), String> {
        let Some(id) = self.pick_standby() else { return Ok(()) };
        self.net.event("a standby advances", || format!("process {id}"));
        self.advance_one(id)
    }

    /// Looks at the standbys: each has applied what is in the history, or failed for a reason.
    fn look_at_standbys(&self) -> Result<(), String> {
        let cluster = self.lock();
        let mut failed = Vec::new();
        for process in cluster.processes.values().filter(|process| !process.asleep) {
            let Life::Standby(standby) = &process.life else { continue };
            let status = standby.status();
            match (status.failure, status.position) {
                (Some(failure), _) => failed.push((process.id, failure)),
                (None, Some(position)) => cluster.history.check_position(&position)?,
                (None, None) => {}
            }
        }
        drop(cluster);
        failed.iter().try_for_each(|(id, error)| self.failed(*id, "follow", error, &[ErrorKind::Unavailable]))
    }

    /// Takes a standby that follows the log, for a call during which other things happen.
    fn take_standby(&self) -> Result<Option<(u64, Standby)>, String> {
        let Some(id) = self.pick_standby() else { return Ok(None) };
        while self.net.gate.call_of(id).is_some_and(|call| call != Call::Next) {
            self.advance_one(id)?;
        }
        if self.net.gate.call_of(id).is_none() {
            return self.look_at_standbys().map(|()| None);
        }
        let mut cluster = self.lock();
        let Some(process) = cluster.processes.get_mut(&id) else { return Ok(None) };
        match std::mem::replace(&mut process.life, Life::Busy) {
            Life::Standby(standby) => Ok(Some((id, *standby))),
            other => {
                process.life = other;
                Ok(None)
            }
        }
    }

    /// A standby takes over, while everybody else goes on.
    pub(crate) fn promote(self: &Arc<Self>) -> Result<(), String> {
        let Some((id, standby)) = self.take_standby()? else { return Ok(()) };
        let rival = if self.net.one_in(3) { self.pick_primary() } else { None };
        self.races.store(0, Ordering::Relaxed);
        self.rival.store(rival.unwrap_or(0), Ordering::Relaxed);
        let number = if self.net.planted == Planted::OneAuthor { 7 } else { 1_000 + id as u32 };
        self.net.event("a standby is promoted", || format!("process {id}, rival {rival:?}"));
        let claims_before = self.net.lock().claims.len();
        let planted = self.net.planted != Planted::Nothing;
        // A hand-off that a planted bug keeps from ending ends by its deadline.
        let deadline = if planted { Deadline::after(Duration::from_secs(1)) } else { soon() };
        *self.wait_max.lock().unwrap() = Some(deadline);
        // The standby's thread acts as the scheduler, until it has ended.
        let promoted = standby.promote(Author::new(number).unwrap(), deadline);
        self.net.act_here();
        *self.wait_max.lock().unwrap() = None;
        self.rival.store(0, Ordering::Relaxed);
        self.net.check()?;
        let primary = match promoted {
            Ok(primary) => primary,
            Err(error) => {
                return self.failed(id, "promote", &error, &[ErrorKind::Unavailable, ErrorKind::Fenced]);
            }
        };
        self.net.event("a hand-off is done", || format!("process {id}"));
        let mut cluster = self.lock();
        cluster.history.read_on(&self.net.store)?;
        let point = primary.recorder().with_fsm(|fsm| (fsm.next_seq_no(), fsm.next_checksum()));
        if point != cluster.history.head() {
            return Err(format!(
                "process {id} was promoted at {point:?}, which is not the end of the history"
            ));
        }
        let tree = Tree::read(&cluster.processes[&id].local, Path::new(ROOT));
        let expected = cluster.history.tree_at(point, &cluster.trees)?;
        if tree != *expected {
            return Err(format!("process {id} took over {tree:?}\ninstead of {expected:?}"));
        }
        cluster.trees.insert(point, tree);
        let Some(process) = cluster.processes.get_mut(&id) else { return Ok(()) };
        process.port.writes();
        process.author = number;
        process.claims_before = claims_before;
        process.life = Life::Primary(primary);
        cluster.last_promoted = id;
        Ok(())
    }

    /// Stores hints that were taken a while ago.
    pub(crate) fn publish(&self) -> Result<(), String> {
        let Some(id) = self.pick_primary() else { return Ok(()) };
        let mut cluster = self.lock();
        let mut random = super::seed::Random::new(self.net.lock().random.next());
        let Some(hints) =
            cluster.processes.get_mut(&id).and_then(|process| process.take_in_hand(&mut random))
        else {
            return Ok(());
        };
        cluster.history.read_on(&self.net.store)?;
        cluster.history.check_hints(&hints)?;
        let stored = store(&self.net, &cluster.hint_disk, &hints);
        let what =
            stored.as_ref().err().map_or_else(|| "stored".to_owned(), |error| error.kind().to_string());
        self.net.event("hints are published", || format!("process {id}: {what}"));
        if let Some(error) =
            stored.err().filter(|e| !matches!(e.kind(), ErrorKind::Fenced | ErrorKind::Invalid))
        {
            return Err(format!("hints cannot be stored: {error:?}"));
        }
        self.check_hint_store(&mut cluster)
    }

    /// Checks that the best hints never get older.
    fn check_hint_store(&self, cluster: &mut super::world::Cluster) -> Result<(), String> {
        let candidates = Self::hints(cluster).candidates(&self.net.log, soon()).unwrap();
        let newest = candidates.first().and_then(|first| first.hints.as_ref().ok()?.last_seq_no());
        let newest = newest.map_or(0, recoverylog::SeqNo::get);
        if newest < cluster.newest_hints {
            return Err(format!(
                "the best hints are of seq-no {newest}, after {} was stored",
                cluster.newest_hints
            ));
        }
        cluster.newest_hints = newest;
        Ok(())
    }

    pub(crate) fn lose_power_of_hints(&self) -> Result<(), String> {
        self.net.event("the machine of the hints loses power", String::new);
        let seed = self.net.lock().random.next();
        let mut cluster = self.lock();
        cluster.hint_disk = match self.net.planted {
            Planted::HintsNotDurable => MemoryFs::new(),
            _ => cluster.hint_disk.crash_image(CrashPlan::Seeded(seed)),
        };
        self.check_hint_store(&mut cluster)
    }

    /// Looks at everything that was waited for.
    pub(crate) fn poll(&self) -> Result<(), String> {
        self.look_at_writers()?;
        self.look_at_standbys()
    }

    fn look_at_writers(&self) -> Result<(), String> {
        let cluster = &mut *self.lock();
        cluster.history.read_on(&self.net.store)?;
        for process in cluster.processes.values_mut().filter(|process| !process.asleep) {
            let Some(recorder) = process.recorder().cloned() else { continue };
            if let Some(failure) = recorder.failure().filter(|_| process.failure.is_none()) {
                self.net.event("a recorder fails", || format!("process {}: {}", process.id, failure.kind()));
                self.justify(process, &failure)?;
                process.failure = Some(failure);
            }
            for (mut barrier, point) in std::mem::take(&mut process.barriers) {
                if !barrier.is_resolved() {
                    process.barriers.push((barrier, point));
                    continue;
                }
                match barrier.wait(Deadline::passed()) {
                    Ok(position) => {
                        cluster.history.check_position(&position)?;
                        if !cluster.history.passes(point) {
                            return Err(format!("{point:?} was acknowledged, and is not in the history"));
                        }
                        self.net
                            .event("acknowledged", || format!("process {}: seq-no {}", process.id, point.0));
                    }
                    Err(_) if process.failure.is_some() => {}
                    Err(error) => return Err(format!("a barrier fails before its recorder: {error:?}")),
                }
            }
            for mut pending in std::mem::take(&mut process.hinting) {
                if !pending.is_resolved() {
                    process.hinting.push(pending);
                    continue;
                }
                match pending.wait(Deadline::passed()) {
                    Ok(hints) => process.in_hand.push(hints),
                    Err(_) if process.failure.is_some() => {}
                    Err(error) => return Err(format!("hints fail before their recorder: {error:?}")),
                }
            }
        }
        Ok(())
    }

    /// Checks that a recorder had a reason to fail.
    fn justify(&self, process: &Process, failure: &Error) -> Result<(), String> {
        let own = Author::new(process.author).unwrap().register_value();
        let claims = &self.net.lock().claims;
        let is_reason = match failure.kind() {
            ErrorKind::Fenced => claims[process.claims_before..].iter().any(|claim| *claim != own),
            ErrorKind::Unavailable => process.impatient,
            _ => false,
        };
        if is_reason {
            Ok(())
        } else {
            Err(format!("process {} fails for no reason: {failure:?}", process.id))
        }
    }

    /// Plays the log by every hint set and by none: all must come to the same end.
    pub(crate) fn check_players(&self) -> Result<(), String> {
        self.net.event("players are compared", String::new);
        let cluster = &mut *self.lock();
        cluster.history.read_on(&self.net.store)?;
        let mut again = super::oracle::History::default();
        again.read_on(&self.net.store)?;
        if again.ops() != cluster.history.ops() {
            return Err("the history has changed".into());
        }
        let stored = Self::hints(cluster).candidates(&self.net.log, soon()).unwrap();
        let mut sets = vec![FsmHints::empty(self.net.log.clone())];
        sets.extend(stored.into_iter().filter_map(|candidate| candidate.hints.ok()));
        for hints in &sets {
            let local = MemoryFs::new();
            let fs: Arc<dyn FileSystem> = Arc::new(local.clone());
            let player = Player::new(&self.net.journals, hints, fs, Path::new(ROOT), play_options());
            let played = player.and_then(Player::restore);
            let played = played.map_err(|error| format!("a player fails with {error:?}\nby {hints:?}"))?;
            let point = (played.fsm.next_seq_no(), played.fsm.next_checksum());
            let junk = |warning: &Warning| matches!(warning, Warning::JunkAtTail { .. });
            if point != cluster.history.head() || !played.warnings.iter().all(junk) {
                return Err(format!("a player ends at {point:?}, {:?}\nby {hints:?}", played.warnings));
            }
            let (tree, expected) =
                (Tree::read(&local, Path::new(ROOT)), cluster.history.tree_at(point, &cluster.trees)?);
            if tree != *expected {
                return Err(format!("a player builds {tree:?}\ninstead of {expected:?}\nby {hints:?}"));
            }
        }
        super::damage::check(&self.net, cluster, &sets)
    }
}

fn store(net: &Net, disk: &MemoryFs, hints: &FsmHints) -> Result<(), Error> {
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    if net.planted == Planted::OlderHints {
        // The newest arrival takes the place of what was there.
        for entry in disk.read_dir(Path::new("/hints")).unwrap_or_default() {
            disk.remove_file(&Path::new("/hints").join(entry.name)).unwrap();
        }
    }
    recoverylog::hint_store::DirectoryHints::open(fs, Path::new("/hints"))?.store(hints, soon())
}
