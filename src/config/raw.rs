//! Settings as they are written: the shape of `config/keygate.toml`.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// All settings. Serialised, it names every one of them, those without a value as null.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) listen: String,
    pub(super) admin_listen: String,
    pub(super) observe_listen: String,
    pub(super) behind_tls: bool,
    pub(super) admin_token: Option<Secret>,
    pub(super) store: Secret,
    pub(super) store_id: Option<String>,
    pub(super) store_ca_file: Option<String>,
    pub(super) upstream_live: Option<Secret>,
    pub(super) upstream_sandbox: Option<Secret>,
    pub(super) workers: Whole,
    pub(super) key_prefix: String,
    pub(super) drain_timeout_ms: Whole,
    pub(super) tls: RawTls,
    pub(super) admin_tls: RawTls,
    pub(super) limits: RawLimits,
    pub(super) timeouts: RawTimeouts,
    pub(super) upstream: RawUpstream,
    pub(super) cache: RawCache,
    pub(super) lookup: RawLookup,
    pub(super) revocation: RawRevocation,
    pub(super) usage: RawUsage,
    pub(super) sessions: RawSessions,
    pub(super) console: RawConsole,
    pub(super) log: RawLog,
}

/// `[tls]` and `[admin_tls]`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    pub(super) certificate: Option<String>,
    pub(super) key: Option<String>,
}

/// `[limits]`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) max_connections: Whole,
    pub(super) max_header_bytes: Whole,
    pub(super) max_headers: Whole,
    pub(super) max_body_bytes: Whole,
}

/// `[timeouts]`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTimeouts {
    pub(super) header_ms: Whole,
    pub(super) idle_ms: Whole,
    pub(super) body_idle_ms: Whole,
    pub(super) body_min_bytes_per_s: Whole,
}

/// `[upstream]`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUpstream {
    pub(super) max_connections: Whole,
    pub(super) pool_wait_ms: Whole,
    pub(super) idle_timeout_ms: Whole,
    pub(super) connect_timeout_ms: Whole,
    pub(super) response_timeout_ms: Whole,
    pub(super) ca_file: Option<String>,
}

/// `[cache]`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCache {
    pub(super) max_bytes: Whole,
    pub(super) ttl_s: Whole,
    pub(super) max_staleness_s: Whole,
    pub(super) unknown_ttl_s: Whole,
    pub(super) unknown_entries: Whole,
}

/// `[lookup]`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLookup {
    pub(super) timeout_ms: Whole,
    pub(super) max_concurrent: Whole,
    pub(super) unchecked_max_concurrent: Whole,
    pub(super) unchecked_per_second: Whole,
    pub(super) breaker_failures: Whole,
    pub(super) breaker_open_ms: Whole,
}

/// `[revocation]`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRevocation {
    pub(super) receipt_timeout_ms: Whole,
    pub(super) canary_interval_s: Whole,
    pub(super) wait_replicas: Whole,
    pub(super) wait_fsync: bool,
}

/// `[usage]`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUsage {
    pub(super) flush_interval_ms: Whole,
    pub(super) max_pending: Whole,
}

/// `[sessions]`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSessions {
    pub(super) idle_s: Whole,
    pub(super) total_s: Whole,
}

/// `[console]`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConsole {
    pub(super) brand: String,
}

/// `[log]`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) format: String,
    pub(super) filter: String,
}

/// A whole number, not negative.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Whole(pub(super) u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Whole, D::Error> {
        let number = match toml::Value::deserialize(deserializer)? {
            toml::Value::Integer(number) => u64::try_from(number).ok(),
            _ => None,
        };
        number.map(Whole).ok_or_else(|| D::Error::custom("expected a whole number, not negative"))
    }
}

/// A text that may hold a password: neither it nor what was written in its place is ever shown.
pub(super) struct Secret(pub(super) Zeroizing<String>);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => Ok(Secret(Zeroizing::new(text))),
            _ => Err(D::Error::custom("expected text in quotes")),
        }
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_none()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}
