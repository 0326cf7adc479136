//! The checker itself: a record that breaks one promise is caught, and one that breaks none is not.

use std::collections::BTreeSet;
use std::time::Duration;

use super::check::{Promise, violations};
use super::record::{History, Operation, Outcome, Revocation, Use};
use crate::support::wait::Moment;

const GATEWAYS: usize = 3;
const MAX_STALENESS: Duration = Duration::from_secs(2);

fn at(millis: u64) -> Moment {
    Duration::from_millis(millis)
}

/// An operation on the key 0 from `began` on, ten milliseconds long.
fn operation(gateway: usize, began: u64, outcome: Outcome) -> Operation {
    Operation { key: 0, gateway, began: at(began), ended: at(began + 10), outcome }
}

fn used(gateway: usize, began: u64, how: Use) -> Operation {
    operation(gateway, began, Outcome::Used(how))
}

fn receipt(gateway: usize, began: u64, acknowledged: &[usize], effective_by: u64) -> Operation {
    let acknowledged: BTreeSet<_> = acknowledged.iter().copied().collect();
    let outcome = Outcome::Revoked(Revocation::Receipt { acknowledged, effective_by: at(effective_by) });
    operation(gateway, began, outcome)
}

fn rotated(gateway: usize, began: u64, ends: u64) -> Operation {
    operation(gateway, began, Outcome::Rotated { ends: at(ends) })
}

fn broken(operations: Vec<Operation>) -> Vec<Promise> {
    let mut all = vec![operation(0, 0, Outcome::Created)];
    all.extend(operations);
    let history =
        History { operations: all, gateways: GATEWAYS, max_staleness: MAX_STALENESS, oddities: Vec::new() };
    violations(&history).into_iter().map(|violation| violation.promise).collect()
}

#[test]
fn a_record_that_keeps_every_promise_is_not_accused() {
    assert_eq!(
        broken(vec![
            used(0, 100, Use::Accepted),
            used(1, 100, Use::Unavailable),
            used(2, 100, Use::Lost),
            receipt(0, 1_000, &[0, 1], 3_000),
            // These began before anybody had promised anything.
            used(0, 1_009, Use::Accepted),
            used(1, 1_010, Use::Accepted),
            used(0, 1_020, Use::Dead),
            used(1, 1_020, Use::Dead),
            // It was not heard from, and may.
            used(2, 2_990, Use::Accepted),
            used(2, 3_500, Use::Unavailable),
            used(2, 3_600, Use::Dead),
        ]),
        []
    );
    assert_eq!(
        broken(vec![
            rotated(1, 1_000, 4_000),
            used(1, 3_990, Use::Accepted),
            used(1, 4_300, Use::Expired),
            receipt(2, 5_000, &[0, 1, 2], 5_010),
            used(1, 5_020, Use::Dead),
        ]),
        []
    );
}

#[test]
fn an_accept_after_its_gateway_acknowledged_is_caught() {
    for gateway in [0, 1] {
        let accepted = used(gateway, 1_011, Use::Accepted);
        assert_eq!(broken(vec![receipt(0, 1_000, &[0, 1], 9_000), accepted]), [Promise::Acknowledged]);
    }
    // Also where the record has it in another order, and where a later receipt says it again.
    let early = used(1, 1_011, Use::Accepted);
    let later = receipt(2, 5_000, &[0, 1, 2], 5_010);
    assert_eq!(broken(vec![early, later, receipt(0, 1_000, &[1], 9_000)]), [Promise::Acknowledged]);
}

#[test]
fn an_accept_on_the_gateway_that_revoked_is_caught_whatever_the_others_know() {
    let here = operation(2, 1_000, Outcome::Revoked(Revocation::HereOnly));
    assert_eq!(broken(vec![here.clone(), used(2, 1_011, Use::Accepted)]), [Promise::Acknowledged]);
    assert_eq!(broken(vec![here, used(1, 1_011, Use::Accepted)]), []);
}

#[test]
fn an_accept_after_the_time_that_the_receipt_told_is_caught() {
    let receipt = receipt(0, 1_000, &[0, 1], 3_000);
    assert_eq!(broken(vec![receipt.clone(), used(2, 3_002, Use::Accepted)]), [Promise::EffectiveBy]);
    assert_eq!(broken(vec![receipt, used(2, 3_000, Use::Accepted)]), []);
}

#[test]
fn an_accept_after_a_refusal_is_caught() {
    let revoked = receipt(0, 1_000, &[0], 9_000);
    let operations = vec![revoked.clone(), used(2, 1_100, Use::Dead), used(2, 1_111, Use::Accepted)];
    assert_eq!(broken(operations), [Promise::RefusedForEver]);
    let operations = vec![revoked, used(2, 1_100, Use::Dead), used(1, 1_111, Use::Accepted)];
    assert_eq!(broken(operations), []);
    let operations = vec![rotated(0, 100, 150), used(2, 1_000, Use::Expired), used(2, 1_011, Use::Accepted)];
    assert_eq!(broken(operations), [Promise::RefusedForEver]);
}

#[test]
fn an_accept_after_a_grace_is_caught() {
    // At once on the gateway that knows, and elsewhere when nothing older may be trusted.
    assert_eq!(broken(vec![rotated(0, 100, 1_000), used(0, 1_300, Use::Accepted)]), [Promise::GraceEnds]);
    assert_eq!(broken(vec![rotated(0, 100, 1_000), used(1, 1_300, Use::Accepted)]), []);
    assert_eq!(broken(vec![rotated(0, 100, 1_000), used(1, 2_300, Use::Accepted)]), [Promise::GraceEnds]);
}

#[test]
fn a_living_key_that_is_denied_is_caught() {
    let denied = |how| broken(vec![used(1, 100, how)]);
    for how in [Use::Dead, Use::Expired, Use::Denied("key_unknown".to_owned())] {
        assert_eq!(denied(how.clone()), [Promise::NoUndeservedDenial], "{how:?}");
    }
    // The revocation comes too late to have been the cause; a rotation is no revocation, and has not ended yet.
    assert_eq!(
        broken(vec![used(1, 100, Use::Dead), receipt(0, 200, &[0], 900)]),
        [Promise::NoUndeservedDenial]
    );
    assert_eq!(broken(vec![rotated(0, 100, 150), used(1, 1_000, Use::Dead)]), [Promise::NoUndeservedDenial]);
    assert_eq!(
        broken(vec![rotated(0, 100, 9_000), used(1, 1_000, Use::Expired)]),
        [Promise::NoUndeservedDenial]
    );
    // Whatever happened to it, it is not unknown.
    let unknown = used(1, 2_000, Use::Denied("key_unknown".to_owned()));
    assert_eq!(broken(vec![receipt(0, 1_000, &[0, 1, 2], 1_010), unknown]), [Promise::NoUndeservedDenial]);
}

#[test]
fn what_perhaps_happened_excuses_a_denial_and_promises_nothing() {
    let perhaps = operation(0, 100, Outcome::Revoked(Revocation::Perhaps));
    assert_eq!(broken(vec![perhaps.clone(), used(1, 200, Use::Dead), used(2, 300, Use::Accepted)]), []);
    assert_eq!(broken(vec![perhaps, used(0, 200, Use::Accepted)]), []);
    let perhaps = operation(0, 100, Outcome::PerhapsRotated { grace: at(1_000) });
    assert_eq!(
        broken(vec![perhaps.clone(), used(1, 1_100, Use::Expired), used(2, 1_200, Use::Accepted)]),
        []
    );
    assert_eq!(broken(vec![perhaps, used(1, 200, Use::Expired)]), [Promise::NoUndeservedDenial]);
}

#[test]
fn keys_do_not_answer_for_each_other() {
    let mut other = used(0, 2_000, Use::Accepted);
    other.key = 1;
    assert_eq!(broken(vec![receipt(0, 1_000, &[0, 1, 2], 1_010), other]), []);
}

#[test]
fn what_is_odd_is_told() {
    let history = History { oddities: vec!["a receipt of five".to_owned()], ..History::default() };
    let promises: Vec<_> = violations(&history).into_iter().map(|violation| violation.promise).collect();
    assert_eq!(promises, [Promise::NothingOdd]);
}
