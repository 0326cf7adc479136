//! A gateway's verifier: its steps around the rule, in its order. `tests/mirror.rs` holds that order against the gateway's
//! own files.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Tick;
use crate::model::{EventKind, KeyHash, LogEntry, Shard};
use crate::property::Property;

use super::super::board::Board;
use super::super::freshness::{Limits, Loaded};
use super::super::memory::{Answer, Cache, Entry, Memory, Recalled, Reliance, Settled};
use super::super::sync::{Condvar, Map, Mutex};
use super::store::{Record, Store};
use super::witness::{Due, Witness};

/// How often a load whose answer is outdated on arrival is repeated.
const RELOADS: usize = 2;

/// A cache that keeps everything however old, unless it is told to lose it.
pub struct LossyCache {
    known: Map<KeyHash, Arc<Entry<Record>>>,
    unknown: Map<KeyHash, Loaded>,
    /// Whether it listens when it is told to forget. It need not.
    forgets: bool,
}

impl LossyCache {
    /// Loses what it has of this key.
    pub fn evict(&self, hash: &KeyHash) {
        self.known.remove(hash);
        self.unknown.remove(hash);
    }
}

impl Cache for LossyCache {
    type Record = Record;

    fn known(&self, hash: &KeyHash) -> Option<Arc<Entry<Record>>> {
        self.known.get(hash)
    }

    fn unknown(&self, hash: &KeyHash) -> Option<Loaded> {
        self.unknown.get(hash)
    }

    fn keep(&self, hash: KeyHash, entry: Arc<Entry<Record>>) {
        self.known.insert(hash, entry);
    }

    fn keep_unknown(&self, hash: KeyHash, loaded: Loaded) {
        self.unknown.insert(hash, loaded);
    }

    fn forget(&self, hash: &KeyHash) {
        if self.forgets {
            self.evict(hash);
        }
    }
}

/// What a request is told.
pub enum Outcome {
    /// It may pass, by this record.
    Accepted(Arc<Entry<Record>>),
    /// The key is dead: by the record of this version, or by what is known without one.
    Revoked(Option<u64>),
    /// There is no such key.
    Unknown,
    /// Nobody could say.
    Unavailable,
}

/// The way to the answer of a load.
struct Way {
    load: u64,
    answer: Mutex<Option<Answer<Record>>>,
    told: Condvar,
}

/// A gateway.
pub struct Gateway {
    memory: Memory<LossyCache>,
    board: Board<Arc<Way>>,
    store: Arc<Store>,
    witness: Arc<Witness>,
    max_staleness: Duration,
}

impl Gateway {
    /// A gateway that knows nothing yet. Its limits are in ticks of the witness's clock.
    pub fn new(
        store: &Arc<Store>,
        witness: &Arc<Witness>,
        ttl: u64,
        max_staleness: u64,
        cache_forgets: bool,
    ) -> Gateway {
        let max_staleness = Duration::from_nanos(max_staleness);
        let limits = Limits { ttl: Duration::from_nanos(ttl), max_staleness };
        let cache = LossyCache { known: Map::default(), unknown: Map::default(), forgets: cache_forgets };
        Gateway {
            memory: Memory::new(cache, Reliance { known: limits, unknown: limits }),
            board: Board::new(),
            store: Arc::clone(store),
            witness: Arc::clone(witness),
            max_staleness,
        }
    }

    /// A request: verified from its start to its answer.
    pub fn request(&self, hash: KeyHash) -> Outcome {
        let due = self.witness.starts(&hash);
        let outcome = self.verify(hash, self.witness.now());
        self.judged(hash, due, outcome)
    }

    /// A request that was accepted by `entry` and then had to wait.
    pub fn confirm(&self, hash: KeyHash, entry: Arc<Entry<Record>>) -> Outcome {
        let due = self.witness.starts(&hash);
        let outcome = if self.memory.is_usable(&hash, &entry, self.witness.now()) {
            by(entry)
        } else {
            self.look_up(hash)
        };
        self.judged(hash, due, outcome)
    }

    /// A key in use is loaded again ahead of time.
    pub fn refresh(&self, hash: KeyHash) {
        self.fly(hash);
    }

    /// What the feed tells, or what this gateway did itself.
    pub fn apply(&self, entry: &LogEntry) {
        match entry.event.kind {
            EventKind::Revoked => self.memory.revoke(&entry.event.hash, None, self.witness.now()),
            EventKind::Created | EventKind::Changed => self.memory.outdate(&entry.event.hash),
            EventKind::Fleet | EventKind::Canary => {}
        }
        self.witness.applied(entry);
    }

    /// Events of this shard may have been missed.
    pub fn gap(&self, shard: Shard) {
        let given_up = self.witness.gap_begins(shard);
        self.memory.outdate_shard(shard);
        self.witness.gap_ends(given_up);
    }

    /// At `asked_at`, nothing of this shard had been missed.
    pub fn prove(&self, shard: Shard, asked_at: Tick) {
        self.memory.prove(shard, asked_at);
    }

    /// The cache loses what it has of this key.
    pub fn evict(&self, hash: &KeyHash) {
        self.memory.cache().evict(hash);
    }

    fn judged(&self, hash: KeyHash, due: Due, outcome: Outcome) -> Outcome {
        self.witness.judge(&hash, due, &outcome, self.max_staleness);
        outcome
    }

    fn verify(&self, hash: KeyHash, now: Tick) -> Outcome {
        match self.memory.recall(&hash, now) {
            Recalled::Usable(entry) => by(entry),
            Recalled::Stale | Recalled::Nothing => self.look_up(hash),
        }
    }

    fn look_up(&self, hash: KeyHash) -> Outcome {
        if self.memory.death(&hash).is_some() {
            return Outcome::Revoked(None);
        }
        if self.memory.recalls_unknown(&hash, self.witness.now()) {
            return Outcome::Unknown;
        }
        let mut last = 0;
        for _ in 0..=RELOADS {
            let (load, answer) = self.load(hash);
            if load <= last {
                Property::ReloadIsNew.broken(format_args!("load {load} of {hash:?} after load {last}"));
            }
            last = load;
            match self.memory.settle(&hash, answer, self.witness.now()) {
                Some(Settled::Known(entry)) => return by(entry),
                Some(Settled::Unknown) => return Outcome::Unknown,
                None => {}
            }
        }
        Outcome::Unavailable
    }

    fn load(&self, hash: KeyHash) -> (u64, Answer<Record>) {
        let way = self.fly(hash);
        let mut answer = way.answer.lock().expect("whoever panics here ends the model");
        loop {
            if let Some(answer) = answer.as_ref() {
                return (way.load, answer.clone());
            }
            answer = way.told.wait(answer).expect("whoever panics here ends the model");
        }
    }

    /// The load under way, or a new one. Whoever begins it carries it out: the others go on meanwhile.
    fn fly(&self, hash: KeyHash) -> Arc<Way> {
        let begin = || {
            let load = self.witness.load_begins(&hash);
            let loaded = self.memory.begin_load(self.witness.now());
            Some((Arc::new(Way { load, answer: Mutex::new(None), told: Condvar::new() }), loaded))
        };
        let (way, begun) = self.board.join(hash, begin).expect("it is never declined");
        if let Some((loaded, landing)) = begun {
            let brought = match self.store.find(&hash) {
                Some(record) => self.memory.found(hash, loaded, record),
                None => self.memory.found_nothing(hash, loaded),
            };
            self.witness.load_ends(&hash);
            drop(landing);
            *way.answer.lock().expect("whoever panics here ends the model") = Some(brought);
            way.told.notify_all();
        }
        way
    }
}

/// What this record says.
fn by(entry: Arc<Entry<Record>>) -> Outcome {
    if entry.record.revoked { Outcome::Revoked(Some(entry.record.version)) } else { Outcome::Accepted(entry) }
}
