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

    pub fn total_us(&self) -> f64 {
        self.median(Round::total_us)
    }
}

/// Sets the ratio of each to the floor, if the floor was measured.
pub fn against_the_floor(all: &mut [Measured]) {
    let floor = all.iter().find(|measured| measured.peer == Kind::Floor);
    let Some(floor) = floor.map(|measured| measured.rounds.clone()) else { return };
    for measured in all {
        measured.ratio = ratios(&measured.rounds, &floor);
    }
}
