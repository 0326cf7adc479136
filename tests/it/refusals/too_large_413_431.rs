//! 413 and 431: more than is let through.

use super::assert_refused;
use crate::support::message::chunk;
use crate::support::{Gateway, Request, Upstream};

const LIMIT: usize = 1000;

fn limited() -> (Upstream, Gateway, String) {
    let upstream = Upstream::start();
    let gateway =
        Gateway::builder().live(&upstream).set("KEYGATE_LIMITS__MAX_BODY_BYTES", &LIMIT.to_string()).start();
    let key = gateway.live_key();
    (upstream, gateway, key)
}

#[test]
fn a_body_whose_length_is_over_the_limit_is_refused_unread() {
    let (upstream, gateway, key) = limited();
    let request = Request::post("/v1/transfers/p2p", vec![b'x'; LIMIT + 1]).key(&key);
    assert_refused(&gateway.ask(&request), "body_too_large");
    assert_eq!(upstream.count(), 0);

    let mut connection = gateway.connect();
    connection.send(Request::new("POST", "/").key(&key).header("Content-Length", "99999999999").head_bytes());
    assert_refused(&connection.answer(), "body_too_large");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_chunked_body_that_grows_over_the_limit_is_cut_off() {
    let (upstream, gateway, key) = limited();
    let mut connection = gateway.connect();
    connection.send(Request::new("POST", "/").key(&key).header("Transfer-Encoding", "chunked").head_bytes());
    connection.send(chunk(&[b'x'; LIMIT]));
    let _ = connection.try_send([chunk(b"x"), b"0\r\n\r\n".to_vec()].concat()); // it may be refused already
    assert_refused(&connection.answer(), "body_too_large");
    assert!(
        upstream.seen().iter().all(|seen| !seen.complete),
        "the upstream took a cut body for a whole one"
    );
}

#[test]
fn a_body_at_the_limit_passes() {
    let (upstream, gateway, key) = limited();
    let request = Request::post("/v1/transfers/p2p", vec![b'x'; LIMIT]).key(&key);
    gateway.ask(&request).assert_forwarded();
    let mut connection = gateway.connect();
    connection.send(Request::new("POST", "/").key(&key).header("Transfer-Encoding", "chunked").head_bytes());
    connection.send([chunk(&[b'x'; LIMIT / 2]), chunk(&[b'x'; LIMIT / 2]), b"0\r\n\r\n".to_vec()].concat());
    connection.answer().assert_forwarded();
    assert!(upstream.seen().iter().all(|seen| seen.body.len() == LIMIT));
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let upstream = Upstream::start();
    let gateway = Gateway::builder().live(&upstream).set("KEYGATE_LIMITS__MAX_HEADER_BYTES", "4096").start();
    let key = gateway.live_key();
    let request = Request::get("/").key(&key);
    assert_refused(&gateway.ask(&request.clone().header("X-Long", &"x".repeat(5000))), "headers_too_large");
    let many =
        (0..40).fold(request.clone(), |request, i| request.header(&format!("X-{i}"), &"x".repeat(200)));
    assert_refused(&gateway.ask(&many), "headers_too_large");
    assert_eq!(upstream.count(), 0);
    gateway.ask(&request.header("X-Long", &"x".repeat(2000))).assert_forwarded();
}

#[test]
fn a_head_larger_than_any_buffer_is_refused_in_the_same_words() {
    let (upstream, gateway, key) = limited();
    let mut connection = gateway.connect();
    let request = Request::get("/").key(&key).header("X-Long", &"x".repeat(200_000));
    let _ = connection.try_send(request.to_bytes()); // it may be refused already
    assert_refused(&connection.answer(), "headers_too_large");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn too_many_header_lines_are_refused() {
    let (upstream, gateway, key) = limited();
    for lines in [90, 300] {
        let request = Request::get("/").key(&key);
        let many = (0..lines).fold(request, |request, i| request.header(&format!("X-{i}"), "1"));
        assert_refused(&gateway.ask(&many), "headers_too_large");
    }
    assert_eq!(upstream.count(), 0);
}
