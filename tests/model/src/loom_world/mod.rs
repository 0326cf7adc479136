//! Every interleaving, and every value that memory may show: for models of a few steps.

#[path = "../../../../src/verify/board.rs"]
pub mod board;
#[path = "../../../../src/verify/freshness.rs"]
pub mod freshness;
#[path = "../../../../src/verify/memory.rs"]
pub mod memory;

#[path = "../rig/mod.rs"]
pub mod rig;

pub mod by_key;
pub mod scenarios;
pub mod sync;
