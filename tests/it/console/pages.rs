//! Rotation, users, errors, and what all pages have in common.

use super::scene::{PASSWORD, Scene, each};
use crate::support::process::Process;
use crate::support::wait::{PATIENCE, eventually};
use crate::support::{Gateway, Request, Upstream, tool};

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
fn a_page_says_what_went_wrong() {
    let scene = Scene::new();
    let browser = &scene.browser;
    scene.log_in("editor");
    browser.goto(&scene.url("/settings/api-keys/nothing"));
    browser.expect("There is no such key.");
    browser.goto(&scene.url("/nowhere"));
    browser.expect("There is nothing here.");
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

#[test]
fn the_brand_is_the_operators() {
    let upstream = Upstream::start();
    let title = |gateway: &Gateway| {
        let address = gateway.admin_url().trim_start_matches("http://").parse().expect("an address");
        let page = Request::get("/login").send(address).text();
        let (_, rest) = page.split_once("<title>").expect("a page has a title");
        let (title, _) = rest.split_once("</title>").expect("a title ends");
        let named = format!("<span>{}</span>", title.rsplit(" · ").next().expect("a brand"));
        assert!(page.contains(&named), "{page}");
        title.to_owned()
    };
    let gateway = Gateway::before(&upstream);
    assert_eq!(title(&gateway), "Log in · PayKore");
    let gateway = Gateway::builder().live(&upstream).set("KEYGATE_CONSOLE__BRAND", "Shop & <b>Son").start();
    assert_eq!(title(&gateway), "Log in · Shop &#38; &#60;b&#62;Son");
}

#[test]
fn the_console_works_while_the_gateway_is_flooded() {
    let scene = Scene::new();
    let browser = &scene.browser;
    let busy = scene.create("Busy", "live");
    let doomed = scene.create("Doomed", "live");
    let forwarded = || scene.gateway.metrics().sum("keygate_requests_total", &[r#"outcome="forwarded""#]);
    let mut flood = tool("wrk");
    flood.args([
        "-t1",
        "-c64",
        "-d10m",
        "-H",
        &format!("X-API-Key: {}", busy.key),
        &scene.gateway.url("/v1/wallets/wlt_1"),
    ]);
    let flood = Process::start(&mut flood, "wrk");
    eventually("it is flooded", PATIENCE, || forwarded() > 1_000.0);
    let before = forwarded();
    scene.log_in("editor");
    assert_eq!(scene.labels(), ["Doomed", "Busy"]);
    let made = scene.create_in_browser("Made meanwhile", "live");
    scene.put_away("I have stored it");
    scene.gateway.use_key(&made).assert_forwarded();
    browser.press("API Keys");
    browser.press("Revoke Doomed");
    browser.press("Revoke");
    browser.expect("1 of 1 gateway stopped accepting it in ");
    assert_eq!(scene.gateway.use_key(&doomed.key).code(), "key_revoked");
    browser.goto(&scene.url("/settings/api-keys?q=busy"));
    eventually("its use is shown", PATIENCE, || {
        browser.reload();
        scene.rows().first().is_some_and(|row| row.contains("just now"))
    });
    assert!(forwarded() > before + 1_000.0, "all the while it went on");
    drop(flood);
    scene.assert_no_complaints();
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
