//! What a gateway is put through: one file a scenario.

mod bodies;
mod churn;
mod forged;
mod herd;
mod idle;
mod keys;
mod misses;
mod outage;
mod revocation_burst;
mod run;
mod slow_upstream;
mod soak;
mod stage;
mod steady;
mod tell;
mod zipf;

use clap::{Args, Subcommand};

use crate::Outcome;
use run::{Common, Findings, Run, begin};

/// One scenario, with what all have.
#[derive(Args)]
pub struct With<S: Args> {
    // First, or its options would stand under the heading of the others.
    #[command(flatten)]
    scenario: S,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand)]
pub enum Scenarios {
    /// Keys that are in memory: throughput flat out, latency at a rate.
    Steady(With<steady::Steady>),
    /// Many keys, of which few are used often: what is remembered, what is read, and memory for a key.
    Zipf(With<zipf::Zipf>),
    /// Every request has another key that this gateway never saw: what a miss costs.
    Misses(With<misses::Misses>),
    /// Hundreds of requests at once with one key that is not in memory: the store is read once.
    Herd(With<herd::Herd>),
    /// A flood of keys that are none beside good traffic: the store is not read, and good traffic goes on.
    Forged(With<forged::Forged>),
    /// Many keys are revoked in the midst of traffic: none is accepted after its revocation was acknowledged.
    RevocationBurst(With<revocation_burst::RevocationBurst>),
    /// Redis is stopped, and then killed, in the midst of traffic: keys in use go on, and none is refused.
    Outage(With<outage::Outage>),
    /// An upstream that takes its time: concurrency and memory.
    SlowUpstream(With<slow_upstream::SlowUpstream>),
    /// Large bodies, both ways: throughput, CPU, memory, and none is damaged.
    Bodies(With<bodies::Bodies>),
    /// Thousands of connections without a request: memory for each, and how they are spread over workers.
    Idle(With<idle::Idle>),
    /// A new connection for every request.
    Churn(With<churn::Churn>),
    /// Steady traffic for long: memory over time.
    Soak(With<soak::Soak>),
    /// A short pass over each of these.
    All(Common),
}

/// A scenario that was given its options.
pub trait Scenario {
    /// As it is called.
    const NAME: &str;

    fn measure(&self, run: &Run<'_>) -> anyhow::Result<Findings>;

    /// With less of everything that takes long.
    fn shorten(&mut self) {}
}

impl Scenarios {
    pub fn run(self) -> anyhow::Result<Outcome> {
        match self {
            Scenarios::Steady(scenario) => scenario.run(),
            Scenarios::Zipf(scenario) => scenario.run(),
            Scenarios::Misses(scenario) => scenario.run(),
            Scenarios::Herd(scenario) => scenario.run(),
            Scenarios::Forged(scenario) => scenario.run(),
            Scenarios::RevocationBurst(scenario) => scenario.run(),
            Scenarios::Outage(scenario) => scenario.run(),
            Scenarios::SlowUpstream(scenario) => scenario.run(),
            Scenarios::Bodies(scenario) => scenario.run(),
            Scenarios::Idle(scenario) => scenario.run(),
            Scenarios::Churn(scenario) => scenario.run(),
            Scenarios::Soak(scenario) => scenario.run(),
            Scenarios::All(common) => begin(&common, "keygate under load", |run| {
                Ok(vec![
                    short::<steady::Steady>(run)?,
                    short::<zipf::Zipf>(run)?,
                    short::<misses::Misses>(run)?,
                    short::<herd::Herd>(run)?,
                    short::<forged::Forged>(run)?,
                    short::<revocation_burst::RevocationBurst>(run)?,
                    short::<outage::Outage>(run)?,
                    short::<slow_upstream::SlowUpstream>(run)?,
                    short::<bodies::Bodies>(run)?,
                    short::<idle::Idle>(run)?,
                    short::<churn::Churn>(run)?,
                    short::<soak::Soak>(run)?,
                ])
            }),
        }
    }
}

impl<S: Scenario + Args> With<S> {
    fn run(self) -> anyhow::Result<Outcome> {
        begin(&self.common, &format!("keygate under load: {}", S::NAME), |run| {
            Ok(vec![self.scenario.measure(&run.named(S::NAME))?])
        })
    }
}

/// With the options that it has when none is named.
fn short<S: Scenario + Args>(run: &Run<'_>) -> anyhow::Result<Findings> {
    let command = S::augment_args(clap::Command::new(S::NAME));
    let mut scenario = S::from_arg_matches(&command.get_matches_from([S::NAME]))?;
    scenario.shorten();
    scenario.measure(&run.shortly(S::NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_defaults() {
        let command = Scenarios::augment_subcommands(clap::Command::new("loadtest"));
        command.clone().debug_assert();
        for name in command.get_subcommands().map(|command| command.get_name().to_owned()) {
            let matches = command.clone().try_get_matches_from(["loadtest", &name]);
            assert!(matches.is_ok(), "{name}");
        }
    }
}
