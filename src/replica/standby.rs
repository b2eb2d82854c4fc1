//! A replica that follows its log, on a thread of its own.
//!
//! *Invariants.* The thread ends with the standby. What it has built is handed to a primary, left to be gone on from where
//! a state is kept, or removed.
//!
//! *Does not* record.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{PassedOver, Plan, Primary, Replica, is_fault_of_hints};
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fsm::Position;
use crate::ids::Author;
use crate::journal::{Interrupter, Journal};
use crate::player::{Follower, Played, without_live_map};
use crate::sync::thread::JoinHandle;
use crate::sync::{Condvar, Mutex, MutexGuard, thread};

/// The longest sleep of a standby that has nothing to do.
const IDLE: Duration = Duration::from_secs(1);
/// Plays that are begun anew because bytes which a standby had yet to read were pruned.
const RESTARTS_MAX: u32 = 3;

/// What a standby that was promoted leaves: the directory, and the journal that it followed.
type Outcome = (Played, Arc<dyn Journal>);

/// A replica that plays its log, follows it, and can take it over.
#[derive(Debug)]
pub struct Standby {
    replica: Replica,
    directory: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Outcome>>>,
}

/// Where a standby is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum StandbyState {
    /// It plays what the log held when it began.
    Backfill,
    /// It follows the log.
    Tail,
    /// It failed.
    Failed,
}

/// What a standby is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StandbyStatus {
    /// Where it is in its life.
    pub state: StandbyState,
    /// How far it has applied the log; `None` during the backfill.
    pub position: Option<Position>,
    /// Hint sets that it could not play.
    pub passed_over: Vec<PassedOver>,
    /// Why it failed.
    pub failure: Option<Error>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Ends a play that has not come to the head yet.
    stop: Arc<AtomicBool>,
}

struct State {
    status: StandbyStatus,
    order: Order,
    interrupter: Option<Interrupter>,
}

/// What the thread is to do.
#[derive(Clone, Copy, Debug)]
enum Order {
    Follow,
    Promote(Author, Deadline),
    Stop,
}

impl Standby {
    pub(super) fn start(replica: Replica, directory: &Path) -> Result<Self> {
        if replica.options.play.resume && !replica.options.recorder.keeps_live_map() {
            return Err(without_live_map());
        }
        let status = StandbyStatus {
            state: StandbyState::Backfill,
            position: None,
            passed_over: Vec::new(),
            failure: None,
        };
        let state = Mutex::new(State { status, order: Order::Follow, interrupter: None });
        let shared = Arc::new(Shared { state, changed: Condvar::new(), stop: Arc::default() });
        let work =
            Work { replica: replica.clone(), directory: directory.to_owned(), shared: Arc::clone(&shared) };
        let builder = thread::Builder::new().name("recoverylog-standby".into());
        let thread =
            builder.spawn(move || work.run()).map_err(|e| Error::io("starting a thread failed", e))?;
        Ok(Self { replica, directory: directory.to_owned(), shared, thread: Some(thread) })
    }

    /// Tells what the standby is doing.
    pub fn status(&self) -> StandbyStatus {
        self.shared.lock().status.clone()
    }

    /// Waits until everything before `position` was applied.
    ///
    /// # Errors
    /// The failure of the standby; `Unavailable` once `deadline` has passed.
    pub fn wait_until(&self, position: Position, deadline: Deadline) -> Result<()> {
        self.wait(deadline, |status| status.position.is_some_and(|at| at.next_seq_no >= position.next_seq_no))
    }

    /// Waits until the standby follows the log.
    ///
    /// # Errors
    /// As those of [`Standby::wait_until`].
    pub fn wait_for_tail(&self, deadline: Deadline) -> Result<()> {
        self.wait(deadline, |status| status.state == StandbyState::Tail)
    }

    /// Takes the log over for `author`; the old writer is fenced.
    ///
    /// A standby that is still playing what the log held when it began finishes that first; one that follows it, the step
    /// of its journal that is under way ([`PlayOptions::step_deadline`](crate::player::PlayOptions::step_deadline)).
    ///
    /// # Errors
    /// The failure of the standby; those of [`Follower::promote`].
    pub fn promote(mut self, author: Author, deadline: Deadline) -> Result<Primary> {
        self.order(Order::Promote(author, deadline));
        let played = self.join()?;
        Primary::start(self.replica.clone(), &self.directory, played, author, deadline)
    }

    /// Stops, and removes what was built; with [`PlayOptions::resume`](crate::player::PlayOptions::resume) leaves it, to be
    /// gone on from.
    ///
    /// # Errors
    /// The failure of the standby, where it failed before; `Io` where its state could not be kept.
    pub fn close(mut self) -> Result<()> {
        self.order(Order::Stop);
        match self.join() {
            Err(error) if error.kind() != ErrorKind::Unavailable => Err(error),
            _ => Ok(()),
        }
    }

    fn wait(&self, deadline: Deadline, reached: impl Fn(&StandbyStatus) -> bool) -> Result<()> {
        let mut state = self.shared.lock();
        loop {
            if let Some(failure) = &state.status.failure {
                return Err(failure.clone());
            }
            if reached(&state.status) {
                return Ok(());
            }
            let remaining = deadline.remaining();
            if remaining.is_zero() {
                return Err(Error::new(ErrorKind::Unavailable, "the standby did not come so far in time")
                    .in_log(&self.replica.log));
            }
            let waited = self.shared.changed.wait_timeout(state, remaining);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn order(&self, order: Order) {
        if matches!(order, Order::Stop) {
            self.shared.stop.store(true, Ordering::Relaxed);
        }
        let mut state = self.shared.lock();
        state.order = order;
        let interrupter = state.interrupter.clone();
        drop(state);
        if let Some(interrupter) = interrupter {
            interrupter.interrupt();
        }
    }

    fn join(&mut self) -> Result<Outcome> {
        let gone = || Error::new(ErrorKind::Unavailable, "the standby has stopped");
        let thread = self.thread.take().ok_or_else(gone)?;
        thread.join().unwrap_or_else(|_| Err(gone()))
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.order(Order::Stop);
            // A standby that nobody takes over has no use for its outcome.
            drop(self.join());
        }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("status", &self.status)
            .field("order", &self.order)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// The thread of a standby.
struct Work {
    replica: Replica,
    directory: PathBuf,
    shared: Arc<Shared>,
}

/// A play that came to nothing.
struct Failure {
    error: Error,
    /// The head was reached, and followed.
    has_followed: bool,
    /// The stored set by which it was played, where it did not reach the head by one.
    set: Option<String>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, has_followed: false, set: None }
    }
}

impl Work {
    fn run(&self) -> Result<Outcome> {
        let (mut restarts, mut failed) = (0, Vec::new());
        loop {
            let Failure { error, has_followed, set } = match self.play(&failed) {
                Ok(outcome) => return Ok(outcome),
                Err(failure) => failure,
            };
            let kind = error.kind();
            if has_followed {
                restarts = 0;
            }
            let goes_on = !matches!(self.shared.lock().order, Order::Stop);
            // Bytes that were there when the play was planned, or that it had yet to follow, may be pruned under it: begin
            // with fresher hints. Whatever a hand-off has appended before is history then, and it is made again.
            if kind == ErrorKind::DataLoss && goes_on && restarts < RESTARTS_MAX {
                restarts += 1;
                continue;
            }
            if let Some(name) = set.filter(|_| is_fault_of_hints(kind)) {
                // Older hints lead to the same head, by other ranges.
                failed.push(PassedOver { name, error });
                restarts = 0;
                continue;
            }
            self.shared.update(|state| {
                state.status.state = StandbyState::Failed;
                state.status.failure = Some(error.clone());
                state.interrupter = None;
            });
            return Err(error);
        }
    }

    fn play(&self, failed: &[PassedOver]) -> Result<Outcome, Failure> {
        let Plan { player, set, passed_over } = self.replica.plan(&self.directory, failed)?;
        self.shared.update(|state| {
            state.status.state = StandbyState::Backfill;
            state.status.passed_over = passed_over;
        });
        let in_backfill = |error| Failure { error, has_followed: false, set };
        let mut follower = player.stopped_by(&self.shared.stop).follow().map_err(in_backfill)?;
        let in_tail = |error| Failure { error, has_followed: true, set: None };
        let interrupter = follower.interrupter();
        self.shared.update(|state| {
            state.status.state = StandbyState::Tail;
            state.status.position = Some(follower.position());
            state.interrupter = Some(interrupter);
        });
        loop {
            match self.shared.lock().order {
                Order::Follow => {}
                Order::Promote(author, deadline) => {
                    let journal = follower.journal();
                    return Ok((follower.promote(author, deadline).map_err(in_tail)?, journal));
                }
                Order::Stop => {
                    follower.rest().map_err(in_tail)?;
                    return Err(Error::new(ErrorKind::Unavailable, "the standby was stopped").into());
                }
            }
            if let Err(error) = self.follow(&mut follower) {
                follower.abandon();
                return Err(in_tail(error));
            }
        }
    }

    fn follow(&self, follower: &mut Follower) -> Result<()> {
        let followed = follower.advance(Deadline::after(IDLE));
        self.shared.update(|state| state.status.position = Some(follower.position()));
        followed.map(drop)
    }
}
