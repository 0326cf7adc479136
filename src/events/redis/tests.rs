use std::sync::Mutex;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::events::recorder::{Heard, Recorder};
use crate::model::{Event, EventKind, KeyHash, Timestamp};
use crate::testing::RedisServer;

const CHANNEL: &str = "keygate:events";
const PATIENCE: Duration = Duration::from_secs(20);

struct Listening {
    server: RedisServer,
    sink: Arc<Recorder>,
    news: Mutex<mpsc::Receiver<News>>,
    _stop: oneshot::Sender<()>,
    listening: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Listening {
    async fn start() -> Listening {
        let server = RedisServer::start();
        let sink = Arc::new(Recorder::default());
        let settings = SubscriptionSettings {
            client: Client::open(server.url()).unwrap(),
            channel: CHANNEL.to_owned(),
            connect_timeout: Duration::from_secs(5),
        };
        let (tell, news) = mpsc::channel(NEWS_QUEUE);
        let subscription = Subscription::new(settings, Arc::clone(&sink) as Arc<dyn FeedSink>, tell);
        let (stop, stopped) = oneshot::channel::<()>();
        let listening = tokio::spawn(subscription.run(async {
            let _ = stopped.await;
        }));
        let listening = Listening { server, sink, news: Mutex::new(news), _stop: stop, listening };
        listening.until_it_stands().await;
        listening
    }

    /// The connection, and with it a doubt: what was published before may be lost.
    async fn until_it_stands(&self) {
        self.sink.until("it stands", |heard| heard.last() == Some(&Heard::Connected(true))).await;
        self.until_told("a doubt", |news| matches!(news, News::Doubt)).await;
    }

    async fn until_told(&self, what: &str, wanted: impl Fn(&News) -> bool) -> News {
        let wait = std::future::poll_fn(|context| {
            let mut news = self.news.lock().unwrap();
            loop {
                match std::task::ready!(news.poll_recv(context)) {
                    Some(told) if wanted(&told) => return std::task::Poll::Ready(told),
                    Some(_) => {}
                    None => panic!("it ended"),
                }
            }
        });
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"))
    }

    async fn publish(&self, message: &str) {
        let patient = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let client = Client::open(self.server.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection_with_config(&patient).await.unwrap();
        let mut command = redis::cmd("PUBLISH");
        let heard_by: i64 = command.arg(CHANNEL).arg(message).query_async(&mut connection).await.unwrap();
        assert_eq!(heard_by, 1);
    }

    async fn kill_subscribers(&self) {
        let client = Client::open(self.server.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::cmd("CLIENT");
        let killed: i64 =
            command.arg(&["KILL", "TYPE", "pubsub"]).query_async(&mut connection).await.unwrap();
        assert_eq!(killed, 1);
    }

    async fn deliver_an_event(&self) {
        let event = Event {
            kind: EventKind::Revoked,
            hash: KeyHash::from_bytes([7; 32]),
            id: None,
            at: Timestamp::from_millis(1_764_000_000_000),
        };
        let message = Message::Hint(event);
        self.publish(&message.encode()).await;
        self.until_told("the event", |news| matches!(news, News::Message(told) if *told == message)).await;
    }

    async fn until_it_is_lost(&self) {
        self.sink.until("the loss", |heard| heard.contains(&Heard::Connected(false))).await;
    }
}

#[tokio::test]
async fn what_is_published_arrives() {
    let listening = Listening::start().await;
    for _ in 0..3 {
        listening.deliver_an_event().await;
    }
}

#[tokio::test]
async fn an_unreadable_message_is_a_doubt_and_the_feed_goes_on() {
    let listening = Listening::start().await;
    listening.publish("nonsense").await;
    listening.until_told("a doubt", |news| matches!(news, News::Doubt)).await;
    listening.deliver_an_event().await;
    assert!(!listening.sink.heard().contains(&Heard::Connected(false)));
}

#[tokio::test]
async fn a_restarted_redis_is_found_again_with_a_doubt() {
    let mut listening = Listening::start().await;
    listening.sink.clear();
    listening.server.stop();
    listening.until_it_is_lost().await;
    listening.server.restart();
    listening.until_it_stands().await;
    listening.deliver_an_event().await;
}

#[tokio::test]
async fn a_killed_subscription_is_made_again_with_a_doubt() {
    let listening = Listening::start().await;
    for _ in 0..3 {
        listening.sink.clear();
        listening.kill_subscribers().await;
        listening.until_it_is_lost().await;
        listening.until_it_stands().await;
        listening.deliver_an_event().await;
    }
}

#[tokio::test]
async fn a_frozen_redis_is_noticed() {
    let listening = Listening::start().await;
    listening.sink.clear();
    listening.server.freeze();
    listening.until_it_is_lost().await;
    listening.server.thaw();
    listening.until_it_stands().await;
    listening.deliver_an_event().await;
}

#[tokio::test]
async fn what_does_not_fit_into_the_queue_does_not_stop_the_feed() {
    let (tell, mut news) = mpsc::channel(1);
    let settings = SubscriptionSettings {
        client: Client::open("redis://127.0.0.1:1/").unwrap(),
        channel: CHANNEL.to_owned(),
        connect_timeout: Duration::from_secs(1),
    };
    let subscription = Subscription::new(settings, Arc::new(Recorder::default()), tell);
    for _ in 0..3 {
        subscription.tell(News::Doubt);
    }
    assert!(matches!(news.recv().await, Some(News::Doubt)));
    assert!(news.try_recv().is_err());
}
