//! Goal: whatever a shard goes through, every hint set that is still stored leads to its tree, and what nobody needs is gone.
//!
//! Method: one seed draws the life of up to three shards that share logs. An engine works on recorded files, over disks
//! that fail and machines that lose what was not synced; primaries write again in the background, publish hints, take
//! snapshots, mark the log, are closed, lost, or fenced while they work on; standbys follow and are promoted, on directories
//! that are empty or gone on from; shards are forked off any point of the past; logs are pruned at any moment, by the sets of
//! all. A copy of each log that nobody prunes tells, by a reader that knows nothing of hints, what the tree was
//! behind every operation. Then each stored set is played, by our rules and by those of the reference's state machine
//! (apply, skip, collapse); points of the past are restored; fragments are lost, and missed by those that need them.
//!
//! `RECOVERYLOG_LIVES` sets the number of cases, `RECOVERYLOG_SEED` the first seed.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise, and says what it did"
)]

#[path = "../shared/bytes.rs"]
mod bytes;
mod check;
#[path = "../shared/engine.rs"]
mod engine;
#[path = "../shared/files.rs"]
mod files;
mod lose;
#[path = "../shared/random.rs"]
mod random;
#[path = "../shared/seeds.rs"]
mod seeds;
mod shard;
mod store;
#[path = "../shared/tree.rs"]
mod tree;
#[path = "../shared/truth.rs"]
mod truth;
mod world;

use engine::Tally;
use world::World;

/// Cases of a plain run.
const CASES: u64 = 100;

#[test]
fn every_set_that_is_stored_leads_to_the_tree_whatever_a_shard_goes_through() {
    let (cases, is_whole) = seeds::each("RECOVERYLOG_LIVES", CASES, |seed| World::new(seed).run());
    let mut total = Tally::new();
    for (what, times) in cases.into_iter().flatten() {
        *total.entry(what).or_default() += times;
    }
    for (what, times) in &total {
        println!("  {what}: {times}");
    }
    // Otherwise too little was tried.
    let rare: Vec<_> =
        world::WHAT.iter().filter(|what| total.get(**what).is_none_or(|times| *times < 10)).collect();
    assert!(!is_whole || rare.is_empty(), "{rare:?} of {total:?}");
}
