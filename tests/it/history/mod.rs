//! A fleet under chaos, and the record of all that its clients saw, checked afterwards against what was promised.
//!
//! `plan` is what is going to be done, the same for the same seed; `run` does it and writes down when each operation
//! began, when it ended and how; `check` holds the record against a register for each key.

mod check;
mod plan;
mod record;
mod run;
#[cfg(test)]
mod tests;

use crate::support::wait::full;

use self::plan::Plan;

/// What repeats a plan.
const SEED_VARIABLE: &str = "KEYGATE_HISTORY_SEED";

fn seed() -> u64 {
    let given = std::env::var(SEED_VARIABLE).ok();
    given.map_or_else(|| fastrand::u64(..), |text| text.parse().expect("a seed is a number"))
}

#[test]
fn ten_thousand_operations_under_chaos_keep_every_promise() {
    keep_every_promise(10_000);
}

#[test]
#[ignore = "takes some minutes"]
fn a_million_operations_under_chaos_keep_every_promise() {
    if full() {
        // What is revoked or rotated is then used on every gateway: together these are more than a million.
        keep_every_promise(870_000);
    }
}

fn keep_every_promise(operations: usize) {
    let seed = seed();
    eprintln!("history: {SEED_VARIABLE}={seed} repeats this plan");
    let plan = Plan::of(seed, operations);
    let history = run::carry_out(&plan);
    eprintln!("history: {}", history.summary());
    let broken = check::violations(&history);
    assert!(
        broken.is_empty(),
        "{SEED_VARIABLE}={seed}: {} broken promises, the first: {:#?}",
        broken.len(),
        &broken[..broken.len().min(5)]
    );
    history.assert_says_something();
}
