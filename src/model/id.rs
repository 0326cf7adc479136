//! The public name of a key, and the shard that it lives in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{KeyHash, hex};

/// How many shards a store has: one for each first nibble of a key's hash.
pub const SHARDS: usize = 16;

/// One of the 16 shards of the store: record, log and position of a key live in the shard of its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u8);

impl Shard {
    /// The shard of a hash: its first nibble.
    pub fn of(hash: &KeyHash) -> Shard {
        Shard(hash.as_bytes()[0] >> 4)
    }

    /// Every shard, in order.
    pub fn all() -> impl Iterator<Item = Shard> {
        (0..SHARDS as u8).map(Shard)
    }

    /// 0 to 15.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The nibble as a lowercase hex digit, as it stands in store keys and in key ids.
    pub fn digit(self) -> char {
        char::from(hex::DIGITS[self.index()])
    }

    fn from_digit(digit: u8) -> Option<Shard> {
        hex::DIGITS.iter().position(|&hex| hex == digit).map(|index| Shard(index as u8))
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.digit(), f)
    }
}

const PREFIX: &[u8] = b"key_";

/// What a key is called in lists, logs and headers: `key_`, its shard's nibble and 19 random hex characters.
///
/// It says nothing about the key. The shard is in it so that whoever has only the id finds the record in one step.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; KeyId::LEN]);

/// The text is not a key id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a key id: expected `key_` and 20 lowercase hex characters")]
pub struct MalformedKeyId;

impl KeyId {
    /// Length of an id in characters.
    pub const LEN: usize = 24;

    /// An id in `shard`, from 10 random bytes (76 of their bits are used).
    pub fn new(shard: Shard, random: [u8; 10]) -> KeyId {
        let mut id = [0; KeyId::LEN];
        id[..4].copy_from_slice(PREFIX);
        id[4..].copy_from_slice(random.map(hex::pair).as_flattened());
        id[4] = hex::DIGITS[shard.index()];
        KeyId(id)
    }

    /// The shard in which the key lives.
    pub fn shard(&self) -> Shard {
        Shard::from_digit(self.0[4]).expect("every constructor puts a hex digit here")
    }

    /// The id as text: ASCII.
    pub fn as_bytes(&self) -> &[u8; KeyId::LEN] {
        &self.0
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("every constructor puts ASCII here")
    }
}

impl FromStr for KeyId {
    type Err = MalformedKeyId;

    fn from_str(text: &str) -> Result<KeyId, MalformedKeyId> {
        let id: [u8; KeyId::LEN] = text.as_bytes().try_into().map_err(|_| MalformedKeyId)?;
        let digits = id.strip_prefix(PREFIX).ok_or(MalformedKeyId)?;
        if digits.iter().all(|digit| hex::DIGITS.contains(digit)) {
            Ok(KeyId(id))
        } else {
            Err(MalformedKeyId)
        }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<KeyId, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_shard() {
        for shard in Shard::all() {
            let id = KeyId::new(shard, [0xa5; 10]);
            assert_eq!(id.shard(), shard);
            assert_eq!(id.as_str().parse::<KeyId>().unwrap(), id);
        }
    }

    #[test]
    fn other_text_is_not_an_id() {
        for text in
            ["", "key_", "key_0123456789abcdef012", "key_0123456789abcdef0123Z", "kex_0123456789abcdef0123"]
        {
            assert_eq!(text.parse::<KeyId>(), Err(MalformedKeyId), "{text}");
        }
    }
}
