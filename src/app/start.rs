//! What can go wrong at the start, and the steps that can.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::clock::{Clock, SystemClock};
use crate::config::{Config, LogFormat, LogSettings};
use crate::observe::logging;
use crate::observe::metrics::TlsListener;
use crate::proxy::upstream::{Dialer, TlsError};
use crate::tls::{Pair, PairError};

use super::FAIL_FAST_WAIT;
use super::stores::{OpenError, OpenStore};

/// Wrong settings or wrong use (`EX_USAGE`).
const EXIT_USAGE: u8 = 64;
/// Something that is needed is not there (`EX_UNAVAILABLE`).
const EXIT_UNAVAILABLE: u8 = 69;

/// Why a gateway could not start. Each says what was wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log's filter is not one.
    #[error("log.filter: {0}; use for example `info` or `keygate=debug`")]
    LogFilter(#[source] tracing_subscriber::filter::ParseError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The store does not answer.
    #[error("store: {store} does not answer; start it, or set KEYGATE_STORE to one that runs")]
    StoreUnreachable {
        /// Which.
        store: String,
    },
    /// TLS to the upstreams cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A listener's certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] PairError),
    /// The operating system gave no thread, or no signal handler.
    #[error("the operating system refused what a runtime needs: {0}")]
    Runtime(#[source] io::Error),
    /// The operating system gave no randomness.
    #[error("the operating system gave no random bytes: {0}")]
    NoRandomness(#[source] getrandom::Error),
    /// The demo's keys, or its admin, could not be made.
    #[error("the demo's keys, or its admin, could not be made: {0}")]
    Demo(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A part of the gateway ended on its own.
    #[error("a part of the gateway ended on its own: {0}")]
    Ended(#[source] tokio::task::JoinError),
}

impl StartError {
    /// What the process says to whoever started it: 64 for settings, 69 for what is not there, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::LogFilter(_) | StartError::Tls(_) | StartError::Certificate(_) => EXIT_USAGE,
            StartError::Bind(_) | StartError::Store(_) | StartError::StoreUnreachable { .. } => {
                EXIT_UNAVAILABLE
            }
            StartError::Runtime(_)
            | StartError::NoRandomness(_)
            | StartError::Demo(_)
            | StartError::Ended(_) => 1,
        }
    }
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{field}: cannot listen on {address}: {source}; {advice}")]
pub struct BindError {
    field: &'static str,
    address: SocketAddr,
    advice: &'static str,
    #[source]
    source: io::Error,
}

/// The bound addresses of one gateway.
pub(super) struct Listeners {
    pub(super) gateway: TcpListener,
    pub(super) admin: Option<TcpListener>,
    pub(super) observe: Option<TcpListener>,
}

impl Listeners {
    /// Binds all addresses, or none.
    pub(super) async fn bind(config: &Config) -> Result<Listeners, BindError> {
        let admin = match config.admin_listen {
            Some(address) => Some(bind("admin_listen", address).await?),
            None => None,
        };
        let observe = match config.observe_listen {
            Some(address) => Some(bind("observe_listen", address).await?),
            None => None,
        };
        Ok(Listeners { gateway: bind("listen", config.listen).await?, admin, observe })
    }
}

impl BindError {
    pub(super) fn new(field: &'static str, address: SocketAddr, source: io::Error) -> BindError {
        let advice = match source.kind() {
            io::ErrorKind::AddrInUse => "something else listens there: stop it, or choose another port",
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher one"
            }
            io::ErrorKind::AddrNotAvailable => "this machine does not have that address",
            _ => "choose another address",
        };
        BindError { field, address, advice, source }
    }
}

async fn bind(field: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError::new(field, address, source))
}

/// Tells where a listener stands; with port 0 this is how the port is known.
pub(super) fn announce(name: &'static str, listener: &TcpListener, tls: bool) {
    match listener.local_addr() {
        Ok(address) => tracing::info!(listener = name, %address, tls, "listening"),
        Err(error) => tracing::warn!(listener = name, %error, "listening, at an unknown address"),
    }
}

pub(super) fn start_logging(settings: &LogSettings) -> Result<(), StartError> {
    let format = match settings.format {
        LogFormat::Text => logging::Format::Text,
        LogFormat::Json => logging::Format::Json,
    };
    logging::start(format, &settings.filter).map_err(StartError::LogFilter)
}

/// Completes at SIGTERM or SIGINT. The handlers are in place when this returns.
pub(super) fn shutdown_signal() -> Result<impl Future<Output = ()>, StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Runtime)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// What `check` found where nothing keeps `serve` from starting.
#[derive(Debug)]
pub enum Finding {
    /// All is well, in these words.
    Good(String),
    /// It would start, and clients would not be served.
    Doubtful(String),
}

/// Tries what `serve` needs, and leaves it as it was.
pub(super) async fn check(config: &Config) -> Vec<(String, Result<Finding, StartError>)> {
    let mut found = Vec::new();
    let mut say = |what: &str, result: Result<Finding, StartError>| found.push((what.to_owned(), result));
    let good = Finding::Good;
    let addresses = [
        ("listen", Some(config.listen)),
        ("admin_listen", config.admin_listen),
        ("observe_listen", config.observe_listen),
    ];
    for (field, address) in addresses {
        if let Some(address) = address {
            say(
                field,
                bind(field, address)
                    .await
                    .map(|_| good(format!("{address} is free")))
                    .map_err(StartError::Bind),
            );
        }
    }
    for (listener, section, files) in
        [(TlsListener::Gateway, "tls", &config.tls), (TlsListener::Admin, "admin_tls", &config.admin_tls)]
    {
        if let Some(files) = files {
            say(
                section,
                Pair::read(listener, files).map(|pair| judge_pair(&pair)).map_err(StartError::Certificate),
            );
        }
    }
    let roots = Dialer::new(config.upstream.ca_file.as_deref()).map_err(StartError::Tls);
    if roots.is_err() || config.upstream.ca_file.is_some() {
        say("upstream.ca_file", roots.map(|_| good("usable".to_owned())));
    }
    say("store", check_store(config).await.map(good));
    found
}

fn judge_pair(pair: &Pair) -> Finding {
    let end = pair.expires_at;
    if end <= SystemClock::start().now().wall {
        Finding::Doubtful(format!("the certificate, or one of its chain, has expired: it ended {end}"))
    } else {
        Finding::Good(format!("the certificate and its key fit; it ends {end}"))
    }
}

async fn check_store(config: &Config) -> Result<String, StartError> {
    let clock = Arc::new(SystemClock::start());
    let opened = OpenStore::open(config, &clock)?;
    let unreachable = || StartError::StoreUnreachable { store: config.store.to_string() };
    let answers = async {
        while opened.store().fleet().await.is_err() {
            tokio::time::sleep(super::FLEET_RETRY).await;
        }
    };
    tokio::time::timeout(FAIL_FAST_WAIT, answers).await.map_err(|_| unreachable())?;
    Ok(format!("{} answers", config.store))
}
