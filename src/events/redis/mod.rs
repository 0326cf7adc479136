//! The feed of a fleet: Redis pub/sub, on a connection of its own.
//!
//! Pub/sub loses messages while nobody listens, and says nothing of it. So each new subscription begins with a gap, and
//! a ping on the same connection proves that it still stands: Redis answers in order, so what was published before a
//! ping has arrived before its answer.

#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Client, Msg, RedisError, Value};
use tokio::time::{sleep, timeout};

use super::FeedSink;
use crate::backoff::backoff;
use crate::clock::{Clock, Tick};
use crate::model::{Event, Shard};

/// Time between the answer to a ping and the next one.
const PING_INTERVAL: Duration = Duration::from_millis(500);
/// A connection that answers no ping for so long is given up.
const PING_DEADLINE: Duration = Duration::from_secs(1);
/// Messages applied at one go when a ping was answered; if more wait, that ping proves nothing.
const DRAIN_LIMIT: usize = 10_000;

/// Where a [`RedisFeed`] listens.
#[derive(Clone)]
pub struct RedisFeedSettings {
    /// The client of the Redis that the store is in.
    pub client: Client,
    /// The channel on which the store publishes.
    pub channel: String,
    /// How long connecting may take, TLS and greeting included.
    pub connect_timeout: Duration,
}

/// Listens to what the store publishes.
pub struct RedisFeed {
    settings: RedisFeedSettings,
    sink: Arc<dyn FeedSink>,
    clock: Arc<dyn Clock>,
}

impl RedisFeed {
    /// A feed to `sink`.
    pub fn new(settings: RedisFeedSettings, sink: Arc<dyn FeedSink>, clock: Arc<dyn Clock>) -> RedisFeed {
        RedisFeed { settings, sink, clock }
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
                Ok(subscription) => {
                    let lost = self.listen(subscription, &mut failures).await;
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

    async fn subscribe(&self) -> Result<Subscription, Lost> {
        let deadline = self.settings.connect_timeout;
        let connect = async {
            let (mut requests, messages) = self.settings.client.get_async_pubsub().await?.split();
            requests.subscribe(&self.settings.channel).await?;
            Ok(Subscription { requests, messages })
        };
        timeout(deadline, connect).await.map_err(|_| Lost::Silent(deadline))?
    }

    /// Returns when the connection is lost.
    async fn listen(&self, mut subscription: Subscription, failures: &mut u32) -> Lost {
        // From here on messages are kept for us. Whatever was published before may have been missed.
        Shard::all().for_each(|shard| self.sink.gap(shard));
        self.sink.connected(true);
        tracing::info!("the event feed stands");

        let mut answers = 0u32;
        let mut ping = pin!(self.ping_after(Duration::ZERO, subscription.requests.clone()));
        loop {
            tokio::select! {
                message = subscription.messages.next() => match message {
                    Some(message) => self.take(&message),
                    None => return Lost::Closed,
                },
                answer = &mut ping => {
                    match answer {
                        Ok(asked_at) => self.prove(asked_at, &mut subscription.messages),
                        Err(lost) => return lost,
                    }
                    // The first answer alone does not show that this connection lasts.
                    answers = answers.saturating_add(1);
                    if answers > 1 {
                        *failures = 0;
                    }
                    ping.set(self.ping_after(PING_INTERVAL, subscription.requests.clone()));
                }
            }
        }
    }

    /// Waits, pings, and returns the time from before the ping once it is answered.
    async fn ping_after(&self, wait: Duration, mut requests: PubSubSink) -> Result<Tick, Lost> {
        sleep(wait).await;
        let asked_at = self.clock.now().tick;
        let answer = timeout(PING_DEADLINE, requests.ping::<Value>()).await;
        answer.map_err(|_| Lost::Silent(PING_DEADLINE))??;
        Ok(asked_at)
    }

    /// A ping was answered: what had been published before it waits in `messages` at the latest now. It is applied
    /// first, then currency is proved.
    fn prove(&self, asked_at: Tick, messages: &mut PubSubStream) {
        for _ in 0..DRAIN_LIMIT {
            // Unconstrained: tokio's budget must not make a queue look empty that is not.
            match tokio::task::unconstrained(messages.next()).now_or_never() {
                Some(Some(message)) => self.take(&message),
                // Closed: the loop will see that. All that came before was applied.
                Some(None) | None => {
                    Shard::all().for_each(|shard| self.sink.current(shard, asked_at));
                    return;
                }
            }
        }
    }

    fn take(&self, message: &Msg) {
        match Event::decode(message.get_payload_bytes()) {
            Ok(event) => self.sink.apply(&event),
            Err(error) => {
                // It may have been about any key.
                tracing::warn!(%error, "a message on the event channel cannot be read; everything is loaded again");
                Shard::all().for_each(|shard| self.sink.gap(shard));
            }
        }
    }
}

struct Subscription {
    requests: PubSubSink,
    messages: PubSubStream,
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
