//! The feed of a single process: the store's own commits.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::FeedSink;
use crate::clock::Clock;
use crate::model::{Event, Shard};

/// Time between two proofs.
const PROOF_INTERVAL: Duration = Duration::from_secs(1);

/// Delivers what an embedded store commits. Nothing can be lost on the way: there is none.
pub struct LocalFeed {
    sink: Arc<dyn FeedSink>,
    clock: Arc<dyn Clock>,
}

impl LocalFeed {
    /// A feed to `sink`.
    pub fn new(sink: Arc<dyn FeedSink>, clock: Arc<dyn Clock>) -> LocalFeed {
        LocalFeed { sink, clock }
    }

    /// What the store is to call for each event, when it is durable and before it is acknowledged: so whoever hears
    /// that a key is revoked knows that it was applied here.
    pub fn on_commit(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let sink = Arc::clone(&self.sink);
        move |event| sink.apply(event)
    }

    /// Proves each second that nothing was missed, until `shutdown` is there.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        self.sink.connected(true);
        let prove = async {
            let mut ticks = interval(PROOF_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let now = self.clock.now().tick;
                Shard::all().for_each(|shard| self.sink.current(shard, now));
            }
        };
        tokio::select! {
            () = shutdown => {}
            () = prove => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::events::recorder::{Heard, Recorder};
    use crate::model::{EventKind, KeyHash, SHARDS, Timestamp};

    #[tokio::test]
    async fn a_commit_is_applied_before_it_is_acknowledged_and_currency_is_proved() {
        let sink = Arc::new(Recorder::default());
        let clock = ManualClock::at(Timestamp::from_millis(0));
        clock.advance(Duration::from_secs(3));
        let now = clock.now().tick;
        let feed = LocalFeed::new(Arc::clone(&sink) as Arc<dyn FeedSink>, Arc::new(clock));
        let event = Event {
            kind: EventKind::Created,
            hash: KeyHash::from_bytes([7; 32]),
            id: None,
            at: Timestamp::from_millis(1),
        };
        feed.on_commit()(&event);
        assert_eq!(sink.heard(), [Heard::Event(event)]);

        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(feed.run(async {
            let _ = stopped.await;
        }));
        sink.until("every shard is proved current", |heard| {
            let proofs = heard.iter().filter(|heard| matches!(heard, Heard::Current(_, at) if *at == now));
            heard.contains(&Heard::Connected(true)) && proofs.count() >= SHARDS
        })
        .await;
        stop.send(()).unwrap();
        running.await.unwrap();
    }
}
