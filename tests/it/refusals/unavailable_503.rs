//! 503: not now, and certainly not sent.

use std::sync::Arc;
use std::thread;

use super::{assert_refused, usual};
use crate::support::redis::unused_port;
use crate::support::{Exchange, Gate, Gateway, RedisServer, Request, Upstream, keys};

#[test]
fn an_upstream_where_nobody_listens_is_unavailable() {
    let url = format!("http://127.0.0.1:{}", unused_port());
    let gateway = Gateway::builder().set("KEYGATE_UPSTREAM_LIVE", &url).start();
    let key = gateway.live_key();
    assert_refused(&gateway.use_key(&key), "upstream_unavailable");
    let post = Request::post("/v1/transfers/p2p", r#"{"amount":100}"#).key(&key);
    assert_refused(&gateway.ask(&post), "upstream_unavailable");
}

#[test]
fn verification_is_unavailable_while_redis_is_down() {
    let mut redis = RedisServer::start();
    let upstream = Upstream::start();
    let gateway = Gateway::builder().live(&upstream).redis(&redis).start();
    let key = gateway.live_key();
    redis.kill();
    for _ in 0..10 {
        assert_refused(&gateway.use_key(&key), "verification_unavailable");
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn verification_is_unavailable_while_redis_hangs() {
    let redis = RedisServer::start();
    let upstream = Upstream::start();
    let gateway =
        Gateway::builder().live(&upstream).redis(&redis).set("KEYGATE_LOOKUP__TIMEOUT_MS", "200").start();
    let key = gateway.live_key();
    redis.freeze();
    for _ in 0..10 {
        assert_refused(&gateway.use_key(&key), "verification_unavailable");
    }
    redis.thaw();
    assert_eq!(upstream.count(), 0);
}

#[test]
fn unchecked_keys_have_a_budget_that_does_not_starve_checked_ones() {
    let upstream = Upstream::start();
    let gateway = Gateway::builder().live(&upstream).set("KEYGATE_LOOKUP__UNCHECKED_PER_SECOND", "2").start();
    gateway.admin().import(&keys::sha256_hex(b"the first import lets unchecked keys ask"), "live");
    let mut overloaded = 0;
    for guess in 0..200 {
        let answer = gateway.use_key(&keys::foreign_live(&format!("guess {guess}")));
        if answer.status == 503 {
            assert_refused(&answer, "overloaded");
            overloaded += 1;
        } else {
            assert_refused(&answer, "key_unknown");
        }
    }
    assert!(overloaded > 0, "200 unknown keys stayed within a budget of 2 a second");
    let checked = gateway.live_key();
    gateway.use_key(&checked).assert_forwarded();
}

#[test]
fn a_request_that_finds_no_room_is_not_sent() {
    let gate = Arc::new(Gate::default());
    let opened = Arc::clone(&gate);
    let upstream = Upstream::with(move |exchange: &mut Exchange| {
        exchange.read_body()?;
        opened.wait();
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"data\":{\"ok\":true}}")?;
        exchange.finish()
    });
    let gateway = Gateway::builder()
        .live(&upstream)
        .set("KEYGATE_UPSTREAM__MAX_CONNECTIONS", "1")
        .set("KEYGATE_UPSTREAM__POOL_WAIT_MS", "200")
        .start();
    let key = gateway.live_key();
    thread::scope(|scope| {
        let first = scope.spawn(|| gateway.use_key(&key));
        upstream.wait_for(1);
        assert_refused(&gateway.use_key(&key), "overloaded");
        assert_eq!(upstream.count(), 1);
        gate.open();
        first.join().unwrap().assert_forwarded();
    });
    gateway.use_key(&key).assert_forwarded();
}

#[test]
fn a_refusal_does_not_end_a_connection_that_is_in_order() {
    let (_upstream, gateway, key) = usual();
    let mut connection = gateway.connect();
    for _ in 0..3 {
        assert_refused(&connection.ask(&Request::get("/")), "key_missing");
        connection.ask(&Request::get("/").key(&key)).assert_forwarded();
    }
}
