//! Every interleaving, and every value that memory may show: for models of a few steps.

#[allow(clippy::all)]
#[path = "../../../../src/verify/board.rs"]
pub mod board;
#[allow(clippy::all)]
#[path = "../../../../src/verify/freshness.rs"]
pub mod freshness;
#[allow(clippy::all)]
#[path = "../../../../src/verify/memory.rs"]
pub mod memory;

#[path = "../rig/mod.rs"]
pub mod rig;

pub mod by_key;
pub mod scenarios;
pub mod sync;
