//! The admin API: where keys are made, listed and revoked, and where probes and Prometheus ask.
//!
//! `frame` is around every request: it gives it an id, asks for the token, and renders what went wrong. `keys` has
//! the handlers, `body` reads what they are sent, and `serve` runs it all on a listener.

mod body;
mod frame;
mod keys;
mod probes;
mod problem;
mod serve;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};

use crate::clock::Clock;
use crate::config::AdminToken;
use crate::keys::KeyService;
use crate::observe::Health;

pub use serve::serve;

/// Renders all metrics in Prometheus' text format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// What the admin API works with.
#[derive(Clone)]
pub struct AdminState {
    /// The keys.
    pub keys: Arc<KeyService>,
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
    let keys = Router::new()
        .route("/v1/keys", get(keys::list).post(keys::create))
        .route("/v1/keys/import", post(keys::import))
        .route("/v1/keys/revoke", post(keys::revoke_by_key))
        .route("/v1/keys/{id}", get(keys::show))
        .route("/v1/keys/{id}/revoke", post(keys::revoke))
        .method_not_allowed_fallback(frame::method_not_allowed)
        .fallback(frame::not_found)
        .with_state(state.clone());
    keys.merge(probes::routes(state.health, state.metrics)).layer(gate).layer(from_fn(frame::frame))
}

/// Probes and metrics alone, for a listener that anybody may reach.
pub fn observe_router(health: Arc<Health>, metrics: RenderMetrics) -> Router {
    probes::routes(health, metrics).fallback(frame::not_found).layer(from_fn(frame::frame))
}
