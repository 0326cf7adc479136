//! Load tests of keygate: they start the real binary, a real Redis and a small upstream, measure, and end all of it.

mod against;
mod compare;
mod limit;
mod load;
mod peers;
mod progress;
mod propagation;
mod report;
mod rig;
mod scenarios;
mod schedule;
mod stats;
mod table;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use against::Against;
use compare::Compare;
use limit::Interrupted;
use peers::floor::Floor;
use peers::responder::Responder;
use propagation::Propagation;
use rig::launch::Become;
use scenarios::Scenarios;

/// Load tests of keygate. Everything is on 127.0.0.1 and ends with the run.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// How fast a revocation reaches a fleet, and what events cost the traffic.
    Propagation(Propagation),
    #[command(flatten)]
    Load(Scenarios),
    /// keygate beside other proxies: CPU for a request, latency, memory.
    Compare(Compare),
    /// This tree beside an earlier commit: which figures have moved.
    Against(Against),
    /// A byte forwarder: the least that a proxied request costs. To be measured beside; see `peers/floor.rs`.
    #[command(hide = true)]
    Floor(Floor),
    /// The upstream of what is measured beside; see `peers/responder.rs`.
    #[command(hide = true)]
    Responder(Responder),
    /// What a child does first; see `rig/launch.rs`.
    #[command(hide = true)]
    Become(Become),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().scenario {
        Scenario::Propagation(scenario) => scenario.run(),
        Scenario::Load(scenario) => scenario.run(),
        Scenario::Compare(scenario) => scenario.run(),
        Scenario::Against(scenario) => scenario.run(),
        Scenario::Floor(floor) => floor.run().map(|never| match never {}),
        Scenario::Responder(responder) => responder.run().map(|never| match never {}),
        Scenario::Become(child) => child.run().map(|never| match never {}),
    };
    let verdict = result.and_then(|outcome| {
        io::stdout().write_all(outcome.text.as_bytes())?;
        Ok(outcome.failure)
    });
    let mut errors = io::stderr();
    match verdict {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(failure)) => {
            let _ = writeln!(errors, "\nFAILED: {failure}");
            ExitCode::FAILURE
        }
        Err(error) if error.is::<Interrupted>() => {
            let _ = writeln!(errors, "\nstopped by a signal; all that was started is ended");
            ExitCode::from(130)
        }
        Err(error) => {
            let _ = writeln!(errors, "\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What a scenario has to say in the end.
struct Outcome {
    /// For stdout.
    text: String,
    /// What did not hold, if something was asserted.
    failure: Option<String>,
}
