//! Sessions: how they begin, what they are, and how they end.

use std::time::Duration;

use serde_json::json;

use crate::stores::Store;
use crate::support::wait::{PATIENCE, moment, wait_until};
use crate::support::{Request, eventually};

use super::{House, PASSWORD, on_both_stores};

on_both_stores! {
    a_session_begins_with_the_log_in_and_no_one_before
    sessions_survive_a_restart_and_not_log_out_everywhere
    a_change_that_takes_something_ends_the_sessions
    a_session_ends_when_idle_and_when_old
    a_link_sets_a_password_once
}

fn a_session_begins_with_the_log_in_and_no_one_before(store: &Store) {
    let house = House::of(store);
    house.add("ada", "admin", None);
    let mut victim = house.browser();
    let planted = "A".repeat(43);
    victim.cookies.insert("keygate".to_owned(), planted.clone());
    victim.log_in("ada", PASSWORD);
    assert_ne!(victim.session(), planted);
    let mut attacker = house.browser();
    attacker.cookies.insert("keygate".to_owned(), planted);
    assert!(!attacker.is_in());

    // A session that the browser had before is another one afterwards, and the old one is over.
    let mut copy = house.browser();
    copy.cookies.clone_from(&victim.cookies);
    let before = victim.session();
    let csrf = {
        let mut fresh = house.browser();
        let csrf = fresh.csrf("/login");
        victim.cookies.insert("keygate-login".to_owned(), fresh.cookies["keygate-login"].clone());
        csrf
    };
    let again = victim.post("/login", &[("csrf", &csrf), ("account", "ada"), ("password", PASSWORD)]);
    assert_eq!(again.status, 303, "{}", again.text());
    assert_ne!(victim.session(), before);
    assert!(victim.is_in() && !copy.is_in());
}

fn sessions_survive_a_restart_and_not_log_out_everywhere(store: &Store) {
    let mut house = House::of(store);
    house.add("ada", "admin", None);
    let mut one = house.logged_in("ada");
    let mut other = house.logged_in("ada");
    house.gateway.terminate();
    drop(house);
    let house = House::of(store);
    for browser in [&mut one, &mut other] {
        let cookies = browser.cookies.clone();
        *browser = house.browser();
        browser.cookies = cookies;
        assert!(browser.is_in());
    }
    let mut copy = house.browser();
    copy.cookies.clone_from(&one.cookies);
    assert_eq!(one.post_from("/account", "/logout", &[]).status, 303);
    assert!(!copy.is_in(), "log out ends the session and not only the cookie");
    assert!(other.is_in());
    let mut third = house.logged_in("ada");
    assert_eq!(other.post_from("/account", "/logout/everywhere", &[]).status, 303);
    assert!(!other.is_in() && !third.is_in());
}

fn a_change_that_takes_something_ends_the_sessions(store: &Store) {
    let house = House::of(store);
    let id = house.add("ada", "editor", Some("acme"));
    let path = format!("/v1/users/{id}");
    let machine = |method: &str, body: serde_json::Value| {
        let request = Request::new(method, &path)
            .bearer(crate::support::gateway::TOKEN)
            .header("Content-Type", "application/json")
            .header("If-Match", "*")
            .body(body.to_string());
        let answer = house.browser().send(request);
        assert!(answer.status / 100 == 2, "{}", answer.text());
    };
    for change in [
        json!({"role": "viewer"}),
        json!({"team": "globex"}),
        json!({"password": PASSWORD}),
        json!({"disabled": true}),
    ] {
        let mut browser = house.logged_in("ada");
        machine("PATCH", change.clone());
        assert!(!browser.is_in(), "{change}");
        machine("PATCH", json!({"disabled": false}));
        assert!(!browser.is_in(), "{change}");
    }
    let mut browser = house.logged_in("ada");
    machine("PATCH", json!({"display_name": "Ada"}));
    assert!(browser.is_in());
    machine("DELETE", json!({}));
    assert!(!browser.is_in());
    assert_eq!(house.browser().log_in("ada", PASSWORD).status, 403);
}

fn a_session_ends_when_idle_and_when_old(store: &Store) {
    for (setting, busy) in [("KEYGATE_SESSIONS__IDLE_S", false), ("KEYGATE_SESSIONS__TOTAL_S", true)] {
        let house = House::with(store, |builder| builder.set(setting, "2"));
        let id = house.add("ada", "admin", None);
        let mut browser = house.logged_in("ada");
        if busy {
            eventually("the session is too old", PATIENCE, || !browser.is_in());
        } else {
            let mut copy = house.browser();
            // More than the idle limit.
            wait_until(moment() + Duration::from_secs(3));
            copy.cookies.clone_from(&browser.cookies);
            assert!(!copy.is_in() && !browser.is_in());
        }
        let removed =
            Request::new("DELETE", &format!("/v1/users/{id}")).bearer(crate::support::gateway::TOKEN);
        assert_eq!(browser.send(removed).status, 204);
    }
}

fn a_link_sets_a_password_once(store: &Store) {
    let house = House::of(store);
    let user = json!({"account": "ada", "role": "admin"});
    let added = house.gateway.admin().post("/v1/users", &user).json();
    assert_eq!(added["has_password"], false);
    let link =
        house.gateway.admin().post(&format!("/v1/users/{}/link", added["id"].as_str().unwrap()), &json!({}));
    assert_eq!(link.status, 201, "{}", link.text());
    let path = link.json()["path"].as_str().unwrap().to_owned();
    let mut browser = house.browser();
    for _ in 0..3 {
        assert_eq!(browser.get(&path).status, 200, "to look at it does not use it up");
    }
    let fields =
        |password: &'static str, repeated: &'static str| [("password", password), ("repeated", repeated)];
    let refused = browser.post_from(&path, &path, &fields("eleven char", "eleven char"));
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("at least 12 characters"), "{}", refused.text());
    let refused = browser.post_from(&path, &path, &fields(PASSWORD, "something else here"));
    assert_eq!(refused.status, 422, "{}", refused.text());
    let set = browser.post_from(&path, &path, &fields(PASSWORD, PASSWORD));
    assert_eq!(set.status, 303, "{}", set.text());
    assert!(browser.is_in());
    let mut late = house.browser();
    assert_eq!(late.get(&path).status, 404);
    house.logged_in("ada");
}

#[test]
fn a_cookie_is_for_this_server_alone() {
    let store = Store::sqlite();
    for (behind_tls, name, secure) in [("false", "keygate", false), ("true", "__Host-keygate", true)] {
        let house = House::with(&store, |builder| builder.set("KEYGATE_BEHIND_TLS", behind_tls));
        if !secure {
            house.add("ada", "admin", None);
        }
        let mut browser = house.browser();
        let page = browser.get("/login");
        let entered = browser.log_in("ada", PASSWORD);
        assert_eq!(entered.status, 303, "{}", entered.text());
        for (answer, name) in [(page, format!("{name}-login")), (entered, name.to_owned())] {
            let cookies = answer.headers.all("set-cookie");
            let cookie = cookies.iter().find(|cookie| cookie.starts_with(&format!("{name}="))).unwrap();
            let (value, attributes) = cookie.split_once("; ").unwrap();
            assert_eq!(value.len(), name.len() + 1 + 43, "256 bits");
            let expected = if secure {
                "Path=/; HttpOnly; SameSite=Strict; Secure"
            } else {
                "Path=/; HttpOnly; SameSite=Strict"
            };
            assert_eq!(attributes, expected);
        }
    }
}
