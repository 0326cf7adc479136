//! Why a request is refused: the closed list.

/// The exact reason of a refusal. Its wire form is the member `code` of the answer; status and words are in
/// `proxy/respond.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denial {
    /// The request is not one that can be forwarded safely.
    BadRequest,
    /// The request carries two different keys.
    CredentialConflict,
    /// No key in any of the places where one may stand.
    KeyMissing,
    /// What was presented does not look like a key.
    KeyMalformed,
    /// No such key.
    KeyUnknown,
    /// The key was revoked.
    KeyRevoked,
    /// The key's expiry date has come.
    KeyExpired,
    /// The key's spelling and its record disagree, or this gateway serves the other environment only.
    EnvironmentMismatch,
    /// The body is larger than this gateway lets through.
    BodyTooLarge,
    /// The request head is larger than this gateway reads.
    HeadersTooLarge,
    /// The client took too long to send its request.
    RequestTimeout,
    /// The upstream could not be reached: the request was certainly not sent.
    UpstreamUnavailable,
    /// The upstream failed after the request was on its way: it may have been carried out.
    UpstreamError,
    /// The upstream did not answer in time: the request may have been carried out.
    UpstreamTimeout,
    /// Nobody could say whether the key is good. Not a denial of the key.
    VerificationUnavailable,
    /// This gateway has no room for the request now.
    Overloaded,
}

impl Denial {
    /// Every reason, for tables and for metrics that are resolved once.
    pub const ALL: [Denial; 16] = [
        Denial::BadRequest,
        Denial::CredentialConflict,
        Denial::KeyMissing,
        Denial::KeyMalformed,
        Denial::KeyUnknown,
        Denial::KeyRevoked,
        Denial::KeyExpired,
        Denial::EnvironmentMismatch,
        Denial::BodyTooLarge,
        Denial::HeadersTooLarge,
        Denial::RequestTimeout,
        Denial::UpstreamUnavailable,
        Denial::UpstreamError,
        Denial::UpstreamTimeout,
        Denial::VerificationUnavailable,
        Denial::Overloaded,
    ];

    /// Whether it is about the upstream, and so an operator's business; the others are the client's or the store's.
    pub const fn is_upstreams(self) -> bool {
        matches!(self, Denial::UpstreamUnavailable | Denial::UpstreamError | Denial::UpstreamTimeout)
    }

    /// The wire form, as `key_revoked`.
    pub const fn code(self) -> &'static str {
        match self {
            Denial::BadRequest => "bad_request",
            Denial::CredentialConflict => "credential_conflict",
            Denial::KeyMissing => "key_missing",
            Denial::KeyMalformed => "key_malformed",
            Denial::KeyUnknown => "key_unknown",
            Denial::KeyRevoked => "key_revoked",
            Denial::KeyExpired => "key_expired",
            Denial::EnvironmentMismatch => "environment_mismatch",
            Denial::BodyTooLarge => "body_too_large",
            Denial::HeadersTooLarge => "headers_too_large",
            Denial::RequestTimeout => "request_timeout",
            Denial::UpstreamUnavailable => "upstream_unavailable",
            Denial::UpstreamError => "upstream_error",
            Denial::UpstreamTimeout => "upstream_timeout",
            Denial::VerificationUnavailable => "verification_unavailable",
            Denial::Overloaded => "overloaded",
        }
    }
}
