//! HTTP/1.1 as it is: what a client and the upstream say to each other arrives as it was said.

use std::sync::Arc;
use std::thread;

use crate::refusals::assert_refused;
use crate::support::message::chunk;
use crate::support::wait::{PATIENCE, eventually};
use crate::support::{Gate, Gateway, Request, Upstream};

fn before(upstream: &Upstream) -> (Gateway, String) {
    let gateway = Gateway::before(upstream);
    let key = gateway.live_key();
    (gateway, key)
}

#[test]
fn status_headers_and_body_of_the_upstream_come_through() {
    let upstream = Upstream::with(|exchange| {
        let status = exchange.request.target[1..].parse().expect("the test asks for a status");
        exchange.reply(status, &[("X-Upstream", "yes"), ("Content-Type", "text/plain")], b"as it was said")
    });
    let (gateway, key) = before(&upstream);
    for status in [200, 201, 202, 301, 400, 401, 404, 409, 422, 429, 500, 503, 599] {
        let answer = gateway.ask(&Request::get(&format!("/{status}")).key(&key));
        assert_eq!(answer.status, status);
        assert_eq!(answer.headers.get("x-upstream"), Some("yes"));
        assert_eq!(answer.headers.get("content-type"), Some("text/plain"));
        assert_eq!(answer.text(), "as it was said");
    }
}

#[test]
fn methods_come_through() {
    let upstream = Upstream::start();
    let (gateway, key) = before(&upstream);
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"] {
        gateway.ask(&Request::new(method, "/").key(&key)).assert_forwarded();
        assert_eq!(upstream.seen().pop().unwrap().method, method);
    }
}

#[test]
fn the_target_comes_through_byte_for_byte() {
    let upstream = Upstream::start();
    let (gateway, key) = before(&upstream);
    for target in [
        "/",
        "/v1/wallets/a%2Fb//c/../%2e%2e/d;x=1",
        "/v1/wallets?cursor=%20&limit=a+b&&empty=&y=%C3%A4",
        "/?",
        "/v1?a=b?c=d",
        "/v1/%7Euser/!$&'()*+,;=:@",
    ] {
        gateway.ask(&Request::get(target).key(&key)).assert_forwarded();
        assert_eq!(upstream.seen().pop().unwrap().target, target);
    }
}

#[test]
fn a_target_in_absolute_form_names_the_host_and_arrives_as_a_path() {
    let upstream = Upstream::start();
    let (gateway, key) = before(&upstream);
    let answer = gateway.ask(&Request::get("http://payments.example/v1/wallets?a=%2F").key(&key));
    answer.assert_forwarded();
    let seen = upstream.only();
    assert_eq!(seen.target, "/v1/wallets?a=%2F");
    assert_eq!(seen.headers.get("host"), Some(upstream.authority().as_str()));
    assert_eq!(seen.headers.get("x-forwarded-host"), Some("payments.example"));
}

#[test]
fn an_answer_to_head_has_a_length_and_no_body() {
    let upstream = Upstream::with(|exchange| {
        exchange.read_body()?;
        if exchange.request.method == "HEAD" {
            exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nETag: \"e\"\r\n\r\n")?;
            exchange.finish()
        } else {
            exchange.reply_ok()
        }
    });
    let (gateway, key) = before(&upstream);
    let mut connection = gateway.connect();
    let answer = connection.ask(&Request::new("HEAD", "/v1/wallets").key(&key));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers.get("content-length"), Some("1234"));
    assert_eq!(answer.headers.get("etag"), Some("\"e\""));
    connection.ask(&Request::get("/v1/wallets").key(&key)).assert_forwarded();
    assert_eq!(upstream.accepted(), 1, "both connections were in order after HEAD");
}

#[test]
fn answers_without_a_body_have_none() {
    let upstream = Upstream::with(|exchange| {
        exchange.read_body()?;
        match exchange.request.target.as_str() {
            "/204" => exchange.write("HTTP/1.1 204 No Content\r\nX-Upstream: yes\r\n\r\n")?,
            "/304" => {
                exchange.write("HTTP/1.1 304 Not Modified\r\nETag: \"e\"\r\nContent-Length: 99\r\n\r\n")?
            }
            _ => exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?,
        }
        exchange.finish()
    });
    let (gateway, key) = before(&upstream);
    let mut connection = gateway.connect();
    for (target, status) in [("/204", 204), ("/304", 304), ("/empty", 200), ("/204", 204)] {
        let answer = connection.ask(&Request::get(target).key(&key));
        assert_eq!((answer.status, answer.body.len()), (status, 0), "{answer:?}");
        if status == 204 {
            assert!(
                !answer.headers.has("content-length") && !answer.headers.has("transfer-encoding"),
                "{answer:?}"
            );
        }
        if status == 304 {
            assert_eq!(answer.headers.get("etag"), Some("\"e\""));
        }
    }
    assert_eq!(upstream.accepted(), 1);
}

#[test]
fn interim_answers_do_not_stand_in_for_the_final_one() {
    let upstream = Upstream::with(|exchange| {
        exchange.read_body()?;
        exchange.write("HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")?;
        exchange.write("HTTP/1.1 102 Processing\r\n\r\n")?;
        exchange.reply_ok()
    });
    let (gateway, key) = before(&upstream);
    let mut connection = gateway.connect();
    for _ in 0..3 {
        connection.ask(&Request::get("/").key(&key)).assert_forwarded();
    }
    assert_eq!(upstream.accepted(), 1);
}

#[test]
fn an_http_1_0_client_is_answered_and_let_go() {
    let upstream = Upstream::with(|exchange| {
        exchange.read_body()?;
        exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        exchange.write_chunk(b"{\"data\":{")?;
        exchange.write_chunk(b"\"ok\":true}}")?;
        exchange.write("0\r\n\r\n")?;
        exchange.finish()
    });
    let (gateway, key) = before(&upstream);
    for request in [
        Request::get("/"),
        Request::get("/").without_host(),
        Request::get("/").header("Connection", "keep-alive"),
    ] {
        let mut connection = gateway.connect();
        let answer = connection.ask(&request.key(&key).version("HTTP/1.0"));
        assert!(answer.version.starts_with("HTTP/1."), "{answer:?}");
        assert!(!answer.headers.is_chunked(), "HTTP/1.0 knows no chunks: {answer:?}");
        answer.assert_forwarded();
        assert!(connection.is_closed_soon());
    }
    for seen in upstream.seen() {
        assert_eq!(seen.version, "HTTP/1.1");
        assert!(!seen.headers.asks_to_close());
    }
    assert_eq!(upstream.accepted(), 1, "the upstream's connection is used again all the same");
}

#[test]
fn connections_are_used_again_on_both_sides() {
    let upstream = Upstream::start();
    let (gateway, key) = before(&upstream);
    let mut connection = gateway.connect();
    for _ in 0..20 {
        connection.ask(&Request::post("/", "{}").key(&key)).assert_forwarded();
    }
    for _ in 0..20 {
        gateway.use_key(&key).assert_forwarded();
    }
    assert_eq!(upstream.accepted(), 1);
}

#[test]
fn a_connection_is_used_again_after_a_chunked_answer() {
    let upstream = Upstream::with(|exchange| {
        exchange.read_body()?;
        exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        exchange.write_chunk(b"{\"data\":{\"ok\":true}}")?;
        exchange.write("0\r\n\r\n")?;
        exchange.finish()
    });
    let (gateway, key) = before(&upstream);
    let mut connection = gateway.connect();
    for _ in 0..20 {
        connection.ask(&Request::get("/").key(&key)).assert_forwarded();
    }
    assert_eq!(upstream.accepted(), 1);
}

#[test]
fn a_client_that_asks_to_close_is_closed_and_the_upstream_is_not() {
    let upstream = Upstream::start();
    let (gateway, key) = before(&upstream);
    for _ in 0..3 {
        let mut connection = gateway.connect();
        let answer = connection.ask(&Request::get("/").key(&key).header("Connection", "close"));
        answer.assert_forwarded();
        assert!(answer.headers.asks_to_close());
        assert!(connection.is_closed_soon());
    }
    assert_eq!(upstream.accepted(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let upstream = Upstream::with(|exchange| {
        let target = exchange.request.target.clone();
        exchange.reply(200, &[], target.as_bytes())
    });
    let (gateway, key) = before(&upstream);
    let mut connection = gateway.connect();
    let requests: Vec<u8> = (0..10)
        .flat_map(|i| match i % 3 {
            0 => Request::get(&format!("/{i}")).key(&key).to_bytes(),
            1 => Request::post(&format!("/{i}"), "{\"amount\":1}").key(&key).to_bytes(),
            _ => Request::get(&format!("/{i}")).to_bytes(),
        })
        .collect();
    connection.send(requests);
    for i in 0..10 {
        let answer = connection.answer();
        if i % 3 == 2 {
            assert_refused(&answer, "key_missing");
        } else {
            assert_eq!(answer.text(), format!("/{i}"));
        }
    }
}

#[test]
fn a_body_is_asked_for_only_with_a_good_key() {
    let upstream = Upstream::start();
    let (gateway, key) = before(&upstream);
    let expecting = Request::new("POST", "/").header("Content-Length", "12").header("Expect", "100-continue");

    let mut connection = gateway.connect();
    connection.send(expecting.clone().head_bytes());
    let answer = connection.answer();
    assert_refused(&answer, "key_missing");
    assert!(answer.interim.is_empty(), "a body was asked for without a key");
    assert_eq!(upstream.count(), 0);

    let mut connection = gateway.connect();
    connection.send(expecting.key(&key).head_bytes());
    assert_eq!(connection.head().status, 100);
    connection.send("twelve bytes");
    connection.answer().assert_forwarded();
    assert_eq!(upstream.only().body, b"twelve bytes");
}

#[test]
fn a_chunked_request_arrives_piece_by_piece() {
    let upstream = Upstream::start();
    let (gateway, key) = before(&upstream);
    let mut connection = gateway.connect();
    connection.send(Request::new("POST", "/").key(&key).header("Transfer-Encoding", "chunked").head_bytes());
    let mut sent = Vec::new();
    for piece in [&b"first"[..], b"second", b"third"] {
        connection.send(chunk(piece));
        sent.extend_from_slice(piece);
        // The next piece is not sent before this one has come through: nothing may be gathered on the way.
        eventually("the piece arrives", PATIENCE, || {
            upstream.seen().first().is_some_and(|seen| seen.body == sent)
        });
    }
    connection.send("0\r\n\r\n");
    connection.answer().assert_forwarded();
    let seen = upstream.only();
    assert!(seen.complete && seen.headers.is_chunked() && !seen.headers.has("content-length"), "{seen:?}");
}

#[test]
fn a_chunked_answer_arrives_piece_by_piece() {
    let gates: Arc<[Gate; 2]> = Arc::default();
    let opened = Arc::clone(&gates);
    let upstream = Upstream::with(move |exchange| {
        exchange.read_body()?;
        exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        exchange.write_chunk(b"first")?;
        opened[0].wait();
        exchange.write_chunk(b"second")?;
        opened[1].wait();
        exchange.write("0\r\n\r\n")?;
        exchange.finish()
    });
    let (gateway, key) = before(&upstream);
    let mut connection = gateway.connect();
    connection.send(Request::get("/").key(&key).to_bytes());
    let head = connection.head();
    assert!(head.headers.is_chunked(), "{head:?}");
    assert_eq!(connection.read_exactly(10), chunk(b"first"));
    gates[0].open();
    assert_eq!(connection.read_exactly(11), chunk(b"second"));
    gates[1].open();
    assert_eq!(connection.read_exactly(5), b"0\r\n\r\n");
}

#[test]
fn an_answer_that_ends_with_its_connection_comes_through_whole() {
    let upstream = Upstream::with(|exchange| {
        exchange.read_body()?;
        exchange.write("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"data\":{\"ok\":true}}")
    });
    let (gateway, key) = before(&upstream);
    let mut connection = gateway.connect();
    for _ in 0..3 {
        connection.ask(&Request::get("/").key(&key)).assert_forwarded();
    }
}

#[test]
fn trailers_come_through_both_ways() {
    let upstream = Upstream::with(|exchange| {
        exchange.read_body()?;
        exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")?;
        exchange.write_chunk(b"body")?;
        exchange.write("0\r\nX-Sum: 42\r\n\r\n")?;
        exchange.finish()
    });
    let (gateway, key) = before(&upstream);
    let request = Request::new("POST", "/")
        .key(&key)
        .header("TE", "trailers")
        .header("Transfer-Encoding", "chunked")
        .header("Trailer", "X-Checksum");
    let mut connection = gateway.connect();
    connection.send(request.head_bytes()).send("4\r\nbody\r\n0\r\nX-Checksum: abc\r\n\r\n");
    let answer = connection.answer();
    assert_eq!(answer.text(), "body");
    assert_eq!(answer.trailers.get("x-sum"), Some("42"), "{answer:?}");
    assert_eq!(upstream.only().trailers.get("x-checksum"), Some("abc"), "{:?}", upstream.only());
}

#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let upstream = Upstream::with(|exchange| {
        exchange.write("HTTP/1.1 422 Early\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")?;
        exchange.peer_closes(PATIENCE);
        Ok(())
    });
    let (gateway, key) = before(&upstream);
    let mut connection = gateway.connect();
    connection.send(Request::new("POST", "/").key(&key).header("Content-Length", "1000000").head_bytes());
    connection.send([b'x'; 1000]);
    assert_eq!(connection.answer().status, 422);
}

#[test]
fn an_upstream_connection_with_an_unfinished_request_is_not_used_again() {
    let upstream = Upstream::with(|exchange| {
        if exchange.request.method == "POST" {
            // Answers before it has read the body, and keeps the connection: what follows is body.
            exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")?;
            exchange.read_body()?;
            return exchange.finish();
        }
        exchange.reply_ok()
    });
    let (gateway, key) = before(&upstream);
    let mut unfinished = gateway.connect();
    unfinished.send(Request::new("POST", "/").key(&key).header("Content-Length", "1000000").head_bytes());
    unfinished.send([b'x'; 1000]);
    assert_eq!(unfinished.head().status, 200);
    for _ in 0..3 {
        gateway.use_key(&key).assert_forwarded();
    }
    drop(unfinished);
    for _ in 0..3 {
        gateway.use_key(&key).assert_forwarded();
    }
    let body = upstream.seen()[0].body.clone();
    assert!(body.iter().all(|&byte| byte == b'x'), "another request went into an unfinished body");
}

#[test]
fn many_clients_at_once_get_their_own_answers() {
    let upstream = Upstream::with(|exchange| {
        let target = exchange.request.target.clone();
        exchange.reply(200, &[], target.as_bytes())
    });
    let gateway = Gateway::builder().live(&upstream).set("KEYGATE_WORKERS", "2").start();
    let key = gateway.live_key();
    thread::scope(|scope| {
        for client in 0..20 {
            let (gateway, key) = (&gateway, &key);
            scope.spawn(move || {
                let mut connection = gateway.connect();
                for i in 0..50 {
                    let target = format!("/{client}/{i}");
                    assert_eq!(connection.ask(&Request::get(&target).key(key)).text(), target);
                }
            });
        }
    });
    assert_eq!(upstream.count(), 1000);
}
