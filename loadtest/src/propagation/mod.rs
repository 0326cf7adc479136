//! How fast a revocation reaches a fleet, and what events cost the traffic.

mod idle;
mod judge;
mod phases;
mod traffic;

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

use crate::Outcome;
use crate::limit::Limit;
use crate::progress::Progress;
use crate::rig::{gateway, launch};

/// The options of the scenario.
#[derive(clap::Args)]
pub struct Propagation {
    /// The gateway to measure; the one beside this program if none is named, built if it is not there.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// One part of the scenario.
    #[arg(long)]
    only: Option<Part>,
    /// After so long the run ends with what it has.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// All that was measured goes into this file too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if a request was accepted that started after all gateways had acknowledged the revocation of its key, or if
    /// no answer said that all had.
    #[arg(long)]
    assert: bool,
    #[command(flatten)]
    idle: idle::Options,
    #[command(flatten)]
    traffic: traffic::Options,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Many gateways and no traffic: from the call to the last gateway's refusal.
    Idle,
    /// One gateway under traffic: its p99 at rising rates of events.
    Traffic,
}

/// What `--json` gets.
#[derive(Serialize)]
struct Record {
    gateway: String,
    cores: usize,
    idle: Option<idle::Measured>,
    traffic: Option<traffic::Measured>,
}

impl Propagation {
    pub fn run(self) -> anyhow::Result<Outcome> {
        let limit = Limit::begin(Duration::from_secs(self.seconds))?;
        let binary = gateway::binary(self.binary.as_deref())?;
        launch::wake_in_time()?;
        let progress = Progress::new();
        let wanted = |part| self.only.is_none_or(|only| only == part);
        let mut record =
            Record { gateway: gateway::version(&binary)?, cores: cores(), idle: None, traffic: None };
        let mut text = format!("{}, {} cores\n", record.gateway, record.cores);
        if wanted(Part::Idle) {
            let measured = idle::measure(&self.idle, &binary, &limit, &progress)?;
            text += &measured.render();
            record.idle = Some(measured);
        }
        if wanted(Part::Traffic) {
            let measured = traffic::measure(&self.traffic, &binary, &limit, &progress)?;
            text += &measured.render();
            record.traffic = Some(measured);
        }
        if let Some(path) = &self.json {
            let write = || anyhow::Ok(serde_json::to_writer_pretty(File::create(path)?, &record)?);
            write().with_context(|| format!("writing {}", path.display()))?;
        }
        let failure = if self.assert { assertion(record.idle.as_ref()) } else { None };
        Ok(Outcome { text, failure })
    }
}

/// What does not hold.
fn assertion(idle: Option<&idle::Measured>) -> Option<String> {
    let Some(idle) = idle else {
        return Some("the part of which something can be asserted did not run".to_owned());
    };
    idle.broken_promise()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
