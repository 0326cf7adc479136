//! Connections to one upstream, of one worker: used again, bounded, and never while a request is unfinished on them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Tick;
use crate::config::UpstreamUrl;
use crate::model::Denial;
use crate::proxy::body::{Progress, RequestBody};
use crate::proxy::respond::Rejection;

use super::Context;
use super::dial::DialError;
use super::wire::{Apart, PolledPiece, Wire};

/// The connections to one upstream.
pub(super) struct Pool {
    url: UpstreamUrl,
    context: Context,
    /// One permit for each connection that may be in use.
    room: Arc<Semaphore>,
    /// Oldest first; the youngest is used first, so that the others can go.
    idle: RefCell<VecDeque<Idle>>,
}

struct Idle {
    wire: Box<Wire>,
    since: Tick,
}

/// A connection lent to one request.
pub struct Lease {
    wire: Driven,
    pool: Rc<Pool>,
    waited: bool,
    reusable: bool,
    room: OwnedSemaphorePermit,
}

/// A connection, and who drives it.
enum Driven {
    /// The task of the client's connection.
    Here(Box<Wire>),
    /// A task of its own, until it is taken from there.
    Apart(Apart),
}

/// No connection was to be had. The request was certainly not sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotSent {
    #[error("no connection to {url} became free in time")]
    NoRoom { url: UpstreamUrl },
    #[error("cannot connect to {url}: {source}")]
    Dial { url: UpstreamUrl, source: DialError },
}

impl NotSent {
    pub(super) fn into_rejection(self) -> Rejection {
        match self {
            NotSent::NoRoom { .. } => Rejection::because(Denial::Overloaded, self),
            NotSent::Dial { .. } => Rejection::because(Denial::UpstreamUnavailable, self),
        }
    }
}

/// The request got no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// Not a byte of it was written, and here it is.
    #[error("the connection was closed before the request began")]
    Untouched(Box<Request<RequestBody>>),
    /// It was on its way.
    #[error("the connection failed: {0}")]
    Failed(#[source] hyper::Error),
    #[error("no answer in time")]
    TimedOut,
    #[error("the upstream switched protocols without being asked")]
    Unasked,
}

impl SendError {
    pub(super) fn into_rejection(self, progress: Option<&Progress>) -> Rejection {
        let denial = match &self {
            SendError::Untouched(_) => Denial::UpstreamUnavailable,
            SendError::Failed(_) => progress.and_then(Progress::failure).unwrap_or(Denial::UpstreamError),
            SendError::TimedOut => Denial::UpstreamTimeout,
            SendError::Unasked => Denial::UpstreamError,
        };
        match self {
            SendError::Untouched(_) => denial.into(),
            SendError::Failed(_) | SendError::TimedOut | SendError::Unasked => {
                Rejection::because(denial, self.to_string())
            }
        }
    }
}

impl Pool {
    pub(super) fn new(url: UpstreamUrl, context: Context) -> Rc<Pool> {
        let room = Arc::new(Semaphore::new(context.settings.max_connections));
        Rc::new(Pool { url, context, room, idle: RefCell::default() })
    }

    /// A connection that is ready: an idle one, else a new one, when there is room.
    pub(super) async fn lease(self: &Rc<Self>, now: Tick) -> Result<Lease, NotSent> {
        let (room, queued) = self.room().await?;
        let now = if queued { self.context.clock.now().tick } else { now };
        let (wire, dialed) = match self.reuse(now) {
            Some(wire) => (wire, false),
            None => (Box::pin(self.dial()).await?, true),
        };
        let wire = Driven::Here(wire);
        Ok(Lease { wire, pool: Rc::clone(self), waited: queued || dialed, reusable: true, room })
    }

    /// Room for one more connection in use, and whether it had to be waited for.
    async fn room(&self) -> Result<(OwnedSemaphorePermit, bool), NotSent> {
        if let Ok(room) = Arc::clone(&self.room).try_acquire_owned() {
            return Ok((room, false));
        }
        let waiting = Arc::clone(&self.room).acquire_owned();
        match Box::pin(tokio::time::timeout(self.context.settings.pool_wait, waiting)).await {
            Ok(Ok(room)) => Ok((room, true)),
            Ok(Err(_)) | Err(_) => Err(NotSent::NoRoom { url: self.url.clone() }),
        }
    }

    /// The youngest idle connection. One that has been idle for too long may be closed by the upstream just now.
    fn reuse(&self, now: Tick) -> Option<Box<Wire>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut candidate) = idle.pop_back() {
            if now.since(candidate.since) >= self.context.settings.idle_timeout {
                // All others are older.
                idle.clear();
                return None;
            }
            if candidate.wire.is_ready() {
                return Some(candidate.wire);
            }
        }
        None
    }

    fn keep(&self, wire: Box<Wire>) {
        let since = self.context.clock.now().tick;
        self.idle.borrow_mut().push_back(Idle { wire, since });
    }

    async fn dial(&self) -> Result<Box<Wire>, NotSent> {
        let settings = &self.context.settings;
        let dialed = self.context.dialer.dial(&self.url, settings.connect_timeout).await;
        dialed.map(Box::new).map_err(|source| NotSent::Dial { url: self.url.clone(), source })
    }

    /// Closes connections that have been idle for too long.
    pub(super) fn close_idle(&self) {
        let now = self.context.clock.now().tick;
        let limit = self.context.settings.idle_timeout;
        self.idle.borrow_mut().retain_mut(|idle| idle.wire.is_ready() && now.since(idle.since) < limit);
    }
}

impl Lease {
    /// Whether time passed before the connection was there.
    pub(super) fn waited(&self) -> bool {
        self.waited
    }

    /// Writes a request and waits for the head of its answer, as long as `is_over` says no. Dropping the future closes the
    /// connection.
    ///
    /// # Panics
    /// If the connection is driven apart, which it is only after an answer.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
        mut is_over: impl FnMut() -> bool,
    ) -> Result<Response<Incoming>, SendError> {
        let Driven::Here(wire) = &mut self.wire else { unreachable!("nothing was sent yet") };
        let mut answer = pin!(wire.send(request));
        poll_fn(|cx| {
            wire.drive(cx);
            match answer.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) {
                Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
                Poll::Ready(Err(mut failed)) => Poll::Ready(Err(match failed.take_message() {
                    Some(request) => SendError::Untouched(Box::new(request)),
                    None => SendError::Failed(failed.into_error()),
                })),
                Poll::Pending if is_over() => Poll::Ready(Err(SendError::TimedOut)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// The next piece of the answer's body.
    pub(crate) fn poll_piece(&mut self, incoming: &mut Incoming, cx: &mut TaskContext<'_>) -> PolledPiece {
        match &mut self.wire {
            Driven::Here(wire) => wire.poll_piece(incoming, cx),
            Driven::Apart(_) => Pin::new(incoming).poll_frame(cx),
        }
    }

    /// Whether the connection may go back to the pool.
    pub(super) fn may_be_used_again(&mut self, may: bool) {
        self.reusable = may;
    }

    /// From now on the connection is driven by a task of its own, looked at each `round` at least: the request's own body
    /// is unfinished, and goes on whether or not the client reads its answer.
    pub(super) fn drive_apart(self, round: Duration) -> Lease {
        let wire = match self.wire {
            Driven::Here(wire) => Driven::Apart(Apart::begin(wire, round)),
            apart @ Driven::Apart(_) => apart,
        };
        Lease { wire, ..self }
    }

    /// Gives the connection back after an answer was read to its end. While the request's own body is unfinished hyper
    /// is not ready: the connection keeps its room, and is used again only if it gets ready within the limit for idle
    /// ones.
    pub(crate) fn give_back(self) {
        let Lease { wire, pool, room, reusable, .. } = self;
        let mut wire = match wire {
            Driven::Here(wire) => wire,
            Driven::Apart(apart) => apart.end(),
        };
        wire.rest();
        if !reusable {
            return;
        }
        if wire.is_ready() {
            pool.keep(wire);
            return;
        }
        tokio::task::spawn_local(async move {
            if wire.finish(pool.context.settings.idle_timeout).await {
                wire.rest();
                pool.keep(wire);
            }
            drop(room);
        });
    }
}
