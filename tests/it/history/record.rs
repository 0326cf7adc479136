//! What was seen: operations with their beginning, their end and their outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::support::wait::Moment;

/// A key by its number in the record.
pub type Key = usize;
/// A gateway by its number in the fleet.
pub type Gateway = usize;

/// One operation on one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    pub key: Key,
    pub gateway: Gateway,
    /// Before it was asked for.
    pub began: Moment,
    /// After it was answered.
    pub ended: Moment,
    pub outcome: Outcome,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The key was made. Before, nobody could have used it.
    Created,
    Used(Use),
    Revoked(Revocation),
    /// It was rotated: it ends then.
    Rotated {
        ends: Moment,
    },
    /// It was to be rotated, with this grace, and nobody knows whether it was.
    PerhapsRotated {
        grace: Duration,
    },
}

/// How a request with the key was answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Use {
    Accepted,
    /// `key_revoked`.
    Dead,
    /// `key_expired`.
    Expired,
    /// 503: nobody could say.
    Unavailable,
    /// Anything else, as `key_unknown`.
    Denied(String),
    /// There was no answer.
    Lost,
}

/// What the answer to a revocation promised.
#[derive(Clone, Debug, PartialEq)]
pub enum Revocation {
    /// Not accepted by these any more, and by nobody after `effective_by`.
    Receipt { acknowledged: BTreeSet<Gateway>, effective_by: Moment },
    /// Not accepted here any more; the others do not know yet.
    HereOnly,
    /// It may have happened, or not.
    Perhaps,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub operations: Vec<Operation>,
    pub gateways: usize,
    /// For how long a gateway trusts what it cannot prove.
    pub max_staleness: Duration,
    /// What went wrong besides: receipts that count the wrong number of gateways, for one.
    pub oddities: Vec<String>,
}

impl History {
    /// How many of each outcome there are.
    pub fn summary(&self) -> String {
        let mut counts = BTreeMap::<&str, usize>::new();
        for operation in &self.operations {
            *counts.entry(operation.outcome.name()).or_default() += 1;
        }
        let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
        format!("{} operations: {}", self.operations.len(), counts.join(", "))
    }

    /// A run in which nothing happened would keep every promise.
    pub fn assert_says_something(&self) {
        for name in
            ["created", "accepted", "refused as dead", "receipt of everybody", "receipt of some", "rotated"]
        {
            let count =
                self.operations.iter().filter(|operation| operation.outcome.is(name, self.gateways)).count();
            assert!(count > 0, "there was no {name:?}: {}", self.summary());
        }
    }
}

impl Outcome {
    fn name(&self) -> &'static str {
        match self {
            Outcome::Created => "created",
            Outcome::Used(Use::Accepted) => "accepted",
            Outcome::Used(Use::Dead) => "refused as dead",
            Outcome::Used(Use::Expired) => "refused as expired",
            Outcome::Used(Use::Unavailable) => "unavailable",
            Outcome::Used(Use::Denied(_)) => "denied",
            Outcome::Used(Use::Lost) => "lost",
            Outcome::Revoked(Revocation::Receipt { .. }) => "revoked with a receipt",
            Outcome::Revoked(Revocation::HereOnly) => "revoked here only",
            Outcome::Revoked(Revocation::Perhaps) => "perhaps revoked",
            Outcome::Rotated { .. } => "rotated",
            Outcome::PerhapsRotated { .. } => "perhaps rotated",
        }
    }

    fn is(&self, name: &str, gateways: usize) -> bool {
        match self {
            Outcome::Revoked(Revocation::Receipt { acknowledged, .. }) if acknowledged.len() == gateways => {
                name == "receipt of everybody"
            }
            Outcome::Revoked(Revocation::Receipt { .. }) => name == "receipt of some",
            _ => name == self.name(),
        }
    }
}
