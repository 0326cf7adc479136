//! The store: records and a chained log for each shard, which change in one step.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Event, EventKind, Head, KeyHash, LogEntry, Nonce, Shard, Timestamp};

use super::super::memory::Mortal;
use super::super::sync::{Mutex, MutexGuard};
use super::shards;
use super::witness::Witness;

/// What a gateway needs of a key.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Counts the changes of all keys. What a restored store holds counts as new.
    pub version: u64,
    /// Whether the key is dead.
    pub revoked: bool,
}

impl Mortal for Record {
    fn die(&mut self) {
        self.revoked = true;
    }
}

/// The store.
pub struct Store {
    state: Mutex<State>,
    witness: Arc<Witness>,
}

#[derive(Clone)]
struct State {
    records: BTreeMap<KeyHash, Record>,
    logs: BTreeMap<Shard, Log>,
    versions: u64,
}

#[derive(Clone)]
struct Log {
    end: Head,
    entries: Vec<LogEntry>,
}

/// A copy of a store, to go back to.
pub struct Snapshot(State);

impl Store {
    /// An empty store.
    pub fn new(witness: &Arc<Witness>) -> Store {
        let origin = |shard: Shard| Head { seq: 0, nonce: Nonce::from_u64(1_000 + shard.index() as u64) };
        let logs = shards().map(|shard| (shard, Log { end: origin(shard), entries: Vec::new() })).collect();
        let state = Mutex::new(State { records: BTreeMap::new(), logs, versions: 0 });
        Store { state, witness: Arc::clone(witness) }
    }

    /// What is stored under this hash.
    pub fn find(&self, hash: &KeyHash) -> Option<Record> {
        self.lock().records.get(hash).copied()
    }

    /// A change: record and log in one step. What is to be published.
    pub fn write(&self, kind: EventKind, hash: KeyHash) -> LogEntry {
        let mut state = self.lock();
        state.versions += 1;
        let version = state.versions;
        let record = state.records.entry(hash).or_insert(Record { version, revoked: false });
        record.version = version;
        record.revoked |= kind == EventKind::Revoked;
        let event = Event { kind, hash, id: None, at: Timestamp::from_millis(0) };
        let log = state.logs.get_mut(&event.shard()).expect("every key's shard has a log");
        let head = Head { seq: log.end.seq + 1, nonce: Nonce::from_u64(version) };
        let entry = LogEntry { head, prev: log.end.nonce, event };
        log.end = head;
        log.entries.push(entry.clone());
        self.witness.written(&entry);
        entry
    }

    /// Where the log of each shard ends.
    pub fn ends(&self) -> Vec<(Shard, Head)> {
        self.lock().logs.iter().map(|(shard, log)| (*shard, log.end)).collect()
    }

    /// What stands in a log behind `seq`.
    pub fn entries_after(&self, shard: Shard, seq: u64) -> Vec<LogEntry> {
        let state = self.lock();
        let entries = state.logs[&shard].entries.iter();
        entries.filter(|entry| entry.head.seq > seq).cloned().collect()
    }

    /// The older half of each log goes.
    pub fn trim(&self) {
        for log in self.lock().logs.values_mut() {
            log.entries.drain(..log.entries.len().div_ceil(2));
        }
    }

    /// A copy of what it holds.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.lock().clone())
    }

    /// It holds what it held, and has forgotten what came later: a failover, or a backup.
    pub fn restore(&self, snapshot: &Snapshot) {
        let mut state = self.lock();
        let mut versions = state.versions;
        *state = snapshot.0.clone();
        for record in state.records.values_mut() {
            versions += 1;
            record.version = versions;
        }
        state.versions = versions;
        self.witness.restored(&state.records);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("whoever panics here ends the model")
    }
}
