//! How CPU for a request grows with one thing while all else stays.

use anyhow::ensure;
use clap::ValueEnum;

use super::burst::{Shape, has_wrk};
use super::pass::pass;
use super::rounds::{Round, Spread, ratios, rotated};
use super::{Compare, Stage};
use crate::peers::{Kind, Place};
use crate::report::{Cell, Plot, Section, Series, Table};
use crate::stats::median;

/// Who is measured: what keygate adds to the floor, and what nginx adds.
pub const PEERS: [Kind; 3] = [Kind::Floor, Kind::NginxMap, Kind::Keygate];
/// Requests under way while all keys are used once before the measuring.
const WARM_UP_CONNECTIONS: usize = 32;

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
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

/// What was measured at one value, in the order of the peers.
struct Point {
    value: usize,
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
pub fn measure(axis: Axis, kinds: &[Kind], options: &Compare, stage: &Stage<'_>) -> anyhow::Result<Section> {
    ensure!(has_wrk(), "wrk is not here: loadtest/install-peers.sh installs it");
    let mut points = Vec::new();
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
            pass(peer.address, WARM_UP_CONNECTIONS, requests.iter().map(Vec::as_slice), stage.limit)?;
            stage.burst(peer, &shape, 1)?;
        }
        let mut rounds = vec![Vec::new(); peers.len()];
        for round in 0..options.rounds {
            for &place in rotated(&(0..peers.len()).collect::<Vec<_>>(), round) {
                let peer = &peers[place];
                stage.progress.say(&format!("{value} {}: {}", axis.name(), peer.kind.name()));
                rounds[place].push(stage.round(peer, &shape, options.seconds)?);
            }
        }
        let floor = kinds.iter().position(|&kind| kind == Kind::Floor);
        let ratio = |own: &Vec<Round>| floor.and_then(|floor| ratios(own, &rounds[floor]));
        let ratios = rounds.iter().map(ratio).collect();
        points.push(Point { value, rounds, ratios });
    }
    Ok(section(axis, kinds, &points))
}

fn section(axis: Axis, kinds: &[Kind], points: &[Point]) -> Section {
    let mut columns = vec![axis.name().to_owned()];
    for kind in kinds {
        columns.extend([format!("{} µs", kind.name()), "ratio".to_owned(), "RSS MiB".to_owned()]);
    }
    let mut table = Table { columns, rows: Vec::new() };
    let mut series: Vec<Series> =
        kinds.iter().map(|kind| Series { name: kind.name().to_owned(), points: Vec::new() }).collect();
    for Point { value, rounds, ratios } in points {
        let mut cells = Vec::new();
        for ((rounds, ratio), series) in rounds.iter().zip(ratios).zip(&mut series) {
            let middle = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure)).unwrap_or_default();
            let ratio = ratio.map_or(f64::NAN, |ratio| ratio.median);
            cells.push(Cell::number(middle(Round::total_us), 2));
            cells.push(Cell::number(ratio, 2));
            cells.push(Cell::number(middle(|round| round.resident_mib), 1));
            series.points.push(((*value as f64).max(1.0).log10(), middle(Round::total_us)));
        }
        table.row(value.to_string(), cells);
    }
    let title = format!("CPU for a request by {}", axis.name());
    let x_axis = format!("{}, as a power of ten", axis.name());
    let plot = Plot::Lines { title: title.clone(), x_axis, y_axis: "µs".to_owned(), series };
    let words = "Flat out, medians of the rounds; ratio to the kernel floor under the same load.".to_owned();
    Section { title, words, table: Some(table), plots: vec![plot] }
}
