//! What the heart of verification shares between threads.
//!
//! The rule, the cache's keeper and the board of loads take their atomics and maps from here and from nowhere else, so that
//! a model checker can put its own in their place and try every interleaving (`tests/model`).

use std::hash::Hash;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

pub use std::sync::atomic::{AtomicU64, Ordering};

/// Slots of barriers: 2^16, half a megabyte. A model has fewer.
pub const SLOTS: usize = 1 << 16;

/// A map that all threads may use at once. Each call is one step.
#[derive(Debug)]
pub struct Map<K: Eq + Hash, V>(DashMap<K, V, foldhash::fast::RandomState>);

impl<K: Eq + Hash + Copy, V: Clone> Map<K, V> {
    /// The value of `key`.
    pub fn get(&self, key: &K) -> Option<V> {
        self.0.get(key).map(|found| found.clone())
    }

    /// Sets the value of `key`.
    pub fn insert(&self, key: K, value: V) {
        self.0.insert(key, value);
    }

    /// The value of `key`; if it has none, `make` is called once and may decline.
    pub fn get_or_make(&self, key: K, make: impl FnOnce() -> Option<V>) -> Option<V> {
        match self.0.entry(key) {
            Entry::Occupied(there) => Some(there.get().clone()),
            Entry::Vacant(vacant) => {
                let value = make()?;
                vacant.insert(value.clone());
                Some(value)
            }
        }
    }

    /// Takes `key` out.
    pub fn remove(&self, key: &K) {
        self.0.remove(key);
    }

    /// Every key that `wanted` picks, and its value; what changes meanwhile may be among them or not.
    pub fn pick(&self, wanted: impl Fn(&K) -> bool) -> Vec<(K, V)> {
        let picked = self.0.iter().filter(|entry| wanted(entry.key()));
        picked.map(|entry| (*entry.key(), entry.value().clone())).collect()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Eq + Hash, V> Default for Map<K, V> {
    fn default() -> Map<K, V> {
        Map(DashMap::default())
    }
}
