//! The cable between a gateway and its Redis: it can be cut, go dead, or lose what is published.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use super::redis::RedisServer;

/// A port of its own, behind which is a Redis.
pub struct RedisProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: u16,
    mode: Mutex<Mode>,
    changed: Condvar,
    open: Mutex<HashMap<usize, [TcpStream; 2]>>,
    dropped: AtomicUsize,
}

#[derive(Clone, Copy, Default)]
struct Mode {
    dead: bool,
    loses: Option<Loss>,
    stopping: bool,
}

/// Which messages of subscriptions are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    All,
    EveryOther,
}

impl RedisProxy {
    pub fn before(redis: &RedisServer) -> RedisProxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared {
            server: redis.port(),
            mode: Mutex::default(),
            changed: Condvar::new(),
            open: Mutex::default(),
            dropped: AtomicUsize::new(0),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(&listener));
        RedisProxy { address, shared }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Nothing passes any more and nobody is told: connections stay open, new ones are taken. What was sent meanwhile
    /// arrives when the cable is alive again, as it does in a network.
    pub fn go_dead(&self) {
        self.set(|mode| mode.dead = true);
    }

    pub fn come_alive(&self) {
        self.set(|mode| mode.dead = false);
    }

    /// Commands and their answers pass, messages of subscriptions are lost.
    pub fn lose_messages(&self, which: Loss) {
        self.set(|mode| mode.loses = Some(which));
    }

    pub fn keep_messages(&self) {
        self.set(|mode| mode.loses = None);
    }

    /// How many messages were lost so far.
    pub fn lost(&self) -> usize {
        self.shared.dropped.load(Ordering::SeqCst)
    }

    /// Ends every connection that there is.
    pub fn cut(&self) {
        self.shared.shut_all();
    }

    fn set(&self, change: impl FnOnce(&mut Mode)) {
        change(&mut self.shared.mode.lock().unwrap());
        self.shared.changed.notify_all();
    }
}

impl Drop for RedisProxy {
    fn drop(&mut self) {
        self.set(|mode| mode.stopping = true);
        self.shared.shut_all();
        let _ = TcpStream::connect(self.address); // wakes the accepting thread, which then ends
    }
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for (number, client) in listener.incoming().enumerate() {
            if self.mode.lock().unwrap().stopping {
                return;
            }
            let Ok(client) = client else { continue };
            // Without a server behind it, the client is sent away.
            let Ok(server) = TcpStream::connect(("127.0.0.1", self.server)) else { continue };
            let handles = [&client, &server].map(|stream| {
                stream.set_nodelay(true).and_then(|()| stream.try_clone()).expect("a socket can be shared")
            });
            self.open.lock().unwrap().insert(number, handles);
            let subscribed = Arc::new(AtomicBool::new(false));
            let asks = (Arc::clone(&self), Arc::clone(&subscribed));
            let answers = (Arc::clone(&self), subscribed);
            let [client, server] = [client, server].map(Arc::new);
            let ends = (Arc::clone(&client), Arc::clone(&server));
            thread::spawn(move || asks.0.carry_commands(number, &ends.0, &ends.1, &asks.1));
            thread::spawn(move || answers.0.carry_answers(number, &server, &client, &answers.1));
        }
    }

    fn carry_commands(&self, number: usize, client: &TcpStream, server: &TcpStream, subscribed: &AtomicBool) {
        let mut seen = Vec::new();
        self.carry(number, client, server, |bytes| {
            seen.extend_from_slice(bytes);
            if seen.windows(9).any(|word| word.eq_ignore_ascii_case(b"SUBSCRIBE")) {
                subscribed.store(true, Ordering::SeqCst);
            }
            seen.drain(..seen.len().saturating_sub(8));
            bytes.to_vec()
        });
    }

    fn carry_answers(&self, number: usize, server: &TcpStream, client: &TcpStream, subscribed: &AtomicBool) {
        let mut waiting = Vec::new();
        let mut messages = 0_usize;
        self.carry(number, server, client, |bytes| {
            waiting.extend_from_slice(bytes);
            let mut passing = Vec::new();
            while let Some(length) = resp::frame(&waiting) {
                let frame: Vec<u8> = waiting.drain(..length).collect();
                let is_message = subscribed.load(Ordering::SeqCst) && resp::is_message(&frame);
                messages += usize::from(is_message);
                let is_lost = match self.mode.lock().unwrap().loses {
                    None => false,
                    Some(Loss::All) => is_message,
                    Some(Loss::EveryOther) => is_message && messages.is_multiple_of(2),
                };
                if is_lost {
                    self.dropped.fetch_add(1, Ordering::SeqCst);
                } else {
                    passing.extend_from_slice(&frame);
                }
            }
            passing
        });
    }

    /// Reads from one side and writes what `pick` makes of it to the other, until either ends.
    fn carry(
        &self,
        number: usize,
        mut from: &TcpStream,
        mut to: &TcpStream,
        mut pick: impl FnMut(&[u8]) -> Vec<u8>,
    ) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let passing = pick(&buffer[..read]);
            self.wait_until_alive();
            if to.write_all(&passing).is_err() {
                break;
            }
        }
        // An end is told like everything else: not through a dead cable.
        self.wait_until_alive();
        self.open.lock().unwrap().remove(&number);
        for stream in [from, to] {
            let _ = stream.shutdown(Shutdown::Both); // its peer may have closed it already
        }
    }

    fn wait_until_alive(&self) {
        let mode = self.mode.lock().unwrap();
        drop(self.changed.wait_while(mode, |mode| mode.dead && !mode.stopping).unwrap());
    }

    fn shut_all(&self) {
        for stream in self.open.lock().unwrap().values().flatten() {
            let _ = stream.shutdown(Shutdown::Both); // it may have ended just now
        }
    }
}

/// As much of the protocol as tells one answer from the next.
mod resp {
    /// The length of the first whole frame in `bytes`.
    pub fn frame(bytes: &[u8]) -> Option<usize> {
        let line = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
        let count = || {
            let digits = std::str::from_utf8(&bytes[1..line - 2]).ok()?;
            digits.parse::<i64>().ok()
        };
        let parts = match bytes[0] {
            b'$' | b'=' | b'!' => {
                let length = usize::try_from(count()?).map_or(line, |length| line + length + 2);
                return (length <= bytes.len()).then_some(length);
            }
            b'*' | b'>' | b'~' => count()?,
            b'%' => 2 * count()?,
            b'|' => 2 * count()? + 1,
            _ => 0,
        };
        let mut length = line;
        for _ in 0..parts {
            length += frame(&bytes[length..])?;
        }
        Some(length)
    }

    /// Whether a frame is something published, and not an answer.
    pub fn is_message(frame: &[u8]) -> bool {
        let kinds = ["*3\r\n$7\r\nmessage", "*4\r\n$8\r\npmessage", "*3\r\n$8\r\nsmessage"];
        frame.len() > 1 && kinds.iter().any(|kind| frame[1..].starts_with(&kind.as_bytes()[1..]))
    }

    #[test]
    fn frames_end_where_they_end() {
        let message = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\na\r\nb\r\n";
        for whole in [
            &b"+PONG\r\n"[..],
            b"$-1\r\n",
            b"*-1\r\n",
            b"*2\r\n$4\r\npong\r\n$0\r\n\r\n",
            b"%1\r\n+a\r\n*1\r\n:1\r\n",
            message,
        ] {
            assert_eq!(frame(&[whole, b"+next\r\n"].concat()), Some(whole.len()));
            for cut in 0..whole.len() {
                assert_eq!(frame(&whole[..cut]), None, "{cut} bytes of {whole:?}");
            }
        }
        assert!(is_message(message) && is_message(&[b">", &message[1..]].concat()));
        assert!(!is_message(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n") && !is_message(b"+message\r\n"));
    }
}
