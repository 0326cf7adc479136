//! The bus of a fleet: Redis pub/sub, on a connection of its own.
//!
//! It is fast and it loses messages, without a word. So it only brings news: what they are worth is for the
//! [`follower`](super::follower) to judge. A ping on the same connection shows that it still stands.

#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Client, Msg, RedisError, Value};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{sleep, timeout};

use super::FeedSink;
use super::follower::News;
use crate::backoff::backoff;
use crate::model::Message;

/// Time between the answer to a ping and the next one.
const PING_INTERVAL: Duration = Duration::from_millis(500);
/// A connection that answers no ping for so long is given up.
const PING_DEADLINE: Duration = Duration::from_secs(1);
/// Messages that may wait for the follower. What does not fit is not lost: it stands in the log.
pub const NEWS_QUEUE: usize = 10_000;

/// Where a [`Subscription`] listens.
#[derive(Clone)]
pub struct SubscriptionSettings {
    /// The client of the Redis that the store is in.
    pub client: Client,
    /// The channel on which the store publishes.
    pub channel: String,
    /// How long connecting may take, TLS and greeting included.
    pub connect_timeout: Duration,
}

/// Listens to what the store publishes.
pub struct Subscription {
    settings: SubscriptionSettings,
    sink: Arc<dyn FeedSink>,
    news: mpsc::Sender<News>,
}

impl Subscription {
    /// Brings `news`, and tells `sink` whether it stands.
    pub fn new(
        settings: SubscriptionSettings,
        sink: Arc<dyn FeedSink>,
        news: mpsc::Sender<News>,
    ) -> Subscription {
        Subscription { settings, sink, news }
    }

    /// Listens until `shutdown` is there. Connects again for ever, at once after a loss, then with growing, jittered
    /// waits of up to a second.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            () = shutdown => {}
            () = self.listen_for_ever() => {}
        }
    }

    async fn listen_for_ever(&self) {
        let mut failures = 0;
        loop {
            match self.subscribe().await {
                Ok(line) => {
                    let lost = self.listen(line, &mut failures).await;
                    self.sink.connected(false);
                    tracing::warn!(reason = %lost, "the event feed is lost");
                }
                Err(error) if failures == 0 => {
                    tracing::warn!(%error, "the event feed cannot be had; trying on")
                }
                Err(error) => tracing::debug!(%error, failures, "the event feed cannot be had; trying on"),
            }
            sleep(backoff(failures)).await;
            failures = failures.saturating_add(1);
        }
    }

    async fn subscribe(&self) -> Result<Line, Lost> {
        let deadline = self.settings.connect_timeout;
        let connect = async {
            let (mut requests, messages) = self.settings.client.get_async_pubsub().await?.split();
            requests.subscribe(&self.settings.channel).await?;
            Ok(Line { requests, messages })
        };
        timeout(deadline, connect).await.map_err(|_| Lost::Silent(deadline))?
    }

    /// Returns when the connection is lost.
    async fn listen(&self, mut line: Line, failures: &mut u32) -> Lost {
        // From here on messages are kept for us. Whatever was published before may have been missed.
        self.tell(News::Doubt);
        self.sink.connected(true);
        tracing::info!("the event feed stands");

        let mut answers = 0u32;
        let mut ping = pin!(ping_after(Duration::ZERO, line.requests.clone()));
        loop {
            tokio::select! {
                message = line.messages.next() => match message {
                    Some(message) => self.take(&message),
                    None => return Lost::Closed,
                },
                answer = &mut ping => {
                    if let Err(lost) = answer {
                        return lost;
                    }
                    // The first answer alone does not show that this connection lasts.
                    answers = answers.saturating_add(1);
                    if answers > 1 {
                        *failures = 0;
                    }
                    ping.set(ping_after(PING_INTERVAL, line.requests.clone()));
                }
            }
        }
    }

    fn take(&self, message: &Msg) {
        match Message::decode(message.get_payload_bytes()) {
            Ok(message) => self.tell(News::Message(message)),
            Err(error) => {
                tracing::warn!(%error, "a message on the event channel cannot be read; the logs are read instead");
                self.tell(News::Doubt);
            }
        }
    }

    fn tell(&self, news: News) {
        match self.news.try_send(news) {
            // The follower has 10,000 messages before it, and will find that the next one does not chain. On its way out
            // nobody listens any more.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {}
        }
    }
}

/// One connection: what is sent on it, and what comes.
struct Line {
    requests: PubSubSink,
    messages: PubSubStream,
}

/// Waits, pings, and returns once that is answered.
async fn ping_after(wait: Duration, mut requests: PubSubSink) -> Result<(), Lost> {
    sleep(wait).await;
    let answer = timeout(PING_DEADLINE, requests.ping::<Value>()).await;
    answer.map_err(|_| Lost::Silent(PING_DEADLINE))??;
    Ok(())
}

/// Why a subscription is given up.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("no answer within {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("the connection was closed")]
    Closed,
    #[error(transparent)]
    Failed(#[from] RedisError),
}
