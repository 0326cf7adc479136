//! The pictures of the console that the documentation shows, made anew on demand:
//! `cargo test --test it -- --ignored the_pictures_of_the_console`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::json;

use super::scene::PASSWORD;
use crate::support::admin::Admin;
use crate::support::browser::{Browser, Screen};
use crate::support::keys::sha256_hex;
use crate::support::wait::{full, rfc3339_ago, rfc3339_in};
use crate::support::{CreatedKey, Gateway, Upstream};

const DAY_S: u64 = 24 * 60 * 60;

#[test]
#[ignore = "writes docs/images/, on demand"]
fn the_pictures_of_the_console() {
    if full() {
        return;
    }
    let upstream = Upstream::start();
    let folder = tempfile::tempdir().expect("a directory can be made");
    let path = folder.path().join("keygate.sqlite");
    let start = || Gateway::builder().live(&upstream).sqlite(&path).start();
    let mut gateway = start();
    let payout = furnish(&gateway);
    assert!(gateway.terminate().success());
    live_through_a_month(&Connection::open(&path).expect("the store can be opened"));
    let gateway = start();

    let browser = Browser::open();
    let url = |path: &str| format!("{}{path}", gateway.admin_url());
    desktop(&browser);
    browser.goto(&url("/login"));
    browser.fill("#account", "ada");
    browser.fill("#password", PASSWORD);
    browser.press("Log in");
    browser.find("#results");
    picture(&browser, "console-keys");
    browser.screen(Screen::Phone);
    picture(&browser, "console-phone");
    desktop(&browser);
    browser.goto(&url("/settings/api-keys"));
    browser.press("Revoke Production Server");
    browser.find("dialog[open]");
    picture(&browser, "console-revoke");
    browser.press("Cancel");
    browser.goto(&url("/settings/api-keys?q=refund"));
    browser.press("Refund service");
    browser.find(".spark");
    picture(&browser, "console-usage");
    browser.goto(&url(&format!("/settings/api-keys/{}", payout.id)));
    browser.find(".pair");
    picture(&browser, "console-key");
    browser.goto(&url("/settings/api-keys"));
    browser.press("Create Key");
    browser.type_into("#label", "Preview deployments");
    browser.click(&browser.find("input[name=environment][value=sandbox]"));
    browser.press("Create");
    browser.expect("This is the only time you'll see this key in full.");
    picture(&browser, "console-new-key");
}

/// A team with keys of every kind. Returns one that is being rotated.
fn furnish(gateway: &Gateway) -> CreatedKey {
    let admin = gateway.admin();
    let ada = json!({ "account": "ada", "display_name": "Ada Lovelace", "role": "admin", "team": "acme", "password": PASSWORD });
    let added = admin.post("/v1/users", &ada);
    assert_eq!(added.status, 201, "{added:?}");
    import(&admin, "Legacy checkout", 420, None);
    import(&admin, "Nightly reconciliation", 131, None);
    import(&admin, "Refund service", 45, None);
    import(&admin, "Contractor, until the migration is done", 20, Some(3));
    let [payout, leaked, server, _] =
        ["Payout worker", "Shown in a screenshot", "Production Server", "Web shop"]
            .map(|label| admin.create_with(json!({ "label": label, "environment": "live", "team": "acme" })));
    admin.create_with(json!({ "label": "Staging Environment", "environment": "sandbox", "team": "acme" }));
    admin.rotate(&payout.id, "24h");
    for key in [&server, &payout, &leaked] {
        gateway.use_key(&key.key).assert_forwarded();
    }
    admin.revoke(&leaked.id);
    for _ in 0..7 {
        assert_eq!(gateway.use_key(&leaked.key).code(), "key_revoked");
    }
    payout
}

/// Imports a Live key that was made so many days ago.
fn import(admin: &Admin, label: &str, age: u64, ends_in: Option<u64>) {
    let days = |days| Duration::from_secs(days * DAY_S);
    let sha256 = sha256_hex(label.as_bytes());
    let key = json!({ "sha256": sha256, "label": label, "environment": "live", "team": "acme",
        "created_at": rfc3339_ago(days(age)), "expires_at": ends_in.map(|end| rfc3339_in(days(end))),
        "display": format!("sk_live_{}…{}", &sha256[..4], &sha256[60..]) });
    let answer = admin.post("/v1/keys/import", &json!({ "keys": [key] }));
    assert_eq!(answer.status / 100, 2, "{answer:?}");
}

/// Gives keys the past that they would have after a month: fewer requests at weekends, and one key forgotten since May.
fn live_through_a_month(store: &Connection) {
    let now_ms: i64 =
        store.query_row("SELECT max(created_at) FROM keys", [], |row| row.get(0)).expect("there are keys");
    let today = now_ms / (1_000 * DAY_S as i64);
    for (label, daily) in [("Refund service", 940), ("Production Server", 42_000), ("Web shop", 6_100)] {
        for back in 0..30 {
            let weekend = matches!((today - back + 3) % 7, 5 | 6);
            let uses = daily * (80 + back * back * 7 % 41) / if weekend { 230 } else { 100 };
            store
                .execute(
                    "INSERT OR REPLACE INTO period_counts SELECT id, 'day', ?2, ?3, 0 FROM keys WHERE label = ?1",
                    (label, today - back, uses),
                )
                .expect("a day is written");
        }
        let sum = "(SELECT sum(uses) FROM period_counts WHERE key_id = keys.id AND period = 'day')";
        let change =
            format!("UPDATE keys SET uses = {sum}, last_used_at = ?2, created_at = ?3 WHERE label = ?1");
        let ago = |seconds: i64| now_ms - 1_000 * seconds;
        store
            .execute(&change, (label, ago(daily / 40), ago(45 * DAY_S as i64 + daily)))
            .expect("a key is written");
    }
    let forgotten = "UPDATE keys SET uses = 81200, last_used_at = ?1 WHERE label = 'Legacy checkout'";
    store.execute(forgotten, [now_ms - 190 * 1_000 * DAY_S as i64]).expect("a key is written");
}

/// One dot a point: a picture of a desktop is shown smaller than it is.
fn desktop(browser: &Browser) {
    let metrics = json!({ "width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": false });
    browser.devtools("Emulation.setDeviceMetricsOverride", metrics);
}

/// Light and dark.
fn picture(browser: &Browser, name: &str) {
    for (dark, theme) in [(false, "light"), (true, "dark")] {
        browser.dark(dark);
        browser.script("document.getAnimations().forEach(animation => animation.finish())");
        let picture = browser.screenshot();
        assert!(picture.len() < 150_000, "{name} is too large for a page: {} bytes", picture.len());
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
        fs::write(folder.join(format!("{name}-{theme}.png")), picture).expect("it can be written");
    }
    browser.dark(false);
}
