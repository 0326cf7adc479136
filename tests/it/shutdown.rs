//! SIGTERM loses no request.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::wait::{PATIENCE, eventually, timed};
use crate::support::{Connection, Gate, Gateway, Request, Upstream};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"data\":{\"ok\":true}}";

/// An upstream that answers when the gate is open.
fn held_upstream() -> (Upstream, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let opened = Arc::clone(&gate);
    let upstream = Upstream::with(move |exchange| {
        exchange.read_body()?;
        opened.wait();
        exchange.write(OK)?;
        exchange.finish()
    });
    (upstream, gate)
}

#[test]
fn under_load_every_request_is_answered_or_was_never_sent() {
    const CLIENTS: usize = 8;
    let upstream = Upstream::start();
    let mut gateway = Gateway::builder().live(&upstream).set("KEYGATE_WORKERS", "2").start();
    let key = gateway.live_key();
    let address = gateway.address();
    let answered = AtomicUsize::new(0);
    let stopping = AtomicBool::new(false);

    let outcomes: Vec<(String, bool)> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (key, answered, stopping) = (&key, &answered, &stopping);
                scope.spawn(move || {
                    let mut outcomes = Vec::new();
                    while let Ok(connection) = Connection::try_open(address) {
                        talk(connection, client, key, answered, &mut outcomes);
                        let told = stopping.load(Ordering::SeqCst);
                        assert!(
                            told || outcomes.iter().all(|(_, whole)| *whole),
                            "a request was lost before the end"
                        );
                    }
                    outcomes
                })
            })
            .collect();
        eventually("the load is on", PATIENCE, || answered.load(Ordering::SeqCst) > 50 * CLIENTS);
        stopping.store(true, Ordering::SeqCst);
        gateway.signal(Signal::TERM);
        let status = gateway.wait_for_exit(PATIENCE);
        assert_eq!(status.code(), Some(0), "{status}");
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });

    let mut times: HashMap<String, usize> = HashMap::new();
    for seen in upstream.seen() {
        *times.entry(seen.target).or_default() += 1;
    }
    for (target, whole) in outcomes {
        let seen = times.get(&target).copied().unwrap_or(0);
        assert_eq!(seen, usize::from(whole), "{target} was answered: {whole}");
    }
}

/// Asks again and again on one connection, until it ends. Tells of each request whether it was answered.
fn talk(
    mut connection: Connection,
    client: usize,
    key: &str,
    answered: &AtomicUsize,
    outcomes: &mut Vec<(String, bool)>,
) {
    loop {
        let target = format!("/{client}/{}", outcomes.len());
        match connection.try_ask(&Request::post(&target, "{}").key(key)) {
            Ok(answer) => {
                answer.assert_forwarded();
                outcomes.push((target, true));
                answered.fetch_add(1, Ordering::SeqCst);
                if answer.headers.asks_to_close() {
                    return;
                }
            }
            Err(error) => {
                let closed =
                    [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
                assert!(closed.contains(&error.kind()), "{error}");
                outcomes.push((target, false));
                return;
            }
        }
    }
}

#[test]
fn while_draining_it_is_unready_takes_no_connection_and_finishes_what_it_has() {
    let (upstream, gate) = held_upstream();
    let mut gateway = Gateway::before(&upstream);
    let key = gateway.live_key();
    let (admin, address) = (gateway.admin(), gateway.address());
    let mut idle = gateway.connect();
    thread::scope(|scope| {
        let held = scope.spawn(|| Connection::open(address).ask(&Request::post("/", "{}").key(&key)));
        upstream.wait_for(1);
        gateway.signal(Signal::TERM);
        eventually("it says that it is draining", PATIENCE, || admin.readyz() == Some(503));
        eventually("it takes no connection", PATIENCE, || Connection::try_open(address).is_err());
        assert!(idle.is_closed_soon(), "a connection without a request is let go");
        assert!(gateway.exit_status().is_none(), "it waits for the request that it has");
        gate.open();
        held.join().unwrap().assert_forwarded();
    });
    assert_eq!(gateway.wait_for_exit(PATIENCE).code(), Some(0));
}

#[test]
fn the_last_answer_of_a_connection_says_so() {
    let (upstream, gate) = held_upstream();
    let mut gateway = Gateway::before(&upstream);
    let key = gateway.live_key();
    let mut connection = gateway.connect();
    connection.send(Request::get("/").key(&key).to_bytes());
    upstream.wait_for(1);
    gateway.signal(Signal::TERM);
    eventually("it is draining", PATIENCE, || gateway.admin().readyz() == Some(503));
    gate.open();
    let answer = connection.answer();
    answer.assert_forwarded();
    assert!(answer.headers.asks_to_close(), "{answer:?}");
    assert!(connection.is_closed_soon());
    gateway.wait_for_exit(PATIENCE);
}

#[test]
fn a_request_whose_head_has_begun_is_answered_while_draining() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::before(&upstream);
    let key = gateway.live_key();
    let mut connection = gateway.connect();
    connection.ask(&Request::get("/").key(&key)).assert_forwarded();
    let request = Request::get("/").key(&key).to_bytes();
    let (begun, rest) = request.split_at(10);
    connection.send(begun);
    gateway.signal(Signal::TERM);
    eventually("it is draining", PATIENCE, || gateway.admin().readyz() == Some(503));
    connection.send(rest);
    let answer = connection.answer();
    answer.assert_forwarded();
    assert!(answer.headers.asks_to_close(), "{answer:?}");
    assert_eq!(gateway.wait_for_exit(PATIENCE).code(), Some(0));
}

#[test]
fn a_request_that_never_ends_does_not_hold_the_end_up_for_ever() {
    let upstream = Upstream::with(|exchange| {
        exchange.peer_closes(PATIENCE);
        Ok(())
    });
    let mut gateway = Gateway::builder().live(&upstream).set("KEYGATE_DRAIN_TIMEOUT_MS", "500").start();
    let key = gateway.live_key();
    let mut connection = gateway.connect();
    connection.send(Request::get("/").key(&key).to_bytes());
    upstream.wait_for(1);
    let (took, _) = timed(|| gateway.terminate());
    assert!((Duration::from_millis(500)..Duration::from_secs(8)).contains(&took), "{took:?}");
}

#[test]
fn sigint_ends_it_as_orderly() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::before(&upstream);
    gateway.use_key(&gateway.live_key()).assert_forwarded();
    gateway.signal(Signal::INT);
    assert_eq!(gateway.wait_for_exit(PATIENCE).code(), Some(0));
}
