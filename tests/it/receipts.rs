//! A revocation says where and when it took effect.

use serde_json::{Value, json};

use crate::refusals::assert_refused;
use crate::support::wait::{PATIENCE, eventually, happened_since, moment, moment_of, timed};
use crate::support::{Fleet, Gateway, GatewayBuilder, Upstream};

fn impatient(builder: GatewayBuilder) -> GatewayBuilder {
    builder.set("KEYGATE_REVOCATION__RECEIPT_TIMEOUT_MS", "500")
}

/// Revokes a fresh key that was in use everywhere, and returns the receipt.
fn receipt(fleet: &Fleet) -> Value {
    let created = fleet.key_in_use();
    fleet.gateways[0].admin().revoke(&created.id)["revocation"].clone()
}

#[test]
fn a_receipt_means_that_every_gateway_it_counts_refuses_already() {
    let fleet = Fleet::of(3);
    for revoker in &fleet.gateways {
        let created = fleet.key_in_use();
        let before = moment();
        let (took, revoked) = timed(|| revoker.admin().revoke(&created.id));
        // Not eventually: the receipt says that it is so.
        for gateway in &fleet.gateways {
            assert_refused(&gateway.use_key(&created.key), "key_revoked");
        }
        let receipt = &revoked["revocation"];
        for (member, value) in [
            ("newly_revoked", json!(true)),
            ("effective_on_this_gateway", json!(true)),
            ("acknowledged", json!(3)),
            ("gateways", json!(3)),
            ("unacknowledged", json!([])),
            ("durable", json!(true)),
            ("durable_reason", Value::Null),
        ] {
            assert_eq!(receipt[member], value, "{member}: {receipt}");
        }
        let elapsed = u128::from(receipt["elapsed_ms"].as_u64().expect("it is a number"));
        assert!((1..=took.as_millis() + 1).contains(&elapsed), "{elapsed} ms of {took:?}");
        let effective_by = receipt["effective_by"].as_str().expect("it is a date");
        assert!(happened_since(before, effective_by), "{receipt}");

        let again = revoker.admin().revoke(&created.id);
        assert_eq!(
            (&again["revocation"]["newly_revoked"], &again["revoked_at"]),
            (&json!(false), &revoked["revoked_at"])
        );
        assert_eq!(again["revocation"]["acknowledged"], 3, "{again}");
    }
}

#[test]
fn a_receipt_by_the_key_itself_is_the_same() {
    let fleet = Fleet::of(2);
    let created = fleet.key_in_use();
    let answer = fleet.gateways[0].admin().post("/v1/keys/revoke", &json!({"key": created.key}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let receipt = &answer.json()["revocation"];
    assert_eq!((&receipt["acknowledged"], &receipt["gateways"]), (&json!(2), &json!(2)), "{receipt}");
    assert_refused(&fleet.gateways[1].use_key(&created.key), "key_revoked");
}

#[test]
fn many_revocations_at_once_each_get_a_receipt_of_everybody() {
    let fleet = Fleet::of(3);
    let keys: Vec<_> = (0..24).map(|_| fleet.key_in_use()).collect();
    std::thread::scope(|scope| {
        for (number, created) in keys.iter().enumerate() {
            let (revoker, gateways) = (fleet.gateways[number % 3].admin(), &fleet.gateways);
            scope.spawn(move || {
                let revoked = revoker.revoke(&created.id);
                assert_eq!(revoked["revocation"]["acknowledged"], 3, "{revoked}");
                for gateway in gateways {
                    assert_refused(&gateway.use_key(&created.key), "key_revoked");
                }
            });
        }
    });
}

#[test]
fn who_does_not_answer_is_named_with_the_time_when_it_holds_there_too() {
    let fleet = Fleet::with(3, |_, builder| impatient(builder));
    let silent = &fleet.gateways[2];
    let id = silent.admin().gateway_id();
    silent.freeze();
    let receipt = receipt_of_frozen(&fleet);
    let named = receipt["unacknowledged"].as_array().expect("it is a list");
    assert_eq!(named.len(), 1, "{receipt}");
    assert_eq!(
        (&named[0]["id"], &named[0]["version"]),
        (&json!(id), &json!(env!("CARGO_PKG_VERSION"))),
        "{receipt}"
    );
    assert!(named[0]["name"].as_str().is_some_and(|name| name.contains(':')), "{receipt}");
    assert_eq!((&receipt["acknowledged"], &receipt["gateways"]), (&json!(2), &json!(3)), "{receipt}");
    assert!((500..5000).contains(&receipt["elapsed_ms"].as_u64().unwrap()), "{receipt}");
    let left = moment_of(receipt["effective_by"].as_str().unwrap()) - moment();
    assert!((280..=300).contains(&left.as_secs()), "{receipt}");
    silent.thaw();
}

/// As `receipt`, where one gateway stands still and cannot have used the key.
fn receipt_of_frozen(fleet: &Fleet) -> Value {
    let created = fleet.gateways[0].admin().create("live");
    fleet.gateways[0].admin().revoke(&created.id)["revocation"].clone()
}

#[test]
fn a_gateway_that_says_goodbye_is_off_the_roll_at_once() {
    let mut fleet = Fleet::of(3);
    let mut leaving = fleet.gateways.pop().expect("there are three");
    let id = leaving.admin().gateway_id();
    assert!(leaving.terminate().success());
    let roll = fleet.gateways[0].admin().gateways();
    assert_eq!(roll.len(), 2, "{roll:?}");
    assert!(roll.iter().all(|line| line["id"] != id.as_str()), "{roll:?}");
    let receipt = receipt(&fleet);
    assert_eq!((&receipt["acknowledged"], &receipt["gateways"]), (&json!(2), &json!(2)), "{receipt}");
    assert_eq!(receipt["unacknowledged"], json!([]));
}

#[test]
fn a_gateway_that_was_killed_counts_until_its_silence_has_lasted() {
    // It is taken off after twice this and ten seconds.
    let settings = |builder: GatewayBuilder| impatient(builder).set("KEYGATE_CACHE__MAX_STALENESS_S", "1");
    let mut fleet = Fleet::with(2, |_, builder| settings(builder));
    let killed = fleet.gateways.pop().expect("there are two");
    let id = killed.admin().gateway_id();
    drop(killed); // by SIGKILL
    let receipt = receipt(&fleet);
    assert_eq!(receipt["unacknowledged"][0]["id"], id.as_str(), "{receipt}");
    let admin = fleet.gateways[0].admin();
    let line = |roll: Vec<Value>| roll.into_iter().find(|line| line["id"] == id.as_str());
    eventually("it is seen to be silent", PATIENCE, || {
        line(admin.gateways()).is_some_and(|line| line["silent_for_ms"].as_u64().unwrap_or_default() > 2_000)
    });
    if crate::support::wait::full() {
        eventually("it is taken off the roll", 2 * PATIENCE, || line(admin.gateways()).is_none());
        let receipt = self::receipt(&fleet);
        assert_eq!((&receipt["acknowledged"], &receipt["gateways"]), (&json!(1), &json!(1)), "{receipt}");
    }
}

#[test]
fn the_roll_shows_every_gateway_with_where_it_stands() {
    let fleet = Fleet::of(2);
    let created = fleet.key_in_use();
    fleet.gateways[0].admin().revoke(&created.id);
    for gateway in &fleet.gateways {
        let own = gateway.admin().gateway_id();
        let mut roll = Vec::new();
        eventually("nobody is behind", PATIENCE, || {
            roll = gateway.admin().gateways();
            roll.iter().all(|line| line["lag_events"] == 0)
        });
        assert_eq!(roll.len(), 2);
        for line in &roll {
            assert_eq!(line["this"], json!(line["id"] == own.as_str()), "{line}");
            assert_eq!(line["version"], env!("CARGO_PKG_VERSION"));
            assert_eq!(line["max_staleness_s"], 300);
            assert_eq!(line["positions"].as_array().map(Vec::len), Some(16), "{line}");
            for text in ["id", "name", "started_at"] {
                assert!(line[text].as_str().is_some_and(|text| !text.is_empty()), "{line}");
            }
            assert!(line["silent_for_ms"].as_u64().is_some_and(|silent| silent < 10_000), "{line}");
        }
        let table = gateway.cli(&["gateways"]).assert_code(0).stdout;
        let listed = gateway.cli(&["gateways", "--json"]).assert_code(0).json();
        let listed = listed.get("data").unwrap_or(&listed).as_array().expect("a list").clone();
        assert_eq!(listed.len(), 2);
        for line in listed {
            assert!(table.contains(line["id"].as_str().unwrap()), "{table}");
        }
    }
    assert_eq!(fleet.gateways[0].metrics().sum("keygate_fleet_gateways", &[]), 2.0);
}

#[test]
fn the_command_line_says_it_in_a_sentence() {
    let fleet = Fleet::with(2, |_, builder| impatient(builder));
    let revoke = |id: &str| {
        let ran = fleet.gateways[0].cli(&["keys", "revoke", id]).assert_code(0);
        ran.stdout.trim_end().to_owned()
    };
    let created = fleet.key_in_use();
    let said = revoke(&created.id);
    let begins = format!(
        "{} (Production Server) is revoked, for ever: 2 of 2 gateways stopped accepting it in ",
        created.id
    );
    assert!(said.starts_with(&begins) && said.ends_with(" ms."), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");

    let silent = &fleet.gateways[1];
    let id = silent.admin().gateway_id();
    let created = fleet.key_in_use();
    silent.freeze();
    let said = revoke(&created.id);
    for words in ["1 of 2 gateways", "Not heard from: ", &id, "It holds everywhere by 20", " at the latest."]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    silent.thaw();

    let _: String = fleet.redis.run(&["CONFIG", "SET", "appendfsync", "everysec"]);
    let created = fleet.key_in_use();
    let said = revoke(&created.id);
    assert!(said.contains(" A crash of the store could undo it: ") && said.contains("appendfsync"), "{said}");
}

#[test]
fn a_receipt_says_whether_a_crash_of_the_store_could_undo_it() {
    let fleet = Fleet::of(1);
    for (appendonly, appendfsync, durable) in
        [("yes", "always", true), ("yes", "everysec", false), ("no", "always", false)]
    {
        let _: String =
            fleet.redis.run(&["CONFIG", "SET", "appendonly", appendonly, "appendfsync", appendfsync]);
        let receipt = receipt(&fleet);
        assert_eq!(receipt["durable"], json!(durable), "{receipt}");
        assert_eq!(receipt["durable_reason"].is_string(), !durable, "{receipt}");
    }
    // A replica that is asked for and not there.
    let waiting =
        Fleet::with(1, |_, builder| impatient(builder).set("KEYGATE_REVOCATION__WAIT_REPLICAS", "1"));
    let receipt = receipt(&waiting);
    assert_eq!((&receipt["durable"], &receipt["acknowledged"]), (&json!(false), &json!(1)), "{receipt}");
}

#[test]
fn the_embedded_store_has_one_gateway_and_is_durable() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let created = gateway.admin().create("live");
    gateway.use_key(&created.key).assert_forwarded();
    let receipt = gateway.admin().revoke(&created.id)["revocation"].clone();
    assert_eq!((&receipt["acknowledged"], &receipt["gateways"]), (&json!(1), &json!(1)), "{receipt}");
    assert_eq!(receipt["durable"], true, "{receipt}");
    let roll = gateway.admin().gateways();
    assert_eq!((roll.len(), &roll[0]["this"]), (1, &json!(true)), "{roll:?}");
}
