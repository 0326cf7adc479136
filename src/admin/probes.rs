//! `/livez`, `/readyz` and `/metrics`: no token, no secrets.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::observe::Health;

use super::RenderMetrics;

/// The media type of Prometheus' text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The routes, described.
pub(super) fn routes(health: Arc<Health>, metrics: RenderMetrics) -> OpenApiRouter {
    let readyz = OpenApiRouter::new().routes(routes!(readyz)).with_state(health);
    let scrape = OpenApiRouter::new().routes(routes!(scrape)).with_state(metrics);
    OpenApiRouter::new().routes(routes!(livez)).merge(readyz).merge(scrape)
}

/// What a probe is told.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the API's description alone")]
struct ProbeAnswer {
    status: String,
    /// More of it, if there is more to say.
    detail: Option<String>,
}

/// Whether the process lives.
#[utoipa::path(get, path = "/livez", operation_id = "livez", tag = "Probes",
    responses((status = 200, description = "It does.", body = ProbeAnswer)))]
async fn livez() -> Response {
    Json(json!({ "status": "alive" })).into_response()
}

/// Whether the gateway can serve requests.
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = "Probes",
    responses(
        (status = 200, description = "It can.", body = ProbeAnswer),
        (status = 503, description = "It cannot.", body = ProbeAnswer)
    ))]
async fn readyz(State(health): State<Arc<Health>>) -> Response {
    let readiness = health.readiness();
    let status = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut answer = json!({ "status": readiness.as_str() });
    if let Some(detail) = readiness.detail() {
        answer["detail"] = detail.into();
    }
    (status, [(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response()
}

/// All metrics, for Prometheus.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "Probes",
    responses((status = 200, description = "Prometheus' text format.", body = String, content_type = "text/plain")))]
async fn scrape(State(metrics): State<RenderMetrics>) -> Response {
    ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], metrics()).into_response()
}
