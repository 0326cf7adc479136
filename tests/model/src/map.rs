//! The map that all threads may use at once, with what is promised of the gateway's: each call is one step, and while a
//! value is made no other call gets in between.

use std::collections::BTreeMap;

use super::{Mutex, MutexGuard};

/// A map that all threads may use at once. Each call is one step.
pub struct Map<K, V>(Mutex<BTreeMap<K, V>>);

impl<K: Ord + Copy, V: Clone> Map<K, V> {
    /// The value of `key`.
    pub fn get(&self, key: &K) -> Option<V> {
        self.lock().get(key).cloned()
    }

    /// Sets the value of `key`.
    pub fn insert(&self, key: K, value: V) {
        self.lock().insert(key, value);
    }

    /// The value of `key`; if it has none, `make` is called once and may decline.
    pub fn get_or_make(&self, key: K, make: impl FnOnce() -> Option<V>) -> Option<V> {
        let mut map = self.lock();
        if let Some(there) = map.get(&key) {
            return Some(there.clone());
        }
        let value = make()?;
        map.insert(key, value.clone());
        Some(value)
    }

    /// Takes `key` out.
    pub fn remove(&self, key: &K) {
        self.lock().remove(key);
    }

    /// Every key that `wanted` picks, and its value.
    pub fn pick(&self, wanted: impl Fn(&K) -> bool) -> Vec<(K, V)> {
        self.lock().iter().filter(|(key, _)| wanted(key)).map(|(key, value)| (*key, value.clone())).collect()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, V>> {
        self.0.lock().expect("whoever panics here ends the model")
    }
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Map<K, V> {
        Map(Mutex::new(BTreeMap::new()))
    }
}
