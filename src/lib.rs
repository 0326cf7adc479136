#![doc = "keygate"]
pub mod clock;
pub mod config;
pub mod demo;
pub mod events;
pub mod model;
pub mod store;
