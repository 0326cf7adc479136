//! Where keys live: one contract, two stores.
//!
//! `sqlite` is embedded and serves one process; `redis` serves a fleet. Both pass the suite in `contract.rs`.
//! `guard` stands in front of either: deadlines, bounded concurrency and a circuit breaker.
//! Every change to a key is one atomic step that also tells the event; whoever calls here gets a [`StoreError`]
//! for an outage, which is never the same as "no such key".

#[cfg(test)]
mod contract;
pub mod guard;
pub mod redis;
pub mod sqlite;

use async_trait::async_trait;

use crate::model::{CheckSecret, Environment, KeyHash, KeyId, KeyRecord, KeyStatus, Shard, Timestamp};

/// The contract of a store.
///
/// An operation that returned `Ok` is done and, as far as the store can be durable, stays done. One that returned
/// `Err` may or may not have happened; each can be repeated without harm.
#[async_trait]
pub trait KeyStore: Send + Sync + 'static {
    /// The record of a hash; `None` only if the store certainly has none. One round trip.
    async fn find(&self, hash: &KeyHash) -> Result<Option<KeyRecord>, StoreError>;

    /// The record of an id, with its last use.
    async fn get(&self, id: &KeyId) -> Result<Option<StoredKey>, StoreError>;

    /// One page of keys, newest first.
    async fn list(&self, query: &ListQuery) -> Result<Page, StoreError>;

    /// Writes a new key and tells [`EventKind::Created`](crate::model::EventKind::Created). Never overwrites.
    async fn create(&self, record: &KeyRecord) -> Result<Creation, StoreError>;

    /// Marks a key as revoked and tells [`EventKind::Revoked`](crate::model::EventKind::Revoked); the moment is
    /// the store's. Repeating it changes nothing: the first moment stands, and the event is told again.
    /// `None` if there is no such key.
    async fn revoke(&self, id: &KeyId) -> Result<Option<Revocation>, StoreError>;

    /// Merges a batch of uses of one shard: dates never go backwards, and a batch that is sent again counts once.
    async fn record_uses(&self, batch: &UsageBatch) -> Result<(), StoreError>;

    /// What the whole fleet shares. Made on the first call on an empty store, and the same for ever after.
    async fn fleet(&self) -> Result<FleetSettings, StoreError>;

    /// Sets whether keys without a check may be looked up, for the whole fleet, and tells
    /// [`EventKind::Fleet`](crate::model::EventKind::Fleet).
    async fn accept_unchecked_keys(&self, accept: bool) -> Result<(), StoreError>;
}

/// A key with what only the store knows of its use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// The record.
    pub record: KeyRecord,
    /// When a request with the key was last permitted, as of the last flush.
    pub last_used_at: Option<Timestamp>,
    /// How many requests with it were permitted.
    pub uses: u64,
}

/// Which keys to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Only this team's keys.
    pub team: Option<String>,
    /// Only this environment's keys.
    pub environment: Option<Environment>,
    /// Only keys that have this status at the moment given.
    pub status: Option<(KeyStatus, Timestamp)>,
    /// Only keys behind this one, as a page before told.
    pub after: Option<Cursor>,
    /// At most so many; at least 1.
    pub limit: usize,
}

/// A place in the list: its order is `created_at` descending, then id descending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Creation of the last key of the page before.
    pub created_at: Timestamp,
    /// Its id.
    pub id: KeyId,
}

/// Some of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order of [`Cursor`].
    pub keys: Vec<StoredKey>,
    /// Where the next page begins, if there is more.
    pub next: Option<Cursor>,
}

/// What became of a creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// The key is in the store.
    Created,
    /// Its hash or its id was there already; nothing was changed.
    AlreadyThere,
}

/// What became of a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The record, revoked.
    pub record: KeyRecord,
    /// Whether it was this call that revoked it.
    pub newly: bool,
}

/// Uses of keys of one shard since the batch before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageBatch {
    /// Random; a batch that failed is sent again under the same id, unchanged.
    pub id: u128,
    /// The shard of every key in it.
    pub shard: Shard,
    /// One entry a key.
    pub uses: Vec<KeyUse>,
}

/// Uses of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// Which key.
    pub id: KeyId,
    /// The latest use.
    pub last_used_at: Timestamp,
    /// How many.
    pub count: u64,
}

/// What the whole fleet shares, kept in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetSettings {
    /// Random name of this store, 32 hex characters.
    pub store_id: String,
    /// Secrets under which keys carry their check. New keys get the first one's; all are accepted.
    pub check_secrets: Vec<CheckSecret>,
    /// Whether keys without a check may be looked up. Off until the first import.
    pub accept_unchecked_keys: bool,
}

impl FleetSettings {
    /// What an empty store begins with: a new name and a new secret.
    fn random() -> Result<FleetSettings, StoreError> {
        let (mut name, mut secret) = ([0; 16], [0; 32]);
        getrandom::fill(&mut name)
            .and_then(|()| getrandom::fill(&mut secret))
            .map_err(StoreError::unavailable)?;
        Ok(FleetSettings {
            store_id: format!("{:032x}", u128::from_be_bytes(name)),
            check_secrets: vec![CheckSecret::from_bytes(secret)],
            accept_unchecked_keys: false,
        })
    }
}

/// The store could not do it. Never means "no such key".
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or failed.
    #[error("the store cannot be reached: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It did not answer within the deadline.
    #[error("the store did not answer within {} ms", .0.as_millis())]
    TimedOut(std::time::Duration),
    /// Not asked, because it kept failing a moment ago.
    #[error("the store kept failing and is not asked for a moment")]
    CircuitOpen,
    /// Not asked, because too many are asking.
    #[error("too many look-ups are under way")]
    Busy,
    /// What it holds cannot be read.
    #[error("the store holds something unreadable: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// Wraps a cause of unavailability.
    pub fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
        StoreError::Unavailable(cause.into())
    }
}
