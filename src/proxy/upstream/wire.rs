//! A connection to an upstream, driven by whoever has it.
//!
//! hyper's connection is a future that somebody must poll. In a task of its own each request would cost two more hops
//! between tasks. So the task of the client's connection polls it too, for as long as it has it on loan; and nobody
//! while it lies in the pool, where it only notes that something happened.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use crate::proxy::body::RequestBody;

use super::dial::Stream;

/// A connection to an upstream.
pub(super) struct Wire {
    sender: SendRequest<RequestBody>,
    /// Gone when it has ended.
    connection: Option<Connection<TokioIo<Stream>, RequestBody>>,
    relay: Arc<Relay>,
    /// The same, as hyper and the socket get it.
    waker: Waker,
}

impl Wire {
    pub(super) fn new(
        sender: SendRequest<RequestBody>,
        connection: Connection<TokioIo<Stream>, RequestBody>,
    ) -> Wire {
        let relay = Arc::new(Relay { state: AtomicU8::new(Relay::STIRRED), task: Mutex::new(None) });
        Wire { sender, connection: Some(connection), waker: Waker::from(Arc::clone(&relay)), relay }
    }

    /// Hands a request over. The answer comes while this is driven; its future needs no waking.
    pub(super) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + use<> {
        let answer = self.relay.quietly(|| self.sender.try_send_request(request));
        // A noop waker wakes nobody, so its turn must not depend on being woken for another one.
        tokio::task::unconstrained(answer)
    }

    /// The next piece of an answer's body.
    pub(super) fn poll_piece(&mut self, incoming: &mut Incoming, cx: &mut Context<'_>) -> PolledPiece {
        if let Poll::Ready(piece) = self.take_piece(incoming) {
            return Poll::Ready(piece);
        }
        self.drive(cx);
        self.take_piece(incoming)
    }

    /// A piece that is here already. It makes room for the next one, which comes when this is driven.
    fn take_piece(&mut self, incoming: &mut Incoming) -> PolledPiece {
        self.relay.quietly(|| Pin::new(incoming).poll_frame(&mut Context::from_waker(Waker::noop())))
    }

    /// Does what can be done: writes, reads, hands answers on. The task of `cx` is woken when there is more to do.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        self.relay.aim_at(cx.waker());
        self.poll_connection();
    }

    fn poll_connection(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        if let Poll::Ready(ended) = Pin::new(connection).poll(&mut Context::from_waker(&self.waker)) {
            if let Err(error) = ended {
                tracing::debug!(%error, "an upstream connection ended early");
            }
            // A request that it did not begin comes back by this.
            self.connection = None;
        }
    }

    /// From here on nobody drives it, until somebody does.
    pub(super) fn rest(&self) {
        self.relay.state.store(Relay::RESTING, Ordering::Relaxed);
    }

    /// Whether a request may be sent on it. If something happened while it rested, it is driven once to see what.
    pub(super) fn is_ready(&mut self) -> bool {
        if self.relay.state.load(Ordering::Relaxed) == Relay::STIRRED {
            self.rest();
            self.poll_connection();
        }
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Drives it in a task of its own to the end of what is under way. `false` if it ends by that, or if that takes longer
    /// than `limit`.
    pub(super) async fn finish(&mut self, limit: Duration) -> bool {
        let ready = poll_fn(|cx| {
            self.drive(cx);
            if self.connection.is_none() || self.sender.is_ready() { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::time::timeout(limit, ready).await.is_ok() && self.connection.is_some()
    }
}

/// What comes next of an answer's body.
pub(super) type PolledPiece = Poll<Option<Result<Frame<Bytes>, hyper::Error>>>;

/// A connection that is driven by a task of its own.
pub(super) struct Apart {
    wire: Rc<RefCell<Option<Box<Wire>>>>,
    task: AbortHandle,
}

impl Apart {
    /// Drives `wire` whenever something happens, and each `round` at least.
    pub(super) fn begin(wire: Box<Wire>, round: Duration) -> Apart {
        wire.rest();
        let wire = Rc::new(RefCell::new(Some(wire)));
        let driven = Rc::clone(&wire);
        let task = tokio::task::spawn_local(async move {
            let ended = || {
                poll_fn(|cx| {
                    let mut wire = driven.borrow_mut();
                    let Some(wire) = &mut *wire else { return Poll::Ready(()) };
                    wire.drive(cx);
                    if wire.connection.is_none() { Poll::Ready(()) } else { Poll::Pending }
                })
            };
            while tokio::time::timeout(round, ended()).await.is_err() {}
        });
        Apart { wire, task: task.abort_handle() }
    }

    /// Takes it back.
    pub(super) fn end(self) -> Box<Wire> {
        self.wire.take().expect("nobody else takes it out")
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.wire.take();
        self.task.abort();
    }
}

/// Wakes whoever has the connection.
///
/// All that happens to a connection happens on its worker's thread. So what is atomic here never meets another thread, and is
/// read and written without the price of it.
struct Relay {
    state: AtomicU8,
    task: Mutex<Option<Waker>>,
}

impl Relay {
    /// The task is woken.
    const AIMED: u8 = 0;
    /// The task is just running, and drives the connection next.
    const DRIVEN_NEXT: u8 = 1;
    /// Nobody is woken.
    const RESTING: u8 = 2;
    /// Nobody was woken, though something happened.
    const STIRRED: u8 = 3;

    /// What wakes the connection meanwhile need not wake its task, which drives it next.
    fn quietly<T>(&self, act: impl FnOnce() -> T) -> T {
        let state = self.state.load(Ordering::Relaxed);
        self.state.store(Relay::DRIVEN_NEXT, Ordering::Relaxed);
        let acted = act();
        self.state.store(state, Ordering::Relaxed);
        acted
    }

    fn aim_at(&self, waker: &Waker) {
        if self.state.load(Ordering::Relaxed) == Relay::AIMED {
            return;
        }
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !task.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *task = Some(waker.clone());
        }
        self.state.store(Relay::AIMED, Ordering::Relaxed);
    }
}

impl Wake for Relay {
    fn wake(self: Arc<Relay>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Relay>) {
        match self.state.load(Ordering::Relaxed) {
            Relay::AIMED => {
                if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
                    task.wake_by_ref();
                }
            }
            Relay::RESTING => self.state.store(Relay::STIRRED, Ordering::Relaxed),
            _ => {}
        }
    }
}
