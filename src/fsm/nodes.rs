//! The live files of a history, found by [`Fnode`] without hashing.
//!
//! *Invariants.* Keys ascend: a file is always younger than those before it, so that an insert is a push and
//! a look-up is a binary search that no log can make slow. Dead slots never outnumber live ones for long.
//!
//! *Does not* decide what is alive.

use crate::ids::{Fnode, LogPath};
use crate::segment::Segment;

/// A live file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Node {
    pub(super) links: Vec<LogPath>,
    pub(super) segments: Vec<Segment>,
}

impl Node {
    /// Returns the paths of the file, in the order in which they were linked.
    pub fn links(&self) -> &[LogPath] {
        &self.links
    }

    /// Returns the ranges of the log that hold the file's operations, in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }
}

/// Slots below this number are not worth compacting.
const COMPACT_SLOTS_MIN: usize = 64;

#[derive(Clone, Debug, Default)]
pub(super) struct Nodes {
    keys: Vec<Fnode>,
    slots: Vec<Option<Node>>,
    live: usize,
    /// The slot that was found last: writes come in runs.
    recent: usize,
}

impl Nodes {
    pub(super) const fn len(&self) -> usize {
        self.live
    }

    pub(super) fn get(&self, fnode: Fnode) -> Option<&Node> {
        let index = self.keys.binary_search(&fnode).ok()?;
        self.slots.get(index)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, fnode: Fnode) -> Option<&mut Node> {
        if self.keys.get(self.recent) != Some(&fnode) {
            self.recent = self.keys.binary_search(&fnode).ok()?;
        }
        self.slots.get_mut(self.recent)?.as_mut()
    }

    /// Inserts the youngest file. A key that is not the greatest yet is refused with `false`.
    pub(super) fn push(&mut self, fnode: Fnode, node: Node) -> bool {
        if self.keys.last().is_some_and(|last| *last >= fnode) {
            return false;
        }
        self.recent = self.keys.len();
        self.keys.push(fnode);
        self.slots.push(Some(node));
        self.live += 1;
        true
    }

    pub(super) fn remove(&mut self, fnode: Fnode) -> Option<Node> {
        let index = self.keys.binary_search(&fnode).ok()?;
        let node = self.slots.get_mut(index)?.take()?;
        self.live -= 1;
        if self.slots.len() >= COMPACT_SLOTS_MIN && self.live < self.slots.len() / 2 {
            self.compact();
        }
        Some(node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Fnode, &Node)> {
        self.keys.iter().zip(&self.slots).filter_map(|(&fnode, slot)| Some((fnode, slot.as_ref()?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.slots.iter_mut().filter_map(Option::as_mut)
    }

    fn compact(&mut self) {
        let mut slots = self.slots.iter();
        self.keys.retain(|_| slots.next().is_some_and(Option::is_some));
        self.slots.retain(Option::is_some);
        self.recent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SeqNo;

    #[test]
    fn a_removed_node_stays_gone_and_the_rest_is_found_through_compactions() {
        let fnode = |n: i64| Fnode::new(SeqNo::new(n));
        let mut nodes = Nodes::default();
        for n in 1..=1000 {
            assert!(
                nodes
                    .push(fnode(n), Node { links: vec![LogPath::from_bytes(&[n as u8])], ..Node::default() })
            );
        }
        assert!(!nodes.push(fnode(1000), Node::default()));
        for n in (1..=1000).filter(|n| n % 10 != 0) {
            assert!(nodes.get_mut(fnode(n)).is_some());
            assert!(nodes.remove(fnode(n)).is_some());
            assert!(nodes.remove(fnode(n)).is_none());
            assert!(nodes.get_mut(fnode(n)).is_none());
        }
        assert_eq!(nodes.len(), 100);
        assert!(nodes.slots.len() < 250);
        for n in (10..=1000).step_by(10) {
            assert_eq!(nodes.get(fnode(n)).unwrap().links[0].as_bytes(), &[n as u8]);
        }
        assert_eq!(nodes.iter().count(), 100);
    }

    #[test]
    fn slots_are_compacted_once_fewer_than_half_are_alive_and_they_are_worth_it() {
        let fnode = |n: i64| Fnode::new(SeqNo::new(n));
        let slots_after = |pushed: i64, removed: i64| {
            let mut nodes = Nodes::default();
            (1..=pushed).for_each(|n| assert!(nodes.push(fnode(n), Node::default())));
            (1..=removed).for_each(|n| assert!(nodes.remove(fnode(n)).is_some()));
            assert_eq!((nodes.len(), nodes.keys.len()), ((pushed - removed) as usize, nodes.slots.len()));
            nodes.slots.len()
        };
        assert_eq!([slots_after(100, 1), slots_after(100, 50), slots_after(100, 51)], [100, 100, 49]);
        assert_eq!([slots_after(63, 63), slots_after(64, 32), slots_after(64, 33)], [63, 64, 31]);
    }
}
