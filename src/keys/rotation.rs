//! A new key in place of an old one, which ends after a grace.

use std::time::Duration;

use crate::model::{ApiKey, EventKind, KeyId, KeyRecord, KeyStatus, Timestamp};
use crate::store::{Once, Rotation, StoredKey, Told};

use super::{KeyError, KeyService, MAX_DRAWS, Made, rules, within_deadline};

/// A key that was rotated, and the one that takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotatedKey {
    /// The old key as it is now.
    pub old: StoredKey,
    /// The new key's record.
    pub record: KeyRecord,
    /// How the fleet hears of it.
    pub told: Told,
}

impl KeyService {
    /// Makes a key with the label, team, environment and expiry date of the key `id`, which then ends after `grace`,
    /// or at its own expiry date if that comes first. The plaintext exists only in the answer.
    ///
    /// # Errors
    /// The grace is not allowed, there is no such key, it is revoked, has expired or was rotated before; the store
    /// failed, or there is no good randomness.
    pub async fn rotate(&self, id: &KeyId, grace: Duration) -> Result<(RotatedKey, ApiKey), KeyError> {
        match self.rotate_once(id, grace, None).await? {
            Made::Now(rotated) => Ok(rotated),
            Made::Before(new) => Err(KeyError::RotatedBefore(Some(new.record.id))),
        }
    }

    /// As [`rotate`](KeyService::rotate), by a request that rotates once however often it is sent, if it is `once`.
    ///
    /// # Errors
    /// Also [`KeyError::AnotherRequest`].
    pub async fn rotate_once(
        &self,
        id: &KeyId,
        grace: Duration,
        once: Option<Once>,
    ) -> Result<Made<(RotatedKey, ApiKey)>, KeyError> {
        let grace = rules::grace(grace)?;
        if let Some(new) = self.made_before(id.shard(), once.as_ref()).await? {
            return Ok(Made::Before(new));
        }
        let old = self.get(id).await?;
        rotatable(&old.record, self.clock.now().wall)?;
        let secret = self.first_secret().await?;
        for _ in 0..MAX_DRAWS {
            let key = self.draw(old.record.environment, &secret, Some(id.shard()))?;
            let now = self.clock.now().wall;
            let record = KeyRecord {
                replaces: Some(*id),
                expires_at: old.record.expires_at,
                ..self.record_of(
                    &key,
                    old.record.label.clone(),
                    old.record.team.clone(),
                    old.record.environment,
                )?
            };
            let retires_at = now.plus(grace);
            let rotation =
                within_deadline(self.store.rotate_once(id, &record, retires_at, once.as_ref())).await?;
            match rotation.ok_or(KeyError::NotFound)? {
                Rotation::Rotated { old: retiring, told } => {
                    self.tell(EventKind::Changed, &retiring.hash, Some(*id));
                    self.tell(EventKind::Created, &record.hash, Some(record.id));
                    tracing::info!(key_id = %id, replaced_by = %record.id, ?grace, "key rotated");
                    let old = StoredKey { record: retiring, activity: old.activity };
                    return Ok(Made::Now((RotatedKey { old, record, told }, key)));
                }
                Rotation::Revoked => return Err(KeyError::RevokedBefore),
                Rotation::RotatedBefore => {
                    let old = self.get(id).await?;
                    return Err(KeyError::RotatedBefore(old.record.replaced_by));
                }
                Rotation::Repeated(earlier) => {
                    return Ok(Made::Before(self.of_earlier(&earlier, once.as_ref()).await?));
                }
                Rotation::AlreadyThere => {}
            }
        }
        Err(KeyError::PoorRandomness)
    }
}

fn rotatable(record: &KeyRecord, now: Timestamp) -> Result<(), KeyError> {
    match record.status(now) {
        KeyStatus::Revoked => Err(KeyError::RevokedBefore),
        // Also one whose grace has ended: that it was rotated says what to do.
        KeyStatus::Rotating | KeyStatus::Expired if record.retires_at.is_some() => {
            Err(KeyError::RotatedBefore(record.replaced_by))
        }
        KeyStatus::Rotating | KeyStatus::Expired => Err(KeyError::HasExpired),
        KeyStatus::Active => Ok(()),
    }
}
