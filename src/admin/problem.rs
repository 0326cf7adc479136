//! What the admin API says when something cannot be done: one type, one renderer, RFC 9457.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::keys::{BadImport, InvalidField, KeyError, without_keys};
use crate::people::{PeopleError, Role};
use crate::store::StoreError;

use super::users::UserView;
use super::view::KeyView;

/// How many keys of an import are named; whoever has more wrong lines has one mistake, not many.
const MAX_NAMED_IMPORTS: usize = 50;

/// Why a request was not carried out. It travels inside the response until `frame` knows the request's id.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    errors: Vec<MemberError>,
    /// What is there now, where a precondition failed.
    current: Option<Box<serde_json::Value>>,
    /// Seconds, beside those that a status has by itself.
    retry_after: Option<u64>,
    close: bool,
}

/// What is wrong with one of several keys.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct MemberError {
    /// Its place, from 0 on.
    index: usize,
    field: &'static str,
    detail: &'static str,
}

/// A refusal (RFC 9457), with the members that the API's other clients read, too.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemView<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    /// What to do about it.
    detail: &'a str,
    /// The exact reason.
    code: &'static str,
    /// The reason in capitals.
    error: String,
    /// As `detail`.
    message: &'a str,
    request_id: &'a str,
    /// Of an import, the keys that are not allowed.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(required = false)]
    errors: &'a [MemberError],
    /// The key or the user as it is now, where a precondition failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Current>)]
    current: Option<Box<serde_json::Value>>,
}

/// What is there now, for the API's description alone.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "for the API's description alone")]
enum Current {
    Key(KeyView),
    User(UserView),
}

impl Problem {
    fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Problem {
        Problem {
            status,
            code,
            title,
            detail: detail.into(),
            errors: Vec::new(),
            current: None,
            retry_after: None,
            close: false,
        }
    }

    /// The request cannot be understood.
    pub(super) fn bad_request(detail: impl AsRef<str>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", "Bad request", without_keys(detail.as_ref()))
    }

    /// It can be understood, but a member is unknown or not allowed.
    pub(super) fn invalid(detail: impl AsRef<str>) -> Problem {
        Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_request",
            "Invalid request",
            without_keys(detail.as_ref()),
        )
    }

    /// No token, or not the right one.
    pub(super) fn unauthorized(detail: &'static str) -> Problem {
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "Admin token required", detail)
    }

    /// A person who has less than `role`.
    pub(super) fn forbidden(role: Role) -> Problem {
        let detail = match role {
            Role::Viewer => "this needs the role viewer",
            Role::Editor => "this needs the role editor; ask an admin of your team",
            Role::Admin => "this needs the role admin; ask an admin of your team",
        };
        Problem::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail)
    }

    /// A person of a team, where only those who see to the whole fleet may.
    pub(super) fn forbidden_to_teams() -> Problem {
        let detail = "this concerns the whole fleet: only its admins, and the admin token, may do it";
        Problem::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail)
    }

    /// It does not come from a page of ours, or from one that is out of date.
    pub(super) fn forged() -> Problem {
        let detail = "this was not sent by a current page of this console; reload the page and try again";
        Problem::new(StatusCode::FORBIDDEN, "csrf_failed", "Not sent from here", detail)
    }

    /// No such thing.
    pub(super) fn not_found(detail: &'static str) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not_found", "Not found", detail)
    }

    /// The body is not JSON by its own account.
    pub(super) fn unsupported_media_type() -> Problem {
        let detail = "send Content-Type: application/json";
        Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "Unsupported media type",
            detail,
        )
    }

    /// What is there does not allow it.
    fn conflict(code: &'static str, title: &'static str, detail: String) -> Problem {
        Problem::new(StatusCode::CONFLICT, code, title, detail)
    }

    /// The store is needed and does not do its part.
    fn unavailable(code: &'static str, title: &'static str, detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, title, detail)
    }

    /// The body is larger than `limit` bytes.
    pub(super) fn body_too_large(limit: usize) -> Problem {
        let detail = format!("at most {limit} bytes are allowed here");
        Problem {
            close: true,
            ..Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "Body too large", detail)
        }
    }

    /// The body took too long.
    pub(super) fn request_timeout() -> Problem {
        let detail = "the body of the request did not arrive in time";
        Problem {
            close: true,
            ..Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "Request timed out", detail)
        }
    }

    /// `If-Match` is needed, and missing.
    pub(super) fn precondition_required() -> Problem {
        let detail = "send If-Match with the ETag of what you want to change, as you have seen it";
        Problem::new(
            StatusCode::PRECONDITION_REQUIRED,
            "precondition_required",
            "Precondition required",
            detail,
        )
    }

    /// What is there is not what `If-Match` says.
    fn precondition_failed(detail: &'static str) -> Problem {
        Problem::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", "Changed meanwhile", detail)
    }

    /// With what is there now.
    pub(super) fn with_current(self, current: serde_json::Value) -> Problem {
        Problem { current: Some(Box::new(current)), ..self }
    }

    /// A handler ended without an answer.
    pub(super) fn internal() -> Problem {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "Internal error",
            "this gateway failed; see its log",
        )
    }

    /// For an answer that was made by a library and says nothing in our words.
    pub(super) fn of_status(status: StatusCode) -> Problem {
        match status {
            StatusCode::METHOD_NOT_ALLOWED => Problem::new(
                status,
                "method_not_allowed",
                "Method not allowed",
                "this method is not allowed here; see the Allow header",
            ),
            StatusCode::NOT_FOUND => Problem::not_found("there is nothing here"),
            status if status.is_client_error() => {
                Problem::new(status, "bad_request", "Bad request", "the request cannot be read")
            }
            _ => Problem::internal(),
        }
    }

    /// Its status.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// Its title and what is wrong, for people.
    pub(super) fn words(&self) -> (&'static str, &str) {
        (self.title, &self.detail)
    }

    /// The answer, with all the members that our clients read.
    pub(super) fn render(self, request_id: &str) -> Response {
        let view = ProblemView {
            kind: format!("urn:keygate:problem:{}", self.code),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            error: self.code.to_ascii_uppercase(),
            message: &self.detail,
            request_id,
            errors: &self.errors,
            current: self.current,
        };
        let body = serde_json::to_string(&view).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.status {
            StatusCode::UNAUTHORIZED => {
                let challenge = HeaderValue::from_static("Bearer realm=\"keygate admin\"");
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Without a body; `frame` renders it.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The store's own words stay in the log: they may name its hosts.
impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Problem {
        match &error {
            KeyError::Invalid(InvalidField { .. }) => Problem::invalid(error.to_string()),
            KeyError::BadImports(bad) => {
                Problem { errors: named(bad), ..Problem::invalid(error.to_string()) }
            }
            KeyError::NotFound => Problem::not_found("there is no such key"),
            KeyError::Store(cause) => Problem::of_store(cause),
            KeyError::ImportInterrupted { done, source } => {
                tracing::warn!(error = %source, "the store failed during an import");
                let written = done.created + done.already_there;
                let detail = format!(
                    "the store failed after {written} keys; repeat the whole import, which does no harm"
                );
                Problem::unavailable("store_unavailable", "Store unavailable", detail)
            }
            KeyError::RevokedHereOnly(cause) => {
                tracing::error!(error = %cause, "a revocation is in force on this gateway only");
                Problem::unavailable(
                    "revocation_not_stored",
                    "Revocation not stored",
                    "the key is refused on this gateway from now on, but the store did not take the revocation: \
                     other gateways do not know yet. It is written as soon as the store takes it; repeat the request \
                     to see that it has",
                )
            }
            KeyError::NoRandomness(_) | KeyError::PoorRandomness => {
                tracing::error!(error = %error, "no key could be made");
                Problem::internal()
            }
            KeyError::RevokedBefore => Problem::conflict("key_revoked", "Key revoked", error.to_string()),
            KeyError::HasExpired => Problem::conflict("key_expired", "Key expired", error.to_string()),
            KeyError::RotatedBefore(_) => {
                Problem::conflict("key_rotated", "Key rotated before", error.to_string())
            }
            KeyError::NoEditOfRevoked => Problem::conflict("key_revoked", "Key revoked", error.to_string()),
            KeyError::EditedMeanwhile(_) => Problem::precondition_failed(
                "the key is not as If-Match says; see `current`, and send the request again with the ETag that it has now",
            ),
            KeyError::AnotherRequest => Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "Idempotency key reused",
                error.to_string(),
            ),
            KeyError::StoreChanged(_) => {
                Problem::conflict("store_changed", "Store changed", format!("{error}; nothing was done"))
            }
            KeyError::Unacceptable(_) => {
                Problem::conflict("store_unacceptable", "Store unacceptable", error.to_string())
            }
        }
    }
}

impl Problem {
    fn of_store(cause: &StoreError) -> Problem {
        tracing::warn!(error = %cause, "the store failed a request to the admin API");
        let detail = match cause {
            StoreError::Corrupt(_) => "the store holds something unreadable; nothing was done".into(),
            StoreError::NotOurs(mismatch) => Cow::Owned(format!(
                "what is found in the store's place is not the fleet's store, and nothing was done: {mismatch}"
            )),
            StoreError::Unavailable(_)
            | StoreError::TimedOut(_)
            | StoreError::CircuitOpen
            | StoreError::Busy => "the store does not answer; repeat the request".into(),
        };
        Problem::unavailable("store_unavailable", "Store unavailable", detail)
    }
}

impl From<PeopleError> for Problem {
    fn from(error: PeopleError) -> Problem {
        let too_many = |wait: u64| Problem {
            retry_after: Some(wait),
            ..Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_attempts",
                "Too many attempts",
                error.to_string(),
            )
        };
        match &error {
            PeopleError::Throttled(wait) => too_many(wait.as_millis().div_ceil(1_000).max(1) as u64),
            PeopleError::Busy => too_many(1),
            PeopleError::WrongCredentials => Problem::new(
                StatusCode::FORBIDDEN,
                "wrong_credentials",
                "Wrong credentials",
                error.to_string(),
            ),
            PeopleError::Weak(_)
            | PeopleError::Account(_)
            | PeopleError::AccountUnusable
            | PeopleError::Invalid { .. } => Problem::invalid(error.to_string()),
            PeopleError::LinkEnded => {
                Problem::not_found("this link is not valid any more; ask for a new one")
            }
            PeopleError::NotFound => Problem::not_found("there is no such user"),
            PeopleError::AccountTaken => {
                Problem::conflict("account_taken", "Account taken", error.to_string())
            }
            PeopleError::LastAdmin => Problem::conflict("last_admin", "Last admin", error.to_string()),
            PeopleError::EditedMeanwhile(_) => Problem::precondition_failed(
                "the user is not as If-Match says; see `current`, and send the request again with the ETag that it has now",
            ),
            PeopleError::Outdated => Problem::conflict("outdated", "Changed meanwhile", error.to_string()),
            PeopleError::Store(cause) => Problem::of_store(cause),
            PeopleError::NoRandomness(_) | PeopleError::Hashing(_) => {
                tracing::error!(%error, "something about a user could not be done");
                Problem::internal()
            }
        }
    }
}

fn named(bad: &[BadImport]) -> Vec<MemberError> {
    let name = |bad: &BadImport| MemberError {
        index: bad.index,
        field: bad.problem.field,
        detail: bad.problem.what,
    };
    bad.iter().take(MAX_NAMED_IMPORTS).map(name).collect()
}
