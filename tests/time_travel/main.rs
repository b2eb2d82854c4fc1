//! Goal: a directory is restored as it was at any point of its history, or the error says why not.
//!
//! Method: each case draws a small log from one seed: files, names, properties, marks under a clock that also steps back,
//! hint sets with gaps, hand-offs after which the old writer still appends, forks. What the tree was behind each
//! operation is told by a model that reads the log by itself. Then the tree behind *every* operation is restored, by sets
//! that are drawn and by the one that is chosen, and points are named by sequence number, offset, time and mark. In
//! copies of the log a fragment is lost: what does not need it is as before, and what does says so. Another copy is pruned:
//! what was to stay has stayed.
//!
//! `RECOVERYLOG_POINTS` sets the number of cases, `RECOVERYLOG_SEED` the first seed.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops at the first surprise, and says what it did"
)]

#[path = "../shared/bytes.rs"]
mod bytes;
#[path = "../shared/files.rs"]
mod files;
mod judge;
#[path = "../shared/random.rs"]
mod random;
#[path = "../shared/seeds.rs"]
mod seeds;
#[path = "../shared/truth.rs"]
mod truth;
mod writer;

use random::Random;
use writer::Shard;

/// Cases of a plain run.
const CASES: u64 = 60;

#[test]
fn the_tree_behind_every_operation_can_be_restored() {
    let (cases, is_whole) = seeds::each("RECOVERYLOG_POINTS", CASES, |seed| {
        let mut shard = Shard::new(Random::new(seed));
        shard.work();
        judge::check(&mut shard)
    });
    let mut totals = judge::Totals::default();
    for counted in cases {
        totals.add(counted);
    }
    println!("{totals:?}");
    // Otherwise nothing was tried.
    assert!(!is_whole || totals.is_telling(), "{totals:?}");
}
