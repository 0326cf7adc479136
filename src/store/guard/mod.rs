//! What stands between the request path and a store: a deadline, a bound, a circuit breaker.
//!
//! A store in trouble costs a request at most its deadline, and after a few failures nothing.

mod breaker;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use self::breaker::Breaker;
use super::{
    Change, Creation, Durability, Earlier, Edit, Editable, FleetSettings, KeyStore, ListQuery, Once, Origin,
    Page, Period, PeriodCount, Revocation, Rotation, StoreError, StoreReport, StoredKey, UsageBatch,
};
use crate::clock::Clock;
use crate::model::{GatewayId, Head, KeyHash, KeyId, KeyRecord, Member, Shard, Timestamp};

/// How much a store may cost.
#[derive(Clone, Debug)]
pub struct GuardSettings {
    /// Deadline of a look-up.
    pub find_timeout: Duration,
    /// Deadline of everything else.
    pub timeout: Duration,
    /// Look-ups under way at once; one more is refused and does not wait.
    pub max_concurrent: usize,
    /// Failures in a row that open the circuit.
    pub breaker_failures: u32,
    /// How long it stays open before one look-up may try.
    pub breaker_open: Duration,
}

impl Default for GuardSettings {
    fn default() -> GuardSettings {
        GuardSettings {
            find_timeout: Duration::from_millis(100),
            timeout: Duration::from_secs(2),
            max_concurrent: 1_024,
            breaker_failures: 5,
            breaker_open: Duration::from_secs(1),
        }
    }
}

/// A [`KeyStore`] that never takes long.
///
/// A deadline that passes drops the call to the store; whatever it had begun there goes on or not, as the contract
/// of [`KeyStore`] allows. Bound and breaker are for [`find`](KeyStore::find) alone: the rest is rare, and asked by
/// people who would rather try.
pub struct GuardedStore {
    store: Arc<dyn KeyStore>,
    guard: Arc<Guard>,
}

/// What all ways to a store have in common.
struct Guard {
    clock: Arc<dyn Clock>,
    settings: GuardSettings,
    lookups: Semaphore,
    breaker: Breaker,
}

impl GuardedStore {
    /// Guards `store`.
    pub fn new(store: Arc<dyn KeyStore>, clock: Arc<dyn Clock>, settings: GuardSettings) -> GuardedStore {
        let guard = Guard {
            clock,
            lookups: Semaphore::new(settings.max_concurrent),
            breaker: Breaker::new(settings.breaker_failures, settings.breaker_open),
            settings,
        };
        GuardedStore { store, guard: Arc::new(guard) }
    }

    async fn within<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        super::within(self.guard.settings.timeout, call).await
    }
}

#[async_trait]
impl KeyStore for GuardedStore {
    /// # Errors
    /// Also [`StoreError::Busy`] and [`StoreError::CircuitOpen`], at once.
    async fn find(&self, hash: &KeyHash) -> Result<Option<KeyRecord>, StoreError> {
        // The permit first: a look-up that is refused for want of one must not be the breaker's only try.
        let Guard { clock, settings, lookups, breaker } = &*self.guard;
        let _permit = lookups.try_acquire().map_err(|_| StoreError::Busy)?;
        let attempt = breaker.admit(clock.now().tick).ok_or(StoreError::CircuitOpen)?;
        let answer = super::within(settings.find_timeout, self.store.find(hash)).await;
        match &answer {
            // A record that cannot be read is one key's trouble, and a store that is not ours is not asked less because of
            // it: either did answer.
            Ok(_) | Err(StoreError::Corrupt(_) | StoreError::NotOurs(_)) => attempt.succeeded(),
            Err(StoreError::Unavailable(_) | StoreError::TimedOut(_)) => {
                attempt.failed(clock.now().tick);
            }
            // The store was not asked, which tells nothing of it.
            Err(StoreError::Busy | StoreError::CircuitOpen) => drop(attempt),
        }
        answer
    }

    /// Has the bound and the breaker in common with this one.
    fn nearby(&self) -> Option<Arc<dyn KeyStore>> {
        let store = self.store.nearby()?;
        Some(Arc::new(GuardedStore { store, guard: Arc::clone(&self.guard) }))
    }

    async fn get(&self, id: &KeyId) -> Result<Option<StoredKey>, StoreError> {
        self.within(self.store.get(id)).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        self.within(self.store.list(query)).await
    }

    async fn create_from(&self, record: &KeyRecord, origin: &Origin) -> Result<Creation, StoreError> {
        self.within(self.store.create_from(record, origin)).await
    }

    async fn recall(&self, shard: Shard, name: &[u8; 32]) -> Result<Option<Earlier>, StoreError> {
        self.within(self.store.recall(shard, name)).await
    }

    async fn edit(&self, before: &KeyRecord, after: &Editable) -> Result<Option<Edit>, StoreError> {
        self.within(self.store.edit(before, after)).await
    }

    async fn changes(&self, id: &KeyId) -> Result<Vec<Change>, StoreError> {
        self.within(self.store.changes(id)).await
    }

    async fn counts(
        &self,
        id: &KeyId,
        period: Period,
        count: usize,
        now: Timestamp,
    ) -> Result<Vec<PeriodCount>, StoreError> {
        self.within(self.store.counts(id, period, count, now)).await
    }

    async fn revoke(&self, id: &KeyId) -> Result<Option<Revocation>, StoreError> {
        self.within(self.store.revoke(id)).await
    }

    async fn assert_revoked(&self, hash: &KeyHash) -> Result<bool, StoreError> {
        self.within(self.store.assert_revoked(hash)).await
    }

    async fn rotate_once(
        &self,
        old: &KeyId,
        new: &KeyRecord,
        retires_at: Timestamp,
        once: Option<&Once>,
    ) -> Result<Option<Rotation>, StoreError> {
        self.within(self.store.rotate_once(old, new, retires_at, once)).await
    }

    async fn record_uses(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        self.within(self.store.record_uses(batch)).await
    }

    async fn fleet(&self) -> Result<FleetSettings, StoreError> {
        self.within(self.store.fleet()).await
    }

    async fn accept_unchecked_keys(&self, accept: bool) -> Result<(), StoreError> {
        self.within(self.store.accept_unchecked_keys(accept)).await
    }

    async fn canary(&self, shard: Shard, interval: Duration) -> Result<(), StoreError> {
        self.within(self.store.canary(shard, interval)).await
    }

    async fn confirm_durable(&self, shard: Shard, within: Duration) -> Durability {
        // The store has the caller's deadline, and ours is for one that does not keep it.
        let deadline = within.saturating_add(self.guard.settings.timeout);
        tokio::time::timeout(deadline, self.store.confirm_durable(shard, within))
            .await
            .unwrap_or_else(|_| Durability::NotConfirmed(StoreError::TimedOut(deadline).to_string().into()))
    }

    async fn attend(&self, member: &Member) -> Result<(), StoreError> {
        self.within(self.store.attend(member)).await
    }

    async fn leave(&self, id: GatewayId, beat: u64) -> Result<(), StoreError> {
        self.within(self.store.leave(id, beat)).await
    }

    async fn holds(&self, shard: Shard, places: &[Head]) -> Result<Vec<bool>, StoreError> {
        self.within(self.store.holds(shard, places)).await
    }

    async fn roll(&self) -> Result<Vec<Member>, StoreError> {
        self.within(self.store.roll()).await
    }

    async fn inspect(&self) -> Result<StoreReport, StoreError> {
        self.within(self.store.inspect()).await
    }

    async fn accept(&self, found: Option<&str>) -> Result<(), StoreError> {
        self.within(self.store.accept(found)).await
    }
}
