//! One look-up in the store, and what is remembered of it.

use std::future::Future;
use std::sync::Arc;

use crate::clock::Clock;
use crate::model::{Denial, KeyHash, KeyRecord};
use crate::observe::Metrics;
use crate::observe::metrics::{StoreOperation, StoreResult};
use crate::store::{FleetSettings, KeyStore, StoreError};

use super::cache::{CachedRecord, Entry, RecordCache};
use super::freshness::{Freshness, Loaded};

/// Asks the store and remembers: found is kept, absent is kept briefly, failed is not kept.
#[derive(Clone)]
pub(super) struct Loader {
    store: Arc<dyn KeyStore>,
    cache: Arc<RecordCache>,
    freshness: Arc<Freshness>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// What a load brought.
#[derive(Clone)]
pub(super) enum Answer {
    Known(Arc<Entry>),
    Unknown(Loaded),
}

/// Why a load brought nothing. Says nothing about the key.
#[derive(Clone, Copy)]
pub(super) enum LoadFailure {
    Unavailable,
    Busy,
}

impl LoadFailure {
    pub(super) fn denial(self) -> Denial {
        match self {
            LoadFailure::Unavailable => Denial::VerificationUnavailable,
            LoadFailure::Busy => Denial::Overloaded,
        }
    }
}

impl Loader {
    pub(super) fn new(
        store: Arc<dyn KeyStore>,
        cache: Arc<RecordCache>,
        freshness: Arc<Freshness>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Loader {
        Loader { store, cache, freshness, clock, metrics }
    }

    /// Begins a load. The note is taken by this call, before the future is polled and so before the store is asked.
    pub(super) fn load(
        &self,
        hash: KeyHash,
    ) -> impl Future<Output = Result<Answer, LoadFailure>> + Send + 'static {
        let loaded = self.freshness.begin_load(self.clock.now().tick);
        let loader = self.clone();
        async move {
            let found = loader.store.find(&hash).await;
            loader.metrics.asked_store(StoreOperation::Find, result_of(&found));
            match found {
                Ok(Some(record)) => loader.found(hash, loaded, &record),
                Ok(None) => {
                    loader.cache.keep_unknown(hash, loaded);
                    Ok(Answer::Unknown(loaded))
                }
                Err(StoreError::Busy) => Err(LoadFailure::Busy),
                Err(failure) => {
                    tracing::warn!(error = %failure, "a key could not be looked up");
                    Err(LoadFailure::Unavailable)
                }
            }
        }
    }

    /// What the fleet shares.
    pub(super) async fn fleet(&self) -> Result<FleetSettings, StoreError> {
        let answer = self.store.fleet().await;
        self.metrics.asked_store(StoreOperation::Fleet, result_of(&answer));
        answer
    }

    fn found(&self, hash: KeyHash, loaded: Loaded, record: &KeyRecord) -> Result<Answer, LoadFailure> {
        let mut record = match CachedRecord::decode(record) {
            Ok(record) => record,
            Err(unusable) => {
                tracing::error!(error = %unusable, "a record cannot be used");
                return Err(LoadFailure::Unavailable);
            }
        };
        // A store that lost a revocation, after a failover or from a backup, does not bring the key back.
        record.revoked |= self.freshness.is_revoked(&hash);
        let entry = Arc::new(Entry { loaded, record });
        self.cache.keep(hash, Arc::clone(&entry));
        Ok(Answer::Known(entry))
    }
}

fn result_of<T>(answer: &Result<T, StoreError>) -> StoreResult {
    match answer {
        Ok(_) => StoreResult::Ok,
        Err(StoreError::TimedOut(_)) => StoreResult::TimedOut,
        Err(StoreError::CircuitOpen | StoreError::Busy) => StoreResult::NotAsked,
        Err(StoreError::Unavailable(_) | StoreError::Corrupt(_)) => StoreResult::Failed,
    }
}
