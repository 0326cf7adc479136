//! What is not the fleet's store is an outage, and nothing is written to it.

use super::super::identity::Identity;
use super::*;
use crate::store::{Activity, KeyUse, ListQuery, Mismatch};

/// Every key with its content.
type Content = Vec<(String, Vec<u8>)>;

async fn content(connection: &mut MultiplexedConnection) -> Content {
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(connection).await.unwrap();
    keys.sort();
    let mut content = Vec::new();
    for key in keys {
        let dump = redis::cmd("DUMP").arg(&key).query_async(connection).await.unwrap();
        content.push((key, dump));
    }
    let size: usize = redis::cmd("DBSIZE").query_async(connection).await.unwrap();
    assert_eq!(size, content.len());
    content
}

async fn restore(connection: &mut MultiplexedConnection, content: &Content) {
    do_all(connection, &["FLUSHALL"]).await;
    for (key, dump) in content {
        redis::cmd("RESTORE").arg(key).arg(0).arg(&dump[..]).exec_async(connection).await.unwrap();
    }
}

/// Sends commands whose words are apart by single spaces.
async fn do_all(connection: &mut MultiplexedConnection, commands: &[&str]) {
    for command in commands {
        let mut words = command.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        command.exec_async(connection).await.unwrap();
    }
}

/// Gives the whole store another name.
async fn rename(connection: &mut MultiplexedConnection, store_id: &str) {
    do_all(connection, &[&format!("HSET keygate:fleet store_id {store_id}")]).await;
    for shard in Shard::all() {
        do_all(connection, &[&format!("HSET {} store_id {store_id}", layout::head_key(shard))]).await;
    }
}

const OPERATIONS: [&str; 17] = [
    "find",
    "find unknown",
    "get",
    "get unknown",
    "list",
    "create",
    "revoke",
    "assert_revoked",
    "rotate",
    "record_uses",
    "fleet",
    "accept_unchecked_keys",
    "canary",
    "attend",
    "leave",
    "roll",
    "entries_after",
];

/// Does what is called so; `record(1)` may be there.
async fn operate(store: &RedisStore, operation: &str) -> Result<(), StoreError> {
    let (key, shard) = (record(1), record(1).id.shard());
    match operation {
        "find" => store.find(&key.hash).await.map(drop),
        "find unknown" => store.find(&record(2).hash).await.map(drop),
        "get" => store.get(&key.id).await.map(drop),
        "get unknown" => store.get(&record(2).id).await.map(drop),
        "list" => {
            let everything = ListQuery { limit: 9, ..ListQuery::default() };
            store.list(&everything).await.map(drop)
        }
        "create" => store.create(&record(3)).await.map(drop),
        "revoke" => store.revoke(&key.id).await.map(drop),
        "assert_revoked" => store.assert_revoked(&key.hash).await.map(drop),
        "rotate" => store.rotate(&key.id, &successor(&key, 7), key.created_at).await.map(drop),
        "record_uses" => {
            let activity = Activity { uses: 1, ..Activity::default() };
            let uses = vec![KeyUse { id: key.id, activity }];
            store.record_uses(&UsageBatch { id: 1, shard, uses }).await
        }
        "fleet" => store.fleet().await.map(drop),
        "accept_unchecked_keys" => store.accept_unchecked_keys(true).await,
        "canary" => store.canary(shard, Duration::from_millis(1)).await,
        "attend" => store.attend(&member(1, 1)).await,
        "leave" => store.leave(member(1, 1).id, 1).await,
        "roll" => store.roll().await.map(drop),
        "entries_after" => store.entries_after(shard, 0, 9).await.map(drop),
        other => panic!("{other}"),
    }
}

/// Asserts that every operation that follows `damage` at once says what is wrong, and that none writes anything.
/// `is_seen_at_once` says that nobody has to survey before.
async fn refuses_everything(
    settings: impl Fn(String) -> RedisSettings,
    is_seen_at_once: bool,
    damage: impl AsyncFn(&mut MultiplexedConnection),
    mend: impl AsyncFn(&mut MultiplexedConnection),
    is_expected: impl Fn(&Mismatch) -> bool,
) {
    let server = RedisServer::start();
    let store = connected(settings(server.url())).await;
    let mut connection = connect(&server).await;
    store.create(&record(1)).await.unwrap();
    store.attend(&member(1, 1)).await.unwrap();
    let whole = content(&mut connection).await;
    let not_ours = |outcome: &Result<(), StoreError>| match outcome {
        Err(StoreError::NotOurs(mismatch)) => is_expected(mismatch),
        _ => false,
    };
    for operation in OPERATIONS {
        damage(&mut connection).await;
        let damaged = content(&mut connection).await;
        if !is_seen_at_once {
            let outcome = store.heads().await.map(drop);
            assert!(not_ours(&outcome), "{operation}: {outcome:?}");
        }
        let outcome = operate(&store, operation).await;
        assert!(not_ours(&outcome), "{operation}: {outcome:?}");
        let outcome = store.heads().await.map(drop);
        assert!(not_ours(&outcome), "heads after {operation}: {outcome:?}");
        let report = store.inspect().await.unwrap();
        assert!(report.mismatch.as_ref().is_some_and(&is_expected), "{report:?}");
        assert_eq!(report.entries, damaged.len() as u64);
        let durability = store.confirm_durable(record(1).id.shard(), PATIENCE).await;
        assert!(matches!(durability, Durability::NotConfirmed(_)), "{durability:?}");
        assert_eq!(content(&mut connection).await, damaged, "{operation} wrote something");
        let outcome = store.accept(Some("another")).await;
        assert!(not_ours(&outcome), "{operation}: {outcome:?}");
        assert_eq!(content(&mut connection).await, damaged, "acceptance of something else");

        mend(&mut connection).await;
        restore(&mut connection, &whole).await;
        eventually("it is used again", async || {
            store.heads().await.is_ok() && operate(&store, operation).await.is_ok()
        })
        .await;
        restore(&mut connection, &whole).await;
    }
}

async fn leave_it(_: &mut MultiplexedConnection) {}

#[tokio::test]
async fn an_emptied_store_is_an_outage_for_everything_and_stays_empty() {
    let empty = |mismatch: &Mismatch| *mismatch == Mismatch::Empty;
    let emptied = async |connection: &mut _| do_all(connection, &["FLUSHALL"]).await;
    refuses_everything(settings, true, emptied, leave_it, empty).await;
}

#[tokio::test]
async fn a_store_with_other_content_and_no_identity_is_an_outage_for_everything() {
    let nameless = |mismatch: &Mismatch| *mismatch == Mismatch::Nameless;
    let replaced = async |connection: &mut _| do_all(connection, &["FLUSHALL", "SET song 1"]).await;
    let waiting = |url| RedisSettings { wait_replicas: 1, ..settings(url) };
    refuses_everything(waiting, true, replaced, leave_it, nameless).await;
}

#[tokio::test]
async fn another_fleets_store_is_an_outage_for_everything() {
    let foreign =
        |mismatch: &Mismatch| matches!(mismatch, Mismatch::Foreign { found, .. } if found == "theirs");
    let replaced = async |connection: &mut _| rename(connection, "theirs").await;
    refuses_everything(settings, true, replaced, leave_it, foreign).await;
}

#[tokio::test]
async fn a_part_of_an_identity_is_none() {
    let nameless = |mismatch: &Mismatch| *mismatch == Mismatch::Nameless;
    for damage in [
        "DEL keygate:fleet",
        "HDEL keygate:fleet check_secrets",
        "DEL keygate:{7}:head",
        "HDEL keygate:{7}:head nonce",
        "HSET keygate:{7}:head store_id theirs",
    ] {
        let damaged = async |connection: &mut _| do_all(connection, &[damage]).await;
        refuses_everything(settings, false, damaged, leave_it, nameless).await;
    }
}

#[tokio::test]
async fn a_store_that_may_evict_is_an_outage_for_everything() {
    let evicting =
        |mismatch: &Mismatch| matches!(mismatch, Mismatch::Evicting { policy } if policy == "allkeys-lru");
    let set = |policy| {
        async move |connection: &mut _| {
            do_all(connection, &[&format!("CONFIG SET maxmemory-policy {policy}")]).await;
        }
    };
    refuses_everything(settings, false, set("allkeys-lru"), set("noeviction"), evicting).await;
}

#[tokio::test]
async fn a_replica_is_an_outage_for_everything() {
    let replica = |mismatch: &Mismatch| *mismatch == Mismatch::Replica;
    // Of a primary that is never there.
    let demote = async |connection: &mut _| do_all(connection, &["REPLICAOF 127.0.0.1 1"]).await;
    let promote = async |connection: &mut _| do_all(connection, &["REPLICAOF NO ONE"]).await;
    refuses_everything(settings, false, demote, promote, replica).await;
}

#[tokio::test]
async fn a_store_that_is_back_is_used_again_though_nobody_looks() {
    let fleet = Fleet::on(RedisServer::start()).await;
    fleet.store.create(&record(1)).await.unwrap();
    let mut connection = fleet.connection().await;
    let whole = content(&mut connection).await;
    do_all(&mut connection, &["FLUSHALL"]).await;
    assert!(matches!(fleet.store.fleet().await, Err(StoreError::NotOurs(Mismatch::Empty))));
    restore(&mut connection, &whole).await;
    eventually("it is used again", async || fleet.store.find(&record(1).hash).await.is_ok()).await;
}

#[tokio::test]
async fn an_empty_store_that_may_evict_is_founded_when_it_no_longer_does() {
    let server = RedisServer::start();
    let mut connection = connect(&server).await;
    do_all(&mut connection, &["CONFIG SET maxmemory-policy volatile-ttl"]).await;
    let store = connected(settings(server.url())).await;
    assert!(matches!(store.fleet().await, Err(StoreError::NotOurs(Mismatch::Evicting { .. }))));
    assert!(matches!(store.accept(None).await, Err(StoreError::NotOurs(Mismatch::Evicting { .. }))));
    assert_eq!(content(&mut connection).await, []);
    do_all(&mut connection, &["CONFIG SET maxmemory-policy noeviction"]).await;
    eventually("it is founded", async || store.fleet().await.is_ok()).await;
}

#[tokio::test]
async fn of_many_that_start_together_one_founds_the_fleet() {
    let server = RedisServer::start();
    let stores: Vec<_> = (0..8).map(|_| RedisStore::connect(settings(server.url())).unwrap()).collect();
    let mut fleets = Vec::new();
    for store in &stores {
        timeout(PATIENCE, store.wait_ready()).await.unwrap();
        fleets.push(store.fleet().await.unwrap());
        store.heads().await.unwrap();
    }
    assert!(fleets.iter().all(|fleet| *fleet == fleets[0]));
}

#[tokio::test]
async fn who_comes_late_to_the_founding_changes_nothing() {
    let fleet = Fleet::on(RedisServer::start()).await;
    let before = content(&mut fleet.connection().await).await;
    let late = Identity::new(None);
    late.found_fleet(&fleet.store.link.line().unwrap()).await.unwrap();
    assert_eq!(content(&mut fleet.connection().await).await, before);
}

#[tokio::test]
async fn a_store_with_something_in_it_is_not_founded() {
    let server = RedisServer::start();
    let mut connection = connect(&server).await;
    do_all(&mut connection, &["SET song 1"]).await;
    let store = connected(settings(server.url())).await;
    assert!(matches!(store.fleet().await, Err(StoreError::NotOurs(Mismatch::Nameless))));
    assert_eq!(content(&mut connection).await.len(), 1);
}

#[tokio::test]
async fn where_an_identity_is_prescribed_nothing_is_founded_and_no_other_is_taken() {
    let server = RedisServer::start();
    let pinned =
        |store_id: &str| RedisSettings { store_id: Some(store_id.to_owned()), ..settings(server.url()) };
    let mut connection = connect(&server).await;
    let store = connected(pinned("ours")).await;
    assert!(matches!(store.fleet().await, Err(StoreError::NotOurs(Mismatch::Empty))));
    assert!(matches!(store.find(&record(1).hash).await, Err(StoreError::NotOurs(Mismatch::Empty))));
    assert_eq!(content(&mut connection).await, []);
    let report = store.inspect().await.unwrap();
    assert_eq!((report.ours.as_deref(), report.found, report.entries), (Some("ours"), None, 0));

    let founder = connected(settings(server.url())).await;
    let found = founder.fleet().await.unwrap().store_id;
    let foreign = Mismatch::Foreign { found: found.clone(), ours: "ours".to_owned() };
    eventually(
        "the other fleet is seen",
        async || matches!(store.fleet().await, Err(StoreError::NotOurs(mismatch)) if mismatch == foreign),
    )
    .await;
    assert_eq!(connected(pinned(&found)).await.fleet().await.unwrap().store_id, found);
}

#[tokio::test]
async fn an_emptied_store_can_be_accepted_and_knows_the_old_secrets() {
    let fleet = Fleet::on(RedisServer::start()).await;
    fleet.store.accept_unchecked_keys(true).await.unwrap();
    fleet.store.create(&record(1)).await.unwrap();
    let (known, before) = (fleet.store.fleet().await.unwrap(), fleet.store.heads().await.unwrap());
    do_all(&mut fleet.connection().await, &["FLUSHALL"]).await;
    fleet.store.accept(None).await.unwrap();
    assert_eq!(fleet.store.fleet().await.unwrap(), known);
    let after = fleet.store.heads().await.unwrap();
    for (before, after) in before.heads.iter().zip(after.heads) {
        assert_eq!(after.seq, 0);
        assert_ne!(before.nonce, after.nonce, "it is another log");
    }
    let names: std::collections::HashSet<_> = after.heads.iter().map(|head| head.nonce).collect();
    assert_eq!(names.len(), SHARDS, "each with a name of its own");
    assert_eq!(fleet.store.find(&record(1).hash).await.unwrap(), None);
    fleet.store.create(&record(1)).await.unwrap();
}

#[tokio::test]
async fn another_fleets_store_can_be_accepted_with_its_keys_and_its_secrets() {
    let (ours, theirs) = (Fleet::on(RedisServer::start()).await, Fleet::on(RedisServer::start()).await);
    let (known, their) = (ours.store.fleet().await.unwrap(), theirs.store.fleet().await.unwrap());
    theirs.store.accept_unchecked_keys(true).await.unwrap();
    theirs.store.create(&record(1)).await.unwrap();
    let content = content(&mut theirs.connection().await).await;
    let their_heads = theirs.store.heads().await.unwrap();
    restore(&mut ours.connection().await, &content).await;
    assert!(matches!(ours.store.heads().await, Err(StoreError::NotOurs(Mismatch::Foreign { .. }))));

    ours.store.accept(Some(&their.store_id)).await.unwrap();
    let fleet = ours.store.fleet().await.unwrap();
    assert_eq!(fleet.store_id, known.store_id);
    assert_eq!(fleet.check_secrets, [known.check_secrets, their.check_secrets].concat());
    assert!(fleet.accept_unchecked_keys, "its keys without a check stay good");
    assert_eq!(ours.store.find(&record(1).hash).await.unwrap(), Some(record(1)));
    for (before, after) in their_heads.heads.iter().zip(ours.store.heads().await.unwrap().heads) {
        assert_eq!(after.seq, before.seq);
        assert_ne!(after.nonce, before.nonce, "every gateway sees that it is another log");
    }
    ours.store.revoke(&record(1).id).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_log_goes_on_where_it_ends_when_its_head_was_lost() {
    let fleet = Fleet::on(RedisServer::start()).await;
    let key = record(1);
    fleet.store.create(&key).await.unwrap();
    fleet.store.revoke(&key.id).await.unwrap();
    let shard = key.id.shard();
    do_all(&mut fleet.connection().await, &[&format!("DEL {}", layout::head_key(shard))]).await;
    let known = fleet.store.fleet().await.unwrap();
    fleet.store.accept(Some(&known.store_id)).await.unwrap();
    assert_eq!(fleet.store.fleet().await.unwrap(), known, "no secret is doubled");
    let accepted = fleet.store.heads().await.unwrap().heads[shard.index()];
    assert_eq!(accepted.seq, 2);
    fleet.store.revoke(&key.id).await.unwrap();
    let entry = fleet.store.entries_after(shard, 2, 9).await.unwrap().pop().unwrap();
    assert!(entry.follows(&accepted));
}

#[tokio::test]
async fn who_knows_no_identity_keeps_what_is_there_of_one_and_makes_what_is_missing() {
    let server = RedisServer::start();
    let mut connection = connect(&server).await;
    do_all(&mut connection, &["HSET keygate:fleet store_id theirs accept_unchecked_keys 1"]).await;
    let store = connected(settings(server.url())).await;
    let report = store.inspect().await.unwrap();
    assert_eq!((report.ours, report.found.as_deref()), (None, Some("theirs")));
    assert!(matches!(store.accept(None).await, Err(StoreError::NotOurs(Mismatch::Nameless))));
    store.accept(Some("theirs")).await.unwrap();
    let fleet = store.fleet().await.unwrap();
    assert_eq!((&*fleet.store_id, fleet.check_secrets.len()), ("theirs", 1));
    assert!(fleet.accept_unchecked_keys);

    do_all(&mut connection, &["FLUSHALL", "SET song 1"]).await;
    let stranger = connected(settings(server.url())).await;
    stranger.accept(None).await.unwrap();
    assert_eq!(stranger.fleet().await.unwrap().store_id.len(), 32);
    assert!(matches!(store.heads().await, Err(StoreError::NotOurs(Mismatch::Foreign { .. }))));
}

#[tokio::test]
async fn a_prescribed_identity_is_written_where_an_empty_store_is_accepted() {
    let server = RedisServer::start();
    let pinned = RedisSettings { store_id: Some("ours".to_owned()), ..settings(server.url()) };
    let store = connected(pinned.clone()).await;
    store.accept(None).await.unwrap();
    let fleet = store.fleet().await.unwrap();
    assert_eq!((&*fleet.store_id, fleet.check_secrets.len()), ("ours", 1));
    assert_eq!(connected(pinned).await.fleet().await.unwrap(), fleet);
}
