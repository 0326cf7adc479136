//! `keygate keys`: what an operator does at a terminal or in a script.

use std::process::Command;

use serde_json::Value;

use crate::refusals::assert_refused;
use crate::stores::Store;
use crate::support::gateway::TOKEN;
use crate::support::redis::unused_port;
use crate::support::wait::{PATIENCE, eventually};
use crate::support::{Gateway, Ran, Upstream, keygate, keys};

fn command(gateway: &Gateway, arguments: &[&str]) -> Command {
    let mut command = keygate();
    command.args(arguments).env("KEYGATE_ADMIN_URL", gateway.admin_url()).env("KEYGATE_ADMIN_TOKEN", TOKEN);
    command
}

fn run(gateway: &Gateway, arguments: &[&str]) -> Ran {
    Ran::to_end(&mut command(gateway, arguments), "keygate")
}

/// The keys that a list shows: an array, or a page with `data`.
fn rows(list: &Value) -> Vec<Value> {
    list.get("data").unwrap_or(list).as_array().expect("a list is an array").clone()
}

#[test]
fn a_key_lives_its_life_at_the_command_line() {
    let (live, sandbox) = (Upstream::start(), Upstream::start());
    let gateway = Gateway::builder().live(&live).sandbox(&sandbox).start();
    let create =
        ["keys", "create", "--label", "Staging Environment", "--env", "sandbox", "--team", "acme", "--json"];
    let created = run(&gateway, &create).assert_code(0).json();
    let (id, key) = (created["id"].as_str().unwrap(), created["key"].as_str().unwrap());
    assert_eq!(created["label"], "Staging Environment");
    assert_eq!(created["environment"], "sandbox");
    gateway.use_key(key).assert_forwarded();
    assert_eq!(live.count(), 0);

    let list = run(&gateway, &["keys", "list", "--json"]).assert_code(0);
    assert_eq!(rows(&list.json()).iter().filter(|row| row["id"] == id).count(), 1);
    let show = run(&gateway, &["keys", "show", id, "--json"]).assert_code(0);
    assert_eq!(show.json()["status"], "active");
    for shown in [list, show, run(&gateway, &["keys", "list"]), run(&gateway, &["keys", "show", id])] {
        assert!(shown.stdout.contains(id) && shown.stdout.contains("Staging Environment"), "{shown:?}");
        assert_eq!(keys::trace_in(shown.stdout.as_bytes(), key), None);
    }

    let revoked = run(&gateway, &["keys", "revoke", id, "--json"]).assert_code(0).json();
    assert_eq!(revoked["status"], "revoked", "{revoked}");
    assert_refused(&gateway.use_key(key), "key_revoked");
    run(&gateway, &["keys", "revoke", id]).assert_code(0);
}

#[test]
fn a_key_is_printed_once_for_people_too() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let created =
        run(&gateway, &["keys", "create", "--label", "Production Server", "--env", "live"]).assert_code(0);
    let words: Vec<_> = created.stdout.split_whitespace().collect();
    let key = words
        .iter()
        .find(|word| word.starts_with("sk_live_") && word.len() == 72)
        .expect("the key is printed");
    assert_eq!(created.stdout.matches(*key).count(), 1);
    gateway.use_key(key).assert_forwarded();
}

#[test]
fn whoever_finds_a_key_revokes_it_without_an_id_and_without_an_argument() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let created = gateway.admin().create("live");
    gateway.use_key(&created.key).assert_forwarded();
    let mut revoke = command(&gateway, &["keys", "revoke", "--key-stdin"]);
    let ran = Ran::with_input(&mut revoke, &format!("{}\n", created.key)).assert_code(0);
    assert_eq!(keys::trace_in(format!("{ran:?}").as_bytes(), &created.key), None);
    assert_refused(&gateway.use_key(&created.key), "key_revoked");

    let nobodys = keys::foreign_live("nobody's");
    let mut revoke = command(&gateway, &["keys", "revoke", "--key-stdin"]);
    let ran = Ran::with_input(&mut revoke, &nobodys).assert_code(1);
    assert_eq!(keys::trace_in(format!("{ran:?}").as_bytes(), &nobodys), None);
}

#[test]
fn whoever_finds_a_key_sees_which_it_is() {
    for store in [Store::sqlite(), Store::redis()] {
        let upstream = Upstream::start();
        let gateway = store.builder().live(&upstream).start();
        let created = gateway.admin().create("live");
        let find = |input: &str, json: bool| {
            let mut find = command(&gateway, &["keys", "find"]);
            find.args(json.then_some("--json"));
            Ran::with_input(&mut find, input)
        };
        let ran = find(&format!("{}\n", created.key), false).assert_code(0);
        assert!(ran.stdout.contains(&created.id) && ran.stdout.contains("active"), "{ran:?}");
        assert_eq!(keys::trace_in(format!("{ran:?}").as_bytes(), &created.key), None);
        let found = find(&created.key, true).assert_code(0).json();
        assert_eq!(found, gateway.admin().key(&created.id));
        gateway.use_key(&created.key).assert_forwarded();

        let nobodys = keys::foreign_live("nobody's");
        let ran = find(&nobodys, false).assert_code(1);
        assert!(ran.stderr.contains("there is no such key"), "{ran:?}");
        assert_eq!(keys::trace_in(format!("{ran:?}").as_bytes(), &nobodys), None);
        let empty = find("\n", false).assert_code(64);
        assert!(empty.stderr.contains("keys find: standard input is empty"), "{empty:?}");
    }
}

#[test]
fn an_expiry_is_a_duration_or_a_date() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    for expires in ["30d", "2099-01-31T12:00:00Z"] {
        let create =
            ["keys", "create", "--label", "Contractor", "--env", "live", "--expires", expires, "--json"];
        let created = run(&gateway, &create).assert_code(0).json();
        assert!(created["expires_at"].is_string(), "{created}");
    }
    for wrong in ["soon", "2001-01-31T12:00:00Z", "-1d"] {
        let create =
            ["keys", "create", "--label", "Contractor", "--env", "live", &format!("--expires={wrong}")];
        let ran = run(&gateway, &create);
        assert!(matches!(ran.code, Some(1 | 64)) && !ran.stderr.is_empty(), "{wrong}: {ran:?}");
    }
}

#[test]
fn keys_are_imported_from_a_file_and_a_bad_line_is_named() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys.csv");
    let (first, second) = (keys::foreign_live("first"), keys::foreign_live("second"));
    let line = |key: &str| format!("{},Old server,live,acme\n", keys::sha256_hex(key.as_bytes()));
    std::fs::write(&file, format!("{}{}", line(&first), line(&second))).unwrap();
    run(&gateway, &["keys", "import", &file.display().to_string()]).assert_code(0);
    for key in [&first, &second] {
        gateway.use_key(key).assert_forwarded();
    }

    let third = keys::foreign_live("third");
    std::fs::write(&file, format!("{}not a hash,x,live\n", line(&third))).unwrap();
    let ran = run(&gateway, &["keys", "import", &file.display().to_string()]);
    assert!(ran.code.is_some_and(|code| code != 0), "{ran:?}");
    ran.assert_says(&["2"]);
}

#[test]
fn what_cannot_be_done_is_said_and_has_an_exit_code() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    run(&gateway, &["keys", "show", "key_00000000000000000000"]).assert_code(1).assert_says(&["no such key"]);
    run(&gateway, &["keys", "revoke", "key_00000000000000000000"]).assert_code(1);
    run(&gateway, &["keys", "create", "--label", "x"]).assert_code(64).assert_says(&["--env"]);
    run(&gateway, &["keys", "create", "--label", "x", "--env", "production"])
        .assert_code(64)
        .assert_says(&["env"]);
    run(&gateway, &["keys", "forget"]).assert_code(64);
    run(&gateway, &["frobnicate"]).assert_code(64);

    let mut nobody = command(&gateway, &["keys", "list"]);
    nobody.env("KEYGATE_ADMIN_URL", format!("http://127.0.0.1:{}", unused_port()));
    Ran::to_end(&mut nobody, "keygate").assert_code(69).assert_says(&["127.0.0.1"]);
    let mut stranger = command(&gateway, &["keys", "list"]);
    stranger.env("KEYGATE_ADMIN_TOKEN", "not-the-token-0123456789");
    let ran = Ran::to_end(&mut stranger, "keygate").assert_code(1).assert_says(&["token"]);
    assert!(!ran.stderr.contains("not-the-token"), "{ran:?}");
}

#[test]
fn a_token_is_not_sent_in_the_clear_beyond_loopback() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let mut beyond = command(&gateway, &["keys", "list"]);
    // A documentation address: were anything sent, it would go nowhere.
    beyond.env("KEYGATE_ADMIN_URL", "http://192.0.2.1:8081");
    Ran::to_end(&mut beyond, "keygate").assert_code(64).assert_says(&["http"]);
}

#[test]
fn health_is_an_exit_code() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    run(&gateway, &["health"]).assert_code(0);
    let mut nobody = command(&gateway, &["health"]);
    nobody.env("KEYGATE_ADMIN_URL", format!("http://127.0.0.1:{}", unused_port()));
    assert_ne!(Ran::to_end(&mut nobody, "keygate").code, Some(0));
}

#[test]
fn help_and_version_are_there() {
    for arguments in
        [&["--help"][..], &["serve", "--help"], &["keys", "--help"], &["keys", "create", "--help"]]
    {
        let ran = Ran::to_end(keygate().args(arguments), "keygate").assert_code(0);
        assert!(ran.stdout.contains("Usage"), "{ran:?}");
    }
    let version = Ran::to_end(keygate().arg("--version"), "keygate").assert_code(0);
    assert!(version.stdout.contains(env!("CARGO_PKG_VERSION")), "{version:?}");
}

#[test]
fn a_reader_that_leaves_early_is_no_failure_of_ours() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    for _ in 0..20 {
        gateway.admin().create("live");
    }
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$KEYGATE\" keys list | head -n 1"]);
    shell.env("KEYGATE", crate::support::command::KEYGATE);
    shell.env("KEYGATE_ADMIN_URL", gateway.admin_url()).env("KEYGATE_ADMIN_TOKEN", TOKEN);
    let ran = Ran::to_end(&mut shell, "dash").assert_code(0);
    assert!(!ran.stderr.contains("panicked"), "{ran:?}");
}

#[test]
fn a_key_is_found_edited_and_told_of_at_the_command_line() {
    let upstream = Upstream::start();
    let gateway = Gateway::builder().live(&upstream).flush_every_ms(50).start();
    let key = gateway.admin().create("live");
    run(&gateway, &["keys", "create", "--label", "Staging", "--env", "live"]).assert_code(0);
    let found = |arguments: &[&str]| {
        let list = run(&gateway, &[&["keys", "list", "--json"], arguments].concat()).assert_code(0).json();
        rows(&list).iter().map(|row| row["label"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(found(&["--search", "PRODUCTION"]), ["Production Server"]);
    assert_eq!(found(&["--search", &key.id]), ["Production Server"]);
    assert_eq!(found(&["--sort", "label"]), ["Production Server", "Staging"]);
    assert_eq!(found(&["--sort", "label", "--order", "desc"]), ["Staging", "Production Server"]);
    assert_eq!(found(&["--status", "idle"]), Vec::<String>::new());
    gateway.use_key(&key.key).assert_forwarded();
    eventually("the use is written", PATIENCE, || found(&["--status", "never_used"]) == ["Staging"]);

    let edited =
        run(&gateway, &["keys", "edit", &key.id, "--label", "Checkout", "--expires", "3d", "--json"]);
    let edited = edited.assert_code(0).json();
    assert_eq!((&edited["label"], &edited["status"]), (&"Checkout".into(), &"active".into()));
    assert_eq!(found(&["--status", "expiring"]), ["Checkout"]);
    run(&gateway, &["keys", "edit", &key.id, "--expires", "never"]).assert_code(0);
    assert_eq!(gateway.admin().key(&key.id)["expires_at"], Value::Null);
    run(&gateway, &["keys", "edit", &key.id]).assert_code(64);
    run(&gateway, &["keys", "edit", &key.id, "--expires", "soon"]).assert_code(64);

    let shown = run(&gateway, &["keys", "show", &key.id]).assert_code(0).stdout;
    for words in
        ["day by day", "·█  1 since", "renamed from “Production Server” to “Checkout”", "expires: never"]
    {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let json = run(&gateway, &["keys", "show", &key.id, "--json"]).assert_code(0).json();
    assert_eq!(json["usage"]["days"][29]["uses"], 1);
    assert_eq!(json["history"].as_array().unwrap().len(), 4);
}
