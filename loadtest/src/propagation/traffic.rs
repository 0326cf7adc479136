//! One gateway under traffic: the rate of events at which its p99 reaches a multiple of what it is without.
//!
//! At each rate three kinds of phases take turns: no events, events in another fleet, events in the gateway's own. What
//! is compared are medians, so that a noisy moment decides nothing.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::phases::{Capacity, Events, Phase, Sizes, Stage};
use crate::limit::Limit;
use crate::progress::Progress;
use crate::row;
use crate::stats::{Crossing, crossing, median};
use crate::table;

/// A maker of events that comes short of this share is at its end.
const ENOUGH: f64 = 0.8;

#[derive(clap::Args)]
#[command(next_help_heading = "Under traffic")]
pub struct Options {
    /// Events a second, rising.
    #[arg(long, value_delimiter = ',', default_value = "10,50,100,500,1000,2000,5000,10000")]
    rates: Vec<f64>,
    /// How often the phases take turns at each rate.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
    /// Length of a phase.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=8000))]
    phase_ms: u64,
    /// Traffic, as a share of what the gateway can do flat out. At the pace of independent clients a request costs about
    /// twice as much CPU, for nothing comes in batches: 25 keeps about half of its core busy.
    #[arg(long, default_value_t = 25.0)]
    load_percent: f64,
    /// Traffic, in requests a second, instead of a share.
    #[arg(long)]
    load_rate: Option<f64>,
    /// Keys that the traffic uses.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    /// Connections of the traffic.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Connections on which keys are created and revoked.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=128))]
    changing: u32,
    /// The multiple of the p99 without events that is looked for.
    #[arg(long, default_value_t = 1.2)]
    factor: f64,
}

#[derive(Serialize)]
pub struct Measured {
    capacity: Capacity,
    requests_per_s: f64,
    turns: u32,
    phase_ms: u64,
    factor: f64,
    steps: Vec<Step>,
    /// Events applied a second at which p99 is `factor` times the p99 without events.
    crossing: Option<Crossing>,
    /// The same, against the p99 with as many events in another fleet.
    crossing_beside_elsewhere: Option<Crossing>,
}

/// One rate of events: the turns of each kind of phase.
#[derive(Default, Serialize)]
struct Step {
    asked_per_s: f64,
    quiet: Vec<Phase>,
    elsewhere: Vec<Phase>,
    here: Vec<Phase>,
}

pub fn measure(
    options: &Options,
    binary: &Path,
    limit: &Limit,
    progress: &Progress,
) -> anyhow::Result<Measured> {
    progress.say("under traffic: starting");
    let sizes = Sizes {
        keys: options.keys as usize,
        connections: options.connections as usize,
        changing: options.changing as usize,
        span: Duration::from_millis(options.phase_ms),
    };
    let stage = Stage::set(&sizes, binary, limit)?;
    let capacity = stage.capacity(limit)?;
    let requests_per_s = options.load_rate.unwrap_or(capacity.requests_per_s * options.load_percent / 100.0);
    let (turns, phase_ms, factor) = (options.turns, options.phase_ms, options.factor);
    let mut measured = Measured {
        capacity,
        requests_per_s,
        turns,
        phase_ms,
        factor,
        steps: Vec::new(),
        crossing: None,
        crossing_beside_elsewhere: None,
    };
    for &rate in &options.rates {
        let mut step = Step { asked_per_s: rate, ..Step::default() };
        for turn in 0..turns {
            if limit.is_over() {
                break;
            }
            progress.say(&format!("under traffic: {rate} events/s, turn {} of {turns}", turn + 1));
            step.turn(&stage, requests_per_s, turn, limit)?;
        }
        if step.here.is_empty() {
            break;
        }
        measured.steps.push(step);
        if measured.is_at_the_end() {
            break;
        }
    }
    measured.crossing = crossing(&measured.points(Step::ratio), factor);
    measured.crossing_beside_elsewhere = crossing(&measured.points(Step::ratio_to_elsewhere), factor);
    Ok(measured)
}

impl Step {
    /// One phase of each kind, each turn in another order, all with the same arrivals of requests.
    fn turn(&mut self, stage: &Stage, rate: f64, turn: u32, limit: &Limit) -> anyhow::Result<()> {
        let kinds = [Events::None, Events::Elsewhere(self.asked_per_s), Events::Here(self.asked_per_s)];
        for kind in kinds.into_iter().cycle().skip(turn as usize % kinds.len()).take(kinds.len()) {
            let phase = stage.phase(rate, kind, u64::from(turn), limit)?;
            match kind {
                Events::None => self.quiet.push(phase),
                Events::Elsewhere(_) => self.elsewhere.push(phase),
                Events::Here(_) => self.here.push(phase),
            }
        }
        Ok(())
    }

    fn ratio(&self) -> f64 {
        middle(&self.here, |phase| phase.p99_ms) / middle(&self.quiet, |phase| phase.p99_ms)
    }

    fn ratio_to_elsewhere(&self) -> f64 {
        middle(&self.here, |phase| phase.p99_ms) / middle(&self.elsewhere, |phase| phase.p99_ms)
    }

    /// Whether the events that were asked for could not be made.
    fn is_short(&self) -> bool {
        middle(&self.here, |phase| phase.made_per_s) < ENOUGH * self.asked_per_s
    }

    fn phases(&self) -> impl Iterator<Item = &Phase> {
        self.quiet.iter().chain(&self.elsewhere).chain(&self.here)
    }
}

impl Measured {
    /// Twice in a row above the line, by both measures, or no more events to be had.
    fn is_at_the_end(&self) -> bool {
        let above = |step: &Step| step.ratio().min(step.ratio_to_elsewhere()) >= self.factor;
        let last_two = self.steps.iter().rev().take(2);
        self.steps.last().is_some_and(Step::is_short) || last_two.filter(|step| above(step)).count() == 2
    }

    /// Of the rates that could be made: beyond them it is the other cores that are slow.
    fn points(&self, ratio: impl Fn(&Step) -> f64) -> Vec<(f64, f64)> {
        let made = self.steps.iter().filter(|step| !step.is_short());
        made.map(|step| (middle(&step.here, |phase| phase.applied_per_s), ratio(step))).collect()
    }

    pub fn render(&self) -> String {
        let ms = |phases: &[Phase]| {
            let [p50, p99] = [middle(phases, |phase| phase.p50_ms), middle(phases, |phase| phase.p99_ms)];
            format!("{p50:.2} {p99:.2}")
        };
        let cpu = |phases: &[Phase]| format!("{:.0} %", middle(phases, |phase| phase.cpu) * 100.0);
        let lateness = |phases: &[Phase]| format!("{:.2}", middle(phases, |phase| phase.late_p99_ms));
        let head = "events/s||| no events| elsewhere|      here|p99 here||CPU||late p99 ms|";
        let names =
            "asked|made|applied|p50 p99 ms|p50 p99 ms|p50 p99 ms|/ none|/ elsewhere|none|here|none|here";
        let mut rows: Vec<Vec<String>> =
            [head, names].iter().map(|line| line.split('|').map(str::to_owned).collect()).collect();
        for step in &self.steps {
            rows.push(row![
                step.asked_per_s,
                format!("{:.0}", middle(&step.here, |phase| phase.made_per_s)),
                format!("{:.0}", middle(&step.here, |phase| phase.applied_per_s)),
                ms(&step.quiet),
                ms(&step.elsewhere),
                ms(&step.here),
                format!("{:.2}", step.ratio()),
                format!("{:.2}", step.ratio_to_elsewhere()),
                cpu(&step.quiet),
                cpu(&step.here),
                lateness(&step.quiet),
                lateness(&step.here),
            ]);
        }
        let (rate, capacity) = (self.requests_per_s, &self.capacity);
        let mut text = format!(
            "\nUnder traffic: {rate:.0} requests/s to one gateway on a core of its own, which can do {:.0} (at {:.0} % of \
             its core)\nMedians of {} turns of phases of {} ms\n\n",
            capacity.requests_per_s,
            capacity.cpu * 100.0,
            self.turns,
            self.phase_ms
        );
        text += &table::render(&rows);
        text.push('\n');
        for (crossing, than) in [
            (self.crossing, "the p99 without events"),
            (self.crossing_beside_elsewhere, "the p99 with as many events in another fleet"),
        ] {
            text += &format!("  {} times {than}: {}\n", self.factor, words(crossing));
        }
        for (count, what) in [
            (self.total(|phase| phase.failed as f64), "requests were not answered with 200"),
            (self.total(|phase| phase.missing), "events were made and not applied"),
        ] {
            if count > 0.0 {
                text += &format!("  {count} {what}\n");
            }
        }
        if self.steps.last().is_some_and(Step::is_short) {
            text +=
                "  the last rate could not be made, so it does not count: the other cores are at their end\n";
        }
        text
    }

    fn total(&self, value: impl Fn(&Phase) -> f64) -> f64 {
        self.steps.iter().flat_map(Step::phases).map(value).sum()
    }
}

fn words(crossing: Option<Crossing>) -> String {
    match crossing {
        Some(Crossing::At { x }) => format!("at {x:.0} events/s"),
        Some(Crossing::Below { x }) => format!("below {x:.0} events/s"),
        Some(Crossing::NotUpTo { x }) => format!("not up to {x:.0} events/s"),
        None => "not measured".to_owned(),
    }
}

fn middle(phases: &[Phase], value: impl Fn(&Phase) -> f64) -> f64 {
    median(phases.iter().map(value)).unwrap_or(f64::NAN)
}
