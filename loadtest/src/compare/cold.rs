//! Keys that nobody has in memory: each is used once, and a store has to be asked for it.

use anyhow::ensure;

use super::burst::Shape;
use super::rounds::{Round, Spread, ratios, rotated};
use super::{Compare, Stage};
use crate::peers::Kind;
use crate::report::{Cell, Section, Table};
use crate::stats::median;

/// Who asks a store at all.
pub const PEERS: [Kind; 2] = [Kind::NginxLua, Kind::Keygate];
/// Of a round.
const KEYS: usize = 10_000;

/// A round, in words.
pub const LENGTH: &str = "10,000 requests";

/// How many keys the peers have to know.
pub fn keys(rounds: usize) -> usize {
    // One round more, in which connections are made.
    (rounds + 1) * KEYS
}

/// The peers in turn, each round with keys of its own.
pub fn measure(kinds: &[Kind], options: &Compare, stage: &Stage<'_>) -> anyhow::Result<Section> {
    let peers = stage.start(kinds)?;
    let all: Vec<String> = stage.keys.iter().map(|key| key.text.clone()).collect();
    let mut rounds = vec![Vec::new(); peers.len()];
    for (round, keys) in all.chunks_exact(KEYS).enumerate() {
        let requests = Shape::plain(keys, options.connections).requests();
        for &place in rotated(&(0..peers.len()).collect::<Vec<_>>(), round) {
            let peer = &peers[place];
            stage.progress.say(&format!("round {} of {}: {}", round, options.rounds, peer.kind.name()));
            let (measured, passed) = stage.pass(peer, &requests, options.connections)?;
            ensure!(passed.all(200), "{} answered {:?}", peer.kind.name(), passed.by_status);
            if round > 0 {
                rounds[place].push(measured);
            }
        }
    }
    Ok(section(kinds, &rounds))
}

fn section(kinds: &[Kind], rounds: &[Vec<Round>]) -> Section {
    let mut table = Table::new(&[
        "",
        "user µs",
        "system µs",
        "CPU µs",
        "ratio",
        "least",
        "greatest",
        "requests/s",
        "its core",
    ]);
    for (kind, own) in kinds.iter().zip(rounds) {
        let middle = |figure: fn(&Round) -> f64| median(own.iter().map(figure)).unwrap_or(f64::NAN);
        let none = Spread { median: f64::NAN, min: f64::NAN, max: f64::NAN };
        let Spread { median: ratio, min, max } = ratios(own, &rounds[0]).unwrap_or(none);
        let (user, system) = (middle(|round| round.user_us), middle(|round| round.system_us));
        let mut cells = [user, system, middle(Round::total_us), ratio, min, max]
            .map(|value| Cell::number(value, 2))
            .to_vec();
        cells.push(Cell::number(middle(|round| round.requests_per_second), 0));
        cells.push(Cell::with_unit(middle(|round| round.busy) * 100.0, 0, "%"));
        table.row(kind.name(), cells);
    }
    let words = format!(
        "{LENGTH} a round, each with a key that the peer has never seen and its Redis has; medians of the rounds. The \
         ratio is to the first row. Where a peer does not use its whole core, it waits for Redis, which shares the other \
         core with load and upstream."
    );
    Section {
        title: "Keys that nobody has in memory".to_owned(),
        words,
        table: Some(table),
        ..Section::default()
    }
}
