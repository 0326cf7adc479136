//! What every scenario needs: processes that end with the run, a Redis, gateways, an upstream, clients.

pub mod cores;
pub mod gateway;
pub mod http;
pub mod launch;
pub mod metrics;
pub mod redis;
pub mod source;
pub mod upstream;
pub mod vitals;
pub mod watch;
