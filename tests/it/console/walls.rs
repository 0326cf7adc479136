//! What the console refuses: other teams' keys, more than a role allows, forms from elsewhere, sessions from elsewhere,
//! labels that want to be code.

use serde_json::json;

use super::scene::{PASSWORD, each_store};
use crate::support::Request;
use crate::support::wait::{PATIENCE, eventually};

#[test]
fn nothing_of_another_team_is_seen() {
    each_store(|scene| {
        let browser = &scene.browser;
        let theirs = scene.create_for("globex", "Their secret project", "live");
        scene.create("Ours", "live");
        scene.log_in("editor");
        assert_eq!(scene.rows().len(), 1);
        browser.goto(&scene.url("/settings/api-keys?q=Their"));
        browser.expect("No key matches");
        let unknown = format!("/settings/api-keys/key_{}", "0".repeat(20));
        for suffix in ["", "/revoke", "/rotate"] {
            browser.goto(&scene.url(&format!("{unknown}{suffix}")));
            let said = without_request_id(&browser.text());
            browser.goto(&scene.url(&format!("/settings/api-keys/{}{suffix}", theirs.id)));
            assert_eq!(without_request_id(&browser.text()), said, "as if it did not exist");
            assert!(!browser.dom().contains("secret project") && !browser.dom().contains("globex"));
        }
        // Nor is it changed, with a good session and a good token.
        browser.goto(&scene.url("/settings/api-keys"));
        let csrf = scene.csrf();
        for path in ["revoke", "rotate"] {
            let path = format!("/settings/api-keys/{}/{path}", theirs.id);
            let answer = scene.post_form(&path, &format!("csrf={csrf}&grace=1h&idempotency_key=form_1"));
            assert_eq!(answer.status, 404, "{answer:?}");
        }
        scene.gateway.use_key(&theirs.key).assert_forwarded();
    });
}

#[test]
fn a_leaked_key_of_another_team_is_revoked_and_nothing_is_said_of_it() {
    each_store(|scene| {
        let browser = &scene.browser;
        let theirs = scene.create_for("globex", "Their secret project", "live");
        scene.gateway.use_key(&theirs.key).assert_forwarded();
        scene.log_in("editor");
        let unknown = crate::support::keys::foreign_live("nobody's");
        let mut said = Vec::new();
        for key in [&unknown, &theirs.key] {
            for button in ["Whose is it?", "Revoke it"] {
                browser.goto(&scene.url("/settings/leaked-key"));
                browser.type_into("#key", key);
                browser.press(button);
                browser.find("[role=status]");
                said.push(browser.text());
                scene.assert_nowhere(key);
            }
        }
        assert_eq!(said[..2], said[2..]);
        eventually("it is revoked", PATIENCE, || scene.gateway.use_key(&theirs.key).code() == "key_revoked");
    });
}

#[test]
fn a_viewer_looks_and_changes_nothing() {
    each_store(|scene| {
        let browser = &scene.browser;
        let key = scene.create("Ours", "live");
        scene.log_in("viewer");
        for name in ["Create Key", "Revoke", "Rotate"] {
            assert!(!scene.can_press(name), "{name}");
        }
        for path in [
            "/settings/api-keys/new".to_owned(),
            format!("/settings/api-keys/{}/revoke", key.id),
            "/settings/users".to_owned(),
        ] {
            let answer = scene.get(&path);
            assert_eq!(answer.status, 403, "{path}: {answer:?}");
        }
        browser.goto(&scene.url("/settings/leaked-key"));
        assert!(!scene.can_press("Revoke it"));
        let csrf = scene.csrf();
        for (path, form) in [
            ("/settings/api-keys".to_owned(), "label=A&environment=live&idempotency_key=form_1".to_owned()),
            (format!("/settings/api-keys/{}/revoke", key.id), String::new()),
            (format!("/settings/api-keys/{}/rotate", key.id), "grace=0s&idempotency_key=form_1".to_owned()),
        ] {
            let answer = scene.post_form(&path, &format!("csrf={csrf}&{form}"));
            assert_eq!(answer.status, 403, "{path}: {answer:?}");
        }
        assert_eq!(scene.statuses(), ["active"]);
    });
}

#[test]
fn a_form_from_another_site_changes_nothing() {
    each_store(|scene| {
        let browser = &scene.browser;
        let key = scene.create("Ours", "live");
        scene.log_in("editor");
        let path = format!("/settings/api-keys/{}/revoke", key.id);
        for form in ["", "csrf=", "csrf=0000000000000000000000000000000000000000000", "csrf=%00"] {
            let answer = scene.post_form(&path, form);
            assert_eq!(answer.status, 403, "{form}: {answer:?}");
        }
        // A page of another origin that sends the form by itself: the browser does not even send the session along.
        let page = format!(
            "<form id=f method=post action={}><input name=csrf value=x></form><script>f.submit()</script>",
            scene.url(&path)
        );
        browser.goto(&format!("data:text/html,{page}"));
        eventually("the form was sent", PATIENCE, || browser.url().starts_with("http"));
        assert_eq!(scene.statuses(), ["active"]);
    });
}

#[test]
fn a_session_that_somebody_else_chose_is_not_taken() {
    each_store(|scene| {
        let browser = &scene.browser;
        browser.goto(&scene.url("/login"));
        scene.log_in("editor");
        let name = scene.session()["name"].as_str().unwrap().to_owned();
        let stolen = scene.session()["value"].as_str().unwrap().to_owned();
        browser.press("Log out");
        browser.find("#password");
        // What was good before is dead, also where somebody puts it back before a log-in.
        browser.set_cookie(json!({ "name": name, "value": stolen, "path": "/" }));
        browser.goto(&scene.url("/settings/api-keys"));
        browser.find("#password");
        browser.fill("#account", "editor");
        browser.fill("#password", PASSWORD);
        browser.press("Log in");
        browser.find("nav.nav");
        assert_ne!(scene.session()["value"], json!(stolen));
        let request = Request::get("/settings/api-keys").header("Cookie", &format!("{name}={stolen}"));
        let answer = request.send(scene.admin_address());
        assert_ne!(answer.status, 200, "{answer:?}");
        // No script reads it.
        assert_eq!(
            browser.script("return document.cookie").as_str().map(|cookies| cookies.contains(&name)),
            Some(false)
        );
    });
}

#[test]
fn labels_are_text_and_never_code() {
    const NAUGHTY: [&str; 10] = [
        "<script>document.title='owned'</script>",
        "\"><img src=x onerror=\"document.title='owned'\">",
        "'-document.title='owned'-'",
        "javascript:document.title='owned'",
        "{{ 7 * 7 }}${7*7}<%= 7*7 %>",
        "</title></textarea></style><svg/onload=document.title='owned'>",
        "&lt;b&gt; &amp; &#x27;",
        "ﷺ ﷺ ﷺ 田中さん Ω≈ç√∫ 👩‍👩‍👧‍👦 ̡͓̞",
        "%00%0d%0aSet-Cookie:a=b",
        "-1' OR 1=1; DROP TABLE keys; --",
    ];
    each_store(|scene| {
        let browser = &scene.browser;
        scene.log_in("editor");
        for label in NAUGHTY {
            browser.press("Create Key");
            browser.find("dialog[open] #label");
            browser.script_with("document.getElementById('label').value = arguments[0]", json!([label]));
            browser.click(&browser.find("input[name=environment][value=sandbox]"));
            browser.press("Create");
            browser.expect("This is the only time you'll see this key in full.");
            scene.put_away("I have stored it");
            assert_eq!(browser.text_of("h1"), label);
            browser.press("Revoke");
            browser.expect("This cannot be undone");
            assert_eq!(browser.text_of("dialog .subject b"), label);
            browser.press("Cancel");
            let search = url::form_urlencoded::byte_serialize(label.as_bytes()).collect::<String>();
            browser.goto(&scene.url(&format!("/settings/api-keys?q={search}")));
            assert_eq!(browser.text_of("tbody .name"), label);
            assert_eq!(browser.script("return document.getElementById('q').value"), json!(label));
            assert!(!browser.script("return document.title").as_str().unwrap().contains("owned"));
            assert_eq!(browser.count("main img, main script"), 0);
            browser.goto(&scene.url("/settings/api-keys"));
        }
        scene.assert_no_complaints();
    });
}

#[test]
fn names_of_people_are_text_too() {
    const NAUGHTY: &str = "<img src=x onerror=\"document.title='owned'\"><b>Ada</b> & {{ 1 }}";
    each_store(|scene| {
        let browser = &scene.browser;
        let user = json!({ "account": "ada", "display_name": NAUGHTY, "role": "admin", "team": "acme", "password": PASSWORD });
        let added = scene.gateway.admin().post("/v1/users", &user);
        assert_eq!(added.status, 201, "{}", added.text());
        let id = added.json()["id"].as_str().unwrap().to_owned();
        scene.log_in("ada");
        assert_eq!(browser.script("return document.querySelector('.who').textContent"), json!(NAUGHTY));
        browser.goto(&scene.url("/account"));
        browser.expect(NAUGHTY);
        browser.press("Log out");
        scene.log_in("admin");
        for path in [
            "/settings/users".to_owned(),
            format!("/settings/users/{id}"),
            format!("/settings/users/{id}/remove"),
        ] {
            browser.goto(&scene.url(&path));
            browser.expect(NAUGHTY);
            assert_eq!(browser.count("main img, main b:not(.choice b)"), 0, "{path}");
        }
        browser.goto(&scene.url("/settings/users"));
        browser.press(&format!("Password link for {NAUGHTY}"));
        browser.expect(&format!("A link for {NAUGHTY}"));
        assert!(!browser.script("return document.title").as_str().unwrap().contains("owned"));
        scene.assert_no_complaints();
    });
}

/// The page without the id of its request, which differs each time.
fn without_request_id(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with("Request ")).collect::<Vec<_>>().join("\n")
}
