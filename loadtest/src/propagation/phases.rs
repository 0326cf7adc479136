//! The stage of the second part, and one phase on it.
//!
//! The measured gateway has a core for itself. Everything else is on the other cores: clients, upstream, two Redis, and
//! two gateways through whose admin APIs keys are created and revoked. One of them shares the Redis of the measured
//! gateway, the other has one of its own: its events cost the machine the same, and the measured gateway never hears of
//! them.

use std::collections::VecDeque;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::limit::Limit;
use crate::load::lane::{Client, Flight, Lane, drive};
use crate::rig::cores::{Cores, stay_on};
use crate::rig::gateway::{Gateway, create_key, create_request, revoke_request, use_request};
use crate::rig::http::{Connection, Reply};
use crate::rig::redis::Redis;
use crate::rig::upstream::Upstream;
use crate::schedule::{flat_out, poisson};
use crate::stats::percentile;

const APPLIED: &str = "keygate_events_applied_total";
/// What is not applied after so long is missing.
const PATIENCE: Duration = Duration::from_secs(3);
/// The beginning of a phase, of which nothing is counted.
const WARM_UP: Duration = Duration::from_millis(200);

pub struct Stage {
    measured: Gateway,
    here: Gateway,
    elsewhere: Gateway,
    uses: Vec<Vec<u8>>,
    connections: usize,
    changing: usize,
    span: Duration,
    _upstream: Upstream,
    _redis: [Redis; 2],
}

/// How much of what there is on a [`Stage`].
pub struct Sizes {
    pub keys: usize,
    /// To the measured gateway.
    pub connections: usize,
    /// To the admin API through which events are made.
    pub changing: usize,
    /// Of a phase, without its warm-up.
    pub span: Duration,
}

/// Events while there is traffic: how many a second, and whose.
#[derive(Clone, Copy, PartialEq)]
pub enum Events {
    None,
    Elsewhere(f64),
    Here(f64),
}

/// What was measured in one phase.
#[derive(Clone, Serialize)]
pub struct Phase {
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// How late requests began, 99th percentile: what the clients themselves add.
    pub late_p99_ms: f64,
    /// Requests that were not answered with 200.
    pub failed: usize,
    /// Of the measured gateway's core.
    pub cpu: f64,
    pub made_per_s: f64,
    pub applied_per_s: f64,
    /// Made, and not applied some seconds later.
    pub missing: f64,
}

/// What the measured gateway can do.
#[derive(Serialize)]
pub struct Capacity {
    pub requests_per_s: f64,
    /// Of its core. Well below 1 means that the clients' cores were the limit.
    pub cpu: f64,
}

impl Stage {
    /// From here on this thread, and what it starts, stays off the measured gateway's core.
    pub fn set(sizes: &Sizes, binary: &Path, limit: &Limit) -> anyhow::Result<Stage> {
        let Cores { measured, others } = Cores::split()?;
        stay_on(&others)?;
        let upstream = Upstream::start()?;
        let redis = [Redis::start(&others, limit)?, Redis::start(&others, limit)?];
        let start = |redis, cores: &[usize]| Gateway::start(binary, redis, &upstream, cores, limit);
        let measured = start(&redis[0], &measured)?;
        let (here, elsewhere) = (start(&redis[0], &others)?, start(&redis[1], &others)?);
        let mut admin = here.connect_admin()?;
        let mut uses = Vec::new();
        for _ in 0..sizes.keys {
            limit.check()?;
            uses.push(use_request(&create_key(&mut admin)?.key));
        }
        let &Sizes { connections, changing, span, .. } = sizes;
        Ok(Stage {
            measured,
            here,
            elsewhere,
            uses,
            connections,
            changing,
            span,
            _upstream: upstream,
            _redis: redis,
        })
    }

    /// As many requests as the measured gateway answers.
    pub fn capacity(&self, limit: &Limit) -> anyhow::Result<Capacity> {
        self.flat_out(WARM_UP, limit)?; // all keys are known then
        let before = self.measured.process().cpu()?.total();
        let traffic = self.flat_out(self.span, limit)?;
        let cpu = (self.measured.process().cpu()?.total() - before) / self.span.as_secs_f64();
        ensure!(traffic.failed == 0, "{} requests failed while there were no events", traffic.failed);
        Ok(Capacity { requests_per_s: traffic.latencies.len() as f64 / self.span.as_secs_f64(), cpu })
    }

    fn flat_out(&self, span: Duration, limit: &Limit) -> anyhow::Result<Traffic<'_>> {
        let mut traffic = Traffic::new(&self.uses, Duration::ZERO);
        let connections = open(self.connections, || self.measured.connect())?;
        drive(&mut [Lane::new(flat_out(), connections, &mut traffic)], span, limit)?;
        Ok(traffic)
    }

    /// Traffic at this rate, and events beside it. The same seed makes the same arrivals of requests.
    pub fn phase(&self, rate: f64, events: Events, seed: u64, limit: &Limit) -> anyhow::Result<Phase> {
        let span = WARM_UP + self.span;
        let (maker, event_rate) = match events {
            Events::None => (None, 0.0),
            Events::Elsewhere(rate) => (Some(&self.elsewhere), rate),
            Events::Here(rate) => (Some(&self.here), rate),
        };
        let (mut traffic, mut changes) = (Traffic::new(&self.uses, WARM_UP), Changes::default());
        let connections = open(self.connections, || self.measured.connect())?;
        let mut lanes = vec![Lane::new(poisson(rate, span, seed), connections, &mut traffic)];
        if let Some(maker) = maker {
            let connections = open(self.changing, || maker.connect_admin())?;
            lanes.push(Lane::new(poisson(event_rate, span, !seed), connections, &mut changes));
        }
        let applied_before = self.applied()?;
        let cpu_before = self.measured.process().cpu()?.total();
        drive(&mut lanes, span, limit)?;
        let cpu = (self.measured.process().cpu()?.total() - cpu_before) / span.as_secs_f64();
        let applied = self.applied()? - applied_before;
        let late = lanes.swap_remove(0).left_over().collect::<Vec<_>>();
        drop(lanes);
        // What could not even begin waited at least until the end.
        late.into_iter().for_each(|due| traffic.count(due, span, span));
        let made = changes.made as f64;
        let missing =
            if matches!(events, Events::Here(_)) { self.missing(applied_before + made, limit)? } else { 0.0 };
        let [latencies, lateness] = [traffic.latencies, traffic.lateness].map(|mut values| {
            values.sort_by(f64::total_cmp);
            values
        });
        ensure!(!latencies.is_empty(), "no request was due in a phase: its rate is too low");
        Ok(Phase {
            p50_ms: percentile(&latencies, 0.5),
            p99_ms: percentile(&latencies, 0.99),
            late_p99_ms: percentile(&lateness, 0.99),
            failed: traffic.failed,
            cpu,
            made_per_s: made / span.as_secs_f64(),
            applied_per_s: applied / span.as_secs_f64(),
            missing,
        })
    }

    fn applied(&self) -> anyhow::Result<f64> {
        Ok(self.measured.scrape()?.sum(APPLIED))
    }

    /// How many events short of `expected` the measured gateway is, after a while if need be.
    fn missing(&self, expected: f64, limit: &Limit) -> anyhow::Result<f64> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            limit.check()?;
            let missing = (expected - self.applied()?).max(0.0);
            if missing == 0.0 || Instant::now() > deadline {
                return Ok(missing);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn open(count: usize, connect: impl Fn() -> anyhow::Result<Connection>) -> anyhow::Result<Vec<Connection>> {
    (0..count).map(|_| connect()).collect()
}

/// Clients that use one key after the other.
struct Traffic<'a> {
    requests: &'a [Vec<u8>],
    next: usize,
    count_from: Duration,
    latencies: Vec<f64>,
    lateness: Vec<f64>,
    failed: usize,
}

impl Traffic<'_> {
    fn new(requests: &[Vec<u8>], count_from: Duration) -> Traffic<'_> {
        Traffic { requests, next: 0, count_from, latencies: Vec::new(), lateness: Vec::new(), failed: 0 }
    }

    fn count(&mut self, due: Duration, started: Duration, answered: Duration) {
        if due >= self.count_from {
            self.latencies.push((answered - due).as_secs_f64() * 1e3);
            self.lateness.push((started - due).as_secs_f64() * 1e3);
        }
    }
}

impl Client for Traffic<'_> {
    fn request(&mut self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&self.requests[self.next]);
        self.next = (self.next + 1) % self.requests.len();
    }

    fn answered(&mut self, flight: Flight, reply: Reply<'_>) -> anyhow::Result<()> {
        self.count(flight.due, flight.started, flight.answered);
        self.failed += usize::from(reply.status != 200);
        Ok(())
    }
}

/// An operator in a hurry: creates keys, and revokes them again. Each of both is one event.
#[derive(Default)]
struct Changes {
    /// Created, and not revoked yet.
    alive: VecDeque<String>,
    made: u64,
}

impl Client for Changes {
    fn request(&mut self, buffer: &mut Vec<u8>) {
        let request = self.alive.pop_front().map_or_else(create_request, |id| revoke_request(&id));
        buffer.extend_from_slice(&request);
    }

    fn answered(&mut self, _: Flight, reply: Reply<'_>) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct Created {
            id: String,
        }
        ensure!(
            matches!(reply.status, 200 | 201),
            "making events: {} {}",
            reply.status,
            String::from_utf8_lossy(reply.body)
        );
        self.made += 1;
        if reply.status == 201 {
            let Created { id } = serde_json::from_slice(reply.body).context("reading a created key")?;
            self.alive.push_back(id);
        }
        Ok(())
    }
}
