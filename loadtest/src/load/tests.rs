//! The engine against small servers. Counts and orders, no times.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use super::*;
use crate::rig::http::get;
use crate::rig::upstream::Upstream;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

struct Get;

impl Work for Get {
    fn request(&mut self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&get("/", "a: b"));
    }
}

fn plan(address: SocketAddr, connections: usize, span_ms: u64) -> Plan {
    let [warm_up, span] = [50, span_ms].map(Duration::from_millis);
    Plan { address, connections, warm_up, span, seed: 1 }
}

fn limit() -> Limit {
    Limit::begin(Duration::from_secs(60)).unwrap()
}

/// A server with one connection at a time, which does this with the stream and the number of each request, until it
/// says that it is over.
fn server(
    mut answer: impl FnMut(&mut std::net::TcpStream, u64) -> std::io::Result<()> + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut number = 0;
        while let Ok((mut stream, _)) = listener.accept() {
            // The requests of these tests come in one piece and one at a time.
            while stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {
                number += 1;
                if answer(&mut stream, number).is_err() {
                    break;
                }
            }
        }
    });
    address
}

#[test]
fn all_that_is_due_is_counted_once() {
    let upstream = Upstream::start().unwrap();
    let plan = plan(upstream.address(), 4, 1500);
    let due = poisson(400.0, plan.warm_up + plan.span, plan.seed).left_over();
    let due = due.filter(|&due| due >= plan.warm_up).count() as u64;
    let measured = open_loop(&plan, 400.0, &mut Get, &limit(), &Progress::new()).unwrap();
    assert_eq!(measured.answered + measured.failed + measured.unsent, due);
    assert_eq!((measured.unexpected, measured.failed), (0, 0));
    assert_eq!(measured.by_status.get(&200), Some(&measured.answered));
    assert_eq!(measured.latency.len(), due);
    assert!(measured.per_second.iter().map(|second| second.answered).sum::<u64>() == measured.answered);
    assert!(measured.per_second.iter().zip(0..).all(|(second, number)| second.second == number));
}

#[test]
fn a_closed_loop_keeps_all_connections_busy() {
    let upstream = Upstream::start().unwrap();
    let measured = saturate(&plan(upstream.address(), 3, 300), &mut Get, &limit(), &Progress::new()).unwrap();
    assert!(measured.answered > 3 && measured.unexpected == 0 && measured.failed == 0);
    assert_eq!(measured.latency.len(), measured.answered);
    assert_eq!(measured.unsent, 0);
}

#[test]
fn a_stall_is_paid_for_by_all_who_were_due_meanwhile() {
    const STALL: Duration = Duration::from_millis(400);
    let address = server(|stream, number| {
        if number == 100 {
            thread::sleep(STALL);
        }
        stream.write_all(ANSWER)
    });
    let measured = open_loop(&plan(address, 1, 1000), 500.0, &mut Get, &limit(), &Progress::new()).unwrap();
    // About 200 were due during the stall. One that counts from its own sending would see a single slow one.
    let slow = measured.latency.count_between(STALL.as_micros() as u64 / 2, u64::MAX);
    assert!(slow > 50, "{slow}");
    let late = measured.lateness.count_between(STALL.as_micros() as u64 / 2, u64::MAX);
    assert!(late > 50 && late < slow + 1, "{late} of {slow}");
    assert!(measured.latency.max() >= STALL.as_micros() as u64 * 9 / 10);
}

#[test]
fn a_server_that_hangs_up_costs_the_request_that_was_under_way() {
    let address = server(|stream, number| match number % 10 {
        0 => Err(std::io::ErrorKind::Other.into()),
        _ => stream.write_all(ANSWER),
    });
    let measured = open_loop(&plan(address, 1, 500), 200.0, &mut Get, &limit(), &Progress::new()).unwrap();
    assert!(measured.failed > 0 && measured.answered > measured.failed);
}

#[test]
fn what_can_not_begin_is_told_and_waits_to_the_end() {
    let address = server(|stream, number| {
        if number == 20 {
            thread::sleep(Duration::from_millis(600));
        }
        stream.write_all(ANSWER)
    });
    let measured = open_loop(&plan(address, 1, 300), 300.0, &mut Get, &limit(), &Progress::new()).unwrap();
    assert!(measured.unsent > 0);
    assert_eq!(measured.latency.len(), measured.answered + measured.unsent);
}

#[test]
fn an_answer_that_is_not_as_it_should_be_is_told() {
    let address = server(|stream, number| match number % 2 {
        0 => stream.write_all(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"),
        _ => stream.write_all(ANSWER),
    });
    let measured = saturate(&plan(address, 1, 200), &mut Get, &limit(), &Progress::new()).unwrap();
    assert!(measured.unexpected > 0 && measured.unexpected < measured.answered);
    assert_eq!(measured.by_status.get(&503), Some(&measured.unexpected));
}
