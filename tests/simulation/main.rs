//! Goal: the promises of the protocol hold, whatever the network, the machines and the people do, and in any order.
//!
//! Method: each case draws everything from one seed, and one thread goes on at a time. Up to four processes of one
//! shard, each a replica of the library's own from standby to primary, with its hint store, share a simulated
//! journal. Its network decides when each append commits, whether it is refused, duplicated, delayed, lost, or
//! answered wrongly or never; processes stop, wake up, are killed, and take over while others' appends are under
//! way. Threads that the library starts wait for the scheduler. A second reading of the log, by the definition of a
//! history and without the library's state machine, says what is true.
//!
//! Checked after every event: what was acknowledged is in the history; no author comes back who was followed by
//! another; a recorder fails for a reason, and stays failed; no call to the journal may wait for longer than its
//! caller. Hints name nothing that is not committed where they say, and never get older. At each hand-off and at
//! comparisons: players of every hint set, and of none, come to the same operation, and to the directory that the
//! writer had there; with a bit of the log changed they do, or say so.
//!
//! `RECOVERYLOG_CASES` sets the number of cases, `RECOVERYLOG_SEED` the first seed. A case that fails prints its
//! seed and all that happened.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise, and says what it did"
)]

mod damage;
mod deliver;
mod events;
#[path = "../shared/files.rs"]
mod files;
mod gate;
mod net;
mod oracle;
mod planted;
mod port;
mod process;
mod seed;
#[path = "../shared/tree.rs"]
mod tree;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use planted::Planted;
use seed::Tally;
use world::{Outcome, run};

/// Cases of a plain run.
const CASES: u64 = 300;
/// Cases that run at a time; most of the time they wait for pauses of the library.
const AT_A_TIME: usize = 4;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
}

/// Runs one case; a panic of the library is a violation too.
fn case(seed: u64, planted: Planted) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| run(seed, planted))).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().cloned();
        let what = what.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Outcome {
            violation: Some(format!("a panic: {}", what.unwrap_or_default())),
            schedule: Vec::new(),
            tally: Tally::new(),
            simulated_nanos: 0,
            content: Vec::new(),
        }
    })
}

/// Runs the cases of `seeds`, several at a time, until `seen` has seen enough.
fn run_cases(seeds: std::ops::Range<u64>, planted: Planted, seen: impl Fn(u64, Outcome) -> bool + Sync) {
    let next = AtomicU64::new(seeds.start);
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= seeds.end || seen(seed, case(seed, planted)) {
            next.store(seeds.end, Ordering::Relaxed);
            return;
        }
    };
    std::thread::scope(|scope| {
        for index in 0..AT_A_TIME {
            let name = format!("cases-{index}");
            std::thread::Builder::new().name(name).spawn_scoped(scope, work).unwrap();
        }
    });
}

#[cfg_attr(recoverylog_planted, ignore = "a bug is planted in the library")]
#[test]
fn the_promises_hold_in_every_order_of_events() {
    let (cases, first) = (number("RECOVERYLOG_CASES", CASES), number("RECOVERYLOG_SEED", 1));
    let total = Mutex::new((Tally::new(), 0_u128, 0_u64));
    let failed = Mutex::new(None);
    run_cases(first..first + cases, Planted::Nothing, |seed, outcome| {
        let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
        for (what, times) in outcome.tally {
            *total.0.entry(what).or_default() += times;
        }
        total.1 += u128::from(outcome.simulated_nanos);
        total.2 += outcome.content.len() as u64;
        let Some(violation) = outcome.violation else { return false };
        failed.lock().unwrap().get_or_insert((seed, violation, outcome.schedule));
        true
    });
    if let Some((seed, violation, schedule)) = failed.into_inner().unwrap() {
        let schedule = schedule.join("\n");
        panic!(
            "{schedule}\n{violation}\nseed {seed} failed: RECOVERYLOG_SEED={seed} RECOVERYLOG_CASES=1 repeats it"
        );
    }
    let (tally, nanos, bytes) = total.into_inner().unwrap();
    let events: u64 = tally.values().sum();
    let hours = nanos / 3_600_000_000_000;
    println!(
        "{cases} cases from seed {first} on: {events} events, {hours} simulated hours, {bytes} bytes of logs"
    );
    for (what, times) in &tally {
        println!("  {what}: {times} ({:.1}%)", *times as f64 * 100.0 / events as f64);
    }
}

#[cfg_attr(recoverylog_planted, ignore = "a bug is planted in the library")]
#[test]
fn one_seed_is_one_schedule() {
    for seed in 1..=20 {
        let (one, other) = (case(seed, Planted::Nothing), case(seed, Planted::Nothing));
        assert_eq!(one.schedule, other.schedule, "seed {seed}");
        assert_eq!(one.content, other.content, "seed {seed}");
    }
}

/// Looks for a bug, in the order of seeds; returns the seed that finds it, and what it sees.
fn find(planted: Planted, seeds: u64) -> Option<(u64, String)> {
    let found: Mutex<Option<(u64, String)>> = Mutex::default();
    run_cases(1..1 + seeds, planted, |seed, outcome| {
        let Some(violation) = outcome.violation else { return false };
        let mut found = found.lock().unwrap();
        if found.as_ref().is_none_or(|(first, _)| seed < *first) {
            *found = Some((seed, violation));
        }
        true
    });
    found.into_inner().unwrap()
}

/// Tells what found a bug; false where nothing did.
#[expect(clippy::print_stdout, reason = "what a run of the tests shows")]
fn is_found(bug: &dyn std::fmt::Debug, found: Option<(u64, String)>) -> bool {
    let Some((seed, violation)) = found else { return false };
    let violation = violation.lines().next().unwrap_or_default();
    println!("{bug:?}: seed {seed}: {}", &violation[..violation.len().min(150)]);
    true
}

#[cfg_attr(recoverylog_planted, ignore = "a bug is planted in the library")]
#[test]
fn every_planted_bug_is_found() {
    let is_missed = |(planted, seeds): &(Planted, u64)| !is_found(planted, find(*planted, *seeds));
    let missed: Vec<_> = Planted::ALL.into_iter().filter(is_missed).collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// Alone in its process: a bug in the library is there for all of it.
#[cfg(recoverylog_planted)]
#[test]
fn every_bug_planted_in_the_library_is_found() {
    let mut missed = Vec::new();
    for &(bug, seeds) in planted::IN_LIBRARY {
        recoverylog::plant(Some(bug));
        if !is_found(&bug, find(Planted::InLibrary, seeds)) {
            missed.push((bug, seeds));
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
