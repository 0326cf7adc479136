//! A key is replaced: the new one opens at once, the old one until its grace ends, and not a moment longer.

use std::time::Duration;

use serde_json::json;

use crate::refusals::assert_refused;
use crate::support::wait::{Moment, PATIENCE, eventually, moment, moment_of};
use crate::support::{CreatedKey, Fleet, Gateway, RedisServer, Upstream};

/// How soon the other gateways know. They do so within milliseconds; this is for a machine that is busy.
const SOON: Duration = Duration::from_secs(2);

/// How exactly a gateway knows the fleet's time of day: as exactly as one look at the store's clock tells it.
const EXACT: Duration = Duration::from_millis(250);

/// A rotation of a key that is in use everywhere: the old key, the new one, and when the old one ends.
fn rotate(fleet: &Fleet, grace: &str) -> (CreatedKey, CreatedKey, Moment) {
    let old = fleet.key_in_use();
    let changes: Vec<_> = fleet.gateways.iter().map(changes_applied).collect();
    let new = fleet.gateways[0].admin().rotate(&old.id, grace);
    for (gateway, before) in fleet.gateways.iter().zip(changes) {
        eventually("every gateway has been told", SOON, || changes_applied(gateway) > before);
    }
    let ends = moment_of(new.json["old"]["retires_at"].as_str().expect("the old key has an end"));
    (old, new, ends)
}

fn changes_applied(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("keygate_events_applied_total", &[r#"kind="changed""#])
}

#[test]
fn the_new_key_takes_over_and_both_say_so() {
    let fleet = Fleet::of(2);
    let (old, new, _) = rotate(&fleet, "1h");
    assert_ne!(old.key, new.key);
    fleet.use_everywhere(&new.key);
    fleet.use_everywhere(&old.key);
    for member in ["label", "environment", "team"] {
        assert_eq!(new.json[member], old.json[member], "{member}");
    }
    assert_eq!((&new.json["replaces"], &new.json["status"]), (&json!(old.id), &json!("active")));
    assert!(new.json["old"].get("key").is_none(), "the old key was shown once");
    let shown = fleet.gateways[1].admin().key(&old.id);
    assert_eq!((&shown["status"], &shown["replaced_by"]), (&json!("rotating"), &json!(new.id)), "{shown}");
    assert!(shown["retires_at"].is_string(), "{shown}");
    let shown = fleet.gateways[1].admin().key(&new.id);
    assert!(shown["retires_at"].is_null() && shown["replaced_by"].is_null(), "{shown}");
}

#[test]
fn the_end_of_a_grace_is_kept_to_the_second_on_every_gateway_though_nobody_tells_it() {
    let mut fleet = Fleet::of(2);
    let (old, new, ends) = rotate(&fleet, "3s");
    // Both have the record with its end. From here on nobody could tell them anything.
    fleet.use_everywhere(&old.key);
    fleet.use_everywhere(&new.key);
    fleet.redis.kill();
    for gateway in &fleet.gateways {
        gateway.use_key(&old.key).assert_forwarded();
    }
    let mut refused = vec![None; fleet.gateways.len()];
    eventually("the old key has ended everywhere", PATIENCE, || {
        for (gateway, refused) in fleet.gateways.iter().zip(&mut refused) {
            let started = moment();
            let answer = gateway.use_key(&old.key);
            if answer.status == 200 {
                assert!(started < ends + EXACT, "it opens {:?} after its end", started - ends);
                assert!(refused.is_none(), "an ended key came back");
            } else {
                assert_refused(&answer, "key_expired");
                refused.get_or_insert(moment());
            }
        }
        refused.iter().all(Option::is_some)
    });
    for refused in refused.into_iter().flatten() {
        assert!(refused + EXACT > ends, "it ended {:?} too early", ends - refused);
        assert!(refused < ends + Duration::from_secs(1), "it ended {:?} too late", refused - ends);
    }
    fleet.use_everywhere(&new.key);
}

#[test]
fn a_grace_can_be_ended_at_any_time() {
    let fleet = Fleet::of(2);
    let (old, new, _) = rotate(&fleet, "1h");
    fleet.use_everywhere(&old.key);
    fleet.gateways[1].admin().revoke(&old.id);
    assert_refused(&fleet.gateways[1].use_key(&old.key), "key_revoked");
    fleet.assert_refused_everywhere(&old.key, SOON);
    fleet.use_everywhere(&new.key);
    assert_eq!(fleet.gateways[0].admin().key(&old.id)["status"], "revoked");
}

#[test]
fn without_a_grace_the_old_key_ends_at_once() {
    let fleet = Fleet::of(2);
    let old = fleet.key_in_use();
    let new = fleet.gateways[0].admin().rotate(&old.id, "0s");
    assert_refused(&fleet.gateways[0].use_key(&old.key), "key_expired");
    eventually("the other gateway knows", SOON, || {
        fleet.gateways[1].use_key(&old.key).code() == "key_expired"
    });
    assert_eq!(fleet.gateways[1].admin().key(&old.id)["status"], "expired");
    fleet.use_everywhere(&new.key);
}

#[test]
fn uses_of_the_old_key_in_its_grace_are_counted() {
    for store in ["redis", "sqlite"] {
        let (redis, upstream) = (RedisServer::start(), Upstream::start());
        let builder = Gateway::builder().live(&upstream).flush_every_ms(50);
        let gateway = if store == "redis" { builder.redis(&redis) } else { builder }.start();
        let old = gateway.admin().create("live");
        (0..3).for_each(|_| gateway.use_key(&old.key).assert_forwarded());
        let new = gateway.admin().rotate(&old.id, "1h");
        (0..4).for_each(|_| gateway.use_key(&old.key).assert_forwarded());
        (0..2).for_each(|_| gateway.use_key(&new.key).assert_forwarded());
        let counts = |id: &str| {
            let shown = gateway.admin().key(id);
            [&shown["uses"], &shown["uses_in_grace"], &shown["refusals"]].map(|count| count.as_u64().unwrap())
        };
        eventually("the uses are written", PATIENCE, || {
            counts(&old.id) == [7, 4, 0] && counts(&new.id) == [2, 0, 0]
        });
    }
}

#[test]
fn what_cannot_be_rotated_is_left_as_it_is() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let admin = gateway.admin();
    let refused = |id: &str, body: serde_json::Value, status: u16| {
        let answer = admin.post(&format!("/v1/keys/{id}/rotate"), &body);
        assert_eq!(answer.status, status, "{}", answer.text());
    };
    let (revoked, rotated, living) = (admin.create("live"), admin.create("live"), admin.create("live"));
    admin.revoke(&revoked.id);
    admin.rotate(&rotated.id, "1h");
    refused(&revoked.id, json!({"grace": "1h"}), 409);
    refused(&rotated.id, json!({"grace": "1h"}), 409);
    for grace in ["8d", "-1s", "soon"] {
        refused(&living.id, json!({"grace": grace}), 422);
    }
    refused(&living.id, json!({"grace": "1h", "gracious": true}), 422);
    refused("key_00000000000000000000", json!({"grace": "1h"}), 404);
    gateway.use_key(&rotated.key).assert_forwarded();
    gateway.use_key(&living.key).assert_forwarded();
    assert_eq!(admin.key(&living.id)["status"], "active");
}

#[test]
fn a_key_is_rotated_at_the_command_line() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let old = gateway.admin().create("live");
    let ran = gateway.cli(&["keys", "rotate", &old.id, "--grace", "24h", "--json"]).assert_code(0);
    let new = ran.json();
    gateway.use_key(new["key"].as_str().expect("the new key is shown")).assert_forwarded();
    gateway.use_key(&old.key).assert_forwarded();
    assert_eq!(new["old"]["id"], json!(old.id));

    let second = gateway.admin().create("live");
    let ran = gateway.cli(&["keys", "rotate", &second.id, "--grace", "0s"]).assert_code(0);
    let shown: Vec<_> = ran
        .stdout
        .split_whitespace()
        .filter(|word| word.starts_with("sk_live_") && word.len() == 72)
        .collect();
    assert_eq!(shown.len(), 1, "{ran:?}");
    gateway.use_key(shown[0]).assert_forwarded();
    assert_refused(&gateway.use_key(&second.key), "key_expired");
    assert_ne!(gateway.cli(&["keys", "rotate", &second.id, "--grace", "1h"]).code, Some(0));
    for shown in [gateway.cli(&["keys", "show", &old.id]), gateway.cli(&["keys", "list"])] {
        assert!(shown.assert_code(0).stdout.to_lowercase().contains("rotating"));
    }
}

#[test]
fn a_grace_outlasts_a_restart() {
    let (upstream, directory) = (Upstream::start(), tempfile::tempdir().unwrap());
    let start = || Gateway::builder().sqlite(&directory.path().join("keys.sqlite")).live(&upstream).start();
    let gateway = start();
    let [short, long] = [(); 2].map(|()| gateway.admin().create("live"));
    let ends = gateway.admin().rotate(&short.id, "1s").json["old"]["retires_at"].clone();
    gateway.admin().rotate(&long.id, "1h");
    drop(gateway); // by SIGKILL
    let gateway = start();
    gateway.use_key(&long.key).assert_forwarded();
    assert_eq!(gateway.admin().key(&short.id)["retires_at"], ends);
    eventually("the short grace ends", PATIENCE, || gateway.use_key(&short.key).code() == "key_expired");
}
