//! A gateway on a core of its own, and what it needs on the others.

use std::time::Duration;

use super::run::Run;
use crate::load::lane::{Lane, drive};
use crate::load::{Measured, Plan, Recorder, Work, connect, open_loop, saturate};
use crate::rig::gateway::Gateway;
use crate::rig::redis::Redis;
use crate::rig::upstream::{Manner, Upstream};
use crate::rig::vitals::Cpu;
use crate::schedule;

/// Share of what is answered flat out at which traffic is measured. At the pace of independent clients a request costs
/// about twice as much CPU, for nothing comes in batches: a quarter keeps about half of the core busy.
const SHARE: f64 = 0.25;
const WARM_UP: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(600);
/// Long enough to know how much is answered flat out.
const CAPACITY_S: u64 = 2;
const SEED: u64 = 1;

pub struct Stage {
    pub gateway: Gateway,
    pub redis: Redis,
    pub upstream: Upstream,
}

/// Traffic, and what it cost the gateway.
pub struct Observed {
    pub name: String,
    pub measured: Measured,
    pub cpu: Cpu,
}

pub type Settings<'a> = &'a [(&'static str, String)];

impl Stage {
    pub fn set(run: &Run<'_>) -> anyhow::Result<Stage> {
        Stage::with(run, Manner::default(), &[])
    }

    pub fn with(run: &Run<'_>, manner: Manner, settings: Settings<'_>) -> anyhow::Result<Stage> {
        run.enter("setting the stage");
        let upstream = Upstream::with(manner)?;
        let redis = Redis::start(&run.cores.others, run.limit)?;
        let gateway = start(run, &redis, &upstream, settings)?;
        Ok(Stage { gateway, redis, upstream })
    }

    /// Another gateway in the place of this one, with nothing in memory.
    pub fn restart(&mut self, run: &Run<'_>, settings: Settings<'_>) -> anyhow::Result<()> {
        self.gateway = start(run, &self.redis, &self.upstream, settings)?;
        Ok(())
    }

    /// Traffic that nobody measures.
    pub fn warm(&self, run: &Run<'_>, work: &mut dyn Work) -> anyhow::Result<()> {
        run.enter("warming up");
        saturate(&self.plan(run, WARM_UP), work, run.limit, run.progress)?;
        Ok(())
    }

    /// As many requests as these, as fast as they are answered, and how long all took.
    pub fn burst(
        &self,
        run: &Run<'_>,
        name: &str,
        count: usize,
        work: &mut dyn Work,
    ) -> anyhow::Result<Observed> {
        run.enter(name);
        self.observe(name, || {
            let connections = connect(self.gateway.address(), run.connections.min(count))?;
            let mut recorder = Recorder::open(work, Duration::ZERO, LONGEST);
            drive(&mut [Lane::new(schedule::burst(count), connections, &mut recorder)], LONGEST, run.limit)?;
            Ok(recorder.finish_early())
        })
    }

    /// As many requests as are answered.
    pub fn flat_out(&self, run: &Run<'_>, name: &str, work: &mut dyn Work) -> anyhow::Result<Observed> {
        self.flat_out_for(run, name, run.span(CAPACITY_S), work)
    }

    pub fn flat_out_for(
        &self,
        run: &Run<'_>,
        name: &str,
        span: Duration,
        work: &mut dyn Work,
    ) -> anyhow::Result<Observed> {
        run.enter(name);
        let plan = self.plan(run, span);
        self.observe(name, || saturate(&plan, work, run.limit, run.progress))
    }

    pub fn at(
        &self,
        run: &Run<'_>,
        name: &str,
        rate: f64,
        span: Duration,
        work: &mut dyn Work,
    ) -> anyhow::Result<Observed> {
        run.enter(name);
        let plan = self.plan(run, span);
        self.observe(name, || open_loop(&plan, rate, work, run.limit, run.progress))
    }

    /// Reads of the store so far.
    pub fn reads(&self) -> anyhow::Result<f64> {
        Ok(self.gateway.scrape()?.sum_of("keygate_store_requests_total", "operation=\"find\""))
    }

    pub fn observe(
        &self,
        name: &str,
        measure: impl FnOnce() -> anyhow::Result<Measured>,
    ) -> anyhow::Result<Observed> {
        let before = self.gateway.process().cpu()?;
        let measured = measure()?;
        Ok(Observed { name: name.to_owned(), measured, cpu: self.gateway.process().cpu()? - before })
    }

    fn plan(&self, run: &Run<'_>, span: Duration) -> Plan {
        let (address, connections) = (self.gateway.address(), run.connections);
        Plan { address, connections, warm_up: Duration::ZERO, span, seed: SEED }
    }
}

impl Observed {
    /// Seconds on a core for one answer.
    pub fn cpu_each(&self) -> f64 {
        self.cpu.total() / self.measured.answered as f64
    }

    /// The rate that was named, or a share of this.
    pub fn rate(&self, run: &Run<'_>) -> f64 {
        run.rate.unwrap_or(self.measured.per_s() * SHARE)
    }
}

fn start(
    run: &Run<'_>,
    redis: &Redis,
    upstream: &Upstream,
    settings: Settings<'_>,
) -> anyhow::Result<Gateway> {
    Gateway::start_with(&run.binary, redis, &upstream.url(), settings, &run.cores.measured, run.limit)
}
