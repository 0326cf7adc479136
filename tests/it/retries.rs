//! A payment is never sent twice: a request is tried again only if no byte of it can have arrived.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::refusals::assert_refused;
use crate::support::wait::{PATIENCE, eventually};
use crate::support::{Gate, Gateway, Request, Upstream};

/// How often the upstream saw each target.
fn times_seen(upstream: &Upstream) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for seen in upstream.seen() {
        *times.entry(seen.target).or_default() += 1;
    }
    times
}

#[test]
fn a_request_after_the_upstream_closed_an_idle_connection_goes_out_on_a_new_one() {
    let closed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&closed);
    let upstream = Upstream::with(move |exchange| {
        exchange.reply_ok()?;
        // Keep-alive was promised, and is broken.
        exchange.close();
        counter.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let gateway = Gateway::before(&upstream);
    let key = gateway.live_key();
    let mut connection = gateway.connect();
    for payment in 0..30 {
        let request = Request::post(&format!("/payments/{payment}"), r#"{"amount":1}"#).key(&key);
        connection.ask(&request).assert_forwarded();
        eventually("the upstream closes", PATIENCE, || closed.load(Ordering::SeqCst) == payment + 1);
    }
    assert!(times_seen(&upstream).values().all(|&times| times == 1), "{:?}", times_seen(&upstream));
    assert_eq!(upstream.accepted(), 30);
}

#[test]
fn a_request_that_dies_with_its_connection_is_not_sent_again() {
    let upstream = Upstream::with(|exchange| match exchange.request.target.as_str() {
        "/fine" => exchange.reply_ok(),
        "/after-head" => Ok(()),
        "/after-body" => exchange.read_body(),
        _ => {
            exchange.read_body()?;
            exchange.write("HTTP/1.1 2")
        }
    });
    let gateway = Gateway::before(&upstream);
    let key = gateway.live_key();
    for target in ["/after-head", "/after-body", "/in-answer"] {
        for method in ["POST", "GET", "PUT", "DELETE"] {
            // On a connection that was used before, which is where clients like to try again.
            gateway.ask(&Request::get("/fine").key(&key)).assert_forwarded();
            let before = times_seen(&upstream).get(target).copied().unwrap_or(0);
            let answer = gateway.ask(&Request::new(method, target).key(&key).body(r#"{"amount":1}"#));
            assert_refused(&answer, "upstream_error");
            assert_eq!(times_seen(&upstream)[target], before + 1, "{method} {target}");
        }
    }
}

#[test]
fn a_request_that_timed_out_is_not_sent_again() {
    let upstream = Upstream::with(|exchange| {
        exchange.read_body()?;
        exchange.peer_closes(PATIENCE);
        Ok(())
    });
    let gateway =
        Gateway::builder().live(&upstream).set("KEYGATE_UPSTREAM__RESPONSE_TIMEOUT_MS", "200").start();
    let key = gateway.live_key();
    for payment in 0..5 {
        let request = Request::post(&format!("/payments/{payment}"), r#"{"amount":1}"#).key(&key);
        assert_refused(&gateway.ask(&request), "upstream_timeout");
    }
    eventually("the gateway gives its connections up", PATIENCE, || upstream.open() == 0);
    assert_eq!(times_seen(&upstream).into_values().collect::<Vec<_>>(), [1; 5]);
}

#[test]
fn an_upstream_that_closes_at_any_moment_never_sees_a_payment_twice() {
    // Some answers are followed by a close that races with the next request.
    let upstream = Upstream::with(|exchange| {
        exchange.reply_ok()?;
        if exchange.request.target.ends_with('3') {
            exchange.close();
        }
        Ok(())
    });
    let gateway = Gateway::before(&upstream);
    let key = gateway.live_key();
    let mut refused = 0;
    for payment in 0..200 {
        let request = Request::post(&format!("/payments/{payment}"), r#"{"amount":1}"#).key(&key);
        let answer = gateway.ask(&request);
        if answer.status == 200 {
            answer.assert_forwarded();
        } else {
            assert_refused(&answer, "upstream_error");
            refused += 1;
        }
    }
    let times = times_seen(&upstream);
    assert!(times.values().all(|&times| times == 1), "{times:?}");
    assert!(times.len() + refused >= 200, "an answered payment was never seen");
}

#[test]
fn an_idle_connection_is_given_up_before_the_upstream_does_it() {
    let upstream = Upstream::start();
    let gateway = Gateway::builder().live(&upstream).set("KEYGATE_UPSTREAM__IDLE_TIMEOUT_MS", "200").start();
    let key = gateway.live_key();
    gateway.use_key(&key).assert_forwarded();
    eventually("the idle connection is closed", PATIENCE, || upstream.open() == 0);
    gateway.use_key(&key).assert_forwarded();
    assert_eq!(upstream.accepted(), 2);
}

#[test]
fn a_key_that_is_revoked_while_its_request_waits_for_a_connection_is_refused() {
    let gate = Arc::new(Gate::default());
    let opened = Arc::clone(&gate);
    let upstream = Upstream::with(move |exchange| {
        exchange.read_body()?;
        opened.wait();
        exchange.reply_ok()
    });
    let gateway = Gateway::builder()
        .live(&upstream)
        .set("KEYGATE_WORKERS", "1")
        .set("KEYGATE_UPSTREAM__MAX_CONNECTIONS", "1")
        .set("KEYGATE_UPSTREAM__POOL_WAIT_MS", "60000")
        .start();
    let key = gateway.admin().create("live");
    thread::scope(|scope| {
        let first = scope.spawn(|| gateway.use_key(&key.key));
        upstream.wait_for(1);
        let second = scope.spawn(|| gateway.use_key(&key.key));
        let hits = || gateway.metrics().sum("keygate_cache_lookups_total", &[r#"result="hit""#]);
        eventually("the second request was verified, and waits", PATIENCE, || hits() == 1.0);
        gateway.admin().revoke(&key.id);
        gate.open();
        first.join().unwrap().assert_forwarded();
        assert_refused(&second.join().unwrap(), "key_revoked");
    });
    assert_eq!(upstream.count(), 1);
}
