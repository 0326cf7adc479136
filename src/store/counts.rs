//! How often a key was used, day by day and hour by hour.

use crate::model::Timestamp;

/// By what uses are counted: in UTC, by the fleet's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// From one full hour to the next.
    Hour,
}

impl Period {
    /// Both.
    pub const ALL: [Period; 2] = [Period::Day, Period::Hour];

    /// How many periods are kept.
    pub const fn kept(self) -> usize {
        match self {
            Period::Day => 90,
            Period::Hour => 48,
        }
    }

    /// How long it is, in milliseconds.
    pub const fn millis(self) -> i64 {
        match self {
            Period::Day => 24 * Period::Hour.millis(),
            Period::Hour => 60 * 60 * 1_000,
        }
    }

    /// The number of the period in which `at` lies; 0 begins with 1970.
    pub const fn number(self, at: Timestamp) -> i64 {
        at.as_millis().div_euclid(self.millis())
    }

    /// When the period of this number begins.
    pub const fn start(self, number: i64) -> Timestamp {
        Timestamp::from_millis(number.saturating_mul(self.millis()))
    }

    /// The numbers of the `count` periods of which the last one is that of `now`.
    pub(crate) fn last(self, count: usize, now: Timestamp) -> impl Iterator<Item = i64> {
        let last = self.number(now);
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        last.saturating_sub(count.saturating_sub(1))..=last
    }
}

/// What was done with a key in one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeriodCount {
    /// When the period begins.
    pub start: Timestamp,
    /// Requests that were permitted.
    pub uses: u64,
    /// Requests that were refused because the key was revoked or had expired.
    pub refusals: u64,
}
