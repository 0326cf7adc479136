//! `keygate users`, and the demo's link.

use std::process::Command;

use crate::stores::Store;
use crate::support::gateway::TOKEN;
use crate::support::process::Process;
use crate::support::wait::PATIENCE;
use crate::support::{Ran, Request, eventually, keygate};

use super::{House, PASSWORD, on_both_stores};

fn users(house: &House, arguments: &[&str]) -> Command {
    let mut command = keygate();
    command.arg("users").args(arguments);
    command.env("KEYGATE_ADMIN_URL", house.gateway.admin_url()).env("KEYGATE_ADMIN_TOKEN", TOKEN);
    command
}

fn run(house: &House, arguments: &[&str]) -> Ran {
    Ran::to_end(&mut users(house, arguments), "keygate")
}

#[test]
fn the_first_admin_is_added_at_the_command_line() {
    let house = House::of(&Store::sqlite());
    let mut add = users(&house, &["add", "Ada@Example.com", "--admin", "--password-stdin"]);
    let added = Ran::with_input(&mut add, &format!("{PASSWORD}\n")).assert_code(0);
    assert!(
        added.stdout.contains("ada@example.com") && added.stdout.contains("admin of all teams"),
        "{added:?}"
    );
    assert!(!format!("{added:?}").contains(PASSWORD));
    house.logged_in("ada@example.com");
    let list = run(&house, &["list"]).assert_code(0);
    assert!(list.stdout.contains("ada@example.com") && list.stdout.contains("active"), "{list:?}");
    let list = run(&house, &["list", "--json"]).assert_code(0).json();
    assert_eq!(list["data"][0]["role"], "admin");
    let mut browser = house.logged_in("ada@example.com");
    run(&house, &["remove", "ADA@example.com"]).assert_code(0);
    assert!(!browser.is_in());
    run(&house, &["remove", "ada@example.com"]).assert_code(1);
}

#[test]
fn a_user_is_added_with_a_link_in_place_of_a_password() {
    let house = House::of(&Store::sqlite());
    let added = run(&house, &["add", "eve", "--role", "viewer", "--team", "acme", "--link", "--json"])
        .assert_code(0)
        .json();
    let url = added["link"]["url"].as_str().expect("there is a link");
    let path = url.strip_prefix(&house.gateway.admin_url()).expect("it leads to the console");
    let mut browser = house.browser();
    let set = browser.post_from(path, path, &[("password", PASSWORD), ("repeated", PASSWORD)]);
    assert_eq!(set.status, 303, "{}", set.text());
    house.logged_in("eve");
    let link = run(&house, &["link", "eve"]).assert_code(0);
    assert!(link.stdout.contains("/link/"), "{link:?}");
}

on_both_stores! {
    a_user_is_changed_at_the_command_line
}

fn a_user_is_changed_at_the_command_line(store: &Store) {
    let house = House::of(store);
    house.add("anna", "admin", None);
    let eve = house.add("eve", "viewer", Some("acme"));
    let mut browser = house.logged_in("eve");
    let edited = run(&house, &["edit", "Eve", "--role", "editor"]).assert_code(0);
    assert_eq!(edited.stdout, "eve is now editor of the team acme, and may log in.\n");
    assert!(!browser.is_in(), "another role ends what was open");
    let mut browser = house.logged_in("eve");
    let edited = run(&house, &["edit", &eve, "--disable", "--json"]).assert_code(0).json();
    assert_eq!((&edited["disabled"], &edited["role"]), (&true.into(), &"editor".into()));
    assert!(!browser.is_in());
    assert_eq!(house.browser().log_in("eve", PASSWORD).status, 403);
    let edited = run(&house, &["edit", "eve", "--role", "viewer", "--enable"]).assert_code(0);
    assert_eq!(edited.stdout, "eve is now viewer of the team acme, and may log in.\n");
    house.logged_in("eve");

    for (arguments, code, words) in [
        (vec!["edit", "nobody", "--disable"], 1, "no such user"),
        (vec!["edit", "eve"], 64, "--role"),
        (vec!["edit", "eve", "--disable", "--enable"], 64, "--enable"),
        (vec!["edit", "eve", "--role", "king"], 64, "viewer, editor and admin"),
    ] {
        let ran = run(&house, &arguments).assert_code(code);
        assert!(ran.stderr.contains(words), "{arguments:?}: {ran:?}");
    }
    run(&house, &["edit", "anna", "--role", "viewer"]).assert_code(64);
    assert_eq!(house.gateway.admin().get(&format!("/v1/users/{eve}")).json()["disabled"], false);
}

#[test]
fn what_is_wrong_is_said_and_the_password_is_not() {
    let house = House::of(&Store::sqlite());
    for (arguments, input, words) in [
        (vec!["add", "bob", "--admin", "--password-stdin"], "short", "at least 12 characters"),
        (vec!["add", "bob", "--admin", "--password-stdin"], "passwordpassword", "commonest"),
        (vec!["add", "robert.bobson", "--admin", "--password-stdin"], "Robert.Bobson", "account's name"),
        (vec!["add", "bob", "--role", "viewer", "--password-stdin"], PASSWORD, "`team` is required"),
        (vec!["add", "bob", "--role", "king", "--password-stdin"], PASSWORD, "viewer, editor and admin"),
        (vec!["add", "a b", "--admin", "--password-stdin"], PASSWORD, "not an account"),
        (vec!["add", "bob", "--password-stdin"], PASSWORD, "--role"),
    ] {
        let ran = Ran::with_input(&mut users(&house, &arguments), input).assert_code(64);
        assert!(ran.stderr.contains(words), "{arguments:?}: {ran:?}");
        assert!(!format!("{ran:?}").contains(PASSWORD));
    }
    assert_eq!(run(&house, &["list", "--json"]).assert_code(0).json()["data"].as_array().unwrap().len(), 0);
}

#[test]
fn the_demo_prints_a_link_that_logs_in_once() {
    let mut command: Command = keygate();
    command.args(["demo", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.current_dir(std::env::temp_dir());
    let process = Process::start(&mut command, "keygate");
    let printed = || String::from_utf8_lossy(&process.stdout()).into_owned();
    eventually("the demo prints a link", PATIENCE, || printed().contains("Ctrl-C"));
    let text = printed();
    let url = text.split_whitespace().find(|word| word.contains("/link/")).expect("there is a link");
    let (address, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    let (address, path) = (address.parse().unwrap(), format!("/{path}"));
    let page = Request::get(&path).send(address);
    assert_eq!(page.status, 200, "{}", page.text());
    let cookie = page.headers.get("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let csrf =
        page.text().split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let enter = Request::new("POST", &path)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("Cookie", &cookie)
        .body(format!("csrf={csrf}"));
    let entered = enter.send(address);
    assert_eq!(entered.status, 303, "{}", entered.text());
    let session =
        entered.headers.all("set-cookie").into_iter().find(|line| line.starts_with("keygate=")).unwrap();
    let session = session.split(';').next().unwrap();
    let list = Request::get("/v1/keys").header("Cookie", session).send(address);
    assert_eq!(list.status, 200, "{}", list.text());
    assert_eq!(list.json()["data"].as_array().unwrap().len(), 2, "the demo's admin sees all teams");
    assert_eq!(enter.send(address).status, 404, "it works once");
}
