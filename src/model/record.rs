//! What the store knows of a key.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{KeyHash, KeyId, Timestamp};

/// Which world a key belongs to. There is no crossover between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Real money, real transactions.
    Live,
    /// Testing only, no real money moves. Spelled `test` inside a key.
    Sandbox,
}

/// The text is neither `live` nor `sandbox`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not an environment: expected `live` or `sandbox`")]
pub struct UnknownEnvironment;

impl Environment {
    /// `live` or `sandbox`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Environment::Live => "live",
            Environment::Sandbox => "sandbox",
        }
    }

    /// How the environment is spelled inside a key: `live` or `test`.
    pub const fn key_spelling(self) -> &'static str {
        match self {
            Environment::Live => "live",
            Environment::Sandbox => "test",
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Environment {
    type Err = UnknownEnvironment;

    fn from_str(text: &str) -> Result<Environment, UnknownEnvironment> {
        match text {
            "live" => Ok(Environment::Live),
            "sandbox" => Ok(Environment::Sandbox),
            _ => Err(UnknownEnvironment),
        }
    }
}

/// A key as the store keeps it: everything but the key.
///
/// Serialised, this is the value of a Redis record. `revoked_at` never goes back to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// The key's public name.
    pub id: KeyId,
    /// SHA-256 of the key.
    pub hash: KeyHash,
    /// Where the key is used, in its team's words.
    pub label: String,
    /// The partner account that the key belongs to.
    pub team: String,
    /// Live or Sandbox.
    pub environment: Environment,
    /// The first 12 and the last 4 characters of the key, as `sk_live_4f9c…a1b2`.
    pub display: String,
    /// When the key was made, or imported.
    pub created_at: Timestamp,
    /// From this moment on the key is refused.
    pub expires_at: Option<Timestamp>,
    /// When the key was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When its grace ends, if it was rotated: from this moment on the key is refused.
    #[serde(default)]
    pub retires_at: Option<Timestamp>,
    /// The key that took its place, if it was rotated.
    #[serde(default)]
    pub replaced_by: Option<KeyId>,
    /// The key whose place it took, if it was made by a rotation.
    #[serde(default)]
    pub replaces: Option<KeyId>,
}

/// What a key is worth at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyStatus {
    /// It opens.
    Active,
    /// It was rotated, and opens until its grace ends.
    Rotating,
    /// Its expiry date has come, or its grace has ended.
    Expired,
    /// It was revoked, for ever.
    Revoked,
}

impl KeyRecord {
    /// From when on the key is refused, if it is not revoked before: its expiry date or the end of its grace.
    pub fn ends_at(&self) -> Option<Timestamp> {
        self.expires_at.into_iter().chain(self.retires_at).min()
    }

    /// The status at `now`. Revoked outweighs expired, and expired outweighs rotating.
    pub fn status(&self, now: Timestamp) -> KeyStatus {
        if self.revoked_at.is_some() {
            KeyStatus::Revoked
        } else if self.ends_at().is_some_and(|end| now >= end) {
            KeyStatus::Expired
        } else if self.retires_at.is_some() {
            KeyStatus::Rotating
        } else {
            KeyStatus::Active
        }
    }
}
