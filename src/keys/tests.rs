use super::memory::{HeardEvents, MemoryStore, REVOKED_AT, STORE_ID};
use super::*;
use crate::clock::ManualClock;
use crate::model::KeyStatus;
use crate::store::Mismatch;

const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_000);

struct House {
    store: Arc<MemoryStore>,
    heard: Arc<HeardEvents>,
    clock: ManualClock,
    metrics: Arc<Metrics>,
    keys: KeyService,
}

fn house() -> House {
    let (store, heard) = (Arc::new(MemoryStore::default()), Arc::new(HeardEvents::default()));
    let (clock, metrics) = (ManualClock::at(NOW), Arc::new(Metrics::new()));
    let keys = KeyService::new(
        Arc::clone(&store) as Arc<dyn KeyStore>,
        Arc::clone(&heard) as Arc<dyn FeedSink>,
        KeyFormat::new("sk").unwrap(),
        Arc::new(clock.clone()),
        Arc::clone(&metrics),
    );
    House { store, heard, clock, metrics, keys }
}

fn new_key() -> NewKey {
    NewKey { label: " Server ".into(), team: None, environment: Environment::Sandbox, expires_at: None }
}

fn imported(byte: u8) -> ImportedKey {
    ImportedKey {
        sha256: KeyHash::from_bytes([byte; 32]),
        label: "Old".into(),
        team: Some("acme".into()),
        environment: Environment::Live,
        display: None,
        created_at: None,
        expires_at: Some(Timestamp::from_millis(1)),
    }
}

#[tokio::test]
async fn a_made_key_carries_the_fleets_first_check_and_is_told_at_once() {
    let house = house();
    let (record, key) = house.keys.create(new_key()).await.unwrap();
    assert!(key.is_checked_by(&[CheckSecret::from_bytes([1; 32])]));
    assert!(key.expose().starts_with("sk_test_"));
    assert_eq!((record.hash, record.display.clone()), (key.hash(), key.display()));
    assert_eq!((record.label.as_str(), record.team.as_str(), record.created_at), ("Server", "default", NOW));
    assert_eq!(record.id.shard(), Shard::of(&record.hash));
    let heard = house.heard.take_events();
    assert_eq!(heard, [Event { kind: EventKind::Created, hash: record.hash, id: Some(record.id), at: NOW }]);
    assert_eq!(house.keys.get(&record.id).await.unwrap().record, record);
}

#[tokio::test]
async fn no_two_keys_are_alike() {
    let house = house();
    let (first, _) = house.keys.create(new_key()).await.unwrap();
    let (second, _) = house.keys.create(new_key()).await.unwrap();
    assert!(first.hash != second.hash && first.id != second.id);
}

#[tokio::test]
async fn a_key_that_exists_is_drawn_again_and_never_overwritten() {
    let house = house();
    house.store.collide_next(2);
    assert!(house.keys.create(new_key()).await.is_ok());
    house.store.collide_next(3);
    assert!(matches!(house.keys.create(new_key()).await, Err(KeyError::PoorRandomness)));
}

#[tokio::test]
async fn a_key_must_expire_in_the_future() {
    let house = house();
    for (expiry, allowed) in [(NOW, false), (NOW.plus(Duration::from_millis(1)), true)] {
        let made = house.keys.create(NewKey { expires_at: Some(expiry), ..new_key() }).await;
        assert_eq!(made.is_ok(), allowed);
    }
}

#[tokio::test]
async fn a_revocation_is_told_at_once_and_can_be_repeated() {
    let house = house();
    let (record, key) = house.keys.create(new_key()).await.unwrap();
    house.heard.take();
    let revoked = house.keys.revoke(&record.id).await.unwrap();
    assert!(revoked.newly);
    assert_eq!((revoked.key.record.revoked_at, revoked.revoked_at), (Some(REVOKED_AT), REVOKED_AT));
    assert_eq!(revoked.key.record.status(NOW), KeyStatus::Revoked);
    assert!(!house.keys.revoke_key(&key).await.unwrap().newly);
    let told = Event { kind: EventKind::Revoked, hash: record.hash, id: Some(record.id), at: NOW };
    assert_eq!(house.heard.take_events(), [told.clone(), told]);
}

#[tokio::test]
async fn a_key_that_nobody_knows_cannot_be_revoked() {
    let house = house();
    let key =
        KeyFormat::new("sk").unwrap().mint(Environment::Live, [7; 24], &CheckSecret::from_bytes([1; 32]));
    assert!(matches!(house.keys.revoke_key(&key).await, Err(KeyError::NotFound)));
    let id = KeyId::new(Shard::of(&key.hash()), [0; 10]);
    assert!(matches!(house.keys.revoke(&id).await, Err(KeyError::NotFound)));
    assert!(house.heard.take().is_empty());
}

#[tokio::test]
async fn a_key_dies_here_even_if_the_store_is_away_and_there_once_it_is_back() {
    let house = house();
    let (record, key) = house.keys.create(new_key()).await.unwrap();
    house.heard.take();
    house.store.set_down(true);
    assert!(matches!(house.keys.revoke_key(&key).await, Err(KeyError::RevokedHereOnly(_))));
    assert_eq!(house.heard.take(), [(EventKind::Revoked, record.hash)]);
    assert_eq!(house.keys.write_overdue_revocations().await, 1);
    assert!(house.metrics.render().contains("keygate_revocations_pending 1"));
    house.store.set_down(false);
    assert_eq!(house.keys.write_overdue_revocations().await, 0);
    assert!(house.keys.get(&record.id).await.unwrap().record.revoked_at.is_some());
    assert!(house.metrics.render().contains("keygate_revocations_pending 0"));
}

#[tokio::test]
async fn a_store_that_loses_a_revocation_right_after_it_took_it_is_told_again() {
    let house = house();
    let (record, _) = house.keys.create(new_key()).await.unwrap();
    house.store.tell_by_log();
    assert!(matches!(house.keys.revoke(&record.id).await.unwrap().told, Told::Logged(_)));
    house.store.forget(&record.id);
    house.clock.advance(Duration::from_millis(4_999));
    house.keys.say_it_again().await;
    assert!(!house.store.is_marked(&record.hash), "too early: a crash may still come");
    house.clock.advance(Duration::from_millis(1));
    house.store.set_down(true);
    house.keys.say_it_again().await;
    assert_eq!(house.keys.overdue_revocations(), 1);
    house.store.set_down(false);
    assert_eq!(house.keys.write_overdue_revocations().await, 0);
    assert!(house.store.is_marked(&record.hash));
}

#[tokio::test]
async fn a_revocation_is_owed_also_to_a_store_that_has_lost_the_key() {
    let house = house();
    let (record, key) = house.keys.create(new_key()).await.unwrap();
    house.store.set_down(true);
    assert!(matches!(house.keys.revoke_key(&key).await, Err(KeyError::RevokedHereOnly(_))));
    house.store.forget(&record.id);
    house.store.set_down(false);
    assert_eq!(house.keys.write_overdue_revocations().await, 0);
    assert!(house.store.is_marked(&record.hash));
}

#[tokio::test]
async fn a_remembered_key_dies_here_by_its_id_while_the_store_is_away() {
    let house = house();
    let (record, _) = house.keys.create(new_key()).await.unwrap();
    house.heard.remember(&record);
    house.heard.take();
    house.store.set_down(true);
    // Once more too, when only the debt remembers the key.
    for _ in 0..2 {
        assert!(matches!(house.keys.revoke(&record.id).await, Err(KeyError::RevokedHereOnly(_))));
        let told = Event { kind: EventKind::Revoked, hash: record.hash, id: Some(record.id), at: NOW };
        assert_eq!(house.heard.take_events(), [told]);
    }
    assert_eq!(house.keys.overdue_revocations(), 1);
    house.store.set_down(false);
    assert_eq!(house.keys.write_overdue_revocations().await, 0);
    assert!(house.keys.get(&record.id).await.unwrap().record.revoked_at.is_some());
}

#[tokio::test]
async fn a_remembered_key_does_not_live_as_long_as_the_store_hangs() {
    let house = house();
    let (record, _) = house.keys.create(new_key()).await.unwrap();
    house.heard.remember(&record);
    house.heard.take();
    house.store.set_hanging(true);
    let (revoked, ()) = tokio::join!(house.keys.revoke(&record.id), async {
        while house.heard.take().is_empty() {
            tokio::task::yield_now().await;
        }
        // It was told while the store still says nothing.
        house.store.set_down(true);
    });
    assert!(matches!(revoked, Err(KeyError::RevokedHereOnly(_))));
}

#[tokio::test]
async fn a_store_that_is_not_ours_takes_no_revocation_and_is_told_once_it_is() {
    let house = house();
    let (record, key) = house.keys.create(new_key()).await.unwrap();
    house.store.replace_by(None, Mismatch::Empty);
    let refused = house.keys.revoke_key(&key).await;
    assert!(matches!(refused, Err(KeyError::RevokedHereOnly(StoreError::NotOurs(Mismatch::Empty)))));
    assert_eq!(house.keys.write_overdue_revocations().await, 1);
    assert_eq!(house.keys.accept_store(None).await.unwrap().mismatch, None);
    assert_eq!(house.keys.write_overdue_revocations().await, 0);
    assert!(house.keys.get(&record.id).await.unwrap().record.revoked_at.is_some());
}

#[tokio::test]
async fn a_store_is_accepted_only_as_it_was_seen() {
    let house = house();
    let other = "f".repeat(32);
    let foreign = Mismatch::Foreign { found: other.clone(), ours: STORE_ID.to_owned() };
    house.store.replace_by(Some(&other), foreign.clone());
    assert_eq!(house.keys.inspect_store().await.unwrap().mismatch, Some(foreign));
    for seen in [None, Some(STORE_ID)] {
        let refused = house.keys.accept_store(seen).await;
        assert!(matches!(refused, Err(KeyError::StoreChanged(Some(found))) if found == other));
    }
    assert_eq!(house.keys.accept_store(Some(&other)).await.unwrap().found.as_deref(), Some(STORE_ID));
    // Ours already: nothing to do, and no harm.
    assert!(house.keys.accept_store(Some(STORE_ID)).await.is_ok());
    house.store.replace_by(Some(STORE_ID), Mismatch::Replica);
    let refused = house.keys.accept_store(Some(STORE_ID)).await;
    assert!(matches!(refused, Err(KeyError::Unacceptable(Mismatch::Replica))));
}

#[tokio::test]
async fn a_rotated_key_lives_beside_its_successor_until_its_grace_ends() {
    let house = house();
    let expires_at = Some(NOW.plus(Duration::from_secs(100_000)));
    let new = NewKey { team: Some("acme".into()), expires_at, ..new_key() };
    let (old, _) = house.keys.create(new).await.unwrap();
    house.heard.take();
    house.clock.advance(Duration::from_secs(5));
    let hour = Duration::from_secs(3_600);
    let (rotated, key) = house.keys.rotate(&old.id, hour).await.unwrap();
    let now = NOW.plus(Duration::from_secs(5));
    let record = &rotated.record;
    assert_eq!(record.hash, key.hash());
    assert!(key.is_checked_by(&[CheckSecret::from_bytes([1; 32])]));
    assert_eq!(record.id.shard(), old.id.shard());
    assert_eq!((&record.label, &record.team, record.environment), (&old.label, &old.team, old.environment));
    assert_eq!((record.created_at, record.expires_at), (now, expires_at));
    assert_eq!((record.replaces, rotated.old.record.replaced_by), (Some(old.id), Some(record.id)));
    let retiring = house.keys.get(&old.id).await.unwrap().record;
    assert_eq!(retiring, rotated.old.record);
    assert_eq!(retiring.status(now), KeyStatus::Rotating);
    assert_eq!(retiring.status(now.plus(hour)), KeyStatus::Expired);
    let told = |kind, record: &KeyRecord| Event { kind, hash: record.hash, id: Some(record.id), at: now };
    let expected = [told(EventKind::Changed, &old), told(EventKind::Created, record)];
    assert_eq!(house.heard.take_events(), expected);
    // "Revoke now" stays possible.
    assert!(house.keys.revoke(&old.id).await.unwrap().newly);
}

#[tokio::test]
async fn without_grace_the_old_key_ends_at_once() {
    let house = house();
    let (old, _) = house.keys.create(new_key()).await.unwrap();
    let (rotated, _) = house.keys.rotate(&old.id, Duration::ZERO).await.unwrap();
    assert_eq!(rotated.old.record.status(NOW), KeyStatus::Expired);
    assert_eq!(rotated.record.status(NOW), KeyStatus::Active);
}

#[tokio::test]
async fn a_key_that_cannot_be_replaced_is_refused_with_the_reason() {
    let house = house();
    let minute = Duration::from_secs(60);
    let create = async |expires_at| house.keys.create(NewKey { expires_at, ..new_key() }).await.unwrap().0;
    let (active, revoked) = (create(None).await, create(None).await);
    let expired = create(Some(NOW.plus(minute))).await;
    let too_long = house.keys.rotate(&active.id, MAX_GRACE + Duration::from_secs(1)).await;
    assert!(matches!(too_long, Err(KeyError::Invalid(InvalidField { field: "grace", .. }))));
    house.keys.revoke(&revoked.id).await.unwrap();
    house.clock.advance(minute);
    let rotate = async |record: &KeyRecord| house.keys.rotate(&record.id, minute).await.map(|done| done.0);
    assert!(matches!(rotate(&revoked).await, Err(KeyError::RevokedBefore)));
    assert!(matches!(rotate(&expired).await, Err(KeyError::HasExpired)));
    let done = rotate(&active).await.unwrap();
    for _ in 0..2 {
        let again = rotate(&active).await;
        assert!(matches!(again, Err(KeyError::RotatedBefore(Some(new))) if new == done.record.id));
        // Neither does it change anything that the grace has ended meanwhile.
        house.clock.advance(minute);
    }
    assert!(rotate(&done.record).await.is_ok(), "the successor can be rotated in turn");
    let nobody = KeyId::new(active.id.shard(), [0; 10]);
    assert!(matches!(house.keys.rotate(&nobody, minute).await, Err(KeyError::NotFound)));
}

#[tokio::test]
async fn a_successor_that_exists_is_drawn_again() {
    let house = house();
    let (old, _) = house.keys.create(new_key()).await.unwrap();
    house.store.collide_next(3);
    assert!(matches!(house.keys.rotate(&old.id, MAX_GRACE).await, Err(KeyError::PoorRandomness)));
    house.store.collide_next(2);
    assert!(house.keys.rotate(&old.id, MAX_GRACE).await.is_ok());
}

#[tokio::test]
async fn a_known_key_dies_here_even_if_the_store_cannot_write() {
    let house = house();
    let (record, _) = house.keys.create(new_key()).await.unwrap();
    house.heard.take();
    house.store.refuse_revocations(true);
    assert!(matches!(house.keys.revoke(&record.id).await, Err(KeyError::RevokedHereOnly(_))));
    assert_eq!(house.heard.take(), [(EventKind::Revoked, record.hash)]);
    house.store.refuse_revocations(false);
    assert!(house.keys.revoke(&record.id).await.unwrap().newly);
    assert_eq!(house.keys.overdue_revocations(), 0);
}

#[tokio::test]
async fn an_id_that_the_store_cannot_resolve_is_an_outage() {
    let house = house();
    let (record, _) = house.keys.create(new_key()).await.unwrap();
    house.store.set_down(true);
    assert!(matches!(house.keys.revoke(&record.id).await, Err(KeyError::Store(_))));
}

#[tokio::test]
async fn an_import_opens_the_door_for_unchecked_keys_and_can_be_repeated() {
    let house = house();
    assert_eq!(house.keys.import(Vec::new()).await.unwrap(), ImportReport::default());
    assert!(!house.store.accepts_unchecked());
    let report = house.keys.import(vec![imported(1), imported(2), imported(1)]).await.unwrap();
    assert_eq!(report, ImportReport { created: 2, already_there: 1 });
    assert!(house.store.accepts_unchecked());
    let heard: Vec<EventKind> = house.heard.take().iter().map(|(kind, _)| *kind).collect();
    assert_eq!(heard, [EventKind::Fleet, EventKind::Created, EventKind::Created]);
    let report = house.keys.import(vec![imported(1), imported(3)]).await.unwrap();
    assert_eq!(report, ImportReport { created: 1, already_there: 1 });
}

#[tokio::test]
async fn an_import_is_judged_as_a_whole_before_anything_is_written() {
    let house = house();
    let bad = [
        imported(1),
        ImportedKey { label: String::new(), ..imported(2) },
        ImportedKey { created_at: Some(NOW.plus(Duration::from_secs(1))), ..imported(3) },
        ImportedKey { display: Some(format!("sk_live_{}", "0".repeat(64))), ..imported(4) },
    ];
    let Err(KeyError::BadImports(problems)) = house.keys.import(bad.to_vec()).await else {
        panic!("it must be refused");
    };
    let named: Vec<_> = problems.iter().map(|bad| (bad.index, bad.problem.field)).collect();
    assert_eq!(named, [(1, "label"), (2, "created_at"), (3, "display")]);
    assert!(!house.store.accepts_unchecked());
    assert!(house.heard.take().is_empty());
}
