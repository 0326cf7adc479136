//! Steady traffic for long.

use std::time::Duration;

use super::keys::{Uses, create};
use super::run::{Findings, Run};
use super::stage::{Observed, Stage};
use super::{Scenario, tell};
use crate::load::lane::{Lane, drive_with};
use crate::load::{Recorder, connect};
use crate::report::{Plot, Series};
use crate::schedule::poisson;
use crate::stats::slope;

const SPAN_S: u64 = 60;
/// Memory may grow at first; from then on it is judged.
const SETTLING: f64 = 0.25;
/// A shorter run shows nothing that lasts.
const LONG_ENOUGH: Duration = Duration::from_secs(60);
/// A day at this rate is a gigabyte and a half.
const KIB_PER_MIN: f64 = 1024.0;

#[derive(clap::Args)]
pub struct Soak {
    /// Keys, used in turn.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
}

impl Scenario for Soak {
    const NAME: &str = "soak";

    fn measure(&self, run: &Run<'_>) -> anyhow::Result<Findings> {
        let stage = Stage::set(run)?;
        let keys = create(run, &stage.gateway, self.keys as usize)?;
        let mut uses = Uses::in_turn(keys.iter().map(|key| key.key.as_str()));
        stage.burst(run, "each key once", keys.len(), &mut uses)?;
        let rate = stage.flat_out(run, "flat out", &mut uses)?.rate(run);
        run.enter("soaking");
        let span = run.span(SPAN_S);
        let mut resident: Vec<(f64, f64)> = Vec::new();
        let mut recorder = Recorder::open(&mut uses, Duration::ZERO, span).shown(run.progress);
        let observed = stage.observe("soak", || {
            let connections = connect(stage.gateway.address(), run.connections)?;
            let mut lanes = [Lane::new(poisson(rate, span, 1), connections, &mut recorder).patient()];
            drive_with(&mut lanes, span, run.limit, &mut |second| {
                let kib = stage.gateway.process().resident_bytes()? as f64 / 1024.0;
                resident.push((second as f64, kib));
                Ok(())
            })?;
            let [lane] = lanes;
            let left_over = lane.left_over();
            Ok(recorder.finish(left_over))
        })?;
        Ok(self.findings(observed, rate, span, &resident))
    }
}

impl Soak {
    fn findings(&self, observed: Observed, rate: f64, span: Duration, resident: &[(f64, f64)]) -> Findings {
        let settled = &resident[(resident.len() as f64 * SETTLING) as usize..];
        let per_min = slope(settled).unwrap_or(f64::NAN) * 60.0;
        let first = resident.first().map_or(f64::NAN, |(_, kib)| *kib);
        let last = resident.last().map_or(f64::NAN, |(_, kib)| *kib);
        let words = format!(
            "{rate:.0} requests a second with {} keys for {} s. The gateway's memory was read each second: from {:.1} to {:.1} \
             MiB; after a first quarter in which it may settle, it grows by {per_min:.0} KiB a minute (least squares).",
            self.keys,
            span.as_secs(),
            first / 1024.0,
            last / 1024.0
        );
        let mut findings = Findings::new("Soak", &words);
        findings.section.table = Some(tell::table([&observed]));
        let growth = resident.iter().map(|(second, kib)| (*second, kib - first)).collect();
        findings.section.plots = vec![
            Plot::Lines {
                title: "Memory since the beginning".to_owned(),
                x_axis: "s".to_owned(),
                y_axis: "KiB".to_owned(),
                series: vec![Series { name: "growth".to_owned(), points: growth }],
            },
            tell::p99([&observed]),
            tell::throughput([&observed]),
            tell::percentiles([&observed]),
        ];
        let amiss = tell::amiss(&observed.measured);
        findings.expect(amiss == 0, || {
            format!("{amiss} requests not as expected ({})", tell::statuses(&observed.measured))
        });
        findings.expect(span < LONG_ENOUGH || per_min <= KIB_PER_MIN, || {
            format!("memory grows by {per_min:.0} KiB a minute")
        });
        findings
    }
}
