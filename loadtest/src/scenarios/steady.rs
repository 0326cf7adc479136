//! Keys that are in memory.

use super::keys::{Uses, create};
use super::run::{Findings, Run};
use super::stage::Stage;
use super::{Scenario, tell};

const SPAN_S: u64 = 10;

#[derive(clap::Args)]
pub struct Steady {
    /// Keys, used in turn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
}

impl Scenario for Steady {
    const NAME: &str = "steady";

    fn measure(&self, run: &Run<'_>) -> anyhow::Result<Findings> {
        let stage = Stage::set(run)?;
        let keys = create(run, &stage.gateway, self.keys as usize)?;
        let mut uses = Uses::in_turn(keys.iter().map(|key| key.key.as_str()));
        stage.burst(run, "each key once", keys.len(), &mut uses)?;
        let before = stage.reads()?;
        let flat_out = stage.flat_out(run, "flat out", &mut uses)?;
        let rate = flat_out.rate(run);
        let at_rate = stage.at(run, &format!("{rate:.0}/s"), rate, run.span(SPAN_S), &mut uses)?;
        let reads = stage.reads()? - before;
        let words = format!(
            "Keys in use: {}, all in memory. Flat out every connection always has a request under way; at a rate requests \
             arrive at random, as from clients that know nothing of each other, and latency counts from when a request was \
             due. Reads of the store: {reads:.0}.",
            self.keys
        );
        let mut findings = Findings::new("Steady", &words);
        let both = [&flat_out, &at_rate];
        findings.section.table = Some(tell::table(both));
        findings.section.plots = vec![
            tell::percentiles([&at_rate]),
            tell::cpu(both),
            tell::throughput([&at_rate]),
            tell::p99([&at_rate]),
        ];
        findings.expect(reads == 0.0, || format!("{reads} reads of the store for keys in memory"));
        findings.expect_answers(both);
        Ok(findings)
    }
}
