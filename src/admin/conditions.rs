//! What a request says about itself in headers: `If-Match` and `Idempotency-Key`; and the `ETag` of a key or a user.

use std::fmt;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::store::Once;

use super::problem::Problem;

/// A name that a client chose for a request, so that sending it again does nothing again.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const MAX_IDEMPOTENCY_KEY: usize = 255;

/// Who sends a request, as far as names of requests are concerned: those of two callers never meet.
#[derive(Clone, Debug)]
pub(super) struct CallerName(pub(super) String);

/// Which revisions of a key or a user a client has seen.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum IfMatch {
    /// Whatever is there.
    Any,
    /// One of these tags, quotes included.
    Tags(Vec<String>),
}

impl IfMatch {
    /// Reads the header.
    ///
    /// # Errors
    /// 428 if there is none, 400 if it is none.
    pub(super) fn of(headers: &HeaderMap) -> Result<IfMatch, Problem> {
        let mut tags = Vec::new();
        for value in headers.get_all(header::IF_MATCH) {
            let text = value.to_str().map_err(|_| malformed())?;
            for tag in text.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
                if tag == "*" {
                    return Ok(IfMatch::Any);
                }
                let opaque = tag.strip_prefix("W/").unwrap_or(tag);
                let is_tag = opaque.len() >= 2 && opaque.starts_with('"') && opaque.ends_with('"');
                tags.push(is_tag.then(|| tag.to_owned()).ok_or_else(malformed)?);
            }
        }
        if tags.is_empty() { Err(Problem::precondition_required()) } else { Ok(IfMatch::Tags(tags)) }
    }

    /// Whether one of them is `revision`. A weak tag (RFC 9110, 13.1.1) never is.
    pub(super) fn is(&self, revision: impl fmt::Display) -> bool {
        match self {
            IfMatch::Any => true,
            IfMatch::Tags(tags) => tags.contains(&tag(revision)),
        }
    }
}

fn malformed() -> Problem {
    Problem::bad_request("If-Match must be ETags in double quotes, or *")
}

fn tag(revision: impl fmt::Display) -> String {
    format!("\"{revision}\"")
}

/// An answer that shows a key or a user, with the name of what it shows: not of the counts beside it.
pub(super) fn with_etag(revision: impl fmt::Display, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    if let Ok(tag) = HeaderValue::from_str(&tag(revision)) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// A request to `route`, by the name that its sender gave to it and what its body says; `None` if it has no name.
pub(super) struct Named {
    caller: String,
    name: Option<String>,
}

impl Named {
    /// # Errors
    /// 400 if the name is none.
    pub(super) fn of(request: &Request) -> Result<Named, Problem> {
        let caller =
            request.extensions().get::<CallerName>().map_or("token", |CallerName(name)| name).to_owned();
        let mut names = request.headers().get_all(IDEMPOTENCY_KEY).iter();
        let name = match (names.next(), names.next()) {
            (None, _) => None,
            (Some(name), None) => {
                let text = name.to_str().ok().filter(|name| (1..=MAX_IDEMPOTENCY_KEY).contains(&name.len()));
                Some(text.map(str::to_owned).ok_or_else(bad_name)?)
            }
            (Some(_), Some(_)) => return Err(bad_name()),
        };
        Ok(Named { caller, name })
    }

    /// The request that is made once, if it has a name.
    pub(super) fn once(&self, route: &str, body: &[u8]) -> Option<Once> {
        self.name.as_ref().map(|name| Once::new(&self.caller, route, name, body))
    }
}

fn bad_name() -> Problem {
    Problem::bad_request("Idempotency-Key must be there once, with 1 to 255 visible ASCII characters")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn if_match(values: &[&str]) -> Result<IfMatch, Problem> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        IfMatch::of(&headers)
    }

    #[test]
    fn if_match_is_a_list_of_tags_or_a_star() {
        let tags = |tags: &[&str]| IfMatch::Tags(tags.iter().map(|&tag| tag.to_owned()).collect());
        assert_eq!(if_match(&["\"a\""]).unwrap(), tags(&["\"a\""]));
        assert_eq!(if_match(&["\"a\", W/\"b\"", "\"c\""]).unwrap(), tags(&["\"a\"", "W/\"b\"", "\"c\""]));
        assert_eq!(if_match(&["*"]).unwrap(), IfMatch::Any);
        for bad in [&["a"][..], &["\"a"], &["\""], &["W/a"], &[], &[""], &[" , "]] {
            assert!(if_match(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let mut headers = HeaderMap::new();
                headers.append(header::IF_MATCH, value.clone());
                let _ = IfMatch::of(&headers);
                let mut request = Request::new(axum::body::Body::empty());
                request.headers_mut().append(IDEMPOTENCY_KEY, value);
                let _ = Named::of(&request);
            }
        }
    }
}
