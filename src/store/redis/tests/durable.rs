//! What a crash of Redis could undo, and what not.

use super::*;

async fn configure(server: &RedisServer, setting: &str, value: &str) {
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg(setting).arg(value);
    set.exec_async(&mut connect(server).await).await.unwrap();
}

fn shard() -> Shard {
    record(1).id.shard()
}

#[track_caller]
fn assert_not_confirmed(durability: &Durability, reason: &str) {
    let Durability::NotConfirmed(why) = durability else { panic!("{durability:?}") };
    assert!(why.contains(reason), "{why}");
}

#[tokio::test]
async fn the_settings_of_redis_decide_where_nothing_is_waited_for() {
    let fleet = Fleet::on(RedisServer::start()).await;
    let confirm = async || fleet.store.confirm_durable(shard(), PATIENCE).await;
    assert_not_confirmed(&confirm().await, "appendfsync everysec");
    configure(&fleet.server, "appendfsync", "always").await;
    assert_eq!(confirm().await, Durability::Durable);
    configure(&fleet.server, "appendonly", "no").await;
    assert_not_confirmed(&confirm().await, "appendonly");
}

#[tokio::test]
async fn a_redis_that_hides_its_settings_confirms_nothing() {
    let server = RedisServer::start();
    let mut restrict = redis::cmd("ACL");
    restrict.arg(&["SETUSER", "gate", "on", ">s3cret", "~keygate:*", "&keygate:*", "+@all", "-config"]);
    restrict.exec_async(&mut connect(&server).await).await.unwrap();
    let store = connected(settings(server.url().replace("redis://", "redis://gate:s3cret@"))).await;
    assert_not_confirmed(&store.confirm_durable(shard(), PATIENCE).await, "allow CONFIG GET");
}

#[tokio::test]
async fn a_replica_that_has_it_confirms_and_one_that_is_missing_is_said() {
    let (server, mut replica) = (RedisServer::start(), RedisServer::start());
    configure(&server, "repl-diskless-sync-delay", "0").await;
    let store = connected(RedisSettings { wait_replicas: 1, ..settings(server.url()) }).await;
    let briefly = Duration::from_secs(1);
    assert_not_confirmed(&store.confirm_durable(shard(), briefly).await, "only 0 of the 1 replicas");

    let port = server.url().trim_end_matches('/').rsplit(':').next().unwrap().to_owned();
    let mut follow = redis::cmd("REPLICAOF");
    follow.arg("127.0.0.1").arg(port);
    follow.exec_async(&mut connect(&replica).await).await.unwrap();
    eventually("the replica has it", async || {
        store.confirm_durable(shard(), briefly).await == Durability::Durable
    })
    .await;
    store.create(&record(1)).await.unwrap();
    store.revoke(&record(1).id).await.unwrap();
    assert_eq!(store.confirm_durable(shard(), PATIENCE).await, Durability::Durable);
    // WAIT is about the last write of its own connection: there has to be one, and in our slot.
    let mut written = redis::cmd("EXISTS");
    written.arg(layout::durable_key(shard()));
    assert_eq!(written.query_async::<u32>(&mut connect(&server).await).await.unwrap(), 1);
    let revoked_at: Option<i64> = redis::cmd("HGET")
        .arg(layout::record_key(&record(1).hash))
        .arg(layout::REVOKED_AT)
        .query_async(&mut connect(&replica).await)
        .await
        .unwrap();
    assert!(revoked_at.is_some(), "what was confirmed is there");

    replica.freeze();
    assert_not_confirmed(&store.confirm_durable(shard(), briefly).await, "only 0 of the 1 replicas");
    replica.thaw();
    eventually("the replica has it again", async || {
        store.confirm_durable(shard(), briefly).await == Durability::Durable
    })
    .await;
    replica.stop();
}

#[tokio::test]
async fn a_wait_holds_nobody_up() {
    let server = RedisServer::start();
    let store = Arc::new(connected(RedisSettings { wait_replicas: 1, ..settings(server.url()) }).await);
    let waiting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.confirm_durable(shard(), Duration::from_secs(600)).await }
    });
    let mut connection = connect(&server).await;
    eventually("it waits", async || {
        let list = redis::cmd("CLIENT").arg("LIST").query_async(&mut connection.clone()).await;
        list.is_ok_and(|list: String| list.contains("cmd=wait"))
    })
    .await;
    assert_eq!(store.create(&record(1)).await.unwrap(), Creation::Created);
    assert!(store.find(&record(1).hash).await.unwrap().is_some());
    assert!(!waiting.is_finished());
    waiting.abort();
    redis::cmd("PING").exec_async(&mut connection).await.unwrap();
}

#[tokio::test]
async fn a_redis_that_cannot_say_when_it_has_synced_is_named() {
    let fleet = Fleet::on(RedisServer::start()).await;
    let store = connected(RedisSettings { wait_fsync: true, ..settings(fleet.server.url()) }).await;
    let durability = store.confirm_durable(shard(), PATIENCE).await;
    let mut known = redis::cmd("COMMAND");
    known.arg("INFO").arg("WAITAOF");
    let known: Vec<redis::Value> = known.query_async(&mut fleet.connection().await).await.unwrap();
    if known == [redis::Value::Nil] {
        assert_not_confirmed(&durability, "this Redis has no WAITAOF");
    } else {
        assert_eq!(durability, Durability::Durable);
        configure(&fleet.server, "appendonly", "no").await;
        assert_not_confirmed(&store.confirm_durable(shard(), PATIENCE).await, "WAITAOF");
    }
}

#[tokio::test]
async fn a_redis_that_does_not_answer_confirms_nothing() {
    let fleet = Fleet::on(RedisServer::start()).await;
    let store = connected(RedisSettings { wait_replicas: 1, ..settings(fleet.server.url()) }).await;
    fleet.server.freeze();
    let durability = store.confirm_durable(shard(), Duration::from_millis(100)).await;
    assert!(matches!(durability, Durability::NotConfirmed(_)), "{durability:?}");
    fleet.server.thaw();
}
