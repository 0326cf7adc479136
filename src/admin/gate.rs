//! The one place that decides who is asking, and whether that one may ask at all.
//!
//! Machines show the token and may everything. A person's session opens the pages, and of the API what the table
//! below says; a route that is not in it is closed to people. Whatever a person sends that could change something must come
//! from a page of ours: its origin, and the token of its form, are looked at here and nowhere else.

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, header};
use http_body_util::BodyExt;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::people::{CsrfToken, Role, SecretToken};

use super::conditions::CallerName;
use super::problem::Problem;
use super::session::{Caller, LOGIN, Source, Visitor, to_login};
use super::{AdminState, body, frame};

/// Bytes of a form.
const FORM_LIMIT: usize = 64 * 1024;
const CSRF_HEADER: &str = "x-csrf-token";
/// The hidden field of every form.
const CSRF_FIELD: &str = "csrf";

/// What a person needs for a route of the API.
pub(super) enum Need {
    /// This role. What is shown and changed is the own team's, which the handlers' keys and people see to.
    Role(Role),
    /// To be an admin of the whole fleet.
    Fleet,
}

/// By method and route.
pub(super) fn need(method: &Method, route: &str) -> Option<Need> {
    Some(match (method.as_str(), route) {
        (
            "GET" | "HEAD",
            "/v1/keys" | "/v1/keys/{id}" | "/v1/keys/{id}/usage" | "/v1/keys/{id}/history" | "/v1/gateways",
        ) => Need::Role(Role::Viewer),
        ("POST", "/v1/keys/find") => Need::Role(Role::Viewer),
        ("POST", "/v1/keys" | "/v1/keys/revoke" | "/v1/keys/{id}/revoke" | "/v1/keys/{id}/rotate") => {
            Need::Role(Role::Editor)
        }
        ("PATCH", "/v1/keys/{id}") => Need::Role(Role::Editor),
        ("GET" | "HEAD" | "POST", "/v1/users") => Need::Role(Role::Admin),
        ("GET" | "HEAD" | "PATCH" | "DELETE", "/v1/users/{id}") => Need::Role(Role::Admin),
        ("POST", "/v1/users/{id}/link") => Need::Role(Role::Admin),
        ("POST", "/v1/keys/import" | "/v1/store/accept") => Need::Fleet,
        ("GET" | "HEAD", "/v1/store") => Need::Fleet,
        _ => return None,
    })
}

/// Lets a request pass with its [`Caller`], or not.
pub(super) async fn gate(State(state): State<AdminState>, request: Request, next: Next) -> Response {
    let answer = match admit(&state, request).await {
        Ok(request) => next.run(request).await,
        Err(refused) => refused,
    };
    no_store(answer)
}

async fn admit(state: &AdminState, request: Request) -> Result<Request, Response> {
    let refuse = |problem: Problem| problem.into_response();
    let (mut parts, body) = request.into_parts();
    let is_api = frame::is_api(parts.uri.path());
    parts.extensions.insert(Source::of(&parts, state.behind_tls));

    if is_api && parts.headers.contains_key(header::AUTHORIZATION) {
        let presented = frame::bearer(&parts.headers).map_err(refuse)?;
        if !state.token.as_ref().is_some_and(|token| token.is(presented)) {
            return Err(refuse(Problem::unauthorized("this is not the admin token")));
        }
        parts.extensions.insert(Caller::Machine);
        return Ok(Request::from_parts(parts, body));
    }

    let visitor = match state.cookies.session_of(&parts.headers) {
        Some(token) => visitor(state, token).await.map_err(refuse)?,
        None => None,
    };
    let is_open = is_open(parts.uri.path());
    let body = if parts.method.is_safe() {
        body
    } else {
        let expected = match (&visitor, is_open) {
            (_, true) => state.cookies.login_of(&parts.headers).map(|token| token.csrf()),
            (Some(visitor), false) => Some(visitor.csrf.clone()),
            // Nothing is done: it is sent away below.
            (None, false) => None,
        };
        match expected {
            Some(expected) => check_origin(&parts.headers)
                .and(check_csrf(&parts.headers, &expected, body).await)
                .map_err(refuse)?,
            None if is_open => return Err(refuse(Problem::forged())),
            None => body,
        }
    };
    match visitor {
        Some(visitor) => {
            if is_api {
                may_call(&parts, &visitor).map_err(refuse)?;
            }
            parts.extensions.insert(CallerName(visitor.user.id.to_string()));
            parts.extensions.insert(Caller::Person(visitor));
        }
        None if is_api => {
            return Err(refuse(Problem::unauthorized("send Authorization: Bearer and the admin token")));
        }
        None if !is_open && !parts.method.is_safe() => return Err(to_login(&parts.method, &parts.uri)),
        None => {}
    }
    Ok(Request::from_parts(parts, body))
}

async fn visitor(state: &AdminState, token: SecretToken) -> Result<Option<Visitor>, Problem> {
    let found = state.people.visit(&token).await.map_err(crate::people::PeopleError::from)?;
    Ok(found.map(|found| Visitor {
        role: found.user.role,
        team: found.user.team.clone(),
        user: found.user,
        csrf: found.csrf,
        token,
    }))
}

fn may_call(parts: &http::request::Parts, visitor: &Visitor) -> Result<(), Problem> {
    // What no route knows is answered as such.
    let Some(route) = parts.extensions.get::<MatchedPath>() else { return Ok(()) };
    match need(&parts.method, route.as_str()) {
        Some(Need::Role(role)) => visitor.may(role),
        Some(Need::Fleet) => Caller::Person(visitor.clone()).for_the_fleet(),
        None => Err(Problem::forbidden_to_teams()),
    }
}

/// Pages for those who are not logged in. Their forms carry a token of their own.
fn is_open(path: &str) -> bool {
    path == LOGIN || path.starts_with("/link/")
}

/// Refuses what another site's page sent, by what the browser says of it. Those that say nothing are no browsers, or old
/// ones; they need the token all the same.
fn check_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let is = |name: &str, allowed: &dyn Fn(&str) -> bool| {
        headers.get_all(name).iter().all(|value| value.to_str().is_ok_and(allowed))
    };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_ours = |origin: &str| {
        let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        authority.is_some_and(|authority| !host.is_empty() && authority.eq_ignore_ascii_case(host))
    };
    let is_site = |site: &str| matches!(site, "same-origin" | "none");
    if is("origin", &is_ours) && is("sec-fetch-site", &is_site) { Ok(()) } else { Err(Problem::forged()) }
}

/// Looks for the token in the header, or in the form, which is read for that and given back.
async fn check_csrf(headers: &HeaderMap, expected: &CsrfToken, body: Body) -> Result<Body, Problem> {
    if let Some(presented) = headers.get(CSRF_HEADER) {
        return if expected.is(presented.as_bytes()) { Ok(body) } else { Err(Problem::forged()) };
    }
    if !body::is(body::FORM, headers) {
        return Err(Problem::forged());
    }
    let bytes = body::collect(Request::new(body), FORM_LIMIT).await?;
    let mut presented = form_urlencoded::parse(&bytes)
        .filter(|(name, _)| name == CSRF_FIELD)
        .map(|(_, value)| Zeroizing::new(value.into_owned()));
    match (presented.next(), presented.next()) {
        (Some(presented), None) if expected.is(presented.as_bytes()) => {
            Ok(Body::new(http_body_util::Full::new(bytes.clone()).map_err(|never| match never {})))
        }
        _ => Err(Problem::forged()),
    }
}

/// Nothing that needs a session, or leads to one, is kept by a browser or by what is between.
fn no_store(mut answer: Response) -> Response {
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
