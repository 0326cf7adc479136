//! Forms that are not ours, and ways that lead elsewhere.

use serde_json::json;

use crate::stores::Store;
use crate::support::Request;

use super::{House, PASSWORD, code};

/// Every path that takes a form, or a script's call, from somebody who is logged in.
const CHANGES: [(&str, &str); 10] = [
    ("POST", "/logout"),
    ("POST", "/logout/everywhere"),
    ("POST", "/account/password"),
    ("POST", "/v1/keys"),
    ("POST", "/v1/keys/find"),
    ("POST", "/v1/keys/revoke"),
    ("POST", "/v1/users"),
    ("PATCH", "/v1/users/usr_00000000000000000000"),
    ("DELETE", "/v1/users/usr_00000000000000000000"),
    ("POST", "/v1/store/accept"),
];

#[test]
fn a_form_of_another_site_changes_nothing() {
    let house = House::of(&Store::sqlite());
    house.add("ada", "admin", None);
    let mut browser = house.logged_in("ada");
    let csrf = browser.csrf("/account");
    let mut stranger = house.logged_in("ada");
    let strangers = stranger.csrf("/account");
    for (method, path) in CHANGES {
        let form = |token: Option<&str>| {
            let request =
                Request::new(method, path).header("Content-Type", "application/x-www-form-urlencoded");
            match token {
                Some(token) => request.body(format!("csrf={token}&a=b")),
                None => request.body("a=b"),
            }
        };
        let refused = [
            ("no token", form(None)),
            ("an empty token", form(Some(""))),
            ("the token twice", form(Some(&format!("{csrf}&csrf={csrf}")))),
            ("another session's token", form(Some(&strangers))),
            ("a token cut short", form(Some(&csrf[..42]))),
            ("another session's header", form(Some(&csrf)).header("X-CSRF-Token", &strangers)),
            ("JSON without a header", Request::post(path, json!({"csrf": csrf}).to_string())),
            (
                "plain text",
                Request::new(method, path).header("Content-Type", "text/plain").body(format!("csrf={csrf}")),
            ),
            ("a fetch across sites", form(Some(&csrf)).header("Sec-Fetch-Site", "cross-site")),
            ("a fetch of the same site", form(Some(&csrf)).header("Sec-Fetch-Site", "same-site")),
        ];
        for (how, request) in refused {
            let answer = browser.send(request);
            assert_eq!(
                (answer.status, code(&answer).as_str()),
                (403, "csrf_failed"),
                "{method} {path}: {how}"
            );
        }
        let ours = browser.origin.clone();
        for origin in ["null", "http://evil.example", "https://evil.example:8081", "http://127.0.0.1:1"] {
            browser.origin = Some(origin.to_owned());
            let answer = browser.send(form(Some(&csrf)));
            assert_eq!(code(&answer), "csrf_failed", "{method} {path} from {origin}");
        }
        browser.origin = ours;
    }
    assert!(browser.is_in() && stranger.is_in(), "nobody was logged out");
}

#[test]
fn the_log_in_form_is_no_exception() {
    let house = House::of(&Store::sqlite());
    house.add("ada", "admin", None);
    let fields = [("account", "ada"), ("password", PASSWORD)];
    let mut browser = house.browser();
    assert_eq!(code(&browser.post("/login", &fields)), "csrf_failed", "no cookie and no token");
    let csrf = browser.csrf("/login");
    assert_eq!(code(&browser.post("/login", &fields)), "csrf_failed", "no token");
    let mut other = house.browser();
    let others = other.csrf("/login");
    let mixed = [("csrf", others.as_str()), fields[0], fields[1]];
    assert_eq!(code(&browser.post("/login", &mixed)), "csrf_failed", "another browser's token");
    browser.origin = Some("http://evil.example".to_owned());
    let right = [("csrf", csrf.as_str()), fields[0], fields[1]];
    assert_eq!(code(&browser.post("/login", &right)), "csrf_failed", "another site's page");
    browser.origin = None;
    assert_eq!(browser.post("/login", &right).status, 303);
}

#[test]
fn a_script_of_ours_may_call_the_api() {
    let house = House::of(&Store::sqlite());
    house.add("ada", "editor", Some("acme"));
    let mut browser = house.logged_in("ada");
    let body = json!({"label": "By a script", "environment": "live"});
    let created = browser.call("POST", "/v1/keys", Some(&body));
    assert_eq!(created.status, 201, "{}", created.text());
    assert_eq!(created.json()["team"], "acme");
    assert_eq!(created.headers.get("cache-control"), Some("no-store"));
    // A wrong token of a machine is not mended by a session.
    let both = Request::get("/v1/keys").bearer("wrong");
    assert_eq!(browser.send(both).status, 401);
}

#[test]
fn the_log_in_leads_nowhere_else() {
    let house = House::of(&Store::sqlite());
    house.add("ada", "admin", None);
    for next in [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "/.//evil.example",
        "/%0d%0aLocation: https://evil.example",
        "/\r\nSet-Cookie: a=b",
    ] {
        let mut browser = house.browser();
        let fields = [("account", "ada"), ("password", PASSWORD), ("next", next)];
        let entered = browser.post_from("/login", "/login", &fields);
        assert_eq!(entered.status, 303, "{next:?}: {}", entered.text());
        let location = entered.headers.get("location").unwrap();
        assert!(location.starts_with('/') && !location.starts_with("//"), "{next:?} leads to {location:?}");
        assert!(!location.contains('\\'), "{location:?}");
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
        let passed = browser.get(&format!("/login?{query}"));
        let location = passed.headers.get("location").unwrap();
        assert!(location.starts_with('/') && !location.starts_with("//"), "{next:?} leads to {location:?}");
    }
}

#[test]
fn what_people_type_stays_text() {
    let house = House::of(&Store::sqlite());
    let mut browser = house.browser();
    let naughty = "\"><script>alert(1)</script>";
    let page = browser.log_in(naughty, "a wrong password").text();
    assert!(!page.contains("<script>"), "{page}");
    let page = browser.get("/login?next=%2F%22%3E%3Cscript%3E").text();
    assert!(!page.contains("<script>"), "{page}");
}
