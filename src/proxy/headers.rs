//! Header hygiene: what is stripped at the edge, and what is told to the upstream.
//!
//! Everything that the gateway vouches for is first removed, however the client spelled it, and then set.

use std::net::IpAddr;

use bytes::BufMut;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::verify::policy::Permit;

use super::survey::{Known, Survey, is_reserved};
use super::values::{Values, put_hex};

/// The id of a request, on the way up, on every answer and in the log.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const X_KEYGATE_KEY_ID: HeaderName = HeaderName::from_static("x-keygate-key-id");
const X_KEYGATE_TEAM: HeaderName = HeaderName::from_static("x-keygate-team");
const X_KEYGATE_ENVIRONMENT: HeaderName = HeaderName::from_static("x-keygate-environment");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_API_KEY: HeaderName = super::credential::X_API_KEY;
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Headers that concern one hop (RFC 9110, section 7.6.1). `Content-Length` is not among them and `TE` is treated
/// on its own.
static HOP_BY_HOP: [(Known, HeaderName); 7] = [
    (Known::Connection, CONNECTION),
    (Known::KeepAlive, HeaderName::from_static("keep-alive")),
    (Known::ProxyConnection, HeaderName::from_static("proxy-connection")),
    (Known::ProxyAuthenticate, PROXY_AUTHENTICATE),
    (Known::ProxyAuthorization, PROXY_AUTHORIZATION),
    (Known::TransferEncoding, TRANSFER_ENCODING),
    (Known::Upgrade, UPGRADE),
];

/// Headers that a client cannot have removed by naming them in `Connection`.
const NOT_TO_BE_NAMED: [HeaderName; 7] =
    [HOST, CONTENT_LENGTH, X_API_KEY, AUTHORIZATION, X_REQUEST_ID, TRACEPARENT, IDEMPOTENCY_KEY];

/// What is told of the connection that a request came by.
#[derive(Clone, Debug)]
pub struct Client {
    forwarded_for: HeaderValue,
    scheme: Scheme,
}

/// What was spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP in TLS, which ended here.
    Https,
}

impl Client {
    /// A client at this peer's address; not at what a header says.
    pub fn at(address: IpAddr, scheme: Scheme) -> Client {
        let text = address.to_canonical().to_string();
        let forwarded_for = HeaderValue::try_from(text).expect("an address is digits, dots and colons");
        Client { forwarded_for, scheme }
    }
}

/// Removes from a request everything that only keygate may say, whatever its spelling.
pub fn strip_reserved(headers: &mut HeaderMap, survey: &Survey) {
    if survey.has_reserved() {
        let reserved: Vec<_> = headers.keys().filter(|name| is_reserved(name.as_str())).cloned().collect();
        for name in reserved {
            headers.remove(name);
        }
    }
}

/// Removes what concerns only the hop that a message came by: the standard set, and all that its `Connection`
/// lines name. `TE: trailers` may stay.
pub fn strip_hop_by_hop(headers: &mut HeaderMap, survey: &Survey) {
    if survey.has(Known::Connection) {
        strip_named(headers);
    }
    for (known, name) in &HOP_BY_HOP {
        if survey.has(*known) {
            headers.remove(name);
        }
    }
    if survey.has(Known::Te) {
        let trailers = headers.get_all(TE).iter().any(accepts_trailers);
        headers.remove(TE);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
    }
}

/// Removes from trailers what may not come that way: whoever merges them into the headers would believe them.
pub fn strip_trailers(trailers: &mut HeaderMap) {
    strip_reserved(trailers, &Survey::of(trailers));
    let of_one_hop = HOP_BY_HOP.iter().map(|(_, name)| name);
    for name in of_one_hop.chain(&NOT_TO_BE_NAMED).chain([&TE]) {
        trailers.remove(name);
    }
}

fn strip_named(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(CONNECTION).iter();
    if let (Some(line), None) = (lines.next(), lines.next())
        && (line.as_bytes().eq_ignore_ascii_case(b"keep-alive")
            || line.as_bytes().eq_ignore_ascii_case(b"close"))
    {
        return; // as nearly always; of the two, one is no header and the other goes anyway
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| *name != TE && !NOT_TO_BE_NAMED.contains(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
}

fn accepts_trailers(value: &HeaderValue) -> bool {
    let mut codings = value.as_bytes().split(|&byte| byte == b',');
    codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Tells the upstream who asks. The client's own words of the same names are gone by then.
pub fn identify(
    headers: &mut HeaderMap,
    survey: &Survey,
    permit: &Permit,
    client: &Client,
    request_id: &RequestId,
    fresh: TraceId,
    values: &mut Values,
) {
    headers.insert(X_KEYGATE_KEY_ID, values.make(|value| value.put_slice(permit.key_id().as_bytes())));
    headers.insert(X_KEYGATE_TEAM, values.make(|value| value.put_slice(permit.team().as_bytes())));
    headers.insert(X_KEYGATE_ENVIRONMENT, HeaderValue::from_static(permit.environment().as_str()));
    headers.insert(X_REQUEST_ID, request_id.value());
    headers.insert(X_FORWARDED_FOR, client.forwarded_for.clone());
    let proto = match client.scheme {
        Scheme::Http => HeaderValue::from_static("http"),
        Scheme::Https => HeaderValue::from_static("https"),
    };
    headers.insert(X_FORWARDED_PROTO, proto);
    if let Some(host) = headers.get(HOST).cloned() {
        headers.insert(X_FORWARDED_HOST, host);
    }
    let goes_on = survey.has_one(Known::Traceparent) && headers.get(TRACEPARENT).is_some_and(is_traceparent);
    if !goes_on {
        headers.insert(TRACEPARENT, fresh.value(values));
        if survey.has(Known::Tracestate) {
            headers.remove(TRACESTATE);
        }
    }
}

/// W3C Trace Context, version 00: four fields of lowercase hex, of which the ids are not zero.
fn is_traceparent(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let hex =
        |range: std::ops::Range<usize>| bytes[range].iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let zero = |range: std::ops::Range<usize>| bytes[range].iter().all(|&b| b == b'0');
    bytes.len() == 55
        && bytes.starts_with(b"00-")
        && bytes[35] == b'-'
        && bytes[52] == b'-'
        && hex(3..35)
        && hex(36..52)
        && hex(53..55)
        && !zero(3..35)
        && !zero(36..52)
}

/// Random bits for a trace that begins here.
#[derive(Clone, Copy, Debug)]
pub struct TraceId {
    /// The trace, not zero.
    pub trace: u128,
    /// The span, not zero.
    pub span: u64,
}

impl TraceId {
    fn value(self, values: &mut Values) -> HeaderValue {
        values.make(|value| {
            value.put_slice(b"00-");
            put_hex(value, (self.trace | 1).to_be_bytes());
            value.put_slice(b"-");
            put_hex(value, (self.span | 1).to_be_bytes());
            value.put_slice(b"-00");
        })
    }
}

/// The id of a request: 1 to 64 of `[A-Za-z0-9_-]`.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The client's, if it sent exactly one well-formed one.
    pub fn sent(headers: &HeaderMap, survey: &Survey) -> Option<RequestId> {
        let sent = if survey.has_one(Known::RequestId) { headers.get(X_REQUEST_ID) } else { None };
        sent.filter(|id| is_request_id(id.as_bytes())).map(|id| RequestId(id.clone()))
    }

    /// A new one of these random bits.
    pub fn fresh(random: u128, values: &mut Values) -> RequestId {
        RequestId(values.make(|value| {
            value.put_slice(b"req_");
            put_hex(value, random.to_be_bytes());
        }))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().expect("both ways of making one leave only ASCII letters, digits, `_` and `-`")
    }

    /// As a header.
    pub fn value(&self) -> HeaderValue {
        self.0.clone()
    }
}

fn is_request_id(text: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=64).contains(&text.len()) && text.iter().all(allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strip_reserved(headers: &mut HeaderMap) {
        super::strip_reserved(headers, &Survey::of(headers));
    }

    fn strip_hop_by_hop(headers: &mut HeaderMap) {
        super::strip_hop_by_hop(headers, &Survey::of(headers));
    }

    fn sent_id(headers: &HeaderMap) -> Option<RequestId> {
        RequestId::sent(headers, &Survey::of(headers))
    }

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn what_only_keygate_may_say_never_passes_whatever_its_spelling() {
        let mut sent = headers(&[
            ("X-Keygate-Team", "evil"),
            ("x_keygate_team", "evil"),
            ("X-Keygate_Environment", "live"),
            ("x-keygate-anything", "1"),
            ("X-Forwarded-For", "10.0.0.1"),
            ("x_forwarded_for", "10.0.0.1"),
            ("X-Real-IP", "10.0.0.1"),
            ("Forwarded", "for=10.0.0.1"),
            ("x_request_id", "1"),
            ("X-Keygates", "fine"),
            ("X-Custom", "fine"),
        ]);
        strip_reserved(&mut sent);
        let mut left: Vec<_> = sent.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-custom", "x-keygates"]);
    }

    #[test]
    fn connection_names_what_goes_but_not_what_is_vouched_for() {
        let mut sent = headers(&[
            ("connection", "x-one, X-API-Key, authorization"),
            ("connection", "host, content-length,x-request-id,close"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-api-key", "k"),
            ("authorization", "k"),
            ("host", "a"),
            ("content-length", "0"),
            ("x-request-id", "r"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
        ]);
        strip_hop_by_hop(&mut sent);
        let mut left: Vec<_> = sent.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "content-length", "host", "x-api-key", "x-request-id", "x-two"]);
    }

    #[test]
    fn trailers_bring_in_nothing_that_headers_may_not() {
        let mut sent = headers(&[
            ("x-keygate-team", "evil"),
            ("x_forwarded_for", "evil"),
            ("x-api-key", "k"),
            ("authorization", "k"),
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
            ("host", "evil"),
            ("x-request-id", "r"),
            ("digest", "fine"),
        ]);
        strip_trailers(&mut sent);
        assert_eq!(sent.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["digest"]);
    }

    #[test]
    fn te_trailers_may_stay_and_no_other_coding() {
        let mut sent = headers(&[("te", "gzip, trailers"), ("connection", "te")]);
        strip_hop_by_hop(&mut sent);
        assert_eq!(sent.get(TE).unwrap(), "trailers");
        let mut sent = headers(&[("te", "gzip")]);
        strip_hop_by_hop(&mut sent);
        assert!(sent.is_empty());
    }

    #[test]
    fn a_well_formed_request_id_is_kept() {
        let kept = sent_id(&headers(&[("x-request-id", "abc_DEF-123")])).unwrap();
        assert_eq!(kept.as_str(), "abc_DEF-123");
        let long = "a".repeat(65);
        for bad in ["", "a b", "a/b", "ä", long.as_str()] {
            assert!(sent_id(&headers(&[("x-request-id", bad)])).is_none(), "{bad:?}");
        }
        assert!(sent_id(&headers(&[("x-request-id", "a"), ("x-request-id", "b")])).is_none());
        assert_eq!(
            RequestId::fresh(7, &mut Values::default()).as_str(),
            "req_00000000000000000000000000000007"
        );
    }

    #[test]
    fn a_traceparent_is_checked() {
        let made = TraceId { trace: 0, span: 0 }.value(&mut Values::default());
        assert!(is_traceparent(&made));
        for bad in ["", "00-0", "00-00000000000000000000000000000000-0000000000000001-00"] {
            assert!(!is_traceparent(&HeaderValue::from_str(bad).unwrap()), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_reserved_name_survives(names in prop::collection::vec("[xX][-_][kK]eygate[-_][a-z_-]{0,8}", 0..8)) {
            let lines: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
            let mut sent = headers(&lines);
            strip_reserved(&mut sent);
            prop_assert!(sent.is_empty());
        }

        #[test]
        fn any_connection_line_is_survived(line in "[ -~]{0,60}") {
            let mut sent = headers(&[("connection", line.as_str()), ("x-api-key", "k"), ("host", "h")]);
            strip_hop_by_hop(&mut sent);
            prop_assert!(sent.contains_key("x-api-key") && sent.contains_key("host"));
        }
    }
}
