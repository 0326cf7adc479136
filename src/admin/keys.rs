//! `/v1/keys`: the handlers.

use std::future::Future;

use axum::Json;
use axum::extract::{Path, RawQuery, Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{StatusCode, header};
use serde::Deserialize;
use url::form_urlencoded;
use zeroize::Zeroize;

use crate::keys::{Grace, ImportedKey, KeyError, NewKey, RelativeExpiry, RevokedKey};
use crate::model::{ApiKey, Environment, KeyId, KeyStatus, Timestamp};
use crate::store::{Cursor, ListQuery};

use super::problem::Problem;
use super::session::Caller;
use super::view::{CreatedView, ImportView, KeyView, PageView, RevokedView, RotatedView};
use super::walled::EditedKeys;
use super::{AdminState, body};

const DEFAULT_PAGE: usize = 50;
const MAX_PAGE: usize = 200;

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
pub(super) async fn create(
    State(state): State<AdminState>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let keys = state.keys.edited_by(&caller)?;
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
    let (record, key) = detached(async move { keys.create(new).await }).await?;
    let location = format!("/v1/keys/{}", record.id);
    let created = Json(CreatedView::of(record, &key, now));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], created).into_response())
}

/// `GET /v1/keys`: one page, newest first.
pub(super) async fn list(
    State(state): State<AdminState>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<PageView>, Problem> {
    let now = state.clock.now().wall;
    let query = list_query(query.as_deref().unwrap_or_default(), now)?;
    let page = state.keys.seen_by(&caller).list(&query).await?;
    let data = page.keys.into_iter().map(|key| KeyView::of(key, now)).collect();
    Ok(Json(PageView { data, next_cursor: page.next.map(encode_cursor) }))
}

/// `GET /v1/keys/{id}`.
pub(super) async fn show(
    State(state): State<AdminState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<KeyView>, Problem> {
    let key = state.keys.seen_by(&caller).get(&key_id(&id)?).await?;
    Ok(Json(KeyView::of(key, state.clock.now().wall)))
}

/// `POST /v1/keys/{id}/revoke`. Takes no body; what is sent as one is not read.
pub(super) async fn revoke(
    State(state): State<AdminState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<RevokedView>, Problem> {
    let id = key_id(&id)?;
    revoked(state, &caller, move |keys| async move { keys.revoke(&id).await }).await
}

/// `POST /v1/keys/revoke`: by the key itself, for whoever found one.
pub(super) async fn revoke_by_key(
    State(state): State<AdminState>,
    caller: Caller,
    request: Request,
) -> Result<Json<RevokedView>, Problem> {
    let mut body: RevokeBody = body::read(request, body::LIMIT).await?;
    let key = state.keys.edited_by(&caller)?.format().parse(body.key.trim().as_bytes());
    body.key.zeroize();
    let key: ApiKey = key.map_err(|error| Problem::invalid(format!("`key`: {error}")))?;
    revoked(state, &caller, move |keys| async move { keys.revoke_key(&key).await }).await
}

/// `POST /v1/keys/{id}/rotate`: 201, with the new key for the only time, and the old one. Needs no body.
pub(super) async fn rotate(
    State(state): State<AdminState>,
    caller: Caller,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let id = key_id(&id)?;
    let RotateBody { grace } = body::read_if_any(request, body::LIMIT).await?;
    let Grace(grace) = match grace {
        Some(text) => text.parse().map_err(|error| Problem::invalid(format!("`grace`: {error}")))?,
        None => Grace::default(),
    };
    let keys = state.keys.edited_by(&caller)?;
    let (rotated, key) = detached(async move { keys.rotate(&id, grace).await }).await?;
    let location = format!("/v1/keys/{}", rotated.record.id);
    let view = Json(RotatedView::of(rotated, &key, state.clock.now().wall));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], view).into_response())
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
) -> Result<Json<RevokedView>, Problem>
where
    F: Future<Output = Result<RevokedKey, KeyError>> + Send + 'static,
{
    let began = state.clock.now().tick;
    let keys = state.keys.edited_by(caller)?;
    let RevokedKey { key, newly, revoked_at, told } = detached(revoke(keys)).await?;
    let receipt = state.roll.receipt(told, key.record.id.shard(), revoked_at, began).await;
    Ok(Json(RevokedView::of(key, newly, receipt, state.clock.now().wall)))
}

fn key_id(text: &str) -> Result<KeyId, Problem> {
    text.parse().map_err(|_| KeyError::NotFound.into())
}

/// Reads the query of a list. Names that it does not know are refused: a misspelled filter would list everything.
fn list_query(query: &str, now: Timestamp) -> Result<ListQuery, Problem> {
    let mut list = ListQuery { team: None, environment: None, status: None, after: None, limit: 0 };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let once = |first: bool| first.then_some(()).ok_or_else(|| bad_parameter(&name, "is there twice"));
        match name.as_ref() {
            "team" => {
                once(list.team.replace(value.into_owned()).is_none())?;
            }
            "environment" => {
                let environment =
                    value.parse().map_err(|_| bad_parameter(&name, "must be live or sandbox"))?;
                once(list.environment.replace(environment).is_none())?;
            }
            "status" => {
                let status = match value.as_ref() {
                    "active" => KeyStatus::Active,
                    "rotating" => KeyStatus::Rotating,
                    "expired" => KeyStatus::Expired,
                    "revoked" => KeyStatus::Revoked,
                    _ => return Err(bad_parameter(&name, "must be active, rotating, expired or revoked")),
                };
                once(list.status.replace((status, now)).is_none())?;
            }
            "limit" => {
                let limit: Option<usize> = value.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
                let limit = limit.ok_or_else(|| bad_parameter(&name, &format!("must be 1 to {MAX_PAGE}")))?;
                once(std::mem::replace(&mut list.limit, limit) == 0)?;
            }
            "cursor" => {
                let cursor = decode_cursor(&value);
                let cursor =
                    cursor.ok_or_else(|| bad_parameter(&name, "is not a next_cursor of a page before"))?;
                once(list.after.replace(cursor).is_none())?;
            }
            _ => {
                return Err(bad_parameter(
                    &name,
                    "is unknown; allowed are team, environment, status, limit, cursor",
                ));
            }
        }
    }
    if list.limit == 0 {
        list.limit = DEFAULT_PAGE;
    }
    Ok(list)
}

fn bad_parameter(name: &str, what: &str) -> Problem {
    Problem::bad_request(format!("the parameter `{name}` {what}"))
}

/// Opaque to clients, so that its form can change.
fn encode_cursor(cursor: Cursor) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}.{}", cursor.created_at.as_millis(), cursor.id))
}

fn decode_cursor(text: &str) -> Option<Cursor> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let (millis, id) = text.split_once('.')?;
    Some(Cursor { created_at: Timestamp::from_millis(millis.parse().ok()?), id: id.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Shard;

    #[test]
    fn a_cursor_survives_the_way_to_the_client_and_back() {
        let id = KeyId::new(Shard::all().next().unwrap(), [0xab; 10]);
        let cursor = Cursor { created_at: Timestamp::from_millis(-5), id };
        assert_eq!(decode_cursor(&encode_cursor(cursor)), Some(cursor));
    }

    proptest! {
        #[test]
        fn no_query_panics(query in ".{0,80}", cursor in "[A-Za-z0-9_-]{0,60}") {
            let _ = list_query(&query, Timestamp::from_millis(0));
            let _ = list_query(&format!("cursor={cursor}"), Timestamp::from_millis(0));
        }
    }
}
