//! Text for people: columns that stand under each other, and times.

use std::fmt;

use crate::model::{Timestamp, is_invisible};

const GAP: &str = "  ";

/// Rows of `N` cells.
pub(super) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(head: [&str; N]) -> Table<N> {
        Table { rows: vec![head.map(str::to_owned)] }
    }

    pub(super) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width_of =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; N] = std::array::from_fn(width_of);
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths) {
                line.push_str(cell);
                let padding = width - cell.chars().count();
                line.extend(std::iter::repeat_n(' ', padding));
                line.push_str(GAP);
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// To the minute, as `2026-01-31 12:00Z (3 days ago)`.
pub(super) fn date(moment: Timestamp, now: Timestamp) -> String {
    let exact = moment.to_string();
    match (exact.get(..10), exact.get(11..16)) {
        (Some(day), Some(minute)) => format!("{day} {minute}Z ({})", relative(moment, now)),
        _ => exact,
    }
}

/// To the millisecond, as `2026-01-31T12:00:00.000Z (3 days ago)`.
pub(super) fn time(moment: Timestamp, now: Timestamp) -> String {
    format!("{moment} ({})", relative(moment, now))
}

fn relative(moment: Timestamp, now: Timestamp) -> String {
    let (past, future) = (now.since(moment).as_secs(), moment.since(now).as_secs());
    let seconds = past.max(future);
    let (count, unit) = match seconds {
        0..10 => return "now".to_owned(),
        10..120 => (seconds, "seconds"),
        120..7_200 => (seconds / 60, "minutes"),
        7_200..172_800 => (seconds / 3_600, "hours"),
        _ => (seconds / 86_400, "days"),
    };
    if past > 0 { format!("{count} {unit} ago") } else { format!("in {count} {unit}") }
}

/// Without characters that would move the cursor or colour the terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if is_invisible(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_000);

    #[test]
    fn columns_stand_under_each_other() {
        let mut table = Table::new(["A", "B"]);
        table.row(["äöü".into(), "x".into()]);
        table.row([String::new(), "y".into()]);
        assert_eq!(table.to_string(), "A    B\näöü  x\n     y\n");
    }

    #[test]
    fn times_are_exact_and_relative() {
        let ago = |seconds: i64| Timestamp::from_millis(NOW.as_millis() - 1000 * seconds);
        assert_eq!(date(ago(0), NOW), "2025-11-24 16:00Z (now)");
        assert_eq!(date(ago(3 * 86_400), NOW), "2025-11-21 16:00Z (3 days ago)");
        assert_eq!(time(ago(119), NOW), "2025-11-24T15:58:01.000Z (119 seconds ago)");
        assert_eq!(relative(NOW.plus(Duration::from_secs(7_200)), NOW), "in 2 hours");
    }

    #[test]
    fn a_label_cannot_move_the_cursor() {
        assert_eq!(printable("a\u{1b}[2Jb"), "a\u{fffd}[2Jb");
    }
}
