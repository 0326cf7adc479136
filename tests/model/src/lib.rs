//! The rule that keeps a revoked key dead, tried in every interleaving.
//!
//! What is checked is the gateway's own code and no copy of it: `verify/{freshness,memory,board}.rs` and
//! `events/{trail,follower}.rs` are built here from where they stand. They take atomics and maps from `verify/sync.rs` alone, and
//! here another file stands in its place: in [`loom_world`] loom's, which tries every interleaving and every value that
//! memory may show, and in [`shuttle_world`] shuttle's, which runs many threads in random order.
//!
//! Around them stands a rig ([`loom_world::rig`], the same in both worlds): a store with chained logs, a bus that loses,
//! doubles and reorders, a cache that may lose anything and keep anything, readers that do what the verifier does. What
//! must hold has a name: [`property::Property`].
//!
//! The gateway's files are linted, and their unit tests run, in the gateway; not here.
#![cfg(not(test))]
#![allow(clippy::duplicate_mod, reason = "both worlds are built of the same files")]

#[allow(clippy::all)]
#[path = "../../../src/backoff.rs"]
pub mod backoff;
#[allow(clippy::all)]
#[path = "../../../src/clock.rs"]
pub mod clock;
#[allow(clippy::all)]
pub mod events;
#[allow(clippy::all)]
#[path = "../../../src/model/mod.rs"]
pub mod model;

pub mod following;
pub mod ledger;
pub mod loom_world;
pub mod property;
pub mod shuttle_world;
