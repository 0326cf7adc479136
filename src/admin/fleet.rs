//! `/v1/gateways` and `/v1/store`: the handlers.

use axum::Json;
use axum::extract::{Request, State};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::keys::KeyError;

use super::keys::detached;
use super::problem::{Problem, ProblemView};
use super::session::Caller;
use super::view::{GatewayView, GatewaysView, StoreView};
use super::{AdminState, body};

#[derive(Deserialize, ToSchema)]
#[schema(as = StoreToAccept)]
#[serde(deny_unknown_fields)]
pub(super) struct AcceptBody {
    /// What an operator has seen there: an identity, or `null` for none. It has to be said.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required = true)]
    found: Option<String>,
}

/// Lists the gateways of the fleet, and how far each of them is.
#[utoipa::path(get, path = "/v1/gateways", operation_id = "list_gateways", tag = "Fleet",
    responses((status = 200, description = "Everybody on the roll.", body = GatewaysView)))]
pub(super) async fn gateways(State(state): State<AdminState>) -> Result<Json<GatewaysView>, Problem> {
    let gateways = state.roll.gateways().await.map_err(KeyError::from)?;
    Ok(Json(GatewaysView { data: gateways.into_iter().map(GatewayView::of).collect() }))
}

/// Tells what is there where the store should be.
///
/// Answers also while it is not the fleet's.
#[utoipa::path(get, path = "/v1/store", operation_id = "show_store", tag = "Fleet",
    responses((status = 200, description = "What is there.", body = StoreView)))]
pub(super) async fn store(
    State(state): State<AdminState>,
    caller: Caller,
) -> Result<Json<StoreView>, Problem> {
    Ok(Json(StoreView::of(state.keys.of_the_fleet(&caller)?.inspect_store().await?)))
}

/// Makes what is there the fleet's store, if it is what was seen.
#[utoipa::path(post, path = "/v1/store/accept", operation_id = "accept_store", tag = "Fleet",
    request_body = AcceptBody,
    responses(
        (status = 200, description = "It is the fleet's store.", body = StoreView),
        (status = 409, description = "It is another one by now, or accepting it does not help.", body = ProblemView,
            content_type = "application/problem+json")
    ))]
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
