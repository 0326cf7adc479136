//! How long answers take at a rate that is asked for, whether they keep up or not.

use std::time::Duration;

use anyhow::ensure;

use super::Stage;
use super::burst::Requests;
use crate::load::{self, Measured, Plan};
use crate::peers::Peer;
use crate::stats::median;

/// What is drawn of a distribution, in percent.
const DRAWN: [f64; 8] = [50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95];
const WARM_UP: Duration = Duration::from_millis(300);

/// Milliseconds from when a request was due to the end of its answer.
#[derive(Clone, Debug)]
pub struct Latency {
    pub rate: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// How late the generator began requests: the latencies hold it.
    pub late_p99_ms: f64,
    /// How much of its core the peer used.
    pub busy: f64,
    /// Percentiles, each with its latency.
    pub drawn: Vec<(f64, f64)>,
}

/// What the generator gets out of a peer flat out: no rate may ask for more.
pub fn capacity(
    peer: &Peer,
    requests: &mut Requests,
    connections: usize,
    stage: &Stage<'_>,
) -> anyhow::Result<f64> {
    let plan = plan(peer, connections, Duration::from_secs(1), 0);
    let measured = load::saturate(&plan, requests, stage.limit, stage.progress)?;
    all_answered(&measured)?;
    Ok(measured.per_s())
}

/// One turn at a rate. The same seed makes the same arrivals.
pub fn measure(
    peer: &Peer,
    requests: &mut Requests,
    connections: usize,
    rate: f64,
    span: Duration,
    seed: u64,
    stage: &Stage<'_>,
) -> anyhow::Result<Latency> {
    let plan = plan(peer, connections, span, seed);
    let before = peer.process().cpu()?;
    let measured = load::open_loop(&plan, rate, requests, stage.limit, stage.progress)?;
    let used = peer.process().cpu()? - before;
    all_answered(&measured)?;
    Ok(Latency {
        rate,
        p50_ms: measured.latency_ms(0.5),
        p99_ms: measured.latency_ms(0.99),
        late_p99_ms: measured.late_ms(0.99),
        busy: used.total() / (WARM_UP + span).as_secs_f64(),
        drawn: DRAWN.map(|percent| (percent, measured.latency_ms(percent / 100.0))).to_vec(),
    })
}

fn plan(peer: &Peer, connections: usize, span: Duration, seed: u64) -> Plan {
    Plan { address: peer.address, connections, warm_up: WARM_UP, span, seed }
}

/// # Errors
/// An answer was another or missing: it may have been cheap.
fn all_answered(measured: &Measured) -> anyhow::Result<()> {
    let Measured { unexpected, failed, by_status, .. } = measured;
    ensure!(*unexpected == 0 && *failed == 0, "{failed} requests were not answered; answers: {by_status:?}");
    Ok(())
}

impl Latency {
    /// The median of each figure over several turns.
    pub fn median_of(turns: &[Latency]) -> Option<Latency> {
        let first = turns.first()?;
        let middle = |figure: &dyn Fn(&Latency) -> f64| median(turns.iter().map(figure)).unwrap_or_default();
        let at =
            |(index, &(percent, _)): (usize, &(f64, f64))| (percent, middle(&|turn| turn.drawn[index].1));
        Some(Latency {
            rate: first.rate,
            p50_ms: middle(&|turn| turn.p50_ms),
            p99_ms: middle(&|turn| turn.p99_ms),
            late_p99_ms: middle(&|turn| turn.late_p99_ms),
            busy: middle(&|turn| turn.busy),
            drawn: first.drawn.iter().enumerate().map(at).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_told_by_their_medians() {
        let turn = |p99_ms: f64| Latency {
            rate: 10.0,
            p50_ms: 1.0,
            p99_ms,
            late_p99_ms: 0.1,
            busy: 0.5,
            drawn: vec![(50.0, 1.0), (99.0, p99_ms)],
        };
        let median = Latency::median_of(&[turn(9.0), turn(2.0), turn(3.0)]).unwrap();
        assert_eq!(median.p99_ms, 3.0);
        assert_eq!(median.drawn, [(50.0, 1.0), (99.0, 3.0)]);
        assert!(Latency::median_of(&[]).is_none());
    }
}
