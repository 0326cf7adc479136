//! `/v1/users`: the handlers.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::{Deserialize, Deserializer, Serialize};

use crate::model::Timestamp;
use crate::people::{NewUser, Password, PeopleError, Role, Team, User, UserChange, UserId};

use super::problem::Problem;
use super::session::Caller;
use super::{AdminState, body};

/// A user, without the password.
#[derive(Serialize)]
struct UserView {
    #[serde(flatten)]
    user: User,
    /// Whether the user has set one; else only a link lets in.
    has_password: bool,
}

#[derive(Serialize)]
pub(super) struct UsersView {
    data: Vec<UserView>,
}

/// A link that works once.
#[derive(Serialize)]
pub(super) struct LinkView {
    /// To be put behind the address of this console. Whoever has it can set the password.
    path: String,
    expires_at: Timestamp,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddBody {
    account: String,
    display_name: Option<String>,
    role: Role,
    team: Option<Team>,
    password: Option<Password>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeBody {
    display_name: Option<String>,
    role: Option<Role>,
    /// `null` is no team, which is another thing than no member.
    #[serde(default, deserialize_with = "present")]
    team: Option<Option<Team>>,
    disabled: Option<bool>,
    password: Option<Password>,
}

/// `GET /v1/users`: everybody, by account.
pub(super) async fn list(
    State(state): State<AdminState>,
    caller: Caller,
) -> Result<Json<UsersView>, Problem> {
    caller.may(Role::Admin)?;
    let users = state.people.list(caller.wall()).await?;
    Ok(Json(UsersView { data: users.into_iter().map(view).collect() }))
}

/// `POST /v1/users`: 201.
pub(super) async fn add(
    State(state): State<AdminState>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    caller.may(Role::Admin)?;
    let body: AddBody = body::read(request, body::LIMIT).await?;
    let team = match (caller.wall(), body.team) {
        (None, team) => team,
        (Some(wall), None) => Some(wall.clone()),
        (Some(wall), Some(team)) if *wall == team => Some(team),
        (Some(_), Some(_)) => return Err(other_team()),
    };
    let has_password = body.password.is_some();
    let new = NewUser {
        account: body.account,
        display_name: body.display_name,
        role: body.role,
        team,
        password: body.password,
    };
    let user = state.people.add(new).await?;
    let location = format!("/v1/users/{}", user.id);
    let view = Json(UserView { user, has_password });
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], view).into_response())
}

/// `GET /v1/users/{id}`.
pub(super) async fn show(
    State(state): State<AdminState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    caller.may(Role::Admin)?;
    let found = state.people.get(&user_id(&id)?, caller.wall()).await?;
    Ok(Json(view(found)).into_response())
}

/// `PATCH /v1/users/{id}`. What takes something from the user ends the user's sessions.
pub(super) async fn change(
    State(state): State<AdminState>,
    caller: Caller,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    caller.may(Role::Admin)?;
    let id = user_id(&id)?;
    let body: ChangeBody = body::read(request, body::LIMIT).await?;
    if let (Some(wall), Some(team)) = (caller.wall(), &body.team)
        && team.as_ref() != Some(wall)
    {
        // Whether there is such a user comes first.
        state.people.get(&id, Some(wall)).await?;
        return Err(other_team());
    }
    let change = UserChange {
        display_name: body.display_name,
        role: body.role,
        team: body.team,
        disabled: body.disabled,
        password: body.password,
    };
    let changed = state.people.update(&id, caller.wall(), change, is_person(&caller)).await?;
    Ok(Json(view(changed)).into_response())
}

/// `DELETE /v1/users/{id}`: 204.
pub(super) async fn remove(
    State(state): State<AdminState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    caller.may(Role::Admin)?;
    state.people.remove(&user_id(&id)?, caller.wall(), is_person(&caller)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/users/{id}/link`: 201, with a link by which the user sets a password, once. Takes no body.
pub(super) async fn link(
    State(state): State<AdminState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<LinkView>), Problem> {
    caller.may(Role::Admin)?;
    let (token, expires_at) = state.people.password_link(&user_id(&id)?, caller.wall()).await?;
    let path = format!("/link/{}", *token.expose());
    Ok((StatusCode::CREATED, Json(LinkView { path, expires_at })))
}

fn view((user, has_password): (User, bool)) -> UserView {
    UserView { user, has_password }
}

fn user_id(text: &str) -> Result<UserId, Problem> {
    text.parse().map_err(|_| PeopleError::NotFound.into())
}

/// The machine may remove the last admin: it can add another.
fn is_person(caller: &Caller) -> bool {
    matches!(caller, Caller::Person(_))
}

fn other_team() -> Problem {
    Problem::invalid("`team` must be your own")
}

fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
