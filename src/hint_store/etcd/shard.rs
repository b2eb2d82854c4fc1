//! The keys of one shard, and what a set that is stored changes in them.
//!
//! *Invariants.* A plan puts the oldest set first and the primary's last, so that whoever stops in between has lost nothing but
//! what falls out; made again from where it stopped, it ends as if it had not.
//!
//! *Does not* speak to etcd.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};
use crate::hints::FsmHints;

/// Keys of backups at most: an etcd takes transactions of 128 conditions.
pub(super) const BACKUPS_MAX: u32 = 100;

/// What is known of a shard without asking.
#[derive(Clone, Debug)]
pub(super) struct Shard {
    pub(super) key: String,
    pub(super) backups: u32,
    pub(super) bytes_max: usize,
    /// A key, and the revision at which it was created.
    pub(super) assignment: Option<(Vec<u8>, i64)>,
}

/// A key of a shard, best first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Slot {
    Primary,
    Backup(u32),
}

/// Which keys a set is stored in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Slots {
    Primary,
    Backups,
    /// The primary's, and the backups too where its author stores for the first time.
    ByTerm,
}

/// What a key holds.
#[derive(Clone, Debug)]
pub(super) struct Value {
    /// The revision at which it was written.
    pub(super) revision: i64,
    pub(super) bytes: Vec<u8>,
}

impl Value {
    pub(super) fn decode(&self) -> Result<FsmHints> {
        FsmHints::decode(&self.bytes).map_err(Error::from)
    }
}

/// What the keys of a shard hold at one revision.
pub(super) type Held = BTreeMap<Slot, Value>;

impl Shard {
    /// Returns the name of a key.
    pub(super) fn key(&self, slot: Slot) -> String {
        match slot {
            Slot::Primary => format!("{}.primary", self.key),
            Slot::Backup(index) => format!("{}.backup.{index}", self.key),
        }
    }

    /// Returns what the keys of all backups begin with.
    pub(super) fn backups_prefix(&self) -> String {
        format!("{}.backup.", self.key)
    }

    /// Returns the key of a backup that has this name, as the reference would write it.
    pub(super) fn backup(&self, key: &[u8]) -> Option<Slot> {
        let index = std::str::from_utf8(key).ok()?.strip_prefix(&self.backups_prefix())?;
        let index: u32 = index.parse().ok()?;
        let slot = Slot::Backup(index);
        (index < BACKUPS_MAX && self.key(slot).as_bytes() == key).then_some(slot)
    }

    /// Returns the keys whose content decides what is stored.
    pub(super) fn slots(&self, held: &Held) -> Vec<Slot> {
        let backups = (0..self.backups).map(Slot::Backup);
        let mut slots: Vec<_> = held.keys().copied().chain([Slot::Primary]).chain(backups).collect();
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// Returns what has to be written, in this order, to store `content` in `slots`.
    pub(super) fn plan(&self, held: &Held, content: &[u8], slots: Slots) -> Vec<(Slot, Vec<u8>)> {
        let mut puts = Vec::new();
        if slots != Slots::Primary {
            let mut pushed = content;
            for slot in (0..self.backups).map(Slot::Backup) {
                let there = held.get(&slot).map(|value| value.bytes.as_slice());
                // What is there already was moved before, by one who then stopped.
                if there == Some(pushed) {
                    break;
                }
                puts.push((slot, pushed.to_vec()));
                match there {
                    Some(next) => pushed = next,
                    None => break,
                }
            }
            puts.reverse();
        }
        if slots != Slots::Backups {
            puts.push((Slot::Primary, content.to_vec()));
        }
        puts
    }

    /// Parts a plan in transactions, each as large as the largest set at most.
    pub(super) fn transactions(&self, puts: Vec<(Slot, Vec<u8>)>) -> Vec<Vec<(Slot, Vec<u8>)>> {
        let (mut transactions, mut bytes) = (Vec::<Vec<_>>::new(), 0);
        for put in puts {
            bytes += put.1.len();
            match transactions.last_mut() {
                Some(last) if bytes <= self.bytes_max => last.push(put),
                _ => {
                    bytes = put.1.len();
                    transactions.push(vec![put]);
                }
            }
        }
        transactions
    }

    /// Returns the error of an etcd that does not answer.
    pub(super) fn away(&self, what: &str) -> Error {
        Error::new(ErrorKind::Unavailable, format!("the hints {} in etcd: {what}", self.key))
    }

    /// Returns the error of a process that is not assigned the shard any more.
    pub(super) fn superseded(&self) -> Error {
        let what = format!("the hints {} in etcd: the shard is not assigned to this process", self.key);
        let expected = self.assignment.as_ref().map(|(key, revision)| {
            format!("the key {}, created at revision {revision}", String::from_utf8_lossy(key))
        });
        let error = Error::new(ErrorKind::Fenced, what);
        match expected {
            Some(expected) => error.expected(expected, "no such key"),
            None => error,
        }
    }
}

/// Tells whether an author stores for the first time, by what the primary's key holds.
pub(super) fn is_new_term(primary: Option<&FsmHints>, hints: &FsmHints) -> bool {
    let author = |hints: &FsmHints| hints.as_of.and_then(|as_of| as_of.author);
    primary.is_none_or(|primary| {
        primary.log != hints.log || author(primary).is_none() || author(primary) != author(hints)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hint_store::tests::hints;

    fn shard(backups: u32) -> Shard {
        Shard { key: "/hints/one".into(), backups, bytes_max: 100, assignment: None }
    }

    fn held(slots: &[(Slot, &str)]) -> Held {
        slots
            .iter()
            .map(|(slot, text)| (*slot, Value { revision: 1, bytes: text.as_bytes().to_vec() }))
            .collect()
    }

    fn plan(held: &Held, slots: Slots) -> Vec<(Slot, String)> {
        let text = |(slot, bytes)| (slot, String::from_utf8(bytes).unwrap());
        shard(3).plan(held, b"new", slots).into_iter().map(text).collect()
    }

    #[test]
    fn backups_move_on_until_a_free_key_or_the_end() {
        use Slot::{Backup, Primary};
        let put = |slot, text: &str| (slot, text.to_owned());
        assert_eq!(plan(&held(&[]), Slots::ByTerm), [put(Backup(0), "new"), put(Primary, "new")]);
        let gap = held(&[(Primary, "p"), (Backup(0), "a"), (Backup(2), "c")]);
        assert_eq!(plan(&gap, Slots::Backups), [put(Backup(1), "a"), put(Backup(0), "new")]);
        assert_eq!(plan(&gap, Slots::Primary), [put(Primary, "new")]);
        let full = held(&[(Backup(0), "a"), (Backup(1), "b"), (Backup(2), "c"), (Backup(3), "d")]);
        let moved = [put(Backup(2), "b"), put(Backup(1), "a"), put(Backup(0), "new")];
        assert_eq!(plan(&full, Slots::Backups), moved);
    }

    #[test]
    fn whoever_stops_after_any_step_ends_alike_when_it_goes_on() {
        let start = held(&[(Slot::Backup(0), "a"), (Slot::Backup(1), "b"), (Slot::Backup(2), "c")]);
        let run = |held: &mut Held, steps: usize| {
            for (slot, bytes) in shard(3).plan(held, b"new", Slots::ByTerm).into_iter().take(steps) {
                held.insert(slot, Value { revision: 2, bytes });
            }
        };
        let texts = |held: &Held| held.values().map(|value| value.bytes.clone()).collect::<Vec<_>>();
        let mut whole = start.clone();
        run(&mut whole, usize::MAX);
        assert_eq!(texts(&whole), [&b"new"[..], b"new", b"a", b"b"]);
        for first in 0..=4 {
            for second in 0..=4 {
                let mut broken = start.clone();
                for steps in [first, second, usize::MAX] {
                    run(&mut broken, steps);
                    let texts = texts(&broken);
                    for kept in ["a", "b"] {
                        assert!(
                            texts.iter().any(|text| text == kept.as_bytes()),
                            "{first}, {second}: {kept}"
                        );
                    }
                }
                assert_eq!(texts(&broken), texts(&whole), "stopped after {first} and {second} steps");
            }
        }
    }

    #[test]
    fn a_plan_that_is_too_large_for_one_transaction_is_parted_in_its_order() {
        let puts = |sizes: &[usize]| {
            sizes.iter().zip(0..).map(|(size, index)| (Slot::Backup(index), vec![0; *size])).collect()
        };
        let sizes = |sizes: &[usize]| -> Vec<Vec<usize>> {
            let parts = shard(3).transactions(puts(sizes));
            parts.iter().map(|part| part.iter().map(|(_, bytes)| bytes.len()).collect()).collect()
        };
        assert_eq!(sizes(&[30, 30, 40]), [vec![30, 30, 40]]);
        assert_eq!(sizes(&[30, 30, 41]), [vec![30, 30], vec![41]]);
        assert_eq!(sizes(&[100, 100, 1, 99, 1]), [vec![100], vec![100], vec![1, 99], vec![1]]);
    }

    #[test]
    fn only_keys_that_the_reference_would_write_are_backups() {
        for (key, backup) in [
            ("/hints/one.backup.0", Some(Slot::Backup(0))),
            ("/hints/one.backup.99", Some(Slot::Backup(99))),
            ("/hints/one.backup.100", None),
            ("/hints/one.backup.00", None),
            ("/hints/one.backup.+1", None),
            ("/hints/one.backup.", None),
            ("/hints/one.backup.0.primary", None),
            ("/hints/one.primary", None),
        ] {
            assert_eq!(shard(3).backup(key.as_bytes()), backup, "{key}");
        }
    }

    #[test]
    fn a_term_is_new_where_the_author_or_the_log_is() {
        let stored = hints("a/log", 5, 1);
        for (of, is_new) in
            [(hints("a/log", 6, 1), false), (hints("a/log", 6, 2), true), (hints("b/log", 6, 1), true)]
        {
            assert_eq!(is_new_term(Some(&stored), &of), is_new, "{of:?}");
        }
        assert!(is_new_term(None, &stored));
    }
}
