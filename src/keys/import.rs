//! Taking over keys that existed before keygate.

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::{Environment, Event, KeyHash, KeyId, KeyRecord, Shard, Timestamp};
use crate::store::{Creation, Origin};

use super::rules::{self, InvalidField};
use super::{KeyError, KeyService, random_bytes, within_deadline};

/// Imported keys that are written at once, so that a store can commit them together.
const IMPORTS_AT_ONCE: usize = 32;

/// A key that existed before keygate, known by its SHA-256 alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportedKey {
    /// SHA-256 of the whole key, prefix included.
    pub sha256: KeyHash,
    /// Where it is used: 1 to 100 characters.
    pub label: String,
    /// Whose it is; [`DEFAULT_TEAM`](super::DEFAULT_TEAM) if nothing is said.
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

impl KeyService {
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
        let writes = stream::iter(records)
            .map(|record| async move { self.write_new(&record, Origin::Imported).await });
        let mut writes = std::pin::pin!(writes.buffer_unordered(IMPORTS_AT_ONCE));
        while let Some(written) = writes.next().await {
            match written {
                Ok(Creation::Created) => done.created += 1,
                Ok(Creation::AlreadyThere | Creation::Repeated(_)) => done.already_there += 1,
                Err(source) => return Err(KeyError::ImportInterrupted { done, source }),
            }
        }
        tracing::info!(created = done.created, already_there = done.already_there, "keys imported");
        Ok(done)
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
            retires_at: None,
            replaced_by: None,
            replaces: None,
        })
    }
}
