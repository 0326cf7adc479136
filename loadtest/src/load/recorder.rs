//! Counts what becomes of the requests of a lane.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::lane::{Client, Flight};
use super::{Measured, Second, Work};
use crate::progress::Progress;
use crate::rig::http::Reply;

/// Longer latencies count as this.
const LONGEST_US: u64 = 120_000_000;
const DIGITS: u8 = 3;

/// A client that measures, and tells how it goes if somebody watches.
pub struct Recorder<'a> {
    work: &'a mut dyn Work,
    counts_by: Count,
    from: Duration,
    progress: Option<&'a Progress>,
    measured: Measured,
    second: Current,
}

/// What of a request must lie in the span that is counted.
#[derive(Clone, Copy, PartialEq)]
enum Count {
    Due,
    Answered,
}

/// The second that has not passed yet.
struct Current {
    number: u64,
    unexpected: u64,
    latency: Histogram<u64>,
}

impl<'a> Recorder<'a> {
    /// For arrivals: counts what was due in the span.
    pub fn open(work: &'a mut dyn Work, warm_up: Duration, span: Duration) -> Recorder<'a> {
        Recorder::new(work, Count::Due, warm_up, span)
    }

    /// For a closed loop: counts what was answered in the span.
    pub fn closed(work: &'a mut dyn Work, warm_up: Duration, span: Duration) -> Recorder<'a> {
        Recorder::new(work, Count::Answered, warm_up, span)
    }

    fn new(work: &'a mut dyn Work, counts_by: Count, from: Duration, span: Duration) -> Recorder<'a> {
        let measured = Measured {
            answered: 0,
            unexpected: 0,
            failed: 0,
            unsent: 0,
            by_status: BTreeMap::new(),
            span,
            latency: histogram(),
            lateness: histogram(),
            per_second: Vec::with_capacity(span.as_secs() as usize + 1),
        };
        let second = Current { number: 0, unexpected: 0, latency: histogram() };
        Recorder { work, counts_by, from, progress: None, measured, second }
    }

    pub fn shown(self, progress: &'a Progress) -> Recorder<'a> {
        Recorder { progress: Some(progress), ..self }
    }

    /// What was measured, with what was due and never begun.
    pub fn finish(mut self, left_over: impl Iterator<Item = Duration>) -> Measured {
        let end = self.from + self.measured.span;
        for due in left_over.filter(|due| *due >= self.from) {
            self.measured.unsent += 1;
            self.measured.latency.saturating_record(micros(end - due));
            self.measured.lateness.saturating_record(micros(end - due));
        }
        // What was answered after the end has seconds too.
        let begun = self.second.number + u64::from(!self.second.latency.is_empty());
        self.pass_to(begun.max(self.measured.span.as_secs_f64().ceil() as u64));
        self.measured
    }

    fn counts(&self, flight: &Flight) -> bool {
        let at = match self.counts_by {
            Count::Due => flight.due,
            Count::Answered => flight.answered,
        };
        at >= self.from && at < self.from + self.measured.span
    }

    /// Closes all seconds before this one.
    fn pass_to(&mut self, number: u64) {
        while self.second.number < number {
            let Current { number, unexpected, latency } = &mut self.second;
            let [p50_us, p99_us] = [0.5, 0.99].map(|share| latency.value_at_quantile(share));
            let answered = latency.len();
            if let Some(progress) = self.progress {
                let (passed, span) = (*number + 1, self.measured.span.as_secs());
                let p99 = p99_us as f64 / 1e3;
                progress.say(&format!("{passed} s of {span} s, {answered} answers/s, p99 {p99:.2} ms"));
            }
            let unexpected = std::mem::take(unexpected);
            self.measured.per_second.push(Second { second: *number, answered, unexpected, p50_us, p99_us });
            latency.reset();
            *number += 1;
        }
    }
}

impl Client for Recorder<'_> {
    fn request(&mut self, buffer: &mut Vec<u8>) {
        self.work.request(buffer);
    }

    fn answered(&mut self, flight: Flight, reply: Reply<'_>) -> anyhow::Result<()> {
        if !self.counts(&flight) {
            return Ok(());
        }
        let latency = micros(flight.answered - flight.due);
        let unexpected = u64::from(!self.work.expects(reply.status));
        let measured = &mut self.measured;
        measured.answered += 1;
        measured.unexpected += unexpected;
        *measured.by_status.entry(reply.status).or_default() += 1;
        measured.latency.saturating_record(latency);
        measured.lateness.saturating_record(micros(flight.started - flight.due));
        self.pass_to((flight.answered - self.from).as_secs());
        self.second.unexpected += unexpected;
        self.second.latency.saturating_record(latency);
        Ok(())
    }

    fn lost(&mut self, flight: Flight, _: io::Error) -> anyhow::Result<()> {
        self.measured.failed += u64::from(self.counts(&flight));
        Ok(())
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, DIGITS).expect("these bounds are good for a histogram")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
