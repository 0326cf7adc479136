//! 408: the client took too long.

use super::assert_refused;
use crate::support::{Gateway, Request, Upstream};

#[test]
fn a_body_that_stalls_times_out() {
    let upstream = Upstream::start();
    let gateway = Gateway::builder().live(&upstream).set("KEYGATE_TIMEOUTS__BODY_IDLE_MS", "300").start();
    let key = gateway.live_key();
    let mut connection = gateway.connect();
    connection.send(Request::new("POST", "/").key(&key).header("Content-Length", "100").head_bytes());
    connection.send("ten bytes.");
    assert_refused(&connection.answer(), "request_timeout");
    assert!(connection.is_closed_soon(), "what is left of the body is not taken for a request");
    assert!(upstream.seen().iter().all(|seen| !seen.complete));
}

#[test]
fn a_head_that_stalls_times_out() {
    let upstream = Upstream::start();
    let gateway = Gateway::builder().live(&upstream).set("KEYGATE_TIMEOUTS__HEADER_MS", "300").start();
    let mut connection = gateway.connect();
    connection.send("GET /v1/wallets/wlt_1 HTTP/1.1\r\nHost: a\r\nX-Slow");
    assert_refused(&connection.answer(), "request_timeout");
    assert!(connection.is_closed_soon());
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_client_that_says_nothing_is_let_go() {
    let upstream = Upstream::start();
    let gateway = Gateway::builder()
        .live(&upstream)
        .set("KEYGATE_TIMEOUTS__HEADER_MS", "300")
        .set("KEYGATE_TIMEOUTS__IDLE_MS", "300")
        .start();
    let key = gateway.live_key();
    assert!(gateway.connect().is_closed_soon(), "a connection without a first byte");
    let mut connection = gateway.connect();
    connection.ask(&Request::get("/").key(&key)).assert_forwarded();
    assert!(connection.is_closed_soon(), "a connection between two requests");
}

#[test]
fn a_body_that_trickles_for_too_long_times_out() {
    let upstream = Upstream::start();
    let gateway = Gateway::builder()
        .live(&upstream)
        .set("KEYGATE_TIMEOUTS__BODY_IDLE_MS", "200")
        .set("KEYGATE_TIMEOUTS__BODY_MIN_BYTES_PER_S", "1000")
        .start();
    let key = gateway.live_key();
    let mut connection = gateway.connect();
    connection.send(Request::new("POST", "/").key(&key).header("Content-Length", "1000000").head_bytes());
    // Never a pause that is too long, and never fast enough. The gateway is what ends it.
    while connection.try_send("x").is_ok() {
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(upstream.seen().iter().all(|seen| seen.body.len() < 500), "it goes on for ever");
    }
    assert!(upstream.seen().iter().all(|seen| !seen.complete));
    let timed_out = gateway.metrics().sum("keygate_requests_total", &[r#"outcome="request_timeout""#]);
    assert_eq!(timed_out, 1.0);
}

#[test]
fn a_slow_body_that_keeps_coming_does_not_time_out() {
    let upstream = Upstream::start();
    let gateway = Gateway::builder().live(&upstream).set("KEYGATE_TIMEOUTS__BODY_IDLE_MS", "2000").start();
    let key = gateway.live_key();
    let mut connection = gateway.connect();
    let body = "0123456789".repeat(4);
    let length = body.len().to_string();
    connection.send(Request::new("POST", "/").key(&key).header("Content-Length", &length).head_bytes());
    for (sent, piece) in body.as_bytes().chunks(10).enumerate() {
        connection.send(piece);
        let arrived = || upstream.seen().first().is_some_and(|seen| seen.body.len() == 10 * (sent + 1));
        crate::support::eventually("the piece arrives", crate::support::wait::PATIENCE, arrived);
    }
    connection.answer().assert_forwarded();
}
