//! Every page before axe-core, light and dark, on a desktop and on a phone; and the keyboard alone.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::scene::Scene;
use crate::support::browser::Screen;
use crate::support::wait::{PATIENCE, eventually};

/// `./test` brings it from the npm registry, pinned.
const AXE: &str = "target/tools/axe-core/package/axe.min.js";

/// Keys, as WebDriver names them.
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";
const SPACE: &str = " ";

#[test]
fn axe_core_finds_nothing() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(AXE);
    let axe = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; ./test fetches it", path.display()));
    let scene = Scene::new();
    let browser = &scene.browser;
    let key = scene.create("Production Server", "live");
    scene.import("Forgotten", 100);
    scene.gateway.admin().rotate(&scene.create("Payout worker", "live").id, "24h");
    scene.gateway.admin().revoke(&scene.create("Gone", "sandbox").id);
    let old = scene.keys().iter().find(|key| key["status"] == "rotating").unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    browser.goto(&scene.url("/login"));
    inspect_all(&scene, &axe, "/login");
    scene.log_in("admin");
    let user = scene.gateway.admin().get("/v1/users").json()["data"][0]["id"].as_str().unwrap().to_owned();
    let pages = [
        "/settings/api-keys".to_owned(),
        "/settings/api-keys?q=nothing+is+like+this".to_owned(),
        "/settings/api-keys/new".to_owned(),
        format!("/settings/api-keys/{}", key.id),
        format!("/settings/api-keys/{old}"),
        format!("/settings/api-keys/{}/revoke", key.id),
        format!("/settings/api-keys/{}/rotate", key.id),
        "/settings/api-keys/nothing".to_owned(),
        "/settings/gateways".to_owned(),
        "/settings/leaked-key".to_owned(),
        "/settings/users".to_owned(),
        "/settings/users/new".to_owned(),
        format!("/settings/users/{user}"),
        format!("/settings/users/{user}/remove"),
        "/account".to_owned(),
    ];
    for path in &pages {
        browser.goto(&scene.url(path));
        inspect_all(&scene, &axe, path);
    }
    // Dialogs, as they are lifted by script.
    browser.goto(&scene.url("/settings/api-keys"));
    browser.press("Create Key");
    browser.find("dialog[open]");
    inspect_all(&scene, &axe, "the dialog for a new key");
    browser.press("Cancel");
    scene.create_in_browser("Web shop", "sandbox");
    inspect_all(&scene, &axe, "the new key");
    scene.put_away("I have stored it");
    browser.press("Revoke");
    browser.find("dialog[open]");
    inspect_all(&scene, &axe, "the dialog for a revocation");
    browser.press("Revoke");
    browser.expect("The key is revoked, for ever.");
    inspect_all(&scene, &axe, "the receipt");
    browser.goto(&scene.url("/settings/api-keys"));
    browser.press("Rotate Production Server");
    browser.find("dialog[open]");
    inspect_all(&scene, &axe, "the dialog for a rotation");
    browser.goto(&scene.url("/settings/leaked-key"));
    browser.type_into("#key", &key.key);
    browser.press("Whose is it?");
    browser.expect("It is a key of yours");
    inspect_all(&scene, &axe, "a leaked key that was found");
    browser.type_into("#key", "nothing");
    browser.press("Whose is it?");
    browser.expect("This is not a key.");
    inspect_all(&scene, &axe, "a leaked key that is none");
    browser.goto(&scene.url("/settings/users"));
    browser.press("Add User");
    browser.type_into("#account", "viewer");
    browser.click(&browser.find("input[name=role][value=viewer]"));
    inspect_all(&scene, &axe, "the dialog for a user");
    browser.press("Add");
    browser.find("[role=alert]#user-problem");
    inspect_all(&scene, &axe, "a user that cannot be added");
    browser.goto(&scene.url("/settings/users"));
    browser.press("Password link for viewer");
    let link = scene.shown_key().expect("a link is shown");
    inspect_all(&scene, &axe, "the link for a password");
    scene.put_away("Done");
    browser.script("document.getElementById('no-answer').hidden = false");
    inspect_all(&scene, &axe, "the word that nobody answers");
    browser.press("Log out");
    browser.find("form[action='/login']");
    browser.fill("#account", "admin");
    browser.fill("#password", "wrong");
    browser.press("Log in");
    browser.find("[role=alert]");
    inspect_all(&scene, &axe, "a log-in that failed");
    browser.goto(&link);
    inspect_all(&scene, &axe, "a password to be set");
    scene.log_in("other");
    browser.expect("No keys yet");
    inspect_all(&scene, &axe, "an empty list");
}

#[test]
fn the_keyboard_is_enough() {
    let scene = Scene::new();
    let browser = &scene.browser;
    scene.log_in("editor");
    let focus = || {
        browser.script("return document.activeElement.innerText?.trim() || document.activeElement.id || document.activeElement.value")
    };
    browser.keys(TAB);
    assert_eq!(focus(), "Skip to the page");
    browser.keys(ENTER);
    let tab_to = |name: &str| {
        for _ in 0..40 {
            browser.keys(TAB);
            if focus() == json!(name) {
                return;
            }
        }
        panic!("{name} is not reached: {}", focus());
    };
    tab_to("Create Key");
    let outline = browser.script("return getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outline, "solid", "where the focus is can be seen");
    browser.keys(ENTER);
    browser.find("dialog[open] #label:focus");
    browser.keys(ESCAPE);
    browser.find("body:not(:has(dialog))");
    assert_eq!(focus(), "Create Key", "the focus is where it was");
    browser.keys(ENTER);
    browser.find("dialog[open] #label:focus");
    browser.keys("Batch job");
    browser.keys(TAB);
    browser.keys(SPACE);
    for _ in 0..40 {
        if focus() == "Create" {
            break;
        }
        browser.keys(TAB);
        let inside = browser.script(
            "return document.activeElement === document.body || !!document.activeElement.closest('dialog')",
        );
        assert_eq!(inside, json!(true), "the focus stays in the dialog");
    }
    browser.keys(ENTER);
    browser.expect("This is the only time you'll see this key in full.");
    assert_eq!(focus(), "Copy");
}

#[test]
fn a_key_is_found_sorted_and_revoked_by_the_keyboard_alone() {
    let scene = Scene::new();
    let browser = &scene.browser;
    for label in ["Batch job", "Web shop", "Worker"] {
        scene.create(label, "live");
    }
    scene.log_in("editor");
    let tab_to = |name: &str| {
        for _ in 0..60 {
            browser.keys(TAB);
            if browser.script("return document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText.trim()") == json!(name) {
                return;
            }
        }
        panic!("{name} is not reached");
    };
    tab_to("Label");
    browser.keys(ENTER);
    eventually("it is sorted", PATIENCE, || scene.labels() == ["Batch job", "Web shop", "Worker"]);
    browser.script("document.getElementById('q').focus()");
    browser.keys("wo");
    eventually("it is searched", PATIENCE, || scene.labels() == ["Worker"]);
    assert_eq!(browser.script("return document.activeElement.id"), "q", "one can type on");
    tab_to("Revoke Worker");
    browser.keys(ENTER);
    browser.find("dialog[open]");
    assert_eq!(
        browser.script("return document.activeElement.innerText"),
        "Cancel",
        "the harmless button comes first"
    );
    browser.keys(ENTER);
    browser.find("body:not(:has(dialog))");
    assert_eq!(scene.statuses(), ["active", "active", "active"]);
    browser.keys(ENTER);
    browser.find("dialog[open]");
    tab_to("Revoke");
    browser.keys(ENTER);
    browser.expect("The key is revoked, for ever.");
    assert_eq!(scene.statuses(), ["active", "active", "revoked"]);
}

/// In both themes and on both screens.
fn inspect_all(scene: &Scene, axe: &str, what: &str) {
    for (screen, dark) in
        [(Screen::Desktop, false), (Screen::Desktop, true), (Screen::Phone, true), (Screen::Phone, false)]
    {
        scene.browser.screen(screen);
        scene.browser.dark(dark);
        let violations = inspect(scene, axe);
        assert!(violations.is_empty(), "{what}, {screen:?}, dark: {dark}: {violations:#?}");
        let wide = scene
            .browser
            .script("return document.documentElement.scrollWidth > document.documentElement.clientWidth");
        assert_eq!(wide, json!(false), "{what}, {screen:?}: nothing reaches beyond the screen");
    }
    scene.browser.screen(Screen::Desktop);
}

/// What axe-core finds, each with where.
fn inspect(scene: &Scene, axe: &str) -> Vec<String> {
    // Animations are over when it looks: a text that fades in has less contrast.
    const RUN: &str = "const done = arguments[0];
        document.getAnimations().forEach(animation => animation.finish());
        axe.run().then(found => done(found.violations.map(v => `${v.id}: ${v.nodes.map(n => n.html + ' ' + (n.any[0]?.message ?? '')).join(' | ')}`)))";
    scene.browser.script(&format!("if (!window.axe) {{ {axe} }}"));
    let found = scene.browser.script_async(RUN);
    found.as_array().unwrap().iter().map(|violation| Value::as_str(violation).unwrap().to_owned()).collect()
}
