//! Goal: claims about threads hold under every order of their steps that is tried.
//!
//! Method: shuttle runs a claim on one thread and draws who goes next at each step: at random, by PCT (few
//! preemptions, at places that are drawn), or every order there is. A thread that waits for what nobody signals is a
//! deadlock, and fails the claim. Memory is sequentially consistent there, whatever order an atomic asks for.
//!
//! `RECOVERYLOG_CASES` is the number of schedules per claim and way of drawing, `RECOVERYLOG_SEED` the seed. A failure
//! prints its schedule; `RECOVERYLOG_SCHEDULE` runs it again.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a test says what it drew")]

use shuttle::rand::Rng;
use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, Runner};

/// Preemptions of a schedule by PCT.
const DEPTH: usize = 4;
/// The most schedules that are searched for every order.
const SEARCHED_MAX: usize = 200_000;

/// Checks `claim` under random schedules, and under those of PCT.
#[track_caller]
pub(crate) fn drawn(claim: fn()) {
    let cases = number("RECOVERYLOG_CASES", 3000) as usize;
    let seed = number("RECOVERYLOG_SEED", 1);
    println!("RECOVERYLOG_SEED={seed}");
    if !replayed(claim) {
        run(claim, RandomScheduler::new_from_seed(seed, cases));
        run(claim, PctScheduler::new_from_seed(seed, DEPTH, cases));
    }
}

/// Checks `claim` under every schedule there is; it must draw nothing, and be small.
#[track_caller]
pub(crate) fn searched(claim: fn()) {
    if !replayed(claim) {
        let searched = run(claim, DfsScheduler::new(Some(SEARCHED_MAX), false));
        assert!(searched < SEARCHED_MAX, "there are more than {searched} schedules");
    }
}

/// Draws a number below `end`.
pub(crate) fn draw(end: usize) -> usize {
    shuttle::rand::thread_rng().gen_range(0..end)
}

fn replayed(claim: fn()) -> bool {
    let Ok(schedule) = std::env::var("RECOVERYLOG_SCHEDULE") else { return false };
    run(claim, ReplayScheduler::new_from_encoded(&schedule));
    true
}

fn run(claim: fn(), scheduler: impl Scheduler + 'static) -> usize {
    let mut config = Config::new();
    config.stack_size = 512 << 10;
    config.silence_warnings = true;
    let ran = Runner::new(scheduler, config).run(claim);
    println!("{ran} schedules");
    ran
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}
