//! Keep-alive connections that never block.

use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use socket2::{Domain, Protocol, Socket, Type};

use super::watch::Watch;

/// How long an answer may take that nobody measures.
const PATIENCE: Duration = Duration::from_secs(10);
/// Room for answers; it grows with the largest.
const ROOM: usize = 8 * 1024;
const MOST_HEADERS: usize = 64;

/// A connection with at most one request under way. Once it has grown, nothing is allocated for a request.
pub struct Connection {
    address: SocketAddr,
    stream: TcpStream,
    outbox: Vec<u8>,
    sent: usize,
    inbox: Inbox,
}

/// An answer that is there, until the next one is read.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    pub status: u16,
    pub body: &'a [u8],
    /// Whether the server hangs up after it.
    pub closes: bool,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Connection {
    /// Waits until it is there.
    pub fn open(address: SocketAddr) -> anyhow::Result<Connection> {
        let open = || -> io::Result<Connection> {
            Connection::over(address, TcpStream::connect_timeout(&address, PATIENCE)?)
        };
        open().with_context(|| format!("connecting to {address}"))
    }

    /// Begins one, from a source address if one is named; what is sent goes out when it is there.
    pub fn begin(address: SocketAddr, source: Option<Ipv4Addr>) -> io::Result<Connection> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
                Err(error)
            }
            _ => Connection::over(address, socket.into()),
        }
    }

    fn over(address: SocketAddr, stream: TcpStream) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Connection { address, stream, outbox: Vec::new(), sent: 0, inbox: Inbox::new() })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the next request is written.
    pub fn outbox(&mut self) -> &mut Vec<u8> {
        self.outbox.clear();
        self.sent = 0;
        &mut self.outbox
    }

    /// Sends what the socket takes of the request. False if that is not all: then once more when it is ready to write.
    pub fn flush(&mut self) -> io::Result<bool> {
        while self.sent < self.outbox.len() {
            match self.stream.write(&self.outbox[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => self.sent += sent,
                Err(error) if is_later(&error) => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Takes what there is. `None` if the answer is not complete yet.
    pub fn poll(&mut self) -> io::Result<Option<Reply<'_>>> {
        match self.stream.read(self.inbox.room()) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => self.inbox.filled += read,
            Err(error) if is_later(&error) || error.kind() == ErrorKind::Interrupted => return Ok(None),
            Err(error) => return Err(error),
        }
        self.inbox.reply()
    }

    /// Begins a request. One that does not fit into the socket's buffer is an error.
    pub fn send(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.outbox().extend_from_slice(request);
        if !self.flush().with_context(|| format!("sending to {}", self.address))? {
            bail!("{} takes {} bytes of a request of {}", self.address, self.sent, request.len());
        }
        Ok(())
    }

    /// Takes what there is. `None` if the answer is not complete yet.
    pub fn receive(&mut self) -> anyhow::Result<Option<Answer>> {
        let address = self.address;
        let reply = self.poll().with_context(|| format!("reading from {address}"))?;
        Ok(reply.map(|reply| Answer { status: reply.status, body: reply.body.to_vec() }))
    }

    /// A request and its answer.
    pub fn ask(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        let mut watch = Watch::new()?;
        watch.add(&*self, 0)?;
        self.outbox().extend_from_slice(request);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let sent = self.flush().with_context(|| format!("sending to {}", self.address))?;
            watch.also_to_write(&*self, 0, !sent)?;
            let _ = watch.wait(deadline)?.count();
            if let Some(answer) = self.receive()? {
                return Ok(answer);
            }
            if Instant::now() > deadline {
                bail!("{} has not answered after {} s", self.address, PATIENCE.as_secs());
            }
        }
    }
}

/// A connection that is just being made counts: it takes nothing yet.
fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}

/// `GET path` with one more header line.
pub fn get(path: &str, header: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{header}\r\n\r\n").into_bytes()
}

/// `POST path` with a body of JSON and one more header line.
pub fn post(path: &str, header: &str, json: &str) -> Vec<u8> {
    let length = json.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{header}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{json}"
    )
    .into_bytes()
}

/// What has come of an answer, and possibly of the next.
struct Inbox {
    bytes: Vec<u8>,
    filled: usize,
    /// Of the answer that is coming, or was told last.
    head: Option<Head>,
    told: bool,
}

#[derive(Clone, Copy)]
struct Head {
    status: u16,
    closes: bool,
    /// Where its body begins and ends.
    body: usize,
    end: usize,
}

impl Inbox {
    fn new() -> Inbox {
        Inbox { bytes: vec![0; ROOM], filled: 0, head: None, told: false }
    }

    /// Where to read to: at least as much as the answer is long.
    fn room(&mut self) -> &mut [u8] {
        if self.told {
            let end = self.head.take().map_or(0, |head| head.end);
            self.bytes.copy_within(end..self.filled, 0);
            self.filled -= end;
            self.told = false;
        }
        if self.filled == self.bytes.len() {
            let wanted = self.head.map_or(0, |head| head.end);
            self.bytes.resize(wanted.max(self.filled * 2), 0);
        }
        &mut self.bytes[self.filled..]
    }

    fn reply(&mut self) -> io::Result<Option<Reply<'_>>> {
        if self.head.is_none() {
            self.head = parse_head(&self.bytes[..self.filled])?;
        }
        let Some(Head { status, closes, body, end }) = self.head else { return Ok(None) };
        self.told = self.filled >= end;
        Ok(self.told.then(|| Reply { status, closes, body: &self.bytes[body..end] }))
    }
}

/// The head of an answer, once all of it is there.
fn parse_head(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut room = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let mut head = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut head, bytes, &mut room)
        .map_err(|error| invalid(error.to_string()))?;
    let httparse::Status::Complete(body) = parsed else { return Ok(None) };
    let status = head.code.ok_or_else(|| invalid("an answer without a status".to_owned()))?;
    let (mut length, mut closes) = (None, false);
    for header in head.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            length = std::str::from_utf8(header.value).ok().and_then(|value| value.parse::<usize>().ok());
        } else if header.name.eq_ignore_ascii_case("connection") {
            closes = header.value.eq_ignore_ascii_case(b"close");
        }
    }
    let length = length.ok_or_else(|| invalid(format!("an answer {status} does not say how long it is")))?;
    Ok(Some(Head { status, closes, body, end: body + length }))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] =
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nbodyHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\
        connection: close\r\n\r\n";

    fn put(inbox: &mut Inbox, bytes: &[u8]) {
        for &byte in bytes {
            inbox.room()[0] = byte;
            inbox.filled += 1;
        }
    }

    #[test]
    fn an_answer_is_told_once_all_of_it_is_there_and_the_next_begins_after_it() {
        let mut inbox = Inbox::new();
        let first = TWO.iter().position(|&byte| byte == b'b').unwrap() + 4;
        for &byte in &TWO[..first - 1] {
            put(&mut inbox, &[byte]);
            assert!(inbox.reply().unwrap().is_none());
        }
        put(&mut inbox, &TWO[first - 1..first]);
        let reply = inbox.reply().unwrap().unwrap();
        assert_eq!((reply.status, reply.body, reply.closes), (401, b"body".as_slice(), false));
        put(&mut inbox, &TWO[first..]);
        let reply = inbox.reply().unwrap().unwrap();
        assert_eq!((reply.status, reply.body, reply.closes), (200, b"".as_slice(), true));
    }

    #[test]
    fn room_grows_with_the_answer() {
        let mut inbox = Inbox::new();
        put(&mut inbox, format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", ROOM * 3).as_bytes());
        assert!(inbox.reply().unwrap().is_none());
        put(&mut inbox, &vec![7; ROOM * 3]);
        assert_eq!(inbox.reply().unwrap().unwrap().body, vec![7; ROOM * 3]);
    }

    #[test]
    fn an_answer_without_a_length_is_an_error() {
        assert!(parse_head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
