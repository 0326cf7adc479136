use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::clock::SystemClock;
use crate::events::recorder::{Heard, Recorder};
use crate::model::{EventKind, KeyHash, SHARDS, Timestamp};
use crate::testing::RedisServer;

const CHANNEL: &str = "keygate:events";

struct Listening {
    server: RedisServer,
    sink: Arc<Recorder>,
    clock: Arc<SystemClock>,
    _stop: oneshot::Sender<()>,
    feed: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.feed.abort();
    }
}

impl Listening {
    async fn start() -> Listening {
        let server = RedisServer::start();
        let sink = Arc::new(Recorder::default());
        let clock = Arc::new(SystemClock::start());
        let settings = RedisFeedSettings {
            client: Client::open(server.url()).unwrap(),
            channel: CHANNEL.to_owned(),
            connect_timeout: Duration::from_secs(5),
        };
        let feed = RedisFeed::new(
            settings,
            Arc::clone(&sink) as Arc<dyn FeedSink>,
            Arc::clone(&clock) as Arc<dyn Clock>,
        );
        let (stop, stopped) = oneshot::channel::<()>();
        let feed = tokio::spawn(feed.run(async {
            let _ = stopped.await;
        }));
        let listening = Listening { server, sink, clock, _stop: stop, feed };
        listening.until_it_stands().await;
        listening
    }

    /// A gap of every shard, then the connection, then a proof for every shard.
    async fn until_it_stands(&self) {
        let heard = self
            .sink
            .until("the subscription stands and is proved", |heard| proofs(heard).count() >= SHARDS)
            .await;
        let heard: Vec<_> = heard.into_iter().skip_while(|heard| !matches!(heard, Heard::Gap(_))).collect();
        let gaps: Vec<_> = Shard::all().map(Heard::Gap).collect();
        assert_eq!(&heard[..SHARDS], gaps);
        assert_eq!(heard[SHARDS], Heard::Connected(true));
    }

    /// A connection of the test's own.
    async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let patience = Some(Duration::from_secs(20));
        let patient = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(patience)
            .set_response_timeout(patience);
        let client = Client::open(self.server.url()).unwrap();
        client.get_multiplexed_async_connection_with_config(&patient).await.unwrap()
    }

    async fn run(&self, command: &mut redis::Cmd) -> Value {
        command.query_async(&mut self.connection().await).await.unwrap()
    }

    async fn publish(&self, message: &str) {
        let heard_by = self.run(redis::cmd("PUBLISH").arg(CHANNEL).arg(message)).await;
        assert_eq!(heard_by, Value::Int(1));
    }

    async fn deliver_an_event(&self) {
        let event = Event {
            kind: EventKind::Revoked,
            hash: KeyHash::from_bytes([7; 32]),
            at: Timestamp::from_millis(1_764_000_000_000),
        };
        self.publish(&event.encode()).await;
        self.sink.until("the event arrives", |heard| heard.contains(&Heard::Event(event.clone()))).await;
    }
}

fn proofs(heard: &[Heard]) -> impl Iterator<Item = Tick> {
    heard.iter().filter_map(|heard| match heard {
        Heard::Current(_, asked_at) => Some(*asked_at),
        Heard::Event(_) | Heard::Gap(_) | Heard::Connected(_) => None,
    })
}

#[tokio::test]
async fn an_event_arrives_and_currency_is_proved_on() {
    let listening = Listening::start().await;
    listening.deliver_an_event().await;
    let now = listening.clock.now().tick;
    let heard = listening
        .sink
        .until("a later proof of every shard", |heard| {
            proofs(heard).filter(|asked_at| *asked_at > now).count() >= SHARDS
        })
        .await;
    assert!(proofs(&heard).all(|asked_at| asked_at <= listening.clock.now().tick));
}

#[tokio::test]
async fn a_proof_comes_after_everything_published_before_it() {
    let listening = Listening::start().await;
    let publish = |number: u8| Event {
        kind: EventKind::Changed,
        hash: KeyHash::from_bytes([number; 32]),
        at: Timestamp::from_millis(i64::from(number)),
    };
    let mut connection = listening.connection().await;
    for number in 0..100u8 {
        let command = redis::cmd("PUBLISH").arg(CHANNEL).arg(publish(number).encode()).clone();
        command.exec_async(&mut connection).await.unwrap();
        tokio::task::yield_now().await;
    }
    let published = listening.clock.now().tick;
    let heard = listening
        .sink
        .until("a proof from after the last event", |heard| proofs(heard).any(|at| at > published))
        .await;
    let first_proof = heard
        .iter()
        .position(|heard| matches!(heard, Heard::Current(_, asked_at) if *asked_at > published))
        .unwrap();
    let events = heard[..first_proof].iter().filter(|heard| matches!(heard, Heard::Event(_)));
    assert_eq!(events.count(), 100);
}

#[tokio::test]
async fn an_unreadable_message_is_a_gap_and_the_feed_goes_on() {
    let listening = Listening::start().await;
    listening.sink.clear();
    listening.publish("nonsense").await;
    let gaps = |heard: &[Heard]| heard.iter().filter(|heard| matches!(heard, Heard::Gap(_))).count();
    listening.sink.until("a gap of every shard", |heard| gaps(heard) == SHARDS).await;
    listening.deliver_an_event().await;
    assert!(!listening.sink.heard().contains(&Heard::Connected(false)));
}

#[tokio::test]
async fn a_restarted_redis_is_found_again_with_a_gap_between() {
    let mut listening = Listening::start().await;
    listening.sink.clear();
    listening.server.stop();
    listening.sink.until("the loss is noticed", |heard| heard.contains(&Heard::Connected(false))).await;
    let proofs_when_lost = proofs(&listening.sink.heard()).count();
    listening.server.restart();
    listening
        .sink
        .until("proofs again", |heard| {
            heard.contains(&Heard::Connected(true)) && proofs(heard).count() >= proofs_when_lost + SHARDS
        })
        .await;
    listening.until_it_stands().await;
    listening.deliver_an_event().await;
}

#[tokio::test]
async fn a_killed_subscription_is_made_again_with_a_gap_between() {
    let listening = Listening::start().await;
    for _ in 0..3 {
        listening.sink.clear();
        let killed = listening.run(redis::cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"])).await;
        assert_eq!(killed, Value::Int(1));
        listening.sink.until("the loss is noticed", |heard| heard.contains(&Heard::Connected(false))).await;
        listening.until_it_stands().await;
        listening.deliver_an_event().await;
    }
}

#[tokio::test]
async fn a_frozen_redis_is_noticed_within_two_seconds() {
    let listening = Listening::start().await;
    listening.sink.clear();
    listening.server.freeze();
    let frozen_at = listening.clock.now().tick;
    let heard = listening
        .sink
        .until("the silence is noticed", |heard| heard.contains(&Heard::Connected(false)))
        .await;
    let noticed_after = listening.clock.now().tick.since(frozen_at);
    assert!(noticed_after < Duration::from_secs(2), "{noticed_after:?}");
    assert!(proofs(&heard).all(|asked_at| asked_at <= frozen_at), "nothing is proved by silence");

    listening.server.thaw();
    listening.sink.until("it stands again", |heard| heard.contains(&Heard::Connected(true))).await;
    listening.until_it_stands().await;
    listening.deliver_an_event().await;
}
