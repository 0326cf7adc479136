//! An upstream that does as it is told, and remembers what it was asked.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::message::{Framing, Headers, Reader, chunk, read_body, read_headers, read_line};
use super::wait::{PATIENCE, eventually};

/// What an upstream does with a request. An error ends the connection, as the end of the exchange does
/// if the exchange was not finished.
type Script = dyn Fn(&mut Exchange) -> io::Result<()> + Send + Sync;

/// A server on a port of its own, with a thread for each connection.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Box<Script>,
    seen: Mutex<Vec<Seen>>,
    open: Mutex<HashMap<usize, TcpStream>>,
    accepted: AtomicUsize,
    stopping: AtomicBool,
    forgets: bool,
}

/// A request as the upstream saw it.
#[derive(Clone)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub version: String,
    pub headers: Headers,
    /// What has come of the body.
    pub body: Vec<u8>,
    pub trailers: Headers,
    /// Whether the body came to its end.
    pub complete: bool,
}

/// With the body as text.
impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen { method, target, version, headers: Headers(headers), trailers: Headers(trailers), .. } =
            self;
        let body = String::from_utf8_lossy(&self.body);
        write!(f, "{method} {target} {version} {headers:?} {body} {trailers:?} complete: {}", self.complete)
    }
}

impl Upstream {
    /// Answers every request with 200 and `{"data":{"ok":true}}`.
    pub fn start() -> Upstream {
        Upstream::with(|exchange| exchange.reply_ok())
    }

    /// As `start`, for a million requests: none is remembered.
    pub fn forgetful() -> Upstream {
        Upstream::serve(Box::new(|exchange| exchange.reply_ok()), true)
    }

    /// Does with every request what `script` says.
    pub fn with(script: impl Fn(&mut Exchange) -> io::Result<()> + Send + Sync + 'static) -> Upstream {
        Upstream::serve(Box::new(script), false)
    }

    fn serve(script: Box<Script>, forgets: bool) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared {
            script,
            seen: Mutex::default(),
            open: Mutex::default(),
            accepted: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            forgets,
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(&listener));
        Upstream { address, shared }
    }

    /// The origin, as a setting takes it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Host and port, as `Host` has it.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// Every request so far, whole or not.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// How many requests there were so far.
    pub fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// The only request so far.
    #[track_caller]
    pub fn only(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }

    /// How many connections were made so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.shared.open.lock().unwrap().len()
    }

    /// Waits until there were `count` requests.
    pub fn wait_for(&self, count: usize) {
        eventually(&format!("{count} requests reach the upstream"), PATIENCE, || self.count() >= count);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for stream in self.shared.open.lock().unwrap().values() {
            let _ = stream.shutdown(Shutdown::Both); // its peer may have closed it already
        }
        let _ = TcpStream::connect(self.address); // wakes the accepting thread, which then ends
    }
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            let connection = self.accepted.fetch_add(1, Ordering::SeqCst);
            let shared = Arc::clone(&self);
            thread::spawn(move || shared.serve(connection, stream));
        }
    }

    fn serve(self: Arc<Self>, connection: usize, stream: TcpStream) {
        let Ok(handle) = stream.try_clone() else { return };
        self.open.lock().unwrap().insert(connection, handle);
        // A broken connection is what many a test is about.
        let _ = self.converse(&stream);
        self.open.lock().unwrap().remove(&connection);
        let _ = stream.shutdown(Shutdown::Both);
    }

    fn converse(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::with_capacity(64 * 1024, stream.try_clone()?);
        loop {
            let Some(line) = read_line(&mut reader)? else { return Ok(()) };
            let mut words = line.split(' ').map(str::to_owned);
            let mut word = || words.next().ok_or(io::ErrorKind::InvalidData);
            let (method, target, version) = (word()?, word()?, word()?);
            let headers = read_headers(&mut reader)?;
            let seen = Seen {
                method,
                target,
                version,
                headers,
                body: Vec::new(),
                trailers: Headers::default(),
                complete: false,
            };
            let index = self.remember(&seen);
            let mut exchange =
                Exchange { request: seen, index, shared: self, reader: &mut reader, stream, finished: false };
            (self.script)(&mut exchange)?;
            if !exchange.finished {
                return Ok(());
            }
        }
    }
}

impl Shared {
    /// The place of a request among those remembered, or one where none is.
    fn remember(&self, request: &Seen) -> usize {
        if self.forgets {
            return usize::MAX;
        }
        let mut all = self.seen.lock().unwrap();
        all.push(request.clone());
        all.len() - 1
    }

    fn note(&self, index: usize, note: impl FnOnce(&mut Seen)) {
        if let Some(seen) = self.seen.lock().unwrap().get_mut(index) {
            note(seen);
        }
    }
}

/// One request, and the way to answer it.
pub struct Exchange<'a> {
    /// The request's head; its body as far as it was read.
    pub request: Seen,
    index: usize,
    shared: &'a Shared,
    reader: &'a mut Reader,
    stream: &'a TcpStream,
    finished: bool,
}

impl Exchange<'_> {
    /// Reads the body to its end and remembers it; if it was read already, that is all.
    pub fn read_body(&mut self) -> io::Result<()> {
        if self.request.complete {
            return Ok(());
        }
        let (shared, index) = (self.shared, self.index);
        let mut body = Vec::new();
        let trailers = self.stream_body(|piece| {
            body.extend_from_slice(piece);
            shared.note(index, |seen| seen.body.extend_from_slice(piece));
        })?;
        self.request.body = body;
        shared.note(index, |seen| seen.trailers = trailers);
        Ok(())
    }

    /// Reads the body to its end piece by piece, and does not keep it.
    pub fn stream_body(&mut self, sink: impl FnMut(&[u8])) -> io::Result<Headers> {
        let headers = &self.request.headers;
        let framing = if headers.is_chunked() {
            Framing::Chunked
        } else {
            Framing::Length(headers.content_length().unwrap_or(0))
        };
        let trailers = read_body(self.reader, framing, sink)?;
        self.shared.note(self.index, |seen| seen.complete = true);
        self.request.complete = true;
        Ok(trailers)
    }

    /// Writes these bytes and no others.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let mut stream = self.stream;
        stream.write_all(bytes.as_ref())
    }

    /// Writes one chunk of a chunked body.
    pub fn write_chunk(&mut self, data: &[u8]) -> io::Result<()> {
        self.write(chunk(data))
    }

    /// The answer is written: the connection is ready for the next request.
    pub fn finish(&mut self) -> io::Result<()> {
        self.finished = true;
        Ok(())
    }

    /// Reads the body, then answers `status` with these header lines and a body of known length.
    pub fn reply(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) -> io::Result<()> {
        self.read_body()?;
        let mut bytes =
            format!("HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n", body.len()).into_bytes();
        for (name, value) in headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        self.write(bytes)?;
        self.finish()
    }

    /// The usual answer.
    pub fn reply_ok(&mut self) -> io::Result<()> {
        self.reply(200, &[("Content-Type", "application/json")], br#"{"data":{"ok":true}}"#)
    }

    /// Waits until the other side closes the connection, and says whether it did.
    pub fn peer_closes(&mut self, within: Duration) -> bool {
        self.stream.set_read_timeout(Some(within)).expect("a time-out can be set");
        let closed = match read_body(self.reader, Framing::UntilClose, |_| {}) {
            Ok(_) => true,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        };
        self.stream.set_read_timeout(None).expect("a time-out can be taken off");
        closed
    }

    /// Waits, without reading a byte, until the connection is shut down: by the peer's reset or at the end of the test.
    pub fn stall(&self, bound: Duration) {
        let shut = || {
            matches!(self.stream.take_error(), Ok(Some(_)) | Err(_))
                || self.shared.stopping.load(Ordering::SeqCst)
        };
        eventually("the test ends", bound, shut);
    }

    /// Closes the connection now, not only when the script has ended.
    pub fn close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both); // the peer may have been first
    }
}
