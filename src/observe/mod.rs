//! What operators see: metrics as verbs, logs, and the scope of one request.

pub mod logging;
pub mod metrics;
mod request_scope;

pub use metrics::Metrics;
pub use request_scope::{Outcome, RequestScope};
