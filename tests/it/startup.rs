//! Starting: what is wrong is named, and what will come is waited for.

use std::net::TcpListener;

use crate::support::redis::unused_port;
use crate::support::wait::{PATIENCE, eventually};
use crate::support::{Gateway, GatewayBuilder, Ran, RedisServer, Upstream};

/// `EX_USAGE`: what was asked for cannot be done.
const USAGE: i32 = 64;
/// `EX_UNAVAILABLE`: what is needed is not there.
const UNAVAILABLE: i32 = 69;

/// Settings with which it would start.
fn builder() -> GatewayBuilder {
    Gateway::builder().set("KEYGATE_UPSTREAM_LIVE", &format!("http://127.0.0.1:{}", unused_port()))
}

#[track_caller]
fn assert_refuses_to_start(builder: &GatewayBuilder, code: i32, words: &[&str]) {
    Ran::to_end(&mut builder.command("serve"), "keygate").assert_code(code).assert_says(words);
}

#[test]
fn a_wrong_value_is_named_with_its_field_and_where_it_came_from() {
    for (name, value, field) in [
        ("KEYGATE_WORKERS", "many", "workers"),
        ("KEYGATE_LISTEN", "nowhere", "listen"),
        ("KEYGATE_STORE", "mysql://127.0.0.1", "store"),
        ("KEYGATE_UPSTREAM_LIVE", "ftp://127.0.0.1", "upstream_live"),
        ("KEYGATE_UPSTREAM_LIVE", "http://127.0.0.1:1/path", "upstream_live"),
        ("KEYGATE_CACHE__TTL_S", "301", "ttl_s"),
        ("KEYGATE_TIMEOUTS__BODY_IDLE_MS", "-1", "body_idle_ms"),
        ("KEYGATE_LOG__FORMAT", "xml", "format"),
    ] {
        assert_refuses_to_start(&builder().set(name, value), USAGE, &[name, field]);
    }
}

#[test]
fn a_setting_that_does_not_exist_is_named() {
    assert_refuses_to_start(&builder().set("KEYGATE_WORKRES", "2"), USAGE, &["KEYGATE_WORKRES"]);
    assert_refuses_to_start(&builder().set("KEYGATE_CACHE__SIZE", "2"), USAGE, &["KEYGATE_CACHE__SIZE"]);
    let mut builder = builder();
    let file = builder.file("keygate.toml", "workers = 2\n\n[cache]\nttl_seconds = 10\n");
    builder = builder.flag("--config").flag(&file.display().to_string());
    assert_refuses_to_start(&builder, USAGE, &["keygate.toml", "ttl_seconds"]);
}

#[test]
fn every_problem_is_named_at_once() {
    let builder =
        builder().set("KEYGATE_CACHE__TTL_S", "301").set("KEYGATE_UPSTREAM_LIVE", "ftp://127.0.0.1");
    assert_refuses_to_start(&builder, USAGE, &["KEYGATE_CACHE__TTL_S", "KEYGATE_UPSTREAM_LIVE"]);
}

#[test]
fn a_value_in_a_file_counts_less_than_one_in_the_environment_and_a_flag_counts_most() {
    let upstream = Upstream::start();
    let mut builder = Gateway::builder();
    let content = "workers = 0\nupstream_live = \"http://127.0.0.1:1\"\n\n[limits]\nmax_body_bytes = 10\n";
    let file = builder.file("keygate.toml", content);
    builder = builder.flag("--config").flag(&file.display().to_string());
    builder = builder.flag("--upstream-live").flag(&upstream.url());
    let gateway = builder.set("KEYGATE_LIMITS__MAX_BODY_BYTES", "20").start();
    let key = gateway.live_key();
    let post = |length| crate::support::Request::post("/", vec![b'x'; length]).key(&key);
    gateway.ask(&post(20)).assert_forwarded();
    assert_eq!(gateway.ask(&post(21)).status, 413);
}

#[test]
fn a_file_that_is_not_there_or_not_toml_is_named() {
    let missing = builder().flag("--config").flag("no-such-file.toml");
    assert_refuses_to_start(&missing, USAGE, &["no-such-file.toml"]);
    let builder = builder();
    let file = builder.file("broken.toml", "workers = 2\nlisten = \n");
    let builder = builder.flag("--config").flag(&file.display().to_string());
    assert_refuses_to_start(&builder, USAGE, &["broken.toml", "2"]);
}

#[test]
fn without_a_token_there_is_no_admin_listener() {
    assert_refuses_to_start(&builder().unset("KEYGATE_ADMIN_TOKEN"), USAGE, &["admin_token"]);
    assert_refuses_to_start(&builder().set("KEYGATE_ADMIN_TOKEN", "short"), USAGE, &["admin_token"]);
}

#[test]
fn a_token_that_is_refused_is_not_repeated() {
    let ran = Ran::to_end(&mut builder().set("KEYGATE_ADMIN_TOKEN", "hush-hush").command("serve"), "keygate");
    assert!(!ran.stderr.contains("hush-hush") && !ran.stdout.contains("hush-hush"), "{ran:?}");
}

#[test]
fn a_listener_beyond_loopback_needs_tls_or_somebody_who_ends_it() {
    for (name, field) in [("KEYGATE_LISTEN", "`listen`"), ("KEYGATE_ADMIN_LISTEN", "`admin_listen`")] {
        let open = builder().set(name, "0.0.0.0:0");
        assert_refuses_to_start(&open, USAGE, &[field, "in the clear", "tls.certificate", "behind_tls"]);
        Ran::to_end(&mut open.flag("--behind-tls").command("check"), "keygate").assert_code(0);
    }
    let open = builder().set("KEYGATE_OBSERVE_LISTEN", "0.0.0.0:0");
    Ran::to_end(&mut open.command("check"), "keygate").assert_code(0);
}

#[test]
fn without_an_upstream_it_does_not_start() {
    assert_refuses_to_start(&builder().unset("KEYGATE_UPSTREAM_LIVE"), USAGE, &["upstream"]);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for name in ["KEYGATE_LISTEN", "KEYGATE_ADMIN_LISTEN"] {
        assert_refuses_to_start(&builder().set(name, &address), UNAVAILABLE, &[&address]);
    }
}

#[test]
fn a_store_that_is_not_there_ends_it_only_if_asked_to_fail_fast() {
    let store = format!("redis://127.0.0.1:{}", unused_port());
    let builder = builder().set("KEYGATE_STORE", &store).flag("--fail-fast");
    assert_refuses_to_start(&builder, UNAVAILABLE, &["store", &store["redis://".len()..]]);
}

#[test]
fn the_password_of_a_store_is_not_repeated() {
    let store = format!("redis://keygate:hush-hush@127.0.0.1:{}", unused_port());
    let builder =
        builder().set("KEYGATE_STORE", &store).set("KEYGATE_LOG__FILTER", "trace").flag("--fail-fast");
    let ran = Ran::to_end(&mut builder.command("serve"), "keygate").assert_code(UNAVAILABLE);
    assert!(!ran.stderr.contains("hush-hush") && !ran.stdout.contains("hush-hush"), "{ran:?}");
}

#[test]
fn a_redis_that_comes_later_is_waited_for() {
    let mut redis = RedisServer::not_yet_started();
    let upstream = Upstream::start();
    let gateway = Gateway::builder().redis(&redis).live(&upstream).start_unready();
    eventually("probes are answered", PATIENCE, || gateway.admin().readyz() == Some(503));
    assert_eq!(gateway.admin().get("/livez").status, 200);
    redis.start_again();
    gateway.wait_until_ready();
    gateway.use_key(&gateway.live_key()).assert_forwarded();
}

#[test]
fn a_second_process_on_one_sqlite_file_is_refused() {
    let upstream = Upstream::start();
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("keys.sqlite");
    let first = Gateway::builder().sqlite(&store).live(&upstream).start();
    let second = Gateway::builder().sqlite(&store).live(&upstream).flag("--fail-fast");
    assert_refuses_to_start(&second, UNAVAILABLE, &["keys.sqlite", "in use"]);
    drop(first); // by SIGKILL: the lock goes with it
    Gateway::builder().sqlite(&store).live(&upstream).start();
}

#[test]
fn check_says_whether_it_would_start() {
    Ran::to_end(&mut builder().command("check"), "keygate").assert_code(0);
    let wrong = builder().set("KEYGATE_WORKERS", "many");
    Ran::to_end(&mut wrong.command("check"), "keygate").assert_code(USAGE).assert_says(&["workers"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = builder().set("KEYGATE_LISTEN", &taken.local_addr().unwrap().to_string());
    assert_eq!(Ran::to_end(&mut busy.command("check"), "keygate").code, Some(UNAVAILABLE));
    let gone = builder().set("KEYGATE_STORE", &format!("redis://127.0.0.1:{}", unused_port()));
    assert_eq!(Ran::to_end(&mut gone.command("check"), "keygate").code, Some(UNAVAILABLE));
}
