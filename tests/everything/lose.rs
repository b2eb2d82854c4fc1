//! Fragments that are lost, one at a time.
//!
//! *Invariants.* What is lost is lost in a copy.
//!
//! *Does not* lose what was pruned before.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use recoverylog::journal::{Append, Fragment, Journal, MemoryJournals};
use recoverylog::player::{Follower, Player, Verify};
use recoverylog::vfs::MemoryFs;
use recoverylog::{Error, ErrorKind, FsmHints, FsmOptions, JournalName, Offset};

use super::bytes;
use super::check::{options, play};
use super::engine::ROOT;
use super::shard::soon;
use super::tree::Tree;
use super::world::{Logs, World, head};

/// Fragments that are lost for each set.
const TIMES: usize = 4;

/// Loses some fragments of the logs of a shard, and restores and follows by `set`.
pub(crate) fn some(world: &mut World, at: usize, set: &FsmHints, tree: &Tree) {
    let logs: Vec<JournalName> = world.shards[at].logs.iter().map(|(log, _)| log.clone()).collect();
    for log in &logs {
        world.logs.sync(log);
    }
    let player = |journals: &MemoryJournals| {
        Player::new(journals, set, Arc::new(MemoryFs::new()), Path::new(ROOT), options())
    };
    let plan = player(&world.logs.journals).unwrap().plan().clone();
    for _ in 0..TIMES {
        let log = &logs[world.random.below(logs.len() as u64) as usize];
        let mut there = world.logs.journals.journal(log).fragments(soon()).unwrap();
        there.retain(|fragment| fragment.begin < fragment.end);
        if there.is_empty() {
            continue;
        }
        let lost = there.swap_remove(world.random.below(there.len() as u64) as usize);
        let journals = copy(&world.logs, &logs);
        assert!(journals.journal(log).drop_fragment(lost.begin));
        let is_needed = plan
            .ranges
            .iter()
            .any(|range| range.log == *log && range.begin < lost.end && range.end > lost.begin);
        let check = |error: Option<&Error>| match error {
            None => assert!(!is_needed, "{lost:?} of {log} was lost, needed, and not missed by {set:?}"),
            Some(error) => {
                assert!(is_needed, "{lost:?} of {log} was not needed by {set:?}: {error}");
                assert_eq!((error.kind(), error.log()), (ErrorKind::DataLoss, Some(log)), "{error}");
                let at = error.offset().unwrap();
                assert!((lost.begin..lost.end).contains(&at), "{error}, and not {lost:?}");
            }
        };
        for verify in [Verify::AsRead, Verify::Full] {
            let played = play(&journals, set, (FsmOptions::default(), verify));
            check(played.as_ref().err());
            if let Ok((_, disk)) = played {
                assert_eq!(
                    Tree::read(&disk, Path::new(ROOT)),
                    *tree,
                    "{lost:?} of {log} was lost, by {set:?}"
                );
            }
        }
        let followed = player(&journals).and_then(Player::follow).map(Follower::abandon);
        check(followed.as_ref().err());
        world.count(if is_needed { "fragment lost and missed" } else { "fragment lost and not needed" });
    }
}

/// Copies logs, with their fragments, and without what was pruned.
fn copy(logs: &Logs, names: &[JournalName]) -> MemoryJournals {
    let copies = MemoryJournals::new().fragment_bytes(1);
    for log in names {
        let there = logs.journals.journal(log).fragments(soon()).unwrap();
        let bytes = bytes::from(&*logs.whole.journal(log), Offset::ZERO);
        let edges = there.iter().flat_map(|Fragment { begin, end, .. }| [begin.get(), end.get()]);
        let edges: BTreeSet<u64> = edges.chain([0, head(logs, log).get()]).collect();
        let edges: Vec<u64> = edges.into_iter().collect();
        let journal = copies.journal(log);
        for edge in edges.windows(2) {
            let piece = bytes[edge[0] as usize..edge[1] as usize].to_vec();
            journal.append(Append::new(piece), soon()).unwrap();
        }
        for edge in edges.windows(2) {
            if !there.iter().any(|fragment| fragment.begin.get() == edge[0]) {
                assert!(journal.drop_fragment(Offset::new(edge[0]).unwrap()));
            }
        }
    }
    copies
}
