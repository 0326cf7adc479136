//! What holds on either store, from end to end.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::refusals::assert_refused;
use crate::support::wait::PATIENCE;
use crate::support::{Gateway, GatewayBuilder, RedisServer, Request, Upstream, eventually, keys};

/// A place where keys are kept that outlives the gateway.
pub enum Store {
    Sqlite(TempDir),
    Redis(RedisServer),
}

impl Store {
    /// All that is kept, as bytes.
    pub fn content(&self) -> Vec<u8> {
        match self {
            // As it is written to disk, without compression.
            Store::Redis(server) => {
                let _: String = server.run(&["CONFIG", "SET", "rdbcompression", "no"]);
                let _: String = server.run(&["SAVE"]);
                let files = std::fs::read_dir(server.directory()).expect("the directory is ours");
                files.filter_map(|file| std::fs::read(file.unwrap().path()).ok()).flatten().collect()
            }
            Store::Sqlite(directory) => {
                let files = std::fs::read_dir(directory.path()).expect("the directory is ours");
                files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
            }
        }
    }

    pub fn sqlite() -> Store {
        Store::Sqlite(tempfile::tempdir().expect("a directory can be made"))
    }

    pub fn redis() -> Store {
        Store::Redis(RedisServer::start())
    }

    pub fn builder(&self) -> GatewayBuilder {
        match self {
            Store::Sqlite(directory) => Gateway::builder().sqlite(&directory.path().join("keys.sqlite")),
            Store::Redis(server) => Gateway::builder().redis(server),
        }
    }
}

/// Every promise becomes a test on each store.
macro_rules! on_both_stores {
    ($($promise:ident)*) => {
        mod sqlite {
            $(#[test] fn $promise() { super::$promise(&$crate::stores::Store::sqlite()); })*
        }
        mod redis {
            $(#[test] fn $promise() { super::$promise(&$crate::stores::Store::redis()); })*
        }
    };
}

pub(crate) use on_both_stores;

on_both_stores! {
    a_created_key_opens_at_once
    a_revoked_key_is_dead_at_once_and_for_ever
    a_key_is_revoked_by_itself_where_its_id_is_not_known
    keys_survive_a_restart_and_the_key_itself_is_nowhere
    a_key_is_shown_once
    the_list_shows_every_key_once_newest_first
    an_imported_key_opens
    a_revoked_key_stays_dead_when_it_is_imported_again
    a_killed_gateway_has_lost_no_key_and_no_revocation
    last_use_survives_a_restart
}

fn a_created_key_opens_at_once(store: &Store) {
    let upstream = Upstream::start();
    let gateway = store.builder().live(&upstream).start();
    for _ in 0..20 {
        gateway.use_key(&gateway.live_key()).assert_forwarded();
    }
}

fn a_revoked_key_is_dead_at_once_and_for_ever(store: &Store) {
    let upstream = Upstream::start();
    let mut gateway = store.builder().live(&upstream).start();
    let created = gateway.admin().create("live");
    for cached in [false, true] {
        let fresh = gateway.admin().create("live");
        if cached {
            gateway.use_key(&fresh.key).assert_forwarded();
        }
        let revoked = gateway.admin().revoke(&fresh.id);
        assert_eq!(revoked["status"], "revoked", "{revoked}");
        assert_refused(&gateway.use_key(&fresh.key), "key_revoked");
    }
    let first = gateway.admin().revoke(&created.id);
    let again = gateway.admin().revoke(&created.id);
    assert!(first["revoked_at"].is_string());
    assert_eq!(first["revoked_at"], again["revoked_at"], "the first moment stands");
    gateway.terminate();
    let gateway = store.builder().live(&upstream).start();
    assert_refused(&gateway.use_key(&created.key), "key_revoked");
    assert_eq!(gateway.admin().key(&created.id)["revoked_at"], first["revoked_at"]);
}

fn a_key_is_revoked_by_itself_where_its_id_is_not_known(store: &Store) {
    let upstream = Upstream::start();
    let gateway = store.builder().live(&upstream).start();
    let created = gateway.admin().create("live");
    gateway.use_key(&created.key).assert_forwarded();
    let answer = gateway.admin().post("/v1/keys/revoke", &json!({"key": created.key}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(keys::trace_in(&answer.body, &created.key), None, "{}", answer.text());
    assert_refused(&gateway.use_key(&created.key), "key_revoked");
    assert_eq!(gateway.admin().key(&created.id)["status"], "revoked");
}

fn keys_survive_a_restart_and_the_key_itself_is_nowhere(store: &Store) {
    let upstream = Upstream::start();
    let mut gateway = store.builder().live(&upstream).start();
    let created = gateway.admin().create("live");
    assert!(gateway.terminate().success());
    let gateway = store.builder().live(&upstream).start();
    gateway.use_key(&created.key).assert_forwarded();
    // A key made before and one made after carry the same fleet's check.
    gateway.use_key(&gateway.live_key()).assert_forwarded();
    assert_refused(&gateway.use_key(&keys::mistyped(&created.key)), "key_unknown");
}

fn a_key_is_shown_once(store: &Store) {
    let upstream = Upstream::start();
    let gateway = store.builder().live(&upstream).start();
    let created = gateway.admin().create("live");
    let key = &created.key;
    assert!(
        key.len() == 72 && key[8..].bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
        "{key}"
    );
    let display = format!("{}…{}", &key[..12], &key[68..]);
    assert_eq!(created.json["display"], display.as_str());
    let shown = gateway.admin().key(&created.id);
    let members = [
        ("id", json!(created.id)),
        ("label", json!("Production Server")),
        ("team", json!("acme")),
        ("environment", json!("live")),
        ("display", json!(display)),
        ("status", json!("active")),
        ("expires_at", Value::Null),
        ("revoked_at", Value::Null),
        ("last_used_at", Value::Null),
    ];
    for (member, value) in members {
        assert_eq!(shown[member], value, "{member}: {shown}");
    }
    assert!(shown["created_at"].as_str().is_some_and(|time| time.ends_with('Z')), "{shown}");
    assert!(shown.get("key").is_none(), "{shown}");
    let list = gateway.admin().get("/v1/keys");
    assert_eq!(list.status, 200);
    assert_eq!(keys::trace_in(&list.body, key), None);
}

fn the_list_shows_every_key_once_newest_first(store: &Store) {
    let upstream = Upstream::start();
    let gateway = store.builder().live(&upstream).start();
    let admin = gateway.admin();
    let mut made = Vec::new();
    for i in 0..25 {
        let environment = if i % 5 == 0 { "sandbox" } else { "live" };
        let team = if i % 2 == 0 { "acme" } else { "umbrella" };
        let label = format!("Server \"{i}\" — ünï\u{1F511}");
        made.push(admin.create_with(json!({"label": label, "environment": environment, "team": team})).id);
    }
    admin.revoke(&made[3]);

    let listed = |filter: &str| {
        let (mut ids, mut dates, mut cursor) = (Vec::new(), Vec::new(), String::new());
        loop {
            let page = admin.get(&format!("/v1/keys?limit=4{filter}{cursor}"));
            assert_eq!(page.status, 200, "{}", page.text());
            let page = page.json();
            let rows = page["data"].as_array().expect("a page has data");
            assert!(rows.len() <= 4);
            ids.extend(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
            dates.extend(rows.iter().map(|row| row["created_at"].as_str().unwrap().to_owned()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert!(dates.is_sorted_by(|earlier, later| earlier >= later), "{dates:?}");
        ids.sort();
        ids
    };
    let expected = |wanted: &dyn Fn(usize) -> bool| {
        let mut ids: Vec<_> = (0..25).filter(|&i| wanted(i)).map(|i| made[i].clone()).collect();
        ids.sort();
        ids
    };
    assert_eq!(listed(""), expected(&|_| true));
    assert_eq!(listed("&team=acme"), expected(&|i| i % 2 == 0));
    assert_eq!(listed("&environment=sandbox"), expected(&|i| i % 5 == 0));
    assert_eq!(listed("&status=revoked"), expected(&|i| i == 3));
    assert_eq!(listed("&status=active&team=umbrella"), expected(&|i| i % 2 == 1 && i != 3));
}

fn an_imported_key_opens(store: &Store) {
    let upstream = Upstream::start();
    let gateway = store.builder().live(&upstream).start();
    let key = foreign(store, "imported");
    assert_refused(&gateway.use_key(&key), "key_unknown");
    gateway.admin().import(&keys::sha256_hex(key.as_bytes()), "live");
    gateway.use_key(&key).assert_forwarded();
    // Keys with a check still open, and others still do not.
    gateway.use_key(&gateway.live_key()).assert_forwarded();
    assert_refused(&gateway.use_key(&foreign(store, "another")), "key_unknown");
}

fn a_revoked_key_stays_dead_when_it_is_imported_again(store: &Store) {
    let upstream = Upstream::start();
    let gateway = store.builder().live(&upstream).start();
    let key = foreign(store, "revoked");
    gateway.admin().import(&keys::sha256_hex(key.as_bytes()), "live");
    gateway.use_key(&key).assert_forwarded();
    assert_eq!(gateway.admin().post("/v1/keys/revoke", &json!({"key": key})).status, 200);
    assert_refused(&gateway.use_key(&key), "key_revoked");
    gateway.admin().import(&keys::sha256_hex(key.as_bytes()), "live");
    assert_refused(&gateway.use_key(&key), "key_revoked");
}

fn a_killed_gateway_has_lost_no_key_and_no_revocation(store: &Store) {
    let upstream = Upstream::start();
    let gateway = store.builder().live(&upstream).start();
    let kept: Vec<_> = (0..10).map(|_| gateway.admin().create("live")).collect();
    let revoked: Vec<_> = (0..10).map(|_| gateway.admin().create("live")).collect();
    for created in &revoked {
        gateway.admin().revoke(&created.id);
    }
    drop(gateway); // by SIGKILL
    let gateway = store.builder().live(&upstream).start();
    for created in &kept {
        gateway.use_key(&created.key).assert_forwarded();
    }
    for created in &revoked {
        assert_refused(&gateway.use_key(&created.key), "key_revoked");
    }
}

fn last_use_survives_a_restart(store: &Store) {
    let upstream = Upstream::start();
    let mut gateway = store.builder().live(&upstream).flush_every_ms(50).start();
    let created = gateway.admin().create("live");
    gateway.ask(&Request::get("/").key(&created.key)).assert_forwarded();
    eventually("the use is written", PATIENCE, || gateway.admin().last_used(&created.id).is_some());
    let before = gateway.admin().last_used(&created.id);
    gateway.terminate();
    let gateway = store.builder().live(&upstream).start();
    assert_eq!(gateway.admin().last_used(&created.id), before);
}

/// A key that keygate did not make; its own for each store, so that its shard differs.
fn foreign(store: &Store, name: &str) -> String {
    let store = match store {
        Store::Sqlite(_) => "sqlite",
        Store::Redis(_) => "redis",
    };
    keys::foreign_live(&format!("{name} on {store}"))
}
