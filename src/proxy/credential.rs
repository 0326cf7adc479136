//! The key in a request: found, taken out, and never seen again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::model::{ApiKey, Denial, KeyFormat};

use super::survey::{Known, Survey};

/// The preferred place of a key.
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Where a key may stand. What is in the first counts, if the same is in both.
static PLACES: [(Known, HeaderName); 2] = [(Known::ApiKey, X_API_KEY), (Known::Authorization, AUTHORIZATION)];

/// Takes the key out of the headers: `X-API-Key: <key>`, `Authorization: Bearer <key>` or
/// `Authorization: Basic base64(<key>:)`. Afterwards neither header is there, whatever was in it.
///
/// # Errors
/// [`Denial::KeyMissing`], [`Denial::KeyMalformed`], or [`Denial::CredentialConflict`] if two places hold
/// different text.
pub fn take(headers: &mut HeaderMap, survey: &Survey, format: &KeyFormat) -> Result<ApiKey, Denial> {
    let key = find(headers, survey, format);
    for (known, place) in &PLACES {
        if survey.has(*known) {
            headers.remove(place);
        }
    }
    key
}

fn find(headers: &HeaderMap, survey: &Survey, format: &KeyFormat) -> Result<ApiKey, Denial> {
    let mut found: Option<Presented<'_>> = None;
    for (known, place) in PLACES.iter().filter(|(known, _)| survey.has(*known)) {
        for value in headers.get_all(place) {
            let presented = match known {
                Known::ApiKey => Presented::Plain(trim(value.as_bytes())),
                _ => authorization(value),
            };
            match &found {
                _ if presented.text().is_empty() => {}
                None => found = Some(presented),
                Some(first) if first.text() == presented.text() => {}
                Some(_) => return Err(Denial::CredentialConflict),
            }
        }
    }
    found.ok_or(Denial::KeyMissing)?.read(format)
}

/// What a client presented as its key.
enum Presented<'a> {
    Plain(&'a [u8]),
    Decoded(Zeroizing<Vec<u8>>),
    /// A credential of some other scheme: not a key, whatever it looks like.
    Foreign(&'a [u8]),
}

impl Presented<'_> {
    fn text(&self) -> &[u8] {
        match self {
            Presented::Plain(text) | Presented::Foreign(text) => text,
            Presented::Decoded(text) => text,
        }
    }

    fn read(&self, format: &KeyFormat) -> Result<ApiKey, Denial> {
        match self {
            Presented::Foreign(_) => Err(Denial::KeyMalformed),
            Presented::Plain(_) | Presented::Decoded(_) => {
                format.parse(self.text()).map_err(|_| Denial::KeyMalformed)
            }
        }
    }
}

/// RFC 9110, section 11.4: the scheme in any case, then spaces, then the credentials.
fn authorization(value: &HeaderValue) -> Presented<'_> {
    let value = trim(value.as_bytes());
    let (scheme, rest) = match value.iter().position(|&byte| byte == b' ') {
        Some(space) => (&value[..space], trim(&value[space..])),
        None => (value, &b""[..]),
    };
    if scheme.eq_ignore_ascii_case(b"bearer") {
        Presented::Plain(rest)
    } else if scheme.eq_ignore_ascii_case(b"basic") {
        basic(rest)
    } else {
        Presented::Foreign(value)
    }
}

/// RFC 7617: the key is the user name, and the password is empty. A password makes it something else than a key.
fn basic(credentials: &[u8]) -> Presented<'_> {
    match STANDARD.decode(credentials) {
        Ok(decoded) => {
            let mut decoded = Zeroizing::new(decoded);
            if decoded.last() == Some(&b':') {
                decoded.pop();
            }
            Presented::Decoded(decoded)
        }
        Err(_) => Presented::Plain(credentials),
    }
}

fn trim(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn key() -> String {
        format!("sk_live_{HEX}")
    }

    fn take_from(lines: &[(HeaderName, String)]) -> (Result<String, Denial>, HeaderMap) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        let format = KeyFormat::new("sk").unwrap();
        let survey = Survey::of(&headers);
        let key = take(&mut headers, &survey, &format).map(|key| key.expose().to_owned());
        (key, headers)
    }

    #[test]
    fn a_key_is_taken_from_every_place_where_it_may_stand() {
        let basic = STANDARD.encode(format!("{}:", key()));
        for line in [
            (X_API_KEY, key()),
            (AUTHORIZATION, format!("Bearer {}", key())),
            (AUTHORIZATION, format!("bEARER   {} ", key())),
            (AUTHORIZATION, format!("Basic {basic}")),
            (AUTHORIZATION, format!("BASIC {basic}")),
        ] {
            let (taken, left) = take_from(&[line]);
            assert_eq!(taken, Ok(key()));
            assert!(left.is_empty());
        }
    }

    #[test]
    fn the_same_key_twice_is_fine_and_two_keys_are_a_conflict() {
        let twice = [(X_API_KEY, key()), (AUTHORIZATION, format!("Bearer {}", key())), (X_API_KEY, key())];
        assert_eq!(take_from(&twice).0, Ok(key()));
        let other = format!("sk_test_{HEX}");
        for second in [(X_API_KEY, other.clone()), (AUTHORIZATION, format!("Bearer {other}"))] {
            let (taken, left) = take_from(&[(X_API_KEY, key()), second]);
            assert_eq!(taken, Err(Denial::CredentialConflict));
            assert!(left.is_empty());
        }
    }

    #[test]
    fn nothing_is_missing_and_anything_else_is_malformed() {
        for nothing in [vec![], vec![(X_API_KEY, String::new())], vec![(AUTHORIZATION, "Bearer ".into())]] {
            assert_eq!(take_from(&nothing).0, Err(Denial::KeyMissing));
        }
        let with_password = STANDARD.encode(format!("{}:secret", key()));
        for wrong in [
            (X_API_KEY, key().to_uppercase()),
            (X_API_KEY, key()[..71].to_owned()),
            (AUTHORIZATION, key()),
            (AUTHORIZATION, format!("Basic {with_password}")),
            (AUTHORIZATION, "Basic !".into()),
            (AUTHORIZATION, "Digest username=\"x\"".into()),
        ] {
            let (taken, left) = take_from(std::slice::from_ref(&wrong));
            assert_eq!(taken, Err(Denial::KeyMalformed), "{wrong:?}");
            assert!(left.is_empty());
        }
    }

    proptest! {
        #[test]
        fn any_headers_give_a_key_or_a_denial_and_leave_no_credential(
            plain in prop::collection::vec(prop::collection::vec(0x20u8..0x7f, 0..90), 0..3),
            authorized in prop::collection::vec(prop::collection::vec(0x20u8..0x7f, 0..120), 0..3),
        ) {
            let mut headers = HeaderMap::new();
            for value in &plain {
                headers.append(X_API_KEY, HeaderValue::from_bytes(value).unwrap());
            }
            for value in &authorized {
                headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
            }
            let survey = Survey::of(&headers);
            prop_assert!(take(&mut headers, &survey, &KeyFormat::new("sk").unwrap()).is_err());
            prop_assert!(headers.is_empty());
        }
    }
}
