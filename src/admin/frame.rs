//! What is around every request to the admin listener: its id, and the rendering of what went wrong.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::problem::Problem;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID: usize = 64;
/// Everything under here deals with keys: it needs the token, and no cache may keep it.
const API: &str = "/v1";

/// The id of a request, for whoever renders an answer to it.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestId(pub(super) String);

/// Gives the request an id, and renders whatever is not a success in one way.
pub(super) async fn frame(mut request: Request, next: Next) -> Response {
    let request_id = request_id(request.headers());
    request.extensions_mut().insert(RequestId(request_id.clone()));
    let is_api = is_api(request.uri().path());
    let method = request.method().clone();
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response = rendered(problem, &request_id, response);
    } else if is_foreign_error(&response) {
        let problem = Problem::of_status(response.status());
        response = rendered(problem, &request_id, response);
    }
    // Not the path: somebody may have put a key into it.
    tracing::debug!(%method, status = response.status().as_u16(), request_id, "admin request");
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if is_api {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// For what no route knows.
pub(super) async fn not_found() -> Problem {
    Problem::of_status(http::StatusCode::NOT_FOUND)
}

/// For a known path with another method.
pub(super) async fn method_not_allowed() -> Problem {
    Problem::of_status(http::StatusCode::METHOD_NOT_ALLOWED)
}

/// The token that a machine shows.
pub(super) fn bearer(headers: &HeaderMap) -> Result<&[u8], Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value.as_bytes(),
        (None, _) => return Err(Problem::unauthorized("send Authorization: Bearer and the admin token")),
        (Some(_), Some(_)) => {
            return Err(Problem::unauthorized("send one Authorization header, not several"));
        }
    };
    match value.split_at_checked(b"Bearer ".len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => Ok(token.trim_ascii()),
        _ => Err(Problem::unauthorized("send Authorization: Bearer and the admin token")),
    }
}

/// Whether `path` is the API's.
pub(super) fn is_api(path: &str) -> bool {
    path.strip_prefix(API).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A refusal in a library's words: `/readyz` has its own form, which is JSON, and the console has pages.
fn is_foreign_error(response: &Response) -> bool {
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    let kind =
        response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    is_error && kind != "application/json" && !kind.starts_with("text/html")
}

/// The rendered problem, with the headers that only the router and the handlers know.
fn rendered(problem: Problem, request_id: &str, original: Response) -> Response {
    let mut response = problem.render(request_id);
    for name in [header::ALLOW, header::ETAG] {
        if let Some(value) = original.headers().get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// The client's id if it is one, else a random one.
fn request_id(headers: &HeaderMap) -> String {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    match given.filter(|id| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(allowed)) {
        Some(id) => id.to_owned(),
        None => random_id(),
    }
}

fn random_id() -> String {
    let mut random = [0; 16];
    // Without randomness ids repeat, which is no reason to refuse a revocation.
    if let Err(error) = getrandom::fill(&mut random) {
        tracing::warn!(%error, "no random bytes for a request id");
    }
    format!("req_{:032x}", u128::from_be_bytes(random))
}
