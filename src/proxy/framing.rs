//! Is this a request that every hop reads the same way?
//!
//! hyper parses and frames; what it lets through and others have read differently is refused here. Nothing is ever
//! passed on as bytes: the request is written anew.

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};

use crate::model::Denial;

use super::survey::{Known, Survey};

/// How large a request head may be.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the target, and of names and values.
    pub max_bytes: usize,
    /// Lines.
    pub max_lines: usize,
}

/// Checks the head of a request, and gives it one form: the target in origin form, the host in `Host`.
///
/// # Errors
/// [`Denial::HeadersTooLarge`]; [`Denial::BodyTooLarge`] if that can be seen already; or [`Denial::BadRequest`]:
/// not exactly one valid host, an ambiguous or unknown transfer coding, or a method that is no request to the API.
pub(super) fn check<B>(
    request: &mut Request<B>,
    survey: &Survey,
    limits: &HeadLimits,
    max_body_bytes: Option<u64>,
) -> Result<(), Denial> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target + survey.bytes() > limits.max_bytes || survey.lines() > limits.max_lines {
        return Err(Denial::HeadersTooLarge);
    }
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(Denial::BadRequest);
    }
    check_host(request, survey)?;
    check_length(request.headers(), survey, max_body_bytes)
}

/// RFC 9112, section 3.2: exactly one Host, valid; where the target names a host too, that one counts.
/// Only HTTP/1.0 clients may leave it out.
fn check_host<B>(request: &mut Request<B>, survey: &Survey) -> Result<(), Denial> {
    match request.headers().get(HOST) {
        Some(host) if survey.has_one(Known::Host) && is_authority(host) => {}
        None if request.version() == Version::HTTP_10 => {}
        _ => return Err(Denial::BadRequest),
    }
    if let Some(authority) = request.uri().authority() {
        // Without a scheme it is the form of CONNECT.
        if request.uri().scheme().is_none() {
            return Err(Denial::BadRequest);
        }
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Denial::BadRequest)?;
        if !is_authority(&host) {
            return Err(Denial::BadRequest);
        }
        let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        request.headers_mut().insert(HOST, host);
        *request.uri_mut() = Uri::from(path);
    }
    Ok(())
}

fn is_authority(host: &HeaderValue) -> bool {
    is_plain_host(host.as_bytes()) || is_any_authority(host)
}

/// As nearly every host is: letters, digits, dots and hyphens, and a port of digits perhaps.
fn is_plain_host(host: &[u8]) -> bool {
    let letters =
        host.iter().take_while(|&&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    let (name, port) = host.split_at(letters.count());
    let port_is_one = |port: &[u8]| (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit);
    !name.is_empty() && (port.is_empty() || port.strip_prefix(b":").is_some_and(port_is_one))
}

fn is_any_authority(host: &HeaderValue) -> bool {
    let valid =
        |text: &str| Authority::try_from(text).is_ok_and(|authority| !authority.as_str().contains('@'));
    host.to_str().is_ok_and(valid)
}

/// Only `chunked`, once, and never beside a length. hyper has refused lengths that differ or are no number, and
/// has removed a length beside a transfer coding, after which it closes the connection (RFC 9112, section 6.1).
fn check_length(headers: &HeaderMap, survey: &Survey, max_body_bytes: Option<u64>) -> Result<(), Denial> {
    if !survey.has(Known::TransferEncoding) {
        let length = headers.get(CONTENT_LENGTH);
        let too_large = length.is_some_and(|length| exceeds(length, max_body_bytes));
        return if too_large { Err(Denial::BodyTooLarge) } else { Ok(()) };
    }
    let coding = headers.get(TRANSFER_ENCODING);
    let chunked = coding.is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    let alone = survey.has_one(Known::TransferEncoding) && !survey.has(Known::ContentLength);
    if chunked && alone { Ok(()) } else { Err(Denial::BadRequest) }
}

fn exceeds(length: &HeaderValue, max: Option<u64>) -> bool {
    let length: Option<u64> = length.to_str().ok().and_then(|text| text.parse().ok());
    max.is_some_and(|max| length.is_none_or(|length| length > max))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: HeadLimits = HeadLimits { max_bytes: 200, max_lines: 4 };

    fn judge(lines: &[(&str, &str)]) -> Result<(), Denial> {
        judge_request(Request::get("/v1/wallets"), lines).map(drop)
    }

    fn judge_request(
        mut request: http::request::Builder,
        lines: &[(&str, &str)],
    ) -> Result<Request<()>, Denial> {
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        let survey = Survey::of(request.headers());
        check(&mut request, &survey, &LIMITS, Some(10)).map(|()| request)
    }

    #[test]
    fn exactly_one_valid_host() {
        for host in ["api.example", "api.example:8080", "127.0.0.1", "[::1]:80"] {
            assert_eq!(judge(&[("host", host)]), Ok(()), "{host}");
        }
        assert_eq!(judge(&[]), Err(Denial::BadRequest));
        assert_eq!(judge(&[("host", "a"), ("host", "a")]), Err(Denial::BadRequest));
        for host in ["", "a b", "user@a", "a/b", "a?b", "a:b:c"] {
            assert_eq!(judge(&[("host", host)]), Err(Denial::BadRequest), "{host:?}");
        }
    }

    proptest! {
        #[test]
        fn a_plain_host_is_an_authority(host in "[a-zA-Z0-9.:@/_ -]{0,12}") {
            let value = HeaderValue::from_str(&host).unwrap();
            prop_assert!(!is_plain_host(host.as_bytes()) || is_any_authority(&value), "{host}");
        }
    }

    #[test]
    fn an_http_1_0_client_may_leave_the_host_out() {
        assert!(judge_request(Request::get("/").version(Version::HTTP_10), &[]).is_ok());
    }

    #[test]
    fn only_chunked_and_only_once() {
        let host = ("host", "a");
        assert_eq!(judge(&[host, ("transfer-encoding", "Chunked")]), Ok(()));
        for coding in ["gzip", "gzip, chunked", "chunked, chunked", "identity", ""] {
            assert_eq!(judge(&[host, ("transfer-encoding", coding)]), Err(Denial::BadRequest), "{coding}");
        }
        let twice = [host, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
        assert_eq!(judge(&twice), Err(Denial::BadRequest));
        let with_length = [host, ("transfer-encoding", "chunked"), ("content-length", "5")];
        assert_eq!(judge(&with_length), Err(Denial::BadRequest));
    }

    #[test]
    fn heads_are_bounded() {
        let many = [("host", "a"), ("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")];
        assert_eq!(judge(&many), Err(Denial::HeadersTooLarge));
        let long = "x".repeat(200);
        assert_eq!(judge(&[("host", "a"), ("a", &long)]), Err(Denial::HeadersTooLarge));
    }

    #[test]
    fn a_length_over_the_limit_is_seen_in_the_head() {
        assert_eq!(judge(&[("host", "a"), ("content-length", "10")]), Ok(()));
        assert_eq!(judge(&[("host", "a"), ("content-length", "11")]), Err(Denial::BodyTooLarge));
    }

    #[test]
    fn a_host_in_the_target_counts_and_the_target_becomes_a_path() {
        let request = judge_request(Request::get("http://b.example/v1?q=%2F"), &[("host", "a")]).unwrap();
        assert_eq!(request.uri(), "/v1?q=%2F");
        assert_eq!(request.headers()[HOST], "b.example");
        let of_connect = judge_request(Request::get("b"), &[("host", "a")]);
        assert_eq!(of_connect.err(), Some(Denial::BadRequest));
        let with_user = judge_request(Request::get("http://user@b/"), &[("host", "a")]);
        assert_eq!(with_user.err(), Some(Denial::BadRequest));
    }

    #[test]
    fn no_tunnels_and_no_echoes() {
        for method in [Method::CONNECT, Method::TRACE] {
            let request = Request::builder().method(method).uri("a:80");
            assert_eq!(judge_request(request, &[("host", "a")]).err(), Some(Denial::BadRequest));
        }
    }
}
