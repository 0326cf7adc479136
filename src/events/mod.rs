//! How gateways learn what changed: the feed.
//!
//! A feed delivers [`Event`]s to a [`FeedSink`] and says when it may have missed some. It never drops one silently:
//! what it cannot deliver it reports as a gap. `local` is the feed of the embedded store, `redis` that of a fleet.

pub mod local;
#[cfg(test)]
mod recorder;
pub mod redis;

use crate::clock::Tick;
use crate::model::{Event, Shard};

/// Who listens to a feed: the verifier's freshness. Calls are cheap and do not block.
pub trait FeedSink: Send + Sync + 'static {
    /// A change. When this returns, no request that starts later is accepted by what was known before.
    fn apply(&self, event: &Event);

    /// A change that this gateway made itself: it takes effect now, before the feed brings it too.
    fn apply_own(&self, event: &Event) {
        self.apply(event);
    }

    /// Events of this shard may have been missed: everything loaded so far is to be loaded again.
    fn gap(&self, shard: Shard);

    /// At `asked_at` and before, nothing of this shard was missed. `asked_at` is from before the proof was asked for.
    fn current(&self, shard: Shard, asked_at: Tick);

    /// Whether the subscription stands.
    fn connected(&self, connected: bool);
}
