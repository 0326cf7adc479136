//! Redis is stopped, and then killed, in the midst of traffic.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use super::keys::{Uses, create};
use super::run::{Findings, Run};
use super::stage::{Observed, Stage};
use super::{Scenario, tell};
use crate::load::lane::{Client, Flight, Lane, drive_with};
use crate::load::{Recorder, connect};
use crate::report::{Cell, Table};
use crate::rig::http::Reply;
use crate::rig::vitals::Cpu;
use crate::schedule::poisson;

const KEYS: usize = 200;
/// A gateway doubts what it knows after three seconds without its feed: a phase is longer than that.
const LEAST_S: u64 = 4;
const PHASE_S: u64 = 6;
const NEW_CONNECTIONS: usize = 8;
const PHASES: [&str; 4] = ["as it should be", "stopped", "back", "gone"];
const BACK: usize = 2;

#[derive(clap::Args)]
pub struct Outage {
    /// Requests a second with keys that this gateway never saw.
    #[arg(long, default_value_t = 20.0)]
    new_per_s: f64,
}

impl Scenario for Outage {
    const NAME: &str = "outage";

    fn measure(&self, run: &Run<'_>) -> anyhow::Result<Findings> {
        let mut stage = Stage::set(run)?;
        let phase = run.span(PHASE_S).max(Duration::from_secs(LEAST_S));
        let span = phase * PHASES.len() as u32;
        let known = create(run, &stage.gateway, KEYS)?;
        let new = create(run, &stage.gateway, (self.new_per_s * span.as_secs_f64() * 1.5) as usize + 20)?;
        // Creating keys leaves events that were just applied; a gateway that begins now has none.
        stage.restart(run, &[])?;
        let [mut known, mut new] =
            [&known, &new].map(|keys| Uses::in_turn(keys.iter().map(|key| key.key.as_str())));
        stage.burst(run, "each key once", KEYS, &mut known)?;
        let rate = stage.flat_out(run, "flat out", &mut known)?.rate(run);

        run.enter("an outage");
        let address = stage.gateway.address();
        let recorder = Recorder::open(&mut known, Duration::ZERO, span).shown(run.progress);
        let mut in_use = Phased::new(recorder, phase);
        let mut never_seen = Phased::new(Recorder::open(&mut new, Duration::ZERO, span), phase);
        let before = stage.gateway.process().cpu()?;
        let mut lanes = [
            Lane::new(poisson(rate, span, 1), connect(address, run.connections)?, &mut in_use).patient(),
            Lane::new(poisson(self.new_per_s, span, 2), connect(address, NEW_CONNECTIONS)?, &mut never_seen)
                .patient(),
        ];
        let redis = &stage.redis;
        drive_with(&mut lanes, span, run.limit, &mut |second| match second {
            second if second == phase.as_secs() => redis.freeze(),
            second if second == phase.as_secs() * 2 => redis.thaw(),
            second if second == phase.as_secs() * 3 => redis.kill(),
            _ => Ok(()),
        })?;
        let cpu = stage.gateway.process().cpu()? - before;
        let [known_left, new_left] = lanes.map(Lane::left_over);
        let [(known, in_use), (new, never_seen)] =
            [(in_use, known_left.collect()), (never_seen, new_left.collect())].map(
                |(phased, left): (Phased<'_>, Vec<Duration>)| {
                    (phased.phases, phased.recorder.finish(left.into_iter()))
                },
            );
        let observed = |name: &str, measured, cpu| Observed { name: name.to_owned(), measured, cpu };
        let nothing = Cpu { user: 0.0, system: 0.0 };
        let in_use = observed("keys in use", in_use, cpu);
        let never_seen = observed("keys never seen", never_seen, nothing);
        let words = format!(
            "{rate:.0} requests a second with keys in use, and {:.0} with keys that this gateway never saw. Redis is as it \
             should be for {} s, stopped (SIGSTOP) for as long, back, and then killed. Keys in use go on; those that were never \
             seen get 503, and nobody gets 401.",
            self.new_per_s,
            phase.as_secs()
        );
        let mut findings = Findings::new("Outage", &words);
        findings.section.table = Some(table(&known, &new));
        findings.section.plots = vec![
            tell::p99([&in_use]),
            tell::p99([&never_seen]),
            tell::throughput([&in_use]),
            tell::percentiles([&in_use]),
        ];
        for (name, phases) in [("a key in use", &known), ("a key never seen", &new)] {
            for (phase, seen) in PHASES.iter().zip(phases) {
                let refused = seen.by_status.get(&401).copied().unwrap_or_default();
                findings.expect(refused == 0, || {
                    format!("Redis {phase}: {name} was refused {refused} times (401)")
                });
                findings
                    .expect(seen.lost == 0, || format!("Redis {phase}: {} requests were lost", seen.lost));
            }
        }
        for (phase, seen) in PHASES.iter().zip(&known) {
            let other = seen.other_than(200);
            findings
                .expect(other == 0, || format!("Redis {phase}: {other} requests with keys in use failed"));
        }
        for (phase, seen) in PHASES.iter().zip(&new) {
            let other = seen.by_status.keys().any(|status| ![200, 503].contains(status));
            findings.expect(!other, || format!("Redis {phase}: keys never seen got {}", seen.told()));
        }
        findings.expect(new[BACK].by_status.contains_key(&200), || {
            "keys never seen are not accepted though Redis is back".to_owned()
        });
        Ok(findings)
    }
}

fn table(known: &[Phase], new: &[Phase]) -> Table {
    let mut table =
        Table::new(&["Redis", "keys in use", "p50 ms", "p99 ms", "max ms", "keys never seen", "p99 ms"]);
    for ((phase, known), new) in PHASES.iter().zip(known).zip(new) {
        let ms = |phase: &Phase, share: f64| {
            let mut sorted = phase.latencies_ms.clone();
            sorted.sort_by(f64::total_cmp);
            let value = if sorted.is_empty() { f64::NAN } else { crate::stats::percentile(&sorted, share) };
            Cell::number(value, 2)
        };
        table.row(
            *phase,
            [
                Cell::Text(known.told()),
                ms(known, 0.5),
                ms(known, 0.99),
                ms(known, 1.0),
                Cell::Text(new.told()),
                ms(new, 0.99),
            ],
        );
    }
    table
}

/// Records, and counts apart what began in each phase.
struct Phased<'a> {
    recorder: Recorder<'a>,
    length: Duration,
    phases: Vec<Phase>,
}

#[derive(Default)]
struct Phase {
    by_status: BTreeMap<u16, u64>,
    latencies_ms: Vec<f64>,
    lost: u64,
}

impl<'a> Phased<'a> {
    fn new(recorder: Recorder<'a>, length: Duration) -> Phased<'a> {
        let phases = PHASES.iter().map(|_| Phase::default()).collect();
        Phased { recorder, length, phases }
    }

    fn phase(&mut self, flight: &Flight) -> &mut Phase {
        let number = (flight.due.as_nanos() / self.length.as_nanos()) as usize;
        &mut self.phases[number.min(PHASES.len() - 1)]
    }
}

impl Phase {
    fn other_than(&self, status: u16) -> u64 {
        self.by_status.iter().filter(|(other, _)| **other != status).map(|(_, count)| count).sum()
    }

    fn told(&self) -> String {
        let all = self.by_status.iter().map(|(status, count)| format!("{status}: {count}"));
        all.collect::<Vec<_>>().join(", ")
    }
}

impl Client for Phased<'_> {
    fn request(&mut self, buffer: &mut Vec<u8>) {
        self.recorder.request(buffer);
    }

    fn answered(&mut self, flight: Flight, reply: Reply<'_>) -> anyhow::Result<()> {
        let phase = self.phase(&flight);
        *phase.by_status.entry(reply.status).or_default() += 1;
        phase.latencies_ms.push((flight.answered - flight.due).as_secs_f64() * 1e3);
        self.recorder.answered(flight, reply)
    }

    fn lost(&mut self, flight: Flight, error: io::Error) -> anyhow::Result<()> {
        self.phase(&flight).lost += 1;
        self.recorder.lost(flight, error)
    }
}
