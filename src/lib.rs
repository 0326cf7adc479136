//! keygate: a gateway that verifies API keys in front of a payments API.
//!
//! # Layout
//!
//! In the order in which a request meets them; the floors are in `ARCHITECTURE.md`. Begin with [`proxy::gateway`].
//!
//! - [`proxy`]: the request path. Listener, connections, credential, headers, upstreams.
//! - [`verify`]: is this key good? Cache, freshness, look-up, policy.
//! - [`usage`]: when was it last used, and who still tries it after its end?
//! - [`store`]: where keys live. SQLite or Redis, behind one contract.
//! - [`events`]: how gateways learn what changed.
//! - [`keys`]: create, list, rotate, revoke, import.
//! - [`people`]: who may log in, what they may do, and their sessions.
//! - [`roll`]: who is in the fleet, and who has heard of a revocation.
//! - [`admin`]: the same over HTTP, with probes and metrics.
//! - [`tls`]: what our own listeners prove themselves with.
//! - [`demo`]: a sample API to stand in front of.
//! - [`app`]: start and stop, in order.
//! - [`cli`]: the command line.
//! - [`config`], [`observe`]: settings, metrics and logs.
//! - [`model`], [`clock`], [`backoff`], [`allocator`]: the vocabulary, time, waiting, and memory.

pub mod admin;
pub mod allocator;
pub mod app;
pub mod backoff;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod events;
pub mod keys;
pub mod model;
pub mod observe;
pub mod people;
pub mod proxy;
pub mod roll;
pub mod store;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod usage;
pub mod verify;
