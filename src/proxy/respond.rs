//! How a refusal looks: every status, code and word of it, in one file.
//!
//! Answers are `application/problem+json` (RFC 9457) with the members that the API's existing clients read (`error`,
//! `message`) and ours (`code`, `request_id`). What a client may see is decided here; causes go to the log.

use std::error::Error;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};

use crate::model::{Denial, KeyId};
use crate::verify::Refused;

/// A refused request: why, and for the log, what caused it.
#[derive(Debug, thiserror::Error)]
#[error("{}", .denial.code())]
pub struct Rejection {
    /// Why, as the client is told.
    pub denial: Denial,
    /// The cause, which the client is not told.
    #[source]
    pub cause: Option<Box<dyn Error + Send + Sync>>,
    /// The key that was refused, where it is known; the client is not told.
    pub key_id: Option<KeyId>,
}

impl Rejection {
    /// A refusal with its cause.
    pub fn because(denial: Denial, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Rejection {
        Rejection { denial, cause: Some(cause.into()), key_id: None }
    }
}

impl From<Denial> for Rejection {
    fn from(denial: Denial) -> Rejection {
        Rejection { denial, cause: None, key_id: None }
    }
}

impl From<Refused> for Rejection {
    fn from(Refused { denial, key_id }: Refused) -> Rejection {
        Rejection { denial, cause: None, key_id }
    }
}

impl Rejection {
    /// The key, if it was refused because it is dead: somebody goes on to use it, and its owner should know.
    pub fn dead_key(&self) -> Option<KeyId> {
        self.key_id.filter(|_| matches!(self.denial, Denial::KeyRevoked | Denial::KeyExpired))
    }
}

/// What a client is told of a denial.
struct Wording {
    status: StatusCode,
    /// The code that clients of the API know, in capitals.
    error: &'static str,
    title: &'static str,
    message: &'static str,
    /// Seconds after which trying again is worthwhile, and certainly harmless.
    retry_after: Option<&'static str>,
    /// The request may have been carried out.
    sent: bool,
}

impl Wording {
    const fn new(
        status: StatusCode,
        error: &'static str,
        title: &'static str,
        message: &'static str,
    ) -> Wording {
        Wording { status, error, title, message, retry_after: None, sent: false }
    }

    const fn retry_after(self, seconds: &'static str) -> Wording {
        Wording { retry_after: Some(seconds), ..self }
    }

    const fn sent(self) -> Wording {
        Wording { sent: true, ..self }
    }
}

/// The table of refusals.
fn wording(denial: Denial) -> Wording {
    use StatusCode as S;
    const INVALID: &str = "INVALID_API_KEY";
    match denial {
        Denial::BadRequest => Wording::new(
            S::BAD_REQUEST,
            "BAD_REQUEST",
            "Bad request",
            "The request is not valid HTTP/1.1: it needs exactly one Host and an unambiguous length.",
        ),
        Denial::CredentialConflict => Wording::new(
            S::BAD_REQUEST,
            "BAD_REQUEST",
            "Conflicting API keys",
            "The request carries two different API keys. Send one.",
        ),
        Denial::KeyMissing => Wording::new(
            S::UNAUTHORIZED,
            "MISSING_API_KEY",
            "API key missing",
            "No API key was sent. Put it in the X-API-Key header, or in Authorization as Bearer.",
        ),
        Denial::KeyMalformed => Wording::new(
            S::UNAUTHORIZED,
            INVALID,
            "API key malformed",
            "What was sent is not an API key. Check that it was copied in full.",
        ),
        Denial::KeyUnknown => {
            Wording::new(S::UNAUTHORIZED, INVALID, "API key unknown", "There is no such API key.")
        }
        Denial::KeyRevoked => Wording::new(
            S::UNAUTHORIZED,
            INVALID,
            "API key revoked",
            "This API key was revoked, which cannot be undone. Use its replacement.",
        ),
        Denial::KeyExpired => Wording::new(
            S::UNAUTHORIZED,
            INVALID,
            "API key expired",
            "This API key's expiry date has passed. Use its replacement.",
        ),
        Denial::EnvironmentMismatch => Wording::new(
            S::UNAUTHORIZED,
            INVALID,
            "Wrong environment",
            "This API key belongs to the other environment: Live and Sandbox do not mix.",
        ),
        Denial::BodyTooLarge => Wording::new(
            S::PAYLOAD_TOO_LARGE,
            "BODY_TOO_LARGE",
            "Body too large",
            "The request's body is larger than is accepted here.",
        ),
        Denial::HeadersTooLarge => Wording::new(
            S::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "HEADERS_TOO_LARGE",
            "Headers too large",
            "The request's headers are larger or more than are accepted here.",
        ),
        Denial::RequestTimeout => Wording::new(
            S::REQUEST_TIMEOUT,
            "REQUEST_TIMEOUT",
            "Request timed out",
            "The request did not arrive in time.",
        ),
        Denial::UpstreamUnavailable => Wording::new(
            S::SERVICE_UNAVAILABLE,
            "UPSTREAM_UNAVAILABLE",
            "Upstream unavailable",
            "The API cannot be reached. The request was not sent to it: it is safe to try again.",
        )
        .retry_after("1"),
        Denial::UpstreamError => Wording::new(
            S::BAD_GATEWAY,
            "UPSTREAM_ERROR",
            "Upstream error",
            "The API failed after the request was sent: it may have been carried out. Check before you try again.",
        )
        .sent(),
        Denial::UpstreamTimeout => Wording::new(
            S::GATEWAY_TIMEOUT,
            "UPSTREAM_TIMEOUT",
            "Upstream timed out",
            "The API did not answer in time: the request may have been carried out. Check before you try again.",
        )
        .sent(),
        Denial::VerificationUnavailable => Wording::new(
            S::SERVICE_UNAVAILABLE,
            "VERIFICATION_UNAVAILABLE",
            "Verification unavailable",
            "The API key cannot be checked at the moment. The request was not sent: it is safe to try again.",
        )
        .retry_after("1"),
        Denial::Overloaded => Wording::new(
            S::SERVICE_UNAVAILABLE,
            "OVERLOADED",
            "Overloaded",
            "There is no room for the request at the moment. It was not sent: it is safe to try again.",
        )
        .retry_after("1"),
    }
}

/// Renders a refusal. `request_id` is 1 to 64 of `[A-Za-z0-9_-]`, so it needs no escaping; nor do the constants.
pub fn refuse(denial: Denial, request_id: &str) -> Response<Bytes> {
    let wording = wording(denial);
    let (status, code) = (wording.status.as_u16(), denial.code());
    let Wording { error, title, message, .. } = wording;
    let sent = if wording.sent { r#","sent":true"# } else { "" };
    let body = format!(
        concat!(
            r#"{{"type":"urn:keygate:problem:{code}","title":"{title}","status":{status},"detail":"{message}","#,
            r#""error":"{error}","message":"{message}","code":"{code}","request_id":"{request_id}"{sent}}}"#
        ),
        code = code,
        title = title,
        status = status,
        message = message,
        error = error,
        request_id = request_id,
        sent = sent,
    );
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = wording.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if wording.status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, challenge(denial));
    }
    if let Some(seconds) = wording.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from_static(seconds));
    }
    response
}

/// A refusal as it stands on the wire, for a request that was never read to the end of its head. It ends its connection.
pub fn refuse_raw(denial: Denial, request_id: &str) -> Vec<u8> {
    let response = refuse(denial, request_id);
    let body = response.body();
    let mut wire = format!(
        "HTTP/1.1 {}\r\nconnection: close\r\nx-request-id: {request_id}\r\ncontent-length: {}\r\n",
        response.status(),
        body.len()
    )
    .into_bytes();
    for (name, value) in response.headers() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            wire.extend_from_slice(part);
        }
    }
    wire.extend_from_slice(b"\r\n");
    wire.extend_from_slice(body);
    wire
}

/// RFC 6750, section 3: without credentials there is no error code in the challenge.
fn challenge(denial: Denial) -> HeaderValue {
    let challenge = if denial == Denial::KeyMissing {
        r#"Bearer realm="api""#
    } else {
        r#"Bearer realm="api", error="invalid_token""#
    };
    HeaderValue::from_static(challenge)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(denial: Denial) -> (Response<Bytes>, serde_json::Value) {
        let response = refuse(denial, "req_1");
        let body = serde_json::from_slice(response.body()).unwrap();
        (response, body)
    }

    #[test]
    fn every_refusal_is_whole() {
        for denial in Denial::ALL {
            let (response, body) = render(denial);
            assert_eq!(body["status"], response.status().as_u16());
            assert_eq!(body["code"], denial.code());
            assert_eq!(body["request_id"], "req_1");
            for member in ["type", "title", "detail", "error", "message"] {
                assert!(!body[member].as_str().unwrap().is_empty(), "{denial:?} {member}");
            }
            let challenged = response.headers().contains_key(WWW_AUTHENTICATE);
            assert_eq!(challenged, response.status() == StatusCode::UNAUTHORIZED, "{denial:?}");
        }
    }

    #[test]
    fn an_outage_is_not_a_denial() {
        for denial in [Denial::VerificationUnavailable, Denial::Overloaded, Denial::UpstreamUnavailable] {
            let (response, _) = render(denial);
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert!(response.headers().contains_key(RETRY_AFTER));
        }
    }

    #[test]
    fn what_may_have_been_carried_out_does_not_invite_to_try_again() {
        for denial in Denial::ALL {
            let (response, body) = render(denial);
            let sent = matches!(denial, Denial::UpstreamError | Denial::UpstreamTimeout);
            assert_eq!(body.get("sent").is_some(), sent, "{denial:?}");
            assert!(!(sent && response.headers().contains_key(RETRY_AFTER)), "{denial:?}");
        }
    }
}
