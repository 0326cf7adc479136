//! A store in memory whose outages a test decides, and a sink that remembers what it was told.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;

use crate::clock::Tick;
use crate::events::FeedSink;
use crate::model::{CheckSecret, Event, EventKind, KeyHash, KeyId, KeyRecord, Shard, Timestamp};
use crate::store::{
    Creation, Cursor, FleetSettings, KeyStore, ListQuery, Page, Revocation, StoreError, StoredKey, UsageBatch,
};

/// When this store revokes.
pub(crate) const REVOKED_AT: Timestamp = Timestamp::from_millis(1_764_000_500_000);

#[derive(Default)]
pub(crate) struct MemoryStore {
    keys: Mutex<HashMap<KeyId, KeyRecord>>,
    accepts_unchecked: AtomicBool,
    down: AtomicBool,
    refuses_revocations: AtomicBool,
    collisions: AtomicUsize,
}

impl MemoryStore {
    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    pub(crate) fn refuse_revocations(&self, refuse: bool) {
        self.refuses_revocations.store(refuse, Ordering::SeqCst);
    }

    pub(crate) fn collide_next(&self, times: usize) {
        self.collisions.store(times, Ordering::SeqCst);
    }

    pub(crate) fn accepts_unchecked(&self) -> bool {
        self.accepts_unchecked.load(Ordering::SeqCst)
    }

    fn answer(&self) -> Result<(), StoreError> {
        if self.down.load(Ordering::SeqCst) { Err(StoreError::unavailable("down")) } else { Ok(()) }
    }
}

fn unused(record: &KeyRecord) -> StoredKey {
    StoredKey { record: record.clone(), last_used_at: None, uses: 0 }
}

#[async_trait]
impl KeyStore for MemoryStore {
    async fn find(&self, hash: &KeyHash) -> Result<Option<KeyRecord>, StoreError> {
        self.answer()?;
        Ok(self.keys.lock().unwrap().values().find(|record| record.hash == *hash).cloned())
    }

    async fn get(&self, id: &KeyId) -> Result<Option<StoredKey>, StoreError> {
        self.answer()?;
        Ok(self.keys.lock().unwrap().get(id).map(unused))
    }

    async fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        self.answer()?;
        let mut found: Vec<KeyRecord> = self.keys.lock().unwrap().values().cloned().collect();
        found.sort_by_key(|record| std::cmp::Reverse((record.created_at, record.id)));
        found.retain(|record| {
            query.team.as_ref().is_none_or(|team| *team == record.team)
                && query.environment.is_none_or(|environment| environment == record.environment)
                && query.status.is_none_or(|(status, now)| record.status(now) == status)
                && query
                    .after
                    .is_none_or(|after| (record.created_at, record.id) < (after.created_at, after.id))
        });
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let last = found.last().map(|last| Cursor { created_at: last.created_at, id: last.id });
        Ok(Page { keys: found.iter().map(unused).collect(), next: last.filter(|_| more) })
    }

    async fn create(&self, record: &KeyRecord) -> Result<Creation, StoreError> {
        self.answer()?;
        let collides = |left: usize| left.checked_sub(1);
        if self.collisions.fetch_update(Ordering::SeqCst, Ordering::SeqCst, collides).is_ok() {
            return Ok(Creation::AlreadyThere);
        }
        let mut keys = self.keys.lock().unwrap();
        if keys.values().any(|known| known.hash == record.hash || known.id == record.id) {
            return Ok(Creation::AlreadyThere);
        }
        keys.insert(record.id, record.clone());
        Ok(Creation::Created)
    }

    async fn revoke(&self, id: &KeyId) -> Result<Option<Revocation>, StoreError> {
        self.answer()?;
        if self.refuses_revocations.load(Ordering::SeqCst) {
            return Err(StoreError::unavailable("read only"));
        }
        Ok(self.keys.lock().unwrap().get_mut(id).map(|record| {
            let newly = record.revoked_at.is_none();
            record.revoked_at.get_or_insert(REVOKED_AT);
            Revocation { record: record.clone(), newly }
        }))
    }

    async fn record_uses(&self, _: &UsageBatch) -> Result<(), StoreError> {
        self.answer()
    }

    async fn fleet(&self) -> Result<FleetSettings, StoreError> {
        self.answer()?;
        Ok(FleetSettings {
            store_id: "0".repeat(32),
            check_secrets: vec![CheckSecret::from_bytes([1; 32]), CheckSecret::from_bytes([2; 32])],
            accept_unchecked_keys: self.accepts_unchecked(),
        })
    }

    async fn accept_unchecked_keys(&self, accept: bool) -> Result<(), StoreError> {
        self.answer()?;
        self.accepts_unchecked.store(accept, Ordering::SeqCst);
        Ok(())
    }
}

/// Remembers events in the order in which they were told.
#[derive(Default)]
pub(crate) struct HeardEvents(Mutex<Vec<(EventKind, KeyHash)>>);

impl HeardEvents {
    pub(crate) fn take(&self) -> Vec<(EventKind, KeyHash)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl FeedSink for HeardEvents {
    fn apply(&self, event: &Event) {
        self.0.lock().unwrap().push((event.kind, event.hash));
    }

    fn gap(&self, _: Shard) {}

    fn current(&self, _: Shard, _: Tick) {}

    fn connected(&self, _: bool) {}
}
