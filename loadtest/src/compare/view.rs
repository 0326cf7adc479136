//! What was compared, for people.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::Compared;
use super::latency::Latency;
use super::peer::Measured;
use crate::row;
use crate::table::render;

impl Compared {
    pub fn render(&self) -> String {
        let Compared { gateway, rounds, seconds, connections, generator, .. } = self;
        let mut text = format!(
            "{gateway}; {rounds} rounds of {seconds} s with {connections} connections, bursts by {generator}\n"
        );
        if !self.peers.is_empty() {
            text += "\nCPU for a request, flat out, medians; ratio to the floor of the same round, median (least to greatest)\n\n";
            text += &render(&self.cpu());
        }
        if self.peers.iter().any(|peer| peer.at_own_rate.is_some()) {
            text +=
                "\nLatency in ms, open loop: at 70 % of what each can do, and at the same rate for all\n\n";
            text += &render(&self.latency());
        }
        if self.peers.iter().any(|peer| !peer.calls.is_empty()) {
            text += "\nSystem calls for a request\n\n";
            text += &render(&self.calls());
        }
        for varied in &self.varied {
            text += &varied.render();
        }
        for skipped in &self.skipped {
            let _ = write!(text, "\nskipped: {skipped}\n"); // writing to a text cannot fail
        }
        text
    }

    fn cpu(&self) -> Vec<Vec<String>> {
        let mut rows = vec![row![
            "",
            "user µs",
            "system µs",
            "CPU µs",
            "ratio",
            "",
            "requests/s",
            "its core",
            "RSS MiB"
        ]];
        for peer in &self.peers {
            let (ratio, range) = peer.ratio.map_or((row!["", ""][0].clone(), String::new()), |ratio| {
                (format!("{:.2}", ratio.median), format!("({:.2} to {:.2})", ratio.min, ratio.max))
            });
            rows.push(vec![
                peer.peer.name().to_owned(),
                format!("{:.2}", peer.median(|round| round.user_us)),
                format!("{:.2}", peer.median(|round| round.system_us)),
                format!("{:.2}", peer.total_us()),
                ratio,
                range,
                format!("{:.0}", peer.requests_per_second()),
                percent(peer.median(|round| round.busy)),
                format!("{:.1}", peer.median(|round| round.resident_mib)),
            ]);
        }
        rows
    }

    fn latency(&self) -> Vec<Vec<String>> {
        let mut rows = vec![row![
            "",
            "own rate/s",
            "p50",
            "p99",
            "late p99",
            "its core",
            "same rate/s",
            "p50",
            "p99",
            "late p99",
            "its core"
        ]];
        let cells = |latency: Option<&Latency>| match latency {
            None => vec![String::new(); 5],
            Some(latency) => vec![
                format!("{:.0}", latency.rate),
                format!("{:.3}", latency.p50_ms),
                format!("{:.3}", latency.p99_ms),
                format!("{:.3}", latency.late_p99_ms),
                percent(latency.busy),
            ],
        };
        for Measured { peer, at_own_rate, at_common_rate, .. } in &self.peers {
            let mut row = row![peer.name()];
            row.extend(cells(at_own_rate.as_ref()));
            row.extend(cells(at_common_rate.as_ref()));
            rows.push(row);
        }
        rows
    }

    /// A row for each call that somebody makes once in a hundred requests.
    fn calls(&self) -> Vec<Vec<String>> {
        let often = |peer: &'_ Measured| {
            peer.calls
                .iter()
                .filter(|(_, times)| **times >= 0.01)
                .map(|(name, _)| name.clone())
                .collect::<Vec<_>>()
        };
        let names: BTreeSet<String> = self.peers.iter().flat_map(often).collect();
        let mut head = row![""];
        head.extend(self.peers.iter().map(|peer| peer.peer.name().to_owned()));
        let mut rows = vec![head];
        for name in names {
            let times =
                |peer: &Measured| peer.calls.get(&name).map_or(String::new(), |times| format!("{times:.2}"));
            rows.push([name.clone()].into_iter().chain(self.peers.iter().map(times)).collect());
        }
        let total = |peer: &Measured| format!("{:.2}", peer.calls.values().sum::<f64>());
        rows.push(["all".to_owned()].into_iter().chain(self.peers.iter().map(total)).collect());
        rows
    }
}

pub fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}
