//! A key is never seen again: one goes everywhere that a key can go, and then everything is searched for it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::refusals::assert_refused;
use crate::support::command::Ran;
use crate::support::gateway::TOKEN;
use crate::support::wait::{PATIENCE, eventually};
use crate::support::{CreatedKey, Gateway, GatewayBuilder, RedisServer, Request, Upstream, keygate, keys};

/// What was seen, and where.
#[derive(Default)]
struct Seen(Vec<(String, Vec<u8>)>);

impl Seen {
    fn add(&mut self, place: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((place.into(), bytes.into()));
    }

    fn add_files(&mut self, directory: &Path) {
        for entry in fs::read_dir(directory).expect("the directory is ours") {
            let path = entry.expect("it can be listed").path();
            if path.is_dir() {
                self.add_files(&path);
            } else if let Ok(bytes) = fs::read(&path) {
                self.add(path.display().to_string(), bytes);
            }
        }
    }

    fn assert_nowhere(&self, key: &str) {
        for (place, bytes) in &self.0 {
            if let Some(trace) = keys::trace_in(bytes, key) {
                let text = String::from_utf8_lossy(bytes);
                let line = text.lines().find(|line| line.contains(&trace)).unwrap_or("(a binary place)");
                panic!("a key was seen in {place}, as {trace}: {line}");
            }
        }
    }
}

/// An upstream that repeats all that it was told in its answer, and fails where it is asked to.
fn echoing_upstream() -> Upstream {
    Upstream::with(|exchange| {
        exchange.read_body()?;
        if exchange.request.target == "/dies" {
            return Ok(());
        }
        let told = format!("{:?}", exchange.request);
        exchange.reply(200, &[], told.as_bytes())
    })
}

/// Puts a key through its whole life on this gateway, and everything seen on the way into `seen`.
fn live_through(gateway: &Gateway, upstream: &Upstream, seen: &mut Seen) -> Vec<String> {
    let admin = gateway.admin();
    let [first, second, third]: [CreatedKey; 3] = std::array::from_fn(|_| admin.create("live"));
    let imported = keys::foreign_live("canary");
    seen.add(
        "the answer to an import",
        admin.import(&keys::sha256_hex(imported.as_bytes()), "live").to_string(),
    );

    for key in [&first.key, &second.key, &third.key, &imported] {
        let basic = |text: &str| format!("Basic {}", keys::base64(text));
        let request = Request::get("/v1/wallets/wlt_1");
        let asked = [
            request.clone().key(key),
            request.clone().bearer(key),
            request.clone().header("Authorization", &basic(&format!("{key}:"))),
            request.clone().key(key).bearer(key),
            // Refused, one way or another.
            request.clone().header("Authorization", &basic(&format!("{key}:password"))),
            request.clone().header("Authorization", key),
            request.clone().header("Authorization", &format!("Digest {key}")),
            request.clone().key(&key.to_uppercase()),
            request.clone().key(&format!("{key}x")),
            request.clone().key(&keys::mistyped(key)),
            request.clone().key(key).key(&keys::foreign_sandbox("other")),
            request.clone().key(key).header("Transfer-Encoding", "gzip, chunked"),
            request.clone().key(key).header("Host", "second"),
            request.clone().key(key).header("Connection", "X-API-Key"),
            Request::get("/dies").key(key),
            Request::new("CONNECT", "bank.example:443").key(key),
            Request::post("/v1/transfers/p2p", "{}").key(key),
        ];
        for request in asked {
            let answer = gateway.ask(&request);
            seen.add(format!("the answer to {request:?}").replace(key, "KEY"), format!("{answer:?}"));
        }
        let mut garbage = gateway.connect();
        garbage.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nno colon\r\n\r\n"));
        if let Ok(answer) = garbage.try_head() {
            seen.add("the answer to garbage", format!("{answer:?}"));
        }
    }

    seen.add("a revocation", admin.revoke(&first.id).to_string());
    let found = admin.post("/v1/keys/find", &json!({"key": second.key}));
    assert_eq!(found.status, 200, "{}", found.text());
    seen.add("a key that was found", found.body);
    let by_key = admin.post("/v1/keys/revoke", &json!({"key": second.key}));
    assert_eq!(by_key.status, 200, "{}", by_key.text());
    seen.add("a revocation by key", by_key.body);
    for wrong in
        [json!({"key": third.key, "x": 1}), json!({"key": format!("{}x", third.key)}), json!([third.key])]
    {
        seen.add("a wrong key that was found", admin.post("/v1/keys/find", &wrong).body);
        seen.add("a wrong revocation by key", admin.post("/v1/keys/revoke", &wrong).body);
    }
    // A key in the wrong place, by mistake.
    seen.add("a key as id", admin.get(&format!("/v1/keys/{}", keys::foreign_live("id"))).body);
    let mut revoke = keygate();
    revoke.args(["keys", "revoke", "--key-stdin", "--json"]);
    revoke.env("KEYGATE_ADMIN_URL", gateway.admin_url()).env("KEYGATE_ADMIN_TOKEN", TOKEN);
    let ran = Ran::with_input(&mut revoke, &imported).assert_code(0);
    seen.add("a revocation at the command line", format!("{ran:?}"));
    for key in [&first.key, &second.key, &imported] {
        assert_refused(&gateway.use_key(key), "key_revoked");
    }

    eventually("uses are written", PATIENCE, || admin.last_used(&third.id).is_some());
    seen.add("the list", admin.get("/v1/keys").body);
    seen.add("one key", admin.key(&third.id).to_string());
    seen.add("the metrics", gateway.metrics().0);
    for request in upstream.seen() {
        seen.add("the upstream", format!("{request:?}"));
    }
    vec![first.key, second.key, third.key, imported]
}

fn talkative(builder: GatewayBuilder, upstream: &Upstream) -> Gateway {
    builder.live(upstream).flush_every_ms(50).set("KEYGATE_LOG__FILTER", "trace").start()
}

#[test]
fn a_key_is_nowhere_with_sqlite() {
    let (upstream, mut seen) = (echoing_upstream(), Seen::default());
    let directory = tempfile::tempdir().unwrap();
    let mut gateway = talkative(Gateway::builder().sqlite(&directory.path().join("keys.sqlite")), &upstream);
    let keys = live_through(&gateway, &upstream, &mut seen);
    seen.add_files(directory.path()); // while the write-ahead log is there
    assert!(gateway.terminate().success());
    seen.add_files(directory.path());
    seen.add("the log", gateway.output());
    assert_searchable(&seen);
    for key in keys {
        seen.assert_nowhere(&key);
    }
}

#[test]
fn a_key_is_nowhere_with_redis() {
    let (upstream, mut seen) = (echoing_upstream(), Seen::default());
    let redis = RedisServer::start();
    let monitor = redis.monitor();
    let mut gateway = talkative(Gateway::builder().redis(&redis), &upstream);
    let keys = live_through(&gateway, &upstream, &mut seen);
    assert!(gateway.terminate().success());
    let _: String = redis.run(&["SAVE"]);
    seen.add_files(redis.directory());
    seen.add("the commands that Redis was sent", monitor.lines_with("").join("\n"));
    let mut scan = Command::new("redis-cli");
    scan.args(["-p", &redis.port().to_string(), "--scan"]);
    seen.add("the names of what Redis holds", Ran::to_end(&mut scan, "redis-tools").assert_code(0).stdout);
    seen.add("the log", gateway.output());
    assert_searchable(&seen);
    for key in keys {
        seen.assert_nowhere(&key);
    }
}

#[test]
fn a_key_is_nowhere_when_the_store_fails() {
    let (upstream, mut seen) = (echoing_upstream(), Seen::default());
    let mut redis = RedisServer::start();
    let gateway = talkative(Gateway::builder().redis(&redis), &upstream);
    let created = gateway.admin().create("live");
    redis.kill();
    for answer in [
        gateway.use_key(&created.key),
        gateway.admin().post("/v1/keys/revoke", &json!({"key": created.key})),
        gateway.admin().post("/v1/keys", &json!({"label": "x", "environment": "live"})),
    ] {
        assert_eq!(answer.status, 503, "{}", answer.text());
        seen.add("an answer during the outage", answer.body);
    }
    seen.add("the log", gateway.output());
    seen.assert_nowhere(&created.key);
}

/// That the search finds what is there: a label stands in the places where a key must not.
fn assert_searchable(seen: &Seen) {
    let label = "Production Server";
    let found = |place: &str| {
        seen.0
            .iter()
            .any(|(name, bytes)| name.contains(place) && String::from_utf8_lossy(bytes).contains(label))
    };
    assert!(found("the list"));
    assert!(found("sqlite") || found("appendonly"), "the files of the store were searched");
    assert!(
        seen.0.iter().any(|(name, bytes)| name == "the log" && bytes.len() > 10_000),
        "the log is at trace"
    );
}
