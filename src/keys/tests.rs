use super::memory::{HeardEvents, MemoryStore, REVOKED_AT};
use super::*;
use crate::clock::ManualClock;
use crate::model::{CheckSecret, KeyStatus};

const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_000);

struct House {
    store: Arc<MemoryStore>,
    heard: Arc<HeardEvents>,
    keys: KeyService,
}

fn house() -> House {
    let (store, heard) = (Arc::new(MemoryStore::default()), Arc::new(HeardEvents::default()));
    let keys = KeyService::new(
        Arc::clone(&store) as Arc<dyn KeyStore>,
        Arc::clone(&heard) as Arc<dyn FeedSink>,
        KeyFormat::new("sk").unwrap(),
        Arc::new(ManualClock::at(NOW)),
    );
    House { store, heard, keys }
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
    assert_eq!(house.heard.take(), [(EventKind::Created, record.hash)]);
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
    assert!(matches!(house.keys.create(new_key()).await, Err(KeyError::NotUnique)));
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
    assert_eq!(revoked.key.record.revoked_at, Some(REVOKED_AT));
    assert_eq!(revoked.key.record.status(NOW), KeyStatus::Revoked);
    assert!(!house.keys.revoke_key(&key).await.unwrap().newly);
    assert_eq!(house.heard.take(), [(EventKind::Revoked, record.hash); 2]);
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
    house.store.set_down(false);
    assert_eq!(house.keys.write_overdue_revocations().await, 0);
    assert!(house.keys.get(&record.id).await.unwrap().record.revoked_at.is_some());
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
