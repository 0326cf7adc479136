//! Keep-alive connections that never block.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::watch::Watch;

/// How long an answer may take that nobody measures.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection with at most one request under way.
pub struct Connection {
    address: SocketAddr,
    stream: TcpStream,
    inbox: Vec<u8>,
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
    pub fn open(address: SocketAddr) -> anyhow::Result<Connection> {
        let open = || -> io::Result<TcpStream> {
            let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        let stream = open().with_context(|| format!("connecting to {address}"))?;
        Ok(Connection { address, stream, inbox: Vec::with_capacity(4096) })
    }

    /// Begins a request. Ours are small: one that does not fit into the socket's buffer is an error.
    pub fn send(&mut self, request: &[u8]) -> anyhow::Result<()> {
        let sent = self.stream.write(request).with_context(|| format!("sending to {}", self.address))?;
        if sent < request.len() {
            bail!("{} takes {sent} bytes of a request of {}", self.address, request.len());
        }
        Ok(())
    }

    /// Takes what there is. `None` if the answer is not complete yet.
    pub fn receive(&mut self) -> anyhow::Result<Option<Answer>> {
        let mut chunk = [0; 4 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => bail!("{} hung up", self.address),
            Ok(read) => self.inbox.extend_from_slice(&chunk[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(None);
            }
            Err(error) => return Err(error).with_context(|| format!("reading from {}", self.address)),
        }
        let Some((answer, length)) = parse(&self.inbox)? else { return Ok(None) };
        self.inbox.drain(..length);
        Ok(Some(answer))
    }

    /// A request and its answer.
    pub fn ask(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        let mut watch = Watch::new()?;
        watch.add(&*self, 0)?;
        self.send(request)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
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

/// An answer and how many bytes it took, once all of it is there.
fn parse(bytes: &[u8]) -> anyhow::Result<Option<(Answer, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(body) = head.parse(bytes).context("reading the head of an answer")? else {
        return Ok(None);
    };
    let status = head.code.context("an answer has a status")?;
    let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok());
    let end = body + length.with_context(|| format!("an answer {status} does not say how long it is"))?;
    Ok(bytes.get(body..end).map(|body| (Answer { status, body: body.to_vec() }, end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_once_all_of_it_is_there() {
        let bytes = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 4\r\n\r\nbodyHTTP/1.1";
        for short in 0..bytes.len() - 8 {
            assert!(parse(&bytes[..short]).unwrap().is_none(), "{short}");
        }
        let (answer, length) = parse(bytes).unwrap().unwrap();
        assert_eq!((answer.status, answer.text().as_str(), length), (401, "body", bytes.len() - 8));
    }

    #[test]
    fn an_answer_without_a_length_is_an_error() {
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
