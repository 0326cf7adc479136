//! 400: what cannot be forwarded safely, and two keys at once.

use super::{assert_refused, usual};
use crate::support::{Request, keys};

/// What no request may say. `KEY` stands for the header line of a good key.
fn assert_bad(requests: &[&str]) {
    let (upstream, gateway, key) = usual();
    for request in requests {
        let request = request.replace("KEY", &format!("X-API-Key: {key}"));
        let answer = gateway.connect().send(&request).answer();
        assert_refused(&answer, "bad_request");
        assert_eq!(upstream.count(), 0, "{request}");
    }
    gateway.use_key(&key).assert_forwarded();
}

#[test]
fn a_request_names_exactly_one_valid_host() {
    assert_bad(&[
        "GET / HTTP/1.1\r\nKEY\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nKEY\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\nKEY\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\nKEY\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@a\r\nKEY\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\nKEY\r\n\r\n",
    ]);
}

#[test]
fn chunked_is_the_only_transfer_coding_and_stands_once() {
    assert_bad(&[
        "POST / HTTP/1.1\r\nHost: a\r\nKEY\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nKEY\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nKEY\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    ]);
}

#[test]
fn a_transfer_coding_that_does_not_end_in_chunked_is_refused() {
    assert_bad(&[
        "POST / HTTP/1.1\r\nHost: a\r\nKEY\r\nTransfer-Encoding: gzip\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nKEY\r\nTransfer-Encoding: identity\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nKEY\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    ]);
}

#[test]
fn a_length_beside_a_transfer_coding_is_refused() {
    assert_bad(&[
        "POST / HTTP/1.1\r\nHost: a\r\nKEY\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nKEY\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ]);
}

#[test]
fn lengths_that_differ_or_are_no_number_are_refused() {
    assert_bad(&[
        "POST / HTTP/1.1\r\nHost: a\r\nKEY\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: a\r\nKEY\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nKEY\r\nContent-Length: 1x\r\n\r\na",
    ]);
}

#[test]
fn there_are_no_tunnels_and_no_echoes() {
    assert_bad(&[
        "CONNECT bank.example:443 HTTP/1.1\r\nHost: bank.example:443\r\nKEY\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: a\r\nKEY\r\n\r\n",
    ]);
}

#[test]
fn what_is_not_http_gets_no_further() {
    let (upstream, gateway, key) = usual();
    for garbage in [
        format!("GET /\r\nX-API-Key: {key}\r\n\r\n"),
        format!("GET / HTTP/9.9\r\nHost: a\r\nX-API-Key: {key}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\nX-API-Key : {key}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nno colon\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nX-Folded: a\r\n b\r\n\r\n"),
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n".to_owned(),
    ] {
        let mut connection = gateway.connect();
        connection.send(&garbage);
        if let Ok(head) = connection.try_head() {
            assert_eq!(head.status, 400, "{garbage}");
        }
        assert!(connection.is_closed_soon(), "{garbage}");
    }
    assert_eq!(upstream.count(), 0);
    gateway.use_key(&key).assert_forwarded();
}

#[test]
fn two_different_keys_are_a_conflict() {
    let (upstream, gateway, key) = usual();
    let other = gateway.live_key();
    let basic = |key: &str| format!("Basic {}", keys::base64(&format!("{key}:")));
    let request = Request::get("/v1/wallets/wlt_1");
    for conflicting in [
        request.clone().key(&key).bearer(&other),
        request.clone().key(&key).key(&other),
        request.clone().bearer(&key).bearer(&other),
        request.clone().key(&key).header("Authorization", &basic(&other)),
        request.clone().key(&key).bearer(&keys::foreign_sandbox("other")),
    ] {
        assert_refused(&gateway.ask(&conflicting), "credential_conflict");
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_request_after_a_refused_one_is_not_read_from_its_body() {
    let (upstream, gateway, key) = usual();
    let smuggled = format!("GET /smuggled HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n\r\n");
    let mut connection = gateway.connect();
    connection.send(Request::post("/v1/transfers/p2p", &smuggled).to_bytes());
    assert_refused(&connection.answer(), "key_missing");
    let _ = connection.try_ask(&Request::get("/next").key(&key)); // answered or closed: both are right
    let targets: Vec<_> = upstream.seen().into_iter().map(|seen| seen.target).collect();
    assert!(targets.iter().all(|target| target == "/next"), "{targets:?}");
}
