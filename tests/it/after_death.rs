//! Attempts with a key that is revoked or has expired are counted: evidence of a leak, or of a forgotten service.

use std::time::Duration;

use serde_json::json;

use crate::refusals::assert_refused;
use crate::support::wait::{PATIENCE, eventually, rfc3339_in};
use crate::support::{Fleet, Gateway, Upstream, keys};

#[test]
fn attempts_with_a_dead_key_are_counted_over_all_gateways() {
    let fleet = Fleet::with(2, |_, builder| builder.flush_every_ms(50));
    let created = fleet.key_in_use();
    fleet.gateways[0].admin().revoke(&created.id);
    for _ in 0..3 {
        for gateway in &fleet.gateways {
            assert_refused(&gateway.use_key(&created.key), "key_revoked");
        }
    }
    let admin = fleet.gateways[0].admin();
    eventually("the attempts are written", PATIENCE, || admin.key(&created.id)["refusals"] == 6);
    let shown = admin.key(&created.id);
    assert!(shown["last_refused_at"].as_str() > shown["revoked_at"].as_str(), "{shown}");
    assert_eq!(shown["uses"], 2, "a refusal is no use: {shown}");
    let attempts = |gateway: &Gateway| gateway.metrics().sum("keygate_dead_key_attempts_total", &[]);
    assert_eq!(fleet.gateways.iter().map(attempts).sum::<f64>(), 6.0);
    let told = fleet.gateways[1].cli(&["keys", "show", &created.id]).assert_code(0).stdout;
    let year = &shown["last_refused_at"].as_str().unwrap()[..4];
    assert!(
        told.lines().any(|line| line.contains('6') && line.contains(year)),
        "count and last attempt: {told}"
    );
}

#[test]
fn a_gateway_that_never_knew_the_key_alive_counts_them_too() {
    let (upstream, directory) = (Upstream::start(), tempfile::tempdir().unwrap());
    let start = || {
        let builder = Gateway::builder().sqlite(&directory.path().join("keys.sqlite"));
        builder.live(&upstream).flush_every_ms(50).start()
    };
    let mut gateway = start();
    let end = rfc3339_in(Duration::from_secs(1));
    let expired =
        gateway.admin().create_with(json!({"label": "Contractor", "environment": "live", "expires_at": end}));
    let revoked = gateway.admin().create("live");
    gateway.admin().revoke(&revoked.id);
    eventually("the key has ended", PATIENCE, || gateway.use_key(&expired.key).code() == "key_expired");
    assert!(gateway.terminate().success());

    let gateway = start();
    let before = gateway.admin().key(&expired.id)["refusals"].as_u64().expect("attempts are counted");
    assert!(before >= 1, "an orderly end writes them");
    for _ in 0..2 {
        assert_refused(&gateway.use_key(&expired.key), "key_expired");
        assert_refused(&gateway.use_key(&revoked.key), "key_revoked");
    }
    eventually("the attempts are written", PATIENCE, || {
        gateway.admin().key(&expired.id)["refusals"] == before + 2
            && gateway.admin().key(&revoked.id)["refusals"] == 2
    });
}

#[test]
fn what_is_no_key_of_ours_is_not_counted() {
    let upstream = Upstream::start();
    let gateway = Gateway::builder().live(&upstream).flush_every_ms(50).start();
    let created = gateway.admin().create("live");
    let sandbox = gateway.admin().create("sandbox");
    gateway.use_key(&keys::mistyped(&created.key));
    gateway.use_key(&keys::foreign_live("nobody's"));
    gateway.use_key(&sandbox.key);
    gateway.use_key(&created.key).assert_forwarded();
    eventually("the use is written", PATIENCE, || gateway.admin().key(&created.id)["uses"] == 1);
    assert_eq!(gateway.admin().key(&created.id)["refusals"], 0);
    assert_eq!(gateway.admin().key(&sandbox.id)["refusals"], 0);
    assert_eq!(gateway.metrics().sum("keygate_dead_key_attempts_total", &[]), 0.0);
}
