//! *Users*: who may log in. For admins; one of a team sees and changes that team's users alone.

use askama::Template;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::StatusCode;

use crate::admin::AdminState;
use crate::admin::problem::Problem;
use crate::admin::session::Visitor;
use crate::model::{Role, SecretToken, Team, Timestamp, User, UserId};
use crate::people::{NewUser, PeopleError, UserChange, UserEntry};

use super::form::Fields;
use super::page;
use super::shell::{Page, Shell, role_name};
use super::view::{Time, sentence};

const PATH: &str = "/settings/users";

#[derive(Template)]
#[template(path = "users.html")]
struct UsersPage {
    shell: Shell,
    users: Vec<Row>,
    problem: Option<String>,
    link: Option<PasswordLink>,
}

#[derive(Template)]
#[template(path = "user.html")]
struct UserPage {
    shell: Shell,
    /// Who is changed; nobody where one is added.
    user: Option<Row>,
    problem: Option<String>,
    account: String,
    display_name: String,
    role: String,
    /// To be chosen, by who manages all teams.
    team: Option<String>,
    roles: [(&'static str, &'static str, &'static str); 3],
}

#[derive(Template)]
#[template(path = "remove_user.html")]
struct RemovePage {
    shell: Shell,
    user: Row,
}

struct Row {
    id: UserId,
    name: String,
    account: String,
    role: &'static str,
    team: String,
    state: &'static str,
    css: &'static str,
    since: Time,
    myself: bool,
    /// Which a change is a change of.
    revision: u64,
}

/// By which somebody sets a password: shown once, as a key is.
struct PasswordLink {
    name: String,
    path: String,
    until: Time,
}

const ROLE_CHOICES: [(&str, &str, &str); 3] = [
    ("viewer", "Viewer", "Sees keys and their use"),
    ("editor", "Editor", "Creates, rotates and revokes keys too"),
    ("admin", "Admin", "Manages users too"),
];

/// `GET /settings/users`.
pub(super) async fn list(State(state): State<AdminState>, visitor: Visitor) -> Result<Response, Problem> {
    visitor.may(Role::Admin)?;
    page::html(&UsersPage::of(&state, &visitor, None).await?)
}

/// `GET /settings/users/new`.
pub(super) async fn ask(State(state): State<AdminState>, visitor: Visitor) -> Result<Response, Problem> {
    visitor.may(Role::Admin)?;
    page::html(&UserPage::empty(&state, &visitor))
}

/// `POST /settings/users`: 201, with the link by which the new user sets a password.
pub(super) async fn add(
    State(state): State<AdminState>,
    visitor: Visitor,
    request: Request,
) -> Result<Response, Problem> {
    visitor.may(Role::Admin)?;
    let fields = Fields::read(request).await?;
    let added = match wanted(&fields, &visitor) {
        Ok(new) => state.people.add(new, visitor.team.as_ref()).await,
        Err(what) => Err(what),
    };
    match added {
        Ok(added) => with_link(&state, &visitor, added.user, StatusCode::CREATED).await,
        Err(error) => {
            let page =
                UserPage { problem: Some(explained(error)?), ..UserPage::filled(&state, &visitor, &fields) };
            page::html_with(StatusCode::UNPROCESSABLE_ENTITY, &page)
        }
    }
}

/// `POST /settings/users/{id}/link`: a link by which a user sets another password.
pub(super) async fn link(
    State(state): State<AdminState>,
    visitor: Visitor,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let id = changing(&visitor, &id, request).await?.0;
    let found = state.people.get(&id, visitor.team.as_ref()).await?;
    with_link(&state, &visitor, found.user, StatusCode::OK).await
}

/// `GET /settings/users/{id}`: the form by which a user is changed.
pub(super) async fn edit(
    State(state): State<AdminState>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    visitor.may(Role::Admin)?;
    let row = find(&state, &visitor, &id).await?;
    page::html(&UserPage {
        role: row.role.to_lowercase(),
        user: Some(row),
        ..UserPage::empty(&state, &visitor)
    })
}

/// `POST /settings/users/{id}`: another role, or the end of log-ins, of the user as the form showed it.
pub(super) async fn change(
    State(state): State<AdminState>,
    visitor: Visitor,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (id, fields) = changing(&visitor, &id, request).await?;
    let change = UserChange {
        role: fields.get("role").parse().ok(),
        disabled: Some(fields.get("disabled") == "yes"),
        ..UserChange::default()
    };
    let seen = |revision: u64| fields.get("revision") == revision.to_string();
    match state.people.update(&id, visitor.team.as_ref(), seen, change, true).await {
        Ok(_) => Ok(page::see(PATH)),
        Err(error) => refused(&state, &visitor, error).await,
    }
}

/// `GET /settings/users/{id}/remove`.
pub(super) async fn ask_removal(
    State(state): State<AdminState>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    visitor.may(Role::Admin)?;
    let user = find(&state, &visitor, &id).await?;
    page::html(&RemovePage { shell: Shell::of(&state, &visitor, Page::Users), user })
}

/// `POST /settings/users/{id}/remove`.
pub(super) async fn remove(
    State(state): State<AdminState>,
    visitor: Visitor,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (id, _) = changing(&visitor, &id, request).await?;
    match state.people.remove(&id, visitor.team.as_ref(), true).await {
        Ok(()) => Ok(page::see(PATH)),
        Err(error) => refused(&state, &visitor, error).await,
    }
}

/// Whom an admin wants to change, and what the form says.
async fn changing(visitor: &Visitor, id: &str, request: Request) -> Result<(UserId, Fields), Problem> {
    visitor.may(Role::Admin)?;
    let fields = Fields::read(request).await?;
    Ok((id.parse().map_err(|_| PeopleError::NotFound)?, fields))
}

async fn find(state: &AdminState, visitor: &Visitor, id: &str) -> Result<Row, Problem> {
    let id: UserId = id.parse().map_err(|_| PeopleError::NotFound)?;
    let found = state.people.get(&id, visitor.team.as_ref()).await?;
    Ok(Row::of(found, visitor, state.clock.now().wall))
}

/// Whom a form wants to add. Who has a team adds to that team alone.
fn wanted(fields: &Fields, visitor: &Visitor) -> Result<NewUser, PeopleError> {
    let role = fields.get("role").parse();
    let role: Role = role.map_err(|_| PeopleError::Invalid { field: "role", what: "has to be chosen" })?;
    let team: Option<Team> = match (&visitor.team, fields.get("team").trim()) {
        (Some(team), _) => Some(team.clone()),
        (None, "") => None,
        (None, text) => Some(text.parse().map_err(|_| PeopleError::Invalid {
            field: "team",
            what: "must be 1 to 64 of A-Z, a-z, 0-9, `_`, `.` and `-`",
        })?),
    };
    let display_name = Some(fields.get("display_name").trim().to_owned()).filter(|name| !name.is_empty());
    Ok(NewUser { account: fields.get("account").to_owned(), display_name, role, team, password: None })
}

/// The list, with a link for `user`.
async fn with_link(
    state: &AdminState,
    visitor: &Visitor,
    user: User,
    status: StatusCode,
) -> Result<Response, Problem> {
    let (token, until) = state.people.password_link(&user.id, visitor.team.as_ref()).await?;
    let link = PasswordLink { name: user.display_name, path: link_path(&token), until: Time::exact(until) };
    page::html_with(status, &UsersPage::of(state, visitor, Some(link)).await?)
}

fn link_path(token: &SecretToken) -> String {
    format!("/link/{}", *token.expose())
}

/// The list, with what could not be done.
async fn refused(state: &AdminState, visitor: &Visitor, error: PeopleError) -> Result<Response, Problem> {
    let problem = Some(explained(error)?);
    let page = UsersPage { problem, ..UsersPage::of(state, visitor, None).await? };
    page::html_with(StatusCode::UNPROCESSABLE_ENTITY, &page)
}

/// What whoever filled in a form can do something about; anything else is a page of its own.
fn explained(error: PeopleError) -> Result<String, Problem> {
    match error {
        PeopleError::Account(_)
        | PeopleError::Invalid { .. }
        | PeopleError::AccountTaken
        | PeopleError::AccountUnusable
        | PeopleError::LastAdmin
        | PeopleError::EditedMeanwhile(_)
        | PeopleError::Outdated => Ok(sentence(&error.to_string())),
        other => Err(other.into()),
    }
}

impl UsersPage {
    async fn of(
        state: &AdminState,
        visitor: &Visitor,
        link: Option<PasswordLink>,
    ) -> Result<UsersPage, Problem> {
        let now = state.clock.now().wall;
        let users = state.people.list(visitor.team.as_ref()).await?;
        let users = users.into_iter().map(|entry| Row::of(entry, visitor, now));
        let shell = Shell::of(state, visitor, Page::Users);
        Ok(UsersPage { shell, users: users.collect(), problem: None, link })
    }
}

impl UserPage {
    fn empty(state: &AdminState, visitor: &Visitor) -> UserPage {
        UserPage {
            shell: Shell::of(state, visitor, Page::Users),
            user: None,
            problem: None,
            account: String::new(),
            display_name: String::new(),
            role: String::new(),
            team: visitor.team.is_none().then(String::new),
            roles: ROLE_CHOICES,
        }
    }

    fn filled(state: &AdminState, visitor: &Visitor, fields: &Fields) -> UserPage {
        let said = |name: &str| fields.get(name).to_owned();
        UserPage {
            account: said("account"),
            display_name: said("display_name"),
            role: said("role"),
            team: visitor.team.is_none().then(|| said("team")),
            ..UserPage::empty(state, visitor)
        }
    }
}

impl Row {
    fn of(entry: UserEntry, visitor: &Visitor, now: Timestamp) -> Row {
        let UserEntry { user, has_password, revision } = entry;
        let (state, css) = match (user.disabled, has_password) {
            (true, _) => ("Disabled", "status-revoked"),
            (false, false) => ("No password yet", "status-expiring"),
            (false, true) => ("Active", "status-active"),
        };
        Row {
            id: user.id,
            name: user.display_name,
            account: user.account.to_string(),
            role: role_name(user.role),
            team: user.team.map_or_else(|| "All teams".to_owned(), |team| team.to_string()),
            state,
            css,
            since: Time::relative(user.created_at, now),
            myself: user.id == visitor.user.id,
            revision,
        }
    }
}
