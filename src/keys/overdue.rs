//! Revocations that the store did not take: in force on this gateway, and written as soon as it can be.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Tick;
use crate::model::{KeyHash, KeyId};
use crate::observe::Metrics;
use crate::store::StoreError;

use super::{KeyService, within_deadline};

/// Between two attempts to write them.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// So long after the store took a revocation it is told once more: a crash may have lost what it had acknowledged, and
/// a gateway whose feed has not come that far would not see it by the log.
const SECOND_WORD: Duration = Duration::from_secs(5);

/// Keys that are revoked here and not yet known to be revoked in the store, each with its id where that is known.
pub(super) struct Overdue {
    keys: Mutex<HashMap<KeyHash, Option<KeyId>>>,
    /// Revocations that the store took lately, and when it did; oldest first.
    taken: Mutex<VecDeque<(KeyHash, Tick)>>,
    metrics: Arc<Metrics>,
}

impl Overdue {
    pub(super) fn new(metrics: Arc<Metrics>) -> Overdue {
        Overdue { keys: Mutex::default(), taken: Mutex::default(), metrics }
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

    /// The store took it, and will be told once more.
    pub(super) fn taken(&self, hash: &KeyHash, now: Tick) {
        self.settle(hash);
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).push_back((*hash, now));
    }

    /// One that the store took long enough ago to be told once more.
    fn due(&self, now: Tick) -> Option<KeyHash> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.pop_front_if(|(_, at)| now.since(*at) >= SECOND_WORD).map(|(hash, _)| hash)
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

    /// Tells the store once more of what it took a moment ago. Where it does not answer, that is overdue from then on.
    pub(super) async fn say_it_again(&self) {
        while let Some(hash) = self.overdue.due(self.clock.now().tick) {
            match within_deadline(self.store.assert_revoked(&hash)).await {
                Ok(false) => {}
                Ok(true) => tracing::warn!(
                    "the store had lost a revocation that it had acknowledged; it has it again"
                ),
                Err(_) => self.overdue.add(&hash, None),
            }
        }
    }

    /// Writes overdue revocations until the future is dropped.
    pub async fn keep_writing_revocations(&self) {
        loop {
            tokio::time::sleep(RETRY_INTERVAL).await;
            self.say_it_again().await;
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
