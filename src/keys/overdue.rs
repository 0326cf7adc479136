//! Revocations that the store did not take: in force on this gateway, and written as soon as it can be.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::{KeyHash, KeyId};
use crate::observe::Metrics;
use crate::store::StoreError;

use super::{KeyService, within_deadline};

/// Between two attempts to write them.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Keys that are revoked here and not yet known to be revoked in the store, each with its id where that is known.
pub(super) struct Overdue {
    keys: Mutex<HashMap<KeyHash, Option<KeyId>>>,
    metrics: Arc<Metrics>,
}

impl Overdue {
    pub(super) fn new(metrics: Arc<Metrics>) -> Overdue {
        Overdue { keys: Mutex::default(), metrics }
    }

    pub(super) fn add(&self, hash: &KeyHash, id: Option<KeyId>) {
        let mut keys = self.lock();
        let known = keys.entry(*hash).or_default();
        *known = known.or(id);
        self.metrics.revocations_pend(keys.len());
    }

    pub(super) fn settle(&self, hash: &KeyHash) {
        let mut keys = self.lock();
        keys.remove(hash);
        self.metrics.revocations_pend(keys.len());
    }

    pub(super) fn hash_of(&self, id: &KeyId) -> Option<KeyHash> {
        self.lock().iter().find(|(_, known)| known.as_ref() == Some(id)).map(|(hash, _)| *hash)
    }

    fn hashes(&self) -> Vec<KeyHash> {
        self.lock().keys().copied().collect()
    }

    fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<KeyHash, Option<KeyId>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyService {
    /// How many keys are revoked on this gateway while the store does not know it.
    pub fn overdue_revocations(&self) -> usize {
        self.overdue.len()
    }

    /// Writes overdue revocations once more; how many remain.
    pub async fn write_overdue_revocations(&self) -> usize {
        for hash in self.overdue.hashes() {
            // By the hash, and also if the store has no such key: it may have lost it, and get it back from a backup.
            match within_deadline(self.store.assert_revoked(&hash)).await {
                Ok(_) => self.overdue.settle(&hash),
                // One that cannot be written must not hold up the others.
                Err(StoreError::Corrupt(what)) => {
                    tracing::error!(%what, "a revocation cannot be written: the store's record is damaged");
                }
                // The store is away: the others would only wait for the same deadline.
                Err(_) => break,
            }
        }
        self.overdue_revocations()
    }

    /// Writes overdue revocations until the future is dropped.
    pub async fn keep_writing_revocations(&self) {
        loop {
            tokio::time::sleep(RETRY_INTERVAL).await;
            if self.overdue_revocations() == 0 {
                continue;
            }
            match self.write_overdue_revocations().await {
                0 => tracing::info!("every revocation is in the store again"),
                overdue => {
                    tracing::warn!(overdue, "revocations are in force on this gateway only: the store fails")
                }
            }
        }
    }
}
