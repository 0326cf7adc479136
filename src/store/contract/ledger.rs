//! What every store promises of what is noted beside the keys: counts, edits, requests that are made once.

use super::*;
use crate::store::{
    CHANGES_KEPT, Change, ChangeKind, Earlier, Edit, Editable, Once, Origin, Period, PeriodCount,
};

fn before(now: Timestamp, millis: i64) -> Timestamp {
    Timestamp::from_millis(now.as_millis() - millis)
}

fn edited(label: &str) -> Editable {
    Editable { label: label.to_owned(), expires_at: Some(Timestamp::from_millis(4_102_444_799_999)) }
}

fn once(number: u8) -> Once {
    Once { name: [number; 32], fingerprint: [number ^ 0xff; 32] }
}

pub(in crate::store) async fn uses_are_counted_by_day_and_hour(subject: Box<dyn Subject>) {
    let (store, key, other) = (subject.store(), record(1), successor(&record(1), 9));
    for key in [&key, &other] {
        store.create(key).await.unwrap();
    }
    let unknown = KeyId::new(key.id.shard(), [0xee; 10]);
    let now = subject.now().await;
    let (hour, day) = (Period::Hour.millis(), Period::Day.millis());
    let mut expected: std::collections::HashMap<(Period, i64), (u64, u64)> = Default::default();
    let ages = [(0, 3, 0), (0, 1, 2), (hour, 5, 0), (47 * hour, 7, 1), (3 * day, 11, 0), (89 * day, 13, 4)];
    for (number, (age, uses, refusals)) in (1..).zip(ages) {
        // The refusals are of the hour before.
        let (used, refused) = (before(now, age), before(now, age + hour));
        let activity = Activity {
            last_used_at: Some(used),
            uses,
            uses_in_grace: 0,
            last_refused_at: (refusals > 0).then_some(refused),
            refusals,
        };
        let others = Activity { last_used_at: Some(used), uses: 1_000, ..Activity::default() };
        let batch = batch_of(number, &[(unknown, activity), (key.id, activity), (other.id, others)]);
        for _ in 0..2 {
            store.record_uses(&batch).await.unwrap();
        }
        for period in Period::ALL {
            expected.entry((period, period.number(used))).or_default().0 += uses;
            expected.entry((period, period.number(refused))).or_default().1 += refusals;
        }
    }
    drop(store);
    let subject = subject.reopen().await;
    let store = subject.store();
    for (period, count) in [(Period::Day, 30), (Period::Day, 90), (Period::Hour, 48), (Period::Hour, 1)] {
        let counts = store.counts(&key.id, period, count, now).await.unwrap();
        assert_eq!(counts.len(), count);
        assert_eq!(counts.last().unwrap().start, period.start(period.number(now)));
        for counted in &counts {
            let number = period.number(counted.start);
            let (uses, refusals) = expected.get(&(period, number)).copied().unwrap_or_default();
            assert_eq!(*counted, PeriodCount { start: period.start(number), uses, refusals });
        }
        let none = store.counts(&unknown, period, count, now).await.unwrap();
        assert!(none.iter().all(|counted| counted.uses + counted.refusals == 0));
    }
}

pub(in crate::store) async fn an_edit_is_one_step_and_told(subject: Box<dyn Subject>) {
    let (store, key) = (subject.store(), record(1));
    store.create(&key).await.unwrap();
    store.record_uses(&batch_of(1, &[(key.id, uses(3))])).await.unwrap();
    let began = subject.now().await;
    let after = edited("Zoë's Server");
    let Some(Edit::Edited { record: new, .. }) = store.edit(&key, &after).await.unwrap() else { panic!() };
    assert_eq!(new, after.clone().put_into(&key));
    let gone = Editable { expires_at: None, ..after.clone() };
    let Some(Edit::Edited { record: last, .. }) = store.edit(&new, &gone).await.unwrap() else { panic!() };
    assert_eq!(last.expires_at, None, "an expiry date can be taken away");

    drop(store);
    let subject = subject.reopen().await;
    let store = subject.store();
    assert_eq!(store.find(&key.hash).await.unwrap().as_ref(), Some(&last));
    let stored = store.get(&key.id).await.unwrap().unwrap();
    assert_eq!((stored.record, stored.activity), (last.clone(), uses(3)));
    let found = ListQuery { search: Some("zoë".to_owned()), ..everything(10) };
    assert_eq!(store.list(&found).await.unwrap().keys.len(), 1, "it is found by its new label");
    let lost = ListQuery { search: Some(key.label.clone()), ..everything(10) };
    assert_eq!(store.list(&lost).await.unwrap().keys, [], "and not by the old one");
    let told = kinds_told(&*subject, &key.hash).await;
    assert_eq!(told, [EventKind::Created, EventKind::Changed, EventKind::Changed]);

    let changes = store.changes(&key.id).await.unwrap();
    let what: Vec<_> = changes.iter().map(|change| change.what.clone()).collect();
    let kind = |before: &KeyRecord, after: &Editable| ChangeKind::Edited {
        before: Editable::of(before),
        after: after.clone(),
    };
    assert_eq!(what, [kind(&key, &after), kind(&new, &gone)]);
    let ended = subject.now().await;
    assert!(changes.iter().all(|change| began <= change.at && change.at <= ended), "by the store's clock");

    let mut record = last;
    for number in 0..CHANGES_KEPT + 5 {
        let after = edited(&format!("{number}"));
        let Some(Edit::Edited { record: new, .. }) = store.edit(&record, &after).await.unwrap() else {
            panic!()
        };
        record = new;
    }
    let changes = store.changes(&key.id).await.unwrap();
    assert_eq!(changes.len(), CHANGES_KEPT, "the last ones are kept");
    assert!(
        matches!(&changes.last().unwrap().what, ChangeKind::Edited { after, .. } if after.label == record.label)
    );
}

pub(in crate::store) async fn an_edit_of_another_record_changes_nothing(subject: Box<dyn Subject>) {
    let (store, key) = (subject.store(), record(1));
    assert_eq!(store.edit(&key, &edited("a")).await.unwrap(), None, "there is no such key");
    store.create(&key).await.unwrap();
    let stale = KeyRecord { label: "as it was".to_owned(), ..key.clone() };
    assert_eq!(store.edit(&stale, &edited("a")).await.unwrap(), Some(Edit::Changed(key.clone())));
    store.rotate(&key.id, &successor(&key, 7), Timestamp::from_millis(i64::MAX)).await.unwrap();
    let rotated = store.find(&key.hash).await.unwrap().unwrap();
    assert_eq!(store.edit(&key, &edited("a")).await.unwrap(), Some(Edit::Changed(rotated.clone())));
    let Some(Edit::Edited { record, .. }) = store.edit(&rotated, &edited("b")).await.unwrap() else {
        panic!()
    };
    assert_eq!((record.retires_at, record.replaced_by), (rotated.retires_at, rotated.replaced_by));
    assert_eq!(store.find(&key.hash).await.unwrap(), Some(record));
    assert_eq!(store.changes(&key.id).await.unwrap().len(), 1);
    assert_eq!(kinds_told(&*subject, &key.hash).await.len(), 3, "what did not happen is not told");
}

pub(in crate::store) async fn of_many_edits_of_one_record_one_wins(subject: Box<dyn Subject>) {
    let (store, key) = (subject.store(), record(1));
    store.create(&key).await.unwrap();
    let edits: Vec<_> = (0..16)
        .map(|rival| {
            let (store, key) = (Arc::clone(&store), key.clone());
            tokio::spawn(
                async move { store.edit(&key, &edited(&format!("{rival}"))).await.unwrap().unwrap() },
            )
        })
        .collect();
    let (mut won, mut lost) = (Vec::new(), Vec::new());
    for edit in edits {
        match edit.await.unwrap() {
            Edit::Edited { record, .. } => won.push(record),
            Edit::Changed(record) => lost.push(record),
        }
    }
    assert_eq!((won.len(), lost.len()), (1, 15));
    assert!(lost.iter().all(|record| *record == won[0]), "who lost is told what is there now");
    assert_eq!(store.find(&key.hash).await.unwrap().as_ref(), Some(&won[0]));
}

pub(in crate::store) async fn an_edit_never_brings_a_key_back(subject: Box<dyn Subject>) {
    let (store, key) = (subject.store(), record(1));
    store.create(&key).await.unwrap();
    let (revoking, editing) = (Arc::clone(&store), Arc::clone(&store));
    let revocation = tokio::spawn(async move { revoking.revoke(&record(1).id).await.unwrap().unwrap() });
    let edit = tokio::spawn(async move { editing.edit(&record(1), &edited("a")).await.unwrap().unwrap() });
    edit.await.unwrap();
    let revoked_at = revocation.await.unwrap().record.revoked_at;
    let found = store.find(&key.hash).await.unwrap().unwrap();
    assert_eq!(found.revoked_at, revoked_at);
    assert_eq!(store.edit(&found, &edited("b")).await.unwrap(), Some(Edit::Changed(found.clone())));
    let as_if_alive = KeyRecord { revoked_at: None, ..found.clone() };
    assert_eq!(store.edit(&as_if_alive, &edited("b")).await.unwrap(), Some(Edit::Changed(found)));
}

pub(in crate::store) async fn an_import_is_noted(subject: Box<dyn Subject>) {
    let (store, imported, made) = (subject.store(), record(1), record(2));
    let began = subject.now().await;
    assert_eq!(store.create_from(&imported, &Origin::Imported).await.unwrap(), Creation::Created);
    assert_eq!(store.create_from(&imported, &Origin::Imported).await.unwrap(), Creation::AlreadyThere);
    store.create(&made).await.unwrap();
    let changes = store.changes(&imported.id).await.unwrap();
    assert!(
        matches!(&changes[..], [Change { at, what: ChangeKind::Imported }] if began <= *at),
        "{changes:?}"
    );
    assert_eq!(store.changes(&made.id).await.unwrap(), []);
    assert_eq!(store.changes(&record(3).id).await.unwrap(), []);
}

pub(in crate::store) async fn a_request_made_once_makes_one_key(subject: Box<dyn Subject>) {
    let store = subject.store();
    let (request, other) = (once(1), once(2));
    // All in one shard, as whoever makes keys once has to see to.
    let rivals: Vec<_> = (0..16).map(|rival| successor(&record(1), rival)).collect();
    let shard = record(1).id.shard();
    assert_eq!(store.recall(shard, &request.name).await.unwrap(), None);
    let calls: Vec<_> = rivals
        .iter()
        .map(|rival| {
            let (store, rival) = (Arc::clone(&store), rival.clone());
            tokio::spawn(async move {
                (rival.id, store.create_from(&rival, &Origin::MadeOnce(request)).await.unwrap())
            })
        })
        .collect();
    let (mut made, mut repeated) = (Vec::new(), Vec::new());
    for call in calls {
        match call.await.unwrap() {
            (id, Creation::Created) => made.push(id),
            (_, outcome) => repeated.push(outcome),
        }
    }
    let earlier = Earlier { id: made[0], fingerprint: request.fingerprint };
    assert_eq!((made.len(), repeated), (1, vec![Creation::Repeated(earlier); 15]));
    assert_eq!(store.list(&everything(20)).await.unwrap().keys.len(), 1);
    assert_eq!(subject.events().await.len(), 1);

    // What did not happen is not remembered.
    let known = store.get(&made[0]).await.unwrap().unwrap().record;
    assert_eq!(store.create_from(&known, &Origin::MadeOnce(other)).await.unwrap(), Creation::AlreadyThere);
    assert_eq!(store.recall(shard, &other.name).await.unwrap(), None);

    drop(store);
    let subject = subject.reopen().await;
    let store = subject.store();
    assert_eq!(store.recall(shard, &request.name).await.unwrap(), Some(earlier));
    let again = store.create_from(&rivals[3], &Origin::MadeOnce(request)).await.unwrap();
    assert_eq!(again, Creation::Repeated(earlier), "also after a crash");
}

pub(in crate::store) async fn a_request_made_once_rotates_once(subject: Box<dyn Subject>) {
    let (store, old) = (subject.store(), record(1));
    let (request, retires_at) = (once(1), Timestamp::from_millis(i64::MAX));
    store.create(&old).await.unwrap();
    let new = successor(&old, 7);
    let first = store.rotate_once(&old.id, &new, retires_at, Some(&request)).await.unwrap();
    assert!(matches!(first, Some(Rotation::Rotated { .. })));
    let earlier = Earlier { id: new.id, fingerprint: request.fingerprint };
    let again = store.rotate_once(&old.id, &successor(&old, 8), retires_at, Some(&request)).await.unwrap();
    assert_eq!(again, Some(Rotation::Repeated(earlier)), "and not: it was rotated before");
    assert_eq!(store.recall(old.id.shard(), &request.name).await.unwrap(), Some(earlier));
    let other = store.rotate_once(&old.id, &successor(&old, 8), retires_at, Some(&once(2))).await.unwrap();
    assert_eq!(other, Some(Rotation::RotatedBefore));
    assert_eq!(store.recall(old.id.shard(), &once(2).name).await.unwrap(), None);
    assert_eq!(store.list(&everything(20)).await.unwrap().keys.len(), 2);
}
