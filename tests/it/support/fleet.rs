//! Several gateways on one Redis, each with a cable of its own.

use std::time::Duration;

use serde_json::Value;

use super::wait::eventually;
use super::{CreatedKey, Gateway, GatewayBuilder, RedisProxy, RedisServer, Upstream};

/// Gateways that share a Redis and an upstream. The first to be dropped are the gateways.
pub struct Fleet {
    pub gateways: Vec<Gateway>,
    /// Between each gateway and the Redis.
    pub cables: Vec<RedisProxy>,
    pub redis: RedisServer,
    pub upstream: Upstream,
}

impl Fleet {
    /// So many gateways with all defaults.
    pub fn of(size: usize) -> Fleet {
        Fleet::with(size, |_, builder| builder)
    }

    /// So many gateways, each with settings of its own.
    pub fn with(size: usize, settings: impl Fn(usize, GatewayBuilder) -> GatewayBuilder) -> Fleet {
        Fleet::on(RedisServer::start(), Upstream::start(), size, settings)
    }

    pub fn on(
        redis: RedisServer,
        upstream: Upstream,
        size: usize,
        settings: impl Fn(usize, GatewayBuilder) -> GatewayBuilder,
    ) -> Fleet {
        let cables: Vec<_> = (0..size).map(|_| RedisProxy::before(&redis)).collect();
        let start = |(number, cable): (usize, &RedisProxy)| {
            let builder = Gateway::builder().live(&upstream).set("KEYGATE_STORE", &cable.url());
            settings(number, builder).start_unready()
        };
        let gateways: Vec<_> = cables.iter().enumerate().map(start).collect();
        let fleet = Fleet { gateways, cables, redis, upstream };
        fleet.gateways.iter().for_each(Gateway::wait_until_ready);
        eventually("everybody is on the roll and has read the logs", super::wait::PATIENCE, || {
            fleet.gateways.iter().all(|gateway| {
                let roll = gateway.admin().gateways();
                let has_read = |line: &Value| line["positions"].as_array().is_some_and(|all| !all.is_empty());
                roll.len() == size && roll.iter().all(has_read)
            })
        });
        fleet
    }

    /// A key that was used on every gateway, and so is remembered there.
    pub fn key_in_use(&self) -> CreatedKey {
        let created = self.gateways[0].admin().create("live");
        self.use_everywhere(&created.key);
        created
    }

    pub fn use_everywhere(&self, key: &str) {
        for gateway in &self.gateways {
            gateway.use_key(key).assert_forwarded();
        }
    }

    /// As `use_everywhere`, for a key of which not everybody knows yet.
    pub fn use_everywhere_soon(&self, key: &str) {
        for gateway in &self.gateways {
            eventually("the key opens", super::wait::PATIENCE, || gateway.use_key(key).status == 200);
        }
    }

    /// Waits until every gateway has refused this key as revoked.
    #[track_caller]
    pub fn assert_refused_everywhere(&self, key: &str, within: Duration) {
        for (number, gateway) in self.gateways.iter().enumerate() {
            eventually(&format!("gateway {number} refuses the revoked key"), within, || {
                gateway.use_key(key).code() == "key_revoked"
            });
        }
    }
}
