//! What threads share here: shuttle's.

pub use shuttle::sync::atomic::{AtomicU64, Ordering};
pub use shuttle::sync::{Condvar, Mutex, MutexGuard};

#[path = "../map.rs"]
mod map;

pub use map::Map;

/// Slots of barriers: few, so that keys collide.
pub const SLOTS: usize = 2;
