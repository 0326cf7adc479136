//! The API behind the gateways: answers 200 to anything, at once, and in one thread.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
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

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{\"data\":{}}";

/// An upstream, ended when it is dropped.
pub struct Upstream {
    address: SocketAddr,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Upstream {
    /// On the cores of the thread that calls.
    pub fn start() -> anyhow::Result<Upstream> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("the upstream listens")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let end = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&end);
        let thread =
            thread::Builder::new().name("upstream".to_owned()).spawn(move || serve(&listener, &ending))?;
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

/// Client `n` is watched under the number `n`.
fn serve(listener: &TcpListener, end: &AtomicBool) -> anyhow::Result<()> {
    let mut watch = Watch::new()?;
    watch.add(listener, LISTENER)?;
    let mut clients: Vec<Option<Client>> = Vec::new();
    while !end.load(Ordering::Relaxed) {
        let mut knocked = false;
        for number in watch.wait(Instant::now() + PAUSE)? {
            let client = usize::try_from(number).ok().and_then(|index| clients.get_mut(index));
            match client {
                Some(client) => drop(client.take_if(|client| !client.serve())),
                None => knocked = true,
            }
        }
        if knocked && let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            watch.add(&stream, clients.len() as u64)?;
            clients.push(Some(Client { stream, seen: 0 }));
        }
    }
    Ok(())
}

struct Client {
    stream: TcpStream,
    /// How much of the empty line that ends a head was seen.
    seen: usize,
}

impl Client {
    /// Answers each request that has come to its end; none has a body. False if the client is gone.
    fn serve(&mut self) -> bool {
        const END: &[u8] = b"\r\n\r\n";
        let mut chunk = [0; 8 * 1024];
        let read = match self.stream.read(&mut chunk) {
            Ok(0) => return false,
            Ok(read) => read,
            Err(error) => return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        for &byte in &chunk[..read] {
            self.seen = match byte {
                _ if byte == END[self.seen] => self.seen + 1,
                b'\r' => 1,
                _ => 0,
            };
            if self.seen == END.len() {
                self.seen = 0;
                if self.stream.write_all(ANSWER).is_err() {
                    return false;
                }
            }
        }
        true
    }
}
