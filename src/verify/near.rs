//! The keys that one worker has in use, in front of the cache that all workers share.
//!
//! A key that all workers use at once is the common case: each request would count its record up and down in memory that the
//! other workers write too, and tell moka of its use. Here a worker keeps its own hold of what it found there, and looks again
//! each second, so that moka knows what is in use and a refreshed record is seen. Nothing here decides whether a record may be
//! used: what comes out of it is judged as everything is. While the feed is in doubt nothing is held: then what a look-up
//! brought must be seen by the next request, and no event tells of it.

use std::cell::RefCell;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Tick;
use crate::model::KeyHash;

use super::DOUBT;
use super::cache::{CachedRecord, RecordCache};
use super::memory::{Entry, Memory, Recalled};

/// How long a worker goes by its own hold.
const HOLD: Duration = Duration::from_secs(1);
/// How many keys a worker holds. Some 320 KB, when all places are taken.
const PLACES: usize = 4_096;

/// A record, and how it is held.
#[derive(Clone, Debug)]
pub enum Held {
    /// By a worker's own hold: only that worker counts it up and down.
    Own(Arc<Hold>),
    /// By the count that all share.
    Shared(Arc<Entry<CachedRecord>>),
}

/// One of the record's count, for all uses of a worker.
#[derive(Debug)]
pub struct Hold(Arc<Entry<CachedRecord>>);

impl Deref for Held {
    type Target = Entry<CachedRecord>;

    fn deref(&self) -> &Entry<CachedRecord> {
        match self {
            Held::Own(hold) => &hold.0,
            Held::Shared(entry) => entry,
        }
    }
}

/// The keys that one worker has in use. A key has one place, and keeps it for as long as it is looked up again each second: of many
/// keys that are each used now and then, none puts the other out.
pub struct NearCache {
    places: RefCell<Box<[Option<Holding>]>>,
}

struct Holding {
    hash: KeyHash,
    since: Tick,
    hold: Arc<Hold>,
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
        let is_free = match place {
            Some(Holding { hash: whose, since, hold }) if whose == hash => {
                let is_young = now.since(*since) < HOLD && memory.doubt(hash, now) <= DOUBT;
                if is_young && memory.is_usable(hash, &hold.0, now) {
                    return Recalled::Usable(Held::Own(Arc::clone(hold)));
                }
                true
            }
            Some(other) => now.since(other.since) >= HOLD,
            None => true,
        };
        match memory.recall(hash, now) {
            Recalled::Usable(entry) if is_free => {
                let hold = Arc::new(Hold(entry));
                *place = Some(Holding { hash: *hash, since: now, hold: Arc::clone(&hold) });
                Recalled::Usable(Held::Own(hold))
            }
            Recalled::Usable(entry) => Recalled::Usable(Held::Shared(entry)),
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
