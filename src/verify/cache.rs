//! What this gateway remembers of keys.
//!
//! moka frees the memory; whether an entry may be *used* is for the freshness rule to say. Known and unknown keys
//! have spaces of their own, so that a flood of unknown ones cannot push a known one out.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use moka::sync::Cache;

use crate::model::{Environment, KeyHash, KeyId, KeyRecord, Timestamp};

use super::freshness::Loaded;

/// What one entry weighs beside its team's name, in bytes, measured from the process.
const ENTRY_BYTES: u32 = 400;

/// A record as requests need it: decoded once, when it is loaded.
#[derive(Clone, Debug)]
pub struct CachedRecord {
    /// The key's public name.
    pub id: KeyId,
    /// Its team, ready to be a header.
    pub team: HeaderValue,
    /// Live or Sandbox.
    pub environment: Environment,
    /// From this moment on the key is refused.
    pub expires_at: Option<Timestamp>,
    /// Whether it was revoked.
    pub revoked: bool,
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
        let team =
            HeaderValue::from_str(&record.team).map_err(|source| UnusableRecord { id: record.id, source })?;
        Ok(CachedRecord {
            id: record.id,
            team,
            environment: record.environment,
            expires_at: record.expires_at,
            revoked: record.revoked_at.is_some(),
        })
    }
}

/// A record, and the load that brought it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What the load noted before it asked.
    pub loaded: Loaded,
    /// What it found.
    pub record: CachedRecord,
}

/// Known and unknown keys.
pub struct RecordCache {
    known: Cache<KeyHash, Arc<Entry>, foldhash::fast::RandomState>,
    unknown: Cache<KeyHash, Loaded, foldhash::fast::RandomState>,
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
            known: Cache::builder()
                .max_capacity(capacity.max_bytes)
                .weigher(|_, entry: &Arc<Entry>| ENTRY_BYTES + entry.record.team.len() as u32)
                .time_to_live(capacity.ttl)
                .build_with_hasher(Default::default()),
            unknown: Cache::builder()
                .max_capacity(capacity.unknown_entries)
                .time_to_live(capacity.unknown_ttl)
                .build_with_hasher(Default::default()),
        }
    }

    /// The record of this hash, fresh or not.
    pub fn known(&self, hash: &KeyHash) -> Option<Arc<Entry>> {
        self.known.get(hash)
    }

    /// The load that found nothing under this hash, fresh or not.
    pub fn unknown(&self, hash: &KeyHash) -> Option<Loaded> {
        self.unknown.get(hash)
    }

    /// Found: keep it.
    pub fn keep(&self, hash: KeyHash, entry: Arc<Entry>) {
        self.known.insert(hash, entry);
        self.unknown.invalidate(&hash);
    }

    /// Absent: remember that briefly.
    pub fn keep_unknown(&self, hash: KeyHash, loaded: Loaded) {
        self.unknown.insert(hash, loaded);
        self.known.invalidate(&hash);
    }

    /// Frees what is remembered of this hash. Correctness does not depend on it.
    pub fn forget(&self, hash: &KeyHash) {
        self.known.invalidate(hash);
        self.unknown.invalidate(hash);
    }

    /// How many known keys there are, about.
    pub fn entries(&self) -> u64 {
        self.known.entry_count()
    }
}
