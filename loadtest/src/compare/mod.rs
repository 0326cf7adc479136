//! keygate beside others, in one run: CPU for a request as a multiple of the kernel floor, and latency.

pub mod burst;
mod cold;
pub mod latency;
pub mod pass;
mod peer;
pub mod rounds;
mod syscalls;
mod vary;
mod view;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::ValueEnum;

use crate::Outcome;
use crate::limit::Limit;
use crate::peers::keys::{self, Key};
use crate::peers::{Api, Kind, Peer, Place, unverified};
use crate::progress::Progress;
use crate::report::{Files, Report, Section};
use crate::rig::cores::{Cores, stay_on};
use crate::rig::redis::Redis;
use crate::rig::{gateway, launch, vitals};
use burst::{Requests, Shape};
use latency::Latency;
use pass::{Passed, pass};
use peer::Measured;
use rounds::rotated;

/// Keys that each peer knows beside the one that is used.
const OTHER_KEYS: usize = 1_000;
/// Of the capacity, where latency is measured.
const LOAD: f64 = 0.7;
/// After so long the run is over, whatever is left.
const LONGEST: Duration = Duration::from_secs(3_600);
/// How much of the measured core others may use in a round, and how often a round is tried until they do not.
const QUIET: f64 = 0.02;
const TRIES: usize = 3;
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
    /// Instead: what a request costs whose key is not in memory, for those that ask a store.
    #[arg(long, conflicts_with = "vary")]
    cold: bool,
    /// The gateway to measure; the one beside this program if none is named, built if it is not there.
    #[arg(long)]
    binary: Option<PathBuf>,
    #[command(flatten)]
    files: Files,
}

/// What is there before any peer is.
pub struct Stage<'a> {
    pub cores: Cores,
    pub limit: &'a Limit,
    pub progress: &'a Progress,
    pub api: Api,
    pub redis: Redis,
    lua_redis: Option<Redis>,
    pub keys: Vec<Key>,
    keygate: PathBuf,
    unverified: Option<PathBuf>,
}

impl Compare {
    pub fn run(self) -> anyhow::Result<Outcome> {
        let limit = Limit::begin(LONGEST)?;
        let binary = gateway::binary(self.binary.as_deref())?;
        ensure!(self.rounds > 0 && self.connections > 0, "nothing would be measured");
        let mut report = Report::begin(&format!("{} beside others", gateway::version(&binary)?));
        let progress = Progress::new();
        let mut skipped = Vec::new();
        if self.cold {
            let kinds = self.present(&mut skipped, &cold::PEERS);
            let stage = Stage::set(&binary, &kinds, cold::keys(self.rounds), &limit, &progress)?;
            report.sections.push(cold::measure(&kinds, &self, &stage)?);
        } else if self.vary.is_empty() {
            let kinds = self.present(&mut skipped, Kind::value_variants());
            let stage = Stage::set(&binary, &kinds, 1 + OTHER_KEYS, &limit, &progress)?;
            report.sections = self.sections(&self.measure(&kinds, &stage)?);
        } else {
            let kinds = self.present(&mut skipped, &vary::PEERS);
            let most = self.vary.iter().map(|axis| axis.keys()).max().unwrap_or(1);
            let stage = Stage::set(&binary, &kinds, most, &limit, &progress)?;
            for &axis in &self.vary {
                report.sections.push(vary::measure(axis, &kinds, &self, &stage)?);
            }
        }
        report.sections.push(self.conditions(&skipped));
        drop(progress);
        report.write(&self.files)?;
        Ok(Outcome { text: report.text(), failure: None })
    }

    fn sections(&self, peers: &[Measured]) -> Vec<Section> {
        let mut sections = vec![view::cpu(peers)];
        if self.latency > 0 {
            sections.push(view::latency("Latency at 70 % of what each can do", peers, |peer| {
                peer.at_own_rate.as_ref()
            }));
            sections
                .push(view::latency("Latency at the same rate", peers, |peer| peer.at_common_rate.as_ref()));
        }
        if peers.iter().any(|peer| !peer.calls.is_empty()) {
            sections.push(view::calls(peers));
        }
        sections
    }

    /// How it was measured, and who was not.
    fn conditions(&self, skipped: &[String]) -> Section {
        let Compare { rounds, seconds, connections, .. } = self;
        let generator = if burst::has_wrk() && !self.cold { "wrk" } else { "the built-in generator" };
        let length = if self.cold { cold::LENGTH.to_owned() } else { format!("{seconds} s") };
        let mut words = format!(
            "{rounds} rounds of {length} with {connections} connections, flat out by {generator}. Peers have one core and \
             one worker, load and upstream the others."
        );
        for who in skipped {
            words += &format!("\n\nSkipped: {who}.");
        }
        Section { title: "How it was measured".to_owned(), words, ..Section::default() }
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
        for round in 0..self.rounds {
            for &place in rotated(&(0..peers.len()).collect::<Vec<_>>(), round) {
                let peer = &peers[place];
                stage.progress.say(&format!("round {} of {}: {}", round + 1, self.rounds, peer.kind.name()));
                all[place].rounds.push(stage.round(peer, &shape, self.seconds)?);
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
        let mut requests = Requests::of(shape);
        let mut rates = Vec::new();
        for (peer, measured) in peers.iter().zip(all.iter()) {
            let capacity = latency::capacity(peer, &mut requests, self.connections, stage)?;
            rates.push(LOAD * capacity.min(measured.requests_per_second()));
        }
        let common = place_of(peers, Kind::NginxMap).map_or(0.0, |place| rates[place]);
        let mut turns = vec![[Vec::new(), Vec::new()]; peers.len()];
        let span = Duration::from_secs(self.seconds);
        for turn in 0..self.latency {
            for &place in rotated(&(0..peers.len()).collect::<Vec<_>>(), turn) {
                stage.progress.enter(&format!("latency of {}", peers[place].kind.name()));
                for (rate, turns) in [rates[place], common].into_iter().zip(&mut turns[place]) {
                    let (peer, seed) = (&peers[place], turn as u64);
                    turns.push(latency::measure(
                        peer,
                        &mut requests,
                        self.connections,
                        rate,
                        span,
                        seed,
                        stage,
                    )?);
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
fn place_of(peers: &[Peer], kind: Kind) -> Option<usize> {
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
        let mut lua_redis = None;
        if kinds.contains(&Kind::NginxLua) {
            keys::store(lua_redis.insert(Redis::start(&cores.others, limit)?), &keys)?;
        }
        Ok(Stage {
            cores,
            limit,
            progress,
            api,
            redis,
            lua_redis,
            keys,
            keygate: binary.to_owned(),
            unverified,
        })
    }

    fn start(&self, kinds: &[Kind]) -> anyhow::Result<Vec<Peer>> {
        kinds.iter().map(|kind| kind.start(&self.place(), self.limit)).collect()
    }

    fn place(&self) -> Place<'_> {
        Place {
            api: &self.api,
            redis: &self.redis,
            lua_redis: self.lua_redis.as_ref(),
            keys: &self.keys,
            cores: &self.cores.measured,
            keygate: &self.keygate,
            unverified: self.unverified.as_deref(),
            workers: 1,
        }
    }

    fn burst(&self, peer: &Peer, shape: &Shape<'_>, seconds: u64) -> anyhow::Result<burst::Burst> {
        burst::burst(peer.address, shape, seconds, &self.cores.others, self.limit, self.progress)
            .with_context(|| format!("a burst at {}", peer.kind.name()))
    }

    /// A round in which the peer had its core for itself; of [`TRIES`] rounds the one in which it was disturbed least.
    fn round(&self, peer: &Peer, shape: &Shape<'_>, seconds: u64) -> anyhow::Result<rounds::Round> {
        let mut best = self.try_round(peer, shape, seconds)?;
        for _ in 1..TRIES {
            if best.others <= QUIET {
                break;
            }
            let again = self.try_round(peer, shape, seconds)?;
            best = if again.others < best.others { again } else { best };
        }
        Ok(best)
    }

    /// One burst, and what the peer used for it.
    fn try_round(&self, peer: &Peer, shape: &Shape<'_>, seconds: u64) -> anyhow::Result<rounds::Round> {
        let burst = || {
            let burst = self.burst(peer, shape, seconds)?;
            Ok((burst.requests, burst.span, ()))
        };
        Ok(self.measured(peer, burst)?.0)
    }

    /// Each of these requests once, and what the peer used for them.
    fn pass(
        &self,
        peer: &Peer,
        requests: &[Vec<u8>],
        connections: usize,
    ) -> anyhow::Result<(rounds::Round, Passed)> {
        self.measured(peer, || {
            let passed = pass(peer.address, connections, requests.iter().map(Vec::as_slice), self.limit)?;
            Ok((passed.answered(), passed.span, passed))
        })
    }

    /// What the peer used while something was done, which tells how many requests it made and in which time.
    fn measured<T>(
        &self,
        peer: &Peer,
        load: impl FnOnce() -> anyhow::Result<(u64, Duration, T)>,
    ) -> anyhow::Result<(rounds::Round, T)> {
        let worked = || {
            let cores = self.cores.measured.iter();
            cores.map(|&core| vitals::core_seconds(core)).sum::<anyhow::Result<f64>>()
        };
        let (before, worked_before) = (peer.process().cpu()?, worked()?);
        let (requests, span, made) = load()?;
        let (used, worked) = (peer.process().cpu()? - before, worked()? - worked_before);
        let resident = peer.process().resident_bytes()?;
        Ok((rounds::Round::new(used, worked, requests, span.as_secs_f64(), resident), made))
    }
}
