//! What must hold of a shard, whatever it went through.
//!
//! *Invariants.* What is expected comes from copies of the logs that nobody pruned, read without hints.
//!
//! *Does not* change a shard.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use recoverylog::hint_store::Candidate;
use recoverylog::journal::MemoryJournals;
use recoverylog::player::{Bound, PlayOptions, Played, Player, Verify, Warning};
use recoverylog::replica::Past;
use recoverylog::vfs::{FileSystem, MemoryFs};
use recoverylog::{Error, ErrorKind, FsmHints, FsmOptions};

use super::engine::ROOT;
use super::lose;
use super::shard::{Shard, Writer};
use super::tree::{Entry, Tree};
use super::truth::{self, Moment};
use super::world::World;

/// Points of the past that are restored at each look.
const POINTS: usize = 12;

pub(crate) fn options() -> PlayOptions {
    PlayOptions { parallelism: 1, sync: false, ..PlayOptions::default() }
}

/// What a directory shows of a tree.
pub(crate) fn shown(tree: &truth::Tree) -> Tree {
    let tree = tree.shown();
    let relative = |path: &str| PathBuf::from(path.strip_prefix('/').unwrap());
    let (mut entries, mut firsts) = (BTreeMap::new(), BTreeMap::new());
    for (path, fnode) in &tree.links {
        let first = firsts.entry(fnode).or_insert_with(|| relative(path)).clone();
        entries.insert(relative(path), Entry { first, content: tree.contents[fnode].to_vec() });
    }
    for (path, content) in &tree.properties {
        entries.insert(relative(path), Entry { first: relative(path), content: content.clone() });
    }
    Tree(entries)
}

/// Checks where a primary begins: with all that was acknowledged.
pub(crate) fn begun(world: &World, at: usize, writer: &Writer) {
    let history = history(world, at);
    let local = writer.tree();
    if let Some((seq_no, tree)) = &world.shards[at].acknowledged {
        let moment = history.iter().find(|moment| moment.seq_no == *seq_no);
        let moment = moment.unwrap_or_else(|| panic!("seq-no {seq_no} was acknowledged, and is gone"));
        assert_eq!(shown(&moment.tree), *tree, "what was acknowledged, and what the log has of it");
    }
    assert_eq!(
        shown(&history.last().unwrap().tree),
        local,
        "what the log has, and what the primary begins with"
    );
}

fn history(world: &World, at: usize) -> Vec<Moment> {
    let shard = &world.shards[at];
    shard.logs.iter().for_each(|(log, _)| world.logs.sync(log));
    shard.history(&world.logs)
}

/// Looks at a shard whose primary is at rest.
pub(crate) fn shard(world: &mut World, at: usize) {
    let history = history(world, at);
    let last = shown(&history.last().unwrap().tree);
    let shard = &world.shards[at];
    if let Some(writer) = &shard.primary {
        assert_eq!(writer.tree(), last, "what was recorded, and what the log has");
    }
    let mut sets: Vec<FsmHints> = shard.recovery.sets();
    sets.retain(|set| set.log.as_ref() == Some(&shard.log));
    let snapshots = shard.snapshots.sets();
    for set in &sets {
        for (rules, verify) in
            [(FsmOptions::default(), Verify::Full), (FsmOptions::REFERENCE, Verify::AsRead)]
        {
            let (played, disk) = play(&world.logs.journals, set, (rules, verify))
                .unwrap_or_else(|error| panic!("{error:?} by {set:?}"));
            assert_eq!(Tree::read(&disk, Path::new(ROOT)), last, "by {rules:?} and {set:?}");
            let expected = |warning: &Warning| matches!(warning, Warning::JunkAtTail { .. });
            assert!(played.warnings.iter().all(expected), "{:?} by {set:?}", played.warnings);
        }
        world.count("played by the reference's rules");
    }
    for set in &snapshots {
        let as_of = set.as_of.unwrap();
        let moment = history.iter().find(|moment| moment.seq_no == as_of.seq_no).unwrap();
        restored(world, at, moment, &Bound::Seq(moment.seq_no));
    }
    for _ in 0..POINTS {
        let moment = &history[world.random.below(history.len() as u64) as usize];
        if moment.log != world.shards[at].log {
            continue;
        }
        restored(world, at, moment, &Bound::Seq(moment.seq_no));
        restored(world, at, moment, &Bound::Offset(moment.end));
        let name = moment.mark.as_ref().and_then(|mark| mark.name.clone());
        let is_newest = |name: &_| {
            let of_name =
                |other: &&Moment| other.mark.as_ref().and_then(|mark| mark.name.as_ref()) == Some(name);
            history.iter().rev().find(of_name).is_some_and(|newest| newest.seq_no == moment.seq_no)
        };
        if let Some(name) = name.filter(is_newest) {
            restored(world, at, moment, &Bound::Mark(name));
        }
    }
    for set in sets.iter().rev().take(2) {
        lose::some(world, at, set, &last);
    }
}

/// Plays by hints to the head.
pub(crate) fn play(
    journals: &MemoryJournals,
    hints: &FsmHints,
    (fsm, verify): (FsmOptions, Verify),
) -> recoverylog::Result<(Played, MemoryFs)> {
    let disk = MemoryFs::new();
    let play = PlayOptions { fsm, verify, ..options() };
    let played = Player::new(journals, hints, Arc::new(disk.clone()), Path::new(ROOT), play)?.restore()?;
    Ok((played, disk))
}

/// Looks at the past of a shard by all sets that it has.
pub(crate) fn past(world: &World, at: usize, fs: Arc<dyn FileSystem>) -> Past<'_> {
    let shard = &world.shards[at];
    let sets = sets(shard).into_iter().enumerate();
    let sets = sets.map(|(number, set)| Candidate::new(format!("set {number}"), Ok(set))).collect();
    Past::new(&*world.logs.journals, shard.log.clone(), sets, fs)
}

fn sets(shard: &Shard) -> Vec<FsmHints> {
    let mut sets = shard.recovery.sets();
    sets.extend(shard.snapshots.sets());
    sets.retain(|set| set.log.as_ref() == Some(&shard.log));
    sets
}

/// Goes back to a moment: to the tree as it was, or nothing leads there any more.
fn restored(world: &mut World, at: usize, moment: &Moment, bound: &Bound) {
    let disk = MemoryFs::new();
    let restored = past(world, at, Arc::new(disk.clone())).restore(bound, Path::new(ROOT), &options());
    match restored {
        Ok(restored) => {
            assert_eq!(restored.point.offset, moment.end, "{bound}");
            assert_eq!(Tree::read(&disk, Path::new(ROOT)), shown(&moment.tree), "{bound}");
            world.count("point restored");
        }
        Err(error) => gone(world, at, moment, &error),
    }
}

/// Checks that it is right that a moment cannot be gone back to.
pub(crate) fn gone(world: &mut World, at: usize, moment: &Moment, error: &Error) {
    assert!(matches!(error.kind(), ErrorKind::DataLoss | ErrorKind::Invalid), "{error:?}");
    let shard = &world.shards[at];
    let as_of = |set: &FsmHints| set.as_of.filter(|_| set.log.as_ref() == Some(&shard.log));
    // All that lies behind a set to recover by stays, and the very moments of snapshots.
    let behind = shard.recovery.sets().iter().filter_map(as_of).any(|as_of| as_of.seq_no <= moment.seq_no);
    let exact = shard.snapshots.sets().iter().filter_map(as_of).any(|as_of| as_of.seq_no == moment.seq_no);
    let whole = !world.is_pruned && shard.logs.len() == 1;
    assert!(!behind && !exact && !whole, "seq-no {} was to stay: {error:?}", moment.seq_no);
    world.count("point gone");
}
