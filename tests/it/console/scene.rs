//! A gateway, a team and a browser.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::browser::{Browser, Screen};
use crate::support::keys::{foreign_live, sha256_hex, trace_in};
use crate::support::wait::{full, rfc3339_ago};
use crate::support::{
    Answer, CreatedKey, Fleet, Gateway, GatewayBuilder, RedisProxy, RedisServer, Request, Upstream,
};

/// The password of everybody here.
pub const PASSWORD: &str = "violet kettle under nine bridges";

/// A gateway with the users of two teams, and a browser in front of its console.
pub struct Scene {
    pub gateway: Gateway,
    pub browser: Browser,
    /// More gateways on the same Redis.
    pub others: Vec<Gateway>,
    pub redis: Option<RedisServer>,
    _cables: Vec<RedisProxy>,
    _upstream: Upstream,
    screen: Screen,
}

/// Plays a test on a desktop's screen with SQLite; where the long tests are wanted, on both screens with both stores.
pub fn each(play: impl Fn(&Scene)) {
    for redis in [false, true] {
        for screen in [Screen::Desktop, Screen::Phone] {
            if full() || (!redis && screen == Screen::Desktop) {
                play(&Scene::with(redis, screen));
            }
        }
    }
}

/// Plays a test that is the same on every screen, with SQLite; where the long tests are wanted, with both stores.
pub fn each_store(play: impl Fn(Scene)) {
    for redis in [false, true] {
        if full() || !redis {
            play(Scene::with(redis, Screen::Desktop));
        }
    }
}

impl Scene {
    pub fn new() -> Scene {
        Scene::with(false, Screen::Desktop)
    }

    pub fn with(redis: bool, screen: Screen) -> Scene {
        let upstream = Upstream::start();
        let redis = redis.then(RedisServer::start);
        let mut builder = Gateway::builder().live(&upstream).flush_every_ms(50);
        if let Some(redis) = &redis {
            builder = builder.redis(redis);
        }
        let gateway = builder.start();
        Scene {
            browser: before(&gateway, screen),
            gateway,
            others: Vec::new(),
            redis,
            _cables: Vec::new(),
            _upstream: upstream,
            screen,
        }
    }

    /// Three gateways on one Redis, that wait for each other half a second.
    pub fn of_three() -> Scene {
        let timeout = |builder: GatewayBuilder| builder.set("KEYGATE_REVOCATION__RECEIPT_TIMEOUT_MS", "500");
        let Fleet { gateways: mut others, cables, redis, upstream } =
            Fleet::with(3, |_, builder| timeout(builder));
        let gateway = others.remove(0);
        Scene {
            browser: before(&gateway, Screen::Desktop),
            gateway,
            others,
            redis: Some(redis),
            _cables: cables,
            _upstream: upstream,
            screen: Screen::Desktop,
        }
    }

    pub fn is_desktop(&self) -> bool {
        self.screen == Screen::Desktop
    }

    /// Of the console.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.gateway.admin_url())
    }

    /// Logs in and goes to the list.
    pub fn log_in(&self, name: &str) {
        self.browser.goto(&self.url("/login"));
        self.log_in_here(name);
        self.browser.find("#results");
    }

    /// Logs in on the page that asks for it.
    pub fn log_in_here(&self, name: &str) {
        self.browser.fill("#account", name);
        self.browser.fill("#password", PASSWORD);
        self.browser.press("Log in");
        self.browser.find("nav.nav");
    }

    /// Makes a key for the team `acme` through the API.
    pub fn create(&self, label: &str, environment: &str) -> CreatedKey {
        self.create_for("acme", label, environment)
    }

    pub fn create_for(&self, team: &str, label: &str, environment: &str) -> CreatedKey {
        self.gateway.admin().create_with(json!({ "label": label, "environment": environment, "team": team }))
    }

    /// Imports a Live key for the team `acme` that was made so many days ago, and returns it.
    pub fn import(&self, label: &str, days: u64) -> String {
        let created_at = rfc3339_ago(Duration::from_secs(days * 24 * 60 * 60));
        let key = foreign_live(label);
        let sha256 = sha256_hex(key.as_bytes());
        let display = format!("{}…{}", &key[..12], &key[68..]);
        let record = json!({ "sha256": sha256, "label": label, "environment": "live", "team": "acme", "created_at": created_at,
            "display": display });
        let answer = self.gateway.admin().post("/v1/keys/import", &json!({ "keys": [record] }));
        assert_eq!(answer.status / 100, 2, "{answer:?}");
        key
    }

    /// Makes a key as people do; it is left on the screen.
    pub fn create_in_browser(&self, label: &str, environment: &str) -> String {
        self.browser.press("Create Key");
        self.browser.type_into("#label", label);
        self.browser.click(&self.browser.find(&format!("input[name=environment][value={environment}]")));
        self.browser.press("Create");
        self.browser.expect("This is the only time you'll see this key in full.");
        self.shown_key().expect("the key is shown")
    }

    /// Closes the dialog that shows a secret.
    pub fn put_away(&self, button: &str) {
        self.browser.press(button);
        self.browser.find("body:not(:has(dialog))");
    }

    /// The full key that the page shows, if it does.
    pub fn shown_key(&self) -> Option<String> {
        let shown = self.browser.script("return document.querySelector('[data-secret]')?.textContent ?? ''");
        shown.as_str().filter(|key| !key.is_empty()).map(str::to_owned)
    }

    /// What is in the clipboard after a press of this button.
    pub fn copied(&self, button: &str) -> String {
        let browser = &self.browser;
        for name in ["clipboard-read", "clipboard-write"] {
            let permission = json!({ "permission": { "name": name }, "setting": "granted" });
            browser.devtools("Browser.setPermission", permission);
        }
        browser.press(button);
        browser.named("Copied");
        let read = "const done = arguments[0]; navigator.clipboard.readText().then(done, error => done(String(error)))";
        browser.script_async(read).as_str().expect("text").to_owned()
    }

    /// What a person reads in each row of the table.
    pub fn rows(&self) -> Vec<String> {
        let rows = self
            .browser
            .script("return [...document.querySelectorAll('tbody tr')].map(row => row.innerText)");
        rows.as_array().unwrap().iter().map(|row| row.as_str().unwrap().to_owned()).collect()
    }

    /// The labels of the rows, in their order.
    pub fn labels(&self) -> Vec<String> {
        let names = self
            .browser
            .script("return [...document.querySelectorAll('tbody .name')].map(name => name.innerText)");
        names.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    /// Chooses an entry of a list of choices, as people do.
    pub fn choose(&self, id: &str, value: &str) {
        self.browser.click(&self.browser.find(&format!("#{id} option[value='{value}']")));
    }

    /// The keys that there are, newest first, as the API tells.
    pub fn keys(&self) -> Vec<Value> {
        self.gateway.admin().get("/v1/keys").json()["data"].as_array().unwrap().clone()
    }

    /// The status of each key, in the order of the alphabet.
    pub fn statuses(&self) -> Vec<String> {
        let mut all: Vec<String> =
            self.keys().iter().map(|key| key["status"].as_str().unwrap().to_owned()).collect();
        all.sort();
        all
    }

    /// Whether a link or button with this name is to be seen.
    pub fn can_press(&self, name: &str) -> bool {
        let script = "return [...document.querySelectorAll('a, button')].some(e => e.checkVisibility() && e.innerText.trim() === arguments[0])";
        self.browser.script_with(script, json!([name])) == json!(true)
    }

    /// That the key is in no place of the browser that a page can reach, nor in what the gateway wrote.
    pub fn assert_nowhere(&self, key: &str) {
        // Where scripts are turned off, a page has no stores.
        const STORES: &str = "const shown = read => { try { return read() } catch { return '' } };
            return JSON.stringify([shown(() => ({...localStorage})), shown(() => ({...sessionStorage})),
            shown(() => document.cookie), history.state, location.href, document.title,
            performance.getEntries().map(entry => entry.name)])";
        const CACHES: &str = "const done = arguments[0];
            Promise.allSettled([globalThis.caches?.keys(), indexedDB.databases()]).then(all => done(JSON.stringify(all)))";
        let browser = &self.browser;
        let history = browser.devtools("Page.getNavigationHistory", json!({})).to_string();
        let places = [
            ("the document", browser.dom()),
            ("its stores", browser.script(STORES).to_string()),
            ("its caches", browser.script_async(CACHES).to_string()),
            ("the history", history),
            ("the answers of the API", self.gateway.admin().get("/v1/keys").text()),
            ("the gateway's log", String::from_utf8_lossy(&self.gateway.output()).into_owned()),
        ];
        for (place, text) in places {
            assert_eq!(trace_in(text.as_bytes(), key), None, "the key is in {place}");
        }
    }

    /// That no script failed and no policy forbade anything.
    pub fn assert_no_complaints(&self) {
        assert_eq!(self.browser.complaints(), [""; 0]);
    }

    /// The token of the forms on the page.
    pub fn csrf(&self) -> String {
        let token = self.browser.script("return document.querySelector('input[name=csrf]').value");
        token.as_str().unwrap().to_owned()
    }

    /// The cookie of the session.
    pub fn session(&self) -> Value {
        let mut cookies = self.browser.cookies();
        assert_eq!(cookies.len(), 1, "{cookies:?}");
        cookies.remove(0)
    }

    /// Where the console listens.
    pub fn admin_address(&self) -> SocketAddr {
        self.gateway.admin_url().trim_start_matches("http://").parse().expect("an address")
    }

    /// Asks the console from outside the browser, with its session.
    pub fn get(&self, path: &str) -> Answer {
        self.with_session(Request::get(path)).send(self.admin_address())
    }

    /// Sends a form to the console from outside the browser, with its session.
    pub fn post_form(&self, path: &str, form: &str) -> Answer {
        let request = Request::new("POST", path).header("Content-Type", "application/x-www-form-urlencoded");
        self.with_session(request).body(form).send(self.admin_address())
    }

    fn with_session(&self, request: Request) -> Request {
        let cookies = self.browser.cookies();
        let pairs: Vec<String> = cookies
            .iter()
            .map(|cookie| {
                format!("{}={}", cookie["name"].as_str().unwrap(), cookie["value"].as_str().unwrap())
            })
            .collect();
        request.header("Cookie", &pairs.join("; ")).header("Accept", "text/html")
    }
}

/// A browser, and people who may log in at this gateway.
fn before(gateway: &Gateway, screen: Screen) -> Browser {
    for (name, role, team) in [
        ("viewer", "viewer", "acme"),
        ("editor", "editor", "acme"),
        ("admin", "admin", "acme"),
        ("other", "editor", "globex"),
    ] {
        let user = json!({ "account": name, "role": role, "team": team, "password": PASSWORD });
        let answer = gateway.admin().post("/v1/users", &user);
        assert_eq!(answer.status / 100, 2, "{answer:?}");
    }
    let browser = Browser::open();
    browser.screen(screen);
    browser
}
