//! Goal: hints leave out what is dead and nothing else, whoever plays them and however often they are taken.
//!
//! Method: each case draws files, writes, names, hint times, budgets and hand-offs from one seed, with a model of the
//! tree beside them. Every hint set that was ever taken is then played to the head, by this crate's rules and by those of
//! the reference's state machine (apply, skip, collapse), and must give the model's tree. Of each set it is checked
//! against a scan of the log that its segments begin and end with operations, with their checksums; that no creation,
//! link or unlink of a file that lived is left out; and that nothing is covered again that an earlier set left out. Then
//! each fragment of the log is lost by itself: a set that needs it must say so, and any other plays as before. Last the logs
//! are pruned by some of the sets, which still play then, and what is left is what they need.
//!
//! `RECOVERYLOG_SETS` sets the number of cases, `RECOVERYLOG_SEED` the first seed.
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
#[path = "../shared/files.rs"]
mod files;
mod judge;
mod prune;
#[path = "../shared/random.rs"]
mod random;
mod resume;
#[path = "../shared/seeds.rs"]
mod seeds;
mod writer;

use random::Random;
use writer::Shard;

/// Cases of a plain run.
const CASES: u64 = 400;

#[test]
fn every_hint_set_leads_to_the_tree_and_needs_what_it_names_and_nothing_else() {
    let (cases, is_whole) = seeds::each("RECOVERYLOG_SETS", CASES, |seed| {
        let mut shard = Shard::new(Random::new(seed));
        shard.work();
        judge::check(&shard)
    });
    let mut totals = judge::Totals::default();
    for counted in cases {
        totals.add(counted);
    }
    println!("{totals:?}");
    // Otherwise nothing was tried.
    assert!(!is_whole || totals.is_telling(), "{totals:?}");
}

#[test]
fn a_directory_that_is_gone_on_from_becomes_what_a_play_of_the_whole_gives() {
    let (cases, is_whole) = seeds::each("RECOVERYLOG_SETS", CASES, resume::check);
    let (machines, mut total) = (cases.len() as u64, resume::Tried::default());
    for tried in cases {
        total.add(tried);
    }
    println!("{total:?}");
    // Otherwise nothing was tried.
    let is_telling =
        total.resumed > machines / 2 && total.rebuilt_files > machines / 4 && total.anew > machines / 20;
    assert!(!is_whole || is_telling, "{total:?}");
}
