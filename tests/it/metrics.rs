//! What Prometheus is told: each request once, under its final outcome, and nothing about anybody.

use std::collections::BTreeSet;

use crate::support::wait::{PATIENCE, eventually, moment};
use crate::support::{Fleet, Gateway, RedisServer, Request, Upstream, keys};

#[test]
fn every_metric_of_the_contract_is_there() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = Gateway::builder().redis(&redis).live(&upstream).flush_every_ms(50).start();
    let created = gateway.admin().create("live");
    gateway.use_key(&created.key).assert_forwarded();
    gateway.use_key(&created.key).assert_forwarded();
    gateway.admin().revoke(&created.id);
    eventually("a use is flushed", PATIENCE, || {
        gateway.metrics().sum("keygate_usage_flushed_total", &[]) >= 1.0
    });
    let metrics = gateway.metrics();
    let types: BTreeSet<_> = metrics.0.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    for expected in [
        "keygate_requests_total counter",
        "keygate_request_duration_seconds histogram",
        "keygate_upstream_duration_seconds histogram",
        "keygate_verify_duration_seconds histogram",
        "keygate_cache_lookups_total counter",
        "keygate_cache_entries gauge",
        "keygate_store_requests_total counter",
        "keygate_events_applied_total counter",
        "keygate_event_propagation_seconds histogram",
        "keygate_feed_connected gauge",
        "keygate_feed_lag_events gauge",
        "keygate_feed_gaps_total counter",
        "keygate_currency_age_seconds gauge",
        "keygate_refreshes_total counter",
        "keygate_clock_steps_total counter",
        "keygate_clock_offset_seconds gauge",
        "keygate_dead_key_attempts_total counter",
        "keygate_revocations_pending gauge",
        "keygate_revocations_reasserted_total counter",
        "keygate_fleet_gateways gauge",
        "keygate_usage_pending gauge",
        "keygate_usage_flushed_total counter",
        "keygate_build_info gauge",
    ] {
        assert!(types.contains(expected), "{expected} is not among {types:#?}");
    }
    for source in [r#"source="cache""#, r#"source="store""#] {
        assert!(metrics.sum("keygate_verify_duration_seconds_count", &[source]) >= 1.0, "{source}");
    }
    assert!(metrics.sum("keygate_request_duration_seconds_bucket", &[r#"le="0.00001""#]).is_finite());
    assert!(metrics.0.contains(r#"le="0.00001""#), "buckets start at 10 µs");
    assert_eq!(metrics.sum("keygate_feed_connected", &[]), 1.0);
    assert!(metrics.sum("keygate_events_applied_total", &[r#"kind="revoked""#]) >= 1.0);
}

#[test]
fn each_request_is_counted_once_under_its_final_outcome() {
    let upstream = Upstream::with(|exchange| match exchange.request.target.as_str() {
        "/dies" => exchange.read_body(),
        "/waits" => {
            exchange.peer_closes(PATIENCE);
            Ok(())
        }
        _ => exchange.reply_ok(),
    });
    let gateway = Gateway::before(&upstream);
    let (created, revoked) = (gateway.admin().create("live"), gateway.admin().create("live"));
    gateway.admin().revoke(&revoked.id);
    let key = &created.key;

    let mut sent = 0.0;
    let mut ask = |times: usize, request: Request| {
        for _ in 0..times {
            gateway.ask(&request);
            sent += 1.0;
        }
    };
    ask(5, Request::get("/fine").key(key));
    ask(2, Request::get("/dies").key(key));
    ask(3, Request::get("/"));
    ask(1, Request::get("/").key("garbage"));
    ask(4, Request::get("/").key(&keys::mistyped(key)));
    ask(2, Request::get("/").key(&revoked.key));
    ask(1, Request::get("/").key(key).key(&revoked.key));
    ask(1, Request::get("/").key(key).header("Host", "second"));
    let mut leaving = gateway.connect();
    leaving.send(Request::get("/waits").key(key).to_bytes());
    upstream.wait_for(8);
    drop(leaving);
    sent += 1.0;

    let count =
        |outcome: &str| gateway.metrics().sum("keygate_requests_total", &[&format!("outcome=\"{outcome}\"")]);
    eventually("the request that was left is counted", PATIENCE, || {
        gateway.metrics().sum("keygate_requests_total", &[]) >= sent
    });
    for (outcome, times) in [
        ("forwarded", 5.0),
        ("upstream_error", 2.0),
        ("key_missing", 3.0),
        ("key_malformed", 1.0),
        ("key_unknown", 4.0),
        ("key_revoked", 2.0),
        ("credential_conflict", 1.0),
        ("bad_request", 1.0),
    ] {
        assert_eq!(count(outcome), times, "{outcome}");
    }
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("keygate_requests_total", &[]), sent);
}

#[test]
fn labels_say_nothing_about_anybody() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let created = gateway.admin().create_with(
        serde_json::json!({"label": "marker-label", "environment": "live", "team": "marker-team"}),
    );
    let request = Request::get("/marker-path?marker-query").key(&created.key);
    let request = request.header("X-Request-Id", "marker-id").header("User-Agent", "marker-agent");
    gateway.ask(&request).assert_forwarded();
    gateway.ask(&Request::new("MARKER", "/marker-path"));
    let text = gateway.metrics().0;
    let hash = keys::sha256_hex(created.key.as_bytes());
    for told in ["marker", "MARKER", created.id.as_str(), &created.key[..12], &hash[..16], "127.0.0.1"] {
        assert!(!text.contains(told), "{told} is in the metrics");
    }
    let closed =
        ["outcome", "source", "result", "operation", "kind", "le", "version", "quantile", "reason", "clock"];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((_, rest)) = line.split_once('{') else { continue };
        let labels = rest.split_once('}').expect("labels end").0;
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let name = label.split('=').next().unwrap();
            assert!(closed.contains(&name), "{line}");
        }
    }
}

#[test]
fn how_long_an_event_takes_is_known_also_when_nobody_revokes() {
    let began = moment();
    let fleet = Fleet::with(2, |_, builder| builder.set("KEYGATE_REVOCATION__CANARY_INTERVAL_S", "1"));
    for gateway in &fleet.gateways {
        let canaries = || gateway.metrics().sum("keygate_events_applied_total", &[r#"kind="canary""#]);
        let measured = || gateway.metrics().sum("keygate_event_propagation_seconds_count", &[]);
        let before = (canaries(), measured());
        eventually("canaries are told, again and again", PATIENCE, || canaries() >= before.0 + 3.0);
        assert!(measured() >= before.1 + 3.0);
    }
    // One a second for the whole fleet, and not one for each gateway: nothing else stands in the logs.
    let logged = |shard: u8| fleet.redis.run::<u64>(&["XLEN", &format!("keygate:{{{shard:x}}}:log")]);
    let logged: u64 = (0..16).map(logged).sum();
    let seconds = (moment() - began).as_secs();
    assert!((3..=seconds + 3).contains(&logged), "{logged} in {seconds} s");
    let metrics = fleet.gateways[0].metrics();
    assert_eq!(metrics.sum("keygate_events_applied_total", &[r#"kind="revoked""#]), 0.0);
}
