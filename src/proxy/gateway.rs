//! The request path.
//!
//! `Gateway::handle` observes and renders; the inner function is the path itself, and each of its steps either
//! goes on or ends with a rejection. One gateway serves one worker.

use std::cell::RefCell;
use std::sync::Arc;

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, Version};
use hyper::body::{Body, Incoming};

use crate::clock::{Clock, Moment};
use crate::model::{Denial, KeyFormat, KeyId};
use crate::observe::{Metrics, Outcome, RequestScope};
use crate::usage::{Usage, Use};
use crate::verify::policy::Permit;
use crate::verify::{Near, Verifier, policy};

use super::body::{RequestBody, ResponseBody};
use super::connection::Busy;
use super::credential;
use super::framing;
use super::headers::{self, Client, RequestId, TraceId, X_REQUEST_ID};
use super::respond::{self, Rejection};
use super::survey::Survey;
use super::upstream::{Answered, Unsent, Upstreams};
use super::values::Values;

pub use super::body::BodyLimits;
pub use super::framing::HeadLimits;

/// Serves the requests of one worker.
pub struct Gateway {
    upstreams: Upstreams,
    near: Near,
    shared: Arc<Shared>,
    random: RefCell<fastrand::Rng>,
    values: RefCell<Values>,
}

/// What all workers share.
pub struct Shared {
    /// How keys are spelled.
    pub key_format: KeyFormat,
    /// Is this key good?
    pub verifier: Arc<Verifier>,
    /// When was it last used?
    pub usage: Arc<Usage>,
    /// What time is it?
    pub clock: Arc<dyn Clock>,
    /// What happened?
    pub metrics: Arc<Metrics>,
    /// How large may a request be?
    pub limits: Limits,
}

/// How large a request may be, and how slow its body.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Its head.
    pub head: HeadLimits,
    /// Its body.
    pub body: BodyLimits,
}

impl Gateway {
    /// A gateway in front of `upstreams`. Must be called on its worker's runtime.
    pub fn new(upstreams: Upstreams, shared: Arc<Shared>) -> Gateway {
        Gateway {
            upstreams,
            near: shared.verifier.near(),
            shared,
            random: RefCell::new(fastrand::Rng::new()),
            values: RefCell::default(),
        }
    }

    /// Answers one request, whatever becomes of it, and counts it once.
    pub(super) async fn handle(
        &self,
        request: Request<Incoming>,
        client: &Client,
        busy: &Busy,
    ) -> Response<ResponseBody> {
        let scope = RequestScope::begin(&self.shared.metrics, self.shared.clock.now());
        let survey = Survey::of(request.headers());
        let request_id = RequestId::sent(request.headers(), &survey).unwrap_or_else(|| self.fresh_id());
        let mut passage = Passage::begin(&request, client, scope.started(), request_id);
        let has_body = !request.body().is_end_stream();
        let body = |body| RequestBody::new(body, self.shared.limits.body, busy);
        let mut unsent = Unsent::new(request.map(body));

        let mut response = match self.forward_if_permitted(&mut unsent, &survey, &mut passage).await {
            Ok(Answered { response, at }) => {
                scope.end(Outcome::Forwarded, at);
                passage.log_answer(&response);
                response
            }
            Err(rejection) => {
                scope.end(Outcome::Denied(rejection.denial), self.shared.clock.now().tick);
                if let Some(dead) = rejection.dead_key() {
                    self.shared.usage.note(dead, Use::Refused, passage.began.wall);
                }
                passage.log_refusal(&rejection);
                passage.refuse(rejection.denial, has_body)
            }
        };
        passage.sign(&mut response);
        response
    }

    /// Forwards a request if its key permits it. Until then nobody asks the client for its body.
    async fn forward_if_permitted(
        &self,
        unsent: &mut Unsent,
        survey: &Survey,
        passage: &mut Passage<'_>,
    ) -> Result<Answered, Rejection> {
        let Shared { key_format, verifier, usage, limits, .. } = &*self.shared;

        framing::check(unsent.request(), survey, &limits.head, limits.body.max_bytes)?;
        let headers = unsent.request().headers_mut();
        headers::strip_reserved(headers, survey);
        headers::strip_hop_by_hop(headers, survey);

        let api_key = credential::take(headers, survey, key_format)?;
        let verified = verifier.verify(&api_key, &self.near, passage.began).await?;
        drop(api_key);

        let permit = policy::permit(verified, &self.upstreams.facts())?; // proof, made only here
        passage.key_id = Some(permit.key_id());
        usage.note(permit.key_id(), kind_of_use(&permit), passage.began.wall);

        headers::identify(
            unsent.request().headers_mut(),
            survey,
            &permit,
            passage.client,
            &passage.request_id,
            self.fresh_trace(),
            &mut self.values.borrow_mut(),
        );
        self.upstreams.send(unsent, &permit).await // needs the proof
    }

    /// What time it is for this worker's connections.
    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// Refuses, and counts, a request whose head could not be read: the whole answer, as it stands on the wire.
    pub(super) fn refuse_unread(&self, denial: Denial) -> Vec<u8> {
        let now = self.shared.clock.now();
        RequestScope::begin(&self.shared.metrics, now).end(Outcome::Denied(denial), now.tick);
        respond::refuse_raw(denial, self.fresh_id().as_str())
    }

    /// Closes connections to upstreams that have been idle for too long.
    pub(super) fn close_idle(&self) {
        self.upstreams.close_idle();
    }

    fn fresh_id(&self) -> RequestId {
        RequestId::fresh(self.random.borrow_mut().u128(..), &mut self.values.borrow_mut())
    }

    fn fresh_trace(&self) -> TraceId {
        let mut random = self.random.borrow_mut();
        TraceId { trace: random.u128(..), span: random.u64(..) }
    }
}

fn kind_of_use(permit: &Permit) -> Use {
    if permit.is_in_grace() { Use::InGrace } else { Use::Permitted }
}

/// One request on its way, and what the log will say of it.
struct Passage<'a> {
    client: &'a Client,
    request_id: RequestId,
    began: Moment,
    key_id: Option<KeyId>,
    http_10: bool,
}

impl<'a> Passage<'a> {
    fn begin(
        request: &Request<Incoming>,
        client: &'a Client,
        began: Moment,
        request_id: RequestId,
    ) -> Passage<'a> {
        Passage { client, request_id, began, key_id: None, http_10: request.version() == Version::HTTP_10 }
    }

    /// An answer of our own. If there is a body, nobody has read it to its end: the connection can't go on.
    fn refuse(&self, denial: Denial, has_body: bool) -> Response<ResponseBody> {
        let mut response = respond::refuse(denial, self.request_id.as_str()).map(ResponseBody::own);
        if has_body {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn sign(&self, response: &mut Response<ResponseBody>) {
        response.headers_mut().insert(X_REQUEST_ID, self.request_id.value());
        if self.http_10 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    fn log_answer(&self, response: &Response<ResponseBody>) {
        tracing::debug!(
            request_id = self.request_id.as_str(),
            key_id = self.key_id.map(tracing::field::display),
            status = response.status().as_u16(),
            "forwarded"
        );
    }

    fn log_refusal(&self, rejection: &Rejection) {
        let request_id = self.request_id.as_str();
        let key_id = self.key_id.or(rejection.key_id).map(tracing::field::display);
        let code = rejection.denial.code();
        match &rejection.cause {
            Some(cause) if rejection.denial.is_upstreams() => {
                tracing::warn!(request_id, key_id, code, %cause, "refused")
            }
            Some(cause) => tracing::debug!(request_id, key_id, code, %cause, "refused"),
            None => tracing::debug!(request_id, key_id, code, "refused"),
        }
    }
}
