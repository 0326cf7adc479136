//! The harness itself: a test that could not fail would hold nothing.

use std::time::Duration;

use super::message::chunk;
use super::wait::PATIENCE;
use super::{Connection, RedisServer, Request, Upstream, eventually};

fn address(upstream: &Upstream) -> std::net::SocketAddr {
    upstream.authority().parse().unwrap()
}

#[test]
fn an_upstream_remembers_what_it_was_asked() {
    let upstream = Upstream::start();
    let mut connection = Connection::open(address(&upstream));
    for _ in 0..3 {
        let answer =
            connection.ask(&Request::post("/a?b", "body").header("X-Many", "1").header("X-Many", "2"));
        assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"data":{"ok":true}}"#));
    }
    assert_eq!((upstream.accepted(), upstream.open(), upstream.count()), (1, 1, 3));
    let seen = upstream.seen().remove(2);
    assert_eq!((seen.method.as_str(), seen.target.as_str(), seen.complete), ("POST", "/a?b", true));
    assert_eq!((seen.body.as_slice(), seen.headers.all("x-many")), (&b"body"[..], vec!["1", "2"]));
    drop(connection);
    eventually("the upstream sees it closed", PATIENCE, || upstream.open() == 0);
}

#[test]
fn chunks_and_trailers_are_read_and_written() {
    let upstream = Upstream::with(|exchange| {
        exchange.read_body()?;
        exchange
            .write("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        exchange.write_chunk(b"one")?;
        exchange.write_chunk(b"two")?;
        exchange.write("0\r\nX-Sum: 6\r\n\r\n")?;
        exchange.finish()
    });
    let mut connection = Connection::open(address(&upstream));
    connection.send(Request::new("POST", "/").header("Transfer-Encoding", "chunked").head_bytes());
    connection.send(chunk(b"first")).send("0\r\nX-Checksum: 1\r\n\r\n");
    let answer = connection.answer();
    assert_eq!((answer.interim.as_slice(), answer.text().as_str()), (&[103][..], "onetwo"));
    assert_eq!(answer.trailers.get("x-sum"), Some("6"));
    let seen = upstream.only();
    assert_eq!((seen.body.as_slice(), seen.trailers.get("x-checksum")), (&b"first"[..], Some("1")));
}

#[test]
fn what_breaks_off_is_not_taken_for_whole() {
    let upstream =
        Upstream::with(|exchange| exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"));
    let mut connection = Connection::open(address(&upstream));
    assert!(connection.try_ask(&Request::get("/")).is_err());

    let upstream = Upstream::start();
    let mut connection = Connection::open(address(&upstream));
    connection.send(Request::new("POST", "/").header("Content-Length", "9").head_bytes()).send("half");
    upstream.wait_for(1);
    drop(connection);
    eventually("the upstream sees it closed", PATIENCE, || upstream.open() == 0);
    assert!(!upstream.only().complete);
}

#[test]
fn a_peer_that_does_not_read_holds_back() {
    let upstream = Upstream::with(|exchange| {
        exchange.stall(3 * PATIENCE);
        Ok(())
    });
    let mut connection = Connection::open(address(&upstream));
    connection.send(Request::new("POST", "/").header("Content-Length", "999999999").head_bytes());
    let limit = 256 * 1024 * 1024;
    assert!(connection.send_until_held_back(&[0; 64 * 1024], limit) < limit);
}

#[test]
fn a_redis_dies_freezes_and_comes_back_with_its_data() {
    let mut redis = RedisServer::start();
    let monitor = redis.monitor();
    let _: String = redis.run(&["SET", "a", "1"]);
    eventually("the monitor sees it", PATIENCE, || monitor.lines_with("\"SET\" \"a\"").len() == 1);
    redis.kill();
    redis.start_again();
    let value: String = redis.run(&["GET", "a"]);
    assert_eq!(value, "1");
    redis.freeze();
    let frozen = std::net::TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
    frozen.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    std::io::Write::write_all(&mut &frozen, b"PING\r\n").unwrap();
    assert!(std::io::Read::read(&mut &frozen, &mut [0; 9]).is_err());
    redis.thaw();
    let value: String = redis.run(&["GET", "a"]);
    assert_eq!(value, "1");
}
