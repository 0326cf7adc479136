//! What is done to a key besides making and revoking it: edits, and requests that are made once.

use serde::{Deserialize, Serialize};

use super::Told;
use crate::model::{KeyId, KeyRecord, Timestamp};

/// How long it is remembered that a request was made once, in seconds.
pub const ONCE_MEMORY_S: u64 = 24 * 60 * 60;
/// Changes that are remembered of a key.
pub const CHANGES_KEPT: usize = 100;

/// Where a new key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is made here.
    Made,
    /// It is made here, by a request that makes one key however often it is sent.
    MadeOnce(Once),
    /// It existed before.
    Imported,
}

/// A request that is made once, however often it is sent. Two SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Once {
    /// Of who sent it, to where, and under which name.
    pub name: [u8; 32],
    /// Of what it says.
    pub fingerprint: [u8; 32],
}

/// What a request that is made once did when it came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// The key that it made.
    pub id: KeyId,
    /// Of what it said.
    pub fingerprint: [u8; 32],
}

/// What of a record can be edited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Editable {
    /// Where the key is used.
    pub label: String,
    /// From this moment on the key is refused.
    pub expires_at: Option<Timestamp>,
}

/// What became of an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// It is in the store.
    Edited {
        /// The record as it is now.
        record: KeyRecord,
        /// How the fleet hears of it.
        told: Told,
    },
    /// The record was another one, this; nothing was changed.
    Changed(KeyRecord),
}

/// Something in a key's history that its record does not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When, by the store's clock.
    pub at: Timestamp,
    /// What.
    pub what: ChangeKind,
}

/// What can be changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It was imported.
    Imported,
    /// Its label or its expiry date.
    Edited {
        /// As it was.
        before: Editable,
        /// As it is since.
        after: Editable,
    },
}

impl Origin {
    /// The request that is made once.
    pub fn once(&self) -> Option<&Once> {
        match self {
            Origin::MadeOnce(once) => Some(once),
            Origin::Made | Origin::Imported => None,
        }
    }
}

impl Editable {
    /// That of `record`.
    pub fn of(record: &KeyRecord) -> Editable {
        Editable { label: record.label.clone(), expires_at: record.expires_at }
    }

    /// `record` with this in it.
    pub fn put_into(self, record: &KeyRecord) -> KeyRecord {
        KeyRecord { label: self.label, expires_at: self.expires_at, ..record.clone() }
    }
}
