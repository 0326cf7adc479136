//! The verifier against a store whose answers can be held back: the interleavings that matter, one by one.

mod near;
mod unchecked;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, Semaphore};

use super::policy::{Facts, permit};
use super::*;
use crate::clock::ManualClock;
use crate::model::{CheckSecret, Head, KeyFormat, KeyId, KeyRecord, Timestamp};
use crate::model::{GatewayId, Member};
use crate::store::{
    self, Creation, Durability, FleetSettings, ListQuery, Page, Revocation, Rotation, StoreReport, StoredKey,
    UsageBatch,
};

/// A store that answers with what it held when it was *asked*, as soon as the gate lets the answer through.
struct GatedStore {
    records: StdMutex<HashMap<KeyHash, KeyRecord>>,
    asked: AtomicUsize,
    asked_once: Notify,
    gate: Semaphore,
    failing: AtomicBool,
    accept_unchecked: AtomicBool,
    asked_for_fleet: AtomicUsize,
}

const OPEN: usize = 1_000_000;

fn secret() -> CheckSecret {
    CheckSecret::from_bytes([8; 32])
}

#[async_trait]
impl KeyStore for GatedStore {
    async fn find(&self, hash: &KeyHash) -> Result<Option<KeyRecord>, StoreError> {
        let answer = self.records.lock().unwrap().get(hash).cloned();
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.asked_once.notify_one();
        self.gate.acquire().await.expect("never closed").forget();
        if self.failing.load(Ordering::SeqCst) {
            return Err(StoreError::TimedOut(Duration::from_millis(100)));
        }
        Ok(answer)
    }

    async fn fleet(&self) -> Result<FleetSettings, StoreError> {
        self.asked_for_fleet.fetch_add(1, Ordering::SeqCst);
        if self.failing.load(Ordering::SeqCst) {
            return Err(StoreError::TimedOut(Duration::from_secs(2)));
        }
        Ok(FleetSettings {
            store_id: "0".repeat(32),
            check_secrets: vec![secret()],
            accept_unchecked_keys: self.accept_unchecked.load(Ordering::SeqCst),
        })
    }

    async fn get(&self, _: &KeyId) -> Result<Option<StoredKey>, StoreError> {
        unreachable!("the verifier does not ask for this")
    }
    async fn list(&self, _: &ListQuery) -> Result<Page, StoreError> {
        unreachable!("the verifier does not ask for this")
    }
    async fn create_from(&self, _: &KeyRecord, _: &store::Origin) -> Result<Creation, StoreError> {
        unreachable!("the verifier does not ask for this")
    }
    async fn recall(&self, _: Shard, _: &[u8; 32]) -> Result<Option<store::Earlier>, StoreError> {
        unreachable!("the verifier does not ask for this")
    }
    async fn edit(&self, _: &KeyRecord, _: &store::Editable) -> Result<Option<store::Edit>, StoreError> {
        unreachable!("the verifier does not ask for this")
    }
    async fn changes(&self, _: &KeyId) -> Result<Vec<store::Change>, StoreError> {
        unreachable!("the verifier does not ask for this")
    }
    async fn counts(
        &self,
        _: &KeyId,
        _: store::Period,
        _: usize,
        _: Timestamp,
    ) -> Result<Vec<store::PeriodCount>, StoreError> {
        unreachable!("the verifier does not ask for this")
    }
    async fn revoke(&self, _: &KeyId) -> Result<Option<Revocation>, StoreError> {
        unreachable!("the verifier does not ask for this")
    }
    async fn assert_revoked(&self, _: &KeyHash) -> Result<bool, StoreError> {
        unreachable!("the verifier does not ask for this")
    }
    async fn rotate_once(
        &self,
        _: &KeyId,
        _: &KeyRecord,
        _: Timestamp,
        _: Option<&store::Once>,
    ) -> Result<Option<Rotation>, StoreError> {
        unreachable!("the verifier does not ask for this")
    }
    async fn record_uses(&self, _: &UsageBatch) -> Result<(), StoreError> {
        unreachable!("the verifier does not ask for this")
    }
    async fn accept_unchecked_keys(&self, _: bool) -> Result<(), StoreError> {
        unreachable!("the verifier does not ask for this")
    }
    async fn canary(&self, _: Shard, _: Duration) -> Result<(), StoreError> {
        unreachable!("the verifier does not ask for this")
    }
    async fn confirm_durable(&self, _: Shard, _: Duration) -> Durability {
        unreachable!("the verifier does not ask for this")
    }
    async fn attend(&self, _: &Member) -> Result<(), StoreError> {
        unreachable!("the verifier does not ask for this")
    }
    async fn leave(&self, _: GatewayId, _: u64) -> Result<(), StoreError> {
        unreachable!("the verifier does not ask for this")
    }
    async fn holds(&self, _: Shard, _: &[Head]) -> Result<Vec<bool>, StoreError> {
        unreachable!("the verifier does not ask for this")
    }
    async fn roll(&self) -> Result<Vec<Member>, StoreError> {
        unreachable!("the verifier does not ask for this")
    }
    async fn inspect(&self) -> Result<StoreReport, StoreError> {
        unreachable!("the verifier does not ask for this")
    }
    async fn accept(&self, _: Option<&str>) -> Result<(), StoreError> {
        unreachable!("the verifier does not ask for this")
    }
}

struct World {
    store: Arc<GatedStore>,
    verifier: Arc<Verifier>,
    clock: ManualClock,
    format: KeyFormat,
    /// Of the worker that decides, so that whatever holds of the verifier is seen to hold behind it.
    loader: Loader,
    near: StdMutex<NearCache>,
}

impl World {
    async fn new(permits: usize, accept_unchecked: bool) -> World {
        let store = Arc::new(GatedStore {
            records: StdMutex::default(),
            asked: AtomicUsize::new(0),
            asked_once: Notify::new(),
            gate: Semaphore::new(permits),
            failing: AtomicBool::new(false),
            accept_unchecked: AtomicBool::new(accept_unchecked),
            asked_for_fleet: AtomicUsize::new(0),
        });
        let clock = ManualClock::at(Timestamp::from_millis(1_764_000_000_000));
        clock.advance(Duration::from_secs(10));
        let settings = VerifierSettings {
            capacity: Capacity {
                max_bytes: 1 << 20,
                ttl: Duration::from_secs(300),
                unknown_entries: 1_000,
                unknown_ttl: Duration::from_secs(10),
            },
            max_staleness: Duration::from_secs(300),
            unchecked_per_second: 3,
            unchecked_at_once: 2,
        };
        let verifier = Arc::new(Verifier::new(
            Arc::clone(&store) as Arc<dyn KeyStore>,
            &settings,
            Arc::new(clock.clone()),
            Arc::new(Metrics::new()),
        ));
        verifier.refresh_fleet().await.unwrap();
        verifier.attended(clock.now().tick);
        Shard::all().for_each(|shard| verifier.current(shard, clock.now().tick));
        let format = KeyFormat::new("sk").unwrap();
        let loader = verifier.near().loader;
        World { store, verifier, clock, format, loader, near: StdMutex::default() }
    }

    fn key(&self, n: u8) -> ApiKey {
        self.format.mint(Environment::Live, [n; 24], &secret())
    }

    fn unchecked_key(&self, n: u8) -> ApiKey {
        self.format.mint(Environment::Live, [n; 24], &CheckSecret::from_bytes([1; 32]))
    }

    fn put(&self, key: &ApiKey) {
        let hash = key.hash();
        let record = KeyRecord {
            id: KeyId::new(Shard::of(&hash), [1; 10]),
            hash,
            label: "test".into(),
            team: "acme".into(),
            environment: key.environment(),
            display: key.display(),
            created_at: Timestamp::from_millis(0),
            expires_at: None,
            revoked_at: None,
            retires_at: None,
            replaced_by: None,
            replaces: None,
        };
        self.store.records.lock().unwrap().insert(hash, record);
    }

    fn revoke(&self, key: &ApiKey) {
        self.revoke_untold(key);
        self.tell(EventKind::Revoked, key);
    }

    /// In the store alone.
    fn revoke_untold(&self, key: &ApiKey) {
        let mut records = self.store.records.lock().unwrap();
        records.get_mut(&key.hash()).unwrap().revoked_at = Some(Timestamp::from_millis(1));
    }

    fn tell(&self, kind: EventKind, key: &ApiKey) {
        let (hash, at) = (key.hash(), self.clock.now().wall);
        self.verifier.apply(&Event { kind, hash, id: Some(KeyId::new(Shard::of(&hash), [1; 10])), at });
    }

    async fn decide(&self, key: &ApiKey) -> Result<(), Denial> {
        let facts = Facts { serves_live: true, serves_sandbox: true };
        let decided = async {
            let verifying =
                self.verifier.verify_by(&self.loader, key, &self.near.lock().unwrap(), self.clock.now());
            permit(verifying.await?, &facts).map(drop)
        };
        decided.await.map_err(|refused: Refused| refused.denial)
    }

    /// Time passes, and each second all is proved anew, as a feed does that stands.
    fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.verifier.attended(self.clock.now().tick);
        Shard::all().for_each(|shard| self.verifier.current(shard, self.clock.now().tick));
    }

    /// Waits until the store was asked so often in all.
    async fn until_asked(&self, times: usize) {
        while self.asked() < times {
            tokio::task::yield_now().await;
        }
    }

    /// A request that runs on its own, with the store's answer to it held back.
    async fn begin(self: &Arc<Self>, key: u8) -> tokio::task::JoinHandle<Result<(), Denial>> {
        let world = Arc::clone(self);
        let request = tokio::spawn(async move { world.decide(&world.key(key)).await });
        self.store.asked_once.notified().await;
        request
    }

    /// Decides and waits until what was begun behind the request's back has ended.
    async fn decide_and_settle(&self, key: &ApiKey) -> Result<(), Denial> {
        let decided = self.decide(key).await;
        while !self.verifier.flights_are_over() {
            tokio::task::yield_now().await;
        }
        decided
    }

    fn asked(&self) -> usize {
        self.store.asked.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn what_was_loaded_since_a_request_looked_is_not_loaded_once_more() {
    let world = World::new(OPEN, false).await;
    let key = world.key(1);
    world.put(&key);
    world.decide(&key).await.unwrap();
    let spelling = Spelling { environment: key.environment(), checked: true };
    world.verifier.look_up(&world.loader, key.hash(), spelling, Lookup::Miss).await.unwrap();
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn a_load_that_ends_with_another_worker_is_begun_anew() {
    let world = Arc::new(World::new(0, false).await);
    world.put(&world.key(1));
    let worker = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let first = worker.spawn({
        let world = Arc::clone(&world);
        async move { world.decide(&world.key(1)).await }
    });
    world.until_asked(1).await;
    let second = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.decide(&world.key(1)).await }
    });
    tokio::task::yield_now().await;
    worker.shutdown_background();
    assert!(first.await.is_err(), "its worker is gone");
    world.store.gate.add_permits(OPEN);
    assert_eq!(second.await.unwrap(), Ok(()));
    assert_eq!(world.asked(), 2);
}

#[tokio::test]
async fn a_good_key_is_read_once_and_then_remembered() {
    let world = World::new(OPEN, false).await;
    world.put(&world.key(1));
    for _ in 0..3 {
        assert_eq!(world.decide(&world.key(1)).await, Ok(()));
    }
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn a_load_that_began_before_a_revocation_does_not_bring_the_key_back() {
    let world = Arc::new(World::new(0, false).await);
    world.put(&world.key(1));
    let early = world.begin(1).await;
    world.revoke(&world.key(1));
    world.store.gate.add_permits(OPEN);
    assert_eq!(early.await.unwrap(), Err(Denial::KeyRevoked));
    assert_eq!(world.decide(&world.key(1)).await, Err(Denial::KeyRevoked));
}

#[tokio::test]
async fn a_load_that_began_before_a_change_does_not_leave_the_old_record_behind() {
    let world = Arc::new(World::new(0, false).await);
    world.put(&world.key(1));
    let early = world.begin(1).await;
    let now = world.clock.now().wall;
    world.store.records.lock().unwrap().get_mut(&world.key(1).hash()).unwrap().expires_at = Some(now);
    world.tell(EventKind::Changed, &world.key(1));
    world.store.gate.add_permits(OPEN);
    assert_eq!(early.await.unwrap(), Err(Denial::KeyExpired));
    assert_eq!(world.decide(&world.key(1)).await, Err(Denial::KeyExpired));
}

#[tokio::test]
async fn a_request_that_joins_an_older_load_is_judged_by_its_own_start() {
    let world = Arc::new(World::new(0, false).await);
    world.put(&world.key(1));
    let early = world.begin(1).await;
    // The store forgets the revocation again: only the gateway's own knowledge can refuse now.
    world.tell(EventKind::Revoked, &world.key(1));
    let late = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.decide(&world.key(1)).await }
    });
    tokio::task::yield_now().await;
    world.store.gate.add_permits(OPEN);
    assert_eq!(late.await.unwrap(), Err(Denial::KeyRevoked));
    assert_eq!(early.await.unwrap(), Err(Denial::KeyRevoked));
}

#[tokio::test]
async fn a_store_that_lost_a_revocation_does_not_bring_the_key_back() {
    let world = World::new(OPEN, false).await;
    world.put(&world.key(1));
    world.tell(EventKind::Revoked, &world.key(1));
    for shard in Shard::all() {
        world.verifier.gap(shard, Gap::Forked);
    }
    assert_eq!(world.decide(&world.key(1)).await, Err(Denial::KeyRevoked));
    world.tell(EventKind::Changed, &world.key(1));
    assert_eq!(world.decide(&world.key(1)).await, Err(Denial::KeyRevoked));
}

#[tokio::test]
async fn a_revoked_key_is_refused_as_such_even_while_the_store_is_away() {
    let world = World::new(OPEN, false).await;
    world.put(&world.key(1));
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
    world.store.failing.store(true, Ordering::SeqCst);
    world.tell(EventKind::Revoked, &world.key(1));
    assert_eq!(world.decide(&world.key(1)).await, Err(Denial::KeyRevoked));
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn a_key_created_right_after_it_was_refused_as_unknown_works_at_once() {
    let world = World::new(OPEN, false).await;
    assert_eq!(world.decide(&world.key(1)).await, Err(Denial::KeyUnknown));
    assert_eq!(world.decide(&world.key(1)).await, Err(Denial::KeyUnknown));
    assert_eq!(world.asked(), 1, "unknown is remembered");
    world.put(&world.key(1));
    world.tell(EventKind::Created, &world.key(1));
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
}

#[tokio::test]
async fn unknown_is_remembered_briefly() {
    let world = World::new(OPEN, false).await;
    assert_eq!(world.decide(&world.key(1)).await, Err(Denial::KeyUnknown));
    world.put(&world.key(1));
    world.clock.advance(Duration::from_secs(11));
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
}

#[tokio::test]
async fn a_gap_in_the_feed_makes_every_record_load_again() {
    let world = World::new(OPEN, false).await;
    world.put(&world.key(1));
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
    world.verifier.gap(Shard::of(&world.key(1).hash()), Gap::Trimmed);
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
    assert_eq!(world.asked(), 2);
}

#[tokio::test]
async fn nothing_outlives_its_time_to_live() {
    let world = World::new(OPEN, false).await;
    world.put(&world.key(1));
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
    world.store.failing.store(true, Ordering::SeqCst);
    world.pass(Duration::from_secs(300));
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
    world.pass(Duration::from_millis(1));
    assert_eq!(world.decide(&world.key(1)).await, Err(Denial::VerificationUnavailable));
    world.store.failing.store(false, Ordering::SeqCst);
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
}

#[tokio::test]
async fn a_key_in_use_is_looked_up_again_at_half_its_time_to_live_and_nobody_waits() {
    let world = World::new(1, false).await;
    world.put(&world.key(1));
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
    world.pass(Duration::from_secs(100));
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
    assert_eq!(world.asked(), 1, "it is too early");
    world.pass(Duration::from_secs(50));
    for _ in 0..10 {
        // The store holds its answer back: nobody waits for it, and nobody asks again.
        assert_eq!(world.decide(&world.key(1)).await, Ok(()));
    }
    world.until_asked(2).await;
    world.store.gate.add_permits(OPEN);
    while !world.verifier.flights_are_over() {
        tokio::task::yield_now().await;
    }
    world.pass(Duration::from_secs(299));
    world.store.failing.store(true, Ordering::SeqCst);
    assert_eq!(world.decide(&world.key(1)).await, Ok(()), "its time began anew");
}

#[tokio::test]
async fn while_the_feed_is_in_doubt_a_key_in_use_is_looked_up_each_second() {
    let world = World::new(OPEN, false).await;
    world.put(&world.key(1));
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
    world.clock.advance(Duration::from_secs(3));
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
    assert_eq!(world.asked(), 1, "three seconds are no doubt yet");
    for second in 0..5 {
        world.clock.advance(Duration::from_secs(1));
        for _ in 0..10 {
            assert_eq!(world.decide(&world.key(1)).await, Ok(()));
        }
        assert_eq!(world.asked(), second + 2);
    }
    // What the feed does not tell is found out all the same, and by the first request.
    world.revoke_untold(&world.key(1));
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.decide(&world.key(1)).await, Err(Denial::KeyRevoked));
    // And by the ones after it.
    for _ in 0..3 {
        world.clock.advance(Duration::from_millis(100));
        assert_eq!(world.decide(&world.key(1)).await, Err(Denial::KeyRevoked));
    }
}

#[tokio::test]
async fn in_doubt_and_without_a_store_a_record_serves_on_within_the_rule() {
    let world = World::new(OPEN, false).await;
    world.put(&world.key(1));
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
    world.store.failing.store(true, Ordering::SeqCst);
    for _ in 0..300 {
        world.clock.advance(Duration::from_secs(1));
        for _ in 0..3 {
            assert_eq!(world.decide(&world.key(1)).await, Ok(()));
        }
    }
    assert!(world.asked() <= 299, "at most once a second: {}", world.asked());
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(world.decide(&world.key(1)).await, Err(Denial::VerificationUnavailable));
}

#[tokio::test]
async fn who_is_not_on_the_roll_looks_nothing_up_and_proves_nothing() {
    let world = World::new(OPEN, false).await;
    world.put(&world.key(1));
    world.put(&world.key(2));
    // Heard for the last time 300 s ago: that is the limit.
    world.clock.advance(Duration::from_secs(300));
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(world.decide(&world.key(2)).await, Err(Denial::VerificationUnavailable));
    Shard::all().for_each(|shard| world.verifier.current(shard, world.clock.now().tick));
    world.clock.advance(Duration::from_secs(299));
    assert_eq!(world.decide(&world.key(1)).await, Ok(()), "by the proof of its own load");
    world.clock.advance(Duration::from_secs(2));
    assert_eq!(world.decide(&world.key(1)).await, Err(Denial::VerificationUnavailable));
    world.verifier.attended(world.clock.now().tick);
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
}

#[tokio::test]
async fn a_refusal_of_a_dead_key_says_whose_it_is() {
    let world = World::new(OPEN, false).await;
    let id = KeyId::new(Shard::of(&world.key(1).hash()), [1; 10]);
    world.put(&world.key(1));
    world.revoke(&world.key(1));
    let refused =
        world.verifier.verify(&world.key(1), &world.verifier.near(), world.clock.now()).await.unwrap_err();
    assert_eq!(refused, Refused { denial: Denial::KeyRevoked, key_id: Some(id) });
    assert_eq!(world.verifier.hash_of(&id), None, "and it is not remembered any more");
    world.put(&world.key(2));
    assert_eq!(world.decide(&world.key(2)).await, Ok(()));
    let other = KeyId::new(Shard::of(&world.key(2).hash()), [1; 10]);
    assert_eq!(world.verifier.hash_of(&other), Some(world.key(2).hash()));
}

fn one_of_its_shard(hash: &KeyHash, number: usize) -> Event {
    let mut bytes = *hash.as_bytes();
    bytes[1..9].copy_from_slice(&(number as u64).to_le_bytes());
    let at = Timestamp::from_millis(1);
    Event { kind: EventKind::Revoked, hash: KeyHash::from_bytes(bytes), id: None, at }
}

#[tokio::test]
async fn an_old_revocation_is_forgotten_only_when_the_store_is_seen_to_hold_it() {
    let world = World::new(OPEN, false).await;
    let hash = world.key(1).hash();
    world.put(&world.key(1));
    world.tell(EventKind::Revoked, &world.key(1));
    let is_known = || world.verifier.memory.death(&hash).is_some();
    for number in 1..DEATHS_KEPT {
        world.pass(Duration::from_nanos(1));
        world.verifier.apply_own(&one_of_its_shard(&hash, number));
    }
    world.revoke_untold(&world.key(1));
    world.pass(DEATHS_KEPT_FOR + Duration::from_secs(1));
    world.verifier.forget_old_deaths().await;
    assert!(is_known(), "the log may still tell of it");
    world.verifier.apply_own(&one_of_its_shard(&hash, DEATHS_KEPT));
    world.put(&world.key(1));
    world.verifier.forget_old_deaths().await;
    assert!(is_known(), "the store does not hold it");
    world.revoke_untold(&world.key(1));
    world.verifier.forget_old_deaths().await;
    assert!(world.verifier.memory.death(&hash).is_none());
    assert_eq!(world.decide(&world.key(1)).await, Err(Denial::KeyRevoked));
}

#[tokio::test]
async fn an_outage_is_not_a_denial_and_is_not_remembered() {
    let world = World::new(OPEN, false).await;
    world.put(&world.key(1));
    world.store.failing.store(true, Ordering::SeqCst);
    assert_eq!(world.decide(&world.key(1)).await, Err(Denial::VerificationUnavailable));
    world.store.failing.store(false, Ordering::SeqCst);
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
}

#[tokio::test]
async fn a_permit_is_judged_again_after_a_wait() {
    let world = World::new(OPEN, false).await;
    world.put(&world.key(1));
    let facts = Facts { serves_live: true, serves_sandbox: true };
    let verified =
        world.verifier.verify(&world.key(1), &world.verifier.near(), world.clock.now()).await.unwrap();
    let policy::Permit::Live(permit) = permit(verified, &facts).unwrap() else {
        panic!("a live key has a live permit")
    };
    assert_eq!(world.verifier.confirm(&permit).await, Ok(()));
    world.tell(EventKind::Changed, &world.key(1));
    assert_eq!(world.verifier.confirm(&permit).await, Ok(()), "changed, but still good");
    world.revoke(&world.key(1));
    assert_eq!(world.verifier.confirm(&permit).await.unwrap_err().denial, Denial::KeyRevoked);
}

#[tokio::test]
async fn a_key_that_expires_while_its_request_waits_is_refused() {
    let world = World::new(OPEN, false).await;
    world.put(&world.key(1));
    let soon = world.clock.now().wall.plus(Duration::from_secs(1));
    world.store.records.lock().unwrap().get_mut(&world.key(1).hash()).unwrap().expires_at = Some(soon);
    let facts = Facts { serves_live: true, serves_sandbox: true };
    let verified =
        world.verifier.verify(&world.key(1), &world.verifier.near(), world.clock.now()).await.unwrap();
    let policy::Permit::Live(permit) = permit(verified, &facts).unwrap() else {
        panic!("a live key has a live permit")
    };
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.verifier.confirm(&permit).await.unwrap_err().denial, Denial::KeyExpired);
}

#[tokio::test]
async fn before_the_fleets_settings_are_known_nobody_can_say() {
    let world = World::new(OPEN, false).await;
    world.verifier.fleet.forget();
    assert_eq!(world.decide(&world.key(1)).await, Err(Denial::VerificationUnavailable));
}
