//! Reading what a client sent, within limits of size and time: JSON, or the body of a form.

use std::time::Duration;

use axum::extract::Request;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::problem::Problem;

/// Bytes of a body, where nothing else is said.
pub(super) const LIMIT: usize = 1024 * 1024;
/// What browsers call the fields of a form.
pub(super) const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
/// Bytes of an import.
pub(super) const IMPORT_LIMIT: usize = 16 * 1024 * 1024;
/// How long a whole body may take.
const READ_DEADLINE: Duration = Duration::from_secs(30);

/// Reads a body as a `T`.
///
/// # Errors
/// 415, 413, 408; 400 if it is not JSON; 422 if it is and not a `T`.
pub(super) async fn read<T: DeserializeOwned>(request: Request, limit: usize) -> Result<T, Problem> {
    if !is(JSON, request.headers()) {
        return Err(Problem::unsupported_media_type());
    }
    parse(&collect(request, limit).await?)
}

/// Reads a body as a `T`, or no body at all as its default.
///
/// # Errors
/// As [`read`].
pub(super) async fn read_if_any<T: DeserializeOwned + Default>(
    request: Request,
    limit: usize,
) -> Result<T, Problem> {
    let is_json = is(JSON, request.headers());
    let body = collect(request, limit).await?;
    match body.is_empty() {
        true => Ok(T::default()),
        false if is_json => parse(&body),
        false => Err(Problem::unsupported_media_type()),
    }
}

/// Reads a whole body.
///
/// # Errors
/// 413, 408; 400 if it ends too early.
pub(super) async fn collect(request: Request, limit: usize) -> Result<Bytes, Problem> {
    let collected = Limited::new(request.into_body(), limit).collect();
    match tokio::time::timeout(READ_DEADLINE, collected).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::body_too_large(limit)),
        Ok(Err(_)) => Err(Problem::bad_request("the body ended before it was complete")),
        Err(_) => Err(Problem::request_timeout()),
    }
}

/// Whether the body is said to be of this media type, whatever its parameters.
pub(super) fn is(media_type: &str, headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(media_type)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner();
        match cause.classify() {
            Category::Syntax | Category::Eof | Category::Io => not_json(&cause),
            Category::Data if path == "." => Problem::invalid(cause.to_string()),
            Category::Data => Problem::invalid(format!("`{path}`: {cause}")),
        }
    })?;
    json.end().map_err(|error| not_json(&error))?;
    Ok(value)
}

fn not_json(error: &serde_json::Error) -> Problem {
    Problem::bad_request(format!("the body is not JSON: {error}"))
}
