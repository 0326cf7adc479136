//! Last used: there after a flush, there after an orderly end, and never going backwards.

use std::thread;

use crate::refusals::assert_refused;
use crate::support::wait::{PATIENCE, eventually, happened_since, moment};
use crate::support::{Gateway, RedisServer, Request, Upstream};

#[test]
fn a_use_is_seen_after_a_flush_and_a_key_that_was_not_used_shows_none() {
    let upstream = Upstream::start();
    let gateway = Gateway::builder().live(&upstream).flush_every_ms(50).start();
    let (used, unused) = (gateway.admin().create("live"), gateway.admin().create("live"));
    assert_eq!(gateway.admin().last_used(&used.id), None);
    let before = moment();
    gateway.use_key(&used.key).assert_forwarded();
    eventually("the use is written", PATIENCE, || gateway.admin().last_used(&used.id).is_some());
    let last_used = gateway.admin().last_used(&used.id).unwrap();
    assert!(happened_since(before, &last_used), "{last_used}");
    assert_eq!(gateway.admin().last_used(&unused.id), None);
}

#[test]
fn a_refused_request_is_no_use() {
    let upstream = Upstream::start();
    let gateway = Gateway::builder().live(&upstream).flush_every_ms(50).start();
    let (revoked, used) = (gateway.admin().create("live"), gateway.admin().create("live"));
    gateway.admin().revoke(&revoked.id);
    assert_refused(&gateway.use_key(&revoked.key), "key_revoked");
    let sandbox = gateway.admin().create("sandbox");
    assert_refused(&gateway.use_key(&sandbox.key), "environment_mismatch");
    // A use that came later is written: theirs would have been too.
    gateway.use_key(&used.key).assert_forwarded();
    eventually("the use is written", PATIENCE, || gateway.admin().last_used(&used.id).is_some());
    assert_eq!(gateway.admin().last_used(&revoked.id), None);
    assert_eq!(gateway.admin().last_used(&sandbox.id), None);
}

#[test]
fn an_orderly_end_writes_what_was_used() {
    let upstream = Upstream::start();
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("keys.sqlite");
    let mut gateway = Gateway::builder().sqlite(&store).live(&upstream).flush_every_ms(3_600_000).start();
    let created = gateway.admin().create("live");
    gateway.use_key(&created.key).assert_forwarded();
    assert!(gateway.terminate().success());
    let gateway = Gateway::builder().sqlite(&store).live(&upstream).start();
    assert!(gateway.admin().last_used(&created.id).is_some());
}

#[test]
fn last_used_never_goes_backwards_whoever_writes_it() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let start = |flush| Gateway::builder().redis(&redis).live(&upstream).flush_every_ms(flush).start();
    let (quick, slow) = (start(20), start(300));
    let created = quick.admin().create("live");
    let mut seen = Vec::new();
    for round in 0..40 {
        // The slow gateway's uses are older than what the quick one has written when they are written.
        let gateway = if round % 2 == 0 { &slow } else { &quick };
        gateway.use_key(&created.key).assert_forwarded();
        seen.extend(quick.admin().last_used(&created.id));
    }
    eventually("both have written", PATIENCE, || {
        seen.extend(slow.admin().last_used(&created.id));
        [&quick, &slow].iter().all(|gateway| gateway.metrics().sum("keygate_usage_pending", &[]) == 0.0)
    });
    assert!(!seen.is_empty());
    assert!(seen.is_sorted(), "{seen:?}");
}

#[test]
fn uses_that_redis_could_not_take_are_written_later() {
    let (mut redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = Gateway::builder().redis(&redis).live(&upstream).flush_every_ms(50).start();
    let (first, second) = (gateway.admin().create("live"), gateway.admin().create("live"));
    gateway.use_key(&first.key).assert_forwarded();
    gateway.use_key(&second.key).assert_forwarded();
    eventually("the uses are written", PATIENCE, || gateway.admin().last_used(&second.id).is_some());
    let before = gateway.admin().last_used(&second.id).unwrap();
    redis.kill();
    gateway.use_key(&second.key).assert_forwarded();
    redis.start_again();
    eventually("the use during the outage is written", PATIENCE, || {
        let answer = gateway.admin().get(&format!("/v1/keys/{}", second.id));
        answer.status == 200
            && answer.json()["last_used_at"].as_str().is_some_and(|date| date > before.as_str())
    });
}

#[test]
fn every_use_counts_once() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = Gateway::builder().redis(&redis).live(&upstream).flush_every_ms(20).start();
    let created = gateway.admin().create("live");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut connection = gateway.connect();
                for _ in 0..50 {
                    connection.ask(&Request::get("/").key(&created.key)).assert_forwarded();
                }
            });
        }
    });
    eventually("all uses are written", PATIENCE, || {
        let uses = gateway.admin().key(&created.id)["uses"].as_u64().expect("uses are counted");
        assert!(uses <= 200, "{uses} uses of 200 requests");
        uses == 200
    });
}
