//! A sink that remembers what it heard. For tests.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::FeedSink;
use crate::clock::Tick;
use crate::model::{Event, Gap, KeyHash, KeyId, Shard, Timestamp};

/// No test waits longer for a condition.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Event(Event),
    Gap(Shard, Gap),
    Current(Shard, Tick),
    Connected(bool),
    Lag(u64),
    FleetTime(Timestamp),
}

#[derive(Default)]
pub(super) struct Recorder {
    heard: Mutex<Vec<Heard>>,
    more: Notify,
    /// What it says that it knows to be revoked.
    pub(super) revoked: Mutex<Vec<KeyHash>>,
}

impl Recorder {
    pub(super) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// Forgets what it heard so far.
    pub(super) fn clear(&self) {
        self.heard.lock().unwrap().clear();
    }

    /// Waits until what it heard satisfies `condition`, and returns it.
    pub(super) async fn until(&self, what: &str, condition: impl Fn(&[Heard]) -> bool) -> Vec<Heard> {
        let wait = async {
            loop {
                let more = self.more.notified();
                let heard = self.heard();
                if condition(&heard) {
                    return heard;
                }
                more.await;
            }
        };
        match timeout(PATIENCE, wait).await {
            Ok(heard) => heard,
            Err(_) => panic!("never: {what}; heard {:?}", self.heard()),
        }
    }

    fn hear(&self, heard: Heard) {
        self.heard.lock().unwrap().push(heard);
        self.more.notify_one();
    }
}

impl FeedSink for Recorder {
    fn apply(&self, event: &Event) {
        self.hear(Heard::Event(event.clone()));
    }

    fn gap(&self, shard: Shard, why: Gap) {
        self.hear(Heard::Gap(shard, why));
    }

    fn current(&self, shard: Shard, asked_at: Tick) {
        self.hear(Heard::Current(shard, asked_at));
    }

    fn connected(&self, connected: bool) {
        self.hear(Heard::Connected(connected));
    }

    fn fleet_time(&self, time: Timestamp, _: Tick, _: Tick) {
        self.hear(Heard::FleetTime(time));
    }

    fn lag(&self, events: u64) {
        self.hear(Heard::Lag(events));
    }

    fn revoked_in(&self, shard: Shard) -> Vec<KeyHash> {
        let revoked = self.revoked.lock().unwrap();
        revoked.iter().copied().filter(|hash| Shard::of(hash) == shard).collect()
    }

    fn attended(&self, _: Tick) {}

    fn hash_of(&self, _: &KeyId) -> Option<KeyHash> {
        None
    }
}
