//! Clocks that are set by an hour, and a machine that was asleep.

use std::time::Duration;

use serde_json::json;

use crate::refusals::assert_refused;
use crate::support::wait::{PATIENCE, moment, rfc3339_in};
use crate::support::{CreatedKey, Faults, Fleet, Gateway, RedisServer, Upstream, eventually};

use super::watch::{Keys, Watch};
use super::{BUSY, RECOVERED, metric, short_lived};

const HOUR: i64 = 3600;

/// A key with an end.
fn ending_in(gateway: &Gateway, seconds: u64) -> CreatedKey {
    let end = rfc3339_in(Duration::from_secs(seconds));
    gateway.admin().create_with(json!({"label": "Contractor", "environment": "live", "expires_at": end}))
}

/// One gateway on a machine whose clocks are set, its Redis on another, and keys: one that has ended, one that ends in
/// half an hour, one without an end.
struct Scene {
    fleet: Fleet,
    machine: Faults,
    store: Faults,
    ended: CreatedKey,
    ending: CreatedKey,
    endless: CreatedKey,
}

impl Scene {
    fn set() -> Scene {
        let (machine, store) = (Faults::of_clocks(), Faults::of_clocks());
        let redis = RedisServer::start_with(&store);
        let fleet =
            Fleet::on(redis, Upstream::start(), 1, |_, builder| short_lived(builder, 6).faulty(&machine));
        let gateway = &fleet.gateways[0];
        let (ended, ending) = (ending_in(gateway, 1), ending_in(gateway, 1800));
        let endless = fleet.key_in_use();
        gateway.use_key(&ending.key).assert_forwarded();
        eventually("a key has ended", PATIENCE, || gateway.use_key(&ended.key).code() == "key_expired");
        Scene { fleet, machine, store, ended, ending, endless }
    }

    fn gateway(&self) -> &Gateway {
        &self.fleet.gateways[0]
    }

    /// Through a good part of a record's life, reloads included, all is as if nothing had happened.
    fn assert_nothing_changes(&self) {
        let end = moment() + Duration::from_secs(4);
        while moment() < end {
            assert_refused(&self.gateway().use_key(&self.ended.key), "key_expired");
            self.gateway().use_key(&self.ending.key).assert_forwarded();
            self.gateway().use_key(&self.endless.key).assert_forwarded();
            crate::support::wait::pause(Duration::from_millis(50));
        }
        // And changes work as ever.
        let created = self.fleet.key_in_use();
        self.gateway().admin().revoke(&created.id);
        assert_refused(&self.gateway().use_key(&created.key), "key_revoked");
    }

    /// Without its store a key in use is not trusted for longer than its six seconds, whatever clocks say.
    fn assert_no_life_is_extended(&mut self) {
        self.fleet.redis.kill();
        let killed = moment();
        let mut last = killed;
        eventually("what is known is not trusted any more", PATIENCE, || {
            let started = moment();
            let open = self.gateway().use_key(&self.endless.key).status == 200;
            if open {
                last = started;
            }
            assert_ne!(self.gateway().use_key(&self.ended.key).status, 200);
            !open
        });
        assert!(last - killed <= Duration::from_secs(6), "trusted for {:?}", last - killed);
    }
}

#[test]
fn a_machine_whose_clock_is_set_forward_by_an_hour_ends_and_revives_nothing() {
    machine_is_set(HOUR);
}

#[test]
fn a_machine_whose_clock_is_set_back_by_an_hour_ends_and_revives_nothing() {
    machine_is_set(-HOUR);
}

fn machine_is_set(seconds: i64) {
    let mut scene = Scene::set();
    scene.machine.set_wall_clock_ahead(seconds);
    scene.assert_nothing_changes();
    eventually("the step is told", PATIENCE, || {
        metric(scene.gateway(), "keygate_clock_steps_total", r#"clock="machine""#) >= 1.0
            && (metric(scene.gateway(), "keygate_clock_offset_seconds", "") - seconds as f64).abs() < 60.0
    });
    assert_eq!(metric(scene.gateway(), "keygate_clock_steps_total", r#"clock="store""#), 0.0);
    scene.assert_no_life_is_extended();
}

#[test]
fn a_store_whose_clock_is_set_forward_by_an_hour_ends_and_revives_nothing() {
    store_is_set(HOUR);
}

#[test]
fn a_store_whose_clock_is_set_back_by_an_hour_ends_and_revives_nothing() {
    store_is_set(-HOUR);
}

fn store_is_set(seconds: i64) {
    let mut scene = Scene::set();
    scene.store.set_wall_clock_ahead(seconds);
    scene.assert_nothing_changes();
    eventually("the step is told", PATIENCE, || {
        metric(scene.gateway(), "keygate_clock_steps_total", r#"clock="store""#) >= 1.0
    });
    assert_eq!(metric(scene.gateway(), "keygate_clock_steps_total", r#"clock="machine""#), 0.0);
    scene.assert_no_life_is_extended();
}

#[test]
fn a_machine_that_was_asleep_trusts_nothing_from_before() {
    let scene = Scene::set();
    let gateway = scene.gateway();
    scene.fleet.cables[0].go_dead();
    gateway.use_key(&scene.endless.key).assert_forwarded();
    scene.machine.sleep_for(HOUR);
    // An hour has passed, and nobody can be asked.
    for key in [&scene.endless.key, &scene.ending.key] {
        assert_refused(&gateway.use_key(key), "verification_unavailable");
    }
    assert_ne!(gateway.use_key(&scene.ended.key).status, 200);
    // It has passed on the store's clock too.
    scene.store.set_wall_clock_ahead(HOUR);
    scene.fleet.cables[0].come_alive();
    eventually("the endless key opens again", PATIENCE, || gateway.use_key(&scene.endless.key).status == 200);
    for ended in [&scene.ended, &scene.ending] {
        eventually("what has ended is refused", RECOVERED + BUSY, || {
            let answer = gateway.use_key(&ended.key);
            assert_ne!(answer.status, 200, "{answer:?}");
            answer.code() == "key_expired"
        });
    }
    assert_eq!(metric(gateway, "keygate_clock_steps_total", ""), 0.0, "sleep is no step");
}

#[test]
fn a_key_that_ended_stays_ended_when_an_embedded_gateway_starts_with_a_wrong_clock() {
    let (upstream, directory, machine) =
        (Upstream::start(), tempfile::tempdir().unwrap(), Faults::of_clocks());
    let start = || {
        let builder = Gateway::builder().sqlite(&directory.path().join("keys.sqlite"));
        builder.live(&upstream).faulty(&machine).start()
    };
    let mut gateway = start();
    let ended = ending_in(&gateway, 1);
    eventually("the key has ended", PATIENCE, || gateway.use_key(&ended.key).code() == "key_expired");
    assert!(gateway.terminate().success());

    machine.set_wall_clock_ahead(-HOUR);
    let gateway = start();
    assert_refused(&gateway.use_key(&ended.key), "key_expired");
    let next = ending_in(&gateway, 1800);
    gateway.use_key(&next.key).assert_forwarded();
    // What it wrote since is a mark that a kill does not take away.
    drop(gateway);
    machine.set_wall_clock_ahead(-2 * HOUR);
    assert_refused(&start().use_key(&ended.key), "key_expired");
}

#[test]
fn while_clocks_are_set_to_and_fro_keys_in_use_go_on() {
    let scene = Scene::set();
    let keys = Keys {
        in_use: vec![scene.endless.key.clone(), scene.ending.key.clone()],
        unused: (0..20).map(|_| scene.gateway().admin().create("live").key).collect(),
        dead: Vec::new(),
    };
    let watch = Watch::begin(&scene.fleet, &keys);
    for step in 0..12 {
        let seconds = if step % 2 == 0 { HOUR } else { -HOUR };
        let clock = if step % 3 == 0 { &scene.store } else { &scene.machine };
        clock.set_wall_clock_ahead(seconds);
        crate::support::wait::pause(Duration::from_millis(250));
    }
    watch.end().assert_nobody_was_wronged();
}
