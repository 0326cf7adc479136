//! Every page and every form of the console, at once: who may, whose it is, and where it comes from. The tables here are
//! held against the forms that the pages show, so that one which is added is asked too.

use serde_json::{Value, json};

use super::scene::{PASSWORD, Scene, each_store};
use crate::support::{Answer, CreatedKey};

/// A key and a user of a team.
struct Things {
    key: CreatedKey,
    user: String,
}

impl Things {
    fn of(scene: &Scene, team: &str) -> Things {
        let account = format!("somebody-of-{team}");
        let user = json!({ "account": account, "role": "viewer", "team": team, "password": PASSWORD });
        let added = scene.gateway.admin().post("/v1/users", &user).json();
        let user = added["id"].as_str().expect("a user has an id").to_owned();
        Things { key: scene.create_for(team, "Worth a look", "live"), user }
    }

    /// The path with the ids of these in it.
    fn filled(&self, path: &str) -> String {
        path.replace("{key}", &self.key.id).replace("{user}", &self.user)
    }
}

/// Each page: its path, and the least role that sees it.
const PAGES: [(&str, &str); 11] = [
    ("/settings/api-keys", "viewer"),
    ("/settings/api-keys/{key}", "viewer"),
    ("/settings/gateways", "viewer"),
    ("/settings/leaked-key", "viewer"),
    ("/account", "viewer"),
    ("/settings/api-keys/new", "editor"),
    ("/settings/api-keys/{key}/revoke", "editor"),
    ("/settings/api-keys/{key}/rotate", "editor"),
    ("/settings/users", "admin"),
    ("/settings/users/new", "admin"),
    ("/settings/users/{user}", "admin"),
];
const LAST_PAGE: (&str, &str) = ("/settings/users/{user}/remove", "admin");

/// Each form: where it is sent, the least role that may, and its fields.
const FORMS: [(&str, &str, &str); 11] = [
    ("/settings/leaked-key", "viewer", "key=x&do=look"),
    ("/settings/api-keys", "editor", "label=Another&environment=live&idempotency_key=form_1"),
    ("/settings/api-keys/{key}/rotate", "editor", "grace=1h&idempotency_key=form_2"),
    ("/settings/api-keys/{key}/revoke", "editor", ""),
    ("/settings/users", "admin", "account=another&role=viewer"),
    ("/settings/users/{user}", "admin", "role=editor"),
    ("/settings/users/{user}/link", "admin", ""),
    ("/settings/users/{user}/remove", "admin", ""),
    ("/account/password", "viewer", "current=x&password=a+password+of+mine&repeated=a+password+of+mine"),
    ("/logout/everywhere", "viewer", ""),
    ("/logout", "viewer", ""),
];

fn pages() -> impl Iterator<Item = (&'static str, &'static str)> {
    PAGES.into_iter().chain([LAST_PAGE])
}

/// What there is, as the API tells it.
fn state(scene: &Scene) -> Value {
    let admin = scene.gateway.admin();
    json!([admin.get("/v1/keys").json()["data"], admin.get("/v1/users").json()["data"]])
}

#[test]
fn every_form_on_every_page_is_known_here() {
    each_store(|scene| {
        let ours = Things::of(&scene, "acme");
        scene.log_in("admin");
        for (path, _) in pages() {
            scene.browser.goto(&scene.url(&ours.filled(path)));
            let actions = "return [...document.forms].filter(form => form.method === 'post').map(form => [form.getAttribute('action'), new FormData(form).get('csrf')])";
            for form in scene.browser.script(actions).as_array().expect("forms") {
                let action = form[0].as_str().expect("a form says where it is sent");
                // Other users stand in the list too.
                let general =
                    action.split('/').map(|part| if part.starts_with("usr_") { &ours.user } else { part });
                let general = general.collect::<Vec<_>>().join("/");
                let known = FORMS.iter().any(|(path, ..)| ours.filled(path) == general);
                assert!(known, "{action} on {path}");
                assert!(
                    form[1].as_str().is_some_and(|token| token.len() == 43),
                    "{action} on {path} has its token"
                );
            }
        }
    });
}

#[test]
fn no_form_does_anything_without_its_token() {
    each_store(|scene| {
        let ours = Things::of(&scene, "acme");
        scene.log_in("admin");
        let before = state(&scene);
        for (path, _, fields) in FORMS {
            let path = ours.filled(path);
            for token in ["", "csrf=&", "csrf=0000000000000000000000000000000000000000000&"] {
                let answer = scene.post_form(&path, &format!("{token}{fields}"));
                assert_eq!(answer.status, 403, "{path} with {token:?}: {}", answer.text());
                assert!(answer.text().contains("Not sent from here"), "{path}: {}", answer.text());
            }
        }
        assert_eq!(state(&scene), before);
        assert_eq!(scene.get("/settings/api-keys").status, 200, "nobody was logged out");
    });
}

#[test]
fn a_role_sees_its_pages_and_sends_its_forms_alone() {
    const ROLES: [&str; 3] = ["viewer", "editor", "admin"];
    let rank = |role: &str| ROLES.iter().position(|known| *known == role).expect("a role");
    each_store(|scene| {
        let ours = Things::of(&scene, "acme");
        for role in ROLES {
            scene.log_in(role);
            let csrf = scene.csrf();
            for (path, least) in pages() {
                let answer = scene.get(&ours.filled(path));
                let expected = if rank(role) >= rank(least) { 200 } else { 403 };
                assert_eq!(answer.status, expected, "{role}: {path}: {}", answer.text());
            }
            let before = state(&scene);
            for (path, least, fields) in FORMS.into_iter().filter(|(_, least, _)| rank(role) < rank(least)) {
                let answer = scene.post_form(&ours.filled(path), &format!("csrf={csrf}&{fields}"));
                assert_eq!(
                    answer.status,
                    403,
                    "{role}, which is less than {least}: {path}: {}",
                    answer.text()
                );
            }
            assert_eq!(state(&scene), before, "{role}");
            let links = scene.browser.text_of("nav.nav");
            assert_eq!(links.contains("Users"), role == "admin", "{role}: {links}");
            scene.browser.press("Log out");
            scene.browser.find("form[action='/login']");
        }
    });
}

#[test]
fn an_id_of_another_team_is_as_one_that_never_was() {
    each_store(|scene| {
        Things::of(&scene, "acme");
        let theirs = Things::of(&scene, "globex");
        let nobodys = Things {
            key: CreatedKey { id: format!("key_{}", "0".repeat(20)), key: String::new(), json: Value::Null },
            user: format!("usr_{}", "0".repeat(20)),
        };
        scene.log_in("admin");
        let csrf = scene.csrf();
        let before = state(&scene);
        let same = |path: &str, ask: &dyn Fn(&str) -> Answer| {
            let [real, unreal] = [&theirs, &nobodys].map(|things| ask(&things.filled(path)));
            assert_eq!((real.status, unreal.status), (404, 404), "{path}: {}", real.text());
            let [real, unreal] = [real, unreal].map(|answer| without_request_id(&answer.text()));
            assert_eq!(real, unreal, "{path}");
            assert!(!real.contains("globex") && !real.contains("Worth a look"), "{path}: {real}");
        };
        for (path, _) in pages().filter(|(path, _)| path.contains('{')) {
            same(path, &|path| scene.get(path));
        }
        for (path, _, fields) in FORMS.into_iter().filter(|(path, ..)| path.contains('{')) {
            same(path, &|path| scene.post_form(path, &format!("csrf={csrf}&{fields}")));
        }
        // Nor does a list tell of them, whatever is asked of it.
        let display = theirs.key.json["display"].as_str().unwrap();
        let digits = &display[8..12];
        for query in [theirs.key.id.as_str(), &theirs.key.id[4..], digits, display] {
            let query = url::form_urlencoded::byte_serialize(query.as_bytes()).collect::<String>();
            let page = scene.get(&format!("/settings/api-keys?q={query}&team=globex")).text();
            assert!(page.contains("No key matches"), "{query}: {page}");
        }
        for path in ["/settings/api-keys?team=globex", "/settings/users?team=globex", "/settings/gateways"] {
            let page = scene.get(path).text();
            for secret in ["globex", theirs.key.id.as_str(), display, &theirs.user] {
                assert!(!page.contains(secret), "{path} tells {secret}");
            }
        }
        // A team that a form names is not heard.
        let answer = scene.post_form(
            "/settings/api-keys",
            &format!("csrf={csrf}&label=Ours&environment=live&team=globex&idempotency_key=form_3"),
        );
        assert_eq!(answer.status, 201, "{}", answer.text());
        let answer =
            scene.post_form("/settings/users", &format!("csrf={csrf}&account=new&role=admin&team=globex"));
        assert_eq!(answer.status, 201, "{}", answer.text());
        let after = state(&scene);
        let of_globex = |state: &Value| {
            let all = [&state[0], &state[1]].into_iter().flat_map(|list| list.as_array().unwrap().clone());
            all.filter(|thing| thing["team"] == "globex").collect::<Vec<_>>()
        };
        assert_eq!(of_globex(&after), of_globex(&before), "theirs is as it was");
    });
}

/// The page without the id of its request, which differs each time.
fn without_request_id(page: &str) -> String {
    page.lines().filter(|line| !line.contains("Request <span")).collect::<Vec<_>>().join("\n")
}
