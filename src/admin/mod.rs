//! The admin API: where keys are made, listed, rotated and revoked, where the fleet is seen, and where probes and
//! Prometheus ask.
//!
//! `frame` is around every request: it gives it an id, and renders what went wrong. `gate` decides who is asking, which
//! `session` describes, and whether that one may ask. `keys`, `fleet`, `users` and `login` have the handlers, which get
//! keys through `walled` alone; `body` reads what they are sent, `view` is what they show, `openapi` describes it, and
//! `serve` runs it all on a listener.

mod body;
mod conditions;
mod console;
mod docs;
mod fleet;
mod frame;
mod gate;
mod keys;
mod list;
mod login;
mod openapi;
mod probes;
mod problem;
mod schema;
mod serve;
mod session;
#[cfg(test)]
mod tests;
mod users;
mod view;
mod walled;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::clock::Clock;
use crate::config::AdminToken;
use crate::observe::Health;
use crate::people::People;
use crate::roll::Roll;

pub use serve::serve;
pub use session::Cookies;
pub use walled::Keys;

/// Renders all metrics in Prometheus' text format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// What the admin API works with.
#[derive(Clone)]
pub struct AdminState {
    /// The keys.
    pub keys: Keys,
    /// Who may log in.
    pub people: Arc<People>,
    /// How browsers are told.
    pub cookies: Cookies,
    /// Whether another server ends TLS in front of this one, and says where requests come from.
    pub behind_tls: bool,
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
    /// Whose console it is, by its name.
    pub brand: String,
    /// How often uses of keys are written: how exact a last use is.
    pub flush_interval: Duration,
}

/// Everything: the API and the pages behind the gate, and without it what is nobody's secret.
pub fn router(state: AdminState) -> Router {
    let gate = from_fn_with_state(state.clone(), gate::gate);
    let api = OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::import))
        .routes(routes!(keys::find))
        .routes(routes!(keys::revoke_by_key))
        .routes(routes!(keys::show, keys::edit))
        .routes(routes!(keys::usage))
        .routes(routes!(keys::history))
        .routes(routes!(keys::revoke))
        .routes(routes!(keys::rotate))
        .routes(routes!(fleet::gateways))
        .routes(routes!(fleet::store))
        .routes(routes!(fleet::accept_store))
        .routes(routes!(users::list, users::add))
        .routes(routes!(users::show, users::change, users::remove))
        .routes(routes!(users::link));
    let (api, mut described) = api.split_for_parts();
    let (probes, described_probes) =
        probes::routes(state.health.clone(), state.metrics.clone()).split_for_parts();
    described.merge(described_probes);
    let gated = api
        .merge(console::routes())
        .method_not_allowed_fallback(frame::method_not_allowed)
        .fallback(frame::not_found)
        .layer(gate)
        .layer(from_fn_with_state(state.clone(), console::frame))
        .with_state(state);
    let open = probes
        .merge(openapi::routes(described))
        .merge(console::assets())
        .method_not_allowed_fallback(frame::method_not_allowed);
    gated.merge(open).layer(from_fn(frame::frame))
}

/// Probes and metrics alone, for a listener that anybody may reach.
pub fn observe_router(health: Arc<Health>, metrics: RenderMetrics) -> Router {
    let (probes, _) = probes::routes(health, metrics).split_for_parts();
    probes
        .method_not_allowed_fallback(frame::method_not_allowed)
        .fallback(frame::not_found)
        .layer(from_fn(frame::frame))
}
