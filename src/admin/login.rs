//! Logging in and out, and the page of one's own account.

use askama::Template;
use axum::extract::{Extension, Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;

use crate::people::{CsrfToken, Password, PeopleError, Purpose, SecretToken, User};

use super::AdminState;
use super::console::{Gate, Page, Shell};
use super::problem::Problem;
use super::session::{HOME, LOGIN, Source, Visitor, own_path};

const NOT_THE_SAME: &str = "The two new passwords are not the same.";

/// The pages of this file.
pub(super) fn routes() -> Router<AdminState> {
    Router::new()
        .route(LOGIN, get(show_login).post(log_in))
        .route("/link/{token}", get(show_link).post(use_link))
        .route("/logout", post(log_out))
        .route("/logout/everywhere", post(log_out_everywhere))
        .route("/account", get(show_account))
        .route("/account/password", post(change_password))
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    shell: Gate,
    csrf: &'a str,
    next: &'a str,
    account: &'a str,
    wrong: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "link.html")]
struct LinkPage<'a> {
    shell: Gate,
    csrf: &'a str,
    /// `None` if the link is good for nothing.
    account: Option<&'a str>,
    sets_password: bool,
    wrong: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage<'a> {
    shell: Shell,
    user: &'a User,
    wrong: Option<&'a str>,
    done: bool,
}

#[derive(Deserialize)]
struct Next {
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
struct LoginForm {
    account: String,
    password: Password,
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
struct LinkForm {
    password: Option<String>,
    repeated: Option<String>,
}

#[derive(Deserialize)]
struct PasswordForm {
    current: Password,
    password: String,
    repeated: String,
}

#[derive(Deserialize)]
struct Done {
    done: Option<String>,
}

/// `GET /login`. Whoever is logged in goes on.
async fn show_login(
    State(state): State<AdminState>,
    visitor: Option<Visitor>,
    Query(Next { next }): Query<Next>,
    Presented(presented): Presented,
) -> Result<Response, Problem> {
    let next = own_path(&next).unwrap_or_default();
    if visitor.is_some() {
        return Ok(Redirect::to(if next.is_empty() { HOME } else { &next }).into_response());
    }
    let (csrf, cookie) = login_token(&state, presented)?;
    let page = LoginPage {
        shell: Gate::of(&state.brand),
        csrf: csrf.as_str(),
        next: &next,
        account: "",
        wrong: None,
    };
    Ok(with_cookie(page_of(StatusCode::OK, &page), cookie))
}

/// `POST /login`. A session that the browser had before ends.
async fn log_in(
    State(state): State<AdminState>,
    visitor: Option<Visitor>,
    Extension(Source(source)): Extension<Source>,
    Presented(presented): Presented,
    Form(form): Form<LoginForm>,
) -> Result<Response, Problem> {
    let next = own_path(&form.next).unwrap_or_default();
    match state.people.log_in(&form.account, &form.password, source).await {
        Ok((token, _)) => {
            end(&state, visitor).await?;
            Ok(enter(&state, &token, if next.is_empty() { HOME } else { &next }))
        }
        Err(error) => {
            let wrong = sentence(&error);
            let refused = refusal(error)?;
            let (csrf, cookie) = login_token(&state, presented)?;
            let page = LoginPage {
                shell: Gate::of(&state.brand),
                csrf: csrf.as_str(),
                next: &next,
                account: &form.account,
                wrong: Some(&wrong),
            };
            Ok(with_cookie(refused.on(page_of(refused.status, &page)), cookie))
        }
    }
}

/// `GET /link/{token}`: shows what it is good for, and does not use it up.
async fn show_link(
    State(state): State<AdminState>,
    Path(token): Path<String>,
    Presented(presented): Presented,
) -> Result<Response, Problem> {
    link_page(&state, &token, presented, None).await
}

/// `POST /link/{token}`: sets the password, or logs in.
async fn use_link(
    State(state): State<AdminState>,
    visitor: Option<Visitor>,
    Path(text): Path<String>,
    Presented(presented): Presented,
    Form(form): Form<LinkForm>,
) -> Result<Response, Problem> {
    let Ok(token) = text.parse::<SecretToken>() else {
        return link_page(&state, &text, presented, None).await;
    };
    let (password, repeated) = (form.password.map(Password::new), form.repeated.map(Password::new));
    let used = match (password, repeated) {
        (None, None) => state.people.log_in_by_link(&token).await,
        (Some(password), Some(repeated)) if password.is_same(&repeated) => {
            state.people.set_password_by_link(&token, &password).await
        }
        _ => return link_page(&state, &text, presented, Some(NOT_THE_SAME)).await,
    };
    match used {
        Ok(session) => {
            end(&state, visitor).await?;
            Ok(enter(&state, &session, HOME))
        }
        Err(error) => {
            let wrong = sentence(&error);
            refusal(error)?;
            link_page(&state, &text, presented, Some(&wrong)).await
        }
    }
}

/// `POST /logout`.
async fn log_out(State(state): State<AdminState>, visitor: Visitor) -> Result<Response, Problem> {
    end(&state, Some(visitor)).await?;
    Ok(leave(&state))
}

/// `POST /logout/everywhere`.
async fn log_out_everywhere(State(state): State<AdminState>, visitor: Visitor) -> Result<Response, Problem> {
    state.people.log_out_everywhere(&visitor.user.id).await?;
    Ok(leave(&state))
}

/// `GET /account`.
async fn show_account(
    State(state): State<AdminState>,
    visitor: Visitor,
    Query(Done { done }): Query<Done>,
) -> Response {
    let shell = Shell::of(&state, &visitor, Page::Account);
    let page = AccountPage { shell, user: &visitor.user, wrong: None, done: done.is_some() };
    page_of(StatusCode::OK, &page)
}

/// `POST /account/password`. Every session ends, and this browser gets a new one.
async fn change_password(
    State(state): State<AdminState>,
    visitor: Visitor,
    Extension(Source(source)): Extension<Source>,
    Form(form): Form<PasswordForm>,
) -> Result<Response, Problem> {
    let (new, repeated) = (Password::new(form.password), Password::new(form.repeated));
    let page = |status, wrong: &str| {
        let shell = Shell::of(&state, &visitor, Page::Account);
        page_of(status, &AccountPage { shell, user: &visitor.user, wrong: Some(wrong), done: false })
    };
    if !new.is_same(&repeated) {
        return Ok(page(StatusCode::UNPROCESSABLE_ENTITY, NOT_THE_SAME));
    }
    match state.people.change_password(&visitor.user.id, &form.current, &new, source).await {
        Ok(token) => Ok(enter(&state, &token, "/account?done=password")),
        Err(PeopleError::WrongCredentials) => {
            Ok(page(StatusCode::FORBIDDEN, "The current password is wrong."))
        }
        Err(error) => {
            let wrong = sentence(&error);
            let refused = refusal(error)?;
            Ok(refused.on(page(refused.status, &wrong)))
        }
    }
}

async fn link_page(
    state: &AdminState,
    text: &str,
    presented: Option<SecretToken>,
    wrong: Option<&str>,
) -> Result<Response, Problem> {
    let found = match text.parse::<SecretToken>() {
        Ok(token) => state.people.link(&token).await,
        Err(_) => Err(PeopleError::LinkEnded),
    };
    let (csrf, cookie) = login_token(state, presented)?;
    let csrf = csrf.as_str();
    let answer = match found {
        Ok((purpose, user)) => {
            let sets_password = purpose == Purpose::SetPassword;
            let status = if wrong.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
            page_of(
                status,
                &LinkPage {
                    shell: Gate::of(&state.brand),
                    csrf,
                    account: Some(&user.account),
                    sets_password,
                    wrong,
                },
            )
        }
        Err(error @ PeopleError::LinkEnded) => {
            let wrong = sentence(&error);
            let page = LinkPage {
                shell: Gate::of(&state.brand),
                csrf,
                account: None,
                sets_password: false,
                wrong: Some(&wrong),
            };
            page_of(StatusCode::NOT_FOUND, &page)
        }
        Err(error) => return Err(error.into()),
    };
    Ok(with_cookie(answer, cookie))
}

/// What the form of a browser that is not logged in must match, and the cookie to match it; a new one if it has none.
fn login_token(
    state: &AdminState,
    presented: Option<SecretToken>,
) -> Result<(CsrfToken, Option<HeaderValue>), Problem> {
    match presented {
        Some(token) => Ok((token.csrf(), None)),
        None => {
            let token = SecretToken::random().map_err(PeopleError::from)?;
            Ok((token.csrf(), Some(state.cookies.set_login(&token))))
        }
    }
}

async fn end(state: &AdminState, visitor: Option<Visitor>) -> Result<(), Problem> {
    match visitor {
        Some(visitor) => Ok(state.people.log_out(&visitor.token).await?),
        None => Ok(()),
    }
}

/// Hands the browser its new session, and sends it on. With `303` the form is not sent again by a reload.
fn enter(state: &AdminState, token: &SecretToken, next: &str) -> Response {
    let mut answer = Redirect::to(next).into_response();
    answer.headers_mut().append(header::SET_COOKIE, state.cookies.set_session(token));
    answer.headers_mut().append(header::SET_COOKIE, state.cookies.clear_login());
    answer
}

fn leave(state: &AdminState) -> Response {
    with_cookie(Redirect::to(LOGIN).into_response(), Some(state.cookies.clear_session()))
}

/// How a page says that something was not done.
struct Refusal {
    status: StatusCode,
    retry_after: Option<u64>,
}

impl Refusal {
    fn on(&self, mut page: Response) -> Response {
        if let Some(seconds) = self.retry_after {
            page.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        page
    }
}

/// What a person can do something about stands on the page; the rest is a problem.
fn refusal(error: PeopleError) -> Result<Refusal, Problem> {
    let (status, retry_after) = match &error {
        PeopleError::WrongCredentials => (StatusCode::FORBIDDEN, None),
        PeopleError::Throttled(wait) => {
            (StatusCode::TOO_MANY_REQUESTS, Some(wait.as_millis().div_ceil(1_000).max(1) as u64))
        }
        PeopleError::Busy => (StatusCode::TOO_MANY_REQUESTS, Some(1)),
        PeopleError::Weak(_) => (StatusCode::UNPROCESSABLE_ENTITY, None),
        PeopleError::LinkEnded => (StatusCode::NOT_FOUND, None),
        _ => return Err(error.into()),
    };
    Ok(Refusal { status, retry_after })
}

/// The error as a sentence for people.
fn sentence(error: &PeopleError) -> String {
    let text = match error {
        PeopleError::Weak(weak) => format!("The password {weak}"),
        error => error.to_string(),
    };
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).chain(['.']).collect()
}

fn page_of(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => {
            let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
            (status, headers, html).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            Problem::internal().into_response()
        }
    }
}

fn with_cookie(mut answer: Response, cookie: Option<HeaderValue>) -> Response {
    if let Some(cookie) = cookie {
        answer.headers_mut().append(header::SET_COOKIE, cookie);
    }
    answer
}

/// The token of the log-in form that the browser has already.
struct Presented(Option<SecretToken>);

impl axum::extract::FromRequestParts<AdminState> for Presented {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut http::request::Parts,
        state: &AdminState,
    ) -> Result<Presented, Self::Rejection> {
        Ok(Presented(state.cookies.login_of(&parts.headers)))
    }
}
