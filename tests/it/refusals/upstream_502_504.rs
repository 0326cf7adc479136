//! 502 and 504: the request was on its way, and may have been carried out.

use super::assert_refused;
use crate::support::wait::{PATIENCE, timed};
use crate::support::{Gateway, Request, Upstream};

/// A POST to an upstream that fails in this way.
fn assert_upstream_error(upstream: &Upstream) {
    let gateway = Gateway::before(upstream);
    let key = gateway.live_key();
    let answer = gateway.ask(&Request::post("/v1/transfers/p2p", r#"{"amount":100}"#).key(&key));
    assert_refused(&answer, "upstream_error");
    assert_eq!(upstream.count(), 1, "it was sent once");
}

#[test]
fn an_upstream_that_reads_and_closes_is_an_error() {
    assert_upstream_error(&Upstream::with(|exchange| exchange.read_body()));
}

#[test]
fn an_upstream_that_closes_in_the_middle_of_its_head_is_an_error() {
    assert_upstream_error(&Upstream::with(|exchange| {
        exchange.read_body()?;
        exchange.write("HTTP/1.1 200 OK\r\nContent-Len")
    }));
}

#[test]
fn an_upstream_that_does_not_speak_http_is_an_error() {
    assert_upstream_error(&Upstream::with(|exchange| {
        exchange.read_body()?;
        exchange.write("220 mail.example ESMTP\r\n\r\n")?;
        exchange.peer_closes(PATIENCE);
        Ok(())
    }));
}

#[test]
fn an_upstream_that_switches_protocols_unasked_is_an_error() {
    assert_upstream_error(&Upstream::with(|exchange| {
        exchange.read_body()?;
        exchange.write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")?;
        exchange.peer_closes(PATIENCE);
        Ok(())
    }));
}

#[test]
fn an_upstream_that_does_not_answer_in_time_is_a_timeout() {
    let upstream = Upstream::with(|exchange| {
        exchange.read_body()?;
        exchange.peer_closes(PATIENCE);
        Ok(())
    });
    let gateway =
        Gateway::builder().live(&upstream).set("KEYGATE_UPSTREAM__RESPONSE_TIMEOUT_MS", "300").start();
    let key = gateway.live_key();
    let request = Request::post("/v1/transfers/p2p", r#"{"amount":100}"#).key(&key);
    let (took, answer) = timed(|| gateway.ask(&request));
    assert_refused(&answer, "upstream_timeout");
    assert!(took.as_millis() >= 300, "{took:?}");
    assert_eq!(upstream.count(), 1, "it was sent once");
}

#[test]
fn an_answer_that_breaks_off_is_not_passed_off_as_whole() {
    let upstream = Upstream::with(|exchange| {
        exchange.read_body()?;
        if exchange.request.target == "/length" {
            exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot a hundred")
        } else {
            exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        }
    });
    let gateway = Gateway::before(&upstream);
    let key = gateway.live_key();
    for target in ["/length", "/chunked"] {
        let mut connection = gateway.connect();
        let answered = connection.try_ask(&Request::get(target).key(&key));
        // Either nothing was sent to the client yet, or it sees that the answer is not whole.
        match answered {
            Ok(answer) => assert_refused(&answer, "upstream_error"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{target}"),
        }
    }
}
