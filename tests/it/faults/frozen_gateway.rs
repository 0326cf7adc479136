//! A gateway that stands still while a key is revoked, and then goes on as if no time had passed.

use std::time::Duration;

use crate::refusals::assert_refused;
use crate::support::wait::{moment, moment_of, wait_until};
use crate::support::{Connection, CreatedKey, Fleet, Request};

use super::{BUSY, RECOVERED, measured, short_lived, unacknowledged};

const STALENESS_S: u64 = 3;

/// Two gateways, the second of which stood still when the key was revoked; the receipt's `effective_by`.
fn revoked_while_one_stood_still() -> (Fleet, CreatedKey, Duration) {
    let fleet = Fleet::with(2, |_, builder| {
        short_lived(builder, STALENESS_S).set("KEYGATE_REVOCATION__RECEIPT_TIMEOUT_MS", "300")
    });
    let created = fleet.key_in_use();
    let frozen = fleet.gateways[1].admin().gateway_id();
    fleet.use_everywhere(&created.key);
    fleet.gateways[1].freeze();
    let revoked = fleet.gateways[0].admin().revoke(&created.id);
    let receipt = &revoked["revocation"];
    assert_eq!(unacknowledged(&revoked), [frozen], "{revoked}");
    assert_eq!((&receipt["acknowledged"], &receipt["gateways"]), (&1.into(), &2.into()), "{revoked}");
    assert_refused(&fleet.gateways[0].use_key(&created.key), "key_revoked");
    let effective_by = moment_of(receipt["effective_by"].as_str().expect("a receipt tells it"));
    (fleet, created, effective_by)
}

#[test]
fn a_gateway_that_stood_still_beyond_its_lease_accepts_nothing_when_it_goes_on() {
    let (fleet, created, effective_by) = revoked_while_one_stood_still();
    wait_until(effective_by + Duration::from_millis(50));
    let frozen = &fleet.gateways[1];
    // These lie before it, unread, when it wakes up.
    let request = Request::get("/v1/wallets/wlt_1").key(&created.key).to_bytes();
    let mut waiting: Vec<_> = (0..20).map(|_| Connection::open(frozen.address())).collect();
    for connection in &mut waiting {
        connection.send(&request);
    }
    frozen.thaw();
    for connection in &mut waiting {
        let answer = connection.answer();
        let code = answer.code();
        assert!(matches!(code.as_str(), "key_revoked" | "verification_unavailable"), "{answer:?}");
    }
    fleet.assert_refused_everywhere(&created.key, RECOVERED + BUSY);
}

#[test]
fn a_gateway_that_stood_still_for_a_moment_learns_what_it_slept_through() {
    let (fleet, created, _) = revoked_while_one_stood_still();
    let frozen = &fleet.gateways[1];
    frozen.thaw();
    let thawed = moment();
    let mut refused = false;
    while moment() < thawed + RECOVERED + BUSY {
        let answer = frozen.use_key(&created.key);
        assert!(!(refused && answer.status == 200), "a dead key came back");
        if answer.status != 200 {
            refused = true;
        }
        if answer.code() == "key_revoked" {
            break;
        }
    }
    let took = (moment() - thawed).as_millis();
    measured(&format!("gateway stopped during a revocation: recovered in {took} ms (required: 2000 ms)"));
    assert_refused(&frozen.use_key(&created.key), "key_revoked");
    // From then on it is counted among those who know.
    let next = fleet.key_in_use();
    let revoked = fleet.gateways[0].admin().revoke(&next.id);
    assert_eq!(unacknowledged(&revoked), [""; 0], "{revoked}");
}
