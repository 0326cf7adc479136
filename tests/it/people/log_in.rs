//! Logging in, and failing to.

use serde_json::json;

use crate::stores::Store;
use crate::support::wait::{PATIENCE, eventually};
use crate::support::{Answer, Gateway, Request, Upstream};

use super::{House, PASSWORD, code, on_both_stores};

on_both_stores! {
    who_knows_the_password_gets_in_and_out_again
    nobody_learns_by_the_words_whether_there_is_an_account
    who_fails_too_often_waits_whatever_the_password
    no_secret_is_logged_or_kept
}

fn who_knows_the_password_gets_in_and_out_again(store: &Store) {
    let house = House::of(store);
    house.add("Ada@Example.com", "admin", None);
    let mut browser = house.browser();
    let sent_away = browser.get("/account?x=1");
    assert_eq!(sent_away.status, 303);
    assert_eq!(sent_away.headers.get("location"), Some("/login?next=%2Faccount%3Fx%3D1"));
    let entered = browser.post_from(
        "/login",
        "/login",
        &[("account", " ada@EXAMPLE.com "), ("password", PASSWORD), ("next", "/account?x=1")],
    );
    assert_eq!(entered.status, 303, "{}", entered.text());
    assert_eq!(entered.headers.get("location"), Some("/account?x=1"));
    let page = browser.get("/account");
    assert_eq!(page.status, 200);
    assert!(page.text().contains("ada@example.com"), "{}", page.text());
    assert_eq!(page.headers.get("cache-control"), Some("no-store"));
    assert!(
        page.headers
            .get("content-security-policy")
            .is_some_and(|policy| policy.contains("default-src 'none'"))
    );
    let left = browser.post_from("/account", "/logout", &[]);
    assert_eq!((left.status, left.headers.get("location")), (303, Some("/login")));
    assert!(!browser.is_in());
}

fn nobody_learns_by_the_words_whether_there_is_an_account(store: &Store) {
    let house = House::of(store);
    house.add("ada", "admin", None);
    let gone = house.add("bob", "viewer", Some("acme"));
    let disabled = json!({"disabled": true});
    let mut fleet_admin = house.logged_in("ada");
    assert_eq!(fleet_admin.call("PATCH", &format!("/v1/users/{gone}"), Some(&disabled)).status, 200);
    let mut words = Vec::new();
    for (account, password) in
        [("ada", "a wrong password"), ("bob", PASSWORD), ("eve", PASSWORD), ("x y", PASSWORD)]
    {
        let mut browser = house.browser();
        browser.get("/login");
        let answer = browser.log_in(account, password);
        let csrf = browser.csrf("/login");
        words.push((answer.status, answer.text().replace(account, "ACCOUNT").replace(&csrf, "CSRF")));
        assert!(!answer.headers.has("set-cookie"), "{answer:?}");
    }
    assert_eq!(words[0].0, 403);
    assert!(words[0].1.contains("Account or password is wrong."), "{}", words[0].1);
    assert!(words.iter().all(|said| *said == words[0]), "{words:#?}");
}

fn who_fails_too_often_waits_whatever_the_password(store: &Store) {
    let house = House::of(store);
    house.add("ada", "admin", None);
    house.add("bob", "viewer", Some("acme"));
    let mut browser = house.browser();
    let csrf = browser.csrf("/login");
    let mut attempt =
        |password| browser.post("/login", &[("csrf", &csrf), ("account", "ada"), ("password", password)]);
    let wait = |answer: &Answer| answer.headers.get("retry-after").map(|wait| wait.parse::<u64>().unwrap());
    for _ in 0..5 {
        let answer = attempt("a wrong password");
        assert_eq!((answer.status, wait(&answer)), (403, None), "{}", answer.text());
    }
    // Whoever goes on waits longer each time; at last so long that the machine may be busy meanwhile.
    eventually("the waits grow", PATIENCE, || {
        wait(&attempt("a wrong password")).is_some_and(|wait| wait > 3)
    });
    let answers = [attempt(PASSWORD), attempt("a wrong password")];
    for answer in &answers {
        assert_eq!(answer.status, 429, "{}", answer.text());
        let wait = wait(answer).expect("it says how long");
        assert!((1..=900).contains(&wait), "{wait}");
        assert!(!answer.headers.has("set-cookie"), "{answer:?}");
    }
    let [right, wrong] = answers.map(|answer| answer.text().replace(|c: char| c.is_ascii_digit(), ""));
    assert_eq!(right, wrong);
    house.logged_in("bob");
}

fn no_secret_is_logged_or_kept(store: &Store) {
    let mut house = House::with(store, |builder| builder.set("KEYGATE_LOG__FILTER", "trace"));
    let id = house.add("ada", "admin", None);
    let mut browser = house.logged_in("ada");
    let session = browser.session();
    let csrf = browser.csrf("/account");
    let link = house.gateway.admin().post(&format!("/v1/users/{id}/link"), &json!({})).json();
    let link = link["path"].as_str().unwrap().trim_start_matches("/link/").to_owned();
    house.browser().get(&format!("/link/{link}"));
    house.browser().log_in("ada", "a wrong password of mine");
    let forged = browser.post("/logout", &[("csrf", "wrong")]);
    assert_eq!(code(&forged), "csrf_failed");
    let changed = browser.post_from(
        "/account",
        "/account/password",
        &[
            ("current", PASSWORD),
            ("password", "entirely different words"),
            ("repeated", "entirely different words"),
        ],
    );
    assert_eq!(changed.status, 303, "{}", changed.text());
    let after = browser.session();
    house.gateway.terminate();
    let (output, kept) = (house.gateway.output(), store.content());
    assert!(!output.is_empty() && !kept.is_empty());
    for secret in
        [&session, &csrf, &link, &after, PASSWORD, "a wrong password of mine", "entirely different words"]
    {
        for (place, bytes) in [("log", &output), ("store", &kept)] {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} is in the {place}");
        }
    }
    let hash = b"$argon2id$v=19$m=19456,t=2,p=1$";
    assert!(kept.windows(hash.len()).any(|window| window == hash), "the hash is kept");
    assert!(!output.windows(9).any(|window| window == b"$argon2id"), "and not logged");
}

#[test]
fn nothing_of_it_is_on_the_gateways_listener_or_the_observers() {
    let upstream = Upstream::start();
    let observe = crate::support::redis::unused_port();
    let gateway = Gateway::builder()
        .live(&upstream)
        .set("KEYGATE_OBSERVE_LISTEN", &format!("127.0.0.1:{observe}"))
        .start();
    for path in ["/login", "/account", "/logout", "/v1/users", "/link/x"] {
        let answer = gateway.ask(&Request::get(path));
        assert_eq!(code(&answer), "key_missing", "{path}: the gateway asks for a key as for any path");
        let answer = Request::get(path).send(([127, 0, 0, 1], observe).into());
        assert_eq!(answer.status, 404, "{path}");
    }
    assert_eq!(upstream.count(), 0);
}
