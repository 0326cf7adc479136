//! Where a client puts its key, and where the key goes no further.

use crate::refusals::assert_refused;
use crate::support::{Gateway, Headers, Request, Upstream, keys};

/// Every place and spelling in which a key is accepted, as header lines.
fn places(key: &str) -> Vec<Vec<(&'static str, String)>> {
    let basic = keys::base64(&format!("{key}:"));
    let bearer = format!("Bearer {key}");
    vec![
        vec![("X-API-Key", key.to_owned())],
        vec![("x-api-key", key.to_owned())],
        vec![("X-Api-Key", format!("  {key}  "))],
        vec![("Authorization", bearer.clone())],
        vec![("authorization", format!("bearer {key}"))],
        vec![("AUTHORIZATION", format!("BEARER   {key}"))],
        vec![("Authorization", format!("Basic {basic}"))],
        vec![("Authorization", format!("bAsIc {basic}"))],
        vec![("X-API-Key", key.to_owned()), ("Authorization", bearer.clone())],
        vec![("X-API-Key", key.to_owned()), ("X-API-Key", key.to_owned())],
        vec![("X-API-Key", key.to_owned()), ("Authorization", format!("Basic {basic}"))],
        vec![("Authorization", bearer.clone()), ("Authorization", bearer)],
    ]
}

fn with_lines(lines: &[(&str, String)]) -> Request {
    lines.iter().fold(Request::get("/v1/wallets/wlt_1"), |request, (name, value)| request.header(name, value))
}

#[test]
fn a_key_opens_from_every_place_where_it_may_stand_and_goes_no_further() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let key = gateway.live_key();
    for lines in places(&key) {
        let answer = gateway.ask(&with_lines(&lines));
        answer.assert_forwarded();
        let seen = upstream.seen().pop().expect("it was forwarded");
        assert!(!seen.headers.has("x-api-key") && !seen.headers.has("authorization"), "{lines:?}: {seen:?}");
        assert_eq!(trace_in(&seen.headers, &key), None, "{lines:?}: {seen:?}");
        assert_eq!(trace_in(&answer.headers, &key), None, "{answer:?}");
    }
}

#[test]
fn a_revoked_key_is_refused_from_every_place() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let created = gateway.admin().create("live");
    gateway.use_key(&created.key).assert_forwarded();
    gateway.admin().revoke(&created.id);
    for lines in places(&created.key) {
        assert_refused(&gateway.ask(&with_lines(&lines)), "key_revoked");
    }
}

#[test]
fn a_key_in_the_query_or_in_a_cookie_is_no_credential() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let key = gateway.live_key();
    for name in ["api_key", "apikey", "key", "access_token", "x-api-key"] {
        assert_refused(&gateway.ask(&Request::get(&format!("/v1/wallets?{name}={key}"))), "key_missing");
        let cookie = Request::get("/v1/wallets").header("Cookie", &format!("{name}={key}"));
        assert_refused(&gateway.ask(&cookie), "key_missing");
    }
    let with_user = format!("http://{key}@api.example/v1/wallets");
    assert_ne!(gateway.ask(&Request::get(&with_user)).status, 200);
    assert_eq!(upstream.count(), 0);
}

#[test]
fn an_authorization_that_is_no_key_never_passes_beside_a_key() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let key = gateway.live_key();
    for other in ["Digest username=\"marker\"", "Negotiate marker", "marker"] {
        let answer = gateway.ask(&Request::get("/").key(&key).header("Authorization", other));
        // Two credentials: a conflict, or the key counts and the other goes. Never both to the upstream.
        if answer.status != 200 {
            assert_refused(&answer, "credential_conflict");
        }
        assert!(upstream.seen().iter().all(|seen| !seen.headers.mention("marker")), "{other}");
    }
}

#[test]
fn a_credential_in_a_trailer_is_none() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let key = gateway.live_key();
    let request =
        Request::new("POST", "/").header("Transfer-Encoding", "chunked").header("Trailer", "X-API-Key");
    let mut connection = gateway.connect();
    connection.send(request.head_bytes()).send(format!("0\r\nX-API-Key: {key}\r\n\r\n"));
    assert_refused(&connection.answer(), "key_missing");
    assert_eq!(upstream.count(), 0);
}

fn trace_in(headers: &Headers, key: &str) -> Option<String> {
    keys::trace_in(format!("{headers:?}").as_bytes(), key)
}
