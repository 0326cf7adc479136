//! Peers that do what is allowed and hardly anybody does, or what is not allowed at all.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::refusals::assert_refused;
use crate::support::wait::{PATIENCE, eventually, timed};
use crate::support::{Connection, Gate, Gateway, Request, Upstream};

/// The head of a POST in chunks, with these header lines.
fn chunked_post(key: &str, lines: &str) -> String {
    format!("POST /v1/x HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nTransfer-Encoding: chunked\r\n{lines}\r\n")
}

#[test]
fn what_headers_may_not_bring_in_trailers_may_not_either() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let key = gateway.live_key();
    let mut connection = gateway.connect();
    let trailers = "X-Keygate-Team, X_Keygate_Team, X-API-Key, Authorization, X-Checksum";
    connection.send(chunked_post(&key, &format!("TE: trailers\r\nTrailer: {trailers}\r\n")));
    connection.send(format!(
        "1\r\nx\r\n0\r\nX-Keygate-Team: evil\r\nX_Keygate_Team: evil\r\nX-API-Key: {key}\r\n\
         Authorization: Bearer {key}\r\nX-Checksum: abc\r\n\r\n"
    ));
    connection.answer().assert_forwarded();
    let seen = upstream.only();
    assert_eq!(seen.trailers.0.len(), 1, "{:?}", seen.trailers);
    assert_eq!(seen.trailers.get("x-checksum"), Some("abc"));
}

#[test]
fn a_client_that_breaks_its_own_chunks_is_told_so_and_the_upstream_is_not_blamed() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let mut connection = gateway.connect();
    connection.send(chunked_post(&gateway.live_key(), ""));
    connection.send("1\r\nx\r\nzz\r\n");
    assert_refused(&connection.answer(), "bad_request");
    assert!(upstream.seen().iter().all(|seen| !seen.complete));
}

#[test]
fn a_client_that_stalls_is_blamed_although_the_upstream_has_less_time() {
    let upstream = Upstream::start();
    let gateway = Gateway::builder()
        .live(&upstream)
        .set("KEYGATE_UPSTREAM__RESPONSE_TIMEOUT_MS", "100")
        .set("KEYGATE_TIMEOUTS__BODY_IDLE_MS", "400")
        .start();
    let mut connection = gateway.connect();
    connection.send(chunked_post(&gateway.live_key(), ""));
    connection.send("1\r\nx\r\n");
    assert_refused(&connection.answer(), "request_timeout");
}

#[test]
fn an_upstream_of_http_1_0_gets_every_body_and_its_clients_do_not_notice() {
    let upstream = Upstream::with(|exchange| {
        exchange.read_body()?;
        exchange.write("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok")?;
        exchange.finish()
    });
    let gateway = Gateway::builder().live(&upstream).set("KEYGATE_WORKERS", "1").start();
    let key = gateway.live_key();
    let mut connection = gateway.connect();
    for _ in 0..3 {
        connection.send(chunked_post(&key, "")).send("5\r\nhello\r\n0\r\n\r\n");
        let answer = connection.answer();
        assert_eq!((answer.version.as_str(), answer.status), ("HTTP/1.1", 200));
    }
    for seen in upstream.seen() {
        assert_eq!((seen.version.as_str(), seen.body.as_slice()), ("HTTP/1.1", &b"hello"[..]));
    }
}

#[test]
fn a_get_with_a_body_in_chunks_keeps_it() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let mut connection = gateway.connect();
    let head = chunked_post(&gateway.live_key(), "").replace("POST", "GET");
    connection.send(head).send("5\r\nhello\r\n0\r\n\r\n");
    connection.answer().assert_forwarded();
    assert_eq!(upstream.only().body, b"hello");
}

/// Answers before it has read the body, and reads that when the gate is open.
fn hasty_upstream() -> (Upstream, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let opened = Arc::clone(&gate);
    let upstream = Upstream::with(move |exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        opened.wait();
        exchange.read_body()?;
        exchange.finish()
    });
    (upstream, gate)
}

#[test]
fn after_an_early_answer_the_rest_of_the_upload_is_not_taken_for_a_request() {
    let (upstream, gate) = hasty_upstream();
    gate.open();
    let gateway = Gateway::builder()
        .live(&upstream)
        .set("KEYGATE_TIMEOUTS__HEADER_MS", "200")
        .set("KEYGATE_TIMEOUTS__BODY_IDLE_MS", "1000")
        .start();
    let mut connection = gateway.connect();
    let head =
        Request::new("POST", "/").key(&gateway.live_key()).header("Content-Length", "1000").head_bytes();
    connection.send(head).send("some");
    assert_eq!(connection.answer().body, b"ok");
    connection.send(" more");
    // The body stalls, so the connection ends; but nobody answers it a second time.
    assert!(connection.try_head().is_err(), "a second answer");
}

#[test]
fn early_answers_do_not_lift_the_cap_on_connections() {
    const CLIENTS: usize = 12;
    let (upstream, gate) = hasty_upstream();
    let gateway = Gateway::builder()
        .live(&upstream)
        .set("KEYGATE_WORKERS", "1")
        .set("KEYGATE_UPSTREAM__MAX_CONNECTIONS", "2")
        .set("KEYGATE_UPSTREAM__POOL_WAIT_MS", "100")
        .set("KEYGATE_UPSTREAM__IDLE_TIMEOUT_MS", "60000")
        .start();
    let key = gateway.live_key();
    let head = Request::new("POST", "/").key(&key).header("Content-Length", "1000").head_bytes();
    let mut answers = Vec::new();
    let connections: Vec<Connection> = (0..CLIENTS)
        .map(|_| {
            let mut connection = gateway.connect();
            connection.send(&head).send("some");
            answers.push(connection.answer().status);
            connection
        })
        .collect();
    assert_eq!(answers.iter().filter(|&&status| status == 200).count(), 2, "{answers:?}");
    assert_eq!(upstream.accepted(), 2);
    gate.open();
    drop(connections);
}

#[test]
fn an_answer_that_looks_like_a_refusal_of_our_own_is_left_alone() {
    let body = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    let gate = Arc::new(Gate::default());
    let opened = Arc::clone(&gate);
    let upstream = Upstream::with(move |exchange| {
        exchange.read_body()?;
        exchange.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()))?;
        opened.wait();
        exchange.write(body)?;
        exchange.finish()
    });
    let gateway = Gateway::before(&upstream);
    let mut connection = gateway.connect();
    connection.send(Request::get("/").key(&gateway.live_key()).to_bytes());
    let head = connection.head();
    // The head is written by now, so that the body comes alone.
    gate.open();
    let mut seen = Vec::new();
    connection.body(&head, |piece| seen.extend_from_slice(piece)).unwrap();
    assert_eq!(String::from_utf8_lossy(&seen), body);
}

#[test]
fn a_refusal_with_the_body_unread_says_that_the_connection_ends() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let mut connection = gateway.connect();
    connection.send(Request::new("POST", "/").header("Content-Length", "1000").head_bytes());
    let answer = connection.answer();
    assert_refused(&answer, "key_missing");
    assert!(answer.headers.asks_to_close(), "{answer:?}");
}

#[test]
fn all_workers_drain_at_once() {
    const WORKERS: usize = 4;
    let upstream = Upstream::with(|exchange| {
        exchange.peer_closes(PATIENCE);
        Ok(())
    });
    let mut gateway = Gateway::builder()
        .live(&upstream)
        .set("KEYGATE_WORKERS", &WORKERS.to_string())
        .set("KEYGATE_DRAIN_TIMEOUT_MS", "2000")
        .start();
    let request = Request::get("/").key(&gateway.live_key()).to_bytes();
    let held: Vec<Connection> = (0..WORKERS)
        .map(|_| {
            let mut connection = gateway.connect();
            connection.send(&request);
            connection
        })
        .collect();
    upstream.wait_for(WORKERS);
    let (took, status) = timed(|| gateway.terminate());
    drop(held);
    assert!(status.success());
    // One after the other would take four times two seconds.
    assert!(took < Duration::from_secs(6), "{took:?}");
}

#[test]
fn connections_that_wait_in_the_kernel_are_served_to_the_end() {
    const CLIENTS: usize = 110;
    let upstream = Upstream::start();
    let mut gateway = Gateway::before(&upstream);
    let request = Request::get("/").key(&gateway.live_key()).to_bytes();
    gateway.signal(Signal::STOP);
    let waiting: Vec<Connection> = (0..CLIENTS)
        .map(|_| {
            let mut connection = gateway.connect();
            connection.send(&request);
            connection
        })
        .collect();
    gateway.signal(Signal::TERM);
    gateway.signal(Signal::CONT);
    thread::scope(|scope| {
        for mut connection in waiting {
            scope.spawn(move || connection.answer().assert_forwarded());
        }
    });
    assert_eq!(gateway.wait_for_exit(PATIENCE).code(), Some(0));
    eventually("all were seen", PATIENCE, || upstream.count() == CLIENTS);
}
