//! One of the two gateways: what is done with it in a round.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::figures::Figures;
use crate::compare::burst::{Burst, Requests, Shape, burst};
use crate::compare::pass::{pass, pass_with};
use crate::limit::Limit;
use crate::load::{self, Plan};
use crate::peers::Api;
use crate::peers::keys::Key;
use crate::progress::Progress;
use crate::rig::cores::Cores;
use crate::rig::gateway::{CreatedKey, Gateway, create_request, use_request};
use crate::rig::http::Connection;
use crate::rig::redis::Redis;

/// Requests of a latency run, of what the earlier gateway can do.
const LOAD: f64 = 0.7;
const WARM_UP: Duration = Duration::from_millis(300);
/// Keys are made on so many connections.
const MAKERS: usize = 16;
const FORGED_KEYS: usize = 1_000;

/// What both sides are given.
pub struct Load<'a> {
    pub api: &'a Api,
    pub cores: &'a Cores,
    pub limit: &'a Limit,
    pub progress: &'a Progress,
    pub connections: usize,
    pub seconds: u64,
    pub idle: usize,
    /// Of latency runs.
    pub rate: Option<f64>,
}

/// A gateway to be, with a store of its own.
pub struct Side {
    pub name: &'static str,
    binary: PathBuf,
    redis: Redis,
    /// One of them is in use, and all others are cold in each round.
    keys: Vec<String>,
}

impl Side {
    /// Makes the keys, through a gateway that is gone afterwards.
    pub fn prepare(
        name: &'static str,
        binary: &Path,
        cold_keys: usize,
        load: &Load<'_>,
    ) -> anyhow::Result<Side> {
        let redis = Redis::start(&load.cores.others, load.limit)?;
        let mut side = Side { name, binary: binary.to_owned(), redis, keys: Vec::new() };
        let gateway = side.start(load)?;
        let request = create_request();
        let requests = std::iter::repeat_n(request.as_slice(), 1 + cold_keys);
        pass_with(gateway.admin(), MAKERS, requests, load.limit, |answer| {
            ensure!(answer.status == 201, "creating a key: {} {}", answer.status, answer.text());
            let created: CreatedKey =
                serde_json::from_slice(&answer.body).context("reading a created key")?;
            side.keys.push(created.key);
            Ok(())
        })?;
        Ok(side)
    }

    /// The rate at which latency is measured.
    pub fn calibrate(&self, load: &Load<'_>) -> anyhow::Result<f64> {
        let gateway = self.start(load)?;
        let shape = Shape::plain(&self.keys[..1], load.connections);
        let span = Duration::from_secs(1);
        let plan = load.plan(&gateway, span, 0);
        let flat_out = load::saturate(&plan, &mut Requests::of(&shape), load.limit, load.progress)?;
        Ok(LOAD * flat_out.per_s().min(load.burst(&gateway, &shape)?.rate()))
    }

    /// All figures, of a gateway that has just begun.
    pub fn measure(&self, load: &Load<'_>, seed: u64) -> anyhow::Result<Figures> {
        let gateway = self.start(load)?;
        let (warm, cold) = (&self.keys[..1], &self.keys[1..]);
        let shape = Shape::plain(warm, load.connections);

        load.progress.say("idle connections");
        let idle_kib = load.idle_kib(&gateway, &warm[0])?;

        load.progress.say("cold keys");
        let requests: Vec<Vec<u8>> = cold.iter().map(|key| use_request(key)).collect();
        let before = gateway.process().cpu()?;
        let misses =
            pass(gateway.address(), load.connections, requests.iter().map(Vec::as_slice), load.limit)?;
        let missing = gateway.process().cpu()? - before;
        ensure!(misses.all(200), "cold keys are answered with {:?}", misses.by_status);

        load.progress.say("flat out");
        load.burst(&gateway, &shape)?; // warms up
        let before = gateway.process().cpu()?;
        let answered = load.burst(&gateway, &shape)?;
        let answering = gateway.process().cpu()? - before;

        load.progress.say("latency");
        let plan = load.plan(&gateway, Duration::from_secs(load.seconds), seed);
        let rate = load.rate.context("the rate is known")?;
        let latency = load::open_loop(&plan, rate, &mut Requests::of(&shape), load.limit, load.progress)?;
        ensure!(latency.unexpected == 0, "answers are {:?}", latency.by_status);

        load.progress.say("forged keys");
        let forged: Vec<String> = Key::some(FORGED_KEYS).into_iter().map(|key| key.text).collect();
        let before = gateway.process().cpu()?;
        let refused = load.burst(&gateway, &Shape { keys: &forged, status: 401, ..shape })?;
        let refusing = gateway.process().cpu()? - before;

        let us = |seconds: f64, requests: u64| seconds / requests as f64 * 1e6;
        Ok(Figures {
            user_us: us(answering.user, answered.requests),
            system_us: us(answering.system, answered.requests),
            requests_per_second: answered.rate(),
            p50_ms: latency.latency_ms(0.5),
            p99_ms: latency.latency_ms(0.99),
            miss_us: us(missing.total(), misses.answered()),
            misses_per_second: misses.rate(),
            refusal_us: us(refusing.total(), refused.requests),
            refusals_per_second: refused.rate(),
            idle_kib,
            resident_mib: gateway.process().resident_bytes()? as f64 / f64::from(1 << 20),
        })
    }

    fn start(&self, load: &Load<'_>) -> anyhow::Result<Gateway> {
        let upstream = load.api.url();
        Gateway::start_with(&self.binary, &self.redis, &upstream, &[], &load.cores.measured, load.limit)
            .with_context(|| format!("starting the gateway {}", self.name))
    }
}

impl Load<'_> {
    fn burst(&self, gateway: &Gateway, shape: &Shape<'_>) -> anyhow::Result<Burst> {
        burst(gateway.address(), shape, self.seconds, &self.cores.others, self.limit, self.progress)
    }

    fn plan(&self, gateway: &Gateway, span: Duration, seed: u64) -> Plan {
        let address: SocketAddr = gateway.address();
        Plan { address, connections: self.connections, warm_up: WARM_UP, span, seed }
    }

    /// What a connection costs that was used once: the first of them, which fill what there is only once, do not count.
    fn idle_kib(&self, gateway: &Gateway, key: &str) -> anyhow::Result<f64> {
        let request = use_request(key);
        let mut open = Vec::with_capacity(self.idle);
        let mut use_some = |count: usize| -> anyhow::Result<u64> {
            for _ in 0..count {
                self.limit.check()?;
                let mut connection: Connection = gateway.connect()?;
                let answer = connection.ask(&request)?;
                ensure!(answer.status == 200, "an answer is {}: {}", answer.status, answer.text());
                open.push(connection);
            }
            gateway.process().resident_bytes()
        };
        let before = use_some(self.idle / 10)?;
        let after = use_some(self.idle)?;
        Ok(after.saturating_sub(before) as f64 / 1024.0 / self.idle as f64)
    }
}
