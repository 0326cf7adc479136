//! A Redis that is down, or only seems to be there.

use std::time::Duration;

use crate::refusals::assert_refused;
use crate::support::redis::unused_port;
use crate::support::wait::{Moment, PATIENCE, full, moment, moment_of, pause, wait_until};
use crate::support::{Fleet, Gateway, RedisServer, eventually};

use super::{BACK, BUSY, RECOVERED, Scene, metric, short_lived, unacknowledged};

#[test]
fn a_redis_that_is_killed_and_comes_back_with_its_data_is_survived() {
    let mut scene = Scene::set();
    scene.endure(
        "Redis killed, back with its AOF",
        |fleet| fleet.redis.kill(),
        |fleet, ()| fleet.redis.start_again(),
    );
}

#[test]
fn a_redis_that_is_stopped_where_it_stands_is_survived() {
    let mut scene = Scene::for_a_fault_of(if full() { 30 } else { 5 });
    scene.endure("Redis stopped by SIGSTOP", |fleet| fleet.redis.freeze(), |fleet, ()| fleet.redis.thaw());
}

#[test]
fn a_network_that_swallows_everything_without_a_reset_is_survived() {
    let mut scene = Scene::set();
    scene.endure(
        "Redis behind a black hole",
        |fleet| fleet.cables.iter().for_each(|cable| cable.go_dead()),
        |fleet, ()| fleet.cables.iter().for_each(|cable| cable.come_alive()),
    );
}

#[test]
fn connections_that_are_cut_again_and_again_are_survived() {
    let mut scene = Scene::set();
    let watch = super::Watch::begin(&scene.fleet, &scene.keys);
    let end = moment() + scene.lasts;
    while moment() < end {
        scene.fleet.cables.iter().for_each(|cable| cable.cut());
        pause(Duration::from_millis(200));
    }
    watch.wait_until_unused_keys_open(moment(), BACK + BUSY);
    scene.assert_life_goes_on();
    watch.end().assert_nobody_was_wronged();
}

#[test]
#[ignore = "takes three minutes"]
fn with_all_defaults_keys_in_use_survive_150_seconds_without_redis() {
    let mut scene = Scene::with(148, |_, builder| builder.set("KEYGATE_LOOKUP__TIMEOUT_MS", "300"));
    scene.endure(
        "Redis away, with all defaults",
        |fleet| fleet.redis.kill(),
        |fleet, ()| fleet.redis.start_again(),
    );
}

/// A gateway whose records serve for eight seconds, and its Redis.
fn forgetful_gateway() -> Fleet {
    Fleet::with(1, |_, builder| short_lived(builder, 8))
}

#[test]
fn what_is_refreshed_at_half_its_life_outlives_what_is_not() {
    let mut fleet = forgetful_gateway();
    let gateway = &fleet.gateways[0];
    let (used, left) = (fleet.key_in_use(), fleet.key_in_use());
    let loaded = moment();
    eventually("the key in use is refreshed", PATIENCE, || {
        gateway.use_key(&used.key).assert_forwarded();
        metric(gateway, "keygate_refreshes_total", r#"result="done""#) >= 1.0
    });
    assert!(moment() - loaded < Duration::from_secs(8), "it was refreshed before it had to be");
    fleet.redis.kill();
    let gateway = &fleet.gateways[0];
    wait_until(loaded + Duration::from_millis(8_200));
    gateway.use_key(&used.key).assert_forwarded();
    assert_refused(&gateway.use_key(&left.key), "verification_unavailable");
    fleet.redis.start_again();
    eventually("the other key opens again", BACK + BUSY, || gateway.use_key(&left.key).status == 200);
}

#[test]
fn nothing_is_trusted_for_longer_than_was_promised() {
    let mut fleet = forgetful_gateway();
    let created = fleet.key_in_use();
    fleet.redis.kill();
    let killed = moment();
    let gateway = &fleet.gateways[0];
    let mut last = killed;
    eventually("the key in use is not trusted any more", PATIENCE, || {
        let started = moment();
        let answer = gateway.use_key(&created.key);
        if answer.status == 200 {
            last = started;
            return false;
        }
        assert_refused(&answer, "verification_unavailable");
        true
    });
    assert!(last - killed <= Duration::from_secs(8), "trusted for {:?}", last - killed);
    fleet.redis.start_again();
    let gateway = &fleet.gateways[0];
    eventually("it opens again", BACK + BUSY, || gateway.use_key(&created.key).status == 200);
}

#[test]
fn a_gateway_that_is_cut_off_accepts_nothing_after_the_time_that_the_receipt_tells() {
    let fleet = Fleet::with(2, |_, builder| {
        short_lived(builder, 3).set("KEYGATE_REVOCATION__RECEIPT_TIMEOUT_MS", "300")
    });
    let created = fleet.key_in_use();
    let [revoker, other] = [&fleet.gateways[0], &fleet.gateways[1]];
    let its_id = other.admin().gateway_id();
    other.use_key(&created.key).assert_forwarded();
    fleet.cables[1].go_dead();
    let revoked = revoker.admin().revoke(&created.id);
    assert_refused(&revoker.use_key(&created.key), "key_revoked");
    assert_eq!(unacknowledged(&revoked), [its_id], "{revoked}");
    let effective_by = revoked["revocation"]["effective_by"].as_str().expect("a receipt tells it");
    let effective_by = moment_of(effective_by);
    assert!(effective_by <= moment() + Duration::from_secs(3), "{revoked}");

    let accepts_until = last_accepted(other, &created.key, effective_by + BUSY);
    assert!(accepts_until <= effective_by, "accepted {:?} too late", accepts_until - effective_by);
    fleet.cables[1].come_alive();
    fleet.assert_refused_everywhere(&created.key, RECOVERED + BUSY);
}

/// When the last request that was accepted had begun; asks on until `until`, and until it was refused once.
fn last_accepted(gateway: &Gateway, key: &str, until: Moment) -> Moment {
    let mut last = Moment::ZERO;
    eventually("the key is refused", 2 * PATIENCE, || {
        let started = moment();
        let answer = gateway.use_key(key);
        match answer.status {
            200 => last = started,
            _ => assert!(
                matches!(answer.code().as_str(), "verification_unavailable" | "key_revoked"),
                "{answer:?}"
            ),
        }
        answer.status != 200 && moment() > until
    });
    last
}

#[test]
fn a_redis_that_throws_keys_away_is_an_outage_until_it_is_set_right() {
    let mut scene = Scene::set();
    let set = |redis: &RedisServer, policy: &str| {
        let _: String = redis.run(&["CONFIG", "SET", "maxmemory-policy", policy]);
    };
    scene.endure_once_it_is_noticed(
        "Redis set to evict keys",
        |fleet| set(&fleet.redis, "allkeys-lru"),
        |fleet, ()| {
            for gateway in &fleet.gateways {
                assert!(mismatch(gateway).contains("noeviction"), "{}", mismatch(gateway));
            }
            set(&fleet.redis, "noeviction");
        },
    );
}

#[test]
fn a_replica_is_not_the_store() {
    let mut scene = Scene::set();
    // Cut off from its primary, it keeps what it has, as one does that was demoted and has not synchronised yet.
    let nobody = unused_port().to_string();
    scene.endure_once_it_is_noticed(
        "Redis demoted to a replica",
        |fleet| drop(fleet.redis.run::<String>(&["REPLICAOF", "127.0.0.1", &nobody])),
        |fleet, ()| {
            for gateway in &fleet.gateways {
                assert!(mismatch(gateway).contains("replica"), "{}", mismatch(gateway));
            }
            let _: String = fleet.redis.run(&["REPLICAOF", "NO", "ONE"]);
        },
    );
}

/// Why a gateway does not use the store; empty if it does.
fn mismatch(gateway: &Gateway) -> String {
    let answer = gateway.admin().get("/v1/store");
    answer.json()["mismatch"].as_str().unwrap_or_default().to_owned()
}
