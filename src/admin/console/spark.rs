//! The small chart of a key's days. Drawn here, with attributes alone: the policy of the pages allows no inline style.

use super::view::{count, day, grouped};
use crate::model::Timestamp;
use crate::store::PeriodCount;

/// How many days it shows, today included.
pub(super) const DAYS: usize = 30;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
const STEP: u64 = 10;
const BAR: u64 = 8;
const HEIGHT: u64 = 64;
/// A day without requests is a line of its own, and one with a single request can be seen beside one with a million.
const FLOOR: u64 = 2;
const LEAST: u64 = 4;

/// Requests per day.
pub(super) struct Spark {
    pub(super) bars: Vec<Bar>,
    pub(super) width: u64,
    /// For who does not see it.
    pub(super) words: String,
    /// The day of the first bar.
    pub(super) first: String,
    /// Requests in all of these days, grouped.
    pub(super) total: String,
}

/// A part of a day's bar.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bar {
    pub(super) x: u64,
    pub(super) y: u64,
    pub(super) width: u64,
    pub(super) height: u64,
    /// What it counts: `none`, `some` or `refused`.
    pub(super) kind: &'static str,
    pub(super) words: String,
}

impl Spark {
    /// Of the days, the oldest first.
    pub(super) fn of(days: &[PeriodCount]) -> Spark {
        let most = days.iter().map(all).max().unwrap_or(0);
        let bars = days.iter().zip((0..).step_by(STEP as usize)).flat_map(|(day, x)| bars(day, x, most));
        let total = days.iter().fold(0, |sum: u64, day| sum.saturating_add(day.uses));
        let words = match days.iter().max_by_key(|day| day.uses).filter(|busiest| busiest.uses > 0) {
            Some(busiest) => format!(
                "{} in {}; most on {}: {}",
                count(total, "request"),
                count(days.len() as u64, "day"),
                day(busiest.start),
                count(busiest.uses, "request")
            ),
            None => format!("No requests in {}", count(days.len() as u64, "day")),
        };
        Spark {
            bars: bars.collect(),
            width: (days.len() as u64 * STEP).saturating_sub(STEP - BAR),
            words,
            first: days.first().map(|first| day(first.start)).unwrap_or_default(),
            total: grouped(total),
        }
    }
}

/// The days up to `now` of a key that nobody has used yet.
pub(super) fn unused_days(now: Timestamp) -> Vec<PeriodCount> {
    let today = now.as_millis().div_euclid(DAY_MS);
    let start = |back: usize| Timestamp::from_millis((today - back as i64) * DAY_MS);
    (0..DAYS).rev().map(|back| PeriodCount { start: start(back), uses: 0, refusals: 0 }).collect()
}

fn all(day: &PeriodCount) -> u128 {
    u128::from(day.uses) + u128::from(day.refusals)
}

/// What was refused stands above what was permitted.
fn bars(of: &PeriodCount, x: u64, most: u128) -> Vec<Bar> {
    let scaled = |number: u64| match number {
        0 => 0,
        number => LEAST + (u128::from(number) * u128::from(HEIGHT - 2 * LEAST) / most.max(1)) as u64,
    };
    let words = match of.refusals {
        0 => format!("{}: {}", day(of.start), count(of.uses, "request")),
        refusals => {
            format!("{}: {}, and {} refused", day(of.start), count(of.uses, "request"), grouped(refusals))
        }
    };
    let bar = |y, height, kind| Bar { x, y, width: BAR, height, kind, words: words.clone() };
    let (permitted, refused) = (scaled(of.uses), scaled(of.refusals));
    if permitted + refused == 0 {
        return vec![bar(HEIGHT - FLOOR, FLOOR, "none")];
    }
    let parts = [(permitted, permitted, "some"), (permitted + refused, refused, "refused")];
    let parts = parts.into_iter().filter(|(_, height, _)| *height > 0);
    parts.map(|(top, height, kind)| bar(HEIGHT - top, height, kind)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(counts: &[(u64, u64)]) -> Vec<PeriodCount> {
        let start = |i: usize| Timestamp::from_millis(1_763_942_400_000 + i as i64 * DAY_MS);
        let count =
            |(i, &(uses, refusals)): (usize, &(u64, u64))| PeriodCount { start: start(i), uses, refusals };
        counts.iter().enumerate().map(count).collect()
    }

    #[test]
    fn the_busiest_day_fills_the_height_and_a_single_request_is_seen() {
        let spark = Spark::of(&days(&[(1_000_000, 0), (0, 0), (1, 0), (500_000, 500_000)]));
        let heights: Vec<_> = spark.bars.iter().map(|bar| (bar.x, bar.kind, bar.y, bar.height)).collect();
        assert_eq!(
            heights,
            [
                (0, "some", 4, 60),
                (10, "none", 62, 2),
                (20, "some", 60, 4),
                (30, "some", 32, 32),
                (30, "refused", 0, 32)
            ]
        );
        assert_eq!(spark.words, "1,500,001 requests in 4 days; most on 24 Nov 2025: 1,000,000 requests");
        assert_eq!(
            (spark.first.as_str(), spark.total.as_str(), spark.width),
            ("24 Nov 2025", "1,500,001", 38)
        );
        assert_eq!(spark.bars[4].words, "27 Nov 2025: 500,000 requests, and 500,000 refused");
    }

    #[test]
    fn a_new_key_has_all_its_days_before_it() {
        let days = unused_days(Timestamp::from_millis(1_763_942_400_000 + DAY_MS / 2));
        assert_eq!((days.len(), days[29].start), (DAYS, Timestamp::from_millis(1_763_942_400_000)));
        let spark = Spark::of(&days);
        assert_eq!((spark.first.as_str(), spark.words.as_str()), ("26 Oct 2025", "No requests in 30 days"));
    }

    #[test]
    fn no_day_overflows() {
        assert_eq!(Spark::of(&[]).words, "No requests in 0 days");
        let spark = Spark::of(&days(&[(u64::MAX, u64::MAX)]));
        assert!(spark.bars.iter().all(|bar| bar.y + bar.height <= HEIGHT));
    }
}
