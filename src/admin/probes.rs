//! `/livez`, `/readyz` and `/metrics`: no token, no secrets.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{StatusCode, header};
use serde_json::json;

use crate::observe::Health;

use super::{RenderMetrics, frame};

/// The media type of Prometheus' text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn routes(health: Arc<Health>, metrics: RenderMetrics) -> Router {
    let readyz = Router::new().route("/readyz", get(readyz)).with_state(health);
    let scrape = Router::new().route("/metrics", get(scrape)).with_state(metrics);
    let livez = Router::new().route("/livez", get(livez));
    livez.merge(readyz).merge(scrape).method_not_allowed_fallback(frame::method_not_allowed)
}

async fn livez() -> Response {
    Json(json!({ "status": "alive" })).into_response()
}

async fn readyz(State(health): State<Arc<Health>>) -> Response {
    let readiness = health.readiness();
    let status = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut answer = json!({ "status": readiness.as_str() });
    if let Some(detail) = readiness.detail() {
        answer["detail"] = detail.into();
    }
    (status, [(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response()
}

async fn scrape(State(metrics): State<RenderMetrics>) -> Response {
    ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], metrics()).into_response()
}
