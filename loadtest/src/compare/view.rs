//! What was compared, as sections of a report.

use std::collections::BTreeSet;

use super::latency::Latency;
use super::peer::Measured;
use super::rounds::{Spread, ratios};
use crate::peers::Kind;
use crate::report::{Bar, Cell, Plot, Section, Series, Table};

/// Who costs what.
pub fn cpu(peers: &[Measured]) -> Section {
    let mut table = Table::new(&[
        "",
        "user µs",
        "system µs",
        "CPU µs",
        "ratio",
        "least",
        "greatest",
        "at best",
        "requests/s",
        "its core",
        "others",
        "RSS MiB",
    ]);
    let mut bars = Vec::new();
    for peer in peers {
        let (user, system) = (peer.median(|round| round.user_us), peer.median(|round| round.system_us));
        let Spread { median, min, max } = peer.ratio.unwrap_or(Spread::NONE);
        let cells = [user, system, peer.total_us(), median, min, max, peer.ratio_at_best]
            .map(|value| Cell::number(value, 2));
        let more = [
            Cell::number(peer.requests_per_second(), 0),
            percent(peer.median(|round| round.busy)),
            percent(peer.rounds.iter().map(|round| round.others).fold(0.0, f64::max)),
            Cell::number(peer.median(|round| round.resident_mib), 1),
        ];
        table.row(peer.peer.name(), cells.into_iter().chain(more));
        bars.push(Bar {
            name: peer.peer.name().to_owned(),
            parts: vec![("user".to_owned(), user), ("system".to_owned(), system)],
        });
    }
    let mut words = "Flat out, medians of the rounds. The ratio is to the kernel floor in the same round: its median, least and \
                     greatest; \"at best\" it is that of the cheapest rounds of both, whichever they were. Where a peer does not use its whole core, the load is at its end and not the peer. What \
                     others used of that core, at most, should be next to nothing: who has to share caches costs more."
        .to_owned();
    if let Some(Spread { median, min, max }) = verification(peers) {
        words += &format!(
            "\n\nWith verification keygate costs {median:.3} times what it costs without, {min:.3} to {max:.3}."
        );
    }
    Section {
        title: "CPU for a request".to_owned(),
        words,
        table: Some(table),
        plots: vec![Plot::Bars { title: "CPU for a request".to_owned(), unit: "µs".to_owned(), bars }],
    }
}

/// keygate as a multiple of itself without verification, if both were measured.
fn verification(peers: &[Measured]) -> Option<Spread> {
    let of = |kind| peers.iter().find(|peer| peer.peer == kind);
    ratios(&of(Kind::Keygate)?.rounds, &of(Kind::Unverified)?.rounds)
}

/// Who answers when.
pub fn latency(title: &str, peers: &[Measured], which: fn(&Measured) -> Option<&Latency>) -> Section {
    let mut table = Table::new(&["", "rate/s", "p50 ms", "p99 ms", "late p99 ms", "its core"]);
    let mut series = Vec::new();
    for (peer, latency) in peers.iter().filter_map(|peer| Some((peer.peer.name(), which(peer)?))) {
        let times = [latency.p50_ms, latency.p99_ms, latency.late_p99_ms].map(|ms| Cell::number(ms, 3));
        let cells = [Cell::number(latency.rate, 0)].into_iter().chain(times).chain([percent(latency.busy)]);
        table.row(peer, cells);
        series.push(Series { name: peer.to_owned(), points: latency.drawn.clone() });
    }
    Section {
        title: title.to_owned(),
        words: "Open loop, from when a request was due; medians of the turns. \"Late\" is how late the generator itself \
                began, which the latencies hold."
            .to_owned(),
        table: Some(table),
        plots: vec![Plot::Percentiles { title: title.to_owned(), series }],
    }
}

/// A row for each call that somebody makes once in a hundred requests.
pub fn calls(peers: &[Measured]) -> Section {
    let often = peers.iter().flat_map(|peer| peer.calls.iter().filter(|(_, times)| **times >= 0.01));
    let names: BTreeSet<&String> = often.map(|(name, _)| name).collect();
    let columns: Vec<&str> = std::iter::once("").chain(peers.iter().map(|peer| peer.peer.name())).collect();
    let mut table = Table::new(&columns);
    for name in names {
        let times = |peer: &Measured| peer.calls.get(name).map_or("".into(), |&times| Cell::number(times, 2));
        table.row(name, peers.iter().map(times));
    }
    table.row("all", peers.iter().map(|peer| Cell::number(peer.calls.values().sum(), 2)));
    Section {
        title: "System calls for a request".to_owned(),
        words: "Counted by strace flat out, failed ones too.".to_owned(),
        table: Some(table),
        plots: Vec::new(),
    }
}

pub fn percent(share: f64) -> Cell {
    Cell::with_unit(share * 100.0, 0, "%")
}
