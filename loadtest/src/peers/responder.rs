//! The API behind the peers: answers each request with a small JSON at once, and costs as little as it can.
//!
//! A process of its own, so that it can share a core with the load and not with what is measured.

use std::convert::Infallible;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::rig::watch::Watch;

/// It has nothing else to do than to wait.
const LONG: Duration = Duration::from_secs(3_600);
const CHUNK: usize = 64 * 1024;
/// The number of the listener.
const LISTENER: u64 = u64::MAX;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 64\r\n\r\n\
    {\"data\": {\"id\": \"wlt_1\", \"balance\": 5000000, \"currency\": \"NGN\"}}";

/// Answers all requests, until it is killed.
#[derive(clap::Args)]
pub struct Responder {
    /// Where it listens. With port 0 the kernel chooses; the address is the first line of the output.
    #[arg(long)]
    listen: SocketAddr,
}

impl Responder {
    /// Returns only if it fails.
    pub fn run(&self) -> anyhow::Result<Infallible> {
        let listener =
            TcpListener::bind(self.listen).with_context(|| format!("listening on {}", self.listen))?;
        listener.set_nonblocking(true)?;
        writeln!(io::stdout(), "{}", listener.local_addr()?)?;
        let mut watch = Watch::new()?;
        watch.add(&listener, LISTENER)?;
        // A client is watched under its place, which is never given again.
        let mut clients: Vec<Option<Client>> = Vec::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            let mut knocked = false;
            for number in watch.wait(Instant::now() + LONG)? {
                match usize::try_from(number).ok().and_then(|place| clients.get_mut(place)) {
                    Some(client) => drop(client.take_if(|client| client.serve(&mut chunk).is_err())),
                    None => knocked = true,
                }
            }
            if knocked && let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                watch.add(&stream, clients.len() as u64)?;
                clients.push(Some(Client { stream, inbox: Inbox::default() }));
            }
        }
    }
}

struct Client {
    stream: TcpStream,
    inbox: Inbox,
}

impl Client {
    /// # Errors
    /// The client is gone, or says what nobody understands.
    fn serve(&mut self, chunk: &mut [u8]) -> anyhow::Result<()> {
        let read = match self.stream.read(chunk) {
            Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        for _ in 0..self.inbox.requests_in(&chunk[..read])? {
            self.stream.write_all(ANSWER)?;
        }
        Ok(())
    }
}

/// Where in a request a client is.
#[derive(Default)]
struct Inbox {
    /// What there is of a head that is not complete.
    head: Vec<u8>,
    /// Bytes of a body that are still to come.
    body: usize,
}

impl Inbox {
    /// How many requests come to their end with these bytes.
    fn requests_in(&mut self, mut bytes: &[u8]) -> anyhow::Result<usize> {
        let mut ended = 0;
        while !bytes.is_empty() {
            if self.body > 0 {
                let part = self.body.min(bytes.len());
                bytes = &bytes[part..];
                self.body -= part;
                ended += usize::from(self.body == 0);
                continue;
            }
            let before = self.head.len();
            let head = if before == 0 {
                parse(bytes)?
            } else {
                self.head.extend_from_slice(bytes);
                parse(&self.head)?
            };
            let Some((head, body)) = head else {
                if before == 0 {
                    self.head.extend_from_slice(bytes);
                }
                break;
            };
            bytes = &bytes[head - before..];
            self.head.clear();
            self.body = body;
            ended += usize::from(body == 0);
        }
        Ok(ended)
    }
}

/// The length of a head, once all of it is there, and of the body that follows.
fn parse(bytes: &[u8]) -> anyhow::Result<Option<(usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(bytes)? else { return Ok(None) };
    let length = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let body = match length {
        Some(header) => std::str::from_utf8(header.value)?.parse()?,
        None => 0,
    };
    Ok(Some((head, body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUESTS: &[u8] =
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello\
        GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n";

    #[test]
    fn requests_are_counted_however_they_are_cut() {
        for first in 0..REQUESTS.len() {
            for second in first..REQUESTS.len() {
                let mut inbox = Inbox::default();
                let parts = [&REQUESTS[..first], &REQUESTS[first..second], &REQUESTS[second..]];
                let ended: usize = parts.iter().map(|part| inbox.requests_in(part).unwrap()).sum();
                assert_eq!(ended, 3, "{first} {second}");
            }
        }
    }

    #[test]
    fn the_answer_says_how_long_it_is() {
        let text = std::str::from_utf8(ANSWER).unwrap();
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(text.contains(&format!("Content-Length: {}\r\n", body.len())));
    }
}
