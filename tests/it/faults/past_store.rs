//! The fleet's own store, from another time: what was written since is lost, or something else was written instead.

use crate::refusals::assert_refused;
use crate::support::redis::{Snapshot, shard_of};
use crate::support::wait::{PATIENCE, eventually_some, moment};
use crate::support::{CreatedKey, Fleet, Gateway, GatewayBuilder, RedisServer, Upstream, eventually};

use super::watch::{Keys, Watch};
use super::{BACK, BUSY, RECOVERED, measured, metric, unacknowledged};

/// Without the no-ops that fleets write: the logs hold what these tests write, and nothing else.
fn quiet(builder: GatewayBuilder) -> GatewayBuilder {
    builder.set("KEYGATE_REVOCATION__CANARY_INTERVAL_S", "3600")
}

fn fleet() -> Fleet {
    Fleet::with(2, |_, builder| quiet(builder))
}

/// Another gateway that meets this Redis for the first time.
fn newcomer(redis: &RedisServer, upstream: &Upstream) -> Gateway {
    quiet(Gateway::builder()).redis(redis).live(upstream).start()
}

/// What the store holds now. It is stopped for that, and comes back.
fn snapshot(fleet: &mut Fleet) -> Snapshot {
    fleet.redis.kill();
    let snapshot = fleet.redis.snapshot();
    fleet.redis.start_again();
    let began = moment();
    eventually("the fleet is back", PATIENCE, || {
        fleet.gateways.iter().all(|gateway| {
            gateway.admin().get("/v1/keys?limit=1").status == 200
                && gateway.metrics().sum("keygate_feed_connected", &[]) == 1.0
                && gateway.metrics().sum("keygate_currency_age_seconds", &[])
                    < (moment() - began).as_secs_f64()
        })
    });
    snapshot
}

/// Several keys in one shard.
fn neighbours(gateway: &Gateway, count: usize) -> Vec<CreatedKey> {
    let mut shards = std::collections::BTreeMap::<char, Vec<CreatedKey>>::new();
    loop {
        let created = gateway.admin().create("live");
        let shard = shards.entry(shard_of(&created.key)).or_default();
        shard.push(created);
        if shard.len() == count {
            return std::mem::take(shard);
        }
    }
}

/// That a store which had lost a revocation has it again: whoever meets it for the first time knows.
fn assert_is_told_again(fleet: &Fleet, key: &str) {
    eventually("the lost revocation is written again", RECOVERED + BUSY, || {
        let told = |gateway| metric(gateway, "keygate_revocations_reasserted_total", "");
        fleet.gateways.iter().map(told).sum::<f64>() >= 1.0
    });
    let newcomer = newcomer(&fleet.redis, &fleet.upstream);
    assert_refused(&newcomer.use_key(key), "key_revoked");
}

#[test]
fn a_store_that_was_restored_from_before_a_revocation_is_told_of_it_again() {
    let mut fleet = fleet();
    let (dying, living) = (fleet.key_in_use(), fleet.key_in_use());
    let before = snapshot(&mut fleet);
    fleet.gateways[0].admin().revoke(&dying.id);
    fleet.assert_refused_everywhere(&dying.key, RECOVERED + BUSY);

    let keys = Keys { in_use: vec![living.key.clone()], unused: Vec::new(), dead: vec![dying.key.clone()] };
    let watch = Watch::begin(&fleet, &keys);
    fleet.redis.kill();
    fleet.redis.restore(&before);
    fleet.redis.start_again();
    assert_is_told_again(&fleet, &dying.key);
    for gateway in &fleet.gateways {
        eventually("the gap is seen", RECOVERED + BUSY, || {
            metric(gateway, "keygate_feed_gaps_total", r#"reason="forked""#) >= 1.0
        });
    }
    let next = fleet.gateways[0].admin().create("live");
    for gateway in &fleet.gateways {
        eventually("new keys open", BACK + BUSY, || gateway.use_key(&next.key).status == 200);
    }
    watch.end().assert_nobody_was_wronged();
}

#[test]
fn a_key_that_only_the_lost_future_knew_cannot_be_made_again() {
    let mut fleet = fleet();
    let before = snapshot(&mut fleet);
    let key = crate::support::keys::foreign_live("made, revoked and lost");
    let hash = crate::support::keys::sha256_hex(key.as_bytes());
    let admin = fleet.gateways[0].admin();
    admin.import(&hash, "live");
    fleet.use_everywhere_soon(&key);
    assert_eq!(admin.post("/v1/keys/revoke", &serde_json::json!({"key": key})).status, 200);
    fleet.assert_refused_everywhere(&key, RECOVERED + BUSY);
    fleet.redis.kill();
    fleet.redis.restore(&before);
    fleet.redis.start_again();
    eventually("the lost revocation is written again", RECOVERED + BUSY, || {
        let told = |gateway| metric(gateway, "keygate_revocations_reasserted_total", "");
        fleet.gateways.iter().map(told).sum::<f64>() >= 1.0
    });
    let newcomer = newcomer(&fleet.redis, &fleet.upstream);
    newcomer.admin().import(&hash, "live");
    for gateway in fleet.gateways.iter().chain([&newcomer]) {
        let answer = gateway.use_key(&key);
        assert!(matches!(answer.code().as_str(), "key_revoked" | "key_unknown"), "{answer:?}");
    }
}

#[test]
fn a_store_that_was_forked_is_found_out_and_both_pasts_are_honoured() {
    both_pasts_are_honoured(1);
}

#[test]
fn a_fork_that_is_further_on_is_found_out_too() {
    both_pasts_are_honoured(3);
}

/// The store is copied; one key is revoked in ours and `elsewhere` others in the copy, all in one shard; then the copy
/// stands in the place of ours. With one each, the logs are equally long.
fn both_pasts_are_honoured(elsewhere: usize) {
    let mut fleet = fleet();
    let mut keys = neighbours(&fleet.gateways[0], 2 + elsewhere);
    for created in &keys {
        fleet.use_everywhere(&created.key);
    }
    let (ours, living) = (keys.remove(0), keys.remove(0));
    let before = snapshot(&mut fleet);

    let mut copy = RedisServer::start_from(&before);
    let stranger = newcomer(&copy, &fleet.upstream);
    for theirs in &keys {
        stranger.admin().revoke(&theirs.id);
    }
    let made_there = stranger.admin().create("live");
    drop(stranger);
    fleet.gateways[0].admin().revoke(&ours.id);
    fleet.assert_refused_everywhere(&ours.key, RECOVERED + BUSY);

    let watched = Keys { in_use: vec![living.key.clone()], unused: Vec::new(), dead: vec![ours.key.clone()] };
    let watch = Watch::begin(&fleet, &watched);
    fleet.redis.kill();
    copy.kill();
    fleet.redis.change_places_with(&mut copy);
    fleet.redis.start_again();
    let back = moment();
    for theirs in &keys {
        fleet.assert_refused_everywhere(&theirs.key, RECOVERED + BUSY);
    }
    let took = (moment() - back).as_millis();
    measured(&format!(
        "Redis forked, {elsewhere} entries in one log: recovered in {took} ms (required: 2000 ms)"
    ));
    for gateway in &fleet.gateways {
        assert!(metric(gateway, "keygate_feed_gaps_total", r#"reason="forked""#) >= 1.0);
        gateway.use_key(&made_there.key).assert_forwarded();
    }
    assert_is_told_again(&fleet, &ours.key);
    watch.end().assert_nobody_was_wronged();
}

/// A gateway that stood far on in the log that is lost has a high position, and has applied nothing of what is written
/// to the store that came back.
#[test]
fn a_receipt_right_after_a_restore_counts_nobody_who_has_not_read_the_store_since() {
    let mut fleet = fleet();
    for _ in 0..3 {
        let mut keys = neighbours(&fleet.gateways[0], 6);
        let dying = keys.remove(0);
        fleet.use_everywhere(&dying.key);
        let before = snapshot(&mut fleet);
        let [revoker, other] = [&fleet.gateways[0], &fleet.gateways[1]];
        for created in &keys {
            assert_eq!(unacknowledged(&revoker.admin().revoke(&created.id)), [""; 0]);
        }
        let its_id = other.admin().gateway_id();
        other.use_key(&dying.key).assert_forwarded();

        fleet.redis.kill();
        fleet.redis.restore(&before);
        fleet.redis.start_again();
        let [revoker, other] = [&fleet.gateways[0], &fleet.gateways[1]];
        let (admin, path) = (revoker.admin(), format!("/v1/keys/{}/revoke", dying.id));
        let revoked = eventually_some("the store takes the revocation", BACK + BUSY, || {
            let answer = admin.post(&path, &serde_json::json!({}));
            (answer.status == 200).then(|| answer.json())
        });
        let answer = other.use_key(&dying.key);
        if !unacknowledged(&revoked).contains(&its_id) {
            assert_refused(&answer, "key_revoked");
        }
        fleet.assert_refused_everywhere(&dying.key, RECOVERED + BUSY);
    }
}
