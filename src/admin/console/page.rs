//! Answers that are pages: rendered, kept by no cache, and under a policy that lets nothing in from outside.

use askama::Template;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderName};
use http::{HeaderValue, StatusCode};

use crate::admin::AdminState;
use crate::admin::frame::RequestId;
use crate::admin::problem::Problem;

use super::shell::Gate;

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// What a page may do: load our own scripts and styles, and send forms here. Nothing inline, nothing from elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    // Not `no-referrer`: with that a browser would not say where a form comes from.
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    shell: Gate,
    title: &'static str,
    detail: &'a str,
    request_id: &'a str,
}

/// The page, with status 200.
///
/// # Errors
/// It could not be rendered.
pub(super) fn html(page: &impl Template) -> Result<Response, Problem> {
    html_with(StatusCode::OK, page)
}

/// The page, with another status.
///
/// # Errors
/// It could not be rendered.
pub(super) fn html_with(status: StatusCode, page: &impl Template) -> Result<Response, Problem> {
    let text = page.render().map_err(|error| {
        tracing::error!(%error, "a page could not be rendered");
        Problem::internal()
    })?;
    Ok((status, [(header::CONTENT_TYPE, HTML)], text).into_response())
}

/// Sends the browser there with a GET.
pub(super) fn see(path: &str) -> Response {
    match HeaderValue::from_str(path) {
        Ok(location) => (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response(),
        // Only what this crate made is a path here.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Around every page: a problem becomes a page, and every page has its policy.
pub(super) async fn frame(State(state): State<AdminState>, request: Request, next: Next) -> Response {
    let request_id = request.extensions().get::<RequestId>().cloned().unwrap_or_default();
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response = explained(&state, &problem, &request_id.0);
    }
    with_policy(response)
}

fn with_policy(mut response: Response) -> Response {
    let headers = response.headers_mut();
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The page that says what is wrong with a request that no page was found for.
pub(super) fn answer(state: &AdminState, request: &Request, problem: &Problem) -> Response {
    let request_id = request.extensions().get::<RequestId>().cloned().unwrap_or_default();
    with_policy(explained(state, problem, &request_id.0))
}

fn explained(state: &AdminState, problem: &Problem, request_id: &str) -> Response {
    let (title, detail) = problem.words();
    let page = ErrorPage { shell: Gate::of(&state.brand), title, detail, request_id };
    // If not even that can be rendered, the problem goes out as it is.
    html_with(problem.status(), &page).unwrap_or_else(IntoResponse::into_response)
}
