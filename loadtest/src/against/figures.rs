//! The figures of a gateway, and whether they have moved.

use crate::compare::rounds::Spread;
use crate::report::{Cell, Table};

/// What one round has measured of one side.
#[derive(Clone, Debug)]
pub struct Figures {
    pub user_us: f64,
    pub system_us: f64,
    pub requests_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub miss_us: f64,
    pub misses_per_second: f64,
    pub refusal_us: f64,
    pub refusals_per_second: f64,
    pub idle_kib: f64,
    pub resident_mib: f64,
}

type Figure = (&'static str, usize, fn(&Figures) -> f64);

/// By what they are called, with digits after the point.
const ALL: [Figure; 12] = [
    ("CPU for a request, user, µs", 2, |of| of.user_us),
    ("CPU for a request, system, µs", 2, |of| of.system_us),
    ("CPU for a request, µs", 2, |of| of.user_us + of.system_us),
    ("requests/s flat out", 0, |of| of.requests_per_second),
    ("p50, ms", 3, |of| of.p50_ms),
    ("p99, ms", 3, |of| of.p99_ms),
    ("CPU for a cold miss, µs", 1, |of| of.miss_us),
    ("cold misses/s", 0, |of| of.misses_per_second),
    ("CPU for refusing a forged key, µs", 2, |of| of.refusal_us),
    ("refusals of forged keys/s", 0, |of| of.refusals_per_second),
    ("an idle connection, KiB", 2, |of| of.idle_kib),
    ("RSS after all of it, MiB", 1, |of| of.resident_mib),
];

/// With fewer rounds, too much moves by chance.
pub const FEWEST_ROUNDS: usize = 5;

/// Both sides, a row for each figure.
pub fn table(before: &[Figures], now: &[Figures]) -> Table {
    let mut table =
        Table::new(&["", "before", "least", "greatest", "now", "least", "greatest", "change", ""]);
    let enough = before.len().min(now.len()) >= FEWEST_ROUNDS;
    for (name, digits, figure) in ALL {
        let spreads = (Spread::of(before.iter().map(figure)), Spread::of(now.iter().map(figure)));
        let (Some(before), Some(now)) = spreads else { continue };
        let cells = [before.median, before.min, before.max, now.median, now.min, now.max];
        let change = (now.median / before.median - 1.0) * 100.0;
        let moved = if enough && has_moved(&before, &now) { "moved" } else { "" };
        let numbers = cells.map(|value| Cell::number(value, digits));
        table.row(name, numbers.into_iter().chain([Cell::with_unit(change, 1, "%"), moved.into()]));
    }
    table
}

/// The ranges do not overlap, and the medians differ by more than the wider of them. Of five rounds that do not differ, one
/// figure in a hundred does the first by chance.
fn has_moved(before: &Spread, now: &Spread) -> bool {
    let apart = now.min > before.max || before.min > now.max;
    apart && (now.median - before.median).abs() > before.width().max(now.width())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(min: f64, median: f64, max: f64) -> Spread {
        Spread { median, min, max }
    }

    #[test]
    fn what_moves_within_the_noise_has_not_moved() {
        let before = spread(9.8, 10.0, 10.4);
        assert!(!has_moved(&before, &spread(9.9, 10.5, 10.6)));
        assert!(has_moved(&before, &spread(10.9, 11.0, 11.1)));
        assert!(has_moved(&before, &spread(8.9, 9.0, 9.1)));
        assert!(!has_moved(&before, &spread(9.0, 11.0, 13.0)));
        assert!(!has_moved(&before, &spread(10.3, 10.7, 10.8)));
    }

    #[test]
    fn each_figure_has_a_row() {
        let figures = Figures {
            user_us: 4.0,
            system_us: 8.0,
            requests_per_second: 1.0,
            p50_ms: 1.0,
            p99_ms: 1.0,
            miss_us: 1.0,
            misses_per_second: 1.0,
            refusal_us: 1.0,
            refusals_per_second: 1.0,
            idle_kib: 1.0,
            resident_mib: 1.0,
        };
        let faster = Figures { user_us: 3.0, ..figures.clone() };
        let (before, now) = (vec![figures; FEWEST_ROUNDS], vec![faster; FEWEST_ROUNDS]);
        assert_eq!(table(&before[1..], &now).rows[0].last(), Some(&Cell::from("")));
        let table = table(&before, &now);
        assert_eq!(table.rows.len(), ALL.len());
        assert_eq!(table.rows[0].last(), Some(&Cell::from("moved")));
        assert_eq!(table.rows[1].last(), Some(&Cell::from("")));
        assert_eq!(table.rows[0][7], Cell::with_unit(-25.0, 1, "%"));
    }
}
