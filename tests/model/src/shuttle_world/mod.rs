//! Random interleavings, one value of memory: for models of many steps.

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

pub mod storm;
pub mod sync;
