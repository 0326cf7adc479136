//! A browser as far as cookies and forms go.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;

use crate::support::{Answer, Gateway, Request};

pub struct Browser {
    address: SocketAddr,
    pub cookies: BTreeMap<String, String>,
    /// What it says of where a form comes from.
    pub origin: Option<String>,
}

impl Browser {
    pub fn at(gateway: &Gateway) -> Browser {
        let address: SocketAddr = gateway.admin_url().trim_start_matches("http://").parse().unwrap();
        Browser { address, cookies: BTreeMap::new(), origin: Some(format!("http://{address}")) }
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.send(Request::get(path))
    }

    /// Posts a form with the token that `page` shows.
    pub fn post_from(&mut self, page: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = self.csrf(page);
        let fields: Vec<_> = [("csrf", csrf.as_str())].into_iter().chain(fields.iter().copied()).collect();
        self.post(path, &fields)
    }

    /// Posts these fields and no others.
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request =
            Request::new("POST", path).header("Content-Type", "application/x-www-form-urlencoded").body(body);
        self.send(request)
    }

    /// The token in the forms of a page.
    #[track_caller]
    pub fn csrf(&mut self, page: &str) -> String {
        let text = self.get(page).text();
        let from = text.split("name=\"csrf\" value=\"").nth(1).unwrap_or_else(|| panic!("no form: {text}"));
        from.split('"').next().unwrap().to_owned()
    }

    pub fn log_in(&mut self, account: &str, password: &str) -> Answer {
        self.post_from("/login", "/login", &[("account", account), ("password", password)])
    }

    /// Calls the API as a script of a page would.
    pub fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let mut request = Request::new(method, path);
        if method != "GET" {
            let csrf = self.csrf("/account");
            request = request.header("X-CSRF-Token", &csrf);
        }
        if method == "PATCH" {
            request = request.header("If-Match", "*");
        }
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        self.send(request)
    }

    /// Sends a request with the browser's cookies and origin, and keeps the cookies that come.
    pub fn send(&mut self, mut request: Request) -> Answer {
        request = request.without_host().header("Host", &self.address.to_string());
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            request = request.header("Cookie", &cookies.join("; "));
        }
        if let Some(origin) = &self.origin {
            request = request.header("Origin", origin);
        }
        let answer = request.send(self.address);
        for cookie in answer.headers.all("set-cookie") {
            let pair = cookie.split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    /// The session's cookie.
    #[track_caller]
    pub fn session(&self) -> String {
        self.cookies.get("keygate").expect("it is logged in").clone()
    }

    /// Whether the account's page is shown.
    pub fn is_in(&mut self) -> bool {
        let answer = self.get("/account");
        assert!(matches!(answer.status, 200 | 303), "{answer:?}");
        answer.status == 200
    }
}
