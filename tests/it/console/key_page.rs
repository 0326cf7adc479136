//! A key's page, receipts that are not all good news, and the fleet.

use serde_json::json;

use super::scene::{Scene, each};
use crate::support::wait::{PATIENCE, eventually, rfc3339_in};

#[test]
fn a_keys_page_tells_its_facts_its_use_and_its_history() {
    each(|scene| {
        let (browser, admin) = (&scene.browser, scene.gateway.admin());
        let key = scene.create("Web shop", "live");
        for _ in 0..3 {
            scene.gateway.use_key(&key.key).assert_forwarded();
        }
        eventually("the uses are written", PATIENCE, || admin.key(&key.id)["uses"] == 3);
        let path = format!("/v1/keys/{}", key.id);
        let soon = rfc3339_in(std::time::Duration::from_secs(3 * 24 * 60 * 60));
        for change in
            [json!({ "label": "Checkout" }), json!({ "expires_at": soon }), json!({ "expires_at": null })]
        {
            let changed = admin.patch(&path, "*", &change);
            assert_eq!(changed.status, 200, "{}", changed.text());
        }
        scene.log_in("viewer");
        browser.press("Checkout");
        browser.find(".spark");
        let figures = "return [...document.querySelectorAll('.figures > div')].map(figure => figure.innerText.replace(/\\s+/g, ' ').trim())";
        assert_eq!(
            browser.script(figures),
            json!(["Last Used just now", "In 30 days 3", "In all 3", "Refused 0"])
        );
        let facts = browser.text_of(".facts");
        for fact in ["Active", "Live", "acme", &key.id, "Never"] {
            assert!(facts.contains(fact), "{fact}: {facts}");
        }
        let days = "return [...new Set([...document.querySelectorAll('.spark rect')].map(bar => bar.getAttribute('x')))].length";
        assert_eq!(browser.script(days), json!(30));
        let last_day = || {
            let titles = browser.script(
                "return [...document.querySelectorAll('.spark title')].map(title => title.textContent)",
            );
            titles.as_array().unwrap().last().unwrap().as_str().unwrap().to_owned()
        };
        assert!(last_day().ends_with(": 3 requests"), "{}", last_day());
        let read_out = browser.script("return document.querySelector('.spark').getAttribute('aria-label')");
        assert!(read_out.as_str().unwrap().starts_with("3 requests in 30 days; most on "), "{read_out}");
        browser.expect("Requests per day, in UTC, usually at most 1 second behind.");
        let history = browser.text_of(".history");
        let told =
            ["Expiry date removed", "Expiry date set to", "Renamed from “Web shop” to “Checkout”", "Created"];
        let places: Vec<_> = told.iter().map(|what| history.find(what)).collect();
        assert!(
            places.iter().all(Option::is_some) && places.is_sorted(),
            "the latest stands first: {history}"
        );

        admin.revoke(&key.id);
        for _ in 0..2 {
            assert_eq!(scene.gateway.use_key(&key.key).code(), "key_revoked");
        }
        eventually("the attempts are written", PATIENCE, || admin.key(&key.id)["refusals"] == 2);
        browser.reload();
        browser.expect("2 requests with this key came after it was revoked, and every one was refused.");
        browser.expect("Revoked, for ever");
        let refused = browser.script(figures)[3].as_str().unwrap().to_owned();
        assert_eq!(refused, "Tried after revocation 2 last just now");
        assert!(last_day().ends_with(": 3 requests, and 2 refused"), "{}", last_day());
        browser.goto(&scene.url("/settings/api-keys"));
        assert!(scene.rows()[0].contains("Still tried"), "{:?}", scene.rows());
        scene.assert_no_complaints();
    });
}

#[test]
fn the_receipt_of_a_fleet_counts_everybody_and_names_who_is_silent() {
    let scene = Scene::of_three();
    let browser = &scene.browser;
    let [first, second] = ["Payout worker", "Web shop"].map(|label| scene.create(label, "live"));
    scene.log_in("editor");
    browser.press("Revoke Payout worker");
    browser.press("Revoke");
    browser.expect("3 of 3 gateways stopped accepting it in ");
    assert!(!browser.text().contains("Not heard from") && !browser.text().contains("at the latest"));
    for gateway in &scene.others {
        assert_eq!(gateway.use_key(&first.key).code(), "key_revoked");
    }
    let silent = &scene.others[1];
    let [silent_id, other_id] = [1, 0].map(|which: usize| scene.others[which].admin().gateway_id());
    let roll = scene.gateway.admin().gateways();
    let name_of = |id: &str| {
        let line = roll.iter().find(|line| line["id"] == id).expect("it is on the roll");
        line["name"].as_str().expect("it has a name").to_owned()
    };
    silent.freeze();
    browser.goto(&scene.url("/settings/api-keys"));
    browser.press("Revoke Web shop");
    browser.press("Revoke");
    browser.expect("2 of 3 gateways stopped accepting it in ");
    let receipt = browser.text_of("[data-receipt]");
    assert!(receipt.contains(&format!("Not heard from: {}.", name_of(&silent_id))), "{receipt}");
    assert!(!receipt.contains(&name_of(&other_id)), "{receipt}");
    assert!(receipt.contains("It holds everywhere by ") && receipt.contains(" at the latest."), "{receipt}");
    assert_eq!(scene.gateway.use_key(&second.key).code(), "key_revoked");

    browser.goto(&scene.url("/settings/gateways"));
    let row =
        |rows: &[String], id: &str| rows.iter().find(|row| row.contains(id)).expect("it has a row").clone();
    eventually("the silence is seen", PATIENCE, || {
        browser.reload();
        row(&scene.rows(), &silent_id).contains("Silent")
    });
    browser.expect("2 of 3 gateways current.");
    let rows = scene.rows();
    assert!(row(&rows, &silent_id).contains("seconds ago"), "{rows:?}");
    let behind = browser.script_with("return [...document.querySelectorAll('tbody tr')].find(row => row.innerText.includes(arguments[0])).querySelector('[data-name=\"Changes behind\"]').innerText", json!([silent_id]));
    assert_eq!(behind, "1", "the revocation is what it has not followed");
    assert_eq!(rows.iter().filter(|row| row.contains("Shows this page")).count(), 1, "{rows:?}");
    assert!(rows.iter().all(|row| row.contains(env!("CARGO_PKG_VERSION"))), "{rows:?}");
    silent.thaw();
    eventually("it is heard from again", PATIENCE, || {
        browser.reload();
        browser.text().contains("3 of 3 gateways current.")
    });
    eventually("the key is refused there too", PATIENCE, || {
        silent.use_key(&second.key).code() == "key_revoked"
    });
    scene.assert_no_complaints();
}
