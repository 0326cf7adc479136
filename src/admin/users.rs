//! `/v1/users`: the handlers.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::{StatusCode, header};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::model::Timestamp;
use crate::people::{
    Account, NewUser, Password, PeopleError, Role, Team, User, UserChange, UserEntry, UserId,
};

use super::conditions::{IfMatch, with_etag};
use super::problem::{Problem, ProblemView};
use super::session::Caller;
use super::{AdminState, body};

/// A user, without the password.
#[derive(Serialize, ToSchema)]
#[schema(as = User)]
pub(super) struct UserView {
    id: UserId,
    /// What is typed to log in; no two users have the same.
    account: Account,
    display_name: String,
    role: Role,
    /// Whose keys and users this user sees; without one, which is for admins alone, all of them.
    team: Option<Team>,
    /// Whether log-in is refused.
    disabled: bool,
    created_at: Timestamp,
    /// Whether the user has set one; else only a link lets in.
    has_password: bool,
}

/// Users, by account.
#[derive(Serialize, ToSchema)]
#[schema(as = Users)]
pub(super) struct UsersView {
    data: Vec<UserView>,
}

/// A link that works once.
#[derive(Serialize, ToSchema)]
#[schema(as = Link)]
pub(super) struct LinkView {
    /// To be put behind the address of this console. Whoever has it can set the password.
    path: String,
    expires_at: Timestamp,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = NewUser)]
#[serde(deny_unknown_fields)]
pub(super) struct AddBody {
    /// An e-mail address or a name to log in with; case does not matter.
    #[schema(max_length = 254, example = "ada@example.com")]
    account: String,
    /// What others see; the account if nothing is said.
    #[schema(max_length = 100)]
    display_name: Option<String>,
    role: Role,
    /// Your own, if you have one. Only an admin may be without.
    team: Option<Team>,
    /// Without one, a link has to set it.
    #[schema(value_type = Option<String>, min_length = 12, max_length = 256)]
    password: Option<Password>,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = UserEdit)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeBody {
    #[schema(max_length = 100)]
    display_name: Option<String>,
    role: Option<Role>,
    /// `null` is no team, which is another thing than no member.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Team>)]
    team: Option<Option<Team>>,
    /// Whether log-in is refused.
    disabled: Option<bool>,
    #[schema(value_type = Option<String>, min_length = 12, max_length = 256)]
    password: Option<Password>,
}

/// Lists users.
#[utoipa::path(
    get, path = "/v1/users", operation_id = "list_users", tag = "Users",
    responses((status = 200, description = "Everybody whom you may know of.", body = UsersView))
)]
pub(super) async fn list(
    State(state): State<AdminState>,
    caller: Caller,
) -> Result<Json<UsersView>, Problem> {
    caller.may(Role::Admin)?;
    let users = state.people.list(caller.wall()).await?;
    Ok(Json(UsersView { data: users.into_iter().map(view).collect() }))
}

/// Adds a user.
#[utoipa::path(
    post, path = "/v1/users", operation_id = "add_user", tag = "Users",
    request_body = AddBody,
    responses(
        (status = 201, description = "The user is added.", body = UserView, headers(("Location" = String, description = "Where the user is."), ("ETag" = String, description = "The name of the user as it is, for `If-Match`."))),
        (status = 409, description = "Another user has this account; or this one, if the request is a repeated one. If it is somebody whom you may not know of: 422.", body = ProblemView, content_type = "application/problem+json")
    )
)]
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
    let new = NewUser {
        account: body.account,
        display_name: body.display_name,
        role: body.role,
        team,
        password: body.password,
    };
    let added = state.people.add(new, caller.wall()).await?;
    let location = [(header::LOCATION, format!("/v1/users/{}", added.user.id))];
    Ok(with_etag(added.revision, (StatusCode::CREATED, location, Json(view(added)))))
}

/// Shows a user.
#[utoipa::path(
    get, path = "/v1/users/{id}", operation_id = "show_user", tag = "Users",
    params(("id" = UserId, Path, description = "As a list shows it.")),
    responses((status = 200, description = "The user.", body = UserView, headers(("ETag" = String, description = "The name of the user as it is, for `If-Match`."))))
)]
pub(super) async fn show(
    State(state): State<AdminState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    caller.may(Role::Admin)?;
    let found = state.people.get(&user_id(&id)?, caller.wall()).await?;
    Ok(with_etag(found.revision, Json(view(found))))
}

/// Changes a user.
///
/// Of the user as `If-Match` says that it was seen. What takes something from the user, or changes the password, ends the
/// user's sessions.
#[utoipa::path(
    patch, path = "/v1/users/{id}", operation_id = "edit_user", tag = "Users",
    params(("id" = UserId, Path, description = "As a list shows it."), ("If-Match" = String, Header, description = "ETags of the user as you have seen it, or `*`.")),
    request_body = ChangeBody,
    responses(
        (status = 200, description = "The user as it is now.", body = UserView, headers(("ETag" = String, description = "The name of the user as it is, for `If-Match`."))),
        (status = 409, description = "It would leave no admin of the fleet; or, with `*`, others changed the user at the same time.", body = ProblemView, content_type = "application/problem+json"),
        (status = 412, description = "The user was changed meanwhile; `current` is what it is now.", body = ProblemView, content_type = "application/problem+json", headers(("ETag" = String, description = "The name of the user as it is, for `If-Match`."))),
        (status = 428, description = "`If-Match` is missing.", body = ProblemView, content_type = "application/problem+json")
    )
)]
pub(super) async fn change(
    State(state): State<AdminState>,
    caller: Caller,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    caller.may(Role::Admin)?;
    let id = user_id(&id)?;
    let seen = IfMatch::of(request.headers())?;
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
    let seen = |revision| seen.is(revision);
    match state.people.update(&id, caller.wall(), seen, change, is_person(&caller)).await {
        Ok(changed) => Ok(with_etag(changed.revision, Json(view(changed)))),
        Err(PeopleError::EditedMeanwhile(now)) => {
            let current = serde_json::to_value(view((*now).clone())).unwrap_or_default();
            let problem = Problem::from(PeopleError::EditedMeanwhile(now.clone()));
            Ok(with_etag(now.revision, problem.with_current(current)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Removes a user, and the user's sessions.
#[utoipa::path(
    delete, path = "/v1/users/{id}", operation_id = "remove_user", tag = "Users",
    params(("id" = UserId, Path, description = "As a list shows it.")),
    responses(
        (status = 204, description = "The user is gone."),
        (status = 409, description = "It would leave no admin of the fleet.", body = ProblemView, content_type = "application/problem+json")
    )
)]
pub(super) async fn remove(
    State(state): State<AdminState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    caller.may(Role::Admin)?;
    state.people.remove(&user_id(&id)?, caller.wall(), is_person(&caller)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a link by which a user sets a password, once.
///
/// Takes no body. Asked for again it makes another one; the password that is set by one of them ends them all.
#[utoipa::path(
    post, path = "/v1/users/{id}/link", operation_id = "link_user", tag = "Users",
    params(("id" = UserId, Path, description = "As a list shows it.")),
    responses((status = 201, description = "The link; this is the only time that it is shown.", body = LinkView))
)]
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

fn view(UserEntry { user, has_password, revision: _ }: UserEntry) -> UserView {
    let User { id, account, display_name, role, team, disabled, created_at } = user;
    UserView { id, account, display_name, role, team, disabled, created_at, has_password }
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
