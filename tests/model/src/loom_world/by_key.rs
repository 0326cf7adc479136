//! Another way to keep barriers, which the gateway does not go: one for each key that something happened to, in a map that is
//! kept small by forgetting. It holds as well, if a barrier is forgotten only after the floor was raised to it, and a reader
//! looks at the barrier first and at the floor second. For whoever replaces the slots one day.

use std::sync::Arc;

use loom::thread;

use crate::property::Property;

use super::scenarios::every_order;
use super::sync::{AtomicU64, Map, Ordering};

/// The one key that anything happens to.
const KEY: u8 = 0;

#[derive(Default)]
struct ByKey {
    epoch: AtomicU64,
    floor: AtomicU64,
    barriers: Map<u8, u64>,
}

impl ByKey {
    fn outdate(&self) {
        let epoch = self.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        self.barriers.insert(KEY, epoch);
    }

    fn forget(&self) {
        let Some(barrier) = self.barriers.get(&KEY) else { return };
        self.floor.fetch_max(barrier, Ordering::SeqCst);
        self.barriers.remove(&KEY);
    }

    fn is_usable(&self, loaded: u64) -> bool {
        let barrier = self.barriers.get(&KEY).unwrap_or(0);
        let floor = self.floor.load(Ordering::SeqCst);
        loaded >= barrier && loaded >= floor
    }
}

/// Something happens to a key, and is forgotten, while what was loaded before is judged.
pub fn barriers_are_forgotten() -> u64 {
    every_order(|| {
        let (rule, applied) = (Arc::new(ByKey::default()), Arc::new(AtomicU64::new(0)));
        let loaded = rule.epoch.load(Ordering::SeqCst);
        let feed = {
            let (rule, applied) = (Arc::clone(&rule), Arc::clone(&applied));
            thread::spawn(move || {
                rule.outdate();
                applied.store(1, Ordering::Release);
                rule.forget();
            })
        };
        let later = applied.load(Ordering::Acquire) == 1;
        if rule.is_usable(loaded) && later {
            Property::AppliedIsSeen.broken("what was loaded before an event is usable after it");
        }
        feed.join().expect("whoever panics ends the model");
    })
}
