//! Running a router on a listener: bounded, patient with the network, not with slow clients.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::session::Peer;
use crate::tls::Identity;

/// Connections at once. Operators, probes and Prometheus need a few.
const MAX_CONNECTIONS: usize = 256;
const MAX_HEADERS: usize = 64;
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// How long to leave a listener alone that cannot accept, for want of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For a TLS handshake, for the head of a request, and between two requests.
    pub(super) head: Duration,
    /// For a whole connection: nobody holds one of the few places by reading slowly.
    pub(super) connection: Duration,
    /// For the request in flight when the connection has to end.
    pub(super) farewell: Duration,
}

const PATIENCE: Patience = Patience {
    head: Duration::from_secs(10),
    connection: Duration::from_secs(600),
    farewell: Duration::from_secs(10),
};

/// Serves until `shutdown`, then lets requests in flight finish, for at most 10 s. Without an `identity` it speaks plain HTTP.
pub async fn serve(
    listener: TcpListener,
    identity: Option<Arc<Identity>>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    serve_with(listener, identity, router, shutdown, PATIENCE).await;
}

pub(super) async fn serve_with(
    listener: TcpListener,
    identity: Option<Arc<Identity>>,
    router: Router,
    shutdown: impl Future<Output = ()>,
    patience: Patience,
) {
    let (end, ending) = watch::channel(false);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (place, accepted) = accepted => match accepted {
                Ok((stream, peer)) => {
                    let router = router.clone().layer(Extension(Peer(peer.ip())));
                    let connection = converse(stream, identity.clone(), router, ending.clone(), patience);
                    connections.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin listener cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    end.send_replace(true);
    while connections.join_next().await.is_some() {}
}

/// One connection, until it ends by itself, its time is over, or the server ends.
async fn converse(
    stream: TcpStream,
    identity: Option<Arc<Identity>>,
    router: Router,
    mut ending: watch::Receiver<bool>,
    patience: Patience,
) {
    // Without it small answers wait for an acknowledgement; with it failing they are only slower.
    let _ = stream.set_nodelay(true);
    let Some(identity) = identity else { return speak(stream, router, ending, patience).await };
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(patience.head, identity.acceptor().accept(stream)) => shaken,
        _ = ending.wait_for(|&ending| ending) => return,
    };
    match shaken {
        Ok(Ok(stream)) => speak(stream, router, ending, patience).await,
        Ok(Err(error)) => identity.handshake_failed(&error),
        Err(_elapsed) => identity.handshake_failed(&std::io::ErrorKind::TimedOut.into()),
    }
}

/// HTTP on it.
async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    mut ending: watch::Receiver<bool>,
    patience: Patience,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let over = async {
        // Whether it was told to end or took too long: it is over.
        let _ = tokio::time::timeout(patience.connection, ending.wait_for(|&ending| ending)).await.is_ok();
    };
    let result = tokio::select! {
        result = &mut connection => Ok(result),
        () = over => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(patience.farewell, &mut connection).await
        }
    };
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the admin listener failed"),
        Err(_) => tracing::debug!("a connection to the admin listener was cut"),
    }
}
