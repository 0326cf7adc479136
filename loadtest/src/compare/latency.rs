//! How long answers take at a rate that is asked for, whether they keep up or not.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;

use super::pass::pass;
use crate::limit::Limit;
use crate::propagation::lane::{Flight, Lane, Work, drive};
use crate::rig::http::{Answer, Connection};
use crate::rig::launch::Process;
use crate::schedule::poisson;
use crate::stats::{median, percentile};

/// What is drawn of a distribution: from the middle to where a few requests are left.
const SHARES: [f64; 9] = [0.0, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999];

/// Requests at a rate.
pub struct Plan<'a> {
    pub address: SocketAddr,
    pub request: &'a [u8],
    pub connections: usize,
    pub rate: f64,
    pub span: Duration,
    pub seed: u64,
}

/// Milliseconds from when a request was due to the end of its answer.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    pub rate: f64,
    pub requests: usize,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// How late the generator began requests: the latencies hold it.
    pub late_p99_ms: f64,
    /// How much of its core the peer used.
    pub busy: f64,
    /// Shares of all requests, each with the time within which they were answered.
    pub shares: Vec<(f64, f64)>,
}

/// What a generator of our own gets out of it flat out, on as many connections: no plan may ask for more.
pub fn capacity(
    address: SocketAddr,
    request: &[u8],
    connections: usize,
    limit: &Limit,
) -> anyhow::Result<f64> {
    let flat_out = std::iter::repeat(request);
    let passed = pass(address, connections, flat_out, Some(Duration::from_secs(1)), limit)?;
    Ok(passed.rate())
}

impl Plan<'_> {
    pub fn measure(&self, process: &Process, limit: &Limit) -> anyhow::Result<Latency> {
        let open = (0..self.connections).map(|_| Connection::open(self.address));
        let connections = open.collect::<anyhow::Result<Vec<_>>>()?;
        let expected = (self.rate * self.span.as_secs_f64()) as usize;
        let (took, late) = (Vec::with_capacity(expected), Vec::with_capacity(expected));
        let mut asking = Asking { request: self.request, took, late };
        let before = process.cpu()?;
        let schedule = poisson(self.rate, self.span, self.seed);
        drive(&mut [Lane::new(schedule, connections, &mut asking)], self.span, limit)?;
        let busy = (process.cpu()? - before).total() / self.span.as_secs_f64();
        let Asking { mut took, mut late, .. } = asking;
        ensure!(!took.is_empty(), "nothing was answered");
        took.sort_by(f64::total_cmp);
        late.sort_by(f64::total_cmp);
        Ok(Latency {
            rate: self.rate,
            requests: took.len(),
            p50_ms: percentile(&took, 0.5),
            p99_ms: percentile(&took, 0.99),
            late_p99_ms: percentile(&late, 0.99),
            busy,
            shares: SHARES.map(|share| (share, percentile(&took, share))).to_vec(),
        })
    }
}

impl Latency {
    /// The median of each figure over several turns.
    pub fn median_of(turns: &[Latency]) -> Option<Latency> {
        let first = turns.first()?;
        let middle = |figure: fn(&Latency) -> f64| median(turns.iter().map(figure)).unwrap_or_default();
        let at = |index: usize| median(turns.iter().map(|turn| turn.shares[index].1)).unwrap_or_default();
        Some(Latency {
            rate: first.rate,
            requests: turns.iter().map(|turn| turn.requests).sum(),
            p50_ms: middle(|turn| turn.p50_ms),
            p99_ms: middle(|turn| turn.p99_ms),
            late_p99_ms: middle(|turn| turn.late_p99_ms),
            busy: middle(|turn| turn.busy),
            shares: first.shares.iter().enumerate().map(|(index, &(share, _))| (share, at(index))).collect(),
        })
    }
}

struct Asking<'a> {
    request: &'a [u8],
    took: Vec<f64>,
    late: Vec<f64>,
}

impl Work for Asking<'_> {
    fn request(&mut self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(self.request);
    }

    fn answered(&mut self, flight: Flight, answer: Answer) -> anyhow::Result<()> {
        ensure!(answer.status == 200, "an answer is {}: {}", answer.status, answer.text());
        self.took.push((flight.answered - flight.due).as_secs_f64() * 1e3);
        self.late.push((flight.started - flight.due).as_secs_f64() * 1e3);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_told_by_their_medians() {
        let turn = |p99_ms: f64| Latency {
            rate: 10.0,
            requests: 100,
            p50_ms: 1.0,
            p99_ms,
            late_p99_ms: 0.1,
            busy: 0.5,
            shares: vec![(0.5, 1.0), (0.99, p99_ms)],
        };
        let median = Latency::median_of(&[turn(9.0), turn(2.0), turn(3.0)]).unwrap();
        assert_eq!((median.p99_ms, median.requests), (3.0, 300));
        assert_eq!(median.shares, [(0.5, 1.0), (0.99, 3.0)]);
        assert!(Latency::median_of(&[]).is_none());
    }
}
