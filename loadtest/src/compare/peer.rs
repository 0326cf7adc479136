//! What was measured of one peer.

use super::latency::Latency;
use super::rounds::{Round, Spread, ratios};
use super::syscalls::Calls;
use crate::peers::Kind;
use crate::stats::median;

/// All of it, round by round, and the ratio that is made of it.
pub struct Measured {
    pub peer: Kind,
    pub rounds: Vec<Round>,
    /// Of CPU for a request to the floor's, of each round.
    pub ratio: Option<Spread>,
    /// The same of the cheapest rounds of both: what disturbs only adds.
    pub ratio_at_best: f64,
    pub at_own_rate: Option<Latency>,
    pub at_common_rate: Option<Latency>,
    /// Empty if they were not counted.
    pub calls: Calls,
}

impl Measured {
    pub fn new(peer: Kind) -> Measured {
        Measured {
            peer,
            rounds: Vec::new(),
            ratio: None,
            ratio_at_best: f64::NAN,
            at_own_rate: None,
            at_common_rate: None,
            calls: Calls::new(),
        }
    }

    /// The median of a figure over all rounds.
    pub fn median(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(figure)).unwrap_or_default()
    }

    pub fn requests_per_second(&self) -> f64 {
        self.median(|round| round.requests_per_second)
    }

    /// Of the round in which a request cost least.
    pub fn least_us(&self) -> f64 {
        self.rounds.iter().map(Round::total_us).fold(f64::INFINITY, f64::min)
    }

    pub fn total_us(&self) -> f64 {
        self.median(Round::total_us)
    }
}

/// Sets the ratio of each to the floor, if the floor was measured.
pub fn against_the_floor(all: &mut [Measured]) {
    let floor = all.iter().find(|measured| measured.peer == Kind::Floor);
    let Some((floor, least_us)) = floor.map(|floor| (floor.rounds.clone(), floor.least_us())) else { return };
    for measured in all {
        measured.ratio = ratios(&measured.rounds, &floor);
        measured.ratio_at_best = measured.least_us() / least_us;
    }
}
