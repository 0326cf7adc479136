//! Hundreds of requests at once with one key that is not in memory.

use std::thread;
use std::time::Duration;

use super::keys::{Uses, create, quiet};
use super::run::{Findings, Run};
use super::stage::Stage;
use super::{Scenario, tell};
use crate::load::connect;
use crate::load::lane::{Lane, drive};
use crate::load::{Measured, Recorder};
use crate::report::{Cell, Table};
use crate::schedule::burst;

/// The store stands still for so long at the beginning: less than a look-up may take, and enough for all to come.
const STILL: Duration = Duration::from_millis(60);
const LONGEST: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub struct Herd {
    /// Requests at once, each on a connection of its own.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(2..=5_000))]
    clients: u32,
    /// How often, each time with another key.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Worker threads of the gateway.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
}

impl Scenario for Herd {
    const NAME: &str = "herd";

    fn shorten(&mut self) {
        self.rounds = 3;
    }

    fn measure(&self, run: &Run<'_>) -> anyhow::Result<Findings> {
        let settings = [
            ("KEYGATE_WORKERS", self.workers.to_string()),
            // A worker sends as many requests at once as it has connections upstream; none shall wait for that here.
            ("KEYGATE_UPSTREAM__MAX_CONNECTIONS", self.clients.to_string()),
        ];
        let stage = Stage::with(run, Default::default(), &settings)?;
        let words = format!(
            "{} requests at once, each on a connection of its own, to a gateway with {} workers, with a key that is not in \
             memory. In the second row the store stands still for {} ms meanwhile, so that all of them come while it is read. \
             However many wait, it is read once.",
            self.clients,
            self.workers,
            STILL.as_millis()
        );
        let mut findings = Findings::new("Herd", &words);
        let mut table =
            Table::new(&["", "rounds", "requests", "not 200", "reads", "most reads", "p50 ms", "last ms"]);
        for (name, still) in [("the store answers at once", false), ("the store stands still first", true)] {
            let mut herds = Vec::new();
            let keys = create(run, &stage.gateway, self.rounds as usize)?;
            // A record that was read while a change of its key was on its way is read again, and rightly.
            quiet(run, &stage.gateway)?;
            for (key, round) in keys.iter().zip(1..) {
                run.enter(&format!("{name}, {round} of {}", self.rounds));
                herds.push(self.herd(run, &stage, &key.key, still)?);
            }
            let reads: Vec<f64> = herds.iter().map(|(_, reads)| *reads).collect();
            let most = reads.iter().copied().fold(0.0, f64::max);
            let sum =
                |value: fn(&Measured) -> u64| herds.iter().map(|(measured, _)| value(measured)).sum::<u64>();
            let longest =
                |share| herds.iter().map(|(measured, _)| measured.latency_ms(share)).fold(0.0, f64::max);
            let (requests, amiss) = (u64::from(self.clients * self.rounds), sum(tell::amiss));
            table.row(
                name,
                [
                    Cell::count(u64::from(self.rounds)),
                    Cell::count(requests),
                    Cell::count(amiss),
                    Cell::number(reads.iter().sum(), 0),
                    Cell::number(most, 0),
                    Cell::number(longest(0.5), 1),
                    Cell::number(longest(1.0), 1),
                ],
            );
            findings.expect(most == 1.0 && reads.iter().all(|reads| *reads == 1.0), || {
                format!("{name}: the store was read {reads:?} times, and not once a round")
            });
            findings.expect(amiss == 0 && sum(|measured| measured.answered) == requests, || {
                let statuses: Vec<_> = herds.iter().map(|(measured, _)| tell::statuses(measured)).collect();
                format!(
                    "{name}: {amiss} of {requests} requests were not answered with 200 ({})",
                    statuses.join("; ")
                )
            });
        }
        findings.section.table = Some(table);
        Ok(findings)
    }
}

impl Herd {
    /// What became of the herd, and how often the store was read.
    fn herd(&self, run: &Run<'_>, stage: &Stage, key: &str, still: bool) -> anyhow::Result<(Measured, f64)> {
        let mut uses = Uses::in_turn([key]);
        let connections = connect(stage.gateway.address(), self.clients as usize)?;
        let before = stage.reads()?;
        let mut recorder = Recorder::open(&mut uses, Duration::ZERO, LONGEST);
        let mut lanes = [Lane::new(burst(self.clients as usize), connections, &mut recorder)];
        thread::scope(|scope| {
            if still {
                stage.redis.freeze()?;
                scope.spawn(|| {
                    thread::sleep(STILL);
                    stage.redis.thaw()
                });
            }
            drive(&mut lanes, LONGEST, run.limit)
        })?;
        let [lane] = lanes;
        drop(lane);
        Ok((recorder.finish_early(), stage.reads()? - before))
    }
}
