//! An outage is not a denial: what is known goes on, what is not known is 503, and nothing has to be restarted.

use std::time::Duration;

use crate::refusals::assert_refused;
use crate::support::wait::{PATIENCE, eventually};
use crate::support::{CreatedKey, Gateway, RedisServer, Upstream, keys};

struct Setting {
    redis: RedisServer,
    upstream: Upstream,
    gateway: Gateway,
    known: CreatedKey,
    /// Created, and never used.
    unused: CreatedKey,
    revoked: CreatedKey,
}

fn setting() -> Setting {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway =
        Gateway::builder().redis(&redis).live(&upstream).set("KEYGATE_LOOKUP__TIMEOUT_MS", "300").start();
    let [known, unused, revoked] = [(); 3].map(|()| gateway.admin().create("live"));
    gateway.use_key(&known.key).assert_forwarded();
    gateway.admin().revoke(&revoked.id);
    assert_refused(&gateway.use_key(&revoked.key), "key_revoked");
    Setting { redis, upstream, gateway, known, unused, revoked }
}

impl Setting {
    /// What holds for as long as the store does not answer.
    fn assert_outage_is_no_denial(&self) {
        for _ in 0..10 {
            self.gateway.use_key(&self.known.key).assert_forwarded();
            assert_refused(&self.gateway.use_key(&self.unused.key), "verification_unavailable");
            assert_refused(&self.gateway.use_key(&self.revoked.key), "key_revoked");
            self.assert_forged_key_is_refused();
        }
        // Or a balancer would take every gateway away.
        assert_eq!(self.gateway.admin().readyz(), Some(200));
    }

    /// As unknown; or, where a key was created just before, as one that nobody can judge: it might be an imported one.
    fn assert_forged_key_is_refused(&self) {
        let answer = self.gateway.use_key(&keys::mistyped(&self.known.key));
        let code = if answer.status == 401 { "key_unknown" } else { "verification_unavailable" };
        assert_refused(&answer, code);
    }

    /// What comes back by itself.
    fn assert_all_is_well_again(&self) {
        eventually("unused keys open", PATIENCE, || {
            let answer = self.gateway.use_key(&self.unused.key);
            assert_ne!(answer.status, 401, "{}", answer.text());
            answer.status == 200
        });
        self.gateway.use_key(&self.known.key).assert_forwarded();
        assert_refused(&self.gateway.use_key(&self.revoked.key), "key_revoked");
        let mut fresh = None;
        eventually("keys can be created", PATIENCE, || {
            let body = serde_json::json!({"label": "After", "environment": "live", "team": "acme"});
            let answer = self.gateway.admin().post("/v1/keys", &body);
            fresh = (answer.status == 201).then(|| answer.json()["key"].as_str().unwrap().to_owned());
            fresh.is_some()
        });
        self.gateway.use_key(&fresh.unwrap()).assert_forwarded();
    }
}

#[test]
fn while_redis_is_down_known_keys_go_on_and_afterwards_all_is_well() {
    let mut setting = setting();
    setting.redis.kill();
    setting.assert_outage_is_no_denial();
    setting.redis.start_again();
    setting.assert_all_is_well_again();
}

#[test]
fn while_redis_hangs_known_keys_go_on_and_afterwards_all_is_well() {
    let setting = setting();
    setting.redis.freeze();
    setting.assert_outage_is_no_denial();
    setting.redis.thaw();
    setting.assert_all_is_well_again();
}

#[test]
fn a_redis_that_hangs_is_noticed_within_seconds() {
    let setting = setting();
    let connected = || setting.gateway.metrics().sum("keygate_feed_connected", &[]);
    eventually("the feed is connected", PATIENCE, || connected() == 1.0);
    setting.redis.freeze();
    // Two seconds by design; the rest is for a busy machine.
    eventually("the feed is in doubt", Duration::from_secs(5), || connected() == 0.0);
    setting.redis.thaw();
    eventually("the feed is connected again", PATIENCE, || connected() == 1.0);
}

#[test]
fn a_revocation_that_redis_could_not_take_acts_here_and_says_so() {
    let mut setting = setting();
    setting.redis.kill();
    let admin = setting.gateway.admin();
    let answer = admin.post("/v1/keys/revoke", &serde_json::json!({"key": setting.known.key}));
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(keys::trace_in(&answer.body, &setting.known.key), None);
    assert_refused(&setting.gateway.use_key(&setting.known.key), "key_revoked");
    assert_eq!(setting.upstream.count(), 1);
}

#[test]
fn a_revocation_elsewhere_during_a_broken_feed_is_known_when_the_feed_is_back() {
    let setting = setting();
    let other = Gateway::builder().redis(&setting.redis).live(&setting.upstream).start();
    other.use_key(&setting.known.key).assert_forwarded();
    // Every subscriber is thrown out, and the message goes to nobody.
    let _: i64 = setting.redis.run(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    setting.gateway.admin().revoke(&setting.known.id);
    eventually("the other gateway knows", Duration::from_secs(3), || {
        other.use_key(&setting.known.key).status == 401
    });
    assert_refused(&other.use_key(&setting.known.key), "key_revoked");
}
