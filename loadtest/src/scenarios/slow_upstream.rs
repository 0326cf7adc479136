//! An upstream that takes its time.

use std::time::Duration;

use super::keys::{Uses, create};
use super::run::{Findings, Run};
use super::stage::Stage;
use super::{Scenario, tell};
use crate::rig::upstream::Manner;

const SPAN_S: u64 = 8;
const KEYS: usize = 100;
/// As many connections as a worker opens to an upstream of its own accord.
const POOL: f64 = 512.0;
/// Of these, as many are in use on average at the first rate, and more than there are at the second.
const SHARES: [f64; 2] = [0.6, 1.5];

#[derive(clap::Args)]
pub struct SlowUpstream {
    /// The upstream answers after so long at the least, in milliseconds.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    from_ms: u64,
    /// And after so long at the most.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    to_ms: u64,
}

impl Scenario for SlowUpstream {
    const NAME: &str = "slow-upstream";

    fn measure(&self, run: &Run<'_>) -> anyhow::Result<Findings> {
        let [from, to] = [self.from_ms, self.to_ms.max(self.from_ms + 1)].map(Duration::from_millis);
        let manner = Manner { delay: Some(from..to), ..Manner::default() };
        let stage = Stage::with(run, manner, &[])?;
        let keys = create(run, &stage.gateway, KEYS)?;
        let mut uses = Uses::in_turn(keys.iter().map(|key| key.key.as_str()));
        let mut many = run.clone();
        many.connections = run.connections.max(POOL as usize * 4);
        let mean = (from + to).as_secs_f64() / 2.0;
        let before = stage.gateway.process().resident_bytes()?;
        let mut observed = Vec::new();
        let mut memory = Vec::new();
        let mut concurrency = Vec::new();
        for share in SHARES {
            let rate = run.rate.map_or(POOL * share / mean, |rate| rate * share / SHARES[0]);
            let name = format!("{rate:.0}/s");
            let seen = stage.at(&many, &name, rate, run.span(SPAN_S), &mut uses)?;
            memory.push(stage.gateway.process().resident_bytes()?);
            // Little's law: those under way are as many as come in the time that one takes.
            concurrency.push(seen.measured.per_s() * seen.measured.latency.mean() / 1e6);
            observed.push(seen);
        }
        let words = format!(
            "The upstream answers after {} to {} ms, {:.0} on average. A worker has {POOL} connections upstream: the first rate \
             needs {:.0} of them on average, the second {:.0}, which it can not have; such requests wait a second for one and \
             then get 503, and nothing of them was sent. Under way on average: {:.0} and {:.0}. Memory of the gateway: {:.1} \
             MiB before, {:.1} and {:.1} after, {} connections of clients included.",
            from.as_millis(),
            to.as_millis(),
            mean * 1e3,
            POOL * SHARES[0],
            POOL * SHARES[1],
            concurrency[0],
            concurrency[1],
            tell::mebibytes(before),
            tell::mebibytes(memory[0]),
            tell::mebibytes(memory[1]),
            many.connections
        );
        let mut findings = Findings::new("Slow upstream", &words);
        findings.section.table = Some(tell::table(&observed));
        findings.section.plots = vec![tell::percentiles(&observed), tell::throughput(&observed)];
        findings.expect_answers([&observed[0]]);
        let beyond = &observed[1].measured;
        findings.expect(
            beyond.failed == 0 && beyond.by_status.keys().all(|status| [200, 503].contains(status)),
            || format!("{}: {} ({} lost)", observed[1].name, tell::statuses(beyond), beyond.failed),
        );
        Ok(findings)
    }
}
