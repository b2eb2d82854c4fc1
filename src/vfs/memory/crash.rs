//! What is left of a file system in memory after a crash of its machine.
//!
//! *Invariants.* What was synced is there. A sector carries some prefix of the writes made to it. The name changes
//! of one directory survive as a prefix, one that moves a name survives in both directories or in neither, and
//! nothing that came after the lost move of a directory survives. The same state and plan give the same image.
//!
//! *Does not* damage what was synced, nor turn up stale bytes of other files.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::content::{Content, PAGE, SECTOR};
use super::node::Node;
use super::tree::{Directory, Entry, Names, ROOT, Tree};
use super::versions::{Change, Versions};
use crate::prng::SplitMix64;

/// What happens in a crash to changes that were not synced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CrashPlan {
    /// All of them are lost.
    DropUnsynced,
    /// None of them is lost.
    KeepAll,
    /// Each write is kept, lost, or torn at sectors of 512 bytes or pages of 4 KiB; each length and each change of
    /// names is kept or lost. The seed says which.
    Seeded(u64),
}

/// What happens to the changes of one file.
#[derive(Clone, Copy)]
enum Mood {
    Lose,
    Keep,
    /// The first so many changes are kept.
    Prefix(usize),
    Mixed,
}

/// Returns the tree that is left of `tree`.
pub(super) fn image(tree: &Tree, plan: CrashPlan, image: &mut Tree) {
    let mut random = SplitMix64::new(if let CrashPlan::Seeded(seed) = plan { seed } else { 0 });
    let survivors = match plan {
        CrashPlan::DropUnsynced => names_of(tree, |found| &found.durable),
        CrashPlan::KeepAll => names_of(tree, |found| &found.names),
        CrashPlan::Seeded(_) => surviving_names(tree, &mut random),
    };
    let mut copies = BTreeMap::<u64, Arc<Node>>::new();
    let mut open = vec![ROOT];
    let mut seen = BTreeSet::from([ROOT]);
    while let Some(directory) = open.pop() {
        for (name, entry) in survivors.get(&directory).into_iter().flatten() {
            match entry {
                Entry::Directory(inode) => {
                    if seen.insert(*inode) {
                        image.restore(directory, name, Entry::Directory(*inode));
                        open.push(*inode);
                    }
                }
                Entry::Node(node) => {
                    let copy = copies.entry(node.inode).or_insert_with(|| {
                        let content = surviving_content(node.settled().versions(), plan, &mut random);
                        let space = Arc::clone(&image.space);
                        let copy = Node::restored(node.inode, node.target.clone(), space, content);
                        Arc::new(copy.modified_as(node))
                    });
                    image.restore(directory, name, Entry::Node(Arc::clone(copy)));
                }
            }
        }
    }
}

fn names_of(tree: &Tree, names: impl Fn(&Directory) -> &Names) -> BTreeMap<u64, Names> {
    tree.directories.iter().map(|(inode, found)| (*inode, names(found).clone())).collect()
}

/// Returns the names that survive, by directory.
fn surviving_names(tree: &Tree, random: &mut SplitMix64) -> BTreeMap<u64, Names> {
    let mut survivors = names_of(tree, |found| &found.durable);
    // Directories one of whose changes is lost; the later ones are lost with it.
    let mut cut = BTreeSet::new();
    // One change in so many is lost of itself.
    let loss = match random.below(8) {
        0 => u64::MAX,
        1 => 1,
        _ => 2 << random.below(6),
    };
    for change in &tree.changes {
        if change.directories().any(|directory| cut.contains(&directory)) || random.one_in(loss) {
            if change.moves_directory() {
                break;
            }
            cut.extend(change.directories());
            continue;
        }
        if let Some((directory, name)) = &change.removed
            && let Some(names) = survivors.get_mut(directory)
        {
            drop(names.remove(name));
        }
        if let Some((directory, name, entry)) = &change.added
            && let Some(names) = survivors.get_mut(directory)
        {
            drop(names.insert(name.clone(), entry.clone()));
        }
    }
    survivors
}

/// Returns the content that survives of a file.
fn surviving_content(versions: &Versions, plan: CrashPlan, random: &mut SplitMix64) -> Content {
    match plan {
        CrashPlan::DropUnsynced => return versions.durable().clone(),
        CrashPlan::KeepAll => return versions.content().clone(),
        CrashPlan::Seeded(_) => {}
    }
    let mood = match random.below(6) {
        0 => Mood::Lose,
        1 => Mood::Keep,
        2 => Mood::Prefix(random.below(versions.pending().len() as u64 + 1) as usize),
        _ => Mood::Mixed,
    };
    let mut cached = versions.durable().clone();
    let mut disk = cached.clone();
    // A cut of the file that is lost: what came after it beyond that length is lost too.
    let mut barrier = u64::MAX;
    for (index, change) in versions.pending().iter().enumerate() {
        let kept = match mood {
            Mood::Lose => Some(false),
            Mood::Keep => Some(true),
            Mood::Prefix(count) => Some(index < count),
            Mood::Mixed => None,
        };
        match change {
            Change::SetLen(len) => {
                let cuts = *len < cached.len();
                cached.set_len(*len);
                let kept = kept.unwrap_or_else(|| random.one_in(2));
                if barrier < u64::MAX || !kept {
                    barrier = if cuts { barrier.min(*len) } else { barrier };
                } else {
                    disk.set_len(if cuts { disk.len().min(*len) } else { disk.len().max(*len) });
                }
            }
            Change::Write { offset, bytes, .. } => {
                cached.write(bytes, *offset);
                let range = *offset..offset + bytes.len() as u64;
                let (block, kept) = match kept {
                    Some(kept) => (SECTOR, Some(kept)),
                    None => fate(random),
                };
                write_back(&cached, &mut disk, range.clone(), block, |end| {
                    end <= barrier && kept.unwrap_or_else(|| random.one_in(2))
                });
                // The length may reach the disk without the bytes.
                let grows = range.end > disk.len() && range.end <= barrier;
                if matches!(mood, Mood::Mixed) && grows && random.one_in(2) {
                    disk.set_len(range.end);
                }
            }
        }
    }
    disk
}

/// Draws what becomes of a write: all, nothing, or each block of it by itself; and how large a block is.
fn fate(random: &mut SplitMix64) -> (u64, Option<bool>) {
    match random.below(5) {
        0 => (SECTOR, Some(true)),
        1 => (SECTOR, Some(false)),
        2 => (SECTOR, None),
        _ => (PAGE, None),
    }
}

/// Brings those blocks of a range from the cache to the disk that `kept` says, given their end.
fn write_back(
    cached: &Content,
    disk: &mut Content,
    range: Range<u64>,
    block: u64,
    mut kept: impl FnMut(u64) -> bool,
) {
    for at in (range.start / block * block..range.end).step_by(block as usize) {
        if kept(at + block) {
            disk.write(&cached.slice(at..at + block), at);
        }
    }
}
