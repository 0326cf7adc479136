//! When may a record be used? The one rule that keeps a revoked key dead.
//!
//! A cache alone cannot: a load that began before a revocation may end after it and leave the old record behind,
//! and a request that joins such a load gets the old record too. So freshness is judged when a record is *used*.
//!
//! Time is counted in epochs: every applied event is one. A load notes the epoch before it asks the store. An
//! event raises the *barrier* of its key to its epoch, and what was loaded in an earlier epoch is no longer
//! usable. A gap in the feed raises the *floor* of a shard, which does the same for all keys in it.
//!
//! Barriers are kept by slot and not by key: a key's slot is 16 bits of its hash, and an event raises the slot.
//! The other keys of that slot, one in 65,536, are loaded again although nothing happened to them: harmless. In return no
//! barrier is ever forgotten, the memory is fixed, and a reader takes no lock and writes nothing shared.
//!
//! What is known to be revoked is also kept exactly, by hash, because it must override a store that forgot it.
//! It is looked up when a load ends: a revocation enters that set before its epoch begins, so a load of its
//! epoch or later finds it there, and a load of an earlier epoch is refused by the barrier.

use std::time::Duration;

use crate::clock::Tick;
use crate::model::{KeyHash, KeyId, SHARDS, Shard};

use super::sync::{AtomicU64, Map, Ordering, SLOTS};

/// What a load noted before it asked the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The epoch then.
    pub epoch: u64,
    /// The time then.
    pub started: Tick,
}

/// What this gateway knows that bears on a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knowledge {
    /// Loads of earlier epochs are outdated, for this key.
    pub barrier: u64,
    /// Loads of earlier epochs are outdated, for its whole shard.
    pub floor: u64,
    /// At this time, nothing of the shard had been missed.
    pub proof: Tick,
}

/// How long what is known may be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Since the load began.
    pub ttl: Duration,
    /// Since the load began or the shard was last proved current, whichever is later.
    pub max_staleness: Duration,
}

/// Whether a record may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Usable,
    /// Something happened to the key, or may have: load again.
    Outdated,
    /// It is too old: load again.
    TooOld,
    /// Too long without proof that nothing was missed: load again.
    Unproven,
}

/// The rule. Pure: everything it depends on is in its arguments.
///
/// A record is usable if and only if it was loaded in the epoch of its barrier and of its floor or later, its load
/// began at most `ttl` ago, and at most `max_staleness` has passed since the later of its load and its shard's proof.
pub fn judge(loaded: Loaded, known: Knowledge, now: Tick, limits: Limits) -> Verdict {
    let proven = loaded.started.max(known.proof);
    if loaded.epoch < known.barrier || loaded.epoch < known.floor {
        Verdict::Outdated
    } else if now.since(loaded.started) > limits.ttl {
        Verdict::TooOld
    } else if now.since(proven) > limits.max_staleness {
        Verdict::Unproven
    } else {
        Verdict::Usable
    }
}

/// What this gateway knows of changes, for every key. Shared by all threads.
pub struct Freshness {
    epoch: AtomicU64,
    barriers: Box<[AtomicU64]>,
    shards: [ShardKnowledge; SHARDS],
    revoked: Map<KeyHash, Death>,
}

/// What is known of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// The key's public name, if whoever told of it knew.
    pub id: Option<KeyId>,
    /// When it was applied here.
    pub at: Tick,
}

#[derive(Default)]
struct ShardKnowledge {
    floor: AtomicU64,
    /// Nanoseconds of a [`Tick`].
    proof: AtomicU64,
}

impl Freshness {
    /// Nothing has happened yet.
    pub fn new() -> Freshness {
        Freshness {
            epoch: AtomicU64::new(0),
            barriers: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            shards: Default::default(),
            revoked: Map::default(),
        }
    }

    /// The note of a load. To be taken before the store is asked; `now` must be from before, too.
    pub fn begin_load(&self, now: Tick) -> Loaded {
        Loaded { epoch: self.epoch.load(Ordering::SeqCst), started: now }
    }

    /// The rule, with what is known now.
    pub fn judge(&self, hash: &KeyHash, loaded: Loaded, now: Tick, limits: Limits) -> Verdict {
        judge(loaded, self.knowledge(hash), now, limits)
    }

    /// The revocation of this hash, if one was applied here. Monotone: see [`Freshness::forget_death`]. To be asked
    /// after a load, before its result is used.
    pub fn death(&self, hash: &KeyHash) -> Option<Death> {
        self.revoked.get(hash)
    }

    /// What was revoked in a shard, as far as it is known here.
    pub fn deaths(&self, shard: Shard) -> Vec<(KeyHash, Death)> {
        self.revoked.pick(|hash| Shard::of(hash) == shard)
    }

    /// Frees the memory of a revocation. Only after a load that began later than it has shown that the store holds it.
    pub fn forget_death(&self, hash: &KeyHash) {
        self.revoked.remove(hash);
    }

    /// Something happened to this key. When this returns, no record loaded before is usable.
    pub fn outdate(&self, hash: &KeyHash) {
        let epoch = self.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        self.barriers[slot(hash)].fetch_max(epoch, Ordering::SeqCst);
    }

    /// This key is dead, whatever a store says later.
    pub fn revoke(&self, hash: &KeyHash, death: Death) {
        // Whoever tells it again may not know whose it is.
        let death = Death { id: death.id.or_else(|| self.revoked.get(hash)?.id), ..death };
        self.revoked.insert(*hash, death);
        self.outdate(hash);
    }

    /// Anything may have happened in this shard. When this returns, no record loaded before is usable.
    pub fn outdate_shard(&self, shard: Shard) {
        let epoch = self.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        self.shards[shard.index()].floor.fetch_max(epoch, Ordering::SeqCst);
    }

    /// At `at`, nothing of this shard had been missed.
    pub fn prove(&self, shard: Shard, at: Tick) {
        self.shards[shard.index()].proof.fetch_max(at.as_nanos(), Ordering::SeqCst);
    }

    /// The latest proof of the shard of this hash.
    pub fn proof(&self, hash: &KeyHash) -> Tick {
        Tick::from_nanos(self.shards[Shard::of(hash).index()].proof.load(Ordering::Relaxed))
    }

    /// The oldest of the shards' proofs.
    pub fn oldest_proof(&self) -> Tick {
        let oldest = self.shards.iter().map(|shard| shard.proof.load(Ordering::Relaxed)).min();
        Tick::from_nanos(oldest.expect("there are 16 shards"))
    }

    fn knowledge(&self, hash: &KeyHash) -> Knowledge {
        let shard = &self.shards[Shard::of(hash).index()];
        // The proof first: whoever sees it must also see what was applied before it was given.
        let proof = Tick::from_nanos(shard.proof.load(Ordering::Acquire));
        let barrier = self.barriers[slot(hash)].load(Ordering::SeqCst);
        let floor = shard.floor.load(Ordering::SeqCst);
        Knowledge { barrier, floor, proof }
    }
}

impl Default for Freshness {
    fn default() -> Freshness {
        Freshness::new()
    }
}

/// Bits of the hash that neither the shard nor a map's bucket depends on alone.
fn slot(hash: &KeyHash) -> usize {
    let bytes = hash.as_bytes();
    usize::from(u16::from_le_bytes([bytes[30], bytes[31]])) % SLOTS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { ttl: Duration::from_secs(300), max_staleness: Duration::from_secs(60) };

    fn at(seconds: u64) -> Tick {
        Tick::from_nanos(seconds * 1_000_000_000)
    }

    fn hash(last: u8) -> KeyHash {
        let mut bytes = [0x55; 32];
        bytes[31] = last;
        KeyHash::from_bytes(bytes)
    }

    #[test]
    fn a_load_from_before_an_event_is_outdated_and_one_from_after_is_not() {
        let freshness = Freshness::new();
        let before = freshness.begin_load(at(1));
        freshness.outdate(&hash(1));
        let after = freshness.begin_load(at(1));
        assert_eq!(freshness.judge(&hash(1), before, at(1), LIMITS), Verdict::Outdated);
        assert_eq!(freshness.judge(&hash(1), after, at(1), LIMITS), Verdict::Usable);
        assert_eq!(freshness.judge(&hash(2), before, at(1), LIMITS), Verdict::Usable);
    }

    #[test]
    fn a_gap_outdates_its_shard_alone() {
        let freshness = Freshness::new();
        let before = freshness.begin_load(at(1));
        let (here, there) = (Shard::of(&hash(1)), Shard::all().next().unwrap());
        assert_ne!(here, there);
        freshness.outdate_shard(there);
        assert_eq!(freshness.judge(&hash(1), before, at(1), LIMITS), Verdict::Usable);
        freshness.outdate_shard(here);
        assert_eq!(freshness.judge(&hash(1), before, at(1), LIMITS), Verdict::Outdated);
    }

    #[test]
    fn age_counts_from_the_beginning_of_the_load() {
        let known = Knowledge { barrier: 0, floor: 0, proof: at(1_000) };
        let loaded = Loaded { epoch: 0, started: at(700) };
        assert_eq!(judge(loaded, known, at(1_000), LIMITS), Verdict::Usable);
        assert_eq!(judge(loaded, known, at(1_001), LIMITS), Verdict::TooOld);
    }

    #[test]
    fn without_proof_trust_ends_after_max_staleness() {
        let loaded = Loaded { epoch: 0, started: at(700) };
        let unproven = Knowledge { barrier: 0, floor: 0, proof: at(0) };
        assert_eq!(judge(loaded, unproven, at(760), LIMITS), Verdict::Usable);
        assert_eq!(judge(loaded, unproven, at(761), LIMITS), Verdict::Unproven);
        let proven = Knowledge { proof: at(730), ..unproven };
        assert_eq!(judge(loaded, proven, at(761), LIMITS), Verdict::Usable);
        assert_eq!(judge(loaded, proven, at(791), LIMITS), Verdict::Unproven);
    }

    #[test]
    fn what_is_revoked_stays_revoked() {
        let freshness = Freshness::new();
        let before = freshness.begin_load(at(1));
        let death = Death { id: None, at: at(1) };
        freshness.revoke(&hash(1), death);
        freshness.outdate(&hash(1));
        assert_eq!(freshness.death(&hash(1)), Some(death));
        assert_eq!(freshness.death(&hash(2)), None);
        assert_eq!(freshness.deaths(Shard::of(&hash(1))), [(hash(1), death)]);
        // Told again by somebody who does not know whose it is, it stays known.
        let id = Some(KeyId::new(Shard::of(&hash(1)), [1; 10]));
        freshness.revoke(&hash(1), Death { id, at: at(2) });
        freshness.revoke(&hash(1), Death { id: None, at: at(3) });
        assert_eq!(freshness.death(&hash(1)), Some(Death { id, at: at(3) }));
        assert_eq!(freshness.judge(&hash(1), before, at(1), LIMITS), Verdict::Outdated);
    }

    proptest! {
        /// The rule, written once more as the design states it.
        #[test]
        fn usable_if_and_only_if(
            epoch in 0u64..8, barrier in 0u64..8, floor in 0u64..8,
            started in 0u64..1_000, proof in 0u64..1_000, now in 0u64..1_000,
        ) {
            let verdict = judge(
                Loaded { epoch, started: at(started) },
                Knowledge { barrier, floor, proof: at(proof) },
                at(now),
                LIMITS,
            );
            let usable = epoch >= barrier
                && epoch >= floor
                && now.saturating_sub(started) <= 300
                && now.saturating_sub(started.max(proof)) <= 60;
            prop_assert_eq!(verdict == Verdict::Usable, usable);
        }
    }
}
