//! What the admin API adds to making and revoking: lists, edits, usage, history, and requests that are made once.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::refusals::assert_refused;
use crate::stores::{Store, on_both_stores};
use crate::support::wait::{PATIENCE, eventually, rfc3339_in};
use crate::support::{Answer, Fleet, Gateway, Upstream};

/// How soon the other gateways know. They do so within milliseconds; this is for a machine that is busy.
const SOON: Duration = Duration::from_secs(1);

on_both_stores! {
    a_list_is_searched_filtered_sorted_and_counted
    uses_and_refusals_are_counted_day_by_day
    a_key_tells_its_history_after_a_restart
    a_request_that_comes_again_makes_no_second_key
    of_many_at_once_one_makes_the_key
    a_killed_gateway_makes_no_second_key
    an_edit_of_what_has_changed_meanwhile_is_refused
}

fn total(gateway: &Gateway) -> u64 {
    gateway.admin().get("/v1/keys?total=true&limit=1").json()["total"].as_u64().expect("it is counted")
}

fn etag(answer: &Answer) -> String {
    answer.headers.get("etag").expect("an answer that shows a key has its ETag").to_owned()
}

fn a_list_is_searched_filtered_sorted_and_counted(store: &Store) {
    let upstream = Upstream::start();
    let gateway = store.builder().live(&upstream).start();
    let admin = gateway.admin();
    for number in 0..120 {
        let environment = ["live", "sandbox"][number % 2];
        let label = format!("{} {number:03}", ["Shop", "Büro"][number % 3 % 2]);
        admin.create_with(json!({ "label": label, "environment": environment, "team": "acme" }));
    }
    admin.create_with(json!({ "label": "Shop of another", "environment": "live", "team": "other" }));
    let (mut path, mut labels) = ("/v1/keys?q=SHOP&team=acme&sort=label&total=true".to_owned(), Vec::new());
    loop {
        let page = admin.get(&path).json();
        assert_eq!(page["total"], 80, "{page}");
        labels.extend(page["data"].as_array().unwrap().iter().map(|key| key["label"].to_string()));
        match page["next_cursor"].as_str() {
            Some(cursor) => {
                assert_eq!(labels.len(), 50, "a page has 50");
                path = format!("/v1/keys?q=SHOP&team=acme&sort=label&total=true&cursor={cursor}");
            }
            None => break,
        }
    }
    assert_eq!(labels.iter().collect::<HashSet<_>>().len(), 80);
    assert!(labels.is_sorted(), "{labels:?}");
    let never = admin.get("/v1/keys?status=never_used&environment=sandbox&q=b%C3%BCro&limit=200").json();
    assert_eq!(never["data"].as_array().unwrap().len(), 20);
    for status in ["idle", "rotation_due", "expiring", "expired", "rotating", "revoked"] {
        assert_eq!(admin.get(&format!("/v1/keys?status={status}&total=true")).json()["total"], 0, "{status}");
    }
}

fn uses_and_refusals_are_counted_day_by_day(store: &Store) {
    let upstream = Upstream::start();
    let gateway = store.builder().live(&upstream).flush_every_ms(50).start();
    let created = gateway.admin().create("live");
    let counted = |what: &str| {
        let usage = gateway.admin().get(&format!("/v1/keys/{}/usage", created.id)).json();
        assert_eq!(
            (usage["days"].as_array().unwrap().len(), usage["hours"].as_array().unwrap().len()),
            (30, 48)
        );
        let sum =
            |list: &str| usage[list].as_array().unwrap().iter().map(|one| one[what].as_u64().unwrap()).sum();
        let (days, hours): (u64, u64) = (sum("days"), sum("hours"));
        assert_eq!(usage["recent"][what], hours, "all of it was in the last hour");
        // They are read one after the other.
        (days, hours)
    };
    for _ in 0..7 {
        gateway.use_key(&created.key).assert_forwarded();
    }
    eventually("the uses are counted", PATIENCE, || counted("uses") == (7, 7));
    gateway.admin().revoke(&created.id);
    for _ in 0..3 {
        assert_refused(&gateway.use_key(&created.key), "key_revoked");
    }
    eventually("the refusals are counted", PATIENCE, || counted("refusals") == (3, 3));
    assert_eq!(counted("uses"), (7, 7));
}

fn a_key_tells_its_history_after_a_restart(store: &Store) {
    let upstream = Upstream::start();
    let mut gateway = store.builder().live(&upstream).start();
    let admin = gateway.admin();
    let created = admin.create("live");
    let path = format!("/v1/keys/{}", created.id);
    let edited = admin.patch(&path, "*", &json!({ "label": "Shop", "expires_in": "30d" }));
    assert_eq!(edited.status, 200, "{}", edited.text());
    let new = admin.rotate(&created.id, "1h");
    admin.revoke(&created.id);
    gateway.terminate();
    let gateway = store.builder().live(&upstream).start();
    let told = |id: &str| {
        let history = gateway.admin().get(&format!("/v1/keys/{id}/history")).json();
        history["data"].as_array().unwrap().clone()
    };
    let history = told(&created.id);
    let what: Vec<_> = history.iter().map(|entry| entry["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["created", "renamed", "expiry_changed", "rotated", "revoked"]);
    assert_eq!((&history[1]["from"], &history[1]["to"]), (&json!("Production Server"), &json!("Shop")));
    assert_eq!((&history[2]["from"], &history[2]["to"]), (&Value::Null, &edited.json()["expires_at"]));
    assert_eq!(history[3]["replaced_by"], new.json["id"]);
    assert_eq!(told(&new.id)[0]["replaces"], created.json["id"]);
}

fn a_request_that_comes_again_makes_no_second_key(store: &Store) {
    let upstream = Upstream::start();
    let mut gateway = store.builder().live(&upstream).start();
    let body = json!({ "label": "Shop", "environment": "live" });
    let creation = gateway.admin().once("/v1/keys", "creation-1", &body);
    let first = gateway.admin().send(&creation);
    assert_eq!(first.status, 201, "{}", first.text());
    let key = first.json()["key"].as_str().unwrap().to_owned();
    gateway.terminate();

    let gateway = store.builder().live(&upstream).start();
    let second = gateway.admin().send(&creation);
    assert_eq!((second.status, &second.json()["id"]), (200, &first.json()["id"]));
    assert_eq!((&second.json()["key_shown"], &second.json()["key"]), (&json!(true), &Value::Null));
    assert!(!second.text().contains(&key));
    let other = json!({ "label": "Another", "environment": "live" });
    let reused = gateway.admin().send(&gateway.admin().once("/v1/keys", "creation-1", &other));
    assert_eq!((reused.status, reused.code()), (422, "idempotency_key_reused".to_owned()));
    assert_eq!(total(&gateway), 1);
    gateway.use_key(&key).assert_forwarded();

    let path = format!("/v1/keys/{}/rotate", first.json()["id"].as_str().unwrap());
    let rotation = gateway.admin().once(&path, "rotation-1", &json!({ "grace": "1h" }));
    let rotated = gateway.admin().send(&rotation);
    let again = gateway.admin().send(&rotation);
    assert_eq!((rotated.status, again.status), (201, 200), "{}", again.text());
    assert_eq!((&again.json()["id"], &again.json()["key"]), (&rotated.json()["id"], &Value::Null));
    assert_eq!(total(&gateway), 2);
}

fn of_many_at_once_one_makes_the_key(store: &Store) {
    let upstream = Upstream::start();
    let gateway = store.builder().live(&upstream).start();
    let body = json!({ "label": "Shop", "environment": "live" });
    let creation = gateway.admin().once("/v1/keys", "at-once", &body);
    let answers: Vec<Answer> = thread::scope(|scope| {
        let senders: Vec<_> = (0..16).map(|_| scope.spawn(|| gateway.admin().send(&creation))).collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    let ids: HashSet<_> = answers.iter().map(|answer| answer.json()["id"].to_string()).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 15);
    assert_eq!(total(&gateway), 1);
}

fn a_killed_gateway_makes_no_second_key(store: &Store) {
    let upstream = Upstream::start();
    let body = json!({ "label": "Shop", "environment": "live" });
    let names: Vec<_> = (0..24).map(|number| format!("creation-{number}")).collect();
    for round in 0..3 {
        let gateway = store.builder().live(&upstream).start();
        let admin = gateway.admin();
        // Nobody waits for the answers: some come, some are lost, some requests are never read.
        let mut connections: Vec<_> = names.iter().map(|_| admin.connect()).collect();
        for (connection, name) in connections.iter_mut().zip(&names) {
            let _ = connection.try_send(admin.once("/v1/keys", name, &body).to_bytes());
        }
        if round > 0 {
            // Until one was carried out for certain.
            let _ = connections[round].try_head();
        }
        drop(gateway); // by SIGKILL
    }
    let gateway = store.builder().live(&upstream).start();
    let made: HashSet<_> = names
        .iter()
        .map(|name| {
            let answer = gateway.admin().send(&gateway.admin().once("/v1/keys", name, &body));
            assert!([200, 201].contains(&answer.status), "{}", answer.text());
            answer.json()["id"].to_string()
        })
        .collect();
    assert_eq!((made.len(), total(&gateway)), (24, 24));
}

fn an_edit_of_what_has_changed_meanwhile_is_refused(store: &Store) {
    let upstream = Upstream::start();
    let gateway = store.builder().live(&upstream).start();
    let admin = gateway.admin();
    let created = admin.create("live");
    let path = format!("/v1/keys/{}", created.id);
    let seen = etag(&admin.get(&path));
    gateway.use_key(&created.key).assert_forwarded();
    assert_eq!(etag(&admin.get(&path)), seen, "a use is no change");
    let answers: Vec<Answer> = thread::scope(|scope| {
        let (path, seen) = (&path, &seen);
        let editors: Vec<_> = (0..8)
            .map(|number| {
                let admin = admin.clone();
                scope.spawn(move || admin.patch(path, seen, &json!({ "label": format!("Shop {number}") })))
            })
            .collect();
        editors.into_iter().map(|editor| editor.join().unwrap()).collect()
    });
    let won: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(won.len(), 1);
    for lost in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((lost.status, lost.code()), (412, "precondition_failed".to_owned()));
        assert_eq!(lost.json()["current"]["label"], won[0].json()["label"]);
        assert_eq!(etag(lost), etag(won[0]));
    }
    assert_eq!(admin.key(&created.id)["label"], won[0].json()["label"]);
}

#[test]
fn an_edited_expiry_date_is_obeyed_on_every_gateway() {
    let fleet = Fleet::of(3);
    let created = fleet.key_in_use();
    let path = format!("/v1/keys/{}", created.id);
    let expire_at = |gateway: &Gateway, expiry: Value| {
        let answer = gateway.admin().patch(&path, "*", &json!({ "expires_at": expiry }));
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let everywhere = |what: &str, status: u16| {
        for gateway in &fleet.gateways {
            eventually(what, SOON, || gateway.use_key(&created.key).status == status);
        }
    };
    for round in 0..3 {
        let editor = &fleet.gateways[round];
        expire_at(editor, json!(rfc3339_in(Duration::from_millis(200))));
        everywhere("it has expired", 401);
        for gateway in &fleet.gateways {
            assert_refused(&gateway.use_key(&created.key), "key_expired");
        }
        // No gateway asks the store again by itself for minutes: only the event tells it.
        expire_at(editor, Value::Null);
        assert_eq!(editor.use_key(&created.key).status, 200, "here at once");
        everywhere("it opens again", 200);
    }
}
