//! What operators see: metrics as verbs, logs, probes, and the scope of one request.

mod health;
pub mod logging;
pub mod metrics;
mod request_scope;
mod tally;

pub use health::{Health, Readiness};
pub use metrics::Metrics;
pub use request_scope::{Outcome, RequestScope};
