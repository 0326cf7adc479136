//! Keys that nobody has in memory: each is used once, and a store has to be asked for it.

use anyhow::ensure;

use super::burst::Shape;
use super::peer::Measured;
use super::rounds::{Spread, ratios, rotated};
use super::view::percent;
use super::{Compare, Stage};
use crate::peers::Kind;
use crate::report::{Cell, Section, Table};

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
    let mut measured: Vec<Measured> = kinds.iter().map(|&kind| Measured::new(kind)).collect();
    for (round, keys) in all.chunks_exact(KEYS).enumerate() {
        let requests = Shape::plain(keys, options.connections).requests();
        for &place in rotated(&(0..peers.len()).collect::<Vec<_>>(), round) {
            let peer = &peers[place];
            stage.progress.say(&format!("round {} of {}: {}", round, options.rounds, peer.kind.name()));
            let (figures, passed) = stage.pass(peer, &requests, options.connections)?;
            ensure!(passed.all(200), "{} answered {:?}", peer.kind.name(), passed.by_status);
            if round > 0 {
                measured[place].rounds.push(figures);
            }
        }
    }
    let first = measured[0].rounds.clone();
    for peer in &mut measured {
        peer.ratio = ratios(&peer.rounds, &first);
    }
    Ok(section(&measured))
}

fn section(peers: &[Measured]) -> Section {
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
    for peer in peers {
        let Spread { median, min, max } = peer.ratio.unwrap_or(Spread::NONE);
        let (user, system) = (peer.median(|round| round.user_us), peer.median(|round| round.system_us));
        let cells = [user, system, peer.total_us(), median, min, max].map(|value| Cell::number(value, 2));
        let more = [Cell::number(peer.requests_per_second(), 0), percent(peer.median(|round| round.busy))];
        table.row(peer.peer.name(), cells.into_iter().chain(more));
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
