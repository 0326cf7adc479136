//! Every request has another key that this gateway never saw.

use super::keys::{Uses, create};
use super::run::{Findings, Run};
use super::stage::Stage;
use super::{Scenario, tell};

/// A miss waits for the store, and shares the machine with it.
const RATE: f64 = 1_000.0;

#[derive(clap::Args)]
pub struct Misses {
    /// Keys, used once each flat out, and as many again at a rate.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
}

impl Scenario for Misses {
    const NAME: &str = "misses";

    fn shorten(&mut self) {
        self.keys = 2_000;
    }

    fn measure(&self, run: &Run<'_>) -> anyhow::Result<Findings> {
        let mut stage = Stage::set(run)?;
        let keys = create(run, &stage.gateway, self.keys as usize)?;
        let mut uses = Uses::in_turn(keys.iter().map(|key| key.key.as_str()));
        // A gateway that has just begun has nothing in memory. Other keys warm up everything but that.
        let others = create(run, &stage.gateway, 100)?;
        let mut other_uses = Uses::in_turn(others.iter().map(|key| key.key.as_str()));
        stage.restart(run, &[])?;
        stage.warm(run, &mut other_uses)?;
        let before = stage.reads()?;
        let flat_out = stage.burst(run, "misses, flat out", keys.len(), &mut uses)?;
        let reads = stage.reads()? - before;
        let hits_flat_out = stage.burst(run, "hits, flat out", keys.len(), &mut uses)?;
        stage.restart(run, &[])?;
        stage.warm(run, &mut other_uses)?;
        let rate = run.rate.unwrap_or(RATE);
        // A tenth fewer than there are keys, for arrivals are random.
        let span = std::time::Duration::from_secs_f64(keys.len() as f64 * 0.9 / rate);
        let before = stage.reads()?;
        let at_rate = stage.at(run, &format!("misses, {rate:.0}/s"), rate, span, &mut uses)?;
        let reads_at_rate = stage.reads()? - before;
        let hits = {
            stage.burst(run, "each key once", keys.len(), &mut uses)?;
            stage.at(run, &format!("hits, {rate:.0}/s"), rate, span, &mut uses)?
        };
        let words = format!(
            "Every request has another key that is in the store (Redis), and that this gateway never saw. Flat out the store \
             was read {reads:.0} times for {} answers, at a rate {reads_at_rate:.0} times for {}. Hits beside them are of the \
             same keys, used again. Flat out all requests are due at once, so their latency says nothing.",
            flat_out.measured.answered, at_rate.measured.answered
        );
        let mut findings = Findings::new("Misses", &words);
        let all = [&flat_out, &hits_flat_out, &at_rate, &hits];
        findings.section.table = Some(tell::table(all));
        findings.section.plots = vec![tell::percentiles([&at_rate, &hits]), tell::cpu(all)];
        for (observed, reads) in [(&flat_out, reads), (&at_rate, reads_at_rate)] {
            let answered = observed.measured.answered as f64;
            findings.expect(reads == answered, || {
                format!("{}: {reads} reads of the store for {answered} answers", observed.name)
            });
        }
        findings.expect_answers(all);
        Ok(findings)
    }
}
