//! The promises, held against the record.
//!
//! Each key is a register of its own. It is not there, then alive, and from some moment on dead for a gateway. That
//! moment is never guessed: it is the end of the answer that promised it, or a date that an answer named. Only a request
//! that *began* later breaks the promise.

use std::time::Duration;

use super::record::{Gateway, History, Operation, Outcome, Revocation, Use};
use crate::support::wait::Moment;

/// Dates in answers are whole milliseconds, rounded either way.
const ROUNDING: Duration = Duration::from_millis(1);
/// The fleet's time of day as one gateway knows it: as exact as one look at the store's clock is.
const CLOCK: Duration = Duration::from_millis(250);

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    pub promise: Promise,
    pub operation: Operation,
    /// What had promised it, if it was an operation.
    pub because: Option<Operation>,
    /// What else was done to the key, besides using it.
    pub life: Vec<Operation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// A gateway that acknowledged a revocation accepts the key no more.
    Acknowledged,
    /// Nobody accepts a revoked key after the time that the receipt tells.
    EffectiveBy,
    /// A gateway that refused a key as dead or expired accepts it no more.
    RefusedForEver,
    /// A rotated key is not accepted after its end.
    GraceEnds,
    /// Nobody is told that a key is dead, expired or unknown that is alive.
    NoUndeservedDenial,
    /// Something that `run` saw.
    NothingOdd,
}

/// Every promise that this record breaks.
pub fn violations(history: &History) -> Vec<Violation> {
    let mut broken = Vec::new();
    for oddity in &history.oddities {
        let outcome = Outcome::Used(Use::Denied(oddity.clone()));
        let operation = Operation { key: 0, gateway: 0, began: Moment::ZERO, ended: Moment::ZERO, outcome };
        broken.push(Violation { promise: Promise::NothingOdd, operation, because: None, life: Vec::new() });
    }
    let keys = history.operations.iter().map(|operation| operation.key + 1).max().unwrap_or_default();
    let mut registers: Vec<Vec<&Operation>> = vec![Vec::new(); keys];
    for operation in &history.operations {
        registers[operation.key].push(operation);
    }
    for register in registers {
        check(history, &register, &mut broken);
    }
    broken
}

/// From this moment on, requests that begin are not accepted.
#[derive(Clone, Copy)]
struct End<'a> {
    from: Moment,
    promise: Promise,
    because: &'a Operation,
}

fn check(history: &History, register: &[&Operation], broken: &mut Vec<Violation>) {
    let mut ends: Vec<Option<End<'_>>> = vec![None; history.gateways];
    for &operation in register {
        for (gateway, end) in ends_of(history, operation) {
            let earliest = &mut ends[gateway];
            if earliest.is_none_or(|earliest| end.from < earliest.from) {
                *earliest = Some(end);
            }
        }
    }
    let mut broken_by = |promise, operation: &Operation, because: Option<&Operation>| {
        let changes = register.iter().filter(|each| !matches!(each.outcome, Outcome::Used(_)));
        let life = changes.map(|&change| change.clone()).collect();
        broken.push(Violation { promise, operation: operation.clone(), because: because.cloned(), life });
    };
    for &operation in register {
        match &operation.outcome {
            Outcome::Used(Use::Accepted) => {
                if let Some(end) = ends[operation.gateway].filter(|end| operation.began > end.from) {
                    broken_by(end.promise, operation, Some(end.because));
                }
            }
            Outcome::Used(denied @ (Use::Dead | Use::Expired | Use::Denied(_)))
                if !is_deserved(denied, operation, register) =>
            {
                broken_by(Promise::NoUndeservedDenial, operation, None);
            }
            _ => {}
        }
    }
}

/// What an operation promises: for which gateways the key has ended, and when.
fn ends_of<'a>(history: &History, operation: &'a Operation) -> Vec<(Gateway, End<'a>)> {
    let here = operation.gateway;
    let end = |from, promise| End { from, promise, because: operation };
    let everywhere = |from, promise| (0..history.gateways).map(move |gateway| (gateway, end(from, promise)));
    match &operation.outcome {
        Outcome::Used(Use::Dead | Use::Expired) => {
            vec![(here, end(operation.ended, Promise::RefusedForEver))]
        }
        Outcome::Revoked(Revocation::Receipt { acknowledged, effective_by }) => {
            let acknowledged = acknowledged.iter().copied().chain([here]);
            let acknowledged =
                acknowledged.map(|gateway| (gateway, end(operation.ended, Promise::Acknowledged)));
            // Where all have acknowledged, the date is about the past.
            let by = (*effective_by + ROUNDING).max(operation.began);
            acknowledged.chain(everywhere(by, Promise::EffectiveBy)).collect()
        }
        Outcome::Revoked(Revocation::HereOnly) => vec![(here, end(operation.ended, Promise::Acknowledged))],
        // The gateway that rotated it knows the end; the others at the latest when they may trust nothing older.
        Outcome::Rotated { ends } => {
            let ends = *ends + CLOCK;
            let known = end(ends.max(operation.ended), Promise::GraceEnds);
            let by = ends.max(operation.ended + history.max_staleness);
            everywhere(by, Promise::GraceEnds).chain([(here, known)]).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether something happened that a denial could come from.
fn is_deserved(denied: &Use, denial: &Operation, register: &[&Operation]) -> bool {
    register.iter().any(|cause| {
        cause.began < denial.ended
            && match (denied, &cause.outcome) {
                (Use::Dead, Outcome::Revoked(_)) => true,
                (Use::Expired, Outcome::Rotated { ends }) => denial.ended + CLOCK >= *ends,
                (Use::Expired, Outcome::PerhapsRotated { grace }) => {
                    denial.ended + CLOCK >= cause.began + *grace
                }
                _ => false,
            }
    })
}
