//! 401: the key is missing, or not one that opens.

use std::time::Duration;

use serde_json::json;

use super::{assert_refused, usual};
use crate::support::wait::{has_passed, rfc3339_in};
use crate::support::{Gateway, Request, Upstream, eventually, keys};

#[test]
fn no_key_is_a_missing_key() {
    let (upstream, gateway, _) = usual();
    let request = Request::get("/v1/wallets/wlt_1");
    for without in [
        request.clone(),
        request.clone().header("X-API-Key", ""),
        request.clone().header("Authorization", "Bearer "),
        request.clone().header("Cookie", "session=1"),
    ] {
        let answer = gateway.ask(&without);
        assert_refused(&answer, "key_missing");
        // RFC 6750, section 3.1: no error code where there was no credential.
        assert!(!answer.headers.get("www-authenticate").unwrap().contains("error"));
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn what_does_not_look_like_a_key_is_malformed() {
    let (upstream, gateway, key) = usual();
    let secret = &key["sk_live_".len()..];
    for malformed in [
        key.to_uppercase(),
        key[..key.len() - 1].to_owned(),
        format!("{key}0"),
        format!("{}g", &key[..key.len() - 1]),
        format!("sk_prod_{secret}"),
        format!("pk_live_{secret}"),
        format!("sklive_{secret}0"),
        secret.to_owned(),
        "garbage".to_owned(),
        format!("{key} {key}"),
    ] {
        let request = Request::get("/v1/wallets/wlt_1");
        assert_refused(&gateway.ask(&request.clone().key(&malformed)), "key_malformed");
        let answer = gateway.ask(&request.bearer(&malformed));
        assert_refused(&answer, "key_malformed");
        assert!(answer.headers.get("www-authenticate").unwrap().contains(r#"error="invalid_token""#));
        assert!(!answer.text().contains(&malformed), "a refusal does not repeat what was sent");
    }
    let not_text = b"GET / HTTP/1.1\r\nHost: a\r\nX-API-Key: sk_live_\xff\xfe\r\n\r\n";
    assert_refused(&gateway.connect().send(not_text).answer(), "key_malformed");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_basic_credential_that_is_no_key_is_malformed() {
    let (upstream, gateway, key) = usual();
    let request = Request::get("/v1/wallets/wlt_1");
    let with_password = keys::base64(&format!("{key}:secret"));
    for credential in [with_password.as_str(), "!!!", "dXNlcjpwYXNz"] {
        let answer = gateway.ask(&request.clone().header("Authorization", &format!("Basic {credential}")));
        assert_refused(&answer, "key_malformed");
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_forged_or_mistyped_key_is_unknown_and_costs_the_store_nothing() {
    let (upstream, gateway, key) = usual();
    let before = gateway.metrics().store_reads();
    assert_refused(&gateway.use_key(&keys::mistyped(&key)), "key_unknown");
    for guess in 0..20 {
        assert_refused(&gateway.use_key(&keys::foreign_live(&format!("guess {guess}"))), "key_unknown");
    }
    assert_eq!(gateway.metrics().store_reads(), before);
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_well_formed_key_that_the_store_does_not_have_is_unknown() {
    let (upstream, gateway, _) = usual();
    gateway.admin().import(&keys::sha256_hex(b"the first import lets unchecked keys ask"), "live");
    let before = gateway.metrics().store_reads();
    assert_refused(&gateway.use_key(&keys::foreign_live("nobody")), "key_unknown");
    assert_eq!(gateway.metrics().store_reads(), before + 1.0, "the store was asked");
    assert_refused(&gateway.use_key(&keys::foreign_live("nobody")), "key_unknown");
    assert_eq!(gateway.metrics().store_reads(), before + 1.0, "and its answer was remembered");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_revoked_key_is_refused() {
    let (upstream, gateway, _) = usual();
    let created = gateway.admin().create("live");
    gateway.use_key(&created.key).assert_forwarded();
    gateway.admin().revoke(&created.id);
    for _ in 0..3 {
        assert_refused(&gateway.use_key(&created.key), "key_revoked");
    }
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_key_is_refused_from_its_expiry_date_on() {
    let (upstream, gateway, _) = usual();
    let expires_at = rfc3339_in(Duration::from_secs(3));
    let created = gateway.admin().create_with(
        json!({"label": "Contractor", "environment": "live", "team": "acme", "expires_at": expires_at}),
    );
    gateway.use_key(&created.key).assert_forwarded();
    let mut answer = gateway.use_key(&created.key);
    eventually("the key expires", Duration::from_secs(10), || {
        answer = gateway.use_key(&created.key);
        answer.status != 200
    });
    assert_refused(&answer, "key_expired");
    assert!(has_passed(&expires_at), "it was refused before its time");
    let count = upstream.count();
    assert_refused(&gateway.use_key(&created.key), "key_expired");
    assert_eq!(upstream.count(), count);
}

#[test]
fn a_sandbox_key_is_refused_where_only_live_is_served_and_the_other_way_round() {
    let upstream = Upstream::start();
    let live = Gateway::builder().live(&upstream).start();
    let sandbox = Gateway::builder().sandbox(&upstream).start();
    let sandbox_key = live.admin().create("sandbox").key;
    let live_key = sandbox.admin().create("live").key;
    assert_refused(&live.use_key(&sandbox_key), "environment_mismatch");
    assert_refused(&sandbox.use_key(&live_key), "environment_mismatch");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_key_whose_spelling_and_record_disagree_is_refused() {
    let (live, sandbox) = (Upstream::start(), Upstream::start());
    let gateway = Gateway::builder().live(&live).sandbox(&sandbox).start();
    let (spelled_live, spelled_sandbox) = (keys::foreign_live("a"), keys::foreign_sandbox("b"));
    gateway.admin().import(&keys::sha256_hex(spelled_live.as_bytes()), "sandbox");
    gateway.admin().import(&keys::sha256_hex(spelled_sandbox.as_bytes()), "live");
    for key in [&spelled_live, &spelled_sandbox] {
        assert_refused(&gateway.use_key(key), "environment_mismatch");
    }
    assert_eq!(live.count() + sandbox.count(), 0);
}

#[test]
fn a_refused_head_request_has_no_body() {
    let (_upstream, gateway, key) = usual();
    let mut connection = gateway.connect();
    connection.send(Request::new("HEAD", "/v1/wallets/wlt_1").to_bytes());
    let answer = connection.answer_without_body();
    assert_eq!(answer.status, 401);
    assert!(answer.headers.has("www-authenticate") && answer.headers.has("x-request-id"));
    // Were there a body, it would stand in the place of this answer.
    connection.ask(&Request::get("/v1/wallets/wlt_1").key(&key)).assert_forwarded();
}

#[test]
fn a_refusal_keeps_the_clients_request_id() {
    let (_upstream, gateway, _) = usual();
    let answer = gateway.ask(&Request::get("/").header("X-Request-Id", "support-ticket_42"));
    assert_refused(&answer, "key_missing");
    assert_eq!(answer.headers.get("x-request-id"), Some("support-ticket_42"));
}
