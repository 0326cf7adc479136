//! How gateways learn what changed: the feed.
//!
//! A feed delivers [`Event`]s to a [`FeedSink`] and proves that none is missing. It never drops one silently: what it
//! cannot deliver it reports as a gap. `local` is the feed of the embedded store. `redis` is that of a fleet: published
//! messages as fast hints, and the log of each shard as the truth, which `follower` follows.

pub mod follower;
pub mod local;
#[cfg(test)]
mod recorder;
pub mod redis;
pub mod trail;

use async_trait::async_trait;

use crate::clock::Tick;
use crate::model::{Event, Gap, Head, Heads, KeyHash, KeyId, LogEntry, SHARDS, Shard, Timestamp};

/// How far the feed has come. Before the logs were first read there is nothing to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How far the log of each shard was applied here.
    pub positions: [Head; SHARDS],
    /// Where each log ended when it was last read.
    pub heads: [Head; SHARDS],
}

/// Who listens to a feed: the verifier's freshness. Calls are cheap and do not block.
pub trait FeedSink: Send + Sync + 'static {
    /// A change. When this returns, no request that starts later is accepted by what was known before.
    fn apply(&self, event: &Event);

    /// A change that this gateway made itself: it takes effect now, before the feed brings it too.
    fn apply_own(&self, event: &Event) {
        self.apply(event);
    }

    /// Events of this shard may have been missed: everything loaded so far is to be loaded again.
    fn gap(&self, shard: Shard, why: Gap);

    /// At `asked_at` and before, nothing of this shard was missed. `asked_at` is from before the proof was asked for.
    fn current(&self, shard: Shard, asked_at: Tick);

    /// The store's time of day was `time`, at some moment between `asked_at` and `answered_at`.
    fn fleet_time(&self, time: Timestamp, asked_at: Tick, answered_at: Tick);

    /// The logs hold so many entries, over all shards, that were not applied when they were last read.
    fn lag(&self, events: u64);

    /// Whether the subscription stands.
    fn connected(&self, connected: bool);

    /// What is known to be revoked in this shard, to be asserted to a store that may have lost it.
    fn revoked_in(&self, shard: Shard) -> Vec<KeyHash>;

    /// At `at` and later this gateway stands on the roll of its fleet. Until the first time it looks nothing up.
    fn attended(&self, at: Tick);

    /// The hash of the key with this id, if this gateway happens to remember it. Slow: for when the store is away.
    fn hash_of(&self, id: &KeyId) -> Option<KeyHash>;
}

/// The logs of all shards, where the feed reads them: in the store.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// Where each of them ends now. Fails unless what answers is certainly the fleet's store.
    async fn heads(&self) -> Result<Heads, LogError>;

    /// At most `limit` entries of `shard` with numbers above `seq`, in order.
    async fn entries_after(&self, shard: Shard, seq: u64, limit: usize) -> Result<Vec<LogEntry>, LogError>;

    /// Tells the store again that this key is revoked. Whether it had lost it.
    async fn assert_revoked(&self, hash: &KeyHash) -> Result<bool, LogError>;
}

/// A log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The store does not answer, or is not ours. Says nothing of what is in the log.
    #[error(transparent)]
    Unreachable(Box<dyn std::error::Error + Send + Sync>),
    /// What stands in the log is not an entry.
    #[error(transparent)]
    Unreadable(Box<dyn std::error::Error + Send + Sync>),
}
