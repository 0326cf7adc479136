//! One request, counted once.

use crate::clock::{Moment, Tick};
use crate::model::Denial;

use super::Metrics;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream answered.
    Forwarded,
    /// It was refused.
    Denied(Denial),
}

/// Counts its request when the final decision is told, or as abandoned when it is dropped before.
pub struct RequestScope<'a> {
    metrics: &'a Metrics,
    started: Moment,
    open: bool,
}

impl<'a> RequestScope<'a> {
    /// The request began at `started`.
    pub fn begin(metrics: &'a Metrics, started: Moment) -> RequestScope<'a> {
        RequestScope { metrics, started, open: true }
    }

    /// When it began.
    pub fn started(&self) -> Moment {
        self.started
    }

    /// The final decision, at `at`.
    pub fn end(mut self, outcome: Outcome, at: Tick) {
        self.open = false;
        let took = at.since(self.started.tick);
        match outcome {
            Outcome::Forwarded => self.metrics.forward(took),
            Outcome::Denied(denial) => self.metrics.deny(denial, took),
        }
    }
}

impl Drop for RequestScope<'_> {
    fn drop(&mut self) {
        if self.open {
            self.metrics.abandon();
        }
    }
}
