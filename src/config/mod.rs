//! Settings, validated.
//!
//! Defaults (`config/keygate.toml`, embedded) < a file < the environment < flags. A wrong setting is named with
//! its field and where it came from. `layers` puts the sources over each other, `raw` is what then stands there,
//! and `validate` makes a [`Config`] of it or says all that is wrong.

mod address;
mod error;
mod layers;
mod raw;
#[cfg(test)]
mod tests;
mod validate;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::model::KeyFormat;

pub use address::{MalformedStoreUrl, MalformedUpstreamUrl, StoreUrl, UpstreamUrl};
pub use error::{ConfigError, ConfigErrors, Origin};
pub use layers::{Flag, Preset, Sources};

/// Everything that can be set. Durations are validated to be positive.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where the admin API listens; `None` turns it off.
    pub admin_listen: Option<SocketAddr>,
    /// Where probes and metrics listen besides, if anywhere.
    pub observe_listen: Option<SocketAddr>,
    /// What the gateway's own listener proves itself with by TLS; without it, it speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// The same for the admin listener.
    pub admin_tls: Option<TlsFiles>,
    /// Whether somebody in front of the listeners ends TLS.
    pub behind_tls: bool,
    /// What a machine shows to the admin API.
    pub admin_token: Option<AdminToken>,
    /// Where keys are kept.
    pub store: StoreUrl,
    /// The identity that the store must have; without one, that of the first store that is found.
    pub store_id: Option<String>,
    /// Root certificate (PEM file) for a `rediss://` store, instead of the system's.
    pub store_ca_file: Option<PathBuf>,
    /// Where Live requests go.
    pub upstream_live: Option<UpstreamUrl>,
    /// Where Sandbox requests go.
    pub upstream_sandbox: Option<UpstreamUrl>,
    /// Worker threads; the default 0 in the file becomes one per core here.
    pub workers: usize,
    /// How keys are spelled.
    pub key_format: KeyFormat,
    /// How long requests in flight may take after SIGTERM.
    pub drain_timeout: Duration,
    /// How much a client may ask for.
    pub limits: Limits,
    /// How long a client may take.
    pub timeouts: Timeouts,
    /// How upstreams are spoken to.
    pub upstream: UpstreamSettings,
    /// What is remembered, and how long.
    pub cache: CacheSettings,
    /// How the store is asked.
    pub lookup: LookupSettings,
    /// What a revocation waits for.
    pub revocation: RevocationSettings,
    /// How last-used dates are written.
    pub usage: UsageSettings,
    /// How long people stay logged in.
    pub sessions: SessionSettings,
    /// How the console looks.
    pub console: ConsoleSettings,
    /// What is logged, and how.
    pub log: LogSettings,
}

impl Config {
    /// Loads all `sources` over the defaults.
    ///
    /// # Errors
    /// Everything that is wrong: a file that cannot be read, settings that do not exist, values that are not
    /// allowed. No message shows a secret.
    pub fn load(sources: &Sources) -> Result<Config, ConfigErrors> {
        let (raw, origins, errors) = layers::Layers::of(sources).read();
        validate::validate(raw, sources.brings_upstream, &origins, errors)
    }
}

/// Where a listener's certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: the certificate, and then those that lead to a root.
    pub certificate: PathBuf,
    /// PEM: its private key, not encrypted.
    pub key: PathBuf,
}

/// How much a client may ask for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open client connections, over all workers.
    pub max_connections: usize,
    /// Bytes of a request's header names and values.
    pub max_header_bytes: usize,
    /// Header lines of a request, at most 100.
    pub max_headers: usize,
    /// Bytes of a request's body; `None` is without limit.
    pub max_body_bytes: Option<u64>,
}

/// How long a client may take.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// From the first byte of a request's head to its last, and from connecting to the first byte.
    pub header: Duration,
    /// Between two requests of a connection.
    pub idle: Duration,
    /// Between two pieces of a body, in either direction.
    pub body_idle: Duration,
    /// Once a request's body has been waited for longer than `body_idle` in all, it must have come at least this fast
    /// on average; 0 is without limit.
    pub body_min_bytes_per_s: u64,
}

/// How upstreams are spoken to. The numbers are for each worker and each upstream.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    /// Open connections.
    pub max_connections: usize,
    /// How long a request waits for one of them.
    pub pool_wait: Duration,
    /// How long a connection is kept without a request; must stay below the upstream's own limit.
    pub idle_timeout: Duration,
    /// How long connecting may take, TLS included.
    pub connect_timeout: Duration,
    /// How long the head of the response may take.
    pub response_timeout: Duration,
    /// Root certificate (PEM file) for `https://` upstreams, instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// What is remembered, and how long.
#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// Bytes of memory for known keys.
    pub max_bytes: u64,
    /// How long a record serves after its load began; at most 300 s.
    pub ttl: Duration,
    /// How long knowledge may go unproven; at most 300 s.
    pub max_staleness: Duration,
    /// How long "unknown" is remembered.
    pub unknown_ttl: Duration,
    /// How many unknown keys are remembered.
    pub unknown_entries: u64,
}

/// How the store is asked.
#[derive(Clone, Debug)]
pub struct LookupSettings {
    /// Deadline of a look-up.
    pub timeout: Duration,
    /// Look-ups under way at once.
    pub max_concurrent: usize,
    /// Look-ups of keys without a check under way at once.
    pub unchecked_max_concurrent: usize,
    /// Look-ups of keys without a check per second.
    pub unchecked_per_second: u32,
    /// Failures in a row that open the circuit.
    pub breaker_failures: u32,
    /// How long it stays open.
    pub breaker_open: Duration,
}

/// What a revocation waits for before its receipt is written.
#[derive(Clone, Debug)]
pub struct RevocationSettings {
    /// How long it waits for every gateway of the fleet to say that it refuses the key.
    pub receipt_timeout: Duration,
    /// How often the fleet tells itself an event that changes nothing, to know how long one takes.
    pub canary_interval: Duration,
    /// How many replicas of Redis must have it before it counts as durable.
    pub wait_replicas: u32,
    /// Whether Redis must have it on disk (`WAITAOF`) before it counts as durable.
    pub wait_fsync: bool,
}

/// How last-used dates are written.
#[derive(Clone, Debug)]
pub struct UsageSettings {
    /// Time between two flushes.
    pub flush_interval: Duration,
    /// Keys whose use may wait to be written.
    pub max_pending: usize,
}

/// How long people stay logged in.
#[derive(Clone, Copy, Debug)]
pub struct SessionSettings {
    /// Without a request.
    pub idle: Duration,
    /// In all.
    pub total: Duration,
}

/// How the console looks.
#[derive(Clone, Debug)]
pub struct ConsoleSettings {
    /// The name that stands on every page: 1 to 40 characters.
    pub brand: String,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// For people or for machines.
    pub format: LogFormat,
    /// As `RUST_LOG` takes it, for example `info` or `keygate=debug`.
    pub filter: String,
}

/// For people or for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// A line of text an event.
    Text,
    /// A JSON object an event.
    Json,
}

/// What a machine shows to the admin API. Does not print, wiped when dropped.
#[derive(Clone)]
pub struct AdminToken(Zeroizing<String>);

impl AdminToken {
    /// The token of this text.
    pub fn new(text: String) -> AdminToken {
        AdminToken(Zeroizing::new(text))
    }

    /// The token itself. For a command that made it and has to tell it, as the demo does.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `presented` is the token; takes the same time wherever they differ.
    pub fn is(&self, presented: &[u8]) -> bool {
        use sha2::{Digest, Sha256};
        use subtle::ConstantTimeEq;
        Sha256::digest(self.0.as_bytes()).ct_eq(&Sha256::digest(presented)).into()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(redacted)")
    }
}
