//! Writes the notes of uses to the store: one batch a shard, every few seconds, and at once on shutdown.
//!
//! A batch that failed is sent again, unchanged and under the same id, so that its counts count once; what comes in
//! meanwhile is merged behind it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::model::{KeyId, SHARDS, Shard};
use crate::observe::Metrics;
use crate::observe::metrics::{StoreOperation, StoreResult};
use crate::store::{Activity, KeyStore, KeyUse, Period, StoreError, UsageBatch};

use super::Usage;

/// Entries in one batch: the store does nothing else while it takes one.
const MAX_BATCH: usize = 1_000;

/// Takes notes from [`Usage`] and writes them.
pub struct Flusher {
    usage: Arc<Usage>,
    store: Arc<dyn KeyStore>,
    metrics: Arc<Metrics>,
    shards: [Outbox; SHARDS],
    /// Keys and hours that wait behind the batches that were sent, over all shards.
    waiting: usize,
}

/// What one shard has to write.
#[derive(Default)]
struct Outbox {
    /// Sent, and not known to have arrived.
    sent: Option<UsageBatch>,
    /// To be sent after it: by key and by the number of the hour, so that what waits through an outage still counts in the
    /// hour in which it happened.
    waiting: HashMap<(KeyId, i64), Activity>,
}

impl Flusher {
    /// A flusher with nothing to write yet.
    pub fn new(usage: Arc<Usage>, store: Arc<dyn KeyStore>, metrics: Arc<Metrics>) -> Flusher {
        Flusher { usage, store, metrics, shards: Default::default(), waiting: 0 }
    }

    /// Flushes each `interval` until `shutdown`, then once more until all is written.
    ///
    /// The caller bounds the last flush by a deadline of its own; a batch is never half written.
    pub async fn run(mut self, interval: Duration, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval) => self.flush().await,
                () = &mut shutdown => break,
            }
        }
        self.flush().await;
        while self.usage.pending() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.flush().await;
        }
    }

    /// Writes what there is; what cannot be written stays.
    pub async fn flush(&mut self) {
        self.collect();
        for shard in Shard::all() {
            match self.flush_shard(shard).await {
                Ok(()) => {}
                // The store is away: the others would only wait for the same deadline.
                Err(failure @ (StoreError::TimedOut(_) | StoreError::Unavailable(_))) => {
                    tracing::warn!(error = %failure, "uses of keys could not be written; kept for the next flush");
                    break;
                }
                // One shard that cannot be written must not hold up the others.
                Err(failure) => {
                    tracing::error!(error = %failure, %shard, "uses of keys could not be written")
                }
            }
        }
        self.metrics.usage_waits(self.usage.pending());
    }

    fn collect(&mut self) {
        for (key, note) in self.usage.take() {
            let latest = note.last_used_at.max(note.last_refused_at);
            let hour = latest.map_or(0, |latest| Period::Hour.number(latest));
            match self.shards[key.shard().index()].waiting.entry((key, hour)) {
                Entry::Occupied(mut waiting) => waiting.get_mut().merge(note),
                Entry::Vacant(vacant) => {
                    if self.waiting < self.usage.max_pending {
                        self.waiting += 1;
                        self.usage.taken.fetch_add(1, Ordering::Relaxed);
                        vacant.insert(note);
                    } else {
                        self.metrics.usage_dropped();
                    }
                }
            }
        }
    }

    async fn flush_shard(&mut self, shard: Shard) -> Result<(), StoreError> {
        let outbox = &mut self.shards[shard.index()];
        while let Some(batch) = outbox.next(shard, &mut self.waiting) {
            let written = self.store.record_uses(batch).await;
            let keys = batch.uses.len();
            match written {
                Ok(()) => {
                    self.metrics.asked_store(StoreOperation::RecordUses, StoreResult::Ok);
                    self.metrics.usage_flushed(keys);
                    self.usage.taken.fetch_sub(keys, Ordering::Relaxed);
                    outbox.sent = None;
                }
                Err(failure) => {
                    self.metrics.asked_store(StoreOperation::RecordUses, StoreResult::Failed);
                    return Err(failure);
                }
            }
        }
        Ok(())
    }
}

impl Outbox {
    /// The batch to send: the one that may not have arrived, else a new one of what waits.
    fn next(&mut self, shard: Shard, waiting: &mut usize) -> Option<&UsageBatch> {
        if self.sent.is_none() && !self.waiting.is_empty() {
            let entries: Vec<(KeyId, i64)> = self.waiting.keys().take(MAX_BATCH).copied().collect();
            *waiting -= entries.len();
            let uses = entries.into_iter().filter_map(|entry| self.waiting.remove_entry(&entry));
            let uses = uses.map(|((id, _), activity)| KeyUse { id, activity }).collect();
            self.sent = Some(UsageBatch { id: random_id(), shard, uses });
        }
        self.sent.as_ref()
    }
}

/// Unique without coordination: 128 bits from the operating system.
fn random_id() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system has randomness once it has booted");
    u128::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests;
