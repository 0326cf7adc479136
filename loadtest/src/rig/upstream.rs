//! The API behind the gateways: answers 200 to anything, and in one thread.
//!
//! `/bytes/N` is answered with the first N bytes of [`Manner::pattern`]. A request's body must be the beginning of the
//! pattern, and is answered with 422 if it is not.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::watch::Watch;

/// How often it looks whether it shall end.
const PAUSE: Duration = Duration::from_millis(100);
/// The number of the listener.
const LISTENER: u64 = u64::MAX;
const ROOM: usize = 64 * 1024;
const MOST_HEADERS: usize = 64;

/// An upstream, ended when it is dropped.
pub struct Upstream {
    address: SocketAddr,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

/// How an upstream answers.
#[derive(Clone, Default)]
pub struct Manner {
    /// Waits so long, at random, before each answer.
    pub delay: Option<Range<Duration>>,
    /// What bodies are made of, and as long as the longest.
    pub pattern: Arc<[u8]>,
}

impl Upstream {
    /// One that answers at once, on the cores of the thread that calls.
    pub fn start() -> anyhow::Result<Upstream> {
        Upstream::with(Manner::default())
    }

    pub fn with(manner: Manner) -> anyhow::Result<Upstream> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("the upstream listens")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let end = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&end);
        let thread = thread::Builder::new()
            .name("upstream".to_owned())
            .spawn(move || Server::new(manner)?.run(&listener, &ending))?;
        Ok(Upstream { address, end, thread: Some(thread) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // whatever ended it was seen by the clients
        }
    }
}

struct Server {
    manner: Manner,
    watch: Watch,
    /// Client `n` is watched under the number `n`.
    clients: Vec<Option<Client>>,
    /// When the answer to a client is due.
    later: BinaryHeap<Reverse<(Instant, usize)>>,
}

impl Server {
    fn new(manner: Manner) -> anyhow::Result<Server> {
        Ok(Server { manner, watch: Watch::new()?, clients: Vec::new(), later: BinaryHeap::new() })
    }

    fn run(mut self, listener: &TcpListener, end: &AtomicBool) -> anyhow::Result<()> {
        self.watch.add(listener, LISTENER)?;
        let mut ready = Vec::new();
        while !end.load(Ordering::Relaxed) {
            let pause = Instant::now() + PAUSE;
            let until = self.later.peek().map_or(pause, |Reverse((due, _))| pause.min(*due));
            ready.clear();
            ready.extend(self.watch.wait(until)?);
            for &number in &ready {
                match number {
                    LISTENER => self.accept(listener)?,
                    number => self.serve(number as usize)?,
                }
            }
            while let Some(Reverse((due, number))) = self.later.peek().copied()
                && due <= Instant::now()
            {
                self.later.pop();
                self.answer(number)?;
            }
        }
        Ok(())
    }

    fn accept(&mut self, listener: &TcpListener) -> anyhow::Result<()> {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            self.watch.add(&stream, self.clients.len() as u64)?;
            self.clients.push(Some(Client::new(stream)));
        }
        Ok(())
    }

    fn serve(&mut self, number: usize) -> anyhow::Result<()> {
        let Some(client) = &mut self.clients[number] else { return Ok(()) };
        if client.writing {
            return self.answer(number);
        }
        match client.read(&self.manner.pattern) {
            Ok(false) => {}
            Ok(true) => match &self.manner.delay {
                None => return self.answer(number),
                Some(Range { start, end }) => {
                    let wait = *start + (*end - *start).mul_f64(fastrand::f64());
                    self.later.push(Reverse((Instant::now() + wait, number)));
                }
            },
            Err(_) => self.clients[number] = None,
        }
        Ok(())
    }

    /// Writes what the socket takes of an answer.
    fn answer(&mut self, number: usize) -> anyhow::Result<()> {
        let Some(client) = &mut self.clients[number] else { return Ok(()) };
        match client.write(&self.manner.pattern) {
            Ok(done) if done == client.writing => {
                client.writing = !done;
                self.watch.also_to_write(&client.stream, number as u64, !done)?;
            }
            Ok(_) => {}
            Err(_) => self.clients[number] = None,
        }
        Ok(())
    }
}

struct Client {
    stream: TcpStream,
    inbox: Vec<u8>,
    filled: usize,
    /// Of the body that is coming: which bytes of the pattern it still has to be.
    body: Option<Range<usize>>,
    asked: Asked,
    head: Vec<u8>,
    sent: usize,
    writing: bool,
}

/// What a request asked for.
#[derive(Clone, Copy, Default)]
struct Asked {
    /// Bytes of the pattern; without it, a few bytes of JSON.
    bytes: Option<usize>,
    damaged: bool,
}

impl Client {
    fn new(stream: TcpStream) -> Client {
        let (inbox, head) = (vec![0; ROOM], Vec::new());
        Client {
            stream,
            inbox,
            filled: 0,
            body: None,
            asked: Asked::default(),
            head,
            sent: 0,
            writing: false,
        }
    }

    /// Whether a request has come to its end: then its answer is ready to be written.
    fn read(&mut self, pattern: &[u8]) -> io::Result<bool> {
        match self.stream.read(&mut self.inbox[self.filled..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => self.filled += read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        if self.body.is_none() {
            let Some((asked, head, length)) = parse(&self.inbox[..self.filled])? else { return Ok(false) };
            (self.asked, self.body) = (asked, Some(0..length));
            self.consume(head);
        }
        let Some(body) = &mut self.body else { return Ok(false) };
        let came = body.len().min(self.filled);
        let expected = pattern.get(body.start..body.start + came);
        self.asked.damaged |= expected.is_some_and(|expected| expected != &self.inbox[..came]);
        body.start += came;
        let ended = body.is_empty();
        self.consume(came);
        if ended {
            self.body = None;
            self.prepare(pattern);
        }
        Ok(ended)
    }

    fn consume(&mut self, bytes: usize) {
        self.inbox.copy_within(bytes..self.filled, 0);
        self.filled -= bytes;
    }

    fn prepare(&mut self, pattern: &[u8]) {
        const SMALL: &str = "{\"data\":{}}";
        self.head.clear();
        self.sent = 0;
        let status = if self.asked.damaged { "422 Damaged" } else { "200 OK" };
        let length = self.asked.bytes.map_or(SMALL.len(), |bytes| bytes.min(pattern.len()));
        let small = if self.asked.bytes.is_none() { SMALL } else { "" };
        let _ = write!(
            self.head,
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{small}"
        );
    }

    /// Whether all of an answer was taken.
    fn write(&mut self, pattern: &[u8]) -> io::Result<bool> {
        let body = &pattern[..self.asked.bytes.unwrap_or_default().min(pattern.len())];
        loop {
            let rest = match self.head.get(self.sent..) {
                Some(head) if !head.is_empty() => head,
                _ => &body[self.sent - self.head.len()..],
            };
            if rest.is_empty() {
                return Ok(true);
            }
            match self.stream.write(rest) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// What is asked for, and how long head and body are, once the head is there.
fn parse(bytes: &[u8]) -> io::Result<Option<(Asked, usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(bytes).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    let httparse::Status::Complete(head) = parsed else { return Ok(None) };
    let length = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
    let bytes = request.path.and_then(|path| path.strip_prefix("/bytes/")?.parse().ok());
    Ok(Some((Asked { bytes, damaged: false }, head, length.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::http::{Connection, get};

    fn large() -> Manner {
        Manner {
            pattern: (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect(),
            delay: None,
        }
    }

    #[test]
    fn a_body_comes_back_as_it_is() {
        let manner = large();
        let upstream = Upstream::with(manner.clone()).unwrap();
        let mut client = Connection::open(upstream.address()).unwrap();
        for bytes in [0, 10, 3_000_000] {
            let answer = client.ask(&get(&format!("/bytes/{bytes}"), "a: b")).unwrap();
            assert_eq!(answer.status, 200);
            assert!(answer.body == manner.pattern[..bytes]);
        }
        assert_eq!(client.ask(&get("/", "a: b")).unwrap().text(), "{\"data\":{}}");
    }

    #[test]
    fn a_damaged_body_is_noticed() {
        let manner = large();
        let upstream = Upstream::with(manner.clone()).unwrap();
        let mut client = Connection::open(upstream.address()).unwrap();
        let mut request = Vec::new();
        let put = |request: &mut Vec<u8>, body: &[u8]| {
            request.clear();
            request.extend_from_slice(
                format!("POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes(),
            );
            request.extend_from_slice(body);
        };
        put(&mut request, &manner.pattern);
        assert_eq!(client.ask(&request).unwrap().status, 200);
        let last = request.len() - 1;
        request[last] ^= 1;
        assert_eq!(client.ask(&request).unwrap().status, 422);
        put(&mut request, &manner.pattern[..7]);
        assert_eq!(client.ask(&request).unwrap().status, 200);
    }
}
