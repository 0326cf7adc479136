//! Sees everything, and says what does not hold.
//!
//! "Later" is a happens-before edge: what was applied is noted with release, and a request reads the notes with acquire
//! before it begins. All else that the witness remembers is outside of the model: reading and writing it is no step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::clock::Tick;
use crate::ledger::Ledger;
use crate::model::{EventKind, Head, KeyHash, LogEntry, Nonce, Shard};
use crate::property::Property;

use super::super::sync::{AtomicU64, Ordering};
use super::gateway::Outcome;
use super::store::Record;
use super::{KEYS, key, number};

/// Added to what is due of a key that is dead.
const DEAD: u64 = 1 << 32;

/// The witness of one gateway and its store.
pub struct Witness {
    /// By key, the least version that a request may still be answered with.
    due: [AtomicU64; KEYS],
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    now: u64,
    ledger: Ledger,
    /// Keys that the store holds to be revoked, and since when.
    revoked: BTreeMap<KeyHash, Tick>,
    /// The store went back to an older state.
    lost: bool,
    /// Keys that were not in it then: of them it may truly be said that they are unknown.
    gone: BTreeSet<KeyHash>,
    /// Keys that are being loaded.
    loading: BTreeSet<KeyHash>,
    loads: u64,
}

/// What a request that starts now must honour.
#[derive(Clone, Copy)]
pub struct Due {
    version: u64,
    start: Tick,
}

/// What a gap gives up.
pub struct GivenUp(Vec<Nonce>);

impl Witness {
    /// Nothing happened yet.
    pub fn new() -> Witness {
        Witness { due: std::array::from_fn(|_| AtomicU64::new(0)), seen: Mutex::default() }
    }

    /// The time.
    pub fn now(&self) -> Tick {
        Tick::from_nanos(self.seen().now)
    }

    /// Lets time pass.
    pub fn advance(&self, ticks: u64) {
        self.seen().now += ticks;
    }

    /// The store took a change.
    pub fn written(&self, entry: &LogEntry) {
        let mut seen = self.seen();
        seen.ledger.written(entry);
        if entry.event.kind == EventKind::Revoked {
            let now = Tick::from_nanos(seen.now);
            seen.revoked.entry(entry.event.hash).or_insert(now);
        }
    }

    /// The store went back, and holds this.
    pub fn restored(&self, records: &BTreeMap<KeyHash, Record>) {
        let mut seen = self.seen();
        seen.lost = true;
        seen.revoked.retain(|hash, _| records.get(hash).is_some_and(|record| record.revoked));
        seen.gone.extend((0..KEYS).map(key).filter(|hash| !records.contains_key(hash)));
    }

    /// The gateway applied this entry.
    pub fn applied(&self, entry: &LogEntry) {
        self.seen().ledger.in_effect(entry.head.nonce);
        let dead = if entry.event.kind == EventKind::Revoked { DEAD } else { 0 };
        self.due[number(&entry.event.hash)].fetch_max(dead + version(entry), Ordering::AcqRel);
    }

    /// A gap of this shard begins.
    pub fn gap_begins(&self, shard: Shard) -> GivenUp {
        GivenUp(self.seen().ledger.of_shard(shard))
    }

    /// It has taken effect. Who loads again sees the store as it is; what it may forget later is not known to be revoked.
    pub fn gap_ends(&self, given_up: GivenUp) {
        let mut due = [0; KEYS];
        {
            let mut seen = self.seen();
            for nonce in given_up.0 {
                seen.ledger.in_effect(nonce);
                let entry = seen.ledger.entry(nonce);
                let due = &mut due[number(&entry.event.hash)];
                *due = (*due).max(version(entry));
            }
        }
        for (note, due) in self.due.iter().zip(due).filter(|(_, due)| *due > 0) {
            note.fetch_max(due, Ordering::AcqRel);
        }
    }

    /// The gateway is about to prove a shard, whose log ended here when it was asked.
    pub fn proves(&self, end: &Head) {
        self.seen().ledger.expect_in_effect(Property::ProofIsComplete, end);
    }

    /// The gateway tells how far it has come.
    pub fn stands_at(&self, place: &Head) {
        self.seen().ledger.expect_in_effect(Property::PositionIsReached, place);
    }

    /// A load of this key begins; its number.
    pub fn load_begins(&self, hash: &KeyHash) -> u64 {
        let mut seen = self.seen();
        let alone = seen.loading.insert(*hash);
        seen.loads += 1;
        let load = seen.loads;
        drop(seen);
        if !alone {
            Property::OneLoadAtATime.broken(format_args!("load {load} of {hash:?} began during another"));
        }
        load
    }

    /// It has ended, and what it brought is in the cache.
    pub fn load_ends(&self, hash: &KeyHash) {
        self.seen().loading.remove(hash);
    }

    /// A request starts.
    pub fn starts(&self, hash: &KeyHash) -> Due {
        Due { version: self.due[number(hash)].load(Ordering::Acquire), start: self.now() }
    }

    /// A request that had to honour `due` got this answer; `max_staleness` is the bound.
    pub fn judge(&self, hash: &KeyHash, due: Due, outcome: &Outcome, max_staleness: Duration) {
        let must_be_dead = due.version >= DEAD;
        let (version, accepted) = match outcome {
            Outcome::Accepted(entry) => (entry.record.version, true),
            Outcome::Revoked(Some(version)) => (*version, false),
            Outcome::Unknown => (0, false),
            Outcome::Revoked(None) | Outcome::Unavailable => return,
        };
        let (lost, gone, revoked) = {
            let seen = self.seen();
            (seen.lost, seen.gone.contains(hash), seen.revoked.get(hash).copied())
        };
        if accepted && must_be_dead {
            let property = if lost { Property::RevokedForEver } else { Property::RevokedIsDead };
            property.broken(format_args!("{hash:?} was accepted by version {version}"));
        }
        // A key that is dead here need not be in a store that lost it.
        if version < due.version % DEAD && !must_be_dead && !gone {
            let due = due.version;
            Property::AppliedIsSeen
                .broken(format_args!("{hash:?} was answered from version {version}, not {due}"));
        }
        if let (true, Some(revoked)) = (accepted, revoked)
            && due.start.since(revoked) > max_staleness
        {
            let late = due.start.since(revoked).as_nanos();
            Property::BoundHolds
                .broken(format_args!("{hash:?} was accepted {late} ticks after its revocation"));
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The version that this entry made: its name says it.
fn version(entry: &LogEntry) -> u64 {
    entry.head.nonce.as_u64()
}

impl Default for Witness {
    fn default() -> Witness {
        Witness::new()
    }
}
