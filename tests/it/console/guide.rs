//! The guide that the users of the console read, paragraph by paragraph.

use serde_json::json;

use super::scene::each;
use crate::support::wait::{PATIENCE, eventually, rfc3339_in};

/// *Accessing API keys.* "Log in, then navigate to Settings → API Keys. This page lists every key your team has created,
/// showing its label, environment (Live or Sandbox), creation date, and last-used date."
#[test]
fn accessing_api_keys() {
    each(|scene| {
        scene.create("Production Server", "live");
        scene.create("Staging Environment", "sandbox");
        let browser = &scene.browser;
        browser.goto(&scene.url("/"));
        scene.log_in_here("editor");
        browser.press("Settings");
        browser.press("API Keys");
        assert_eq!(browser.path(), "/settings/api-keys");
        let heads = browser
            .script("return [...document.querySelectorAll('th')].map(head => head.textContent.trim())");
        for head in ["Label", "Environment", "Created", "Last Used", "Status"] {
            assert!(heads.as_array().unwrap().contains(&json!(head)), "{heads}");
        }
        let rows = scene.rows();
        assert_eq!(rows.len(), 2, "{rows:?}");
        for (label, environment) in [("Production Server", "Live"), ("Staging Environment", "Sandbox")] {
            let row = rows.iter().find(|row| row.contains(label)).expect("the key is in the list");
            assert!(row.contains(environment) && row.contains("Never") && row.contains("Active"), "{row}");
        }
        let created = browser.script("return document.querySelector('td.when time').dateTime");
        assert!(created.as_str().unwrap().ends_with('Z'), "{created}");
        scene.assert_no_complaints();
    });
}

/// *Creating a key.* "Click the Create Key button at the top of the page. Enter a descriptive label. Select the environment.
/// Optionally, set an expiry date. Click Create. Your full key is shown once, on screen."
#[test]
fn creating_a_key() {
    each(|scene| {
        let browser = &scene.browser;
        scene.log_in("editor");
        let [button, title, width] = ["a.primary", "h1", "html"].map(|css| {
            let rect = "const r = document.querySelector(arguments[0]).getBoundingClientRect(); return [r.top, r.right, r.bottom]";
            browser.script_with(rect, json!([css]))
        });
        let number = |value: &serde_json::Value, i: usize| value[i].as_f64().unwrap();
        assert!(number(&button, 0) < 400.0, "it is at the top: {button}");
        if scene.is_desktop() {
            assert!(number(&button, 1) > number(&width, 1) * 0.75, "and on the right: {button} {title}");
        }
        browser.press("Create Key");
        browser.find("dialog[open] #label");
        let focused = browser.script("return document.activeElement.id");
        assert_eq!(focused, "label", "one can type at once");
        browser.keys("Key 1");
        browser.expect("“Key 1” will be hard to tell from others");
        browser.fill("#label", "Production Server");
        browser.expect("Real money, real transactions");
        browser.expect("Testing only, no real money moves");
        browser.click(&browser.find("input[name=environment][value=live]"));
        browser.click(&browser.find("#expires option[value='30d']"));
        browser.press("Create");

        browser.expect("This is the only time you'll see this key in full.");
        let key = scene.shown_key().expect("the key is shown");
        assert!(key.starts_with("sk_live_") && key.len() == 72, "it is a Live key in full");
        assert_eq!(scene.copied("Copy"), key);
        browser.expect("The full key is in the clipboard.");
        scene.gateway.use_key(&key).assert_forwarded();
        scene.put_away("I have stored it");
        assert_eq!(scene.shown_key(), None);
        scene.assert_nowhere(&key);
        browser.expect("Production Server");
        browser.goto(&scene.url("/settings/api-keys"));
        let rows = scene.rows();
        let (first, last) = (&key[..12], &key[68..]);
        assert!(rows[0].contains(first) && rows[0].contains(last), "{rows:?}");
        scene.assert_nowhere(&key);
        let kept = scene.keys();
        assert_eq!(kept.len(), 1);
        assert_eq!((&kept[0]["label"], &kept[0]["team"]), (&json!("Production Server"), &json!("acme")));
        let life = kept[0]["expires_at"].as_str().unwrap();
        assert!(life > rfc3339_in(29 * DAY).as_str() && life < rfc3339_in(31 * DAY).as_str(), "{life}");
        scene.assert_no_complaints();
    });
}

/// "Optionally, set an expiry date. This is useful for temporary access — for example, a contractor who only needs access for
/// a defined project window."
#[test]
fn setting_an_expiry_date() {
    each(|scene| {
        let browser = &scene.browser;
        scene.log_in("editor");
        browser.press("Create Key");
        browser.type_into("#label", "Contractor");
        browser.click(&browser.find("input[name=environment][value=sandbox]"));
        browser.expect("a contractor’s for example");
        let date = "return document.getElementById('expires_on').checkVisibility()";
        assert_eq!(browser.script(date), json!(false), "a date is asked for where one is wanted");
        scene.choose("expires", "date");
        assert_eq!(browser.script(date), json!(true));
        let last_day = rfc3339_in(40 * DAY)[..10].to_owned();
        browser.script_with("document.getElementById('expires_on').value = arguments[0]", json!([last_day]));
        browser.press("Create");
        scene.put_away("I have stored it");
        let kept = scene.keys();
        let life = kept[0]["expires_at"].as_str().unwrap();
        assert!(life > rfc3339_in(40 * DAY).as_str() && life < rfc3339_in(41 * DAY).as_str(), "{life}");
        assert!(life.contains("T00:00:00"), "all of the last day is in it: {life}");
        // A day that is over is none.
        browser.goto(&scene.url("/settings/api-keys/new"));
        browser.type_into("#label", "Yesterday's");
        browser.click(&browser.find("input[name=environment][value=sandbox]"));
        scene.choose("expires", "date");
        browser.script(
            "const day = document.getElementById('expires_on'); day.min = ''; day.value = '2020-01-31'",
        );
        browser.press("Create");
        browser.find("[role=alert]#create-problem");
        assert_eq!(
            browser.script("return document.getElementById('label').value"),
            "Yesterday's",
            "nothing is typed twice"
        );
        assert_eq!(scene.keys().len(), 1);
    });
}

const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// *Key security rules.* "Never paste a key into a chat message … Store the key in your hosting platform's secrets manager …
/// If a key is ever exposed accidentally, revoke it immediately."
#[test]
fn key_security_rules() {
    each(|scene| {
        let browser = &scene.browser;
        scene.log_in("editor");
        let key = scene.create_in_browser("Web shop", "sandbox");
        for advice in ["secrets manager", "Heroku", "Railway", "Vercel", "Never paste it into a chat"] {
            browser.expect(advice);
        }
        scene.put_away("I have stored it");
        browser.goto(&scene.url("/settings/leaked-key"));
        browser.type_into("#key", &key);
        let kind = browser.script("return document.getElementById('key').type");
        assert_eq!(kind, "password", "nobody reads it over one's shoulder");
        browser.press("Whose is it?");
        browser.expect("It is a key of yours");
        browser.expect("Web shop");
        scene.assert_nowhere(&key);
        browser.press("Revoke");
        browser.expect("Revoke this key? This cannot be undone");
        browser.press("Revoke");
        browser.expect("The key is revoked, for ever.");
        assert_eq!(scene.gateway.use_key(&key).code(), "key_revoked");
        scene.assert_no_complaints();
    });
}

/// The same, by somebody who knows already that the key has to go: they are asked once.
#[test]
fn a_leaked_key_of_ones_own_is_revoked() {
    each(|scene| {
        let browser = &scene.browser;
        let key = scene.create("Web shop", "live");
        scene.log_in("editor");
        let report = || {
            browser.goto(&scene.url("/settings/leaked-key"));
            browser.type_into("#key", &key.key);
            browser.press("Revoke it");
        };
        report();
        browser.expect("Revoke this key? This cannot be undone");
        assert_eq!(browser.path(), format!("/settings/api-keys/{}/revoke", key.id));
        browser.expect("Web shop");
        scene.gateway.use_key(&key.key).assert_forwarded();
        browser.press("Revoke");
        browser.expect("The key is revoked, for ever.");
        browser.expect("1 of 1 gateway stopped accepting it in");
        assert_eq!(scene.gateway.use_key(&key.key).code(), "key_revoked");
        // Once more there is nothing left to ask.
        report();
        browser.expect("It is a key of yours");
        browser.expect("Revoked");
        scene.assert_nowhere(&key.key);
        scene.assert_no_complaints();
    });
}

/// *Revoking a key.* "Find the key in the list. Click the Revoke button next to it. Confirm in the dialog that appears.
/// Revocation is immediate and irreversible."
#[test]
fn revoking_a_key() {
    each(|scene| {
        let browser = &scene.browser;
        let key = scene.create("Old worker", "live");
        scene.create("Other worker", "live");
        scene.gateway.use_key(&key.key).assert_forwarded();
        eventually("the use is written", PATIENCE, || scene.gateway.admin().last_used(&key.id).is_some());
        scene.log_in("editor");
        browser.press("Revoke Old worker");
        browser.expect("Revoke this key? This cannot be undone");
        browser.expect("This key was used within the last hour.");
        browser.expect("1 request in this hour and the one before, 1 in the last 7 days");
        browser.expect("Make sure that it has switched to another key");
        browser.press("Cancel");
        eventually("the dialog is gone", PATIENCE, || browser.count("dialog") == 0);
        scene.gateway.use_key(&key.key).assert_forwarded();

        browser.press("Revoke Other worker");
        browser.expect("0 requests in the last 7 days");
        assert!(
            !browser.text().contains("within the last hour"),
            "nobody is warned of a key that is not in use"
        );
        browser.expect("if you are unsure, ask your engineers before you go on");
        browser.press("Cancel");
        eventually("the dialog is gone", PATIENCE, || browser.count("dialog") == 0);

        browser.press("Revoke Old worker");
        browser.expect("Revoke this key? This cannot be undone");
        browser.press("Revoke");
        browser.expect("1 of 1 gateway stopped accepting it in");
        assert_eq!(scene.gateway.use_key(&key.key).code(), "key_revoked");
        browser.expect("Revoked");
        assert_eq!(scene.statuses(), ["active", "revoked"]);
        // There is no undo, and nothing more to be done with it.
        for name in ["Revoke", "Rotate", "Restore", "Undo"] {
            assert!(!scene.can_press(name), "{name}");
        }
        eventually("the attempt is written", PATIENCE, || {
            scene.gateway.admin().key(&key.id)["refusals"] == 1
        });
        browser.reload();
        browser.expect("1 request with this key came after it was revoked");
        assert_eq!(scene.statuses(), ["active", "revoked"], "to load the page again changes nothing");
        scene.assert_no_complaints();
    });
}

/// *Key usage.* "Each key in the list shows a Last Used column — the most recent date and time … if a key has shown no
/// activity for 90 days or more, it's likely safe to revoke."
#[test]
fn key_usage() {
    each(|scene| {
        let browser = &scene.browser;
        let used = scene.create("In use", "live");
        scene.import("Forgotten", 91);
        scene.import("Not so old", 89);
        scene.gateway.use_key(&used.key).assert_forwarded();
        let last = || scene.gateway.admin().last_used(&used.id);
        eventually("the use is written", PATIENCE, || last().is_some());
        scene.log_in("viewer");
        let rows = scene.rows();
        let row = |label: &str| rows.iter().find(|row| row.contains(label)).expect("the key is in the list");
        assert!(row("In use").contains("just now"), "{rows:?}");
        assert!(row("Forgotten").contains("Likely safe to revoke"), "{rows:?}");
        assert!(!row("Not so old").contains("Likely safe to revoke"), "{rows:?}");
        let shown = browser.script("return [...document.querySelectorAll('tr')].find(row => row.innerText.includes('In use')).querySelector('[data-name=\"Last Used\"] time').dateTime");
        assert_eq!(shown.as_str(), last().as_deref(), "the exact moment is there too");
        let hover = browser.script("return document.querySelector('[data-name=\"Last Used\"] time').title");
        let year = &last().unwrap()[..4];
        assert!(hover.as_str().is_some_and(|hover| hover.contains(year) && hover.contains(':')), "{hover}");
        let why = browser.script("return document.querySelector('.mark-pill.warn').title");
        assert_eq!(why, "No activity for 90 days or more");
        browser.expect("Last Used is usually at most 1 second behind");
        browser.click(&browser.find("#status option[value=idle]"));
        eventually("the list is filtered", PATIENCE, || scene.rows().len() == 1);
        assert!(browser.path().contains("status=idle"), "{}", browser.path());
        assert!(scene.rows()[0].contains("Forgotten"));
        scene.assert_no_complaints();
    });
}
