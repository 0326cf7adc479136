//! Many keys, of which few are used often.

use super::keys::{Uses, import, unchecked_without_budget};
use super::run::{Findings, Run};
use super::stage::Stage;
use super::{Scenario, tell};

const SPAN_S: u64 = 10;
const BYTES_EACH: f64 = 400.0;
/// With fewer keys the rest of the memory is all that is seen.
const ENOUGH: u32 = 50_000;

#[derive(clap::Args)]
pub struct Zipf {
    /// Keys. The nth is used as often as 1/n says.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
}

impl Scenario for Zipf {
    const NAME: &str = "zipf";

    fn shorten(&mut self) {
        self.keys = 20_000;
    }

    fn measure(&self, run: &Run<'_>) -> anyhow::Result<Findings> {
        let settings = unchecked_without_budget();
        let mut stage = Stage::with(run, Default::default(), &settings)?;
        let keys = import(run, &stage.gateway, self.keys as usize)?;
        // What the import left in memory is not to be measured.
        stage.restart(run, &settings)?;
        let all = || keys.iter().map(String::as_str);
        let mut first = Uses::in_turn(all().take(1));
        let flat_out = stage.flat_out(run, "flat out, one key", &mut first)?;
        let memory_before = stage.gateway.process().resident_bytes()?;
        let reads_before = stage.reads()?;
        let rate = flat_out.rate(run);
        let mut uses = Uses::zipf(all(), 1);
        let cold = stage.at(run, "from nothing in memory", rate, run.span(SPAN_S), &mut uses)?;
        let cold_reads = stage.reads()? - reads_before;
        let distinct = Uses::zipf(all(), 1).distinct(cold.measured.answered as usize);
        stage.burst(run, "each key once", keys.len(), &mut Uses::in_turn(all()))?;
        let with_uses = stage.gateway.process().resident_bytes()?.saturating_sub(memory_before);
        let reads_before = stage.reads()?;
        let warm = stage.at(run, "all in memory", rate, run.span(SPAN_S), &mut uses)?;
        let warm_flat_out = stage.flat_out(run, "flat out, all in memory", &mut uses)?;
        let warm_reads = stage.reads()? - reads_before;
        // Once more, in a gateway in which no use waits to be written: what a key alone takes.
        let mut bare = unchecked_without_budget();
        bare.push(("KEYGATE_USAGE__MAX_PENDING", "1".to_owned()));
        stage.restart(run, &bare)?;
        stage.warm(run, &mut first)?;
        let memory_before = stage.gateway.process().resident_bytes()?;
        stage.burst(run, "each key once", keys.len(), &mut Uses::in_turn(all()))?;
        let memory = stage.gateway.process().resident_bytes()?;
        let each = memory.saturating_sub(memory_before) as f64 / f64::from(self.keys);
        let with_uses = with_uses as f64 / f64::from(self.keys);
        let observed = [&flat_out, &cold, &warm, &warm_flat_out];
        let words = format!(
            "{} keys, of which the nth is used as often as 1/n says. From nothing in memory, {distinct} different keys were \
             used and the store was read {cold_reads:.0} times; with all in memory, {warm_reads:.0} times. A gateway in which no \
             use waits to be written grew from {:.1} to {:.1} MiB with all keys in memory: {each:.0} bytes a key. With uses \
             that wait, and all else that grows meanwhile, it was {with_uses:.0} bytes.",
            self.keys,
            tell::mebibytes(memory_before),
            tell::mebibytes(memory),
        );
        let mut findings = Findings::new("Zipf", &words);
        findings.section.table = Some(tell::table(observed));
        findings.section.plots =
            vec![tell::percentiles([&cold, &warm]), tell::cpu(observed), tell::p99([&cold, &warm])];
        findings.expect_answers(observed);
        findings.expect(cold_reads <= distinct as f64, || {
            format!("{cold_reads} reads of the store for {distinct} different keys")
        });
        findings.expect(self.keys < ENOUGH || each <= BYTES_EACH, || {
            format!("{each:.0} bytes of memory for a key, and {BYTES_EACH} were promised")
        });
        Ok(findings)
    }
}
