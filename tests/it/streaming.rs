//! Bodies stream: a gigabyte passes without being held, and whoever leaves is noticed.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::wait::{PATIENCE, eventually, settles};
use crate::support::{Gateway, Request, Upstream};

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

/// What may be held of a body of any size.
const MAY_HOLD: u64 = 64 * MIB;

/// A mebibyte that repeats through a body; no two pieces of it of a kilobyte are the same.
fn pattern() -> Arc<[u8]> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..MIB).map(next).collect()
}

/// Counts a body, and compares it with the pattern as it comes.
struct Checker {
    pattern: Arc<[u8]>,
    length: u64,
    intact: bool,
}

impl Checker {
    fn new(pattern: &Arc<[u8]>) -> Checker {
        Checker { pattern: Arc::clone(pattern), length: 0, intact: true }
    }

    fn take(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let expected = &self.pattern[(self.length % MIB) as usize..];
            let (now, rest) = piece.split_at(piece.len().min(expected.len()));
            self.intact &= expected.starts_with(now);
            self.length += now.len() as u64;
            piece = rest;
        }
    }
}

#[test]
fn a_gibibyte_passes_to_the_upstream_without_being_held() {
    let pattern = pattern();
    let arrived = Arc::new(Mutex::new(Checker::new(&pattern)));
    let checker = Arc::clone(&arrived);
    let upstream = Upstream::with(move |exchange| {
        let mut checker = checker.lock().unwrap();
        exchange.stream_body(|piece| checker.take(piece))?;
        exchange.reply_ok()
    });
    let gateway = Gateway::before(&upstream);
    let key = gateway.live_key();
    gateway.metrics();
    let before = gateway.peak_memory();

    let mut connection = gateway.connect();
    let length = GIB.to_string();
    connection.send(Request::new("POST", "/upload").key(&key).header("Content-Length", &length).head_bytes());
    for _ in 0..GIB / MIB {
        connection.send(&pattern);
    }
    connection.answer().assert_forwarded();

    let arrived = arrived.lock().unwrap();
    assert_eq!((arrived.length, arrived.intact), (GIB, true));
    let held = gateway.peak_memory() - before;
    assert!(held < MAY_HOLD, "{} MiB were held", held / MIB);
}

#[test]
fn a_gibibyte_passes_to_the_client_without_being_held() {
    let pattern = pattern();
    let sent = Arc::clone(&pattern);
    let upstream = Upstream::with(move |exchange| {
        exchange.read_body()?;
        exchange.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {GIB}\r\n\r\n"))?;
        for _ in 0..GIB / MIB {
            exchange.write(&sent)?;
        }
        exchange.finish()
    });
    let gateway = Gateway::before(&upstream);
    let key = gateway.live_key();
    let before = gateway.peak_memory();

    let mut connection = gateway.connect();
    connection.send(Request::get("/download").key(&key).to_bytes());
    let head = connection.head();
    let mut checker = Checker::new(&pattern);
    connection.body(&head, |piece| checker.take(piece)).unwrap();

    assert_eq!((checker.length, checker.intact), (GIB, true));
    let held = gateway.peak_memory() - before;
    assert!(held < MAY_HOLD, "{} MiB were held", held / MIB);
}

#[test]
fn a_client_that_does_not_read_holds_the_upstream_back_and_not_memory() {
    const LENGTH: u64 = 256 * MIB;
    let pattern = pattern();
    let written = Arc::new(AtomicU64::new(0));
    let (counter, sent) = (Arc::clone(&written), Arc::clone(&pattern));
    let upstream = Upstream::with(move |exchange| {
        exchange.read_body()?;
        exchange.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"))?;
        for _ in 0..LENGTH / MIB {
            exchange.write(&sent)?;
            counter.fetch_add(MIB, Ordering::SeqCst);
        }
        exchange.finish()
    });
    let gateway = Gateway::before(&upstream);
    let key = gateway.live_key();
    let before = gateway.peak_memory();

    let mut connection = gateway.connect();
    connection.send(Request::get("/download").key(&key).to_bytes());
    let head = connection.head();
    let standing = settles("the upstream is held back", || written.load(Ordering::SeqCst));
    assert!(standing < LENGTH / 2, "{} MiB are on their way to nobody", standing / MIB);
    let held = gateway.peak_memory() - before;
    assert!(held < 16 * MIB, "{} MiB are held", held / MIB);

    let mut checker = Checker::new(&pattern);
    connection.body(&head, |piece| checker.take(piece)).unwrap();
    assert_eq!((checker.length, checker.intact), (LENGTH, true));
}

#[test]
fn an_upstream_that_does_not_read_holds_the_client_back_and_not_memory() {
    let upstream = Upstream::with(|exchange| {
        exchange.stall(PATIENCE * 3);
        Ok(())
    });
    let gateway = Gateway::before(&upstream);
    let key = gateway.live_key();
    let before = gateway.peak_memory();
    let mut connection = gateway.connect();
    connection
        .send(Request::new("POST", "/").key(&key).header("Content-Length", &GIB.to_string()).head_bytes());
    let block = pattern();
    let sent = connection.send_until_held_back(&block, 256 * MIB);
    assert!(sent < 128 * MIB, "{} MiB are on their way to nobody", sent / MIB);
    let held = gateway.peak_memory() - before;
    assert!(held < 16 * MIB, "{} MiB are held", held / MIB);
}

/// An upstream that never answers, and tells when its peer has gone.
fn patient_upstream() -> (Upstream, Arc<AtomicBool>) {
    let gone = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&gone);
    let upstream = Upstream::with(move |exchange| -> io::Result<()> {
        if exchange.request.target == "/body" {
            exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome of it")?;
        }
        tell.store(exchange.peer_closes(PATIENCE), Ordering::SeqCst);
        Ok(())
    });
    (upstream, gone)
}

#[test]
fn a_client_that_leaves_before_the_answer_is_gone_for_the_upstream_too() {
    let (upstream, gone) = patient_upstream();
    let gateway = Gateway::before(&upstream);
    let key = gateway.live_key();
    let mut connection = gateway.connect();
    connection.send(Request::get("/slow").key(&key).to_bytes());
    upstream.wait_for(1);
    drop(connection);
    eventually("the upstream sees its client gone", PATIENCE, || gone.load(Ordering::SeqCst));
}

#[test]
fn a_client_that_leaves_in_the_middle_of_the_answer_is_gone_for_the_upstream_too() {
    let (upstream, gone) = patient_upstream();
    let gateway = Gateway::before(&upstream);
    let key = gateway.live_key();
    let mut connection = gateway.connect();
    connection.send(Request::get("/body").key(&key).to_bytes());
    assert_eq!(connection.head().status, 200);
    assert_eq!(connection.read_exactly(10), b"some of it");
    drop(connection);
    eventually("the upstream sees its client gone", PATIENCE, || gone.load(Ordering::SeqCst));
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_request_leaves_no_whole_request_behind() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let key = gateway.live_key();
    let mut connection = gateway.connect();
    connection.send(
        Request::new("POST", "/v1/transfers/p2p").key(&key).header("Content-Length", "100").head_bytes(),
    );
    connection.send("{\"amount\":");
    upstream.wait_for(1);
    drop(connection);
    eventually("the upstream's connection is closed", PATIENCE, || upstream.open() == 0);
    assert!(!upstream.only().complete);
}
