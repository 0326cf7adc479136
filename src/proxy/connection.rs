//! One client connection: hyper speaks HTTP/1.1 on it, and a watch keeps the deadlines that hyper does not have.
//!
//! hyper has one time-out for a head, which counts from the end of the request before. Here a client may be idle
//! for long between two requests but must finish a head soon once it began one, and must read what is written
//! to it.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::HeaderValue;
use http::header::CONNECTION;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Sleep;

use crate::clock::{Clock, Tick};
use crate::model::Denial;

use super::gateway::Gateway;
use super::headers::{Client, RequestId};
use super::respond;

/// What hyper may hold of a connection's bytes in memory, each way.
const BUFFER_BYTES: usize = 64 * 1024;

/// While draining, a connection without a request is kept so long: its client may be writing one just now, which
/// would be lost if the connection were closed under it. An answer given in that time ends the connection properly.
const DRAIN_LINGER: Duration = Duration::from_millis(500);
const DRAIN_TICK: Duration = Duration::from_millis(100);

/// How much is still read, and how long, after the last answer of a connection was written.
const LINGER_BYTES: usize = 256 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);

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

/// Serves one connection until it ends, is overdue, or has drained.
pub(super) async fn serve(
    stream: TcpStream,
    gateway: Rc<Gateway>,
    client: Client,
    deadlines: Deadlines,
    mut draining: watch::Receiver<bool>,
) {
    let clock = Arc::clone(gateway.clock());
    let watch = Rc::new(Watch::new(clock));
    let io = WatchedIo { inner: TokioIo::new(stream), watch: Rc::clone(&watch), linger: None };
    let service = service_fn(|request| {
        let gateway = Rc::clone(&gateway);
        let busy = watch.begin_service();
        async move {
            let mut response = gateway.handle(request, client).await;
            if busy.is_last() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response.map(|body| body.while_busy(busy)))
        }
    });
    let mut connection = http1::Builder::new().max_buf_size(BUFFER_BYTES).serve_connection(io, service);
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
            _ = draining.wait_for(|draining| *draining), if !watch.draining.get() => {
                watch.begin_drain();
                tick.set(tokio::time::sleep(DRAIN_TICK));
            }
            () = &mut tick => {
                tick.set(tokio::time::sleep(if watch.draining.get() { DRAIN_TICK } else { deadlines.tick() }));
                if let Some(overdue) = watch.overdue(&deadlines) {
                    break overdue;
                }
            }
        }
    };
    if overdue == Overdue::Head {
        let io = connection.into_parts().io;
        say_request_timeout(io.inner.into_inner(), gateway.fresh_request_id()).await;
    }
}

/// Tells a client that its head took too long. It may not be listening, and then it is not told.
async fn say_request_timeout(mut stream: TcpStream, request_id: RequestId) {
    let response = respond::refuse(Denial::RequestTimeout, request_id.as_str());
    let mut head = format!("HTTP/1.1 {}\r\nconnection: close\r\n", response.status());
    for (name, value) in response.headers() {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
    }
    let length = response.body().len();
    head.push_str(&format!("x-request-id: {}\r\ncontent-length: {length}\r\n\r\n", request_id.as_str()));
    let say = async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(response.body()).await?;
        stream.shutdown().await
    };
    if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(1), say).await {
        tracing::debug!(%error, "a slow client was gone before it was told");
    }
}

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing was read yet.
    Silent,
    /// A request's head has begun.
    Head,
    /// Between two requests.
    Idle,
    /// A request is being served: its own deadlines hold.
    Service,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overdue {
    /// A head that began is not complete.
    Head,
    /// Nothing was asked.
    Idle,
    /// An answer is not being read.
    Write,
}

/// What the deadlines are judged by.
struct Watch {
    clock: Arc<dyn Clock>,
    phase: Cell<Phase>,
    since: Cell<Tick>,
    write_blocked: Cell<Option<Tick>>,
    draining: Cell<bool>,
}

impl Watch {
    fn new(clock: Arc<dyn Clock>) -> Watch {
        let since = Cell::new(clock.now().tick);
        Watch {
            clock,
            phase: Cell::new(Phase::Silent),
            since,
            write_blocked: Cell::new(None),
            draining: Cell::new(false),
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.clock.now().tick);
    }

    /// Each answer is the last of its connection from now on.
    fn begin_drain(&self) {
        self.draining.set(true);
        if self.phase.get() == Phase::Idle {
            self.enter(Phase::Idle);
        }
    }

    fn begin_service(self: &Rc<Self>) -> Busy {
        self.phase.set(Phase::Service);
        Busy(Rc::clone(self))
    }

    fn read(&self) {
        if matches!(self.phase.get(), Phase::Silent | Phase::Idle) {
            self.enter(Phase::Head);
        }
    }

    fn wrote(&self, blocked: bool) {
        match (blocked, self.write_blocked.get()) {
            (false, Some(_)) => self.write_blocked.set(None),
            (true, None) => self.write_blocked.set(Some(self.clock.now().tick)),
            (false, None) | (true, Some(_)) => {}
        }
    }

    fn overdue(&self, deadlines: &Deadlines) -> Option<Overdue> {
        let now = self.clock.now().tick;
        if self.write_blocked.get().is_some_and(|since| now.since(since) > deadlines.write) {
            return Some(Overdue::Write);
        }
        let waited = now.since(self.since.get());
        match self.phase.get() {
            Phase::Head if waited > deadlines.head => Some(Overdue::Head),
            Phase::Idle if waited > deadlines.idle => Some(Overdue::Idle),
            Phase::Silent if waited > deadlines.head => Some(Overdue::Idle),
            Phase::Silent | Phase::Idle if self.draining.get() && waited > DRAIN_LINGER => {
                Some(Overdue::Idle)
            }
            Phase::Silent | Phase::Head | Phase::Idle | Phase::Service => None,
        }
    }
}

/// A request is being served while this exists.
pub(super) struct Busy(Rc<Watch>);

impl Busy {
    /// Whether the connection ends with this request.
    fn is_last(&self) -> bool {
        self.0.draining.get()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.enter(Phase::Idle);
    }
}

/// A connection that tells its watch what happens on it, and lingers when it ends.
struct WatchedIo {
    inner: TokioIo<TcpStream>,
    watch: Rc<Watch>,
    linger: Option<Linger>,
}

/// The end of a connection whose client may still be writing. If the socket were closed now, what the client wrote
/// would be answered by a reset, and the reset would take away the answer that it has not read yet.
struct Linger {
    deadline: Pin<Box<Sleep>>,
    budget: usize,
}

impl Linger {
    fn begin() -> Linger {
        Linger { deadline: Box::pin(tokio::time::sleep(LINGER_TIME)), budget: LINGER_BYTES }
    }

    /// Ready when the client is through, or was given long enough.
    fn poll(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 8 * 1024];
        while self.budget > 0 && self.deadline.as_mut().poll(cx).is_pending() {
            let mut read = ReadBuf::new(&mut scratch);
            match ready!(AsyncRead::poll_read(Pin::new(&mut *stream), cx, &mut read)) {
                Ok(()) if !read.filled().is_empty() => {
                    self.budget = self.budget.saturating_sub(read.filled().len());
                }
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl Read for WatchedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if polled.is_ready() {
            self.watch.read();
        }
        polled
    }
}

impl Write for WatchedIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.watch.wrote(polled.is_pending());
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { inner, linger, .. } = &mut *self;
        if linger.is_none() {
            ready!(Pin::new(&mut *inner).poll_shutdown(cx))?;
        }
        linger.get_or_insert_with(Linger::begin).poll(inner.inner_mut(), cx).map(Ok)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.watch.wrote(polled.is_pending());
        polled
    }
}
