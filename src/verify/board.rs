//! The loads under way, one a key at a time.

use std::sync::Arc;

use crate::model::KeyHash;

use super::sync::Map;

/// Loads under way, by key. `F` is how to get at the answer of one.
pub struct Board<F> {
    under_way: Arc<Map<KeyHash, F>>,
}

/// How to get at the answer of a load; and, if it is a new one, the load itself and its landing.
pub type Joined<F, L> = (F, Option<(L, Landing<F>)>);

/// Takes a load off the board when it ends, however it ends: at the latest when this is dropped. Whoever looks for the
/// key after that begins a new load.
pub struct Landing<F: Clone> {
    under_way: Arc<Map<KeyHash, F>>,
    hash: KeyHash,
}

impl<F: Clone> Board<F> {
    /// An empty board.
    pub fn new() -> Board<F> {
        Board { under_way: Arc::default() }
    }

    /// How to get at the answer of the load of `hash`: the one that is under way, or else a new one, for which `begin` makes
    /// the way and the load. A new load is handed back, to be carried out by the caller and landed with its [`Landing`].
    /// `begin` may decline.
    ///
    /// While `begin` is called no other load of this key can begin; it must not wait.
    pub fn join<L>(&self, hash: KeyHash, begin: impl FnOnce() -> Option<(F, L)>) -> Option<Joined<F, L>> {
        let mut load = None;
        let way = self.under_way.get_or_make(hash, || {
            let (way, begun) = begin()?;
            load = Some(begun);
            Some(way)
        })?;
        let landing = |load| (load, Landing { under_way: Arc::clone(&self.under_way), hash });
        Some((way, load.map(landing)))
    }

    /// Whether no load is under way.
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }
}

impl<F: Clone> Default for Board<F> {
    fn default() -> Board<F> {
        Board::new()
    }
}

impl<F: Clone> Drop for Landing<F> {
    fn drop(&mut self) {
        self.under_way.remove(&self.hash);
    }
}
