//! One look-up in the store, and what is remembered of it.

use std::future::Future;
use std::sync::Arc;

use crate::clock::Clock;
use crate::model::{Denial, KeyHash, KeyRecord};
use crate::observe::Metrics;
use crate::observe::metrics::{StoreOperation, StoreResult};
use crate::store::{FleetSettings, KeyStore, StoreError};

use super::cache::{CachedRecord, RecordCache};
use super::freshness::Loaded;
use super::memory::{Answer, Memory};

/// Asks the store and remembers: found is kept, absent is kept briefly, failed is not kept.
#[derive(Clone)]
pub(super) struct Loader {
    store: Arc<dyn KeyStore>,
    memory: Arc<Memory<RecordCache>>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// Why a load brought nothing. Says nothing about the key.
#[derive(Clone, Copy)]
pub(super) enum LoadFailure {
    Unavailable,
    Busy,
}

/// What a load brings.
pub(super) type Brought = Result<Answer<CachedRecord>, LoadFailure>;

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
        memory: Arc<Memory<RecordCache>>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Loader {
        Loader { store, memory, clock, metrics }
    }

    /// The same, by the way to the store that the current runtime has for itself.
    pub(super) fn nearby(&self) -> Loader {
        match self.store.nearby() {
            Some(store) => Loader { store, ..self.clone() },
            None => self.clone(),
        }
    }

    /// Begins a load. The note is taken by this call, before the future is polled and so before the store is asked.
    pub(super) fn load(&self, hash: KeyHash) -> impl Future<Output = Brought> + Send + 'static {
        let loaded = self.memory.begin_load(self.clock.now().tick);
        let loader = self.clone();
        async move {
            let found = loader.store.find(&hash).await;
            loader.metrics.asked_store(StoreOperation::Find, result_of(&found));
            match found {
                Ok(Some(record)) => loader.found(hash, loaded, &record),
                Ok(None) => Ok(loader.memory.found_nothing(hash, loaded)),
                Err(StoreError::Busy) => Err(LoadFailure::Busy),
                Err(failure) => {
                    tracing::warn!(error = %failure, "a key could not be looked up");
                    Err(LoadFailure::Unavailable)
                }
            }
        }
    }

    /// Whether the store certainly holds a revocation of this key.
    pub(super) async fn holds_revocation(&self, hash: &KeyHash) -> bool {
        let found = self.store.find(hash).await;
        matches!(found, Ok(Some(record)) if record.revoked_at.is_some())
    }

    /// What the fleet shares.
    pub(super) async fn fleet(&self) -> Result<FleetSettings, StoreError> {
        let answer = self.store.fleet().await;
        self.metrics.asked_store(StoreOperation::Fleet, result_of(&answer));
        answer
    }

    fn found(&self, hash: KeyHash, loaded: Loaded, record: &KeyRecord) -> Brought {
        match CachedRecord::decode(record) {
            Ok(record) => Ok(self.memory.found(hash, loaded, record)),
            Err(unusable) => {
                tracing::error!(error = %unusable, "a record cannot be used");
                Err(LoadFailure::Unavailable)
            }
        }
    }
}

fn result_of<T>(answer: &Result<T, StoreError>) -> StoreResult {
    match answer {
        Ok(_) => StoreResult::Ok,
        Err(StoreError::TimedOut(_)) => StoreResult::TimedOut,
        Err(StoreError::CircuitOpen | StoreError::Busy) => StoreResult::NotAsked,
        Err(StoreError::Unavailable(_) | StoreError::Corrupt(_) | StoreError::NotOurs(_)) => {
            StoreResult::Failed
        }
    }
}
