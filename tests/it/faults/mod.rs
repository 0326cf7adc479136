//! Every fault that we know of, each with what must hold through it.
//!
//! A revoked key stays dead, a living key is never called unknown, keys in use go on, whoever has to ask is told at
//! once that nobody can say, and when the fault is over nothing has to be restarted. Lifetimes are scaled down, so that
//! a fault that matters after minutes matters after seconds here.

mod clocks;
mod disk;
mod frozen_gateway;
mod lost_messages;
mod other_store;
mod outage;
mod past_store;
mod watch;

use std::time::Duration;

use serde_json::Value;

use crate::support::wait::{PATIENCE, full, moment, wait_until};
use crate::support::{CreatedKey, Fleet, Gateway, GatewayBuilder, RedisServer, Upstream, eventually};

use watch::{Keys, Watch};

/// Whoever has to ask while the store is away is refused after no longer than this.
const REFUSED_IN: Duration = Duration::from_millis(600);
/// What was not remembered opens again no later after the store is back.
const BACK: Duration = Duration::from_secs(2);
/// An event that a gateway was not told takes effect there no later after it could have read of it.
const RECOVERED: Duration = Duration::from_secs(2);
/// A store that answers, but must not be used any more, is found out no later.
const NOTICED: Duration = Duration::from_secs(2);
/// What a machine may add to any of these that is busy with other tests.
const BUSY: Duration = Duration::from_secs(2);

/// Settings under which a record serves for `ttl_s` seconds and not longer.
fn short_lived(builder: GatewayBuilder, ttl_s: u64) -> GatewayBuilder {
    builder
        .set("KEYGATE_CACHE__TTL_S", &ttl_s.to_string())
        .set("KEYGATE_CACHE__MAX_STALENESS_S", &ttl_s.to_string())
        .set("KEYGATE_LOOKUP__TIMEOUT_MS", "300")
}

/// Two gateways, and keys that live, keys that were never used, and one that is dead.
struct Scene {
    fleet: Fleet,
    keys: Keys,
    lasts: Duration,
}

impl Scene {
    /// For faults that last some seconds.
    fn set() -> Scene {
        Scene::for_a_fault_of(if full() { 13 } else { 3 })
    }

    /// Records serve for so long that the fault and the time to come back from it are half of that: what is refreshed
    /// at half its life survives.
    fn for_a_fault_of(seconds: u64) -> Scene {
        let ttl_s = 2 * (seconds + BACK.as_secs());
        Scene::with(seconds, |_, builder| short_lived(builder, ttl_s))
    }

    fn with(seconds: u64, settings: impl Fn(usize, GatewayBuilder) -> GatewayBuilder) -> Scene {
        Scene::on(RedisServer::start(), seconds, settings)
    }

    fn on(
        redis: RedisServer,
        seconds: u64,
        settings: impl Fn(usize, GatewayBuilder) -> GatewayBuilder,
    ) -> Scene {
        let fleet = Fleet::on(redis, Upstream::start(), 2, settings);
        let admin = fleet.gateways[0].admin();
        let dead = fleet.key_in_use();
        let keys = Keys {
            in_use: (0..3).map(|_| fleet.key_in_use().key).collect(),
            // One for each time that it is tried while all is well.
            unused: (0..40).map(|_| admin.create("live").key).collect(),
            dead: vec![dead.key.clone()],
        };
        admin.revoke(&dead.id);
        fleet.assert_refused_everywhere(&dead.key, RECOVERED + BUSY);
        Scene { fleet, keys, lasts: Duration::from_secs(seconds) }
    }

    /// Goes through an outage of the store: `broken` begins it, and `mended` ends it with what `broken` kept.
    fn endure<K>(
        &mut self,
        fault: &str,
        broken: impl FnOnce(&mut Fleet) -> K,
        mended: impl FnOnce(&mut Fleet, K),
    ) {
        self.go_through(fault, false, broken, mended);
    }

    /// As `endure`, for what goes on answering as if all were well: gateways find it out within a second or two.
    fn endure_once_it_is_noticed<K>(
        &mut self,
        fault: &str,
        broken: impl FnOnce(&mut Fleet) -> K,
        mended: impl FnOnce(&mut Fleet, K),
    ) {
        self.go_through(fault, true, broken, mended);
    }

    fn go_through<K>(
        &mut self,
        fault: &str,
        takes_time: bool,
        broken: impl FnOnce(&mut Fleet) -> K,
        mended: impl FnOnce(&mut Fleet, K),
    ) {
        let watch = Watch::begin(&self.fleet, &self.keys);
        let kept = broken(&mut self.fleet);
        let mut from = moment();
        if takes_time {
            watch.wait_until_unused_keys_are_refused(from, NOTICED + BUSY);
            from = moment();
        }
        wait_until(from + self.lasts);
        let until = moment();
        mended(&mut self.fleet, kept);
        let back = watch.wait_until_unused_keys_open(moment(), BACK + BUSY);
        self.assert_life_goes_on();
        let report = watch.end();
        report.tell(fault, from, until, back);
        report.assert_unused_keys_were_503(from, until);
        report.assert_nobody_was_wronged();
    }

    /// Keys are made, used and revoked, on every gateway, by the same processes as before.
    fn assert_life_goes_on(&mut self) {
        let created = eventually_created(&self.fleet.gateways[1]);
        for gateway in &self.fleet.gateways {
            eventually("a new key opens", BACK + BUSY, || gateway.use_key(&created.key).status == 200);
        }
        self.fleet.gateways[0].admin().revoke(&created.id);
        self.fleet.assert_refused_everywhere(&created.key, RECOVERED + BUSY);
    }
}

/// A key, made as soon as the store takes one.
fn eventually_created(gateway: &Gateway) -> CreatedKey {
    let body = serde_json::json!({"label": "After", "environment": "live", "team": "acme"});
    let mut created = None;
    eventually("keys can be made", PATIENCE, || {
        let answer = gateway.admin().post("/v1/keys", &body);
        created = (answer.status == 201).then(|| CreatedKey::of(&answer));
        created.is_some()
    });
    created.expect("it was made")
}

/// A metric of one gateway, over all its labels that have `label`.
fn metric(gateway: &Gateway, name: &str, label: &str) -> f64 {
    gateway.metrics().sum(name, &[label])
}

/// Keeps one line of what was measured, for the table of faults: in the output, and in a file beside the build.
fn measured(line: &str) {
    eprintln!("measured: {line}");
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("measured.txt");
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    let written =
        file.and_then(|mut file| std::io::Write::write_all(&mut file, format!("{line}\n").as_bytes()));
    written.expect("the folder is ours");
}

/// The ids of those whom a receipt names as not heard from.
fn unacknowledged(revoked: &Value) -> Vec<String> {
    let names = revoked["revocation"]["unacknowledged"].as_array().expect("a receipt names them");
    names.iter().map(|line| line["id"].as_str().expect("each has an id").to_owned()).collect()
}
