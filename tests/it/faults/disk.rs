//! The embedded store on a disk that fails, and under a process that is killed.

use std::path::Path;
use std::sync::Mutex;
use std::thread;

use crate::refusals::assert_refused;
use crate::support::wait::{PATIENCE, full};
use crate::support::{CreatedKey, DiskFault, Faults, Gateway, GatewayBuilder, Upstream, eventually};

use super::metric;

const FILE: &str = "keys.sqlite";

fn on(directory: &Path, upstream: &Upstream) -> GatewayBuilder {
    Gateway::builder().sqlite(&directory.join(FILE)).live(upstream).flush_every_ms(100)
}

#[test]
fn a_failed_fsync_loses_no_revocation() {
    survives(DiskFault::Sync);
}

#[test]
fn a_full_disk_loses_no_revocation() {
    survives(DiskFault::Full);
}

#[test]
fn a_read_only_disk_loses_no_revocation() {
    survives(DiskFault::ReadOnly);
}

fn survives(fault: DiskFault) {
    let (upstream, directory, faults) = (Upstream::start(), tempfile::tempdir().unwrap(), Faults::on(FILE));
    let gateway = on(directory.path(), &upstream).faulty(&faults).start();
    let admin = gateway.admin();
    let [before, by_id, by_key, in_use, unused] = std::array::from_fn(|_| admin.create("live"));
    gateway.use_key(&in_use.key).assert_forwarded();
    assert_eq!(admin.revoke(&before.id)["revocation"]["durable"], true);

    faults.break_disk(fault);
    let refused = [
        admin.post(&format!("/v1/keys/{}/revoke", by_id.id), &serde_json::json!({})),
        admin.post("/v1/keys/revoke", &serde_json::json!({"key": by_key.key})),
    ];
    assert!(faults.struck() > 0, "the disk did not fail: this shows nothing");
    for answer in &refused {
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (503, "revocation_not_stored"),
            "{}",
            answer.text()
        );
    }
    assert_eq!(metric(&gateway, "keygate_revocations_pending", ""), 2.0);
    let created = serde_json::json!({"label": "Never", "environment": "live", "team": "acme"});
    assert_eq!(admin.post("/v1/keys", &created).status, 503);
    for _ in 0..5 {
        for dead in [&before, &by_id, &by_key] {
            assert_refused(&gateway.use_key(&dead.key), "key_revoked");
        }
        // Reads go on, from memory and from the disk.
        gateway.use_key(&in_use.key).assert_forwarded();
    }
    gateway.use_key(&unused.key).assert_forwarded();

    faults.mend_disk();
    eventually("what was revoked is written", PATIENCE, || {
        metric(&gateway, "keygate_revocations_pending", "") == 0.0
    });
    let after = gateway.live_key();
    drop(gateway); // by SIGKILL
    let gateway = on(directory.path(), &upstream).start();
    for dead in [&before, &by_id, &by_key] {
        assert_refused(&gateway.use_key(&dead.key), "key_revoked");
        assert_eq!(gateway.admin().key(&dead.id)["status"], "revoked");
    }
    for key in [&in_use.key, &unused.key, &after] {
        gateway.use_key(key).assert_forwarded();
    }
}

#[test]
fn a_process_that_is_killed_while_the_disk_fails_has_lost_nothing_that_it_acknowledged() {
    for fault in DiskFault::ALL {
        let (upstream, directory, faults) =
            (Upstream::start(), tempfile::tempdir().unwrap(), Faults::on(FILE));
        let gateway = on(directory.path(), &upstream).faulty(&faults).start();
        let keys: Vec<_> = (0..20).map(|_| gateway.admin().create("live")).collect();
        let (dead, living) = keys.split_at(10);
        for created in dead {
            gateway.admin().revoke(&created.id);
        }
        faults.break_disk(fault);
        assert_eq!(
            gateway
                .admin()
                .post("/v1/keys", &serde_json::json!({"label": "x", "environment": "live"}))
                .status,
            503
        );
        drop(gateway); // by SIGKILL
        let gateway = on(directory.path(), &upstream).start();
        assert_all(&gateway, dead, living);
    }
}

#[track_caller]
fn assert_all(gateway: &Gateway, dead: &[CreatedKey], living: &[CreatedKey]) {
    for created in dead {
        assert_refused(&gateway.use_key(&created.key), "key_revoked");
    }
    for created in living {
        gateway.use_key(&created.key).assert_forwarded();
    }
}

#[test]
fn killed_at_any_moment_every_acknowledged_revocation_is_there_afterwards() {
    const CLIENTS: usize = 4;
    let rounds = if full() { 60 } else { 6 };
    let (upstream, directory) = (Upstream::start(), tempfile::tempdir().unwrap());
    let mut random = fastrand::Rng::with_seed(20_260_101);
    let (mut dead, mut living) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let gateway = on(directory.path(), &upstream).start();
        assert_all(&gateway, &dead, &living);
        // More of the same would only take longer.
        dead.truncate(20);
        living.truncate(20);
        let (revoked, kept) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let wanted = random.usize(1..60);
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                let (admin, revoked, kept) = (gateway.admin(), &revoked, &kept);
                scope.spawn(move || make_and_revoke(&admin, revoked, kept));
            }
            eventually("so many were acknowledged", PATIENCE, || revoked.lock().unwrap().len() >= wanted);
            drop(gateway); // by SIGKILL, in the middle of what the others ask for
        });
        dead.extend(revoked.into_inner().unwrap());
        living.extend(kept.into_inner().unwrap());
    }
    let gateway = on(directory.path(), &upstream).start();
    assert_all(&gateway, &dead, &living);
}

/// Makes two keys and revokes one of them, again and again, until nobody answers; keeps what was acknowledged.
fn make_and_revoke(
    admin: &crate::support::admin::Admin,
    revoked: &Mutex<Vec<CreatedKey>>,
    kept: &Mutex<Vec<CreatedKey>>,
) {
    let body = serde_json::json!({"label": "Short life", "environment": "live", "team": "acme"});
    loop {
        let [Ok(dying), Ok(living)] = [(); 2].map(|()| admin.try_post("/v1/keys", &body)) else { return };
        let (dying, living) = (CreatedKey::of(&dying), CreatedKey::of(&living));
        kept.lock().unwrap().push(living);
        match admin.try_post(&format!("/v1/keys/{}/revoke", dying.id), &serde_json::json!({})) {
            Ok(answer) if answer.status == 200 => revoked.lock().unwrap().push(dying),
            _ => return,
        }
    }
}
