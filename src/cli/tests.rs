//! Commands against a real admin API on loopback, with a store in memory behind it.

use std::io::Cursor;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::*;
use crate::admin::{self, AdminState};
use crate::config::AdminToken;
use crate::keys::KeyService;
use crate::keys::memory::{HeardEvents, MemoryStore, STORE_ID};
use crate::model::{GatewayId, KeyFormat, KeyId, Member, Timestamp};
use crate::observe::{Health, Metrics};
use crate::people::memory::MemoryPeople;
use crate::people::{People, SessionLimits};
use crate::roll::{Roll, RollSettings};
use crate::store::{Activity, KeyStore, KeyUse, Mismatch, UsageBatch};

/// How long sessions last.
const LIMITS: SessionLimits =
    SessionLimits { idle: Duration::from_secs(1_800), total: Duration::from_secs(43_200) };
const TOKEN: &str = "a-token-for-tests";

struct Gateway {
    address: SocketAddr,
    store: Arc<MemoryStore>,
    health: Arc<Health>,
    runtime: Runtime,
}

fn gateway() -> Gateway {
    let runtime = Runtime::new().unwrap();
    let (store, health) = (Arc::new(MemoryStore::default()), Arc::new(Health::new()));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let format = KeyFormat::new("sk").unwrap();
    let (sink, told) = (Arc::new(HeardEvents::default()), Arc::new(Metrics::new()));
    let settings = RollSettings {
        name: "here:8080".into(),
        max_staleness: Duration::from_secs(300),
        receipt_timeout: Duration::from_millis(50),
    };
    let (_, progress) = tokio::sync::watch::channel(None);
    let roll = Roll::new(settings, store.clone(), sink.clone(), progress, clock.clone(), told.clone());
    let keys = KeyService::new(store.clone(), sink, format, clock.clone(), told);
    let router = admin::router(AdminState {
        keys: admin::Keys::new(Arc::new(keys)),
        people: Arc::new(People::new(Arc::new(MemoryPeople::default()), clock.clone(), LIMITS)),
        cookies: admin::Cookies { secure: false },
        behind_tls: false,
        roll: Arc::new(roll.unwrap()),
        token: Some(AdminToken::new(TOKEN.into())),
        health: health.clone(),
        metrics: Arc::new(String::new),
        clock,
        brand: "PayKore".to_owned(),
        flush_interval: Duration::from_secs(5),
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        admin::serve(listener, None, router, std::future::pending()).await;
    });
    Gateway { address, store, health, runtime }
}

#[derive(Debug)]
struct Ran {
    code: u8,
    output: String,
    errors: String,
}

impl Ran {
    #[track_caller]
    fn fails(self, code: u8, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.errors.starts_with("keygate: "), "{self:?}");
        for word in words {
            assert!(self.errors.contains(word), "{word} is not said: {self:?}");
        }
    }

    #[track_caller]
    fn prints(self, words: &[&str]) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        for word in words {
            assert!(self.output.contains(word), "{word} is not printed: {self:?}");
        }
        self.output
    }

    #[track_caller]
    fn json(self) -> Value {
        serde_json::from_str(&self.prints(&[])).unwrap()
    }
}

fn command(line: &[&str], env: &[(&str, &str)], input: &str) -> Ran {
    let (mut input, mut output, mut errors) = (Cursor::new(input.to_owned()), Vec::new(), Vec::new());
    let mut world = World {
        env: env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        input: &mut input,
        output: &mut output,
        errors: &mut errors,
    };
    let code = run(std::iter::once("keygate").chain(line.iter().copied()).map(OsString::from), &mut world);
    Ran { code, output: String::from_utf8(output).unwrap(), errors: String::from_utf8(errors).unwrap() }
}

impl Gateway {
    fn keys(&self, line: &[&str]) -> Ran {
        self.keys_with(line, "")
    }

    fn keys_with(&self, line: &[&str], input: &str) -> Ran {
        self.run_with(&[&["keys"], line].concat(), input)
    }

    fn run(&self, line: &[&str]) -> Ran {
        self.run_with(line, "")
    }

    fn run_with(&self, line: &[&str], input: &str) -> Ran {
        let url = format!("http://{}/", self.address);
        let env = [("KEYGATE_ADMIN_URL", url.as_str()), ("KEYGATE_ADMIN_TOKEN", TOKEN)];
        command(line, &env, input)
    }

    fn create(&self, label: &str) -> Value {
        self.keys(&["create", "--label", label, "--env", "live", "--json"]).json()
    }
}

#[test]
fn a_key_is_made_shown_listed_and_revoked() {
    let gateway = gateway();
    let line = ["create", "--label", "Server", "--env", "sandbox", "--team", "acme", "--expires", "30d"];
    let made = gateway.keys(&line).prints(&["Server", "acme", "in 30 days", "sk_test_", "only time"]);
    let id = made.split_whitespace().nth(1).unwrap();
    gateway.keys(&["show", id]).prints(&[id, "last used    never", "active"]);
    let listed = gateway.keys(&["list", "--env", "sandbox"]).prints(&["LABEL", id, "(now)"]);
    assert_eq!(listed.lines().count(), 2);
    gateway.keys(&["list", "--status", "revoked"]).prints(&["No keys."]);
    gateway.keys(&["revoke", id]).prints(&[id, "(Server) is revoked, for ever: 1 of 1 gateways stopped"]);
    gateway.keys(&["revoke", id]).prints(&["was revoked before"]);
    gateway.keys(&["show", id]).prints(&["status       revoked"]);
}

#[test]
fn every_command_speaks_json() {
    let gateway = gateway();
    let made = gateway.create("a");
    let id = made["id"].as_str().unwrap();
    assert!(made["key"].is_string());
    assert_eq!(gateway.keys(&["show", id, "--json"]).json()["id"], id);
    assert_eq!(gateway.keys(&["--json", "list"]).json()["data"][0]["id"], id);
    let rotated = gateway.keys(&["rotate", id, "--json"]).json();
    assert_eq!((&rotated["old"]["id"], &rotated["replaces"]), (&made["id"], &made["id"]));
    let revoked = gateway.keys(&["revoke", id, "--json"]).json();
    assert_eq!((&revoked["status"], &revoked["revocation"]["acknowledged"]), (&json!("revoked"), &json!(1)));
    assert_eq!(gateway.run(&["gateways", "--json"]).json(), json!({ "data": [] }));
    assert_eq!(gateway.run(&["store", "show", "--json"]).json()["found"], STORE_ID);
    assert_eq!(gateway.run(&["--json", "store", "show"]).code, 64);
}

#[test]
fn a_rotation_shows_the_new_key_and_what_becomes_of_the_old_one() {
    let gateway = gateway();
    let old = gateway.create("Server")["id"].as_str().unwrap().to_owned();
    let line = ["rotate", &old, "--grace", "2h"];
    let words = ["Server", "sk_live_", "only time", "replaces", "The old key", &old, "goes on until"];
    let shown = gateway.keys(&line).prints(&words);
    let new = shown.split_whitespace().nth(1).unwrap();
    assert!(new != old);
    gateway.keys(&["show", new]).prints(&["status       active", "replaces     ", &old]);
    let words = ["status       rotating", "replaced by  ", new, "ends         ", "in grace     0 uses"];
    gateway.keys(&["show", &old]).prints(&words);
    gateway.keys(&["list", "--status", "rotating"]).prints(&[&old, "rotating"]);
    gateway.keys(&line).fails(1, &[&old, "rotated before", new]);
    gateway.keys(&["rotate", new, "--grace", "0s"]).prints(&["The old key", new, "has ended"]);
    gateway.keys(&["show", new]).prints(&["status       expired", "ended        "]);
    for grace in ["8d", "soon", ""] {
        gateway.keys(&["rotate", new, "--grace", grace]).fails(64, &["0s to 7d"]);
    }
}

#[test]
fn a_card_tells_of_uses_in_grace_and_of_attempts_after_the_end() {
    let gateway = gateway();
    let id: KeyId = gateway.create("a")["id"].as_str().unwrap().parse().unwrap();
    gateway.keys(&["rotate", id.as_str()]).prints(&[]);
    let last_refused_at = Some(Timestamp::from_millis(1_764_000_000_000));
    let activity =
        Activity { uses: 5, uses_in_grace: 2, refusals: 3, last_refused_at, ..Activity::default() };
    let batch = UsageBatch { id: 1, shard: id.shard(), uses: vec![KeyUse { id, activity }] };
    gateway.runtime.block_on(gateway.store.record_uses(&batch)).unwrap();
    let words = ["in grace     2 uses", "after death  tried 3 times, last 2025-11-24T16:00:00.000Z"];
    gateway.keys(&["show", id.as_str()]).prints(&words);
}

#[test]
fn a_revocation_is_told_with_who_has_not_heard_of_it() {
    let gateway = gateway();
    gateway.store.tell_by_log();
    let silent = Member {
        id: GatewayId::from_u64(0xbeef),
        name: "far:8080".into(),
        version: "0.1.0".into(),
        started_at: Timestamp::from_millis(1_764_000_000_000),
        max_staleness_ms: 300_000,
        beat: 1,
        positions: Vec::new(),
        gone: false,
    };
    gateway.runtime.block_on(gateway.store.attend(&silent)).unwrap();
    let shown =
        gateway.run(&["gateways"]).prints(&["APPLIED", "gw_000000000000beef", "far:8080", "starting"]);
    assert_eq!(shown.lines().count(), 2);
    let made = gateway.create("a");
    gateway.keys(&["revoke", made["id"].as_str().unwrap()]).prints(&[
        "1 of 2 gateways",
        "Not heard from: far:8080 (gw_000000000000beef, 0.1.0). It holds everywhere by ",
    ]);
}

#[test]
fn a_store_is_accepted_only_by_who_has_read_what_that_means() {
    let gateway = gateway();
    gateway.run(&["store", "show"]).prints(&[STORE_ID, "state        well"]);
    gateway.run(&["store", "accept"]).prints(&["nothing has to be accepted"]);
    let foreign = Mismatch::Foreign { found: "f".repeat(32), ours: STORE_ID.to_owned() };
    gateway.store.replace_by(Some(&"f".repeat(32)), foreign);
    gateway.run(&["store", "show"]).prints(&[&"f".repeat(32), "and not"]);
    let unread = gateway.run(&["store", "accept"]);
    assert!(
        unread.output.contains("restore it instead") && unread.output.contains("is forgotten"),
        "{unread:?}"
    );
    unread.fails(64, &["--yes"]);
    gateway.keys(&["list"]).fails(69, &["not the fleet's store"]);
    gateway.run(&["store", "accept", "--yes"]).prints(&["fleet's store from now on"]);
    gateway.keys(&["list"]).prints(&["No keys."]);
    gateway.store.replace_by(None, Mismatch::Replica);
    gateway.run(&["store", "accept", "--yes"]).fails(1, &["does not help", "address of the primary"]);
    gateway.run(&["store"]).fails(64, &["accept"]);
}

#[test]
fn a_key_that_was_found_is_revoked_from_standard_input() {
    let gateway = gateway();
    let made = gateway.create("a");
    let key = format!("{}\n", made["key"].as_str().unwrap());
    gateway.keys_with(&["revoke", "--key-stdin"], &key).prints(&[made["id"].as_str().unwrap()]);
    gateway.keys_with(&["revoke", "--key-stdin"], " \n").fails(64, &["--key-stdin"]);
    gateway.keys(&["revoke"]).fails(64, &["key-stdin"]);
    gateway.keys_with(&["find"], &key).prints(&[made["id"].as_str().unwrap(), "revoked"]);
    gateway.keys_with(&["find"], " \n").fails(64, &["keys find: standard input is empty"]);
}

#[test]
fn a_list_goes_over_all_pages() {
    let gateway = gateway();
    let lines: String = (0..450).map(|i| format!("{i:064x},Key {i},live\n")).collect();
    gateway.keys_with(&["import", "-"], &lines).prints(&["450 keys imported, 0 were there already"]);
    assert_eq!(gateway.keys(&["list"]).prints(&[]).lines().count(), 451);
    assert_eq!(
        gateway.keys(&["list", "--limit", "250", "--json"]).json()["data"].as_array().unwrap().len(),
        250
    );
    let done = gateway.keys_with(&["import", "-", "--json"], &lines).json();
    assert_eq!(done, json!({ "created": 0, "already_there": 450 }));
}

#[test]
fn an_import_with_a_wrong_line_imports_nothing() {
    let gateway = gateway();
    let lines = format!("{:064x},a,live\nx,b,live\n", 1);
    gateway.keys_with(&["import", "-"], &lines).fails(1, &["line 2", "SHA-256", "nothing was imported"]);
    gateway.keys(&["import", "/nowhere"]).fails(1, &["/nowhere"]);
    gateway.keys(&["list"]).prints(&["No keys."]);
}

#[test]
fn what_is_wrong_is_said_with_its_exit_code() {
    let gateway = gateway();
    let id = format!("key_{}", "0".repeat(20));
    gateway.keys(&["show", &id]).fails(1, &[&id, "there is no such key"]);
    gateway.keys(&["show", "key_1"]).fails(64, &["not a key id"]);
    gateway.keys(&["create", "--label", " ", "--env", "live"]).fails(64, &["`label`"]);
    gateway.keys(&["create", "--label", "a", "--env", "prod"]).fails(64, &["live"]);
    gateway.keys(&["create", "--label", "a", "--env", "live", "--expires", "soon"]).fails(64, &["30d"]);
    gateway.keys(&["nothing"]).fails(64, &["nothing"]);
    let made = gateway.create("a");
    gateway.store.set_down(true);
    gateway.keys(&["list"]).fails(69, &["the store does not answer", "request "]);
    let key = made["key"].as_str().unwrap();
    gateway.keys_with(&["revoke", "--key-stdin"], key).fails(69, &["other gateways do not know yet"]);
}

#[test]
fn the_token_goes_only_where_it_should() {
    let gateway = gateway();
    let here = format!("http://{}", gateway.address);
    let url = ["keys", "list", "--admin-url", here.as_str()];
    command(&url, &[], "").fails(64, &["KEYGATE_ADMIN_TOKEN", "--token-file"]);
    command(&url, &[("KEYGATE_ADMIN_TOKEN", "wrong-token-of-tests")], "").fails(1, &["not the admin token"]);
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), format!("{TOKEN}\n")).unwrap();
    command(&[&url[..], &["--token-file", token.path().to_str().unwrap()]].concat(), &[], "")
        .prints(&["No keys."]);
    for url in ["http://keygate.internal:8081", "http://10.0.0.1", "http://127.0.0.1.evil.example"] {
        let env = [("KEYGATE_ADMIN_URL", url), ("KEYGATE_ADMIN_TOKEN", TOKEN)];
        command(&["keys", "list"], &env, "").fails(64, &["https"]);
    }
    for url in ["nothing", "ftp://127.0.0.1", "http://u:p@127.0.0.1"] {
        command(&["keys", "list", "--admin-url", url], &[("KEYGATE_ADMIN_TOKEN", TOKEN)], "")
            .fails(64, &["expected"]);
    }
}

#[test]
fn a_gateway_that_is_not_there_is_unavailable() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let env = [("KEYGATE_ADMIN_URL", &*format!("http://{address}")), ("KEYGATE_ADMIN_TOKEN", TOKEN)];
    command(&["keys", "list"], &env, "").fails(69, &["is the gateway running"]);
    command(&["health"], &env, "").fails(69, &["is the gateway running"]);
}

#[test]
fn health_is_zero_only_when_ready() {
    let gateway = gateway();
    let listen = gateway.address.to_string();
    for env in [("KEYGATE_ADMIN_LISTEN", listen.clone()), ("KEYGATE_ADMIN_URL", format!("http://{listen}"))] {
        let ask = || command(&["health"], &[(env.0, &env.1)], "");
        if gateway.health.readiness() == crate::observe::Readiness::Starting {
            ask().fails(69, &["starting"]);
            gateway.health.sync();
        }
        ask().prints(&["ready"]);
    }
}

#[test]
fn wrong_settings_are_wrong_usage() {
    for name in ["serve", "check"] {
        command(&[name, "--listen", "here"], &[], "")
            .fails(64, &["flag --listen", "`admin_token`", "`upstream_live`"]);
        command(&[name, "--config", "/nowhere"], &[], "").fails(64, &["/nowhere"]);
    }
    command(&["demo", "--workers", "many"], &[], "").fails(64, &["flag --workers"]);
    command(&["check"], &[("KEYGATE_LISTN", "x")], "").fails(64, &["KEYGATE_LISTEN"]);
    command(&[], &[], "").fails(64, &["Usage"]);
}

#[test]
fn help_and_version_are_no_errors() {
    command(&["--help"], &[], "").prints(&["serve", "demo", "check", "keys", "gateways", "store", "health"]);
    command(&["--version"], &[], "").prints(&["keygate"]);
}

struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_has_enough_is_no_error_but_a_lost_key_is() {
    let gateway = gateway();
    let url = format!("http://{}", gateway.address);
    let into_nothing = |line: &[&str]| {
        let mut errors = Vec::new();
        let env = [("KEYGATE_ADMIN_URL", url.as_str()), ("KEYGATE_ADMIN_TOKEN", TOKEN)];
        let env = env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let mut world = World { env, input: &mut std::io::empty(), output: &mut Closed, errors: &mut errors };
        let code =
            run(std::iter::once("keygate").chain(line.iter().copied()).map(OsString::from), &mut world);
        (code, String::from_utf8(errors).unwrap())
    };
    assert_eq!(into_nothing(&["keys", "list"]), (0, String::new()));
    assert_eq!(into_nothing(&["--help"]), (0, String::new()));
    let (code, said) = into_nothing(&["keys", "create", "--label", "a", "--env", "live"]);
    assert_eq!(code, 1);
    assert!(said.contains("could not be shown; revoke it with `keygate keys revoke key_"), "{said}");
}
