//! The keys that one worker has in use, in front of the cache that all workers share.
//!
//! A key that all workers use at once is the common case: each request would count its record up and down in memory that the
//! other workers write too, and tell moka of its use. Here a worker keeps its own hold of what it found there, and looks again
//! each second, so that moka knows what is in use and a refreshed record is seen. Nothing here decides whether a record may be
//! used: what comes out of it is judged as everything is.

use std::cell::RefCell;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Tick;
use crate::model::KeyHash;

use super::cache::{CachedRecord, RecordCache};
use super::memory::{Entry, Memory, Recalled};

/// How long a worker goes by its own hold.
const HOLD: Duration = Duration::from_secs(1);
/// How many keys a worker holds. About 200 KB.
const PLACES: usize = 4_096;

/// A worker's own hold of a record: its count is touched by this worker alone.
#[derive(Clone, Debug)]
pub struct Held(Arc<Hold>);

/// One count of the record's, for all holds of a worker.
#[derive(Debug)]
struct Hold(Arc<Entry<CachedRecord>>);

impl Held {
    /// A hold of its own.
    pub(super) fn of(entry: Arc<Entry<CachedRecord>>) -> Held {
        Held(Arc::new(Hold(entry)))
    }
}

impl Deref for Held {
    type Target = Entry<CachedRecord>;

    fn deref(&self) -> &Entry<CachedRecord> {
        &self.0.0
    }
}

/// The keys that one worker has in use. A key has one place, and is put out by the next that has the same.
pub struct NearCache {
    places: RefCell<Box<[Option<Holding>]>>,
}

struct Holding {
    hash: KeyHash,
    since: Tick,
    held: Held,
}

impl Default for NearCache {
    fn default() -> NearCache {
        NearCache::with_places(PLACES)
    }
}

impl NearCache {
    /// With room for so many keys.
    pub(super) fn with_places(places: usize) -> NearCache {
        NearCache { places: RefCell::new((0..places).map(|_| None).collect()) }
    }

    /// As [`Memory::recall`], with a hold of this worker's own.
    #[inline]
    pub fn recall(&self, memory: &Memory<RecordCache>, hash: &KeyHash, now: Tick) -> Recalled<Held> {
        let mut places = self.places.borrow_mut();
        let number = spread(hash) % places.len();
        let place = &mut places[number];
        if let Some(Holding { hash: whose, since, held }) = place
            && whose == hash
            && now.since(*since) < HOLD
            && memory.is_usable(hash, held, now)
        {
            return Recalled::Usable(held.clone());
        }
        match memory.recall(hash, now) {
            Recalled::Usable(entry) => {
                let held = Held::of(entry);
                *place = Some(Holding { hash: *hash, since: now, held: held.clone() });
                Recalled::Usable(held)
            }
            Recalled::Stale => Recalled::Stale,
            Recalled::Nothing => Recalled::Nothing,
        }
    }
}

/// Bits of the hash that neither its shard nor its barrier goes by.
fn spread(hash: &KeyHash) -> usize {
    let [_, _, _, _, high, low, ..] = hash.as_bytes();
    usize::from(u16::from_be_bytes([*high, *low]))
}
