//! Label and expiry date of a key can be changed, by whoever has seen it as it is.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::model::{EventKind, KeyId, KeyRecord, Timestamp};
use crate::store::{Edit, Editable, StoreError, StoredKey};

use super::{KeyError, KeyService, rules, within_deadline};

/// The name of a record as it is: another one after each change of it, whatever its uses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision([u8; 16]);

/// What to change; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyEdit {
    /// The new label: 1 to 100 characters.
    pub label: Option<String>,
    /// The new expiry date, in the future, earlier or later than the old one; or none any more.
    pub expires_at: Option<Option<Timestamp>>,
}

impl Revision {
    /// That of `record`.
    pub fn of(record: &KeyRecord) -> Revision {
        let text = serde_json::to_vec(record).expect("a record is plain data with string keys");
        let digest: [u8; 32] = Sha256::digest(text).into();
        let mut revision = [0; 16];
        revision.copy_from_slice(&digest[..16]);
        Revision(revision)
    }
}

/// 32 hex digits.
impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl KeyService {
    /// Changes a key that is as the caller has `seen` it, in one step; every gateway obeys a new expiry date as soon as it
    /// hears of it. A revoked key stays as it is. To change nothing is allowed, and writes nothing.
    ///
    /// # Errors
    /// [`KeyError::EditedMeanwhile`], [`KeyError::RevokedBefore`], a member is not allowed, there is no such key, or the
    /// store failed.
    pub async fn edit(
        &self,
        id: &KeyId,
        seen: impl Fn(Revision) -> bool,
        edit: KeyEdit,
    ) -> Result<StoredKey, KeyError> {
        let StoredKey { record: before, activity } = self.get(id).await?;
        if !seen(Revision::of(&before)) {
            return Err(KeyError::EditedMeanwhile(Box::new(StoredKey { record: before, activity })));
        }
        if before.revoked_at.is_some() {
            return Err(KeyError::NoEditOfRevoked);
        }
        let now = self.clock.now().wall;
        let expires_at = match edit.expires_at {
            None => before.expires_at,
            Some(same) if same == before.expires_at => same,
            Some(expiry) => expiry.map(|expiry| rules::future_expiry(expiry, now)).transpose()?,
        };
        let label = edit.label.map_or_else(|| Ok(before.label.clone()), |label| rules::label(&label))?;
        let after = Editable { label, expires_at };
        if after == Editable::of(&before) {
            return Ok(StoredKey { record: before, activity });
        }
        match within_deadline(self.store.edit(&before, &after)).await {
            Ok(Some(Edit::Edited { record, told: _ })) => {
                self.tell(EventKind::Changed, &record.hash, Some(record.id));
                tracing::info!(key_id = %id, "key edited");
                Ok(StoredKey { record, activity })
            }
            Ok(Some(Edit::Changed(record))) if record.revoked_at.is_some() => Err(KeyError::NoEditOfRevoked),
            Ok(Some(Edit::Changed(record))) => {
                Err(KeyError::EditedMeanwhile(Box::new(StoredKey { record, activity })))
            }
            Ok(None) => Err(KeyError::NotFound),
            Err(error) => Err(self.edit_in_doubt(&before, error)),
        }
    }

    /// The edit may have been written: what is remembered here of the key is asked for again.
    fn edit_in_doubt(&self, before: &KeyRecord, error: StoreError) -> KeyError {
        self.tell(EventKind::Changed, &before.hash, Some(before.id));
        error.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Environment, KeyHash, Shard};

    #[test]
    fn every_change_of_a_record_is_another_revision() {
        let hash = KeyHash::from_bytes([7; 32]);
        let id = KeyId::new(Shard::of(&hash), [3; 10]);
        let moment = Some(Timestamp::from_millis(5));
        let record = KeyRecord {
            id,
            hash,
            label: "a".into(),
            team: "b".into(),
            environment: Environment::Live,
            display: "c".into(),
            created_at: Timestamp::from_millis(1),
            expires_at: None,
            revoked_at: None,
            retires_at: None,
            replaced_by: None,
            replaces: None,
        };
        let others = [
            KeyRecord { label: "b".into(), ..record.clone() },
            KeyRecord { expires_at: moment, ..record.clone() },
            KeyRecord { revoked_at: moment, ..record.clone() },
            KeyRecord { retires_at: moment, ..record.clone() },
            KeyRecord { replaced_by: Some(id), ..record.clone() },
        ];
        for other in &others {
            assert_ne!(Revision::of(other), Revision::of(&record), "{other:?}");
        }
        let text = Revision::of(&record).to_string();
        assert!(text.len() == 32 && text == Revision::of(&record.clone()).to_string());
    }
}
