//! Making, listing, rotating, revoking and importing keys.
//!
//! Whatever changes here takes effect on this gateway before the caller hears of it: the event goes to the local
//! [`FeedSink`] at once, without waiting for the bus. Other gateways learn it from the store. A revocation goes there
//! even before the store is asked: a key that somebody wants dead dies here however the store is.

mod edit;
mod error;
mod history;
mod import;
#[cfg(test)]
pub(crate) mod memory;
mod once;
mod overdue;
mod rotation;
mod rules;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroize;

use crate::clock::Clock;
use crate::events::FeedSink;
use crate::model::{
    ApiKey, CheckSecret, Environment, Event, EventKind, KeyFormat, KeyHash, KeyId, KeyRandom, KeyRecord,
    Shard, Timestamp,
};
use crate::observe::Metrics;
use crate::store::{
    self, Activity, Creation, KeyStore, ListQuery, Once, Origin, Page, StoreError, StoreReport, StoredKey,
    Told,
};

use overdue::Overdue;

pub use edit::{KeyEdit, Revision};
pub use error::KeyError;
pub use history::{Happening, HappeningKind, KeyUsage, MAX_DAYS};
pub use import::{BadImport, ImportReport, ImportedKey};
pub use once::Made;
pub use rotation::RotatedKey;
pub use rules::{
    DEFAULT_TEAM, Grace, InvalidField, MAX_GRACE, MalformedExpiry, MalformedGrace, RelativeExpiry,
    has_key_digits, without_keys,
};

/// How long one operation of the store may take before the caller is told that it did not answer.
const STORE_DEADLINE: Duration = Duration::from_secs(5);
/// How long the store may take to find a key that shall be revoked, before the key dies here without its help.
const REVOKE_PATIENCE: Duration = Duration::from_millis(250);
/// New random keys are drawn this often. Even once again means that the randomness is broken.
const MAX_DRAWS: usize = 3;
/// A key is drawn this often until one lies in a certain shard, which one of 16 does: that all of them miss has a chance
/// of 10⁻²⁸.
const MAX_SHARD_DRAWS: usize = 1_000;

/// The life of keys, from creation to revocation.
pub struct KeyService {
    store: Arc<dyn KeyStore>,
    sink: Arc<dyn FeedSink>,
    format: KeyFormat,
    clock: Arc<dyn Clock>,
    overdue: Overdue,
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

/// A key that is revoked, in the store and on this gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedKey {
    /// The key as it is now.
    pub key: StoredKey,
    /// Whether it was this call that revoked it.
    pub newly: bool,
    /// When it was revoked first, by the store's clock.
    pub revoked_at: Timestamp,
    /// How the fleet hears of it.
    pub told: Told,
}

impl KeyService {
    /// A service that keeps keys in `store` and tells `sink`, this gateway's own, what changed.
    pub fn new(
        store: Arc<dyn KeyStore>,
        sink: Arc<dyn FeedSink>,
        format: KeyFormat,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> KeyService {
        KeyService { store, sink, format, clock, overdue: Overdue::new(metrics) }
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
        match self.create_once(new, None).await? {
            Made::Now(made) => Ok(made),
            Made::Before(_) => Err(KeyError::PoorRandomness),
        }
    }

    /// As [`create`](KeyService::create), by a request that makes one key however often it is sent, if it is `once`.
    ///
    /// # Errors
    /// Also [`KeyError::AnotherRequest`].
    pub async fn create_once(
        &self,
        new: NewKey,
        once: Option<Once>,
    ) -> Result<Made<(KeyRecord, ApiKey)>, KeyError> {
        let shard = once.map(|once| once.shard());
        if let Some(shard) = shard
            && let Some(key) = self.made_before(shard, once.as_ref()).await?
        {
            return Ok(Made::Before(key));
        }
        let now = self.clock.now().wall;
        let label = rules::label(&new.label)?;
        let team = rules::team(new.team.as_deref())?;
        let expires_at = new.expires_at.map(|expiry| rules::future_expiry(expiry, now)).transpose()?;
        let secret = self.first_secret().await?;
        for _ in 0..MAX_DRAWS {
            let key = self.draw(new.environment, &secret, shard)?;
            let record = KeyRecord {
                expires_at,
                ..self.record_of(&key, label.clone(), team.clone(), new.environment)?
            };
            match self.write_new(&record, once.map_or(Origin::Made, Origin::MadeOnce)).await? {
                Creation::Created => {
                    tracing::info!(key_id = %record.id, team = record.team, environment = %record.environment, "key created");
                    return Ok(Made::Now((record, key)));
                }
                Creation::Repeated(earlier) => {
                    return Ok(Made::Before(self.of_earlier(&earlier, once.as_ref()).await?));
                }
                Creation::AlreadyThere => {}
            }
        }
        Err(KeyError::PoorRandomness)
    }

    /// One page of keys.
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

    /// Revokes a key for ever. To repeat it changes nothing. A key that this gateway remembers dies here even if the
    /// store is away.
    ///
    /// # Errors
    /// There is no such key; the store is away and this gateway does not remember the key; or
    /// [`KeyError::RevokedHereOnly`].
    pub async fn revoke(&self, id: &KeyId) -> Result<RevokedKey, KeyError> {
        let mut asked = pin!(within_deadline(self.store.get(id)));
        let (found, killed) = match tokio::time::timeout(REVOKE_PATIENCE, asked.as_mut()).await {
            Ok(found) => (found, None),
            Err(_late) => {
                let killed = self.kill_remembered(id);
                (asked.await, killed)
            }
        };
        match found {
            Ok(stored) => self.revoke_stored(stored.ok_or(KeyError::NotFound)?).await,
            Err(error) => match killed.or_else(|| self.kill_remembered(id)) {
                Some(hash) => Err(self.owe(&hash, Some(*id), error)),
                None => Err(error.into()),
            },
        }
    }

    /// Revokes a key for ever, for whoever found it and has no id. To repeat it changes nothing.
    ///
    /// # Errors
    /// There is no such key, or [`KeyError::RevokedHereOnly`].
    pub async fn revoke_key(&self, key: &ApiKey) -> Result<RevokedKey, KeyError> {
        let hash = key.hash();
        let found = match within_deadline(self.store.find(&hash)).await {
            Ok(found) => found,
            Err(error) => {
                self.tell(EventKind::Revoked, &hash, None);
                return Err(self.owe(&hash, None, error));
            }
        };
        let record = found.ok_or(KeyError::NotFound)?;
        let stored = within_deadline(self.store.get(&record.id)).await.ok().flatten();
        self.revoke_stored(stored.unwrap_or(StoredKey { record, activity: Activity::default() })).await
    }

    /// The record of the key that somebody holds, if there is such a key. The store is asked once, whether there is or not.
    ///
    /// # Errors
    /// The store failed.
    pub async fn find(&self, key: &ApiKey) -> Result<Option<KeyRecord>, KeyError> {
        Ok(within_deadline(self.store.find(&key.hash())).await?)
    }

    /// What is there where the store should be, for an operator.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn inspect_store(&self) -> Result<StoreReport, KeyError> {
        Ok(within_deadline(self.store.inspect()).await?)
    }

    /// Makes what is there the fleet's store, if it still is `found`, which an operator has seen; what is there then.
    /// If it is the fleet's store already, nothing is done.
    ///
    /// # Errors
    /// [`KeyError::StoreChanged`], [`KeyError::Unacceptable`], or it does not answer.
    pub async fn accept_store(&self, found: Option<&str>) -> Result<StoreReport, KeyError> {
        let before = self.inspect_store().await?;
        if before.found.as_deref() != found {
            return Err(KeyError::StoreChanged(before.found));
        }
        if before.mismatch.is_none() {
            return Ok(before);
        }
        match within_deadline(self.store.accept(found)).await {
            Err(StoreError::NotOurs(mismatch)) => return Err(KeyError::Unacceptable(mismatch)),
            accepted => accepted?,
        }
        let after = self.inspect_store().await?;
        match after.mismatch {
            None => Ok(after),
            // Another one came in its place, just now.
            Some(_) => Err(KeyError::StoreChanged(after.found)),
        }
    }

    /// The secret under which new keys carry their check.
    async fn first_secret(&self) -> Result<CheckSecret, KeyError> {
        let fleet = within_deadline(self.store.fleet()).await?;
        let secret = fleet.check_secrets.into_iter().next();
        Ok(secret.ok_or_else(|| StoreError::Corrupt("it has no check secret".to_owned()))?)
    }

    /// Draws keys until one lies in `shard`.
    fn draw(
        &self,
        environment: Environment,
        secret: &CheckSecret,
        shard: Option<Shard>,
    ) -> Result<ApiKey, KeyError> {
        for _ in 0..MAX_SHARD_DRAWS {
            let mut random: KeyRandom = random_bytes()?;
            let key = self.format.mint(environment, random, secret);
            random.zeroize();
            if shard.is_none_or(|shard| shard == Shard::of(&key.hash())) {
                return Ok(key);
            }
        }
        Err(KeyError::PoorRandomness)
    }

    /// The record of a key that is made now and does not expire.
    fn record_of(
        &self,
        key: &ApiKey,
        label: String,
        team: String,
        environment: Environment,
    ) -> Result<KeyRecord, KeyError> {
        let hash = key.hash();
        Ok(KeyRecord {
            id: KeyId::new(Shard::of(&hash), random_bytes()?),
            hash,
            label,
            team,
            environment,
            display: key.display(),
            created_at: self.clock.now().wall,
            expires_at: None,
            revoked_at: None,
            retires_at: None,
            replaced_by: None,
            replaces: None,
        })
    }

    async fn write_new(&self, record: &KeyRecord, origin: Origin) -> Result<Creation, StoreError> {
        let creation = within_deadline(self.store.create_from(record, &origin)).await?;
        if creation == Creation::Created {
            self.tell(EventKind::Created, &record.hash, Some(record.id));
        }
        Ok(creation)
    }

    async fn revoke_stored(&self, stored: StoredKey) -> Result<RevokedKey, KeyError> {
        let (id, hash) = (stored.record.id, stored.record.hash);
        self.tell(EventKind::Revoked, &hash, Some(id));
        match within_deadline(self.store.revoke(&id)).await {
            Ok(Some(revocation)) => {
                match revocation.told {
                    Told::Logged(_) => self.overdue.taken(&hash, self.clock.now().tick),
                    Told::Everybody => self.overdue.settle(&hash),
                }
                tracing::info!(key_id = %id, newly = revocation.newly, "key revoked");
                let revoked_at = revocation.record.revoked_at.unwrap_or_else(|| self.clock.now().wall);
                let key = StoredKey { record: revocation.record, ..stored };
                Ok(RevokedKey { key, newly: revocation.newly, revoked_at, told: revocation.told })
            }
            Ok(None) => Err(KeyError::NotFound),
            Err(error) => Err(self.owe(&hash, Some(id), error)),
        }
    }

    /// Lets the key die here, if this gateway knows which one it is; its hash.
    fn kill_remembered(&self, id: &KeyId) -> Option<KeyHash> {
        let hash = self.overdue.hash_of(id).or_else(|| self.sink.hash_of(id))?;
        self.tell(EventKind::Revoked, &hash, Some(*id));
        Some(hash)
    }

    /// The key is dead here, and the store could not take it: the revocation stays to be written.
    fn owe(&self, hash: &KeyHash, id: Option<KeyId>, error: StoreError) -> KeyError {
        self.overdue.add(hash, id);
        KeyError::RevokedHereOnly(error)
    }

    fn tell(&self, kind: EventKind, hash: &KeyHash, id: Option<KeyId>) {
        self.sink.apply_own(&Event { kind, hash: *hash, id, at: self.clock.now().wall });
    }
}

async fn within_deadline<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    store::within(STORE_DEADLINE, asked).await
}

fn random_bytes<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(KeyError::NoRandomness)?;
    Ok(bytes)
}
