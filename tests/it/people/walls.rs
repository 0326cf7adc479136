//! Roles, and the walls between teams: every route of the API, tried by everybody.

use serde_json::{Value, json};

use crate::refusals::assert_refused;
use crate::stores::Store;
use crate::support::gateway::TOKEN;
use crate::support::wait::PATIENCE;
use crate::support::{Answer, Request, eventually, keys};

use super::browser::Browser;
use super::{House, code, on_both_stores};

on_both_stores! {
    another_teams_key_is_not_there_whatever_one_does
    a_key_that_was_found_is_revoked_whosever_it_is_and_nothing_is_said_of_it
    another_teams_users_are_not_there_whatever_one_does
    of_another_teams_account_no_more_is_said_than_must_be
    each_role_may_what_it_may_and_no_more
    the_last_fleet_admin_is_not_removed_by_a_session
    a_request_that_is_made_once_is_its_senders_own
}

fn ids(list: &Value) -> Vec<&str> {
    list["data"].as_array().unwrap().iter().map(|line| line["id"].as_str().unwrap()).collect()
}

fn without_id(answer: &Answer) -> Value {
    let mut json = answer.json();
    json["request_id"].take();
    json
}

/// That an answer is as if the id had never been.
#[track_caller]
fn assert_nothing_there(browser: &mut Browser, method: &str, path: &str, body: Option<&Value>, id: &str) {
    let nobodys = format!("{}{}", &id[..4], "0".repeat(20));
    let real = browser.call(method, path, body);
    let unreal = browser.call(method, &path.replace(id, &nobodys), body);
    assert_eq!(real.status, 404, "{method} {path}: {}", real.text());
    assert_eq!(without_id(&real), without_id(&unreal), "{method} {path}");
}

fn another_teams_key_is_not_there_whatever_one_does(store: &Store) {
    let house = House::of(store);
    for (role, account) in [("viewer", "vera"), ("editor", "edgar"), ("admin", "anna")] {
        house.add(account, role, Some("acme"));
    }
    let (mine, my_key) = house.key_of("acme");
    let (other, others_key) = house.key_of("globex");
    for account in ["vera", "edgar", "anna"] {
        let mut browser = house.logged_in(account);
        let list = browser.call("GET", "/v1/keys", None);
        assert_eq!(ids(&list.json()), [mine.as_str()]);
        for query in ["team=globex", "team=globex&status=active", "team=acme.", "team="] {
            let list = browser.call("GET", &format!("/v1/keys?{query}"), None);
            assert!(ids(&list.json()).is_empty(), "{query}: {}", list.text());
        }
        for part in ["", "/usage", "/history"] {
            assert_nothing_there(&mut browser, "GET", &format!("/v1/keys/{other}{part}"), None, &other);
        }
        assert_eq!(browser.call("GET", &format!("/v1/keys/{mine}"), None).status, 200);
    }
    for account in ["edgar", "anna"] {
        let mut browser = house.logged_in(account);
        for action in ["revoke", "rotate"] {
            let path = format!("/v1/keys/{other}/{action}");
            assert_nothing_there(&mut browser, "POST", &path, Some(&json!({})), &other);
        }
        let edit = Request::new("PATCH", &format!("/v1/keys/{other}"))
            .header("Content-Type", "application/json")
            .header("If-Match", "*")
            .header("X-CSRF-Token", &browser.csrf("/account"))
            .body(json!({"label": "Mine"}).to_string());
        assert_eq!(code(&browser.send(edit)), "not_found");
        let foreign = json!({"label": "Not mine", "environment": "live", "team": "globex"});
        let refused = browser.call("POST", "/v1/keys", Some(&foreign));
        assert_eq!(refused.status, 422, "{}", refused.text());
    }
    let nobodys = keys::foreign_live("nobody's");
    for account in ["vera", "edgar", "anna"] {
        let mut browser = house.logged_in(account);
        let mut find = |key: &str| browser.call("POST", "/v1/keys/find", Some(&json!({"key": key})));
        let (mine, others, unreal) = (find(&my_key), find(&others_key), find(&nobodys));
        assert_eq!((mine.status, &mine.json()["label"]), (200, &json!("Server of acme")), "{}", mine.text());
        assert_eq!((others.status, code(&others).as_str()), (404, "not_found"), "{}", others.text());
        assert_eq!(without_id(&others), without_id(&unreal));
        assert!(!mine.text().contains(&my_key));
    }
    house.gateway.use_key(&others_key).assert_forwarded();
    assert_eq!(house.gateway.admin().key(&other)["status"], "active");
    let all = house.gateway.admin().get("/v1/keys?team=globex").json();
    assert_eq!(ids(&all), [other.as_str()], "nothing was made there");
}

fn a_key_that_was_found_is_revoked_whosever_it_is_and_nothing_is_said_of_it(store: &Store) {
    let house = House::of(store);
    house.add("vera", "viewer", Some("acme"));
    house.add("edgar", "editor", Some("acme"));
    let ((mine, my_key), (_, others_key)) = (house.key_of("acme"), house.key_of("globex"));
    let report = |browser: &mut Browser, key: &str| {
        browser.call("POST", "/v1/keys/revoke", Some(&json!({"key": key})))
    };
    assert_eq!(report(&mut house.logged_in("vera"), &others_key).status, 403);
    house.gateway.use_key(&others_key).assert_forwarded();

    let mut edgar = house.logged_in("edgar");
    let unreal = report(&mut edgar, &keys::foreign_live("nobody's"));
    for _ in 0..2 {
        let others = report(&mut edgar, &others_key);
        assert_eq!((others.status, others.json()), (202, unreal.json()), "{}", others.text());
        eventually("it is revoked", PATIENCE, || house.gateway.use_key(&others_key).code() == "key_revoked");
    }
    let own = report(&mut edgar, &my_key);
    assert_eq!((own.status, &own.json()["id"]), (200, &json!(mine)), "{}", own.text());
    assert_refused(&house.gateway.use_key(&my_key), "key_revoked");
}

fn of_another_teams_account_no_more_is_said_than_must_be(store: &Store) {
    let house = House::of(store);
    house.add("anna", "admin", Some("acme"));
    house.add("mine", "viewer", Some("acme"));
    house.add("other", "viewer", Some("globex"));
    house.add("fleet", "admin", None);
    let mut anna = house.logged_in("anna");
    let words = "this account cannot be used here; choose another";
    for (account, status, said) in [
        ("mine", 409, "there is a user with this account already"),
        ("other", 422, words),
        ("fleet", 422, words),
    ] {
        let added = anna.call("POST", "/v1/users", Some(&json!({"account": account, "role": "viewer"})));
        assert_eq!((added.status, &added.json()["detail"]), (status, &json!(said)), "{account}");
        let form = [("account", account), ("role", "viewer")];
        let page = anna.post_from("/settings/users/new", "/settings/users", &form);
        assert_eq!(page.status, 422, "{account}: {}", page.text());
        assert!(page.text().contains(&said[1..]), "{account}: {}", page.text());
    }
    let fleets = house.gateway.admin().post("/v1/users", &json!({"account": "other", "role": "admin"}));
    assert_eq!((fleets.status, code(&fleets).as_str()), (409, "account_taken"));
}

fn another_teams_users_are_not_there_whatever_one_does(store: &Store) {
    let house = House::of(store);
    house.add("anna", "admin", Some("acme"));
    let mine = house.add("mine", "viewer", Some("acme"));
    let other = house.add("other", "viewer", Some("globex"));
    let fleet = house.add("fleet", "admin", None);
    let mut anna = house.logged_in("anna");
    let list = anna.call("GET", "/v1/users", None).text();
    assert!(list.contains(&mine) && !list.contains(&other) && !list.contains(&fleet), "{list}");
    for id in [&other, &fleet] {
        let path = format!("/v1/users/{id}");
        assert_nothing_there(&mut anna, "GET", &path, None, id);
        for change in [json!({"disabled": true}), json!({"team": "acme"}), json!({"team": "globex"})] {
            assert_nothing_there(&mut anna, "PATCH", &path, Some(&change), id);
        }
        assert_nothing_there(&mut anna, "DELETE", &path, None, id);
        assert_nothing_there(&mut anna, "POST", &format!("{path}/link"), None, id);
    }
    for team in [json!("globex"), Value::Null] {
        let change = json!({"team": team, "role": "admin"});
        let moved = anna.call("PATCH", &format!("/v1/users/{mine}"), Some(&change));
        assert_eq!(moved.status, 422, "{}", moved.text());
    }
    let foreign = json!({"account": "spy", "role": "viewer", "team": "globex"});
    assert_eq!(anna.call("POST", "/v1/users", Some(&foreign)).status, 422);
    let own = anna.call("POST", "/v1/users", Some(&json!({"account": "new", "role": "admin"})));
    assert_eq!(own.status, 201, "{}", own.text());
    assert_eq!(own.json()["team"], "acme", "an admin of a team makes none of the fleet");
    house.logged_in("other");
}

fn each_role_may_what_it_may_and_no_more(store: &Store) {
    let house = House::of(store);
    let roles = [
        ("vera", "viewer", Some("acme")),
        ("edgar", "editor", Some("acme")),
        ("anna", "admin", Some("acme")),
        ("fred", "admin", None),
    ];
    for (account, role, team) in roles {
        house.add(account, role, team);
    }
    let (key, _) = house.key_of("acme");
    let nobody = "usr_00000000000000000000";
    // By route: the least role that may, as a place in `roles`.
    let routes = [
        ("GET", "/v1/keys".to_owned(), 0),
        ("GET", format!("/v1/keys/{key}"), 0),
        ("GET", format!("/v1/keys/{key}/usage"), 0),
        ("GET", format!("/v1/keys/{key}/history"), 0),
        ("POST", "/v1/keys/find".to_owned(), 0),
        ("GET", "/v1/gateways".to_owned(), 0),
        ("POST", "/v1/keys".to_owned(), 1),
        ("PATCH", format!("/v1/keys/{key}"), 1),
        ("POST", "/v1/keys/revoke".to_owned(), 1),
        ("POST", "/v1/keys/key_00000000000000000000/revoke".to_owned(), 1),
        ("POST", "/v1/keys/key_00000000000000000000/rotate".to_owned(), 1),
        ("GET", "/v1/users".to_owned(), 2),
        ("POST", "/v1/users".to_owned(), 2),
        ("GET", format!("/v1/users/{nobody}"), 2),
        ("PATCH", format!("/v1/users/{nobody}"), 2),
        ("DELETE", format!("/v1/users/{nobody}"), 2),
        ("POST", format!("/v1/users/{nobody}/link"), 2),
        ("POST", "/v1/keys/import".to_owned(), 3),
        ("GET", "/v1/store".to_owned(), 3),
        ("POST", "/v1/store/accept".to_owned(), 3),
    ];
    for (place, (account, ..)) in roles.iter().enumerate() {
        let mut browser = house.logged_in(account);
        for (method, path, least) in &routes {
            let body = json!({});
            let answer = browser.call(method, path, (*method != "GET").then_some(&body));
            let is_refused = answer.status == 403;
            assert_eq!(is_refused, place < *least, "{account}: {method} {path}: {}", answer.text());
            if is_refused {
                assert_eq!(code(&answer), "forbidden");
            }
        }
    }
    let mut nobody = house.browser();
    for (method, path, _) in &routes {
        let answer = nobody.send(Request::new(method, path));
        assert_eq!(answer.status, 401, "{method} {path}: {}", answer.text());
    }
}

fn the_last_fleet_admin_is_not_removed_by_a_session(store: &Store) {
    let house = House::of(store);
    let first = house.add("first", "admin", None);
    let mut browser = house.logged_in("first");
    let path = format!("/v1/users/{first}");
    for (method, body) in [
        ("DELETE", None),
        ("PATCH", Some(json!({"disabled": true}))),
        ("PATCH", Some(json!({"role": "viewer", "team": "acme"}))),
    ] {
        let answer = browser.call(method, &path, body.as_ref());
        assert_eq!(
            (answer.status, code(&answer).as_str()),
            (409, "last_admin"),
            "{method}: {}",
            answer.text()
        );
    }
    let second = house.add("second", "admin", None);
    assert_eq!(browser.call("DELETE", &format!("/v1/users/{second}"), None).status, 204);
    let removed = Request::new("DELETE", &path).bearer(TOKEN);
    assert_eq!(browser.send(removed).status, 204, "the machine may: it can add another");
}

fn a_request_that_is_made_once_is_its_senders_own(store: &Store) {
    let house = House::of(store);
    house.add("edgar", "editor", Some("acme"));
    let moving = house.add("edda", "editor", Some("acme"));
    let body = json!({"label": "Server", "environment": "live"});
    let create = |browser: &mut Browser| {
        let csrf = browser.csrf("/account");
        let request = Request::post("/v1/keys", body.to_string());
        browser.send(request.header("X-CSRF-Token", &csrf).header("Idempotency-Key", "today"))
    };
    let (mut edgar, mut edda) = (house.logged_in("edgar"), house.logged_in("edda"));
    let (first, second) = (create(&mut edgar), create(&mut edda));
    assert_eq!((first.status, second.status), (201, 201), "{} {}", first.text(), second.text());
    assert_ne!(first.json()["id"], second.json()["id"]);
    let repeated = create(&mut edda);
    assert_eq!((repeated.status, &repeated.json()["id"]), (200, &second.json()["id"]), "{}", repeated.text());

    let moved = house.gateway.admin().patch(&format!("/v1/users/{moving}"), "*", &json!({"team": "globex"}));
    assert_eq!(moved.status, 200, "{}", moved.text());
    let after = create(&mut house.logged_in("edda"));
    assert_eq!((after.status, code(&after).as_str()), (404, "not_found"), "{}", after.text());
}
