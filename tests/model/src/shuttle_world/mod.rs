//! Random interleavings, one value of memory: for models of many steps.

#[path = "../../../../src/verify/board.rs"]
pub mod board;
#[path = "../../../../src/verify/freshness.rs"]
pub mod freshness;
#[path = "../../../../src/verify/memory.rs"]
pub mod memory;

#[path = "../rig/mod.rs"]
pub mod rig;

pub mod storm;
pub mod sync;
