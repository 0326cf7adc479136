//! What a key's label, team and dates may be.

use std::str::FromStr;
use std::time::Duration;

use crate::model::{Team, Timestamp, is_invisible};

/// The team of keys for which none is named.
pub const DEFAULT_TEAM: &str = "default";

/// The longest grace of a rotation: 7 days.
pub const MAX_GRACE: Duration = Duration::from_secs(7 * DAY_S);

const DAY_S: u64 = 24 * 60 * 60;
const MAX_LABEL: usize = 100;
const MAX_DISPLAY: usize = 32;
const KEY_DIGITS: usize = 64;
/// A run of so many letters and digits may be the secret part of a key, and is not shown.
const SUSPICIOUS_LEN: usize = 32;
/// The last moment that RFC 3339 can spell: the end of the year 9999.
const LAST_MOMENT: Timestamp = Timestamp::from_millis(253_402_300_799_999);

/// A member of a key has a value that is not allowed. It does not show the value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{field}` {what}")]
pub struct InvalidField {
    /// Which member.
    pub field: &'static str,
    /// What is wrong, and what is allowed.
    pub what: &'static str,
}

/// The label without the space around it.
pub(super) fn label(text: &str) -> Result<String, InvalidField> {
    let invalid = |what| Err(InvalidField { field: "label", what });
    let label = text.trim();
    if !(1..=MAX_LABEL).contains(&label.chars().count()) {
        return invalid("must be 1 to 100 characters that say where the key is used");
    }
    if label.chars().any(is_invisible) {
        return invalid("must not have control characters");
    }
    // Who puts a key here would find it in every list and log afterwards.
    if has_key_digits(label) {
        return invalid("must not contain a key");
    }
    Ok(label.to_owned())
}

pub(super) fn team(text: Option<&str>) -> Result<String, InvalidField> {
    let team: Result<Team, _> = text.unwrap_or(DEFAULT_TEAM).parse();
    team.map(|team| team.to_string()).map_err(|_| InvalidField {
        field: "team",
        what: "must be 1 to 64 of A-Z, a-z, 0-9, `_`, `.` and `-`",
    })
}

pub(super) fn display(text: &str) -> Result<String, InvalidField> {
    if (1..=MAX_DISPLAY).contains(&text.chars().count()) && !text.chars().any(is_invisible) {
        Ok(text.to_owned())
    } else {
        let what = "must be 1 to 32 characters: the first 12 and the last 4 of the key, as sk_live_4f9c…a1b2";
        Err(InvalidField { field: "display", what })
    }
}

pub(super) fn future_expiry(expiry: Timestamp, now: Timestamp) -> Result<Timestamp, InvalidField> {
    if expiry > now {
        any_expiry(expiry)
    } else {
        Err(InvalidField { field: "expires_at", what: "must be in the future" })
    }
}

pub(super) fn any_expiry(expiry: Timestamp) -> Result<Timestamp, InvalidField> {
    if expiry <= LAST_MOMENT {
        Ok(expiry)
    } else {
        Err(InvalidField { field: "expires_at", what: "must not be beyond the year 9999" })
    }
}

pub(super) fn past_creation(created: Timestamp, now: Timestamp) -> Result<Timestamp, InvalidField> {
    if created <= now {
        Ok(created)
    } else {
        Err(InvalidField { field: "created_at", what: "must not be in the future" })
    }
}

pub(super) fn grace(grace: Duration) -> Result<Duration, InvalidField> {
    if grace <= MAX_GRACE {
        Ok(grace)
    } else {
        Err(InvalidField { field: "grace", what: "must be 0s to 7d" })
    }
}

/// Whether the text has the digits of a whole key.
pub fn has_key_digits(text: &str) -> bool {
    text.split(|character: char| !character.is_ascii_hexdigit()).any(|digits| digits.len() >= KEY_DIGITS)
}

/// The text without what may be a key. For messages of parsers, which repeat what they were given: somebody may have
/// put a key in the wrong place.
pub fn without_keys(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        let (before, word) = rest.split_at(start);
        let len = word.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(word.len());
        shown.push_str(before);
        shown.push_str(if len < SUSPICIOUS_LEN { &word[..len] } else { "(not shown)" });
        rest = &word[len..];
    }
    shown.push_str(rest);
    shown
}

/// How long a key shall live, as `30d`: a whole number and one of `s`, `m`, `h`, `d`, `w`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelativeExpiry(pub Duration);

/// The text is not a length of life.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected a whole number and one of s, m, h, d or w, as 30d; at most 100 years")]
pub struct MalformedExpiry;

impl FromStr for RelativeExpiry {
    type Err = MalformedExpiry;

    fn from_str(text: &str) -> Result<RelativeExpiry, MalformedExpiry> {
        let seconds = seconds(text).filter(|seconds| (1..=36_525 * DAY_S).contains(seconds));
        seconds.map(Duration::from_secs).map(RelativeExpiry).ok_or(MalformedExpiry)
    }
}

/// How long a key that is rotated goes on, as `24h`: a whole number and one of `s`, `m`, `h`, `d`, `w`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace(pub Duration);

/// A day.
impl Default for Grace {
    fn default() -> Grace {
        Grace(Duration::from_secs(DAY_S))
    }
}

/// The text is not the grace of a rotation.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected a whole number and one of s, m, h or d, as 24h; 0s to 7d")]
pub struct MalformedGrace;

impl FromStr for Grace {
    type Err = MalformedGrace;

    fn from_str(text: &str) -> Result<Grace, MalformedGrace> {
        let grace = seconds(text).map(Duration::from_secs).filter(|&grace| grace <= MAX_GRACE);
        grace.map(Grace).ok_or(MalformedGrace)
    }
}

fn seconds(text: &str) -> Option<u64> {
    let unit = match text.as_bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 60 * 60,
        b'd' => DAY_S,
        b'w' => 7 * DAY_S,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    let count: u64 = digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    count.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_says_where_a_key_is_used() {
        assert_eq!(label("  Production Server \n").unwrap(), "Production Server");
        assert!(label(&"ß".repeat(100)).is_ok());
        for bad in ["", "  ", "a\nb", "a\u{7f}", "a\u{202e}b", &"a".repeat(101), &"0".repeat(64)] {
            assert_eq!(label(bad).unwrap_err().field, "label", "{bad:?}");
        }
    }

    #[test]
    fn what_may_be_a_key_is_not_repeated() {
        let key = format!("sk_live_{}", "0a".repeat(32));
        assert_eq!(
            without_keys(&format!("unknown field `{key}`, at 5")),
            "unknown field `sk_live_(not shown)`, at 5"
        );
        assert_eq!(without_keys("`label` is wrong…"), "`label` is wrong…");
    }

    #[test]
    fn a_team_is_a_name() {
        assert_eq!(team(None).unwrap(), "default");
        assert_eq!(team(Some("acme.pay-2_x")).unwrap(), "acme.pay-2_x");
        for bad in ["", "a b", "ä", &"a".repeat(65)] {
            assert!(team(Some(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_length_of_life_is_a_number_and_a_unit() {
        for (text, seconds) in
            [("1s", 1), ("90m", 5400), ("24h", 86_400), ("30d", 2_592_000), ("2w", 1_209_600)]
        {
            assert_eq!(text.parse(), Ok(RelativeExpiry(Duration::from_secs(seconds))));
        }
        for bad in
            ["", "d", "30", "-1d", "+1d", "1.5d", "0d", "30 d", "1y", "é", "99999999999999999999w", "5218w"]
        {
            assert_eq!(bad.parse::<RelativeExpiry>(), Err(MalformedExpiry), "{bad}");
        }
    }

    #[test]
    fn a_grace_is_at_most_a_week() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("24h", 86_400), ("7d", 604_800), ("1w", 604_800)] {
            assert_eq!(text.parse(), Ok(Grace(Duration::from_secs(seconds))));
        }
        for bad in ["", "0", "8d", "169h", "-1s", "1.5h", "é", "99999999999999999999w"] {
            assert_eq!(bad.parse::<Grace>(), Err(MalformedGrace), "{bad}");
        }
        assert!(grace(MAX_GRACE).is_ok() && grace(MAX_GRACE + Duration::from_millis(1)).is_err());
    }
}
