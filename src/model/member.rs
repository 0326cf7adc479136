//! A gateway on the roll of its fleet.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Head, Timestamp};

/// The random name of one run of a gateway: `gw_` and 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayId(u64);

/// The text is not the id of a gateway.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not the id of a gateway: expected `gw_` and 16 hex digits")]
pub struct MalformedGatewayId;

/// What a gateway writes on the roll each second, and whenever it has applied something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Which run of which gateway.
    pub id: GatewayId,
    /// Where it runs, for people: host and port.
    pub name: String,
    /// Its version of keygate.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// How long it trusts what it cannot prove, in milliseconds.
    pub max_staleness_ms: u64,
    /// Counts its entries: who sees the same number for long knows that it is silent, whatever the clocks say.
    pub beat: u64,
    /// How far it has applied the log of each shard, in their order. Empty until it has read them once.
    pub positions: Vec<Head>,
    /// It has said goodbye: no request is served there any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
}

impl Member {
    /// How long it trusts what it cannot prove.
    pub fn max_staleness(&self) -> Duration {
        Duration::from_millis(self.max_staleness_ms)
    }
}

impl GatewayId {
    /// The id of this random number.
    pub const fn from_u64(number: u64) -> GatewayId {
        GatewayId(number)
    }
}

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gw_{:016x}", self.0)
    }
}

impl fmt::Debug for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for GatewayId {
    type Err = MalformedGatewayId;

    fn from_str(text: &str) -> Result<GatewayId, MalformedGatewayId> {
        let digits =
            text.strip_prefix("gw_").filter(|digits| digits.len() == 16).ok_or(MalformedGatewayId)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(MalformedGatewayId);
        }
        u64::from_str_radix(digits, 16).map(GatewayId).map_err(|_| MalformedGatewayId)
    }
}

impl Serialize for GatewayId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GatewayId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<GatewayId, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_what_it_shows_and_nothing_else() {
        let id = GatewayId::from_u64(0xbeef);
        assert_eq!(id.to_string(), "gw_000000000000beef");
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "gw_", "gw_beef", "gw_+00000000000beef", "key_000000000000beef"] {
            assert_eq!(text.parse::<GatewayId>(), Err(MalformedGatewayId), "{text}");
        }
    }
}
