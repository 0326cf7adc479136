//! What was measured of several in turn, and what is made of it: medians, and ratios within a round.

use crate::rig::vitals::Cpu;
use crate::stats::median;

/// One burst at one peer.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// CPU of the peer for a request.
    pub user_us: f64,
    pub system_us: f64,
    pub requests_per_second: f64,
    /// How much of its core the peer used.
    pub busy: f64,
    /// How much of it something else used meanwhile.
    pub others: f64,
    pub resident_mib: f64,
}

/// The middle of several values, with the least and the greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Round {
    /// `core_seconds` is what the core has worked, for whomever.
    pub fn new(used: Cpu, core_seconds: f64, requests: u64, seconds: f64, resident_bytes: u64) -> Round {
        let per_request = |seconds: f64| seconds / requests as f64 * 1e6;
        Round {
            user_us: per_request(used.user),
            system_us: per_request(used.system),
            requests_per_second: requests as f64 / seconds,
            busy: used.total() / seconds,
            others: (core_seconds - used.total()).max(0.0) / seconds,
            resident_mib: resident_bytes as f64 / f64::from(1 << 20),
        }
    }

    pub fn total_us(&self) -> f64 {
        self.user_us + self.system_us
    }
}

impl Spread {
    /// Of nothing.
    pub const NONE: Spread = Spread { median: f64::NAN, min: f64::NAN, max: f64::NAN };

    /// Of nothing there is nothing to tell.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let values: Vec<f64> = values.into_iter().collect();
        let median = median(values.iter().copied())?;
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some(Spread { median, min, max })
    }

    pub fn width(&self) -> f64 {
        self.max - self.min
    }
}

/// Each round of one as a multiple of the same round of the other: what slows the machine for a while slows both.
pub fn ratios(rounds: &[Round], floor: &[Round]) -> Option<Spread> {
    Spread::of(rounds.iter().zip(floor).map(|(round, floor)| round.total_us() / floor.total_us()))
}

/// Whoever begins a round goes last in the next one.
pub fn rotated<T>(all: &[T], round: usize) -> impl Iterator<Item = &T> {
    let begin = round % all.len().max(1);
    all[begin..].iter().chain(&all[..begin])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(total_us: f64) -> Round {
        Round {
            user_us: total_us / 4.0,
            system_us: total_us * 0.75,
            requests_per_second: 1.0,
            busy: 1.0,
            others: 0.0,
            resident_mib: 1.0,
        }
    }

    #[test]
    fn cpu_is_told_per_request() {
        let round = Round::new(Cpu { user: 0.5, system: 1.5 }, 2.5, 100_000, 2.5, 3 << 20);
        assert!((round.user_us - 5.0).abs() < 1e-9 && (round.total_us() - 20.0).abs() < 1e-9);
        assert!((round.others - 0.2).abs() < 1e-9);
        assert_eq!((round.requests_per_second, round.busy, round.resident_mib), (40_000.0, 0.8, 3.0));
    }

    #[test]
    fn a_ratio_compares_what_was_measured_together() {
        let floor = [round(8.0), round(16.0), round(10.0)];
        let other = [round(12.0), round(24.0), round(16.0)];
        let ratios = ratios(&other, &floor).unwrap();
        assert_eq!((ratios.median, ratios.min, ratios.max), (1.5, 1.5, 1.6));
        assert_eq!(super::ratios(&[], &floor), None);
    }

    #[test]
    fn everybody_begins_in_turn() {
        let order = |round| rotated(&[1, 2, 3], round).copied().collect::<Vec<_>>();
        assert_eq!([order(0), order(1), order(5)], [vec![1, 2, 3], vec![2, 3, 1], vec![3, 1, 2]]);
        assert_eq!(rotated::<u8>(&[], 3).count(), 0);
    }
}
