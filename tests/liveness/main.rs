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
    reason = "a test stops at the first surprise, and says what it did"
)]

mod judge;
mod prune;
mod resume;
mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind};

use writer::{Random, Shard};

/// Cases of a plain run.
const CASES: u64 = 400;

#[test]
fn every_hint_set_leads_to_the_tree_and_needs_what_it_names_and_nothing_else() {
    let number = |name: &str, otherwise: u64| {
        std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
    };
    let (cases, first) = (number("RECOVERYLOG_SETS", CASES), number("RECOVERYLOG_SEED", 1));
    let mut totals = judge::Totals::default();
    for seed in first..first + cases {
        let case = || {
            let mut shard = Shard::new(Random::new(seed));
            shard.work();
            judge::check(&shard)
        };
        let Ok(counted) = catch_unwind(AssertUnwindSafe(case)) else {
            panic!("seed {seed} failed: RECOVERYLOG_SEED={seed} RECOVERYLOG_SETS=1 repeats it");
        };
        totals.add(counted);
    }
    println!("{cases} cases from seed {first} on: {totals:?}");
    // Otherwise nothing was tried.
    assert!(cases < CASES || totals.is_telling(), "{totals:?}");
}

#[test]
fn a_directory_that_is_gone_on_from_becomes_what_a_play_of_the_whole_gives() {
    let number = |name: &str, otherwise: u64| {
        std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
    };
    let (cases, first) = (number("RECOVERYLOG_SETS", CASES), number("RECOVERYLOG_SEED", 1));
    let mut total = resume::Tried::default();
    for seed in first..first + cases {
        let Ok(tried) = catch_unwind(|| resume::check(seed)) else {
            panic!("seed {seed} failed: RECOVERYLOG_SEED={seed} RECOVERYLOG_SETS=1 repeats it");
        };
        total.add(tried);
    }
    println!("{cases} machines from seed {first} on: {total:?}");
    // Otherwise nothing was tried.
    let is_telling = total.resumed > cases / 2 && total.rebuilt_files > cases / 4 && total.anew > cases / 20;
    assert!(cases < CASES || is_telling, "{total:?}");
}
