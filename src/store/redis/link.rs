//! The connection to Redis, and who keeps it alive.
//!
//! A supervisor of our own: it pings, replaces a connection that fails or falls silent, and never gives up. redis-rs'
//! own manager keeps a half-open socket and gives up after some retries.
//!
//! Workers have connections of their own *beside* the first one, so that a look-up crosses no thread. What a look-up reads must
//! not be older than what the first connection proves to be current. So one beside it leads to the very same process of Redis,
//! whatever the address has come to mean, and is not used any more once the first one is replaced.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult, ServerErrorKind};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::RedisSettings;
use super::identity::{Identity, info};
use crate::backoff::backoff;
use crate::store::{Mismatch, StoreError};

/// Time between two pings.
const PING_INTERVAL: Duration = Duration::from_millis(500);
/// A connection that answers no ping for so long is given up.
const PING_DEADLINE: Duration = Duration::from_secs(1);

/// Hands out the connection that stands. Dropping it ends the supervisor.
pub(super) struct Link {
    shared: Arc<Shared>,
    supervisor: JoinHandle<()>,
}

struct Shared {
    client: Client,
    settings: RedisSettings,
    identity: Arc<Identity>,
    /// Where this is one beside another, that other.
    first: Option<Arc<Shared>>,
    current: ArcSwapOption<Line>,
    up: watch::Sender<bool>,
}

/// One connection.
pub(super) struct Line {
    connection: MultiplexedConnection,
    response_timeout: Duration,
    suspect: Notify,
    /// The one that stood when this one was made, where this is one beside it.
    first: Option<Arc<Line>>,
}

impl Link {
    /// Starts the supervisor on the current runtime, and does not wait for it.
    pub(super) fn start(client: Client, settings: RedisSettings) -> Link {
        let identity = Arc::new(Identity::new(settings.store_id.clone()));
        Link::supervised(Shared::new(client, settings, identity, None))
    }

    /// Starts another one beside this one, on the current runtime.
    pub(super) fn start_beside(&self) -> Link {
        let Shared { client, settings, identity, .. } = &*self.shared;
        let first = Some(Arc::clone(&self.shared));
        Link::supervised(Shared::new(client.clone(), settings.clone(), Arc::clone(identity), first))
    }

    fn supervised(shared: Shared) -> Link {
        let shared = Arc::new(shared);
        let supervisor = tokio::spawn(supervise(Arc::clone(&shared)));
        Link { shared, supervisor }
    }

    pub(super) fn client(&self) -> &Client {
        &self.shared.client
    }

    /// Whose store it is.
    pub(super) fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    pub(super) fn is_up(&self) -> bool {
        *self.shared.up.borrow()
    }

    /// As if the connection were lost.
    #[cfg(test)]
    pub(super) fn lose(&self) {
        self.shared.disconnected();
    }

    pub(super) async fn wait_until_up(&self) {
        self.shared.wait_until_up().await;
    }

    /// The one by which it is known whose store it is, and what is current.
    pub(super) fn first(&self) -> Result<Arc<Line>, StoreError> {
        self.shared.first.as_ref().unwrap_or(&self.shared).line()
    }

    /// The connection of the moment.
    pub(super) fn line(&self) -> Result<Arc<Line>, StoreError> {
        let first = self.first()?;
        Ok(self.shared.current.load_full().filter(|own| own.is_beside(&first)).unwrap_or(first))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl Line {
    /// Whether this one was made beside `first`.
    pub(super) fn is_beside(&self, first: &Arc<Line>) -> bool {
        self.first.as_ref().is_some_and(|before| Arc::ptr_eq(before, first))
    }

    /// A handle to send by. Many commands can be under way on one connection.
    pub(super) fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    /// Says what a failure means for the caller, and has the connection replaced at once if it looks dead.
    pub(super) fn failed(&self, error: RedisError) -> StoreError {
        if error.is_timeout() {
            return StoreError::TimedOut(self.response_timeout);
        }
        if error.kind() == redis::ErrorKind::UnexpectedReturnType {
            return StoreError::Corrupt(error.to_string());
        }
        // READONLY: what answers is no primary any more, and the address may lead elsewhere by now.
        let demoted = error.kind() == redis::ErrorKind::Server(ServerErrorKind::ReadOnly);
        if demoted || error.is_unrecoverable_error() {
            self.suspect.notify_one();
        }
        StoreError::unavailable(error)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("there is no connection to Redis at the moment")]
struct NotConnected;

async fn supervise(shared: Arc<Shared>) {
    let mut failures = 0;
    loop {
        if let Some(first) = &shared.first {
            first.wait_until_up().await;
        }
        match connect(&shared).await {
            Ok(line) => {
                if shared.current.swap(Some(Arc::clone(&line))).is_none() && shared.first.is_none() {
                    tracing::info!("connected to Redis");
                }
                shared.up.send_replace(true);
                match keep(&shared, &line, &mut failures).await {
                    // It can still say what it is, until there is another.
                    Lost::Demoted => {}
                    lost => {
                        shared.disconnected();
                        match shared.first {
                            None => tracing::warn!(reason = %lost, "the connection to Redis is lost"),
                            Some(_) => {
                                tracing::debug!(reason = %lost, "a worker's connection to Redis is lost")
                            }
                        }
                    }
                }
            }
            Err(error) => {
                shared.disconnected();
                match failures {
                    0 if shared.first.is_none() => {
                        tracing::warn!(%error, "Redis cannot be reached; trying on")
                    }
                    _ => tracing::debug!(%error, failures, "Redis cannot be reached; trying on"),
                }
            }
        }
        sleep(backoff(failures)).await;
        failures = failures.saturating_add(1);
    }
}

impl Shared {
    fn new(
        client: Client,
        settings: RedisSettings,
        identity: Arc<Identity>,
        first: Option<Arc<Shared>>,
    ) -> Shared {
        let (current, up) = (ArcSwapOption::empty(), watch::Sender::new(false));
        Shared { client, settings, identity, first, current, up }
    }

    fn line(&self) -> Result<Arc<Line>, StoreError> {
        self.current.load_full().ok_or_else(|| StoreError::unavailable(NotConnected))
    }

    async fn wait_until_up(&self) {
        // The sender lives in here, so the channel cannot close before.
        let _ = self.up.subscribe().wait_for(|&up| up).await;
    }

    fn disconnected(&self) {
        self.current.store(None);
        self.up.send_replace(false);
    }
}

/// Connects, and has whoever answers say what it is before anybody uses it.
async fn connect(shared: &Shared) -> Result<Arc<Line>, Lost> {
    let first = shared.first.as_ref().map(|first| first.line()).transpose()?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(shared.settings.connect_timeout))
        .set_response_timeout(Some(shared.settings.response_timeout));
    let open = shared.client.get_multiplexed_async_connection_with_config(&config);
    // The deadline above is for the socket alone, and not for the greeting.
    let connection = timeout(shared.settings.connect_timeout, open)
        .await
        .map_err(|_| Lost::Silent(shared.settings.connect_timeout))??;
    let response_timeout = shared.settings.response_timeout;
    let line = Line { connection, response_timeout, suspect: Notify::new(), first };
    ping(&line).await?;
    match &line.first {
        None => drop(shared.identity.survey(&line).await?),
        Some(first) => {
            let (here, there) = (process(&line).await?, process(first).await?);
            if here.is_none() || here != there {
                return Err(Lost::Elsewhere);
            }
        }
    }
    Ok(Arc::new(line))
}

/// Returns when the connection is to be replaced. Forgets earlier failures once it has stood for a while.
async fn keep(shared: &Shared, line: &Line, failures: &mut u32) -> Lost {
    loop {
        tokio::select! {
            () = sleep(PING_INTERVAL) => {}
            () = line.suspect.notified() => return Lost::Suspect,
        }
        if shared.first.as_ref().is_some_and(|first| !first.line().is_ok_and(|first| line.is_beside(&first)))
        {
            return Lost::Replaced;
        }
        if let Err(lost) = ping(line).await {
            return lost;
        }
        *failures = 0;
        // What is not used has to show by itself that it can be again.
        if shared.first.is_none() && shared.identity.mismatch().is_some() {
            match shared.identity.survey(line).await {
                Ok(survey) if survey.mismatch == Some(Mismatch::Replica) => return Lost::Demoted,
                Ok(_) => {}
                Err(error) => return Lost::Unsurveyed(error),
            }
        }
    }
}

async fn ping(line: &Line) -> Result<(), Lost> {
    let mut connection = line.connection();
    connection.set_response_timeout(PING_DEADLINE);
    let answer: RedisResult<()> = redis::cmd("PING").query_async(&mut connection).await;
    answer.map_err(|error| if error.is_timeout() { Lost::Silent(PING_DEADLINE) } else { Lost::Failed(error) })
}

/// The name of the process of Redis that answers; each has one of its own. `None` if it does not tell.
async fn process(line: &Line) -> RedisResult<Option<String>> {
    let told: String = redis::cmd("INFO").arg("server").query_async(&mut line.connection()).await?;
    Ok(info(&told, "run_id").map(str::to_owned))
}

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("no answer within {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("a command found it broken, or no primary any more")]
    Suspect,
    #[error("it leads to a replica; the address may lead to the primary by now")]
    Demoted,
    #[error("it leads to another server than the connection that it stands beside")]
    Elsewhere,
    #[error("the connection that it stands beside was replaced")]
    Replaced,
    #[error(transparent)]
    Failed(#[from] RedisError),
    #[error("it does not say what it is: {0}")]
    Unsurveyed(#[from] StoreError),
}
