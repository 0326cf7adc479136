//! The admin API: where keys are made, listed, rotated and revoked, where the fleet is seen, and where probes and
//! Prometheus ask.
//!
//! `frame` is around every request: it gives it an id, asks for the token, and renders what went wrong. `keys` and
//! `fleet` have the handlers, `body` reads what they are sent, `view` is what they show, and `serve` runs it all on a
//! listener.

mod body;
mod conditions;
mod docs;
mod fleet;
mod frame;
mod keys;
mod list;
mod openapi;
mod probes;
mod problem;
mod schema;
mod serve;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::clock::Clock;
use crate::config::AdminToken;
use crate::keys::KeyService;
use crate::observe::Health;
use crate::roll::Roll;

pub use serve::serve;

/// Renders all metrics in Prometheus' text format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// What the admin API works with.
#[derive(Clone)]
pub struct AdminState {
    /// The keys.
    pub keys: Arc<KeyService>,
    /// The fleet, and who has heard of a revocation.
    pub roll: Arc<Roll>,
    /// What a machine must show; without one, nobody gets in.
    pub token: Option<AdminToken>,
    /// What probes are told.
    pub health: Arc<Health>,
    /// What Prometheus is told.
    pub metrics: RenderMetrics,
    /// Now, for status and expiry.
    pub clock: Arc<dyn Clock>,
}

/// Everything: `/v1` behind the token, and probes and metrics without.
pub fn router(state: AdminState) -> Router {
    let gate = from_fn_with_state(state.token.clone(), frame::require_token);
    let api = OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::import))
        .routes(routes!(keys::revoke_by_key))
        .routes(routes!(keys::show, keys::edit))
        .routes(routes!(keys::usage))
        .routes(routes!(keys::history))
        .routes(routes!(keys::revoke))
        .routes(routes!(keys::rotate))
        .routes(routes!(fleet::gateways))
        .routes(routes!(fleet::store))
        .routes(routes!(fleet::accept_store))
        .with_state(state.clone());
    let (api, description) = api.merge(probes::routes(state.health, state.metrics)).split_for_parts();
    api.merge(openapi::routes(description))
        .method_not_allowed_fallback(frame::method_not_allowed)
        .fallback(frame::not_found)
        .layer(gate)
        .layer(from_fn(frame::frame))
}

/// Probes and metrics alone, for a listener that anybody may reach.
pub fn observe_router(health: Arc<Health>, metrics: RenderMetrics) -> Router {
    let (probes, _) = probes::routes(health, metrics).split_for_parts();
    probes
        .method_not_allowed_fallback(frame::method_not_allowed)
        .fallback(frame::not_found)
        .layer(from_fn(frame::frame))
}
