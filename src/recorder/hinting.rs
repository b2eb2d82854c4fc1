//! Hints out of a recorder: what is alive is kept beside the recording, not in its way.
//!
//! *Invariants.* The live map sees every operation in order, some time after it was recorded. Hints describe the point
//! of the operation that anchors them, whatever is recorded while they are being chosen. The lock of the map is taken
//! before the recorder's.
//!
//! *Does not* store hints (`replica`).

use std::sync::{Arc, PoisonError, TryLockError};

use super::options::Settings;
use super::state::Event;
use super::transaction::ANCHOR_PATH;
use super::{Inner, PendingHints, Recorder};
use crate::completion::completion;
use crate::error::{Error, ErrorKind, Result};
use crate::fsm::Fsm;
use crate::hint_store::too_large;
use crate::hints::{FsmHints, Property};
use crate::ids::LogPath;
use crate::live::LiveMap;
use crate::planted::{Bug, planted};
use crate::sync::MutexGuard;

/// Parts of the feed that the live map is told of by one call that records: more than one, so that what gathered while
/// hints were chosen becomes less.
const PARTS_AT_ONCE: usize = 2;

impl Recorder {
    /// Takes hints that lead a player to this very point of the log; they resolve once it is durable.
    ///
    /// A no-op anchors them at the head of the log. In an empty tree a reserved file holds the anchor, which
    /// the player of this crate hides. What they leave out, later hints of this recorder leave out too. They are chosen
    /// on the calling thread, while others go on recording.
    ///
    /// # Errors
    /// As all recording calls.
    pub fn take_hints(&self) -> Result<PendingHints> {
        self.take_hints_within(None)
    }

    /// As [`Recorder::take_hints`], of at most `bytes_max` bytes of JSON.
    ///
    /// # Errors
    /// `Invalid`, besides, where they would take more with the fewest segments that can be. They leave nothing out then.
    pub(crate) fn take_hints_within(&self, bytes_max: Option<usize>) -> Result<PendingHints> {
        let settings = &self.inner.settings;
        let anchor = LogPath::from_bytes(ANCHOR_PATH);
        let mut reserved = self.reserve_ops(&[&anchor])?;
        let mut live = self.inner.live();
        let (reached, is_reached) = completion();
        let mut feed = Vec::new();
        let mut state = self.inner.lock();
        state.check()?;
        let sequenced = self.sequence(&mut state, &mut reserved, |tx| {
            match tx.fsm().live_files() {
                0 => drop(tx.create(&anchor)?),
                // Left behind, it would hold the log back at its creation.
                2.. if tx.fsm().link(&anchor).is_some() => drop(tx.unlink(&anchor)?),
                _ => {}
            }
            if !planted(Bug::NoAnchor) {
                tx.no_op(None)?;
            }
            let nanos = tx.mark_nanos();
            feed = tx.state.take_feed(usize::MAX);
            let coarse = live.is_none().then(|| tx.fsm().hints_to_head(&settings.log, nanos));
            let properties = properties(tx.fsm());
            if let Some(reached) = tx.state.wait_for_all(reached) {
                reached.resolve(Ok(tx.state.committed));
            }
            Ok((coarse, properties, nanos, tx.state.shifted()))
        });
        drop(state);
        let chosen = sequenced.map(|(coarse, properties, nanos, shifted)| {
            let hints = match (&mut live, coarse) {
                (Some(live), _) => {
                    tell(live, settings, feed);
                    let hints =
                        live.hints(&settings.log, properties, nanos, (&settings.hint_budget, bytes_max));
                    hints.map_err(|bytes| (live.live_files(), bytes))
                }
                (None, coarse) => {
                    let hints = coarse.unwrap_or_default();
                    match bytes_max.map(|bytes_max| (hints.json_bytes(), bytes_max)) {
                        Some((bytes, bytes_max)) if bytes > bytes_max => Err((hints.files.len(), bytes)),
                        _ => Ok(hints),
                    }
                }
            };
            (hints, shifted)
        });
        // Whoever is told by the journal may take hints.
        drop(live);
        let (hints, shifted) = chosen.map_err(|refused| self.refused(refused))?;
        self.inner.drive(self.inner.lock());
        let mut hints = hints.map_err(|(files, bytes)| {
            too_large(Some(&settings.log), files, bytes, bytes_max.unwrap_or(usize::MAX))
        })?;
        if planted(Bug::EarlyHints) {
            let (completer, hinted) = completion();
            completer.resolve(Ok(hints));
            return Ok(PendingHints::new(hinted));
        }
        let (completer, hinted) = completion();
        let inner = Arc::clone(&self.inner);
        is_reached.on_ready(move |reached| {
            completer.resolve(reached.map(|_| {
                for &(from, bytes) in inner.lock().shifts_since(shifted) {
                    hints.shift_offsets(&inner.settings.log, from, bytes);
                }
                hints
            }));
        });
        Ok(PendingHints::new(hinted))
    }

    /// Leaves out of later hints whatever `stored` leaves out below its head: hints of the same history that others may
    /// go by, so that it may have been deleted.
    pub fn leave_out(&self, stored: &FsmHints) {
        if let Some(mut live) = self.inner.live() {
            live.leave_out(stored);
        }
    }

    /// Looks at what is alive after everything that was recorded, durable or not; `None` where
    /// [`RecorderOptions::live_map`] is off.
    ///
    /// Others go on recording meanwhile, and no hints can be taken.
    ///
    /// [`RecorderOptions::live_map`]: crate::RecorderOptions::live_map
    pub fn with_live_map<T>(&self, look: impl FnOnce(&LiveMap) -> T) -> Option<T> {
        let mut live = self.inner.live()?;
        let feed = self.inner.lock().take_feed(usize::MAX);
        tell(&mut live, &self.inner.settings, feed);
        Some(look(&live))
    }

    /// As [`Recorder::with_live_map`], for a caller that holds locks for which others wait: `None` also where somebody else
    /// looks just now.
    pub(crate) fn try_with_live_map<T>(&self, look: impl FnOnce(&LiveMap) -> T) -> Option<T> {
        let mut live = self.inner.try_live()?;
        let feed = self.inner.lock().take_feed(usize::MAX);
        tell(&mut live, &self.inner.settings, feed);
        Some(look(&live))
    }

    /// Ends this recorder, where everything that was recorded is durable, and returns its history; `None` where something
    /// is not durable yet.
    pub(crate) fn end(&self) -> Result<Option<Fsm>> {
        let mut live = self.inner.live();
        let mut state = self.inner.lock();
        state.check()?;
        if state.committed.next_seq_no != state.fsm.next_seq_no() {
            return Ok(None);
        }
        let feed = state.take_feed(usize::MAX);
        let closed =
            Error::new(ErrorKind::Invalid, "the recorder was closed").in_log(&self.inner.settings.log);
        let settled = state.fail(closed);
        let fsm = state.fsm.clone();
        drop(state);
        let fsm = match &mut live {
            Some(live) => {
                tell(live, &self.inner.settings, feed);
                fsm.with_live_map(live.clone())
            }
            None => fsm,
        };
        drop(live);
        self.inner.conclude(settled);
        Ok(Some(fsm))
    }

    /// Returns the history as it stands after everything that was recorded, durable or not, with what is alive of it:
    /// another recorder can go on with it, in another log.
    pub fn history(&self) -> Fsm {
        let Some(mut live) = self.inner.live() else { return self.with_fsm(Fsm::clone) };
        let mut state = self.inner.lock();
        let (feed, fsm) = (state.take_feed(usize::MAX), state.fsm.clone());
        drop(state);
        tell(&mut live, &self.inner.settings, feed);
        fsm.with_live_map(live.clone())
    }
}

impl Inner {
    fn live(&self) -> Option<MutexGuard<'_, LiveMap>> {
        Some(self.live.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn try_live(&self) -> Option<MutexGuard<'_, LiveMap>> {
        match self.live.as_ref()?.try_lock() {
            Ok(live) => Some(live),
            Err(TryLockError::Poisoned(live)) => Some(live.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Tells the live map what was recorded, once that is much.
    pub(super) fn digest(&self, is_fed: bool) {
        // Where there is none to be had, somebody tells it just now.
        let Some(mut live) = is_fed.then(|| self.try_live()).flatten() else { return };
        let feed = self.lock().take_feed(PARTS_AT_ONCE);
        tell(&mut live, &self.settings, feed);
    }
}

fn properties(fsm: &Fsm) -> Vec<Property> {
    let property = |(path, content): (&LogPath, &bytes::Bytes)| Property {
        path: path.clone(),
        content: content.clone(),
    };
    fsm.properties().map(property).collect()
}

fn tell(live: &mut LiveMap, settings: &Settings, feed: Vec<Vec<Event>>) {
    for event in feed.into_iter().flatten() {
        match event {
            Event::Op(change) => live.take(&settings.log, settings.author, &change),
            Event::Shift { from, bytes } => live.shift(&settings.log, from, bytes),
        }
    }
}
