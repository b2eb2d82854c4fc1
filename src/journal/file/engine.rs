//! The engine of a journal that takes appends: it commits groups, follows what other processes commit, takes over
//! from a holder of the lock that makes no progress, and rolls.
//!
//! *Invariants.* Content and record are durable before the head word is exchanged, and nothing is acknowledged before
//! that. The open file is written only with its lock held, taken while the head word named it. After a failed write
//! or flush the head is frozen before the lock is given up, and this engine refuses everything.
//!
//! *Does not* call back: it hands out what is settled, and the caller resolves it outside of every lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::group::{Group, Pending, Settled};
use super::head::SharedHead;
use super::layout::{Geometry, HeadWord, Header};
use super::open_file::{Mark, OpenFile};
use super::place::Place;
use super::recover;
use super::seal::{self, How};
use super::sealing::Sealing;
use super::write::{self, Ahead, WriteError};
use crate::clock::{self, Deadline};
use crate::journal::{Head, JournalError};
use crate::planted::{Bug, planted};
use crate::vfs::{LockMode, OpenMode};

/// How often a lock is tried for.
const TRY_EVERY: Duration = Duration::from_millis(2);
/// How long the lock is left to others after somebody asked for it.
const LEAVE: Duration = Duration::from_millis(1);
/// How long a roll waits for the sealing of the one before.
const SEALING_MAX: Duration = Duration::from_secs(600);
/// How often a group is tried again after another process moved the head.
const TRIES_MAX: u32 = 1000;

/// What the engine may be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) fragment_bytes: u64,
    /// Seal on the calling thread.
    pub(super) inline: bool,
    /// A holder of the lock under whom the head does not move for that long loses it.
    pub(super) patience: Duration,
    /// The boot of the machine.
    pub(super) boot: [u8; 16],
}

/// The engine of one handle.
#[derive(Debug)]
pub(super) struct Engine {
    place: Place,
    head: SharedHead,
    settings: Settings,
    current: Current,
    sealing: Arc<Sealing>,
    failed: Option<JournalError>,
}

/// The open file as far as this engine has followed it.
#[derive(Debug)]
struct Current {
    file: Arc<OpenFile>,
    mark: Mark,
    locked: bool,
    ahead: Ahead,
}

impl Current {
    fn new(file: OpenFile, locked: bool) -> Self {
        let mark = file.start();
        Self { file: Arc::new(file), mark, locked, ahead: Ahead::default() }
    }

    fn word(&self) -> HeadWord {
        HeadWord::new(self.file.header.id, self.mark.len)
    }

    fn head(&self) -> Head {
        Head::new(self.file.offset(self.mark.len), self.mark.registers.clone())
    }
}

impl Engine {
    /// Joins a journal whose head is of this boot: checks the open file, lifts a wedge, finishes sealing.
    pub(super) fn attach(place: Place, head: SharedHead, settings: Settings) -> Result<Self, JournalError> {
        if head.has_lost_names(settings.boot) {
            return Err(place.names_lost());
        }
        let (floor, word) = head.bounds();
        if word < floor {
            return Err(place.corrupt(
                crate::ids::Offset::ZERO,
                format!("{}: the head is below its floor", place.head_path().display()),
                format!("{floor:?}"),
                format!("{word:?}"),
            ));
        }
        let file = OpenFile::open_named_by(&place, &head, OpenMode::ReadWrite)?;
        let mut engine = Self {
            place,
            head,
            settings,
            current: Current::new(file, false),
            sealing: Arc::default(),
            failed: None,
        };
        match engine.lift() {
            Ok(()) => Ok(engine),
            Err(error) => Err(engine.note_lost_names(error)),
        }
    }

    /// Lifts a wedge, and finishes what others began to seal.
    fn lift(&mut self) -> Result<(), JournalError> {
        loop {
            let word = self.follow(true)?;
            if word.frozen && self.place.is_retired()? {
                return Err(self.place.not_allowed("the journal is retired"));
            }
            // What an earlier sealing failed at fails here again, and says why.
            let header = self.current.file.header.clone();
            seal::seal_before(&self.place, &header, &How::Any)?;
            if !word.frozen {
                return Ok(());
            }
            // The process that froze the head does not trust the file, so nobody does.
            if self.open_next(word, 0, How::Copy)? {
                self.finish_sealing()?;
                self.release();
            }
        }
    }

    /// Returns the head and the registers there.
    pub(super) fn head(&mut self) -> Result<Head, JournalError> {
        self.follow(false)?;
        Ok(self.current.head())
    }

    /// Commits the next group of the queue and returns what is settled: at least one append of a queue that is not
    /// empty, in order.
    pub(super) fn commit(&mut self, queue: &mut VecDeque<Pending>) -> Vec<Settled> {
        let mut written = 0;
        for _ in 0..TRIES_MAX {
            match self.attempt(queue) {
                Ok(Attempt::Done(settled)) => return settled,
                Ok(Attempt::Again) => {}
                Ok(Attempt::Lost(taken)) => written = written.max(taken),
                Err(error) => {
                    let error = self.note_lost_names(error);
                    return self.fail(queue, written, &error);
                }
            }
        }
        let error = self.place.unavailable("other processes moved the head again and again");
        self.fail(queue, written, &error)
    }

    /// Gives the lock up: to somebody who asked for it, or because there is nothing to do.
    pub(super) fn rest(&mut self, is_idle: bool) {
        if !self.current.locked || !(is_idle || self.head.is_wished()) {
            return;
        }
        self.release();
        if !is_idle {
            let turn = self.head.turn();
            self.head.wait_turn(turn, Deadline::after(LEAVE));
        }
    }

    /// Seals everything and refuses appends from now on, in every process.
    pub(super) fn retire(&mut self) -> Result<(), JournalError> {
        self.try_retire().map_err(|error| self.note_lost_names(error))
    }

    fn try_retire(&mut self) -> Result<(), JournalError> {
        for _ in 0..TRIES_MAX {
            let word = self.lock()?;
            if word.len > 0 && !self.open_next(word, 0, How::Any)? {
                continue;
            }
            self.finish_sealing()?;
            if !self.head.exchange(self.current.word(), self.current.word().freeze()) {
                continue;
            }
            let path = self.place.retired_path();
            let marked = self.place.fs.open(&path, OpenMode::Create).and_then(|file| file.sync_all());
            marked.map_err(|error| self.place.io("marking the journal as retired", error))?;
            self.place.sync_state()?;
            self.failed = Some(self.place.not_allowed("the journal is retired"));
            self.release();
            return Ok(());
        }
        Err(self.place.unavailable("other processes moved the head again and again"))
    }

    /// Returns what tells whether files are being sealed.
    pub(super) fn sealing(&self) -> Arc<Sealing> {
        Arc::clone(&self.sealing)
    }

    fn finish_sealing(&self) -> Result<(), JournalError> {
        if self.sealing.wait(Deadline::after(SEALING_MAX)) {
            return Ok(());
        }
        Err(self.place.unavailable("the last roll is still being sealed"))
    }

    fn attempt(&mut self, queue: &mut VecDeque<Pending>) -> Result<Attempt, JournalError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let changes = queue.iter().any(|pending| pending.append.content_bytes() > 0);
        let word = if changes { self.lock()? } else { self.follow(false)? };
        self.refuse_frozen(word)?;
        let room = self.current.file.header.geometry;
        let group = Group::plan(&self.place, queue, &self.current.head(), &self.current.mark, room);
        if let Some(bytes) = group.needs_room {
            self.open_next(word, bytes, How::Any)?;
            return Ok(Attempt::Again);
        }
        if group.bytes == 0 {
            return Ok(Attempt::Done(group.settle(queue)));
        }
        let current = &mut self.current;
        let next = match write::group(&current.file, &current.mark, &mut current.ahead, &group, queue) {
            Ok(next) => next,
            Err(WriteError::NoSpace(error)) => {
                return Err(self.place.io("reserving space for the open file", error));
            }
            Err(WriteError::Failed(error)) => {
                let path = self.place.open_path(self.current.file.header.id);
                let what = format!("writing {} failed: {error}", path.display());
                return Ok(Attempt::Done(self.wedge(queue, &group, what)));
            }
        };
        if !self.head.exchange(word, HeadWord::new(word.file, next.len)) {
            // Taken over: what was written lies above the cut of the old file.
            self.release();
            return Ok(Attempt::Lost(group.taken()));
        }
        self.current.mark = next;
        Ok(Attempt::Done(group.settle(queue)))
    }

    /// Takes the lock of the open file, and returns the head word, which cannot move by any commit but ours.
    fn lock(&mut self) -> Result<HeadWord, JournalError> {
        let mut seen = None;
        let mut since = clock::now();
        loop {
            let word = self.follow(false)?;
            self.refuse_frozen(word)?;
            if self.current.locked {
                return Ok(word);
            }
            let file = &self.current.file.file;
            let locked = file.try_lock(LockMode::Exclusive);
            if locked.map_err(|error| self.place.io("locking the open file", error))? {
                // Looked at again with the lock held: the file may be out of use by now.
                self.current.locked = true;
                continue;
            }
            if seen != Some(word) {
                seen = Some(word);
                since = clock::now();
            }
            if since.elapsed() >= self.patience(word) {
                self.open_next(word, 0, How::Any)?;
                continue;
            }
            let turn = self.head.wish();
            self.head.wait_turn(turn, Deadline::after(TRY_EVERY));
        }
    }

    fn patience(&self, word: HeadWord) -> Duration {
        let fruitless = if word.len > 0 { 0 } else { self.current.file.header.fruitless + 1 };
        self.settings.patience * 2_u32.pow(fruitless.min(10))
    }

    /// Moves to the open file that the head word names, and along its records up to there.
    fn follow(&mut self, check: bool) -> Result<HeadWord, JournalError> {
        loop {
            let mut word = self.head.load();
            while word.file != self.current.file.header.id {
                self.release();
                let file = OpenFile::open_named_by(&self.place, &self.head, OpenMode::ReadWrite)?;
                self.current = Current::new(file, false);
                word = self.head.load();
            }
            let current = &mut self.current;
            if current.file.advance_to(&self.place, &mut current.mark, (&self.head, word), check)? {
                return Ok(word);
            }
        }
    }

    fn refuse_frozen(&mut self, word: HeadWord) -> Result<(), JournalError> {
        if !word.frozen {
            return Ok(());
        }
        let error = if self.place.is_retired()? {
            self.place.not_allowed("the journal is retired")
        } else if self.head.has_lost_names(self.settings.boot) {
            self.place.names_lost()
        } else {
            self.place.wedged("a write or flush failed in another handle or process, or while sealing")
        };
        self.release();
        self.failed = Some(error.clone());
        Err(error)
    }

    /// Puts a new open file into use at the head, and has the one before sealed; false where somebody else moved
    /// the head meanwhile.
    fn open_next(&mut self, word: HeadWord, bytes: u64, how: How) -> Result<bool, JournalError> {
        self.finish_sealing()?;
        let old = &self.current;
        let newest = self.place.open_ids()?.into_iter().max().unwrap_or(0).max(word.file);
        let header = Header {
            id: self.head.give_id(newest),
            previous: word.file,
            begin: old.file.offset(word.len),
            geometry: Geometry::for_content(bytes.max(self.settings.fragment_bytes)),
            fruitless: if word.len > 0 { 0 } else { old.file.header.fruitless.saturating_add(1) },
            registers: old.mark.registers.clone(),
        };
        let Some(file) = recover::create_as(&self.place, header)? else { return Ok(false) };
        if !self.head.exchange(word, HeadWord::new(file.header.id, 0)) {
            self.place.remove(&self.place.open_path(file.header.id))?;
            return Ok(false);
        }
        let old = std::mem::replace(&mut self.current, Current::new(file, true));
        let how = if old.locked { How::Held(old.file) } else { how };
        self.start_sealing(how);
        Ok(true)
    }

    fn start_sealing(&mut self, how: How) {
        let (place, head, boot) = (self.place.clone(), self.head.clone(), self.settings.boot);
        let header = self.current.file.header.clone();
        let work = move || {
            if seal::seal_before(&place, &header, &how).is_err() {
                if place.has_lost_names() {
                    head.lose_names(boot);
                }
                freeze(&head);
            }
        };
        self.sealing.start(&self.place, self.settings.inline, work);
    }

    /// Freezes the head where a flush of a folder failed. What is acknowledged is safe; nothing more would be.
    fn note_lost_names(&mut self, error: JournalError) -> JournalError {
        if !self.place.has_lost_names() || self.failed.is_some() {
            return error;
        }
        self.head.lose_names(self.settings.boot);
        freeze(&self.head);
        self.release();
        self.failed = Some(self.place.names_lost());
        error
    }

    fn wedge(&mut self, queue: &mut VecDeque<Pending>, group: &Group, what: String) -> Vec<Settled> {
        // A failed exchange means that the file is out of use: its cut guards it.
        let word = self.current.word();
        if !planted(Bug::NoWedge) {
            self.head.exchange(word, word.freeze());
        }
        self.release();
        let error = self.place.wedged(what);
        self.failed = Some(error.clone());
        self.fail(queue, group.taken(), &error)
    }

    /// Settles the whole queue with an error. Of the first `written` appends it is not known whether they will
    /// turn out committed after a crash.
    fn fail(&self, queue: &mut VecDeque<Pending>, written: usize, error: &JournalError) -> Vec<Settled> {
        let settle = |(index, pending): (usize, Pending)| {
            let unknown = index < written && pending.append.content_bytes() > 0;
            let error = if unknown {
                let (journal, at) = (self.place.journal.clone(), pending.append.at);
                JournalError::Unknown { journal, at, what: error.to_string() }
            } else {
                error.clone()
            };
            Settled { completer: pending.completer, result: Err(error) }
        };
        queue.drain(..).enumerate().map(settle).collect()
    }

    fn release(&mut self) {
        if !self.current.locked {
            return;
        }
        self.current.locked = false;
        // A lock that cannot be given back ends with the handle, and until then others take over.
        drop(self.current.file.file.unlock());
        self.head.give_turn();
    }
}

/// What became of one attempt at a group.
enum Attempt {
    Done(Vec<Settled>),
    /// The head did not move; try again.
    Again,
    /// The first so many appends were written, and not committed.
    Lost(usize),
}

/// Makes every later commit fail until the journal is opened anew.
fn freeze(head: &SharedHead) {
    loop {
        let word = head.load();
        if word.frozen || head.exchange(word, word.freeze()) {
            return;
        }
    }
}
