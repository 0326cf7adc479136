//! The list at length: search, filters, sort, pages, and what it says when it has nothing to show.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::scene::{Scene, each};
use crate::support::browser::Screen;
use crate::support::keys::{foreign_live, sha256_hex};
use crate::support::wait::{PATIENCE, eventually, full, rfc3339_in};

#[test]
fn the_list_is_searched_filtered_sorted_and_paged() {
    each(|scene| {
        let browser = &scene.browser;
        import_many(scene, 0, 120);
        scene.create("Zebra", "sandbox");
        scene.log_in("viewer");
        assert_eq!(scene.rows().len(), 50);
        browser.expect("121 keys");
        browser.press("Next page");
        eventually("the second page is shown", PATIENCE, || browser.path().contains("cursor="));
        browser.press("Next page");
        eventually("the last page is shown", PATIENCE, || scene.rows().len() == 21);
        browser.press("First page");
        eventually("the first page is shown", PATIENCE, || scene.rows().len() == 50);

        browser.type_into("#q", "zeb");
        eventually("the search is done", PATIENCE, || scene.rows().len() == 1);
        assert!(browser.path().contains("q=zeb"), "{}", browser.path());
        browser.reload();
        assert_eq!(scene.rows().len(), 1, "the address says what is shown");
        assert_eq!(browser.script("return document.getElementById('q').value"), "zeb");
        browser.click(&browser.find("#environment option[value=live]"));
        browser.expect("No key matches");
        browser.press("Clear search and filters");
        browser.click(&browser.find("#environment option[value=sandbox]"));
        eventually("the environment is filtered", PATIENCE, || scene.rows().len() == 1);
        scene.assert_no_complaints();
    });
}

#[test]
fn the_list_is_sorted_by_each_column_either_way() {
    each(|scene| {
        let browser = &scene.browser;
        scene.import("B, the oldest", 9);
        scene.import("C, the middle", 8);
        scene.import("A, the youngest", 7);
        // In the order in which they are used; the third never is.
        for label in ["C, the middle", "B, the oldest"] {
            let before = scene.gateway.metrics().sum("keygate_usage_flushed_total", &[]);
            scene.gateway.use_key(&foreign_live(label)).assert_forwarded();
            eventually("the use is written", PATIENCE, || {
                scene.gateway.metrics().sum("keygate_usage_flushed_total", &[]) > before
            });
        }
        scene.log_in("viewer");
        let order = || scene.labels().iter().map(|label| label[..1].to_owned()).collect::<String>();
        assert_eq!(order(), "ACB", "the youngest stands first");
        // By the heads of the columns where there are some, and else by a list of choices.
        for (head, sort, shown) in [
            ("Label", "label", "ABC"),
            ("Label", "-label", "CBA"),
            ("Last Used", "-last_used", "BCA"),
            ("Last Used", "last_used", "ACB"),
            ("Created", "", "ACB"),
            ("Created", "created", "BCA"),
        ] {
            match scene.is_desktop() {
                true => browser.press(head),
                false => scene.choose("sort", sort),
            }
            eventually("it is sorted", PATIENCE, || {
                let path = browser.path();
                let sorted = if sort.is_empty() {
                    !path.contains("sort=")
                } else {
                    path.ends_with(&format!("sort={sort}"))
                };
                order() == shown && sorted
            });
            let told = browser.script("return document.querySelector('th[aria-sort]').innerText.trim()");
            assert_eq!(told, head);
            assert_eq!(browser.script("return document.getElementById('sort').value"), sort);
        }
        // What is searched for is sorted too.
        browser.type_into("#q", "the");
        eventually("the search is done", PATIENCE, || browser.path().contains("q=the"));
        assert_eq!((order().as_str(), browser.path().contains("sort=created")), ("BCA", true));
        scene.assert_no_complaints();
    });
}

#[test]
fn each_status_and_each_mark_is_shown_and_has_its_filter() {
    each(|scene| {
        let (browser, admin) = (&scene.browser, scene.gateway.admin());
        let ends = |label: &str, life: Duration| {
            admin.create_with(json!({ "label": label, "environment": "live", "team": "acme", "expires_at": rfc3339_in(life) }))
        };
        let brief = ends("Brief", Duration::from_millis(1_200));
        ends("Ends in three days", 3 * DAY);
        ends("Ends in eight days", 8 * DAY);
        admin.revoke(&scene.create("Gone", "live").id);
        admin.rotate(&scene.create("Turned", "live").id, "24h");
        let old = scene.import("Old and in use", 90);
        scene.import("Forgotten", 90);
        scene.import("Nearly forgotten", 89);
        scene.gateway.use_key(&old).assert_forwarded();
        eventually("the key has expired", PATIENCE, || admin.key(&brief.id)["status"] == "expired");
        eventually("the use is written", PATIENCE, || {
            let keys = scene.keys();
            keys.iter().any(|key| key["label"] == "Old and in use" && !key["last_used_at"].is_null())
        });
        scene.log_in("viewer");
        let rows = scene.rows();
        for (label, said) in [
            ("Brief", "Expired"),
            ("Ends in three days", "Expiring"),
            ("Ends in three days", "ends in 2 days"),
            ("Ends in eight days", "Active"),
            ("Gone", "Revoked"),
            ("Forgotten", "Likely safe to revoke"),
            ("Nearly forgotten", "Never used"),
            ("Old and in use", "Due for rotation"),
        ] {
            assert!(
                rows.iter().any(|row| row.starts_with(label) && row.contains(said)),
                "{label}: {said}: {rows:#?}"
            );
        }
        let turned: Vec<_> = rows.iter().filter(|row| row.starts_with("Turned")).collect();
        assert!(
            turned.len() == 2 && turned[1].contains("Rotating") && turned[1].contains("ends in 23 hours"),
            "{turned:?}"
        );
        let active = [
            "Ends in eight days",
            "Ends in three days",
            "Forgotten",
            "Nearly forgotten",
            "Old and in use",
            "Turned",
        ];
        let never =
            ["Ends in eight days", "Ends in three days", "Forgotten", "Nearly forgotten", "Turned", "Turned"];
        for (filter, labels) in [
            ("expired", &["Brief"][..]),
            ("expiring", &["Ends in three days", "Turned"]),
            ("revoked", &["Gone"]),
            ("rotating", &["Turned"]),
            ("active", &active),
            ("idle", &["Forgotten"]),
            ("never_used", &never),
            ("rotation_due", &["Forgotten", "Old and in use"]),
        ] {
            scene.choose("status", filter);
            let shown = || {
                let mut labels = scene.labels();
                labels.sort();
                labels
            };
            eventually("the list is filtered", PATIENCE, || {
                browser.path().contains(&format!("status={filter}"))
            });
            assert_eq!(shown(), labels, "{filter}");
        }
        scene.assert_no_complaints();
    });
}

#[test]
fn ten_thousand_keys_are_searched_sorted_and_paged() {
    let scene = Scene::with(full(), Screen::Desktop);
    let browser = &scene.browser;
    for thousand in 0..10 {
        import_many(&scene, thousand * 1_000, 1_000);
    }
    scene.create("Zebra", "sandbox");
    scene.log_in("viewer");
    browser.expect("50 of 10,001 keys.");
    assert_eq!(scene.labels()[0], "Zebra");
    browser.type_into("#q", "import 04321");
    eventually("the search is done", PATIENCE, || scene.labels() == ["Import 04321"]);
    browser.goto(&scene.url("/settings/api-keys?environment=live&sort=-label"));
    assert_eq!((scene.labels()[0].as_str(), scene.labels().len()), ("Import 09999", 50));
    for last in ["Import 09900", "Import 09850"] {
        browser.press("Next page");
        eventually("the next page is shown", PATIENCE, || {
            scene.labels().last().is_some_and(|label| label == last)
        });
    }
    assert!(browser.dom().len() < 200_000, "a page has no more than its fifty keys");
    scene.assert_no_complaints();
}

#[test]
fn an_empty_list_says_how_to_begin() {
    each(|scene| {
        let browser = &scene.browser;
        scene.log_in("viewer");
        browser.expect("No keys yet");
        assert!(!scene.can_press("Create Key"), "who may not is not asked to");
        browser.press("Log out");
        scene.log_in("editor");
        browser.expect("Begin with a Sandbox key");
        assert_eq!(browser.count("a[href='/settings/api-keys/new']"), 2);
        browser.click(&browser.find(".empty a"));
        browser.find("dialog[open] #label");
        scene.assert_no_complaints();
    });
}

#[test]
fn a_page_tells_that_it_waits_and_that_nobody_answers() {
    let scene = Scene::new();
    let browser = &scene.browser;
    scene.create("Production Server", "live");
    scene.log_in("editor");
    scene.gateway.freeze();
    browser.type_into("#q", "prod");
    browser.find("#results[aria-busy=true]");
    scene.gateway.thaw();
    eventually("the list is there", PATIENCE, || browser.count("#results[aria-busy]") == 0);
    assert_eq!(scene.labels(), ["Production Server"]);
    assert_eq!(browser.text_of("#results-said"), "1 key.", "who does not see it is told");

    let hidden = || browser.script("return document.getElementById('no-answer').hidden") == json!(true);
    assert!(hidden());
    scene.gateway.signal(Signal::KILL);
    browser.type_into("#q", "u");
    browser.expect("No answer from the console.");
    assert_eq!(scene.labels(), ["Production Server"], "what was there stays");
    assert_eq!(browser.count("[aria-busy]"), 0);
    browser.press("Revoke Production Server");
    eventually("the button is free again", PATIENCE, || browser.count("[aria-busy]") == 0);
    assert!(
        !hidden() && browser.path().starts_with("/settings/api-keys"),
        "the page is left for no error of the browser's"
    );
}

#[test]
fn a_store_that_does_not_answer_is_an_error_with_words() {
    let scene = Scene::with(true, Screen::Desktop);
    let browser = &scene.browser;
    scene.create("Production Server", "live");
    scene.log_in("editor");
    let redis = scene.redis.as_ref().expect("there is a Redis");
    redis.freeze();
    browser.goto(&scene.url("/settings/api-keys"));
    browser.expect("Go to API Keys");
    assert!(
        browser.text().contains("Request req_") && !browser.text().contains("Production"),
        "{}",
        browser.text()
    );
    assert_eq!(scene.get("/settings/api-keys").status, 503);
    redis.thaw();
    eventually("it is back", PATIENCE, || scene.get("/settings/api-keys").status == 200);
    browser.press("Go to API Keys");
    browser.find("#results");
    assert_eq!(scene.labels(), ["Production Server"], "nobody was logged out by it");
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Imports so many keys, labelled with their numbers from `first` on.
fn import_many(scene: &Scene, first: usize, number: usize) {
    let keys: Vec<_> = (first..first + number)
        .map(|i| {
            json!({ "sha256": sha256_hex(i.to_string().as_bytes()), "label": format!("Import {i:05}"), "environment": "live", "team": "acme" })
        })
        .collect();
    let answer = scene.gateway.admin().post("/v1/keys/import", &json!({ "keys": keys }));
    assert_eq!(answer.status / 100, 2, "{answer:?}");
}
