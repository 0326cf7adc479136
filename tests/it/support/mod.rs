//! What the tests are made of: a gateway, an upstream that does as it is told, a Redis, and clients.
//!
//! The HTTP here is written by hand on plain sockets: it must be able to say what a library refuses to say, and it
//! must not share a mistake with the library that the gateway is built on.

pub mod admin;
pub mod browser;
pub mod command;
pub mod faults;
pub mod fleet;
pub mod gateway;
pub mod http;
pub mod keys;
pub mod message;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod upstream;
pub mod wait;

mod tests;

pub use admin::CreatedKey;
pub use command::{Ran, keygate, tool};
pub use faults::{DiskFault, Faults};
pub use fleet::Fleet;
pub use gateway::{Gateway, GatewayBuilder};
pub use http::{Answer, Connection, Request};
pub use message::Headers;
pub use proxy::RedisProxy;
pub use redis::RedisServer;
pub use upstream::{Exchange, Seen, Upstream};
pub use wait::{Gate, eventually};
