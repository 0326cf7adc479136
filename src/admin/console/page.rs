//! Answers that are pages: rendered, kept by no cache, and under a policy that lets nothing in from outside.

use askama::Template;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderName};
use http::{HeaderValue, StatusCode};

use crate::admin::AdminState;
use crate::admin::frame::{RequestId, is_api};
use crate::admin::problem::Problem;

use super::shell::Gate;
use super::view::sentence;

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
    detail: String,
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

/// Around everything that a browser may ask for: a problem becomes a page where a page was wanted, and every page has its
/// policy.
pub(in crate::admin) async fn frame(
    State(state): State<AdminState>,
    request: Request,
    next: Next,
) -> Response {
    let request_id = request.extensions().get::<RequestId>().cloned().unwrap_or_default();
    let wants_page = wants_page(&request);
    let mut response = next.run(request).await;
    if wants_page && let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response = explained(&state, &problem, &request_id.0);
    }
    let headers = response.headers_mut();
    if headers.get(header::CONTENT_TYPE) == Some(&HTML) {
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        for (name, value) in HEADERS {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        }
    }
    response
}

fn wants_page(request: &Request) -> bool {
    let accepted = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    !is_api(request.uri().path()) && accepted.is_some_and(|accepted| accepted.contains("text/html"))
}

fn explained(state: &AdminState, problem: &Problem, request_id: &str) -> Response {
    let (title, detail) = problem.words();
    let page = ErrorPage { shell: Gate::of(&state.brand), title, detail: sentence(detail), request_id };
    // If not even that can be rendered, the problem goes out as it is.
    html_with(problem.status(), &page).unwrap_or_else(IntoResponse::into_response)
}
