//! A client that says exactly what it is told to say.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::message::{Framing, Headers, Reader, read_body, read_headers, read_line};
use super::wait::PATIENCE;

/// A connection to a gateway.
pub struct Connection {
    reader: Reader,
    writer: TcpStream,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Connection {
        Connection::try_open(address).expect("the gateway accepts connections")
    }

    pub fn try_open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(2 * PATIENCE))?;
        stream.set_write_timeout(Some(2 * PATIENCE))?;
        Ok(Connection { writer: stream.try_clone()?, reader: BufReader::with_capacity(64 * 1024, stream) })
    }

    /// Writes these bytes and no others.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Connection {
        self.try_send(bytes).expect("the gateway reads what is sent to it");
        self
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.writer.write_all(bytes.as_ref())
    }

    /// Writes `block` again and again until nothing more is taken, or `limit` bytes were; returns how many were.
    pub fn send_until_held_back(&mut self, block: &[u8], limit: u64) -> u64 {
        const HELD_BACK: Duration = Duration::from_millis(1500);
        self.writer.set_write_timeout(Some(HELD_BACK)).expect("a time-out can be set");
        let mut sent = 0;
        while sent < limit {
            match self.writer.write(block) {
                Ok(taken) => sent += taken as u64,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    break;
                }
                Err(error) => panic!("the connection broke after {sent} bytes: {error}"),
            }
        }
        sent
    }

    /// Sends a request and reads its answer.
    pub fn ask(&mut self, request: &Request) -> Answer {
        self.try_ask(request).expect("the gateway answers")
    }

    pub fn try_ask(&mut self, request: &Request) -> io::Result<Answer> {
        self.try_send(request.to_bytes())?;
        self.try_answer(request.method == "HEAD")
    }

    /// Reads an answer to its end.
    pub fn answer(&mut self) -> Answer {
        self.try_answer(false).expect("the gateway answers")
    }

    /// Reads an answer that has no body whatever its headers say, as to HEAD.
    pub fn answer_without_body(&mut self) -> Answer {
        self.try_answer(true).expect("the gateway answers")
    }

    fn try_answer(&mut self, to_head: bool) -> io::Result<Answer> {
        Answer::read(&mut self.reader, to_head)
    }

    /// Reads the head of an answer, interim ones included.
    pub fn head(&mut self) -> Answer {
        self.try_head().expect("the gateway answers")
    }

    pub fn try_head(&mut self) -> io::Result<Answer> {
        Answer::read_head(&mut self.reader)
    }

    /// Reads the body that belongs to `head` piece by piece, and returns the trailers.
    pub fn body(&mut self, head: &Answer, sink: impl FnMut(&[u8])) -> io::Result<Headers> {
        read_body(&mut self.reader, head.framing(), sink)
    }

    /// Reads exactly so many bytes of whatever comes.
    pub fn read_exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        read_body(&mut self.reader, Framing::Length(length as u64), |piece| bytes.extend_from_slice(piece))
            .expect("the gateway sends so much");
        bytes
    }

    /// Whether the other side has closed the connection, or does so soon. What it still sends is thrown away.
    pub fn is_closed_soon(&mut self) -> bool {
        match read_body(&mut self.reader, Framing::UntilClose, |_| {}) {
            Ok(_) => true,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }
}

/// A request to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    version: &'static str,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Request {
        Request {
            method: method.to_owned(),
            target: target.to_owned(),
            version: "HTTP/1.1",
            headers: vec![("Host".to_owned(), "api.example".to_owned())],
            body: None,
        }
    }

    pub fn get(target: &str) -> Request {
        Request::new("GET", target)
    }

    /// A POST with a JSON body.
    pub fn post(target: &str, body: impl AsRef<[u8]>) -> Request {
        Request::new("POST", target).header("Content-Type", "application/json").body(body)
    }

    /// Puts the key where the API prefers it.
    pub fn key(self, key: &str) -> Request {
        self.header("X-API-Key", key)
    }

    pub fn bearer(self, token: &str) -> Request {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without_host(mut self) -> Request {
        self.headers.retain(|(name, _)| name != "Host");
        self
    }

    pub fn version(self, version: &'static str) -> Request {
        Request { version, ..self }
    }

    /// A body with its Content-Length.
    pub fn body(self, body: impl AsRef<[u8]>) -> Request {
        let length = body.as_ref().len().to_string();
        let request = self.header("Content-Length", &length);
        Request { body: Some(body.as_ref().to_vec()), ..request }
    }

    /// The head alone, for those who write the body themselves.
    pub fn head_bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} {}\r\n", self.method, self.target, self.version);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.head_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    /// Sends it on a connection of its own.
    pub fn send(&self, address: SocketAddr) -> Answer {
        Connection::open(address).ask(self)
    }
}

/// An answer, whole.
#[derive(Clone, Default)]
pub struct Answer {
    pub version: String,
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
    pub trailers: Headers,
    /// The 1xx answers before it.
    pub interim: Vec<u16>,
}

/// With the body as text.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answer {
            version, status, headers: Headers(headers), trailers: Headers(trailers), interim, ..
        } = self;
        write!(f, "{interim:?} {version} {status} {headers:?} {} {trailers:?}", self.text())
    }
}

impl Answer {
    /// Reads an answer to its end; one to HEAD has no body whatever its headers say.
    pub fn read(reader: &mut impl BufRead, to_head: bool) -> io::Result<Answer> {
        let mut interim = Vec::new();
        loop {
            let mut answer = Answer::read_head(reader)?;
            if answer.status / 100 == 1 && answer.status != 101 {
                interim.push(answer.status);
                continue;
            }
            answer.interim = interim;
            if !to_head {
                let framing = answer.framing();
                answer.trailers = read_body(reader, framing, |piece| answer.body.extend_from_slice(piece))?;
            }
            return Ok(answer);
        }
    }

    fn read_head(reader: &mut impl BufRead) -> io::Result<Answer> {
        let line = read_line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut words = line.splitn(3, ' ');
        let version = words.next().unwrap_or_default().to_owned();
        let status = words.next().and_then(|word| word.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let headers = read_headers(reader)?;
        Ok(Answer { version, status, headers, ..Answer::default() })
    }

    /// RFC 9112, section 6.3, for a request that is not HEAD.
    fn framing(&self) -> Framing {
        if self.status / 100 == 1 || matches!(self.status, 204 | 304) {
            Framing::Length(0)
        } else if self.headers.is_chunked() {
            Framing::Chunked
        } else {
            self.headers.content_length().map_or(Framing::UntilClose, Framing::Length)
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// The code of a refusal, or of nothing if it is none.
    pub fn code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["code"].as_str().unwrap_or_default().to_owned()
    }

    /// That the upstream's usual answer came through.
    #[track_caller]
    pub fn assert_forwarded(&self) {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.json()["data"]["ok"], true, "{}", self.text());
        assert!(self.headers.get("x-request-id").is_some_and(|id| !id.is_empty()), "{self:?}");
    }
}
