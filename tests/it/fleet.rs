//! Several gateways on one Redis know the same.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::refusals::assert_refused;
use crate::support::wait::{PATIENCE, eventually};
use crate::support::{CreatedKey, Gateway, GatewayBuilder, RedisServer, Request, Upstream, keys};

/// How soon the other gateways know. They do so within milliseconds; this is for a machine that is busy.
const SOON: Duration = Duration::from_secs(1);

fn on(redis: &RedisServer, upstream: &Upstream) -> GatewayBuilder {
    Gateway::builder().redis(redis).live(upstream)
}

fn fleet() -> (RedisServer, Upstream, [Gateway; 2]) {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateways = [on(&redis, &upstream).start(), on(&redis, &upstream).start()];
    (redis, upstream, gateways)
}

#[test]
fn a_key_created_on_one_gateway_opens_on_every_gateway() {
    let (_redis, _upstream, gateways) = fleet();
    for maker in &gateways {
        let key = maker.live_key();
        for gateway in &gateways {
            gateway.use_key(&key).assert_forwarded();
        }
    }
}

#[test]
fn a_revoked_key_is_refused_on_every_gateway() {
    let (_redis, upstream, [first, second]) = fleet();
    for (revoker, other) in [(&first, &second), (&second, &first)] {
        let created = revoker.admin().create("live");
        revoker.use_key(&created.key).assert_forwarded();
        other.use_key(&created.key).assert_forwarded();

        revoker.admin().revoke(&created.id);
        assert_refused(&revoker.use_key(&created.key), "key_revoked");
        let mut answer = other.use_key(&created.key);
        eventually("the other gateway knows", SOON, || {
            answer = other.use_key(&created.key);
            answer.status != 200
        });
        assert_refused(&answer, "key_revoked");

        let count = upstream.count();
        for gateway in [revoker, other] {
            for _ in 0..5 {
                assert_refused(&gateway.use_key(&created.key), "key_revoked");
            }
        }
        assert_eq!(upstream.count(), count);
    }
}

#[test]
fn under_load_nothing_is_accepted_after_the_first_refusal() {
    let (_redis, _upstream, [revoker, other]) = fleet();
    for _ in 0..5 {
        let created = revoker.admin().create("live");
        let started = Barrier::new(9);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for client in 0..8 {
                let (gateway, created, started, done) =
                    (if client % 2 == 0 { &revoker } else { &other }, &created, &started, &done);
                scope.spawn(move || hammer(gateway, created, started, done));
            }
            started.wait();
            revoker.admin().revoke(&created.id);
            // Once the call has returned, the gateway that took it accepts nothing more.
            for _ in 0..20 {
                assert_refused(&revoker.use_key(&created.key), "key_revoked");
            }
            eventually("the other gateway knows", SOON, || other.use_key(&created.key).status == 401);
            done.store(true, Ordering::SeqCst);
        });
    }
}

/// Uses a key until `done`, and holds that a refusal is for ever.
fn hammer(gateway: &Gateway, created: &CreatedKey, started: &Barrier, done: &AtomicBool) {
    let mut connection = gateway.connect();
    let request = Request::get("/v1/wallets/wlt_1").key(&created.key);
    connection.ask(&request).assert_forwarded();
    started.wait();
    let mut refused = false;
    loop {
        let last = done.load(Ordering::SeqCst);
        let answer = connection.ask(&request);
        match answer.status {
            200 => assert!(!refused, "a dead key came back"),
            _ => {
                assert_refused(&answer, "key_revoked");
                refused = true;
            }
        }
        if last {
            assert!(refused);
            return;
        }
    }
}

#[test]
fn a_key_that_was_just_refused_as_unknown_opens_as_soon_as_it_exists() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    // Unknown keys are remembered for longer than the test lasts: only the event can help.
    let start = || on(&redis, &upstream).set("KEYGATE_CACHE__UNKNOWN_TTL_S", "60").start();
    let (first, second) = (start(), start());
    let door_opener = keys::foreign_live("the first import lets unchecked keys ask");
    first.admin().import(&keys::sha256_hex(door_opener.as_bytes()), "live");
    first.use_key(&door_opener).assert_forwarded();
    eventually("the other gateway lets unchecked keys ask", PATIENCE, || {
        second.use_key(&door_opener).status == 200
    });

    for name in ["one", "two", "three"] {
        let key = keys::foreign_live(name);
        for gateway in [&first, &second] {
            let reads = gateway.metrics().store_reads();
            assert_refused(&gateway.use_key(&key), "key_unknown");
            assert_refused(&gateway.use_key(&key), "key_unknown");
            assert_eq!(gateway.metrics().store_reads(), reads + 1.0, "it is remembered as unknown");
        }
        first.admin().import(&keys::sha256_hex(key.as_bytes()), "live");
        first.use_key(&key).assert_forwarded();
        eventually("the other gateway knows", SOON, || second.use_key(&key).status == 200);
    }
}

#[test]
fn a_thousand_first_uses_at_once_are_one_read_of_the_store() {
    const CLIENTS: usize = 1000;
    const THREADS: usize = 10;
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = on(&redis, &upstream)
        .set("KEYGATE_UPSTREAM__MAX_CONNECTIONS", "32")
        .set("KEYGATE_UPSTREAM__POOL_WAIT_MS", "30000")
        .start();
    let key = gateway.live_key();
    let hash = keys::sha256_hex(key.as_bytes());
    let before = gateway.metrics().store_reads();
    let monitor = redis.monitor();
    let ready = Barrier::new(THREADS + 1);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let request = Request::get("/v1/wallets/wlt_1").key(&key).to_bytes();
                let mut clients: Vec<_> = (0..CLIENTS / THREADS).map(|_| gateway.connect()).collect();
                ready.wait(); // everybody is connected
                ready.wait(); // Redis holds its answers back
                for client in &mut clients {
                    client.send(&request);
                }
                for client in &mut clients {
                    client.answer().assert_forwarded();
                }
            });
        }
        ready.wait();
        // Shorter than any deadline, and long enough for many to come while the first one waits.
        let _: String = redis.run(&["CLIENT", "PAUSE", "500", "ALL"]);
        ready.wait();
    });
    assert_eq!(upstream.count(), CLIENTS);
    assert_eq!(gateway.metrics().store_reads(), before + 1.0);
    let reads = monitor.lines_with(&hash);
    assert_eq!(reads.len(), 1, "{reads:#?}");
}

#[test]
fn a_cache_hit_asks_nobody() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = on(&redis, &upstream).start();
    let created = gateway.admin().create("live");
    gateway.use_key(&created.key).assert_forwarded();
    let monitor = redis.monitor();
    let reads = gateway.metrics().store_reads();
    for _ in 0..100 {
        gateway.use_key(&created.key).assert_forwarded();
    }
    assert_eq!(gateway.metrics().store_reads(), reads);
    assert_eq!(monitor.lines_with(&keys::sha256_hex(created.key.as_bytes())), [""; 0]);
}
