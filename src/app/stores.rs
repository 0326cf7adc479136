//! The store that the settings name, and the feed that belongs to it.

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use crate::clock::{Clock, SystemClock};
use crate::config::{Config, LookupSettings, StoreUrl};
use crate::events::follower::Follower;
use crate::events::local::LocalFeed;
use crate::events::redis::{NEWS_QUEUE, Subscription, SubscriptionSettings};
use crate::events::{Log, LogError, Progress};
use crate::model::{Event, Heads, KeyHash, LogEntry, Shard};
use crate::observe::Metrics;
use crate::store::guard::{GuardSettings, GuardedStore};
use crate::store::people::PeopleStore;
use crate::store::redis::{EVENTS_CHANNEL, RedisSettings, RedisStore, UnusableRedisUrl};
use crate::store::sqlite::{OnCommit, SqliteOpenError, SqliteStore};
use crate::store::{KeyStore, StoreError};
use crate::verify::Verifier;

/// Deadline of everything but look-ups.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A clock may be behind by so much without a word.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// A store, and where its events come from.
pub(super) struct OpenStore {
    store: Arc<dyn KeyStore>,
    people: Arc<dyn PeopleStore>,
    feed: Feed,
}

enum Feed {
    /// What the store calls for each event, once it is known. Before that nothing is remembered that an event
    /// could outdate.
    Local(Arc<OnceLock<OnCommit>>),
    Redis(Box<SubscriptionSettings>, Arc<RedisStore>),
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
    pub(super) fn open(config: &Config, clock: &Arc<SystemClock>) -> Result<OpenStore, OpenError> {
        match &config.store {
            StoreUrl::Sqlite(path) => {
                let listener: Arc<OnceLock<OnCommit>> = Arc::default();
                let told = Arc::clone(&listener);
                let tell = move |event: &Event| {
                    if let Some(apply) = told.get() {
                        apply(event);
                    }
                };
                let time = Arc::clone(clock) as Arc<dyn Clock>;
                let store = SqliteStore::open(path, time, config.store_id.as_deref(), Box::new(tell))?;
                if let Some(seen) = store.high_water() {
                    let ahead = seen.since(clock.now().wall);
                    if ahead > CLOCK_TOLERANCE {
                        tracing::warn!(
                            ahead_s = ahead.as_secs(),
                            "this machine's clock is behind the time that the store has seen, which holds: set the clock right"
                        );
                    }
                    clock.not_before(seen);
                }
                let store = Arc::new(store);
                let people = Arc::clone(&store) as Arc<dyn PeopleStore>;
                Ok(OpenStore { store, people, feed: Feed::Local(listener) })
            }
            StoreUrl::Redis(url) => {
                let read = |path: &PathBuf| {
                    std::fs::read(path).map_err(|source| OpenError::CaFile { path: path.clone(), source })
                };
                let store = Arc::new(RedisStore::connect(RedisSettings {
                    url: url.clone(),
                    ca_pem: config.store_ca_file.as_ref().map(read).transpose()?,
                    connect_timeout: CONNECT_TIMEOUT,
                    response_timeout: STORE_TIMEOUT,
                    store_id: config.store_id.clone(),
                    wait_replicas: config.revocation.wait_replicas,
                    wait_fsync: config.revocation.wait_fsync,
                })?);
                let feed = SubscriptionSettings {
                    client: store.client(),
                    channel: EVENTS_CHANNEL.to_owned(),
                    connect_timeout: CONNECT_TIMEOUT,
                };
                let keys = Arc::clone(&store) as Arc<dyn KeyStore>;
                let people = Arc::clone(&store) as Arc<dyn PeopleStore>;
                Ok(OpenStore { store: keys, people, feed: Feed::Redis(Box::new(feed), store) })
            }
        }
    }

    /// The store itself.
    pub(super) fn store(&self) -> &Arc<dyn KeyStore> {
        &self.store
    }

    /// The same store, for people.
    pub(super) fn people(&self) -> &Arc<dyn PeopleStore> {
        &self.people
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

    /// Tells `verifier` what changes, until `shutdown`; how far it has come.
    pub(super) fn start_feed(
        self,
        verifier: &Arc<Verifier>,
        clock: &Arc<dyn Clock>,
        metrics: &Arc<Metrics>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> watch::Receiver<Option<Progress>> {
        let (tell_progress, progress) = watch::channel(None);
        let (sink, clock) = (Arc::clone(verifier), Arc::clone(clock));
        let on_roll = Arc::clone(verifier);
        match self.feed {
            Feed::Local(listener) => {
                let feed = LocalFeed::new(sink, clock);
                drop(listener.set(Box::new(feed.on_commit())));
                tokio::spawn(async move {
                    on_roll.until_attended().await;
                    feed.run(shutdown).await;
                });
            }
            Feed::Redis(settings, store) => {
                let (news, heard) = mpsc::channel(NEWS_QUEUE);
                let log = Arc::new(StoreLog { store, metrics: Arc::clone(metrics) });
                let follower = Follower::new(log, Arc::clone(&sink) as _, clock, tell_progress);
                tokio::spawn(Subscription::new(*settings, sink, news).run(shutdown));
                tokio::spawn(async move {
                    on_roll.until_attended().await;
                    follower.run(heard).await;
                });
            }
        }
        progress
    }
}

/// The logs of a fleet's Redis, as its feed reads them.
struct StoreLog {
    store: Arc<RedisStore>,
    metrics: Arc<Metrics>,
}

#[async_trait]
impl Log for StoreLog {
    async fn heads(&self) -> Result<Heads, LogError> {
        self.store.heads().await.map_err(log_error)
    }

    async fn entries_after(&self, shard: Shard, seq: u64, limit: usize) -> Result<Vec<LogEntry>, LogError> {
        self.store.entries_after(shard, seq, limit).await.map_err(log_error)
    }

    async fn assert_revoked(&self, hash: &KeyHash) -> Result<bool, LogError> {
        let was_lost = self.store.assert_revoked(hash).await.map_err(log_error)?;
        if was_lost {
            self.metrics.revocation_reasserted();
        }
        Ok(was_lost)
    }
}

fn log_error(error: StoreError) -> LogError {
    match error {
        StoreError::Corrupt(_) => LogError::Unreadable(error.into()),
        StoreError::Unavailable(_)
        | StoreError::TimedOut(_)
        | StoreError::CircuitOpen
        | StoreError::Busy
        | StoreError::NotOurs(_) => LogError::Unreachable(error.into()),
    }
}
