//! The load: requests at a rate of their own, or as many as can be answered, and what became of them.

pub mod lane;
mod recorder;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::limit::Limit;
use crate::progress::Progress;
use crate::rig::http::Connection;
use crate::schedule::{Schedule, flat_out, poisson};
use lane::{Lane, drive};
pub use recorder::Recorder;

/// What the requests of a load are.
pub trait Work {
    /// The bytes of one whole request, to be written into an empty buffer.
    fn request(&mut self, buffer: &mut Vec<u8>);

    /// Whether an answer is as it should be.
    fn expects(&self, status: u16) -> bool {
        status / 100 == 2
    }
}

/// Where a load goes, and for how long.
pub struct Plan {
    pub address: SocketAddr,
    /// Kept alive, and made before it begins.
    pub connections: usize,
    /// The beginning, of which nothing is counted.
    pub warm_up: Duration,
    /// What is counted, after the warm-up.
    pub span: Duration,
    /// The same seed makes the same arrivals.
    pub seed: u64,
}

/// What became of a load, without its warm-up. Of an open loop all that was due counts, of a closed loop all that was
/// answered in time.
pub struct Measured {
    pub answered: u64,
    /// Answers that were not as they should be; they are among those answered.
    pub unexpected: u64,
    /// Connections that ended before the answer did.
    pub failed: u64,
    /// Due, and not begun before the end, since no connection was free. Their latency counts as if the end had answered
    /// them.
    pub unsent: u64,
    pub by_status: BTreeMap<u16, u64>,
    pub span: Duration,
    /// Microseconds from when a request was due to the end of its answer.
    pub latency: Histogram<u64>,
    /// Microseconds from when a request was due to its beginning.
    pub lateness: Histogram<u64>,
    pub per_second: Vec<Second>,
}

/// What was answered within one second.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Second {
    /// How many seconds came before it.
    pub second: u64,
    pub answered: u64,
    pub unexpected: u64,
    /// 0 if nothing was answered.
    pub p50_us: u64,
    pub p99_us: u64,
}

impl Measured {
    pub fn per_s(&self) -> f64 {
        self.answered as f64 / self.span.as_secs_f64()
    }

    /// The latency that this share of the requests did not exceed, `0.99` for example.
    pub fn latency_ms(&self, share: f64) -> f64 {
        self.latency.value_at_quantile(share) as f64 / 1e3
    }

    /// How late the generator itself was, for this share of the requests.
    pub fn late_ms(&self, share: f64) -> f64 {
        self.lateness.value_at_quantile(share) as f64 / 1e3
    }
}

/// Poisson arrivals at `rate` a second; latency is from the intended start, so a stall is paid for by all who were due
/// meanwhile.
pub fn open_loop(
    plan: &Plan,
    rate: f64,
    work: &mut dyn Work,
    limit: &Limit,
    progress: &Progress,
) -> anyhow::Result<Measured> {
    let schedule = poisson(rate, plan.warm_up + plan.span, plan.seed);
    run(plan, schedule, Recorder::open(work, plan.warm_up, plan.span).shown(progress), limit)
}

/// Closed loop: every connection always has a request under way.
pub fn saturate(
    plan: &Plan,
    work: &mut dyn Work,
    limit: &Limit,
    progress: &Progress,
) -> anyhow::Result<Measured> {
    run(plan, flat_out(), Recorder::closed(work, plan.warm_up, plan.span).shown(progress), limit)
}

fn run(
    plan: &Plan,
    schedule: Schedule,
    mut recorder: Recorder<'_>,
    limit: &Limit,
) -> anyhow::Result<Measured> {
    let connections = connect(plan.address, plan.connections)?;
    let mut lanes = [Lane::new(schedule, connections, &mut recorder)];
    drive(&mut lanes, plan.warm_up + plan.span, limit)?;
    let [lane] = lanes;
    let left_over = lane.left_over();
    Ok(recorder.finish(left_over))
}

pub fn connect(address: SocketAddr, count: usize) -> anyhow::Result<Vec<Connection>> {
    (0..count).map(|_| Connection::open(address)).collect()
}
