//! Cases that are drawn from seeds.
//!
//! *Invariants.* A case that fails names its seed, and how to repeat it alone.
//!
//! *Does not* go on after a failure.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `case` for each of as many seeds as the variable `count` says, `otherwise` by default, from that on which
/// `RECOVERYLOG_SEED` says; returns what they gave, and whether they are at least as many as by default.
pub(crate) fn each<T>(count: &str, otherwise: u64, mut case: impl FnMut(u64) -> T) -> (Vec<T>, bool) {
    let number = |name: &str, otherwise: u64| {
        std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
    };
    let (cases, first) = (number(count, otherwise), number("RECOVERYLOG_SEED", 1));
    let run = |seed| {
        catch_unwind(AssertUnwindSafe(|| case(seed)))
            .unwrap_or_else(|_| panic!("seed {seed} failed: RECOVERYLOG_SEED={seed} {count}=1 repeats it"))
    };
    println!("{cases} cases from seed {first} on");
    ((first..first + cases).map(run).collect(), cases >= otherwise)
}
