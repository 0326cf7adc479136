//! What all scenarios have in common: options, a beginning and an end.

use std::path::PathBuf;
use std::time::Duration;

use super::stage::Observed;
use super::tell;
use crate::Outcome;
use crate::limit::Limit;
use crate::progress::Progress;
use crate::report::{Files, Report, Section};
use crate::rig::cores::{Cores, stay_on};
use crate::rig::{gateway, launch};

/// After so long a run ends with what it has.
const LONGEST: Duration = Duration::from_secs(4 * 3600);
const SHORTLY: Duration = Duration::from_secs(2);

#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Options of all scenarios")]
pub struct Common {
    /// Length of each measurement; every scenario has its own if none is named.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// Requests a second. If none is named, it is a share of what the gateway answers flat out.
    #[arg(long)]
    rate: Option<f64>,
    /// Connections of the traffic.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// The gateway to measure; the one beside this program if none is named, built if it is not there.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    #[command(flatten)]
    files: Files,
    /// Fail if something is not as keygate promises. Only counts and bounds are judged, never a time.
    #[arg(long)]
    assert: bool,
}

/// A run on its way.
#[derive(Clone)]
pub struct Run<'a> {
    pub binary: PathBuf,
    pub cores: &'a Cores,
    pub limit: &'a Limit,
    pub progress: &'a Progress,
    pub connections: usize,
    /// Requests a second, if they were named.
    pub rate: Option<f64>,
    seconds: Option<u64>,
    short: bool,
    name: &'static str,
}

/// What a scenario found.
pub struct Findings {
    pub section: Section,
    /// What does not hold, in words.
    pub broken: Vec<String>,
}

impl Run<'_> {
    /// How long to measure, where the scenario itself would take so long.
    pub fn span(&self, usual_s: u64) -> Duration {
        let usual = Duration::from_secs(usual_s);
        let usual = if self.short { usual.min(SHORTLY) } else { usual };
        self.seconds.map_or(usual, Duration::from_secs)
    }

    /// Tells who watches what begins.
    pub fn enter(&self, part: &str) {
        self.progress.enter(&format!("{}, {part}", self.name));
    }

    pub fn named(&self, name: &'static str) -> Self {
        Run { name, ..self.clone() }
    }

    pub fn shortly(&self, name: &'static str) -> Self {
        Run { short: true, ..self.named(name) }
    }
}

impl Findings {
    pub fn new(title: &str, words: &str) -> Findings {
        let section = Section { title: title.to_owned(), words: words.to_owned(), ..Section::default() };
        Findings { section, broken: Vec::new() }
    }

    /// Something that has to hold.
    pub fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(format!("{}: {}", self.section.title, otherwise()));
        }
    }

    /// Every request has to be answered, as it should be.
    pub fn expect_answers<'a>(&mut self, observed: impl IntoIterator<Item = &'a Observed>) {
        for Observed { name, measured, .. } in observed {
            let amiss = tell::amiss(measured);
            self.expect(amiss == 0, || {
                format!("{name}: {amiss} requests not as expected ({})", tell::statuses(measured))
            });
        }
    }
}

/// Runs what is given, tells of it, and judges it if that was asked for. From here on this thread, and what it starts,
/// stays off the measured gateway's core.
pub fn begin(
    common: &Common,
    title: &str,
    measure: impl FnOnce(&Run<'_>) -> anyhow::Result<Vec<Findings>>,
) -> anyhow::Result<Outcome> {
    let limit = Limit::begin(LONGEST)?;
    let binary = gateway::binary(common.binary.as_deref())?;
    launch::wake_in_time()?;
    let mut report = Report::begin(title);
    let cores = Cores::split()?;
    stay_on(&cores.others)?;
    let progress = Progress::new();
    let run = Run {
        binary,
        cores: &cores,
        limit: &limit,
        progress: &progress,
        connections: common.connections as usize,
        rate: common.rate,
        seconds: common.seconds,
        short: false,
        name: "",
    };
    let (sections, broken): (Vec<_>, Vec<_>) =
        measure(&run)?.into_iter().map(|findings| (findings.section, findings.broken)).unzip();
    report.sections = sections;
    drop(progress);
    report.write(&common.files)?;
    let broken = broken.concat();
    let mut text = report.text();
    for broken in &broken {
        text += &format!("\nNOT AS PROMISED. {broken}\n");
    }
    let failure = (common.assert && !broken.is_empty()).then(|| broken.join("\n"));
    Ok(Outcome { text, failure })
}
