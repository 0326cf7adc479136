//! The table of refusals, row by row.

mod bad_request_400;
mod timeout_408;
mod too_large_413_431;
mod unauthorized_401;
mod unavailable_503;
mod upstream_502_504;

use std::collections::BTreeSet;

use crate::support::{Answer, Gateway, Upstream};

/// A row of the table.
struct Row {
    status: u16,
    code: &'static str,
    error: &'static str,
    /// `Retry-After` is there: trying again is worthwhile and harmless.
    retry: bool,
    /// The request may have been carried out.
    sent: bool,
}

const ROWS: [Row; 16] = [
    row(400, "bad_request", "BAD_REQUEST"),
    row(400, "credential_conflict", "BAD_REQUEST"),
    row(401, "key_missing", "MISSING_API_KEY"),
    row(401, "key_malformed", "INVALID_API_KEY"),
    row(401, "key_unknown", "INVALID_API_KEY"),
    row(401, "key_revoked", "INVALID_API_KEY"),
    row(401, "key_expired", "INVALID_API_KEY"),
    row(401, "environment_mismatch", "INVALID_API_KEY"),
    row(413, "body_too_large", "BODY_TOO_LARGE"),
    row(431, "headers_too_large", "HEADERS_TOO_LARGE"),
    row(408, "request_timeout", "REQUEST_TIMEOUT"),
    row(503, "upstream_unavailable", "UPSTREAM_UNAVAILABLE").retry(),
    row(502, "upstream_error", "UPSTREAM_ERROR").sent(),
    row(504, "upstream_timeout", "UPSTREAM_TIMEOUT").sent(),
    row(503, "verification_unavailable", "VERIFICATION_UNAVAILABLE").retry(),
    row(503, "overloaded", "OVERLOADED").retry(),
];

const fn row(status: u16, code: &'static str, error: &'static str) -> Row {
    Row { status, code, error, retry: false, sent: false }
}

impl Row {
    const fn retry(self) -> Row {
        Row { retry: true, ..self }
    }

    const fn sent(self) -> Row {
        Row { sent: true, ..self }
    }
}

/// That `answer` is the refusal `code`, whole: every member and every header that the table promises, and none
/// that it withholds.
#[track_caller]
pub fn assert_refused(answer: &Answer, code: &str) {
    let row = ROWS.iter().find(|row| row.code == code).expect("the table has the code");
    assert_eq!(answer.status, row.status, "{code}: {answer:?}");
    assert_eq!(answer.headers.get("content-type"), Some("application/problem+json"), "{answer:?}");

    let body = answer.json();
    assert_eq!(body["code"], row.code, "{body}");
    assert_eq!(body["error"], row.error, "{body}");
    assert_eq!(body["status"], row.status, "{body}");
    for member in ["type", "title", "detail", "message"] {
        assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {body}");
    }
    let request_id = answer.headers.get("x-request-id").expect("every answer has a request id");
    assert_eq!(body["request_id"], request_id, "{body}");
    assert!(!request_id.is_empty());

    let challenge = answer.headers.get("www-authenticate");
    assert_eq!(challenge.is_some(), row.status == 401, "{answer:?}");
    assert!(challenge.is_none_or(|challenge| challenge.starts_with("Bearer")), "{answer:?}");

    let retry_after = answer.headers.get("retry-after");
    assert_eq!(retry_after.is_some(), row.retry, "{answer:?}");
    assert!(retry_after.is_none_or(|seconds| seconds.parse::<u32>().is_ok()), "{answer:?}");

    assert_eq!(body.get("sent").is_some(), row.sent, "{body}");
    if row.sent {
        assert_eq!(body["sent"], true, "{body}");
        let message = body["message"].as_str().expect("checked above").to_lowercase();
        assert!(message.contains("check"), "it says to check before retrying: {message}");
    }
}

/// A gateway before an upstream that answers everything, and a key.
fn usual() -> (Upstream, Gateway, String) {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let key = gateway.live_key();
    (upstream, gateway, key)
}

#[test]
fn the_table_is_that_of_the_vocabulary() {
    let rows: BTreeSet<_> = ROWS.iter().map(|row| row.code).collect();
    let denials: BTreeSet<_> = keygate::model::Denial::ALL.iter().map(|denial| denial.code()).collect();
    assert_eq!(rows, denials);
}
