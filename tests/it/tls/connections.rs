//! Connections by TLS: how they begin, live and end.

use std::time::Duration;

use rustix::process::Signal;
use rustls::ProtocolVersion;
use rustls::version::{TLS12, TLS13};

use super::{Secured, TlsClient};
use crate::support::wait::{PATIENCE, moment, wait_until};
use crate::support::{Connection, Gate, Ran, Request, Upstream, eventually, keys, tool};

const FAILED: &str = "keygate_tls_handshakes_failed_total";

#[test]
fn both_versions_are_spoken_and_nothing_older() {
    let (upstream, secured) = (Upstream::start(), Secured::new());
    let gateway = secured.before(&upstream).start();
    let key = gateway.live_key();
    for (spoken, version) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let client = TlsClient::speaking(&secured.authority, &[spoken], &["http/1.1"]);
        let mut connection = client.connect(gateway.address());
        assert_eq!(connection.version(), Some(version));
        connection.ask(&Request::get("/").key(&key)).assert_forwarded();
    }
    let address = gateway.address().to_string();
    let with = |version: &str| {
        let arguments = ["s_client", "-connect", &address, version, "-cipher", "ALL:@SECLEVEL=0"];
        Ran::with_input(tool("openssl").args(arguments), "")
    };
    assert!(with("-tls1_2").assert_code(0).stdout.contains("TLSv1.2"));
    for old in ["-tls1_1", "-tls1"] {
        let ran = with(old);
        assert_ne!(ran.code, Some(0), "{ran:?}");
        ran.assert_says(&["alert"]);
    }
}

#[test]
fn a_request_is_forwarded_and_the_upstream_is_told_of_https() {
    let (upstream, secured) = (Upstream::start(), Secured::new());
    let gateway = secured.before(&upstream).start();
    let key = gateway.live_key();
    let mut connection = secured.client().connect(gateway.address());
    assert_eq!(connection.protocol(), Some(&b"http/1.1"[..]));
    let spoofed = Request::get("/").key(&key).header("X-Forwarded-Proto", "gopher");
    connection.ask(&spoofed).assert_forwarded();
    let large = vec![b'x'; 3_000_000];
    connection.ask(&Request::post("/", &large).key(&key)).assert_forwarded();
    let seen = upstream.seen();
    assert!(seen.iter().all(|seen| seen.headers.get("x-forwarded-proto") == Some("https")));
    assert!(seen[1].body == large);

    let only_h2 = TlsClient::speaking(&secured.authority, rustls::ALL_VERSIONS, &["h2"]);
    assert!(only_h2.try_connect(gateway.address()).is_err());
}

#[test]
fn requests_that_come_in_one_piece_are_answered_one_by_one() {
    let (upstream, secured) = (Upstream::start(), Secured::new());
    let gateway = secured.before(&upstream).start();
    let key = gateway.live_key();
    let mut connection = secured.client().connect(gateway.address());
    connection.send(Request::get("/").key(&key).to_bytes().repeat(3));
    for _ in 0..3 {
        connection.answer().assert_forwarded();
    }
}

#[test]
fn an_answer_of_any_length_arrives_whole_at_a_client_that_takes_little_at_a_time() {
    let upstream = Upstream::with(|exchange| {
        let length = exchange.request.target.trim_start_matches('/').parse().expect("a length");
        exchange.reply(200, &[], &vec![b'x'; length])
    });
    let secured = Secured::new();
    let gateway = secured.before(&upstream).start();
    let key = gateway.live_key();
    // Some end just where the socket is full, with the last piece still in the hands of TLS.
    for length in (500_000..4_500_000).step_by(60_000) {
        let mut connection = secured.client().connect_narrowly(gateway.address());
        let answer = connection.ask(&Request::get(&format!("/{length}")).key(&key));
        assert_eq!(answer.body.len(), length);
    }
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    let upstream = Upstream::with(|exchange| exchange.reply(200, &[], &vec![b'x'; 64_000_000]));
    let secured = Secured::new();
    let gateway = secured.before(&upstream).set("KEYGATE_TIMEOUTS__BODY_IDLE_MS", "300").start();
    let key = gateway.live_key();
    let mut connection = secured.client().connect(gateway.address());
    connection.send(Request::get("/").key(&key).to_bytes());
    eventually("it is cut", PATIENCE, || {
        upstream.count() == 1 && gateway.metrics().sum("keygate_connections", &[]) == 0.0
    });
}

#[test]
fn a_client_that_leaves_takes_its_request_with_it() {
    for abruptly in [false, true] {
        let gate = std::sync::Arc::new(Gate::default());
        let told = std::sync::Arc::clone(&gate);
        let upstream = Upstream::with(move |exchange| {
            assert!(
                exchange.peer_closes(PATIENCE),
                "the gateway holds on to a request that nobody waits for"
            );
            told.open();
            Ok(())
        });
        let secured = Secured::new();
        let gateway = secured.before(&upstream).start();
        let mut connection = secured.client().connect(gateway.address());
        connection.send(Request::get("/").key(&gateway.live_key()).to_bytes());
        upstream.wait_for(1);
        connection.leave(abruptly);
        gate.wait();
    }
}

#[test]
fn a_connection_that_has_rested_goes_on() {
    let (upstream, secured) = (Upstream::start(), Secured::new());
    let gateway = secured.before(&upstream).start();
    let key = gateway.live_key();
    let mut connection = secured.client().connect(gateway.address());
    for _ in 0..2 {
        connection.ask(&Request::get("/").key(&key)).assert_forwarded();
        // It gives up its buffers after a second or two.
        wait_until(moment() + Duration::from_millis(2_500));
    }
    connection.send(&Request::get("/").key(&key).to_bytes()[..9]);
    connection.send(&Request::get("/").key(&key).to_bytes()[9..]);
    connection.answer().assert_forwarded();
}

#[test]
fn an_idle_connection_is_ended_in_time_and_in_order() {
    let (upstream, secured) = (Upstream::start(), Secured::new());
    let gateway = secured
        .before(&upstream)
        .set("KEYGATE_TIMEOUTS__HEADER_MS", "300")
        .set("KEYGATE_TIMEOUTS__IDLE_MS", "300")
        .start();
    let key = gateway.live_key();
    secured.client().connect(gateway.address()).assert_ended_in_order();
    let mut connection = secured.client().connect(gateway.address());
    connection.ask(&Request::get("/").key(&key)).assert_forwarded();
    connection.assert_ended_in_order();
    let mut slow = secured.client().connect(gateway.address());
    slow.send("GET /v1/wallets/wlt_1 HTTP/1.1\r\nHost: a\r\nX-Slow");
    assert_eq!(slow.answer().status, 408);
    slow.assert_ended_in_order();
    assert_eq!(gateway.metrics().sum(FAILED, &[]), 0.0);
}

#[test]
fn a_handshake_that_takes_too_long_is_cut_and_holds_a_place_until_then() {
    let (upstream, secured) = (Upstream::start(), Secured::new());
    let gateway = secured
        .before(&upstream)
        .set("KEYGATE_TIMEOUTS__HEADER_MS", "1000")
        .set("KEYGATE_LIMITS__MAX_CONNECTIONS", "2")
        .start();
    let mut silent = Connection::open(gateway.address());
    let mut slow = Connection::open(gateway.address());
    // The beginning of a ClientHello of 512 bytes.
    slow.send([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]);
    eventually("both hold a place", PATIENCE, || gateway.metrics().sum("keygate_connections", &[]) == 2.0);
    assert!(silent.is_closed_soon() && slow.is_closed_soon());
    assert_eq!(gateway.metrics().sum(FAILED, &[r#"listener="gateway""#]), 2.0);
    secured
        .client()
        .connect(gateway.address())
        .ask(&Request::get("/").key(&gateway.live_key()))
        .assert_forwarded();
}

#[test]
fn draining_ends_connections_in_order() {
    let gate = std::sync::Arc::new(Gate::default());
    let held = std::sync::Arc::clone(&gate);
    let upstream = Upstream::with(move |exchange| {
        held.wait();
        exchange.reply_ok()
    });
    let secured = Secured::new();
    let mut gateway = secured.before(&upstream).start();
    let key = gateway.live_key();
    let mut idle = secured.client().connect(gateway.address());
    let mut busy = secured.client().connect(gateway.address());
    busy.send(Request::get("/").key(&key).to_bytes());
    upstream.wait_for(1);
    gateway.signal(Signal::TERM);
    eventually("it is draining", PATIENCE, || gateway.admin().readyz() == Some(503));
    idle.assert_ended_in_order();
    gate.open();
    let answer = busy.answer();
    answer.assert_forwarded();
    assert!(answer.headers.asks_to_close(), "{answer:?}");
    busy.assert_ended_in_order();
    assert_eq!(gateway.wait_for_exit(PATIENCE).code(), Some(0));
}

#[test]
fn plain_http_where_tls_is_spoken_forwards_nothing_and_leaves_no_trace_of_the_key() {
    let (upstream, secured) = (Upstream::start(), Secured::new());
    let gateway = secured.before(&upstream).set("KEYGATE_LOG__FILTER", "trace").start();
    let key = gateway.live_key();
    let mut connection = gateway.connect();
    connection.send(Request::get("/").key(&key).to_bytes());
    assert!(connection.try_head().is_err(), "no HTTP is answered");
    eventually("it is counted", PATIENCE, || gateway.metrics().sum(FAILED, &[]) == 1.0);
    assert_eq!(upstream.count(), 0);
    assert_eq!(keys::trace_in(&gateway.output(), &key), None);
}
