//! The API's own description: OpenAPI 3.1, made from the handlers, and a page of it for people.
//!
//! Each handler says what it takes and answers where it stands, and a route comes into the router only with that. What is
//! the same for all of them is added here. Nothing in it is secret: it is for everybody.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::docs;
use super::problem::{Problem, ProblemView};

const PROBLEM: &str = "application/problem+json";
const STYLE: &str = include_str!("docs/style.css");
/// The page has a style sheet, and nothing else.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What is said of the API as a whole.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "keygate admin API",
        description = "Where API keys are made, watched, rotated and revoked, and where the fleet is seen.\n\n\
            Every refusal is `application/problem+json` (RFC 9457): `code` says exactly why, `request_id` stands in the log.\n\n\
            A key itself is in one answer only: the one that makes it. To be able to repeat a request whose answer was lost, \
            send an `Idempotency-Key`: it makes one key, however often it comes."
    ),
    tags(
        (name = "Keys", description = "Making, finding, changing, rotating and revoking keys."),
        (name = "Users", description = "Who may log in to the console, and what they may do. For admins, who see their own team alone."),
        (name = "Fleet", description = "The gateways, and the store that they share."),
        (name = "Probes", description = "For load balancers, supervisors and Prometheus. No token."),
        (name = "Description", description = "This document. No token.")
    ),
    components(schemas(ProblemView))
)]
struct Base;

/// A description to which handlers add themselves.
pub(super) fn base() -> utoipa::openapi::OpenApi {
    Base::openapi()
}

/// What is served.
struct Published {
    document: String,
    page: Result<String, askama::Error>,
}

/// The description of `described`, what else is served, and the routes at which it stands.
pub(super) fn routes(described: utoipa::openapi::OpenApi) -> Router {
    let own = OpenApiRouter::<Arc<Published>>::new()
        .routes(routes!(document))
        .routes(routes!(page))
        .routes(routes!(style));
    let (router, description) = own.split_for_parts();
    let mut whole = described;
    whole.merge(description);
    let document = complete(serde_json::to_value(whole).unwrap_or_default());
    let page = docs::Page::of(&document).render();
    router.with_state(Arc::new(Published { document: document.to_string(), page }))
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi", tag = "Description",
    responses((status = 200, description = "OpenAPI 3.1.", body = Object, content_type = "application/json")))]
async fn document(State(published): State<Arc<Published>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], published.document.clone()).into_response()
}

/// This document for people.
#[utoipa::path(get, path = "/docs", operation_id = "docs", tag = "Description",
    responses((status = 200, description = "A page.", body = String, content_type = "text/html")))]
async fn page(State(published): State<Arc<Published>>) -> Response {
    let Ok(page) = &published.page else { return Problem::internal().into_response() };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    ];
    (headers, page.clone()).into_response()
}

/// The page's style sheet.
#[utoipa::path(get, path = "/docs/style.css", operation_id = "docs_style", tag = "Description",
    responses((status = 200, description = "A style sheet.", body = String, content_type = "text/css")))]
async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE).into_response()
}

/// Adds what no handler says of itself: who may ask, and what every request can come to.
fn complete(mut document: Value) -> Value {
    document["components"]["securitySchemes"] = json!({
        "bearer": { "type": "http", "scheme": "bearer", "description": "The admin token, for machines." },
        "session": {
            "type": "apiKey", "in": "cookie", "name": "__Host-keygate",
            "description": "A session of the console, for people; without TLS the cookie's name is `keygate`.",
        },
        "csrf": {
            "type": "apiKey", "in": "header", "name": "X-CSRF-Token",
            "description": "Beside a session, for whatever changes something.",
        },
    });
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (path, item) in paths {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            if operation["responses"].is_object() {
                complete_operation(path, method, operation);
            }
        }
    }
    document
}

fn complete_operation(path: &str, method: &str, operation: &mut Value) {
    if !path.starts_with("/v1/") {
        operation["security"] = json!([]);
        return;
    }
    operation["security"] = match method {
        "get" => json!([{ "bearer": [] }, { "session": [] }]),
        _ => json!([{ "bearer": [] }, { "session": [], "csrf": [] }]),
    };
    let takes_body = !operation["requestBody"].is_null();
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let is_in = |place: &str| parameters.iter().any(|parameter| parameter["in"] == place);
    let mut refusals = vec![401, 403, 500, 503];
    if is_in("path") {
        refusals.push(404);
    }
    if takes_body || is_in("query") || is_in("header") {
        refusals.push(400);
    }
    if takes_body {
        refusals.extend([408, 413, 415, 422]);
    }
    if let Some(responses) = operation["responses"].as_object_mut() {
        for status in refusals {
            responses.entry(status.to_string()).or_insert_with(|| refusal(status));
        }
        // The request may not be HTTP as this server wants it: a head that is too long, for example.
        responses.insert("default".to_owned(), refusal_saying("Any other refusal."));
        for response in responses.values_mut() {
            add_request_id(response);
        }
    }
}

fn refusal(status: u16) -> Value {
    let known = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    refusal_saying(known.unwrap_or_default())
}

fn refusal_saying(description: &str) -> Value {
    let schema = json!({ "$ref": "#/components/schemas/Problem" });
    json!({ "description": description, "content": { PROBLEM: { "schema": schema } } })
}

fn add_request_id(response: &mut Value) {
    let description = "The request's own `X-Request-Id`, or a random one.";
    let header = json!({ "description": description, "schema": { "type": "string" } });
    if let Some(response) = response.as_object_mut() {
        let headers = response.entry("headers").or_insert_with(|| Value::Object(Map::new()));
        headers["X-Request-Id"] = header;
    }
}
