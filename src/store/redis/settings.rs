//! How Redis is reached, and what is asked of it.

use std::fmt;
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{Client, IntoConnectionInfo, RedisError, TlsCertificates};

/// How Redis is reached.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://` or `rediss://`, with user, password and database where needed.
    pub url: String,
    /// Root certificates (PEM) to trust for `rediss://`, instead of the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// How long connecting may take, TLS and greeting included.
    pub connect_timeout: Duration,
    /// How long an answer may take.
    pub response_timeout: Duration,
    /// The identity that the store must have, where it is prescribed: a store without one is then not used, and not
    /// founded.
    pub store_id: Option<String>,
    /// How many replicas must have a revocation before it counts as durable.
    pub wait_replicas: u32,
    /// Whether it must be on the disk of the primary (and of as many replicas) too. Needs Redis 7.2.
    pub wait_fsync: bool,
}

/// Never shows the URL: there may be a password in it.
impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("store_id", &self.store_id)
            .field("wait_replicas", &self.wait_replicas)
            .field("wait_fsync", &self.wait_fsync)
            .finish_non_exhaustive()
    }
}

impl RedisSettings {
    /// A client for this Redis. It holds no connection.
    ///
    /// # Errors
    /// The URL or the certificates cannot be used.
    pub fn client(&self) -> Result<Client, UnusableRedisUrl> {
        // TCP_USER_TIMEOUT and keep-alive are the safety net below the pings: they free sockets that nobody asks about.
        let keepalive =
            TcpKeepalive::new().with_time(Duration::from_secs(5)).with_interval(Duration::from_secs(1));
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(keepalive)
            .set_user_timeout(Duration::from_secs(5));
        let info = self.url.as_str().into_connection_info().map_err(UnusableRedisUrl)?.set_tcp_settings(tcp);
        if matches!(info.addr(), redis::ConnectionAddr::TcpTls { .. }) {
            // Fails when the process has one already, which serves as well.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        match &self.ca_pem {
            Some(pem) => Client::build_with_tls(
                info,
                TlsCertificates { client_tls: None, root_cert: Some(pem.clone()) },
            ),
            None => Client::open(info),
        }
        .map_err(UnusableRedisUrl)
    }
}

/// The URL of the store, or the certificates given with it, cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the URL of the Redis store, or its root certificate, cannot be used")]
pub struct UnusableRedisUrl(#[source] RedisError);
