//! The full key is shown once, and cannot be had again.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::scene::{Scene, each_store};
use crate::support::keys::trace_in;
use crate::support::wait::{PATIENCE, eventually};

#[test]
fn a_new_key_cannot_be_had_again_by_any_button_of_the_browser() {
    each_store(|scene| {
        let browser = &scene.browser;
        scene.log_in("editor");
        let key = scene.create_in_browser("Once", "live");
        // Reload, with the dialog still open: the address is that of the key's page.
        browser.reload();
        browser.find("h1");
        assert_eq!(scene.shown_key(), None);
        scene.assert_nowhere(&key);
        assert_eq!(scene.keys().len(), 1, "no second key was made");
        // Away by a link while it is shown, and back.
        browser.goto(&scene.url("/settings/api-keys"));
        let second = scene.create_in_browser("Twice", "live");
        browser.goto(&scene.url("/settings/gateways"));
        browser.back();
        browser.find("h1");
        assert_eq!(scene.shown_key(), None);
        scene.assert_nowhere(&second);
        browser.back();
        browser.find("h1");
        browser.forward();
        browser.find("h1");
        scene.assert_nowhere(&second);
        assert_eq!(scene.keys().len(), 2);
        scene.assert_no_complaints();
        // Nor is it in anything that the browser keeps on disk.
        let Scene { browser, .. } = scene;
        let profile = browser.quit();
        for key in [&key, &second] {
            assert_eq!(file_with(profile.path(), key), None);
        }
    });
}

/// Chromium does not put such a page aside, but other browsers may: what the page does then is told to it.
#[test]
fn a_page_that_is_put_aside_for_the_back_button_holds_no_key() {
    each_store(|scene| {
        scene.log_in("editor");
        let key = scene.create_in_browser("Once", "live");
        scene.browser.script("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))");
        assert_eq!(scene.shown_key(), None);
        scene.assert_nowhere(&key);
    });
}

#[test]
fn escape_by_habit_does_not_cost_a_key_that_is_not_copied() {
    each_store(|scene| {
        scene.log_in("editor");
        let key = scene.create_in_browser("Once", "live");
        scene.browser.keys(ESCAPE);
        scene.browser.expect("Press Escape again to close all the same");
        assert_eq!(scene.shown_key().as_deref(), Some(&*key));
        scene.browser.keys(ESCAPE);
        scene.browser.find("body:not(:has(dialog))");
        scene.assert_nowhere(&key);
    });
}

#[test]
fn without_script_a_key_is_shown_once_too() {
    each_store(|scene| {
        let browser = &scene.browser;
        scene.log_in("editor");
        browser.scripts(false);
        browser.goto(&scene.url("/settings/api-keys"));
        let key = scene.create_in_browser("Once", "sandbox");
        assert_eq!(browser.path(), "/settings/api-keys", "it is in the answer to the form");
        // To send the form once more makes no second key and shows none.
        browser.reload();
        browser.expect("shown before");
        scene.assert_nowhere(&key);
        assert_eq!(scene.keys().len(), 1);
        browser.goto(&scene.url("/settings/gateways"));
        browser.back();
        scene.assert_nowhere(&key);
        assert_eq!(scene.keys().len(), 1);
    });
}

/// An address is kept: by the browser, by proxies, by whoever it is sent to.
#[test]
fn a_key_that_is_pasted_into_the_search_gets_into_no_address() {
    each_store(|scene| {
        let browser = &scene.browser;
        scene.log_in("editor");
        let key = scene.create_in_browser("Web shop", "live");
        scene.put_away("I have stored it");
        browser.goto(&scene.url("/settings/api-keys"));
        // What the page asks for is seen, and the pause after the typing is over when this test says so.
        browser.script(
            "globalThis.asked = []; globalThis.due = [];
            const [ask, later] = [fetch, setTimeout];
            globalThis.fetch = (...what) => { asked.push(String(what[0])); return ask(...what); };
            globalThis.setTimeout = (run, ...rest) => { due.push(run); return later(run, ...rest); };",
        );
        paste_into_the_search(&scene, &format!("Whose is {key} ?"));
        browser.expect("Never search for a whole key");
        assert_eq!(browser.script("for (const run of due) run(); return due.length > 0"), json!(true));
        scene.choose("environment", "live");
        browser.keys(ENTER);
        assert_eq!(browser.script("return asked"), json!([]), "nothing was sent");
        browser.script("document.getElementById('q').value = ''");
        scene.assert_nowhere(&key);
        // Nor is a longer text cut, with which a part of a key would be left.
        paste_into_the_search(&scene, &format!("{} {key}", "Look what I found in our chat: ".repeat(2)));
        browser.expect("Never search for a whole key");
        browser.fill("#q", "web");
        eventually("the search is done", PATIENCE, || browser.path().contains("q=web"));
        assert!(!browser.text().contains("Never search for a whole key"));
        scene.assert_nowhere(&key);
        scene.assert_no_complaints();
    });
}

#[test]
fn without_script_no_key_gets_from_the_search_into_an_address_either() {
    each_store(|scene| {
        let browser = &scene.browser;
        scene.log_in("editor");
        let key = scene.create_in_browser("Web shop", "live");
        scene.put_away("I have stored it");
        browser.scripts(false);
        browser.goto(&scene.url("/settings/api-keys"));
        paste_into_the_search(&scene, &key);
        browser.expect("Never search for a whole key");
        browser.press("Apply");
        browser.keys(ENTER);
        browser.fill("#q", "web");
        browser.press("Apply");
        eventually("the search is done", PATIENCE, || browser.path().contains("q=web"));
        scene.assert_nowhere(&key);
    });
}

#[test]
fn a_reported_key_is_not_sent_again_when_the_answer_is_loaded_again() {
    each_store(|scene| {
        let browser = &scene.browser;
        let key = scene.create("Web shop", "live");
        scene.log_in("viewer");
        browser.goto(&scene.url("/settings/leaked-key"));
        browser.type_into("#key", &key.key);
        browser.press("Whose is it?");
        browser.expect("It is a key of yours");
        browser.reload();
        browser.find("#key");
        assert!(!browser.text().contains("It is a key of yours"), "{}", browser.text());
        scene.assert_nowhere(&key.key);
    });
}

/// As the clipboard does: all at once.
fn paste_into_the_search(scene: &Scene, text: &str) {
    scene.browser.click(&scene.browser.find("#q"));
    scene.browser.devtools("Input.insertText", json!({ "text": text }));
}

/// As WebDriver names them.
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";

/// The first file below `folder` that holds a trace of the key.
fn file_with(folder: &Path, key: &str) -> Option<String> {
    for entry in fs::read_dir(folder).expect("the profile can be read") {
        let path = entry.expect("the profile can be read").path();
        let found = match path.is_dir() {
            true => file_with(&path, key),
            false => fs::read(&path)
                .ok()
                .filter(|bytes| trace_in(bytes, key).is_some())
                .map(|_| path.display().to_string()),
        };
        if found.is_some() {
            return found;
        }
    }
    None
}
