//! Two admins who change the same user: nothing is lost by it, and what was lost on the way can be sent again.

use serde_json::{Value, json};

use crate::stores::Store;
use crate::support::{Answer, Request};

use super::browser::Browser;
use super::{House, code, on_both_stores};

on_both_stores! {
    a_user_is_changed_as_it_was_seen
    a_form_does_not_undo_what_another_did_meanwhile
    a_user_that_is_added_again_is_the_same_user
}

fn edit(browser: &mut Browser, path: &str, if_match: Option<&str>, change: &Value) -> Answer {
    let csrf = browser.csrf("/account");
    let mut request = Request::new("PATCH", path)
        .header("Content-Type", "application/json")
        .header("X-CSRF-Token", &csrf)
        .body(change.to_string());
    if let Some(tag) = if_match {
        request = request.header("If-Match", tag);
    }
    browser.send(request)
}

fn etag(answer: &Answer) -> String {
    answer.headers.get("etag").unwrap_or_else(|| panic!("no ETag: {answer:?}")).to_owned()
}

fn a_user_is_changed_as_it_was_seen(store: &Store) {
    let house = House::of(store);
    house.add("fred", "admin", None);
    let path = format!("/v1/users/{}", house.add("ada", "viewer", Some("acme")));
    let mut fred = house.logged_in("fred");
    let seen = etag(&fred.get(&path));

    let unseen = edit(&mut fred, &path, None, &json!({"role": "editor"}));
    assert_eq!((unseen.status, code(&unseen).as_str()), (428, "precondition_required"));
    let moved = edit(&mut fred, &path, Some(&seen), &json!({"team": "globex"}));
    assert_eq!(moved.status, 200, "{}", moved.text());
    assert_ne!(etag(&moved), seen);
    assert_eq!(etag(&fred.get(&path)), etag(&moved));

    let late = edit(&mut fred, &path, Some(&seen), &json!({"role": "editor"}));
    assert_eq!((late.status, code(&late).as_str()), (412, "precondition_failed"));
    assert_eq!(late.json()["current"], moved.json(), "it says what is there");
    assert_eq!(etag(&late), etag(&moved));
    assert_eq!(fred.get(&path).json()["role"], "viewer", "no editor of a team that nobody meant");
    let again = edit(&mut fred, &path, Some(&etag(&late)), &json!({"role": "editor"}));
    assert_eq!(again.status, 200, "{}", again.text());
}

fn a_form_does_not_undo_what_another_did_meanwhile(store: &Store) {
    let house = House::of(store);
    house.add("fred", "admin", None);
    let id = house.add("ada", "viewer", Some("acme"));
    let (form, api) = (format!("/settings/users/{id}"), format!("/v1/users/{id}"));
    let mut fred = house.logged_in("fred");
    let shown = fred.get(&form).text();
    let revision = shown.split("name=\"revision\" value=\"").nth(1).expect("the form knows what it shows");
    let revision = revision.split('"').next().unwrap();
    assert_eq!(fred.call("PATCH", &api, Some(&json!({"disabled": true}))).status, 200);

    // The box "disabled" was empty when the form was shown, and is when it is sent.
    let late = fred.post_from(&form, &form, &[("revision", revision), ("role", "editor")]);
    assert_eq!(late.status, 422, "{}", late.text());
    assert!(late.text().contains("The user was changed meanwhile"), "{}", late.text());
    let ada = fred.get(&api).json();
    assert_eq!((&ada["disabled"], &ada["role"]), (&json!(true), &json!("viewer")));
}

fn a_user_that_is_added_again_is_the_same_user(store: &Store) {
    let house = House::of(store);
    let user = json!({"account": "ada", "role": "admin"});
    let added = house.gateway.admin().post("/v1/users", &user);
    let again = house.gateway.admin().post("/v1/users", &json!({"account": "Ada", "role": "admin"}));
    assert_eq!((again.status, code(&again).as_str()), (409, "account_taken"));
    let users = house.gateway.admin().get("/v1/users").json();
    assert_eq!(users["data"], json!([added.json()]));
}
