//! The process: everything is made here, started in order, and stopped in order.
//!
//! Start: settings, addresses, store, feed, workers, and only then `ready`. Stop: not ready, no new connections, requests
//! in flight, last-used dates, the store.

mod demo;
mod start;
mod stores;

pub use demo::demo;
pub use start::{BindError, StartError};

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::admin;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::events::FeedSink;
use crate::keys::KeyService;
use crate::observe::{Health, Metrics};
use crate::proxy::connection::Deadlines;
use crate::proxy::framing::HeadLimits;
use crate::proxy::gateway::{Gateway, Limits, Shared};
use crate::proxy::listener::{WorkerSettings, Workers};
use crate::proxy::upstream::{Context, Dialer, Upstreams};
use crate::store::KeyStore;
use crate::usage::Usage;
use crate::usage::flusher::Flusher;
use crate::verify::cache::Capacity;
use crate::verify::{Verifier, VerifierSettings};

use start::{Listeners, start_logging};
use stores::OpenStore;

/// How long `--fail-fast` and `check` wait for the store.
const FAIL_FAST_WAIT: Duration = Duration::from_secs(2);
/// How long the last flush of last-used dates may take on the way out.
const LAST_FLUSH: Duration = Duration::from_secs(5);
/// How often the fleet's settings are asked for while all is well, and how soon again if that failed.
const FLEET_INTERVAL: Duration = Duration::from_secs(1);
const FLEET_RETRY: Duration = Duration::from_millis(100);
/// How often histograms are folded and gauges set.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How `serve` behaves beside its settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServeOptions {
    /// End with an error if the store does not answer, instead of waiting for it.
    pub fail_fast: bool,
}

/// Runs a gateway until SIGTERM or SIGINT.
///
/// # Errors
/// It could not start; the error names what to change.
pub fn serve(config: Config, options: ServeOptions) -> Result<(), StartError> {
    start_logging(&config.log)?;
    let control = control_runtime()?;
    let listeners = control.block_on(Listeners::bind(&config))?;
    control.block_on(async {
        let signal = start::shutdown_signal()?;
        run(config, options, listeners, signal).await
    })
}

/// Says for each thing that `serve` needs whether it is there: its name, and what was found or what is wrong.
pub fn check(config: &Config) -> Vec<(String, Result<String, StartError>)> {
    match control_runtime() {
        Ok(control) => control.block_on(start::check(config)),
        Err(error) => vec![("runtime".to_owned(), Err(error))],
    }
}

/// The runtime of everything that is not a client's request: admin, feed, flusher, loads.
fn control_runtime() -> Result<Runtime, StartError> {
    let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("control").enable_all().build();
    runtime.map_err(StartError::Runtime)
}

/// Runs a gateway on `listeners` until `shutdown`, then drains it.
async fn run(
    config: Config,
    options: ServeOptions,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let metrics = Arc::new(Metrics::new());
    let health = Arc::new(Health::new());
    let (drain, draining) = watch::channel(false);
    let (stop, stopped) = watch::channel(false);

    let opened = OpenStore::open(&config, &clock)?;
    let store = opened.guarded(&config.lookup, &clock);
    let verifier = Arc::new(Verifier::new(
        Arc::clone(&store),
        &verifier_settings(&config),
        Arc::clone(&clock),
        Arc::clone(&metrics),
        tokio::runtime::Handle::current(),
    ));
    let usage = Arc::new(Usage::new(config.usage.max_pending, Arc::clone(&metrics)));

    opened.start_feed(Arc::clone(&verifier) as Arc<dyn FeedSink>, &clock, ended(stopped.clone()));
    let synced = tokio::spawn(follow_fleet(Arc::clone(&verifier), Arc::clone(&store), Arc::clone(&health)));
    tokio::spawn(upkeep(Arc::clone(&verifier), Arc::clone(&metrics)));
    if options.fail_fast && !health.synced_within(FAIL_FAST_WAIT).await {
        return Err(StartError::StoreUnreachable { store: config.store.to_string() });
    }
    let flusher = Flusher::new(Arc::clone(&usage), Arc::clone(&store), Arc::clone(&metrics));
    let flusher = tokio::spawn(flusher.run(config.usage.flush_interval, ended(stopped.clone())));

    let workers = start_workers(&config, &clock, &metrics, &verifier, &usage, &draining)?;
    listeners.start_admin(&config, &store, &verifier, &health, &metrics, &clock, &stopped);
    let accepting = async {
        workers.accept(listeners.gateway, draining.clone()).await;
        workers
    };
    let accepting = tokio::spawn(accepting);

    shutdown.await;
    tracing::info!("draining");
    health.drain();
    drain.send_replace(true);
    let workers = accepting.await.map_err(StartError::Ended)?;
    tokio::task::spawn_blocking(move || workers.join()).await.map_err(StartError::Ended)?;
    stop.send_replace(true);
    if tokio::time::timeout(LAST_FLUSH, flusher).await.is_err() {
        tracing::error!(keys = usage.pending(), "last-used dates could not be written before the end");
    }
    synced.abort();
    tracing::info!("stopped");
    Ok(())
}
