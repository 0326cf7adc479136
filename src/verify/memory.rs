//! What this gateway knows of keys, and what may be used of it: the freshness rule around a cache that may lose or keep
//! anything.
//!
//! Nothing here waits, and nothing here asks. Every record on its way to a request passes [`Memory::recall`] or
//! [`Memory::settle`], and both judge it when it is *used*: it does not matter who loaded it, when it was put into the cache,
//! or in which order the cache forgot.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Tick;
use crate::model::{KeyHash, KeyId, Shard};

use super::freshness::{Death, Freshness, Limits, Loaded, Verdict};

/// A record, and the load that brought it.
#[derive(Debug)]
pub struct Entry<R> {
    /// What the load noted before it asked.
    pub loaded: Loaded,
    /// What it found.
    pub record: R,
}

/// A record that can die.
pub trait Mortal {
    /// Whatever the store says, this key is revoked.
    fn die(&mut self);
}

/// A cache. It may lose any entry at any time, and keep any entry however old: nothing depends on it but speed.
pub trait Cache {
    /// What requests need of a key.
    type Record: Mortal;

    /// The record of this hash, fresh or not.
    fn known(&self, hash: &KeyHash) -> Option<Arc<Entry<Self::Record>>>;
    /// The load that found nothing under this hash, fresh or not.
    fn unknown(&self, hash: &KeyHash) -> Option<Loaded>;
    /// Found: keep it.
    fn keep(&self, hash: KeyHash, entry: Arc<Entry<Self::Record>>);
    /// Absent: remember that briefly.
    fn keep_unknown(&self, hash: KeyHash, loaded: Loaded);
    /// Frees what is remembered of this hash.
    fn forget(&self, hash: &KeyHash);
}

/// What is remembered of a key; `E` is how its record is held.
pub enum Recalled<E> {
    /// A record that may be used now.
    Usable(E),
    /// A record that may not be used any more.
    Stale,
    /// Nothing.
    Nothing,
}

/// What a load brought, before it is judged.
pub enum Answer<R> {
    /// A record.
    Known(Arc<Entry<R>>),
    /// The store certainly had no such key.
    Unknown(Loaded),
}

/// What a load brought, judged: it may be used now.
pub enum Settled<R> {
    /// This record.
    Known(Arc<Entry<R>>),
    /// There is no such key.
    Unknown,
}

/// How long records and "unknown" may be relied on.
#[derive(Clone, Copy, Debug)]
pub struct Reliance {
    /// Of a record.
    pub known: Limits,
    /// Of "unknown".
    pub unknown: Limits,
}

/// The cache, what is known of changes, and the rule that judges the one by the other.
pub struct Memory<C> {
    cache: C,
    freshness: Freshness,
    reliance: Reliance,
}

impl<C: Cache> Memory<C> {
    /// Remembers in `cache`; nothing has happened yet.
    pub fn new(cache: C, reliance: Reliance) -> Memory<C> {
        Memory { cache, freshness: Freshness::new(), reliance }
    }

    /// The record of this hash, if it is here and may be used at `now`.
    #[inline]
    pub fn recall(&self, hash: &KeyHash, now: Tick) -> Recalled<Arc<Entry<C::Record>>> {
        match self.cache.known(hash) {
            Some(entry) if self.is_usable(hash, &entry, now) => Recalled::Usable(entry),
            Some(_) => Recalled::Stale,
            None => Recalled::Nothing,
        }
    }

    /// Whether it is known, and may be relied on at `now`, that there is no such key.
    pub fn recalls_unknown(&self, hash: &KeyHash, now: Tick) -> bool {
        self.cache.unknown(hash).is_some_and(|loaded| self.is_usable_unknown(hash, loaded, now))
    }

    /// The revocation of this hash, if one was applied here.
    pub fn death(&self, hash: &KeyHash) -> Option<Death> {
        self.freshness.death(hash)
    }

    /// Whether this record may be used at `now`.
    #[inline]
    pub fn is_usable(&self, hash: &KeyHash, entry: &Entry<C::Record>, now: Tick) -> bool {
        self.freshness.judge(hash, entry.loaded, now, self.reliance.known) == Verdict::Usable
    }

    /// The note of a load. To be taken before the store is asked; `now` must be from before, too.
    pub fn begin_load(&self, now: Tick) -> Loaded {
        self.freshness.begin_load(now)
    }

    /// A load found this record. It is kept, and not yet judged.
    pub fn found(&self, hash: KeyHash, loaded: Loaded, mut record: C::Record) -> Answer<C::Record> {
        // A store that lost a revocation, after a failover or from a backup, does not bring the key back.
        if self.freshness.death(&hash).is_some() {
            record.die();
        }
        let entry = Arc::new(Entry { loaded, record });
        self.cache.keep(hash, Arc::clone(&entry));
        Answer::Known(entry)
    }

    /// A load found that there is no such key. That is kept briefly, and not yet judged.
    pub fn found_nothing(&self, hash: KeyHash, loaded: Loaded) -> Answer<C::Record> {
        self.cache.keep_unknown(hash, loaded);
        Answer::Unknown(loaded)
    }

    /// What a load brought, if it may be used at `now` by a request that may have joined it late. `None` if something
    /// happened meanwhile: load again.
    pub fn settle(&self, hash: &KeyHash, answer: Answer<C::Record>, now: Tick) -> Option<Settled<C::Record>> {
        match answer {
            Answer::Known(entry) if self.is_usable(hash, &entry, now) => Some(Settled::Known(entry)),
            Answer::Unknown(loaded) if self.is_usable_unknown(hash, loaded, now) => Some(Settled::Unknown),
            Answer::Known(_) | Answer::Unknown(_) => None,
        }
    }

    /// Something happened to this key. When this returns, no request that starts later uses what was known before.
    pub fn outdate(&self, hash: &KeyHash) {
        self.freshness.outdate(hash);
        self.cache.forget(hash);
    }

    /// This key is dead. When this returns, no request that starts later is accepted.
    pub fn revoke(&self, hash: &KeyHash, id: Option<KeyId>, at: Tick) {
        self.freshness.revoke(hash, Death { id, at });
        self.cache.forget(hash);
    }

    /// Anything may have happened in this shard. When this returns, no request that starts later uses what was known
    /// of it before.
    pub fn outdate_shard(&self, shard: Shard) {
        self.freshness.outdate_shard(shard);
    }

    /// At `at`, nothing of this shard had been missed.
    pub fn prove(&self, shard: Shard, at: Tick) {
        self.freshness.prove(shard, at);
    }

    /// The oldest of the shards' proofs; 0 before each had one.
    pub fn oldest_proof(&self) -> Tick {
        self.freshness.oldest_proof()
    }

    /// How long nothing proved at `now` that this key's shard is current.
    #[inline]
    pub fn doubt(&self, hash: &KeyHash, now: Tick) -> Duration {
        now.since(self.freshness.proof(hash))
    }

    /// What was revoked in a shard, as far as it is known here.
    pub fn deaths(&self, shard: Shard) -> Vec<(KeyHash, Death)> {
        self.freshness.deaths(shard)
    }

    /// Frees the memory of a revocation that a load begun later has shown to be in the store.
    pub fn forget_death(&self, hash: &KeyHash) {
        self.freshness.forget_death(hash);
    }

    /// The cache itself.
    pub fn cache(&self) -> &C {
        &self.cache
    }

    fn is_usable_unknown(&self, hash: &KeyHash, loaded: Loaded, now: Tick) -> bool {
        self.freshness.judge(hash, loaded, now, self.reliance.unknown) == Verdict::Usable
    }
}

impl<R> Clone for Answer<R> {
    fn clone(&self) -> Answer<R> {
        match self {
            Answer::Known(entry) => Answer::Known(Arc::clone(entry)),
            Answer::Unknown(loaded) => Answer::Unknown(*loaded),
        }
    }
}
