//! Bodies on their way through: streamed, never gathered, with the deadlines that hyper does not have.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use crate::clock::{Clock, Tick};
use crate::model::Denial;

use super::connection::Busy;
use super::headers;
use super::upstream::Lease;

/// A body broke off on its way.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Nothing came for too long.
    #[error("the body stalled")]
    Stalled,
    /// It came too slowly for too long.
    #[error("the body came too slowly")]
    TooSlow,
    /// More came than is let through.
    #[error("the body is too large")]
    TooLarge,
    /// The connection failed.
    #[error("the body broke off: {0}")]
    Broken(#[source] hyper::Error),
}

/// A deadline for each piece of a body. Costs nothing while pieces come without waiting.
struct IdleTimer {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    armed: bool,
}

impl IdleTimer {
    fn new(limit: Duration) -> IdleTimer {
        IdleTimer { limit, sleep: None, armed: false }
    }

    fn progress(&mut self) {
        self.armed = false;
    }

    /// Ready when nothing has come for the limit.
    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                if !self.armed {
                    sleep.set(tokio::time::sleep(limit));
                }
                sleep
            }
            none => none.insert(Box::pin(tokio::time::sleep(limit))),
        };
        self.armed = true;
        sleep.as_mut().poll(cx)
    }
}

/// How large a request's body may be, and how slow.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Bytes; `None` is without limit.
    pub max_bytes: Option<u64>,
    /// Between two pieces.
    pub idle: Duration,
    /// On average, once it has been waited for longer than `idle` in all. Time in which the upstream does not take
    /// what came does not count.
    pub min_bytes_per_s: u64,
}

/// A client's body on its way to the upstream.
pub struct RequestBody {
    incoming: Incoming,
    progress: Option<Rc<Progress>>,
    timer: IdleTimer,
    limits: BodyLimits,
    /// Bytes that have come.
    received: u64,
    /// The request is not over before its body is, however early it was answered.
    _busy: Busy,
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestBody")
    }
}

/// How far a request's body has come. For those who wait for the answer.
pub(super) struct Progress {
    clock: Arc<dyn Clock>,
    last: Cell<Tick>,
    /// Since when it is the client's turn.
    waits_since: Cell<Option<Tick>>,
    /// How long it was the client's turn before.
    waited: Cell<Duration>,
    failure: Cell<Option<Denial>>,
}

impl Progress {
    fn begin(clock: Arc<dyn Clock>) -> Progress {
        Progress {
            last: Cell::new(clock.now().tick),
            waits_since: Cell::new(None),
            waited: Cell::new(Duration::ZERO),
            clock,
            failure: Cell::new(None),
        }
    }

    /// When the last piece went through.
    pub(super) fn last(&self) -> Tick {
        self.last.get()
    }

    /// Whether the next piece has to come from the client. Its body's own deadline holds meanwhile.
    pub(super) fn waits_for_client(&self) -> bool {
        self.waits_since.get().is_some()
    }

    fn wait(&self) {
        if self.waits_since.get().is_none() {
            self.waits_since.set(Some(self.clock.now().tick));
        }
    }

    fn advance(&self) {
        let now = self.clock.now().tick;
        self.last.set(now);
        if let Some(since) = self.waits_since.take() {
            self.waited.set(self.waited.get() + now.since(since));
        }
    }

    /// Why the body broke off, if the client is to be told.
    pub(super) fn failure(&self) -> Option<Denial> {
        self.failure.get()
    }
}

impl RequestBody {
    /// Lets `incoming` through, within `limits`.
    pub(super) fn new(
        incoming: Incoming,
        limits: BodyLimits,
        clock: &Arc<dyn Clock>,
        busy: &Busy,
    ) -> RequestBody {
        let progress = (!incoming.is_end_stream()).then(|| Rc::new(Progress::begin(Arc::clone(clock))));
        RequestBody {
            incoming,
            progress,
            timer: IdleTimer::new(limits.idle),
            limits,
            received: 0,
            _busy: busy.clone(),
        }
    }

    /// Follows the body after it was handed on; `None` if there is none.
    pub(super) fn progress(&self) -> Option<Rc<Progress>> {
        self.progress.clone()
    }

    fn is_too_slow(&self) -> bool {
        let waited = self.progress.as_ref().map_or(Duration::ZERO, |progress| progress.waited.get());
        waited > self.limits.idle
            && u128::from(self.received) * 1_000
                < u128::from(self.limits.min_bytes_per_s) * waited.as_millis()
    }

    fn fail(
        &self,
        denial: Option<Denial>,
        error: BodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(progress) = &self.progress {
            progress.failure.set(denial);
        }
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(polled) => polled,
            Poll::Pending => {
                if let Some(progress) = &self.progress {
                    progress.wait();
                }
                ready!(self.timer.poll_expired(cx));
                return self.fail(Some(Denial::RequestTimeout), BodyError::Stalled);
            }
        };
        self.timer.progress();
        if let Some(progress) = &self.progress {
            progress.advance();
        }
        match polled {
            None => Poll::Ready(None),
            Some(Err(broken)) => self.fail(Some(Denial::BadRequest), BodyError::Broken(broken)),
            Some(Ok(frame)) => {
                let frame = cleaned(frame);
                let size = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.received += size;
                if self.limits.max_bytes.is_some_and(|max| self.received > max) {
                    self.fail(Some(Denial::BodyTooLarge), BodyError::TooLarge)
                } else if self.is_too_slow() {
                    self.fail(Some(Denial::RequestTimeout), BodyError::TooSlow)
                } else {
                    Poll::Ready(Some(Ok(frame)))
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// Trailers bring in nothing that headers may not, in either direction.
fn cleaned(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        headers::strip_trailers(trailers);
    }
    frame
}

/// The body of an answer to a client.
pub struct ResponseBody {
    content: Content,
    /// Tells the connection's deadlines that a request is being served.
    _busy: Option<Busy>,
}

enum Content {
    /// The upstream's answer. Its connection, if it may be used again, goes back to the pool when the answer is through.
    Upstream { incoming: Incoming, lease: Option<Lease>, timer: IdleTimer },
    /// An answer of our own.
    Own(Bytes),
}

impl ResponseBody {
    /// The upstream's answer: no pause longer than `idle`.
    pub(super) fn upstream(incoming: Incoming, lease: Lease, idle: Duration) -> ResponseBody {
        let mut content = Content::Upstream { incoming, lease: Some(lease), timer: IdleTimer::new(idle) };
        content.release_if_through(false);
        ResponseBody { content, _busy: None }
    }

    /// An answer of our own.
    pub(super) fn own(bytes: Bytes) -> ResponseBody {
        ResponseBody { content: Content::Own(bytes), _busy: None }
    }

    /// Holds `busy` until the answer is through.
    pub(super) fn while_busy(self, busy: Busy) -> ResponseBody {
        ResponseBody { _busy: Some(busy), ..self }
    }
}

impl Content {
    /// Gives the connection back once the answer was read to its end: which a length tells with the last piece, and
    /// chunks only by `ended`.
    fn release_if_through(&mut self, ended: bool) {
        if let Content::Upstream { incoming, lease, .. } = self
            && (ended || incoming.is_end_stream())
            && let Some(lease) = lease.take()
        {
            lease.give_back();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match &mut self.content {
            Content::Own(bytes) => {
                let bytes = std::mem::take(bytes);
                return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))));
            }
            Content::Upstream { incoming, timer, .. } => match Pin::new(incoming).poll_frame(cx) {
                Poll::Ready(polled) => {
                    timer.progress();
                    polled
                }
                Poll::Pending => {
                    ready!(timer.poll_expired(cx));
                    return Poll::Ready(Some(Err(BodyError::Stalled)));
                }
            },
        };
        self.content.release_if_through(polled.is_none());
        Poll::Ready(polled.map(|frame| frame.map(cleaned).map_err(BodyError::Broken)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Upstream { incoming, .. } => incoming.is_end_stream(),
            Content::Own(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Upstream { incoming, .. } => incoming.size_hint(),
            Content::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}
