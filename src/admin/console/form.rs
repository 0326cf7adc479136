//! Reading what a form sent.

use std::time::Duration;

use axum::extract::Request;
use http::header;
use http_body_util::{BodyExt, Limited};
use url::form_urlencoded;
use zeroize::Zeroize;

use crate::admin::problem::Problem;

/// Bytes. Our forms have a few short fields.
const LIMIT: usize = 16 * 1024;
const READ_DEADLINE: Duration = Duration::from_secs(30);
const KIND: &str = "application/x-www-form-urlencoded";

/// The fields of a form. Does not print, and is wiped when dropped: one of them may be a key.
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads a body.
    ///
    /// # Errors
    /// 415, 413, 408, or 400 if it broke off.
    pub(super) async fn read(request: Request) -> Result<Fields, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let essence = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case(KIND) {
            return Err(Problem::bad_request("this is not a form"));
        }
        let collected = Limited::new(request.into_body(), LIMIT).collect();
        let body = match tokio::time::timeout(READ_DEADLINE, collected).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return Err(Problem::body_too_large(LIMIT));
            }
            Ok(Err(_)) => return Err(Problem::bad_request("the form ended before it was complete")),
            Err(_) => return Err(Problem::request_timeout()),
        };
        Ok(Fields(form_urlencoded::parse(&body).into_owned().collect()))
    }

    /// The first field of this name, or nothing.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value)
    }
}

impl Drop for Fields {
    fn drop(&mut self) {
        for (_, value) in &mut self.0 {
            value.zeroize();
        }
    }
}
