//! What threads share here: loom's.

pub use loom::sync::atomic::{AtomicU64, Ordering};
pub use loom::sync::{Condvar, Mutex, MutexGuard};

#[path = "../map.rs"]
mod map;

pub use map::Map;

/// Slots of barriers: few, so that keys collide.
pub const SLOTS: usize = 2;
