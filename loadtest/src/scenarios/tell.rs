//! Tables and plots of traffic.

use super::stage::Observed;
use crate::load::{Measured, Second};
use crate::report::{Bar, Cell, Plot, Series, Table};

const PERCENTILES: [f64; 19] = [
    0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.8, 99.9, 99.95,
    99.99, 99.999,
];
/// A percentile is told if so many requests lie above it.
const ABOVE: f64 = 3.0;

/// A row for each. `-` is what no request had to tell.
pub fn table<'a>(observed: impl IntoIterator<Item = &'a Observed>) -> Table {
    let mut table = Table::new(&[
        "",
        "answers/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "late p99 ms",
        "CPU µs each",
        "not as expected",
    ]);
    for observed in observed {
        let measured = &observed.measured;
        let cells = [Cell::number(measured.per_s(), 0)].into_iter().chain(latencies(measured)).chain([
            Cell::number(measured.late_ms(0.99), 2),
            Cell::number(observed.cpu_each() * 1e6, 1),
            Cell::count(amiss(measured)),
        ]);
        table.row(&observed.name, cells);
    }
    table
}

/// p50, p99, p99.9 and the longest.
pub fn latencies(measured: &Measured) -> [Cell; 4] {
    [0.5, 0.99, 0.999, 1.0].map(|share| Cell::number(measured.latency_ms(share), 2))
}

/// Requests that were answered wrongly, or not at all.
pub fn amiss(measured: &Measured) -> u64 {
    measured.unexpected + measured.failed + measured.unsent
}

pub fn percentiles<'a>(observed: impl IntoIterator<Item = &'a Observed>) -> Plot {
    let series = |observed: &Observed| {
        let latency = &observed.measured.latency;
        let told = PERCENTILES.iter().filter(|&&share| latency.len() as f64 * (1.0 - share / 100.0) >= ABOVE);
        let points = told.map(|&share| (share, latency.value_at_percentile(share) as f64 / 1e3)).collect();
        Series { name: observed.name.clone(), points }
    };
    let series = observed.into_iter().map(series).collect();
    Plot::Percentiles { title: "Latency by percentile".to_owned(), series }
}

pub fn throughput<'a>(observed: impl IntoIterator<Item = &'a Observed>) -> Plot {
    over_time("Throughput", "answers/s", observed, |second| second.answered as f64)
}

pub fn p99<'a>(observed: impl IntoIterator<Item = &'a Observed>) -> Plot {
    over_time("p99 of each second", "ms", observed, |second| second.p99_us as f64 / 1e3)
}

fn over_time<'a>(
    title: &str,
    y_axis: &str,
    observed: impl IntoIterator<Item = &'a Observed>,
    value: impl Fn(&Second) -> f64,
) -> Plot {
    let series = |observed: &Observed| {
        let measured = &observed.measured;
        // What is answered after the last whole second is no second.
        let whole = measured.per_second.iter().take(measured.span.as_secs() as usize);
        let points = whole.map(|second| (second.second as f64, value(second))).collect();
        Series { name: observed.name.clone(), points }
    };
    let series = observed.into_iter().map(series).collect();
    Plot::Lines { title: title.to_owned(), x_axis: "s".to_owned(), y_axis: y_axis.to_owned(), series }
}

/// CPU for an answer, in the gateway's own code and in the kernel's.
pub fn cpu<'a>(observed: impl IntoIterator<Item = &'a Observed>) -> Plot {
    let bar = |observed: &Observed| {
        let each = |seconds: f64| seconds / observed.measured.answered as f64 * 1e6;
        let parts = [("user", observed.cpu.user), ("system", observed.cpu.system)];
        let parts = parts.map(|(part, seconds)| (part.to_owned(), each(seconds))).to_vec();
        Bar { name: observed.name.clone(), parts }
    };
    let bars = observed.into_iter().map(bar).collect();
    Plot::Bars { title: "CPU for an answer".to_owned(), unit: "µs".to_owned(), bars }
}

pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// `200: 31,400, 503: 12`.
pub fn statuses(measured: &Measured) -> String {
    let all = measured.by_status.iter().map(|(status, count)| format!("{status}: {count}"));
    all.collect::<Vec<_>>().join(", ")
}
