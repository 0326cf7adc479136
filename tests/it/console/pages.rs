//! The list at length, rotation, the fleet, receipts that are not all good news.

use serde_json::json;

use super::scene::{PASSWORD, Scene, each};
use crate::support::Request;
use crate::support::keys::sha256_hex;
use crate::support::wait::{PATIENCE, eventually, full, timed};

#[test]
fn the_list_is_searched_filtered_sorted_and_paged() {
    each(|scene| {
        let browser = &scene.browser;
        import_many(scene, 120);
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
        browser.goto(&scene.url("/settings/api-keys"));
        if scene.is_desktop() {
            browser.press("Label");
            eventually("it is sorted", PATIENCE, || browser.count("th[aria-sort=ascending]") == 1);
            assert!(scene.rows()[0].contains("Import 000"), "{:?}", scene.rows()[0]);
            browser.press("Label");
            eventually("it is sorted the other way", PATIENCE, || {
                browser.count("th[aria-sort=descending]") == 1
            });
            assert!(scene.rows()[0].contains("Zebra"), "{:?}", scene.rows()[0]);
        }
        scene.assert_no_complaints();
    });
}

#[test]
fn ten_thousand_keys_stay_quick() {
    let scene = Scene::with(full(), super::scene::desktop());
    for _ in 0..10 {
        import_many(&scene, 1_000);
    }
    scene.log_in("viewer");
    for query in ["", "?q=import+00", "?status=idle", "?sort=label", "?sort=last_used&environment=live"] {
        let (took, answer) = timed(|| scene.get(&format!("/settings/api-keys{query}")));
        assert_eq!(answer.status, 200);
        // Unoptimised and beside other tests; what counts is that it does not grow into seconds.
        assert!(took < std::time::Duration::from_secs(2), "{query}: {took:?}");
    }
}

#[test]
fn a_rotated_key_and_its_successor_are_shown_as_a_pair() {
    each(|scene| {
        let browser = &scene.browser;
        let old = scene.create("Payout worker", "live");
        scene.log_in("editor");
        browser.press("Rotate Payout worker");
        browser.expect("The old key goes on for");
        browser.click(&browser.find("#grace option[value='48h']"));
        browser.press("Rotate");
        browser.expect("This is the only time you'll see this key in full.");
        let new = scene.shown_key().expect("the new key is shown");
        scene.put_away("I have stored it");
        scene.assert_nowhere(&new);
        browser.expect("The old one has not been used since the rotation");
        browser.expect("in 1 day");
        scene.gateway.use_key(&new).assert_forwarded();
        scene.gateway.use_key(&old.key).assert_forwarded();
        eventually("the use is written", PATIENCE, || {
            scene.gateway.admin().key(&old.id)["uses_in_grace"] == 1
        });
        browser.reload();
        browser.expect("The old one has been used since the rotation");
        browser.expect("1 request since the rotation");
        browser.goto(&scene.url(&format!("/settings/api-keys/{}", old.id)));
        browser.expect("Rotating");
        assert!(!scene.can_press("Rotate"), "a key is rotated once");
        scene.assert_no_complaints();
    });
}

#[test]
fn the_fleet_is_shown_with_its_lag() {
    let scene = Scene::new();
    scene.log_in("viewer");
    scene.browser.press("Gateways");
    scene.browser.expect("1 of 1 gateway current.");
    let rows = scene.rows();
    assert_eq!(rows.len(), 1);
    assert!(rows[0].contains("Current") && rows[0].contains(env!("CARGO_PKG_VERSION")), "{rows:?}");
    scene.assert_no_complaints();
}

#[test]
fn a_page_says_what_went_wrong() {
    let scene = Scene::new();
    let browser = &scene.browser;
    scene.log_in("editor");
    browser.goto(&scene.url("/settings/api-keys/nothing"));
    browser.expect("there is no such key");
    browser.goto(&scene.url("/nowhere"));
    browser.expect("there is nothing here");
    browser.press("Go to API Keys");
    browser.press("Create Key");
    browser.type_into("#label", "   ");
    browser.click(&browser.find("input[name=environment][value=live]"));
    browser.press("Create");
    browser.find("[role=alert]");
    browser.expect("must be 1 to 100 characters");
    assert!(scene.keys().is_empty());
}

#[test]
fn pages_are_kept_by_no_cache_and_assets_for_ever() {
    let scene = Scene::new();
    scene.log_in("viewer");
    let page = scene.get("/settings/api-keys");
    assert_eq!(page.headers.get("cache-control"), Some("no-store"));
    let policy = page.headers.get("content-security-policy").expect("a page has a policy");
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.headers.get("x-frame-options"), Some("DENY"));
    let text = page.text();
    let (_, rest) = text.split_once("/assets/").expect("it loads something");
    let path = format!("/assets/{}", rest.split('"').next().unwrap());
    let address = scene.admin_address();
    let asset = Request::get(&path).send(address);
    assert_eq!(asset.status, 200);
    assert!(asset.headers.get("cache-control").is_some_and(|kept| kept.contains("immutable")), "{asset:?}");
    assert_eq!(Request::get("/assets/0123456789abcdef/app.css").send(address).status, 404);
    // Nothing of the console is where clients connect.
    for path in ["/login", "/settings/api-keys", &path] {
        let answer = scene.gateway.ask(&Request::get(path));
        assert_eq!(answer.status, 401, "{answer:?}");
    }
}

fn import_many(scene: &Scene, number: usize) {
    let keys: Vec<_> = (0..number)
        .map(|i| {
            let seed = format!("{i} {:?}", crate::support::wait::moment());
            json!({ "sha256": sha256_hex(seed.as_bytes()), "label": format!("Import {i:03}"), "environment": "live", "team": "acme" })
        })
        .collect();
    let answer = scene.gateway.admin().post("/v1/keys/import", &json!({ "keys": keys }));
    assert_eq!(answer.status / 100, 2, "{answer:?}");
}

#[test]
fn an_admin_adds_a_user_who_sets_a_password_by_a_link() {
    let scene = Scene::new();
    let browser = &scene.browser;
    scene.log_in("admin");
    browser.press("Users");
    assert_eq!(scene.rows().len(), 3, "users of another team are not there: {:?}", scene.rows());
    browser.press("Add User");
    browser.type_into("#account", "grace@acme.example");
    browser.type_into("#display_name", "Grace");
    browser.click(&browser.find("input[name=role][value=editor]"));
    browser.press("Add");
    browser.expect("A link for Grace");
    let link = scene.shown_key().expect("the link is shown");
    assert!(link.starts_with(&scene.url("/link/")), "{link}");
    scene.put_away("Done");
    assert_eq!(scene.shown_key(), None);
    browser.press("Log out");
    browser.find("form[action='/login']");
    browser.goto(&link);
    browser.type_into("#password", PASSWORD);
    browser.type_into("#repeated", PASSWORD);
    browser.press("Set the password");
    browser.find("#results");
    browser.expect("Grace");
    browser.press("Log out");
    scene.log_in_here("grace@acme.example");
    browser.expect("Team acme · Editor");
    browser.goto(&link);
    browser.expect("This link is not valid any more");
    browser.complaints();

    // A new role ends the sessions of before, and a team's admin makes no admin of the fleet.
    browser.goto(&scene.url("/settings/api-keys"));
    browser.press("Log out");
    scene.log_in_here("admin");
    browser.press("Users");
    browser.press("Change Grace");
    browser.click(&browser.find("input[name=role][value=viewer]"));
    browser.press("Save");
    browser.expect("Viewer");
    browser.press("Remove Grace");
    browser.expect("Remove Grace?");
    browser.press("Remove");
    eventually("the user is gone", PATIENCE, || scene.rows().len() == 3);
    scene.assert_no_complaints();
}
