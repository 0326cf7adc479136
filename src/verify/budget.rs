//! How often keys without a check may ask the store.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Tick;

/// A budget of look-ups: so many per second, so many at once. What is not used in a second does not pile up.
pub struct Budget {
    at_once: Arc<Semaphore>,
    per_second: u32,
    window: Mutex<Window>,
}

struct Window {
    began: Tick,
    spent: u32,
}

impl Budget {
    /// A full budget.
    pub fn new(per_second: u32, at_once: usize) -> Budget {
        Budget {
            at_once: Arc::new(Semaphore::new(at_once)),
            per_second,
            window: Mutex::new(Window { began: Tick::from_nanos(0), spent: 0 }),
        }
    }

    /// Takes one look-up from the budget; it is under way until the permit is dropped. `None` if it is used up.
    pub fn spend(&self, now: Tick) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.at_once).try_acquire_owned().ok()?;
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now.since(window.began) >= Duration::from_secs(1) {
            *window = Window { began: now, spent: 0 };
        }
        if window.spent >= self.per_second {
            return None;
        }
        window.spent += 1;
        Some(permit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_its_budget_and_no_more() {
        let budget = Budget::new(3, 10);
        let now = Tick::from_nanos(5_000_000_000);
        assert_eq!((0..10).filter(|_| budget.spend(now).is_some()).count(), 3);
        assert!(budget.spend(now.plus(Duration::from_millis(999))).is_none());
        assert!(budget.spend(now.plus(Duration::from_secs(1))).is_some());
    }

    #[test]
    fn so_many_at_once_and_no_more() {
        let budget = Budget::new(100, 2);
        let now = Tick::from_nanos(5_000_000_000);
        let held = [budget.spend(now), budget.spend(now)];
        assert!(held.iter().all(Option::is_some));
        assert!(budget.spend(now).is_none());
        drop(held);
        assert!(budget.spend(now).is_some());
    }
}
