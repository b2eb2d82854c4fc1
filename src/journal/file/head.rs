//! The shared head: the words that every process maps.
//!
//! *Invariants.* The head word only grows, and only by compare-and-exchange. Whoever moves it wakes all waiters.
//!
//! *Does not* touch the open files; that the bytes below a new head are durable is up to the caller.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::layout::{
    BOOT_WORD, CHECK_WORD, FLOOR_WORD, GIVEN_WORD, HEAD_MAGIC, HEAD_WORD, HeadWord, LOST_WORD, MAGIC_WORD,
    MOVES_WORD, TURN_WORD, WISH_WORD, boot_words, head_check, lost_mark,
};
use crate::clock::Deadline;
use crate::planted::{Bug, planted};
use crate::sync::{Condvar, Mutex};
use crate::vfs::{File, SharedWords};

/// The longest a waiter sleeps without a look: a process that died after it moved the head woke nobody.
const NAP: Duration = Duration::from_secs(1);

/// The mapped words of `head`.
#[derive(Clone, Debug)]
pub(super) struct SharedHead(Arc<dyn SharedWords>);

impl SharedHead {
    pub(super) fn new(words: Arc<dyn SharedWords>) -> Self {
        Self(words)
    }

    /// Makes a head that is read from time to time, where it cannot be mapped; it cannot be moved.
    pub(super) fn polled(file: Arc<dyn File>, words: usize) -> Self {
        let words = (0..words).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(PolledWords { file, words, wakes: Mutex::new(0), woken: Condvar::new() }))
    }

    /// Tells whether the words belong to this boot of the machine.
    pub(super) fn is_of_boot(&self, boot: [u8; 16]) -> bool {
        let boot = boot_words(boot);
        self.is_valid() && [self.get(BOOT_WORD), self.get(BOOT_WORD + 1)] == boot
    }

    /// Tells whether the words belong to any boot.
    fn is_valid(&self) -> bool {
        let boot = [self.get(BOOT_WORD), self.get(BOOT_WORD + 1)];
        self.get(MAGIC_WORD) == HEAD_MAGIC && self.get(CHECK_WORD) == head_check(boot)
    }

    /// Returns a value that the head word had in the boot that the words belong to, whichever that is.
    pub(super) fn witness(&self) -> Option<HeadWord> {
        self.is_valid().then(|| {
            let (floor, word) = self.bounds();
            word.max(floor)
        })
    }

    /// Starts the words of a boot. Nobody else may use them yet: the lock of the journal is held.
    pub(super) fn start(&self, boot: [u8; 16], head: HeadWord) {
        // While the words change they belong to no boot, so that a death in between means another recovery.
        self.set(CHECK_WORD, 0);
        self.set(MAGIC_WORD, 0);
        self.set(HEAD_WORD, head.pack());
        self.set(FLOOR_WORD, head.pack());
        self.set(GIVEN_WORD, head.file);
        let [low, high] = boot_words(boot);
        self.set(BOOT_WORD, low);
        self.set(BOOT_WORD + 1, high);
        self.set(MAGIC_WORD, HEAD_MAGIC);
        self.set(CHECK_WORD, head_check([low, high]));
        self.wake();
    }

    /// Says that a flush of a folder failed in this boot.
    pub(super) fn lose_names(&self, boot: [u8; 16]) {
        self.set(LOST_WORD, lost_mark(boot_words(boot)));
    }

    /// Tells whether a flush of a folder failed in this boot.
    pub(super) fn has_lost_names(&self, boot: [u8; 16]) -> bool {
        self.get(LOST_WORD) == lost_mark(boot_words(boot))
    }

    /// Returns the head word as it is now.
    pub(super) fn load(&self) -> HeadWord {
        HeadWord::unpack(self.get(HEAD_WORD))
    }

    /// Returns a value that the head word had, below which everything is committed, and the head word. The second is
    /// no less than the first, unless one of them was damaged.
    pub(super) fn bounds(&self) -> (HeadWord, HeadWord) {
        // In this order: others move the head, and the floor after it, at any time.
        let floor = HeadWord::unpack(self.get(FLOOR_WORD));
        (floor, self.load())
    }

    /// Moves the head; false where it is not `from` any more.
    pub(super) fn exchange(&self, from: HeadWord, to: HeadWord) -> bool {
        let Some(word) = self.0.word(HEAD_WORD) else { return false };
        if planted(Bug::HeadOverwritten) {
            word.store(to.pack(), Ordering::Release);
        } else if word.compare_exchange(from.pack(), to.pack(), Ordering::AcqRel, Ordering::Acquire).is_err()
        {
            return false;
        }
        if let Some(floor) = self.0.word(FLOOR_WORD) {
            floor.fetch_max(to.pack(), Ordering::AcqRel);
        }
        self.wake();
        true
    }

    /// Gives a file id that is larger than `newest`, and that nobody else is given in this boot: whoever stopped before
    /// it made its file must not make one in the place of another's, however late it goes on.
    pub(super) fn give_id(&self, newest: u64) -> u64 {
        let next = |given: u64| given.max(newest).saturating_add(1);
        let Some(word) = self.0.word(GIVEN_WORD) else { return next(newest) };
        let mut given = word.load(Ordering::Acquire);
        loop {
            match word.compare_exchange(given, next(given), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return next(given),
                Err(now) => given = now,
            }
        }
    }

    /// Returns what [`SharedHead::wait`] needs; to be had before the head is looked at.
    pub(super) fn moves(&self) -> u64 {
        self.get(MOVES_WORD)
    }

    /// Sleeps until [`SharedHead::wake`] was called after `moves` was had, or `deadline` passes; at most a second.
    pub(super) fn wait(&self, moves: u64, deadline: Deadline) {
        self.0.wait(MOVES_WORD, moves, deadline.or_after(NAP));
    }

    /// Wakes everybody who waits for the head.
    pub(super) fn wake(&self) {
        if let Some(moves) = self.0.word(MOVES_WORD) {
            moves.fetch_add(1, Ordering::AcqRel);
            self.0.wake(MOVES_WORD);
        }
    }

    /// Asks the holder of the lock to let it go, and returns what [`SharedHead::wait_turn`] needs.
    pub(super) fn wish(&self) -> u64 {
        let turn = self.get(TURN_WORD);
        self.set(WISH_WORD, 1);
        turn
    }

    /// Returns what [`SharedHead::wait_turn`] needs.
    pub(super) fn turn(&self) -> u64 {
        self.get(TURN_WORD)
    }

    /// Tells whether somebody waits for the lock.
    pub(super) fn is_wished(&self) -> bool {
        self.get(WISH_WORD) != 0
    }

    /// Sleeps until the lock was given up for others, or `deadline` passes.
    pub(super) fn wait_turn(&self, turn: u64, deadline: Deadline) {
        self.0.wait(TURN_WORD, turn, deadline);
    }

    /// Says that the lock was given up; true where somebody waited for it.
    pub(super) fn give_turn(&self) -> bool {
        let wished = self.0.word(WISH_WORD).is_some_and(|wish| wish.swap(0, Ordering::AcqRel) != 0);
        if wished && let Some(turn) = self.0.word(TURN_WORD) {
            turn.fetch_add(1, Ordering::AcqRel);
            self.0.wake(TURN_WORD);
        }
        wished
    }

    fn get(&self, index: usize) -> u64 {
        self.0.word(index).map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn set(&self, index: usize, value: u64) {
        if let Some(word) = self.0.word(index) {
            word.store(value, Ordering::Release);
        }
    }
}

/// Words that are read from the file each time they are looked at. Stores into them go nowhere.
#[derive(Debug)]
struct PolledWords {
    file: Arc<dyn File>,
    words: Vec<AtomicU64>,
    wakes: Mutex<u64>,
    woken: Condvar,
}

impl SharedWords for PolledWords {
    fn word(&self, index: usize) -> Option<&AtomicU64> {
        let word = self.words.get(index)?;
        let mut bytes = [0; size_of::<u64>()];
        // A head that cannot be read stays where it was seen last.
        if self.file.read_exact_at(&mut bytes, (index * size_of::<u64>()) as u64).is_ok() {
            word.store(in_host_order(bytes), Ordering::Release);
        }
        Some(word)
    }

    fn wait(&self, _index: usize, _seen: u64, deadline: Deadline) {
        let wakes = self.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *wakes;
        let waiting = |wakes: &mut u64| *wakes == before;
        drop(self.woken.wait_timeout_while(wakes, deadline.or_after(NAP).remaining(), waiting));
    }

    fn wake(&self, _index: usize) {
        *self.wakes.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.woken.notify_all();
    }
}

/// Reads a word as the mapping of this machine has it.
const fn in_host_order(bytes: [u8; 8]) -> u64 {
    let word = u64::from_le_bytes(bytes);
    if cfg!(target_endian = "big") { word.swap_bytes() } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::file::layout::HEAD_WORDS;

    /// Words that somebody else moves on whenever they are looked at.
    #[derive(Debug)]
    struct Busy(Vec<AtomicU64>);

    impl SharedWords for Busy {
        fn word(&self, index: usize) -> Option<&AtomicU64> {
            let moved = self.0[HEAD_WORD].fetch_add(1, Ordering::AcqRel) + 1;
            self.0[FLOOR_WORD].fetch_max(moved, Ordering::AcqRel);
            self.0.get(index)
        }

        fn wait(&self, _index: usize, _seen: u64, _deadline: Deadline) {}

        fn wake(&self, _index: usize) {}
    }

    #[test]
    fn a_head_that_others_move_is_never_seen_below_its_floor() {
        let head = SharedHead::new(Arc::new(Busy((0..HEAD_WORDS).map(|_| AtomicU64::new(7)).collect())));
        for _ in 0..3 {
            let (floor, word) = head.bounds();
            assert!(floor < word, "{floor:?} {word:?}");
        }
    }
}
