//! Goal: what is played is what was recorded, whatever an engine does to its files and whatever fails meanwhile.
//!
//! Method: each case draws everything from one seed. A few writers take over from each other, each after
//! playing the log into a directory of its own; threads work on the files through a recorded file system, over
//! local files and a journal that fail now and then; a writer ends by coming to rest, or is lost. At rest, the
//! directory that was recorded and those that are played out of the log, by several hints and by none, must be
//! equal. After a loss, what is played must be a state that the directory had, no older than the last one that
//! was acknowledged. A writer that lost its role and wakes up must be told so, and change nothing.
//!
//! `RECOVERYLOG_CASES` sets the number of cases, `RECOVERYLOG_SEED` the first seed.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops at the first surprise, and says what it did"
)]

#[path = "../shared/engine.rs"]
mod engine;
#[path = "../shared/files.rs"]
mod files;
#[path = "../shared/random.rs"]
mod random;
#[path = "../shared/seeds.rs"]
mod seeds;
#[path = "../shared/tree.rs"]
mod tree;
mod world;

use engine::Tally;
use world::World;

/// Cases of a plain run.
const CASES: u64 = 1_000;

#[test]
fn what_is_played_is_what_was_recorded() {
    let mut tallies: [Tally; 4] = Default::default();
    let (cases, is_whole) = seeds::each("RECOVERYLOG_CASES", CASES, |seed| World::new(seed).run());
    for counted in cases {
        for (tally, counted) in tallies.iter_mut().zip(counted) {
            for (what, times) in counted {
                *tally.entry(what).or_default() += times;
            }
        }
    }
    let mut rare = Vec::new();
    for (kind, tally) in
        ["operations", "faults of files", "faults of the journal", "ends"].iter().zip(&tallies)
    {
        let all: u64 = tally.values().sum();
        println!("{kind}: {all}");
        for (what, times) in tally {
            println!("  {what}: {times} ({:.1}%)", *times as f64 * 100.0 / all as f64);
            if times * 100 < all && *kind != "ends" {
                rare.push(what);
            }
        }
    }
    // A few cases cannot hold everything.
    assert!(!is_whole || rare.is_empty(), "less than 1% of their kind: {rare:?}");
}
