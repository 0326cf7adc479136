//! Where keys live: one contract, two stores.
//!
//! `sqlite` is embedded and serves one process; `redis` serves a fleet. Both pass the suite in `contract.rs`.
//! `guard` stands in front of either: deadlines, bounded concurrency and a circuit breaker.
//! Every change to a key is one atomic step that also tells the event; whoever calls here gets a [`StoreError`]
//! for an outage, which is never the same as "no such key".

mod change;
#[cfg(test)]
mod contract;
mod counts;
pub mod guard;
mod listing;
pub mod people;
pub mod redis;
pub mod sqlite;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use self::change::{
    CHANGES_KEPT, Change, ChangeKind, Earlier, Edit, Editable, ONCE_MEMORY_S, Once, Origin,
};
pub use self::counts::{Period, PeriodCount};
pub(crate) use self::listing::Selection;
pub use self::listing::{
    Cursor, EXPIRING_WITHIN, IDLE_AFTER, KeyState, ListQuery, Mark, Page, Place, ROTATION_AFTER, Sort,
    SortBy, SortOrder, fold,
};
use crate::model::{CheckSecret, GatewayId, Head, KeyHash, KeyId, KeyRecord, Member, Shard, Timestamp};

/// The contract of a store.
///
/// An operation that returned `Ok` is done and, as far as the store can be durable, stays done. One that returned
/// `Err` may or may not have happened; each can be repeated without harm.
#[async_trait]
pub trait KeyStore: Send + Sync + 'static {
    /// The record of a hash; `None` only if the store certainly has none. One round trip.
    async fn find(&self, hash: &KeyHash) -> Result<Option<KeyRecord>, StoreError>;

    /// The same store by a way of its own for the runtime that calls, which nothing has to leave to ask it. `None` where that
    /// is no gain. Must be called within a tokio runtime, and used there.
    fn nearby(&self) -> Option<Arc<dyn KeyStore>> {
        None
    }

    /// The record of an id, with its last use.
    async fn get(&self, id: &KeyId) -> Result<Option<StoredKey>, StoreError>;

    /// One page of keys.
    async fn list(&self, query: &ListQuery) -> Result<Page, StoreError>;

    /// Writes a new key and tells [`EventKind::Created`](crate::model::EventKind::Created). Never overwrites.
    async fn create(&self, record: &KeyRecord) -> Result<Creation, StoreError> {
        self.create_from(record, &Origin::Made).await
    }

    /// As [`create`](KeyStore::create), and notes in the same step where the key comes from. A request that is made once and
    /// came before makes no key.
    async fn create_from(&self, record: &KeyRecord, origin: &Origin) -> Result<Creation, StoreError>;

    /// What the request of this name, [`Once::name`], did in `shard`, if it came within the last [`ONCE_MEMORY_S`].
    async fn recall(&self, shard: Shard, name: &[u8; 32]) -> Result<Option<Earlier>, StoreError>;

    /// Writes label and expiry date into the key of the record `before`, if it still is that record and not revoked, notes the change, and
    /// tells [`EventKind::Changed`](crate::model::EventKind::Changed), in one step. `None` if there is no such key.
    async fn edit(&self, before: &KeyRecord, after: &Editable) -> Result<Option<Edit>, StoreError>;

    /// What was changed in a key, the oldest first; the last [`CHANGES_KEPT`]. Nothing of an unknown key.
    async fn changes(&self, id: &KeyId) -> Result<Vec<Change>, StoreError>;

    /// How often a key was used in each of the `count` periods of which the last is that of `now`, the oldest first.
    async fn counts(
        &self,
        id: &KeyId,
        period: Period,
        count: usize,
        now: Timestamp,
    ) -> Result<Vec<PeriodCount>, StoreError>;

    /// Marks a key as revoked and tells [`EventKind::Revoked`](crate::model::EventKind::Revoked); the moment is
    /// the store's. Repeating it changes nothing: the first moment stands, and the event is told again.
    /// `None` if there is no such key.
    async fn revoke(&self, id: &KeyId) -> Result<Option<Revocation>, StoreError>;

    /// Marks the key of this hash as revoked in a store that has lost that, and tells it; a store that has no such key
    /// keeps the mark all the same, so that no such key can be made. Whether the store had lost it.
    async fn assert_revoked(&self, hash: &KeyHash) -> Result<bool, StoreError>;

    /// Writes `new` beside the key `old`, which it replaces and whose shard it must be in, lets `old` end at
    /// `retires_at`, and tells both, in one step. `None` if there is no key `old`.
    async fn rotate(
        &self,
        old: &KeyId,
        new: &KeyRecord,
        retires_at: Timestamp,
    ) -> Result<Option<Rotation>, StoreError> {
        self.rotate_once(old, new, retires_at, None).await
    }

    /// As [`rotate`](KeyStore::rotate), by a request that rotates once, however often it is sent.
    async fn rotate_once(
        &self,
        old: &KeyId,
        new: &KeyRecord,
        retires_at: Timestamp,
        once: Option<&Once>,
    ) -> Result<Option<Rotation>, StoreError>;

    /// Merges a batch of uses of one shard: dates never go backwards, and a batch that is sent again counts once. Each
    /// entry counts in the day and the hour of its latest use and its latest refusal.
    async fn record_uses(&self, batch: &UsageBatch) -> Result<(), StoreError>;

    /// What the whole fleet shares. Made on the first call on an empty store, and the same for ever after.
    async fn fleet(&self) -> Result<FleetSettings, StoreError>;

    /// Sets whether keys without a check may be looked up, for the whole fleet, and tells
    /// [`EventKind::Fleet`](crate::model::EventKind::Fleet).
    async fn accept_unchecked_keys(&self, accept: bool) -> Result<(), StoreError>;

    /// Tells [`EventKind::Canary`](crate::model::EventKind::Canary) in the log of `shard`, unless the fleet has told
    /// one within `interval`. Changes nothing.
    async fn canary(&self, shard: Shard, interval: Duration) -> Result<(), StoreError>;

    /// Whether what was written to `shard` before this call outlasts a crash of the store. Waits for that at most
    /// `within`, if the store is set to.
    async fn confirm_durable(&self, shard: Shard, within: Duration) -> Durability;

    /// Writes a gateway's line on the roll, in place of the one it had.
    async fn attend(&self, member: &Member) -> Result<(), StoreError>;

    /// Takes a gateway off the roll, if its line still has this `beat`.
    async fn leave(&self, id: GatewayId, beat: u64) -> Result<(), StoreError>;

    /// Whether each of these places is in the log of `shard` as it is now: then whoever stands there has applied all
    /// that is in the log before.
    async fn holds(&self, shard: Shard, places: &[Head]) -> Result<Vec<bool>, StoreError>;

    /// Everybody on the roll, in no order.
    async fn roll(&self) -> Result<Vec<Member>, StoreError>;

    /// What is there, for an operator who has to decide whether it is the fleet's store. Answers also where everything
    /// else is a [`StoreError::NotOurs`].
    async fn inspect(&self) -> Result<StoreReport, StoreError>;

    /// Makes whatever is there the fleet's store: gives it the fleet's identity, and the settings that this gateway
    /// knows. `found` is the identity that an operator has seen there; if it has another one now, nothing is done.
    async fn accept(&self, found: Option<&str>) -> Result<(), StoreError>;
}

/// A key with what only the store knows of its use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// The record.
    pub record: KeyRecord,
    /// What was done with it, as of the last flush.
    pub activity: Activity,
}

/// What was done with a key: in all, or since the batch before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// When a request with the key was last permitted.
    pub last_used_at: Option<Timestamp>,
    /// How many requests with it were permitted.
    pub uses: u64,
    /// How many of these while it was being replaced, in the grace of its rotation.
    pub uses_in_grace: u64,
    /// When a request with it was last refused because it was revoked or had expired.
    pub last_refused_at: Option<Timestamp>,
    /// How many were.
    pub refusals: u64,
}

impl Activity {
    /// Adds what was done besides.
    pub fn merge(&mut self, other: Activity) {
        self.last_used_at = self.last_used_at.max(other.last_used_at);
        self.uses = self.uses.saturating_add(other.uses);
        self.uses_in_grace = self.uses_in_grace.saturating_add(other.uses_in_grace);
        self.last_refused_at = self.last_refused_at.max(other.last_refused_at);
        self.refusals = self.refusals.saturating_add(other.refusals);
    }
}

/// What became of a creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// The key is in the store.
    Created,
    /// Its hash or its id was there already; nothing was changed.
    AlreadyThere,
    /// The request came before, and did this then; nothing was changed.
    Repeated(Earlier),
}

/// What became of a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The record, revoked.
    pub record: KeyRecord,
    /// Whether it was this call that revoked it.
    pub newly: bool,
    /// How the fleet hears of it.
    pub told: Told,
}

/// How the fleet hears of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Everybody who could be told was, before the call returned.
    Everybody,
    /// By this entry in the log of the key's shard: a gateway that is that far has applied it.
    Logged(Head),
}

/// What became of a rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one a rotation, and nobody keeps it")]
pub enum Rotation {
    /// Both keys are in the store.
    Rotated {
        /// The old key's record, with the end of its grace.
        old: KeyRecord,
        /// How the fleet hears of it.
        told: Told,
    },
    /// The old key is revoked; nothing was changed.
    Revoked,
    /// The old key was rotated before; nothing was changed.
    RotatedBefore,
    /// The new key's hash or id was there already; nothing was changed.
    AlreadyThere,
    /// The request came before, and did this then; nothing was changed.
    Repeated(Earlier),
}

/// Whether something outlasts a crash of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It does.
    Durable,
    /// That cannot be said, for this reason.
    NotConfirmed(Cow<'static, str>),
}

/// What is found where the fleet's store is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreReport {
    /// The identity that this gateway's fleet has, if it knows one.
    pub ours: Option<String>,
    /// The identity of what is there, if it has one.
    pub found: Option<String>,
    /// How many keys (of any kind) it holds.
    pub entries: u64,
    /// Why it is not used; `None` if all is well.
    pub mismatch: Option<Mismatch>,
}

/// Why what is there is not the fleet's store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// It has lost everything.
    #[error(
        "it is empty, though it must not be: restore it, or accept it as it is with `keygate store accept`"
    )]
    Empty,
    /// It holds something, and no identity of keygate's.
    #[error(
        "it holds something and has no identity, or only a part of one: restore it, or accept it as it is with `keygate store accept`"
    )]
    Nameless,
    /// It is another fleet's.
    #[error(
        "it is the store {found} and not {ours}: correct its address, or accept it with `keygate store accept`"
    )]
    Foreign {
        /// Its identity.
        found: String,
        /// The fleet's.
        ours: String,
    },
    /// It throws keys away when its memory is full.
    #[error("it may evict keys (maxmemory-policy {policy}): set maxmemory-policy to noeviction")]
    Evicting {
        /// What it is set to.
        policy: String,
    },
    /// It is not where writes go.
    #[error("it is a replica: give the address of the primary")]
    Replica,
}

/// Uses of keys of one shard since the batch before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageBatch {
    /// Random; a batch that failed is sent again under the same id, unchanged.
    pub id: u128,
    /// The shard of every key in it.
    pub shard: Shard,
    /// One entry a key and hour.
    pub uses: Vec<KeyUse>,
}

/// Uses of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// Which key.
    pub id: KeyId,
    /// What was done with it.
    pub activity: Activity,
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
    /// What is there is not the fleet's store, or not as it has to be. An outage, until an operator has seen to it.
    #[error("what is found there is not the fleet's store: {0}")]
    NotOurs(#[from] Mismatch),
}

/// What was asked of a store, if it answers within `deadline`.
///
/// # Errors
/// The store's, and [`StoreError::TimedOut`].
pub async fn within<T>(
    deadline: Duration,
    asked: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(deadline, asked).await.unwrap_or(Err(StoreError::TimedOut(deadline)))
}

impl StoreError {
    /// Wraps a cause of unavailability.
    pub fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
        StoreError::Unavailable(cause.into())
    }
}
