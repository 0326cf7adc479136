//! The flusher against a real store whose way is sometimes cut.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;

use super::*;
use crate::clock::ManualClock;
use crate::model::{Environment, GatewayId, Head, KeyHash, KeyRecord, Member, Timestamp};
use crate::store::sqlite::SqliteStore;
use crate::store::{
    self, Creation, Durability, FleetSettings, ListQuery, Page, Revocation, Rotation, StoreReport, StoredKey,
};
use crate::usage::Use;

const WORKS: u8 = 0;
/// The batch does not reach the store.
const CUT: u8 = 1;
/// The batch is written, and the answer gets lost.
const DEAF: u8 = 2;

/// A store behind a way that can be cut, and what was sent on it.
struct CutOff {
    store: SqliteStore,
    way: AtomicU8,
    sent: Mutex<Vec<UsageBatch>>,
    _directory: tempfile::TempDir,
}

#[async_trait]
impl KeyStore for CutOff {
    async fn record_uses(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        self.sent.lock().unwrap().push(batch.clone());
        let way = self.way.load(Ordering::SeqCst);
        if way != CUT {
            self.store.record_uses(batch).await?;
        }
        if way == WORKS { Ok(()) } else { Err(StoreError::unavailable("cut")) }
    }
    async fn get(&self, id: &KeyId) -> Result<Option<StoredKey>, StoreError> {
        self.store.get(id).await
    }
    async fn create_from(&self, record: &KeyRecord, origin: &store::Origin) -> Result<Creation, StoreError> {
        self.store.create_from(record, origin).await
    }
    async fn recall(&self, shard: Shard, name: &[u8; 32]) -> Result<Option<store::Earlier>, StoreError> {
        self.store.recall(shard, name).await
    }
    async fn edit(
        &self,
        before: &KeyRecord,
        after: &store::Editable,
    ) -> Result<Option<store::Edit>, StoreError> {
        self.store.edit(before, after).await
    }
    async fn changes(&self, id: &KeyId) -> Result<Vec<store::Change>, StoreError> {
        self.store.changes(id).await
    }
    async fn counts(
        &self,
        id: &KeyId,
        period: store::Period,
        count: usize,
        now: Timestamp,
    ) -> Result<Vec<store::PeriodCount>, StoreError> {
        self.store.counts(id, period, count, now).await
    }
    async fn find(&self, hash: &KeyHash) -> Result<Option<KeyRecord>, StoreError> {
        self.store.find(hash).await
    }
    async fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        self.store.list(query).await
    }
    async fn revoke(&self, id: &KeyId) -> Result<Option<Revocation>, StoreError> {
        self.store.revoke(id).await
    }
    async fn fleet(&self) -> Result<FleetSettings, StoreError> {
        self.store.fleet().await
    }
    async fn accept_unchecked_keys(&self, accept: bool) -> Result<(), StoreError> {
        self.store.accept_unchecked_keys(accept).await
    }
    async fn assert_revoked(&self, hash: &KeyHash) -> Result<bool, StoreError> {
        self.store.assert_revoked(hash).await
    }
    async fn rotate_once(
        &self,
        old: &KeyId,
        new: &KeyRecord,
        retires_at: Timestamp,
        once: Option<&store::Once>,
    ) -> Result<Option<Rotation>, StoreError> {
        self.store.rotate_once(old, new, retires_at, once).await
    }
    async fn canary(&self, shard: Shard, interval: Duration) -> Result<(), StoreError> {
        self.store.canary(shard, interval).await
    }
    async fn confirm_durable(&self, shard: Shard, within: Duration) -> Durability {
        self.store.confirm_durable(shard, within).await
    }
    async fn attend(&self, member: &Member) -> Result<(), StoreError> {
        self.store.attend(member).await
    }
    async fn leave(&self, id: GatewayId, beat: u64) -> Result<(), StoreError> {
        self.store.leave(id, beat).await
    }
    async fn holds(&self, shard: Shard, places: &[Head]) -> Result<Vec<bool>, StoreError> {
        self.store.holds(shard, places).await
    }
    async fn roll(&self) -> Result<Vec<Member>, StoreError> {
        self.store.roll().await
    }
    async fn inspect(&self) -> Result<StoreReport, StoreError> {
        self.store.inspect().await
    }
    async fn accept(&self, found: Option<&str>) -> Result<(), StoreError> {
        self.store.accept(found).await
    }
}

struct World {
    store: Arc<CutOff>,
    usage: Arc<Usage>,
    flusher: Flusher,
}

impl World {
    fn new(max_pending: usize) -> World {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(at(0)));
        let store = SqliteStore::open(&directory.path().join("keys"), clock, None, Box::new(|_| ())).unwrap();
        let (way, sent) = (AtomicU8::new(WORKS), Mutex::default());
        let store = Arc::new(CutOff { store, way, sent, _directory: directory });
        let metrics = Arc::new(Metrics::new());
        let usage = Arc::new(Usage::new(max_pending, Arc::clone(&metrics)));
        let flusher = Flusher::new(Arc::clone(&usage), Arc::clone(&store) as Arc<dyn KeyStore>, metrics);
        World { store, usage, flusher }
    }

    async fn key(&self, n: u8) -> KeyId {
        let hash = KeyHash::from_bytes([n; 32]);
        let id = KeyId::new(Shard::of(&hash), [n; 10]);
        let record = KeyRecord {
            id,
            hash,
            label: "test".into(),
            team: "acme".into(),
            environment: Environment::Live,
            display: "sk_live_0000…0000".into(),
            created_at: at(0),
            expires_at: None,
            revoked_at: None,
            retires_at: None,
            replaced_by: None,
            replaces: None,
        };
        assert_eq!(self.store.create(&record).await.unwrap(), Creation::Created);
        id
    }

    async fn written(&self, key: KeyId) -> (Option<i64>, u64) {
        let stored = self.store.get(&key).await.unwrap().unwrap();
        (stored.activity.last_used_at.map(Timestamp::as_millis), stored.activity.uses)
    }

    fn set_way(&self, way: u8) {
        self.store.way.store(way, Ordering::SeqCst);
    }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

#[tokio::test]
async fn uses_of_many_keys_are_one_batch_a_shard() {
    let mut world = World::new(100);
    let keys = [world.key(0x11).await, world.key(0x12).await, world.key(0x21).await];
    for (key, used) in keys.into_iter().zip([5, 6, 7]) {
        world.usage.note(key, Use::Permitted, at(used));
        world.usage.note(key, Use::Permitted, at(used - 1));
    }
    world.flusher.flush().await;
    assert_eq!(world.store.sent.lock().unwrap().len(), 2);
    assert_eq!(world.written(keys[0]).await, (Some(5), 2));
    assert_eq!(world.written(keys[2]).await, (Some(7), 2));
    assert_eq!(world.usage.pending(), 0);
}

#[tokio::test]
async fn a_failed_flush_is_kept_and_merged() {
    let mut world = World::new(100);
    let key = world.key(1).await;
    world.set_way(CUT);
    for used in [5, 9] {
        world.usage.note(key, Use::Permitted, at(used));
        world.flusher.flush().await;
    }
    assert_eq!(world.written(key).await, (None, 0));
    world.set_way(WORKS);
    world.usage.note(key, Use::Permitted, at(7));
    world.flusher.flush().await;
    assert_eq!(world.written(key).await, (Some(9), 3));
    assert_eq!(world.usage.pending(), 0);
}

#[tokio::test]
async fn a_batch_whose_answer_was_lost_counts_once() {
    let mut world = World::new(100);
    let key = world.key(1).await;
    world.set_way(DEAF);
    world.usage.note(key, Use::Permitted, at(5));
    world.flusher.flush().await;
    world.usage.note(key, Use::Permitted, at(6));
    world.flusher.flush().await;
    world.set_way(WORKS);
    world.flusher.flush().await;
    assert_eq!(world.written(key).await, (Some(6), 2));
    let sent = world.store.sent.lock().unwrap();
    assert_eq!(sent[0], sent[1], "sent again unchanged");
    assert_eq!(sent[0], sent[2], "sent again unchanged");
    assert_ne!(sent[2].id, sent[3].id);
}

#[tokio::test]
async fn what_waits_is_bounded_while_the_store_is_away_and_known_keys_go_on() {
    let mut world = World::new(2);
    let keys = [world.key(1).await, world.key(2).await, world.key(3).await];
    world.set_way(CUT);
    for used in 1..=4 {
        for key in keys {
            world.usage.note(key, Use::Permitted, at(used));
        }
        world.flusher.flush().await;
        assert!(world.usage.pending() <= 6);
    }
    world.set_way(WORKS);
    world.flusher.flush().await;
    assert_eq!(world.usage.pending(), 0);
    assert_eq!(world.written(keys[0]).await, (Some(4), 4));
    assert_eq!(world.written(keys[2]).await, (None, 0));
}

#[tokio::test]
async fn everything_is_written_at_once_on_shutdown() {
    let world = World::new(100);
    let key = world.key(1).await;
    let (World { store, usage, flusher }, hour) = (world, Duration::from_secs(3_600));
    usage.note(key, Use::Permitted, at(5));
    flusher.run(hour, std::future::ready(())).await;
    let stored = store.get(&key).await.unwrap().unwrap();
    assert_eq!(stored.activity.last_used_at, Some(at(5)));
}

#[tokio::test]
async fn attempts_with_a_dead_key_are_written_as_uses_are() {
    let mut world = World::new(100);
    let key = world.key(1).await;
    world.usage.note(key, Use::InGrace, at(5));
    world.flusher.flush().await;
    for tried in [7, 9, 8] {
        world.usage.note(key, Use::Refused, at(tried));
    }
    world.flusher.flush().await;
    let written = world.store.get(&key).await.unwrap().unwrap().activity;
    assert_eq!((written.last_used_at, written.uses, written.uses_in_grace), (Some(at(5)), 1, 1));
    assert_eq!((written.last_refused_at, written.refusals), (Some(at(9)), 3));
}

#[tokio::test]
async fn what_waits_through_an_outage_counts_in_the_hour_in_which_it_was() {
    let mut world = World::new(100);
    let key = world.key(1).await;
    let hour = store::Period::Hour.millis();
    world.set_way(CUT);
    for (used, what) in
        [(0, Use::Permitted), (1, Use::Permitted), (5 * hour, Use::Permitted), (6 * hour, Use::Refused)]
    {
        world.usage.note(key, what, at(used));
        world.flusher.flush().await;
    }
    world.set_way(WORKS);
    world.flusher.flush().await;
    let counts = world.store.counts(&key, store::Period::Hour, 7, at(6 * hour)).await.unwrap();
    let counts: Vec<_> = counts.iter().map(|count| (count.uses, count.refusals)).collect();
    assert_eq!(counts, [(2, 0), (0, 0), (0, 0), (0, 0), (0, 0), (1, 0), (0, 1)]);
    assert_eq!((world.written(key).await, world.usage.pending()), ((Some(5 * hour), 3), 0));
}
