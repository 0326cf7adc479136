//! `/v1/keys`: the handlers.

use std::future::Future;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::Deserialize;
use zeroize::Zeroize;

use crate::keys::{Grace, ImportedKey, KeyError, KeyService, NewKey, RelativeExpiry, RevokedKey};
use crate::model::{ApiKey, Environment, KeyId, Timestamp};

use super::problem::Problem;
use super::view::{CreatedView, ImportView, KeyView, PageView, RevokedView, RotatedView};
use super::{AdminState, body, list};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBody {
    label: String,
    environment: Environment,
    team: Option<String>,
    expires_at: Option<Timestamp>,
    expires_in: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeBody {
    key: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RotateBody {
    grace: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportBody {
    keys: Vec<ImportedKey>,
}

/// `POST /v1/keys`: 201, with the key for the only time.
pub(super) async fn create(State(state): State<AdminState>, request: Request) -> Result<Response, Problem> {
    let body: CreateBody = body::read(request, body::LIMIT).await?;
    let now = state.clock.now().wall;
    let expires_at = match (body.expires_at, body.expires_in) {
        (Some(_), Some(_)) => {
            return Err(Problem::invalid("`expires_at` and `expires_in` exclude each other"));
        }
        (at, None) => at,
        (None, Some(text)) => {
            let RelativeExpiry(life) =
                text.parse().map_err(|error| Problem::invalid(format!("`expires_in`: {error}")))?;
            Some(now.plus(life))
        }
    };
    let new = NewKey { label: body.label, team: body.team, environment: body.environment, expires_at };
    let (record, key) = detached(async move { state.keys.create(new).await }).await?;
    let location = format!("/v1/keys/{}", record.id);
    let created = Json(CreatedView::of(record, &key, now));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], created).into_response())
}

/// `GET /v1/keys`: one page.
pub(super) async fn list(
    State(state): State<AdminState>,
    RawQuery(query): RawQuery,
) -> Result<Json<PageView>, Problem> {
    let now = state.clock.now().wall;
    let query = list::read(query.as_deref().unwrap_or_default(), now)?;
    let page = state.keys.list(&query).await?;
    let data = page.keys.into_iter().map(|key| KeyView::of(key, now)).collect();
    Ok(Json(PageView { data, next_cursor: page.next.as_ref().map(list::encode_cursor), total: page.total }))
}

/// `GET /v1/keys/{id}`.
pub(super) async fn show(
    State(state): State<AdminState>,
    Path(id): Path<String>,
) -> Result<Json<KeyView>, Problem> {
    let key = state.keys.get(&key_id(&id)?).await?;
    Ok(Json(KeyView::of(key, state.clock.now().wall)))
}

/// `POST /v1/keys/{id}/revoke`. Takes no body; what is sent as one is not read.
pub(super) async fn revoke(
    State(state): State<AdminState>,
    Path(id): Path<String>,
) -> Result<Json<RevokedView>, Problem> {
    let id = key_id(&id)?;
    revoked(state, move |keys| async move { keys.revoke(&id).await }).await
}

/// `POST /v1/keys/revoke`: by the key itself, for whoever found one.
pub(super) async fn revoke_by_key(
    State(state): State<AdminState>,
    request: Request,
) -> Result<Json<RevokedView>, Problem> {
    let mut body: RevokeBody = body::read(request, body::LIMIT).await?;
    let key = state.keys.format().parse(body.key.trim().as_bytes());
    body.key.zeroize();
    let key: ApiKey = key.map_err(|error| Problem::invalid(format!("`key`: {error}")))?;
    revoked(state, move |keys| async move { keys.revoke_key(&key).await }).await
}

/// `POST /v1/keys/{id}/rotate`: 201, with the new key for the only time, and the old one. Needs no body.
pub(super) async fn rotate(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let id = key_id(&id)?;
    let RotateBody { grace } = body::read_if_any(request, body::LIMIT).await?;
    let Grace(grace) = match grace {
        Some(text) => text.parse().map_err(|error| Problem::invalid(format!("`grace`: {error}")))?,
        None => Grace::default(),
    };
    let keys = state.keys.clone();
    let (rotated, key) = detached(async move { keys.rotate(&id, grace).await }).await?;
    let location = format!("/v1/keys/{}", rotated.record.id);
    let view = Json(RotatedView::of(rotated, &key, state.clock.now().wall));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], view).into_response())
}

/// `POST /v1/keys/import`.
pub(super) async fn import(
    State(state): State<AdminState>,
    request: Request,
) -> Result<Json<ImportView>, Problem> {
    let ImportBody { keys } = body::read(request, body::IMPORT_LIMIT).await?;
    let report = detached(async move { state.keys.import(keys).await }).await?;
    Ok(Json(ImportView { created: report.created, already_there: report.already_there }))
}

/// Carries a change through to its end, even if the client hangs up halfway.
pub(super) async fn detached<T: Send + 'static>(
    change: impl Future<Output = Result<T, KeyError>> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::spawn(change).await {
        Ok(result) => Ok(result?),
        Err(error) => {
            tracing::error!(%error, "a change ended without a result");
            Err(Problem::internal())
        }
    }
}

/// Revokes, waits until the fleet has heard of it, and shows how far it has come.
async fn revoked<F>(
    state: AdminState,
    revoke: impl FnOnce(Arc<KeyService>) -> F + Send + 'static,
) -> Result<Json<RevokedView>, Problem>
where
    F: Future<Output = Result<RevokedKey, KeyError>> + Send + 'static,
{
    let began = state.clock.now().tick;
    let RevokedKey { key, newly, revoked_at, told } = detached(revoke(state.keys.clone())).await?;
    let receipt = state.roll.receipt(told, key.record.id.shard(), revoked_at, began).await;
    Ok(Json(RevokedView::of(key, newly, receipt, state.clock.now().wall)))
}

fn key_id(text: &str) -> Result<KeyId, Problem> {
    text.parse().map_err(|_| KeyError::NotFound.into())
}
