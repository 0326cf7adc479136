//! The store that the settings name, and the feed that belongs to it.

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::clock::Clock;
use crate::config::{Config, LookupSettings, StoreUrl};
use crate::events::FeedSink;
use crate::events::local::LocalFeed;
use crate::events::redis::{RedisFeed, RedisFeedSettings};
use crate::model::Event;
use crate::store::KeyStore;
use crate::store::guard::{GuardSettings, GuardedStore};
use crate::store::redis::{EVENTS_CHANNEL, RedisSettings, RedisStore, UnusableRedisUrl};
use crate::store::sqlite::{OnCommit, SqliteOpenError, SqliteStore};

/// Deadline of everything but look-ups.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A store, and where its events come from.
pub(super) struct OpenStore {
    store: Arc<dyn KeyStore>,
    feed: Feed,
}

enum Feed {
    /// What the store calls for each event, once it is known. Before that nothing is remembered that an event
    /// could outdate.
    Local(Arc<OnceLock<OnCommit>>),
    Redis(Box<RedisFeedSettings>),
}

/// The store cannot be used. That it does not answer is found out later, and is no reason to end.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The SQLite file cannot be used.
    #[error(transparent)]
    Sqlite(#[from] SqliteOpenError),
    /// The Redis URL cannot be used.
    #[error("store: {0}")]
    Redis(#[from] UnusableRedisUrl),
    /// Its root certificate cannot be read.
    #[error("store_ca_file: cannot read {}: {source}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl OpenStore {
    pub(super) fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<OpenStore, OpenError> {
        match &config.store {
            StoreUrl::Sqlite(path) => {
                let listener: Arc<OnceLock<OnCommit>> = Arc::default();
                let told = Arc::clone(&listener);
                let tell = move |event: &Event| {
                    if let Some(apply) = told.get() {
                        apply(event);
                    }
                };
                let store = SqliteStore::open(path, Arc::clone(clock), Box::new(tell))?;
                Ok(OpenStore { store: Arc::new(store), feed: Feed::Local(listener) })
            }
            StoreUrl::Redis(url) => {
                let read = |path: &PathBuf| {
                    std::fs::read(path).map_err(|source| OpenError::CaFile { path: path.clone(), source })
                };
                let store = RedisStore::connect(RedisSettings {
                    url: url.clone(),
                    ca_pem: config.store_ca_file.as_ref().map(read).transpose()?,
                    connect_timeout: CONNECT_TIMEOUT,
                    response_timeout: STORE_TIMEOUT,
                })?;
                let feed = RedisFeedSettings {
                    client: store.client(),
                    channel: EVENTS_CHANNEL.to_owned(),
                    connect_timeout: CONNECT_TIMEOUT,
                };
                Ok(OpenStore { store: Arc::new(store), feed: Feed::Redis(Box::new(feed)) })
            }
        }
    }

    /// The store itself.
    pub(super) fn store(&self) -> &Arc<dyn KeyStore> {
        &self.store
    }

    /// The store behind its deadlines, its bound and its circuit breaker.
    pub(super) fn guarded(&self, lookup: &LookupSettings, clock: &Arc<dyn Clock>) -> Arc<dyn KeyStore> {
        let settings = GuardSettings {
            find_timeout: lookup.timeout,
            timeout: STORE_TIMEOUT,
            max_concurrent: lookup.max_concurrent,
            breaker_failures: lookup.breaker_failures,
            breaker_open: lookup.breaker_open,
        };
        Arc::new(GuardedStore::new(Arc::clone(&self.store), Arc::clone(clock), settings))
    }

    /// Tells `sink` what changes, until `shutdown`.
    pub(super) fn start_feed(
        self,
        sink: Arc<dyn FeedSink>,
        clock: &Arc<dyn Clock>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) {
        match self.feed {
            Feed::Local(listener) => {
                let feed = LocalFeed::new(sink, Arc::clone(clock));
                drop(listener.set(Box::new(feed.on_commit())));
                tokio::spawn(feed.run(shutdown));
            }
            Feed::Redis(settings) => {
                tokio::spawn(RedisFeed::new(*settings, sink, Arc::clone(clock)).run(shutdown));
            }
        }
    }
}
