//! One client connection: hyper speaks HTTP/1.1 on it, a watch keeps the deadlines that hyper does not have, and the
//! stream says in our words what hyper would say in none.
//!
//! hyper has one time-out for a head, which counts from the end of the request before. Here a client may be idle
//! for long between two requests but must finish a head soon once it began one, and must read what is written
//! to it.

mod rounds;
mod stream;
mod transport;
mod watch;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::model::Denial;
use crate::tls::Identity;

use super::gateway::Gateway;
use super::headers::Client;
use stream::WatchedStream;
use transport::Transport;
use watch::{Overdue, Watch};

pub(super) use rounds::{Patience, Rounds, Tidy};
pub(super) use watch::Busy;

/// What hyper may hold of a connection's bytes in memory, each way.
const BUFFER_BYTES: usize = 64 * 1024;

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// From connecting to the first byte, a handshake included, and from a head's first byte to its last.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// While it does not read what is written to it.
    pub write: Duration,
    /// The shortest wait within a request: for the upstream, or for a piece of a body.
    pub shortest_wait: Duration,
}

impl Deadlines {
    fn shortest(&self) -> Duration {
        self.head.min(self.idle).min(self.write).min(self.shortest_wait)
    }
}

/// Serves one connection until it ends, is overdue, or has drained.
///
/// While nothing comes it is no more than a socket and a place in the rounds: hyper's buffers are there only while there is
/// something to say.
pub(super) async fn serve(
    stream: TcpStream,
    identity: Option<Arc<Identity>>,
    gateway: Rc<Gateway>,
    client: Client,
    rounds: Rc<Rounds>,
) {
    let watch = Watch::new(Rc::clone(&rounds));
    let _place = rounds.enter(&watch);
    let transport = match identity {
        None => Transport::plain(stream, &watch),
        Some(identity) => match shake_hands(stream, &identity, &watch).await {
            Some(transport) => transport,
            None => return,
        },
    };
    let mut stream = WatchedStream::new(transport, Rc::clone(&watch), Rc::clone(&gateway));
    loop {
        if !something_comes(&mut stream, &watch).await {
            return stream.into_inner().leave();
        }
        let end = Box::pin(converse(stream, &gateway, &client, &watch)).await;
        rounds.something_is_free();
        match end {
            End::Rest(rested) => stream = rested,
            End::Closed => return,
            End::Left(stream) => return stream.into_inner().leave(),
            End::HeadOverdue(stream) => return say_request_timeout(stream.into_inner(), &gateway).await,
        }
    }
}

/// How a conversation ends.
enum End {
    /// Nothing was said for a while; it may go on.
    Rest(WatchedStream),
    Closed,
    /// Nothing more is expected of the client, and nothing is on its way to it.
    Left(WatchedStream),
    HeadOverdue(WatchedStream),
}

/// Begins TLS. `None` if the client cannot, or takes too long.
async fn shake_hands(stream: TcpStream, identity: &Identity, watch: &Rc<Watch>) -> Option<Transport> {
    let mut handshake = Transport::handshake(stream, identity.acceptor(), watch);
    let shaken = poll_fn(|cx| {
        watch.wakes(cx.waker());
        match handshake.as_mut().poll(cx) {
            Poll::Pending if watch.overdue().is_some() => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            polled => polled,
        }
    });
    shaken.await.map_err(|error| identity.handshake_failed(&error)).ok()
}

/// Waits until the client says something, or hangs up. `false` if it took too long.
async fn something_comes(stream: &mut WatchedStream, watch: &Watch) -> bool {
    let comes = poll_fn(|cx| {
        watch.wakes(cx.waker());
        if stream.poll_readable(cx).is_ready() {
            return Poll::Ready(true);
        }
        if watch.overdue().is_some() { Poll::Ready(false) } else { Poll::Pending }
    });
    let comes = comes.await;
    watch.end_rest();
    comes
}

/// Lets hyper speak HTTP on the connection.
async fn converse(stream: WatchedStream, gateway: &Rc<Gateway>, client: &Client, watch: &Rc<Watch>) -> End {
    let service = service_fn(|mut request| {
        let busy = watch.begin_service();
        if watch.had_two_lengths() {
            restore_length(&mut request);
        }
        async move {
            let mut response = gateway.handle(request, client, &busy).await;
            if busy.is_last() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response.map(|body| body.while_busy(busy)))
        }
    });
    // While a request is served the stream itself looks whether its client is still there: hyper would make room for more
    // of its words first, each time.
    let mut http = http1::Builder::new();
    http.max_buf_size(BUFFER_BYTES).half_close(true);
    let mut connection = http.serve_connection(TokioIo::new(stream), service);
    let overdue = poll_fn(|cx| {
        watch.wakes(cx.waker());
        if let Poll::Ready(served) = Pin::new(&mut connection).poll(cx) {
            if let Err(error) = served {
                tracing::debug!(%error, "a client connection ended early");
            }
            return Poll::Ready(Why::Over);
        }
        match watch.overdue() {
            Some(overdue) => Poll::Ready(Why::Overdue(overdue)),
            None if watch.should_rest() => Poll::Ready(Why::Rest),
            None => Poll::Pending,
        }
    });
    match overdue.await {
        Why::Over | Why::Overdue(Overdue::Write) => End::Closed,
        Why::Overdue(Overdue::Idle) => End::Left(connection.into_parts().io.into_inner()),
        Why::Overdue(Overdue::Head) => End::HeadOverdue(connection.into_parts().io.into_inner()),
        Why::Rest => {
            let parts = connection.into_parts();
            // Between two requests nothing has been read, so there is nothing that could be lost.
            if parts.read_buf.is_empty() { End::Rest(parts.io.into_inner()) } else { End::Closed }
        }
    }
}

/// Why hyper is not asked any more.
enum Why {
    Over,
    Overdue(Overdue),
    Rest,
}

/// A head that has both a length and a transfer coding comes without the length from hyper, which goes by the coding.
/// With the length back in its place, whoever checks the framing sees what was sent, and refuses it.
fn restore_length(request: &mut Request<Incoming>) {
    request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
}

/// Tells a client that its head took too long. It may not be listening, and then it is not told.
async fn say_request_timeout(mut stream: Transport, gateway: &Gateway) {
    let last_words = gateway.refuse_unread(Denial::RequestTimeout);
    let say = async {
        stream.write_all(&last_words).await?;
        stream.shutdown().await
    };
    if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(1), say).await {
        tracing::debug!(%error, "a slow client was gone before it was told");
    }
}
