//! The kernel floor: what a proxied request costs if nobody looks at it.
//!
//! A byte forwarder that makes only the four socket calls that a request through a proxy needs: receive from the client,
//! send to the upstream, receive from the upstream, send to the client. Each client has an upstream connection of its own,
//! both stay open, and nothing is parsed. It waits level-triggered for all sockets at once and reads only where there is
//! something, so no call is in vain. No proxy on the same kernel and the same calls costs less; what one costs above that is
//! its own doing.

use std::convert::Infallible;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use super::{Place, Program};

/// How many ready sockets one wait may tell of.
const READY: usize = 512;
/// How much is taken from a socket at once.
const CHUNK: usize = 64 * 1024;
/// The number of the listener.
const LISTENER: u64 = u64::MAX;

/// Forwards bytes between each client and a connection of its own to the upstream, until it is killed.
#[derive(clap::Args)]
pub struct Floor {
    /// Where clients connect. With port 0 the kernel chooses; the address is the first line of the output.
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    upstream: SocketAddr,
}

impl Floor {
    /// Returns only if it fails.
    pub fn run(&self) -> anyhow::Result<Infallible> {
        let listener =
            TcpListener::bind(self.listen).with_context(|| format!("listening on {}", self.listen))?;
        listener.set_nonblocking(true)?;
        writeln!(io::stdout(), "{}", listener.local_addr()?)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        let mut forwarder =
            Forwarder { epoll, upstream: self.upstream, pairs: Vec::new(), chunk: vec![0; CHUNK] };
        let mut ready: Vec<Event> = Vec::with_capacity(READY);
        loop {
            ready.clear();
            match epoll::wait(&forwarder.epoll, spare_capacity(&mut ready), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("waiting for sockets"),
            }
            for event in &ready {
                match event.data.u64() {
                    LISTENER => forwarder.accept(&listener),
                    socket => forwarder.serve(socket as usize, event.flags),
                }
            }
        }
    }
}

/// The floor as a peer.
pub(super) fn program(place: &Place<'_>, _: &Path, listen: SocketAddr) -> anyhow::Result<Program> {
    let itself = std::env::current_exe()?.into_os_string();
    let mut command = vec![itself, "floor".into()];
    for (option, address) in [("--listen", listen), ("--upstream", place.api.address)] {
        command.extend([option.into(), address.to_string().into()]);
    }
    Ok(Program { command })
}

/// Socket `side` of pair `n` is watched under the number `2 n + side`.
struct Forwarder {
    epoll: OwnedFd,
    upstream: SocketAddr,
    /// `None` once a pair is gone. Its number is never given again, so a late event finds nothing.
    pairs: Vec<Option<Pair>>,
    chunk: Vec<u8>,
}

/// A client, side 0, and its upstream connection, side 1.
struct Pair {
    sockets: [TcpStream; 2],
    /// What came from each side and does not fit into the other yet: usually nothing. While there is something, nothing more
    /// is received from this side.
    pending: [Vec<u8>; 2],
}

impl Forwarder {
    /// A client that cannot be served is hung up on.
    fn accept(&mut self, listener: &TcpListener) {
        let open = || -> anyhow::Result<Pair> {
            let sockets = [listener.accept()?.0, TcpStream::connect(self.upstream)?];
            for (socket, number) in sockets.iter().zip(2 * self.pairs.len() as u64..) {
                socket.set_nodelay(true)?;
                socket.set_nonblocking(true)?;
                epoll::add(&self.epoll, socket, EventData::new_u64(number), EventFlags::IN)?;
            }
            Ok(Pair { sockets, pending: [Vec::new(), Vec::new()] })
        };
        let pair = open().ok();
        self.pairs.push(pair);
    }

    /// A socket has something to read, or takes again what it did not take before.
    fn serve(&mut self, number: usize, flags: EventFlags) {
        let (place, side) = (number / 2, number % 2);
        let Some(pair) = &mut self.pairs[place] else { return };
        let was = pair.is_held();
        let mut moved = Ok(());
        if flags.contains(EventFlags::OUT) {
            moved = pair.flush(1 - side);
        }
        if moved.is_ok() && flags != EventFlags::OUT {
            moved = pair.receive(side, &mut self.chunk);
        }
        if moved.is_ok() && was != pair.is_held() {
            moved = pair.watch(&self.epoll, place);
        }
        if moved.is_err() {
            self.pairs[place] = None;
        }
    }
}

impl Pair {
    /// # Errors
    /// The pair has ended.
    fn receive(&mut self, side: usize, chunk: &mut [u8]) -> io::Result<()> {
        if !self.pending[side].is_empty() {
            return Ok(());
        }
        let received = (&self.sockets[side]).read(chunk)?;
        if received == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let sent = send(&self.sockets[1 - side], &chunk[..received])?;
        self.pending[side].extend_from_slice(&chunk[sent..received]);
        Ok(())
    }

    /// Tries once more to send what came from this side.
    fn flush(&mut self, side: usize) -> io::Result<()> {
        let sent = send(&self.sockets[1 - side], &self.pending[side])?;
        self.pending[side].drain(..sent);
        Ok(())
    }

    fn is_held(&self) -> [bool; 2] {
        [0, 1].map(|side| !self.pending[side].is_empty())
    }

    /// Each socket is read while what came from it is gone, and written while something waits for it.
    fn watch(&self, epoll: &OwnedFd, place: usize) -> io::Result<()> {
        let held = self.is_held();
        for (side, socket) in self.sockets.iter().enumerate() {
            let mut what = EventFlags::empty();
            what.set(EventFlags::IN, !held[side]);
            what.set(EventFlags::OUT, held[1 - side]);
            epoll::modify(epoll, socket, EventData::new_u64((2 * place + side) as u64), what)?;
        }
        Ok(())
    }
}

/// How much the socket took: not all of it if it is full.
fn send(mut to: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match to.write(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}
