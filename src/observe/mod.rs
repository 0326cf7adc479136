//! What operators see.

mod health;

pub use health::{Health, Readiness};
