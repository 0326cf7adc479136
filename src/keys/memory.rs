//! A store in memory whose outages a test decides, and a sink that remembers what it was told.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Tick;
use crate::events::FeedSink;
use crate::model::{
    CheckSecret, Event, EventKind, Gap, GatewayId, Head, KeyHash, KeyId, KeyRecord, Member, Nonce, Shard,
    Timestamp,
};
use crate::store::{
    Activity, Change, ChangeKind, Creation, Durability, Earlier, Edit, Editable, FleetSettings, KeyStore,
    ListQuery, Mismatch, Once, Origin, Page, Period, PeriodCount, Revocation, Rotation, Selection,
    StoreError, StoreReport, StoredKey, Told, UsageBatch,
};

/// When this store revokes.
pub(crate) const REVOKED_AT: Timestamp = Timestamp::from_millis(1_764_000_500_000);

/// The identity of the fleet's store.
pub(crate) const STORE_ID: &str = "00000000000000000000000000000000";

/// Uses and refusals, by key, period and its number.
type Counts = HashMap<(KeyId, Period, i64), (u64, u64)>;

#[derive(Default)]
pub(crate) struct MemoryStore {
    keys: Mutex<HashMap<KeyId, StoredKey>>,
    /// Revoked, and without a record.
    marks: Mutex<HashSet<KeyHash>>,
    members: Mutex<HashMap<GatewayId, Member>>,
    /// What requests did that are made once, by their names.
    once: Mutex<HashMap<[u8; 32], Earlier>>,
    changes: Mutex<HashMap<KeyId, Vec<Change>>>,
    counts: Mutex<Counts>,
    /// What stands where the store should be, if it is not the fleet's.
    stranger: Mutex<Option<(Option<String>, Mismatch)>>,
    durability: Mutex<Option<Durability>>,
    accepts_unchecked: AtomicBool,
    down: AtomicBool,
    hangs: AtomicBool,
    refuses_revocations: AtomicBool,
    /// Whether it tells changes by a log, as the store of a fleet does.
    logs: AtomicBool,
    told: AtomicUsize,
    asked: AtomicUsize,
    collisions: AtomicUsize,
}

impl MemoryStore {
    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// Whether it accepts questions and does not answer.
    pub(crate) fn set_hanging(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::SeqCst);
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

    pub(crate) fn tell_by_log(&self) {
        self.logs.store(true, Ordering::SeqCst);
    }

    pub(crate) fn set_durability(&self, durability: Durability) {
        *self.durability.lock().unwrap() = Some(durability);
    }

    /// Puts another store in its place.
    pub(crate) fn replace_by(&self, found: Option<&str>, mismatch: Mismatch) {
        *self.stranger.lock().unwrap() = Some((found.map(str::to_owned), mismatch));
    }

    /// How often it was asked for anything.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn is_marked(&self, hash: &KeyHash) -> bool {
        self.marks.lock().unwrap().contains(hash)
    }

    pub(crate) fn forget(&self, id: &KeyId) {
        self.keys.lock().unwrap().remove(id);
    }

    async fn answer(&self) -> Result<(), StoreError> {
        self.reach().await?;
        match &*self.stranger.lock().unwrap() {
            Some((_, mismatch)) => Err(mismatch.clone().into()),
            None => Ok(()),
        }
    }

    /// Answers also where something else stands in the store's place.
    async fn reach(&self) -> Result<(), StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        while self.hangs.load(Ordering::SeqCst) && !self.down.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if self.down.load(Ordering::SeqCst) { Err(StoreError::unavailable("down")) } else { Ok(()) }
    }

    fn note_change(&self, id: &KeyId, what: ChangeKind) {
        self.changes.lock().unwrap().entry(*id).or_default().push(Change { at: REVOKED_AT, what });
    }

    fn told(&self) -> Told {
        let seq = 1 + self.told.fetch_add(1, Ordering::SeqCst) as u64;
        match self.logs.load(Ordering::SeqCst) {
            true => Told::Logged(Head { seq, nonce: Nonce::from_u64(seq) }),
            false => Told::Everybody,
        }
    }

    fn collides(&self, keys: &MutexGuard<'_, HashMap<KeyId, StoredKey>>, new: &KeyRecord) -> bool {
        let one_less = |left: usize| left.checked_sub(1);
        self.collisions.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
            || keys.values().any(|known| known.record.hash == new.hash || known.record.id == new.id)
            || self.is_marked(&new.hash)
    }
}

fn unused(record: &KeyRecord) -> StoredKey {
    StoredKey { record: record.clone(), activity: Activity::default() }
}

#[async_trait]
impl KeyStore for MemoryStore {
    async fn find(&self, hash: &KeyHash) -> Result<Option<KeyRecord>, StoreError> {
        self.answer().await?;
        let keys = self.keys.lock().unwrap();
        Ok(keys.values().find(|key| key.record.hash == *hash).map(|key| key.record.clone()))
    }

    async fn get(&self, id: &KeyId) -> Result<Option<StoredKey>, StoreError> {
        self.answer().await?;
        Ok(self.keys.lock().unwrap().get(id).cloned())
    }

    async fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        self.answer().await?;
        let mut selection = Selection::new(query);
        self.keys.lock().unwrap().values().for_each(|key| selection.offer(key.clone()));
        Ok(selection.into_page())
    }

    async fn create_from(&self, record: &KeyRecord, origin: &Origin) -> Result<Creation, StoreError> {
        self.answer().await?;
        let mut keys = self.keys.lock().unwrap();
        let mut once = self.once.lock().unwrap();
        if let Some(earlier) = origin.once().and_then(|request| once.get(&request.name)) {
            return Ok(Creation::Repeated(*earlier));
        }
        if self.collides(&keys, record) {
            return Ok(Creation::AlreadyThere);
        }
        keys.insert(record.id, unused(record));
        if let Some(Once { name, fingerprint }) = origin.once() {
            once.insert(*name, Earlier { id: record.id, fingerprint: *fingerprint });
        }
        if *origin == Origin::Imported {
            self.note_change(&record.id, ChangeKind::Imported);
        }
        Ok(Creation::Created)
    }

    async fn recall(&self, _: Shard, name: &[u8; 32]) -> Result<Option<Earlier>, StoreError> {
        self.answer().await?;
        Ok(self.once.lock().unwrap().get(name).copied())
    }

    async fn edit(&self, before: &KeyRecord, after: &Editable) -> Result<Option<Edit>, StoreError> {
        self.answer().await?;
        let mut keys = self.keys.lock().unwrap();
        let Some(StoredKey { record, .. }) = keys.get_mut(&before.id) else { return Ok(None) };
        if *record != *before || record.revoked_at.is_some() {
            return Ok(Some(Edit::Changed(record.clone())));
        }
        *record = after.clone().put_into(before);
        let what = ChangeKind::Edited { before: Editable::of(before), after: after.clone() };
        self.note_change(&before.id, what);
        Ok(Some(Edit::Edited { record: record.clone(), told: self.told() }))
    }

    async fn changes(&self, id: &KeyId) -> Result<Vec<Change>, StoreError> {
        self.answer().await?;
        Ok(self.changes.lock().unwrap().get(id).cloned().unwrap_or_default())
    }

    async fn counts(
        &self,
        id: &KeyId,
        period: Period,
        count: usize,
        now: Timestamp,
    ) -> Result<Vec<PeriodCount>, StoreError> {
        self.answer().await?;
        let counts = self.counts.lock().unwrap();
        let one = |number| {
            let (uses, refusals) = counts.get(&(*id, period, number)).copied().unwrap_or_default();
            PeriodCount { start: period.start(number), uses, refusals }
        };
        Ok(period.last(count, now).map(one).collect())
    }

    async fn revoke(&self, id: &KeyId) -> Result<Option<Revocation>, StoreError> {
        self.answer().await?;
        if self.refuses_revocations.load(Ordering::SeqCst) {
            return Err(StoreError::unavailable("read only"));
        }
        Ok(self.keys.lock().unwrap().get_mut(id).map(|StoredKey { record, .. }| {
            let newly = record.revoked_at.is_none();
            record.revoked_at.get_or_insert(REVOKED_AT);
            Revocation { record: record.clone(), newly, told: self.told() }
        }))
    }

    async fn assert_revoked(&self, hash: &KeyHash) -> Result<bool, StoreError> {
        self.answer().await?;
        if self.refuses_revocations.load(Ordering::SeqCst) {
            return Err(StoreError::unavailable("read only"));
        }
        let mut keys = self.keys.lock().unwrap();
        match keys.values_mut().find(|key| key.record.hash == *hash) {
            Some(key) => Ok(key.record.revoked_at.replace(REVOKED_AT).is_none()),
            None => Ok(self.marks.lock().unwrap().insert(*hash)),
        }
    }

    async fn rotate_once(
        &self,
        old: &KeyId,
        new: &KeyRecord,
        retires_at: Timestamp,
        once: Option<&Once>,
    ) -> Result<Option<Rotation>, StoreError> {
        self.answer().await?;
        let mut before = self.once.lock().unwrap();
        if let Some(earlier) = once.and_then(|once| before.get(&once.name)) {
            return Ok(Some(Rotation::Repeated(*earlier)));
        }
        assert_eq!(old.shard(), new.id.shard(), "both keys are in one shard");
        let mut keys = self.keys.lock().unwrap();
        let collides = self.collides(&keys, new);
        let Some(StoredKey { record, .. }) = keys.get_mut(old) else { return Ok(None) };
        if record.revoked_at.is_some() {
            return Ok(Some(Rotation::Revoked));
        }
        if record.retires_at.is_some() {
            return Ok(Some(Rotation::RotatedBefore));
        }
        if collides {
            return Ok(Some(Rotation::AlreadyThere));
        }
        record.retires_at = Some(retires_at);
        record.replaced_by = Some(new.id);
        let rotated = Rotation::Rotated { old: record.clone(), told: self.told() };
        keys.insert(new.id, unused(new));
        if let Some(Once { name, fingerprint }) = once {
            before.insert(*name, Earlier { id: new.id, fingerprint: *fingerprint });
        }
        Ok(Some(rotated))
    }

    async fn record_uses(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        self.answer().await?;
        let mut keys = self.keys.lock().unwrap();
        for used in &batch.uses {
            if let Some(key) = keys.get_mut(&used.id) {
                key.activity.merge(used.activity);
                let Activity { last_used_at, uses, last_refused_at, refusals, .. } = used.activity;
                for period in Period::ALL {
                    let mut counts = self.counts.lock().unwrap();
                    let mut count = |at: Option<Timestamp>, uses, refusals| {
                        let Some(at) = at else { return };
                        let counted = counts.entry((used.id, period, period.number(at))).or_default();
                        *counted = (counted.0 + uses, counted.1 + refusals);
                    };
                    count(last_used_at, uses, 0);
                    count(last_refused_at, 0, refusals);
                }
            }
        }
        Ok(())
    }

    async fn fleet(&self) -> Result<FleetSettings, StoreError> {
        self.answer().await?;
        Ok(FleetSettings {
            store_id: STORE_ID.to_owned(),
            check_secrets: vec![CheckSecret::from_bytes([1; 32]), CheckSecret::from_bytes([2; 32])],
            accept_unchecked_keys: self.accepts_unchecked(),
        })
    }

    async fn accept_unchecked_keys(&self, accept: bool) -> Result<(), StoreError> {
        self.answer().await?;
        self.accepts_unchecked.store(accept, Ordering::SeqCst);
        Ok(())
    }

    async fn canary(&self, _: Shard, _: Duration) -> Result<(), StoreError> {
        self.answer().await
    }

    async fn confirm_durable(&self, _: Shard, _: Duration) -> Durability {
        self.durability.lock().unwrap().clone().unwrap_or(Durability::Durable)
    }

    async fn attend(&self, member: &Member) -> Result<(), StoreError> {
        self.answer().await?;
        self.members.lock().unwrap().insert(member.id, member.clone());
        Ok(())
    }

    async fn leave(&self, id: GatewayId, beat: u64) -> Result<(), StoreError> {
        self.answer().await?;
        let mut members = self.members.lock().unwrap();
        if members.get(&id).is_some_and(|member| member.beat == beat) {
            members.remove(&id);
        }
        Ok(())
    }

    async fn holds(&self, _: Shard, places: &[Head]) -> Result<Vec<bool>, StoreError> {
        self.answer().await.map(|()| vec![true; places.len()])
    }
    async fn roll(&self) -> Result<Vec<Member>, StoreError> {
        self.answer().await?;
        Ok(self.members.lock().unwrap().values().cloned().collect())
    }

    async fn inspect(&self) -> Result<StoreReport, StoreError> {
        self.reach().await?;
        let stranger = self.stranger.lock().unwrap().clone();
        let (found, mismatch) = match stranger {
            Some((found, mismatch)) => (found, Some(mismatch)),
            None => (Some(STORE_ID.to_owned()), None),
        };
        let entries = self.keys.lock().unwrap().len() as u64;
        Ok(StoreReport { ours: Some(STORE_ID.to_owned()), found, entries, mismatch })
    }

    async fn accept(&self, found: Option<&str>) -> Result<(), StoreError> {
        self.reach().await?;
        let mut stranger = self.stranger.lock().unwrap();
        match &*stranger {
            Some((_, mismatch @ (Mismatch::Evicting { .. } | Mismatch::Replica))) => {
                Err(mismatch.clone().into())
            }
            Some((there, _)) if there.as_deref() == found => {
                *stranger = None;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Remembers events in the order in which they were told, and keys that a test has shown to it.
#[derive(Default)]
pub(crate) struct HeardEvents {
    events: Mutex<Vec<Event>>,
    keys: Mutex<HashMap<KeyId, KeyHash>>,
}

impl HeardEvents {
    pub(crate) fn take(&self) -> Vec<(EventKind, KeyHash)> {
        self.take_events().iter().map(|event| (event.kind, event.hash)).collect()
    }

    pub(crate) fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap())
    }

    pub(crate) fn remember(&self, record: &KeyRecord) {
        self.keys.lock().unwrap().insert(record.id, record.hash);
    }
}

impl FeedSink for HeardEvents {
    fn apply(&self, event: &Event) {
        // As in a gateway, what is told of a key takes it out of memory.
        self.keys.lock().unwrap().retain(|_, hash| *hash != event.hash);
        self.events.lock().unwrap().push(event.clone());
    }

    fn gap(&self, _: Shard, _: Gap) {}

    fn current(&self, _: Shard, _: Tick) {}

    fn fleet_time(&self, _: Timestamp, _: Tick, _: Tick) {}

    fn lag(&self, _: u64) {}

    fn connected(&self, _: bool) {}

    fn revoked_in(&self, _: Shard) -> Vec<KeyHash> {
        Vec::new()
    }

    fn attended(&self, _: Tick) {}

    fn hash_of(&self, id: &KeyId) -> Option<KeyHash> {
        self.keys.lock().unwrap().get(id).copied()
    }
}
