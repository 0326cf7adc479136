//! The key itself, and what is left of it after the door.
//!
//! An [`ApiKey`] is read from a request, hashed once and dropped; dropping wipes it. It has no `Display`, no
//! `Serialize`, and a `Debug` that tells nothing.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{Environment, hex};

/// Random hex characters of a key that keygate made: 192 bits.
const RANDOM_LEN: usize = 48;
/// Hex characters of the truncated HMAC-SHA-256 behind them: 64 bits.
const CHECK_LEN: usize = 16;
const SECRET_LEN: usize = RANDOM_LEN + CHECK_LEN;
const MAX_PREFIX: usize = 16;
const MAX_KEY: usize = MAX_PREFIX + "_live_".len() + SECRET_LEN;

/// The random bytes from which a key is made; they must come from the operating system.
pub type KeyRandom = [u8; RANDOM_LEN / 2];

/// How keys are spelled here: `<prefix>_<live|test>_` and 64 lowercase hex characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFormat {
    prefix: String,
}

/// What was presented is not a key of this format. It does not say what was presented.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a key of the expected format")]
pub struct MalformedKey;

/// The prefix cannot be used in keys.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a key prefix is 1 to {MAX_PREFIX} lowercase letters or digits")]
pub struct PrefixError;

impl KeyFormat {
    /// The format with `prefix`, `sk` in production.
    ///
    /// # Errors
    /// The prefix is empty, longer than 16, or has a character other than `a-z` and `0-9`.
    pub fn new(prefix: &str) -> Result<KeyFormat, PrefixError> {
        let well_formed = prefix.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if well_formed && (1..=MAX_PREFIX).contains(&prefix.len()) {
            Ok(KeyFormat { prefix: prefix.to_owned() })
        } else {
            Err(PrefixError)
        }
    }

    /// Reads a key from what a client presented.
    ///
    /// # Errors
    /// Any deviation from the format, upper case included.
    pub fn parse(&self, presented: &[u8]) -> Result<ApiKey, MalformedKey> {
        let rest = presented.strip_prefix(self.prefix.as_bytes()).ok_or(MalformedKey)?;
        let (environment, secret) = match rest.split_at_checked("_live_".len()).ok_or(MalformedKey)? {
            (b"_live_", secret) => (Environment::Live, secret),
            (b"_test_", secret) => (Environment::Sandbox, secret),
            _ => return Err(MalformedKey),
        };
        let Ok(secret) = <&[u8; SECRET_LEN]>::try_from(secret) else { return Err(MalformedKey) };
        // Without an early end, so that many are compared at once.
        let is_hex = |byte: u8| byte.wrapping_sub(b'0') < 10 || byte.wrapping_sub(b'a') < 6;
        if !secret.iter().fold(true, |all, &byte| all & is_hex(byte)) {
            return Err(MalformedKey);
        }
        Ok(ApiKey::from_text(presented, environment))
    }

    /// Makes a key: the random bytes in hex, then their check under `secret`.
    pub fn mint(&self, environment: Environment, mut random: KeyRandom, secret: &CheckSecret) -> ApiKey {
        let mut text = Vec::with_capacity(MAX_KEY);
        text.extend_from_slice(self.prefix.as_bytes());
        text.push(b'_');
        text.extend_from_slice(environment.key_spelling().as_bytes());
        text.push(b'_');
        push_hex(&mut text, &random);
        let check = secret.check_of(&text);
        text.extend_from_slice(&check);
        let key = ApiKey::from_text(&text, environment);
        text.zeroize();
        random.zeroize();
        key
    }
}

/// A key in plaintext, on its way from a request to its hash, or from creation to its owner.
///
/// Held inline, so that it is in one place and wiped there when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct ApiKey {
    text: [u8; MAX_KEY],
    #[zeroize(skip)]
    len: u8,
    #[zeroize(skip)]
    environment: Environment,
}

impl ApiKey {
    fn from_text(text: &[u8], environment: Environment) -> ApiKey {
        let mut key = ApiKey { text: [0; MAX_KEY], len: text.len() as u8, environment };
        key.text[..text.len()].copy_from_slice(text);
        key
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.len)]
    }

    /// The environment that the key's spelling claims.
    pub fn environment(&self) -> Environment {
        self.environment
    }

    /// SHA-256 of the key: all that is kept of it.
    pub fn hash(&self) -> KeyHash {
        KeyHash(Sha256::digest(self.as_bytes()).into())
    }

    /// Whether the key ends in its own check under one of `secrets`: only then can keygate have made it.
    /// Takes the same time wherever the check differs.
    pub fn is_checked_by(&self, secrets: &[CheckSecret]) -> bool {
        let (body, check) = self.as_bytes().split_at(usize::from(self.len) - CHECK_LEN);
        secrets.iter().any(|secret| secret.check_of(body).ct_eq(check).into())
    }

    /// What may be shown later: the first 12 and the last 4 characters.
    pub fn display(&self) -> String {
        let text = self.expose();
        format!("{}…{}", &text[..12], &text[text.len() - 4..])
    }

    /// The key itself. For the one answer that hands it to its owner.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("a key is ASCII: `parse` and `mint` accept nothing else")
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(redacted)")
    }
}

/// A secret of the fleet under which made keys carry their check. 32 random bytes, kept in the store.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct CheckSecret([u8; 32]);

impl CheckSecret {
    /// The secret of these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> CheckSecret {
        CheckSecret(bytes)
    }

    /// The bytes, for the store that keeps them.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    fn check_of(&self, body: &[u8]) -> [u8; CHECK_LEN] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(body);
        let tag = mac.finalize().into_bytes();
        let mut check = [0; CHECK_LEN];
        for (pair, byte) in check.chunks_exact_mut(2).zip(tag) {
            pair.copy_from_slice(&hex::pair(byte));
        }
        check
    }
}

impl fmt::Debug for CheckSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckSecret(redacted)")
    }
}

/// SHA-256 of a key: what the store, the cache and the events know it by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyHash([u8; 32]);

/// The text is not a SHA-256 in hex.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a SHA-256: expected 64 hex characters")]
pub struct MalformedHash;

impl KeyHash {
    /// The hash of these bytes (not the hash *of* the bytes).
    pub const fn from_bytes(bytes: [u8; 32]) -> KeyHash {
        KeyHash(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 lowercase hex characters.
    pub fn to_hex(&self) -> String {
        let mut text = Vec::with_capacity(64);
        push_hex(&mut text, &self.0);
        String::from_utf8(text).expect("hex is ASCII")
    }
}

/// Already uniform: 16 of its bytes are as good as all. Maps must still seed their hasher.
impl Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (head, _) = self.0.split_first_chunk::<16>().expect("32 bytes have 16 first ones");
        state.write_u128(u128::from_ne_bytes(*head));
    }
}

impl FromStr for KeyHash {
    type Err = MalformedHash;

    fn from_str(text: &str) -> Result<KeyHash, MalformedHash> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(MalformedHash);
        }
        let nibble = |digit: u8| match digit.to_ascii_lowercase() {
            digit @ b'0'..=b'9' => Ok(digit - b'0'),
            digit @ b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(MalformedHash),
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(KeyHash(bytes))
    }
}

/// Enough to tell two hashes apart in a log.
impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({}…)", &self.to_hex()[..8])
    }
}

impl Serialize for KeyHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<KeyHash, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

fn push_hex(text: &mut Vec<u8>, bytes: &[u8]) {
    text.extend(bytes.iter().flat_map(|&byte| hex::pair(byte)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn format() -> KeyFormat {
        KeyFormat::new("sk").unwrap()
    }

    #[test]
    fn a_made_key_has_the_documented_shape_and_its_own_check() {
        let secret = CheckSecret::from_bytes([3; 32]);
        let key = format().mint(Environment::Sandbox, [9; 24], &secret);
        assert_eq!(key.expose().len(), "sk_test_".len() + 64);
        let read = format().parse(key.expose().as_bytes()).unwrap();
        assert_eq!(read.environment(), Environment::Sandbox);
        assert_eq!(read.hash(), key.hash());
        assert!(read.is_checked_by(&[CheckSecret::from_bytes([4; 32]), secret]));
        assert!(!read.is_checked_by(&[CheckSecret::from_bytes([4; 32])]));
        assert!(!read.is_checked_by(&[]));
    }

    #[test]
    fn the_hash_is_sha_256_of_the_text() {
        let text = format!("sk_live_{}", "0".repeat(64));
        let key = format().parse(text.as_bytes()).unwrap();
        let expected: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        assert_eq!(key.hash(), KeyHash::from_bytes(expected));
        assert_eq!(key.hash().to_hex().parse::<KeyHash>().unwrap(), key.hash());
    }

    #[test]
    fn secrets_do_not_print() {
        let secret = CheckSecret::from_bytes([0x61; 32]);
        let key = format().mint(Environment::Live, [0x61; 24], &secret);
        assert_eq!(format!("{key:?}"), "ApiKey(redacted)");
        assert_eq!(format!("{key:#?}"), "ApiKey(redacted)");
        assert_eq!(format!("{secret:?}"), "CheckSecret(redacted)");
        assert_eq!(key.display(), "sk_live_6161…".to_owned() + &key.expose()[68..]);
    }

    #[test]
    fn a_key_is_wiped() {
        let mut key = format().mint(Environment::Live, [0x61; 24], &CheckSecret::from_bytes([1; 32]));
        key.zeroize();
        assert!(key.text.iter().all(|&byte| byte == 0));
    }

    proptest! {
        #[test]
        fn parse_never_panics_and_accepts_only_the_format(presented in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(format().parse(&presented).err(), Some(MalformedKey));
        }

        #[test]
        fn parse_accepts_exactly_the_format(text in "sk_(live|test)_[0-9a-f]{64}") {
            let key = format().parse(text.as_bytes()).unwrap();
            prop_assert_eq!(key.expose(), text.as_str());
        }

        #[test]
        fn one_wrong_character_is_malformed(text in "sk_(live|test)_[0-9a-f]{64}", at in 0usize..72, with in "[G-Zg-z \\-_.]") {
            let mut presented = text.clone().into_bytes();
            prop_assume!(presented[at] != with.as_bytes()[0]);
            presented[at] = with.as_bytes()[0];
            prop_assert_eq!(format().parse(&presented).err(), Some(MalformedKey));
        }

        #[test]
        fn one_changed_hex_character_fails_the_check(random: [u8; 24], at in 8usize..72, with in "[0-9a-f]") {
            let secret = CheckSecret::from_bytes([5; 32]);
            let mut text = format().mint(Environment::Live, random, &secret).expose().as_bytes().to_vec();
            prop_assume!(text[at] != with.as_bytes()[0]);
            text[at] = with.as_bytes()[0];
            prop_assert!(!format().parse(&text).unwrap().is_checked_by(&[secret]));
        }
    }
}
