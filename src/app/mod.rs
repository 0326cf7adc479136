//! The process: everything is made here, started in order, and stopped in order.
//!
//! Start: settings, addresses, store, feed, workers, and only then `ready`. Stop: not ready, no new connections, requests
//! in flight, last-used dates, the store.

mod demo;
mod start;
mod stores;

pub use demo::demo;
pub use start::{BindError, Finding, StartError};

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admin::{self, AdminState, Cookies, Keys};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, TlsFiles};
use crate::events::FeedSink;
use crate::keys::KeyService;
use crate::model::{SHARDS, Shard};
use crate::observe::metrics::{SteppedClock, TlsListener};
use crate::observe::{Health, Metrics};
use crate::people::{People, SessionLimits};
use crate::proxy::gateway::{BodyLimits, Gateway, HeadLimits, Limits, Shared};
use crate::proxy::listener::{Deadlines, WorkerSettings, Workers};
use crate::proxy::upstream::{Context, Dialer, Upstreams};
use crate::roll::{Roll, RollSettings};
use crate::store::KeyStore;
use crate::tls::Identity;
use crate::usage::Usage;
use crate::usage::flusher::Flusher;
use crate::verify::cache::Capacity;
use crate::verify::{Verifier, VerifierSettings};

use start::{Listeners, start_logging};
use stores::OpenStore;

/// How long `--fail-fast`, `check` and `demo` wait for the store.
const FAIL_FAST_WAIT: Duration = Duration::from_secs(2);
/// How long the last flush of last-used dates may take on the way out.
const LAST_FLUSH: Duration = Duration::from_secs(5);
/// How long an admin request may still take on the way out.
const ADMIN_DRAIN: Duration = Duration::from_secs(5);
/// How often the fleet's settings are asked for while all is well, and how soon again if that failed.
const FLEET_INTERVAL: Duration = Duration::from_secs(1);
const FLEET_RETRY: Duration = Duration::from_millis(100);
/// Failures in a row that are worth a word.
const WARN_AFTER: u32 = 3;
/// How often histograms are folded and gauges set.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How often old revocations are looked for that need not be remembered any more.
const FORGET_INTERVAL: Duration = Duration::from_secs(3_600);
/// How often sessions and links are looked for that have ended.
const FORGET_SESSIONS_INTERVAL: Duration = Duration::from_secs(60);
/// A clock that moves by more than this between two looks was set.
const STEP_MS: u64 = 1_000;

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
    control_runtime()?.block_on(async {
        let signal = start::shutdown_signal()?;
        let listeners = Listeners::bind(&config).await?;
        Gatehouse::open(config, options, &listeners).await?.run(listeners, signal).await
    })
}

/// Says for each thing that `serve` needs whether it is there: its name, and what was found or what is wrong.
pub fn check(config: &Config) -> Vec<(String, Result<Finding, StartError>)> {
    match control_runtime() {
        Ok(control) => control.block_on(start::check(config)),
        Err(error) => vec![("runtime".to_owned(), Err(error))],
    }
}

/// The runtime of everything that is not a client's request: admin, feed, flusher.
fn control_runtime() -> Result<Runtime, StartError> {
    let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("control").enable_all().build();
    runtime.map_err(StartError::Runtime)
}

/// Everything behind the listeners, open and running.
struct Gatehouse {
    config: Config,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    verifier: Arc<Verifier>,
    usage: Arc<Usage>,
    keys: Arc<KeyService>,
    people: Arc<People>,
    roll: Arc<Roll>,
    /// What the gateway's listener and the admin listener prove themselves with.
    identity: Option<Arc<Identity>>,
    admin_identity: Option<Arc<Identity>>,
    flusher: JoinHandle<()>,
    /// Ends with this gateway's goodbye to its fleet.
    on_roll: JoinHandle<()>,
    /// Turns true when the last request is done.
    stop: watch::Sender<bool>,
}

impl Gatehouse {
    /// Opens the store, asks for what the fleet shares, goes on its roll, and then follows its events.
    async fn open(
        config: Config,
        options: ServeOptions,
        listeners: &Listeners,
    ) -> Result<Gatehouse, StartError> {
        let system_clock = Arc::new(SystemClock::start());
        let clock: Arc<dyn Clock> = Arc::clone(&system_clock) as Arc<dyn Clock>;
        let metrics = Arc::new(Metrics::new());
        let health = Arc::new(Health::new());
        let (stop, stopped) = watch::channel(false);

        let identity = |listener, files: &Option<TlsFiles>| {
            let files = files.clone();
            files
                .map(|files| Identity::open(listener, files, Arc::clone(&clock), Arc::clone(&metrics)))
                .transpose()
        };
        let gateway_identity = identity(TlsListener::Gateway, &config.tls)?;
        let admin_identity = identity(TlsListener::Admin, &config.admin_tls)?;
        let opened = OpenStore::open(&config, &system_clock)?;
        let store = opened.guarded(&config.lookup, &clock);
        let limits = SessionLimits { idle: config.sessions.idle, total: config.sessions.total };
        let people = Arc::new(People::new(Arc::clone(opened.people()), Arc::clone(&clock), limits));
        let verifier = Arc::new(Verifier::new(
            Arc::clone(&store),
            &verifier_settings(&config),
            Arc::clone(&clock),
            Arc::clone(&metrics),
        ));
        let sink: Arc<dyn FeedSink> = Arc::clone(&verifier) as Arc<dyn FeedSink>;
        let progress = opened.start_feed(&verifier, &clock, &metrics, ended(stopped.clone()));
        let roll = Arc::new(
            Roll::new(
                roll_settings(&config, listeners),
                Arc::clone(&store),
                Arc::clone(&sink),
                progress,
                Arc::clone(&clock),
                Arc::clone(&metrics),
            )
            .map_err(StartError::NoRandomness)?,
        );
        let (member, leaving) = (Arc::clone(&roll), ended(stopped.clone()));
        let on_roll = tokio::spawn(async move { member.run(leaving).await });

        let usage = Arc::new(Usage::new(config.usage.max_pending, Arc::clone(&metrics)));
        let flusher = Flusher::new(Arc::clone(&usage), Arc::clone(&store), Arc::clone(&metrics));
        let flusher = tokio::spawn(flusher.run(config.usage.flush_interval, ended(stopped)));
        let keys = Arc::new(KeyService::new(
            Arc::clone(&store),
            sink,
            config.key_format.clone(),
            Arc::clone(&clock),
            Arc::clone(&metrics),
        ));
        for identity in gateway_identity.iter().chain(&admin_identity) {
            tokio::spawn(Arc::clone(identity).keep_current());
        }
        let revoking = Arc::clone(&keys);
        tokio::spawn(async move { revoking.keep_writing_revocations().await });
        tokio::spawn(follow_fleet(Arc::clone(&verifier), Arc::clone(&health)));
        tokio::spawn(keep_singing(store, Arc::clone(&clock), config.revocation.canary_interval));
        tokio::spawn(keep_forgetting(Arc::clone(&verifier)));
        tokio::spawn(keep_forgetting_sessions(Arc::clone(&people)));
        tokio::spawn(upkeep(Arc::clone(&verifier), Arc::clone(&clock), Arc::clone(&metrics)));

        let gatehouse = Gatehouse {
            config,
            clock,
            metrics,
            health,
            verifier,
            usage,
            keys,
            people,
            roll,
            identity: gateway_identity,
            admin_identity,
            flusher,
            on_roll,
            stop,
        };
        if options.fail_fast && !gatehouse.health.synced_within(FAIL_FAST_WAIT).await {
            let store = gatehouse.config.store.to_string();
            gatehouse.leave().await;
            return Err(StartError::StoreUnreachable { store });
        }
        Ok(gatehouse)
    }

    /// Says goodbye to the fleet: nothing is, or was, served here.
    async fn leave(self) {
        self.stop.send_replace(true);
        drop(tokio::time::timeout(LAST_FLUSH, self.on_roll).await);
    }

    /// Serves on `listeners` until `shutdown`, then drains: not ready, no new connections, requests in flight,
    /// last-used dates.
    async fn run(self, listeners: Listeners, shutdown: impl Future<Output = ()>) -> Result<(), StartError> {
        let (drain, draining) = watch::channel(false);
        let workers = match self.start_workers(&draining) {
            Ok(workers) => workers,
            Err(error) => {
                self.leave().await;
                return Err(error);
            }
        };
        let observing = self.start_admin(listeners.admin, listeners.observe);
        start::announce("gateway", &listeners.gateway, self.identity.is_some());
        let accepting = tokio::spawn(async move {
            workers.accept(listeners.gateway, draining).await;
            workers
        });

        shutdown.await;
        tracing::info!("draining");
        self.health.drain();
        drain.send_replace(true);
        let workers = accepting.await.map_err(StartError::Ended)?;
        tokio::task::spawn_blocking(move || workers.join()).await.map_err(StartError::Ended)?;
        self.stop.send_replace(true);
        match tokio::time::timeout(LAST_FLUSH, self.flusher).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "last-used dates were not written: the flusher failed"),
            Err(_elapsed) => {
                let keys = self.usage.pending();
                tracing::error!(keys, "last-used dates could not be written before the end");
            }
        }
        // Before what is overdue is written: a revocation may be under way.
        for listener in observing {
            if tokio::time::timeout(ADMIN_DRAIN, listener).await.is_err() {
                tracing::warn!("an admin request was cut off");
            }
        }
        drop(tokio::time::timeout(LAST_FLUSH, self.keys.write_overdue_revocations()).await);
        if tokio::time::timeout(LAST_FLUSH, self.on_roll).await.is_err() {
            tracing::warn!(
                "the store did not take this gateway's goodbye: its fleet waits for it until its time is over"
            );
        }
        let overdue = self.keys.overdue_revocations();
        if overdue > 0 {
            tracing::error!(
                overdue,
                "revocations are not in the store and end with this gateway: revoke these keys again"
            );
        }
        tracing::info!("stopped");
        Ok(())
    }

    fn start_workers(&self, draining: &watch::Receiver<bool>) -> Result<Workers, StartError> {
        let config = &self.config;
        let shared = Arc::new(Shared {
            key_format: config.key_format.clone(),
            verifier: Arc::clone(&self.verifier),
            usage: Arc::clone(&self.usage),
            clock: Arc::clone(&self.clock),
            metrics: Arc::clone(&self.metrics),
            limits: Limits {
                head: HeadLimits {
                    max_bytes: config.limits.max_header_bytes,
                    max_lines: config.limits.max_headers,
                },
                body: BodyLimits {
                    max_bytes: config.limits.max_body_bytes,
                    idle: config.timeouts.body_idle,
                    min_bytes_per_s: config.timeouts.body_min_bytes_per_s,
                },
            },
        });
        let context = Context {
            settings: Arc::new(config.upstream.clone()),
            body_idle: config.timeouts.body_idle,
            verifier: Arc::clone(&self.verifier),
            dialer: Arc::new(Dialer::new(config.upstream.ca_file.as_deref())?),
            clock: Arc::clone(&self.clock),
            metrics: Arc::clone(&self.metrics),
        };
        let (live, sandbox) = (config.upstream_live.clone(), config.upstream_sandbox.clone());
        let gateway = move || {
            Gateway::new(Upstreams::new(live.as_ref(), sandbox.as_ref(), &context), Arc::clone(&shared))
        };
        let settings = WorkerSettings {
            workers: config.workers,
            max_connections: config.limits.max_connections,
            deadlines: Deadlines {
                head: config.timeouts.header,
                idle: config.timeouts.idle,
                write: config.timeouts.body_idle,
                shortest_wait: config.timeouts.body_idle.min(config.upstream.response_timeout),
            },
            drain_timeout: config.drain_timeout,
            identity: self.identity.clone(),
        };
        Workers::start(&settings, Arc::clone(&self.metrics), draining, gateway).map_err(StartError::Runtime)
    }

    /// Admin API, probes and metrics. They go on while the gateway drains, and end with it.
    fn start_admin(&self, admin: Option<TcpListener>, observe: Option<TcpListener>) -> Vec<JoinHandle<()>> {
        let metrics = Arc::clone(&self.metrics);
        let render: Arc<dyn Fn() -> String + Send + Sync> = Arc::new(move || metrics.render());
        let mut serving = Vec::new();
        let mut serve = |name, listener: TcpListener, identity: Option<Arc<Identity>>, router| {
            start::announce(name, &listener, identity.is_some());
            serving.push(tokio::spawn(admin::serve(
                listener,
                identity,
                router,
                ended(self.stop.subscribe()),
            )));
        };
        if let Some(listener) = admin {
            let state = AdminState {
                keys: Keys::new(Arc::clone(&self.keys)),
                people: Arc::clone(&self.people),
                cookies: cookies(&self.config),
                // A listener with its own TLS is reached directly: where a request says it comes from is the client's word.
                behind_tls: self.config.behind_tls && self.config.admin_tls.is_none(),
                roll: Arc::clone(&self.roll),
                token: self.config.admin_token.clone(),
                health: Arc::clone(&self.health),
                metrics: Arc::clone(&render),
                clock: Arc::clone(&self.clock),
                brand: self.config.console.brand.clone(),
                flush_interval: self.config.usage.flush_interval,
            };
            serve("admin", listener, self.admin_identity.clone(), admin::router(state));
        }
        if let Some(listener) = observe {
            // It carries neither keys nor the token.
            serve("observe", listener, None, admin::observe_router(Arc::clone(&self.health), render));
        }
        serving
    }
}

fn verifier_settings(config: &Config) -> VerifierSettings {
    VerifierSettings {
        capacity: Capacity {
            max_bytes: config.cache.max_bytes,
            ttl: config.cache.ttl,
            unknown_entries: config.cache.unknown_entries,
            unknown_ttl: config.cache.unknown_ttl,
        },
        max_staleness: config.cache.max_staleness,
        unchecked_per_second: config.lookup.unchecked_per_second,
        unchecked_at_once: config.lookup.unchecked_max_concurrent,
    }
}

/// Browsers reach the admin listener by https unless it is on loopback, without a certificate and with nothing in front.
fn cookies(config: &Config) -> Cookies {
    let on_loopback = config.admin_listen.is_some_and(|address| address.ip().is_loopback());
    Cookies { secure: config.admin_tls.is_some() || config.behind_tls || !on_loopback }
}

fn roll_settings(config: &Config, listeners: &Listeners) -> RollSettings {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let host = host.as_deref().map_or("localhost", str::trim);
    let port = listeners.gateway.local_addr().map_or(config.listen.port(), |address| address.port());
    RollSettings {
        name: format!("{host}:{port}"),
        max_staleness: config.cache.max_staleness,
        receipt_timeout: config.revocation.receipt_timeout,
    }
}

/// Asks for what the fleet shares: until it is known, and then each second.
async fn follow_fleet(verifier: Arc<Verifier>, health: Arc<Health>) {
    let (mut failures, mut answered) = (0u32, false);
    loop {
        let refreshed = verifier.refresh_fleet().await;
        match &refreshed {
            Ok(()) if !answered => tracing::info!("the store answers"),
            Ok(()) => {}
            // At the start, it is not there at once.
            Err(error) if failures + 1 == WARN_AFTER => {
                tracing::warn!(%error, "the store does not answer; trying on");
            }
            Err(_) => {}
        }
        answered = refreshed.is_ok();
        failures = if answered { 0 } else { failures.saturating_add(1) };
        health.store_answers(answered);
        let synced = answered && verifier.is_synced();
        if synced {
            health.sync();
        }
        tokio::time::sleep(if synced { FLEET_INTERVAL } else { FLEET_RETRY }).await;
    }
}

/// Has the fleet tell itself an event that changes nothing, each time to another shard: so it is known how long an event
/// takes when nobody revokes anything. All gateways sing, and the store lets one of them be heard.
async fn keep_singing(store: Arc<dyn KeyStore>, clock: Arc<dyn Clock>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let turn = clock.now().wall.as_millis().unsigned_abs() / interval.as_millis().max(1) as u64;
        let shard = Shard::all().nth(turn as usize % SHARDS).expect("there are as many shards");
        if let Err(error) = store.canary(shard, interval).await {
            tracing::debug!(%error, "the canary was not heard");
        }
    }
}

async fn keep_forgetting(verifier: Arc<Verifier>) {
    loop {
        tokio::time::sleep(FORGET_INTERVAL).await;
        verifier.forget_old_deaths().await;
    }
}

async fn keep_forgetting_sessions(people: Arc<People>) {
    loop {
        tokio::time::sleep(FORGET_SESSIONS_INTERVAL).await;
        if let Err(error) = people.forget_expired().await {
            tracing::debug!(%error, "sessions that have ended were not forgotten");
        }
    }
}

async fn upkeep(verifier: Arc<Verifier>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) {
    let mut machine = machine_offset_ms(&*clock);
    loop {
        tokio::time::sleep(UPKEEP_INTERVAL).await;
        metrics.run_upkeep();
        verifier.report();
        let offset = machine_offset_ms(&*clock);
        if offset.abs_diff(machine) > STEP_MS {
            tracing::warn!(
                by_ms = offset - machine,
                "this machine's clock was set; this gateway goes by the time that has passed"
            );
            metrics.clock_stepped(SteppedClock::Machine);
        }
        machine = offset;
        metrics.clock_is_off(clock.machine_ahead_ms() as f64 / 1_000.0);
    }
}

/// The machine's time of day against the time that has elapsed: it changes when the clock is set, and not otherwise.
fn machine_offset_ms(clock: &dyn Clock) -> i64 {
    let now = clock.now();
    clock.machine_ahead_ms() + now.wall.as_millis() - now.tick.as_millis()
}

/// Completes when `signal` turns true, or nobody is left to turn it.
async fn ended(mut signal: watch::Receiver<bool>) {
    drop(signal.wait_for(|ended| *ended).await);
}
