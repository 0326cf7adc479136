//! Why something could not be done with a key.

use crate::model::KeyId;
use crate::store::{Mismatch, StoreError, StoredKey};

use super::MAX_DRAWS;
use super::import::{BadImport, ImportReport};
use super::rules::InvalidField;

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
    /// No key that was drawn could be used.
    #[error("no random key of {MAX_DRAWS} could be used: the randomness of this machine is broken")]
    PoorRandomness,
    /// The key is revoked, and nothing can take its place.
    #[error("the key is revoked; make a new one instead")]
    RevokedBefore,
    /// The key has expired, and a key that took its place would have expired too.
    #[error("the key has expired; make a new one instead")]
    HasExpired,
    /// The key was rotated before. The key that took its place can be rotated.
    #[error("the key was rotated before{}", .0.map_or_else(String::new, |new| format!("; {new} took its place, and can be rotated in turn")))]
    RotatedBefore(Option<KeyId>),
    /// The key is not as the caller has seen it; this is how it is now. Nothing was changed.
    #[error("the key was changed meanwhile")]
    EditedMeanwhile(Box<StoredKey>),
    /// The key is revoked, and nothing of it can be changed.
    #[error("the key is revoked, and stays as it is")]
    NoEditOfRevoked,
    /// Another request was sent under this name before.
    #[error("another request was sent under this idempotency key before; use a new one")]
    AnotherRequest,
    /// What is found where the store should be is not what the operator has seen there; nothing was done.
    #[error("what is found where the store should be has changed: it is {}", .0.as_deref().map_or_else(|| "without an identity".to_owned(), |found| format!("the store {found}")))]
    StoreChanged(Option<String>),
    /// What is found there cannot be made the fleet's store by accepting it.
    #[error("accepting it does not help: {0}")]
    Unacceptable(#[source] Mismatch),
}
