//! What every store promises: one suite, run against each of them.

mod ledger;
mod listing;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{
    Activity, Creation, Cursor, FleetSettings, KeyState, KeyStore, KeyUse, ListQuery, Page, Place, Rotation,
    StoreError, StoredKey, UsageBatch,
};
use crate::model::{
    Environment, Event, EventKind, GatewayId, Head, KeyHash, KeyId, KeyRecord, KeyStatus, Member, Nonce,
    SHARDS, Shard, Timestamp,
};

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
            a_lost_revocation_is_marked_again
            a_hash_can_be_revoked_without_a_key
            a_rotation_is_one_step_and_tells_both_keys
            a_rotation_that_may_not_be_changes_nothing
            of_many_rotations_of_one_key_one_wins
            a_rotated_key_can_be_revoked_at_once
            the_list_is_newest_first_and_filtered
            pages_lose_and_double_nothing
            a_page_that_ends_exactly_is_the_last
            every_filter_and_order_is_kept
            a_search_finds_labels_ends_and_ids
            pages_stay_right_while_keys_are_made
            ten_thousand_keys_stay_quick
            dates_never_go_backwards
            a_repeated_batch_counts_once
            uses_of_unknown_keys_do_no_harm
            the_fleet_is_founded_once
            the_switch_for_unchecked_keys_stays
            a_canary_is_told_once_in_an_interval_and_changes_nothing
            who_attends_is_on_the_roll_until_it_leaves
            a_store_that_is_well_says_so_and_accepts_itself
            what_was_written_survives_reopening
            uses_are_counted_by_day_and_hour
            an_edit_is_one_step_and_told
            an_edit_of_another_record_changes_nothing
            of_many_edits_of_one_record_one_wins
            an_edit_never_brings_a_key_back
            an_import_is_noted
            a_request_made_once_makes_one_key
            a_request_made_once_rotates_once
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
pub(super) use ledger::{
    a_request_made_once_makes_one_key, a_request_made_once_rotates_once, an_edit_is_one_step_and_told,
    an_edit_never_brings_a_key_back, an_edit_of_another_record_changes_nothing, an_import_is_noted,
    of_many_edits_of_one_record_one_wins, uses_are_counted_by_day_and_hour,
};
pub(super) use listing::{
    a_page_that_ends_exactly_is_the_last, a_search_finds_labels_ends_and_ids, every_filter_and_order_is_kept,
    pages_lose_and_double_nothing, pages_stay_right_while_keys_are_made, ten_thousand_keys_stay_quick,
    the_list_is_newest_first_and_filtered,
};

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
        retires_at: None,
        replaced_by: None,
        replaces: None,
    }
}

/// A key in the shard of `old`, to take its place.
pub(super) fn successor(old: &KeyRecord, number: u8) -> KeyRecord {
    let mut hash = [number; 32];
    hash[0] = old.hash.as_bytes()[0];
    let hash = KeyHash::from_bytes(hash);
    KeyRecord { id: KeyId::new(Shard::of(&hash), [number; 10]), hash, ..old.clone() }
}

/// The line of gateway `number`.
pub(super) fn member(number: u64, beat: u64) -> Member {
    Member {
        id: GatewayId::from_u64(number),
        name: format!("host-{number}:8080"),
        version: "0.1.0".to_owned(),
        started_at: Timestamp::from_millis(1_764_000_000_000),
        max_staleness_ms: 300_000,
        beat,
        positions: vec![Head { seq: u64::MAX - number, nonce: Nonce::from_u64(number) }; SHARDS],
        gone: false,
    }
}

fn everything(limit: usize) -> ListQuery {
    ListQuery { limit, ..ListQuery::default() }
}

async fn kinds_told(subject: &dyn Subject, hash: &KeyHash) -> Vec<EventKind> {
    let events = subject.events().await;
    events.iter().filter(|event| event.hash == *hash).map(|event| event.kind).collect()
}

async fn read_all_pages(store: &dyn KeyStore, query: &ListQuery) -> Result<Vec<StoredKey>, StoreError> {
    let (mut keys, mut query) = (Vec::new(), query.clone());
    loop {
        let Page { keys: page, next, .. } = store.list(&query).await?;
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
    let stored = StoredKey { record: new.clone(), activity: Activity::default() };
    assert_eq!(store.find(&new.hash).await.unwrap().as_ref(), Some(&new));
    assert_eq!(store.get(&new.id).await.unwrap().as_ref(), Some(&stored));
    assert_eq!(store.list(&everything(10)).await.unwrap(), Page { keys: vec![stored], ..Page::default() });

    let events = subject.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].kind, events[0].hash, events[0].id), (EventKind::Created, new.hash, Some(new.id)));
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
            retires_at: Some(Timestamp::from_millis(1_764_000_000_002)),
            replaced_by: Some(record(number + 100).id),
            replaces: Some(record(number + 200).id),
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

pub(super) async fn a_lost_revocation_is_marked_again(subject: Box<dyn Subject>) {
    let (store, key) = (subject.store(), record(1));
    store.create(&key).await.unwrap();
    let before = subject.now().await;
    assert!(store.assert_revoked(&key.hash).await.unwrap(), "it had been lost");
    let found = store.find(&key.hash).await.unwrap().unwrap();
    assert!(found.revoked_at.is_some_and(|at| before <= at), "the moment is the store's");
    assert_eq!(kinds_told(&*subject, &key.hash).await, [EventKind::Created, EventKind::Revoked]);

    subject.let_time_pass().await;
    assert!(!store.assert_revoked(&key.hash).await.unwrap(), "it is there");
    assert_eq!(store.find(&key.hash).await.unwrap(), Some(found.clone()), "the first moment stands");
    assert_eq!(kinds_told(&*subject, &key.hash).await.len(), 2, "nothing is told that was known");
    let again = store.revoke(&key.id).await.unwrap().unwrap();
    assert_eq!((again.newly, again.record), (false, found));
}

pub(super) async fn a_hash_can_be_revoked_without_a_key(subject: Box<dyn Subject>) {
    let (store, key, other) = (subject.store(), record(1), record(2));
    store.create(&other).await.unwrap();
    assert!(store.assert_revoked(&key.hash).await.unwrap());
    assert!(!store.assert_revoked(&key.hash).await.unwrap());
    assert_eq!(kinds_told(&*subject, &key.hash).await, [EventKind::Revoked]);

    drop(store);
    let subject = subject.reopen().await;
    let store = subject.store();
    assert_eq!(store.create(&key).await.unwrap(), Creation::AlreadyThere, "no such key can be made");
    assert_eq!(store.find(&key.hash).await.unwrap(), None);
    assert_eq!(store.get(&key.id).await.unwrap(), None);
    assert_eq!(store.list(&everything(10)).await.unwrap().keys.len(), 1);
    assert!(!store.assert_revoked(&key.hash).await.unwrap());

    let predecessor = successor(&key, 9);
    store.create(&predecessor).await.unwrap();
    let rotation = store.rotate(&predecessor.id, &key, key.created_at).await.unwrap();
    assert_eq!(rotation, Some(Rotation::AlreadyThere), "nor by a rotation");
    assert_eq!(store.get(&predecessor.id).await.unwrap().unwrap().record, predecessor);
}

pub(super) async fn a_rotation_is_one_step_and_tells_both_keys(subject: Box<dyn Subject>) {
    let (store, old) = (subject.store(), record(1));
    let new = successor(&old, 7);
    let retires_at = Timestamp::from_millis(1_764_000_600_000);
    store.create(&old).await.unwrap();
    let rotation = store.rotate(&old.id, &new, retires_at).await.unwrap();
    let Some(Rotation::Rotated { old: retired, .. }) = rotation else { panic!("{rotation:?}") };
    let expected = KeyRecord { retires_at: Some(retires_at), replaced_by: Some(new.id), ..old.clone() };
    assert_eq!(retired, expected);
    let new = KeyRecord { replaces: Some(old.id), ..new };

    drop(store);
    let subject = subject.reopen().await;
    let store = subject.store();
    assert_eq!(store.find(&old.hash).await.unwrap(), Some(expected.clone()));
    assert_eq!(store.get(&old.id).await.unwrap().map(|key| key.record), Some(expected));
    assert_eq!(store.find(&new.hash).await.unwrap().as_ref(), Some(&new));
    assert_eq!(store.get(&new.id).await.unwrap().map(|key| key.record).as_ref(), Some(&new));
    let its_team = ListQuery { team: Some(new.team.clone()), ..everything(10) };
    for query in [everything(10), its_team] {
        let listed = store.list(&query).await.unwrap().keys;
        assert_eq!(listed.iter().map(|key| key.record.id).collect::<HashSet<_>>(), [old.id, new.id].into());
    }
    let told: Vec<_> =
        subject.events().await.iter().map(|event| (event.kind, event.hash, event.id)).collect();
    let expected = [
        (EventKind::Created, old.hash, Some(old.id)),
        (EventKind::Created, new.hash, Some(new.id)),
        (EventKind::Changed, old.hash, Some(old.id)),
    ];
    assert_eq!(told, expected);
}

pub(super) async fn a_rotation_that_may_not_be_changes_nothing(subject: Box<dyn Subject>) {
    let store = subject.store();
    let retires_at = Timestamp::from_millis(1_764_000_600_000);
    let (revoked, rotated, active) = (record(1), record(2), record(3));
    for key in [&revoked, &rotated, &active] {
        store.create(key).await.unwrap();
    }
    store.revoke(&revoked.id).await.unwrap();
    store.rotate(&rotated.id, &successor(&rotated, 7), retires_at).await.unwrap();
    let same_hash = KeyRecord { id: successor(&active, 8).id, ..active.clone() };
    let same_id = KeyRecord { id: active.id, ..successor(&active, 8) };
    let unknown = record(4);
    let (listed, told) = (store.list(&everything(10)).await.unwrap(), subject.events().await.len());
    assert_eq!(listed.keys.len(), 4);

    for (old, new, expected) in [
        (&revoked, successor(&revoked, 8), Some(Rotation::Revoked)),
        (&rotated, successor(&rotated, 8), Some(Rotation::RotatedBefore)),
        (&active, same_hash, Some(Rotation::AlreadyThere)),
        (&active, same_id, Some(Rotation::AlreadyThere)),
        (&unknown, successor(&unknown, 8), None),
    ] {
        assert_eq!(store.rotate(&old.id, &new, retires_at).await.unwrap(), expected);
    }
    assert_eq!(store.list(&everything(10)).await.unwrap(), listed);
    assert_eq!(subject.events().await.len(), told, "what did not happen is not told");
}

pub(super) async fn of_many_rotations_of_one_key_one_wins(subject: Box<dyn Subject>) {
    let (store, old) = (subject.store(), record(1));
    store.create(&old).await.unwrap();
    let rotations: Vec<_> = (0..16)
        .map(|rival| {
            let (store, id, new) = (Arc::clone(&store), old.id, successor(&old, rival));
            tokio::spawn(async move { (store.rotate(&id, &new, new.created_at).await.unwrap(), new.id) })
        })
        .collect();
    let mut winners = Vec::new();
    for rotation in rotations {
        match rotation.await.unwrap() {
            (Some(Rotation::Rotated { .. }), id) => winners.push(id),
            (outcome, _) => assert_eq!(outcome, Some(Rotation::RotatedBefore)),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(store.find(&old.hash).await.unwrap().unwrap().replaced_by, Some(winners[0]));
    assert_eq!(store.list(&everything(20)).await.unwrap().keys.len(), 2);
}

pub(super) async fn a_rotated_key_can_be_revoked_at_once(subject: Box<dyn Subject>) {
    let (store, old) = (subject.store(), record(1));
    let new = successor(&old, 7);
    store.create(&old).await.unwrap();
    store.rotate(&old.id, &new, Timestamp::from_millis(i64::MAX)).await.unwrap();
    let revocation = store.revoke(&old.id).await.unwrap().unwrap();
    assert!(revocation.newly && revocation.record.revoked_at.is_some());
    assert_eq!(revocation.record.replaced_by, Some(new.id), "what it was is still known");
    assert_eq!(store.find(&old.hash).await.unwrap(), Some(revocation.record));
    assert_eq!(store.find(&new.hash).await.unwrap().unwrap().revoked_at, None, "its successor lives");
}

pub(super) async fn dates_never_go_backwards(subject: Box<dyn Subject>) {
    let (store, key) = (subject.store(), record(1));
    store.create(&key).await.unwrap();
    let at = |millis: i64| Some(Timestamp::from_millis(1_764_000_000_000 + millis));
    let used =
        |millis| Activity { last_used_at: at(millis), uses: 3, uses_in_grace: 1, ..Activity::default() };
    let refused = |millis| Activity { last_refused_at: at(millis), refusals: 2, ..Activity::default() };
    let mut expected = Activity::default();
    for (batch, activity) in
        (1..).zip([used(500), used(200), refused(900), used(501), refused(899), refused(901)])
    {
        store.record_uses(&batch_of(batch, &[(key.id, activity)])).await.unwrap();
        expected.merge(activity);
        assert_eq!(store.get(&key.id).await.unwrap().unwrap().activity, expected);
    }
    assert_eq!((expected.last_used_at, expected.last_refused_at), (at(501), at(901)));
    assert_eq!((expected.uses, expected.uses_in_grace, expected.refusals), (9, 3, 6));
    assert_eq!(store.list(&everything(1)).await.unwrap().keys[0].activity, expected);
    assert_eq!(store.find(&key.hash).await.unwrap(), Some(key), "a use is no change of the key");
    assert_eq!(subject.events().await.len(), 1);
}

pub(super) async fn a_repeated_batch_counts_once(subject: Box<dyn Subject>) {
    let (store, key) = (subject.store(), record(1));
    store.create(&key).await.unwrap();
    let moment = Some(Timestamp::from_millis(1));
    let activity =
        Activity { last_used_at: moment, uses: 5, uses_in_grace: 2, last_refused_at: moment, refusals: 3 };
    let batch = batch_of(u128::MAX, &[(key.id, activity)]);
    for _ in 0..3 {
        store.record_uses(&batch).await.unwrap();
    }
    assert_eq!(store.get(&key.id).await.unwrap().unwrap().activity, activity);
    store.record_uses(&UsageBatch { id: 0, ..batch }).await.unwrap();
    let twice = Activity { uses: 10, uses_in_grace: 4, refusals: 6, ..activity };
    assert_eq!(store.get(&key.id).await.unwrap().unwrap().activity, twice);
}

pub(super) async fn uses_of_unknown_keys_do_no_harm(subject: Box<dyn Subject>) {
    let (store, key) = (subject.store(), record(1));
    store.create(&key).await.unwrap();
    let unknown = KeyId::new(key.id.shard(), [0xee; 10]);
    store.record_uses(&batch_of(1, &[(unknown, uses(1)), (key.id, uses(2))])).await.unwrap();
    store.record_uses(&batch_of(2, &[])).await.unwrap();
    assert_eq!(store.get(&unknown).await.unwrap(), None);
    assert_eq!(store.list(&everything(10)).await.unwrap().keys.len(), 1);
    assert_eq!(store.get(&key.id).await.unwrap().unwrap().activity, uses(2));
}

/// A batch in the shard of `record(1)`.
fn batch_of(id: u128, uses: &[(KeyId, Activity)]) -> UsageBatch {
    let uses = uses.iter().map(|&(id, activity)| KeyUse { id, activity });
    UsageBatch { id, shard: record(1).id.shard(), uses: uses.collect() }
}

fn uses(count: u64) -> Activity {
    let last_used_at = Some(Timestamp::from_millis(1_764_000_000_000));
    Activity { last_used_at, uses: count, ..Activity::default() }
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

pub(super) async fn a_canary_is_told_once_in_an_interval_and_changes_nothing(subject: Box<dyn Subject>) {
    let (store, key) = (subject.store(), record(1));
    store.create(&key).await.unwrap();
    let before = store.list(&everything(10)).await.unwrap();
    let shard = Shard::all().nth(11).unwrap();
    let hash = Event::canary(shard, Timestamp::from_millis(0)).hash;
    for _ in 0..3 {
        store.canary(shard, Duration::from_secs(3_600)).await.unwrap();
    }
    assert_eq!(kinds_told(&*subject, &hash).await, [EventKind::Canary]);
    let told = subject.events().await.into_iter().find(|event| event.kind == EventKind::Canary).unwrap();
    assert_eq!(told, Event::canary(shard, told.at));
    assert_eq!(store.list(&everything(10)).await.unwrap(), before);
    assert_eq!(store.find(&hash).await.unwrap(), None);

    let other = Shard::all().nth(12).unwrap();
    let hash = Event::canary(other, Timestamp::from_millis(0)).hash;
    store.canary(other, Duration::from_millis(1)).await.unwrap();
    for _ in 0..1_000 {
        if kinds_told(&*subject, &hash).await.len() > 1 {
            return;
        }
        subject.let_time_pass().await;
        store.canary(other, Duration::from_millis(1)).await.unwrap();
    }
    panic!("no second canary once the interval is over");
}

pub(super) async fn who_attends_is_on_the_roll_until_it_leaves(subject: Box<dyn Subject>) {
    let store = subject.store();
    let roll = async || {
        let mut members = store.roll().await.unwrap();
        members.sort_by_key(|member| member.id);
        members
    };
    assert_eq!(roll().await, []);
    store.attend(&member(2, 1)).await.unwrap();
    store.attend(&member(1, 1)).await.unwrap();
    store.attend(&member(2, 2)).await.unwrap();
    assert_eq!(roll().await, [member(1, 1), member(2, 2)], "one line each, the last one");

    store.leave(member(2, 0).id, 1).await.unwrap();
    assert_eq!(roll().await, [member(1, 1), member(2, 2)], "it has been heard of since");
    store.leave(member(2, 0).id, 2).await.unwrap();
    assert_eq!(roll().await, [member(1, 1)]);
    for _ in 0..2 {
        store.leave(member(1, 0).id, 1).await.unwrap();
    }
    store.leave(member(1, 0).id, 7).await.unwrap();
    assert_eq!(roll().await, []);
    assert_eq!(subject.events().await, [], "no key's business");
}

pub(super) async fn a_store_that_is_well_says_so_and_accepts_itself(subject: Box<dyn Subject>) {
    let store = subject.store();
    let fleet = store.fleet().await.unwrap();
    store.create(&record(1)).await.unwrap();
    let report = store.inspect().await.unwrap();
    assert_eq!((&report.ours, &report.found), (&Some(fleet.store_id.clone()), &Some(fleet.store_id.clone())));
    assert_eq!(report.mismatch, None);
    assert!(report.entries > 0);
    store.accept(Some(&fleet.store_id)).await.unwrap();
    assert_eq!(store.fleet().await.unwrap(), fleet);
    assert_eq!(store.find(&record(1).hash).await.unwrap(), Some(record(1)));
    assert_eq!(store.inspect().await.unwrap(), report);
}

pub(super) async fn what_was_written_survives_reopening(subject: Box<dyn Subject>) {
    let (kept, revoked) = (record(1), record(2));
    for key in [&kept, &revoked] {
        subject.store().create(key).await.unwrap();
    }
    let revocation = subject.store().revoke(&revoked.id).await.unwrap().unwrap();
    let used = batch_of(7, &[(kept.id, uses(4))]);
    subject.store().record_uses(&used).await.unwrap();

    let subject = subject.reopen().await;
    let store = subject.store();
    assert_eq!(store.find(&kept.hash).await.unwrap(), Some(kept.clone()));
    assert_eq!(store.find(&revoked.hash).await.unwrap(), Some(revocation.record));
    store.record_uses(&used).await.unwrap();
    assert_eq!(store.get(&kept.id).await.unwrap().unwrap().activity, uses(4), "the batch is still known");
}
