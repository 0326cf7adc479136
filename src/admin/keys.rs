//! `/v1/keys`: the handlers.

use std::future::Future;

use axum::Json;
use axum::extract::{Path, RawQuery, Request, State};
use axum::response::Response;
use http::{StatusCode, header};
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroize;

use crate::keys::{Grace, ImportedKey, KeyEdit, KeyError, Made, NewKey, RelativeExpiry, RevokedKey};
use crate::model::{ApiKey, Environment, KeyId, Timestamp};

use super::conditions::{IfMatch, Named, with_etag};
use super::problem::Problem;
use super::session::Caller;
use super::view::{
    CreatedView, HistoryView, ImportView, KeyView, PageView, RepeatedView, RevokedView, RotatedView,
    UsageView,
};
use super::walled::EditedKeys;
use super::{AdminState, body, list};

#[derive(Deserialize, Serialize)]
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

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RotateBody {
    grace: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportBody {
    keys: Vec<ImportedKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EditBody {
    label: Option<String>,
    /// `null` takes it away; without it, it stays.
    #[serde(default, deserialize_with = "present")]
    expires_at: Option<Option<Timestamp>>,
    /// Instead of it, as `30d`.
    expires_in: Option<String>,
}

/// Tells `null` apart from nothing.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Timestamp>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// `POST /v1/keys`: 201, with the key for the only time. 200 and the record, if an `Idempotency-Key` comes again.
pub(super) async fn create(
    State(state): State<AdminState>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let keys = state.keys.edited_by(&caller)?;
    let named = Named::of(&request)?;
    let body: CreateBody = body::read(request, body::LIMIT).await?;
    let once = named.once("create", &fingerprint(&body));
    let now = state.clock.now().wall;
    let expires_at = match (body.expires_at, body.expires_in) {
        (Some(_), Some(_)) => return Err(both_expiries()),
        (at, None) => at,
        (None, Some(life)) => Some(expiry_in(&life, now)?),
    };
    let new = NewKey { label: body.label, team: body.team, environment: body.environment, expires_at };
    match detached(async move { keys.create_once(new, once).await }).await? {
        Made::Now((record, key)) => {
            let location = [(header::LOCATION, format!("/v1/keys/{}", record.id))];
            let created = Json(CreatedView::of(record.clone(), &key, now));
            Ok(with_etag(&record, (StatusCode::CREATED, location, created)))
        }
        Made::Before(key) => Ok(with_etag(&key.record.clone(), Json(RepeatedView::of(*key, None, now)))),
    }
}

fn both_expiries() -> Problem {
    Problem::invalid("`expires_at` and `expires_in` exclude each other")
}

fn expiry_in(life: &str, now: Timestamp) -> Result<Timestamp, Problem> {
    let RelativeExpiry(life) =
        life.parse().map_err(|error| Problem::invalid(format!("`expires_in`: {error}")))?;
    Ok(now.plus(life))
}

/// What a request says, however its body is spelled.
fn fingerprint(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).unwrap_or_default()
}

/// `GET /v1/keys`: one page.
pub(super) async fn list(
    State(state): State<AdminState>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<PageView>, Problem> {
    let now = state.clock.now().wall;
    let query = list::read(query.as_deref().unwrap_or_default(), now)?;
    let page = state.keys.seen_by(&caller).list(&query).await?;
    let data = page.keys.into_iter().map(|key| KeyView::of(key, now)).collect();
    Ok(Json(PageView { data, next_cursor: page.next.as_ref().map(list::encode_cursor), total: page.total }))
}

/// `GET /v1/keys/{id}`.
pub(super) async fn show(
    State(state): State<AdminState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let key = state.keys.seen_by(&caller).get(&key_id(&id)?).await?;
    Ok(with_etag(&key.record.clone(), Json(KeyView::of(key, state.clock.now().wall))))
}

/// `PATCH /v1/keys/{id}`: label and expiry date, of the key as `If-Match` says that it was seen.
pub(super) async fn edit(
    State(state): State<AdminState>,
    caller: Caller,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let id = key_id(&id)?;
    let seen = IfMatch::of(request.headers())?;
    let EditBody { label, expires_at, expires_in } = body::read(request, body::LIMIT).await?;
    let expires_at = match expires_in {
        Some(_) if expires_at.is_some() => return Err(both_expiries()),
        Some(life) => Some(Some(expiry_in(&life, state.clock.now().wall)?)),
        None => expires_at,
    };
    let (keys, edit) = (state.keys.edited_by(&caller)?, KeyEdit { label, expires_at });
    // Not through `detached`, which would lose what is there now.
    let edited = tokio::spawn(async move { keys.edit(&id, |revision| seen.is(revision), edit).await });
    let now = state.clock.now().wall;
    match edited.await {
        Ok(Ok(key)) => Ok(with_etag(&key.record.clone(), Json(KeyView::of(key, now)))),
        Ok(Err(KeyError::EditedMeanwhile(key))) => {
            let record = key.record.clone();
            let current = serde_json::to_value(KeyView::of((*key).clone(), now)).unwrap_or_default();
            let problem = Problem::from(KeyError::EditedMeanwhile(key));
            Ok(with_etag(&record, problem.with_current(current)))
        }
        Ok(Err(error)) => Err(error.into()),
        Err(error) => {
            tracing::error!(%error, "a change ended without a result");
            Err(Problem::internal())
        }
    }
}

/// `GET /v1/keys/{id}/usage`: day by day, and hour by hour.
pub(super) async fn usage(
    State(state): State<AdminState>,
    caller: Caller,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<UsageView>, Problem> {
    let days = list::read_days(query.as_deref().unwrap_or_default())?;
    Ok(Json(UsageView::of(&state.keys.seen_by(&caller).usage(&key_id(&id)?, days).await?)))
}

/// `GET /v1/keys/{id}/history`: what happened to it.
pub(super) async fn history(
    State(state): State<AdminState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<HistoryView>, Problem> {
    Ok(Json(HistoryView::of(state.keys.seen_by(&caller).history(&key_id(&id)?).await?)))
}

/// `POST /v1/keys/{id}/revoke`. Takes no body; what is sent as one is not read.
pub(super) async fn revoke(
    State(state): State<AdminState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = key_id(&id)?;
    revoked(state, &caller, move |keys| async move { keys.revoke(&id).await }).await
}

/// `POST /v1/keys/revoke`: by the key itself, for whoever found one.
pub(super) async fn revoke_by_key(
    State(state): State<AdminState>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let mut body: RevokeBody = body::read(request, body::LIMIT).await?;
    let key = state.keys.edited_by(&caller)?.format().parse(body.key.trim().as_bytes());
    body.key.zeroize();
    let key: ApiKey = key.map_err(|error| Problem::invalid(format!("`key`: {error}")))?;
    revoked(state, &caller, move |keys| async move { keys.revoke_key(&key).await }).await
}

/// `POST /v1/keys/{id}/rotate`: 201, with the new key for the only time, and the old one. Needs no body. 200 without the
/// key, if an `Idempotency-Key` comes again.
pub(super) async fn rotate(
    State(state): State<AdminState>,
    caller: Caller,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let id = key_id(&id)?;
    let named = Named::of(&request)?;
    let body: RotateBody = body::read_if_any(request, body::LIMIT).await?;
    let once = named.once(&format!("rotate {id}"), &fingerprint(&body));
    let Grace(grace) = match body.grace {
        Some(text) => text.parse().map_err(|error| Problem::invalid(format!("`grace`: {error}")))?,
        None => Grace::default(),
    };
    let (keys, seen) = (state.keys.edited_by(&caller)?, state.keys.seen_by(&caller));
    match detached(async move { keys.rotate_once(&id, grace, once).await }).await? {
        Made::Now((rotated, key)) => {
            let (record, now) = (rotated.record.clone(), state.clock.now().wall);
            let location = [(header::LOCATION, format!("/v1/keys/{}", record.id))];
            let view = Json(RotatedView::of(rotated, &key, now));
            Ok(with_etag(&record, (StatusCode::CREATED, location, view)))
        }
        Made::Before(new) => {
            let (record, old) = (new.record.clone(), seen.get(&id).await?);
            Ok(with_etag(&record, Json(RepeatedView::of(*new, Some(old), state.clock.now().wall))))
        }
    }
}

/// `POST /v1/keys/import`.
pub(super) async fn import(
    State(state): State<AdminState>,
    caller: Caller,
    request: Request,
) -> Result<Json<ImportView>, Problem> {
    let fleet = state.keys.of_the_fleet(&caller)?;
    let ImportBody { keys } = body::read(request, body::IMPORT_LIMIT).await?;
    let report = detached(async move { fleet.import(keys).await }).await?;
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
    caller: &Caller,
    revoke: impl FnOnce(EditedKeys) -> F + Send + 'static,
) -> Result<Response, Problem>
where
    F: Future<Output = Result<RevokedKey, KeyError>> + Send + 'static,
{
    let began = state.clock.now().tick;
    let RevokedKey { key, newly, revoked_at, told } = detached(revoke(state.keys.edited_by(caller)?)).await?;
    let receipt = state.roll.receipt(told, key.record.id.shard(), revoked_at, began).await;
    let record = key.record.clone();
    Ok(with_etag(&record, Json(RevokedView::of(key, newly, receipt, state.clock.now().wall))))
}

fn key_id(text: &str) -> Result<KeyId, Problem> {
    text.parse().map_err(|_| KeyError::NotFound.into())
}
