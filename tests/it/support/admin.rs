//! The admin API, typed as far as the tests need it.

use std::io;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::http::{Answer, Connection, Request};

/// A client of a gateway's admin API.
#[derive(Clone)]
pub struct Admin {
    address: SocketAddr,
    token: String,
}

/// A key just created.
#[derive(Clone, Debug)]
pub struct CreatedKey {
    pub id: String,
    /// The key itself.
    pub key: String,
    /// The whole answer.
    pub json: Value,
}

impl CreatedKey {
    /// The key that an answer shows for the only time.
    #[track_caller]
    pub fn of(answer: &Answer) -> CreatedKey {
        assert_eq!(answer.status, 201, "{}", answer.text());
        let json = answer.json();
        let text = |member: &str| json[member].as_str().expect("a created key has it").to_owned();
        CreatedKey { id: text("id"), key: text("key"), json }
    }
}

impl Admin {
    pub fn new(address: SocketAddr, token: &str) -> Admin {
        Admin { address, token: token.to_owned() }
    }

    /// Creates a key in `environment` for the team `acme`.
    #[track_caller]
    pub fn create(&self, environment: &str) -> CreatedKey {
        self.create_with(json!({"label": "Production Server", "environment": environment, "team": "acme"}))
    }

    #[track_caller]
    pub fn create_with(&self, body: Value) -> CreatedKey {
        CreatedKey::of(&self.post("/v1/keys", &body))
    }

    /// The key as the list shows it.
    #[track_caller]
    pub fn key(&self, id: &str) -> Value {
        let answer = self.get(&format!("/v1/keys/{id}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// `last_used_at` of a key, if it has one.
    #[track_caller]
    pub fn last_used(&self, id: &str) -> Option<String> {
        self.key(id)["last_used_at"].as_str().map(str::to_owned)
    }

    #[track_caller]
    pub fn revoke(&self, id: &str) -> Value {
        let answer = self.post(&format!("/v1/keys/{id}/revoke"), &json!({}));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// Makes a key that takes the place of this one.
    #[track_caller]
    pub fn rotate(&self, id: &str, grace: &str) -> CreatedKey {
        let answer = self.post(&format!("/v1/keys/{id}/rotate"), &json!({"grace": grace}));
        CreatedKey::of(&answer)
    }

    /// Imports a key that keygate did not make, by its SHA-256.
    #[track_caller]
    pub fn import(&self, sha256: &str, environment: &str) -> Value {
        let key = json!({"sha256": sha256, "label": "Imported", "environment": environment, "team": "acme"});
        let answer = self.post("/v1/keys/import", &json!({"keys": [key]}));
        assert!(answer.status / 100 == 2, "{} {}", answer.status, answer.text());
        answer.json()
    }

    pub fn get(&self, path: &str) -> Answer {
        Request::get(path).bearer(&self.token).send(self.address)
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        Request::post(path, body.to_string()).bearer(&self.token).send(self.address)
    }

    /// A request that makes one thing, however often it is sent under this name.
    pub fn once(&self, path: &str, name: &str, body: &Value) -> Request {
        Request::post(path, body.to_string()).bearer(&self.token).header("Idempotency-Key", name)
    }

    pub fn send(&self, request: &Request) -> Answer {
        request.send(self.address)
    }

    /// A connection that a test uses as it likes.
    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// Changes a key that is as `etag` says.
    pub fn patch(&self, path: &str, etag: &str, body: &Value) -> Answer {
        let request = Request::new("PATCH", path).header("Content-Type", "application/json");
        request.header("If-Match", etag).bearer(&self.token).body(body.to_string()).send(self.address)
    }

    /// As `post`, where it may be that nobody answers.
    pub fn try_post(&self, path: &str, body: &Value) -> io::Result<Answer> {
        Connection::try_open(self.address)?
            .try_ask(&Request::post(path, body.to_string()).bearer(&self.token))
    }

    /// Everybody on the roll of the fleet.
    #[track_caller]
    pub fn gateways(&self) -> Vec<Value> {
        let answer = self.get("/v1/gateways");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["data"].as_array().expect("the roll has data").clone()
    }

    /// The name of this run of this gateway.
    #[track_caller]
    pub fn gateway_id(&self) -> String {
        let roll = self.gateways();
        let this = roll.iter().find(|line| line["this"] == true).expect("a gateway stands on its own roll");
        this["id"].as_str().expect("a gateway has an id").to_owned()
    }

    /// The status of `/readyz`; `None` if nobody listens.
    pub fn readyz(&self) -> Option<u16> {
        let mut connection = Connection::try_open(self.address).ok()?;
        connection.try_ask(&Request::get("/readyz")).ok().map(|answer| answer.status)
    }

    pub fn metrics(&self) -> Metrics {
        let answer = Request::get("/metrics").send(self.address);
        assert_eq!(answer.status, 200, "{}", answer.text());
        Metrics(answer.text())
    }
}

/// One scrape.
pub struct Metrics(pub String);

impl Metrics {
    /// The sum of all series of `name` that have every one of `labels`, each as `outcome="forwarded"`.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.series()
            .filter(|(series, _)| series.split('{').next() == Some(name))
            .filter(|(series, _)| labels.iter().all(|label| series.contains(label)))
            .map(|(_, value)| value)
            .sum()
    }

    /// Every series with its value.
    pub fn series(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a sample is a name and a value");
            (series, value.parse().expect("a value is a number"))
        })
    }

    /// How often the store was asked for a key.
    pub fn store_reads(&self) -> f64 {
        self.sum("keygate_store_requests_total", &[r#"operation="find""#])
            - self.sum("keygate_store_requests_total", &[r#"operation="find""#, r#"result="not_asked""#])
    }
}
