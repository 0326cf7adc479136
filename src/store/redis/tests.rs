mod beside;
mod durable;
mod identity;
mod log;

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use tokio::time::{sleep, timeout};

use super::*;
use crate::model::{EventKind, Message, SHARDS};
use crate::store::contract::{Subject, contract_suite, member, record, successor};
use crate::store::people::contract::people_suite;
use crate::testing::RedisServer;

contract_suite!(super::fleet);

people_suite!(super::fleet_people);

async fn fleet_people() -> (Arc<dyn crate::store::people::PeopleStore>, RedisServer) {
    let server = RedisServer::start();
    (Arc::new(connected(settings(server.url())).await), server)
}

/// No test waits longer for a condition.
const PATIENCE: Duration = Duration::from_secs(20);

struct Fleet {
    store: Arc<RedisStore>,
    server: RedisServer,
}

async fn fleet() -> Box<dyn Subject> {
    Box::new(Fleet::on(RedisServer::start()).await)
}

impl Fleet {
    async fn on(server: RedisServer) -> Fleet {
        Fleet { store: Arc::new(connected(settings(server.url())).await), server }
    }

    async fn connection(&self) -> MultiplexedConnection {
        connect(&self.server).await
    }
}

#[async_trait]
impl Subject for Fleet {
    fn store(&self) -> Arc<dyn KeyStore> {
        Arc::clone(&self.store) as Arc<dyn KeyStore>
    }

    async fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for shard in Shard::all() {
            let entries = self.store.entries_after(shard, 0, 100_000).await.unwrap();
            events.extend(entries.into_iter().map(|entry| entry.event));
        }
        events
    }

    async fn now(&self) -> Timestamp {
        let (seconds, micros): (i64, i64) =
            redis::cmd("TIME").query_async(&mut self.connection().await).await.unwrap();
        Timestamp::from_millis(seconds * 1_000 + micros / 1_000)
    }

    async fn let_time_pass(&self) {
        let before = self.now().await;
        while self.now().await == before {}
    }

    async fn reopen(self: Box<Self>) -> Box<dyn Subject> {
        Box::new(Fleet::on(self.server).await)
    }
}

fn settings(url: String) -> RedisSettings {
    RedisSettings {
        url,
        ca_pem: None,
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(5),
        store_id: None,
        wait_replicas: 0,
        wait_fsync: false,
    }
}

/// A store that has its connection.
async fn connected(settings: RedisSettings) -> RedisStore {
    let store = RedisStore::connect(settings).unwrap();
    timeout(PATIENCE, store.wait_ready()).await.unwrap();
    store
}

/// A connection of the test's own.
async fn connect(server: &RedisServer) -> MultiplexedConnection {
    let patient = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let client = Client::open(server.url()).unwrap();
    client.get_multiplexed_async_connection_with_config(&patient).await.unwrap()
}

/// Waits until `condition` holds.
async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let wait = async {
        while !condition().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn a_store_that_is_not_there_yet_is_an_outage_and_then_there() {
    let mut server = RedisServer::start();
    server.stop();
    let store = RedisStore::connect(settings(server.url())).unwrap();
    assert!(!store.ready());
    assert!(matches!(store.find(&record(1).hash).await, Err(StoreError::Unavailable(_))));
    server.restart();
    timeout(PATIENCE, store.wait_ready()).await.unwrap();
    assert_eq!(store.find(&record(1).hash).await.unwrap(), None);
}

#[tokio::test]
async fn a_restarted_redis_is_found_again_with_its_scripts_gone() {
    let mut fleet = Fleet::on(RedisServer::start()).await;
    fleet.store.create(&record(1)).await.unwrap();
    fleet.server.restart();
    eventually("the store answers again", async || fleet.store.find(&record(1).hash).await.is_ok()).await;
    fleet.store.revoke(&record(1).id).await.unwrap().unwrap();
    assert!(fleet.store.find(&record(1).hash).await.unwrap().unwrap().revoked_at.is_some());
}

#[tokio::test]
async fn a_frozen_redis_is_an_outage_until_it_thaws() {
    let fleet = Fleet::on(RedisServer::start()).await;
    fleet.store.create(&record(1)).await.unwrap();
    fleet.server.freeze();
    eventually("the silence is noticed", async || !fleet.store.ready()).await;
    assert!(matches!(fleet.store.find(&record(1).hash).await, Err(StoreError::Unavailable(_))));
    fleet.server.thaw();
    timeout(PATIENCE, fleet.store.wait_ready()).await.unwrap();
    assert_eq!(fleet.store.find(&record(1).hash).await.unwrap(), Some(record(1)));
}

#[tokio::test]
async fn a_killed_connection_is_replaced() {
    let fleet = Fleet::on(RedisServer::start()).await;
    for _ in 0..3 {
        let kill = redis::cmd("CLIENT")
            .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
            .query_async::<i64>(&mut fleet.connection().await)
            .await;
        assert!(kill.unwrap() >= 1);
        eventually("the store answers again", async || fleet.store.find(&record(1).hash).await.is_ok()).await;
    }
}

#[tokio::test]
async fn what_the_log_holds_was_published() {
    use futures_util::StreamExt;
    let fleet = Fleet::on(RedisServer::start()).await;
    let mut subscription = fleet.store.client().get_async_pubsub().await.unwrap();
    subscription.subscribe(EVENTS_CHANNEL).await.unwrap();
    let new = successor(&record(1), 7);
    fleet.store.create(&record(1)).await.unwrap();
    fleet.store.rotate(&record(1).id, &new, new.created_at).await.unwrap();
    fleet.store.revoke(&record(1).id).await.unwrap();
    fleet.store.assert_revoked(&new.hash).await.unwrap();
    fleet.store.canary(new.id.shard(), Duration::from_secs(60)).await.unwrap();
    let messages = subscription.on_message();
    let published = messages.take(6).map(|message| Message::decode(message.get_payload_bytes()).unwrap());
    let published: Vec<_> = timeout(PATIENCE, published.collect()).await.unwrap();
    let logged = fleet.store.entries_after(new.id.shard(), 0, 100).await.unwrap();
    assert_eq!(published, logged.into_iter().map(Message::Entry).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_change_of_what_the_fleet_shares_is_a_hint_that_stands_in_no_log() {
    use futures_util::StreamExt;
    let fleet = Fleet::on(RedisServer::start()).await;
    let mut subscription = fleet.store.client().get_async_pubsub().await.unwrap();
    subscription.subscribe(EVENTS_CHANNEL).await.unwrap();
    let before = fleet.store.heads().await.unwrap();
    fleet.store.accept_unchecked_keys(true).await.unwrap();
    let message = timeout(PATIENCE, subscription.on_message().next()).await.unwrap().unwrap();
    let message = Message::decode(message.get_payload_bytes()).unwrap();
    assert_eq!(message, Message::Hint(Event::of_fleet(message.event().at)));
    assert_eq!(fleet.store.heads().await.unwrap().heads, before.heads);
}

#[tokio::test]
async fn the_calendar_of_the_scripts_is_right() {
    let server = RedisServer::start();
    let mut connection = connect(&server).await;
    // Steps of a little over a day, so that every date and many times of day come up until 2110.
    let (end, step) = (4_417_977_600i64, 86_400 + 3_607);
    let walk = "local shown = {}
        for seconds = 0, tonumber(ARGV[1]), tonumber(ARGV[2]) do shown[#shown + 1] = rfc3339(seconds, 7) end
        return shown";
    let script = redis::Script::new(&[lua::CALENDAR, walk].concat());
    let shown: Vec<String> = script.arg(end).arg(step).invoke_async(&mut connection).await.unwrap();
    let expected: Vec<_> = (0..=end)
        .step_by(step as usize)
        .map(|seconds| Timestamp::from_millis(seconds * 1_000 + 7).to_string())
        .collect();
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn a_damaged_record_is_an_outage_and_not_an_unknown_key() {
    let fleet = Fleet::on(RedisServer::start()).await;
    let key = record(1);
    fleet.store.create(&key).await.unwrap();
    fleet.store.revoke(&key.id).await.unwrap();
    let mut connection = fleet.connection().await;
    let name = layout::record_key(&key.hash);
    let others = serde_json::to_string(&record(2)).unwrap();
    for damage in [
        redis::cmd("HSET").arg(&name).arg(layout::RECORD).arg("{").clone(),
        redis::cmd("HSET").arg(&name).arg(layout::RECORD).arg(others).clone(),
        redis::cmd("HSET").arg(&name).arg(layout::REPLACED_BY).arg("nonsense").clone(),
    ] {
        damage.exec_async(&mut connection).await.unwrap();
        assert!(matches!(fleet.store.find(&key.hash).await, Err(StoreError::Corrupt(_))));
        assert!(matches!(fleet.store.get(&key.id).await, Err(StoreError::Corrupt(_))));
    }
    redis::cmd("DEL").arg(&name).exec_async(&mut connection).await.unwrap();
    assert!(matches!(fleet.store.get(&key.id).await, Err(StoreError::Corrupt(_))), "its id is still there");
    assert!(matches!(fleet.store.revoke(&key.id).await, Err(StoreError::Corrupt(_))));
}

#[tokio::test]
async fn a_user_with_a_password_gets_in_and_a_database_is_kept_apart() {
    let server = RedisServer::start();
    let mut connection = connect(&server).await;
    for rules in ["gate on >s3cret@:/ ~keygate:* &keygate:* +@all", "default off"] {
        let rules: Vec<_> = rules.split(' ').collect();
        redis::cmd("ACL").arg("SETUSER").arg(&rules).exec_async(&mut connection).await.unwrap();
    }
    let at = |user: &str| server.url().replace("redis://", &format!("redis://{user}@")) + "3";
    let store = RedisStore::connect(settings(at("gate:s3cret%40%3A%2F"))).unwrap();
    timeout(PATIENCE, store.wait_ready()).await.unwrap();
    store.create(&record(1)).await.unwrap();
    store.revoke(&record(1).id).await.unwrap();
    assert_eq!(store.client().get_connection_info().redis_settings().db(), 3);

    let wrong = settings(at("gate:wrong")).client().unwrap();
    let refused = wrong.get_multiplexed_async_connection().await.err().unwrap();
    assert_eq!(refused.kind(), redis::ErrorKind::AuthenticationFailed);
}

#[tokio::test]
async fn tls_is_spoken_with_whom_the_given_root_vouches_for_and_nobody_else() {
    let server = RedisServer::start();
    let certificates = tempfile::tempdir().unwrap();
    let path = |name: &str| certificates.path().join(name).to_str().unwrap().to_owned();
    make_certificates(&path);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    redis::cmd("CONFIG")
        .arg(&["SET", "tls-auth-clients", "no"])
        .arg(&["tls-cert-file", &path("server.pem"), "tls-key-file", &path("server.key")])
        .arg(&["tls-ca-cert-file", &path("root.pem"), "tls-port", &port.to_string()])
        .exec_async(&mut connect(&server).await)
        .await
        .unwrap();

    let url = format!("rediss://127.0.0.1:{port}/");
    let root = std::fs::read(path("root.pem")).unwrap();
    let with_root = RedisSettings { ca_pem: Some(root), ..settings(url.clone()) };
    let store = RedisStore::connect(with_root).unwrap();
    timeout(PATIENCE, store.wait_ready()).await.unwrap();
    assert_eq!(store.create(&record(1)).await.unwrap(), Creation::Created);

    let without_root = settings(url).client().unwrap();
    let refused = without_root.get_multiplexed_async_connection().await.err().unwrap();
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
    let unusable = RedisSettings { ca_pem: Some(b"no certificate".to_vec()), ..settings(server.url()) };
    assert!(unusable.client().is_err(), "a root certificate for a connection without TLS");
}

/// `root.pem`, and `server.pem` with `server.key` for 127.0.0.1.
fn make_certificates(path: &dyn Fn(&str) -> String) {
    std::fs::write(path("names"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for command in [
        format!("req -x509 {key} -subj /CN=root -keyout {} -out {}", path("root.key"), path("root.pem")),
        format!("req {key} -subj /CN=redis -keyout {} -out {}", path("server.key"), path("server.csr")),
        format!(
            "x509 -req -days 2 -in {} -CA {} -CAkey {} -CAcreateserial -extfile {} -out {}",
            path("server.csr"),
            path("root.pem"),
            path("root.key"),
            path("names"),
            path("server.pem")
        ),
    ] {
        let done = std::process::Command::new("openssl").args(command.split(' ')).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

#[tokio::test]
async fn an_unusable_url_is_refused_and_never_shown() {
    for url in ["redis://", "http://:s3cret@localhost/", "redis://gate:s3cret@localhost/x"] {
        let settings = settings(url.to_owned());
        assert!(!format!("{settings:?}").contains("s3cret"));
        let error =
            anyhow::Error::from(RedisStore::connect(settings).err().unwrap_or_else(|| panic!("{url}")));
        assert!(!format!("{error:#} {error:?}").contains("s3cret"), "{error:#}");
    }
}

#[test]
fn places_sort_as_the_list_does() {
    let id = record(1).id;
    let millis = [i64::MIN, -1, 0, 1, 1_764_000_000_000, i64::MAX];
    let places: Vec<_> =
        millis.iter().map(|&millis| layout::place(Timestamp::from_millis(millis), &id)).collect();
    assert!(places.is_sorted());
    for (place, millis) in places.iter().zip(millis) {
        assert_eq!(layout::read_place(place).unwrap().created_at.as_millis(), millis);
    }
    assert!(layout::read_place("nonsense").is_err());
}
