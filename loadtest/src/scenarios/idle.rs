//! Thousands of connections without a request.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::keys::{Uses, create};
use super::run::{Findings, Run};
use super::stage::Stage;
use super::{Scenario, tell};
use crate::load::lane::{Lane, drive};
use crate::load::{Measured, Recorder};
use crate::report::{Cell, Table};
use crate::rig::launch::Process;
use crate::rig::watch::watched_by;
use crate::schedule::evenly;

/// Connections a second: the gateway takes them as they come, and none has to ask twice.
const RATE: f64 = 4_000.0;
const BYTES_EACH: f64 = 12.0 * 1024.0;
/// What connections leave behind is used again by others: they may take so much more.
const AGAIN: f64 = 1.05;
/// With fewer connections the rest of the memory is all that is seen.
const ENOUGH: u32 = 5_000;
/// Fewer than one source address has ports for, with room to spare.
const PER_SOURCE: u32 = 20_000;
/// Beside the connections: files, pipes, the store.
const OTHER_FILES: u64 = 500;
const PATIENCE: Duration = Duration::from_secs(10);
/// Memory that has not got less for so long stays.
const REST: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
pub struct Idle {
    /// Connections. More than 18,000 need a higher limit of open files, and `max_connections` is raised too.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    clients: u32,
    /// Worker threads of the gateway, among which the connections are to be spread evenly.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// After all have gone, as many come again so often.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(0..=200))]
    again: u8,
}

impl Scenario for Idle {
    const NAME: &str = "idle";

    fn shorten(&mut self) {
        self.clients = 5_000;
    }

    fn measure(&self, run: &Run<'_>) -> anyhow::Result<Findings> {
        allow_files(u64::from(self.clients) + OTHER_FILES)?;
        let settings = [
            ("KEYGATE_WORKERS", self.workers.to_string()),
            ("KEYGATE_LIMITS__MAX_CONNECTIONS", (self.clients + 1_000).to_string()),
        ];
        let stage = Stage::with(run, Default::default(), &settings)?;
        let key = create(run, &stage.gateway, 1)?.swap_remove(0).key;
        stage.warm(run, &mut Uses::in_turn([key.as_str()]))?;
        let before = stage.gateway.process().resident_bytes()?;

        run.enter("connecting");
        let first = self.wave(run, &stage, &key, 0)?;
        let left = gone(&stage, run)?;
        let after = stage.gateway.process().resident_bytes()?;
        run.enter("connecting again");
        let mut again = Vec::new();
        for nth in 1..=self.again {
            again.push(self.wave(run, &stage, &key, nth)?);
            gone(&stage, run)?;
        }
        let Wave { open, at_once, memory, spread, told, measured } = &first;
        let (open, told) = (*open, *told);
        let each = memory.saturating_sub(before) as f64 / open as f64;

        let words = format!(
            "{open} connections that had one request each and now have none, to a gateway with {} workers. How many each \
             worker has is what the kernel says of the sockets that it watches: keygate's own metrics tell only the sum.",
            self.workers
        );
        let mut findings = Findings::new("Idle connections", &words);
        let mut table = Table::new(&["", ""]);
        table.row("memory before", [Cell::with_unit(tell::mebibytes(before), 1, "MiB")]);
        table.row("with all, at once", [Cell::with_unit(tell::mebibytes(*at_once), 1, "MiB")]);
        table.row("with all, at rest", [Cell::with_unit(tell::mebibytes(*memory), 1, "MiB")]);
        table.row("each, at rest", [Cell::with_unit(each / 1024.0, 2, "KiB")]);
        table.row("after all have gone", [Cell::with_unit(tell::mebibytes(after), 1, "MiB")]);
        for (wave, nth) in again.iter().zip(2..) {
            let memory = Cell::with_unit(tell::mebibytes(wave.memory), 1, "MiB");
            table.row(format!("with all, time {nth}"), [memory]);
        }
        table.row("keygate_connections", [Cell::number(told, 0)]);
        table.row("  after all have gone", [Cell::number(left, 0)]);
        for (nth, sockets) in spread.iter().enumerate() {
            table.row(format!("sockets of worker {}", nth + 1), [Cell::count(*sockets)]);
        }
        findings.section.table = Some(table);
        for measured in again.iter().map(|wave| &wave.measured).chain([measured]) {
            findings.expect(tell::amiss(measured) == 0, || {
                format!("{} requests not as expected ({})", tell::amiss(measured), tell::statuses(measured))
            });
        }
        findings.expect(told == open as f64, || {
            format!("keygate counts {told} connections, and {open} are open")
        });
        findings
            .expect(left == 0.0, || format!("keygate still counts {left} connections after all have gone"));
        findings.expect(self.clients < ENOUGH || each <= BYTES_EACH, || {
            format!("{each:.0} bytes of memory for an idle connection, and {BYTES_EACH} were promised")
        });
        // The first time again may still find pieces that do not fit; from then on all has its place.
        let last = again.iter().map(|wave| wave.memory).rev().take(2).collect::<Vec<_>>();
        if let [last, before] = last[..] {
            findings.expect(last as f64 <= before as f64 * AGAIN, || {
                let more = tell::mebibytes(last.saturating_sub(before));
                format!("as many connections once more take {more:.1} MiB more: what others left is not used again")
            });
        }
        // Each worker watches some sockets of its own besides: a waker, connections upstream.
        let [most, least] =
            [spread.iter().max(), spread.iter().min()].map(|sockets| sockets.copied().unwrap_or(0));
        findings.expect(most - least <= 2 + open as u64 / 100, || {
            format!("the workers have {spread:?} sockets: they are not spread evenly")
        });
        Ok(findings)
    }
}

/// All connections at once, and what the gateway says of them.
struct Wave {
    open: usize,
    /// Memory when the last request was answered.
    at_once: u64,
    /// And when it does not get less any more.
    memory: u64,
    spread: Vec<u64>,
    told: f64,
    measured: Measured,
}

impl Idle {
    /// Connects all, with one request each, and lets them go again.
    fn wave(&self, run: &Run<'_>, stage: &Stage, key: &str, nth: u8) -> anyhow::Result<Wave> {
        let mut uses = Uses::in_turn([key]);
        let clients = self.clients as usize;
        let span = Duration::from_secs_f64(f64::from(self.clients) / RATE);
        let mut recorder = Recorder::open(&mut uses, Duration::ZERO, span * 2);
        // The ports of those before are not free yet: each time has source addresses of its own.
        let hosts = 0..=self.clients / PER_SOURCE;
        let sources: Vec<_> = hosts.map(|host| Ipv4Addr::new(127, 0, 1 + nth, 1 + host as u8)).collect();
        let (address, process) = (stage.gateway.address(), stage.gateway.process());
        // A connection is used again only when all others have been, and there are as many requests as connections.
        let lane = Lane::unconnected(evenly(clients, RATE), address, clients, &sources, &mut recorder);
        let mut lanes = [lane.patient()];
        drive(&mut lanes, span, run.limit)?;
        let open = lanes[0].connected();
        let at_once = process.resident_bytes()?;
        let memory = at_rest(process, run)?;
        let spread = watched_by(process.pid(), self.workers as usize)?;
        let told = stage.gateway.scrape()?.sum("keygate_connections");
        let [lane] = lanes;
        let left_over = lane.left_over();
        Ok(Wave { open, at_once, memory, spread, told, measured: recorder.finish(left_over) })
    }
}

/// What the process holds when it does not get less any more: a connection is idle some seconds after its last request.
fn at_rest(process: &Process, run: &Run<'_>) -> anyhow::Result<u64> {
    let deadline = Instant::now() + PATIENCE;
    let (mut least, mut fell) = (process.resident_bytes()?, Instant::now());
    while fell.elapsed() < REST && Instant::now() < deadline {
        run.limit.check()?;
        std::thread::sleep(Duration::from_millis(100));
        let now = process.resident_bytes()?;
        if now < least {
            (least, fell) = (now, Instant::now());
        }
    }
    Ok(least)
}

/// How many connections the gateway still counts, after a while if need be.
fn gone(stage: &Stage, run: &Run<'_>) -> anyhow::Result<f64> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        run.limit.check()?;
        let left = stage.gateway.scrape()?.sum("keygate_connections");
        if left == 0.0 || Instant::now() > deadline {
            return Ok(left);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// For this process and those that it starts.
fn allow_files(wanted: u64) -> anyhow::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: maximum.map(|maximum| maximum.max(wanted)) };
        setrlimit(Resource::Nofile, raised).with_context(|| format!("allowing {wanted} open files"))?;
    }
    Ok(())
}
