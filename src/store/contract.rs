//! What every store promises: one suite, run against each of them.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;

use super::{
    Creation, Cursor, FleetSettings, KeyStore, KeyUse, ListQuery, Page, StoreError, StoredKey, UsageBatch,
};
use crate::model::{Environment, Event, EventKind, KeyHash, KeyId, KeyRecord, KeyStatus, Shard, Timestamp};

/// A store under test, and how to look behind it.
#[async_trait]
pub(super) trait Subject {
    /// The store.
    fn store(&self) -> Arc<dyn KeyStore>;
    /// Every event told so far; those of one key in the order in which they were told.
    async fn events(&self) -> Vec<Event>;
    /// The store's time of day.
    async fn now(&self) -> Timestamp;
    /// Returns when the store's time is another than before.
    async fn let_time_pass(&self);
    /// Closes the store and opens it again on the same data.
    async fn reopen(self: Box<Self>) -> Box<dyn Subject>;
}

/// One test for each promise, on what `$start` makes: an `async fn() -> Box<dyn Subject>`.
macro_rules! contract_suite {
    ($start:path) => {
        $crate::store::contract::contract_suite! { $start;
            an_unknown_key_is_not_found
            a_created_key_is_there
            a_second_creation_overwrites_nothing
            of_many_creations_of_one_key_one_wins
            any_record_comes_back_as_it_was
            a_revocation_stands
            a_revocation_is_told_each_time
            an_unknown_key_cannot_be_revoked
            of_many_revocations_one_is_the_first
            a_record_created_as_revoked_is_revoked
            the_list_is_newest_first_and_filtered
            pages_lose_and_double_nothing
            a_page_that_ends_exactly_is_the_last
            last_use_never_goes_backwards
            a_repeated_batch_counts_once
            uses_of_unknown_keys_do_no_harm
            the_fleet_is_founded_once
            the_switch_for_unchecked_keys_stays
            what_was_written_survives_reopening
        }
    };
    ($start:path; $($promise:ident)*) => {
        mod contract {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    $crate::store::contract::$promise($start().await).await;
                }
            )*
        }
    };
}
pub(super) use contract_suite;

/// The key number `number`: shards, teams, environments and creation times are mixed, and times repeat.
pub(super) fn record(number: u32) -> KeyRecord {
    let mut bytes = [0; 32];
    // Spreads the numbers over the shards, and keeps them apart.
    bytes[0] = (number.wrapping_mul(0x9e37_79b1) >> 24) as u8;
    bytes[28..].copy_from_slice(&number.to_be_bytes());
    let hash = KeyHash::from_bytes(bytes);
    let mut random = [0; 10];
    random[1..5].copy_from_slice(&number.wrapping_mul(0x85eb_ca6b).to_be_bytes());
    KeyRecord {
        id: KeyId::new(Shard::of(&hash), random),
        hash,
        label: format!("Server {number}"),
        team: ["acme", "globex", "initech"][number as usize % 3].to_owned(),
        environment: if number.is_multiple_of(2) { Environment::Live } else { Environment::Sandbox },
        display: "sk_live_4f9c…a1b2".to_owned(),
        created_at: Timestamp::from_millis(1_764_000_000_000 + i64::from(number / 7)),
        expires_at: None,
        revoked_at: None,
    }
}

fn everything(limit: usize) -> ListQuery {
    ListQuery { team: None, environment: None, status: None, after: None, limit }
}

async fn kinds_told(subject: &dyn Subject, hash: &KeyHash) -> Vec<EventKind> {
    let events = subject.events().await;
    events.iter().filter(|event| event.hash == *hash).map(|event| event.kind).collect()
}

async fn read_all_pages(store: &dyn KeyStore, query: &ListQuery) -> Result<Vec<StoredKey>, StoreError> {
    let (mut keys, mut query) = (Vec::new(), query.clone());
    loop {
        let Page { keys: page, next } = store.list(&query).await?;
        assert!(page.len() <= query.limit, "a page is never longer than asked for");
        assert!(next.is_none() || page.len() == query.limit, "only the last page is short");
        keys.extend(page);
        match next {
            Some(next) => query.after = Some(next),
            None => return Ok(keys),
        }
    }
}

pub(super) async fn an_unknown_key_is_not_found(subject: Box<dyn Subject>) {
    let (store, unknown) = (subject.store(), record(1));
    assert_eq!(store.find(&unknown.hash).await.unwrap(), None);
    assert_eq!(store.get(&unknown.id).await.unwrap(), None);
    assert_eq!(store.list(&everything(10)).await.unwrap(), Page::default());
}

pub(super) async fn a_created_key_is_there(subject: Box<dyn Subject>) {
    let (store, new) = (subject.store(), record(1));
    let before = subject.now().await;
    assert_eq!(store.create(&new).await.unwrap(), Creation::Created);
    let stored = StoredKey { record: new.clone(), last_used_at: None, uses: 0 };
    assert_eq!(store.find(&new.hash).await.unwrap().as_ref(), Some(&new));
    assert_eq!(store.get(&new.id).await.unwrap().as_ref(), Some(&stored));
    assert_eq!(store.list(&everything(10)).await.unwrap(), Page { keys: vec![stored], next: None });

    let events = subject.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].kind, events[0].hash), (EventKind::Created, new.hash));
    assert!(before <= events[0].at && events[0].at <= subject.now().await, "told by the store's clock");
}

pub(super) async fn a_second_creation_overwrites_nothing(subject: Box<dyn Subject>) {
    let (store, first) = (subject.store(), record(1));
    store.create(&first).await.unwrap();
    let same_hash = KeyRecord {
        id: KeyId::new(Shard::of(&first.hash), [9; 10]),
        label: "another".to_owned(),
        ..first.clone()
    };
    let mut other_hash = *first.hash.as_bytes();
    other_hash[31] ^= 1;
    let same_id =
        KeyRecord { hash: KeyHash::from_bytes(other_hash), team: "else".to_owned(), ..first.clone() };
    for second in [&first, &same_hash, &same_id] {
        assert_eq!(store.create(second).await.unwrap(), Creation::AlreadyThere);
    }

    assert_eq!(store.find(&first.hash).await.unwrap().as_ref(), Some(&first));
    assert_eq!(store.find(&same_id.hash).await.unwrap(), None);
    assert_eq!(store.get(&same_hash.id).await.unwrap(), None);
    assert_eq!(store.get(&first.id).await.unwrap().map(|key| key.record), Some(first));
    assert_eq!(store.list(&everything(10)).await.unwrap().keys.len(), 1);
    assert_eq!(subject.events().await.len(), 1, "what did not happen is not told");
}

pub(super) async fn of_many_creations_of_one_key_one_wins(subject: Box<dyn Subject>) {
    let (store, new) = (subject.store(), record(1));
    let creations: Vec<_> = (0..16u8)
        .map(|rival| {
            let id = KeyId::new(Shard::of(&new.hash), [rival; 10]);
            let (store, new) = (Arc::clone(&store), KeyRecord { id, ..new.clone() });
            tokio::spawn(async move { (store.create(&new).await.unwrap(), new.id) })
        })
        .collect();
    let mut winners = Vec::new();
    for creation in creations {
        let (outcome, id) = creation.await.unwrap();
        winners.extend((outcome == Creation::Created).then_some(id));
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(store.find(&new.hash).await.unwrap().map(|record| record.id), Some(winners[0]));
    assert_eq!(subject.events().await.len(), 1);
}

pub(super) async fn any_record_comes_back_as_it_was(subject: Box<dyn Subject>) {
    let store = subject.store();
    let labels = [
        "",
        "'; DROP TABLE keys; --",
        "\"quoted\" \\ back\\slash \\u0041",
        "line\nbreak\r\ttab \0 nul \u{7f}",
        "Ünïcödé 鍵 🔑 \u{202e}right to left",
        "{}[]: [] {} null 1e400",
        &"ß".repeat(500),
    ];
    for (number, label) in (0..).zip(labels) {
        let odd = KeyRecord {
            label: label.to_owned(),
            team: format!("team {label}"),
            created_at: Timestamp::from_millis(-1_234),
            expires_at: Some(Timestamp::from_millis(4_102_444_799_999)),
            revoked_at: Some(Timestamp::from_millis(1_764_000_000_001)),
            ..record(number)
        };
        assert_eq!(store.create(&odd).await.unwrap(), Creation::Created);
        assert_eq!(store.find(&odd.hash).await.unwrap().as_ref(), Some(&odd));
        assert_eq!(store.get(&odd.id).await.unwrap().map(|key| key.record).as_ref(), Some(&odd));
        let its_team = ListQuery { team: Some(odd.team.clone()), ..everything(10) };
        assert_eq!(store.list(&its_team).await.unwrap().keys[0].record, odd);
    }
}

pub(super) async fn a_revocation_stands(subject: Box<dyn Subject>) {
    let (store, key) = (subject.store(), record(1));
    store.create(&key).await.unwrap();
    let before = subject.now().await;
    let first = store.revoke(&key.id).await.unwrap().unwrap();
    let after = subject.now().await;
    let revoked_at = first.record.revoked_at.unwrap();
    assert!(first.newly);
    assert!(before <= revoked_at && revoked_at <= after, "the moment is the store's");
    assert_eq!(first.record, KeyRecord { revoked_at: Some(revoked_at), ..key.clone() });

    subject.let_time_pass().await;
    let second = store.revoke(&key.id).await.unwrap().unwrap();
    assert!(!second.newly);
    assert_eq!(second.record, first.record, "the first moment stands");
    assert_eq!(store.create(&key).await.unwrap(), Creation::AlreadyThere);
    assert_eq!(store.find(&key.hash).await.unwrap(), Some(first.record), "nothing brings it back");
}

pub(super) async fn a_revocation_is_told_each_time(subject: Box<dyn Subject>) {
    let (store, key) = (subject.store(), record(1));
    store.create(&key).await.unwrap();
    store.revoke(&key.id).await.unwrap();
    store.revoke(&key.id).await.unwrap();
    let told = kinds_told(&*subject, &key.hash).await;
    assert_eq!(told, [EventKind::Created, EventKind::Revoked, EventKind::Revoked]);
}

pub(super) async fn an_unknown_key_cannot_be_revoked(subject: Box<dyn Subject>) {
    assert_eq!(subject.store().revoke(&record(1).id).await.unwrap(), None);
    assert_eq!(subject.events().await, []);
}

pub(super) async fn of_many_revocations_one_is_the_first(subject: Box<dyn Subject>) {
    let (store, key) = (subject.store(), record(1));
    store.create(&key).await.unwrap();
    let revocations: Vec<_> = (0..16)
        .map(|_| {
            let (store, id) = (Arc::clone(&store), key.id);
            tokio::spawn(async move { store.revoke(&id).await.unwrap().unwrap() })
        })
        .collect();
    let (mut newly, mut moments) = (0, HashSet::new());
    for revocation in revocations {
        let revocation = revocation.await.unwrap();
        newly += usize::from(revocation.newly);
        moments.insert(revocation.record.revoked_at.unwrap());
    }
    assert_eq!((newly, moments.len()), (1, 1));
    assert_eq!(kinds_told(&*subject, &key.hash).await.len(), 17);
}

pub(super) async fn a_record_created_as_revoked_is_revoked(subject: Box<dyn Subject>) {
    let moment = Some(Timestamp::from_millis(1_764_000_000_000));
    let (store, key) = (subject.store(), KeyRecord { revoked_at: moment, ..record(1) });
    store.create(&key).await.unwrap();
    assert_eq!(store.find(&key.hash).await.unwrap().unwrap().revoked_at, moment);
    let again = store.revoke(&key.id).await.unwrap().unwrap();
    assert_eq!((again.newly, again.record.revoked_at), (false, moment));
}

pub(super) async fn the_list_is_newest_first_and_filtered(subject: Box<dyn Subject>) {
    let store = subject.store();
    let now = Timestamp::from_millis(1_764_000_500_000);
    let mut records: Vec<_> = (0..60).map(record).collect();
    for (record, number) in records.iter_mut().zip(0i64..) {
        // One in three has expired at `now`, one in three at that very moment, one in three lives on.
        record.expires_at = Some(Timestamp::from_millis(now.as_millis() + number % 3 - 1));
        store.create(record).await.unwrap();
    }
    for record in records.iter_mut().step_by(5) {
        *record = store.revoke(&record.id).await.unwrap().unwrap().record;
    }
    records.sort_by_key(|record| std::cmp::Reverse((record.created_at, record.id)));

    let statuses = [KeyStatus::Active, KeyStatus::Expired, KeyStatus::Revoked];
    for team in [None, Some("acme"), Some("globex"), Some("nobody")] {
        for environment in [None, Some(Environment::Live), Some(Environment::Sandbox)] {
            for status in [None].into_iter().chain(statuses.map(Some)) {
                let query = ListQuery {
                    team: team.map(str::to_owned),
                    environment,
                    status: status.map(|status| (status, now)),
                    after: None,
                    limit: 7,
                };
                let listed = read_all_pages(&*store, &query).await.unwrap();
                let listed: Vec<_> = listed.into_iter().map(|key| key.record).collect();
                let expected: Vec<_> = records
                    .iter()
                    .filter(|record| team.is_none_or(|team| record.team == team))
                    .filter(|record| environment.is_none_or(|wanted| record.environment == wanted))
                    .filter(|record| status.is_none_or(|wanted| record.status(now) == wanted))
                    .cloned()
                    .collect();
                assert_eq!(listed, expected, "{query:?}");
            }
        }
    }
}

pub(super) async fn pages_lose_and_double_nothing(subject: Box<dyn Subject>) {
    let store = subject.store();
    let mut expected: Vec<_> = (0..200).map(record).collect();
    for (record, number) in expected.iter_mut().zip(0..) {
        // An import: many keys of one moment.
        if (50..150).contains(&number) {
            record.created_at = Timestamp::from_millis(1_764_000_000_010);
        }
        store.create(record).await.unwrap();
    }
    expected.sort_by_key(|record| std::cmp::Reverse((record.created_at, record.id)));
    for limit in [1, 2, 7, 50, 199, 200, 201, 1_000] {
        let listed = read_all_pages(&*store, &everything(limit)).await.unwrap();
        let listed: Vec<_> = listed.into_iter().map(|key| key.record.id).collect();
        assert_eq!(listed, expected.iter().map(|record| record.id).collect::<Vec<_>>(), "limit {limit}");
    }

    let one_team = ListQuery { team: Some("acme".to_owned()), ..everything(9) };
    let listed = read_all_pages(&*store, &one_team).await.unwrap();
    assert_eq!(listed.len(), expected.iter().filter(|record| record.team == "acme").count());

    let from_nowhere = Cursor { created_at: Timestamp::from_millis(0), id: record(0).id };
    let beyond = ListQuery { after: Some(from_nowhere), ..everything(10) };
    assert_eq!(store.list(&beyond).await.unwrap(), Page::default());
}

pub(super) async fn a_page_that_ends_exactly_is_the_last(subject: Box<dyn Subject>) {
    let store = subject.store();
    for number in 0..4 {
        store.create(&record(number)).await.unwrap();
    }
    let first = store.list(&everything(2)).await.unwrap();
    let second = store.list(&ListQuery { after: first.next, ..everything(2) }).await.unwrap();
    assert_eq!((first.keys.len(), second.keys.len(), second.next), (2, 2, None));
}

pub(super) async fn last_use_never_goes_backwards(subject: Box<dyn Subject>) {
    let (store, key) = (subject.store(), record(1));
    store.create(&key).await.unwrap();
    let at = |millis: i64| Timestamp::from_millis(1_764_000_000_000 + millis);
    for (batch, moment, latest, uses) in [(1, 500, 500, 3), (2, 200, 500, 6), (3, 501, 501, 9)] {
        store.record_uses(&batch_of(batch, &[(key.id, at(moment), 3)])).await.unwrap();
        let stored = store.get(&key.id).await.unwrap().unwrap();
        assert_eq!((stored.last_used_at, stored.uses), (Some(at(latest)), uses));
    }
    let listed = store.list(&everything(1)).await.unwrap().keys;
    assert_eq!((listed[0].last_used_at, listed[0].uses), (Some(at(501)), 9));
    assert_eq!(subject.events().await.len(), 1, "a use is no change of the key");
}

pub(super) async fn a_repeated_batch_counts_once(subject: Box<dyn Subject>) {
    let (store, key) = (subject.store(), record(1));
    store.create(&key).await.unwrap();
    let batch = batch_of(u128::MAX, &[(key.id, Timestamp::from_millis(1), 5)]);
    for _ in 0..3 {
        store.record_uses(&batch).await.unwrap();
    }
    assert_eq!(store.get(&key.id).await.unwrap().unwrap().uses, 5);
    store.record_uses(&UsageBatch { id: 0, ..batch }).await.unwrap();
    assert_eq!(store.get(&key.id).await.unwrap().unwrap().uses, 10);
}

pub(super) async fn uses_of_unknown_keys_do_no_harm(subject: Box<dyn Subject>) {
    let (store, key) = (subject.store(), record(1));
    store.create(&key).await.unwrap();
    let unknown = KeyId::new(key.id.shard(), [0xee; 10]);
    let moment = Timestamp::from_millis(1_764_000_000_000);
    store.record_uses(&batch_of(1, &[(unknown, moment, 1), (key.id, moment, 2)])).await.unwrap();
    store.record_uses(&batch_of(2, &[])).await.unwrap();
    assert_eq!(store.get(&unknown).await.unwrap(), None);
    assert_eq!(store.list(&everything(10)).await.unwrap().keys.len(), 1);
    assert_eq!(store.get(&key.id).await.unwrap().unwrap().uses, 2);
}

/// A batch in the shard of `record(1)`.
fn batch_of(id: u128, uses: &[(KeyId, Timestamp, u64)]) -> UsageBatch {
    let uses = uses.iter().map(|&(id, last_used_at, count)| KeyUse { id, last_used_at, count });
    UsageBatch { id, shard: record(1).id.shard(), uses: uses.collect() }
}

pub(super) async fn the_fleet_is_founded_once(subject: Box<dyn Subject>) {
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let store = subject.store();
            tokio::spawn(async move { store.fleet().await.unwrap() })
        })
        .collect();
    let mut answers: Vec<FleetSettings> = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    let fleet = answers[0].clone();
    assert!(answers.iter().all(|answer| *answer == fleet));
    assert!(fleet.store_id.len() == 32 && fleet.store_id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!((fleet.check_secrets.len(), fleet.accept_unchecked_keys), (1, false));
    assert_ne!(fleet.check_secrets[0].expose(), &[0; 32]);

    let subject = subject.reopen().await;
    assert_eq!(subject.store().fleet().await.unwrap(), fleet);
}

pub(super) async fn the_switch_for_unchecked_keys_stays(subject: Box<dyn Subject>) {
    // As the very first call, on an empty store.
    subject.store().accept_unchecked_keys(true).await.unwrap();
    let fleet = subject.store().fleet().await.unwrap();
    assert!(fleet.accept_unchecked_keys);
    let subject = subject.reopen().await;
    assert_eq!(subject.store().fleet().await.unwrap(), fleet);
    subject.store().accept_unchecked_keys(false).await.unwrap();
    let expected = FleetSettings { accept_unchecked_keys: false, ..fleet };
    assert_eq!(subject.store().fleet().await.unwrap(), expected);
}

pub(super) async fn what_was_written_survives_reopening(subject: Box<dyn Subject>) {
    let (kept, revoked) = (record(1), record(2));
    for key in [&kept, &revoked] {
        subject.store().create(key).await.unwrap();
    }
    let revocation = subject.store().revoke(&revoked.id).await.unwrap().unwrap();
    let used = batch_of(7, &[(kept.id, Timestamp::from_millis(1_764_000_000_000), 4)]);
    subject.store().record_uses(&used).await.unwrap();

    let subject = subject.reopen().await;
    let store = subject.store();
    assert_eq!(store.find(&kept.hash).await.unwrap(), Some(kept.clone()));
    assert_eq!(store.find(&revoked.hash).await.unwrap(), Some(revocation.record));
    store.record_uses(&used).await.unwrap();
    assert_eq!(store.get(&kept.id).await.unwrap().unwrap().uses, 4, "the batch is still known");
}
