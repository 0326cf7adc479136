//! Bodies on their way through: streamed, never gathered, with the deadlines that hyper does not have.

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::clock::Tick;
use crate::model::Denial;

use super::connection::{Busy, Patience};
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
    patience: Patience,
    limits: BodyLimits,
    /// Bytes that have come.
    received: u64,
    /// The request is not over before its body is, however early it was answered.
    busy: Busy,
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestBody")
    }
}

/// How far a request's body has come. For those who wait for the answer.
pub(super) struct Progress {
    last: Cell<Tick>,
    /// Since when it is the client's turn.
    waits_since: Cell<Option<Tick>>,
    /// How long it was the client's turn before.
    waited: Cell<Duration>,
    /// Nobody reads the body any more.
    over: Cell<bool>,
    failure: Cell<Option<Denial>>,
}

impl Progress {
    fn begin(now: Tick) -> Progress {
        Progress {
            last: Cell::new(now),
            waits_since: Cell::new(None),
            waited: Cell::new(Duration::ZERO),
            over: Cell::new(false),
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

    /// Whether the body was read to its end, or given up.
    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    fn wait(&self, now: impl FnOnce() -> Tick) {
        if self.waits_since.get().is_none() {
            self.waits_since.set(Some(now()));
        }
    }

    fn advance(&self, now: Tick) {
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
    pub(super) fn new(incoming: Incoming, limits: BodyLimits, busy: &Busy) -> RequestBody {
        let has_body = !incoming.is_end_stream();
        busy.uploads(has_body);
        let progress = has_body.then(|| Rc::new(Progress::begin(busy.now())));
        RequestBody {
            incoming,
            progress,
            patience: Patience::of(limits.idle),
            limits,
            received: 0,
            busy: busy.clone(),
        }
    }

    /// The request that is served.
    pub(super) fn busy(&self) -> &Busy {
        &self.busy
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
                let Self { progress, patience, busy, .. } = &mut *self;
                if let Some(progress) = progress {
                    progress.wait(|| busy.now());
                }
                if !patience.is_over(busy) {
                    return Poll::Pending;
                }
                return self.fail(Some(Denial::RequestTimeout), BodyError::Stalled);
            }
        };
        self.patience.renew();
        if let Some(progress) = &self.progress {
            progress.advance(self.busy.now());
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

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(progress) = &self.progress {
            progress.over.set(true);
            self.busy.uploads(false);
        }
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
    busy: Option<Busy>,
}

enum Content {
    /// The upstream's answer. Its connection, if it may be used again, goes back to the pool when the answer is through.
    Upstream { incoming: Incoming, lease: Option<Lease>, patience: Patience },
    /// An answer of our own.
    Own(Bytes),
}

impl ResponseBody {
    /// The upstream's answer: no pause longer than `idle`.
    pub(super) fn upstream(incoming: Incoming, lease: Lease, idle: Duration) -> ResponseBody {
        let mut content = Content::Upstream { incoming, lease: Some(lease), patience: Patience::of(idle) };
        content.release_if_through(false);
        ResponseBody { content, busy: None }
    }

    /// An answer of our own.
    pub(super) fn own(bytes: Bytes) -> ResponseBody {
        ResponseBody { content: Content::Own(bytes), busy: None }
    }

    /// Holds `busy` until the answer is through.
    pub(super) fn while_busy(self, busy: Busy) -> ResponseBody {
        ResponseBody { busy: Some(busy), ..self }
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
        let Self { content, busy } = &mut *self;
        let polled = match content {
            Content::Own(bytes) => {
                let bytes = std::mem::take(bytes);
                return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))));
            }
            Content::Upstream { incoming, lease, patience } => {
                let polled = match lease {
                    Some(lease) => lease.poll_piece(incoming, cx),
                    None => Pin::new(incoming).poll_frame(cx),
                };
                match polled {
                    Poll::Ready(polled) => {
                        patience.renew();
                        polled
                    }
                    Poll::Pending if busy.as_ref().is_some_and(|busy| patience.is_over(busy)) => {
                        return Poll::Ready(Some(Err(BodyError::Stalled)));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
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
