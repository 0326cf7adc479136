//! A payments API small enough to read: what the demo and the tests put behind the gateway.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::answer::{Answer, Answers, Refusal, fingerprint};
use super::ledger::{Bounds, Ledger};
use super::order::Order;
use crate::clock::Clock;
use crate::model::{Environment, Timestamp};

const MAX_BODY_BYTES: usize = 1024 * 1024;
const MAX_CONNECTIONS: usize = 10_000;
const MAX_IDEMPOTENCY_KEY_CHARS: usize = 255;
const DEFAULT_PAGE: usize = 20;
const MAX_PAGE: usize = 100;
/// Also how long a connection may rest between two requests; longer than a gateway keeps one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// After an `accept` that failed, for example for want of file descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// The sample API of one environment, its state in memory.
///
/// It does what an API behind the gateway does: it believes the gateway's `X-Keygate-*` headers, and refuses every
/// request that does not carry them or that is meant for the other environment. Each team has wallets of its own;
/// `wlt_1` and `wlt_2` are there from the start, with money in them.
pub struct SampleUpstream {
    environment: Environment,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    ledger: Ledger,
    answers: Answers,
}

impl SampleUpstream {
    /// An API that serves `environment` alone and shares nothing with any other.
    pub fn new(environment: Environment, clock: Arc<dyn Clock>) -> SampleUpstream {
        let state = State { ledger: Ledger::new(Bounds::default()), answers: Answers::default() };
        SampleUpstream { environment, clock, state: Mutex::new(state) }
    }

    /// Serves until `shutdown` is done, then lets requests in flight end, for 5 s at most.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let api = Arc::new(self);
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let (stop, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let accept_all = async {
            loop {
                let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                };
                let connection = serve_connection(Arc::clone(&api), stream, stopped.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
                while connections.try_join_next().is_some() {}
            }
        };
        tokio::select! {
            () = accept_all => {}
            () = shutdown => {}
        }
        drop(listener);
        stop.send_replace(true);
        // What is not done by then ends as the set is dropped.
        let _ =
            tokio::time::timeout(DRAIN_TIMEOUT, async { while connections.join_next().await.is_some() {} })
                .await;
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let request_id = request.headers().get("x-request-id").cloned();
        let answer = self.answer(request).await.unwrap_or_else(|refusal| refusal.into_answer());
        let mut response = Response::new(Full::new(answer.body));
        *response.status_mut() = answer.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(method) = answer.allow {
            headers.insert(ALLOW, HeaderValue::from_static(method));
        }
        if let Some(request_id) = request_id {
            headers.insert("x-request-id", request_id);
        }
        response
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Answer, Refusal> {
        let (head, body) = request.into_parts();
        let team = self.identify(&head.headers)?;
        let route = Route::of(head.uri.path()).ok_or_else(Refusal::no_such_route)?;
        route.check_method(&head.method)?;
        match route {
            Route::Wallet(id) => self.wallet(team, id),
            Route::Transactions(id) => self.transactions(team, id, &head.uri),
            Route::Order(parse) => {
                let idempotency_key = idempotency_key(&head.headers)?;
                let body = read_body(body).await?;
                let order = parse(&body)?;
                self.carry_out(team, &order, idempotency_key, &fingerprint(head.uri.path(), &body))
            }
        }
    }

    /// The team for which the gateway sent this request; only a gateway that says all three is believed.
    fn identify<'h>(&self, headers: &'h HeaderMap) -> Result<&'h str, Refusal> {
        let header = |name: &'static str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .ok_or_else(|| Refusal::not_from_the_gateway(format!("{name} is missing")))
        };
        let environment = header("x-keygate-environment")?;
        if environment != self.environment.as_str() {
            return Err(Refusal::not_from_the_gateway(format!(
                "this API serves {}, the request is for another environment",
                self.environment
            )));
        }
        header("x-keygate-key-id")?;
        header("x-keygate-team")
    }

    fn wallet(&self, team: &str, id: &str) -> Result<Answer, Refusal> {
        let state = self.state_for(team)?;
        Ok(Answer::data(StatusCode::OK, state.ledger.wallet(team, id)?))
    }

    fn transactions(&self, team: &str, id: &str, uri: &Uri) -> Result<Answer, Refusal> {
        let (cursor, limit) = page_query(uri)?;
        let state = self.state_for(team)?;
        let page = state.ledger.transactions(team, id, cursor.as_deref(), limit)?;
        Ok(Answer::json(
            StatusCode::OK,
            &json!({ "data": page.transactions, "next_cursor": page.next_cursor }),
        ))
    }

    /// Does what a POST asks for, or repeats the answer that its idempotency key was given before. One lock for
    /// both, so that two requests with one key cannot both move money.
    fn carry_out(
        &self,
        team: &str,
        order: &Order,
        idempotency_key: Option<&str>,
        fingerprint: &[u8; 32],
    ) -> Result<Answer, Refusal> {
        let mut state = self.state_for(team)?;
        if let Some(key) = idempotency_key
            && let Some(answer) = state.answers.given(team, key, fingerprint)?
        {
            return Ok(answer);
        }
        let answer = match order.carry_out(&mut state.ledger, team, self.now()) {
            Ok(answer) => answer,
            Err(error) => Refusal::from(error).into_answer(),
        };
        if let Some(key) = idempotency_key
            && !answer.status.is_server_error()
        {
            state.answers.remember(team, key, fingerprint, answer.clone());
        }
        Ok(answer)
    }

    /// The state, with the team's first wallets in it.
    fn state_for(&self, team: &str) -> Result<MutexGuard<'_, State>, Refusal> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ledger.welcome(team, self.now())?;
        Ok(state)
    }

    fn now(&self) -> Timestamp {
        self.clock.now().wall
    }
}

async fn serve_connection(api: Arc<SampleUpstream>, stream: TcpStream, mut stopped: watch::Receiver<bool>) {
    // Only costs latency where it fails.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let api = Arc::clone(&api);
        async move { Ok::<_, Infallible>(api.respond(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // A connection that breaks is its client's affair.
        _ = connection.as_mut() => return,
        _ = stopped.wait_for(|stopped| *stopped) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// What the API offers.
enum Route<'a> {
    Wallet(&'a str),
    Transactions(&'a str),
    /// Every POST, by how its body is read.
    Order(fn(&[u8]) -> Result<Order, Refusal>),
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Route<'a>> {
        let segments: Vec<&str> = path.strip_prefix("/v1/")?.split('/').collect();
        match segments[..] {
            ["wallets"] => Some(Route::Order(Order::create_wallet)),
            ["wallets", id] => Some(Route::Wallet(id)),
            ["wallets", id, "transactions"] => Some(Route::Transactions(id)),
            ["transfers", "p2p"] => Some(Route::Order(Order::transfer_p2p)),
            ["transfers", "bank"] => Some(Route::Order(Order::transfer_bank)),
            ["payments", "qr", "create"] => Some(Route::Order(Order::create_qr_code)),
            ["payments", "qr", "pay"] => Some(Route::Order(Order::pay_qr_code)),
            _ => None,
        }
    }

    fn check_method(&self, method: &Method) -> Result<(), Refusal> {
        let (fits, allowed) = match self {
            Route::Wallet(_) | Route::Transactions(_) => {
                (method == Method::GET || method == Method::HEAD, "GET, HEAD")
            }
            Route::Order(_) => (method == Method::POST, "POST"),
        };
        if fits { Ok(()) } else { Err(Refusal::method_not_allowed(allowed)) }
    }
}

async fn read_body(body: Incoming) -> Result<Bytes, Refusal> {
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await {
        Err(_) => Err(Refusal::body_too_slow()),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::body_too_large(MAX_BODY_BYTES)),
        Ok(Err(_)) => Err(Refusal::invalid("the body ended early")),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if (1..=MAX_IDEMPOTENCY_KEY_CHARS).contains(&key.len()) => Ok(Some(key)),
        _ => Err(Refusal::invalid("Idempotency-Key: 1 to 255 visible characters are needed")),
    }
}

/// `cursor`, and `limit` from 1 to 100.
fn page_query(uri: &Uri) -> Result<(Option<String>, usize), Refusal> {
    let (mut cursor, mut limit) = (None, DEFAULT_PAGE);
    for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        match &*name {
            "cursor" => cursor = Some(value.into_owned()),
            "limit" => match value.parse() {
                Ok(number) if (1..=MAX_PAGE).contains(&number) => limit = number,
                _ => return Err(Refusal::invalid("limit: a number from 1 to 100 is needed")),
            },
            _ => {}
        }
    }
    Ok((cursor, limit))
}

#[cfg(test)]
mod tests;
