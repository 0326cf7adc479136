//! Secrets that a browser holds for a person: the id of a session, a link that works once, and what forms carry.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::hex;

/// What the id of a session is mixed with to make the token of its forms.
const CSRF: &[u8] = b"keygate csrf token";

/// 256 random bits, known to one browser. Does not print, wiped when dropped; only its [`TokenHash`] is kept.
#[derive(Clone)]
pub struct SecretToken(Zeroizing<[u8; 32]>);

/// The text is not a token.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a token: expected 43 characters of base64url")]
pub struct MalformedToken;

impl SecretToken {
    /// A new one from the operating system.
    ///
    /// # Errors
    /// It gave no randomness.
    pub fn random() -> Result<SecretToken, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut_slice())?;
        Ok(SecretToken(bytes))
    }

    /// The token as a cookie or a link carries it: 43 characters of base64url.
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0.as_slice()))
    }

    /// What is kept of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.as_slice()).into())
    }

    /// What every form that this session is shown carries. Whoever has it does not have the token.
    pub fn csrf(&self) -> CsrfToken {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.0.as_slice()).expect("HMAC takes a key of any length");
        mac.update(CSRF);
        CsrfToken(URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }
}

impl FromStr for SecretToken {
    type Err = MalformedToken;

    fn from_str(text: &str) -> Result<SecretToken, MalformedToken> {
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).map_err(|_| MalformedToken)?);
        let bytes: [u8; 32] = bytes.as_slice().try_into().map_err(|_| MalformedToken)?;
        Ok(SecretToken(Zeroizing::new(bytes)))
    }
}

impl fmt::Debug for SecretToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretToken(redacted)")
    }
}

/// SHA-256 of a [`SecretToken`]: what a store holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> TokenHash {
        TokenHash(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 lowercase hex digits.
    pub fn to_hex(&self) -> String {
        self.0.iter().flat_map(|&byte| hex::pair(byte)).map(char::from).collect()
    }
}

/// Its beginning, which is enough to tell sessions apart.
impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenHash({}…)", &self.to_hex()[..8])
    }
}

/// What a form, or a script's header, shows to prove that it comes from a page of ours. Does not print itself in logs.
#[derive(Clone)]
pub struct CsrfToken(String);

impl CsrfToken {
    /// For a hidden field of a form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `presented` is the token; takes the same time wherever they differ.
    pub fn is(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }
}

impl fmt::Debug for CsrfToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CsrfToken(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_from_its_text() {
        let token = SecretToken::random().unwrap();
        let again: SecretToken = token.expose().parse().unwrap();
        assert_eq!(again.hash(), token.hash());
        assert!(again.csrf().is(token.csrf().as_str().as_bytes()));
        assert_ne!(SecretToken::random().unwrap().hash(), token.hash());
        for wrong in ["", "short", &format!("{}A", &*token.expose()), &"=".repeat(43)] {
            assert_eq!(wrong.parse::<SecretToken>().unwrap_err(), MalformedToken, "{wrong}");
        }
    }

    #[test]
    fn no_secret_prints() {
        let token = SecretToken::random().unwrap();
        let printed = format!("{token:?} {:?}", token.csrf());
        assert!(
            !printed.contains(token.expose().as_str()) && !printed.contains(token.csrf().as_str()),
            "{printed}"
        );
        assert!(!format!("{:?}", token.hash()).contains(&token.hash().to_hex()));
    }

    #[test]
    fn another_sessions_form_is_not_this_ones() {
        let (one, other) = (SecretToken::random().unwrap(), SecretToken::random().unwrap());
        assert!(!one.csrf().is(other.csrf().as_str().as_bytes()));
        assert!(!one.csrf().is(b"") && !one.csrf().is(&one.csrf().as_str().as_bytes()[..42]));
    }
}
