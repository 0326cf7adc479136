//! Requests that are almost right, by chance: whatever comes, the gateway answers in its own words or not at all, and
//! the upstream sees nothing that it must not.
//!
//! A failure prints the seed and the bytes; `KEYGATE_TEST_SEED` repeats it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use fastrand::Rng;

use crate::support::wait::PATIENCE;
use crate::support::{Gateway, Request, Upstream, keys};

const CLIENTS: usize = 16;

/// Pieces that parsers have stumbled over.
const PIECES: [&str; 22] = [
    "\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    ":",
    "\0",
    ",",
    ";",
    "0",
    "chunked",
    "Transfer-Encoding: chunked\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Connection: X-API-Key, X-Keygate-Team\r\n",
    "Host: evil\r\n",
    "X-Keygate-Team: evil\r\n",
    "x_keygate_team: evil\r\n",
    "Expect: 100-continue\r\n",
    "Upgrade: h2c\r\n",
    "HTTP/1.0",
    "\u{e4}",
];

fn mangled(base: &[u8], random: &mut Rng) -> Vec<u8> {
    let mut bytes = base.to_vec();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..bytes.len());
        match random.u8(..5) {
            0 => bytes[at] = random.u8(..),
            1 => drop(bytes.remove(at)),
            2 => drop(bytes.splice(at..at, random.choice(PIECES).unwrap_or_default().bytes())),
            3 => drop(bytes.splice(at..(at + random.usize(..20)).min(bytes.len()), [])),
            // A line twice, or in another place.
            _ => {
                let line_at = bytes[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
                let line: Vec<u8> =
                    bytes[line_at..].split_inclusive(|&byte| byte == b'\n').next().unwrap().to_vec();
                bytes.splice(line_at..line_at, line);
            }
        }
        if bytes.is_empty() {
            bytes.push(b'\n');
        }
    }
    bytes
}

/// All that the gateway says to these bytes.
fn tell(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the gateway lives");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may answer, and close, before it has read all.
    let _ = stream.write_all(bytes);
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    said
}

fn bases(key: &str) -> [Vec<u8>; 3] {
    let chunked = "POST /v1/wallets HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n";
    [
        Request::get("/v1/wallets/wlt_1").key(key).header("Connection", "close").to_bytes(),
        Request::post("/v1/transfers/p2p", r#"{"amount":5}"#)
            .bearer(key)
            .header("Connection", "close")
            .to_bytes(),
        format!("{chunked}X-API-Key: {key}\r\n\r\n5\r\nhello\r\n0\r\n\r\n").into_bytes(),
    ]
}

#[test]
fn whatever_comes_is_answered_in_our_words_and_the_upstream_sees_only_what_it_may() {
    let cases = if std::env::var_os("KEYGATE_TEST_FULL").is_some() { 20_000 } else { 1_000 };
    let seed = std::env::var("KEYGATE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("KEYGATE_TEST_SEED={seed}");
    let upstream = Upstream::start();
    let mut gateway = ["HEADER", "IDLE", "BODY_IDLE"]
        .into_iter()
        .fold(Gateway::builder().live(&upstream), |gateway, what| {
            gateway.set(&format!("KEYGATE_TIMEOUTS__{what}_MS"), "200")
        })
        .start();
    let (key, address) = (gateway.live_key(), gateway.address());
    let bases = bases(&key);

    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let bases = &bases;
            scope.spawn(move || {
                let mut random = Rng::with_seed(seed.wrapping_add(client as u64));
                for _ in 0..cases / CLIENTS {
                    let bytes = mangled(&bases[random.usize(..bases.len())], &mut random);
                    let said = tell(address, &bytes);
                    let text = String::from_utf8_lossy(&said);
                    let in_our_words = text.is_empty()
                        || (text.starts_with("HTTP/1.") && text.contains("x-request-id: "))
                        || text.starts_with("HTTP/1.1 100 ");
                    assert!(in_our_words, "{text}\nwas said to\n{}", bytes.escape_ascii());
                }
            });
        }
    });

    for seen in upstream.seen() {
        let all = |name: &str| seen.headers.all(name);
        assert_eq!(all("x-keygate-team"), ["acme"], "{seen:?}");
        assert_eq!(all("x-keygate-environment"), ["live"], "{seen:?}");
        assert!(all("x_keygate_team").is_empty() && all("authorization").is_empty(), "{seen:?}");
        assert!(all("x-api-key").is_empty() && all("upgrade").is_empty(), "{seen:?}");
        assert!(all("host") == [upstream.authority()], "{seen:?}");
        assert!(all("content-length").is_empty() || all("transfer-encoding").is_empty(), "{seen:?}");
    }
    assert!(upstream.count() > 0, "some of it is still a request");
    gateway.use_key(&key).assert_forwarded();
    assert_eq!(keys::trace_in(&gateway.output(), &key), None);
    assert!(gateway.terminate().success());
}
