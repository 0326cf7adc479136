//! One client connection: hyper speaks HTTP/1.1 on it, a watch keeps the deadlines that hyper does not have, and the
//! stream says in our words what hyper would say in none.
//!
//! hyper has one time-out for a head, which counts from the end of the request before. Here a client may be idle
//! for long between two requests but must finish a head soon once it began one, and must read what is written
//! to it.

mod stream;
mod watch;

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::model::Denial;

use super::gateway::Gateway;
use super::headers::Client;
use stream::WatchedStream;
use watch::{Overdue, Watch};

pub(super) use watch::Busy;

/// What hyper may hold of a connection's bytes in memory, each way.
const BUFFER_BYTES: usize = 64 * 1024;

/// How often a draining connection is looked at.
const DRAIN_TICK: Duration = Duration::from_millis(100);

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// From connecting to the first byte, and from a head's first byte to its last.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// While it does not read what is written to it.
    pub write: Duration,
}

impl Deadlines {
    /// How often they are looked at: no deadline is missed by more than half of itself.
    fn tick(&self) -> Duration {
        (self.head.min(self.idle).min(self.write) / 2)
            .clamp(Duration::from_millis(20), Duration::from_secs(5))
    }
}

/// Whether a worker drains. Its connections ask at every turn, so it is the worker's own and shared with no other.
#[derive(Default)]
pub(super) struct Drain {
    began: Cell<bool>,
    waiting: Notify,
}

impl Drain {
    /// Each connection ends with its next answer, or soon.
    pub(super) fn begin(&self) {
        self.began.set(true);
        self.waiting.notify_waiters();
    }

    async fn begun(&self) {
        let told = self.waiting.notified();
        if !self.began.get() {
            told.await;
        }
    }
}

/// Serves one connection until it ends, is overdue, or has drained.
pub(super) async fn serve(
    stream: TcpStream,
    gateway: Rc<Gateway>,
    client: Client,
    deadlines: Deadlines,
    drain: Rc<Drain>,
) {
    let watch = Rc::new(Watch::new(Arc::clone(gateway.clock())));
    let stream = WatchedStream::new(stream, Rc::clone(&watch), Rc::clone(&gateway));
    let service = service_fn(|mut request| {
        let gateway = Rc::clone(&gateway);
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
    let mut connection =
        http1::Builder::new().max_buf_size(BUFFER_BYTES).serve_connection(TokioIo::new(stream), service);
    let mut begun = pin!(drain.begun());
    let mut tick = pin!(tokio::time::sleep(deadlines.tick()));
    let overdue = loop {
        tokio::select! {
            biased;
            served = &mut connection => {
                if let Err(error) = served {
                    tracing::debug!(%error, "a client connection ended early");
                }
                return;
            }
            () = &mut begun, if !watch.is_draining() => {
                watch.begin_drain();
                tick.set(tokio::time::sleep(DRAIN_TICK));
            }
            () = &mut tick => {
                tick.set(tokio::time::sleep(if watch.is_draining() { DRAIN_TICK } else { deadlines.tick() }));
                if let Some(overdue) = watch.overdue(&deadlines) {
                    break overdue;
                }
            }
        }
    };
    if overdue == Overdue::Head {
        let stream = connection.into_parts().io.into_inner().into_inner();
        say_request_timeout(stream, &gateway).await;
    }
}

/// A head that has both a length and a transfer coding comes without the length from hyper, which goes by the coding.
/// With the length back in its place, whoever checks the framing sees what was sent, and refuses it.
fn restore_length(request: &mut Request<Incoming>) {
    request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
}

/// Tells a client that its head took too long. It may not be listening, and then it is not told.
async fn say_request_timeout(mut stream: TcpStream, gateway: &Gateway) {
    let last_words = gateway.refuse_unread(Denial::RequestTimeout);
    let say = async {
        stream.write_all(&last_words).await?;
        stream.shutdown().await
    };
    if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(1), say).await {
        tracing::debug!(%error, "a slow client was gone before it was told");
    }
}
