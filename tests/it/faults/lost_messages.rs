//! What is published may get lost. What is written is not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::refusals::assert_refused;
use crate::support::proxy::Loss;
use crate::support::redis::shard_of;
use crate::support::wait::{Moment, PATIENCE, full, moment, pause};
use crate::support::{CreatedKey, Fleet, Gateway, RedisServer, eventually, keys};

use super::watch::{Keys, Watch};
use super::{BUSY, RECOVERED, measured, metric, unacknowledged};

/// Waits until this gateway has learned that the key is dead, which it could since `since`; says how long that took.
#[track_caller]
fn assert_recovers(gateway: &Gateway, key: &str, since: Moment, fault: &str) {
    let left = (since + RECOVERED + BUSY).saturating_sub(moment());
    eventually("the lost event takes effect", left, || {
        let answer = gateway.use_key(key);
        assert!(answer.status == 200 || answer.code() == "key_revoked", "{answer:?}");
        answer.status != 200
    });
    let took = (moment() - since).as_millis();
    measured(&format!("{fault}: recovered in {took} ms (required: 2000 ms)"));
    assert_refused(&gateway.use_key(key), "key_revoked");
}

#[test]
fn messages_that_are_lost_while_commands_pass_are_made_up_for() {
    let fleet = Fleet::of(2);
    let [teller, deaf] = [&fleet.gateways[0], &fleet.gateways[1]];
    for _ in 0..3 {
        let (dying, living) = (fleet.key_in_use(), fleet.key_in_use());
        let lost = fleet.cables[1].lost();
        fleet.cables[1].lose_messages(Loss::All);
        let told = moment();
        let revoked = teller.admin().revoke(&dying.id);
        assert_recovers(deaf, &dying.key, told, "messages lost while commands pass");
        assert!(fleet.cables[1].lost() > lost, "no message was lost: this shows nothing");
        // It reads the log often enough to answer for itself while the revoker waits.
        assert_eq!(unacknowledged(&revoked), [""; 0], "{revoked}");
        deaf.use_key(&living.key).assert_forwarded();
        fleet.cables[1].keep_messages();
    }
    assert_eq!(deaf.metrics().sum("keygate_feed_gaps_total", &[r#"reason="trimmed""#]), 0.0);
    assert_eq!(deaf.metrics().sum("keygate_feed_gaps_total", &[r#"reason="forked""#]), 0.0);
}

#[test]
fn a_key_that_was_made_while_messages_were_lost_opens_although_it_is_remembered_as_unknown() {
    let fleet = Fleet::with(2, |_, builder| builder.set("KEYGATE_CACHE__UNKNOWN_TTL_S", "60"));
    let [maker, deaf] = [&fleet.gateways[0], &fleet.gateways[1]];
    let opener = keys::foreign_live("the first import lets unchecked keys ask, also where messages get lost");
    maker.admin().import(&keys::sha256_hex(opener.as_bytes()), "live");
    eventually("unchecked keys may ask", PATIENCE, || deaf.use_key(&opener).status == 200);
    let late = keys::foreign_live("made while messages were lost");
    assert_refused(&deaf.use_key(&late), "key_unknown");
    fleet.cables[1].lose_messages(Loss::All);
    maker.admin().import(&keys::sha256_hex(late.as_bytes()), "live");
    eventually("the new key opens", RECOVERED + BUSY, || deaf.use_key(&late).status == 200);
}

#[test]
fn subscribers_that_are_thrown_out_again_and_again_lose_no_event() {
    let fleet = Fleet::of(2);
    let dying: Vec<CreatedKey> = (0..if full() { 30 } else { 6 }).map(|_| fleet.key_in_use()).collect();
    let keys = Keys { in_use: vec![fleet.key_in_use().key], ..Keys::default() };
    let watch = Watch::begin(&fleet, &keys);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (fleet, done) = (&fleet, &done);
        let killer = scope.spawn(move || {
            let mut killed = 0;
            while !done.load(Ordering::SeqCst) {
                killed += fleet.redis.kill_subscribers();
                pause(Duration::from_millis(30));
            }
            killed
        });
        for created in &dying {
            let told = moment();
            fleet.gateways[0].admin().revoke(&created.id);
            assert_recovers(&fleet.gateways[1], &created.key, told, "subscribers killed");
        }
        done.store(true, Ordering::SeqCst);
        assert!(killer.join().expect("killing does not fail") > 0, "nobody was thrown out");
    });
    let report = watch.end();
    report.assert_nobody_was_wronged();
}

/// The connections that are subscribed, by the number that Redis gave them.
fn subscribers(redis: &RedisServer) -> Vec<String> {
    let list: String = redis.run(&["CLIENT", "LIST", "TYPE", "pubsub"]);
    list.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn a_subscriber_that_reads_too_slowly_and_is_thrown_out_loses_no_event() {
    let fleet = Fleet::of(2);
    let [teller, slow] = [&fleet.gateways[0], &fleet.gateways[1]];
    let (dying, living) = (fleet.key_in_use(), fleet.key_in_use());
    let limit = "pubsub 1048576 1048576 1";
    let _: String = fleet.redis.run(&["CONFIG", "SET", "client-output-buffer-limit", limit]);
    let before = subscribers(&fleet.redis);
    assert_eq!(before.len(), 2);
    slow.freeze();
    // A hint that changes nothing, much longer than any of ours; what it has besides is for a later version.
    let hint = json!({"kind": "fleet", "hash": "0".repeat(64), "at": "2026-01-01T00:00:00Z", "ballast": "x".repeat(100_000)});
    let hint = hint.to_string();
    eventually("the slow one is thrown out", PATIENCE, || {
        for _ in 0..20 {
            let _: i64 = fleet.redis.run(&["PUBLISH", "keygate:events", &hint]);
        }
        subscribers(&fleet.redis).iter().filter(|id| before.contains(id)).count() == 1
    });
    teller.admin().revoke(&dying.id);
    assert_refused(&teller.use_key(&dying.key), "key_revoked");
    slow.thaw();
    assert_recovers(slow, &dying.key, moment(), "output buffer overrun");
    fleet.use_everywhere(&living.key);
}

#[test]
fn a_log_that_was_trimmed_while_a_gateway_was_away_hides_nothing() {
    let fleet = Fleet::with(2, |_, builder| builder.set("KEYGATE_REVOCATION__RECEIPT_TIMEOUT_MS", "300"));
    let [teller, away] = [&fleet.gateways[0], &fleet.gateways[1]];
    let (dying, living) = (fleet.key_in_use(), fleet.key_in_use());
    let its_id = away.admin().gateway_id();
    away.freeze();
    // Not even what was published waits for it.
    fleet.redis.kill_subscribers();
    let revoked = teller.admin().revoke(&dying.id);
    assert_eq!(unacknowledged(&revoked), [its_id], "{revoked}");
    fleet.redis.trim_log_of(&dying.key);
    let log = format!("keygate:{{{}}}:log", shard_of(&dying.key));
    assert_eq!(fleet.redis.run::<u64>(&["XLEN", &log]), 0);
    away.thaw();
    assert_recovers(away, &dying.key, moment(), "log trimmed while a gateway was away");
    assert!(metric(away, "keygate_feed_gaps_total", r#"reason="trimmed""#) >= 1.0);
    fleet.use_everywhere(&living.key);
    // The log goes on from where it was cut.
    let next = fleet.key_in_use();
    teller.admin().revoke(&next.id);
    fleet.assert_refused_everywhere(&next.key, RECOVERED + BUSY);
}
