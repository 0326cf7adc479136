//! What answers at the store's address is not the fleet's store: an outage, until an operator has decided.

use serde_json::{Value, json};

use crate::refusals::assert_refused;
use crate::support::wait::{PATIENCE, eventually_some};
use crate::support::{Fleet, Gateway, Ran, RedisServer, Upstream, eventually, keys};

use super::{BACK, BUSY, RECOVERED, Scene, metric};

/// `EX_USAGE`, and a word that was missing.
const NOT_CONFIRMED: i32 = 64;

/// What a gateway finds at its store's address, as soon as something answers there.
fn store(gateway: &Gateway) -> Value {
    eventually_some("something answers where the store should be", BACK + BUSY, || {
        let answer = gateway.admin().get("/v1/store");
        assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
        (answer.status == 200).then(|| answer.json())
    })
}

/// Another fleet's Redis, with a key of theirs in it; stopped.
fn foreign_redis(upstream: &Upstream) -> (RedisServer, String) {
    let mut redis = RedisServer::start();
    let mut gateway = Gateway::builder().redis(&redis).live(upstream).start();
    let key = gateway.live_key();
    assert!(gateway.terminate().success());
    redis.kill();
    (redis, key)
}

#[test]
fn a_redis_that_lost_everything_is_an_outage_and_is_left_alone() {
    let mut scene = Scene::set();
    scene.endure(
        "Redis restarted empty",
        |fleet| {
            fleet.redis.kill();
            let kept = fleet.redis.snapshot();
            fleet.redis.lose_everything();
            fleet.redis.start_again();
            kept
        },
        |fleet, kept| {
            for gateway in &fleet.gateways {
                assert!(store(gateway)["mismatch"].as_str().is_some_and(|text| text.contains("empty")));
                assert_eq!(create(gateway), 503);
            }
            assert_eq!(fleet.redis.content().len(), 0, "nothing is written to what may be a mistake");
            fleet.redis.kill();
            fleet.redis.restore(&kept);
            fleet.redis.start_again();
        },
    );
}

#[test]
fn another_fleets_redis_is_an_outage_and_is_left_alone() {
    let mut scene = Scene::set();
    let (mut other, their_key) = foreign_redis(&scene.fleet.upstream);
    scene.endure(
        "Redis replaced by another fleet's",
        move |fleet| {
            fleet.redis.kill();
            fleet.redis.change_places_with(&mut other);
            fleet.redis.start_again();
            (fleet.redis.content(), other)
        },
        |fleet, (theirs, mut other)| {
            for gateway in &fleet.gateways {
                let store = store(gateway);
                assert!(store["found"].is_string() && store["found"] != store["ours"], "{store}");
                assert!(store["mismatch"].is_string(), "{store}");
                assert_eq!(create(gateway), 503);
                assert_ne!(gateway.use_key(&their_key).status, 200);
            }
            assert_eq!(fleet.redis.content(), theirs, "nothing is written to another fleet's store");
            fleet.redis.kill();
            fleet.redis.change_places_with(&mut other);
            fleet.redis.start_again();
        },
    );
}

fn create(gateway: &Gateway) -> u16 {
    let body = json!({"label": "Nowhere", "environment": "live", "team": "acme"});
    gateway.admin().post("/v1/keys", &body).status
}

/// A revocation that is asked for while the store is not ours is in force here, and is not lost.
#[test]
fn a_revocation_while_the_store_is_another_acts_here_and_is_written_when_it_is_back() {
    let mut fleet = Fleet::of(2);
    let created = fleet.key_in_use();
    fleet.redis.kill();
    let kept = fleet.redis.snapshot();
    fleet.redis.lose_everything();
    fleet.redis.start_again();
    let answer = fleet.gateways[0].admin().post("/v1/keys/revoke", &json!({"key": created.key}));
    assert_eq!((answer.status, answer.code().as_str()), (503, "revocation_not_stored"), "{}", answer.text());
    assert_refused(&fleet.gateways[0].use_key(&created.key), "key_revoked");
    fleet.gateways[1].use_key(&created.key).assert_forwarded();
    assert_eq!(metric(&fleet.gateways[0], "keygate_revocations_pending", ""), 1.0);
    assert_eq!(fleet.redis.content().len(), 0);
    fleet.redis.kill();
    fleet.redis.restore(&kept);
    fleet.redis.start_again();
    fleet.assert_refused_everywhere(&created.key, PATIENCE);
    eventually("nothing is left to be written", PATIENCE, || {
        metric(&fleet.gateways[0], "keygate_revocations_pending", "") == 0.0
    });
}

/// Looks, accepts without and with the word that it takes, and returns the last.
fn accept(gateway: &Gateway) -> Ran {
    let shown = gateway.cli(&["store", "show"]).assert_code(0);
    assert!(!shown.stdout.is_empty(), "{shown:?}");
    let asked = gateway.cli(&["store", "accept"]).assert_code(NOT_CONFIRMED);
    let said = format!("{}{}", asked.stdout, asked.stderr);
    assert!(said.contains("--yes"), "it says what to do: {asked:?}");
    assert!(store(gateway)["mismatch"].is_string(), "asking changes nothing");
    gateway.cli(&["store", "accept", "--yes"]).assert_code(0)
}

#[test]
fn an_emptied_store_that_an_operator_accepts_is_the_fleets_from_then_on() {
    let mut fleet = Fleet::of(2);
    let (living, dead) = (fleet.key_in_use(), fleet.key_in_use());
    fleet.gateways[0].admin().revoke(&dead.id);
    fleet.assert_refused_everywhere(&dead.key, RECOVERED + BUSY);
    let ours = store(&fleet.gateways[0])["ours"].clone();
    fleet.redis.kill();
    fleet.redis.lose_everything();
    fleet.redis.start_again();
    eventually("it is seen to be empty", BACK + BUSY, || store(&fleet.gateways[0])["mismatch"].is_string());
    accept(&fleet.gateways[0]);

    eventually("both gateways go on", BACK + BUSY, || {
        fleet.gateways.iter().all(|gateway| {
            let store = store(gateway);
            store["mismatch"].is_null() && store["found"] == ours && store["ours"] == ours
        })
    });
    // What it lost is unknown now, and that is what the operator accepted. What is dead stays dead, for newcomers too.
    for gateway in &fleet.gateways {
        eventually("a lost key is unknown", PATIENCE, || {
            gateway.use_key(&living.key).code() == "key_unknown"
        });
        assert_refused(&gateway.use_key(&dead.key), "key_revoked");
    }
    eventually("the store is told of the revocation", PATIENCE, || {
        let hash = keys::sha256_hex(dead.key.as_bytes());
        fleet.redis.content().keys().any(|name| name.contains(&hash))
    });
    // The check that keys carry is the same as before: new keys open everywhere.
    let fresh = super::eventually_created(&fleet.gateways[1]);
    fleet.use_everywhere_soon(&fresh.key);
}

#[test]
fn a_foreign_store_that_an_operator_accepts_serves_the_keys_of_both() {
    let mut fleet = Fleet::of(2);
    let dead = fleet.key_in_use();
    fleet.gateways[0].admin().revoke(&dead.id);
    fleet.assert_refused_everywhere(&dead.key, RECOVERED + BUSY);
    let (mut other, their_key) = foreign_redis(&fleet.upstream);
    fleet.redis.kill();
    fleet.redis.change_places_with(&mut other);
    fleet.redis.start_again();
    eventually("it is seen to be another", BACK + BUSY, || store(&fleet.gateways[0])["mismatch"].is_string());

    // Who has seen something else there decides about something else.
    let admin = fleet.gateways[0].admin();
    assert_eq!(admin.post("/v1/store/accept", &json!({"found": null})).status, 409);
    accept(&fleet.gateways[0]);
    let accepted = store(&fleet.gateways[0]);
    assert!(accepted["mismatch"].is_null() && accepted["found"] == accepted["ours"], "{accepted}");
    fleet.use_everywhere_soon(&their_key);
    for gateway in &fleet.gateways {
        assert_refused(&gateway.use_key(&dead.key), "key_revoked");
    }
    let fresh = super::eventually_created(&fleet.gateways[1]);
    fleet.use_everywhere_soon(&fresh.key);
}

#[test]
fn a_pinned_fleet_founds_nothing_and_uses_no_other_store() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let pinned = |id: &str| {
        let builder = Gateway::builder().redis(&redis).live(&upstream).set("KEYGATE_STORE_ID", id);
        builder.set("KEYGATE_LOOKUP__TIMEOUT_MS", "300")
    };
    let elsewhere = "0123456789abcdef0123456789abcdef";
    let gateway = pinned(elsewhere).start_unready();
    eventually("it sees an empty store", PATIENCE, || store(&gateway)["mismatch"].is_string());
    assert_eq!((create(&gateway), gateway.admin().readyz()), (503, Some(503)));
    assert_eq!(redis.content().len(), 0);
    drop(gateway);

    let founder = Gateway::builder().redis(&redis).live(&upstream).start();
    let key = founder.live_key();
    let id = store(&founder)["ours"].as_str().expect("the founder knows its store").to_owned();
    pinned(&id).start().use_key(&key).assert_forwarded();

    let gateway = pinned(elsewhere).start_unready();
    eventually("it sees another store", PATIENCE, || store(&gateway)["mismatch"].is_string());
    assert_eq!(store(&gateway)["ours"], elsewhere);
    assert_refused(&gateway.use_key(&key), "verification_unavailable");
    assert_eq!((create(&gateway), gateway.admin().readyz()), (503, Some(503)));
}
