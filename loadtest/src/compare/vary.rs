//! How CPU for a request grows with one thing while all else stays.

use anyhow::ensure;
use clap::ValueEnum;
use serde::Serialize;

use super::burst::{Shape, has_wrk};
use super::pass::pass;
use super::rounds::{Round, Spread, ratios, rotated};
use super::{Compare, Stage};
use crate::peers::{Kind, Place};
use crate::row;
use crate::stats::median;
use crate::table::render;

/// Who is measured: what keygate adds to the floor, and what nginx adds.
pub const PEERS: [Kind; 3] = [Kind::Floor, Kind::NginxMap, Kind::Keygate];
/// Requests under way while all keys are used once before the measuring.
const WARM_UP_CONNECTIONS: usize = 32;

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Axis {
    /// Distinct keys that are used in turn.
    Keys,
    Connections,
    /// Header lines of a request.
    Headers,
    /// Bytes of a request's body.
    Body,
    /// Workers of keygate, each with a core while there are some.
    Workers,
}

/// One axis.
#[derive(Serialize)]
pub struct Varied {
    axis: Axis,
    peers: Vec<Kind>,
    points: Vec<Point>,
}

#[derive(Serialize)]
struct Point {
    value: usize,
    /// In the order of the peers.
    rounds: Vec<Vec<Round>>,
    /// To the floor in the same rounds.
    ratios: Vec<Option<Spread>>,
}

impl Axis {
    fn values(self) -> &'static [usize] {
        match self {
            Axis::Keys => &[1, 10, 100, 1_000, 10_000, 100_000],
            Axis::Connections => &[1, 4, 16, 64, 256, 1_024],
            Axis::Headers => &[2, 8, 16, 32],
            Axis::Body => &[0, 1 << 10, 16 << 10, 128 << 10, 1 << 20],
            Axis::Workers => &[1, 2],
        }
    }

    /// How many keys the peers have to know.
    pub fn keys(self) -> usize {
        match self {
            Axis::Keys => 100_000,
            _ => 1_001,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Axis::Keys => "distinct keys",
            Axis::Connections => "connections",
            Axis::Headers => "header lines",
            Axis::Body => "bytes of body",
            Axis::Workers => "workers of keygate",
        }
    }
}

/// Each value in turn; at each, the peers in turn, in as many rounds as were asked for.
pub fn measure(axis: Axis, kinds: &[Kind], options: &Compare, stage: &Stage<'_>) -> anyhow::Result<Varied> {
    ensure!(has_wrk(), "wrk is not here: loadtest/install-peers.sh installs it");
    let mut varied = Varied { axis, peers: kinds.to_vec(), points: Vec::new() };
    let all: Vec<String> = stage.keys.iter().map(|key| key.text.clone()).collect();
    for &value in axis.values() {
        let (workers, cores) = match axis {
            Axis::Workers => (value, stage.cores.first(value)),
            _ => (1, stage.cores.measured.clone()),
        };
        let place = Place { workers, cores: &cores, ..stage.place() };
        let alone = stage.place();
        let start =
            |kind: &Kind| kind.start(if *kind == Kind::Keygate { &place } else { &alone }, stage.limit);
        let peers = kinds.iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
        let keys = if axis == Axis::Keys { &all[..value] } else { &all[..1] };
        let plain = Shape::plain(keys, options.connections);
        let shape = match axis {
            Axis::Connections => Shape { connections: value, ..plain },
            Axis::Headers => Shape { headers: value, ..plain },
            Axis::Body => Shape { body: value, ..plain },
            Axis::Keys | Axis::Workers => plain,
        };
        for peer in &peers {
            stage.progress.say(&format!("{value} {}: warming up {}", axis.name(), peer.kind.name()));
            let requests = Shape { body: 0, ..shape }.requests();
            pass(peer.address, WARM_UP_CONNECTIONS, requests.iter().map(Vec::as_slice), None, stage.limit)?;
            stage.burst(peer, &shape, 1)?;
        }
        let numbered: Vec<usize> = (0..peers.len()).collect();
        let mut rounds = vec![Vec::new(); peers.len()];
        for round in 0..options.rounds {
            for &number in rotated(&numbered, round) {
                let peer = &peers[number];
                stage.progress.say(&format!("{value} {}: {}", axis.name(), peer.kind.name()));
                rounds[number].push(stage.round(peer, &shape, options.seconds)?);
            }
        }
        let floor = kinds.iter().position(|&kind| kind == Kind::Floor);
        let ratio = |own: &Vec<Round>| floor.and_then(|floor| ratios(own, &rounds[floor]));
        let ratios = rounds.iter().map(ratio).collect();
        varied.points.push(Point { value, rounds, ratios });
    }
    Ok(varied)
}

impl Varied {
    pub fn render(&self) -> String {
        let mut head = row![self.axis.name()];
        for peer in &self.peers {
            head.extend(row![peer.name(), "ratio", "MiB"]);
        }
        let mut rows = vec![head];
        for point in &self.points {
            let mut row = row![point.value];
            for (rounds, ratio) in point.rounds.iter().zip(&point.ratios) {
                let middle =
                    |figure: fn(&Round) -> f64| median(rounds.iter().map(figure)).unwrap_or_default();
                row.push(format!("{:.2} µs", middle(Round::total_us)));
                row.push(ratio.map_or(String::new(), |ratio| format!("{:.2}", ratio.median)));
                row.push(format!("{:.1}", middle(|round| round.resident_mib)));
            }
            rows.push(row);
        }
        format!("\nCPU for a request by {}\n\n{}", self.axis.name(), render(&rows))
    }
}
