//! The properties hold in every order of these stories.

use keygate_model::loom_world::scenarios;

#[test]
fn a_key_in_use_is_revoked() {
    tell(scenarios::a_key_in_use_is_revoked(false));
}

#[test]
fn a_key_in_use_is_revoked_and_the_cache_forgets() {
    tell(scenarios::a_key_in_use_is_revoked(true));
}

#[test]
fn a_key_is_revoked_while_it_is_loaded() {
    tell(scenarios::a_key_is_revoked_while_it_is_loaded());
}

#[test]
fn an_unknown_key_is_created_and_changed() {
    tell(scenarios::an_unknown_key_is_created_and_changed());
}

#[test]
fn the_store_forgets_a_revocation() {
    tell(scenarios::the_store_forgets_a_revocation());
}

#[test]
fn a_forgotten_revocation_is_heard() {
    tell(scenarios::a_forgotten_revocation_is_heard());
}

#[test]
fn two_events_at_once() {
    tell(scenarios::two_events_at_once());
}

#[test]
fn barriers_by_key_are_forgotten() {
    tell(keygate_model::loom_world::by_key::barriers_are_forgotten());
}

#[test]
fn the_feed_comes_back() {
    tell(scenarios::the_feed_comes_back(false));
}

#[test]
fn the_feed_comes_back_with_a_gap() {
    tell(scenarios::the_feed_comes_back(true));
}

#[test]
fn the_bus_loses_and_reorders() {
    tell(scenarios::the_bus_loses_and_reorders());
}

fn tell(orders: u64) {
    println!("{orders} orders");
}
