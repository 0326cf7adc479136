//! What the headers of a message are, seen in one look.
//!
//! Each question to a header map costs a hash and a search, most of all when the answer is no. All that keygate asks is
//! answered by one pass over the names.

use http::HeaderMap;

/// A header that is treated in a way of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// `Host`.
    Host,
    /// `Content-Length`.
    ContentLength,
    /// `Transfer-Encoding`.
    TransferEncoding,
    /// `Connection`.
    Connection,
    /// `Keep-Alive`.
    KeepAlive,
    /// `Proxy-Connection`.
    ProxyConnection,
    /// `Proxy-Authenticate`.
    ProxyAuthenticate,
    /// `Proxy-Authorization`.
    ProxyAuthorization,
    /// `Upgrade`.
    Upgrade,
    /// `TE`.
    Te,
    /// `X-API-Key`.
    ApiKey,
    /// `Authorization`.
    Authorization,
    /// `X-Request-Id`.
    RequestId,
    /// `traceparent`.
    Traceparent,
    /// `tracestate`.
    Tracestate,
}

impl Known {
    fn by_name(name: &str) -> Option<Known> {
        // By its length first: a name that is not known is compared with one or two.
        let known = match name.len() {
            2 => [("te", Known::Te)].as_slice(),
            4 => &[("host", Known::Host)],
            7 => &[("upgrade", Known::Upgrade)],
            9 => &[("x-api-key", Known::ApiKey)],
            10 => &[
                ("connection", Known::Connection),
                ("keep-alive", Known::KeepAlive),
                ("tracestate", Known::Tracestate),
            ],
            11 => &[("traceparent", Known::Traceparent)],
            12 => &[("x-request-id", Known::RequestId)],
            13 => &[("authorization", Known::Authorization)],
            14 => &[("content-length", Known::ContentLength)],
            16 => &[("proxy-connection", Known::ProxyConnection)],
            17 => &[("transfer-encoding", Known::TransferEncoding)],
            18 => &[("proxy-authenticate", Known::ProxyAuthenticate)],
            19 => &[("proxy-authorization", Known::ProxyAuthorization)],
            _ => &[],
        };
        known.iter().find(|(spelled, _)| *spelled == name).map(|(_, known)| *known)
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// What the headers of a message are. True until they are changed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Survey {
    seen: u16,
    seen_again: u16,
    reserved: bool,
    bytes: usize,
    lines: usize,
}

impl Survey {
    /// Looks at each line once.
    pub fn of(headers: &HeaderMap) -> Survey {
        let mut survey = Survey::default();
        for (name, value) in headers {
            let name = name.as_str();
            survey.bytes += name.len() + value.len();
            survey.lines += 1;
            if let Some(known) = Known::by_name(name) {
                survey.seen_again |= survey.seen & known.bit();
                survey.seen |= known.bit();
            } else {
                survey.reserved |= is_reserved(name);
            }
        }
        survey
    }

    /// Whether it is there.
    pub fn has(&self, header: Known) -> bool {
        self.seen & header.bit() != 0
    }

    /// Whether it is there on one line alone.
    pub fn has_one(&self, header: Known) -> bool {
        self.has(header) && self.seen_again & header.bit() == 0
    }

    /// Whether there is one of the names that only keygate may use.
    pub fn has_reserved(&self) -> bool {
        self.reserved
    }

    /// Bytes of names and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many there are.
    pub fn lines(&self) -> usize {
        self.lines
    }
}

/// Whether only keygate may say this to an upstream, or it looks as if it were such a name.
///
/// An underscore counts as a hyphen: some servers behind us cannot tell them apart.
pub(super) fn is_reserved(name: &str) -> bool {
    let starts_with = |prefix: &str| {
        let spelled = |(a, b): (u8, u8)| a == b || (a == b'_' && b == b'-');
        name.len() >= prefix.len() && name.bytes().zip(prefix.bytes()).all(spelled)
    };
    match name.as_bytes().first() {
        Some(b'x') => {
            starts_with("x-keygate-")
                || starts_with("x-forwarded-")
                || starts_with("x-real-ip")
                || (name.contains('_') && (starts_with("x-api-key") || starts_with("x-request-id")))
        }
        Some(b'f') => name == "forwarded",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    const KNOWN: [(&str, Known); 15] = [
        ("host", Known::Host),
        ("content-length", Known::ContentLength),
        ("transfer-encoding", Known::TransferEncoding),
        ("connection", Known::Connection),
        ("keep-alive", Known::KeepAlive),
        ("proxy-connection", Known::ProxyConnection),
        ("proxy-authenticate", Known::ProxyAuthenticate),
        ("proxy-authorization", Known::ProxyAuthorization),
        ("upgrade", Known::Upgrade),
        ("te", Known::Te),
        ("x-api-key", Known::ApiKey),
        ("authorization", Known::Authorization),
        ("x-request-id", Known::RequestId),
        ("traceparent", Known::Traceparent),
        ("tracestate", Known::Tracestate),
    ];

    fn headers(names: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for name in names {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("v"));
        }
        headers
    }

    #[test]
    fn every_known_header_is_seen_and_no_other() {
        for (name, known) in KNOWN {
            let survey = Survey::of(&headers(&[name, "accept"]));
            for (_, other) in KNOWN {
                assert_eq!(survey.has(other), other == known, "{name}");
            }
            assert!(survey.has_one(known) && survey.lines() == 2);
            assert!(!Survey::of(&headers(&[name, name])).has_one(known));
        }
    }

    proptest! {
        #[test]
        fn a_survey_says_what_the_map_says(picks in prop::collection::vec(0usize..18, 0..12)) {
            let names: Vec<&str> =
                picks.iter().map(|&i| KNOWN.get(i).map_or("x-other", |(name, _)| *name)).collect();
            let headers = headers(&names);
            let survey = Survey::of(&headers);
            for (name, known) in KNOWN {
                let there = headers.get_all(name).iter().count();
                prop_assert_eq!((survey.has(known), survey.has_one(known)), (there > 0, there == 1));
            }
            prop_assert_eq!(survey.bytes(), names.iter().map(|name| name.len() + 1).sum::<usize>());
        }
    }
}
