//! Who is asking: a machine with the token, or a person with a session.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::response::{IntoResponse, Redirect, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use url::{Url, form_urlencoded};

use crate::people::{CsrfToken, Role, SecretToken, Team, User};

use super::problem::Problem;

/// Where people log in.
pub(super) const LOGIN: &str = "/login";
/// Where they come to when nothing else is asked for.
pub(super) const HOME: &str = "/settings/api-keys";
const MAX_NEXT: usize = 1024;

/// Who asks. The gate finds it out, before any handler runs.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// The admin token: may everything, sees every team.
    Machine,
    /// Somebody who is logged in.
    Person(Visitor),
}

/// Somebody who is logged in. As an extractor it sends everybody else to the log-in; what they post has passed the
/// gate, which looked at the token of its form.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    /// Who it is, as of this request.
    pub(super) user: User,
    /// The user's.
    pub(super) role: Role,
    /// The user's; `None` is all teams.
    pub(super) team: Option<Team>,
    /// For the hidden field `csrf` of every form, and for scripts' `X-CSRF-Token`.
    pub(super) csrf: CsrfToken,
    /// The session's.
    pub(super) token: SecretToken,
}

impl Visitor {
    /// # Errors
    /// 403 for whoever has less than `role`.
    pub(super) fn may(&self, role: Role) -> Result<(), Problem> {
        if self.role >= role { Ok(()) } else { Err(Problem::forbidden(role)) }
    }

    /// The only team whose keys this visitor sees; `None` sees all.
    pub(super) fn wall(&self) -> Option<&str> {
        self.team.as_deref()
    }
}

impl Caller {
    /// # Errors
    /// 403 for a person who has less than `role`.
    pub(super) fn may(&self, role: Role) -> Result<(), Problem> {
        match self {
            Caller::Machine => Ok(()),
            Caller::Person(visitor) => visitor.may(role),
        }
    }

    /// The only team that the caller sees; `None` sees all.
    pub(super) fn wall(&self) -> Option<&Team> {
        match self {
            Caller::Machine => None,
            Caller::Person(visitor) => visitor.team.as_ref(),
        }
    }

    /// # Errors
    /// 403 for everybody but the machine and fleet admins.
    pub(super) fn for_the_fleet(&self) -> Result<(), Problem> {
        match self {
            Caller::Machine => Ok(()),
            Caller::Person(visitor) if visitor.user.is_fleet_admin() => Ok(()),
            Caller::Person(_) => Err(Problem::forbidden_to_teams()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, Problem> {
        parts
            .extensions
            .get()
            .cloned()
            .ok_or_else(|| Problem::unauthorized("log in, or send the admin token"))
    }
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Visitor, Response> {
        match parts.extensions.get() {
            Some(Caller::Person(visitor)) => Ok(visitor.clone()),
            Some(Caller::Machine) | None => Err(to_login(&parts.method, &parts.uri)),
        }
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Visitor>, Infallible> {
        Ok(match parts.extensions.get() {
            Some(Caller::Person(visitor)) => Some(visitor.clone()),
            Some(Caller::Machine) | None => None,
        })
    }
}

/// Sends a browser to the log-in, and back afterwards to what it wanted to see.
pub(super) fn to_login(method: &Method, uri: &Uri) -> Response {
    let target = uri.path_and_query().map_or(HOME, |target| target.as_str());
    match own_path(target).filter(|path| method == Method::GET && path != "/") {
        Some(next) => {
            let query = form_urlencoded::Serializer::new(String::new()).append_pair("next", &next).finish();
            Redirect::to(&format!("{LOGIN}?{query}")).into_response()
        }
        None => Redirect::to(LOGIN).into_response(),
    }
}

/// A path of this server with its query, as a browser would understand `text`; `None` if that leads elsewhere.
pub(super) fn own_path(text: &str) -> Option<String> {
    if text.len() > MAX_NEXT || !text.starts_with('/') || text.chars().any(|c| c.is_control() || c == '\\') {
        return None;
    }
    let here = Url::parse("http://keygate.invalid").expect("a URL of our own");
    let there = here.join(text).ok()?;
    if there.origin() != here.origin() || there.path().starts_with("//") {
        return None;
    }
    let query = there.query().map(|query| format!("?{query}")).unwrap_or_default();
    Some(format!("{}{query}", there.path()))
}

/// How cookies are spelled here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookies {
    /// Whether browsers reach this listener by https. Without it, which is for loopback alone, cookies have neither the
    /// prefix `__Host-` nor `Secure`: browsers do not agree on whether http://127.0.0.1 may set those.
    pub secure: bool,
}

impl Cookies {
    fn session(self) -> &'static str {
        if self.secure { "__Host-keygate" } else { "keygate" }
    }

    fn login(self) -> &'static str {
        if self.secure { "__Host-keygate-login" } else { "keygate-login" }
    }

    /// The session's token, if the browser shows one. Of several none is believed.
    pub(super) fn session_of(self, headers: &HeaderMap) -> Option<SecretToken> {
        token_of(headers, self.session())
    }

    /// The token of a browser that is about to log in.
    pub(super) fn login_of(self, headers: &HeaderMap) -> Option<SecretToken> {
        token_of(headers, self.login())
    }

    /// Hands the browser a session. It ends with the browser, or before, when the server says so.
    pub(super) fn set_session(self, token: &SecretToken) -> HeaderValue {
        self.set(self.session(), token)
    }

    /// Hands the browser what its log-in form must match.
    pub(super) fn set_login(self, token: &SecretToken) -> HeaderValue {
        self.set(self.login(), token)
    }

    /// Takes the session away.
    pub(super) fn clear_session(self) -> HeaderValue {
        self.clear(self.session())
    }

    /// Takes the token of the log-in form away.
    pub(super) fn clear_login(self) -> HeaderValue {
        self.clear(self.login())
    }

    fn attributes(self) -> &'static str {
        if self.secure {
            "; Path=/; HttpOnly; SameSite=Strict; Secure"
        } else {
            "; Path=/; HttpOnly; SameSite=Strict"
        }
    }

    fn set(self, name: &str, token: &SecretToken) -> HeaderValue {
        let mut value = HeaderValue::from_str(&format!("{name}={}{}", *token.expose(), self.attributes()))
            .expect("names and tokens are ASCII");
        value.set_sensitive(true);
        value
    }

    fn clear(self, name: &str) -> HeaderValue {
        HeaderValue::from_str(&format!("{name}=; Max-Age=0{}", self.attributes())).expect("names are ASCII")
    }
}

fn token_of(headers: &HeaderMap, name: &str) -> Option<SecretToken> {
    let pairs = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(found, _)| *found == name).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (Some(value), None) => value.parse().ok(),
        _ => None,
    }
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// Where a request comes from: the peer; or, behind a server that ends TLS, what that server says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source(pub(super) IpAddr);

impl Source {
    /// Only the last entry of `X-Forwarded-For` was written by the server in front; the rest is the client's word.
    pub(super) fn of(parts: &Parts, behind_tls: bool) -> Source {
        let peer = parts.extensions.get().map_or(IpAddr::from([0, 0, 0, 0]), |Peer(address)| *address);
        let told = || {
            let last = parts.headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
            last.rsplit(',').next()?.trim().parse().ok()
        };
        Source(if behind_tls { told().unwrap_or(peer) } else { peer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_is_a_path_of_ours_or_nothing() {
        for (text, path) in [
            ("/", Some("/")),
            ("/keys?team=acme&x=%2F", Some("/keys?team=acme&x=%2F")),
            ("/a/../b", Some("/b")),
            ("/keys#part", Some("/keys")),
            ("", None),
            ("keys", None),
            ("//evil.example", None),
            ("///evil.example", None),
            ("/\\evil.example", None),
            ("/\t/evil.example", None),
            ("/\n//evil.example", None),
            ("/.//evil.example", None),
            ("/a/..//evil.example", None),
            ("https://evil.example/", None),
            ("javascript:alert(1)", None),
            ("\\\\evil.example", None),
            (" //evil.example", None),
            ("/a\u{7f}", None),
        ] {
            assert_eq!(own_path(text).as_deref(), path, "{text:?}");
        }
        assert_eq!(own_path(&format!("/{}", "a".repeat(MAX_NEXT))), None);
    }

    #[test]
    fn cookies_are_for_this_server_alone() {
        let token = SecretToken::random().unwrap();
        let secure = Cookies { secure: true };
        let text = secure.set_session(&token);
        assert!(text.is_sensitive());
        let text = text.to_str().unwrap();
        assert_eq!(
            text,
            format!("__Host-keygate={}; Path=/; HttpOnly; SameSite=Strict; Secure", *token.expose())
        );
        let text = Cookies { secure: false }.set_session(&token);
        assert_eq!(
            text.to_str().unwrap(),
            format!("keygate={}; Path=/; HttpOnly; SameSite=Strict", *token.expose())
        );
    }

    #[test]
    fn of_several_sessions_none_is_believed() {
        let cookies = Cookies { secure: true };
        let [one, other] = [(); 2].map(|()| SecretToken::random().unwrap());
        let mut headers = HeaderMap::new();
        let line = |token: &SecretToken| {
            HeaderValue::from_str(&format!("a=b; __Host-keygate={}; c", *token.expose())).unwrap()
        };
        headers.append(header::COOKIE, line(&one));
        assert_eq!(cookies.session_of(&headers).unwrap().hash(), one.hash());
        assert!(
            Cookies { secure: false }.session_of(&headers).is_none(),
            "without the prefix it is another's"
        );
        headers.append(header::COOKIE, line(&other));
        assert!(cookies.session_of(&headers).is_none());
    }

    #[test]
    fn only_the_server_in_front_is_believed_and_only_where_there_is_one() {
        let request = http::Request::builder()
            .header("x-forwarded-for", "10.0.0.1")
            .header("x-forwarded-for", "10.0.0.2, 192.0.2.7")
            .extension(Peer([127, 0, 0, 1].into()));
        let (parts, ()) = request.body(()).unwrap().into_parts();
        assert_eq!(Source::of(&parts, true).0, IpAddr::from([192, 0, 2, 7]));
        assert_eq!(Source::of(&parts, false).0, IpAddr::from([127, 0, 0, 1]));
    }
}
