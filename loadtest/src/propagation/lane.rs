//! Open loop: requests begin when they are due, not when the one before was answered.
//!
//! A lane is a schedule, the connections on which its requests go out, and the work that they are. If no connection is
//! free a request waits, and its wait counts: latency is from when it was due.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::limit::Limit;
use crate::rig::http::{Answer, Connection};
use crate::rig::watch::Watch;
use crate::schedule::Schedule;

/// For what is under way at the end.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection is watched under a number that names its lane, and itself below these bits.
const LANE: u32 = 32;
const INDEX: u64 = (1 << LANE) - 1;

/// What the requests of a lane are.
pub trait Work {
    /// The next request, to be written into an empty buffer.
    fn request(&mut self, buffer: &mut Vec<u8>);
    fn answered(&mut self, flight: Flight, answer: Answer) -> anyhow::Result<()>;
}

/// One request. Times are since the start.
#[derive(Clone, Copy, Debug)]
pub struct Flight {
    pub due: Duration,
    pub started: Duration,
    pub answered: Duration,
}

pub struct Lane<'a> {
    schedule: Schedule,
    connections: Vec<Connection>,
    under_way: Vec<Option<Flight>>,
    free: VecDeque<usize>,
    work: &'a mut dyn Work,
    buffer: Vec<u8>,
}

impl<'a> Lane<'a> {
    pub fn new(schedule: Schedule, connections: Vec<Connection>, work: &'a mut dyn Work) -> Lane<'a> {
        let (under_way, free) = (vec![None; connections.len()], (0..connections.len()).collect());
        Lane { schedule, connections, under_way, free, work, buffer: Vec::new() }
    }

    /// When requests were due that were never begun. Not to be asked of an endless schedule.
    pub fn left_over(self) -> impl Iterator<Item = Duration> {
        self.schedule
    }

    /// Begins what is due, as far as connections are free.
    fn launch(&mut self, began: Instant) -> anyhow::Result<()> {
        while let Some(&index) = self.free.front() {
            let now = began.elapsed();
            let Some(due) = self.schedule.next_if(|&due| due <= now) else { break };
            self.free.pop_front();
            self.buffer.clear();
            self.work.request(&mut self.buffer);
            let started = began.elapsed();
            self.under_way[index] = Some(Flight { due, started, answered: started });
            self.connections[index].send(&self.buffer)?;
        }
        Ok(())
    }

    fn receive(&mut self, index: usize, began: Instant) -> anyhow::Result<()> {
        let Some(answer) = self.connections[index].receive()? else { return Ok(()) };
        let flight = self.under_way[index].take().context("an answer that nobody asked for")?;
        self.free.push_back(index);
        self.work.answered(Flight { answered: began.elapsed(), ..flight }, answer)
    }

    /// When the next request can begin; `None` while no connection is free.
    fn next_due(&mut self) -> Option<Duration> {
        self.free.front()?;
        self.schedule.peek().copied()
    }

    fn is_idle(&self) -> bool {
        self.free.len() == self.connections.len()
    }
}

/// Runs all lanes for `span`, and then to the end of what was begun.
pub fn drive(lanes: &mut [Lane<'_>], span: Duration, limit: &Limit) -> anyhow::Result<()> {
    let mut watch = Watch::new()?;
    for (lane, number) in lanes.iter().zip(0u64..) {
        for (connection, index) in lane.connections.iter().zip(0u64..) {
            watch.add(connection, number << LANE | index)?;
        }
    }
    let began = Instant::now();
    loop {
        limit.check()?;
        let now = began.elapsed();
        let open = now < span;
        if open {
            lanes.iter_mut().try_for_each(|lane| lane.launch(began))?;
        } else if lanes.iter().all(Lane::is_idle) {
            return Ok(());
        }
        if now > span + PATIENCE {
            bail!("requests are not answered after {} s", PATIENCE.as_secs());
        }
        let next = lanes.iter_mut().filter_map(Lane::next_due).min();
        let until = if open { next.unwrap_or(span).min(span) } else { now + PATIENCE };
        for number in watch.wait(began + until)? {
            lanes[(number >> LANE) as usize].receive((number & INDEX) as usize, began)?;
        }
    }
}
