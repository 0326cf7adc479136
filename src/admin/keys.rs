//! `/v1/keys`: the handlers.

use std::future::Future;

use axum::Json;
use axum::extract::{Path, RawQuery, Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroize;

use crate::keys::{
    Grace, ImportedKey, KeyEdit, KeyError, Made, NewKey, RelativeExpiry, Revision, RevokedKey,
};
use crate::model::{ApiKey, Environment, KeyFormat, KeyId, Timestamp};
use crate::store::StoredKey;

use super::conditions::{IfMatch, Named, with_etag};
use super::problem::{Problem, ProblemView};
use super::session::Caller;
use super::view::{
    CreatedView, HistoryView, ImportView, KeyView, PageView, RepeatedView, RevokedView, RotatedView,
    UnseenView, UsageView,
};
use super::walled::EditedKeys;
use super::{AdminState, body, list};

#[derive(Deserialize, Serialize, ToSchema)]
#[schema(as = NewKey)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateBody {
    /// Where the key will be used.
    #[schema(min_length = 1, max_length = 100, example = "Production Server")]
    label: String,
    environment: Environment,
    /// Whose it is; `default` if nothing is said.
    #[schema(pattern = "^[A-Za-z0-9_.-]{1,64}$")]
    team: Option<String>,
    /// From when on it is refused; in the future.
    expires_at: Option<Timestamp>,
    /// Instead of it: a whole number and one of `s`, `m`, `h`, `d`, `w`.
    #[schema(pattern = "^[0-9]+[smhdw]$", example = "30d")]
    expires_in: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = FoundKey)]
#[serde(deny_unknown_fields)]
pub(super) struct FoundBody {
    /// The whole key, as it was found.
    key: String,
}

#[derive(Default, Deserialize, Serialize, ToSchema)]
#[schema(as = NewRotation)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateBody {
    /// How long the old key goes on, as `24h`: 0s to 7d. A day, if nothing is said.
    #[schema(pattern = "^[0-9]+[smhdw]$", example = "24h")]
    grace: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = NewImport)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportBody {
    keys: Vec<ImportedKey>,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = KeyEdit)]
#[serde(deny_unknown_fields)]
pub(super) struct EditBody {
    #[schema(min_length = 1, max_length = 100)]
    label: Option<String>,
    /// `null` takes it away; without it, it stays.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Timestamp>)]
    expires_at: Option<Option<Timestamp>>,
    /// Instead of it, as `30d`.
    #[schema(pattern = "^[0-9]+[smhdw]$")]
    expires_in: Option<String>,
}

/// An answer that shows a key as it is.
fn shown(key: StoredKey, now: Timestamp) -> Response {
    with_etag(Revision::of(&key.record), Json(KeyView::of(key, now)))
}

/// Tells `null` apart from nothing.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Timestamp>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Makes a key.
///
/// The answer shows it for the only time. If an `Idempotency-Key` comes again, the answer has the record alone.
#[utoipa::path(
    post, path = "/v1/keys", operation_id = "create_key", tag = "Keys",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters of your choice. Sent again within a day, the request makes nothing more, and is answered with what it made before, but for the key itself, which cannot be shown again.", min_length = 1, max_length = 255)),
    request_body = CreateBody,
    responses(
        (status = 201, description = "The key is made; this is the only time that it is shown.", body = CreatedView, headers(("ETag" = String, description = "The name of the key as it is, for `If-Match`."), ("Location" = String, description = "Where the key is."))),
        (status = 200, description = "The request came before.", body = RepeatedView, headers(("ETag" = String, description = "The name of the key as it is, for `If-Match`."))),
        (status = 422, description = "A member is not allowed, or another request had this `Idempotency-Key` before.", body = ProblemView, content_type = "application/problem+json")
    )
)]
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
            Ok(with_etag(Revision::of(&record), (StatusCode::CREATED, location, created)))
        }
        Made::Before(key) => {
            Ok(with_etag(Revision::of(&key.record), Json(RepeatedView::of(*key, None, now))))
        }
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

/// Lists keys.
#[utoipa::path(
    get, path = "/v1/keys", operation_id = "list_keys", tag = "Keys",
    params(list::ListParameters),
    responses(
        (status = 200, description = "A page of keys.", body = PageView)
    )
)]
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

/// Shows a key.
#[utoipa::path(
    get, path = "/v1/keys/{id}", operation_id = "show_key", tag = "Keys",
    params(("id" = KeyId, Path, description = "As a list shows it.")),
    responses(
        (status = 200, description = "The key.", body = KeyView, headers(("ETag" = String, description = "The name of the key as it is, for `If-Match`.")))
    )
)]
pub(super) async fn show(
    State(state): State<AdminState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let key = state.keys.seen_by(&caller).get(&key_id(&id)?).await?;
    Ok(shown(key, state.clock.now().wall))
}

/// Changes a key's label or its expiry date.
///
/// Of the key as `If-Match` says that it was seen. Every gateway obeys a new expiry date within milliseconds.
#[utoipa::path(
    patch, path = "/v1/keys/{id}", operation_id = "edit_key", tag = "Keys",
    params(("id" = KeyId, Path, description = "As a list shows it."), ("If-Match" = String, Header, description = "ETags of the key as you have seen it, or `*`.")),
    request_body = EditBody,
    responses(
        (status = 200, description = "The key as it is now.", body = KeyView, headers(("ETag" = String, description = "The name of the key as it is, for `If-Match`."))),
        (status = 409, description = "The key is revoked, and stays as it is.", body = ProblemView, content_type = "application/problem+json"),
        (status = 412, description = "The key was changed meanwhile; `current` is what it is now.", body = ProblemView, content_type = "application/problem+json", headers(("ETag" = String, description = "The name of the key as it is, for `If-Match`."))),
        (status = 428, description = "`If-Match` is missing.", body = ProblemView, content_type = "application/problem+json")
    )
)]
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
        Ok(Ok(key)) => Ok(shown(key, now)),
        Ok(Err(KeyError::EditedMeanwhile(key))) => {
            let record = key.record.clone();
            let current = serde_json::to_value(KeyView::of((*key).clone(), now)).unwrap_or_default();
            let problem = Problem::from(KeyError::EditedMeanwhile(key));
            Ok(with_etag(Revision::of(&record), problem.with_current(current)))
        }
        Ok(Err(error)) => Err(error.into()),
        Err(error) => {
            tracing::error!(%error, "a change ended without a result");
            Err(Problem::internal())
        }
    }
}

/// Tells how often a key was used.
#[utoipa::path(
    get, path = "/v1/keys/{id}/usage", operation_id = "key_usage", tag = "Keys",
    params(("id" = KeyId, Path, description = "As a list shows it."), ("days" = Option<usize>, Query, description = "How many; 30 if nothing is said.", minimum = 1, maximum = 90)),
    responses(
        (status = 200, description = "Uses and refusals by day and by hour, in UTC by the fleet's clock, accurate to the flush interval.", body = UsageView)
    )
)]
pub(super) async fn usage(
    State(state): State<AdminState>,
    caller: Caller,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<UsageView>, Problem> {
    let days = list::read_days(query.as_deref().unwrap_or_default())?;
    Ok(Json(UsageView::of(&state.keys.seen_by(&caller).usage(&key_id(&id)?, days).await?)))
}

/// Tells what happened to a key.
#[utoipa::path(
    get, path = "/v1/keys/{id}/history", operation_id = "key_history", tag = "Keys",
    params(("id" = KeyId, Path, description = "As a list shows it.")),
    responses(
        (status = 200, description = "What happened, the oldest first.", body = HistoryView)
    )
)]
pub(super) async fn history(
    State(state): State<AdminState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<HistoryView>, Problem> {
    Ok(Json(HistoryView::of(state.keys.seen_by(&caller).history(&key_id(&id)?).await?)))
}

/// Revokes a key, at once and for ever.
///
/// Takes no body; what is sent as one is not read. To repeat it changes nothing.
#[utoipa::path(
    post, path = "/v1/keys/{id}/revoke", operation_id = "revoke_key", tag = "Keys",
    params(("id" = KeyId, Path, description = "As a list shows it.")),
    responses(
        (status = 200, description = "The key is revoked, and this is how far the fleet has heard of it.", body = RevokedView, headers(("ETag" = String, description = "The name of the key as it is, for `If-Match`.")))
    )
)]
pub(super) async fn revoke(
    State(state): State<AdminState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = key_id(&id)?;
    revoked(state, &caller, move |keys| async move { keys.revoke(&id).await }).await
}

/// Says which key it is that was found, by the key itself.
#[utoipa::path(
    post, path = "/v1/keys/find", operation_id = "find_key", tag = "Keys",
    request_body = FoundBody,
    responses(
        (status = 200, description = "The key.", body = KeyView, headers(("ETag" = String, description = "The name of the key as it is, for `If-Match`."))),
        (status = 404, description = "There is no such key, or none that you may know of.", body = ProblemView, content_type = "application/problem+json")
    )
)]
pub(super) async fn find(
    State(state): State<AdminState>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let keys = state.keys.seen_by(&caller);
    let key = found_key(request, keys.format()).await?;
    let found = keys.find(&key).await?.ok_or(KeyError::NotFound)?;
    Ok(shown(found, state.clock.now().wall))
}

/// Revokes a key that was found, by the key itself.
///
/// Whoever holds a key may have it revoked. Of a key that is not your team's no more is said: 202, whether or not there is
/// such a key.
#[utoipa::path(
    post, path = "/v1/keys/revoke", operation_id = "revoke_found_key", tag = "Keys",
    request_body = FoundBody,
    responses(
        (status = 202, description = "It is no key of your team. If there is such a key, it is revoked from now on.", body = UnseenView),
        (status = 200, description = "The key is revoked, and this is how far the fleet has heard of it.", body = RevokedView, headers(("ETag" = String, description = "The name of the key as it is, for `If-Match`."))),
        (status = 404, description = "There is no such key.", body = ProblemView, content_type = "application/problem+json")
    )
)]
pub(super) async fn revoke_by_key(
    State(state): State<AdminState>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let keys = state.keys.edited_by(&caller)?;
    let key = found_key(request, keys.format()).await?;
    if caller.wall().is_some() && state.keys.seen_by(&caller).find(&key).await?.is_none() {
        keys.revoke_unseen(key);
        return Ok((StatusCode::ACCEPTED, Json(UnseenView::new())).into_response());
    }
    revoked(state, &caller, move |keys| async move { keys.revoke_key(&key).await }).await
}

/// The key that somebody has found, and sends.
async fn found_key(request: Request, format: &KeyFormat) -> Result<ApiKey, Problem> {
    let mut body: FoundBody = body::read(request, body::LIMIT).await?;
    let key = format.parse(body.key.trim().as_bytes());
    body.key.zeroize();
    key.map_err(|error| Problem::invalid(format!("`key`: {error}")))
}

/// Makes a key that takes the place of another, which ends after a grace.
///
/// The answer shows the new key for the only time. Needs no body. If an `Idempotency-Key` comes again, the answer has the
/// records alone.
#[utoipa::path(
    post, path = "/v1/keys/{id}/rotate", operation_id = "rotate_key", tag = "Keys",
    params(("id" = KeyId, Path, description = "As a list shows it."), ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters of your choice. Sent again within a day, the request makes nothing more, and is answered with what it made before, but for the key itself, which cannot be shown again.", min_length = 1, max_length = 255)),
    request_body = Option<RotateBody>,
    responses(
        (status = 201, description = "The new key, for the only time, and the old one.", body = RotatedView, headers(("ETag" = String, description = "The name of the key as it is, for `If-Match`."), ("Location" = String, description = "Where the new key is."))),
        (status = 200, description = "The request came before.", body = RepeatedView, headers(("ETag" = String, description = "The name of the key as it is, for `If-Match`."))),
        (status = 409, description = "The key is revoked, has expired or was rotated before.", body = ProblemView, content_type = "application/problem+json"),
        (status = 422, description = "A member is not allowed, or another request had this `Idempotency-Key` before.", body = ProblemView, content_type = "application/problem+json")
    )
)]
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
            Ok(with_etag(Revision::of(&record), (StatusCode::CREATED, location, view)))
        }
        Made::Before(new) => {
            let (record, old) = (new.record.clone(), seen.get(&id).await?);
            Ok(with_etag(
                Revision::of(&record),
                Json(RepeatedView::of(*new, Some(old), state.clock.now().wall)),
            ))
        }
    }
}

/// Takes over keys that existed before, by their SHA-256.
#[utoipa::path(
    post, path = "/v1/keys/import", operation_id = "import_keys", tag = "Keys",
    request_body = ImportBody,
    responses(
        (status = 200, description = "All are there. To repeat it does no harm.", body = ImportView)
    )
)]
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
    Ok(with_etag(Revision::of(&record), Json(RevokedView::of(key, newly, receipt, state.clock.now().wall))))
}

fn key_id(text: &str) -> Result<KeyId, Problem> {
    text.parse().map_err(|_| KeyError::NotFound.into())
}
