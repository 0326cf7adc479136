//! The store of a fleet: Redis, standalone.
//!
//! `layout` says what stands where, `scripts` what happens in one step, `link` keeps the connection, `list` merges the
//! shards. Without a connection every call fails at once.

mod layout;
mod link;
mod list;
mod scripts;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{Client, IntoConnectionInfo, RedisError, RedisResult, TlsCertificates};

pub use self::layout::EVENTS_CHANNEL;
use self::link::{Line, Link};
use self::scripts::{Revoked, Scripts};
use super::{
    Creation, FleetSettings, KeyStore, ListQuery, Page, Revocation, StoreError, StoredKey, UsageBatch,
};
use crate::model::{KeyHash, KeyId, KeyRecord, Shard};

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
}

/// Never shows the URL: there may be a password in it.
impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
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

/// A [`KeyStore`] in Redis.
pub struct RedisStore {
    link: Link,
    scripts: Scripts,
}

impl RedisStore {
    /// Starts to connect and returns at once, whether or not Redis is there. Must be called within a tokio runtime: the
    /// connection lives there, and may be used from any other.
    ///
    /// # Errors
    /// The URL or the certificates cannot be used.
    pub fn connect(settings: RedisSettings) -> Result<RedisStore, UnusableRedisUrl> {
        let client = settings.client()?;
        Ok(RedisStore { link: Link::start(client, settings), scripts: Scripts::new() })
    }

    /// Whether there is a connection.
    pub fn ready(&self) -> bool {
        self.link.is_up()
    }

    /// Waits until there is a connection. Cancel-safe.
    pub async fn wait_ready(&self) {
        self.link.wait_until_up().await;
    }

    /// The client, for the feed's own connection to the same Redis.
    pub fn client(&self) -> Client {
        self.link.client().clone()
    }
}

#[async_trait]
impl KeyStore for RedisStore {
    async fn find(&self, hash: &KeyHash) -> Result<Option<KeyRecord>, StoreError> {
        let line = self.link.line()?;
        let fields = redis::cmd("HMGET")
            .arg(layout::record_key(hash))
            .arg(layout::RECORD)
            .arg(layout::REVOKED_AT)
            .query_async(&mut line.connection())
            .await
            .or_failed(&line)?;
        layout::read_record(hash, fields)
    }

    async fn get(&self, id: &KeyId) -> Result<Option<StoredKey>, StoreError> {
        let line = self.link.line()?;
        list::key(&line, id).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        let line = self.link.line()?;
        list::page(&line, query).await
    }

    async fn create(&self, record: &KeyRecord) -> Result<Creation, StoreError> {
        if record.id.shard() != Shard::of(&record.hash) {
            return Err(StoreError::Corrupt(format!(
                "{}: its id and its hash name different shards",
                record.id
            )));
        }
        let line = self.link.line()?;
        let script = self.scripts.create(record).map_err(StoreError::unavailable)?;
        let created: bool = script.invoke_async(&mut line.connection()).await.or_failed(&line)?;
        Ok(if created { Creation::Created } else { Creation::AlreadyThere })
    }

    async fn revoke(&self, id: &KeyId) -> Result<Option<Revocation>, StoreError> {
        let line = self.link.line()?;
        // Two steps are safe: the hash behind an id never changes.
        let Some(hash) = list::read_hash(&line, id).await? else { return Ok(None) };
        let (record, revoked_at, newly): Revoked =
            self.scripts.revoke(&hash).invoke_async(&mut line.connection()).await.or_failed(&line)?;
        match layout::read_record(&hash, (record, revoked_at))? {
            Some(record) => Ok(Some(Revocation { record, newly })),
            None => Err(StoreError::Corrupt(format!("the record of {id}: its id is there and it is not"))),
        }
    }

    async fn record_uses(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        let line = self.link.line()?;
        self.scripts.record_uses(batch).invoke_async(&mut line.connection()).await.or_failed(&line)
    }

    async fn fleet(&self) -> Result<FleetSettings, StoreError> {
        let line = self.link.line()?;
        let fields = redis::cmd("HMGET")
            .arg(layout::FLEET_KEY)
            .arg(layout::STORE_ID)
            .arg(layout::CHECK_SECRETS)
            .arg(layout::ACCEPT_UNCHECKED_KEYS)
            .query_async(&mut line.connection())
            .await
            .or_failed(&line)?;
        if let Some(fleet) = layout::read_fleet(fields)? {
            return Ok(fleet);
        }
        let new = FleetSettings::random()?;
        let fields =
            self.scripts.found_fleet(&new).invoke_async(&mut line.connection()).await.or_failed(&line)?;
        layout::read_fleet(fields)?
            .ok_or_else(|| StoreError::Corrupt("the settings of the fleet: they vanished".to_owned()))
    }

    async fn accept_unchecked_keys(&self, accept: bool) -> Result<(), StoreError> {
        // The switch must not be the first thing in an empty store.
        self.fleet().await?;
        let line = self.link.line()?;
        self.scripts.accept_unchecked_keys(accept).invoke_async(&mut line.connection()).await.or_failed(&line)
    }
}

/// Turns an error of redis-rs into the store's.
trait Answer<T> {
    fn or_failed(self, line: &Line) -> Result<T, StoreError>;
}

impl<T> Answer<T> for RedisResult<T> {
    fn or_failed(self, line: &Line) -> Result<T, StoreError> {
        self.map_err(|error| line.failed(error))
    }
}
