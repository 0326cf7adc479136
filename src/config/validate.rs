//! From settings as they are written to settings that hold. Every problem is found, not only the first.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::error::{ConfigError, ConfigErrors, Origin};
use super::layers::variable_of;
use super::raw::{Raw, RawTls, Secret, Whole};
use super::*;
use crate::model::is_invisible;

/// More would not fit beside the navigation.
const MAX_BRAND: usize = 40;
const MIN_TOKEN: usize = 16;
const MAX_TOKEN: usize = 1024;
/// A little less than what a connection buffers of a head.
const MAX_HEADER_BYTES: u64 = 60 * 1024;
/// As many header lines as hyper reads without an allocation for each request.
const MAX_HEADERS: u64 = 100;
/// Promise 2: nothing is trusted longer than this without a proof.
const MAX_STALENESS_S: u64 = 300;
/// A revocation's caller has to get an answer while it still listens.
const MAX_RECEIPT_MS: u64 = 30_000;
/// A browser that is logged in for longer is one that somebody has forgotten.
const MAX_SESSION_S: u64 = 30 * 24 * 60 * 60;
/// Hex characters of a store's identity.
const STORE_ID: usize = 32;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const MANY: u64 = 1_000_000_000;

/// Judges `raw`. `errors` are what is known to be wrong already; their fields are not judged again.
pub(super) fn validate(
    raw: Raw,
    brings_upstream: bool,
    origins: &BTreeMap<String, Origin>,
    errors: Vec<ConfigError>,
) -> Result<Config, ConfigErrors> {
    let mut judge = Judge { origins, errors };
    let config = Config {
        listen: judge.address("listen", &raw.listen).unwrap_or(NOWHERE),
        admin_listen: judge.address_or_off("admin_listen", &raw.admin_listen),
        observe_listen: judge.address_or_off("observe_listen", &raw.observe_listen),
        tls: judge.tls_files("tls", raw.tls),
        admin_tls: judge.tls_files("admin_tls", raw.admin_tls),
        behind_tls: raw.behind_tls,
        admin_token: judge.admin_token(raw.admin_token),
        store: judge.store(&raw.store),
        store_id: judge.store_id(raw.store_id),
        store_ca_file: judge.path("store_ca_file", raw.store_ca_file),
        upstream_live: judge.upstream("upstream_live", raw.upstream_live),
        upstream_sandbox: judge.upstream("upstream_sandbox", raw.upstream_sandbox),
        workers: match judge.number("workers", raw.workers, 0..=1024) {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        },
        key_format: judge.key_format(&raw.key_prefix),
        drain_timeout: judge.millis("drain_timeout_ms", raw.drain_timeout_ms),
        limits: Limits {
            max_connections: judge.number("limits.max_connections", raw.limits.max_connections, 1..=MANY),
            max_header_bytes: judge.number(
                "limits.max_header_bytes",
                raw.limits.max_header_bytes,
                1024..=MAX_HEADER_BYTES,
            ),
            max_headers: judge.number("limits.max_headers", raw.limits.max_headers, 1..=MAX_HEADERS),
            max_body_bytes: Some(raw.limits.max_body_bytes.0).filter(|&limit| limit > 0),
        },
        timeouts: Timeouts {
            header: judge.millis("timeouts.header_ms", raw.timeouts.header_ms),
            idle: judge.millis("timeouts.idle_ms", raw.timeouts.idle_ms),
            body_idle: judge.millis("timeouts.body_idle_ms", raw.timeouts.body_idle_ms),
            body_min_bytes_per_s: raw.timeouts.body_min_bytes_per_s.0,
        },
        upstream: UpstreamSettings {
            max_connections: judge.number("upstream.max_connections", raw.upstream.max_connections, 1..=MANY),
            pool_wait: judge.millis("upstream.pool_wait_ms", raw.upstream.pool_wait_ms),
            idle_timeout: judge.millis("upstream.idle_timeout_ms", raw.upstream.idle_timeout_ms),
            connect_timeout: judge.millis("upstream.connect_timeout_ms", raw.upstream.connect_timeout_ms),
            response_timeout: judge.millis("upstream.response_timeout_ms", raw.upstream.response_timeout_ms),
            ca_file: judge.path("upstream.ca_file", raw.upstream.ca_file),
        },
        cache: CacheSettings {
            max_bytes: judge.number("cache.max_bytes", raw.cache.max_bytes, 65_536..=1 << 40),
            ttl: judge.seconds("cache.ttl_s", raw.cache.ttl_s, MAX_STALENESS_S),
            max_staleness: judge.seconds("cache.max_staleness_s", raw.cache.max_staleness_s, MAX_STALENESS_S),
            unknown_ttl: judge.seconds("cache.unknown_ttl_s", raw.cache.unknown_ttl_s, MAX_STALENESS_S),
            unknown_entries: judge.number("cache.unknown_entries", raw.cache.unknown_entries, 1..=MANY),
        },
        lookup: LookupSettings {
            timeout: judge.millis("lookup.timeout_ms", raw.lookup.timeout_ms),
            max_concurrent: judge.number("lookup.max_concurrent", raw.lookup.max_concurrent, 1..=1_000_000),
            unchecked_max_concurrent: judge.number(
                "lookup.unchecked_max_concurrent",
                raw.lookup.unchecked_max_concurrent,
                1..=1_000_000,
            ),
            unchecked_per_second: judge.number(
                "lookup.unchecked_per_second",
                raw.lookup.unchecked_per_second,
                1..=1_000_000,
            ),
            breaker_failures: judge.number(
                "lookup.breaker_failures",
                raw.lookup.breaker_failures,
                1..=1_000_000,
            ),
            breaker_open: judge.millis("lookup.breaker_open_ms", raw.lookup.breaker_open_ms),
        },
        revocation: RevocationSettings {
            receipt_timeout: Duration::from_millis(judge.bounded(
                "revocation.receipt_timeout_ms",
                raw.revocation.receipt_timeout_ms,
                1..=MAX_RECEIPT_MS,
                " milliseconds",
            )),
            canary_interval: judge.seconds(
                "revocation.canary_interval_s",
                raw.revocation.canary_interval_s,
                3_600,
            ),
            wait_replicas: judge.number("revocation.wait_replicas", raw.revocation.wait_replicas, 0..=100),
            wait_fsync: raw.revocation.wait_fsync,
        },
        usage: UsageSettings {
            flush_interval: judge.millis("usage.flush_interval_ms", raw.usage.flush_interval_ms),
            max_pending: judge.number("usage.max_pending", raw.usage.max_pending, 1..=MANY),
        },
        sessions: SessionSettings {
            idle: judge.seconds("sessions.idle_s", raw.sessions.idle_s, MAX_SESSION_S),
            total: judge.seconds("sessions.total_s", raw.sessions.total_s, MAX_SESSION_S),
        },
        console: ConsoleSettings { brand: judge.brand(raw.console.brand) },
        log: LogSettings {
            format: judge.log_format(&raw.log.format),
            filter: judge.log_filter(raw.log.filter),
        },
    };
    judge.together(&config, brings_upstream);
    if judge.errors.is_empty() { Ok(config) } else { Err(ConfigErrors(judge.errors)) }
}

/// Stands in for an address that could not be read, so that the rest can be judged.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

struct Judge<'a> {
    origins: &'a BTreeMap<String, Origin>,
    errors: Vec<ConfigError>,
}

impl Judge<'_> {
    fn wrong(&mut self, field: &str, what: impl Into<String>) {
        if !self.is_wrong(field) {
            let origin = self.origins.get(field).cloned().unwrap_or(Origin::Default);
            self.errors.push(ConfigError::Invalid { field: field.to_owned(), origin, what: what.into() });
        }
    }

    fn is_wrong(&self, name: &str) -> bool {
        self.errors.iter().any(|error| matches!(error, ConfigError::Invalid { field, .. } if field == name))
    }

    fn number<T: TryFrom<u64> + Default>(
        &mut self,
        field: &str,
        value: Whole,
        allowed: RangeInclusive<u64>,
    ) -> T {
        self.bounded(field, value, allowed, "")
    }

    fn millis(&mut self, field: &str, value: Whole) -> Duration {
        Duration::from_millis(self.bounded(field, value, 1..=DAY_MS, " milliseconds"))
    }

    fn seconds(&mut self, field: &str, value: Whole, at_most: u64) -> Duration {
        Duration::from_secs(self.bounded(field, value, 1..=at_most, " seconds"))
    }

    fn bounded<T: TryFrom<u64> + Default>(
        &mut self,
        field: &str,
        Whole(value): Whole,
        allowed: RangeInclusive<u64>,
        unit: &str,
    ) -> T {
        match T::try_from(value) {
            Ok(number) if allowed.contains(&value) => number,
            _ => {
                let (least, most) = allowed.into_inner();
                self.wrong(field, format!("{value} is out of range; allowed are {least} to {most}{unit}"));
                T::default()
            }
        }
    }

    fn parsed<T: FromStr<Err: Display>>(&mut self, field: &str, text: &str, expected: &str) -> Option<T> {
        match text.trim().parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.wrong(field, format!("{error}; expected {expected}"));
                None
            }
        }
    }

    fn address(&mut self, field: &str, text: &str) -> Option<SocketAddr> {
        self.parsed(field, text, "ADDRESS:PORT with a numeric address, as 127.0.0.1:8080 or [::]:8080")
    }

    fn address_or_off(&mut self, field: &str, text: &str) -> Option<SocketAddr> {
        if text.trim() == "off" {
            return None;
        }
        self.parsed(field, text, "\"off\", or ADDRESS:PORT with a numeric address, as 127.0.0.1:8081")
    }

    fn path(&mut self, field: &str, text: Option<String>) -> Option<PathBuf> {
        if text.as_deref() == Some("") {
            self.wrong(field, "is empty; expected the path of a PEM file");
        }
        text.map(PathBuf::from)
    }

    fn brand(&mut self, brand: String) -> String {
        let brand = brand.trim();
        if !(1..=MAX_BRAND).contains(&brand.chars().count()) || brand.chars().any(is_invisible) {
            self.wrong("console.brand", format!("must be 1 to {MAX_BRAND} characters, in one line"));
        }
        brand.to_owned()
    }

    /// Both files, or none.
    fn tls_files(&mut self, section: &str, raw: RawTls) -> Option<TlsFiles> {
        let (certificate, key) = (format!("{section}.certificate"), format!("{section}.key"));
        match (self.path(&certificate, raw.certificate), self.path(&key, raw.key)) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (Some(_), None) => {
                self.wrong(&key, format!("is not set, though `{certificate}` is; TLS needs both"));
                None
            }
            (None, Some(_)) => {
                self.wrong(&certificate, format!("is not set, though `{key}` is; TLS needs both"));
                None
            }
            (None, None) => None,
        }
    }

    fn key_format(&mut self, prefix: &str) -> KeyFormat {
        KeyFormat::new(prefix).unwrap_or_else(|error| {
            self.wrong("key_prefix", error.to_string());
            KeyFormat::new("sk").expect("two lowercase letters are a prefix")
        })
    }

    fn admin_token(&mut self, token: Option<Secret>) -> Option<AdminToken> {
        let Secret(text) = token.filter(|token| !token.0.is_empty())?;
        if !(MIN_TOKEN..=MAX_TOKEN).contains(&text.len()) {
            self.wrong(
                "admin_token",
                format!("is {} characters long; allowed are {MIN_TOKEN} to {MAX_TOKEN}", text.len()),
            );
        } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.wrong(
                "admin_token",
                "has a space or a character that a header cannot carry; allowed is visible ASCII",
            );
        }
        Some(AdminToken::new(text.to_string()))
    }

    fn store(&mut self, Secret(text): &Secret) -> StoreUrl {
        text.parse().unwrap_or_else(|error: MalformedStoreUrl| {
            self.wrong("store", error.to_string());
            StoreUrl::Sqlite(PathBuf::new())
        })
    }

    fn store_id(&mut self, text: Option<String>) -> Option<String> {
        let id = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())?;
        let is_hex = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if id.len() != STORE_ID || !is_hex {
            self.wrong(
                "store_id",
                "is not the identity of a store: expected 32 lowercase hex characters, as `keygate store show` prints",
            );
        }
        Some(id)
    }

    fn upstream(&mut self, field: &str, text: Option<Secret>) -> Option<UpstreamUrl> {
        let Secret(text) = text.filter(|text| !text.0.is_empty())?;
        text.parse().map_err(|error: MalformedUpstreamUrl| self.wrong(field, error.to_string())).ok()
    }

    fn log_format(&mut self, text: &str) -> LogFormat {
        match text {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => {
                self.wrong("log.format", "allowed are \"text\" and \"json\"");
                LogFormat::Text
            }
        }
    }

    fn log_filter(&mut self, filter: String) -> String {
        if let Err(error) = EnvFilter::try_new(&filter) {
            self.wrong(
                "log.filter",
                format!("{error}; expected a filter as \"info\" or \"keygate=debug,warn\""),
            );
        }
        filter
    }

    /// Keys and the admin token cross no network in the clear.
    fn not_in_the_clear(&mut self, config: &Config) {
        for (field, listen, section, tls, what) in [
            ("listen", Some(config.listen), "tls", &config.tls, "keys"),
            ("admin_listen", config.admin_listen, "admin_tls", &config.admin_tls, "keys and the admin token"),
        ] {
            let beyond = listen.is_some_and(|listen| !listen.ip().to_canonical().is_loopback());
            let halved =
                ["certificate", "key"].iter().any(|name| self.is_wrong(&format!("{section}.{name}")));
            if beyond && tls.is_none() && !halved && !config.behind_tls {
                self.wrong(
                    field,
                    format!(
                        "is beyond loopback, where {what} would cross the network in the clear; set \
                         {section}.certificate and {section}.key, or put TLS in front and set behind_tls = true, or \
                         listen on 127.0.0.1"
                    ),
                );
            }
        }
    }

    /// What only several settings together can get wrong.
    fn together(&mut self, config: &Config, brings_upstream: bool) {
        let upstreams = ["upstream_live", "upstream_sandbox"];
        match (&config.upstream_live, &config.upstream_sandbox) {
            (None, None) if !brings_upstream && !upstreams.iter().any(|field| self.is_wrong(field)) => self.wrong(
                "upstream_live",
                format!(
                    "at least one upstream is required: set {} or {}",
                    variable_of("upstream_live"),
                    variable_of("upstream_sandbox")
                ),
            ),
            (Some(live), Some(sandbox)) if live.is_same_place(sandbox) => self.wrong(
                "upstream_sandbox",
                "is the same place as `upstream_live`; a Sandbox key must not reach the Live upstream, so they \
                 must differ in host or port",
            ),
            _ => {}
        }
        for (field, upstream) in upstreams.into_iter().zip([&config.upstream_live, &config.upstream_sandbox])
        {
            if upstream.as_ref().is_some_and(|upstream| upstream.is_at(config.listen)) {
                self.wrong(field, "is this gateway's own `listen` address; requests would go in circles");
            }
        }
        self.not_in_the_clear(config);
        if config.admin_listen.is_some() && config.admin_token.is_none() {
            self.wrong(
                "admin_token",
                format!(
                    "is required for the admin API: set {} to at least {MIN_TOKEN} random characters, or \
                     admin_listen = \"off\"",
                    variable_of("admin_token")
                ),
            );
        }
        let listeners = [
            ("listen", Some(config.listen)),
            ("admin_listen", config.admin_listen),
            ("observe_listen", config.observe_listen),
        ];
        for (i, (field, address)) in listeners.iter().enumerate() {
            for (other, taken) in &listeners[..i] {
                if address.zip(*taken).is_some_and(|(address, taken)| collide(address, taken)) {
                    self.wrong(
                        field,
                        format!("is the same address as `{other}`; they must differ in address or port"),
                    );
                }
            }
        }
    }
}

/// Whether two listeners would get in each other's way. Port 0 is a free port each time.
fn collide(left: SocketAddr, right: SocketAddr) -> bool {
    left.port() != 0
        && left.port() == right.port()
        && (left.ip() == right.ip() || left.ip().is_unspecified() || right.ip().is_unspecified())
}
