//! Connections come in here and go to the worker that has the fewest.
//!
//! A worker is a thread with a single-threaded runtime, its own upstream connections and its own requests; nothing
//! moves between workers. One task accepts for all of them.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::allocator;
use crate::observe::Metrics;
use crate::tls::Identity;

use super::connection::{self, Rounds, Tidy};
use super::gateway::Gateway;
use super::headers::{Client, Scheme};

pub use super::connection::Deadlines;

/// After an accept that failed for want of descriptors or memory: long enough not to spin.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// What the workers are made of.
pub struct WorkerSettings {
    /// How many.
    pub workers: usize,
    /// Open client connections over all of them; further ones wait to be accepted.
    pub max_connections: usize,
    /// How long a client may take.
    pub deadlines: Deadlines,
    /// How long requests in flight may take once draining began.
    pub drain_timeout: Duration,
    /// What clients are shown by TLS; without it, plain HTTP is spoken.
    pub identity: Option<Arc<Identity>>,
}

/// The running workers.
pub struct Workers {
    workers: Vec<Worker>,
    room: Arc<Semaphore>,
    scheme: Scheme,
}

struct Worker {
    connections: mpsc::UnboundedSender<Accepted>,
    open: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

/// A connection on its way to a worker, with its place among all.
struct Accepted {
    stream: std::net::TcpStream,
    client: Client,
    room: OwnedSemaphorePermit,
}

impl Workers {
    /// Starts the threads. `gateway` makes each worker's gateway, on its thread. Workers end when `draining`
    /// turns true and their connections are done, or `drain_timeout` later.
    ///
    /// # Errors
    /// A thread or a runtime cannot be had.
    pub fn start(
        settings: &WorkerSettings,
        metrics: Arc<Metrics>,
        draining: &watch::Receiver<bool>,
        gateway: impl Fn() -> Gateway + Clone + Send + 'static,
    ) -> io::Result<Workers> {
        let workers = (0..settings.workers).map(|index| {
            let (connections, accepted) = mpsc::unbounded_channel();
            let open = Arc::new(AtomicUsize::new(0));
            let desk = Desk {
                accepted,
                open: Arc::clone(&open),
                deadlines: settings.deadlines,
                drain_timeout: settings.drain_timeout,
                identity: settings.identity.clone(),
                draining: draining.clone(),
                metrics: Arc::clone(&metrics),
            };
            let gateway = gateway.clone();
            let (tell, started) = std::sync::mpsc::channel();
            let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
                match runtime {
                    Ok(runtime) => {
                        drop(tell.send(Ok(())));
                        runtime.block_on(async move { desk.work(Rc::new(gateway())).await });
                    }
                    Err(error) => drop(tell.send(Err(error))),
                }
            })?;
            started.recv().map_err(io::Error::other)??;
            Ok(Worker { connections, open, thread })
        });
        let workers = workers.collect::<io::Result<Vec<_>>>()?;
        let scheme = if settings.identity.is_some() { Scheme::Https } else { Scheme::Http };
        Ok(Workers { workers, room: Arc::new(Semaphore::new(settings.max_connections)), scheme })
    }

    /// Accepts connections until `draining`, and then those that the kernel has accepted for us already. The listener
    /// is closed when this returns.
    pub async fn accept(&self, listener: TcpListener, mut draining: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                biased;
                _ = draining.wait_for(|draining| *draining) => break,
                accepted = self.accept_one(&listener) => accepted,
            };
            if let Err(error) = accepted {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
        if let Err(error) = self.accept_the_rest(listener) {
            tracing::warn!(%error, "connections that were waiting at the end could not be accepted");
        }
    }

    /// Waits for the workers to end; blocks.
    pub fn join(self) {
        // All doors first: each worker's drain begins when its own is closed.
        let threads: Vec<_> = self.workers.into_iter().map(|worker| worker.thread).collect();
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }

    async fn accept_one(&self, listener: &TcpListener) -> io::Result<()> {
        let room = Arc::clone(&self.room).acquire_owned().await.expect("the semaphore is never closed");
        let (stream, address) = listener.accept().await?;
        self.hand_over(stream.into_std()?, address, room)
    }

    /// What waits in the kernel's queue, as far as there is room. Asks the kernel itself: tokio's word for readiness may
    /// be late.
    fn accept_the_rest(&self, listener: TcpListener) -> io::Result<()> {
        let listener = listener.into_std()?;
        while let Ok(room) = Arc::clone(&self.room).try_acquire_owned() {
            match listener.accept() {
                Ok((stream, address)) => {
                    stream.set_nonblocking(true)?;
                    self.hand_over(stream, address, room)?;
                }
                Err(nothing) if nothing.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// To the worker that has the fewest connections.
    fn hand_over(
        &self,
        stream: std::net::TcpStream,
        address: SocketAddr,
        room: OwnedSemaphorePermit,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let worker = self.workers.iter().min_by_key(|worker| worker.open.load(Ordering::Relaxed));
        let worker = worker.expect("there is at least one worker");
        worker.open.fetch_add(1, Ordering::Relaxed);
        let accepted = Accepted { stream, client: Client::at(address.ip(), self.scheme), room };
        if worker.connections.send(accepted).is_err() {
            worker.open.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Where a worker's connections come in.
struct Desk {
    accepted: mpsc::UnboundedReceiver<Accepted>,
    open: Arc<AtomicUsize>,
    deadlines: Deadlines,
    drain_timeout: Duration,
    identity: Option<Arc<Identity>>,
    draining: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
}

impl Desk {
    /// Serves connections until the desk is closed and they are done, or the drain takes too long.
    async fn work(mut self, gateway: Rc<Gateway>) {
        let rounds = Rc::new(Rounds::new(Arc::clone(gateway.clock()), self.deadlines));
        let looking = tokio::task::spawn_local(make_rounds(Rc::clone(&rounds), Rc::clone(&gateway)));
        let (told, mut draining) = (Rc::clone(&rounds), self.draining);
        tokio::task::spawn_local(async move {
            // That nobody is left to tell means the end, too.
            drop(draining.wait_for(|draining| *draining).await);
            told.drain();
        });
        let mut serving = JoinSet::new();
        while let Some(accepted) = self.accepted.recv().await {
            while serving.try_join_next().is_some() {}
            match TcpStream::from_std(accepted.stream) {
                Ok(stream) => {
                    let seat = Seat::take(&self.open, &self.metrics, accepted.room);
                    let (gateway, rounds) = (Rc::clone(&gateway), Rc::clone(&rounds));
                    let identity = self.identity.clone();
                    serving.spawn_local(async move {
                        connection::serve(stream, identity, gateway, accepted.client, rounds).await;
                        drop(seat);
                    });
                }
                Err(error) => {
                    self.open.fetch_sub(1, Ordering::Relaxed);
                    tracing::warn!(%error, "a connection could not be served");
                }
            }
        }
        let drained = async { while serving.join_next().await.is_some() {} };
        if tokio::time::timeout(self.drain_timeout, drained).await.is_err() {
            tracing::warn!(
                open = self.open.load(Ordering::Relaxed),
                "requests were cut off at the drain's deadline"
            );
        }
        looking.abort();
    }
}

/// A connection's place, given back when it ends.
struct Seat {
    open: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    _room: OwnedSemaphorePermit,
}

impl Seat {
    fn take(open: &Arc<AtomicUsize>, metrics: &Arc<Metrics>, room: OwnedSemaphorePermit) -> Seat {
        metrics.connection_opened();
        Seat { open: Arc::clone(open), metrics: Arc::clone(metrics), _room: room }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.metrics.connection_closed();
    }
}

/// Looks at a worker's connections, those of its clients and those to its upstreams, in rounds.
async fn make_rounds(rounds: Rc<Rounds>, gateway: Rc<Gateway>) {
    loop {
        rounds.next().await;
        gateway.close_idle();
        match rounds.tidy() {
            Tidy::Nothing => {}
            Tidy::Some => allocator::give_back(false),
            Tidy::All => allocator::give_back(true),
        }
    }
}
