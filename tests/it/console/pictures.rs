//! The pictures of the console that the documentation shows, made anew on demand:
//! `cargo test --test it -- --ignored the_pictures_of_the_console`.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::scene::{PASSWORD, Scene};
use crate::support::browser::Screen;
use crate::support::wait::{PATIENCE, eventually, full};

#[test]
#[ignore = "writes docs/images/, on demand"]
fn the_pictures_of_the_console() {
    if full() {
        return;
    }
    let scene = Scene::new();
    let browser = &scene.browser;
    scene.import("Legacy checkout", 420);
    scene.import("Nightly reconciliation", 131);
    let [server, payout, leaked] = ["Production Server", "Payout worker", "Shown in a screenshot"]
        .map(|label| scene.create(label, "live"));
    scene.create("Staging Environment", "sandbox");
    scene.gateway.admin().rotate(&payout.id, "24h");
    scene.gateway.admin().revoke(&leaked.id);
    for _ in 0..40 {
        scene.gateway.use_key(&server.key);
    }
    scene.gateway.use_key(&payout.key);
    scene.gateway.use_key(&leaked.key);
    eventually("the uses are written", PATIENCE, || scene.gateway.admin().key(&server.id)["uses"] == 40);
    let ada = json!({ "account": "ada", "display_name": "Ada Lovelace", "role": "admin", "team": "acme", "password": PASSWORD });
    assert_eq!(scene.gateway.admin().post("/v1/users", &ada).status / 100, 2);
    scene.log_in("ada");
    picture(&scene, "console-keys");
    browser.screen(Screen::Phone);
    picture(&scene, "console-phone");
    browser.screen(Screen::Desktop);
    browser.press("Revoke Production Server");
    browser.find("dialog[open]");
    picture(&scene, "console-revoke");
    browser.press("Cancel");
    browser.goto(&scene.url(&format!("/settings/api-keys/{}", payout.id)));
    picture(&scene, "console-key");
}

/// Light and dark.
fn picture(scene: &Scene, name: &str) {
    for (dark, theme) in [(false, "light"), (true, "dark")] {
        scene.browser.dark(dark);
        scene.browser.script("document.getAnimations().forEach(animation => animation.finish())");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
        fs::write(folder.join(format!("{name}-{theme}.png")), scene.browser.screenshot())
            .expect("it can be written");
    }
    scene.browser.dark(false);
}
