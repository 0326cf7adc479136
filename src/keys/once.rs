//! Requests that make one key, however often they are sent.
//!
//! What such a request did is noted in the step that makes its key, in the key's shard. So a key that is made once is drawn
//! until it lies in the shard that the request's name says: whoever repeats it looks there.

use sha2::{Digest, Sha256};

use crate::model::{KeyHash, Shard};
use crate::store::{Earlier, Once, StoredKey};

use super::{KeyError, KeyService, within_deadline};

/// The outcome of a request that is made once.
#[derive(Debug)]
pub enum Made<T> {
    /// It came for the first time.
    Now(T),
    /// It came before. The key that it made then, as it is now; it cannot be shown again.
    Before(Box<StoredKey>),
}

impl Once {
    /// The request that `caller` sends to `route` under the name `key`, which he chose, and which says `body`.
    pub fn new(caller: &str, route: &str, key: &str, body: &[u8]) -> Once {
        let mut name = Sha256::new();
        for part in [caller, route, key] {
            // With its length before it, no part runs into the next.
            name.update((part.len() as u64).to_be_bytes());
            name.update(part);
        }
        Once { name: name.finalize().into(), fingerprint: Sha256::digest(body).into() }
    }

    /// Where the key lies that the request makes, if nothing else says where.
    pub(super) fn shard(&self) -> Shard {
        Shard::of(&KeyHash::from_bytes(self.name))
    }
}

impl KeyService {
    /// What a request did before.
    pub(super) async fn made_before(
        &self,
        shard: Shard,
        once: Option<&Once>,
    ) -> Result<Option<Box<StoredKey>>, KeyError> {
        let Some(once) = once else { return Ok(None) };
        match within_deadline(self.store.recall(shard, &once.name)).await? {
            Some(earlier) => self.of_earlier(&earlier, Some(once)).await.map(Some),
            None => Ok(None),
        }
    }

    /// The key that `earlier` made, if `once` is the same request.
    pub(super) async fn of_earlier(
        &self,
        earlier: &Earlier,
        once: Option<&Once>,
    ) -> Result<Box<StoredKey>, KeyError> {
        if once.is_none_or(|once| once.fingerprint != earlier.fingerprint) {
            return Err(KeyError::AnotherRequest);
        }
        self.get(&earlier.id).await.map(Box::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_name_do_not_run_into_each_other() {
        let once = |caller, route, key| Once::new(caller, route, key, b"x").name;
        assert_ne!(once("a", "bc", "d"), once("ab", "c", "d"));
        assert_ne!(once("a", "b", "cd"), once("a", "bc", "d"));
        assert_eq!(once("a", "b", "c"), once("a", "b", "c"));
        assert_ne!(Once::new("a", "b", "c", b"x").fingerprint, Once::new("a", "b", "c", b"y").fingerprint);
    }
}
