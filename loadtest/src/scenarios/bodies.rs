//! Large bodies, both ways.

use std::sync::Arc;

use super::keys::create;
use super::run::{Findings, Run};
use super::stage::Stage;
use super::{Scenario, tell};
use crate::load::Work;
use crate::report::{Bar, Cell, Plot, Table};
use crate::rig::upstream::Manner;

const SPAN_S: u64 = 3;
const SIZES: [usize; 3] = [64 << 10, 1 << 20, 16 << 20];
const LARGEST: usize = SIZES[2];

#[derive(clap::Args)]
pub struct Bodies {
    /// Bodies that are under way at once.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    at_once: u32,
}

impl Scenario for Bodies {
    const NAME: &str = "bodies";

    fn measure(&self, run: &Run<'_>) -> anyhow::Result<Findings> {
        let mut random = fastrand::Rng::with_seed(3);
        let mut pattern = vec![0; LARGEST];
        random.fill(&mut pattern);
        let pattern: Arc<[u8]> = pattern.into();
        let stage = Stage::with(run, Manner { pattern: Arc::clone(&pattern), delay: None }, &[])?;
        let key = create(run, &stage.gateway, 1)?.swap_remove(0).key;
        let mut few = run.clone();
        few.connections = self.at_once as usize;
        let work = |way, size| Transfer { key: &key, pattern: &pattern, way, size };
        stage.warm(&few, &mut work(Way::Down, SIZES[0]))?;
        let before = stage.gateway.process().resident_bytes()?;
        let words = format!(
            "{} bodies at once, made of random bytes, each compared with what was sent: by the upstream those of requests, and \
             by the client those of answers.",
            self.at_once
        );
        let mut findings = Findings::new("Bodies", &words);
        let mut table = Table::new(&[
            "",
            "bodies",
            "damaged or lost",
            "MB/s",
            "CPU µs per MB",
            "p50 ms",
            "p99 ms",
            "memory",
        ]);
        let mut bars = Vec::new();
        for (way, verb) in [(Way::Up, "up"), (Way::Down, "down")] {
            for size in SIZES {
                let name = format!("{} KiB {verb}", size >> 10);
                let mut transfer = work(way, size);
                let seen = stage.flat_out_for(&few, &name, run.span(SPAN_S), &mut transfer)?;
                let measured = &seen.measured;
                let megabytes = measured.answered as f64 * size as f64 / 1e6;
                let [user, system] = [seen.cpu.user, seen.cpu.system].map(|cpu| cpu / megabytes * 1e6);
                let memory = stage.gateway.process().resident_bytes()?;
                let amiss = tell::amiss(measured);
                table.row(
                    &name,
                    [
                        Cell::count(measured.answered),
                        Cell::count(amiss),
                        Cell::number(megabytes / measured.span.as_secs_f64(), 0),
                        Cell::number(user + system, 0),
                        Cell::number(measured.latency_ms(0.5), 2),
                        Cell::number(measured.latency_ms(0.99), 2),
                        Cell::with_unit(tell::mebibytes(memory), 1, "MiB"),
                    ],
                );
                findings.expect(amiss == 0 && measured.answered > 0, || {
                    format!(
                        "{name}: {amiss} damaged or lost, {} answered ({})",
                        measured.answered,
                        tell::statuses(measured)
                    )
                });
                findings.expect(size < LARGEST || memory.saturating_sub(before) < (LARGEST as u64), || {
                    let grown = tell::mebibytes(memory.saturating_sub(before));
                    format!("{name}: the gateway grew by {grown:.1} MiB, so it keeps bodies")
                });
                let parts = vec![("user".to_owned(), user), ("system".to_owned(), system)];
                bars.push(Bar { name, parts });
            }
        }
        findings.section.table = Some(table);
        findings.section.plots =
            vec![Plot::Bars { title: "CPU for a megabyte".to_owned(), unit: "µs".to_owned(), bars }];
        Ok(findings)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Up,
    Down,
}

struct Transfer<'a> {
    key: &'a str,
    pattern: &'a [u8],
    way: Way,
    size: usize,
}

impl Work for Transfer<'_> {
    fn request(&mut self, buffer: &mut Vec<u8>) {
        let Transfer { key, size, .. } = self;
        match self.way {
            Way::Up => {
                let head = format!(
                    "POST /v1/documents HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {key}\r\nContent-Length: {size}\r\n\r\n"
                );
                buffer.extend_from_slice(head.as_bytes());
                buffer.extend_from_slice(&self.pattern[..self.size]);
            }
            Way::Down => {
                let head =
                    format!("GET /bytes/{size} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {key}\r\n\r\n");
                buffer.extend_from_slice(head.as_bytes());
            }
        }
    }

    fn expects_body(&self, body: &[u8]) -> bool {
        self.way == Way::Up || body == &self.pattern[..self.size]
    }
}
