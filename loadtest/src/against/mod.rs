//! This tree beside an earlier commit, in one run: which figures have moved, and not by chance.

mod base;
mod figures;
mod side;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;

use crate::Outcome;
use crate::compare::rounds::rotated;
use crate::limit::Limit;
use crate::peers::Api;
use crate::progress::Progress;
use crate::report::{Files, Report, Section};
use crate::rig::cores::{Cores, stay_on};
use crate::rig::source::{build_keygate, root};
use crate::rig::{gateway, launch};
use figures::{FEWEST_ROUNDS, Figures, table};
use side::{Load, Side};

/// After so long the run is over, whatever is left.
const LONGEST: Duration = Duration::from_secs(3_600);

/// The options of the scenario.
#[derive(clap::Args)]
pub struct Against {
    /// Any name that git knows: `HEAD~1`, `main`, a tag.
    commit: String,
    /// How often each side is measured, each time with a fresh gateway.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long a load lasts.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Keys that are used for the first time in each round.
    #[arg(long, default_value_t = 10_000)]
    cold_keys: usize,
    /// Connections that are opened, used once, and left idle.
    #[arg(long, default_value_t = 1_000)]
    idle: usize,
    /// The gateway of this tree; built if none is named.
    #[arg(long)]
    binary: Option<PathBuf>,
    #[command(flatten)]
    files: Files,
}

impl Against {
    pub fn run(self) -> anyhow::Result<Outcome> {
        ensure!(self.rounds > 0 && self.connections > 0 && self.idle > 0, "nothing would be measured");
        let limit = Limit::begin(LONGEST)?;
        let base = base::build(&self.commit)?;
        let here = match &self.binary {
            Some(given) => gateway::binary(Some(given))?,
            None => build_keygate(&root(), &root().join("target"))?,
        };
        let progress = Progress::new();
        let mut report = Report::begin(&format!("keygate against {}", base.commit));
        let cores = Cores::split()?;
        stay_on(&cores.others)?;
        launch::wake_in_time()?;
        let api = Api::start(&cores.others, &limit)?;
        let mut load = Load {
            api: &api,
            cores: &cores,
            limit: &limit,
            progress: &progress,
            connections: self.connections,
            seconds: self.seconds,
            idle: self.idle,
            rate: None,
        };
        progress.say("making keys");
        let sides = [
            Side::prepare("before", &base.binary, self.cold_keys, &load)?,
            Side::prepare("now", &here, self.cold_keys, &load)?,
        ];
        load.rate = Some(sides[0].calibrate(&load)?);
        let mut measured: [Vec<Figures>; 2] = [Vec::new(), Vec::new()];
        for round in 0..self.rounds {
            for &place in rotated(&[0, 1], round) {
                progress.enter(&format!("round {} of {}, {}", round + 1, self.rounds, sides[place].name));
                measured[place].push(sides[place].measure(&load, round as u64)?);
            }
        }
        let [before, now] = measured;
        let words = format!(
            "{} rounds, each with a fresh gateway; medians, with the least and the greatest. A figure has moved if the two ranges \
             do not overlap and the medians differ by more than the wider of them, in {FEWEST_ROUNDS} rounds or more. Latency \
             at {:.0} requests a second on both sides.",
            self.rounds,
            load.rate.unwrap_or_default()
        );
        report.sections.push(Section {
            title: "Before and now".to_owned(),
            words,
            table: Some(table(&before, &now)),
            plots: Vec::new(),
        });
        drop(progress);
        report.write(&self.files)?;
        Ok(Outcome { text: report.text(), failure: None })
    }
}
