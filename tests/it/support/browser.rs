//! A real browser: Debian's Chromium without a window, driven by its own `chromedriver`.
//!
//! WebDriver is a dozen calls of JSON over HTTP, which are made here on the sockets of the other tests: the crates for it
//! bring an asynchronous HTTP client, and one of them a licence that does not come in.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::command::tool;
use super::http::Request;
use super::process::Process;
use super::wait::{PATIENCE, eventually_some};

/// How WebDriver names an element in JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// A browser on a busy machine takes its time.
const LOAD: Duration = Duration::from_secs(60);

/// A browser with one tab and a profile of its own, ended by its process id when it is dropped.
pub struct Browser {
    address: SocketAddr,
    session: String,
    pid: Option<i32>,
    profile: TempDir,
    _driver: Process,
}

/// Something on the page.
#[derive(Clone, Debug)]
pub struct Element(String);

/// Which of its parts a page has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// 1280 by 800.
    Desktop,
    /// 360 by 740, with fingers.
    Phone,
}

impl Browser {
    /// Opens it on an empty page.
    ///
    /// # Panics
    /// If Chromium or its driver is not installed.
    pub fn open() -> Browser {
        let profile = tempfile::tempdir().expect("a directory can be made");
        let mut driver = Process::start(tool("chromedriver").arg("--port=0"), "chromium-driver");
        let port = eventually_some("chromedriver listens", PATIENCE, || {
            assert!(
                driver.exit_status().is_none(),
                "chromedriver ended: it is in the package chromium-driver"
            );
            let said = String::from_utf8_lossy(&driver.stdout()).into_owned();
            let (_, rest) = said.split_once("started successfully on port ")?;
            rest.split_once('.')?.0.parse::<u16>().ok()
        });
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-gpu".to_owned(),
            "--no-proxy-server".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--hide-scrollbars".to_owned(),
            "--lang=en-GB".to_owned(),
            format!("--user-data-dir={}", profile.path().display()),
        ];
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "acceptInsecureCerts": true,
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        }}});
        let opened =
            call(address, "POST", "/session", &capabilities).unwrap_or_else(|error| panic!("{error}"));
        let session = opened["sessionId"].as_str().expect("a session has an id").to_owned();
        let pid = opened["capabilities"]["goog:processID"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        let browser = Browser { address, session, pid, profile, _driver: driver };
        browser.screen(Screen::Desktop);
        browser
    }

    /// Ends the browser and leaves its profile: cache, history, the state of forms.
    pub fn quit(mut self) -> TempDir {
        self.end();
        std::mem::replace(&mut self.profile, tempfile::tempdir().expect("a directory can be made"))
    }

    pub fn screen(&self, screen: Screen) {
        let (width, height, mobile) = match screen {
            Screen::Desktop => (1280, 800, false),
            Screen::Phone => (360, 740, true),
        };
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 2, "mobile": mobile });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// Whether the system asks for dark colours.
    pub fn dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let feature = json!({ "name": "prefers-color-scheme", "value": value });
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": [feature] }));
    }

    /// Whether the scripts of pages run.
    pub fn scripts(&self, run: bool) {
        self.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": !run }));
    }

    #[track_caller]
    pub fn goto(&self, url: &str) {
        self.post("/url", json!({ "url": url }));
    }

    pub fn url(&self) -> String {
        self.get("/url").as_str().expect("a page has an address").to_owned()
    }

    /// The address without its origin.
    pub fn path(&self) -> String {
        let url = self.url();
        url.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap_or(url)
    }

    pub fn back(&self) {
        self.post("/back", json!({}));
    }

    pub fn forward(&self) {
        self.post("/forward", json!({}));
    }

    pub fn reload(&self) {
        self.post("/refresh", json!({}));
    }

    /// All of the document as it is now, with what stands in its fields.
    pub fn dom(&self) -> String {
        let script = "return document.documentElement.outerHTML + [...document.querySelectorAll('input,textarea')].map(i => i.value).join(' ')";
        self.script(script).as_str().expect("a document is text").to_owned()
    }

    /// What a person reads.
    pub fn text(&self) -> String {
        self.script("return document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// What a person reads within the first match.
    #[track_caller]
    pub fn text_of(&self, css: &str) -> String {
        self.find(css);
        let script = "return document.querySelector(arguments[0]).innerText";
        self.script_with(script, json!([css])).as_str().expect("text").to_owned()
    }

    /// Waits until the page says this.
    #[track_caller]
    pub fn expect(&self, words: &str) {
        eventually_or(
            LOAD,
            || self.text().contains(words),
            || format!("the page says {words:?}: {}", self.text()),
        );
    }

    /// Waits for the first match.
    #[track_caller]
    pub fn find(&self, css: &str) -> Element {
        let mut found = None;
        eventually_or(
            LOAD,
            || {
                found = self.try_find(css);
                found.is_some()
            },
            || format!("{css} is on the page {}: {}", self.url(), self.text()),
        );
        found.expect("it was found")
    }

    pub fn try_find(&self, css: &str) -> Option<Element> {
        let found = self.call("POST", "/element", &json!({ "using": "css selector", "value": css })).ok()?;
        found[ELEMENT].as_str().map(|id| Element(id.to_owned()))
    }

    /// How many match.
    pub fn count(&self, css: &str) -> usize {
        let found = self.post("/elements", json!({ "using": "css selector", "value": css }));
        found.as_array().map_or(0, Vec::len)
    }

    /// Waits for the visible link or button with exactly this name, in the open dialog if there is one.
    #[track_caller]
    pub fn named(&self, name: &str) -> Element {
        const SCRIPT: &str = "const root = document.querySelector('dialog[open]') ?? document;
            return [...root.querySelectorAll('a, button, summary')].find(e => e.checkVisibility() &&
                (e.getAttribute('aria-label') ?? e.innerText).trim() === arguments[0]) ?? null";
        let mut found = None;
        eventually_or(
            LOAD,
            || {
                let element = self.try_script(SCRIPT, json!([name])).unwrap_or_default();
                found = element[ELEMENT].as_str().map(|id| Element(id.to_owned()));
                found.is_some()
            },
            || format!("{name:?} can be pressed on {}: {}", self.url(), self.text()),
        );
        found.expect("it was found")
    }

    /// Presses the link or button with this name.
    #[track_caller]
    pub fn press(&self, name: &str) {
        let element = self.named(name);
        self.click(&element);
    }

    #[track_caller]
    pub fn click(&self, element: &Element) {
        self.post(&format!("/element/{}/click", element.0), json!({}));
    }

    /// Types into a field, after what is there.
    #[track_caller]
    pub fn type_into(&self, css: &str, text: &str) {
        let element = self.find(css);
        self.post(&format!("/element/{}/value", element.0), json!({ "text": text }));
    }

    /// Empties a field and types into it.
    #[track_caller]
    pub fn fill(&self, css: &str, text: &str) {
        let element = self.find(css);
        self.post(&format!("/element/{}/clear", element.0), json!({}));
        self.type_into(css, text);
    }

    /// Presses keys, wherever the focus is.
    pub fn keys(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| {
                [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]
            })
            .collect();
        self.post(
            "/actions",
            json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] }),
        );
    }

    #[track_caller]
    pub fn script(&self, script: &str) -> Value {
        self.script_with(script, json!([]))
    }

    #[track_caller]
    pub fn script_with(&self, script: &str, arguments: Value) -> Value {
        self.try_script(script, arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs a script whose last argument is a function that takes its result.
    #[track_caller]
    pub fn script_async(&self, script: &str) -> Value {
        self.post("/execute/async", json!({ "script": script, "args": [] }))
    }

    fn try_script(&self, script: &str, arguments: Value) -> Result<Value, String> {
        self.call("POST", "/execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// Calls a command of the DevTools protocol.
    #[track_caller]
    pub fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", json!({ "cmd": command, "params": parameters }))
    }

    /// The cookies that the page may be sent with.
    pub fn cookies(&self) -> Vec<Value> {
        self.get("/cookie").as_array().cloned().unwrap_or_default()
    }

    pub fn set_cookie(&self, cookie: Value) {
        self.post("/cookie", json!({ "cookie": cookie }));
    }

    /// What the browser complained of since this was asked last: scripts that failed, what a policy forbade.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", json!({ "type": "browser" }));
        let lines = log.as_array().cloned().unwrap_or_default();
        lines.iter().map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The page as it is seen, as a PNG.
    pub fn screenshot(&self) -> Vec<u8> {
        STANDARD.decode(self.get("/screenshot").as_str().expect("a picture in base64")).expect("base64")
    }

    #[track_caller]
    fn post(&self, path: &str, body: Value) -> Value {
        self.call("POST", path, &body).unwrap_or_else(|error| panic!("{error}"))
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        self.call("GET", path, &Value::Null).unwrap_or_else(|error| panic!("{error}"))
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        call(self.address, method, &format!("/session/{}{path}", self.session), body)
    }

    fn end(&mut self) {
        let _ = self.call("DELETE", "", &Value::Null); // what is left of it is killed below
        let Some(pid) = self.pid.take().and_then(Pid::from_raw) else { return };
        let gone = || test_kill_process(pid).is_err();
        let deadline = super::wait::moment() + Duration::from_secs(5);
        while !gone() && super::wait::moment() < deadline {
            super::wait::pause(Duration::from_millis(10));
        }
        if !gone() {
            let _ = kill_process(pid, Signal::KILL); // it may end by itself just now
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let shown = self.call("GET", "/url", &Value::Null);
            eprintln!(
                "--- the browser was at {shown:?} and complained: {:?}",
                self.call("POST", "/se/log", &json!({ "type": "browser" }))
            );
        }
        self.end();
    }
}

#[track_caller]
fn eventually_or(deadline: Duration, condition: impl FnMut() -> bool, what: impl FnOnce() -> String) {
    let mut condition = condition;
    let end = super::wait::moment() + deadline;
    while !condition() {
        assert!(super::wait::moment() < end, "not within {deadline:?}: {}", what());
        super::wait::pause(Duration::from_millis(20));
    }
}

/// Calls the driver; an error is in its words.
fn call(address: SocketAddr, method: &str, path: &str, body: &Value) -> Result<Value, String> {
    let request = match method {
        "POST" => Request::post(path, body.to_string()),
        _ => Request::new(method, path),
    };
    // It answers to its own name alone.
    let answer = request.without_host().header("Host", &address.to_string()).send(address);
    let mut value = answer.json();
    match answer.status {
        200 => Ok(value["value"].take()),
        _ => Err(format!("{method} {path}: {} ({})", value["value"]["message"], value["value"]["error"])),
    }
}
