//! The properties hold in many random orders of a storm.

use keygate_model::shuttle_world::storm;

#[test]
fn a_storm_in_random_order() {
    storm::in_random_order(schedules() / 10 * 7);
}

#[test]
fn a_storm_with_few_interruptions() {
    storm::with_few_interruptions(schedules() / 10 * 3);
}

/// How many orders of a storm are tried.
fn schedules() -> usize {
    if std::env::var_os("KEYGATE_TEST_FULL").is_some() { 1_000_000 } else { 10_000 }
}
