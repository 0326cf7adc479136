//! The harness itself: a test that could not fail would hold nothing.

use std::time::Duration;

use super::message::chunk;
use super::proxy::Loss;
use super::wait::{PATIENCE, full, happened_since, has_passed, moment, moment_of, rfc3339_in, wait_until};
use super::{
    Connection, DiskFault, Faults, Ran, RedisProxy, RedisServer, Request, Upstream, eventually, tool,
};

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

#[test]
fn a_redis_goes_back_in_time_and_changes_places() {
    let (mut redis, mut other) = (RedisServer::start(), RedisServer::start());
    let set = |redis: &RedisServer, value: &str| drop(redis.run::<String>(&["SET", "a", value]));
    set(&redis, "first");
    set(&other, "other's");
    redis.kill();
    let first = redis.snapshot();
    redis.start_again();
    set(&redis, "second");
    let copy = RedisServer::start_from(&first);
    set(&copy, "third");
    let holds = |redis: &RedisServer| redis.run::<Option<String>>(&["GET", "a"]);
    assert_eq!((holds(&redis).as_deref(), holds(&copy).as_deref()), (Some("second"), Some("third")));
    redis.kill();
    redis.restore(&first);
    redis.start_again();
    assert_eq!(holds(&redis).as_deref(), Some("first"));
    let content = redis.content();
    assert_eq!(content.keys().collect::<Vec<_>>(), ["a"]);
    redis.kill();
    other.kill();
    redis.change_places_with(&mut other);
    redis.start_again();
    assert_eq!(holds(&redis).as_deref(), Some("other's"));
    assert_ne!(redis.content(), content);
    redis.kill();
    redis.lose_everything();
    redis.start_again();
    assert_eq!(holds(&redis), None);
}

/// Sends one line and returns what comes back within a moment.
fn say(stream: &std::net::TcpStream, line: &str) -> String {
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    std::io::Write::write_all(&mut &*stream, line.as_bytes()).unwrap();
    listen(stream)
}

fn listen(stream: &std::net::TcpStream) -> String {
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = std::io::Read::read(&mut &*stream, &mut buffer) {
        heard.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8(heard).unwrap()
}

#[test]
fn a_cable_goes_dead_without_a_word_and_delivers_late() {
    let redis = RedisServer::start();
    let cable = RedisProxy::before(&redis);
    let address = cable.url().trim_start_matches("redis://").to_owned();
    let early = std::net::TcpStream::connect(&address).unwrap();
    assert_eq!(say(&early, "PING\r\n"), "+PONG\r\n");
    cable.go_dead();
    let late = std::net::TcpStream::connect(&address).unwrap();
    for stream in [&early, &late] {
        assert_eq!(say(stream, "INCR a\r\n"), "");
        stream.set_nonblocking(true).unwrap();
        let open = std::io::Read::read(&mut &*stream, &mut [0]);
        assert_eq!(open.unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "it is open");
        stream.set_nonblocking(false).unwrap();
    }
    assert_eq!(redis.run::<Option<i64>>(&["GET", "a"]), None);
    cable.come_alive();
    let answers = [listen(&early), listen(&late)];
    assert!(answers == [":1\r\n", ":2\r\n"] || answers == [":2\r\n", ":1\r\n"], "{answers:?}");
    cable.cut();
    let ended = std::io::Read::read(&mut &early, &mut [0]);
    assert!(
        matches!(ended, Ok(0)) || ended.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock)
    );
}

#[test]
fn a_cable_loses_messages_and_nothing_else() {
    let redis = RedisServer::start();
    let cable = RedisProxy::before(&redis);
    let stream = std::net::TcpStream::connect(cable.url().trim_start_matches("redis://")).unwrap();
    assert!(say(&stream, "subscribe news\r\n").contains("subscribe"));
    let publish = |text: &str| assert_eq!(redis.run::<i64>(&["PUBLISH", "news", text]), 1);
    publish("first");
    assert!(listen(&stream).contains("first"));
    cable.lose_messages(Loss::All);
    publish("second");
    let heard = say(&stream, "PING\r\n");
    assert!(heard.contains("pong") && !heard.contains("second"), "{heard}");
    assert_eq!(cable.lost(), 1);
    cable.keep_messages();
    publish("third");
    let heard = listen(&stream);
    assert!(heard.contains("third") && !heard.contains("second"), "{heard}");
    cable.lose_messages(Loss::EveryOther);
    (0..10).for_each(|number| publish(&format!("number {number}")));
    assert_eq!(listen(&stream).matches("number").count(), 5);
}

#[test]
fn a_disk_fails_as_it_is_told_for_the_files_that_it_is_told() {
    let (directory, faults) = (tempfile::tempdir().unwrap(), Faults::on("keys.sqlite"));
    let write = |name: &str| {
        let mut dd = tool("dd");
        dd.args(["if=/dev/zero", "bs=1", "count=1", "conv=fsync"]);
        dd.arg(format!("of={}", directory.path().join(name).display())).envs(faults.environment());
        Ran::to_end(dd.env("LC_ALL", "C"), "coreutils")
    };
    write("keys.sqlite-wal").assert_code(0);
    for (fault, said) in [
        (DiskFault::Sync, "Input/output error"),
        (DiskFault::Full, "No space left on device"),
        (DiskFault::ReadOnly, "Read-only file system"),
    ] {
        let struck = faults.struck();
        faults.break_disk(fault);
        write("keys.sqlite-wal").assert_code(1).assert_says(&[said]);
        write("another file").assert_code(0);
        assert!(faults.struck() > struck);
        faults.mend_disk();
        write("keys.sqlite-wal").assert_code(0);
    }
}

#[test]
fn a_clock_is_set_and_timers_run_on() {
    let faults = Faults::of_clocks();
    let clocks = || {
        let mut python = tool("python3");
        python.args(["-c", "import time as t; c = t.clock_gettime; print([int(c(i)) for i in (t.CLOCK_REALTIME, t.CLOCK_BOOTTIME, t.CLOCK_MONOTONIC)])"]);
        let ran = Ran::to_end(python.envs(faults.environment()), "python3").assert_code(0);
        let times: Vec<i64> = serde_json::from_str(&ran.stdout).unwrap();
        times
    };
    let true_times = clocks();
    let ahead = || -> Vec<i64> {
        let hours = |(now, before): (i64, &i64)| (now - before + 1800).div_euclid(3600);
        clocks().into_iter().zip(&true_times).map(hours).collect()
    };
    faults.set_wall_clock_ahead(-3600);
    assert_eq!(ahead(), [-1, 0, 0]);
    faults.sleep_for(7200);
    assert_eq!(ahead(), [2, 2, 0]);

    let redis = RedisServer::start_with(&faults);
    let time = || redis.run::<(i64, i64)>(&["TIME"]).0;
    assert!((7190..7800).contains(&(time() - true_times[0])));
    faults.set_wall_clock_ahead(0);
    assert!(time() - true_times[0] < 600);
}

#[test]
fn a_date_is_a_moment() {
    let now = moment();
    let date = rfc3339_in(Duration::from_secs(5));
    let later = moment_of(&date);
    assert!(later >= now + Duration::from_millis(4_999) && later < now + Duration::from_secs(6));
    assert!(!has_passed(&date) && has_passed("2020-01-01T00:00:00Z"));
    assert!(happened_since(now, &rfc3339_in(Duration::ZERO)) && !happened_since(now, &date));
    let end = moment() + Duration::from_millis(20);
    wait_until(end);
    assert!(moment() >= end);
    // The long tests are wanted only where somebody says so.
    assert_eq!(full(), std::env::var_os("KEYGATE_TEST_FULL").is_some());
}
