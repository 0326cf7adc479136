//! Requests begin when they are due, not when the one before was answered.
//!
//! A lane is a schedule, the connections on which its requests go out, and the client whose requests they are. If no
//! connection is free a request waits, and its wait counts: latency is from when it was due.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::limit::Limit;
use crate::rig::http::{Connection, Reply};
use crate::rig::watch::Watch;
use crate::schedule::Schedule;

/// For what is under way at the end.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection is watched under a number that names its lane, and itself below these bits.
const LANE: u32 = 32;
const INDEX: u64 = (1 << LANE) - 1;

/// Whose requests go out on a lane.
pub trait Client {
    /// The next request, to be written into an empty buffer.
    fn request(&mut self, buffer: &mut Vec<u8>);

    fn answered(&mut self, flight: Flight, reply: Reply<'_>) -> anyhow::Result<()>;

    /// The connection ended before the answer did. The next request on it makes a new one.
    fn lost(&mut self, _flight: Flight, error: io::Error) -> anyhow::Result<()> {
        Err(error).context("a request was not answered")
    }
}

/// One request. Times are since the start.
#[derive(Clone, Copy, Debug)]
pub struct Flight {
    /// How many were begun on its lane before it.
    pub number: u64,
    pub due: Duration,
    pub started: Duration,
    pub answered: Duration,
}

pub struct Lane<'a> {
    schedule: Schedule,
    lines: Vec<Line>,
    free: VecDeque<usize>,
    begun: u64,
    client: &'a mut dyn Client,
}

/// A connection, or where it was and will be again.
struct Line {
    address: SocketAddr,
    source: Option<Ipv4Addr>,
    connection: Option<Connection>,
    flight: Option<Flight>,
    /// Whether some of a request has not been taken yet.
    writing: bool,
}

impl<'a> Lane<'a> {
    pub fn new(schedule: Schedule, connections: Vec<Connection>, client: &'a mut dyn Client) -> Lane<'a> {
        let lines = connections.into_iter().map(|connection| Line {
            address: connection.address(),
            connection: Some(connection),
            ..Line::to(None)
        });
        Lane::over(schedule, lines.collect(), client)
    }

    /// Each connection is made when its first request begins, and from these source addresses in turn if there are any.
    pub fn unconnected(
        schedule: Schedule,
        address: SocketAddr,
        connections: usize,
        sources: &[Ipv4Addr],
        client: &'a mut dyn Client,
    ) -> Lane<'a> {
        let source = |index: usize| (!sources.is_empty()).then(|| sources[index % sources.len()]);
        let lines = (0..connections).map(|index| Line { address, ..Line::to(source(index)) });
        Lane::over(schedule, lines.collect(), client)
    }

    fn over(schedule: Schedule, lines: Vec<Line>, client: &'a mut dyn Client) -> Lane<'a> {
        let free = (0..lines.len()).collect();
        Lane { schedule, lines, free, begun: 0, client }
    }

    /// When requests were due that were never begun.
    pub fn left_over(self) -> impl Iterator<Item = Duration> + use<> {
        self.schedule.left_over()
    }

    /// Begins what is due, as far as connections are free.
    fn launch(&mut self, lane: u64, began: Instant, watch: &Watch) -> anyhow::Result<()> {
        while let Some(&index) = self.free.front() {
            let now = began.elapsed();
            let Some(due) = self.schedule.take(now) else { break };
            self.free.pop_front();
            let line = &mut self.lines[index];
            line.flight = Some(Flight { number: self.begun, due, started: now, answered: now });
            self.begun += 1;
            if let Err(error) = line.begin(lane << LANE | index as u64, self.client, watch)? {
                self.lose(index, error, began)?;
                // As a client would: without a pause, a server that refuses connections would be all that is measured.
                break;
            }
        }
        Ok(())
    }

    /// A connection is ready.
    fn serve(&mut self, number: u64, began: Instant, watch: &Watch) -> anyhow::Result<()> {
        let index = (number & INDEX) as usize;
        let line = &mut self.lines[index];
        let Some(connection) = &mut line.connection else { return Ok(()) };
        if line.writing {
            match connection.flush() {
                Ok(false) => {}
                Ok(true) => {
                    line.writing = false;
                    watch.also_to_write(&*connection, number, false)?;
                }
                Err(error) => return self.lose(index, error, began),
            }
        }
        match connection.poll() {
            Ok(None) => Ok(()),
            Ok(Some(reply)) => {
                let flight = line.flight.take().context("an answer that nobody asked for")?;
                let closes = reply.closes;
                self.client.answered(Flight { answered: began.elapsed(), ..flight }, reply)?;
                if closes {
                    line.connection = None;
                }
                self.free.push_back(index);
                Ok(())
            }
            Err(error) => self.lose(index, error, began),
        }
    }

    /// A connection has ended, which harms nobody if it was not in use.
    fn lose(&mut self, index: usize, error: io::Error, began: Instant) -> anyhow::Result<()> {
        let line = &mut self.lines[index];
        line.connection = None;
        line.writing = false;
        let Some(flight) = line.flight.take() else { return Ok(()) };
        self.free.push_back(index);
        self.client.lost(Flight { answered: began.elapsed(), ..flight }, error)
    }

    /// What is not answered by now is lost.
    fn give_up(&mut self, began: Instant) -> anyhow::Result<()> {
        for index in 0..self.lines.len() {
            if self.lines[index].flight.is_some() {
                let late = format!("no answer {} s after the end", PATIENCE.as_secs());
                self.lose(index, io::Error::new(io::ErrorKind::TimedOut, late), began)?;
            }
        }
        Ok(())
    }

    /// When the next request can begin; `None` while no connection is free.
    fn next_due(&mut self) -> Option<Duration> {
        self.free.front()?;
        self.schedule.next_due()
    }

    fn is_idle(&self) -> bool {
        self.free.len() == self.lines.len()
    }
}

impl Line {
    fn to(source: Option<Ipv4Addr>) -> Line {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Line { address, source, connection: None, flight: None, writing: false }
    }

    /// Sends the next request, on a new connection if there is none. The inner error is the connection's.
    fn begin(
        &mut self,
        number: u64,
        client: &mut dyn Client,
        watch: &Watch,
    ) -> anyhow::Result<io::Result<()>> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => match Connection::begin(self.address, self.source) {
                Err(error) => return Ok(Err(error)),
                Ok(new) => {
                    watch.add(&new, number)?;
                    none.insert(new)
                }
            },
        };
        client.request(connection.outbox());
        match connection.flush() {
            Err(error) => return Ok(Err(error)),
            Ok(true) => {}
            Ok(false) => {
                self.writing = true;
                watch.also_to_write(&*connection, number, true)?;
            }
        }
        Ok(Ok(()))
    }
}

/// Runs all lanes for `span`, and then to the end of what was begun.
pub fn drive(lanes: &mut [Lane<'_>], span: Duration, limit: &Limit) -> anyhow::Result<()> {
    drive_with(lanes, span, limit, &mut |_| Ok(()))
}

/// As [`drive`], and calls at the beginning and after each whole second, with how many have passed.
pub fn drive_with(
    lanes: &mut [Lane<'_>],
    span: Duration,
    limit: &Limit,
    each_second: &mut dyn FnMut(u64) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut watch = Watch::new()?;
    for (lane, number) in lanes.iter().zip(0u64..) {
        for (line, index) in lane.lines.iter().zip(0u64..) {
            if let Some(connection) = &line.connection {
                watch.add(connection, number << LANE | index)?;
            }
        }
    }
    let mut ready = Vec::new();
    let began = Instant::now();
    let mut seconds = 0;
    loop {
        limit.check()?;
        let now = began.elapsed();
        if now.as_secs() >= seconds && now < span {
            each_second(seconds)?;
            seconds += 1;
        }
        let open = now < span;
        if open {
            for (lane, number) in lanes.iter_mut().zip(0..) {
                lane.launch(number, began, &watch)?;
            }
        } else if lanes.iter().all(Lane::is_idle) {
            return Ok(());
        }
        if now > span + PATIENCE {
            return lanes.iter_mut().try_for_each(|lane| lane.give_up(began));
        }
        let next = lanes.iter_mut().filter_map(Lane::next_due).min();
        let wake = Duration::from_secs(seconds).min(span);
        let until = if open { next.map_or(wake, |next| next.min(wake)) } else { now + PATIENCE };
        ready.clear();
        ready.extend(watch.wait(began + until)?);
        for &number in &ready {
            lanes[(number >> LANE) as usize].serve(number, began, &watch)?;
        }
    }
}
