//! `/v1/gateways` and `/v1/store`: the handlers.

use axum::Json;
use axum::extract::{Request, State};
use serde::Deserialize;

use crate::keys::KeyError;

use super::keys::detached;
use super::problem::Problem;
use super::session::Caller;
use super::view::{GatewayView, GatewaysView, StoreView};
use super::{AdminState, body};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptBody {
    /// What an operator has seen there: an identity, or `null` for none. It has to be said.
    #[serde(deserialize_with = "Option::deserialize")]
    found: Option<String>,
}

/// `GET /v1/gateways`: everybody on the roll.
pub(super) async fn gateways(State(state): State<AdminState>) -> Result<Json<GatewaysView>, Problem> {
    let gateways = state.roll.gateways().await.map_err(KeyError::from)?;
    Ok(Json(GatewaysView { data: gateways.into_iter().map(GatewayView::of).collect() }))
}

/// `GET /v1/store`: what is there where the store should be. Answers also while it is not the fleet's.
pub(super) async fn store(
    State(state): State<AdminState>,
    caller: Caller,
) -> Result<Json<StoreView>, Problem> {
    Ok(Json(StoreView::of(state.keys.of_the_fleet(&caller)?.inspect_store().await?)))
}

/// `POST /v1/store/accept`: makes what is there the fleet's store, if it is what was seen.
pub(super) async fn accept_store(
    State(state): State<AdminState>,
    caller: Caller,
    request: Request,
) -> Result<Json<StoreView>, Problem> {
    let fleet = state.keys.of_the_fleet(&caller)?;
    let AcceptBody { found } = body::read(request, body::LIMIT).await?;
    let report = detached(async move { fleet.accept_store(found.as_deref()).await }).await?;
    Ok(Json(StoreView::of(report)))
}
