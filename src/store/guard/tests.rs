use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::*;
use crate::clock::ManualClock;
use crate::model::Timestamp;
use crate::store::{self, Mismatch};

const HASH: KeyHash = KeyHash::from_bytes([7; 32]);

/// Fails, hangs or answers as it is told; counts how often it was asked.
#[derive(Default)]
struct Scripted {
    mood: std::sync::Mutex<Mood>,
    asked: AtomicUsize,
    release: Notify,
}

#[derive(Clone, Copy, Default)]
enum Mood {
    #[default]
    Answers,
    Fails,
    Unreadable,
    IsAnothers,
    Hangs,
    WaitsForRelease,
}

impl Scripted {
    fn is_in(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    async fn act(&self) -> Result<(), StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Answers => Ok(()),
            Mood::Fails => Err(StoreError::unavailable("scripted")),
            Mood::Unreadable => Err(StoreError::Corrupt("scripted".to_owned())),
            Mood::IsAnothers => Err(StoreError::NotOurs(Mismatch::Empty)),
            Mood::Hangs => std::future::pending().await,
            Mood::WaitsForRelease => {
                self.release.notified().await;
                Ok(())
            }
        }
    }
}

#[async_trait]
impl KeyStore for Scripted {
    async fn find(&self, _: &KeyHash) -> Result<Option<KeyRecord>, StoreError> {
        self.act().await.map(|()| None)
    }
    async fn get(&self, _: &KeyId) -> Result<Option<StoredKey>, StoreError> {
        self.act().await.map(|()| None)
    }
    async fn list(&self, _: &ListQuery) -> Result<Page, StoreError> {
        self.act().await.map(|()| Page::default())
    }
    async fn create_from(&self, _: &KeyRecord, _: &store::Origin) -> Result<Creation, StoreError> {
        self.act().await.map(|()| Creation::Created)
    }
    async fn recall(&self, _: Shard, _: &[u8; 32]) -> Result<Option<store::Earlier>, StoreError> {
        self.act().await.map(|()| None)
    }
    async fn edit(&self, _: &KeyRecord, _: &store::Editable) -> Result<Option<store::Edit>, StoreError> {
        self.act().await.map(|()| None)
    }
    async fn changes(&self, _: &KeyId) -> Result<Vec<store::Change>, StoreError> {
        self.act().await.map(|()| Vec::new())
    }
    async fn counts(
        &self,
        _: &KeyId,
        _: store::Period,
        _: usize,
        _: Timestamp,
    ) -> Result<Vec<store::PeriodCount>, StoreError> {
        self.act().await.map(|()| Vec::new())
    }
    async fn revoke(&self, _: &KeyId) -> Result<Option<Revocation>, StoreError> {
        self.act().await.map(|()| None)
    }
    async fn assert_revoked(&self, _: &KeyHash) -> Result<bool, StoreError> {
        self.act().await.map(|()| true)
    }
    async fn rotate_once(
        &self,
        _: &KeyId,
        _: &KeyRecord,
        _: Timestamp,
        _: Option<&store::Once>,
    ) -> Result<Option<Rotation>, StoreError> {
        self.act().await.map(|()| None)
    }
    async fn record_uses(&self, _: &UsageBatch) -> Result<(), StoreError> {
        self.act().await
    }
    async fn fleet(&self) -> Result<FleetSettings, StoreError> {
        self.act().await.and_then(|()| FleetSettings::random())
    }
    async fn accept_unchecked_keys(&self, _: bool) -> Result<(), StoreError> {
        self.act().await
    }
    async fn canary(&self, _: Shard, _: Duration) -> Result<(), StoreError> {
        self.act().await
    }
    async fn confirm_durable(&self, _: Shard, _: Duration) -> Durability {
        match self.act().await {
            Ok(()) => Durability::Durable,
            Err(error) => Durability::NotConfirmed(error.to_string().into()),
        }
    }
    async fn attend(&self, _: &Member) -> Result<(), StoreError> {
        self.act().await
    }
    async fn leave(&self, _: GatewayId, _: u64) -> Result<(), StoreError> {
        self.act().await
    }
    async fn holds(&self, _: Shard, places: &[Head]) -> Result<Vec<bool>, StoreError> {
        self.act().await.map(|()| vec![true; places.len()])
    }
    async fn roll(&self) -> Result<Vec<Member>, StoreError> {
        self.act().await.map(|()| Vec::new())
    }
    async fn inspect(&self) -> Result<StoreReport, StoreError> {
        let (ours, found, mismatch) = (None, None, None);
        self.act().await.map(|()| StoreReport { ours, found, entries: 0, mismatch })
    }
    async fn accept(&self, _: Option<&str>) -> Result<(), StoreError> {
        self.act().await
    }
}

fn guarded(settings: GuardSettings) -> (Arc<Scripted>, ManualClock, Arc<GuardedStore>) {
    let store = Arc::new(Scripted::default());
    let clock = ManualClock::at(Timestamp::from_millis(0));
    let guarded =
        GuardedStore::new(Arc::clone(&store) as Arc<dyn KeyStore>, Arc::new(clock.clone()), settings);
    (store, clock, Arc::new(guarded))
}

#[tokio::test]
async fn a_store_that_hangs_costs_the_deadline_and_no_more() {
    let short = Duration::from_millis(5);
    let settings = GuardSettings { find_timeout: short, timeout: short, ..GuardSettings::default() };
    let (store, _, guarded) = guarded(settings);
    store.is_in(Mood::Hangs);
    assert!(matches!(guarded.find(&HASH).await, Err(StoreError::TimedOut(after)) if after == short));
    assert!(matches!(guarded.fleet().await, Err(StoreError::TimedOut(after)) if after == short));
    store.is_in(Mood::Answers);
    assert!(guarded.find(&HASH).await.is_ok());
}

#[tokio::test]
async fn one_look_up_too_many_is_refused_and_does_not_wait() {
    let settings = GuardSettings {
        max_concurrent: 1,
        find_timeout: Duration::from_secs(30),
        ..GuardSettings::default()
    };
    let (store, _, guarded) = guarded(settings);
    store.is_in(Mood::WaitsForRelease);
    let first = tokio::spawn({
        let guarded = Arc::clone(&guarded);
        async move { guarded.find(&HASH).await }
    });
    while store.asked() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(matches!(guarded.find(&HASH).await, Err(StoreError::Busy)));
    store.release.notify_one();
    assert!(first.await.unwrap().is_ok());
    store.is_in(Mood::Answers);
    assert!(guarded.find(&HASH).await.is_ok());
}

#[tokio::test]
async fn a_store_that_keeps_failing_is_left_alone_then_tried_once() {
    let settings =
        GuardSettings { breaker_failures: 3, breaker_open: Duration::from_secs(1), ..Default::default() };
    let (store, clock, guarded) = guarded(settings);
    store.is_in(Mood::Fails);
    for _ in 0..3 {
        assert!(matches!(guarded.find(&HASH).await, Err(StoreError::Unavailable(_))));
    }
    assert!(matches!(guarded.find(&HASH).await, Err(StoreError::CircuitOpen)));
    assert_eq!(store.asked(), 3);
    assert!(matches!(guarded.fleet().await, Err(StoreError::Unavailable(_))), "an operator may always ask");

    clock.advance(Duration::from_secs(1));
    store.is_in(Mood::Answers);
    assert!(guarded.find(&HASH).await.is_ok());
    assert!(guarded.find(&HASH).await.is_ok());
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_jam_the_circuit() {
    let settings = GuardSettings {
        breaker_failures: 1,
        find_timeout: Duration::from_secs(30),
        ..GuardSettings::default()
    };
    let (store, clock, guarded) = guarded(settings);
    store.is_in(Mood::Fails);
    assert!(guarded.find(&HASH).await.is_err());
    clock.advance(Duration::from_secs(1));
    store.is_in(Mood::Hangs);
    let probe = tokio::time::timeout(Duration::from_millis(5), guarded.find(&HASH)).await;
    assert!(probe.is_err(), "the caller gave up first");
    store.is_in(Mood::Answers);
    assert!(guarded.find(&HASH).await.is_ok());
}

#[tokio::test]
async fn one_unreadable_record_does_not_open_the_circuit() {
    let (store, _, guarded) = guarded(GuardSettings { breaker_failures: 1, ..Default::default() });
    store.is_in(Mood::Unreadable);
    for _ in 0..10 {
        assert!(matches!(guarded.find(&HASH).await, Err(StoreError::Corrupt(_))));
    }
}

#[tokio::test]
async fn a_store_that_is_not_ours_does_not_open_the_circuit() {
    let (store, _, guarded) = guarded(GuardSettings { breaker_failures: 1, ..Default::default() });
    store.is_in(Mood::IsAnothers);
    for _ in 0..10 {
        assert!(matches!(guarded.find(&HASH).await, Err(StoreError::NotOurs(Mismatch::Empty))));
    }
    store.is_in(Mood::Answers);
    assert!(guarded.find(&HASH).await.is_ok(), "it is asked at once when it is ours again");
}

#[tokio::test]
async fn every_other_operation_reaches_the_store_and_ends_in_time() {
    let short = Duration::from_millis(20);
    let (store, _, guarded) = guarded(GuardSettings { timeout: short, ..GuardSettings::default() });
    let moment = Timestamp::from_millis(0);
    let key = crate::store::contract::record(1);
    let shard = key.id.shard();
    let member = crate::store::contract::member(1, 1);
    for mood in [Mood::Answers, Mood::Hangs] {
        store.is_in(mood);
        let before = store.asked();
        let outcomes = [
            guarded.assert_revoked(&HASH).await.map(drop),
            guarded.rotate(&key.id, &key, moment).await.map(drop),
            guarded.canary(shard, short).await,
            guarded.attend(&member).await,
            guarded.leave(member.id, member.beat).await,
            guarded.roll().await.map(drop),
            guarded.inspect().await.map(drop),
            guarded.accept(None).await,
            match guarded.confirm_durable(shard, short).await {
                Durability::Durable => Ok(()),
                Durability::NotConfirmed(_) => Err(StoreError::TimedOut(short)),
            },
        ];
        assert_eq!(store.asked() - before, outcomes.len());
        for outcome in outcomes {
            match mood {
                Mood::Answers => assert!(outcome.is_ok(), "{outcome:?}"),
                _ => assert!(matches!(outcome, Err(StoreError::TimedOut(_))), "{outcome:?}"),
            }
        }
    }
}
