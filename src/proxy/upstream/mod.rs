//! The API behind the gateway: one upstream for Live, one for Sandbox, each for permits of its own kind only.
//!
//! A request is handed to an upstream at most once. It is tried again only if the connection it was meant for
//! gave it back untouched; whatever else fails after that says `sent`.

mod dial;
mod pool;
mod wire;

use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, TRANSFER_ENCODING};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};

use crate::clock::{Clock, Tick};
use crate::config::{UpstreamSettings, UpstreamUrl};
use crate::model::Denial;
use crate::observe::Metrics;
use crate::verify::Verifier;
use crate::verify::policy::{Facts, Live, Permit, PermitFor, Sandbox};

pub use dial::{Dialer, TlsError};
pub use pool::Lease;

use super::body::{Progress, RequestBody, ResponseBody};
use super::connection::{Busy, Patience};
use super::headers;
use super::respond::Rejection;
use super::survey::Survey;
use pool::{NotSent, Pool, SendError};

/// How often a request that its connection gave back untouched is tried on another one.
const RETRIES: usize = 2;

/// The upstreams of one worker.
pub struct Upstreams {
    live: Option<Upstream<Live>>,
    sandbox: Option<Upstream<Sandbox>>,
}

/// One upstream, for permits of one environment.
pub struct Upstream<E> {
    origin: Origin,
    pool: Rc<Pool>,
    environment: PhantomData<E>,
}

/// What all upstreams of a worker share.
#[derive(Clone)]
pub struct Context {
    /// Numbers and deadlines.
    pub settings: Arc<UpstreamSettings>,
    /// Between two pieces of an answer's body.
    pub body_idle: Duration,
    /// Judges a permit again after a wait.
    pub verifier: Arc<Verifier>,
    /// Makes connections.
    pub dialer: Arc<Dialer>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Durations.
    pub metrics: Arc<Metrics>,
}

/// The head of an answer, and when it came.
pub struct Answered {
    /// The answer.
    pub response: Response<ResponseBody>,
    /// When its head was there.
    pub at: Tick,
}

/// A request until it is handed to a connection, which happens once; or until that gives it back untouched.
pub struct Unsent(Option<Request<RequestBody>>);

impl Unsent {
    /// This request was not sent yet.
    pub(super) fn new(request: Request<RequestBody>) -> Unsent {
        Unsent(Some(request))
    }

    /// The request, for all that is to be done with it before.
    ///
    /// # Panics
    /// It was sent.
    pub(super) fn request(&mut self) -> &mut Request<RequestBody> {
        self.0.as_mut().expect("it is asked for before it is sent")
    }

    fn take(&mut self) -> Request<RequestBody> {
        self.0.take().expect("what was sent is not sent again")
    }

    fn put_back(&mut self, untouched: Request<RequestBody>) {
        self.0 = Some(untouched);
    }
}

struct Origin {
    host: HeaderValue,
    context: Context,
}

impl Upstreams {
    /// The upstreams of these origins, without a connection yet.
    pub fn new(live: Option<&UpstreamUrl>, sandbox: Option<&UpstreamUrl>, context: &Context) -> Upstreams {
        Upstreams {
            live: live.map(|url| Upstream::new(url, context)),
            sandbox: sandbox.map(|url| Upstream::new(url, context)),
        }
    }

    /// What policy needs to know of them.
    pub fn facts(&self) -> Facts {
        Facts { serves_live: self.live.is_some(), serves_sandbox: self.sandbox.is_some() }
    }

    /// Sends a request where its permit says, and nowhere else.
    ///
    /// # Errors
    /// [`Denial::UpstreamUnavailable`] and [`Denial::Overloaded`] if it certainly was not sent;
    /// [`Denial::UpstreamError`] and [`Denial::UpstreamTimeout`] if it may have been carried out; the client's own
    /// [`Denial::RequestTimeout`] and [`Denial::BodyTooLarge`]; and those of
    /// [`Verifier::confirm`](crate::verify::Verifier::confirm), if the request had to wait.
    pub async fn send(&self, unsent: &mut Unsent, permit: &Permit) -> Result<Answered, Rejection> {
        match permit {
            Permit::Live(permit) => sender(&self.live)?.send(unsent, permit).await,
            Permit::Sandbox(permit) => sender(&self.sandbox)?.send(unsent, permit).await,
        }
    }

    /// Closes connections that have been without a request for too long; to be called about each second.
    pub fn close_idle(&self) {
        if let Some(live) = &self.live {
            live.pool.close_idle();
        }
        if let Some(sandbox) = &self.sandbox {
            sandbox.pool.close_idle();
        }
    }
}

fn sender<E>(upstream: &Option<Upstream<E>>) -> Result<&Upstream<E>, Denial> {
    upstream.as_ref().ok_or(Denial::EnvironmentMismatch)
}

impl<E> Upstream<E> {
    fn new(url: &UpstreamUrl, context: &Context) -> Upstream<E> {
        let host =
            HeaderValue::try_from(url.authority()).expect("an upstream's host was checked with the settings");
        let origin = Origin { host, context: context.clone() };
        let pool = Pool::new(url.clone(), context.clone());
        Upstream { origin, pool, environment: PhantomData }
    }

    async fn send(&self, unsent: &mut Unsent, permit: &PermitFor<E>) -> Result<Answered, Rejection> {
        let context = &self.origin.context;
        self.origin.address(unsent.request());
        let body = unsent.request().body();
        let (progress, busy) = (body.progress(), body.busy().clone());
        let (mut began, mut retries) = (permit.at().tick, 0);
        loop {
            let mut lease = self.pool.lease(began).await.map_err(NotSent::into_rejection)?;
            if lease.waited() || retries > 0 {
                Box::pin(context.verifier.confirm(permit)).await?;
                began = busy.now();
            }
            match self.answer(&mut lease, unsent, progress.as_deref(), &busy).await {
                Ok(mut response) => {
                    // After an answer of HTTP/1.0 hyper would speak 1.0 on this connection, and leave out bodies of
                    // unknown length.
                    lease.may_be_used_again(response.version() != Version::HTTP_10);
                    if progress.as_deref().is_some_and(|body| !body.is_over()) {
                        lease = lease.drive_apart(busy.round());
                    }
                    *response.version_mut() = Version::HTTP_11;
                    let at = busy.now();
                    context.metrics.upstream_answered(at.since(began));
                    let body = |body| ResponseBody::upstream(body, lease, context.body_idle);
                    return Ok(Answered { response: response.map(body), at });
                }
                Err(SendError::Untouched(untouched)) if retries < RETRIES => {
                    unsent.put_back(*untouched);
                    retries += 1;
                }
                Err(failure) => return Err(failure.into_rejection(progress.as_deref())),
            }
        }
    }

    /// Waits for the head of the answer: so long after the request's last piece went through, and no longer.
    async fn answer(
        &self,
        lease: &mut Lease,
        unsent: &mut Unsent,
        progress: Option<&Progress>,
        busy: &Busy,
    ) -> Result<Response<Incoming>, SendError> {
        let limit = self.origin.context.settings.response_timeout;
        let mut patience = Patience::of(limit);
        let is_over = || {
            if !patience.is_over(busy) {
                return false;
            }
            let left = match progress {
                Some(body) if body.waits_for_client() => limit,
                Some(body) => limit.saturating_sub(busy.now().since(body.last())),
                None => Duration::ZERO,
            };
            patience = Patience::of(left);
            left.is_zero() || patience.is_over(busy)
        };
        let mut response = lease.send(unsent.take(), is_over).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(SendError::Unasked);
        }
        let survey = Survey::of(response.headers());
        headers::strip_hop_by_hop(response.headers_mut(), &survey);
        Ok(response)
    }
}

impl Origin {
    /// Turns a client's request into one to this origin: HTTP/1.1, its Host. The rest stays.
    fn address(&self, request: &mut Request<RequestBody>) {
        *request.version_mut() = Version::HTTP_11;
        request.headers_mut().insert(HOST, self.host.clone());
        let body = request.body();
        if !body.is_end_stream() && body.size_hint().exact().is_none() {
            // hyper would leave out a body of unknown length where a method usually has none.
            request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}
