//! What this gateway remembers of keys.
//!
//! moka frees the memory; whether an entry may be *used* is for the freshness rule to say. Known and unknown keys
//! have spaces of their own, so that a flood of unknown ones cannot push a known one out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Tick;
use crate::model::{Environment, KeyHash, KeyId, KeyRecord, Timestamp};
use http::HeaderValue;

use super::freshness::Loaded;
use super::memory::{Cache, Entry, Mortal};

/// What one entry weighs beside its team's name, in bytes: see `benches/memory.rs`.
const ENTRY_BYTES: u32 = 360;

/// The end of a key that has none.
pub const NEVER: Timestamp = Timestamp::from_millis(i64::MAX);

/// A record as requests need it: decoded once, when it is loaded.
#[derive(Debug)]
pub struct CachedRecord {
    /// The key's public name.
    pub id: KeyId,
    /// Its team, fit to stand in a header.
    pub team: Box<str>,
    /// Live or Sandbox.
    pub environment: Environment,
    /// From this moment on the key is refused: its expiry date, or the end of its grace; [`NEVER`] without either.
    pub ends_at: Timestamp,
    /// Whether it was rotated, and opens only until its grace ends.
    pub in_grace: bool,
    /// Whether it was revoked.
    pub revoked: bool,
    /// When somebody last had it looked up again, in nanoseconds of a [`Tick`]; 0 is never.
    refreshed: AtomicU64,
}

/// The record has something in it that cannot be forwarded.
#[derive(Debug, thiserror::Error)]
#[error("the team of key {id} cannot stand in a header")]
pub struct UnusableRecord {
    id: KeyId,
    #[source]
    source: http::header::InvalidHeaderValue,
}

impl CachedRecord {
    /// Decodes a record.
    ///
    /// # Errors
    /// The team is not a header value; the admin API does not let such teams in.
    pub fn decode(record: &KeyRecord) -> Result<CachedRecord, UnusableRecord> {
        HeaderValue::from_str(&record.team).map_err(|source| UnusableRecord { id: record.id, source })?;
        Ok(CachedRecord {
            id: record.id,
            team: record.team.as_str().into(),
            environment: record.environment,
            ends_at: record.ends_at().unwrap_or(NEVER),
            in_grace: record.retires_at.is_some(),
            revoked: record.revoked_at.is_some(),
            refreshed: AtomicU64::new(0),
        })
    }

    /// When it was last looked up again, or tried to.
    pub fn looked_at(&self) -> Tick {
        Tick::from_nanos(self.refreshed.load(Ordering::Relaxed))
    }

    /// It was looked up again at `now`, or tried to.
    pub fn look_at(&self, now: Tick) {
        self.refreshed.fetch_max(now.as_nanos(), Ordering::Relaxed);
    }

    /// Whether the caller, and nobody else, may have it looked up again at `now`: not within `pause` of the last time.
    pub fn claim_refresh(&self, now: Tick, pause: Duration) -> bool {
        let last = self.looked_at();
        let claim = |last: Tick| {
            self.refreshed.compare_exchange(
                last.as_nanos(),
                now.as_nanos(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
        };
        now.since(last) >= pause && claim(last).is_ok()
    }
}

impl Mortal for CachedRecord {
    fn die(&mut self) {
        self.revoked = true;
    }
}

/// Known and unknown keys.
pub struct RecordCache {
    known: moka::sync::Cache<KeyHash, Arc<Entry<CachedRecord>>, foldhash::fast::RandomState>,
    unknown: moka::sync::Cache<KeyHash, Loaded, foldhash::fast::RandomState>,
}

/// How much is remembered, and how long memory is kept for it.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Bytes for known keys.
    pub max_bytes: u64,
    /// How long a record may be used at most.
    pub ttl: Duration,
    /// How many unknown keys.
    pub unknown_entries: u64,
    /// How long an "unknown" may be used at most.
    pub unknown_ttl: Duration,
}

impl RecordCache {
    /// An empty cache.
    pub fn new(capacity: Capacity) -> RecordCache {
        RecordCache {
            known: moka::sync::Cache::builder()
                .max_capacity(capacity.max_bytes)
                .weigher(|_, entry: &Arc<Entry<CachedRecord>>| ENTRY_BYTES + entry.record.team.len() as u32)
                // By the last use and not by the load, which would take a list of its own: a key in use is loaded anew
                // anyway, and how old a record may be is not for moka to say.
                .time_to_idle(capacity.ttl)
                .build_with_hasher(Default::default()),
            unknown: moka::sync::Cache::builder()
                .max_capacity(capacity.unknown_entries)
                .time_to_live(capacity.unknown_ttl)
                .build_with_hasher(Default::default()),
        }
    }

    /// How many known keys there are, about.
    pub fn entries(&self) -> u64 {
        self.known.entry_count()
    }

    /// How many bytes known keys take, as the cache counts them.
    pub fn bytes(&self) -> u64 {
        self.known.weighted_size()
    }

    /// Does at once what the cache does by and by, so that what it says of itself is exact.
    pub fn catch_up(&self) {
        self.known.run_pending_tasks();
    }

    /// The hash of the known key with this id. Looks at every one: for when the store cannot be asked.
    pub fn hash_of(&self, id: &KeyId) -> Option<KeyHash> {
        self.known.iter().find(|(_, entry)| entry.record.id == *id).map(|(hash, _)| *hash)
    }
}

impl Cache for RecordCache {
    type Record = CachedRecord;

    fn known(&self, hash: &KeyHash) -> Option<Arc<Entry<CachedRecord>>> {
        self.known.get(hash)
    }

    fn unknown(&self, hash: &KeyHash) -> Option<Loaded> {
        self.unknown.get(hash)
    }

    fn keep(&self, hash: KeyHash, entry: Arc<Entry<CachedRecord>>) {
        self.known.insert(hash, entry);
        self.unknown.invalidate(&hash);
    }

    fn keep_unknown(&self, hash: KeyHash, loaded: Loaded) {
        self.unknown.insert(hash, loaded);
        self.known.invalidate(&hash);
    }

    fn forget(&self, hash: &KeyHash) {
        self.known.invalidate(hash);
        self.unknown.invalidate(hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Shard;

    #[test]
    fn the_memory_of_a_key_that_nobody_uses_is_freed_after_its_time() {
        let (ttl, hour) = (Duration::from_millis(50), Duration::from_secs(3_600));
        let capacity = Capacity { max_bytes: 1 << 20, ttl, unknown_entries: 10, unknown_ttl: hour };
        let cache = RecordCache::new(capacity);
        let loaded = Loaded { epoch: 0, started: Tick::from_nanos(0) };
        let hash = KeyHash::from_bytes([7; 32]);
        let record = CachedRecord {
            id: KeyId::new(Shard::of(&hash), [7; 10]),
            team: "acme".into(),
            environment: Environment::Live,
            ends_at: NEVER,
            in_grace: false,
            revoked: false,
            refreshed: AtomicU64::new(0),
        };
        cache.keep(hash, Arc::new(Entry { loaded, record }));
        // moka has a clock of its own.
        for _ in 0..1_000 {
            cache.catch_up();
            if cache.entries() == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it was not freed in 10 s");
    }
}
