//! keygate beside others, in one run: CPU for a request as a multiple of the kernel floor, and latency.

pub mod burst;
pub mod latency;
pub mod pass;
mod peer;
pub mod rounds;
mod syscalls;
mod vary;
mod view;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::Outcome;
use crate::limit::Limit;
use crate::peers::keys::{self, Key};
use crate::peers::{Api, Kind, Peer, Place, unverified};
use crate::progress::Progress;
use crate::rig::cores::{Cores, stay_on};
use crate::rig::redis::Redis;
use crate::rig::{gateway, launch};
use burst::Shape;
use latency::{Latency, Plan};
use peer::Measured;
use rounds::rotated;

/// Keys that each peer knows beside the one that is used.
const OTHER_KEYS: usize = 1_000;
/// Of the capacity, where latency is measured.
const LOAD: f64 = 0.7;
/// After so long the run is over, whatever is left.
const LONGEST: Duration = Duration::from_secs(3_600);
const WARM_UP_S: u64 = 1;

/// The options of the scenario.
#[derive(clap::Args)]
pub struct Compare {
    /// How often each peer is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long at a time.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Only these, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "PEERS")]
    only: Vec<Kind>,
    /// How often latency is measured at each rate; 0 leaves it out.
    #[arg(long, default_value_t = 3, value_name = "TURNS")]
    latency: usize,
    /// Count the system calls of a request too. Needs strace.
    #[arg(long)]
    syscalls: bool,
    /// Instead: how CPU for a request grows with one thing. Needs wrk.
    #[arg(long, value_delimiter = ',', value_name = "WHAT")]
    vary: Vec<vary::Axis>,
    /// The gateway to measure; the one beside this program if none is named, built if it is not there.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// All that was measured goes into this file too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What `--json` gets.
#[derive(Serialize)]
pub struct Compared {
    gateway: String,
    rounds: usize,
    seconds: u64,
    connections: usize,
    generator: &'static str,
    peers: Vec<Measured>,
    varied: Vec<vary::Varied>,
    /// Who is not here, and how that is cured.
    skipped: Vec<String>,
}

/// What is there before any peer is.
pub struct Stage<'a> {
    pub cores: Cores,
    pub limit: &'a Limit,
    pub progress: &'a Progress,
    pub api: Api,
    pub redis: Redis,
    pub keys: Vec<Key>,
    keygate: PathBuf,
    unverified: Option<PathBuf>,
}

impl Compare {
    pub fn run(self) -> anyhow::Result<Outcome> {
        let limit = Limit::begin(LONGEST)?;
        let binary = gateway::binary(self.binary.as_deref())?;
        ensure!(self.rounds > 0 && self.connections > 0, "nothing would be measured");
        let mut compared = Compared {
            gateway: gateway::version(&binary)?,
            rounds: self.rounds,
            seconds: self.seconds,
            connections: self.connections,
            generator: if burst::has_wrk() { "wrk" } else { "built in" },
            peers: Vec::new(),
            varied: Vec::new(),
            skipped: Vec::new(),
        };
        let progress = Progress::new();
        if self.vary.is_empty() {
            let kinds = self.present(&mut compared.skipped, <Kind as clap::ValueEnum>::value_variants());
            let stage = Stage::set(&binary, &kinds, 1 + OTHER_KEYS, &limit, &progress)?;
            compared.peers = self.measure(&kinds, &stage)?;
        } else {
            let kinds = self.present(&mut compared.skipped, &vary::PEERS);
            let most = self.vary.iter().map(|axis| axis.keys()).max().unwrap_or(1);
            let stage = Stage::set(&binary, &kinds, most, &limit, &progress)?;
            for &axis in &self.vary {
                compared.varied.push(vary::measure(axis, &kinds, &self, &stage)?);
            }
        }
        drop(progress);
        if let Some(path) = &self.json {
            let write = || anyhow::Ok(serde_json::to_writer_pretty(File::create(path)?, &compared)?);
            write().with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(Outcome { text: compared.render(), failure: None })
    }

    /// Those that are wanted and installed.
    fn present(&self, skipped: &mut Vec<String>, all: &[Kind]) -> Vec<Kind> {
        let wanted = all.iter().copied().filter(|kind| self.only.is_empty() || self.only.contains(kind));
        let missing = |kind: &Kind| {
            let missing = kind.missing();
            skipped.extend(missing.iter().map(|why| format!("{}: {why}", kind.name())));
            missing.is_none()
        };
        wanted.filter(missing).collect()
    }

    fn measure(&self, kinds: &[Kind], stage: &Stage<'_>) -> anyhow::Result<Vec<Measured>> {
        let peers = stage.start(kinds)?;
        let keys = [stage.keys[0].text.clone()];
        let shape = Shape::plain(&keys, self.connections);
        let mut all: Vec<Measured> = kinds.iter().map(|&kind| Measured::new(kind)).collect();
        for peer in &peers {
            stage.progress.say(&format!("warming up {}", peer.kind.name()));
            stage.burst(peer, &shape, WARM_UP_S)?;
        }
        let numbered: Vec<usize> = (0..peers.len()).collect();
        for round in 0..self.rounds {
            for &number in rotated(&numbered, round) {
                let peer = &peers[number];
                stage.progress.say(&format!("round {} of {}: {}", round + 1, self.rounds, peer.kind.name()));
                all[number].rounds.push(stage.round(peer, &shape, self.seconds)?);
            }
        }
        if self.latency > 0 {
            self.latencies(&peers, &shape, &mut all, stage)?;
        }
        if self.syscalls && syscalls::has_strace() {
            for (peer, measured) in peers.iter().zip(&mut all) {
                stage.progress.say(&format!("system calls of {}", peer.kind.name()));
                measured.calls = syscalls::count(peer, &shape, stage)?;
            }
        }
        peer::against_the_floor(&mut all);
        Ok(all)
    }

    /// At the same share of what each can do, and at the same rate for all.
    fn latencies(
        &self,
        peers: &[Peer],
        shape: &Shape<'_>,
        all: &mut [Measured],
        stage: &Stage<'_>,
    ) -> anyhow::Result<()> {
        let request = shape.requests().swap_remove(0);
        let mut rates = Vec::new();
        for (peer, measured) in peers.iter().zip(all.iter_mut()) {
            let ours = latency::capacity(peer.address, &request, self.connections, stage.limit)?;
            measured.capacity = ours.min(measured.requests_per_second());
            rates.push(LOAD * measured.capacity);
        }
        let yardstick = kinds_or_first(peers, Kind::NginxMap);
        let common = yardstick.map_or(0.0, |number| rates[number]);
        let mut turns = vec![[Vec::new(), Vec::new()]; peers.len()];
        let numbered: Vec<usize> = (0..peers.len()).collect();
        for turn in 0..self.latency {
            for &number in rotated(&numbered, turn) {
                let peer = &peers[number];
                for (rate, turns) in [rates[number], common].into_iter().zip(&mut turns[number]) {
                    stage.progress.say(&format!("latency of {} at {rate:.0}/s", peer.kind.name()));
                    let plan = Plan {
                        address: peer.address,
                        request: &request,
                        connections: self.connections,
                        rate,
                        span: Duration::from_secs(self.seconds),
                        seed: turn as u64,
                    };
                    turns.push(plan.measure(peer.process(), stage.limit)?);
                }
            }
        }
        for (measured, [own, common]) in all.iter_mut().zip(turns) {
            measured.at_own_rate = Latency::median_of(&own);
            measured.at_common_rate = Latency::median_of(&common);
        }
        Ok(())
    }
}

/// Where this kind is; the first of all if it is not among them.
fn kinds_or_first(peers: &[Peer], kind: Kind) -> Option<usize> {
    peers.iter().position(|peer| peer.kind == kind).or((!peers.is_empty()).then_some(0))
}

impl<'a> Stage<'a> {
    /// Builds what has to be built, then starts what all need. From here on this process leaves the measured core alone.
    pub fn set(
        binary: &Path,
        kinds: &[Kind],
        keys: usize,
        limit: &'a Limit,
        progress: &'a Progress,
    ) -> anyhow::Result<Stage<'a>> {
        let unverified = if kinds.contains(&Kind::Unverified) { Some(unverified::build()?) } else { None };
        let cores = Cores::split()?;
        stay_on(&cores.others)?;
        launch::wake_in_time()?;
        let redis = Redis::start(&cores.others, limit)?;
        let api = Api::start(&cores.others, limit)?;
        let keys = Key::some(keys);
        if kinds.contains(&Kind::NginxLua) {
            keys::store(&redis, &keys)?;
        }
        Ok(Stage { cores, limit, progress, api, redis, keys, keygate: binary.to_owned(), unverified })
    }

    fn start(&self, kinds: &[Kind]) -> anyhow::Result<Vec<Peer>> {
        kinds.iter().map(|kind| kind.start(&self.place(), self.limit)).collect()
    }

    fn place(&self) -> Place<'_> {
        Place {
            api: &self.api,
            redis: &self.redis,
            keys: &self.keys,
            cores: &self.cores.measured,
            keygate: &self.keygate,
            unverified: self.unverified.as_deref(),
            workers: 1,
        }
    }

    fn burst(&self, peer: &Peer, shape: &Shape<'_>, seconds: u64) -> anyhow::Result<burst::Burst> {
        burst::burst(peer.address, shape, seconds, &self.cores.others, self.limit)
            .with_context(|| format!("a burst at {}", peer.kind.name()))
    }

    /// One burst, and what the peer used for it.
    fn round(&self, peer: &Peer, shape: &Shape<'_>, seconds: u64) -> anyhow::Result<rounds::Round> {
        let before = peer.process().cpu()?;
        let burst = self.burst(peer, shape, seconds)?;
        let used = peer.process().cpu()? - before;
        let resident = peer.process().resident_bytes()?;
        Ok(rounds::Round::new(used, burst.requests, burst.span.as_secs_f64(), resident))
    }
}
