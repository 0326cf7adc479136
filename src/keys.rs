//! Making, listing, revoking and importing keys.
//!
//! Whatever changes here takes effect on this gateway before the caller hears of it: the event goes to the local
//! [`FeedSink`] at once, without waiting for the bus. Other gateways learn it from the store.

#[cfg(test)]
pub(crate) mod memory;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::clock::Clock;
use crate::events::FeedSink;
use crate::model::{
    ApiKey, Environment, Event, EventKind, KeyFormat, KeyHash, KeyId, KeyRandom, KeyRecord, Shard, Timestamp,
};
use crate::store::{Creation, KeyStore, ListQuery, Page, StoreError, StoredKey};

pub use rules::{DEFAULT_TEAM, InvalidField, MalformedExpiry, RelativeExpiry, without_keys};

/// How long one operation of the store may take before the caller is told that it did not answer.
const STORE_DEADLINE: Duration = Duration::from_secs(5);
/// Between two attempts to write revocations that the store did not take.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// New random keys are drawn this often. Even once again means that the randomness is broken.
const MAX_DRAWS: usize = 3;
/// Imported keys that are written at once, so that a store can commit them together.
const IMPORTS_AT_ONCE: usize = 32;

/// The life of keys, from creation to revocation.
pub struct KeyService {
    store: Arc<dyn KeyStore>,
    sink: Arc<dyn FeedSink>,
    format: KeyFormat,
    clock: Arc<dyn Clock>,
    /// Revoked here, and not yet known to be revoked in the store.
    overdue: Mutex<HashSet<KeyHash>>,
}

/// What a new key shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// Where it will be used: 1 to 100 characters.
    pub label: String,
    /// Whose it is; [`DEFAULT_TEAM`] if nothing is said.
    pub team: Option<String>,
    /// Live or Sandbox.
    pub environment: Environment,
    /// From when on it is refused; in the future.
    pub expires_at: Option<Timestamp>,
}

/// A key that existed before keygate, known by its SHA-256 alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportedKey {
    /// SHA-256 of the whole key, prefix included.
    pub sha256: KeyHash,
    /// Where it is used: 1 to 100 characters.
    pub label: String,
    /// Whose it is; [`DEFAULT_TEAM`] if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// Live or Sandbox.
    pub environment: Environment,
    /// How it is shown, as `sk_live_4f9c…a1b2`. Without it, the beginning of the SHA-256 is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<String>,
    /// When it was made; without it, now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// From when on it is refused; may have passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// A key that is revoked, in the store and on this gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedKey {
    /// The key as it is now.
    pub key: StoredKey,
    /// Whether it was this call that revoked it.
    pub newly: bool,
}

/// What became of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Keys that are new.
    pub created: usize,
    /// Keys that were there already; they were not changed.
    pub already_there: usize,
}

/// One key of an import that cannot be taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("keys[{index}]: {problem}")]
pub struct BadImport {
    /// Its place in the import, from 0 on.
    pub index: usize,
    /// What is wrong with it.
    #[source]
    pub problem: InvalidField,
}

/// Why something could not be done with a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// What was asked for is not allowed.
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// Some keys of an import are not allowed; none was written.
    #[error("{} of the keys cannot be imported; none was", .0.len())]
    BadImports(Vec<BadImport>),
    /// The store has no such key.
    #[error("there is no such key")]
    NotFound,
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store failed during an import. To repeat it does no harm.
    #[error("the store failed after {} keys were imported: {source}", .done.created + .done.already_there)]
    ImportInterrupted {
        /// What was done until then.
        done: ImportReport,
        /// What the store said.
        source: StoreError,
    },
    /// The key is dead on this gateway, but the store did not take the revocation: other gateways do not know yet.
    #[error("the key is revoked on this gateway, but other gateways do not know yet: {0}")]
    RevokedHereOnly(#[source] StoreError),
    /// The operating system gave no randomness.
    #[error("the operating system gave no random bytes: {0}")]
    NoRandomness(#[source] getrandom::Error),
    /// Every key that was drawn existed already.
    #[error("{MAX_DRAWS} random keys in a row existed already: the randomness of this machine is broken")]
    NotUnique,
}

impl KeyService {
    /// A service that keeps keys in `store` and tells `sink`, this gateway's own, what changed.
    pub fn new(
        store: Arc<dyn KeyStore>,
        sink: Arc<dyn FeedSink>,
        format: KeyFormat,
        clock: Arc<dyn Clock>,
    ) -> KeyService {
        KeyService { store, sink, format, clock, overdue: Mutex::default() }
    }

    /// How keys are spelled here.
    pub fn format(&self) -> &KeyFormat {
        &self.format
    }

    /// Makes a key. The plaintext exists only in the answer.
    ///
    /// # Errors
    /// A member is not allowed, the store failed, or there is no good randomness.
    pub async fn create(&self, new: NewKey) -> Result<(KeyRecord, ApiKey), KeyError> {
        let now = self.clock.now().wall;
        let label = rules::label(&new.label)?;
        let team = rules::team(new.team.as_deref())?;
        let expires_at = new.expires_at.map(|expiry| rules::future_expiry(expiry, now)).transpose()?;
        let fleet = within_deadline(self.store.fleet()).await?;
        let secret = fleet.check_secrets.first();
        let secret = secret.ok_or_else(|| StoreError::Corrupt("it has no check secret".to_owned()))?;
        for _ in 0..MAX_DRAWS {
            let mut random: KeyRandom = random_bytes()?;
            let key = self.format.mint(new.environment, random, secret);
            random.zeroize();
            let hash = key.hash();
            let record = KeyRecord {
                id: KeyId::new(Shard::of(&hash), random_bytes()?),
                hash,
                label: label.clone(),
                team: team.clone(),
                environment: new.environment,
                display: key.display(),
                created_at: now,
                expires_at,
                revoked_at: None,
            };
            if self.write_new(&record).await? == Creation::Created {
                tracing::info!(key_id = %record.id, team = record.team, environment = %record.environment, "key created");
                return Ok((record, key));
            }
        }
        Err(KeyError::NotUnique)
    }

    /// One page of keys, newest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list(&self, query: &ListQuery) -> Result<Page, KeyError> {
        Ok(within_deadline(self.store.list(query)).await?)
    }

    /// One key.
    ///
    /// # Errors
    /// There is no such key, or the store failed.
    pub async fn get(&self, id: &KeyId) -> Result<StoredKey, KeyError> {
        within_deadline(self.store.get(id)).await?.ok_or(KeyError::NotFound)
    }

    /// Revokes a key for ever. To repeat it changes nothing.
    ///
    /// # Errors
    /// There is no such key; the store failed before the key was known; or [`KeyError::RevokedHereOnly`].
    pub async fn revoke(&self, id: &KeyId) -> Result<RevokedKey, KeyError> {
        let stored = self.get(id).await?;
        self.revoke_stored(stored).await
    }

    /// Revokes a key for ever, for whoever found it and has no id. To repeat it changes nothing.
    ///
    /// # Errors
    /// There is no such key, or [`KeyError::RevokedHereOnly`].
    pub async fn revoke_key(&self, key: &ApiKey) -> Result<RevokedKey, KeyError> {
        let hash = key.hash();
        let found = match within_deadline(self.store.find(&hash)).await {
            Ok(found) => found,
            Err(error) => return Err(self.revoke_here(&hash, error)),
        };
        let record = found.ok_or(KeyError::NotFound)?;
        let stored = within_deadline(self.store.get(&record.id)).await.ok().flatten();
        self.revoke_stored(stored.unwrap_or(StoredKey { record, last_used_at: None, uses: 0 })).await
    }

    /// Takes over keys that existed before. All are judged before the first is written; from the first import on,
    /// keys without a check may be looked up by the whole fleet. To repeat an import does no harm.
    ///
    /// # Errors
    /// Some keys are not allowed, the store failed on the way, or there is no good randomness.
    pub async fn import(&self, keys: Vec<ImportedKey>) -> Result<ImportReport, KeyError> {
        let now = self.clock.now().wall;
        let mut records = Vec::with_capacity(keys.len());
        let mut bad = Vec::new();
        for (index, key) in keys.into_iter().enumerate() {
            match key.into_record(now, random_bytes()?) {
                Ok(record) => records.push(record),
                Err(problem) => bad.push(BadImport { index, problem }),
            }
        }
        if !bad.is_empty() {
            return Err(KeyError::BadImports(bad));
        }
        let mut done = ImportReport::default();
        if records.is_empty() {
            return Ok(done);
        }
        if !within_deadline(self.store.fleet()).await?.accept_unchecked_keys {
            within_deadline(self.store.accept_unchecked_keys(true)).await?;
            self.sink.apply_own(&Event::of_fleet(self.clock.now().wall));
        }
        let writes = stream::iter(records).map(|record| async move { self.write_new(&record).await });
        let mut writes = std::pin::pin!(writes.buffer_unordered(IMPORTS_AT_ONCE));
        while let Some(written) = writes.next().await {
            match written {
                Ok(Creation::Created) => done.created += 1,
                Ok(Creation::AlreadyThere) => done.already_there += 1,
                Err(source) => return Err(KeyError::ImportInterrupted { done, source }),
            }
        }
        tracing::info!(created = done.created, already_there = done.already_there, "keys imported");
        Ok(done)
    }

    /// How many keys are revoked on this gateway while the store does not know it.
    pub fn overdue_revocations(&self) -> usize {
        self.overdue.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Writes overdue revocations once more; how many remain.
    pub async fn write_overdue_revocations(&self) -> usize {
        let overdue: Vec<KeyHash> =
            self.overdue.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        for hash in overdue {
            match self.write_overdue(&hash).await {
                Ok(()) => self.settle(&hash),
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

    async fn write_new(&self, record: &KeyRecord) -> Result<Creation, StoreError> {
        let creation = within_deadline(self.store.create(record)).await?;
        if creation == Creation::Created {
            self.tell(EventKind::Created, &record.hash);
        }
        Ok(creation)
    }

    async fn revoke_stored(&self, stored: StoredKey) -> Result<RevokedKey, KeyError> {
        match within_deadline(self.store.revoke(&stored.record.id)).await {
            Ok(Some(revocation)) => {
                self.tell(EventKind::Revoked, &revocation.record.hash);
                self.settle(&revocation.record.hash);
                tracing::info!(key_id = %revocation.record.id, newly = revocation.newly, "key revoked");
                let key = StoredKey { record: revocation.record, ..stored };
                Ok(RevokedKey { key, newly: revocation.newly })
            }
            Ok(None) => Err(KeyError::NotFound),
            Err(error) => Err(self.revoke_here(&stored.record.hash, error)),
        }
    }

    /// The store failed: the key dies here at once, and the revocation stays to be written.
    fn revoke_here(&self, hash: &KeyHash, error: StoreError) -> KeyError {
        self.tell(EventKind::Revoked, hash);
        self.overdue.lock().unwrap_or_else(PoisonError::into_inner).insert(*hash);
        KeyError::RevokedHereOnly(error)
    }

    async fn write_overdue(&self, hash: &KeyHash) -> Result<(), StoreError> {
        // A key that the store does not have has nothing to be revoked.
        if let Some(record) = within_deadline(self.store.find(hash)).await? {
            within_deadline(self.store.revoke(&record.id)).await?;
        }
        Ok(())
    }

    fn settle(&self, hash: &KeyHash) {
        self.overdue.lock().unwrap_or_else(PoisonError::into_inner).remove(hash);
    }

    fn tell(&self, kind: EventKind, hash: &KeyHash) {
        self.sink.apply_own(&Event { kind, hash: *hash, at: self.clock.now().wall });
    }
}

impl ImportedKey {
    /// Whether the key could be imported at `now`.
    ///
    /// # Errors
    /// The first member that is not allowed.
    pub fn check(&self, now: Timestamp) -> Result<(), InvalidField> {
        self.clone().into_record(now, [0; 10]).map(drop)
    }

    fn into_record(self, now: Timestamp, random: [u8; 10]) -> Result<KeyRecord, InvalidField> {
        let display = match &self.display {
            Some(display) => rules::display(display)?,
            None => format!("sha256:{}…", &self.sha256.to_hex()[..8]),
        };
        Ok(KeyRecord {
            id: KeyId::new(Shard::of(&self.sha256), random),
            hash: self.sha256,
            label: rules::label(&self.label)?,
            team: rules::team(self.team.as_deref())?,
            environment: self.environment,
            display,
            created_at: self.created_at.map_or(Ok(now), |created| rules::past_creation(created, now))?,
            expires_at: self.expires_at.map(rules::any_expiry).transpose()?,
            revoked_at: None,
        })
    }
}

async fn within_deadline<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(STORE_DEADLINE, asked).await.unwrap_or(Err(StoreError::TimedOut(STORE_DEADLINE)))
}

fn random_bytes<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(KeyError::NoRandomness)?;
    Ok(bytes)
}
