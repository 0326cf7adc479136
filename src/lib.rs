#![doc = "keygate"]
pub mod clock;
pub mod config;
pub mod events;
pub mod keys;
pub mod model;
pub mod observe;
pub mod store;
